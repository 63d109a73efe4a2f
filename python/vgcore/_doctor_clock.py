"""Layer: doctor, its budget. What is left of the time or the training steps that trials may take.

Knows clocks and numbers; no trial and no network.
"""

from __future__ import annotations

import math
import time

import numpy as np

from ._checks import as_size, shown
from .errors import ArgumentError

__all__ = ["Clock"]


class Clock:
    """What is left of a budget: of seconds, or of training steps over all trials."""

    def __init__(self, budget: float | int | str | None, cost: int) -> None:
        """Start the clock; `cost`: training steps of one trial."""
        self._cost, self._spent, self._start = cost, 0, time.perf_counter()
        self._steps: float = math.inf
        self._seconds: float = math.inf
        if isinstance(budget, bool) or not isinstance(budget, (int, float, str, np.integer, type(None))):
            raise ArgumentError(
                f'budget: expected seconds ("30s" or 30.0), a number of training steps or None, '
                f"got {shown(budget)}"
            )
        if isinstance(budget, (int, np.integer)):
            self._steps = as_size(budget, "budget")
        elif budget is not None:
            self._seconds = _seconds(budget)

    def spend(self, trials: int = 1) -> None:
        """Count one trial, or one that is as long as several."""
        self._spent += self._cost * trials

    def late(self, share: float, trials: int = 1, seconds: float = 0.0) -> bool:
        """Whether as many trials would go beyond `share` of the budget; `seconds`: what they will take."""
        gone = time.perf_counter() - self._start + seconds
        return self._spent + self._cost * trials > share * self._steps or gone > share * self._seconds


def _seconds(value: float | str) -> float:
    units = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "ms": 1e-3}
    if isinstance(value, str):
        number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
        unit = value.strip()[len(number) :].strip() or "s"
        try:
            seconds = float(number) * units[unit]
        except (ValueError, KeyError):
            raise ArgumentError(
                f'budget: expected a time such as "30s" or "2min", got {shown(value)}'
            ) from None
    else:
        seconds = float(value)
    if not 0.0 < seconds < math.inf:
        raise ArgumentError(f"budget: expected a time above 0, got {shown(value)}")
    return seconds
