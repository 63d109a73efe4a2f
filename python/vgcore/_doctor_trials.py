"""Layer: doctor, one trial. A network, cured or not, measured at its start and after a few steps of training.

Knows how to train for k steps on given batches and what to keep of it; chooses no cure and ranks nothing.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._doctor_moves import layers_moved, reached
from ._layer_values import values_of
from ._rate import estimate
from ._stagnation import guessing
from .layers import walk
from .mitigations import Mitigation, as_text, predict
from .optimizers import Optimizer, as_optimizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .flow import GradientFlow
    from .losses import Loss
    from .network import Network

    FloatArray = NDArray[np.float64]

__all__ = ["Course", "Trial", "confirm", "constant_loss", "fingerprint", "run_trial"]

#: Learning rates that every network is trained at, from the same start on the same batches: what is right for
#: a sick network is wrong for a cured one, so one rate for all would compare luck.
RATES: Final = (0.001, 0.01, 0.1)
#: The rate that other optimizers' own rates are put beside: SGD's default.
USUAL: Final = 0.01
#: Share of the last steps over which the loss is averaged: single batches differ by more than cures do.
TAIL: Final = 0.2
#: Fields of layers that say how parameters start, not what is computed with them.
_STARTS: Final = ("name", "body", "init", "bias_init", "recurrent_init", "gate_init", "gate_bias")


@dataclass(frozen=True, eq=False)
class Course:
    """What every trial shares: data, loss, the rows of each batch, rates, and the batch that is probed.

    `stride`: cures that look at data are shown every stride-th sample, so that a trial costs the same
    however many there are, and one line of code makes the same network again. `optimizer`: what networks
    are trained with that have none of their own. `apart`: samples that no batch has and on which the trained
    network is judged too; none where the batches are so few that nobody learns them by heart.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    loss: Loss
    rows: tuple[NDArray[np.int64], ...]
    probed: NDArray[np.int64]
    rates: tuple[float, ...] = RATES
    stride: int = 1
    optimizer: str = "sgd"
    apart: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def drawn(self, steps: int, seed: Sequence[int], apart: NDArray[np.int64]) -> Course:
        """Return the course with other batches, drawn from all samples but those that are set apart."""
        draw = np.random.default_rng(seed)
        others = np.setdiff1d(np.arange(len(self.x)), apart)
        size = min(self.rows[0].size, others.size)
        rows = tuple(others[np.sort(draw.choice(others.size, size, replace=False))] for _ in range(steps))
        return replace(self, rows=rows, apart=apart)

    @property
    def shown(self) -> NDArray[Any]:
        """What cures that look at data are given: every stride-th sample."""
        return np.ascontiguousarray(self.x[:: self.stride])

    @property
    def seen(self) -> str:
        """The expression that makes `shown` of x."""
        return "x" if self.stride == 1 else f"x[::{self.stride}]"

    @property
    def steps(self) -> int:
        """Steps of training of one trial at one rate."""
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Trial:
    """One network that was tried: which cures made it, and what it then did.

    Attributes:
        cures: the cures, in order; none for the network as it came.
        decades_per_step: change of log10 |gradient| per layer (or time step) towards the input, at the start.
        total_decades: the same over all of them.
        verdict: of the diagnosis at the start.
        predicted: decades per step that theory expects; NaN where it expects nothing, for the reason in
            `unpredicted`.
        learning: share of the layers whose weights the gradient moved by at least a hundredth of what the
            most moved layer did, relative to their size; what weight decay and constraints do by themselves
            is left out; along time the share of time steps that the gradient reaches within a factor of 100
            of the largest.
        first_loss: loss at the first step.
        loss: mean loss of the last fifth of the steps, at the best rate, or that of samples set apart where
            it is worse; NaN where it diverged at all.
        steps: how many steps it was trained for.
        optimizer: what it was trained with there: the course's, unless a cure is another; None where all
            diverged.
        seconds_per_step: what a step cost.
        by_rate: the loss at every learning rate; NaN where it diverged.
        seen: the data that the cures were shown, as an expression of x.
        confirmed: whether it was trained again on other batches; its loss is then the worse of the two.
        curve: log10 |gradient| at every step of the network, nearest the input first, at the start.
        losses: loss at every training step, at the best rate.
        failed: why there is no figure; "" where there is.
    """

    cures: tuple[Mitigation, ...]
    decades_per_step: float = math.nan
    total_decades: float = math.nan
    verdict: str = ""
    predicted: float = math.nan
    unpredicted: str = ""
    learning: float = 0.0
    first_loss: float = math.nan
    loss: float = math.nan
    steps: int = 0
    optimizer: Optimizer | None = None
    seconds_per_step: float = math.nan
    by_rate: Mapping[float, float] = field(default_factory=dict)
    seen: str = "x"
    confirmed: bool = False
    curve: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)
    losses: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)
    failed: str = ""

    @property
    def name(self) -> str:
        """The cures as one text, which `net.mitigate` reads piece by piece: "none" for none."""
        return as_text(self.cures)

    @property
    def learning_rate(self) -> float:
        """The best learning rate; NaN where it diverged at all."""
        return math.nan if self.optimizer is None else self.optimizer.lr

    @property
    def code(self) -> str:
        """The Python expression that builds this network from `net` (and from `x`, where data are needed)."""
        if not self.cures:
            return "net"
        needs = f", x={self.seen}" if any(cure.needs_data for cure in self.cures) else ""
        return f"net.mitigate({', '.join(repr(cure.text) for cure in self.cures)}{needs})"


