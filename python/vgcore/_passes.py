"""Layer: the network. What to know before a network is built or a pass starts, and what a result records.

Knows layers and losses; everything here is a function of them, without state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import activations
from .errors import ArgumentError
from .layers import Activation, Dense, Layer, Repeat, walk
from .losses import Loss, as_loss, names
from .normalisation import Normalisation
from .recurrent import Recurrent

#: What a result records of weights that may be others than those that the seed draws.
TOUCHED = "touched"


def chosen_loss(y: Any, loss: Any, cotangent: Any, *, needs_target: bool) -> Loss | None:
    """Return the loss to use, None when a cotangent is given instead, or say which argument is missing."""
    known = ", ".join(map(repr, names()))
    if y is not None and cotangent is not None:
        raise ArgumentError(
            "y and cotangent both say where the gradient starts: give y with loss=, or cotangent alone"
        )
    if y is None and cotangent is None:
        both = "" if needs_target else ", or cotangent= (the gradient with respect to the output)"
        raise ArgumentError(f"expected a target: pass y and loss= (one of {known}){both}")
    if cotangent is not None:
        if loss is not None:
            raise ArgumentError(
                "cotangent already is the gradient with respect to the output: leave loss= out"
            )
        return None
    if loss is None:
        raise ArgumentError(
            f"loss: expected one of {known}, or an object from vg.losses, to compare y with; got None"
        )
    return as_loss(loss)


def sizes(layers: Sequence[Layer], in_features: int) -> tuple[int, int, int]:
    """Return the number of parameters and of layer runs and the widest output of a layer, exactly.

    Raises:
        ArgumentError: two parameters share a name.
    """
    count = entries = widest = 0
    seen: set[str] = set()
    for placed in walk(layers, in_features):
        entries += 0 if placed.layer.body else placed.times
        widest = max(widest, placed.layer.out_features(placed.in_features))
        for name, shape in placed.parameters().items():
            if name in seen:
                raise ArgumentError(
                    f"layers: two parameters would both be named {name!r}; "
                    f"give one of the layers another name="
                )
            seen.add(name)
            count += math.prod(shape)
    return count, entries, widest


def with_zeros(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's description with every parameter starting at zero: the values come from elsewhere."""
    result = dict(spec)
    for key in ("init", "recurrent_init", "bias_init"):
        if key in spec:
            result[key] = {"name": "zeros", "params": {}}
    if "gate_bias" in spec:
        result["gate_bias"] = None
    for key in ("body", "shortcut", "gate", "carry"):
        if key in spec:
            result[key] = [with_zeros(inner) for inner in spec[key]]
    return result


def provenance(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return what a result records of a network's layers, as plain values that go into JSON.

    ``axis``: "depth" or "time"; ``activations``: names in use, each once; ``saturates``: whether one of them
    is flat on both sides; ``structure``: name, kind and number of steps of each top-level layer, where a
    Dense or a normalisation takes in the activation behind it; a Recurrent, whose steps are its input's,
    tells its cell.
    """
    found = dict.fromkeys(_functions(layers))
    structure: list[dict[str, Any]] = []
    for index, layer in enumerate(layers):
        if isinstance(layer, Activation) and index and isinstance(layers[index - 1], (Dense, Normalisation)):
            continue
        entry: dict[str, Any] = {
            "name": str(index) if layer.name is None else layer.name,
            "kind": layer.kind,
            "steps": layer.n if isinstance(layer, Repeat) else 1,
        }
        if isinstance(layer, Recurrent):
            entry |= {
                "cell": layer.unit.name,
                "layers": layer.num_layers,
                "directions": layer.directions,
                "hidden": layer.hidden_size,
                "read": layer.read,
            }
        structure.append(entry)
    saturates = any(activations.describe(name).extra.get("saturates") for name in found)
    axis = "time" if any(isinstance(layer, Recurrent) for layer in layers) else "depth"
    return {"axis": axis, "activations": list(found), "saturates": saturates, "structure": structure}


def input_moments(x: NDArray[Any]) -> dict[str, float]:
    """Return mean square and mean of an input's entries, which theory starts from.

    Example:
        >>> input_moments(np.array([[1.0, 3.0]]))
        {'mean_square': 5.0, 'mean': 2.0}
    """
    square = total = 0.0
    flat = x.reshape(-1)
    for start in range(0, flat.size, 65_536):  # a sequence of a million steps is not widened at once
        part = flat[start : start + 65_536].astype(np.float64)
        square += float(np.square(part).sum())
        total += float(part.sum())
    return {"mean_square": square / flat.size, "mean": total / flat.size}


def _functions(layers: Sequence[Layer]) -> Iterator[str]:
    for layer in layers:
        yield from layer.functions()
        for _, inner in layer.branches():
            yield from _functions(inner)
