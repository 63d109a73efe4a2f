"""Layer: results, the doctor. What is wrong with a network, which cures were tried on it, and what each did.

Knows how candidates are tried within a budget and ranked; `_doctor_candidates` knows which they are,
`_doctor_trials` the figures of one trial, `_doctor_cause` the illness, `_doctor_text` words and tables.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import _doctor_text
from ._checks import as_real, as_size, shown
from ._doctor_candidates import all_cures, asked_for, pairs_of, why_not
from ._doctor_cause import Cause, find_cause
from ._doctor_clock import Clock
from ._doctor_longer import longer
from ._doctor_trials import RATES, Course, Trial, confirm, constant_loss, fingerprint, run_trial
from ._evaluate import Held
from ._fit import default_loss
from ._progress import Progress, ProgressLike
from ._rng import RngLike, seed_of
from ._table import json_safe, to_pandas
from .errors import ArgumentError, VgcoreError
from .losses import Loss, as_loss
from .mitigations import Mitigation, as_text

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .network import Network

__all__ = ["Cause", "Prescription", "Trial", "doctor", "rank_key"]

#: A cure helps when the loss it reached is this much lower than the untouched network's; less may be chance.
HELPS: Final = 0.05
#: Steps of training at each rate, samples in each, and samples that are probed; cures that look at data are
#: shown as many, or up to twice that.
STEPS: Final = 40
BATCH: Final = 32
PROBED: Final = 128
#: How many trials that come first are trained again on other batches, at most.
CONFIRMED: Final = 5
#: Share of the budget after which no further single cure begins, so that pairs get their turn.
SINGLES: Final = 0.7


def rank_key(trial: Trial, untouched: Trial, unit: float) -> tuple[Any, ...]:
    """Return what trials are sorted by; the first differing entry decides, the smaller the better.

    0. whether it was trained for fewer steps than the untouched network: longer trials come first;
    1. whether it diverged or failed at every learning rate;
    2. the loss after the steps of training, in units of `unit`: 1 % of what the best constant answer costs;
    3. the share of layers that learn, in twentieths, more being better;
    4. how far the gradient is from even: \\|decades per layer\\|, in hundredths;
    5. the number of cures;
    6. the cost of a step, in halves of the untouched network's; then the name.
    """
    tilt = abs(trial.decades_per_step) if math.isfinite(trial.decades_per_step) else 1e9
    cost = trial.seconds_per_step / untouched.seconds_per_step if untouched.seconds_per_step > 0 else 1.0
    failed = bool(trial.failed) or not math.isfinite(trial.loss)
    return (
        trial.steps != untouched.steps,
        failed,
        0 if failed else round(min(trial.loss / unit, 1e15)),
        -round(20 * trial.learning),
        round(100 * tilt),
        len(trial.cures),
        round(2 * cost) if math.isfinite(cost) else 0,
        trial.name,
    )


def helps(trial: Trial, untouched: Trial, chance: float) -> bool:
    """Whether a trial reached a loss clearly below the untouched network's and the best constant answer's."""
    if trial.failed or not math.isfinite(trial.loss) or trial.steps != untouched.steps:
        return False
    return trial.loss <= (1.0 - HELPS) * min(v for v in (untouched.loss, chance) if math.isfinite(v))


@dataclass(frozen=True, eq=False, repr=False)
class Prescription:
    """What `net.doctor` found: the illness, and every cure that was tried, the best first; ``print`` it.

    Attributes:
        diagnosis: of the untouched network.
        cause: what is behind it: ``cause.name`` and ``cause.text``.
        healthy: gradients of one size everywhere, and a loss that falls.
        untouched: the network as it came, tried like the others.
        trials: cures that were tried, ranked; see `rank_key` for the rule.
        refused: candidates that do not apply to this network, or not together, and why.
        left_out: candidates that the budget had no room for.
        settings: loss, steps, those of the longest trials, samples a step, learning rates, seeds of the
            batches and of the network, budget, whether candidates were "given" or "all" tried, seconds it
            took.
    """

    diagnosis: Diagnosis
    cause: Cause
    healthy: bool
    untouched: Trial
    trials: tuple[Trial, ...]
    refused: Mapping[str, str]
    left_out: tuple[str, ...]
    settings: Mapping[str, Any]
    _net: Any = field(default=None)
    _x: Any = field(default=None)

    @property
    def illness(self) -> str:
        """The verdict and what is behind it, in a few words: "vanishing: saturating activation"."""
        if self.healthy:
            return "none"
        if self.diagnosis.verdict == "stable" and self.cause.name == "none":
            return "none in the gradient, but the loss does not fall"
        return f"{self.diagnosis.verdict}: {self.cause.name}"

    def helped(self, trial: Trial) -> bool:
        """Whether a trial reached a loss clearly below what there was: by 5 % or more.

        There was the untouched network's loss after as many steps, and the loss of the best constant answer,
        for to come down to that from an explosion is not yet to learn.
        """
        return helps(trial, self.untouched, self.chance)

    @property
    def chance(self) -> float:
        """Loss of the best answer that does not look at the input."""
        return float(self.settings["chance"])

    @cached_property
    def recommended(self) -> tuple[Trial, ...]:
        """The trials that helped, the best first; empty when nothing did."""
        return tuple(trial for trial in self.trials if self.helped(trial))

    def best(self) -> Network:
        """Return the network with the best cures: what ``recommended[0].code`` builds, untrained.

        Its ``training_defaults`` hold the optimizer at the rate that was best, so that ``fit`` takes it.

        Raises:
            ArgumentError: no cure that was tried helped, or the network is healthy.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> rng = np.random.default_rng(0)
            >>> x = rng.normal(size=(64, 8)).astype("float32")
            >>> net = vg.mlp(depth=30, width=8, activation="sigmoid", rng=0)
            >>> found = net.doctor(x, x.argmax(1), candidates=["scaled_residual"], steps=30)
            >>> found.best().cures == found.recommended[0].cures
            True
        """
        if not self.recommended:
            why = "the network is healthy" if self.healthy else "no cure that was tried helped"
            raise ArgumentError(f"best: {why}; prescription.trials holds what was tried")
        best = self.recommended[0]
        net: Network = self._net.mitigate(*best.cures, x=self._x)
        training = {**net._applied.training, "optimizer": best.optimizer}
        net._applied = replace(net._applied, training=training)
        return net

    @cached_property
    def table(self) -> dict[str, list[Any]]:
        """Columns of equal length, one row a trial, the untouched network first."""
        return _doctor_text.columns(self)

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, text and lists that JSON can hold."""
        found: dict[str, Any] = json_safe(
            {
                "illness": self.illness,
                "healthy": self.healthy,
                "cause": {"name": self.cause.name, "text": self.cause.text},
                "diagnosis": self.diagnosis.to_dict(),
                "recommended": [trial.code for trial in self.recommended],
                "trials": _doctor_text.rows(self),
                "refused": dict(self.refused),
                "left_out": list(self.left_out),
                "settings": dict(self.settings),
            }
        )
        return found

    def plot(self, kind: str = "loss", ax: Any = None, top: int = 8) -> Any:
        """Draw the best trials beside the untouched network and return the matplotlib Axes.

        `kind`: "loss" (bars: loss after the steps), "curves" (gradient norm against layer at the start) or
        "training" (loss against step). `top`: how many trials at most.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            ArgumentError: no such kind.
        """
        from ._doctor_plots import plot_prescription

        return plot_prescription(self, kind, ax, top)

    def __str__(self) -> str:
        """Illness, reasons, the ranking and the code, about 30 lines."""
        return _doctor_text.text(self)

    def __repr__(self) -> str:
        """One line: the illness and the best cure."""
        if self.healthy:
            return f"<Prescription: healthy, {len(self.trials)} cures tried>"
        best = self.recommended[0].name if self.recommended else "nothing helped"
        return f"<Prescription {self.illness}; best of {len(self.trials)} tried: {best}>"

    def _repr_html_(self) -> str:
        return _doctor_text.html(self)


