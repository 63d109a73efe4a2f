"""Layer: theory, infinitely deep. Where length and correlation settle, how fast, and the gradient there.

Knows the maps from layer to layer; knows no network. `mean_field` is the answer most people want.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from .correlation import pair_of
from .gaussian import ActivationLike, Phi, as_phi, as_variance
from .maps import effective, shared_table
from .moments import moments_of

__all__ = ["FixedPoint", "MeanField", "depth_scale", "fixed_points", "mean_field"]

#: How near 1 a factor counts as 1: quadrature and root finding are good to about 1e-13.
NEAR = 1e-9
#: Differences of logarithms below this are rounding, not signs.
NOISE = 1e-13


class FixedPoint(NamedTuple):
    """A length that the map keeps: ``q``, and ``chi_q``, the slope of the map there (below 1 is stable)."""

    q: float
    chi_q: float


@dataclass(frozen=True)
class MeanField:
    """What very many layers of infinite width do: what `mean_field` returns.

    ``q_star`` is the length (variance of the pre-activations) that is reached, infinity where it grows for
    ever; ``chi_1`` the factor of the squared gradient norm per layer there, going back; ``chi_q`` the slope
    of the length map. ``weight`` is ``sigma_w2 / keep_prob``.
    """

    activation: str
    sigma_w2: float
    sigma_b2: float
    keep_prob: float
    q_star: float
    chi_1: float
    chi_q: float
    _phi: Phi = field(repr=False, compare=False)

    @property
    def decades_per_layer(self) -> float:
        """Change of log10 |gradient| per layer, going back: ``0.5 log10 chi_1``; negative when vanishing."""
        return 0.5 * math.log10(self.chi_1) if self.chi_1 > 0 else -math.inf

    @property
    def phase(self) -> str:
        """``"ordered"`` (chi_1 < 1: vanishes), ``"chaotic"`` (chi_1 > 1: explodes) or ``"critical"``."""
        if abs(self.chi_1 - 1.0) < NEAR:
            return "critical"
        return "ordered" if self.chi_1 < 1.0 else "chaotic"

    @property
    def xi_1(self) -> float:
        """Layers over which the squared gradient changes by e: ``-1 / ln chi_1``, negative if it explodes."""
        return depth_scale(self.chi_1)

    @property
    def xi_q(self) -> float:
        """Layers over which a deviation of the length from q* falls by e."""
        return depth_scale(abs(self.chi_q))

    @property
    def xi_c(self) -> float:
        """Layers over which the correlation of two inputs comes e times nearer to c*."""
        return depth_scale(abs(self.chi_c))

    @property
    def c_star(self) -> float:
        """The correlation that two inputs end with: 1 in the ordered phase (without dropout)."""
        return 1.0 - self._settled[0]

    @property
    def chi_c(self) -> float:
        """Slope of the map at c*: ``sigma_w2 E[phi'(h1) phi'(h2)]``; 1 where q* is 0 or infinite."""
        return self._settled[1]

    @functools.cached_property
    def _settled(self) -> tuple[float, float]:
        """Return 1 - c* and the slope there, by Newton's method from c = 0.

        The map is a power series in c with coefficients that are not negative, so it is convex on [0, 1]:
        from the left Newton's steps rise to the lowest fixed point and never pass it.
        """
        w, q, phi = self.sigma_w2, self.q_star, self._phi
        if not 0.0 < q < math.inf:  # there phi is a pair of straight lines: directions change as a power law
            return 0.0, 1.0
        one = moments_of(phi, q)
        noise = 1.0 - (w * one.square + self.sigma_b2) / q  # what dropout adds to the length of each input
        if self.keep_prob == 1.0 and self.chi_1 <= 1.0 + NEAR:
            return 0.0, self.chi_1
        d = 1.0
        for _ in range(200):
            pair = pair_of(phi, q, d)
            gap = d - (w * pair.distance / q + noise)  # c' - c
            slope = w * pair.slopes
            if gap <= 0.0 or slope >= 1.0:
                break
            step = gap / (1.0 - slope)
            if step <= 4e-16 * d:
                break
            d = max(d - step, 0.0)
        return d, w * pair_of(phi, q, d).slopes

    def correlation(self, c: float) -> float:
        """Return the correlation one layer on of two inputs of correlation c, both at length q*.

        Raises:
            ArgumentError: `c` outside -1 to 1, or q* is 0 or infinite.

        Example:
            >>> round(mean_field("tanh", 1.5, 0.05).correlation(1.0), 12)
            1.0
        """
        if not 0.0 < self.q_star < math.inf:
            raise ArgumentError(
                f"correlation needs a finite q* above 0, got {self.q_star:g}; "
                f"vg.theory.correlation_map(..., q=) takes a length of your own"
            )
        if not -1.0 <= c <= 1.0:
            raise ArgumentError(f"c: expected a correlation from -1 to 1, got {c:g}")
        pair = pair_of(self._phi, self.q_star, 1.0 - c)
        return (self.sigma_w2 * pair.product + self.sigma_b2) / self.q_star


def mean_field(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    keep_prob: float = 1.0,
    q0: float = 1.0,
) -> MeanField:
    """Return what a deep network of infinite width does at its start, with weights N(0, sigma_w2 / fan_in).

    Formula: ``q* = V(q*)``, reached from `q0`; ``chi_1 = sigma_w2 E phi'^2``,
    ``chi_q = sigma_w2 E[z phi phi'] / sqrt(q*)``, all over z ~ N(0, 1) at ``h = sqrt(q*) z``.

    Args:
        activation: a name from ``vg.activations.names()``, or a ``vg.Activation`` with parameters.
        sigma_w2: variance of a weight times fan_in.
        sigma_b2: variance of a bias.
        keep_prob: probability that dropout keeps an activation.
        q0: length at the first layer: where there are several fixed points it decides which is reached.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range.

    Source: Poole et al. 2016, eq. 3 to 7; Schoenholz et al. 2017, eq. 3 to 10 and sec. 5.

    Example:
        >>> theory = mean_field("sigmoid", sigma_w2=1.0)  # Xavier: 627 decades over 1,000 layers
        >>> round(theory.q_star, 6), round(theory.decades_per_layer, 6), theory.phase
        (0.264687, -0.626992, 'ordered')
    """
    phi = as_phi(activation)
    w, b = effective(sigma_w2, sigma_b2, keep_prob)
    q_star = _reached(phi, w, b, as_variance(q0, "q0"))
    at = moments_of(phi, q_star)
    name, p = phi.label, keep_prob
    return MeanField(name, w * p, b, p, q_star, w * at.slope2, w * at.length_slope, phi)


def fixed_points(
    activation: ActivationLike, sigma_w2: float, sigma_b2: float = 0.0, *, keep_prob: float = 1.0
) -> tuple[FixedPoint, ...]:
    """Return every length that the map keeps, smallest first, with the slope of the map there.

    Formula: all roots of ``V(q) = q`` from 1e-12 to 1e12, and 0 where ``V(0) = 0``. ReLU and its family with
    sigma_w2 at the critical value keep every length: the answer is then empty.

    Raises:
        UnknownNameError, ArgumentError: as for `mean_field`.

    Source: Roberts, Yaida & Hanin 2022, ch. 5 (GELU and SiLU have a second, unstable one).

    Example:
        >>> [(round(q, 3), round(slope, 3)) for q, slope in fixed_points("gelu", 2.05, 0.1)]
        [(0.387, 0.878), (2.317, 1.032)]
    """
    phi = as_phi(activation)
    w, b = effective(sigma_w2, sigma_b2, keep_prob)
    if phi.homogeneous:
        half = w * moments_of(phi, 1.0).slope2
        if abs(half - 1.0) < NOISE or (half > 1.0 and b > 0.0):
            return ()
        return (FixedPoint(b / (1.0 - half), half),)
    found = [0.0] if b == 0.0 and w * phi.at_zero == 0.0 else []
    found += _positive_roots(phi, w, b)
    return tuple(FixedPoint(q, w * moments_of(phi, q).length_slope) for q in found)


def depth_scale(chi: float) -> float:
    """Return the number of layers over which something that changes by `chi` per layer falls by e.

    Formula: ``xi = -1 / ln chi``: infinite at chi = 1, negative above it (growth by e in ``-xi`` layers), 0
    at chi = 0. Networks train to a depth of about ``6 xi_c``.

    Raises:
        ArgumentError: a negative `chi`.

    Source: Schoenholz et al. 2017, eq. 7 to 10.

    Example:
        >>> round(depth_scale(0.9), 2)
        9.49
    """
    number = as_variance(chi, "chi")
    if number == 0.0:
        return 0.0
    return math.inf if abs(number - 1.0) < NOISE else -1.0 / math.log(number)


def _reached(phi: Phi, w: float, b: float, q0: float) -> float:
    """Return the length that iteration from q0 tends to: the next root in the direction of the first step."""
    if phi.homogeneous:
        half = w * moments_of(phi, 1.0).slope2
        if abs(half - 1.0) < NOISE:
            return q0 if b == 0.0 else math.inf
        return b / (1.0 - half) if half < 1.0 else (math.inf if q0 > 0.0 or b > 0.0 else 0.0)
    starts_at_zero = b == 0.0 and w * phi.at_zero == 0.0
    if q0 == 0.0 and starts_at_zero:
        return 0.0
    start = max(q0, 1e-300)
    drift = (w * moments_of(phi, q0).square + b) - q0
    if abs(drift) <= NOISE * start:
        near = [q for q in _positive_roots(phi, w, b, start / 2, start * 2) if abs(q / start - 1.0) < 1e-6]
        return near[0] if near else q0
    low, high = _bounds(phi, w, b)
    if drift > 0.0:
        return next(_walk(phi, w, b, max(start, low), high), math.inf)
    return next(_walk(phi, w, b, min(start, high), low), 0.0)


def _bounds(phi: Phi, w: float, b: float) -> tuple[float, float]:
    """Return between which lengths fixed points are looked for."""
    at_zero = w * phi.at_zero**2 + b
    return (min(1e-12, at_zero / 8) if at_zero > 0.0 else 1e-12), max(1e12, 8 * b)


def _walk(phi: Phi, w: float, b: float, start: float, end: float) -> Iterator[float]:
    """Yield the fixed points from `start` to `end`, a few decades at a time: most are near."""
    factor = 1e3 if end > start else 1e-3
    while (end / start - 1.0) * math.copysign(1.0, factor - 1.0) > 0.0:
        # Pieces overlap: a root, or a near miss, at a border belongs to the neighbour too.
        far = start * factor
        low, high = min(start, far), max(start, far)
        found = _positive_roots(phi, w, b, low if factor > 1 else low / 2, high * 2 if factor > 1 else high)
        yield from found if factor > 1 else reversed(found)
        start = far


def _positive_roots(
    phi: Phi, w: float, b: float, low: float | None = None, high: float | None = None
) -> list[float]:
    """Return the roots of V(q) = q above 0, as roots of ln(V(q)/q) over ln q."""
    if w == 0.0:
        return [b] if b > 0.0 else []
    bounds = _bounds(phi, w, b)
    low, high = low or bounds[0], high or bounds[1]
    table, relative = shared_table(phi), phi.at_zero == 0.0

    def growth(u: float) -> float:
        q = math.exp(u)
        first = table(q)[0]
        return math.log(w * first + b / q) if relative else math.log((w * first + b) / q)

    def exact(u: float) -> float:
        q = math.exp(u)
        return math.log((w * moments_of(phi, q).square + b) / q)

    count = max(3, math.ceil((math.log(high) - math.log(low)) / 0.2) + 1)
    grid = np.linspace(math.log(low), math.log(high), count)
    return [math.exp(u) for u in roots(growth, grid.tolist(), exact)]


def roots(
    function: Callable[[float], float], grid: list[float], exact: Callable[[float], float] | None = None
) -> list[float]:
    """Return the roots of a continuous function that a grid can see, pairs that nearly touch included.

    Values within `NOISE` of 0 have no sign. Where a value is nearest to 0 among its neighbours and the sign
    does not change, the extremum is looked for: it may lie beyond 0. `exact` is used for the last digits.
    """
    precise = exact or function
    points = list(zip(grid, map(function, grid), strict=True))
    extra = []
    for (x0, y0), (_, y1), (x2, y2) in zip(points, points[1:], points[2:], strict=False):
        if y0 * y1 > 0 and y1 * y2 > 0 and abs(y1) < min(abs(y0), abs(y2)) and abs(y1) < 0.05:
            x = _extremum(function, x0, x2, math.copysign(1.0, y1))
            extra.append((x, function(x)))
    points = sorted([*points, *extra])
    signed = [(x, y) for x, y in points if abs(y) > NOISE]
    return [_bisect(precise, x0, x1, y0) for (x0, y0), (x1, y1) in pairwise(signed) if (y0 > 0) != (y1 > 0)]


def _extremum(function: Callable[[float], float], low: float, high: float, sign: float) -> float:
    """Return where ``sign * function`` is least between low and high, by golden section."""
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(60):
        width = golden * (high - low)
        left, right = high - width, low + width
        if sign * function(left) < sign * function(right):
            high = right
        else:
            low = left
    return (low + high) / 2.0


def _bisect(function: Callable[[float], float], low: float, high: float, at_low: float) -> float:
    """Return the sign change between low and high: false position with halving (Illinois), then its end."""
    a, fa, b, fb = low, function(low), high, function(high)
    if (fa > 0) != (at_low > 0) or (fa > 0) == (fb > 0):
        return low if abs(fa) < abs(fb) else high
    for _ in range(100):
        x = b - fb * (b - a) / (fb - fa)
        if not min(a, b) < x < max(a, b):
            x = (a + b) / 2.0
        fx = function(x)
        if fx == 0.0 or abs(b - a) <= 4e-16 * max(1.0, abs(b)):
            return x
        if (fx > 0) != (fb > 0):
            a, fa = b, fb
        else:
            fa /= 2.0
        if abs(x - b) <= 2e-16 * max(1.0, abs(x)):
            return x
        b, fb = x, fx
    return b
