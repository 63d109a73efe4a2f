"""Layer: results, units to steps. From the arrays per unit that the core returns to arrays per step.

Knows which unit speaks for a step and how norms in log space add up, nothing of what the numbers
mean. Everything is vectorised: a million units take well under a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["KIND_NAMES", "Steps", "has_parameter"]

DENSE: Final = 0
RESIDUAL: Final = 2
GATE: Final = 4
CONCAT: Final = 5
DROPOUT: Final = 6
KIND_NAMES: Final = ("dense", "activation", "residual", "norm", "gate", "concat", "dropout")
#: Units without a pre-activation.
_ENDS: Final = (RESIDUAL, GATE, CONCAT, DROPOUT)


class Steps:
    """Groups of consecutive units, one group per step.

    ``step`` (U,) gives each unit's step and never falls; ``kind`` (U,) is 0 for a Dense with the
    activation that follows it, 1 for an activation alone, 2 for the end of a Residual, 3 for a
    normalisation with its activation, 4 of a Highway, 5 of a
    Concat, 6 for a Dropout.
    """

    __slots__ = ("count", "ends", "kind", "single", "starts", "units")

    def __init__(self, step: IntArray, kind: NDArray[np.uint8], count: int) -> None:
        self.units = int(step.size)
        self.count = int(count)
        self.kind = kind
        self.starts = np.searchsorted(step, np.arange(self.count), side="left")
        self.ends = np.searchsorted(step, np.arange(self.count), side="right") - 1
        if self.units and (np.any(np.diff(step) < 0) or step[-1] >= self.count or step[0] < 0):
            raise ShapeError(
                f"raw['step'] must rise from 0 to {self.count - 1}, one entry per unit; it does not"
            )
        if np.any(self.ends < self.starts):
            empty = int(np.flatnonzero(self.ends < self.starts)[0])
            raise ShapeError(f"step {empty} of {self.count} has no unit")
        self.single = self.units == self.count

    def last(self, values: NDArray[Any]) -> NDArray[Any]:
        """Value of each step's last unit."""
        return values if self.single else values[self.ends]

    def last_delta(self, values: FloatArray) -> FloatArray:
        """Value of each step's last unit that has a pre-activation; NaN when there is none."""
        has = ~np.isin(self.kind, _ENDS)
        if self.single:
            return np.where(has, values, np.nan)
        index = np.maximum.reduceat(np.where(has, np.arange(self.units), -1), self.starts)
        return np.where(index >= self.starts, values[np.maximum(index, 0)], np.nan)

    def total(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum over each step's units, of shape (steps, ...)."""
        return counts if self.single else np.add.reduceat(counts, self.starts, axis=0)

    def largest(self, values: FloatArray, present: BoolArray) -> FloatArray:
        """Largest of each step's present values (NaN wins); NaN when none is present."""
        filled = np.where(present, values, -np.inf)
        if not self.single:
            filled = np.maximum.reduceat(filled, self.starts)
        return np.where(self.any(present), filled, np.nan)

    def any(self, mask: BoolArray) -> BoolArray:
        """Whether any of each step's units is marked."""
        return mask if self.single else np.logical_or.reduceat(mask, self.starts)

    def any_delta(self, mask: BoolArray) -> BoolArray:
        """Whether any of each step's units that have a pre-activation is marked."""
        return self.any(mask & ~np.isin(self.kind, _ENDS))

    def log2_norm(self, log2: FloatArray, present: BoolArray) -> FloatArray:
        """log2 of the root of the sum of squares of ``2**log2`` over each step's present units.

        -inf (exactly zero) adds nothing, +inf and NaN win; a step with nothing present is NaN.
        """
        filled = np.where(present, log2, -np.inf)
        if not self.single:
            with np.errstate(invalid="ignore"):  # NaN is evidence here, not an accident
                filled = 0.5 * np.logaddexp2.reduceat(2.0 * filled, self.starts)
        return np.where(self.any(present), filled, np.nan)

    def change(self, width: IntArray) -> BoolArray:
        """Where step k + 1 differs in make-up (width, kind of its last unit, number of units) from step k."""
        width, kind = width[self.ends], self.kind[self.ends]
        size = self.ends - self.starts
        return np.asarray(
            (np.diff(width) != 0) | (kind[1:] != kind[:-1]) | (np.diff(size) != 0), dtype=np.bool_
        )

    def mean(self, values: FloatArray, weights: IntArray) -> FloatArray:
        """Weighted mean of each step's values that are not NaN; NaN when there is none."""
        present = ~np.isnan(values)
        if self.single:
            return values
        top = np.add.reduceat(np.where(present, values * weights, 0.0), self.starts)
        bottom = np.add.reduceat(np.where(present, weights, 0.0), self.starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(top / bottom, dtype=np.float64)


def has_parameter(raw: Mapping[str, Any], key: str) -> BoolArray:
    """Which units have the parameter whose gradient norm is ``raw[key]``.

    The core marks "no such parameter" with NaN, and a gradient can be NaN itself. A real NaN
    comes with a NaN delta; the absence of a parameter does not.
    """
    values = np.asarray(raw[key])
    kind = np.asarray(raw["kind"])
    delta = np.asarray(raw["delta_log2_norm"])
    real_nan = np.isnan(delta) & (kind == DENSE)
    return np.asarray(~np.isnan(values) | (np.isnan(values) & real_nan), dtype=np.bool_)
