"""Layer: files. A network as one safetensors file: parameters as tensors, structure as JSON in the header.

Knows layers as dataclasses and safetensors files, not how a network runs. Nothing is pickled, so a file from
a stranger can hold wrong numbers but no code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._checks import as_size, shown
from .cells import Cell, GateBias
from .errors import ArgumentError, VgcoreError, missing_dependency
from .initializers import FromArray, Initializer
from .layers import Layer
from .parametrizations import Parametrization

#: Version of the structure's JSON. Readers refuse what is newer.
FORMAT_VERSION = 1

#: Tensors that are explicit initial values, not parameters, have names that begin so.
_INITIAL = "initial/"

Tensors = dict[str, NDArray[Any]]


def write(
    path: str | os.PathLike[str],
    parameters: Mapping[str, NDArray[Any]],
    layers: Sequence[Layer],
    in_features: int,
    dtype: str,
    seed: int,
    version: str,
    applied: Mapping[str, Any],
    touched: bool,
) -> None:
    """Write a network and the cures that made it; the file appears whole or not at all.

    `touched`: whether parameters may be others than those that the seed draws.
    """
    numpy_io = _safetensors("saving a network").numpy
    initial: Tensors = {}
    structure = {
        "format": FORMAT_VERSION,
        "in_features": in_features,
        "dtype": dtype,
        "seed": str(seed),  # as text: JSON readers elsewhere may hold numbers as floats
        "layers": [_encode(layer, initial) for layer in layers],
        "touched": touched,
    } | ({"applied": dict(applied)} if applied else {})
    metadata = {"vgcore": version, "vgcore_network": json.dumps(structure, separators=(",", ":"))}
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        numpy_io.save_file({**parameters, **initial}, partial, metadata=metadata)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Layer], Tensors]:
    """Return (structure, layers, parameters) of a file that `write` wrote.

    Raises:
        FileNotFoundError: no such file.
        ArgumentError: a file that is no saved network, or one of a newer version.
    """
    safetensors = _safetensors("loading a network")
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"no such file: {str(source)!r}")
    try:
        with safetensors.safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except safetensors.SafetensorError as error:
        raise ArgumentError(f"{str(source)!r} is not a safetensors file ({error})") from error
    if "vgcore_network" not in metadata:
        raise ArgumentError(
            f"{str(source)!r} holds tensors but no vgcore network; to use its weights, build the network and "
            f"call load_parameters(safetensors.numpy.load_file(path))"
        )
    try:
        structure = json.loads(metadata["vgcore_network"])
        if structure["format"] > FORMAT_VERSION:
            raise ArgumentError(
                f"{str(source)!r} was written by vgcore {metadata.get('vgcore', '?')}, whose files this "
                f"version cannot read; upgrade vgcore"
            )
        structure["seed"] = int(structure["seed"])
        as_size(structure["in_features"], "in_features")
        layers = [_decode(item, tensors) for item in structure["layers"]]
    except VgcoreError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{str(source)!r} has a damaged network description ({error!r})") from error
    return (
        structure,
        layers,
        {name: value for name, value in tensors.items() if not name.startswith(_INITIAL)},
    )


def described(layers: Sequence[Layer], in_features: int) -> dict[str, Any] | None:
    """Return layers as plain values that go into JSON, for results; None where they hold explicit arrays."""
    initial: Tensors = {}
    found = [_encode(layer, initial) for layer in layers]
    return None if initial else {"in_features": in_features, "layers": found}


def fingerprint(layers: Sequence[Layer]) -> str:
    """Return a short text that is another one for other layers; how their weights start does not count."""
    found = [_kept(_encode(layer, {})) for layer in layers]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:10]


#: Fields that say how weights start.
_STARTS: Final = ("init", "bias_init", "recurrent_init", "gate_bias", "sigma_w2", "sigma_b2")


def _kept(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _kept(item) for key, item in value.items() if key not in _STARTS}
    return [_kept(item) for item in value] if isinstance(value, list) else value


def layers_from(items: Sequence[Any]) -> list[Layer]:
    """Return the layers of what `described` gave.

    Raises:
        ArgumentError: a kind of layer that this version does not know.
    """
    return [_decode(item, {}) for item in items]


def _encode(layer: Layer, initial: Tensors) -> dict[str, Any]:
    values = {f.name: _encode_value(getattr(layer, f.name), initial) for f in fields(layer)}  # type: ignore[arg-type]  # a dataclass
    return {"kind": layer.kind, **values}


def _encode_value(value: Any, initial: Tensors) -> Any:
    if isinstance(value, tuple):
        return [_encode(layer, initial) for layer in value]
    if isinstance(value, Layer):
        return _encode(value, initial)
    if isinstance(value, Initializer):
        return {"initializer": value.name, "params": dict(value.params)}
    if isinstance(value, Parametrization):
        return {"parametrization": value.name, "params": dict(value.params)}
    if isinstance(value, Cell):
        return {"cell": value.name, "params": dict(value.params)}
    if isinstance(value, GateBias):
        return {"gate_bias": value.kind, "value": value.value}
    if isinstance(value, FromArray):
        key = next((k for k, array in initial.items() if array is value.array), f"{_INITIAL}{len(initial)}")
        initial[key] = value.array
        return {"array": key, "weak": value.weak}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    raise AssertionError(f"a layer's field of type {type(value).__name__} has no form in a file")


def _decode(item: Any, tensors: Tensors) -> Layer:
    kind = Layer.kinds.get(item["kind"])
    if kind is None:
        raise ArgumentError(
            f"unknown kind of layer {shown(item['kind'])} in the file; a newer vgcore may know it"
        )
    values = {key: _decode_value(value, tensors) for key, value in item.items() if key != "kind"}
    return kind.from_fields(values)


def _decode_value(value: Any, tensors: Tensors) -> Any:
    if isinstance(value, list):
        return [_decode(layer, tensors) for layer in value]
    if isinstance(value, dict) and "kind" in value:
        return _decode(value, tensors)
    if isinstance(value, dict) and "initializer" in value:
        return Initializer(value["initializer"], value["params"])
    if isinstance(value, dict) and "parametrization" in value:
        return Parametrization(value["parametrization"], value["params"])
    if isinstance(value, dict) and "cell" in value:
        return Cell(value["cell"], value["params"])
    if isinstance(value, dict) and "gate_bias" in value:
        return GateBias(value["gate_bias"], value["value"])
    if isinstance(value, dict) and "array" in value:
        array = np.ascontiguousarray(tensors[value["array"]])
        array.flags.writeable = False
        return FromArray(array, weak=bool(value["weak"]))
    return value


def _safetensors(purpose: str) -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise missing_dependency("safetensors", "io", purpose) from None
    return safetensors
