"""Layer: doctor, longer trials. Where nothing has helped along time, the most promising are trained on.

Knows which trials promise most and how much longer they may run; what a trial is, `_doctor_trials` knows.

What is learned along time is seldom learned in a few dozen steps: the loss stays at that of the best constant
answer until the network has begun to remember, and plain SGD may never leave it. So the untouched network and
the most promising cures are given more steps, all with one optimizer that makes more of a small gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ._doctor_clock import Clock
from ._doctor_trials import Course, Trial, run_trial
from ._rng import RngLike, seed_of

if TYPE_CHECKING:
    from .network import Network

__all__ = ["LONGER", "OPTIMIZER", "Round", "longer", "promising"]

#: How many times the steps of a trial they are given, one round after the other, until something helps.
LONGER: Final = (8, 64)
#: What they are trained with, unless a cure is an optimizer.
OPTIMIZER: Final = "adam"
#: How many cures go on, and how many of one family.
CHOSEN: Final = 6
OF_A_FAMILY: Final = 2
#: One of so many samples is set apart.
APART: Final = 5


class Round:
    """A course of more steps, and the trials that were run on it."""

    def __init__(self, course: Course, factor: int, untouched: Trial, trials: Sequence[Trial]) -> None:
        """Hold them."""
        self.course, self.factor, self.untouched, self.trials = course, factor, untouched, tuple(trials)


def promising(ranked: Sequence[Trial], untouched: Trial) -> list[Trial]:
    """Return the trials that go on: the best of several families, of those that let the gradient reach more.

    While losses have not left the plateau they say little; how far the gradient comes has been measured.
    """
    alive = [trial for trial in ranked if trial.cures and not trial.failed and trial.optimizer is not None]
    reaching = [trial for trial in alive if trial.learning > untouched.learning] or alive
    found: list[Trial] = []
    for trial in reaching:
        family = [other for other in found if _groups(other) == _groups(trial)]  # a pair is one of its own
        if len(family) < OF_A_FAMILY and len(found) < CHOSEN:
            found.append(trial)
    return found


def _groups(trial: Trial) -> tuple[str, ...]:
    return tuple(cure.group for cure in trial.cures)


def longer(
    net: Network,
    course: Course,
    ranked: Sequence[Trial],
    untouched: Trial,
    clock: Clock,
    rng: RngLike,
    helps: Callable[[Trial, Trial], bool],
) -> Round | None:
    """Return the last round of longer trials that the budget had room for; None where it had none.

    `ranked`: trials of the usual length, the best first. `helps(trial, untouched)` ends the rounds.
    """
    done: Round | None = None
    chosen = promising(ranked, untouched)
    for factor in LONGER:
        stretched = _stretched(course, factor, rng)
        cost = len(course.rates) * stretched.steps
        first = [untouched, *chosen[:1]]
        if not chosen or clock.late(1.0, len(first) * factor, cost * _seconds(first)):
            break
        base = run_trial(net, (), stretched)
        clock.spend(factor)
        trials: list[Trial] = []
        for trial in chosen:
            if trials and clock.late(1.0, factor, cost * _seconds([trial])):
                break
            cured = net.mitigate(*trial.cures, x=course.shown)
            trials.append(run_trial(cured, trial.cures, stretched))
            clock.spend(factor)
        done = Round(stretched, factor, base, trials)
        if any(helps(trial, base) for trial in trials):
            break
    return done


def _seconds(trials: Sequence[Trial]) -> float:
    return sum(trial.seconds_per_step for trial in trials)


def _stretched(course: Course, factor: int, rng: RngLike) -> Course:
    """Return the course with `factor` times as many steps, on batches drawn from the same seed.

    So many steps see the samples often enough to learn them by heart: some are set apart.
    """
    seed = seed_of(rng)
    count = len(course.x) // APART
    apart = np.sort(np.random.default_rng([seed, 3]).choice(len(course.x), count, replace=False))
    return replace(course.drawn(factor * course.steps, [seed, 2], apart), optimizer=OPTIMIZER)
