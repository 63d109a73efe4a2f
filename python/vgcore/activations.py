"""Layer: catalogues. Activation functions: what there is, what each does, and its value and derivative.

Knows no network. Formulae and arithmetic live in the compiled module; names are resolved when they are asked
for, so ``vg.activations.tanh(x)`` works for every name in ``vg.activations.names()``.

Example:
    >>> import numpy as np, vgcore as vg
    >>> vg.activations.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._arrays import as_float_array
from ._registry import Description, Registry

__all__ = ["derivative", "describe", "names", "scaled_derivative", "value"]

_registry = Registry("activation", "vg.activations.names()")


def names() -> list[str]:
    """Return the canonical names of all activations.

    Example:
        >>> "tanh" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return formula, derivative, parameters and reference of one activation; ``print`` shows them.

    Raises:
        UnknownNameError: no activation has this name or alias.

    Example:
        >>> describe("swish").name == describe("silu").name
        True
    """
    return _registry.describe(name)


def value(name: str, x: ArrayLike, **params: float) -> NDArray[Any]:
    """Return phi(x), elementwise, in the float type of `x`; Python floats are float64. NaN propagates.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: no such parameter.
        DTypeError: `x` is not float32 or float64.

    Example:
        >>> value("leaky_relu", [-1.0, 1.0], negative_slope=0.5)
        array([-0.5,  1. ])
    """
    entry, checked, array = _checked(name, x, params)
    return _core.activation(entry.name, checked, array.ravel(), "value").reshape(array.shape)


def derivative(name: str, x: ArrayLike, **params: float) -> NDArray[Any]:
    """Return phi'(x), elementwise, to the relative accuracy of the float type, in saturation too.

    ``1 - tanh(x)**2`` has lost every digit in float32 from \\|x\\| = 9.1; this has not. Where the derivative
    itself is too small for the float type it is 0 here; `scaled_derivative` keeps it.

    Raises:
        UnknownNameError, ArgumentError, DTypeError: as for `value`.

    Example:
        >>> import numpy as np
        >>> float(derivative("tanh", np.array([20.0]))[0])
        1.6993417021166355e-17
    """
    entry, checked, array = _checked(name, x, params)
    return _core.activation(entry.name, checked, array.ravel(), "derivative").reshape(array.shape)


def scaled_derivative(name: str, x: ArrayLike, **params: float) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return phi'(x) as ``mantissa * 2**exponent``, which never under- or overflows.

    The mantissa has the shape and type of `x`, the exponent is int64.

    Raises:
        UnknownNameError, ArgumentError, DTypeError: as for `value`.

    Example:
        >>> import numpy as np
        >>> m, e = scaled_derivative("sigmoid", np.array([-2000.0]))  # exp(-2000): about 10**-868.6
        >>> round(float(np.log10(m[0]) + e[0] * np.log10(2)), 3)
        -868.589
    """
    entry, checked, array = _checked(name, x, params)
    mantissa, exponent = _core.activation(entry.name, checked, array.ravel(), "scaled_derivative")
    return mantissa.reshape(array.shape), exponent.reshape(array.shape)


def _checked(name: str, x: Any, params: dict[str, float]) -> tuple[Description, dict[str, Any], NDArray[Any]]:
    entry = describe(name)
    return entry, entry.check_params(params), as_float_array(x, name="x", finite=False, allow_empty=True)


def __getattr__(name: str) -> Callable[..., NDArray[Any]]:
    """Return the function of one activation: ``vg.activations.tanh(x)``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)
    function = functools.partial(value, entry.name)
    functools.update_wrapper(function, value, assigned=())
    function.__doc__ = f"{entry}"
    return function


def __dir__() -> list[str]:
    """List the functions of this module and every activation."""
    return sorted([*__all__, *names()])
