"""Layer: testing tools, numerical derivatives. Differences with an honest estimate of their own error, and
complex steps.

Knows functions of one number and nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["complex_step", "differences"]

FloatArray = NDArray[np.floating[Any]]


def differences(
    function: Callable[[float], Any], step: float, *, levels: int = 7, eps: float = 2.0**-52
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (derivative at 0, its error) of t -> f(t), elementwise over f's result.

    Central differences at step, step/2, ..., extrapolated to zero (Ridders' tableau); of all estimates the
    one is taken whose error is least, the error being the larger of the change to its neighbours in the
    tableau and the rounding of f, ``eps |f| / h``. Eighth order or better where f is smooth; next to a kink
    the error says so, and at
    one too: there the slopes of the two sides differ by a jump, which is added to the error.

    Source: C. J. F. Ridders, Advances in Engineering Software 4 (1982) 75.

    Example:
        >>> import numpy as np
        >>> value, error = differences(lambda t: np.exp(t), 0.1)
        >>> bool(abs(value - 1) < 1e-11), bool(error < 1e-9)
        (True, True)
    """
    row: list[NDArray[np.float64]] = []
    best = error = None
    h, middle = step, np.asarray(function(0.0), np.float64)
    jumps: list[NDArray[np.float64]] = []  # right slope minus left slope: h f'' + ... where f is smooth
    for level in range(levels):
        up, down = np.asarray(function(h), np.float64), np.asarray(function(-h), np.float64)
        rounding = 4 * eps * np.maximum(np.abs(up), np.abs(down)) / h
        new = [(up - down) / (2 * h)]
        jumps.append(((up - middle) - (middle - down)) / h)
        for order in range(level):
            factor = 4.0 ** (order + 1)
            new.append((factor * new[order] - row[order]) / (factor - 1))
            change = np.maximum(np.abs(new[-1] - new[-2]), np.abs(new[-1] - row[order]))
            now = np.maximum(change, rounding)
            if best is None or error is None:
                best, error = new[-1], now
            else:
                better = now < error
                best, error = np.where(better, new[-1], best), np.where(better, now, error)
        row, h = new, h / 2
    if best is None or error is None:
        raise AssertionError("at least three levels are needed")
    # Odd powers of h only: two extrapolations leave the jump itself, or rounding.
    once = [2 * fine - coarse for coarse, fine in zip(jumps[-3:], jumps[-2:], strict=False)]
    jump = np.abs((8 * once[-1] - once[-2]) / 7) / 2
    return best, np.where(jump > 100 * rounding, np.maximum(error, jump), error)


def complex_step(function: Callable[[Any], Any], x: FloatArray) -> NDArray[np.float64] | None:
    """Return Im f(x + ih) / h with a tiny h: the derivative without cancellation; None if f takes no complex
    numbers.

    Only functions that are analytic, and branch on the real part, give a derivative this way: the caller has
    to compare it with differences somewhere.
    """
    h = 2.0**-200
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(function(x.astype(np.complex128) + 1j * h))
    except (TypeError, ValueError, AttributeError):
        return None
    if not np.iscomplexobj(result) or result.shape != x.shape:
        return None
    return np.asarray(result.imag / h, np.float64)
