"""Layer: theory, copies. What differs between the copies of a Repeat: laws of weights and learned numbers.

Knows arrays with an entry for each copy, and descriptions that hold them; knows no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gaussian import FloatArray
from .weight_law import WeightLaw

__all__ = ["Laws", "Numbers", "at_copy"]


@dataclass(frozen=True, eq=False)
class Laws:
    """The law of a weight, one entry for each copy: of an untied Repeat they come one after the other."""

    mean: FloatArray
    variance: FloatArray
    orthogonal: NDArray[np.bool_]

    def at(self, copy: int) -> Laws:
        """Return those of one copy."""
        return Laws(self.mean[copy], self.variance[copy], self.orthogonal[copy])

    def law(self) -> WeightLaw:
        """Return the one law that is left when a copy of every Repeat around was chosen."""
        return WeightLaw(float(self.mean), float(self.variance), orthogonal=bool(self.orthogonal))


@dataclass(frozen=True, eq=False)
class Numbers:
    """A learned number, one for each copy."""

    values: FloatArray

    def at(self, copy: int) -> Numbers:
        """Return that of one copy."""
        return Numbers(self.values[copy])

    def __float__(self) -> float:
        """Return the one that is left."""
        return float(self.values)


def at_copy(specs: Any, copy: int) -> Any:
    """Return descriptions inside a Repeat as they are in one of its copies."""
    if isinstance(specs, (Laws, Numbers)):
        return specs.at(copy)
    if isinstance(specs, Mapping):
        return {key: at_copy(value, copy) for key, value in specs.items()}
    return [at_copy(value, copy) for value in specs] if isinstance(specs, list) else specs
