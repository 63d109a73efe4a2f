"""Layer: results, horizons. How many steps back from the output a float format carries a gradient.

Knows the curve of largest magnitudes and the limits of formats, nothing of verdicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._formats import LIMITS, Limits

if TYPE_CHECKING:
    from ._evidence import Evidence

__all__ = ["Horizon", "horizons", "relative"]


@dataclass(frozen=True, slots=True)
class Horizon:
    """The first step, counted back from the output (1 is the last step), whose gradient a format cannot hold.

    ``steps``: that count; ``inf`` if there is none at the measured rate, NaN if there is no rate. ``how``:
    "measured" where the curve crosses the limit, "extrapolated" by its slope below the lowest finite step,
    "none" or "unknown". ``end``: "zero", "overflow" or "".
    """

    format: str
    steps: float
    how: str
    end: str


def horizons(evidence: Evidence, *, drifting: bool, dead: bool) -> dict[str, Horizon]:
    """Return the horizon of every format.

    `drifting` allows extrapolation by the measured rate. `dead`: exact zeros are the network's own and end it
    in every format; otherwise they are gaps that some framework left.
    """
    return {name: _horizon(evidence, entry, drifting, dead) for name, entry in LIMITS.items()}


def _horizon(evidence: Evidence, limit: Limits, drifting: bool, dead: bool) -> Horizon:
    peak, steps = evidence.log2_peak, evidence.steps
    finite = np.isfinite(peak)
    zero = (peak <= limit.zero) & (finite | dead)
    lost = np.flatnonzero(zero | (finite & (peak >= limit.overflow)))
    if lost.size:
        last = int(lost[-1])  # the first that is met going back from the output
        return Horizon(limit.name, float(steps - last), "measured", "zero" if zero[last] else "overflow")
    rate = evidence.rate.mean
    if not math.isfinite(rate):
        return Horizon(limit.name, math.nan, "unknown", "")
    if not drifting or rate == 0:
        return Horizon(limit.name, math.inf, "none", "")
    first = int(np.flatnonzero(finite)[0])  # below it a framework had lost the norms already
    edge, end = (limit.log10_zero, "zero") if rate < 0 else (limit.log10_overflow, "overflow")
    start = float(peak[first]) * math.log10(2.0)
    return Horizon(limit.name, float(steps - first + math.ceil((edge - start) / rate)), "extrapolated", end)


def relative(evidence: Evidence, decades: float, *, drifting: bool) -> tuple[float, str]:
    """Return how many steps back from the last one the norm is down by `decades`, and how that was found.

    ``inf`` and "none" where it never is at this rate, NaN and "unknown" where there is no rate; `drifting`
    allows extrapolation. An exact zero is down by any number of decades.
    """
    curve = evidence.curve
    last = float(curve[-1]) if curve.size else math.nan
    if not math.isfinite(last):
        return math.nan, "unknown"
    down = np.flatnonzero(curve <= last - decades)
    if down.size:
        return float(curve.size - 1 - down[-1]), "measured"
    rate = evidence.rate.mean
    if not math.isfinite(rate):
        return math.nan, "unknown"
    if not drifting or rate >= 0:
        return math.inf, "none"
    first = int(np.flatnonzero(np.isfinite(curve))[0])
    rest = decades - (last - float(curve[first]))
    return float(curve.size - 1 - first + math.ceil(rest / -rate)), "extrapolated"
