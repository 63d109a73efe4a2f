"""Layer: study, pictures. Which cells of a study make which picture, and how they are told apart.

Knows study results and the drawing functions of `plotting`; colour stands for the activation, line style and
marker for the initializer, whatever else varies goes into the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._study_result import measured_rate, median, verdict
from .errors import ArgumentError
from .plotting import COLOURS, LINES, MARKERS, plot_curves, plot_heatmap, plot_rates

if TYPE_CHECKING:
    from ._study_result import StudyResult

__all__ = ["plot_study"]

KINDS: Final = ("curves", "heatmap", "rate")

Entries = list[Mapping[str, Any]]


def plot_study(result: StudyResult, kind: str, ax: Any, where: dict[str, Any]) -> Any:
    """Draw one kind of picture of a study."""
    if kind not in KINDS:
        raise ArgumentError(f"kind: expected one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    options: dict[str, Any] = {
        name: where.pop(name) for name in ("title", "relative", "formats") if name in where
    }
    entries = [entry for entry in result.select(**where) if entry["status"] == "ok"]
    if not entries:
        raise ArgumentError("no cell to draw: the chosen cells all failed; result.errors says why")
    draw = {"curves": _curves, "heatmap": _heatmap, "rate": _rate}[kind]
    return draw(entries, where, ax, options)


def _varied(entries: Entries, without: Sequence[str] = ()) -> list[str]:
    names = [name for name in entries[0]["cell"] if name not in without]
    return [name for name in names if len({str(entry["cell"][name]) for entry in entries}) > 1]


def _fixed(entries: Entries, names: Sequence[str], where: Mapping[str, Any]) -> Entries:
    """Keep one value of each name that was not chosen: the deepest depth, the first of anything else."""
    for name in names:
        if name in where or name not in entries[0]["cell"]:
            continue
        values = [entry["cell"][name] for entry in entries]
        keep = max(values) if name == "depth" else values[0]
        entries = [entry for entry in entries if entry["cell"][name] == keep]
    return entries


def _label(entry: Mapping[str, Any], names: Sequence[str]) -> str:
    named = [
        str(entry["cell"][name]) if name in ("activation", "init") else f"{name} {entry['cell'][name]}"
        for name in names
    ]
    return ", ".join(named) or str(entry["cell"].get("activation", "network"))


def _styles(entries: Entries, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour by activation; line style and marker by the rest, so that no two lines look alike."""
    colour_by = "activation" if "activation" in names else (names[0] if names else None)
    rest = [name for name in names if name != colour_by]
    colours: dict[str, int] = {}
    lines: dict[str, int] = {}
    result: dict[str, dict[str, Any]] = {}
    for entry in entries:
        main = str(entry["cell"].get(colour_by)) if colour_by else ""
        other = str([entry["cell"][name] for name in rest])
        i, j = colours.setdefault(main, len(colours)), lines.setdefault(other, len(lines))
        result[_label(entry, names)] = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": LINES[j % len(LINES)],
        }
        result[_label(entry, names)]["marker"] = MARKERS[j % len(MARKERS)]
    return result


def _head(entries: Entries, names: Sequence[str]) -> str:
    """Describe what all drawn cells share."""
    cell = entries[0]["cell"]
    shared = [name for name in ("activation", "init", "depth", "width") if name in cell and name not in names]
    return ", ".join(
        f"{name} {cell[name]:,}" if isinstance(cell[name], int) else str(cell[name]) for name in shared
    )


def _curves(entries: Entries, where: Mapping[str, Any], ax: Any, options: dict[str, Any]) -> Any:
    chosen = _fixed(entries, ("depth", "seed"), where)
    names = _varied(chosen)
    curves, styles = {}, _styles(chosen, names)
    for entry in chosen:
        curves[_label(entry, names)] = (entry["curve"]["step"], entry["curve"]["log10_grad_norm"])
    options.setdefault("title", f"Gradient norm against layer: {_head(chosen, names)}")
    return plot_curves(curves, ax, styles=styles, **options)


def _heatmap(entries: Entries, where: Mapping[str, Any], ax: Any, options: dict[str, Any]) -> Any:
    others = _varied(entries, ("activation", "init", "seed"))
    entries = _fixed(entries, [name for name in others if name != "depth"], where)
    chosen = _fixed(entries, ("depth",), {})
    rows = list(dict.fromkeys(str(entry["cell"].get("activation", "default")) for entry in chosen))
    columns = list(dict.fromkeys(str(entry["cell"].get("init", "default")) for entry in chosen))
    cells: dict[tuple[str, str], dict[int, Entries]] = {}
    for entry in entries:
        key = str(entry["cell"].get("activation", "default")), str(entry["cell"].get("init", "default"))
        cells.setdefault(key, {}).setdefault(int(entry["cell"]["depth"]), []).append(entry)
    grid = np.full((len(rows), len(columns)), np.nan)
    marks = [["" for _ in columns] for _ in rows]
    for (row, column), by_depth in cells.items():
        if row not in rows or column not in columns:
            continue  # no finished network of the deepest kind
        i, j = rows.index(row), columns.index(column)
        grid[i, j], depth = measured_rate(by_depth)
        marks[i][j] = verdict(by_depth[max(by_depth)])
        if depth != max(by_depth):
            marks[i][j] += f"\n(rate at depth {depth:,})"
    head = _head(chosen, ("activation", "init"))
    options.setdefault("title", f"Decades per layer towards the input: {head}")
    return plot_heatmap(grid, rows, columns, ax, marks=marks, title=options["title"])


def _rate(entries: Entries, where: Mapping[str, Any], ax: Any, options: dict[str, Any]) -> Any:
    names = _varied(entries, ("depth", "seed"))
    groups: dict[str, dict[int, Entries]] = {}
    for entry in entries:
        groups.setdefault(_label(entry, names), {}).setdefault(int(entry["cell"]["depth"]), []).append(entry)
    lines = {}
    for name, by_depth in groups.items():
        depths = sorted(by_depth)
        rate, low, high = (
            [median(by_depth[d], f"decades_per_step{end}") for d in depths] for end in ("", "_low", "_high")
        )
        lines[name] = (depths, rate, low, high)
    options.setdefault(
        "title", f"Decades per layer against depth, 95 % intervals: {_head(entries, [*names, 'depth'])}"
    )
    return plot_rates(lines, ax, styles=_styles(entries, names), title=options["title"])
