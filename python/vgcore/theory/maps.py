"""Layer: theory, from layer to layer. The maps of length and gradient, and their iteration through depth.

Knows moments of activations; knows no fixed point and no network. A million layers take seconds: the two
functions of q that a recursion needs are interpolated to 1e-14, not integrated anew at every layer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .._checks import as_real, as_size
from ..errors import ArgumentError
from .gaussian import ActivationLike, FloatArray, Phi, as_phi, as_variance
from .moments import moments_of

__all__ = ["Trajectory", "chi_1", "chi_q", "length_map", "trajectory"]

_DEGREE = 20
#: Span of ln q that one panel of interpolation covers, and the lengths that panels cover.
_SPAN = 0.5
_RANGE = (1e-30, 1e30)


def length_map(
    activation: ActivationLike, q: float, sigma_w2: float, sigma_b2: float = 0.0, *, keep_prob: float = 1.0
) -> float:
    """Return q of the next layer: the variance of its pre-activations.

    Formula: ``q' = sigma_w2 / keep_prob * E phi(sqrt(q) z)^2 + sigma_b2``; `keep_prob` is that of inverted
    dropout on the activations.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: a negative number, or `keep_prob` outside (0, 1].

    Source: Poole et al. 2016, eq. 3; with dropout Schoenholz et al. 2017, sec. 4.

    Example:
        >>> round(length_map("relu", 3.0, sigma_w2=2.0), 12)  # He weights keep the length
        3.0
    """
    w, b = effective(sigma_w2, sigma_b2, keep_prob)
    return w * moments_of(as_phi(activation), as_variance(q, "q")).square + b


def chi_1(activation: ActivationLike, q: float, sigma_w2: float, *, keep_prob: float = 1.0) -> float:
    """Return the factor of the squared gradient norm, going back through one layer at length q.

    Formula: ``chi_1 = sigma_w2 / keep_prob * E phi'(sqrt(q) z)^2``. Exact for weights N(0, sigma_w2 / fan_in)
    and any widths if the norm is the sum over units; log10 of the norm changes by ``0.5 log10 chi_1``.

    Raises:
        UnknownNameError, ArgumentError: as for `length_map`.

    Source: Poole et al. 2016, eq. 3 to 7; as gradient factor Schoenholz et al. 2017, sec. 5.

    Example:
        >>> round(chi_1("relu", 3.0, sigma_w2=1.0), 12)  # Xavier weights lose half at each ReLU layer
        0.5
    """
    w, _ = effective(sigma_w2, 0.0, keep_prob)
    return w * moments_of(as_phi(activation), as_variance(q, "q")).slope2


def chi_q(activation: ActivationLike, q: float, sigma_w2: float, *, keep_prob: float = 1.0) -> float:
    """Return the slope dq'/dq of the length map: below 1 a fixed point of q is stable, above 1 it is not.

    Formula: ``chi_q = sigma_w2 / keep_prob * E[z phi phi'] / sqrt(q)``, which for smooth phi is
    ``sigma_w2 E[phi'^2 + phi phi'']``. It is also the amplitude factor of the gradient along the direction of
    h itself (see `two_mode`).

    Raises:
        UnknownNameError, ArgumentError: as for `length_map`.

    Source: Schoenholz et al. 2017, eq. 7 to 10; Roberts, Yaida & Hanin 2022, ch. 5 (chi parallel).

    Example:
        >>> chi_q("gelu", 1.0, sigma_w2=2.3517) > 1  # at q = 1 GELU does not hold its length
        True
    """
    w, _ = effective(sigma_w2, 0.0, keep_prob)
    return w * moments_of(as_phi(activation), as_variance(q, "q")).length_slope


@dataclass(frozen=True, repr=False)
class Trajectory:
    """Lengths and gradient factors through `depth` layers: what `trajectory` returns.

    ``q`` (depth,) holds the variance of each pre-activation, the given one first; ``chi`` (depth - 1,) the
    squared gradient factor from layer l + 1 back to layer l; ``log10_grad_norm`` (depth,) the log10 norm of
    dL/dh at each layer, 0 at the last.
    """

    q: FloatArray
    chi: FloatArray
    log10_grad_norm: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Sum the factors from the last layer back."""
        with np.errstate(divide="ignore"):
            back = np.cumsum(0.5 * np.log10(self.chi)[::-1])[::-1]
        object.__setattr__(self, "log10_grad_norm", np.concatenate([back, [0.0]]))
        for array in (self.q, self.chi, self.log10_grad_norm):
            array.setflags(write=False)

    @property
    def log10_ratio(self) -> float:
        """log10 of the gradient norm at the first layer over that at the last."""
        return float(self.log10_grad_norm[0])

    def __repr__(self) -> str:
        """Show both ends."""
        return (
            f"Trajectory(depth={len(self.q)}, q={self.q[0]:.4g} -> {self.q[-1]:.4g}, "
            f"log10_ratio={self.log10_ratio:.4f})"
        )


def trajectory(
    activation: ActivationLike,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    q1: float = 1.0,
    keep_prob: float = 1.0,
) -> Trajectory:
    """Follow length and gradient through `depth` layers, from pre-activations of variance `q1`.

    Formula: ``q[l+1] = V(q[l])``, ``|delta[l]|^2 = chi_1(q[l]) |delta[l+1]|^2`` with ``delta = dL/dh``.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range.

    Source: Schoenholz et al. 2017, sec. 5.

    Example:
        >>> trajectory("sigmoid", 1001, sigma_w2=1.0).log10_ratio < -600
        True
    """
    phi, depth = as_phi(activation), as_size(depth, "depth")
    w, b = effective(sigma_w2, sigma_b2, keep_prob)
    q = np.empty(depth)
    chi = np.empty(depth - 1)
    q[0] = as_variance(q1, "q1")
    table = shared_table(phi)
    at = float(q[0])
    for layer in range(depth - 1):
        ratio, slope2 = table(at)
        chi[layer] = w * slope2
        after = w * ratio * at + b if phi.at_zero == 0.0 else w * ratio + b
        q[layer + 1] = after
        if after == at:  # to the bit: every later layer is like this one
            q[layer + 1 :], chi[layer + 1 :] = after, w * slope2
            break
        at = after
    return Trajectory(q, chi)


class Table:
    """Means over h ~ N(0, q) for one activation, interpolated: call it with q, or ask for `more`.

    A call returns ``E phi^2 / q`` and ``E phi'^2`` where phi(0) = 0, else ``E phi^2`` and ``E phi'^2``.
    Panels of Chebyshev polynomials in ln q are made when q first comes by.
    """

    __slots__ = ("_panels", "_phi", "_relative")

    def __init__(self, phi: Phi) -> None:
        """Start with no panel."""
        self._phi, self._relative = phi, phi.at_zero == 0.0
        self._panels: dict[int, list[Callable[[float], float]]] = {}

    def __call__(self, q: float) -> tuple[float, float]:
        """Return ``E phi^2`` (over q where phi(0) = 0) and ``E phi'^2``."""
        phi = self._phi
        if phi.homogeneous:
            half = (phi.slopes[0] ** 2 + phi.slopes[1] ** 2) / 2
            return half, half
        found = self._place(q)
        if found is None:
            m = moments_of(phi, q)
            if not self._relative:
                return m.square, m.slope2
            return (m.slope2 if q < 1 or m.square == math.inf else m.square / q), m.slope2
        panel, u = found
        return panel[0](u), panel[1](u)

    def more(self, q: float) -> tuple[float, float, float, float, float]:
        """Return ``value``, ``slope4``, ``radial``, ``square_slope2`` and ``radial2`` of `Moments`."""
        found = self._place(q)
        if found is None or self._phi.homogeneous:
            m = moments_of(self._phi, q)
            return m.value, m.slope4, m.radial, m.square_slope2, m.radial2
        panel, u = found
        unit, root = (q, math.sqrt(q)) if self._relative else (1.0, 1.0)
        value, slope4, radial, square_slope2, radial2 = (f(u) for f in panel[2:])
        return value * root, slope4, radial * q, square_slope2 * unit, radial2 * q

    def _place(self, q: float) -> tuple[list[Callable[[float], float]], float] | None:
        """Return the panel that q falls in, and where in it (-1 to 1); None outside all panels."""
        if not _RANGE[0] < q < _RANGE[1]:
            return None
        ln = math.log(q) / _SPAN
        index = math.floor(ln)
        panel = self._panels.get(index)
        if panel is None:
            panel = self._panels[index] = self._panel(index)
        return panel, 2.0 * (ln - index) - 1.0

    def _panel(self, index: int) -> list[Callable[[float], float]]:
        angles = (np.arange(_DEGREE + 1) + 0.5) * math.pi / (_DEGREE + 1)
        q = np.exp(_SPAN * (index + (np.cos(angles) + 1) / 2))
        found = [moments_of(self._phi, float(x)) for x in q]
        names = ("square", "slope2", "value", "slope4", "radial", "square_slope2", "radial2")
        rows = np.array([[getattr(m, name) for name in names] for m in found]).T
        rows[4] /= q
        rows[6] /= q
        if self._relative:  # relative to q, or what tends to 0 would lose its digits
            rows[0] /= q
            rows[2] /= np.sqrt(q)
            rows[5] /= q
        basis = np.cos(np.outer(np.arange(_DEGREE + 1), angles)) * 2 / (_DEGREE + 1)
        basis[0] /= 2
        return [_clenshaw(basis @ row) for row in rows]


@functools.lru_cache(maxsize=64)
def shared_table(phi: Phi) -> Table:
    """Return the interpolated functions of one activation, made once."""
    return Table(phi)


def _clenshaw(coefficients: FloatArray) -> Callable[[float], float]:
    """Return the sum of Chebyshev polynomials as a function of a float; plain Python is fastest for one."""
    first, *rest = (float(c) for c in coefficients)
    rest.reverse()

    def evaluate(u: float) -> float:
        last, before = 0.0, 0.0
        for c in rest:
            last, before = 2.0 * u * last - before + c, last
        return u * last - before + first

    return evaluate


def effective(sigma_w2: float, sigma_b2: float, keep_prob: float) -> tuple[float, float]:
    """Return checked ``sigma_w2 / keep_prob`` and `sigma_b2`."""
    p = as_real(keep_prob, "keep_prob")
    if not 0.0 < p <= 1.0:
        raise ArgumentError(f"keep_prob: expected a probability above 0 and at most 1, got {p:g}")
    return as_variance(sigma_w2, "sigma_w2") / p, as_variance(sigma_b2, "sigma_b2")
