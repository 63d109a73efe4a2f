"""Layer: results, rates. How fast a curve of log norms changes per step, and how sure that is.

Knows nothing of networks, float formats or verdicts: arrays of log10 norms only.

Estimator
---------
With ``y[k] = log10 |dL/dh_k|`` and step 0 nearest the input, the change when the gradient goes
one step back towards the input is ``d[k] = y[k] - y[k+1]``. The rate is the plain mean of ``d``
over the chosen chain: the mean of the *logarithm* of the per-step ratio, that is the typical rate
of this one network. It is not the logarithm of the mean squared ratio (chi_1 of mean-field
theory); in a network of width n the two differ by O(1/n) decades per step.

The ``d[k]`` are noisy and correlated: noise that belongs to a single norm enters two neighbouring
differences with opposite signs, and slow drifts of the forward pass correlate far ones. The
interval therefore uses a long-run variance: the equally weighted cosine estimator, which averages
the squares of the B lowest cosine coefficients of ``d``, with Student's t at B degrees of freedom
(Mueller 2004; Lazarus, Lewis, Stock and Watson, Journal of Business & Economic Statistics 36,
2018, whose choice B = 0.4 T^(2/3) is taken, but at least 5). With B = T - 1, in very short chains, it
is the ordinary Student interval. Simulated coverage of the nominal 95 %: 95 % for independent
differences at any T; 95 to 99.8 % when noise belongs to single norms; for differences that keep 0.6 of
the one before, 78 % at T = 9, 92 % at 30, 95 % from 99 on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["Rate", "Span", "estimate", "half_life", "longest_run", "mean_interval", "power_law", "words"]

# Below this many steps nothing is cut off: the transients at the ends are then part of the story,
# and cutting would cost more precision than it buys.
TRIM_FROM: Final = 40
# Share cut off each end, and the most steps cut: the forward pass of a network that is not
# critical settles within tens of layers, whatever the depth.
TRIM_SHARE: Final = 0.05
TRIM_MOST: Final = 100
# Fewer degrees of freedom make intervals far wider than needed; more let drifts in short chains pass
# for precision (for independent noise the coverage is exact with any number).
LEAST_FREEDOM: Final = 5

# Norms of equal gradients may differ by the rounding of float32 sums; nothing real is this small.
ROUNDING_DECADES: Final = 1e-6

# A power law must leave a tenth of the scatter that the straight line leaves, over at least a decade and
# enough steps: on shorter curves the two cannot be told apart.
POWER_SCATTER: Final = 0.1
POWER_DECADES: Final = 1.0
POWER_STEPS: Final = 40
_POWER_POINTS: Final = 400

# 97.5 % points of Student's t for 1 to 9 degrees of freedom; beyond, the expansion is exact to 1e-4.
_T_SMALL: Final = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157,
)  # fmt: skip
_Z: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Span:
    """Steps ``start <= k < stop``."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of steps."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Rate:
    """Mean change of log10 norm per step towards the input, with a 95 % interval.

    ``chain`` are the homogeneous finite steps, ``used`` those left after cutting transients,
    ``total`` the change over the whole chain, ``freedom`` the degrees of freedom of the interval.
    """

    mean: float
    low: float
    high: float
    chain: Span
    used: Span
    total: float
    freedom: int


def student_t(freedom: int) -> float:
    """Two-sided 95 % point of Student's t (expansion: Abramowitz and Stegun 26.7.5)."""
    if freedom < 1:
        return math.nan
    if freedom <= len(_T_SMALL):
        return _T_SMALL[freedom - 1]
    z, v = _Z, float(freedom)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4


