"""Layer: doctor, what training moved. Weights before and after it, and which layers the gradient has moved.

Knows networks and what their training is told; knows no trial and no cure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._signs import UNEVEN_DECADES
from .initializers import Initializer
from .layers import Activation, Dense

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .network import Network
    from .optimizers import Optimizer

    FloatArray = NDArray[np.float64]

__all__ = ["layers_moved", "reached"]

#: Bias of a unit that no input wakes: its slope is zero, to the bit, and so is every gradient behind it.
_ASLEEP: Final = -1e30


def layers_moved(net: Network, trained: Network, optimizer: Optimizer, steps: int) -> float:
    """Return the share of layers that a gradient moved: by 1/100 of the largest relative move, or more.

    `net`: before the training of `steps` steps that made `trained`. What weight decay and constraints do to
    weights of which no gradient tells anything is no learning: only what lies beyond it counts.
    """
    before, after = net.parameters(), trained.parameters()
    idle = _without_gradient(net, optimizer, steps)
    moves: list[FloatArray] = []
    for name, start in before.items():
        if start.ndim < 2 or "weight" not in name.split(".")[-1]:
            continue
        stack = (-1, start.shape[-2] * start.shape[-1])
        size = np.linalg.norm(start.astype(np.float64).reshape(stack), axis=1)
        move = after[name].astype(np.float64) - idle.get(name, start)
        moves.append(np.linalg.norm(move.reshape(stack), axis=1) / np.where(size > 0, size, 1.0))
    if not moves:
        return 0.0
    with np.errstate(divide="ignore"):
        return reached(np.log10(np.concatenate(moves)))


def reached(log10: Sequence[float] | FloatArray) -> float:
    """Return the share of entries within a factor of 100 of the largest.

    Example:
        >>> reached([0.0, -1.0, -3.0, float("-inf")])
        0.5
    """
    values = np.asarray(log10, np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0
    return float(np.count_nonzero(finite >= finite.max() - UNEVEN_DECADES)) / values.size


def _without_gradient(net: Network, optimizer: Optimizer, steps: int) -> Mapping[str, Any]:
    """Return the weights after as many steps in which every gradient is zero; none where they would stay.

    The same network is trained with a sleeping unit behind it, so that optimizer and constraints are the
    ones that there are, whatever they do; data do not matter then, and two samples of zeros cost little.
    """
    constraint = net.training_defaults.get("constraint")
    if not constraint and not optimizer.params.get("weight_decay"):
        return {}
    from ._mitigation_rewrite import named
    from .network import Network

    asleep = Dense(1, bias_init=Initializer("constant", {"value": _ASLEEP}), name="asleep")
    twin = Network(
        net.in_features, [*named(net.layers), asleep, Activation("relu")], dtype=net.dtype, rng=net.seed
    )
    own = {name: value for name, value in twin.parameters().items() if name.startswith("asleep.")}
    twin.load_parameters({**net.parameters(), **own})
    shape = (2, 1, net.in_features) if net.axis == "time" else (2, net.in_features)
    x = np.zeros(shape, net.dtype)
    history = twin.fit(
        x, np.zeros_like(twin.forward(x)), batch_size=2, epochs=steps, loss="mse", optimizer=optimizer,
        constraint=constraint, shuffle=False, stats="none",
    )  # fmt: skip
    if history.stopped is not None:  # its forward pass alone leaves the float range
        return {}
    return {name: twin.parameters()[name] for name in net.parameters()}
