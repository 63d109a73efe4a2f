"""Reference layer of the tests: every activation and its derivative, slow and readable, in NumPy.

Real (float64) and complex128 arguments are both accepted: each formula is analytic and each branch looks
at the real part only, so that a complex step x + i*h gives the derivative in the imaginary part without
any cancellation.  Knows nothing of vgcore; the formulas are written from their definitions (PyTorch's
conventions), not copied from the core, and are themselves checked against 60-digit arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Params = Mapping[str, float]

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
SQRT_2 = math.sqrt(2.0)
SQRT_PI = math.sqrt(math.pi)
SQRT_2PI = math.sqrt(2.0 * math.pi)
GELU_C = math.sqrt(2.0 / math.pi)


class Activation(NamedTuple):
    """Value and derivative, both functions of (x, parameters), and the default parameters."""

    value: Callable[[Array, Params], Array]
    derivative: Callable[[Array, Params], Array]
    defaults: dict[str, float]


def _where(condition: Array, yes: Callable[[Array], Array], no: Callable[[Array], Array], x: Array) -> Array:
    """Evaluate each branch only where it is taken: no overflow warnings, no NaN from the other branch."""
    out = np.empty_like(x)
    out[condition] = yes(x[condition])
    out[~condition] = no(x[~condition])
    return out


def _negative(x: Array) -> Array:
    return np.asarray(x.real < 0)


# --- pieces ---------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    """1/(1+exp(-x)), from the exponential that cannot overflow."""
    return _where(_negative(x), lambda t: np.exp(t) / (1 + np.exp(t)), lambda t: 1 / (1 + np.exp(-t)), x)


def _sigmoid_slope(x: Array) -> Array:
    return sigmoid(x) * sigmoid(-x)


def _expm1(x: Array) -> Array:
    """exp(x)-1; NumPy's real expm1, and for complex arguments exp(a)(cos b) - 1 = expm1(a) - 2 exp(a)
    sin(b/2)^2."""
    if not np.iscomplexobj(x):
        return np.asarray(np.expm1(x))
    a, b = x.real, x.imag
    return np.asarray(np.expm1(a) - 2 * np.exp(a) * np.sin(b / 2) ** 2 + 1j * np.exp(a) * np.sin(b))


def _log1p(x: Array) -> Array:
    """log(1+x) for |x| <= 1: 2 atanh(x/(2+x)), which keeps relative accuracy for small complex x."""
    if not np.iscomplexobj(x):
        return np.asarray(np.log1p(x))
    a, b = x.real, x.imag
    return np.asarray(0.5 * np.log1p(2 * a + a * a + b * b) + 1j * np.arctan2(b, 1 + a))


def _log1p_exp(x: Array) -> Array:
    """log(1+exp(x)) for every x."""
    return _where(_negative(x), lambda t: _log1p(np.exp(t)), lambda t: t + _log1p(np.exp(-t)), x)


def _tanh(x: Array) -> Array:
    """expm1(2x)/(expm1(2x)+2) from the side that cannot overflow; odd, so relative accuracy holds at 0."""

    def left(t: Array) -> Array:
        m = _expm1(2 * t)
        return m / (m + 2)

    return _where(_negative(x), left, lambda t: -left(-t), x)


def _tanh_slope(x: Array) -> Array:
    """sech^2 = 4E/(1+E)^2 with E = exp(-2|x|): right where 1 - tanh^2 is 0."""
    e = np.exp(-2 * np.where(_negative(x), -x, x))
    return 4 * e / (1 + e) ** 2


def _erf_series(x: Array) -> Array:
    """2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1)/(2n+1)!!: all terms of one sign, no cancellation; |x| < 3."""
    term, total = x, x
    for n in range(1, 120):
        term = term * 2 * x * x / (2 * n + 1)
        total = total + term
    return 2 / SQRT_PI * np.exp(-x * x) * total


def _erfcx(x: Array) -> Array:
    """exp(x^2) erfc(x) for Re x >= 1 by its continued fraction (backward recurrence, 400 levels)."""
    f = x
    for n in range(400, 0, -1):
        f = x + (n / 2) / f
    return 1 / (SQRT_PI * f)


def erf(x: Array) -> Array:
    """Error function; the series below 3, one minus the complement above.

    A complex step h only ever enters to first order, erf(a + ih) = erf(a) + ih erf'(a): the series itself
    would find that small slope as a difference of large terms.
    """
    if np.iscomplexobj(x):
        return erf(x.real) + 1j * x.imag * (2 / SQRT_PI) * np.exp(-x.real * x.real)

    def tail(t: Array) -> Array:
        return _where(
            _negative(t),
            lambda s: np.exp(-s * s) * _erfcx(-s) - 1,
            lambda s: 1 - np.exp(-s * s) * _erfcx(s),
            t,
        )

    return _where(np.abs(x.real) < 3, _erf_series, tail, x)


def _normal_cdf(x: Array) -> Array:
    """Phi(x), relative accuracy kept in the left tail."""

    def left(t: Array) -> Array:
        return 0.5 * np.exp(-t * t / 2) * _erfcx(-t / SQRT_2)

    return _where(np.asarray(x.real < -SQRT_2), left, lambda t: 0.5 + 0.5 * erf(t / SQRT_2), x)


def _normal_pdf(x: Array) -> Array:
    return np.exp(-x * x / 2) / SQRT_2PI


def _gelu_slope(x: Array) -> Array:
    """Phi(x) + x phi(x); in the left tail phi(x) (Mills(-x) + x), where the plain sum cancels."""

    def left(t: Array) -> Array:
        return _normal_pdf(t) * (math.sqrt(math.pi / 2) * _erfcx(-t / SQRT_2) + t)

    return _where(np.asarray(x.real < -SQRT_2), left, lambda t: _normal_cdf(t) + t * _normal_pdf(t), x)


def _gelu_tanh_inner(x: Array) -> Array:
    return GELU_C * (x + 0.044715 * x * x * x)


def _gelu_tanh(x: Array, _: Params) -> Array:
    """0.5 x (1 + tanh u) = x sigmoid(2u)."""
    return x * sigmoid(2 * _gelu_tanh_inner(x))


def _gelu_tanh_slope(x: Array, _: Params) -> Array:
    u, du = _gelu_tanh_inner(x), GELU_C * (1 + 3 * 0.044715 * x * x)
    return sigmoid(2 * u) + 2 * x * du * _sigmoid_slope(2 * u)


def _mish(x: Array, _: Params) -> Array:
    """x tanh(log(1+e^x)) = x n/(n+2) with n = w(w+2), w = e^x; for x > 0 the same in 1/w."""

    def left(t: Array) -> Array:
        w = np.exp(t)
        return t * w * (w + 2) / (w * (w + 2) + 2)

    def right(t: Array) -> Array:
        v = np.exp(-t)
        return t * (1 + 2 * v) / (1 + 2 * v + 2 * v * v)

    return _where(_negative(x), left, right, x)


def _mish_slope(x: Array, _: Params) -> Array:
    def left(t: Array) -> Array:
        w = np.exp(t)
        n = w * (w + 2)
        return n / (n + 2) + 4 * t * w * (1 + w) / (n + 2) ** 2

    def right(t: Array) -> Array:
        v = np.exp(-t)
        d = 1 + 2 * v + 2 * v * v
        return (1 + 2 * v) / d + 4 * t * v * v * (1 + v) / d**2

    return _where(_negative(x), left, right, x)


def _tanhshrink(x: Array, _: Params) -> Array:
    """x - tanh x; near 0 from (x cosh x - sinh x)/cosh x with the series of the numerator."""

    def near(t: Array) -> Array:
        total, power = t * 0, t
        for k in range(1, 16):
            power = power * t * t
            total = total + power * (2 * k) / math.factorial(2 * k + 1)
        return total / np.cosh(t)

    return _where(np.asarray(np.abs(x.real) < 1), near, lambda t: t - _tanh(t), x)


def _clip(x: Array, low: float, high: float) -> Array:
    """np.clip by the real part; inside the interval the argument itself, with its imaginary part."""
    out = np.where(x.real <= low, low, np.where(x.real >= high, high, x))
    return np.where(np.isnan(x.real), x, out)


def _inside(x: Array, low: float, high: float) -> Array:
    return np.asarray((x.real > low) & (x.real < high))


def _steps(condition: Array, x: Array, yes: float, no: float) -> Array:
    """yes where the condition holds, no elsewhere, NaN where x is NaN."""
    return np.where(np.isnan(x.real), np.nan, np.where(condition, yes, no)).astype(x.dtype)


def _elu_like(
    scale: float, alpha: float, width: float
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """scale*(x for x > 0, alpha*(exp(x/width)-1) otherwise) and its derivative; at 0 the slope of the left
    side."""

    def value(x: Array) -> Array:
        return _where(
            np.asarray(x.real <= 0), lambda t: scale * alpha * _expm1(t / width), lambda t: scale * t, x
        )

    def slope(x: Array) -> Array:
        return _where(
            np.asarray(x.real <= 0),
            lambda t: scale * alpha / width * np.exp(t / width),
            lambda t: scale + 0 * t,
            x,
        )

    return value, slope


def _softplus(x: Array, p: Params) -> Array:
    b = p["beta"]
    return _where(np.asarray(x.real * b > p["threshold"]), lambda t: t, lambda t: _log1p_exp(b * t) / b, x)


def _softplus_slope(x: Array, p: Params) -> Array:
    b = p["beta"]
    return _where(np.asarray(x.real * b > p["threshold"]), lambda t: 1 + 0 * t, lambda t: sigmoid(b * t), x)


def _silu_slope(x: Array, p: Params) -> Array:
    b = p["beta"]
    return sigmoid(b * x) * (1 + b * x * sigmoid(-b * x))


def _hardswish_slope(x: Array, _: Params) -> Array:
    inner = np.where(_inside(x, -3, 3), x / 3 + 0.5, 0.0)
    return np.where(np.isnan(x.real), np.nan, np.where(x.real >= 3, 1.0, inner)).astype(x.dtype)


def _leaky(key: str) -> Callable[[Array, Params], Array]:
    return lambda x, p: np.where(x.real > 0, x, p[key] * x)


def _leaky_slope(key: str) -> Callable[[Array, Params], Array]:
    return lambda x, p: _steps(x.real > 0, x, 1.0, p[key])


def _abs(x: Array) -> Array:
    return np.where(_negative(x), -x, x)


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda x, p: x + 0, lambda x, p: np.ones_like(x), {}),
    "sigmoid": Activation(lambda x, p: sigmoid(x), lambda x, p: _sigmoid_slope(x), {}),
    "tanh": Activation(lambda x, p: _tanh(x), lambda x, p: _tanh_slope(x), {}),
    "relu": Activation(
        lambda x, p: np.where(x.real > 0, x, 0 * x), lambda x, p: _steps(x.real > 0, x, 1.0, 0.0), {}
    ),
    "leaky_relu": Activation(
        _leaky("negative_slope"), _leaky_slope("negative_slope"), {"negative_slope": 0.01}
    ),
    "prelu": Activation(_leaky("init"), _leaky_slope("init"), {"init": 0.25}),
    "elu": Activation(
        lambda x, p: _elu_like(1, p["alpha"], 1)[0](x),
        lambda x, p: _elu_like(1, p["alpha"], 1)[1](x),
        {"alpha": 1.0},
    ),
    "selu": Activation(
        lambda x, p: _elu_like(SELU_SCALE, SELU_ALPHA, 1)[0](x),
        lambda x, p: _elu_like(SELU_SCALE, SELU_ALPHA, 1)[1](x),
        {},
    ),
    "celu": Activation(
        lambda x, p: _elu_like(1, p["alpha"], p["alpha"])[0](x),
        lambda x, p: _elu_like(1, p["alpha"], p["alpha"])[1](x),
        {"alpha": 1.0},
    ),
    "silu": Activation(lambda x, p: x * sigmoid(p["beta"] * x), _silu_slope, {"beta": 1.0}),
    "gelu": Activation(lambda x, p: x * _normal_cdf(x), lambda x, p: _gelu_slope(x), {}),
    "gelu_tanh": Activation(_gelu_tanh, _gelu_tanh_slope, {}),
    "mish": Activation(_mish, _mish_slope, {}),
    "softplus": Activation(_softplus, _softplus_slope, {"beta": 1.0, "threshold": 20.0}),
    "softsign": Activation(lambda x, p: x / (1 + _abs(x)), lambda x, p: 1 / (1 + _abs(x)) ** 2, {}),
    "erf": Activation(lambda x, p: erf(x), lambda x, p: 2 / SQRT_PI * np.exp(-x * x), {}),
    "arctan": Activation(lambda x, p: np.arctan(x), lambda x, p: 1 / (1 + x * x), {}),
    "hardtanh": Activation(
        lambda x, p: _clip(x, p["min_val"], p["max_val"]),
        lambda x, p: _steps(_inside(x, p["min_val"], p["max_val"]), x, 1.0, 0.0),
        {"min_val": -1.0, "max_val": 1.0},
    ),
    "hardsigmoid": Activation(
        lambda x, p: _clip(x / 6 + 0.5, 0, 1), lambda x, p: _steps(_inside(x, -3, 3), x, 1 / 6, 0.0), {}
    ),
    "hardswish": Activation(lambda x, p: x * _clip(x / 6 + 0.5, 0, 1), _hardswish_slope, {}),
    "relu6": Activation(lambda x, p: _clip(x, 0, 6), lambda x, p: _steps(_inside(x, 0, 6), x, 1.0, 0.0), {}),
    "logsigmoid": Activation(lambda x, p: -_log1p_exp(-x), lambda x, p: sigmoid(-x), {}),
    "tanhshrink": Activation(_tanhshrink, lambda x, p: _tanh(x) ** 2, {}),
    "lecun_tanh": Activation(
        lambda x, p: 1.7159 * _tanh(2 * x / 3), lambda x, p: 1.7159 * 2 / 3 * _tanh_slope(2 * x / 3), {}
    ),
}


def activation(
    name: str, params: Params | None = None
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The two functions x -> value and x -> derivative of one catalogue entry with its parameters filled
    in."""
    entry = ACTIVATIONS[name]
    full = {**entry.defaults, **(params or {})}
    return (lambda x: entry.value(np.asarray(x), full)), (lambda x: entry.derivative(np.asarray(x), full))