def doctor(
    net: Network,
    x: Any,
    y: Any,
    *,
    loss: Any = None,
    budget: float | int | str | None = None,
    candidates: Iterable[Any] | None = None,
    steps: int = STEPS,
    batch: int = BATCH,
    rates: Sequence[float] = RATES,
    pairs: bool = True,
    rng: RngLike = 0,
    progress: ProgressLike = False,
) -> Prescription:
    """Diagnose a network, try cures on it and rank them; ``net.doctor`` explains it."""
    course = _course(net, x, y, loss, as_size(steps, "steps"), as_size(batch, "batch"), rates, rng)
    clock = Clock(budget, course.steps * len(course.rates))
    given = candidates is not None
    begun = time.perf_counter()
    chance = constant_loss(course.loss, course.y)
    unit = 0.01 * chance if chance > 0 else 0.01
    untouched = run_trial(net, (), course)
    clock.spend()
    flow = net.probe(course.x[course.probed], course.y[course.probed], loss=course.loss)
    diagnosis = flow.diagnose()
    cause = find_cause(net, flow, diagnosis)
    falls = untouched.loss <= (1.0 - HELPS) * min(untouched.first_loss, chance)
    healthy = diagnosis.verdict == "stable" and cause.name == "none" and falls

    wanted = all_cures(net, cause) if candidates is None else asked_for(candidates)
    refused: dict[str, str] = {}
    left_out: list[str] = []
    trials: list[Trial] = []
    known = {fingerprint(net): "none"}
    if healthy and not given:
        wanted = []  # nothing to cure: trying all the same would only find chance

    def attempt(cures: tuple[Mitigation, ...], share: float) -> None:
        reason = why_not(net, cures, course.shown)
        if reason:
            refused[as_text(cures)] = reason
        elif clock.late(share):
            left_out.append(as_text(cures))
        elif (trial := _try(net, cures, course, refused, known)) is not None:
            clock.spend()
            trials.append(trial)

    with Progress(progress, len(wanted), len(wanted), "cures") as bar:
        for cures in wanted:
            attempt(cures, SINGLES if pairs and not given else 1.0)
            bar.advance({"cures": as_text(cures)}, 1.0)
    if pairs and len(trials) > 1 and not healthy:
        for cures in _pairs(trials, untouched, unit):
            attempt(cures, 1.0)
    trials.sort(key=lambda trial: rank_key(trial, untouched, unit))
    factor = 1
    if net.axis == "time" and not healthy and not any(helps(t, untouched, chance) for t in trials):
        further = longer(net, course, trials, untouched, clock, rng, partial(helps, chance=chance))
        if further is not None:
            course, factor, untouched = further.course, further.factor, further.untouched
            replaced = {trial.cures for trial in further.trials}
            trials = [*further.trials, *(trial for trial in trials if trial.cures not in replaced)]
            trials.sort(key=lambda trial: rank_key(trial, untouched, unit))
    again = course.drawn(course.steps, [seed_of(rng), 1], course.apart)
    for _ in range(CONFIRMED):
        first = next(iter(trials), None)
        if first is None or first.confirmed or first.failed:
            break
        took = len(course.rates) * course.steps * first.seconds_per_step if factor > 1 else 0.0
        if clock.late(1.0, factor, took):
            break
        cured = net.mitigate(*first.cures, x=course.shown)
        trials[0] = confirm(cured, first, again)
        clock.spend(factor)
        trials.sort(key=lambda trial: rank_key(trial, untouched, unit))
    settings = {
        "loss": repr(course.loss),
        "steps": course.steps // factor,
        "longest": course.steps,
        "batch": int(course.rows[0].size),
        "rates": list(course.rates),
        "batch_seed": seed_of(rng),
        "network_seed": net.seed,
        "budget": budget,
        "candidates": "given" if given else "all",
        "samples": len(course.x),
        "chance": chance,
        "seconds": time.perf_counter() - begun,
    }
    return Prescription(
        diagnosis, cause, healthy, untouched, tuple(trials), refused, tuple(left_out), settings,
        net.copy(), course.shown,
    )  # fmt: skip


