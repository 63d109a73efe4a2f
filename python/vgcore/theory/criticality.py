"""Layer: theory, the edge of chaos. Where the gradient neither vanishes nor explodes, and whether that lasts.

Knows moments and root finding; knows no network. An initializer at the edge of chaos asks `critical`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError
from .fixed_points import NOISE, roots
from .gaussian import ActivationLike, Phi, as_phi, as_variance
from .maps import shared_table
from .moments import Moments, moments_of

__all__ = ["CriticalPoint", "critical", "critical_line", "critical_points", "half_stable_points"]

#: Lengths among which critical points are looked for.
_Q_LOW, _Q_HIGH = 1e-10, 1e8


@dataclass(frozen=True)
class CriticalPoint:
    """Weights and biases at which the gradient keeps its norm in expectation: chi_1 = 1 at the length q*.

    ``stability`` is what becomes of the length, from the slope ``chi_q`` of its map at q*:
    ``"stable"`` it returns to q*; ``"unstable"`` it leaves q* within about ``1 / ln chi_q`` layers;
    ``"half-stable"`` it returns from one side; ``"marginal"`` q* is 0 and is approached more slowly than
    exponentially, as a power of depth for most, so the gradient too changes as a power of depth;
    ``"neutral"`` every length is kept (ReLU and its family); ``"drifting"`` the length grows for ever, which
    does not change chi_1 (the same with biases).
    """

    activation: str
    sigma_w2: float
    sigma_b2: float
    q_star: float
    chi_q: float
    stability: str

    @property
    def sigma_w(self) -> float:
        """Standard deviation of a weight times sqrt(fan_in)."""
        return math.sqrt(self.sigma_w2)

    @property
    def stable(self) -> bool:
        """Whether a network that starts near q* stays near it."""
        return self.stability != "unstable"

    @property
    def gain(self) -> float:
        """The same as `sigma_w`, under the name that initializers use for it."""
        return self.sigma_w


def critical(activation: ActivationLike, sigma_b2: float = 0.0) -> CriticalPoint:
    """Return the critical point for biases of variance sigma_b2: a stable one if there is one.

    Formula: ``q - sigma_b2 = E phi^2 / E phi'^2`` at q, then ``sigma_w2 = 1 / E phi'^2``; so chi_1 = 1 and
    q = V(q). Of several, the stable one of least q comes first (`critical_points` gives all).

    Args:
        activation: a name from ``vg.activations.names()``, or a ``vg.Activation`` with parameters.
        sigma_b2: variance of a bias.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: a negative `sigma_b2`, or no critical point exists; the message says what does.

    Source: Poole et al. 2016; Schoenholz et al. 2017; Roberts, Yaida & Hanin 2022, ch. 5.

    Example:
        >>> point = critical("tanh", sigma_b2=0.05)
        >>> round(point.sigma_w2, 6), round(point.q_star, 6), point.stability
        (1.760955, 0.570048, 'stable')
    """
    found = critical_points(activation, sigma_b2)
    if not found:
        raise ArgumentError(_none(as_phi(activation), sigma_b2))
    return min(found, key=lambda point: (not point.stable, point.q_star))


def critical_points(activation: ActivationLike, sigma_b2: float = 0.0) -> tuple[CriticalPoint, ...]:
    """Return all critical points for biases of variance sigma_b2, by increasing q*; empty if there is none.

    A point at q* = 0 is one only where phi is smooth at 0 and the length comes down to 0 by itself.

    Raises:
        UnknownNameError, ArgumentError: as for `critical`.

    Example:
        >>> [(round(point.q_star, 4), point.stability) for point in critical_points("gelu", 0.05)]
        [(0.722, 'unstable')]
        >>> critical_points("softplus")
        ()
    """
    phi, b = as_phi(activation), as_variance(sigma_b2, "sigma_b2")
    if phi.homogeneous:
        slope2 = moments_of(phi, 1.0).slope2
        if slope2 == 0.0:
            return ()
        kind, q = ("neutral", 1.0) if b == 0.0 else ("drifting", math.inf)
        return (CriticalPoint(phi.label, 1.0 / slope2, b, q, 1.0, kind),)
    at_zero = _at_zero(phi) if b == 0.0 else None
    relative = phi.at_zero == 0.0
    table = shared_table(phi)

    def surplus(u: float) -> float:
        """Return (sigma_b2 + E phi^2 / E phi'^2) / q - 1, which is 0 at a critical point."""
        q = math.exp(u)
        square, slope2 = table(q)
        if slope2 == 0.0:
            return math.inf
        return b / q + square / slope2 / (1.0 if relative else q) - 1.0

    def exact(u: float) -> float:
        q = math.exp(u)
        m = moments_of(phi, q)
        return (b + m.square / m.slope2) / q - 1.0 if m.slope2 > 0.0 else math.inf

    # The two sides nearly agree at small q (to q^2 for tanh): only from where they can be told apart.
    found = [_point(phi, b, math.exp(u)) for u in roots(surplus, _grid(), exact)]
    return tuple(([at_zero] if at_zero else []) + found)


def critical_line(activation: ActivationLike, sigma_w2: float) -> tuple[CriticalPoint, ...]:
    """Return the critical points for weights of variance sigma_w2: those biases, if any, that make chi_1 = 1.

    Formula: ``E phi'(sqrt(q) z)^2 = 1 / sigma_w2`` gives q, then ``sigma_b2 = q - sigma_w2 E phi^2``, which
    must not be negative.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: `sigma_w2` is not above 0.

    Source: Xiao et al. 2018, arXiv:1806.05393, whose pair for tanh is (1.05, 2.01e-5).

    Example:
        >>> [(round(p.sigma_b2 * 1e5, 4), round(p.q_star, 6)) for p in critical_line("tanh", 1.05)]
        [(2.0105, 0.025921)]
    """
    phi, w = as_phi(activation), as_variance(sigma_w2, "sigma_w2", positive=True)
    if phi.homogeneous:
        return tuple(p for p in critical_points(activation) if abs(p.sigma_w2 / w - 1.0) < NOISE)
    table = shared_table(phi)
    lengths = roots(
        lambda u: w * table(math.exp(u))[1] - 1.0,
        _grid(),
        lambda u: w * moments_of(phi, math.exp(u)).slope2 - 1.0,
    )
    found = []
    for q in map(math.exp, lengths):
        b = q - w * moments_of(phi, q).square
        if b >= 0.0:
            found.append(_point(phi, b, q))
    return tuple(found)


def half_stable_points(activation: ActivationLike) -> tuple[CriticalPoint, ...]:
    """Return where both chi_1 = 1 and chi_q = 1: the corner of the critical line, best for SiLU and GELU.

    Formula: ``E[z phi phi'] / sqrt(q) = E phi'^2`` gives q, then sigma_w2 and sigma_b2 as for `critical`.

    Raises:
        UnknownNameError: no such activation.

    Source: Roberts, Yaida & Hanin 2022, sec. 5.3.4.

    Example:
        >>> point = half_stable_points("gelu")[0]
        >>> round(point.sigma_w2, 6), round(point.sigma_b2, 6), round(point.q_star, 5)
        (1.983058, 0.172922, 3.56155)
    """
    phi = as_phi(activation)
    if phi.homogeneous:
        return ()

    def split(u: float) -> float:
        m = moments_of(phi, math.exp(u))
        return m.length_slope / m.slope2 - 1.0 if m.slope2 > 0.0 else math.nan

    found = []
    for q in map(math.exp, _safe_roots(split)):
        m = moments_of(phi, q)
        b = q - m.square / m.slope2
        if b >= 0.0:
            found.append(CriticalPoint(phi.label, 1.0 / m.slope2, b, q, 1.0, "half-stable"))
    return tuple(found)


def _safe_roots(function: Callable[[float], float]) -> list[float]:
    grid = [u for u in _grid(0.4) if math.isfinite(function(u))]
    return roots(function, grid) if len(grid) > 2 else []


def _grid(step: float = 0.2) -> list[float]:
    return [float(u) for u in np.arange(math.log(_Q_LOW), math.log(_Q_HIGH), step)]


def _point(phi: Phi, b: float, q: float) -> CriticalPoint:
    m: Moments = moments_of(phi, q)
    w = 1.0 / m.slope2
    slope = w * m.length_slope
    kind = "half-stable" if abs(slope - 1.0) < 1e-7 else "stable" if slope < 1.0 else "unstable"
    return CriticalPoint(phi.label, w, b, q, slope, kind)


def _at_zero(phi: Phi) -> CriticalPoint | None:
    """Return the point at q* = 0 without biases, if the length comes down to it."""
    left, right = phi.slopes
    if phi.at_zero != 0.0 or left == 0.0 or abs(left - right) > 1e-12 * abs(left):
        return None
    w = 1.0 / left**2
    rises = any(w * moments_of(phi, q).square > q * (1.0 + 1e-12) for q in (1e-3, 1e-2))
    falls = not rises and w * moments_of(phi, 0.1).square < 0.1
    return CriticalPoint(phi.label, w, 0.0, 0.0, 1.0, "marginal") if falls else None


def _none(phi: Phi, sigma_b2: float) -> str:
    """Say why there is no critical point, and what there is instead."""
    text = f"{phi.label} has no critical point at sigma_b2={sigma_b2:g}: no length q is kept with chi_1 = 1"
    half = (phi.slopes[0] ** 2 + phi.slopes[1] ** 2) / 2
    if sigma_b2 == 0.0 and phi.at_zero == 0.0 and half > 0.0:
        text += (
            f"; for q -> 0 chi_1 -> {half:.4g} sigma_w2, so sigma_w2={1 / half:.5g} is critical there only"
        )
    corner = half_stable_points(phi)  # type: ignore[arg-type]  # resolved phi passes
    if corner:
        p = corner[0]
        return (
            f"{text}; sigma_b2={p.sigma_b2:.6g} with sigma_w2={p.sigma_w2:.6g} is one, at q*={p.q_star:.5g}"
        )
    for b in (0.05, 0.3):
        if b > sigma_b2 and critical_points(phi, b):  # type: ignore[arg-type]  # resolved phi passes
            return f"{text}; there is one at sigma_b2={b:g}"
    return (
        f"{text}; use a normalisation layer or residual blocks, or an activation that has one, such as tanh"
    )
