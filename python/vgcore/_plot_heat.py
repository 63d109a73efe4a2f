"""Layer: results, heat maps. Norms as colours, binned to what a screen can show, with zeros told apart.

Knows matplotlib (imported when first needed) and arrays of shape (rows, columns); nothing of what they mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._plot_lines import GREY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["MOST_COLUMNS", "bin_grid", "paint"]

# About the width of a large screen in pixels.
MOST_COLUMNS: Final = 2000
_ZERO_COLOUR: Final = "#DDDDDD"
_LOST_COLOUR: Final = "#D55E00"


def bin_grid(
    values: FloatArray, how: str = "mean", columns: int = MOST_COLUMNS, rows: int | None = None
) -> tuple[FloatArray, Mask, Mask]:
    """Return (grid, lost, zero) of at most `rows` x `columns` bins of `values`, log10 norms.

    `how` says what a bin shows of its finite values: "mean", "min" or "max". A bin with NaN or an infinity is
    lost; one of nothing but exact zeros is zero.

    Example:
        >>> grid, lost, zero = bin_grid(np.array([[1.0, 3.0, -np.inf, -np.inf]]), columns=2)
        >>> grid.tolist(), lost.tolist(), zero.tolist()
        ([[2.0, nan]], [[False, False]], [[False, True]])
    """
    edges = [_edges(values.shape[0], rows), _edges(values.shape[1], columns)]
    present = np.isfinite(values)
    lost = _reduced(np.logical_or, np.isnan(values) | (values == np.inf), edges)
    number = _reduced(np.add, present.astype(np.int64), edges)
    if how == "mean":
        sums = _reduced(np.add, np.where(present, values, 0.0), edges)
        grid = sums / np.where(number > 0, number, np.nan)
    else:
        reduce, neutral = (np.minimum, np.inf) if how == "min" else (np.maximum, -np.inf)
        grid = np.where(number > 0, _reduced(reduce, np.where(present, values, neutral), edges), np.nan)
    return grid, lost, (number == 0) & ~lost


def _edges(size: int, most: int | None) -> NDArray[np.int64]:
    if most is None or size <= most:
        return np.arange(size)
    return np.linspace(0, size, most + 1).astype(np.int64)[:-1]


def _reduced(operation: Any, values: Any, edges: list[NDArray[np.int64]]) -> Any:
    for axis, at in enumerate(edges):
        if at.size < values.shape[axis]:
            values = operation.reduceat(values, at, axis=axis)
    return values


def paint(
    ax: Any,
    grid: FloatArray,
    lost: Mask,
    zero: Mask,
    extent: tuple[float, float, float, float],
    cmap: str,
    label: str,
    *,
    powers: bool = True,
) -> None:
    """Draw `grid` on `ax`, zeros grey, lost values orange, with a bar of colours; `powers` of ten on it."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    how: dict[str, Any] = {"aspect": "auto", "origin": "lower", "extent": extent, "interpolation": "nearest"}
    image = ax.imshow(np.ma.masked_where(lost | zero, grid), cmap=cmap, **how)
    entries = []
    for mask, colour, text in ((zero, _ZERO_COLOUR, "exactly 0"), (lost, _LOST_COLOUR, "NaN or infinite")):
        if mask.any():
            over = np.ma.masked_where(~mask, np.ones(grid.shape))
            ax.imshow(over, cmap=ListedColormap([colour]), **how)
            entries.append(Patch(facecolor=colour, edgecolor=GREY, label=text))
    if entries:
        ax.legend(handles=entries, fontsize="small", loc="lower left", framealpha=0.9)
    if (lost | zero).all():
        return
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label(label)
    bar.locator = MaxNLocator(6)
    if powers:
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:g}}}$")
