"""Layer: results, pictures along time. Norms against time steps, every layer as a heat map, gates.

Knows flows along time and the drawing of lines; a million steps are binned to what a screen can show. Every
function draws on the Axes it is given, or on one of a new figure, returns it and never shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ._gates import gate_word
from ._plot_heat import MOST_COLUMNS, bin_grid, paint
from ._plot_lines import (
    COLOURS,
    GREY,
    LINES,
    SHOWN_FORMATS,
    axes_of,
    binned,
    draw_curves,
    legend,
    step_format,
)
from ._signs_time import where_nonfinite
from .errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._flow_layer import LayerFlow
    from ._flow_time import TimeFlow

    FloatArray = NDArray[np.float64]

__all__ = ["plot", "plot_gates", "plot_time", "plot_time_heatmap", "plot_times"]

# More curves than this are told apart by nobody; a heat map shows them all.
MOST_CURVES: Final = 6
_LABELS: Final = {
    "log10_grad_norm": r"$\|\partial L/\partial h_t\|$",
    "log10_cell_grad_norm": r"$\|\partial L/\partial c_t\|$",
    "log10_memory_norm": r"$\|\partial L/\partial h_t\|$ or $\|\partial L/\partial c_t\|$",
    "log10_delta_norm": r"$\|\partial L/\partial a_t\|$ (pre-activations)",
    "log10_weight_grad_norm": r"step $t$'s part of $\partial L/\partial W$",
    "log10_weight_ih_grad_norm": r"step $t$'s part of $\partial L/\partial W_{ih}$",
    "log10_weight_hh_grad_norm": r"step $t$'s part of $\partial L/\partial W_{hh}$",
    "log10_jacobian_norm": r"Jacobian $\partial s_t/\partial s_{t-1}$, rms singular value",
}


def plot(flow: TimeFlow, ax: Any = None, *, kind: str = "lines", **kw: Any) -> Any:
    """Draw `flow` as lines, as a heat map or its gates; ``TimeFlow.plot`` explains them."""
    kinds = {"lines": plot_time, "heatmap": plot_time_heatmap, "gates": plot_gates}
    if kind not in kinds:
        raise ArgumentError(f"kind: expected one of {', '.join(map(repr, kinds))}, got {kind!r}")
    return kinds[kind](flow, ax, **kw)  # type: ignore[operator]  # the values are functions of one shape


def plot_time(
    flow: TimeFlow,
    ax: Any = None,
    *,
    quantity: str | Sequence[str] | None = None,
    layers: int | Sequence[int] | None = None,
    x: Literal["time", "back"] = "time",
    formats: Sequence[str] = SHOWN_FORMATS,
    title: str | None = None,
    **kw: Any,
) -> Any:
    """Draw norms against time steps, one line for each quantity, layer and direction, and return the Axes.

    `quantity`: one name or several of a layer's ``log10_*`` arrays; by default dL/dh_t, and dL/dc_t too where
    there is one layer with a c. `layers`: which, by default all up to six, else six spread over the stack.
    `x`: "time" counts from the first step, "back" from the last one that the loss depends on; time runs to
    the right in both. Lines longer than 4,000 steps show the mean of each bin and its range.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ArgumentError: no such quantity, layer or axis.
    """
    views = _views(flow, layers)
    names = _names(quantity, views)
    _check_x(x)
    curves: list[tuple[str, FloatArray]] = []
    xs: list[FloatArray] = []
    for view in views:
        for name in names:
            values = _array(view, name, alone=len(names) == 1)
            if values is not None:
                places, drawn = _ordered(view, values, x)
                curves.append((_label(view, name, len(views), len(names)), drawn))
                xs.append(places)
    heading = f"{_heading(flow)}\n{_rate_line(flow)}" if title is None else title
    ylabel = _LABELS.get(names[0], names[0]) if len(names) == 1 else "norm"
    axes = draw_curves(ax, curves, xs, formats=formats, title=heading, ylabel=ylabel, axis="time", **kw)
    if not any(np.isfinite(values).any() for _, values in curves):
        words = "exactly 0" if all((values == -np.inf).all() for _, values in curves) else "NaN or infinite"
        axes.text(0.5, 0.5, f"{words} at every step", transform=axes.transAxes, ha="center", color=GREY)
    return _time_axis(axes, x, flow.steps if ax is None else 0)


def plot_times(
    flows: Mapping[str, TimeFlow],
    ax: Any = None,
    *,
    quantity: str = "log10_grad_norm",
    x: Literal["time", "back"] = "back",
    formats: Sequence[str] = SHOWN_FORMATS,
    title: str = "Gradient norm along time",
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    **kw: Any,
) -> Any:
    """Draw one quantity of several networks' flows along time, ``label -> flow``, and return the Axes.

    Each line is the layer nearest the loss. By default steps are counted back from the loss, so that
    sequences of different lengths meet there.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ArgumentError: no such quantity or axis, or a flow along depth.
    """
    _check_x(x)
    curves: list[tuple[str, FloatArray]] = []
    xs: list[FloatArray] = []
    for label, flow in flows.items():
        if flow.axis != "time":
            raise ArgumentError(f"flows[{label!r}]: expected a flow along time, got one along {flow.axis}")
        values = _array(flow.main, quantity, alone=True)
        assert values is not None  # alone: an absent quantity has raised
        places, drawn = _ordered(flow.main, values, x)
        curves.append((label, drawn))
        xs.append(places)
    label = _LABELS.get(quantity, quantity)
    axes = draw_curves(
        ax, curves, xs, formats=formats, title=title, ylabel=label, axis="time", styles=styles, **kw
    )
    longest = max((flow.steps for flow in flows.values()), default=0)
    return _time_axis(axes, x, longest if ax is None else 0)


def plot_time_heatmap(
    flow: TimeFlow,
    ax: Any = None,
    *,
    quantity: str = "log10_grad_norm",
    bins: Literal["mean", "min", "max"] = "mean",
    columns: int = MOST_COLUMNS,
    title: str | None = None,
    cmap: str = "viridis",
) -> Any:
    """Draw one quantity of every layer (rows, the input at the bottom) and time step (columns) as colours.

    Longer sequences than `columns` are binned; `bins` says what a bin shows of its finite values. A bin of
    exact zeros is grey, one with NaN or an infinity orange. Reverse directions are rows of their own.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ArgumentError: no such quantity or way of binning, or fewer than one column.
    """
    if bins not in ("mean", "min", "max"):
        raise ArgumentError(f"bins: expected 'mean', 'min' or 'max', got {bins!r}")
    if columns < 1:
        raise ArgumentError(f"columns: expected at least 1, got {columns}")
    found = [(view, _array(view, quantity, alone=False)) for view in _all_views(flow)]
    rows = [(view, values) for view, values in found if values is not None]
    if not rows:
        raise _no_quantity(quantity)
    grid, lost, zero = bin_grid(np.stack([values for _, values in rows]), bins, columns)
    ax = axes_of(ax, (9.0, 2.2 + 0.32 * min(len(rows), 24)))
    extent = (-0.5, flow.steps - 0.5, -0.5, len(rows) - 0.5)
    paint(ax, grid, lost, zero, extent, cmap, _LABELS.get(quantity, quantity))
    names = [f"{view.index}" + (" reverse" if view.direction else "") for view, _ in rows]
    every = 1 + (len(rows) - 1) // 24
    ax.set_yticks(range(0, len(rows), every), names[::every])
    ax.set_ylabel("layer, 0 = nearest the input")
    ax.set_xlabel("time step")
    ax.xaxis.set_major_formatter(step_format)
    binning = f", {bins} of bins of {flow.steps / grid.shape[1]:,.0f}" if flow.steps > columns else ""
    ax.set_title(f"{_heading(flow)}{binning}" if title is None else title, fontsize="medium")
    return ax


def plot_gates(
    flow: TimeFlow,
    ax: Any = None,
    *,
    layer: int = -1,
    direction: int = 0,
    saturated: bool = True,
    title: str | None = None,
    **kw: Any,
) -> Any:
    """Draw each gate's mean value over time, and as a thin line the share of its values on a flat end.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ArgumentError: no such layer, norms only, or a cell without gates.
    """
    view = flow.layer(layer, direction)
    means = view.gate_mean
    if not means:
        raise ArgumentError(f"layer: expected a cell with gates, got {view.cell!r} in layer {view.index}")
    axes = axes_of(ax)
    for i, (name, values) in enumerate(means.items()):
        place, middle, low, high = binned(values)
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)], "linewidth": 1.6}
        word = gate_word(name)
        (line,) = axes.plot(place, middle, label=f"{word}: mean", **(style | kw))
        if place.size < values.size:
            axes.fill_between(place, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        if saturated:
            place, middle, _, _ = binned(view.gate_saturated[name])
            axes.plot(
                place, middle, color=line.get_color(), linewidth=0.8, alpha=0.8, label=f"{word}: share flat"
            )
    axes.axhline(0.0, color=GREY, linewidth=0.6)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.05), max(high, 1.05))  # shares and gates are read against 0 and 1
    axes.set_xlabel("time step")
    axes.xaxis.set_major_formatter(step_format)
    axes.set_ylabel("mean value; share with a slope under 5 % of the largest")
    heading = f"Gates of layer {view.index} ({view.name}), {view.cell}({view.hidden})"
    axes.set_title(heading if title is None else title, fontsize="medium")
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    legend(axes, (1 + saturated) * len(means))
    return axes


# --- which curves -------------------------------------------------------------------------------------------


def _all_views(flow: TimeFlow) -> list[LayerFlow]:
    return [view for row in flow._layers for view in row]


def _views(flow: TimeFlow, layers: int | Sequence[int] | None) -> list[LayerFlow]:
    if layers is None:
        every = _all_views(flow)
        if len(every) <= MOST_CURVES:
            return every
        return [every[i] for i in np.linspace(0, len(every) - 1, MOST_CURVES).round().astype(int)]
    chosen = [layers] if isinstance(layers, int) else list(layers)
    known = _all_views(flow)
    indices = [flow.layer(number).index for number in chosen]
    return [view for index in indices for view in known if view.index == index]


def _names(quantity: str | Sequence[str] | None, views: Sequence[LayerFlow]) -> list[str]:
    if quantity is None:
        both = len({view.index for view in views}) == 1 and any(view.has_cell_state for view in views)
        return ["log10_grad_norm", "log10_cell_grad_norm"] if both else ["log10_grad_norm"]
    names = [quantity] if isinstance(quantity, str) else list(quantity)
    if not names:
        raise ArgumentError("quantity: expected at least one name, such as 'log10_grad_norm', got none")
    for name in names:
        if name not in _LABELS:
            raise _no_quantity(name)
    return names


def _array(view: LayerFlow, name: str, *, alone: bool) -> FloatArray | None:
    """Return one array of a layer; None where its cell lacks it and others may have it."""
    if name not in _LABELS:
        raise _no_quantity(name)
    if not alone and name == "log10_cell_grad_norm" and not view.has_cell_state:
        return None
    values: FloatArray = getattr(view, name)
    return values


def _no_quantity(name: object) -> ArgumentError:
    return ArgumentError(f"quantity: expected one of {', '.join(_LABELS)}, got {name!r}")


def _label(view: LayerFlow, name: str, views: int, names: int) -> str:
    label = _LABELS[name]
    if views == 1:
        return label
    where = f"layer {view.index}" + (" reverse" if view.direction else "")
    return where if names == 1 else f"{label}, {where}"


def _heading(flow: TimeFlow) -> str:
    main = flow.main
    stack = f"{flow.layers} x " if flow.layers > 1 else ""
    label = flow.meta.get("label") or f"Gradient of {stack}{main.cell}({main.hidden})"
    return f"{label}, {flow.steps:,} time steps"


def _rate_line(flow: TimeFlow) -> str:
    """Return the second line of a title: the rate, or where the forward pass broke."""
    if flow.nonfinite is not None:
        return f"forward pass not finite from {where_nonfinite(flow.nonfinite)}"
    low, high = flow.decades_per_step_ci
    if np.isnan(flow.decades_per_step):
        return "no rate: too few finite norms"
    return f"{flow.decades_per_step:+.3g} decades per step back ({low:+.3g} to {high:+.3g})"


# --- where they go ------------------------------------------------------------------------------------------


def _check_x(x: str) -> None:
    if x not in ("time", "back"):
        raise ArgumentError(f"x: expected 'time' or 'back' (steps before the loss), got {x!r}")


def _ordered(view: LayerFlow, values: FloatArray, x: str) -> tuple[FloatArray, FloatArray]:
    """Return places and `values` without padding, ordered towards the loss as marks of lost ends expect.

    Exact zeros next to the loss are not drawn either: the curve begins where there is a gradient.
    """
    steps = np.arange(view.reach + 1, dtype=np.float64)
    places, values = (view.reach - steps if x == "back" else steps), values[: view.reach + 1]
    if view.direction:
        places, values = places[::-1], values[::-1]
    live = np.flatnonzero(values != -np.inf)
    stop = int(live[-1]) + 1 if live.size else values.size
    return places[:stop], values[:stop]


def _time_axis(axes: Any, x: str, steps: int) -> Any:
    """Label the time axis, and for a figure of its own show `steps` steps of it."""
    margin = 0.02 * max(steps - 1, 1)
    if x == "back":
        axes.set_xlabel("time steps before the loss")
        if steps:
            axes.set_xlim(steps - 1 + margin, -margin)
        elif not axes.xaxis_inverted():
            axes.invert_xaxis()
    else:
        axes.set_xlabel("time step")
        if steps:
            axes.set_xlim(-margin, steps - 1 + margin)
    return axes
