"""Layer: results, float formats. Where each of six formats starts to read zero or to overflow.

Knows nothing of gradients or where they came from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .errors import unknown_name

__all__ = ["FORMATS", "LIMITS", "Limits", "limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where one float format ends, as powers of two.

    ``zero``: magnitudes at or below ``2**zero`` round to zero (half the smallest subnormal; the
    tie goes to zero under round-half-even). ``subnormal``: below ``2**subnormal`` a value loses
    digits. ``overflow``: from ``2**overflow`` on a value rounds to infinity (to NaN in
    float8_e4m3, which has no infinity).
    """

    name: str
    zero: float
    subnormal: float
    overflow: float

    @property
    def log10_zero(self) -> float:
        """log10 of the largest magnitude that reads zero."""
        return self.zero * math.log10(2.0)

    @property
    def log10_overflow(self) -> float:
        """log10 of the smallest magnitude that overflows."""
        return self.overflow * math.log10(2.0)


def _limits(name: str, smallest: int, normal: int, overflow: float) -> Limits:
    return Limits(name, float(smallest - 1), float(normal), overflow)


# (smallest subnormal exponent, smallest normal exponent, log2 of the point halfway between the
# largest finite value and the next one there would be). IEEE 754-2019 table 3.5; bfloat16: same
# exponents as float32 with 8 bits of precision; float8: OCP 8-bit floating point 1.0, section 5.
_TABLE: Final = (
    _limits("float64", -1074, -1022, 1024.0),
    _limits("float32", -149, -126, math.log2(2.0**128 - 2.0**103)),
    _limits("bfloat16", -133, -126, math.log2(2.0**128 - 2.0**119)),
    _limits("float16", -24, -14, math.log2(65520.0)),
    _limits("float8_e5m2", -16, -14, math.log2(61440.0)),
    _limits("float8_e4m3", -9, -6, math.log2(464.0)),
)

LIMITS: Final[dict[str, Limits]] = {entry.name: entry for entry in _TABLE}
"""Limits by format name, in the order in which the core counts."""

FORMATS: Final[tuple[str, ...]] = tuple(LIMITS)
"""Names of the formats, in the order of the last axis of every per-format array."""


def limits(name: str) -> Limits:
    """Return the limits of one float format.

    Raises ``UnknownNameError`` for a name that is not in ``FORMATS``.

    Example:
        >>> limits("float16").zero, limits("float16").overflow < 16
        (-25.0, True)
    """
    if isinstance(name, str) and name in LIMITS:
        return LIMITS[name]
    raise unknown_name("float format", name, FORMATS, "vgcore.flow.FORMATS")
