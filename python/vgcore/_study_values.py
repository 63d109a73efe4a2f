"""Layer: study, values. Arguments of a network as text, as JSON and as tables show them, and back.

Knows the catalogues that an argument may come from; nothing of cells or how they run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

import numpy as np

from . import activations, cells, initializers, losses, norms
from ._registry import Registry
from ._table import json_safe
from .cells import Cell, GateBias
from .errors import ArgumentError
from .initializers import Initializer
from .layers import Activation
from .losses import Loss
from .normalisation import Normalisation

__all__ = ["decode_value", "encode_value", "label", "read_value"]


def _norm(name: str, params: Mapping[str, Any]) -> Normalisation:
    return Normalisation.by_name[name](**params)


Maker = Callable[[str, Mapping[str, Any]], Any]
_INITIALIZER: Final[tuple[Registry, Maker]] = (initializers._registry, Initializer)
#: The catalogue of an argument, and what makes the object of a name and its parameters.
_KINDS: Final[dict[str, tuple[Registry, Maker]]] = {
    "activation": (activations._registry, lambda name, params: Activation(name, **params)),
    "cell": (cells._registry, Cell),
    "init": _INITIALIZER,
    "recurrent_init": _INITIALIZER,
    "bias_init": _INITIALIZER,
    "norm": (norms._registry, _norm),
    "loss": (losses._registry, Loss),
}


def read_value(name: str, value: Any) -> Any:
    """Return an argument, of which a name with parameters may be given as text, as the object it stands for.

    Raises:
        UnknownNameError: no such name.
        ArgumentError: parameters that it does not have.

    Example:
        >>> read_value("activation", "leaky_relu:0.2"), read_value("norm", "group:4").groups
        (Activation('leaky_relu', negative_slope=0.2), 4)
    """
    if name not in _KINDS or not isinstance(value, str) or ":" not in value:
        return value
    registry, make = _KINDS[name]
    return make(*registry.parse(value, _norm_order if name == "norm" else None))


def _norm_order(name: str) -> list[str]:
    """Return the parameters of a normalisation in the order that its layer has them in."""
    return list(_norm_defaults(Normalisation.by_name[name]))


def _norm_defaults(layer: type[Normalisation]) -> dict[str, Any]:
    every = fields(layer)  # type: ignore[arg-type]  # every layer is a dataclass
    return {field.name: field.default for field in every if field.name != "name"}


def encode_value(name: str, value: Any) -> Any:
    """Return an argument as strict JSON can hold it.

    Raises:
        ArgumentError: an object that is no name, number, activation, normalisation, initializer, loss or
            array.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return json_safe(value)
    if isinstance(value, np.generic):
        return json_safe(value.item())
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(value, np.ndarray):
        return {"array": json_safe(value), "dtype": value.dtype.name}
    if hasattr(value, "array"):
        return encode_value(name, value.array)
    if isinstance(value, GateBias):
        return {"kind": value.kind, "value": json_safe(value.value)}
    found = _name_and_params(value)
    if found is not None:
        entry, params = found
        encoded = {key: encode_value(name, item) for key, item in params.items()}
        return {"name": entry, "params": encoded} if params else entry
    raise ArgumentError(
        f"{name}: a study can hold names, numbers, activations, normalisations, initializers and arrays, so "
        f"that it can be stored and run again; got {type(value).__name__}"
    )


def decode_value(name: str, value: Any) -> Any:
    """Return the argument that ``encode_value`` wrote; the argument says which kind of object."""
    if not isinstance(value, Mapping):
        return value
    if "kind" in value:
        return GateBias(value["kind"], value["value"])
    if "array" in value:
        return np.asarray(value["array"], dtype=value.get("dtype", "float64"))
    _, make = _KINDS[name]
    return make(value["name"], dict(value["params"]))


def _name_and_params(value: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the catalogue's name of an object and the parameters that it was given; None for another."""
    if isinstance(value, Normalisation):
        own = {key: (getattr(value, key), default) for key, default in _norm_defaults(type(value)).items()}
        return value.entry, {key: item for key, (item, default) in own.items() if item != default}
    params = getattr(value, "params", None)
    if params is None:
        return None
    return str(getattr(value, "function", None) or value.name), dict(params)


def label(value: Any) -> Any:
    """Return an argument as tables show it: numbers stay numbers, everything else becomes its short text."""
    if value is None:
        return "default"
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return f"array{value.shape}"
    if hasattr(value, "array"):
        return f"array{value.array.shape}"
    found = _name_and_params(value)
    if found is None:
        return repr(value)
    name, params = found
    inside = ", ".join(f"{key}={item}" for key, item in params.items())
    return f"{name}({inside})" if inside else name
