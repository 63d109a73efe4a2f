"""Layer: results, pictures of a training. Loss against steps, and layers x steps as a heat map.

Knows histories and the drawing of lines and heat maps. Every function draws on the Axes it is given, or on
one of a new figure, returns it and never shows it.
"""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._plot_heat import MOST_COLUMNS, bin_grid, paint
from ._plot_lines import COLOURS, GREY, axes_of, binned, step_format
from ._table import count, share
from .errors import ArgumentError
from .history import measured

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .history import History

    Floats = NDArray[np.float64]

__all__ = ["plot_history", "plot_training_flow", "shown_layers"]

# Rows beyond this are thinner than a pixel of a figure of the size drawn here.
MOST_ROWS: Final = 400
# Names beyond this many cannot be read beside the rows.
_MOST_NAMES: Final = 24
# A loss that falls to a tenth is read on a logarithmic axis.
_WIDE: Final = 10.0
_LABELS: Final = {
    "log10_grad_norm": r"$\|\partial L/\partial h\|$",
    "log10_update_ratio": r"$\|\Delta W\|/\|W\|$",
    "dead": "outputs that are zero for the whole batch",
    "unchanged": "weights that the update left unchanged",
    "zero_weights": "weights that are exactly zero",
}
_TITLES: Final = {
    "log10_grad_norm": "Gradient norm",
    "log10_update_ratio": "Update against weight",
    "dead": "Dead outputs",
    "unchanged": "Unchanged weights",
    "zero_weights": "Weights at zero",
}


