"""Layer: results, statistics of one array. Norm, extremes, kinds of zero and exponents of any gradient
tensor.

Knows what the compiled module counts, nothing of networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._arrays import as_float_array
from ._formats import FORMATS
from ._table import power, render_html

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Stats", "gradient_stats"]

_LOG10_2 = float(np.log10(2.0))


@dataclass(frozen=True, eq=False, repr=False)
class Stats:
    """What one array of gradients holds.

    Attributes:
        count, zero, nan, inf, positive: how many values there are, are exactly zero, NaN, infinite, above
            zero.
        log2_norm: log2 of the Euclidean norm, -inf for all zero; squares never leave the float range.
        log2_max, log2_min: log2 of the largest and of the smallest non-zero finite magnitude.
        log2_mean_abs: log2 of the mean magnitude. mean: the plain mean.
        flush, subnormal, overflow: format name -> how many non-zero finite values it would read as zero, hold
            with fewer digits, or overflow.
        exponents, counts: how many values have which binary exponent, floor(log2 |value|).
    """

    count: int
    zero: int
    nan: int
    inf: int
    positive: int
    log2_norm: float
    log2_max: float
    log2_min: float
    log2_mean_abs: float
    mean: float
    flush: dict[str, int] = field(default_factory=dict)
    subnormal: dict[str, int] = field(default_factory=dict)
    overflow: dict[str, int] = field(default_factory=dict)
    exponents: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> Stats:
        """Return the statistics that the compiled module reports as a dict."""
        counts = np.asarray(raw["hist"], dtype=np.int64)
        seen = np.flatnonzero(counts)
        low, high = (int(seen[0]), int(seen[-1]) + 1) if seen.size else (0, 0)
        per_format: dict[str, Any] = {
            key: dict(zip(FORMATS, (int(n) for n in raw[key]), strict=True))
            for key in ("flush", "subnormal", "overflow")
        }
        whole: dict[str, Any] = {key: int(raw[key]) for key in ("count", "zero", "nan", "inf", "positive")}
        real: dict[str, Any] = {
            key: float(raw[key]) for key in ("log2_norm", "log2_max", "log2_min", "log2_mean_abs", "mean")
        }
        exponents = int(raw["hist_first"]) + np.arange(low, high, dtype=np.int64)
        trimmed = counts[low:high].copy()
        for array in (exponents, trimmed):
            array.setflags(write=False)
        return cls(**whole, **real, **per_format, exponents=exponents, counts=trimmed)

    @property
    def log10_norm(self) -> float:
        """log10 of the Euclidean norm; -inf for all zero."""
        return self.log2_norm * _LOG10_2

    @property
    def log10_max(self) -> float:
        """log10 of the largest magnitude."""
        return self.log2_max * _LOG10_2

    @property
    def log10_min(self) -> float:
        """log10 of the smallest non-zero magnitude."""
        return self.log2_min * _LOG10_2

    @property
    def log10_mean_abs(self) -> float:
        """log10 of the mean magnitude."""
        return self.log2_mean_abs * _LOG10_2

    @property
    def norm(self) -> float:
        """Euclidean norm as a plain float; 0 or inf where a float cannot hold it (``log2_norm`` can)."""
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp2(self.log2_norm))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python numbers, dicts and lists."""
        result = {key: value for key, value in self.__dict__.items() if not isinstance(value, np.ndarray)}
        return result | {"exponents": self.exponents.tolist(), "counts": self.counts.tolist()}

    def _rows(self) -> list[list[str]]:
        rows = [
            ["values", f"{self.count:,}"],
            ["norm", power(self.log10_norm, 3)],
            ["largest magnitude", power(self.log10_max, 3)],
            ["mean magnitude", power(self.log10_mean_abs, 3)],
            ["smallest magnitude above 0", power(self.log10_min, 3)],
            ["exact zeros, NaN, infinite", f"{self.zero:,}, {self.nan:,}, {self.inf:,}"],
        ]
        return rows + [
            [
                f"{name}: flushed, subnormal, overflow",
                f"{self.flush[name]:,}, {self.subnormal[name]:,}, {n:,}",
            ]
            for name, n in self.overflow.items()
        ]

    def __repr__(self) -> str:
        """One line: count, norm, range, kinds of zero."""
        return (
            f"<Stats of {self.count:,} values: norm {power(self.log10_norm, 3)}, largest "
            f"{power(self.log10_max, 3)}, "
            f"{self.zero:,} zero, {self.nan:,} NaN, {self.inf:,} inf>"
        )

    def __str__(self) -> str:
        """Every figure, one a line."""
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        return render_html(self._rows(), ["quantity", "value"], "vgcore.Stats")


def gradient_stats(array: Any) -> Stats:
    """Return norm, extremes, kinds of zero and exponents of `array`, reading it once on all threads.

    `array`: float32 or float64 of any shape and layout (strided, read-only, misaligned or big-endian ones are
    copied first). NaN and infinities are counted, never dropped. The norm's squares are accumulated so that
    they neither under- nor overflow: the norm of values near 1e-40 is as exact as that of values near 1.

    Raises:
        DTypeError: integers, complex, float16 or objects; the message says how to convert.
        ShapeError: an empty array.

    Example:
        >>> import numpy as np
        >>> stats = gradient_stats(np.array([3e-30, 0.0, 4e-30], dtype=np.float32))
        >>> stats.zero, round(stats.log10_norm, 3), stats.flush["float16"]
        (1, -29.301, 2)
    """
    flat = as_float_array(array, name="array", finite=False).reshape(
        -1
    )  # a single number counts as one value
    return Stats.from_raw(_core.gradient_stats(flat))
