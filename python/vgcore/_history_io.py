"""Layer: results, files of a history. JSON for reading, npz for size; never pickle.

Knows the two containers and that records are a tree of arrays and plain values; nothing of what they mean.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np

from ._fit_records import Records, Units, Validation
from ._flow_io import array_from_json, array_to_json
from ._table import json_safe, plain
from .errors import ArgumentError

__all__ = ["load_records", "records_from_dict", "records_to_dict", "save_records"]

FORMAT: Final = "vgcore.History"
VERSION: Final = 1
_NOT_OURS: Final = f"expected a file written by History.save (format {FORMAT!r}, version {VERSION})"
#: What reading a file raises that is empty, cut off, or of another kind.
_BROKEN: Final = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)
# In the place of an array: where it is found.
_PLACE: Final = "__array__"

_Arrays = dict[str, Any]


def records_to_dict(records: Records) -> dict[str, Any]:
    """Return the records as plain Python; each array is {"dtype", "data"}."""
    head, arrays = _split(records)
    return head | {"arrays": {key: array_to_json(value) for key, value in arrays.items()}}


def records_from_dict(data: Mapping[str, Any]) -> Records:
    """Return the records from what ``records_to_dict`` gave, also after a round trip through strict JSON.

    Raises:
        ArgumentError: another mapping.
    """
    try:
        arrays = {key: array_from_json(entry) for key, entry in data["arrays"].items()}
        return _joined(data, arrays)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArgumentError(f"data: expected what History.to_dict gave ({_said(error)})") from error


def save_records(records: Records, path: str | PathLike[str]) -> None:
    """Write `records` as the suffix of `path` says; the file appears whole or not at all."""
    target = Path(path)
    if target.suffix not in (".json", ".npz"):
        raise ArgumentError(f'path: expected a name that ends in .json or .npz, got "{target.name}"')
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        if target.suffix == ".json":
            text = json.dumps(json_safe(records_to_dict(records)), allow_nan=False)
            partial.write_text(text, encoding="utf-8")
        else:
            head, arrays = _split(records)
            with partial.open("wb") as stream:
                np.savez_compressed(stream, _head=np.array(json.dumps(json_safe(head))), **arrays)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def load_records(path: str | PathLike[str]) -> Records:
    """Return the records from a file that ``save_records`` wrote."""
    source = Path(path)
    try:
        if source.suffix == ".json":
            return records_from_dict(json.loads(source.read_text(encoding="utf-8")))
        with np.load(source, allow_pickle=False) as archive:
            head = json.loads(str(archive["_head"]))
            return _joined(head, {key: archive[key] for key in archive.files if key != "_head"})
    except _BROKEN as error:
        raise ArgumentError(f'path: {_NOT_OURS}, got "{source}" ({_said(error)})') from error


def _split(records: Records) -> tuple[dict[str, Any], _Arrays]:
    arrays: _Arrays = {}
    values = {
        entry.name: _without_arrays(getattr(records, entry.name), entry.name, arrays)
        for entry in fields(records)
    }
    return {"format": FORMAT, "version": VERSION, "values": values}, arrays


def _joined(head: Mapping[str, Any], arrays: Mapping[str, Any]) -> Records:
    if head["format"] != FORMAT or head["version"] != VERSION:
        raise ArgumentError(_NOT_OURS)
    values = _with_arrays(head["values"], arrays)
    units = values["units"]
    units["names"], units["kinds"] = tuple(units["names"]), tuple(units["kinds"])
    values["units"] = Units(**units)
    values["validation"] = tuple(Validation(**entry) for entry in values["validation"])
    return Records(**values)


def _without_arrays(value: Any, name: str, arrays: _Arrays) -> Any:
    """Return a tree whose arrays have been taken out, each leaving its name."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_PLACE: name}
    if isinstance(value, (Units, Validation)):
        value = {entry.name: getattr(value, entry.name) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _without_arrays(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_without_arrays(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    return plain(value)


def _with_arrays(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if _PLACE in value:
            return arrays[value[_PLACE]]
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    # JSON has neither NaN nor infinities: text stands for them.
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _said(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
