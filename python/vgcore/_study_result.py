"""Layer: study, the result. What every cell measured, as a table, a summary, files and pictures.

Knows the entries that cells leave, nothing of how they ran.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ._study_cells import Store
from ._study_values import decode_value, label
from ._table import count, json_lines, json_safe, plain, power, render, render_html, to_pandas, write_csv
from .errors import ArgumentError, missing_dependency, unknown_name

__all__ = ["StudyResult"]


@dataclass(frozen=True, eq=False, repr=False)
class StudyResult:
    """Results of a study, one entry per cell, in the order of its grid.

    Attributes:
        spec: what reproduces the study: axes, seeds, loss, digest of the data, version. ``Study.from_spec``
            reads it.
        cells: one dict per cell: ``cell`` (arguments and seed), ``status`` ("ok" or "error"), ``message``,
            ``verdict``, ``quantities`` (name -> number) and ``curve`` (``step``, ``log10_grad_norm``).
        reused: how many cells were found in the storage and not run.
    """

    spec: Mapping[str, Any]
    cells: Sequence[Mapping[str, Any]]
    reused: int = field(default=0)

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @cached_property
    def axes(self) -> dict[str, list[Any]]:
        """Every argument that was varied or set, with its values as tables show them."""
        return {
            name: [label(decode_value(name, v)) for v in values] for name, values in self.spec["axes"].items()
        }

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Arguments, seed and message of the cells that failed."""
        return [
            {**entry["cell"], "message": entry["message"]} for entry in self.cells if entry["status"] != "ok"
        ]

    @cached_property
    def table(self) -> dict[str, list[Any]]:
        """Long format, one row per cell and quantity.

        Columns: every argument, ``seed``, ``status``, ``verdict``, ``quantity``, ``value``. Quantities:
        ``log10_grad_norm_first`` (step 0, nearest the input) and ``_last``, ``log10_weight_grad_norm_first``
        and ``_last``, ``log10_input_grad_norm``, ``decades_per_step`` with ``_low`` and ``_high`` (95 %),
        ``total_decades``, ``horizon_<format>``, shares of flushed, dead and saturated,
        ``log10_early_update_share``, ``loss``, ``steps``, ``num_parameters``, ``seconds``. Recurrent networks
        also have ``half_life`` (steps), ``log10_state_grad_norm`` and, with a cell state,
        ``log10_cell_grad_norm_first`` and ``_last``.
        """
        names = list(dict.fromkeys(name for entry in self.cells for name in entry["cell"]))
        columns: dict[str, list[Any]] = {
            name: [] for name in [*names, "status", "verdict", "quantity", "value"]
        }
        for entry in self.cells:
            for quantity, value in entry["quantities"].items():
                row = {**entry["cell"], "status": entry["status"], "verdict": entry["verdict"]}
                for name, column in columns.items():
                    column.append(row.get(name))
                columns["quantity"][-1], columns["value"][-1] = quantity, float(value)
        return columns

    @cached_property
    def curves(self) -> list[dict[str, Any]]:
        """One dict per cell: its arguments, seed, and arrays ``step`` and ``log10_grad_norm``.

        An lstm also has ``log10_cell_grad_norm``, of dL/dc_t. Up to 2,000 steps all are there; deeper cells
        keep 2,000 evenly spaced ones, the first and the last among them, each exact.
        """
        found = []
        for entry in self.cells:
            empty: dict[str, list[Any]] = {"step": [], "log10_grad_norm": []}
            curve = empty | dict(entry["curve"])
            kinds = {name: np.int64 if name == "step" else np.float64 for name in curve}
            found.append(
                {**entry["cell"]} | {name: np.asarray(curve[name], dtype=kinds[name]) for name in curve}
            )
        return found

    def select(self, **where: Any) -> list[Mapping[str, Any]]:
        """Return the cells whose arguments equal the given ones; a list means any of its values.

        Raises:
            UnknownNameError: no such argument.
            ArgumentError: no cell has that value.
        """
        found = list(self.cells)
        for name, wanted in where.items():
            known = list(found[0]["cell"]) if found else []
            if found and name not in known:
                raise unknown_name("study axis", name, known, "result.axes")
            values = [label(v) for v in (wanted if isinstance(wanted, (list, tuple, range)) else [wanted])]
            there = list(dict.fromkeys(entry["cell"][name] for entry in found))
            found = [entry for entry in found if entry["cell"][name] in values]
            if not found:
                raise ArgumentError(f"{name}: no cell has {wanted!r}; there are {', '.join(map(str, there))}")
        return found

    def summary(self) -> str:
        """Return a text table: networks down, depths across, with the norm that reaches the first layer.

        Each entry is |dL/dh_0| (median over seeds) and the verdict. ``decades/layer`` is the rate of the
        deepest network that has one (a dead one has none). ``0 in float32``: in the deepest network, the
        layer, counted back from the output, from which on a plain float32 gradient reads zero.

        Of recurrent networks: lengths across, the norm that reaches the first time step, and the rate per
        step back in time, of the longest sequences; in an lstm it is the rate of dL/dc_t, its memory.
        """
        header, rows = self._summary_rows()
        number = len(self.spec["seeds"])
        first = "layer" if self.along == "depth" else "time step"
        lines = [
            f"Gradient norm at the first {first}, |dL/dh_0|, and verdict. {len(self)} networks, "
            f"{number} seed{'s' * (number != 1)}{' (medians)' * (number > 1)}.",
            "",
            render(rows, header, left=len(self._row_axes)),
        ]
        if any("log10_cell_grad_norm" in entry["curve"] for entry in self.cells):
            lines += ["", "Rate, half-life and verdict of a cell with a state c are those of |dL/dc_t|."]
        if self.errors:
            lines += ["", f"{len(self.errors)} of {len(self)} cells failed:"]
            lines += self._failures()
        return "\n".join(lines)

    def _failures(self) -> list[str]:
        """One line per distinct message: how often, and the first cell that it struck."""
        varied = [name for name, values in self.axes.items() if len(values) > 1]
        by_message: dict[str, list[dict[str, Any]]] = {}
        for error in self.errors:
            by_message.setdefault(str(error["message"]), []).append(error)
        lines = []
        for message, struck in by_message.items():
            where = ", ".join(f"{name} {struck[0][name]}" for name in [*varied, "seed"])
            more = f" and {len(struck) - 1} more" if len(struck) > 1 else ""
            lines.append(f"  {where}{more}: {message}")
        return lines

    @property
    def along(self) -> str:
        """The axis along which gradients flow: "depth", or the "length" of sequences."""
        return "length" if "cell" in self.axes else "depth"

    @cached_property
    def _row_axes(self) -> list[str]:
        varied = [name for name, values in self.axes.items() if len(values) > 1 and name != self.along]
        always = ("activation", "init") if self.along == "depth" else ("cell",)
        named = [name for name in always if name in self.axes and name not in varied]
        return sorted({*varied, *named}, key=list(self.axes).index) or ["width"]

    def _summary_rows(self) -> tuple[list[str], list[list[str]]]:
        along, unit = self.along, "layer" if self.along == "depth" else "step"
        depths = list(dict.fromkeys(entry["cell"][along] for entry in self.cells))
        groups: dict[tuple[Any, ...], dict[int, list[Mapping[str, Any]]]] = {}
        for entry in self.cells:
            key = tuple(entry["cell"].get(name) for name in self._row_axes)
            groups.setdefault(key, {}).setdefault(entry["cell"][along], []).append(entry)
        header = [*self._row_axes, *(f"{along} {depth:,}" for depth in depths), f"decades/{unit}"]
        header += ["half-life"] * (along == "length") + ["0 in float32"]
        rows = []
        for key, by_depth in groups.items():
            deepest = by_depth[max(by_depth)]
            (rate, measured), horizon = measured_rate(by_depth), median(deepest, "horizon_float32")
            cells = [_summary_cell(by_depth.get(depth, [])) for depth in depths]
            reads = _lost_from(deepest, horizon)
            cells.append(f"{rate:+.4f}" if math.isfinite(rate) else "-")
            if along == "length":
                cells.append(_half_life(rate, median(by_depth[measured], "half_life")))
            rows.append([*map(str, key), *cells, reads])
        return header, rows

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table, categories=("status", "verdict", "quantity"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        return {"study": plain(self.spec), "cells": plain(list(self.cells))}

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write ``table`` as CSV, floats in full."""
        with Path(path).open("w", encoding="utf-8", newline="") as stream:
            write_csv(stream, self.table)

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Return everything as strict JSON (NaN and infinities as text); also write it to `path` if given."""
        text = json.dumps(json_safe(self.to_dict()), allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write ``table`` as Parquet.

        Raises:
            MissingDependencyError: pyarrow is not installed.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise missing_dependency("pyarrow", "pandas", "Parquet") from None
        columns = {name: _uniform(column) for name, column in self.table.items()}
        pyarrow.parquet.write_table(pyarrow.table(columns), str(path))

    def save(self, directory: str | PathLike[str]) -> list[Path]:
        """Write ``study.json`` (reproduces the study), ``cells.jsonl``, ``table.csv`` and ``summary.txt``.

        Returns the paths. ``cells.jsonl`` is also a storage: ``run(..., storage=directory)`` goes on from it.
        """
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        store = Store(target)
        present = store.read(failed=True)
        for entry in self.cells:
            if entry["key"] not in present:
                store.append({name: value for name, value in entry.items() if name not in ("cell", "format")})
        # The keys say which cells, in which order, make up this result: the file of cells may hold others
        # too.
        spec = {**self.spec, "cells": [entry["key"] for entry in self.cells]}
        (target / "study.json").write_text(json_lines(spec) + "\n", encoding="utf-8")
        self.to_csv(target / "table.csv")
        (target / "summary.txt").write_text(self.summary() + "\n", encoding="utf-8")
        return [target / name for name in ("study.json", "table.csv", "summary.txt", "cells.jsonl")]

    @classmethod
    def load(cls, directory: str | PathLike[str]) -> StudyResult:
        """Return the result that ``save`` wrote.

        Raises:
            ArgumentError: the directory holds none, or cells are missing.
        """
        source = Path(directory)
        try:
            spec = json.loads((source / "study.json").read_text(encoding="utf-8"))
            keys = spec.pop("cells")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ArgumentError(
                f'directory: "{source}" holds no result written by StudyResult.save ({error})'
            ) from error
        found = Store(source).read(failed=True)
        missing = [key for key in keys if key not in found]
        if missing:
            raise ArgumentError(
                f'directory: "{source}" lacks {len(missing)} of {len(keys)} cells; run the study again'
            )
        return cls(spec, [{"cell": _shown(found[key]), **found[key]} for key in keys], reused=len(keys))

    def plot(self, kind: str = "curves", ax: Any = None, **where: Any) -> Any:
        """Draw the study and return the matplotlib Axes.

        `kind`: "curves" (gradient norm against layer), "heatmap" (decades per layer, a column for every
        initializer and a row for every activation with all else that varies) or "rate" (decades per layer
        against depth). `where` chooses cells: ``plot("curves", depth=100, activation=["tanh", "relu"])``;
        unless chosen, curves and heat maps show the deepest networks. Of recurrent networks: against the time
        step, decades per step, cells down and lengths across, and against length.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            ArgumentError: no such kind or cells, or an `ax` that is none.
        """
        from ._study_plots import plot_study

        return plot_study(self, kind, ax, where)

    def __repr__(self) -> str:
        """One line: cells, failures, verdicts."""
        verdicts = Counter(entry["verdict"] for entry in self.cells if entry["status"] == "ok")
        found = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
        return f"<StudyResult of {len(self)} cells: {found or 'none finished'}, {len(self.errors)} failed>"

    def _repr_html_(self) -> str:
        header, rows = self._summary_rows()
        first = "layer" if self.along == "depth" else "time step"
        return render_html(rows, header, f"Gradient norm at the first {first}, and verdict")


def median(entries: Sequence[Mapping[str, Any]], quantity: str) -> float:
    """Median of a quantity over cells (seeds), infinities included; NaN when nothing is known."""
    values = sorted(
        entry["quantities"][quantity]
        for entry in entries
        if not math.isnan(entry["quantities"].get(quantity, math.nan))
    )
    if not values:
        return math.nan
    middle = len(values) // 2
    if len(values) % 2 or values[middle - 1] == values[middle]:
        return float(values[middle])
    return float((values[middle - 1] + values[middle]) / 2)


def measured_rate(by_depth: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[float, int]:
    """Rate of the deepest networks that have one, and their depth: dead ones have none."""
    for depth in sorted(by_depth, reverse=True):
        rate = median(by_depth[depth], "decades_per_step")
        if math.isfinite(rate):
            return rate, depth
    return math.nan, max(by_depth)


def verdict(entries: Sequence[Mapping[str, Any]]) -> str:
    """Most frequent verdict of cells, "failed" without any; of equally frequent ones not "stable"."""
    found = Counter(entry["verdict"] for entry in entries if entry["status"] == "ok")
    return max(found, key=lambda name: (found[name], name != "stable")) if found else "failed"


def _summary_cell(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return "-"
    if all(entry["status"] != "ok" for entry in entries):
        return "failed"
    return f"{power(median(entries, 'log10_grad_norm_first'))} {verdict(entries)}"


def _lost_from(entries: Sequence[Mapping[str, Any]], horizon: float) -> str:
    if math.isnan(horizon):
        return "-"
    rate = median(entries, "decades_per_step")
    # A horizon below the network's own depth was measured; one beyond it is an extrapolation and no finding.
    within = horizon <= median(entries, "steps")
    return f"from {count(horizon)} back" if within and not rate > 0 else "no"


def _half_life(rate: float, typical: float) -> str:
    """Half-life of the rate shown beside it; `typical`, the median of the cells' own, says if they have any.

    Of an even number of cells a median lies between two, and the half-life of a mean rate is not the mean.
    """
    if not (math.isfinite(typical) and rate < 0):
        return "-"
    return f"{math.log10(2.0) / -rate:.3g} steps"


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: label(decode_value(name, value)) for name, value in entry["args"].items()}
    return shown | {"seed": entry["seed"]}


def _uniform(column: list[Any]) -> list[Any]:
    """Return a column of one type, as Parquet wants it: text where types differ."""
    kinds = {type(value) for value in column if value is not None}
    return column if len(kinds) <= 1 else [None if value is None else str(value) for value in column]
