"""Layer: results, pictures. Gradient norms against steps, drawn so that a million steps and three float
formats fit.

Knows matplotlib (imported when first needed) and arrays; nothing of networks or of how a study is run. Every
function draws on the Axes it is given, or on one of a new figure, returns it and never shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._plot_lines import (
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    MOST_POINTS,
    SHOWN_FORMATS,
    axes_of,
    binned,
    draw_curves,
    legend,
    new_axes,
)
from ._plots_time import plot_gates, plot_time, plot_time_heatmap, plot_times
from .errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .flow import GradientFlow

    FloatArray = NDArray[np.float64]

__all__ = [
    "COLOURS",
    "LINES",
    "MARKERS",
    "MOST_POINTS",
    "binned",
    "new_axes",
    "plot_curves",
    "plot_flow",
    "plot_gates",
    "plot_heatmap",
    "plot_rates",
    "plot_time",
    "plot_time_heatmap",
    "plot_times",
]


def plot_flow(
    flow: GradientFlow,
    ax: Any = None,
    *,
    quantity: str | Sequence[str] = ("log10_grad_norm",),
    formats: Sequence[str] = SHOWN_FORMATS,
    title: str | None = None,
    **kw: Any,
) -> Any:
    """Draw norms of one flow against the step, input on the left, and return the Axes.

    `quantity`: one name or several of ``log10_grad_norm``, ``log10_delta_norm``, ``log10_weight_grad_norm``,
    ``log10_bias_grad_norm``. `formats`: those whose limit is drawn where the curve passes it. `kw` goes to
    every line.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ArgumentError: no such quantity.
    """
    names = [quantity] if isinstance(quantity, str) else list(quantity)
    curves: list[tuple[str, FloatArray]] = []
    for name in names:
        values = getattr(flow, name, None)
        if not isinstance(values, np.ndarray) or not name.startswith("log10_"):
            raise ArgumentError(f"quantity: expected names such as 'log10_grad_norm', got {name!r}")
        curves.append((_LABELS.get(name, name), values))
    low, high = flow.decades_per_step_ci
    rate = f"{flow.decades_per_step:+.3g} decades per step ({low:+.3g} to {high:+.3g})"
    label = str(flow.meta.get("label") or "Gradient norm")
    heading = f"{label}, {flow.steps:,} steps\n{rate}" if title is None else title
    ylabel = curves[0][0] if len(curves) == 1 else "norm"
    xs = [np.arange(values.size) for _, values in curves]
    return draw_curves(ax, curves, xs, formats=formats, title=heading, ylabel=ylabel, axis=flow.axis, **kw)


_LABELS: Final = {
    "log10_grad_norm": r"$\|\partial L/\partial h\|$",
    "log10_delta_norm": r"$\|\partial L/\partial a\|$ (pre-activation)",
    "log10_weight_grad_norm": r"$\|\partial L/\partial W\|$",
    "log10_bias_grad_norm": r"$\|\partial L/\partial b\|$",
}


def plot_curves(
    curves: Mapping[str, tuple[Any, Any]],
    ax: Any = None,
    *,
    formats: Sequence[str] = SHOWN_FORMATS,
    title: str = "Gradient norm against layer",
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    relative: bool = False,
    **kw: Any,
) -> Any:
    """Draw several curves ``label -> (steps, log10 norms)`` on one Axes and return it.

    `styles`: line properties by label. `relative=True` puts each curve's step on a common axis from 0 (input)
    to 1 (output), for networks of different depths.
    """
    named = [(label, np.asarray(values, dtype=np.float64)) for label, (_, values) in curves.items()]
    xs = [np.asarray(steps, dtype=np.float64) for steps, _ in curves.values()]
    if relative:
        xs = [x / max(float(x[-1]), 1.0) if x.size else x for x in xs]
    axes = draw_curves(
        ax,
        named,
        xs,
        formats=formats,
        title=title,
        ylabel=_LABELS["log10_grad_norm"],
        axis="depth",
        styles=styles,
        **kw,
    )
    if relative:
        axes.set_xlabel("position in the network, 0 = input, 1 = output")
    return axes


def plot_heatmap(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    ax: Any = None,
    *,
    title: str = "Decades per layer towards the input",
    marks: Sequence[Sequence[str]] | None = None,
    unit: str = "decades per layer",
) -> Any:
    """Draw rates (rows, columns) as a heat map, red shrinking, blue growing, each cell with its number.

    `marks`: a second line of text for each cell, the verdict for instance. `unit`: of the rates. The
    colour scale is symmetric about 0 and compressed (signed square root), so that 0.002 and 0.6 both show.
    """
    grid = np.asarray(values, dtype=np.float64)
    # Below the least height the colour bar has no room for its label, below the least width none for a title.
    ax = axes_of(ax, (max(4.8, 2.4 + 1.6 * len(columns)), max(3.2, 1.6 + 0.75 * len(rows))))
    from matplotlib.colors import FuncNorm

    largest = float(np.nanmax(np.abs(grid), initial=0.0)) if np.isfinite(grid).any() else 0.0
    largest = largest if largest > 0 else 1.0
    norm = FuncNorm(
        (lambda v: np.sign(v) * np.sqrt(np.abs(v)), lambda v: np.sign(v) * v * v), vmin=-largest, vmax=largest
    )
    image = ax.imshow(np.ma.masked_invalid(grid), cmap="RdBu", norm=norm, aspect="auto")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    for i in range(len(rows)):
        for j in range(len(columns)):
            value = grid[i, j]
            text = f"{value:+.3g}" if math.isfinite(value) else "no rate"
            if marks is not None and marks[i][j]:
                text += f"\n{marks[i][j]}"
            dark = math.isfinite(value) and math.sqrt(abs(value) / largest) > 0.65
            ax.text(
                j, i, text, ha="center", va="center", fontsize="small", color="white" if dark else "black"
            )
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.9)
    bar.set_label(f"{unit}\nnegative = vanishing")
    bar.set_ticks(sorted({-largest, -largest / 4, 0.0, largest / 4, largest}))
    bar.ax.yaxis.set_major_formatter(lambda v, _: f"{v:+.2g}" if v else "0")
    ax.set_title(title, fontsize="medium")
    ax.tick_params(length=0)
    return ax


def plot_rates(
    lines: Mapping[str, tuple[Any, Any, Any, Any]],
    ax: Any = None,
    *,
    title: str = "Rate against depth",
    styles: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Draw ``label -> (depths, rates, low, high)`` with error bars against depth on a log axis."""
    number = len(lines)
    axes = axes_of(ax, (8.0, 5.0) if number <= 4 else (10.0, 5.0))
    largest = 0.0
    for i, (label, (depths, rates, low, high)) in enumerate(lines.items()):
        x = np.asarray(depths, dtype=np.float64) * 1.03 ** (
            i - (number - 1) / 2
        )  # apart, so that bars can be read
        y, low, high = (np.asarray(v, dtype=np.float64) for v in (rates, low, high))
        largest = max(largest, float(np.nanmax(np.abs(y), initial=0.0)))
        bars = np.where(np.isfinite(np.stack([y - low, high - y])), np.stack([y - low, high - y]), 0.0)
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
        style |= {
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 5,
            "linewidth": 1.2,
            "capsize": 2.5,
            "elinewidth": 1,
        }
        axes.errorbar(
            x, y, yerr=np.maximum(bars, 0), label=label, **(style | dict((styles or {}).get(label, {})))
        )
    axes.set_xscale("log")
    if largest > 0:
        axes.set_yscale("symlog", linthresh=min(0.01, largest), linscale=0.6)
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:+g}" if v else "0")
    axes.axhline(0.0, color=GREY, linewidth=0.9)
    axes.set_xlabel("depth (steps)")
    axes.set_ylabel("decades per step towards the input")
    axes.set_title(title, fontsize="medium")
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    if number > 1:
        legend(axes, number)
    return axes
