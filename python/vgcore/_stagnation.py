"""Layer: results, training. From which step on a loss no longer improves, and whether that is a failure.

Knows a curve of numbers, nothing of networks. The rule and the reasons for its constants stand here.

The finite part of the curve is cut into at most 60 blocks of equal length, of which the means are taken. The
noise of a block mean is estimated from second differences, which a trend leaves alone: by their median over
the run or their root mean square over the tail in question, whichever is larger. The curve is *flat from
block b on* when the rest of it, of at least a quarter of the run, improves too little, improvement being the
mean of its first third less the mean of its last third:

- by less than three standard errors, or so slowly that another run as long as this one would win under 1 %;
- and by its upper bound, three standard errors up, another run as long as this one would win under 10 %. A
  curve that is too noisy to show that is not called flat: absence of evidence is no evidence.

The first such block dates it. Where noise leaves that open but the mean over the second half of the run is
that of guessing, to 10 % with two standard errors, nothing was learned either. A flat curve that ends at a
tenth of where it began, or at a tenth of what guessing gives, has converged: that is no stagnation. One that
rises for good by over 10 % is told apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ._table import count, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["Stagnation", "guessing", "guessing_loss", "stagnation"]

Kind = Literal["improving", "converged", "plateau", "start", "rising", "unclear", "unknown"]

# Fewer steps hold no trend that could be told from noise.
LEAST_STEPS: Final = 20
MOST_BLOCKS: Final = 60
# Of the run: what comes after it must be long enough to be believed.
LEAST_TAIL: Final = 0.25
CERTAIN: Final = 3.0
LIKELY: Final = 2.0
# Relative fall of the loss that another run of the same length would bring.
NOTHING: Final = 0.01
LITTLE: Final = 0.10
# What is left of the loss at the start, or of that of guessing, when there is nothing more to ask for.
DONE: Final = 0.10
# A network that is still within this share of guessing, or of where it began, has learned nothing.
UNMOVED: Final = 0.95
UNMOVED_START: Final = 0.80
NEAR_GUESSING: Final = 0.10


@dataclass(frozen=True)
class Stagnation:
    """Whether and from when on a loss no longer improves; true in a condition where that is a failure.

    Attributes:
        kind: "improving"; "converged" (flat, but low); "plateau"; "start" (nothing was ever learned);
            "rising"; "unclear" (too noisy to tell); "unknown" (too short, or never finite).
        step: first step from which the loss no longer improves; None where it does, or the noise hides it.
        epoch: the epoch of that step.
        level: mean loss from that step on, or over the last tenth of the steps.
        begin: loss at the beginning (mean of the first steps).
        text: a sentence that says it.
    """

    kind: Kind
    step: int | None
    epoch: int | None
    level: float
    begin: float
    text: str

    def __bool__(self) -> bool:
        """True for "plateau", "start" and "rising"."""
        return self.kind in ("plateau", "start", "rising")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        return asdict(self)

    def __str__(self) -> str:
        """The sentence."""
        return self.text


def stagnation(loss: Any, epoch: Any = None, guessing: float | None = None) -> Stagnation:
    """Return from which step on `loss`, one number a step, no longer improves; the module tells the rule.

    `guessing`: the loss of the best constant answer, where it is known (ln 10 for ten equal classes).

    Example:
        >>> import numpy as np
        >>> curve = np.r_[np.linspace(2.3, 1.0, 400), np.full(600, 1.0)]
        >>> found = stagnation(curve + np.random.default_rng(0).normal(0, 0.02, 1000))
        >>> found.kind, abs(found.step - 400) < 50
        ('plateau', True)
    """
    values = np.asarray(loss, dtype=np.float64)
    finite = np.isfinite(values)
    # What comes after the first NaN is no curve any more; `stopped` reports it.
    values = values[: int(np.argmin(finite))] if not finite.all() else values
    steps = values.size
    begin = float(values[: max(1, steps // 50)].mean()) if steps else math.nan
    if steps < LEAST_STEPS:
        text = (
            f"{count(steps)} step{'s' * (steps != 1)} with a finite loss: too few to tell a trend from noise"
        )
        return Stagnation("unknown", None, None, float(values.mean()) if steps else math.nan, begin, text)
    edges = np.linspace(0, steps, min(MOST_BLOCKS, steps // 2) + 1).astype(np.int64)
    blocks = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    kind, start = _verdict(blocks, begin, guessing)
    if start is None:
        level = float(values[-max(1, steps // 10) :].mean())
        return Stagnation(kind, None, None, level, begin, _undated(kind, level, begin))
    step = int(edges[start])
    level = float(values[step:].mean())
    when = None if epoch is None else int(np.asarray(epoch)[step])
    return Stagnation(kind, step, when, level, begin, _text(kind, step, when, level, begin, guessing))


def _verdict(blocks: Floats, begin: float, guessing: float | None) -> tuple[Kind, int | None]:
    """Return what the curve is, and the block that dates it where one does."""
    start = _flat_from(blocks)
    if start is not None:
        lowest = _rises_from(blocks, start)
        if lowest is not None:
            return "rising", lowest
        return _kind(begin, float(blocks[start:].mean()), guessing), start
    gain, error = _gain(blocks, blocks.size // 2)
    idle = _idle_from(blocks, guessing)
    if idle is not None and gain < CERTAIN * error:
        return "start", idle
    if gain > LIKELY * error:  # no alarm either way: less certainty will do
        return "improving", None
    low = float(blocks[-max(1, blocks.size // 10) :].mean()) <= DONE * _reference(begin, guessing)
    return ("converged" if low else "unclear"), None


def _gain(blocks: Floats, start: int) -> tuple[float, float]:
    """Return how far the loss falls from block `start` on (first third less last third), and its error."""
    tail = blocks[start:]
    third = tail.size // 3
    second = np.diff(blocks, 2)
    # 1.4826 makes the median of magnitudes a standard deviation; a second difference adds six variances.
    # The median sees past jumps elsewhere; the root mean square is the surer where there are few blocks.
    typical = 1.4826 * float(np.median(np.abs(second)))
    noise = max(typical, math.sqrt(float((second[start:] ** 2).mean()))) / math.sqrt(6.0)
    return float(tail[:third].mean() - tail[-third:].mean()), noise * math.sqrt(2.0 / third)


def _flat_from(blocks: Floats) -> int | None:
    total = blocks.size
    for start in range(total - max(4, math.ceil(LEAST_TAIL * total)) + 1):
        tail = blocks[start:]
        third = tail.size // 3
        gain, error = _gain(blocks, start)
        # Thirds are two thirds of the tail apart: per run, in units of the loss that the tail begins with.
        level = abs(float(tail[:third].mean()))
        pace = total / (tail.size * 2 / 3) / level if level > 0 else math.inf
        slow = gain < CERTAIN * error or gain * pace < NOTHING
        if (slow and (gain + CERTAIN * error) * pace < LITTLE) or level == 0:
            return start
    return None


def _idle_from(blocks: Floats, guessing: float | None) -> int | None:
    """Return the block from which on the loss is that of guessing; None where it may be lower, or higher.

    Asked where noise leaves the trend open: it then takes the whole second half of the run to tell.
    """
    if guessing is None or not math.isfinite(guessing) or guessing <= 0:
        return None
    half = blocks[blocks.size // 2 :]
    second = np.diff(half, 2)
    noise = math.sqrt(float((second**2).mean()) / 6.0)
    level, error = float(half.mean()), noise / math.sqrt(half.size)
    if abs(level - guessing) + LIKELY * error > NEAR_GUESSING * guessing:
        return None
    return int(np.argmax(blocks <= level + CERTAIN * noise))


def _rises_from(blocks: Floats, start: int) -> int | None:
    """Return the block from which on the loss rises for good; None where it does not."""
    # Means of five tell the turn from one lucky block; it must leave enough behind it to be believed.
    around = np.convolve(blocks, np.full(5, 0.2), "same")[2:-2]
    last = blocks.size - max(4, math.ceil(LEAST_TAIL * blocks.size))
    lowest = start + int(np.argmin(around[max(start - 2, 0) : last - 1])) if last - 1 > start else start
    gain, error = _gain(blocks, lowest)
    return lowest if -gain > max(LITTLE * abs(float(blocks[lowest:].mean())), CERTAIN * error) else None


def _kind(begin: float, level: float, guessing: float | None) -> Kind:
    if level <= DONE * _reference(begin, guessing):
        return "converged"
    if guessing is not None and math.isfinite(guessing) and guessing > 0:
        return "start" if level >= UNMOVED * guessing else "plateau"
    return "start" if level >= UNMOVED_START * begin else "plateau"


def _reference(begin: float, guessing: float | None) -> float:
    """Return what a converged loss is a small part of: the one at the start, or of guessing if lower."""
    if guessing is None or not math.isfinite(guessing) or guessing <= 0:
        return begin
    return min(begin, guessing)


def _undated(kind: Kind, level: float, begin: float) -> str:
    if kind == "improving":
        return "the loss improves still, over the second half too"
    if kind == "converged":
        return f"the loss has converged: it is down to {level:.4g}, {share(level / begin)} of the first"
    return "whether the loss still improves cannot be told from its noise; train for longer"


def _text(
    kind: Kind, step: int, epoch: int | None, level: float, begin: float, guessing: float | None
) -> str:
    when = f"step {count(step)}" + ("" if epoch is None else f" (epoch {epoch})")
    left = f"{level:.4g}, {share(level / begin)} of the first" if begin > 0 else f"{level:.4g}"
    if kind == "start":
        why = f"; guessing gives {guessing:.4g}" if guessing is not None and math.isfinite(guessing) else ""
        return (
            f"nothing was learned: from {when} on the loss stays at {level:.4g} (at first {begin:.4g}){why}"
        )
    if kind == "rising":
        return f"the loss rises from {when} on, to {level:.4g} on average; it began at {begin:.4g}"
    if kind == "converged":
        return f"the loss has converged: from {when} on it stays at {left}"
    return f"the loss stagnates: from {when} on it no longer improves and stays at {left}"


def guessing_loss(meta: Mapping[str, Any]) -> float | None:
    """Return the loss of the best constant answer where a run has recorded it."""
    value = meta.get("guessing_loss")
    return float(value) if isinstance(value, (int, float)) else None


def guessing(loss: str, y: Any) -> float | None:
    """Return the least mean loss of any answer that is the same for all samples; None where it is not known.

    For cross_entropy the entropy of the shares of the classes, for bce_with_logits the mean entropy of each
    output's share of ones, for mse the mean variance of the outputs. `loss` is the name of a loss whose
    parameters have their defaults.

    Example:
        >>> guessing("mse", [[1.0], [3.0]]), round(guessing("cross_entropy", [0, 1, 2, 3]), 4)
        (1.0, 1.3863)
    """
    target = np.asarray(y)
    if not target.size:
        return None
    if loss == "cross_entropy" and target.dtype.kind in "iu":
        return _entropy(np.bincount(target.ravel()) / target.size)
    if target.dtype.kind != "f" or target.ndim < 2:
        return None
    rows = target.reshape(-1, target.shape[-1]).astype(np.float64)
    shares = rows.mean(axis=0)
    if loss == "cross_entropy":
        return _entropy(shares)
    if loss == "bce_with_logits":
        return (_entropy(shares) + _entropy(1 - shares)) / len(shares)
    return float(rows.var(axis=0).mean()) if loss == "mse" else None


def _entropy(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())
