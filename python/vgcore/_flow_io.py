"""Layer: results, files of a flow. JSON for reading, npz for size; never pickle.

Knows the two containers, nothing of what the arrays mean.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._table import json_safe, plain
from .errors import ArgumentError

if TYPE_CHECKING:
    from .flow import GradientFlow

__all__ = ["array_from_json", "array_to_json", "flow_from_dict", "flow_to_dict", "load_flow", "save_flow"]

FORMAT: Final = "vgcore.GradientFlow"
VERSION: Final = 1
_NOT_OURS: Final = f"expected a file written by GradientFlow.save (format {FORMAT!r}, version {VERSION})"

# Lists of mappings: recurrent layers, and the layers around them.
_LISTS: Final = ("time", "stages")

_Parts = tuple[dict[str, Any], dict[str, Any]]


def flow_to_dict(flow: GradientFlow) -> dict[str, Any]:
    """Return the flow as plain Python; each array is {"dtype", "data"}."""
    values, arrays = _split(flow.raw)
    return _head(values, flow.meta) | {"arrays": {key: array_to_json(value) for key, value in arrays.items()}}


def flow_from_dict(data: Mapping[str, Any]) -> _Parts:
    """Return (raw, meta) from what ``flow_to_dict`` gave, also after a round trip through strict JSON."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ArgumentError(_NOT_OURS)
    arrays = {key: array_from_json(entry) for key, entry in data["arrays"].items()}
    meta = {key: _float(value) for key, value in data["meta"].items()}
    return _joined({key: _float(value) for key, value in data["values"].items()}, arrays), meta


def save_flow(flow: GradientFlow, path: str | PathLike[str]) -> None:
    """Write `flow` as the suffix of `path` says."""
    target = Path(path)
    if target.suffix == ".json":
        target.write_text(json.dumps(json_safe(flow_to_dict(flow)), allow_nan=False), encoding="utf-8")
    elif target.suffix == ".npz":
        values, arrays = _split(flow.raw)
        head = json.dumps(json_safe(_head(values, flow.meta) | {"arrays": {}}))
        with target.open("wb") as stream:
            np.savez_compressed(stream, _head=np.array(head), **arrays)
    else:
        raise ArgumentError(f'path: expected a name that ends in .json or .npz, got "{target.name}"')


def load_flow(path: str | PathLike[str]) -> _Parts:
    """Return (raw, meta) from a file that ``save_flow`` wrote."""
    source = Path(path)
    try:
        if source.suffix == ".json":
            return flow_from_dict(json.loads(source.read_text(encoding="utf-8")))
        with np.load(source, allow_pickle=False) as archive:
            raw, meta = flow_from_dict(json.loads(str(archive["_head"])))
            return _joined(raw, {key: archive[key] for key in archive.files if key != "_head"}), meta
    except (KeyError, IndexError, TypeError, AttributeError, zipfile.BadZipFile, ValueError) as error:
        raise ArgumentError(f'path: {_NOT_OURS}, got "{source}" ({error})') from error


def array_to_json(array: Any) -> dict[str, Any]:
    """Return an array as its element type and nested lists."""
    entry = {"dtype": array.dtype.str.lstrip("<=|>"), "data": array.tolist()}
    # Nested lists tell an array's shape, except where an axis has no entries.
    return entry if array.size else entry | {"shape": list(array.shape)}


def array_from_json(entry: Mapping[str, Any]) -> Any:
    """Return the array that ``array_to_json`` wrote."""
    # Text stands for NaN and infinities (JSON has neither); NumPy reads it as float() does.
    array = np.asarray(entry["data"], dtype=entry["dtype"])
    return array.reshape(entry["shape"]) if "shape" in entry else array


def _head(values: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "meta": plain(meta), "values": plain(values)}


def _split(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is not an array and the arrays by name.

    Those of entry i of a list are named "time/i/..." or "stages/i/...": both containers hold one level.
    """
    values: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, np.ndarray):
            arrays[key] = value
        elif key in _LISTS:
            parts = [_split(block) for block in value]
            values[key] = [part[0] for part in parts]
            for i, (_, inner) in enumerate(parts):
                arrays |= {f"{key}/{i}/{name}": array for name, array in inner.items()}
        elif not _heavy(value):
            values[key] = value
    return values, arrays


def _heavy(value: Any) -> bool:
    """True for the gradients themselves, which a pass may bring along and a flow does not keep."""
    if isinstance(value, dict):
        return any(isinstance(item, (tuple, dict, np.ndarray)) for item in value.values())
    return isinstance(value, tuple)


def _joined(values: dict[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the raw mapping that ``_split`` took apart."""
    for key, array in arrays.items():
        path = key.split("/", 2)
        if len(path) == 3 and path[0] in _LISTS:
            values[path[0]][int(path[1])][path[2]] = array
        else:
            values[key] = array
    return values


def _float(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _float(item) for key, item in value.items()}
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
