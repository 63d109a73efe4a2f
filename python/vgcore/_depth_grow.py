"""Layer: depth, more of it. New steps that change nothing yet.

Knows networks and how steps are put in; nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _surgery, activations
from ._checks import as_real, as_size, shown
from .branches import Residual
from .errors import ArgumentError, unknown_name
from .layers import Activation, Dense, Placed, Repeat, walk
from .network import Network

__all__ = ["find_repeat", "grow"]

Arrays = dict[str, NDArray[Any]]


def grow(net: Network, to: int, *, at: str | None = None, noise: float = 0.0) -> Network:
    """Return a deeper network that computes the same: new steps of a Repeat start as the identity.

    Old steps keep their weights; new ones come behind them; the network keeps its cures. In a step of
    Residual blocks the last linear map of each branch becomes 0 (a learned scale: that alone), so that the
    block hands on its input, exactly. In a plain step each Dense becomes the identity matrix: exact where the
    activation applied twice is the activation (identity, relu, ...), and near it else (tanh, whose steps
    shrink what they hand on).

    Args:
        net: a network along depth with a Repeat whose steps own their parameters.
        to: how many steps the Repeat has afterwards.
        at: its name; None takes the longest one.
        noise: what a new step starts with besides, as a share of the initial weights it would have had. It
            breaks ties between equal units; above 0 the function changes by that order.

    Raises:
        ArgumentError: no such Repeat, fewer steps than it has, a step that cannot be the identity (a
            normalisation or a change of width outside of a Residual), or one that could never learn from
            there (a branch that ends in an activation of slope 0 at 0, without noise).
        MemoryBudgetError: the parameters would not fit in memory.

    Source: identity steps, Chen, Goodfellow, Shlens 2016, arXiv:1511.05641, section 2.4; zero branches,
    Goyal et al. 2017, arXiv:1706.02677, section 5.1.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.mlp(3, 8, in_features=4, out_features=2, activation="relu", rng=0)
        >>> deep, x = vg.depth.grow(net, to=30), np.ones((5, 4), np.float32)
        >>> deep.num_steps, bool((deep.forward(x) == net.forward(x)).all())
        (32, True)
    """
    share = as_real(noise, "noise", minimum=0.0)
    index, repeat = find_repeat(net, at)
    count = as_size(to, "to")
    if count < repeat.n:
        raise ArgumentError(
            f"to: expected at least {repeat.n}, the steps that the Repeat has, got {count}; "
            f"vg.depth.remove makes networks shallower"
        )
    if count == repeat.n:
        return net.copy()
    grown, mine = _surgery.extended(net, index, count)
    layers = _surgery.named(grown.layers)
    inner = list(walk(layers, net.in_features))
    top = [i for i, placed in enumerate(inner) if placed.level == 0]
    end = top[index + 1] if index + 1 < len(top) else len(inner)
    for placed, inside in _children(inner[top[index] + 1 : end], level=1):
        _make_identity(placed, inside, mine, slice(repeat.n, None), share)
    grown.load_parameters(_surgery.arrays_of(grown) | mine)
    return grown


def find_repeat(net: Network, at: str | None) -> tuple[int, Repeat]:
    """Return index and layer of the Repeat that grows."""
    if net.axis != "depth":
        raise ArgumentError(
            "net: expected a network along depth, got one along time, which has no more steps"
        )
    found = {
        layer.name: (index, layer)
        for index, layer in enumerate(_surgery.named(net.layers))
        if isinstance(layer, Repeat) and not layer.tied
    }
    if not found:
        raise ArgumentError(
            "net: expected a vg.Repeat whose steps own their parameters, got none; put the steps that are to "
            "become more into vg.Repeat(step, n)"
        )
    if at is None:
        return max(found.values(), key=lambda pair: pair[1].n)
    if at not in found:
        raise unknown_name(
            "Repeat", at, [str(name) for name in found], "[layer.name for layer in net.layers]"
        )
    return found[at]


def _children(inner: Sequence[Placed], level: int) -> Iterator[tuple[Placed, list[Placed]]]:
    """Yield each layer of one level with everything inside it, from the flat list that `walk` gives."""
    starts = [i for i, placed in enumerate(inner) if placed.level == level]
    for start, end in zip(starts, [*starts[1:], len(inner)], strict=True):
        yield inner[start], list(inner[start + 1 : end])


def _make_identity(placed: Placed, inside: list[Placed], arrays: Arrays, new: slice, noise: float) -> None:
    """Let the new copies of one layer of the step hand on their input."""
    layer = placed.layer
    if isinstance(layer, Activation):
        return
    if isinstance(layer, Dense) and layer.out_features(placed.in_features) == placed.in_features:
        _scale(placed, arrays, new, noise)
        direction = "weight_v" if placed_name(placed, "weight_v") in arrays else "weight"
        weight = arrays[placed_name(placed, direction)]
        weight[new] += np.eye(layer.features, dtype=weight.dtype)
        return
    if isinstance(layer, Residual):
        if layer.shortcut != 1.0:
            raise ArgumentError(
                f"net: a Residual with shortcut={shown(layer.shortcut)} cannot start as the identity; grow "
                f"networks whose shortcut is 1"
            )
        learned = placed_name(placed, "scale")
        if learned in arrays:
            arrays[learned][new] *= noise
        else:
            _close_branch(inside, placed.level + 1, arrays, new, noise)
        return
    raise ArgumentError(
        f"net: a new step with {layer.describe()} cannot start as the identity; put the step's layers into "
        f"vg.Residual([...]), whose branch can start at zero"
    )


def _close_branch(inside: list[Placed], level: int, arrays: Arrays, new: slice, noise: float) -> None:
    """Let a branch end in zeros: those of its last layer with parameters, if what follows keeps them."""
    members = [placed for placed in inside if placed.level == level]
    for placed in reversed(members):
        if isinstance(placed.layer, Activation) and not placed.layer.own_parameters(placed.in_features):
            value, slope = _at_zero(placed.layer)
            if value != 0.0:
                raise ArgumentError(
                    f"net: the branch ends in {placed.layer.describe()}, which is {value:g} at 0, so it "
                    f"cannot start at zero; end it with a Dense, or take vg.Residual(..., learned=True)"
                )
            if slope == 0.0 and noise == 0.0:
                raise ArgumentError(
                    f"noise: the branch ends in {placed.layer.describe()}, whose slope at 0 is 0: a branch "
                    f"that starts there never learns; give noise=0.01, end the branch with a Dense, or take "
                    f"vg.Residual(..., learned=True)"
                )
            continue
        if any(placed_name(placed, leaf) in arrays for leaf in ("weight", "weight_g", "gain")):
            _scale(placed, arrays, new, noise)
            return
        break
    raise ArgumentError(
        "net: the branch of a Residual has no Dense at its end that could start at zero; end it with one"
    )


def _scale(placed: Placed, arrays: Arrays, new: slice, noise: float) -> None:
    """Scale what a layer adds to zero, or to `noise` of what it would have been."""
    names = {leaf: placed_name(placed, leaf) for leaf in ("weight_g", "gain", "weight", "bias")}
    size = next(leaf for leaf in ("weight_g", "gain", "weight") if names[leaf] in arrays)
    arrays[names[size]][new] *= noise
    if names["bias"] in arrays:
        arrays[names["bias"]][new] *= noise


def placed_name(placed: Placed, leaf: str) -> str:
    """Return the full name of a layer's parameter."""
    return ".".join((*placed.path, leaf))


def _at_zero(layer: Activation) -> tuple[float, float]:
    zero = np.zeros(1)
    value = activations.value(layer.function, zero, **layer.params)
    slope = activations.derivative(layer.function, zero, **layer.params)
    return float(value[0]), float(slope[0])