def longest_run(mask: NDArray[np.bool_]) -> Span:
    """Longest run of True; of equally long ones the last (nearest the output)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    starts, stops = edges[0::2], edges[1::2]
    if starts.size == 0:
        return Span(0, 0)
    lengths = stops - starts
    best = lengths.size - 1 - int(np.argmax(lengths[::-1]))
    return Span(int(starts[best]), int(stops[best]))


def mean_interval(values: FloatArray) -> tuple[float, float, float, int]:
    """Mean of a correlated series, its 95 % interval, and the interval's degrees of freedom.

    Returns ``(mean, low, high, freedom)``; one value gives an infinite interval.
    """
    count = values.size
    if count == 0:
        return math.nan, math.nan, math.nan, 0
    mean = float(np.mean(values))
    if count == 1:
        return mean, -math.inf, math.inf, 0
    freedom = min(count - 1, max(LEAST_FREEDOM, int(0.4 * count ** (2.0 / 3.0))))
    # Cosine coefficients Lambda_j = sqrt(2/T) sum_t x_t cos(pi j (t + 1/2) / T), by one real FFT
    # of the mirrored series.
    centred = values - mean
    spectrum = np.fft.rfft(np.concatenate((centred, centred[::-1])))[1 : freedom + 1]
    index = np.arange(1, freedom + 1)
    cosines = 0.5 * np.real(spectrum * np.exp(-0.5j * np.pi * index / count))
    long_run = float(np.mean(cosines**2)) * 2.0 / count
    half = student_t(freedom) * math.sqrt(long_run / count)
    return mean, mean - half, mean + half, freedom


def chain_span(log10_norm: FloatArray, change: NDArray[np.bool_] | None) -> Span:
    """Homogeneous finite steps: the longest run of equal steps, then of finite norms in it.

    ``change[k]`` is True where step k + 1 differs in kind from step k. When equal steps make up
    less than half of the network (alternating widths, say) all steps are taken.
    """
    steps = log10_norm.size
    span = Span(0, steps)
    if change is not None and steps > 1:
        run = longest_run(~change)
        size = run.size + 1 if run.size else 1
        if 2 * size >= steps:
            span = Span(run.start, run.start + size) if run.size else span
    finite = longest_run(np.isfinite(log10_norm[span.start : span.stop]))
    return Span(span.start + finite.start, span.start + finite.stop)


def estimate(log10_norm: FloatArray, change: NDArray[np.bool_] | None = None) -> Rate:
    """Rate of a curve of log10 norms (shape (steps,), nearest the input first).

    Negative: the gradient shrinks towards the input. Fewer than two finite steps give NaN.
    """
    chain = chain_span(log10_norm, change)
    if chain.size < 2:
        return Rate(math.nan, math.nan, math.nan, chain, chain, math.nan, 0)
    cut = min(int(chain.size * TRIM_SHARE), TRIM_MOST) if chain.size >= TRIM_FROM else 0
    used = Span(chain.start + cut, chain.stop - cut)
    differences = log10_norm[used.start : used.stop - 1] - log10_norm[used.start + 1 : used.stop]
    mean, low, high, freedom = mean_interval(differences)
    total = float(log10_norm[chain.start] - log10_norm[chain.stop - 1])
    return Rate(mean, low, high, chain, used, total, freedom)


def words(rate: Rate) -> str:
    """Return a rate in a few words."""
    return "no rate" if math.isnan(rate.mean) else f"{rate.mean:+.3g} decades/step"


def half_life(rate: Rate) -> float:
    """Steps towards the input in which a gradient of this rate halves: log10(2) / |rate|.

    ``inf`` where it does not shrink beyond chance, NaN where there is no rate.

    Example:
        >>> import numpy as np
        >>> round(half_life(estimate(np.log10(0.5) * np.arange(9.0, -1.0, -1.0))), 9)
        1.0
    """
    if math.isnan(rate.mean):
        return math.nan
    # Two steps have a rate and no interval: the rate is all there is to go by. A change that is lost in
    # the rounding of the logarithms is none.
    chance = math.isfinite(rate.low) and rate.low <= 0 <= rate.high
    if rate.mean >= 0 or chance or abs(rate.total) < ROUNDING_DECADES:
        return math.inf
    return math.log10(2.0) / -rate.mean


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Whether a curve falls like a power, its exponent, and of what: "distance" from the last step (counted
    from 1) or "time" since the first (counted from 1)."""

    power: bool
    exponent: float
    of: str


def power_law(log10_norm: FloatArray) -> PowerLaw | None:
    """Compare a straight line in the logarithm with two power laws; None where the curve is too short or
    flat.

    A memory that many time scales share (forget gates of all sizes) fades as a power of the distance; a state
    that creeps towards a marginal fixed point (tanh with weight 1) gives a power of the time.

    Example:
        >>> import numpy as np
        >>> law = power_law(-1.5 * np.log10(np.arange(1000.0, 0.0, -1.0)))
        >>> law.power, round(law.exponent, 3), law.of
        (True, -1.5, 'distance')
    """
    count = log10_norm.size
    if count < POWER_STEPS or not np.isfinite(log10_norm).all():
        return None
    if abs(log10_norm[0] - log10_norm[-1]) < POWER_DECADES:
        return None
    # Evenly spaced points, so that each model answers for the whole curve; the ends are always among them.
    index = np.unique(np.linspace(0, count - 1, _POWER_POINTS).astype(np.int64))
    values = log10_norm[index]
    line, _ = _scatter(index.astype(np.float64), values)
    by_distance, distance = _scatter(np.log10(count - index), values)
    by_time, time = _scatter(np.log10(index + 1.0), values)
    of, scatter, exponent = ("distance", by_distance, distance)
    if by_time < by_distance:
        of, scatter, exponent = "time", by_time, time
    return PowerLaw(scatter < POWER_SCATTER * line, exponent, of)


def _scatter(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return the sum of squares that a straight line through (x, y) leaves, and its slope."""
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y) / float(x @ x)
    return float(np.sum((y - slope * x) ** 2)), slope
