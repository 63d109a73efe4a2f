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

__all__ = ["flow_from_dict", "flow_to_dict", "load_flow", "save_flow"]

FORMAT: Final = "vgcore.GradientFlow"
VERSION: Final = 1
_NOT_OURS: Final = f"expected a file written by GradientFlow.save (format {FORMAT!r}, version {VERSION})"

_Parts = tuple[dict[str, Any], dict[str, Any]]


def flow_to_dict(flow: GradientFlow) -> dict[str, Any]:
    """Return the flow as plain Python; each array is {"dtype", "data"}."""
    arrays = {
        key: {"dtype": value.dtype.str.lstrip("<=|>"), "data": value.tolist()}
        for key, value in flow.raw.items()
        if isinstance(value, np.ndarray)
    }
    values = {
        key: plain(value) for key, value in flow.raw.items() if key not in arrays and not _nested(value)
    }
    return {
        "format": FORMAT, "version": VERSION, "meta": plain(flow.meta), "values": values, "arrays": arrays,
    }  # fmt: skip


def flow_from_dict(data: Mapping[str, Any]) -> _Parts:
    """Return (raw, meta) from what ``flow_to_dict`` gave, also after a round trip through strict JSON."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ArgumentError(_NOT_OURS)
    raw: dict[str, Any] = {key: _float(value) for key, value in data["values"].items()}
    for key, entry in data["arrays"].items():
        # Text stands for NaN and infinities (JSON has neither); NumPy reads it as float() does.
        raw[key] = np.asarray(entry["data"], dtype=entry["dtype"])
    return raw, {key: _float(value) for key, value in data["meta"].items()}


def save_flow(flow: GradientFlow, path: str | PathLike[str]) -> None:
    """Write `flow` as the suffix of `path` says."""
    target = Path(path)
    if target.suffix == ".json":
        target.write_text(json.dumps(json_safe(flow_to_dict(flow)), allow_nan=False), encoding="utf-8")
    elif target.suffix == ".npz":
        head = flow_to_dict(_without_arrays(flow))
        arrays: dict[str, Any] = {k: value for k, value in flow.raw.items() if isinstance(value, np.ndarray)}
        with target.open("wb") as stream:
            np.savez_compressed(stream, _head=np.array(json.dumps(json_safe(head))), **arrays)
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
            return raw | {key: archive[key] for key in archive.files if key != "_head"}, meta
    except (KeyError, TypeError, AttributeError, zipfile.BadZipFile, ValueError) as error:
        raise ArgumentError(f'path: {_NOT_OURS}, got "{source}" ({error})') from error


def _nested(value: Any) -> bool:
    """True for the gradients themselves, which a pass may bring along and a flow does not keep."""
    return isinstance(value, (dict, tuple))


def _without_arrays(flow: GradientFlow) -> Any:
    from dataclasses import replace

    return replace(
        flow, raw={key: value for key, value in flow.raw.items() if not isinstance(value, np.ndarray)}
    )


def _float(value: Any) -> Any:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
