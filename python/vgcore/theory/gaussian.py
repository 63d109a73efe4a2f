"""Layer: theory, the lowest part. Expectations of an activation over a normal argument, to about 1e-13.

Knows activations and quadrature; knows no network and no recursion. Every other file here asks this one for
nodes and weights.

How: Gauss-Legendre panels of 16 nodes, split wherever the activation has a kink or a jump, and doubling in
width away from 0, where all activations of the catalogue have their structure. Gauss-Hermite nodes, the usual
choice, are wrong in the third digit for kinked activations. Kinks are found, not listed: a new activation
needs no line here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import activations
from .._checks import as_real, shown
from ..errors import ArgumentError
from ..layers import Activation

FloatArray: TypeAlias = NDArray[np.float64]

#: What every function here takes as `activation`: a catalogue name, or an Activation with parameters.
ActivationLike: TypeAlias = str | Activation

#: Beyond this many deviations nothing is left: exp(-13^2 / 2) = 2e-37.
REACH = 13.0
#: With a mean the tail can be all there is (a ReLU with a large negative bias); exp(-38^2 / 2) = 1e-314.
FAR_REACH = 38.0
#: Width of the innermost panel in the activation's own argument; panels double from here.
_FINEST = 2.0**-12
_WIDEST = 0.5
_GAUSS_T, _GAUSS_W = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True)
class Phi:
    """One activation as the theory needs it: value, slope, where it is not smooth, and its limits.

    `kinks` are where value or slope jump, 0 always among them; `at_zero` is phi(0); `slopes` are the
    one-sided slopes at 0 and `far_slopes` those at minus and plus infinity; `homogeneous` means phi(c x) = c
    phi(x) for c > 0, the ReLU family and the identity.
    """

    name: str
    params: tuple[tuple[str, float], ...]
    kinks: tuple[float, ...]
    at_zero: float
    slopes: tuple[float, float]
    far_slopes: tuple[float, float]
    homogeneous: bool

    def value(self, x: FloatArray) -> FloatArray:
        """Return phi(x), elementwise."""
        return activations.value(self.name, x, **dict(self.params))

    def slope(self, x: FloatArray) -> FloatArray:
        """Return phi'(x), elementwise."""
        return activations.derivative(self.name, x, **dict(self.params))

    @property
    def label(self) -> str:
        """The activation as a message shows it: ``leaky_relu(negative_slope=0.2)``."""
        inside = ", ".join(f"{key}={value:g}" for key, value in self.params)
        return f"{self.name}({inside})" if inside else self.name


def as_phi(activation: Any) -> Phi:
    """Return the activation that a name or a ``vg.Activation`` stands for.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: neither a name nor an Activation.

    Example:
        >>> as_phi("hardtanh").kinks
        (-1.0, 0.0, 1.0)
    """
    if isinstance(activation, Phi):
        return activation
    if isinstance(activation, Activation):
        return _phi(activation.function, tuple(sorted(activation.params.items())))
    if isinstance(activation, str):
        return _phi(activations.describe(activation).name, ())
    raise ArgumentError(
        f"activation: expected a name such as 'tanh' or a vg.Activation, got {shown(activation)}"
    )


def as_variance(value: Any, name: str, *, positive: bool = False) -> float:
    """Return a variance or mean square as a float, or raise ArgumentError: at least 0, or above 0."""
    number = as_real(value, name, minimum=0.0)
    if positive and number == 0.0:
        raise ArgumentError(f"{name}: expected a number above 0, got 0")
    return number


