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
#: What a title tells of the cells where they share it, besides what the study varies.
TOLD: Final = {
    "depth": ("activation", "init", "depth", "width"),
    "length": ("cell", "length", "hidden_size"),
}

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
    # What the study varies and this picture does not is told above it.
    told = [name for name in _varied(result.cells) if name not in TOLD[_along(entries)]]
    draw = {"curves": _curves, "heatmap": _heatmap, "rate": _rate}[kind]
    return draw(entries, told, where, ax, options)


def _along(entries: Entries) -> str:
    """Return the axis along which gradients flow: "depth", or the "length" of sequences."""
    return "length" if "cell" in entries[0]["cell"] else "depth"


def _varied(entries: Sequence[Mapping[str, Any]], without: Sequence[str] = ()) -> list[str]:
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
    cell = entry["cell"]
    main = cell.get("cell") or cell.get("activation", "network")
    return ", ".join(_words(cell, name) for name in names) or str(main)


def _words(cell: Mapping[str, Any], name: str) -> str:
    """Return one argument of a cell in words: its value, by its name where that does not speak for itself."""
    value = cell[name]
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if name in SPEAKING else f"{name.replace('_', ' ')} {text}"


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


def _title(
    what: str, entries: Entries, told: Sequence[str], names: Sequence[str], between: str = ": "
) -> str:
    """Return `what`, and behind it what all drawn cells share; `names` tell them apart."""
    cell = entries[0]["cell"]
    shared = [name for name in (*TOLD[_along(entries)], *told) if name in cell and name not in names]
    apart = _varied(entries)
    found = [_words(cell, name) for name in shared if name not in apart]
    if "seed" in apart and "seed" not in names:
        found.append(f"medians of {len({entry['cell']['seed'] for entry in entries})} seeds")
    return between.join(filter(None, [what, ", ".join(found)]))


def _curves(
    entries: Entries, told: Sequence[str], where: Mapping[str, Any], ax: Any, options: dict[str, Any]
) -> Any:
    along = _along(entries)
    chosen = _fixed(entries, (along, "seed"), where)
    names = _varied(chosen)
    curves, styles = {}, _styles(chosen, names)
    for entry in chosen:
        curves[_label(entry, names)] = (entry["curve"]["step"], entry["curve"]["log10_grad_norm"])
    against = "layer" if along == "depth" else "time step"
    options.setdefault("title", _title(f"Gradient norm against {against}", chosen, told, names))
    axes = plot_curves(curves, ax, styles=styles, **options)
    if along == "length" and not options.get("relative"):
        axes.set_xlabel("time step, 0 = the first")
        axes.set_ylabel(r"$|\partial L / \partial h_t|$")
    return axes


def _heatmap(
    entries: Entries, told: Sequence[str], where: Mapping[str, Any], ax: Any, options: dict[str, Any]
) -> Any:
    """Draw initializers, along time lengths, across, and down a row for every combination of the rest."""
    main, across, unit, what = (
        ("activation", "init", "layer", "Decades per layer towards the input")
        if _along(entries) == "depth"
        else ("cell", "length", "step", "Decades per step back in time")
    )
    down = [main] if main in entries[0]["cell"] else []
    down += _varied(entries, (main, across, "depth", "seed"))
    by_place: dict[tuple[str, Any], dict[int, Entries]] = {}
    order = list(dict.fromkeys(entry["cell"].get(main) for entry in entries))
    for entry in sorted(entries, key=lambda entry: order.index(entry["cell"].get(main))):
        place = _label(entry, down), entry["cell"].get(across, "default")
        by_place.setdefault(place, {}).setdefault(int(entry["cell"].get("depth", 0)), []).append(entry)
    rows = list(dict.fromkeys(row for row, _ in by_place))
    columns = list(dict.fromkeys(column for _, column in by_place))
    if across == "length":  # each has a rate of its own, which need not agree
        columns.sort()
    grid = np.full((len(rows), len(columns)), np.nan)
    marks = [["" for _ in columns] for _ in rows]
    deepest = _fixed(entries, ("depth",), {})
    for (row, column), by_depth in by_place.items():
        i, j = rows.index(row), columns.index(column)
        grid[i, j], depth = measured_rate(by_depth)
        marks[i][j] = verdict(by_depth[max(by_depth)])
        if depth != int(deepest[0]["cell"].get("depth", 0)):
            marks[i][j] += f"\n(rate at depth {depth:,})"
    return plot_heatmap(
        grid,
        [row.replace(", ", "\n", 1) for row in rows],
        [f"length {column:,}" if across == "length" else str(column) for column in columns],
        ax,
        marks=marks,
        title=options.get("title", _title(what, deepest, told, [*down, across], "\n")),
        unit=f"decades per {unit}",
    )


def _rate(
    entries: Entries, told: Sequence[str], where: Mapping[str, Any], ax: Any, options: dict[str, Any]
) -> Any:
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
    options.setdefault("title", _title(f"{what}, 95 % intervals", entries, told, [*names, along]))
    axes = plot_rates(lines, ax, styles=_styles(entries, names), title=options["title"])
    if along == "length":
        axes.set_xlabel("length (time steps)")
        axes.set_ylabel("decades per step back in time")
    return axes