def run_trial(net: Network, cures: Sequence[Mitigation], course: Course) -> Trial:
    """Measure a network at its start and after training it at every rate; `net` itself stays as it is."""
    flow = _probe(net, course)
    diagnosis = flow.diagnose()
    curve, why = predict(net, course.x[course.probed])
    runs = _trained(net, course)
    best = _best(runs)
    learning = 0.0 if best is None else best.learning
    if net.axis == "time":
        learning = reached(flow.log10_grad_norm)
    return Trial(
        cures=tuple(cures),
        decades_per_step=diagnosis.decades_per_step,
        total_decades=diagnosis.total_decades,
        verdict=diagnosis.verdict,
        # As a flow's own rate is estimated: over the chain, without its ends.
        predicted=math.nan if curve is None else estimate(curve.log10_typical).mean,
        unpredicted=why,
        learning=learning,
        first_loss=math.nan if flow.loss is None else flow.loss,
        loss=math.nan if best is None else best.reached,
        steps=course.steps,
        optimizer=None if best is None else best.optimizer,
        seconds_per_step=min(run.seconds for run in runs),
        by_rate={run.rate: run.reached for run in runs},
        seen=course.seen,
        curve=np.array(flow.log10_grad_norm),
        losses=np.full(1, np.nan) if best is None else best.losses,
    )


def constant_loss(loss: Loss, y: NDArray[Any]) -> float:
    """Return the loss of the best answer that is the same for every sample: what is learned starts below it.

    For losses whose best constant answer is not known the median stands for it.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> round(constant_loss(vg.losses.cross_entropy(), np.array([0, 1, 0, 1])), 6)
        0.693147
    """
    known = None if loss.params else guessing(loss.name, y)
    if known is not None:
        return known
    if y.dtype.kind in "iu":
        labels = y.ravel()
        output = np.log(np.maximum(np.bincount(labels) / labels.size, 1e-300))
        return loss.value(np.broadcast_to(output, (labels.size, output.size)).copy(), labels)
    values = y.astype(np.float64).reshape(-1, y.shape[-1])
    return loss.value(np.broadcast_to(np.median(values, axis=0), values.shape).copy(), values)


def fingerprint(net: Network) -> str:
    """Return a digest of what a network computes and how it is trained, whatever its parts are called."""
    sha = hashlib.sha256()
    for placed in walk(net.layers, net.in_features):
        layer = placed.layer
        kept = [f"{key}={value!r}" for key, value in values_of(layer).items() if key not in _STARTS]
        sha.update(f"{layer.kind}{placed.level}{placed.times}{kept}".encode())
    for value in net.parameters().values():
        sha.update(value.tobytes())
    sha.update(repr(sorted(net.training_defaults.items())).encode())
    return sha.hexdigest()


