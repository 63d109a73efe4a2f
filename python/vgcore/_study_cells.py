"""Layer: study, cells. One cell of a study: its key, its run, and the file that remembers finished ones.

Knows how to build, probe and store one network; nothing of how cells are chosen or shown. Everything here can
be pickled, so that any executor can run it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from ._study_values import label
from ._table import json_safe
from .errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._flow_time import TimeFlow
    from .flow import GradientFlow
    from .network import Network

__all__ = ["Cell", "Store", "build", "digest", "failure", "run_cell"]

# A curve keeps at most this many steps: enough for any picture, a few kilobytes a cell in the file.
CURVE_POINTS: Final = 2000
# Changes when what a cell measures or how it is stored changes, so that old files are not mistaken for new
# ones.
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One network of a study: its arguments, the seed, and the key that finds it in a store.

    `args`: those of ``vg.mlp``; or, where there is a "cell" among them, those of ``vg.rnn`` and "length".
    """

    args: dict[str, Any]
    seed: int
    key: str

    @property
    def work(self) -> float:
        """Layers to run, or time steps of all layers: what the progress bar counts."""
        if "cell" in self.args:
            ways = 2 if self.args.get("bidirectional") is True else 1
            return float(self.args["length"] * self.args.get("num_layers", 1) * ways)
        return float(self.args.get("depth", 1))

    def describe(self) -> dict[str, Any]:
        """Return arguments and seed as plain values, for tables and progress functions."""
        return {name: label(value) for name, value in self.args.items()} | {"seed": self.seed}


def digest(*arrays: NDArray[Any]) -> str:
    """Return a SHA-256 of values, types and shapes."""
    sha = hashlib.sha256()
    for array in arrays:
        native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        sha.update(f"{native.dtype.str}{native.shape}".encode())
        sha.update(native.tobytes())
    return sha.hexdigest()


def build(args: Mapping[str, Any], seed: int, x: Any = None) -> Network:
    """Return the network of a cell: recurrent where the arguments name a recurrent cell, and cured.

    `x`: the data, for cures that look at them.
    """
    from . import models

    own = {name: value for name, value in args.items() if name not in ("length", "mitigation")}
    net = models.rnn(**own, rng=seed) if "cell" in args else models.mlp(**own, rng=seed)
    if args.get("mitigation", "none") == "none":
        return net
    from .mitigations import as_cures

    return net.mitigate(*as_cures(args["mitigation"]), x=x)


def run_cell(args: Mapping[str, Any], seed: int, x: Any, y: Any, loss: Any) -> dict[str, Any]:
    """Build one network, probe it, and return what the study keeps; an error is recorded, not raised."""
    start = time.perf_counter()
    outcome: dict[str, Any] = {"status": "ok", "message": "", "verdict": "", "quantities": {}, "curve": {}}
    try:
        net = build(args, seed, x)
        flow = net.probe(x, y, loss=loss)
        outcome |= _measured(flow)
        outcome["quantities"]["num_parameters"] = float(net.num_parameters)
    except Exception as error:  # whatever one cell does, the others go on and the message is kept
        outcome = failure(error)
    outcome["quantities"]["seconds"] = time.perf_counter() - start
    return outcome


def failure(error: BaseException) -> dict[str, Any]:
    """Return the outcome of a cell that failed."""
    message = f"{type(error).__name__}: {error}"
    return {"status": "error", "message": message, "verdict": "", "quantities": {}, "curve": {}}


def _measured(flow: GradientFlow) -> dict[str, Any]:
    diagnosis = flow.diagnose()
    grad, weight = flow.log10_grad_norm, flow.log10_weight_grad_norm
    low, high = diagnosis.ci
    quantities: dict[str, float] = {
        "log10_grad_norm_first": float(grad[0]),
        "log10_grad_norm_last": float(grad[-1]),
        "log10_weight_grad_norm_first": float(weight[0]),
        "log10_weight_grad_norm_last": float(weight[-1]),
        "log10_input_grad_norm": flow.log10_input_grad_norm,
        "decades_per_step": diagnosis.decades_per_step,
        "decades_per_step_low": low,
        "decades_per_step_high": high,
        "total_decades": diagnosis.total_decades,
        "loss": float("nan") if flow.loss is None else flow.loss,
        "steps": float(flow.steps),
    }
    quantities |= {f"horizon_{name}": float(steps) for name, steps in diagnosis.horizon.items()}
    for sign in diagnosis.signs:
        if sign.name in _KEPT_SIGNS:
            quantities[_KEPT_SIGNS[sign.name]] = sign.value
    kept = np.unique(np.round(np.linspace(0, flow.steps - 1, min(flow.steps, CURVE_POINTS))).astype(np.int64))
    curve = {"step": kept.tolist(), "log10_grad_norm": grad[kept].tolist()}
    if flow.axis == "time":
        quantities |= _of_time(cast("TimeFlow", flow), curve, kept)
    return {"verdict": diagnosis.verdict, "quantities": quantities, "curve": curve}


def _of_time(flow: TimeFlow, curve: dict[str, list[Any]], kept: NDArray[np.int64]) -> dict[str, float]:
    """Return what only recurrent networks have, and add the gradient of their memory to the curve."""
    main = flow.main
    found = {"half_life": float(main.half_life), "log10_state_grad_norm": float(main.log10_state_grad_norm)}
    if main.has_cell_state:
        memory = main.log10_cell_grad_norm
        found |= {
            "log10_cell_grad_norm_first": float(memory[0]),
            "log10_cell_grad_norm_last": float(memory[-1]),
        }
        curve["log10_cell_grad_norm"] = memory[kept].tolist()
    return found


_KEPT_SIGNS: Final = {
    "early layers' share of the whole update": "log10_early_update_share",
    "dead units": "dead_share",
    "saturation": "saturated_share",
    "flushed in float32": "flushed_share_float32",
    "flushed in float16": "flushed_share_float16",
}


class Store:
    """A JSON-lines file of finished cells: appended to one line a cell, so that a run can be cut off at any
    moment.

    `path`: a directory (the file is then ``cells.jsonl`` in it) or a file named ``*.jsonl``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        self.path = given if given.suffix == ".jsonl" else given / "cells.jsonl"
        if given.suffix != ".jsonl" and given.is_file():
            raise ArgumentError(
                f'storage: expected a directory or a file named *.jsonl, got the file "{given}"'
            )

    def read(self, *, failed: bool = False) -> dict[str, dict[str, Any]]:
        """Return finished cells by key, failed ones too if asked; a line that was cut off is passed over."""
        found: dict[str, dict[str, Any]] = {}
        for entry in self._lines():
            if entry.get("status") == "ok" or (failed and entry["key"] not in found):
                found[entry["key"]] = entry
        return found

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as stream:
            for line in stream:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if (
                    isinstance(entry, dict)
                    and entry.get("format") == FORMAT
                    and isinstance(entry.get("key"), str)
                ):
                    yield revive(entry)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one finished cell and make sure that it is on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(json_safe({"format": FORMAT, **entry}), allow_nan=False) + "\n"
        with self.path.open("ab+") as stream:
            # After a cut-off line the next one must start on its own.
            if stream.seek(0, os.SEEK_END) > 0:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    text = "\n" + text
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())


def revive(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a stored cell with its numbers as floats: JSON holds NaN and infinities as text."""
    entry["quantities"] = {name: float(value) for name, value in entry.get("quantities", {}).items()}
    curve = entry.get("curve") or {}
    entry["curve"] = {
        name: values if name == "step" else [float(value) for value in values]
        for name, values in curve.items()
    }
    return entry
