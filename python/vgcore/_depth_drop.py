"""Layer: depth, less of it on average. Stochastic depth whose survival falls along the network.

Knows layers and how networks are rebuilt; the coin itself is thrown by Residual.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._checks import as_real, as_size
from .errors import ArgumentError

__all__ = ["linear_survival"]


def linear_survival(count: int, last: float = 0.5) -> NDArray[np.float64]:
    """Return survival probabilities that fall linearly, ``p_l = 1 - l/L (1 - p_L)``, l = 1 .. L, (count,).

    Their sum is the expected number of active blocks: (3 L - 1) / 4 for p_L = 0.5.

    Args:
        count: number L of blocks.
        last: probability p_L that the last block is there.

    Raises:
        ArgumentError: `count` is not positive, or `last` not in [0, 1].

    Source: Huang, Sun, Liu, Sedra, Weinberger 2016, arXiv:1603.09382, equation 4.

    Example:
        >>> chances = linear_survival(4)
        >>> chances, float(chances.sum())
        (array([0.875, 0.75 , 0.625, 0.5  ]), 2.75)
    """
    blocks, end = as_size(count, "count"), _probability(last, "last")
    return np.asarray(1.0 - np.arange(1, blocks + 1) / blocks * (1.0 - end))


def _probability(value: float, name: str) -> float:
    number = as_real(value, name, minimum=0.0)
    if number > 1.0:
        raise ArgumentError(f"{name}: expected a probability from 0 to 1, got {number:g}")
    return number
