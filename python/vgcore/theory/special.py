"""Layer: theory, numbers. Digamma, trigamma and the binomial law: what the finite-width formulae sum.

Knows no activation and no network; NumPy has none of these functions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .gaussian import FloatArray

#: From here on the asymptotic series below are exact to the last bits.
_FAR = 16


def digamma(x: ArrayLike) -> FloatArray:
    """Return psi(x) = d ln Gamma(x) / dx for x > 0, elementwise, to about 1e-15 of max(1, psi).

    Source: recurrence psi(x) = psi(x + 1) - 1/x; Abramowitz & Stegun 6.3.18.

    Example:
        >>> round(float(digamma(1.0)), 12)  # minus Euler's constant
        -0.577215664902
    """
    x = np.asarray(x, np.float64)
    shifts = x[..., None] + np.arange(_FAR)
    far = x + _FAR
    y = 1.0 / (far * far)
    terms = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
    series = sum(c * y ** (k + 1) for k, c in enumerate(terms))
    return np.asarray(np.log(far) - 0.5 / far - series - (1.0 / shifts).sum(axis=-1))


def trigamma(x: ArrayLike) -> FloatArray:
    """Return psi'(x) for x > 0, elementwise, to about 1e-15 of its value.

    Source: recurrence psi'(x) = psi'(x + 1) + 1/x^2; Abramowitz & Stegun 6.4.12.

    Example:
        >>> round(float(trigamma(1.0)) - 3.141592653589793**2 / 6, 12)
        0.0
    """
    x = np.asarray(x, np.float64)
    shifts = x[..., None] + np.arange(_FAR)
    far = x + _FAR
    y = 1.0 / (far * far)
    terms = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
    series = sum(c * y ** (k + 1) for k, c in enumerate(terms))
    return np.asarray(1.0 / far + 0.5 * y + series / far + (1.0 / (shifts * shifts)).sum(axis=-1))


def fair_coins(n: int) -> tuple[FloatArray, FloatArray]:
    """Return k = 1..n and P(K = k) for K ~ Binomial(n, 1/2) given K >= 1; no factor over- or underflows."""
    k = np.arange(1, n + 1)
    ln = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2.0) for i in k]
    p = np.exp(np.array(ln))
    return k.astype(np.float64), p / p.sum()
