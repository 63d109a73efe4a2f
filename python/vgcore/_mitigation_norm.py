"""Layer: cures, normalisation. Each entry is one line of the catalogue in `mitigations`.

Knows layers as values.
"""

from __future__ import annotations

from ._mitigation_base import Entry

__all__ = ["ENTRIES"]

ENTRIES: tuple[Entry, ...] = ()
