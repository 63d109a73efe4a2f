"""Layer: training. Puts together what the steps of a run tell, call by call, as arrays along the whole run.

Knows the dictionaries that the compiled trainer returns, and records; nothing of how steps are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._fit_records import Records

__all__ = ["Collected"]

_PER_STEP: Final = {"loss": np.float64, "accuracy": np.float64, "lr": np.float64, "epoch": np.int64}
_PER_LAYER: Final = {
    "log2_grad_norm": np.float64,
    "update_ratio": np.float64,
    "dead": np.int64,
    "unchanged": np.int64,
    "zero_weights": np.int64,
}
#: Measured with stats="full" alone.
_FULL: Final = ("update_ratio", "dead", "unchanged", "zero_weights")

_Part = dict[str, Any]


class Collected:
    """What has been measured so far.

    Attributes:
        parts: one dictionary a call of the trainer, appended as it came; the first is all before it as one.
    """

    def __init__(self, layers: int, full: bool, earlier: Records | None, before: int) -> None:
        """Begin with what an earlier training left, which took the last of `before` steps in all."""
        self._layers, self._full = layers, full
        start: _Part = {name: np.zeros(0, kind) for name, kind in _PER_STEP.items()}
        start["recorded"] = np.zeros(0, np.int64)
        if earlier is not None:
            start = {name: getattr(earlier, name) for name in (*_PER_STEP, "recorded", *_PER_LAYER)}
        self.parts: list[_Part] = [start]
        # The trainer counts from the first step that ever was, the arrays from the first that they hold.
        self._first = before - len(start["loss"])

    def arrays(self, steps: int | None = None) -> _Part:
        """Return every array of `Records` up to a number of steps, in all; None for what was not measured."""
        if len(self.parts) > 1:
            # One store: a signal finds either all parts or what they have become.
            self.parts = [self._joined(self.parts)]
        whole = self.parts[0]
        count = len(whole["loss"]) if steps is None else steps - self._first
        looks = int(np.searchsorted(whole["recorded"], count))
        found = {name: _upto(whole.get(name), count) for name in _PER_STEP}
        found |= {name: _upto(whole.get(name), looks) for name in ("recorded", *_PER_LAYER)}
        if found["log2_grad_norm"] is None and not looks:
            found["log2_grad_norm"] = np.zeros((0, self._layers))
        return found

    def _joined(self, parts: Sequence[_Part]) -> _Part:
        first, *rest = parts
        parts = [first, *({**part, "recorded": part["recorded"] - self._first} for part in rest)]
        if not self._full:
            parts = [first, *({k: v for k, v in part.items() if k not in _FULL} for part in parts[1:])]
        joined = {name: _chain(parts, name, "loss") for name in _PER_STEP}
        return joined | {name: _chain(parts, name, "recorded") for name in ("recorded", *_PER_LAYER)}


def _chain(parts: Sequence[_Part], name: str, along: str) -> NDArray[Any] | None:
    """Return one array of all parts; None where a part that has something to say does not say it."""
    told = [part for part in parts if len(part[along])]
    if not told:
        return parts[0].get(name)
    found = [part[name] for part in told if part.get(name) is not None]
    if len(found) < len(told):
        return None
    return found[0] if len(found) == 1 else np.concatenate(found)


def _upto(array: NDArray[Any] | None, count: int) -> NDArray[Any] | None:
    return None if array is None else array[:count]
