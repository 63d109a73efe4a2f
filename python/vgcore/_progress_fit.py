"""Layer: training, progress. A bar over the steps of a training, or the caller's function.

Knows steps done and steps to do.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ._progress import ProgressLike, bar
from .errors import ArgumentError

__all__ = ["FitProgress"]

#: The caller hears about twice a second how far it is.
_PAUSE = 0.5


class FitProgress:
    """Context manager that shows how far a training is.

    A callable is told ``(steps done, steps in all, loss)``.
    """

    def __init__(self, kind: ProgressLike, total: int, done: int) -> None:
        if not isinstance(kind, bool) and not callable(kind):
            raise ArgumentError(
                f"progress: expected True, False or a function (done, total, loss), got {kind!r}"
            )
        self._call = kind if callable(kind) else None
        self._total, self._done = total, done
        self._bar: Any = bar(total, "steps") if kind is True and total > done else None
        if self._bar is not None and done:
            self._bar.update(done)
        self._slice = 1 if self._bar is not None or self._call is not None else 0

    def slice(self, left: int) -> int:
        """Return how many steps to take before somebody wants to know: all that are left, if nobody does."""
        return self._slice or left

    def advance(self, steps: int, seconds: float, loss: NDArray[np.float64]) -> None:
        """Count steps as done."""
        if not self._slice:
            return
        self._done += steps
        # As many steps as fit in the pause, growing slowly.
        self._slice = max(1, min(2 * self._slice, int(self._slice * _PAUSE / max(seconds, 1e-9))))
        last = float(loss[-1]) if len(loss) else float("nan")
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {last:.4g}", refresh=False)
            self._bar.update(steps)
        if self._call is not None:
            self._call(self._done, self._total, last)

    def __enter__(self) -> Self:
        """Start the clock."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
