"""Layer: theory, one layer. Moments of an activation at a normal pre-activation, and the gains they give.

Knows activations and quadrature (`gaussian`), and how q = 0 and q = infinity are reached; knows no recursion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._checks import as_real
from .gaussian import ActivationLike, Phi, as_phi, as_variance, nodes

__all__ = ["Gain", "Moments", "gain", "moments"]

#: Lengths beyond which squares would leave the range of floats; the limits are reached long before.
_TINY, _HUGE = 1e-300, 1e280


@dataclass(frozen=True)
class Moments:
    """Means over h ~ N(mean, q) of an activation phi and its slope phi'; all dimensionless.

    ``value`` E phi, ``square`` E phi^2, ``slope`` E phi', ``slope2`` E phi'^2, ``slope4`` E phi'^4,
    ``radial`` E[(h - mean) phi phi'], ``square_slope2`` E[phi^2 phi'^2], ``radial2`` E[(h - mean)^2 phi'^2].
    """

    q: float
    mean: float
    value: float
    square: float
    slope: float
    slope2: float
    slope4: float
    radial: float
    square_slope2: float
    radial2: float

    @cached_property
    def variance(self) -> float:
        """Variance of phi."""
        return self.square - self.value**2

    @property
    def length_slope(self) -> float:
        """Return d E phi^2 / dq, which is ``radial / q``."""
        return self.radial / self.q if 0 < self.q < math.inf else self.slope2

    @property
    def kurtosis(self) -> float:
        """E phi'^4 / (E phi'^2)^2: 1 for a linear layer, 2 for ReLU; how unequally units pass gradient."""
        return self.slope4 / self.slope2**2 if self.slope2 > 0 else math.inf


@dataclass(frozen=True)
class Gain:
    """What weights must be multiplied by, relative to N(0, 1/fan_in), to keep length or gradient at length q.

    ``forward`` is sqrt(q / E phi^2), ``backward`` 1 / sqrt(E phi'^2), ``centred`` 1 / sqrt(Var phi) (the gain
    of normaliser-free networks and of weight standardisation). With the forward gain q stays, ``chi_1`` is
    then the squared gradient factor of a layer and ``chi_q`` the slope of the length map: above 1, q leaves
    its place.
    """

    forward: float
    backward: float
    centred: float
    chi_1: float
    chi_q: float


def moments(activation: ActivationLike, q: float = 1.0, mean: float = 0.0) -> Moments:
    """Return the moments of an activation at a pre-activation h ~ N(mean, q).

    Formula: ``E f(h) = int f(mean + sqrt(q) z) exp(-z^2/2) / sqrt(2 pi) dz``, relative accuracy about 1e-13.

    Args:
        activation: a name from ``vg.activations.names()``, or a ``vg.Activation`` with parameters.
        q: variance of h, at least 0; infinity gives the limits, which are those of the slopes far out.
        mean: mean of h.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: a negative `q`, or not numbers.

    Source: Poole et al. 2016, eq. 3; the gains of Brock et al. 2021, arXiv:2101.08692, are ``centred``.

    Example:
        >>> m = moments("relu")
        >>> round(m.square, 12), round(m.slope2, 12)
        (0.5, 0.5)
    """
    phi = as_phi(activation)
    if q != math.inf:
        q = as_variance(q, "q")
    return moments_of(phi, q, as_real(mean, "mean"))


def moments_of(phi: Phi, q: float, mean: float = 0.0) -> Moments:
    """Return `moments` of a resolved activation, arguments unchecked."""
    if q > _HUGE or (q < _TINY and mean == 0.0):
        return _limit(phi, q)
    if q < _TINY:
        at, by = (float(f(np.array([mean]))[0]) for f in (phi.value, phi.slope))
        return Moments(q, mean, at, at**2, by, by**2, by**4, 0.0, (at * by) ** 2, 0.0)
    if phi.homogeneous and mean == 0.0:
        return _homogeneous(phi, q)
    z, x, w = nodes(phi, q, mean)
    value, slope = phi.value(x), phi.slope(x)
    slope2, centred = slope * slope, math.sqrt(q) * z
    return Moments(
        q=q,
        mean=mean,
        value=float(w @ value),
        square=float(w @ (value * value)),
        slope=float(w @ slope),
        slope2=float(w @ slope2),
        slope4=float(w @ (slope2 * slope2)),
        radial=float(w @ (centred * value * slope)),
        square_slope2=float(w @ (value * value * slope2)),
        radial2=float(w @ (centred * centred * slope2)),
    )


def gain(activation: ActivationLike, q: float = 1.0) -> Gain:
    """Return the gains that keep length, gradient or variance at pre-activations of mean square q.

    Formula: forward ``sqrt(q / E phi^2)``, backward ``1/sqrt(E phi'^2)``, centred ``sqrt(q / Var phi)``;
    ``chi_1 = q E phi'^2 / E phi^2``, ``chi_q = E[h phi phi'] / E phi^2``. Only for the ReLU family do forward
    and backward agree, so no gain keeps both in any other plain network.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: `q` is not above 0.

    Source: He et al. 2015, sec. 2.2 (both directions for ReLU); Brock et al. 2021, arXiv:2101.08692.

    Example:
        >>> g = gain("tanh")
        >>> round(g.forward, 5), round(g.backward, 5), round(g.chi_1, 5)
        (1.59254, 1.46741, 1.17781)
    """
    m = moments(activation, as_variance(q, "q", positive=True))

    def root(top: float, bottom: float) -> float:
        return math.sqrt(top / bottom) if bottom > 0 else math.inf

    chi_1, chi_q = (top / m.square if m.square > 0 else math.nan for top in (m.q * m.slope2, m.radial))
    return Gain(root(m.q, m.square), root(1.0, m.slope2), root(m.q, m.variance), chi_1, chi_q)


def _homogeneous(phi: Phi, q: float) -> Moments:
    """Closed forms for phi = a x (x < 0), b x (x > 0), so that a critical network is critical to the bit."""
    a, b = phi.slopes
    half2, half4, root = (a**2 + b**2) / 2, (a**4 + b**4) / 2, math.sqrt(q / (2 * math.pi))
    return Moments(
        q=q,
        mean=0.0,
        value=(b - a) * root,
        square=q * half2,
        slope=(a + b) / 2,
        slope2=half2,
        slope4=half4,
        radial=q * half2,
        square_slope2=q * half4,
        radial2=q * half2,
    )


def _limit(phi: Phi, q: float) -> Moments:
    """The limits q -> 0 and q -> infinity, where only the slopes at 0, or far out, count."""
    left, right = phi.slopes if q == 0 or q < 1 else phi.far_slopes
    slope2, slope4 = (left**2 + right**2) / 2, (left**4 + right**4) / 2
    if q < 1:
        at = phi.at_zero
        return Moments(
            q=q,
            mean=0.0,
            value=at,
            square=at**2 + q * slope2,
            slope=(left + right) / 2,
            slope2=slope2,
            slope4=slope4,
            radial=q * slope2,
            square_slope2=at**2 * slope2,
            radial2=q * slope2,
        )
    ends = phi.value(np.array([-1e150, 1e150]))
    if slope2 < 1e-200:  # bounded: a step, whose slope is left behind
        at, square = float(np.mean(ends)), float(np.mean(ends**2))
        return Moments(q, 0.0, at, square, (left + right) / 2, 0.0, slope4, 0.0, 0.0, 0.0)
    return Moments(
        q=q,
        mean=0.0,
        value=(right - left) * math.sqrt(q / (2 * math.pi)) if right != left else 0.0,
        square=q * slope2,
        slope=(left + right) / 2,
        slope2=slope2,
        slope4=slope4,
        radial=q * slope2,
        square_slope2=q * slope4,
        radial2=q * slope2,
    )
