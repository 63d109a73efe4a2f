"""Layer: depth, along time. The shortest truncation of backpropagation that keeps a gradient.

Knows networks along time and how truncated gradients compare with whole ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_real, as_size
from ._inputs import StateLike
from ._table import render, to_pandas
from .errors import ArgumentError
from .gradients import Truncation, truncation
from .losses import Loss
from .network import Network

__all__ = ["ShortestTruncation", "shortest_truncation"]


@dataclass(frozen=True, repr=False, eq=False)
class ShortestTruncation:
    """The shortest truncation found, and everything that was tried on the way.

    Attributes:
        truncate: what to pass as ``truncate=``; None when nothing shorter than the whole keeps the gradient.
        difference: the largest loss of any gradient there, ``|g_cut - g| / |g|``; 0 for None.
        reach: steps that the gradient of the last step goes back under this truncation.
        steps: length of the sequences.
        tolerance: what was allowed.
        tried: truncation -> difference, in the order of trial.
        by_parameter: what each gradient loses at `truncate`; empty for None.
    """

    truncate: int | None
    difference: float
    reach: int
    steps: int
    tolerance: float
    tried: dict[int, float]
    by_parameter: dict[str, Truncation]

    @property
    def table(self) -> dict[str, list[Any]]:
        """One row per truncation that was tried: truncate, reach, difference."""
        order = sorted(self.tried)
        return {
            "truncate": order,
            "reach": [_reach(cut, self.steps) for cut in order],
            "difference": [self.tried[cut] for cut in order],
        }

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        return {
            "truncate": self.truncate,
            "difference": self.difference,
            "reach": self.reach,
            "steps": self.steps,
            "tolerance": self.tolerance,
            "tried": dict(self.tried),
            "by_parameter": {name: tuple(pair) for name, pair in self.by_parameter.items()},
        }

    def __repr__(self) -> str:
        """One line: the truncation and what it loses."""
        what = "none shorter keeps it" if self.truncate is None else f"truncate={self.truncate}"
        return (
            f"<ShortestTruncation {what}: loses {self.difference:.3g} of the gradient "
            f"(tolerance {self.tolerance:g}), {self.steps} steps>"
        )

    def __str__(self) -> str:
        """The line above, and a table of what was tried."""
        table = self.table
        rows = [
            [str(cut), str(reach), f"{difference:.3g}"]
            for cut, reach, difference in zip(*table.values(), strict=True)
        ]
        return f"{self!r}\n" + render(rows, ("truncate", "reach", "difference"), left=0)


def shortest_truncation(
    net: Network,
    x: ArrayLike,
    y: ArrayLike | None = None,
    loss: str | Loss | None = None,
    *,
    tolerance: float = 0.01,
    cotangent: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    state: StateLike = None,
    memory_budget: int | str | None = None,
) -> ShortestTruncation:
    """Find the shortest truncated backpropagation that loses at most a share of every gradient.

    Truncation k cuts the gradient at steps k, 2k, ... of the sequence; what it loses is ``max over parameters
    of |g_cut - g| / |g|``, at the same weights. k is doubled until the loss is within the tolerance, then
    bisected: about 2 log2(steps) backward passes. Where the loss reads the last step alone, its gradient goes
    back to the last cut, ``(steps - 1) mod k + 1`` steps: only truncations are tried that reach farther than
    all shorter ones. Losses seldom fall evenly in k; the result has been measured, and the next shorter
    candidate has been measured to lose more.

    Args:
        net: a network along time.
        tolerance: the share that may be lost.
        others: as for `Network.truncation_loss`.

    Raises:
        ArgumentError: a network along depth, a tolerance below 0, as for `Network.truncation_loss`.
        Others as for `Network.gradients`.

    Source: Williams and Peng 1990, Neural Computation 2:490.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.rnn("rnn", 8, in_features=2, recurrent_init=0.4 * np.eye(8), dtype="float64", rng=0)
        >>> x, v = np.ones((4, 64, 2)), np.ones((4, 8))
        >>> vg.depth.shortest_truncation(net, x, cotangent=v, tolerance=0.01).truncate
        8
    """
    limit = as_real(tolerance, "tolerance", minimum=0.0)
    if net.axis != "time":
        raise ArgumentError("net: expected a network along time, such as vg.rnn(...), got one along depth")
    shared: dict[str, Any] = {
        "cotangent": cotangent,
        "lengths": lengths,
        "mask": mask,
        "state": state,
        "memory_budget": memory_budget,
        "inputs": False,
    }
    whole = net.gradients(x, y, loss, **shared)
    steps = int(np.shape(x)[1])
    last = net._door.recurrent[-1].read == "last" and lengths is None and mask is None
    cuts = candidates(steps, last=last)
    tried: dict[int, float] = {}
    losses: dict[int, dict[str, Truncation]] = {}

    def keeps(place: int) -> bool:
        cut = int(cuts[place])
        if cut not in tried:
            losses[cut] = truncation(whole, net.gradients(x, y, loss, truncate=cut, **shared))
            tried[cut] = max(pair.difference for pair in losses[cut].values())
        return tried[cut] <= limit

    bad, good, stride = -1, 0, 1
    while good < len(cuts) and not keeps(good):
        bad = good
        good, stride = good + stride, 2 * stride
    if good >= len(cuts):
        good = len(cuts) - 1
        if bad == good or not cuts.size or not keeps(good):
            return ShortestTruncation(None, 0.0, steps, steps, limit, tried, {})
    while good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if keeps(middle) else (good, middle)
    best = int(cuts[good])
    return ShortestTruncation(best, tried[best], _reach(best, steps), steps, limit, tried, losses[best])


def candidates(steps: int, *, last: bool) -> NDArray[np.int64]:
    """Return the truncations worth trying, shortest first: all, or those that reach farther than shorter
    ones.

    Example:
        >>> candidates(20, last=True).tolist()
        [1, 2, 4, 5, 7, 10]
    """
    cuts = np.arange(1, as_size(steps, "steps"))
    if not last or not cuts.size:
        return cuts
    reach = (steps - 1) % cuts + 1
    farther = np.concatenate([[True], reach[1:] > np.maximum.accumulate(reach)[:-1]])
    return np.asarray(cuts[farther])


def _reach(cut: int, steps: int) -> int:
    return (steps - 1) % cut + 1