def nodes(phi: Phi, q: float, mean: float = 0.0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``z, x, weights``: the mean of f over h ~ N(mean, q) is ``(weights * f(x)).sum()``.

    ``x = mean + sqrt(q) z``. All three have the same length; nodes and weights are mirrored about 0 when
    `mean` is 0, so that odd functions cancel to the last bit.
    """
    scale = math.sqrt(q)
    if mean == 0.0:
        marks = np.unique(np.abs(phi.kinks)) / scale
        edges = graded(marks[marks < REACH], 0.0, REACH, _FINEST / scale)
        z, w = panel_nodes(edges)
        z, w = np.concatenate([-z[::-1], z]), np.concatenate([w[::-1], w])
    else:
        marks = (np.array(phi.kinks) - mean) / scale
        edges = graded(marks[np.abs(marks) < FAR_REACH], -FAR_REACH, FAR_REACH, _FINEST / scale)
        z, w = panel_nodes(edges)
    return z, mean + scale * z, w * density(z)


def density(z: FloatArray) -> FloatArray:
    """Return the standard normal density."""
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def graded(marks: FloatArray, low: float, high: float, finest: float) -> FloatArray:
    """Return panel edges from `low` to `high`: split at every mark, panels doubling in width away from it."""
    finest = min(finest, _WIDEST)
    count = max(0, math.ceil(math.log2(_WIDEST / finest)))
    near = finest * 2.0 ** np.arange(count + 1)
    steps = np.arange(low, high, _WIDEST)
    pieces = [steps, np.array([high]), marks]
    for mark in marks:
        pieces += [mark + near, mark - near]
    edges = np.concatenate(pieces)
    return np.unique(np.clip(edges, low, high))


def panel_nodes(edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights of Gauss-Legendre over panels; `edges` (..., P + 1) gives (..., 16 P)."""
    half = np.diff(edges, axis=-1)[..., None] / 2
    middle = (edges[..., 1:] + edges[..., :-1])[..., None] / 2
    shape = (*edges.shape[:-1], (edges.shape[-1] - 1) * len(_GAUSS_T))
    return (middle + half * _GAUSS_T).reshape(shape), (half * _GAUSS_W).reshape(shape)


@functools.lru_cache(maxsize=256)
def _phi(name: str, params: tuple[tuple[str, float], ...]) -> Phi:
    entry = activations.describe(name)
    checked = entry.check_params(dict(params))
    known = tuple((key, float(value)) for key, value in checked.items())

    def value(x: Iterable[float]) -> FloatArray:
        return activations.value(name, np.asarray(x, np.float64), **dict(known))

    def slope(x: Iterable[float]) -> FloatArray:
        return activations.derivative(name, np.asarray(x, np.float64), **dict(known))

    left, right = (float(s) for s in slope([-1e-200, 1e-200]))
    sample = np.array([-1e6, -3.7, -0.2, -1e-9, 1e-9, 0.3, 5.1, 1e6])
    straight = np.where(sample < 0, left, right) * sample
    return Phi(
        name=name,
        params=tuple(item for item in known if item[1] != entry.defaults[item[0]]),
        kinks=_kinks(value, slope),
        at_zero=float(value([0.0])[0]),
        slopes=(left, right),
        far_slopes=tuple(float(s) for s in slope([-1e150, 1e150])),  # type: ignore[arg-type]  # a list does
        homogeneous=bool(np.allclose(value(sample), straight, rtol=1e-14, atol=0.0)),
    )


def _kinks(value: Any, slope: Any) -> tuple[float, ...]:
    """Return where value or slope jump, and 0: every cell of a grid is bisected, what stays a jump kept."""
    # Irrational spacing: no kink that anybody writes down falls on the grid.
    grid = np.arange(-128, 129) * (math.pi / 12)
    found = [0.0]
    for function in (slope, value):
        low, high = grid[:-1].copy(), grid[1:].copy()
        for _ in range(60):
            middle = 0.5 * (low + high)
            at_low, at_middle, at_high = function(low), function(middle), function(high)
            lower = np.abs(at_middle - at_low) > np.abs(at_high - at_middle)
            low, high = np.where(lower, low, middle), np.where(lower, middle, high)
        jump = np.abs(function(high) - function(low)) > 1e-9
        found += [float(x) for x in 0.5 * (low + high)[jump]]
    # The bisection ends within an ulp or so of the kink: a number that is nearly a short decimal is that one.
    tidy = {round(x, 9) + 0.0 if abs(x - round(x, 9)) < 1e-13 * max(1.0, abs(x)) else x for x in found}
    return tuple(sorted(tidy))
