"""Layer: results, lines. What every picture of norms shares: axes, bins, curves, the limits of formats.

Knows matplotlib (imported when first needed) and arrays; nothing of flows or studies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._checks import shown
from ._formats import limits
from .errors import ArgumentError, missing_dependency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["axes_of", "binned", "draw_curves", "legend", "new_axes", "step_format"]

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


def axes_of(ax: Any, figsize: tuple[float, float] = (8.0, 5.0)) -> Any:
    """Return `ax`, or the Axes of a new figure where it is None.

    Raises:
        ArgumentError: something that is no matplotlib Axes.
        MissingDependencyError: matplotlib is not installed.
    """
    if ax is None:
        return new_axes(figsize)
    if hasattr(ax, "figure") and hasattr(ax, "set_title"):
        return ax
    hint = "; plt.subplots gave several: pass one of them" if isinstance(ax, np.ndarray) else ""
    raise ArgumentError(f"ax: expected None or a matplotlib Axes, got {shown(ax)}{hint}")


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


def draw_curves(
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
    """Draw `curves` (label, log10 norms ordered towards the loss) against `xs` and return the Axes.

    Long curves are binned, a line and its range; a curve that ends in zeros or NaN is marked where it does.
    """
    axes = axes_of(ax, (8.0, 5.0) if len(curves) <= 4 else (10.0, 5.0))
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
            # Only a single curve has room for words: several end in the same corner, and the legend says it.
            words = "from here to the input" if axis == "depth" else "further from the loss"
            text = f"{lost[0]} {words}" if len(curves) == 1 else ""
            _mark_lost(axes, x, middle, text, line.get_color())
        reach = max(reach, float(x[-1]) if x.size else 0.0)
        if np.isfinite(low).any():
            lowest, highest = min(lowest, float(np.nanmin(low))), max(highest, float(np.nanmax(high)))
    _scale(axes, lowest, highest)
    _format_lines(axes, formats, lowest, highest, left=axis == "time")
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("step, 0 = nearest the input" if axis == "depth" else "time step")
    axes.xaxis.set_major_formatter(step_format)
    if ax is None and reach > 0:
        axes.set_xlim(-0.02 * reach, 1.02 * reach)  # the whole network, also where a gradient is exactly zero
    axes.set_ylabel(ylabel)
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(curves) > 1:
        legend(axes, len(curves))
    return axes


def step_format(value: float, _: object = None) -> str:
    """Return a number of steps as a tick label.

    Example:
        >>> step_format(20000.0), step_format(1.5e6)
        ('20,000', '1.5 M')
    """
    return f"{value:,g}" if abs(value) < 1e6 else f"{value / 1e6:g} M"


def _marker_places(points: int, curve: int, curves: int) -> slice:
    """Return where markers go: everywhere on a short curve, else ten times, each curve's a little further on.

    Indices, because matplotlib's spacing by distance fails on a curve without one finite point.
    """
    if points < 40:
        return slice(None)
    every = points // 10
    return slice(every * curve // curves, None, every)


def legend(axes: Any, entries: int) -> None:
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


def _mark_lost(axes: Any, x: Any, middle: FloatArray, text: str, colour: Any) -> None:
    """Mark where a line ends because what comes before, towards the input, is zero or not finite."""
    gaps = np.flatnonzero(np.isnan(middle))
    first = int(gaps[-1]) + 1 if gaps.size else 0
    if first >= middle.size:
        return
    place = (float(x[first]), float(middle[first]))
    axes.plot(*place, marker="x", color=colour, markersize=8, markeredgewidth=2)
    if not text:
        return
    side = (
        "right" if 2 * first > middle.size else "left"
    )  # towards the middle, so that it stays on the picture
    axes.annotate(
        text,
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


def _format_lines(axes: Any, formats: Sequence[str], lowest: float, highest: float, left: bool) -> None:
    """Draw the limit of each format where a curve passes it: below it its plain values read zero."""
    for name in formats:
        entry = limits(name)
        if lowest < entry.log10_zero:
            _limit_line(axes, entry.log10_zero, f"{name}: zero below", "top", left)
        if highest > entry.log10_overflow:
            _limit_line(axes, entry.log10_overflow, f"{name}: overflows above", "bottom", left)


def _limit_line(axes: Any, value: float, text: str, side: str, left: bool) -> None:
    # Curves along time meet at the loss, on the right; the words stand where they have spread.
    axes.axhline(value, color=GREY, linestyle=(0, (4, 3)), linewidth=0.9, zorder=1.5)
    axes.annotate(
        text,
        (0.005 if left else 0.995, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -2 if side == "top" else 2),
        textcoords="offset points",
        ha="left" if left else "right",
        va=side,
        fontsize="x-small",
        color=GREY,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
    )