def plot_history(
    history: History, ax: Any = None, *, quantity: str = "loss", title: str | None = None, **kw: Any
) -> Any:
    """Draw one quantity of every step, its running mean, and the validation (``History.plot``)."""
    if quantity not in ("loss", "accuracy"):
        raise ArgumentError(f"quantity: expected 'loss' or 'accuracy', got {quantity!r}")
    values = history.loss if quantity == "loss" else history.accuracy
    if values is None:
        raise ArgumentError("quantity: expected 'loss', got 'accuracy' of a training without class labels")
    axes = axes_of(ax, (8.0, 4.5))
    # A single step is no line, so few steps get markers.
    dots = {"marker": "o", "markersize": 3} if values.size < 40 else {}
    x, middle, low, high = binned(values)
    axes.plot(x, middle, color=COLOURS[0], linewidth=0.7, alpha=0.35, **dots)
    if x.size < values.size:
        axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
    x, mean = _running_mean(values)
    style: dict[str, Any] = {"color": COLOURS[0], "linewidth": 1.8, "label": f"{quantity}, running mean"}
    axes.plot(x, mean, **(style | kw))
    if history.validation:
        x, held_out = _validation(history, quantity)
        style = {"color": COLOURS[1], "linewidth": 1.4, "linestyle": "--", "marker": "s", "markersize": 4.5}
        style["markevery"] = max(1, len(held_out) // 40)
        axes.plot(x, held_out, label=f"{quantity}, held-out data", **style)
    _marks(axes, history)
    _scale(axes, quantity, values)
    if ax is None:
        axes.set_xlim(-0.02 * values.size, 1.02 * values.size)  # the whole run, where the loss broke off too
    axes.set_xlabel("step (update of the weights)")
    axes.set_ylabel(
        quantity if quantity == "accuracy" else str(history.meta.get("loss") or "loss").removesuffix("()")
    )
    axes.xaxis.set_major_formatter(step_format)
    axes.set_title(_heading(history, quantity.capitalize()) if title is None else title, fontsize="medium")
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small", framealpha=0.9)
    return axes


def plot_training_flow(
    history: History,
    ax: Any = None,
    *,
    quantity: str = "log10_grad_norm",
    every_unit: bool = False,
    columns: int = MOST_COLUMNS,
    title: str | None = None,
    cmap: str = "viridis",
) -> Any:
    """Draw layers x steps as colours (``History.plot_flow``)."""
    if columns < 1:
        raise ArgumentError(f"columns: expected at least 1, got {columns}")
    values = measured(history, quantity)
    rows = np.arange(len(history.units)) if every_unit else shown_layers(history)
    if quantity == "log10_update_ratio":  # of whatever has weights: the end of a Residual has none
        rows = np.flatnonzero(~np.isnan(values).all(axis=0))
    if not rows.size or not values.shape[0]:
        raise ArgumentError(f"quantity: {quantity!r} was measured at no step of any layer")
    ax = axes_of(ax, (9.0, 2.6 + 0.32 * min(rows.size, 12)))
    first, last, grid = _even(history.recorded, values[:, rows].T, columns)
    shown, lost, zero = bin_grid(grid, "mean", columns, MOST_ROWS)
    half = 0.5 * (last - first) / max(grid.shape[1] - 1, 1) if last > first else 0.5
    extent = (first - half, last + half, -0.5, rows.size - 0.5)
    label = _LABELS[quantity]
    if quantity == "log10_grad_norm" and (history.units.steps < 0).any():
        label = r"$\|\partial L/\partial w\|$ of the whole parameter"
    paint(ax, shown, lost, zero, extent, cmap, label, powers=quantity.startswith("log10"))
    _name_rows(ax, history, rows)
    ax.set_xlabel("step (update of the weights)")
    ax.xaxis.set_major_formatter(step_format)
    ax.set_title(
        _heading(history, _TITLES[quantity], rows.size) if title is None else title, fontsize="medium"
    )
    return ax


def shown_layers(history: History) -> NDArray[np.intp]:
    """Return the places of the layers that stand for a step of the network: the last unit of each.

    Along time, where the axis holds parameters, all of them.
    """
    steps = history.units.steps
    if not steps.size or (steps < 0).any():
        return np.arange(steps.size)
    return np.flatnonzero(np.append(steps[1:] != steps[:-1], True))


def _validation(history: History, quantity: str) -> tuple[Floats, Floats]:
    """Return where epochs end, in steps, and what held-out data gave there."""
    ends = np.cumsum(history.epochs["steps"]) - 1
    at = np.array([ends[entry.epoch] for entry in history.validation], dtype=np.float64)
    name = "loss" if quantity == "loss" else "score"
    return at, np.array([getattr(entry, name) for entry in history.validation], dtype=np.float64)


def _running_mean(values: Floats) -> tuple[Floats, Floats]:
    """Return places and means over windows of a fortieth of the run: short enough to follow a fall."""
    window = max(1, values.size // 40)
    finite = np.isfinite(values)
    sums = np.convolve(np.where(finite, values, 0.0), np.ones(window), "valid")
    number = np.convolve(finite.astype(np.float64), np.ones(window), "valid")
    x = np.arange(sums.size, dtype=np.float64) + 0.5 * (window - 1)
    mean = sums / np.where(number > 0.5, number, np.nan)
    # A wide figure has fewer pixels than a long training steps.
    every = max(1, mean.size // 4000)
    return x[::every], mean[::every]


def _marks(axes: Any, history: History) -> None:
    found = history.stagnation
    if found and found.step is not None:
        word = {"start": "nothing learned", "rising": "rising"}.get(found.kind, "no longer improves")
        axes.axvline(found.step, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2)
        late = found.step > 0.6 * history.steps
        axes.annotate(
            f"{word} from step {count(found.step)}",
            (found.step, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if late else 5, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            fontsize="small",
            color=GREY,
        )
    bad = np.flatnonzero(~np.isfinite(history.loss))
    if bad.size:
        axes.axvline(bad[0], color=COLOURS[1], linewidth=1.2)
        axes.annotate(
            f"loss not finite from step {count(bad[0])}",
            (bad[0], 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-5, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize="small",
            color=COLOURS[1],
        )


def _scale(axes: Any, quantity: str, values: Floats) -> None:
    if quantity == "accuracy":
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        return
    known = values[np.isfinite(values) & (values > 0)]
    if known.size == np.isfinite(values).sum() > 0 and known.max() > _WIDE * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _heading(history: History, what: str, layers: int | None = None) -> str:
    meta = history.meta
    name = str(meta["label"]) if meta.get("label") else f"{what} through training"
    if layers is not None:
        name += f", {layers:,} {'parameters' if (history.units.steps < 0).any() else 'layers'}"
    name += f", {history.steps:,} steps"
    last = history.validation[-1] if history.validation else None
    if layers is None and last is not None and history.accuracy is not None:
        name += f"; held-out data {share(last.score)} right"
    return f"{name}\nended early: {shorten(history.stopped, 80)}" if history.stopped else name


def _even(recorded: Any, grid: Floats, columns: int) -> tuple[float, float, Floats]:
    """Return first and last step and `grid` with columns at equal distances, as an image needs them.

    Where steps were recorded at unequal distances, each column shows the last one recorded until then.
    """
    first, last = int(recorded[0]), int(recorded[-1])
    gaps = np.diff(recorded)
    if not gaps.size or (gaps == gaps[0]).all():
        return first, last, grid
    wanted = np.linspace(first, last, min(columns, last - first + 1))
    return first, last, grid[:, np.searchsorted(recorded, wanted, side="right") - 1]


def _name_rows(ax: Any, history: History, rows: NDArray[np.intp]) -> None:
    every = 1 + (rows.size - 1) // _MOST_NAMES
    if (history.units.steps < 0).any():
        ax.set_yticks(
            range(0, rows.size, every), [history.layers[i] for i in rows[::every]], fontsize="small"
        )
        return
    if rows.size <= _MOST_NAMES:
        ax.set_yticks(range(rows.size), [history.layers[i] for i in rows], fontsize="small")
    ax.set_ylabel("layer, the input at the bottom")
