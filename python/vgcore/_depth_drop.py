"""Layer: depth, less of it on average. Stochastic depth whose survival falls along the network.

Knows layers and how networks are rebuilt; the coin itself is thrown by Residual.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import _surgery
from ._checks import as_real, as_size
from ._layer_values import changed
from .branches import Residual
from .errors import ArgumentError
from .layers import Layer, Repeat, walk
from .network import Network

__all__ = ["linear_survival", "stochastic"]


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


def stochastic(net: Network, last: float = 0.5, *, rule: str = "linear") -> Network:
    """Return the network with stochastic depth: in training each Residual block is left out now and then.

    Every batch throws a coin for each block; inference takes all of them, each branch times its probability.
    With rule "linear" the probability of being there falls from the input to the output as
    `linear_survival` says: a Repeat of Residual blocks is then written out, one layer a copy, named
    ``hidden0``, ``hidden1``, ... for one named "hidden". With "uniform" all blocks have `last` and a Repeat
    stays one. Parameters keep their values, and the network its cures.

    Args:
        net: a network along depth with Residual blocks at its top level or as the steps of a Repeat.
        last: probability that the last block is there.
        rule: "linear" or "uniform".

    Raises:
        ArgumentError: no Residual blocks, a probability outside [0, 1], or an unknown rule.

    Source: Huang et al. 2016, arXiv:1603.09382, sections 3 and 4.

    Example:
        >>> import vgcore as vg
        >>> net = vg.mlp(4, 8, skip="residual", rng=0)
        >>> [block.survival for block in vg.depth.stochastic(net).layers]
        [0.875, 0.75, 0.625, 0.5]
    """
    if rule not in ("linear", "uniform"):
        raise ArgumentError(f"rule: expected 'linear' or 'uniform', got {rule!r}")
    end = _probability(last, "last")
    if rule == "linear":
        net = _surgery.unrolled(net, lambda layer: any(isinstance(inner, Residual) for inner in layer.body))
        blocks = sum(isinstance(layer, Residual) for layer in net.layers)
        chances = iter(linear_survival(blocks, end).tolist() if blocks else [])
        layers = [
            changed(layer, survival=next(chances)) if isinstance(layer, Residual) else layer
            for layer in net.layers
        ]
    else:
        layers = [_thinned(layer, end) for layer in net.layers]
    if layers == list(net.layers):
        if any(isinstance(placed.layer, Residual) for placed in walk(net.layers, net.in_features)):
            return net.copy()  # they have these probabilities already
        raise ArgumentError(
            "net: expected Residual blocks that can be left out, got none; put the layers of a step into "
            "vg.Residual([...]), as vg.mlp(..., skip='residual') does"
        )
    arrays = _surgery.arrays_of(net)
    return Network._restore(
        net.in_features, layers, net.dtype.name, net.seed, arrays, net._applied, net._touched
    )


def _thinned(layer: Layer, survival: float) -> Layer:
    """Return the layer with its outermost Residual blocks left out now and then."""
    if isinstance(layer, Residual):
        return changed(layer, survival=survival)
    if isinstance(layer, Repeat):
        return changed(layer, body=tuple(_thinned(inner, survival) for inner in layer.body))
    return layer


def _probability(value: float, name: str) -> float:
    number = as_real(value, name, minimum=0.0)
    if number > 1.0:
        raise ArgumentError(f"{name}: expected a probability from 0 to 1, got {number:g}")
    return number
