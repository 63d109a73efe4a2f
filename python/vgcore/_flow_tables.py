"""Layer: results, tables of a flow. Which quantities make up the long table and the table of units.

Knows the names of a flow's arrays, nothing of how they are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._flow_steps import KIND_NAMES
from ._formats import FORMATS

if TYPE_CHECKING:
    from .flow import GradientFlow

__all__ = ["HIST_BINS", "flow_table", "unit_table"]

HIST_BINS: Final = 32

# Quantity and unit of measurement; the first group is always there, the second with full statistics.
_NORMS: Final = (
    ("log10_grad_norm", "log10"),
    ("log10_delta_norm", "log10"),
    ("log10_weight_grad_norm", "log10"),
    ("log10_bias_grad_norm", "log10"),
)
_STATISTICS: Final = (
    ("log10_delta_max", "log10"),
    ("log10_delta_mean_abs", "log10"),
    ("log10_weight_norm", "log10"),
    ("grad_spread", "decades"),
    ("share_zero", "share"),
    ("share_nonfinite", "share"),
    ("out_mean", "value"),
    ("out_var", "value"),
    ("pre_mean", "value"),
    ("pre_var", "value"),
    ("saturated", "share"),
    ("zero_slope", "share"),
    ("dead", "count"),
)
_PER_FORMAT: Final = ("share_flushed", "share_subnormal", "share_overflow")


def quantities(flow: GradientFlow) -> dict[str, tuple[str, Any]]:
    """Return every quantity of `flow` per step: name -> (unit of measurement, array)."""
    result = {name: (unit, getattr(flow, name)) for name, unit in _NORMS}
    if not flow.has_statistics:
        return result
    result |= {name: (unit, getattr(flow, name)) for name, unit in _STATISTICS}
    for name in _PER_FORMAT:
        for entry in FORMATS:
            result[f"{name}_{entry}"] = ("share", getattr(flow, name)(entry))
    if flow.lr:
        result["log10_update_to_weight"] = ("log10", flow.update_to_weight())
    if "weight_unchanged" in flow.raw:
        result["unchanged_share"] = ("share", flow.unchanged_share)
    return result


def flow_table(flow: GradientFlow) -> dict[str, Any]:
    """Return the long table: columns step, unit, quantity, value; quantities one after another."""
    found = quantities(flow)
    steps, kinds = flow.steps, len(found)
    # Object columns share one string per quantity: a tenth of the memory of fixed-width text.
    names = np.empty(kinds, dtype=object)
    names[:] = list(found)
    units = np.empty(kinds, dtype=object)
    units[:] = [unit for unit, _ in found.values()]
    return {
        "step": np.tile(np.arange(steps), kinds),
        "unit": np.repeat(units, steps),
        "quantity": np.repeat(names, steps),
        "value": np.concatenate([np.asarray(values, dtype=np.float64) for _, values in found.values()]),
    }


def unit_table(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row per unit: its place, kind and width, then every measured quantity.

    Arrays per format become one column each (``delta_flush_float16``); histograms are left out.
    """
    step = np.asarray(raw["step"])
    kinds = np.asarray(KIND_NAMES, dtype=object)[np.asarray(raw["kind"], dtype=np.intp)]
    columns: dict[str, Any] = {
        "unit": np.arange(step.size), "step": step, "kind": kinds, "width": np.asarray(raw["width"])
    }  # fmt: skip
    for key, value in raw.items():
        if key in columns or not isinstance(value, np.ndarray) or value.shape[:1] != step.shape:
            continue
        if value.ndim == 1 and key != "delta_hist_top":
            columns[key] = value
        elif value.ndim == 2 and value.shape[1] == len(FORMATS):
            columns |= {f"{key}_{name}": value[:, i] for i, name in enumerate(FORMATS)}
    return columns