def _course(
    net: Network, x: Any, y: Any, loss: Any, steps: int, batch: int, rates: Sequence[float], rng: RngLike
) -> Course:
    """Return the data and the batches, the same for every trial.

    Raises:
        ShapeError, DTypeError, NonFiniteError, LabelError: x or y does not fit the network or the loss.
        ArgumentError: rates that are none.
    """
    chosen: Loss = default_loss(y) if loss is None else as_loss(loss)
    # What is wrong with the data, in any row, is said before anything runs.
    data = Held(x, y).checked(net, chosen)
    inputs, targets = data.x, data.y
    if isinstance(rates, (str, bytes)) or not isinstance(rates, Iterable):
        raise ArgumentError(f"rates: expected learning rates such as (0.01, 0.1), got {shown(rates)}")
    checked = tuple(as_real(rate, "rates", minimum=0.0) for rate in rates)
    if not checked:
        raise ArgumentError("rates: expected at least one learning rate, got none")
    draw = np.random.default_rng(seed_of(rng))
    size = min(batch, len(inputs))
    rows = tuple(np.sort(draw.choice(len(inputs), size, replace=False)) for _ in range(steps))
    probed = np.sort(draw.choice(len(inputs), min(PROBED, len(inputs)), replace=False))
    return Course(inputs, targets, chosen, rows, probed, checked, max(1, len(inputs) // PROBED))


def _pairs(trials: Sequence[Trial], untouched: Trial, unit: float) -> list[tuple[Mitigation, ...]]:
    """Return pairs of the best single cures that go together, the most promising first."""
    singles = {trial.cures[0]: trial for trial in trials if len(trial.cures) == 1 and not trial.failed}
    ranked = sorted(singles, key=lambda cure: rank_key(singles[cure], untouched, unit))
    return pairs_of(ranked, lambda cure: helps(singles[cure], untouched, 100.0 * unit))


def _try(
    net: Network,
    cures: tuple[Mitigation, ...],
    course: Course,
    refused: dict[str, str],
    known: dict[str, str],
) -> Trial | None:
    """Return the trial of these cures; None, with the reason in `refused`, where they do not apply.

    `known`: networks that were tried already, by fingerprint.
    """
    name = as_text(cures)
    try:
        cured = net.mitigate(*cures, x=course.shown)
    except VgcoreError as error:
        refused[name] = str(error)
        return None
    same = known.setdefault(fingerprint(cured), name)
    if same != name:
        refused[name] = f"it makes the same network as {same!r}"
        return None
    try:
        return run_trial(cured, cures, course)
    except VgcoreError as error:
        return replace(Trial(cures, seen=course.seen), failed=f"{type(error).__name__}: {error}")
