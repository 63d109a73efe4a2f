"""Layer: results, progress. A bar with rate and time left, a plain line where tqdm is missing, or the
caller's function.

Knows work done and work to do, nothing of what the work is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from .errors import ArgumentError

__all__ = ["Progress", "ProgressLike", "bar"]

ProgressLike = bool | Callable[[int, int, Any], object]


class Progress:
    """Context manager that shows how far a run of unequal jobs is.

    The bar counts `work` (layers, say), so that its time left stays right when the last jobs are a thousand
    times the first; a callable is told ``(jobs done, jobs in all, job)``.
    """

    def __init__(self, kind: ProgressLike, jobs: int, work: float, unit: str) -> None:
        if not isinstance(kind, bool) and not callable(kind):
            raise ArgumentError(
                f"progress: expected True, False or a function (done, total, cell), got {kind!r}"
            )
        self._call = kind if callable(kind) else None
        self._jobs, self._done = jobs, 0
        self._bar = bar(work, unit) if kind is True and jobs > 0 else None

    def advance(self, job: Any, work: float) -> None:
        """Count one job as done."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._done}/{self._jobs} cells", refresh=False)
            self._bar.update(work)
        if self._call is not None:
            self._call(self._done, self._jobs, job)

    def __enter__(self) -> Self:
        """Start the clock."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def bar(work: float, unit: str) -> Any:
    """Return tqdm's bar over `work`, or lines of text where tqdm is missing."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _PlainBar(work, unit)
    return tqdm(
        total=work, unit=f" {unit}", unit_scale=True, dynamic_ncols=True, smoothing=0.1, file=sys.stderr
    )


class _PlainBar:
    """Lines of text with rate and time left; on a terminal one line that is rewritten."""

    # A log file gets a line every so often, not one per job.
    INTERVAL = 5.0

    def __init__(self, total: float, unit: str) -> None:
        self.total, self.unit, self.done, self.note = total, unit, 0.0, ""
        self.start = time.monotonic()
        self.shown = -self.INTERVAL
        self.terminal = sys.stderr.isatty()

    def set_postfix_str(self, note: str, refresh: bool = True) -> None:
        self.note = note

    def update(self, work: float) -> None:
        self.done += work
        now = time.monotonic()
        if self.done < self.total and not self.terminal and now - self.shown < self.INTERVAL:
            return
        self.shown = now
        elapsed = max(now - self.start, 1e-9)
        rate = self.done / elapsed
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        text = (
            f"{100 * self.done / max(self.total, 1):3.0f} %  {self.note}  {rate:,.0f} {self.unit}/s  "
            f"{_clock(elapsed)} gone, {_clock(left)} left"
        )
        print(
            ("\r" if self.terminal else "") + text,
            end="" if self.terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        if self.terminal:
            print(file=sys.stderr)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
