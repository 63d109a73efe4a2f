"""Layer: results, the table of a flow along time. One row per step, layer and quantity, made when asked for.

Knows the names of a layer's arrays, nothing of how they are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._flow_layer import DIRECTIONS, LayerFlow
from .errors import ArgumentError, missing_dependency, unknown_name

if TYPE_CHECKING:
    from ._flow_time import TimeFlow

__all__ = ["TimeTable", "time_table"]

COLUMNS: Final = ("step", "layer", "direction", "unit", "quantity", "value")
_NORMS: Final = (
    ("log10_grad_norm", "log10"), ("log10_cell_grad_norm", "log10"), ("log10_delta_norm", "log10"),
)  # fmt: skip
_STATISTICS: Final = (
    ("log10_weight_grad_norm", "log10"),
    ("log10_weight_ih_grad_norm", "log10"),
    ("log10_weight_hh_grad_norm", "log10"),
    ("log10_jacobian_norm", "log10"),
    ("grad_spread", "decades"),
    ("hidden_mean", "value"),
    ("hidden_var", "value"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Block:
    """One quantity of one layer: ``steps`` rows of the table."""

    layer: int
    direction: int
    unit: str
    quantity: str
    values: Callable[[], Any]


class TimeTable(Mapping[str, Any]):
    """The long table of a flow along time: column name -> array, each made when it is asked for.

    Columns: ``step`` (time), ``layer`` (0 nearest the input), ``direction`` ("forward" or "reverse"),
    ``unit`` (of measurement), ``quantity``, ``value``. Rows of one quantity of one layer stand together.
    """

    __slots__ = ("_blocks", "_steps")

    def __init__(self, blocks: Sequence[_Block], steps: int) -> None:
        """Keep which quantities there are; nothing is copied."""
        self._blocks = list(blocks)
        self._steps = steps

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._blocks) * self._steps

    @property
    def quantities(self) -> list[str]:
        """Names of the quantities, each once."""
        return list(dict.fromkeys(block.quantity for block in self._blocks))

    def select(
        self, quantity: str | Sequence[str] | None = None, layer: int | Sequence[int] | None = None
    ) -> TimeTable:
        """Return the table of some quantities and layers alone.

        Raises:
            UnknownNameError: no such quantity.
            ArgumentError: no such layer.
        """
        names = [quantity] if isinstance(quantity, str) else quantity
        numbers = [layer] if isinstance(layer, int) else layer
        layers = 1 + max((block.layer for block in self._blocks), default=-1)
        for name in names or ():
            if name not in self.quantities:
                raise unknown_name("quantity", name, self.quantities, "flow.table.quantities")
        for number in numbers or ():
            if not -layers <= number < layers:
                raise ArgumentError(f"layer: expected one of 0 to {layers - 1}, got {number}")
        wanted = None if numbers is None else {number % layers for number in numbers}
        blocks = [
            block
            for block in self._blocks
            if (names is None or block.quantity in names) and (wanted is None or block.layer in wanted)
        ]
        return TimeTable(blocks, self._steps)

    def __getitem__(self, column: str) -> Any:
        """Return one column, made anew."""
        if column == "step":
            return np.tile(np.arange(self._steps), len(self._blocks))
        if column == "value":
            if not self._blocks:
                return np.empty(0)
            return np.concatenate([block.values() for block in self._blocks])
        if column == "layer":
            return np.repeat(np.array([block.layer for block in self._blocks], dtype=np.int64), self._steps)
        if column not in COLUMNS:
            raise KeyError(column)
        # Object columns share one string per block: a tenth of the memory of fixed-width text.
        names = np.empty(len(self._blocks), dtype=object)
        names[:] = self._names(column)
        return np.repeat(names, self._steps)

    def __iter__(self) -> Iterator[str]:
        """Names of the columns."""
        return iter(COLUMNS)

    def __len__(self) -> int:
        """Number of columns."""
        return len(COLUMNS)

    def __repr__(self) -> str:
        """One line: rows and columns."""
        return f"<TimeTable {self.rows:,} rows: {', '.join(COLUMNS)}>"

    def to_pandas(self) -> Any:
        """Return the table as a pandas DataFrame; text columns are categorical.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise missing_dependency("pandas", "pandas", "a data frame") from None
        columns: dict[str, Any] = {}
        for name in COLUMNS:
            if name in ("direction", "unit", "quantity"):
                # Codes instead of strings: one byte a row.
                known = list(dict.fromkeys(self._names(name)))
                codes = np.array([known.index(entry) for entry in self._names(name)], dtype=np.int8)
                columns[name] = pandas.Categorical.from_codes(np.repeat(codes, self._steps), known)
            else:
                columns[name] = self[name]
        return pandas.DataFrame(columns)

    def _names(self, column: str) -> list[str]:
        if column == "direction":
            return [DIRECTIONS[block.direction] for block in self._blocks]
        return [str(getattr(block, column)) for block in self._blocks]


def time_table(flow: TimeFlow) -> TimeTable:
    """Return the long table of `flow`."""
    views = [view for row in flow._layers for view in row]
    return TimeTable([block for view in views for block in _blocks(view)], flow.steps)


def _blocks(view: LayerFlow) -> Iterator[_Block]:
    def block(name: str, unit: str, values: Callable[[], Any]) -> _Block:
        return _Block(view.index, view.direction, unit, name, values)

    def attribute(name: str) -> Callable[[], Any]:
        return lambda: getattr(view, name)

    for name, unit in _NORMS + (_STATISTICS if view.has_statistics else ()):
        if name == "log10_cell_grad_norm" and not view.has_cell_state:
            continue
        yield block(name, unit, attribute(name))
    if not view.has_statistics:
        return
    for gate in view.gate_mean:
        yield block(f"gate_mean_{gate}", "value", _gate(view, "gate_mean", gate))
        yield block(f"gate_saturated_{gate}", "share", _gate(view, "gate_saturated", gate))


def _gate(view: LayerFlow, name: str, gate: str) -> Callable[[], Any]:
    return lambda: getattr(view, name)[gate]
