"""Layer: cures, training. Optimisers, clipping and constraints, which leave the network as it is.

Knows what ``net.fit`` takes. Each entry is one line of the catalogue in `mitigations`.
"""

from __future__ import annotations

from ._mitigation_base import Entry

__all__ = ["ENTRIES"]

ENTRIES: tuple[Entry, ...] = ()
