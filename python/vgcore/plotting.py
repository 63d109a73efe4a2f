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

from ._formats import limits
from .errors import ArgumentError, missing_dependency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .flow import GradientFlow

    FloatArray = NDArray[np.float64]

__all__ = ["new_axes", "plot_curves", "plot_flow", "plot_heatmap", "plot_rates"]

# Okabe and Ito's palette, told apart with every common colour blindness (jfly.uni-koeln.de/color); yellow is
# left out because it vanishes on white. Line styles and markers repeat what colour says.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES: Final[tuple[Any, ...]] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS: Final = "osD^vPX*"
GREY: Final = "#666666"
# More points than a wide figure has pixels; beyond, a bin shows its mean line and its range.
MOST_POINTS: Final = 4000
# Beyond this many decades a linear axis flattens every curve but the deepest.
WIDE_DECADES: Final = 300.0
SHOWN_FORMATS: Final = ("float16", "float32", "float64")


def new_axes(figsize: tuple[float, float] = (8.0, 5.0)) -> Any:
    """Return the Axes of a new figure that no global state holds on to outside notebooks and interactive
    sessions.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_dependency("matplotlib", "plot", "drawing") from None
    if matplotlib.is_interactive() or matplotlib.get_backend().lower().endswith(
        ("inline", "nbagg", "ipympl")
    ):
        from matplotlib import pyplot

        return pyplot.figure(figsize=figsize, layout="constrained").add_subplot()
    return Figure(figsize=figsize, layout="constrained").add_subplot()


def binned(
    values: FloatArray, most: int = MOST_POINTS
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return ``(x, middle, low, high)`` with at most about `most` points; few values are returned as they
    are.

    Non-finite values become NaN (gaps). ``low`` and ``high`` are the smallest and largest value of each bin.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    if values.size <= most:
        return np.arange(values.size, dtype=np.float64), finite, finite, finite
    edges = np.linspace(0, values.size, most + 1).astype(np.int64)[:-1]
    present = np.isfinite(finite)
    low = np.minimum.reduceat(np.where(present, finite, np.inf), edges)
    high = np.maximum.reduceat(np.where(present, finite, -np.inf), edges)
    count = np.add.reduceat(present, edges, dtype=np.int64)
    sums = np.add.reduceat(np.where(present, finite, 0.0), edges)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = sums / count
    empty = count == 0
    low[empty], high[empty] = np.nan, np.nan
    width = np.diff(np.append(edges, values.size))
    return edges + 0.5 * (width - 1), middle, low, high


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
    return _curves(ax, curves, xs, formats=formats, title=heading, ylabel=ylabel, axis=flow.axis, **kw)


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
    axes = _curves(
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


def _curves(
    ax: Any,
    curves: Sequence[tuple[str, FloatArray]],
    xs: Sequence[Any],
    *,
    formats: Sequence[str],
    title: str,
    ylabel: str,
    axis: str,
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    **kw: Any,
) -> Any:
    axes = new_axes((8.0, 5.0) if len(curves) <= 4 else (10.0, 5.0)) if ax is None else ax
    lowest, highest, reach = math.inf, -math.inf, 0.0
    for i, ((label, values), x) in enumerate(zip(curves, xs, strict=True)):
        place, middle, low, high = binned(values)
        x = np.interp(place, np.arange(values.size), x) if values.size > MOST_POINTS else np.asarray(x)
        style: dict[str, Any] = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": LINES[i % len(LINES)],
            "linewidth": 1.6,
        }
        style |= dict((styles or {}).get(label, {}))
        style |= kw
        if values.size < 40 or len(curves) > 1:
            style.setdefault("marker", MARKERS[i % len(MARKERS)])
            style.setdefault("markersize", 4.5)
            style.setdefault("markevery", _marker_places(x.size, i, len(curves)))
        lost = _lost(values)
        if lost is not None and len(curves) > 1:
            label += f" (ends in {lost[0]})" if lost[1] else f" ({lost[0]})"
        (line,) = axes.plot(x, middle, label=label, **style)
        if values.size > MOST_POINTS:
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
        if lost is not None and lost[1]:
            _mark_lost(axes, x, middle, lost[0], line.get_color(), written=len(curves) == 1)
        reach = max(reach, float(x[-1]) if x.size else 0.0)
        if np.isfinite(low).any():
            lowest, highest = min(lowest, float(np.nanmin(low))), max(highest, float(np.nanmax(high)))
    _scale(axes, lowest, highest)
    _format_lines(axes, formats, lowest, highest)
    axes.set_title(title, fontsize="medium")
    step = "step" if axis == "depth" else "time step"
    axes.set_xlabel(f"{step}, 0 = nearest the input")
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:,g}" if abs(value) < 1e6 else f"{value / 1e6:g} M"
    )
    if ax is None and reach > 0:
        axes.set_xlim(-0.02 * reach, 1.02 * reach)  # the whole network, also where a gradient is exactly zero
    axes.set_ylabel(ylabel)
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(curves) > 1:
        _legend(axes, len(curves))
    return axes


def _marker_places(points: int, curve: int, curves: int) -> slice:
    """Return where markers go: everywhere on a short curve, else ten times, each curve's a little further on.

    Indices, because matplotlib's spacing by distance fails on a curve without one finite point.
    """
    if points < 40:
        return slice(None)
    every = points // 10
    return slice(every * curve // curves, None, every)


def _legend(axes: Any, entries: int) -> None:
    """Draw the legend inside while it is small, else beside the Axes, where it hides nothing."""
    place: dict[str, Any] = {} if entries <= 4 else {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    axes.legend(fontsize="small", framealpha=0.9, handlelength=3.2, ncols=1 + (entries - 1) // 24, **place)


def _lost(values: FloatArray) -> tuple[str, bool] | None:
    """Return what a curve ends in towards the input, and whether any of it can be drawn; None if all can."""
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size == 0:
        return None
    last, value = int(bad[-1]), values[bad[-1]]
    word = "exactly 0" if value == -np.inf else ("NaN" if np.isnan(value) else "infinite")
    return word, last + 1 < values.size


def _mark_lost(axes: Any, x: Any, middle: FloatArray, word: str, colour: Any, written: bool) -> None:
    """Mark where a line ends because what comes before, towards the input, is zero or not finite."""
    gaps = np.flatnonzero(np.isnan(middle))
    first = int(gaps[-1]) + 1 if gaps.size else 0
    if first >= middle.size:
        return
    place = (float(x[first]), float(middle[first]))
    axes.plot(*place, marker="x", color=colour, markersize=8, markeredgewidth=2)
    if not written:
        return  # several curves end in the same corner: the legend says it
    side = (
        "right" if 2 * first > middle.size else "left"
    )  # towards the middle, so that it stays on the picture
    axes.annotate(
        f"{word} from here to the input",
        place,
        xytext=(-6 if side == "right" else 6, -12),
        textcoords="offset points",
        ha=side,
        fontsize="x-small",
        color=colour,
    )


def _scale(axes: Any, lowest: float, highest: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, SymmetricalLogLocator

    if math.isfinite(lowest) and max(-lowest, highest) > WIDE_DECADES:
        # Decades on a logarithmic axis of their own, linear between 1e-10 and 1e10.
        axes.set_yscale("symlog", linthresh=10, linscale=0.5)
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:g}}}$"))


def _format_lines(axes: Any, formats: Sequence[str], lowest: float, highest: float) -> None:
    """Draw the limit of each format where a curve passes it: below it its plain values read zero."""
    for name in formats:
        entry = limits(name)
        if lowest < entry.log10_zero:
            _limit_line(axes, entry.log10_zero, f"{name}: zero below", "top")
        if highest > entry.log10_overflow:
            _limit_line(axes, entry.log10_overflow, f"{name}: overflows above", "bottom")


def _limit_line(axes: Any, value: float, text: str, side: str) -> None:
    axes.axhline(value, color=GREY, linestyle=(0, (4, 3)), linewidth=0.9, zorder=1.5)
    axes.annotate(
        text,
        (0.995, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -2 if side == "top" else 2),
        textcoords="offset points",
        ha="right",
        va=side,
        fontsize="x-small",
        color=GREY,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
    )


def plot_heatmap(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    ax: Any = None,
    *,
    title: str = "Decades per layer towards the input",
    marks: Sequence[Sequence[str]] | None = None,
) -> Any:
    """Draw rates (rows, columns) as a heat map, red shrinking, blue growing, each cell with its number.

    `marks`: a second line of text for each cell, the verdict for instance. The colour scale is symmetric
    about 0 and compressed (signed square root), so that 0.002 and 0.6 both show.
    """
    grid = np.asarray(values, dtype=np.float64)
    if ax is None:
        ax = new_axes((2.4 + 1.6 * len(columns), 1.6 + 0.75 * len(rows)))
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
    bar.set_label("decades per layer: negative = vanishing")
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
    axes = new_axes((8.0, 5.0) if number <= 4 else (10.0, 5.0)) if ax is None else ax
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
        _legend(axes, number)
    return axes
