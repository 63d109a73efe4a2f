"""Layer: theory, weights as they are. Laws of weights that were loaded, scaled or trained since their draw.

Knows networks by layers and arrays: it reads moments off the arrays and writes them into the description that
a chain walks through; nothing of how gradients go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..branches import Highway
from ..errors import ArgumentError
from ..layers import Context, Layer, Repeat, chain_specs, walk
from ..network import Network
from ..recurrent import Recurrent
from .copies import Laws, Numbers
from .gaussian import FloatArray

__all__ = ["described", "notes"]

_TAKEN = (
    "weights were loaded, scaled or trained since they were drawn: each is taken as independent entries of "
    "mean 0 and of the variance that it has"
)
_LEARNED = "learned slopes of activations and learned weights of norms are taken as they start"
#: Kinds of layers whose parameters are all looked at.
_SEEN = ("dense", "residual", "highway", "recurrent")
#: A mean that carries more than this share of the mean square is no fluctuation about 0.
_MEAN = 0.5
#: How far off a matrix may be from one that keeps lengths, and still be one up to rounding.
_ROUNDED = 1e-4


def notes(net: Network) -> tuple[str, ...]:
    """Return what a prediction from weights as they are leaves out."""
    placed = walk(net.layers, net.in_features)
    learned = any(p.layer.own_parameters(1) for p in placed if p.layer.kind not in _SEEN)
    return (_TAKEN, _LEARNED) if learned else (_TAKEN,)


def described(net: Network) -> list[dict[str, Any]]:
    """Return the description of a network's layers with the laws of its weights as they are.

    Raises:
        ArgumentError: weights that are no finite numbers.
    """
    specs = chain_specs(net.layers, Context(net.in_features, net.dtype))
    return _chain(net.layers, specs, (), net.in_features, net.parameters() | net.effective_weights())


def _chain(
    layers: Sequence[Layer],
    specs: Sequence[Mapping[str, Any]],
    path: tuple[str, ...],
    width: int,
    values: Mapping[str, NDArray[Any]],
) -> list[dict[str, Any]]:
    result = []
    for index, (layer, given) in enumerate(zip(layers, specs, strict=True)):
        part = str(index) if layer.name is None else layer.name
        here = (*path, part) if part else path
        spec = dict(given)

        def own(leaf: str, here: tuple[str, ...] = here) -> tuple[str, NDArray[Any]]:
            name = ".".join((*here, leaf))
            return name, values[name]

        if layer.kind == "dense":
            spec["init"] = {"laws": _weights(*own("weight"))}
            if spec["bias"]:
                spec["bias_init"] = {"laws": _biases(*own("bias"))}
        elif isinstance(layer, Recurrent):
            spec |= _recurrent(layer, own)
        elif layer.kind == "residual" and "scale" in layer.own_parameters(width):
            spec["scale"] = Numbers(own("scale")[1][..., 0].astype(np.float64))
        if isinstance(layer, Repeat):
            spec["by_copy"] = not layer.tied
        inside = [(prefix[0] if prefix else "body", prefix, inner) for prefix, inner in layer.branches()]
        if isinstance(layer, Highway):
            inside += [(key, (), parts) for key, parts in layer.parts(width).items()]
        for key, prefix, inner in inside:
            spec[key] = _chain(inner, spec[key], (*here, *prefix), width, values)
        width = layer.out_features(width)
        result.append(spec)
    return result


def _recurrent(layer: Recurrent, own: Any) -> dict[str, Any]:
    """Return the laws of the one layer of a vanilla cell that theory predicts."""
    found = {"init": {"laws": _weights(*own("weight_ih_l0"))}}
    if "weight_hh" in layer.unit.leaves:
        found["recurrent_init"] = {"laws": _weights(*own("weight_hh_l0"))}
    if layer.bias:
        (name, first), (_, second) = own("bias_ih_l0"), own("bias_hh_l0")
        both = _biases(name, first + second)
        # The two are drawn alike, so each has half of the variance.
        found["bias_init"] = {"laws": Laws(both.mean, both.variance / 2.0, both.orthogonal)}
    return found


def _weights(name: str, values: NDArray[Any]) -> Laws:
    """Return the laws of matrices (..., rows, cols)."""
    rows, cols = values.shape[-2:]
    mean = values.mean(axis=(-2, -1), dtype=np.float64)
    second = np.square(values, dtype=np.float64).mean(axis=(-2, -1))
    _check(name, second)
    ruled = mean**2 > _MEAN * second
    variance = np.where(ruled, second - mean**2, second)
    # Two directions are enough: a random matrix keeps neither's length to four digits.
    probes = np.random.default_rng(0).normal(size=(2, min(rows, cols)))
    flat = values.astype(np.float64) if rows <= cols else np.swapaxes(values, -2, -1).astype(np.float64)
    kept = np.square(probes @ flat).sum(axis=-1) / np.square(probes).sum(axis=-1)
    size = (second * max(rows, cols))[..., None]
    rotates = (np.abs(kept - size) <= _ROUNDED * size).all(axis=-1) & (second > 0.0) & ~ruled
    return Laws(np.where(ruled, mean, 0.0), variance, rotates)


def _biases(name: str, values: NDArray[Any]) -> Laws:
    """Return the laws of vectors (..., rows); a mean counts that is more than chance would make of it."""
    mean = values.mean(axis=-1, dtype=np.float64)
    second = np.square(values, dtype=np.float64).mean(axis=-1)
    _check(name, second)
    spread = np.maximum(second - mean**2, 0.0)
    ruled = np.abs(mean) > 3.0 * np.sqrt(spread / values.shape[-1])
    none = np.zeros(mean.shape, np.bool_)
    return Laws(np.where(ruled, mean, 0.0), np.where(ruled, spread, second), none)


def _check(name: str, second: FloatArray) -> None:
    if not np.isfinite(second).all():
        at = np.argwhere(~np.isfinite(np.atleast_1d(second)))[0]
        raise ArgumentError(
            f"{name}: theory cannot predict weights that are no finite numbers, got some in copy "
            f"{', '.join(map(str, at))}; a training that diverged left them, start from the weights before it"
        )
