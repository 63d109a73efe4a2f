"""Layer: theory, two inputs. How the correlation of two inputs, and of their gradients, changes in a layer.

Knows moments and plane quadrature; knows no fixed point. Distances 1 - c are kept beside c, because c tends
to 1 in half of all networks and the distance is what is left to measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._checks import as_real, as_size
from ..errors import ArgumentError
from .gaussian import (
    REACH,
    ActivationLike,
    FloatArray,
    Phi,
    as_phi,
    as_variance,
    density,
    graded,
    panel_nodes,
)
from .maps import effective
from .moments import moments_of

__all__ = ["CorrelationTrajectory", "Pair", "correlation_map", "correlation_trajectory", "pair_moments"]


@dataclass(frozen=True)
class Pair:
    """Means over two pre-activations h1, h2 of variance q and correlation c.

    ``product`` E[phi(h1) phi(h2)], ``slopes`` E[phi'(h1) phi'(h2)], ``distance`` E[(phi(h1) - phi(h2))^2] /
    2.
    """

    product: float
    slopes: float
    distance: float


def pair_moments(
    activation: ActivationLike, q: float, c: float | None = None, *, distance: float | None = None
) -> Pair:
    """Return the joint moments of an activation at two pre-activations of variance q and correlation c.

    Formula: ``h1, h2 = sqrt(q) (a s +- b t)`` with ``a^2 = (1 + c)/2``, ``b^2 = (1 - c)/2``, s and t standard
    normal; the plane is cut along every line where phi(h1) or phi(h2) has a kink, so that both integrals see
    smooth functions. Relative accuracy about 1e-12, of `distance` too. Closed form for the ReLU family.

    Args:
        activation: a name, or a ``vg.Activation`` with parameters.
        q: variance of both pre-activations.
        c: their correlation, -1 to 1; or give
        distance: ``1 - c``, 0 to 2, which keeps its digits where c is nearly 1.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: neither or both of `c` and `distance`, or a number outside its range.

    Source: Poole et al. 2016, eq. 3 to 7; Cho & Saul 2009 (arc-cosine kernels) for ReLU.

    Example:
        >>> round(pair_moments("relu", 1.0, 0.0).product, 12)  # 1 / (2 pi)
        0.159154943092
    """
    phi, q = as_phi(activation), as_variance(q, "q")
    if (c is None) == (distance is None):
        raise ArgumentError("expected either c or distance (1 - c), got neither or both")
    d = 1.0 - as_real(c, "c") if distance is None else as_real(distance, "distance")
    if not 0.0 <= d <= 2.0:
        raise ArgumentError(f"c: expected a correlation from -1 to 1 (distance 0 to 2), got c = {1 - d:g}")
    return pair_of(phi, q, d)


def correlation_map(
    activation: ActivationLike,
    c: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    q: float,
    keep_prob: float = 1.0,
) -> float:
    """Return the correlation of two inputs one layer on, both held at the fixed point of length q.

    Formula: ``c' = (sigma_w2 E[phi(h1) phi(h2)] + sigma_b2) / q``. Dropout (`keep_prob`) raises q, not this.

    Raises:
        UnknownNameError, ArgumentError: as for `pair_moments`; also `q` not above 0.

    Source: Poole et al. 2016, eq. 3 to 7.

    Example:
        >>> round(correlation_map("relu", 0.0, sigma_w2=2.0, q=1.0), 12)  # 1 / pi
        0.318309886184
    """
    effective(sigma_w2, sigma_b2, keep_prob)
    length = as_variance(q, "q", positive=True)
    return (sigma_w2 * pair_moments(activation, length, c).product + sigma_b2) / length


@dataclass(frozen=True)
class CorrelationTrajectory:
    """Correlations through depth: what `correlation_trajectory` returns; arrays of shape (depth,).

    ``distance`` is 1 - c at each layer, ``gradient`` the correlation that the gradients of the two inputs
    have left after going back from layer l to layer 0, if they agreed at l.
    """

    distance: FloatArray
    gradient: FloatArray

    @property
    def c(self) -> FloatArray:
        """Correlation of the pre-activations."""
        return np.asarray(1.0 - self.distance)


def correlation_trajectory(
    activation: ActivationLike,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    c0: float,
    q: float,
) -> CorrelationTrajectory:
    """Follow the correlation of two inputs, and of their gradients, through `depth` layers at length q.

    Formula: ``1 - c' = sigma_w2 E[(phi(h1) - phi(h2))^2] / (2 q)``; each layer multiplies the correlation of
    gradients by ``E[phi'(h1) phi'(h2)] / E phi'^2``, for ReLU ``1 - arccos(c) / pi``.

    Raises:
        UnknownNameError, ArgumentError: as for `pair_moments`; `q` is not a fixed point of the length map.

    Source: Poole et al. 2016, eq. 3 to 7; Balduzzi et al. 2017 (shattered gradients); Hayou et al. 2019,
    arXiv:1902.06853 (1 - c falls as 9 pi^2 / (2 l^2) for ReLU on the edge of chaos).

    Example:
        >>> path = correlation_trajectory("relu", 21, sigma_w2=2.0, c0=0.5, q=1.0)
        >>> round(float(path.gradient[20]), 4)  # gradients of two inputs: shattered after 20 layers
        0.0224
    """
    phi, depth = as_phi(activation), as_size(depth, "depth")
    w, b = effective(sigma_w2, sigma_b2, 1.0)
    q = as_variance(q, "q", positive=True)
    one = moments_of(phi, q)
    if abs((w * one.square + b) / q - 1.0) > 1e-6:
        raise ArgumentError(
            f"q: expected a fixed point of the length map, got {q:g}, which the next layer makes "
            f"{w * one.square + b:g}; vg.theory.mean_field(...).q_star is one"
        )
    start = as_real(c0, "c0")
    if not -1.0 <= start <= 1.0:
        raise ArgumentError(f"c0: expected a correlation from -1 to 1, got {start:g}")
    distance, gradient = np.empty(depth), np.ones(depth)
    distance[0] = 1.0 - start
    for layer in range(depth - 1):
        pair = pair_of(phi, q, float(distance[layer]))
        distance[layer + 1] = min(w * pair.distance / q, 2.0)
        gradient[layer + 1] = gradient[layer] * pair.slopes / one.slope2
    return CorrelationTrajectory(distance, gradient)


def pair_of(phi: Phi, q: float, d: float) -> Pair:
    """Return `pair_moments` of a resolved activation at correlation 1 - d, arguments unchecked."""
    if phi.homogeneous:
        return _homogeneous(phi, q, d)
    if d == 0.0 or q == 0.0:
        one = moments_of(phi, q)
        return Pair(one.square, one.slope2, 0.0)
    a, b, root = math.sqrt(1.0 - d / 2.0), math.sqrt(d / 2.0), math.sqrt(q)
    kinks = np.array(phi.kinks) / root
    # The coordinate with the smaller coefficient is outside: then kink lines are steep and never vanish.
    outer_is_t = b <= a
    small, large, sign = (b, a, -1.0) if outer_is_t else (a, b, 1.0)
    crossings = np.unique((kinks[:, None] + sign * kinks).ravel()) / (2 * small) if small > 0 else np.zeros(0)
    low = 0.0 if outer_is_t else -REACH  # t -> -t only swaps h1 and h2
    inside = crossings[(crossings >= low) & (np.abs(crossings) < REACH)]
    edges = graded(inside, low, REACH, 2.0**-6 / (root * max(small, 1e-3)))
    outer, outer_w = panel_nodes(edges)
    outer_w = outer_w * density(outer) * (2.0 if outer_is_t else 1.0)
    shift = small * outer[:, None]
    second = kinks + shift if outer_is_t else shift - kinks
    lines = np.concatenate([kinks - shift, second], axis=1) / large
    inner_edges = _lines_graded(lines, 2.0**-6 / (root * large))
    inner, inner_w = panel_nodes(inner_edges)
    inner_w = inner_w * density(inner)
    if outer_is_t:
        h1, h2 = (root * (large * inner + s * shift) for s in (1.0, -1.0))
    else:
        h1, h2 = (root * (shift + s * large * inner) for s in (1.0, -1.0))
    w = outer_w[:, None] * inner_w
    f1, f2 = phi.value(h1), phi.value(h2)
    return Pair(
        product=float((w * f1 * f2).sum()),
        slopes=float((w * phi.slope(h1) * phi.slope(h2)).sum()),
        distance=float(0.5 * (w * (f1 - f2) ** 2).sum()),
    )


def _lines_graded(lines: FloatArray, finest: float) -> FloatArray:
    """Return panel edges for every row: a fixed grid, and doubling panels around each mark of the row."""
    widest = 1.0
    finest = min(finest, widest)
    count = max(0, math.ceil(math.log2(widest / finest)))
    near = finest * 2.0 ** np.arange(count)
    offsets = np.concatenate([-near, [0.0], near])
    rows = len(lines)
    marks = (lines[:, :, None] + offsets).reshape(rows, -1)
    grid = np.broadcast_to(np.arange(-REACH, REACH + widest, widest), (rows, int(2 * REACH) + 1))
    return np.sort(np.clip(np.concatenate([grid, marks], axis=1), -REACH, REACH), axis=1)


def _homogeneous(phi: Phi, q: float, d: float) -> Pair:
    """Arc-cosine kernels of phi = a x + (b - a) relu(x), in terms of the distance d = 1 - c."""
    a, b = phi.slopes
    step2, c = (b - a) ** 2, 1.0 - d
    sine, angle = math.sqrt(d * (2.0 - d)), 2.0 * math.asin(math.sqrt(d / 2.0))
    # E relu relu = q (c + away) / 2, away = (sin t - t cos t) / pi; a series where the difference cancels.
    if angle < 0.05:
        t2 = angle * angle
        away = angle * t2 / math.pi * (1 / 3 - t2 * (1 / 30 - t2 * (1 / 840 - t2 / 45360)))
    else:
        away = (sine - angle * c) / math.pi
    square = (a * a + b * b) / 2
    return Pair(
        product=q * (square * c + step2 * away / 2),
        slopes=square - step2 * angle / (2 * math.pi),
        distance=q * (square * d - step2 * away / 2),
    )
