"""Layer: results, tables of a history. Its long table, and the table of epochs.

Knows the arrays of a training's records, nothing of how they are measured.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ._fit_records import Records

__all__ = ["epoch_table", "history_table"]

_LOG10_2: Final = math.log10(2.0)


def epoch_table(records: Records) -> dict[str, Any]:
    """Return one row an epoch; means over its steps, NaN where nothing was measured."""
    # What was resumed from its state alone begins behind epochs that are not told of here.
    first, last = (int(records.epoch[0]), int(records.epoch[-1]) + 1) if records.epoch.size else (0, 0)
    held_out = {entry.epoch: entry for entry in records.validation}
    number = max([last, first + records.seconds.size, *(epoch + 1 for epoch in held_out)])
    steps = (
        np.bincount(records.epoch, minlength=number)[:number] if last else np.zeros(number, dtype=np.int64)
    )
    ends = np.cumsum(steps) - 1
    seconds = np.full(number, np.nan)
    seconds[first : first + records.seconds.size] = records.seconds
    missing = np.full(number, np.nan)
    columns: dict[str, Any] = {
        "epoch": np.arange(number),
        "steps": steps,
        "loss": _means(records.loss, records.epoch, steps),
        "accuracy": missing if records.accuracy is None else _means(records.accuracy, records.epoch, steps),
        "lr": np.where(steps > 0, records.lr[ends], np.nan) if last else missing,
        "seconds": seconds,
    }
    for name in ("loss", "score"):
        found = [getattr(held_out[i], name) if i in held_out else math.nan for i in range(number)]
        columns[f"validation_{name}"] = np.array(found, dtype=np.float64)
    return columns


def _means(values: Any, epoch: Any, steps: Any) -> Any:
    if not values.size:
        return np.full(steps.size, np.nan)
    with np.errstate(invalid="ignore"):
        return np.bincount(epoch, weights=values, minlength=steps.size) / np.where(steps > 0, steps, np.nan)


def history_table(records: Records) -> dict[str, Any]:
    """Return the long table (step, epoch, layer, name, quantity, value), one quantity after another."""
    pieces: list[tuple[Any, Any, Any, str, Any]] = []
    steps = np.arange(records.loss.size)
    whole = np.full(steps.size, -1)
    for name in ("loss", "accuracy", "lr"):
        values = getattr(records, name)
        if values is not None:
            pieces.append((steps, records.epoch, whole, name, values))
    epochs = epoch_table(records)
    ends = np.cumsum(epochs["steps"]) - 1
    for name in ("seconds", "validation_loss", "validation_score"):
        known = np.flatnonzero(~np.isnan(epochs[name]))
        if known.size:
            pieces.append((ends[known], known, np.full(known.size, -1), name, epochs[name][known]))
    per_layer = {
        "log10_grad_norm": records.log2_grad_norm * _LOG10_2,
        "update_ratio": records.update_ratio,
        "dead": records.dead,
        "unchanged": records.unchanged,
        "zero_weights": records.zero_weights,
    }
    layers = len(records.units)
    at = np.repeat(records.recorded, layers)
    place = np.tile(np.arange(layers), records.recorded.size)
    # A recorded step has an epoch of its own number; one behind the last belongs to none and cannot be.
    when = records.epoch[at] if at.size else at
    for name, values in per_layer.items():
        if values is not None:
            pieces.append((at, when, place, name, np.asarray(values, dtype=np.float64).ravel()))
    # Object columns share one string per name: a tenth of the memory of fixed-width text.
    names = np.empty(layers + 1, dtype=object)
    names[:] = [*records.units.names, ""]
    place = _joined([piece[2] for piece in pieces], np.int64)
    quantity = np.empty(len(pieces), dtype=object)
    quantity[:] = [piece[3] for piece in pieces]
    return {
        "step": _joined([piece[0] for piece in pieces], np.int64),
        "epoch": _joined([piece[1] for piece in pieces], np.int64),
        "layer": place,
        "name": names[place],
        "quantity": np.repeat(quantity, [piece[4].size for piece in pieces]),
        "value": _joined([piece[4] for piece in pieces], np.float64),
    }


def _joined(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate([np.asarray(part, dtype=dtype) for part in parts])