def _probe(net: Network, course: Course) -> GradientFlow:
    return net.probe(course.x[course.probed], course.y[course.probed], loss=course.loss)


def _tail(losses: FloatArray) -> float:
    if losses.size == 0:
        return math.nan
    return float(np.mean(losses[-max(1, round(TAIL * losses.size)) :]))


@dataclass(frozen=True, eq=False)
class _Run:
    """One training: the rate, the losses (NaN alone where it diverged), the loss reached, what learned,
    seconds a step.
    """

    rate: float
    optimizer: Optimizer
    losses: FloatArray
    reached: float
    learning: float
    seconds: float


def _trained(net: Network, course: Course) -> list[_Run]:
    """Return one training for each rate, all from the same start on the same batches."""
    runs = []
    for rate in course.rates:
        trained = net.copy()
        start = time.perf_counter()
        optimizer = _at(net, rate, course)
        losses = _train(trained, course, optimizer)
        seconds = (time.perf_counter() - start) / max(1, losses.size)
        # A loss that is no number on the way has diverged, whatever comes after.
        lost = losses.size < course.steps or not np.isfinite(losses).all()
        # Along time all steps share the weights: there it counts which of them the gradient reaches.
        skips = lost or net.axis == "time"
        learning = 0.0 if skips else layers_moved(net, trained, optimizer, course.steps)
        losses = np.full(1, np.nan) if lost else losses
        runs.append(_Run(rate, optimizer, losses, _judged(trained, course, losses), learning, seconds))
    return runs


def _judged(net: Network, course: Course, losses: FloatArray) -> float:
    """Return the loss that a training reached, on its batches or on the samples set apart: the worse."""
    tail = _tail(losses)
    if not course.apart.size or not math.isfinite(tail):
        return tail
    # `max` would drop a NaN in second place.
    return float(np.maximum(tail, net.loss(course.x[course.apart], course.y[course.apart], loss=course.loss)))


def _best(runs: Sequence[_Run]) -> _Run | None:
    """Return the training with the lowest loss; None where all diverged."""
    done = [run for run in runs if math.isfinite(run.reached)]
    return min(done, key=lambda run: run.reached, default=None)


def confirm(net: Network, trial: Trial, course: Course) -> Trial:
    """Return the trial after training on other batches: at each rate the worse loss of the two counts.

    What comes first among many has been lucky too; a rate that is only just small enough may blow up on the
    next batches.
    """
    runs = _trained(net, course)
    worse = {run.rate: max(trial.by_rate[run.rate], run.reached) for run in runs}
    # `max` keeps its first argument beside NaN: what diverged once has diverged.
    worse = {run.rate: math.nan if math.isnan(run.reached) else worse[run.rate] for run in runs}
    done = {rate: loss for rate, loss in worse.items() if math.isfinite(loss)}
    if not done:
        return replace(trial, loss=math.nan, learning=0.0, optimizer=None, by_rate=worse, confirmed=True)
    rate = min(done, key=lambda key: done[key])
    again = next(run for run in runs if run.rate == rate)
    return replace(
        trial,
        loss=done[rate],
        learning=trial.learning if net.axis == "time" else again.learning,
        optimizer=again.optimizer,
        by_rate=worse,
        confirmed=True,
        losses=again.losses,
    )


def _train(net: Network, course: Course, optimizer: Optimizer) -> FloatArray:
    """Take the course's steps in its order and return the loss of each, as far as it was a number."""
    order = np.concatenate(course.rows)
    history = net.fit(
        course.x[order],
        course.y[order],
        batch_size=course.rows[0].size,
        loss=course.loss,
        optimizer=optimizer,
        shuffle=False,
        stats="none",
    )
    losses = np.asarray(history.loss, np.float64)
    return losses[: course.steps]


def _at(net: Network, rate: float, course: Course) -> Optimizer:
    """Return the network's own optimizer, or the course's, at `rate` / 0.01 times its own rate."""
    own: Optimizer = net.training_defaults.get("optimizer") or as_optimizer(course.optimizer)
    return own.at(rate if own.lr == USUAL else own.lr * rate / USUAL)
