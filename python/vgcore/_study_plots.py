"""Layer: study, pictures. Which cells of a study make which picture, and how they are told apart.

Knows study results and the drawing functions of `plotting`; colour stands for the activation or the recurrent
cell, line style and marker for the initializer, whatever else varies goes into the label.
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
#: Told apart by their value alone; others by name and value.
SPEAKING: Final = ("activation", "init", "cell")

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


def _along(entries: Entries) -> str:
    """Return the axis along which gradients flow: "depth", or the "length" of sequences."""
    return "length" if "cell" in entries[0]["cell"] else "depth"


def _varied(entries: Entries, without: Sequence[str] = ()) -> list[str]:
    names = [name for name in entries[0]["cell"] if name not in without]
    return [name for name in names if len({str(entry["cell"][name]) for entry in entries}) > 1]


def _fixed(entries: Entries, names: Sequence[str], where: Mapping[str, Any]) -> Entries:
    """Keep one value of each name that was not chosen: the greatest depth or length, else the first."""
    for name in names:
        if name in where or name not in entries[0]["cell"]:
            continue
        values = [entry["cell"][name] for entry in entries]
        keep = max(values) if name in ("depth", "length") else values[0]
        entries = [entry for entry in entries if entry["cell"][name] == keep]
    return entries


def _label(entry: Mapping[str, Any], names: Sequence[str]) -> str:
    named = [
        str(entry["cell"][name]) if name in SPEAKING else f"{name} {entry['cell'][name]}" for name in names
    ]
    main = entry["cell"].get("cell") or entry["cell"].get("activation", "network")
    return ", ".join(named) or str(main)


def _styles(entries: Entries, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour by activation or cell; line style and marker by the rest, so that no two lines look alike."""
    first = [name for name in ("cell", "activation") if name in names]
    colour_by = next(iter([*first, *names]), None)
    rest = [name for name in names if name != colour_by]
    colours: dict[str, int] = {}
    lines: dict[str, int] = {}
    result: dict[str, dict[str, Any]] = {}
    for entry in entries:
        value = str(entry["cell"].get(colour_by)) if colour_by else ""
        other = str([entry["cell"][name] for name in rest])
        i, j = colours.setdefault(value, len(colours)), lines.setdefault(other, len(lines))
        result[_label(entry, names)] = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": LINES[j % len(LINES)],
        }
        result[_label(entry, names)]["marker"] = MARKERS[j % len(MARKERS)]
    return result


def _head(entries: Entries, names: Sequence[str]) -> str:
    """Describe what all drawn cells share."""
    cell = entries[0]["cell"]
    told = ("cell", "length", "hidden_size") if "cell" in cell else ("activation", "init", "depth", "width")
    shared = [name for name in told if name in cell and name not in names]
    return ", ".join(
        f"{name.replace('_', ' ')} {cell[name]:,}" if isinstance(cell[name], int) else str(cell[name])
        for name in shared
    )


def _curves(entries: Entries, where: Mapping[str, Any], ax: Any, options: dict[str, Any]) -> Any:
    along = _along(entries)
    chosen = _fixed(entries, (along, "seed"), where)
    names = _varied(chosen)
    curves, styles = {}, _styles(chosen, names)
    for entry in chosen:
        curves[_label(entry, names)] = (entry["curve"]["step"], entry["curve"]["log10_grad_norm"])
    against = "layer" if along == "depth" else "time step"
    options.setdefault("title", f"Gradient norm against {against}: {_head(chosen, names)}")
    axes = plot_curves(curves, ax, styles=styles, **options)
    if along == "length" and not options.get("relative"):
        axes.set_xlabel("time step, 0 = the first")
        axes.set_ylabel(r"$|\partial L / \partial h_t|$")
    return axes


def _heatmap(entries: Entries, where: Mapping[str, Any], ax: Any, options: dict[str, Any]) -> Any:
    if _along(entries) == "length":
        return _time_heatmap(entries, where, ax, options)
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


def _time_heatmap(entries: Entries, where: Mapping[str, Any], ax: Any, options: dict[str, Any]) -> Any:
    """Draw cells down and lengths across: each has a rate of its own, which need not agree."""
    entries = _fixed(entries, _varied(entries, ("cell", "length", "seed")), where)
    rows = list(dict.fromkeys(str(entry["cell"]["cell"]) for entry in entries))
    lengths = sorted({int(entry["cell"]["length"]) for entry in entries})
    grid = np.full((len(rows), len(lengths)), np.nan)
    marks = [["" for _ in lengths] for _ in rows]
    for i, row in enumerate(rows):
        for j, length in enumerate(lengths):
            here = [e for e in entries if str(e["cell"]["cell"]) == row and e["cell"]["length"] == length]
            if here:
                grid[i, j], marks[i][j] = median(here, "decades_per_step"), verdict(here)
    options.setdefault("title", f"Decades per step back in time: {_head(entries, ('cell', 'length'))}")
    columns = [f"length {length:,}" for length in lengths]
    axes = plot_heatmap(grid, rows, columns, ax, marks=marks, title=options["title"])
    axes.images[-1].colorbar.set_label("decades per step: negative = vanishing")
    return axes


def _rate(entries: Entries, where: Mapping[str, Any], ax: Any, options: dict[str, Any]) -> Any:
    along = _along(entries)
    names = _varied(entries, (along, "seed"))
    groups: dict[str, dict[int, Entries]] = {}
    for entry in entries:
        groups.setdefault(_label(entry, names), {}).setdefault(int(entry["cell"][along]), []).append(entry)
    lines = {}
    for name, by_depth in groups.items():
        depths = sorted(by_depth)
        rate, low, high = (
            [median(by_depth[d], f"decades_per_step{end}") for d in depths] for end in ("", "_low", "_high")
        )
        lines[name] = (depths, rate, low, high)
    what = "Decades per layer against depth" if along == "depth" else "Decades per step against length"
    options.setdefault("title", f"{what}, 95 % intervals: {_head(entries, [*names, along])}")
    axes = plot_rates(lines, ax, styles=_styles(entries, names), title=options["title"])
    if along == "length":
        axes.set_xlabel("length (time steps)")
        axes.set_ylabel("decades per step back in time")
    return axes
