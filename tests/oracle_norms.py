"""Reference layer of the tests: normalisation, forward and backward, slow and readable, in NumPy.

Arithmetic is float64, or complex128 when an argument is complex. Knows nothing of vgcore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: The catalogue's names with the eps that each has unless another is given.
DEFAULT_EPS = {"batch": 1e-5, "layer": 1e-5, "rms": 2.0**-52, "group": 1e-5}


def _blocks(name: str, x: Array, groups: int) -> Array:
    """(blocks, members): what is normalised together, one row each."""
    if name == "batch":
        return x.T
    return x.reshape(-1, x.shape[1] // groups)


def _back(name: str, blocks: Array, shape: tuple[int, ...]) -> Array:
    return blocks.T if name == "batch" else blocks.reshape(shape)


def normalise(name: str, x: Array, eps: float | None = None, groups: int = 1) -> tuple[Array, Array]:
    """xhat, and 1 / sqrt(var + eps) for every entry; the batch's own statistics."""
    blocks = _blocks(name, x, groups)
    mean = 0.0 if name == "rms" else blocks.mean(axis=1, keepdims=True)
    var = ((blocks - mean) ** 2).mean(axis=1, keepdims=True)
    inv = 1.0 / np.sqrt(var + (DEFAULT_EPS[name] if eps is None else eps)) + 0.0 * blocks
    return _back(name, (blocks - mean) * inv, x.shape), _back(name, inv, x.shape)


def backward(name: str, g: Array, x: Array, eps: float | None = None, groups: int = 1) -> Array:
    """dL/dx from g = dL/dxhat."""
    hat, inv = (_blocks(name, a, groups) for a in normalise(name, x, eps, groups))
    g = _blocks(name, g, groups)
    along = hat * (g * hat).mean(axis=1, keepdims=True)
    first = 0.0 if name == "rms" else g.mean(axis=1, keepdims=True)
    return _back(name, inv * (g - first - along), x.shape)


def running_after(mean: Array, var: Array, x: Array, m: float, online: bool) -> tuple[Array, Array]:
    """Running statistics after a training step over the rows of x."""
    new, spread = x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).sum(axis=0)
    if not online:
        return (1 - m) * mean + m * new, (1 - m) * var + m * spread / (len(x) - 1)
    mixed = (1 - m) * mean + m * new
    # the law of total variance for what was known, with weight 1 - m, and the batch
    both = (1 - m) * (var + (mean - mixed) ** 2) + m * (spread / len(x) + (new - mixed) ** 2)
    return mixed, both


def leaves(name: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of its learned parameters."""
    if not params["affine"]:
        return ()
    return ("weight",) if name == "rms" else ("weight", "bias")


def apply(name: str, params: Mapping[str, Any], x: Array, training: bool) -> tuple[Array, Array]:
    """xhat and 1 / sqrt(var + eps) of a layer; running statistics are fresh: mean 0, variance 1."""
    if name == "batch" and (params["online"] or not training):
        inv = 1.0 / np.sqrt(1.0 + params["eps"]) + 0.0 * x
        return x * inv, inv
    return normalise(name, x, params["eps"], params["groups"])


def back(name: str, params: Mapping[str, Any], g: Array, x: Array, training: bool) -> Array:
    """dL/dx from g = dL/dxhat of that layer."""
    if name == "batch" and (params["online"] or not training):
        return g * apply(name, params, x, training)[1]
    return backward(name, g, x, params["eps"], params["groups"])
