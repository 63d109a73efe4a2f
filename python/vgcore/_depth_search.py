"""Layer: depth, how much of it. Which depth still trains, found by bisection over short real trainings.

Knows networks and `fit`; what is built at a depth is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import as_array
from ._checks import as_real, as_size, shown
from ._fit import default_loss
from ._plot_lines import axes_of
from ._rng import RngLike, seed_of
from ._stagnation import guessing
from ._table import render, render_html, to_pandas
from .errors import ArgumentError
from .losses import Loss, as_loss
from .network import Network

__all__ = ["TrainableDepth", "Trial", "trainable_depth"]

#: Losses whose best constant answer is known.
BASELINES = ("cross_entropy", "mse", "bce_with_logits")
#: Share of the training steps, at the end, over which the loss is averaged for the verdict.
_TAIL = 0.1


@dataclass(frozen=True, repr=False, eq=False)
class Trial:
    """One short training: depth, loss of every step, and whether it counts as trained."""

    depth: int
    loss: NDArray[np.float64]
    final: float
    """Mean loss of the last tenth of the steps."""
    trains: bool
    why: str

    def __repr__(self) -> str:
        """One line."""
        return f"<Trial depth {self.depth:,}: {'trains' if self.trains else 'does not train'}, {self.why}>"


@dataclass(frozen=True, repr=False, eq=False)
class TrainableDepth:
    """The deepest network that trained, the shallowest that did not, and every training on the way.

    Attributes:
        depth: the deepest that trained; None when not even `low` did.
        fails_from: the shallowest tried beyond it, which did not; None when `high` trained too.
        baseline: loss of the best constant answer, which a network has to beat.
        gain: by which share of it.
        trials: in the order of trial.
        seed: of the order of samples; the networks' own seeds are `build`'s.
    """

    depth: int | None
    fails_from: int | None
    baseline: float
    gain: float
    trials: tuple[Trial, ...]
    seed: int

    @property
    def table(self) -> dict[str, list[Any]]:
        """One row per training step: depth, step, loss, trains; shallowest network first."""
        columns: dict[str, list[Any]] = {"depth": [], "step": [], "loss": [], "trains": []}
        for trial in sorted(self.trials, key=lambda trial: trial.depth):
            columns["depth"] += [trial.depth] * len(trial.loss)
            columns["step"] += range(len(trial.loss))
            columns["loss"] += trial.loss.tolist()
            columns["trains"] += [trial.trains] * len(trial.loss)
        return columns

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        trials = [
            {"depth": t.depth, "loss": t.loss.tolist(), "final": t.final, "trains": t.trains, "why": t.why}
            for t in self.trials
        ]
        numbers = {"baseline": self.baseline, "gain": self.gain, "seed": self.seed}
        return {"depth": self.depth, "fails_from": self.fails_from, **numbers, "trials": trials}

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the loss curves of all depths that were tried; return the Axes.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        axes = axes_of(ax)
        for trial in sorted(self.trials, key=lambda trial: trial.depth):
            style = {"linestyle": "-" if trial.trains else ":", **kwargs}
            axes.plot(trial.loss, label=f"depth {trial.depth:,}", **style)
        axes.axhline(self.baseline, color="grey", linewidth=0.9)
        axes.set_xlabel("training step")
        axes.set_ylabel("loss (grey: best constant answer; dotted: does not train)")
        axes.legend()
        return axes

    def __repr__(self) -> str:
        """One line: where the border is."""
        if self.depth is None:
            where = f"none: not even depth {self.fails_from:,} trains"
        elif self.fails_from is None:
            where = f"at least {self.depth:,}: the deepest that was asked for trains"
        else:
            where = f"{self.depth:,} trains, {self.fails_from:,} does not"
        return f"<TrainableDepth {where}; {len(self.trials)} trainings>"

    def _rows(self) -> list[list[str]]:
        ordered = sorted(self.trials, key=lambda trial: trial.depth)
        return [[f"{t.depth:,}", "yes" if t.trains else "no", f"{t.final:.4g}", t.why] for t in ordered]

    def __str__(self) -> str:
        """The line above, and a table of the trainings."""
        return f"{self!r}\n" + render(self._rows(), _HEADER, left=0)

    def _repr_html_(self) -> str:
        return render_html(self._rows(), _HEADER, repr(self))


_HEADER = ("depth", "trains", "final loss", "why")


def trainable_depth(
    build: Callable[[int], Network],
    x: ArrayLike,
    y: ArrayLike,
    low: int = 1,
    high: int = 1024,
    *,
    gain: float = 0.1,
    resolution: float = 1.1,
    epochs: int = 1,
    loss: Any = None,
    rng: RngLike = 0,
    **fit: Any,
) -> TrainableDepth:
    """Find how deep a network may be and still train, by bisection over short real trainings.

    A depth trains when the mean loss of its last tenth of steps is below ``(1 - gain)`` times the baseline,
    the loss of the best answer that ignores x: the entropy of the labels, or the variance of the targets.
    `low` and `high` are tried first; then the geometric middle, until the deepest that trains and the
    shallowest that does not are within `resolution` of each other: at most
    ``2 + log2(log(high / low) / log(resolution))`` trainings. It rests on deeper being harder; every trial is
    in the result, so that this can be seen.

    Args:
        build: makes the network of a depth, as ``lambda depth: vg.mlp(depth, 64, ..., rng=0)``.
        x, y: training data, as for `Network.fit`.
        low, high: the depths between which the border is sought.
        gain: the share of the baseline by which the loss has to fall.
        resolution: ratio of the two depths at which the search ends; 1.0 goes on to neighbouring depths.
        epochs: length of each training.
        loss: None takes cross_entropy for class labels, else mse.
        rng: seed of the order of samples, the same for all depths.
        fit: what else `Network.fit` takes: optimizer, clip, batch_size, ...

    Raises:
        ArgumentError: `low` is not below `high`, shares outside their ranges, another loss than
            cross_entropy, mse and bce_with_logits (whose baselines are known), or `build` makes no network.
        Others as for `Network.fit`.

    Source: Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, arXiv:1611.01232, section 5.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
        >>> def build(depth):
        ...     return vg.mlp(depth, 8, out_features=2, activation="sigmoid", init="glorot_normal", rng=0)
        >>> found = vg.depth.trainable_depth(
        ...     build, x, (x[:, 0] > 0).astype(int), 1, 64, epochs=40, optimizer=vg.SGD(1.0), resolution=2.0
        ... )
        >>> found.fails_from is not None
        True
    """
    shallow, deep = as_size(low, "low"), as_size(high, "high")
    if shallow >= deep:
        raise ArgumentError(f"low, high: expected low below high, got {shallow} and {deep}")
    share, ratio = as_real(gain, "gain", minimum=0.0), as_real(resolution, "resolution", minimum=1.0)
    if share >= 1.0:
        raise ArgumentError(f"gain: expected a share from 0 to below 1, got {share:g}")
    if not callable(build):
        raise ArgumentError(f"build: expected a function of the depth, got {shown(build)}")
    seed = seed_of(rng)
    chosen = _known(default_loss(y) if loss is None else as_loss(loss))
    floor = math.nan
    trials: list[Trial] = []

    def trains(depth: int) -> bool:
        nonlocal floor
        net = build(depth)
        if not isinstance(net, Network):
            raise ArgumentError(f"build: expected a vg.Network for depth {depth}, got {shown(net)}")
        history = net.fit(x, y, epochs=epochs, loss=chosen, rng=seed, **fit)
        floor = baseline(y, chosen)  # only now is it known that the targets fit the loss
        trials.append(judged(depth, np.asarray(history.loss, np.float64), floor, share))
        return trials[-1].trains

    def found(depth: int | None, beyond: int | None) -> TrainableDepth:
        return TrainableDepth(depth, beyond, floor, share, tuple(trials), seed)

    if not trains(shallow):
        return found(None, shallow)
    if trains(deep):
        return found(deep, None)
    while deep - shallow > 1 and deep > ratio * shallow:
        middle = min(max(round(math.sqrt(shallow * deep)), shallow + 1), deep - 1)
        shallow, deep = (middle, deep) if trains(middle) else (shallow, middle)
    return found(shallow, deep)


def judged(depth: int, loss: NDArray[np.float64], floor: float, gain: float) -> Trial:
    """Return the verdict on one training.

    Example:
        >>> judged(8, np.linspace(2.0, 0.1, 100), floor=2.3, gain=0.1)
        <Trial depth 8: trains, loss 0.186 is below 2.07>
    """
    tail = loss[-max(1, math.ceil(_TAIL * len(loss))) :]
    final, limit = float(tail.mean()), (1.0 - gain) * floor
    if not np.isfinite(loss).all():
        first = int(np.argmin(np.isfinite(loss)))
        return Trial(depth, loss, final, False, f"the loss is {loss[first]} at step {first}")
    trains = final < limit
    return Trial(
        depth, loss, final, trains, f"loss {final:.3g} is {'' if trains else 'not '}below {limit:.3g}"
    )


def baseline(y: ArrayLike, loss: Loss) -> float:
    """Return the mean loss of the best answer that ignores the input, for targets that fit the loss.

    Example:
        >>> from vgcore.losses import cross_entropy
        >>> round(baseline([0, 1, 0, 1], cross_entropy()), 6)
        0.693147
    """
    found = guessing(loss.name, as_array(y, "y"))
    return math.nan if found is None else found


def _known(loss: Loss) -> Loss:
    """Return a loss whose best constant answer is known."""
    if loss.name not in BASELINES or loss.params:
        raise ArgumentError(
            f"loss: expected {', '.join(BASELINES[:-1])} or {BASELINES[-1]} without parameters, whose "
            f"baselines are known, got {loss!r}"
        )
    return loss
