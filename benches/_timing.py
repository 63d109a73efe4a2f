"""Benches, the clock: contestants in turn, round by round, the median of each. Knows nothing of the work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Work = Callable[[], Any]

# Seconds before each sample. Libraries let their helper threads look for more work for a while before they
# sleep (OpenBLAS for 2^26 cycles, some 25 ms), and until then these take time from whoever comes next.
REST = 0.05


def once(work: Work, inner: int) -> float:
    """Return seconds a call takes, averaged over `inner` calls."""
    start = time.perf_counter()
    for _ in range(inner):
        work()
    return (time.perf_counter() - start) / inner


def calls_per_sample(work: Work, least: float) -> int:
    """Return how many calls make a sample of `least` seconds; finding out is also the warm-up."""
    work()
    seconds = min(once(work, 1) for _ in range(2))
    return max(1, round(least / max(seconds, 1e-9)))


def alternate(
    contestants: Mapping[str, Work], repeats: int, least: float = 0.05
) -> dict[str, dict[str, float]]:
    """Time all contestants in turn `repeats` times over and return median, least and greatest of each.

    Neighbours in time meet the same clock rate and the same load, so that their ratio means something even on
    a machine that is not idle. The order is reversed every other round, so that nobody always follows the
    same one, and everybody begins when the threads of the one before are at rest, with a call that is not
    timed: it brings its data back into the caches.
    """
    inner = {name: calls_per_sample(work, least) for name, work in contestants.items()}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(repeats):
        for name in names if turn % 2 == 0 else reversed(names):
            time.sleep(REST)
            # One call that does not count: a loop's steps follow each other, not somebody else's.
            contestants[name]()
            samples[name].append(once(contestants[name], inner[name]))
    return {
        name: {
            "median": statistics.median(s),
            "min": min(s),
            "max": max(s),
            "samples": len(s),
            "calls": inner[name],
        }
        for name, s in samples.items()
    }


def fastest(candidates: Mapping[str, Work], rounds: int = 3) -> str:
    """Return the candidate with the least time over a few rounds: how a peer's best form is chosen."""
    return min(alternate(candidates, rounds, least=0.02).items(), key=lambda item: item[1]["min"])[0]
