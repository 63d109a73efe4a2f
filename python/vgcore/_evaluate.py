"""Layer: training, held-out data. Splitting it off, and what a network makes of it: loss and score.

Knows networks and losses from outside; nothing of training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import as_array
from ._checks import as_real, shown
from .errors import ArgumentError, ShapeError
from .losses import Loss

if TYPE_CHECKING:
    from ._running import Running

__all__ = ["Held", "evaluate", "predict", "r_squared", "split"]

#: Samples of a pass without a way back, where nothing else is said.
_BATCH = 1024


@dataclass(frozen=True)
class Held:
    """Data: inputs, targets, lengths."""

    x: Any
    y: Any
    lengths: Any = None

    def checked(self, net: Running, loss: Loss) -> Held:
        """Return the same as arrays that the network and the loss take."""
        inputs = net._door.open(self.x, self.lengths)
        target = net._door.read_target(loss, self.y, inputs)
        return Held(inputs.x, target, inputs.series.lengths)

    def rows(self, chosen: Any) -> Held:
        """Return some of the samples."""
        lengths = None if self.lengths is None else as_array(self.lengths, "lengths")[chosen]
        return Held(as_array(self.x, "x")[chosen], as_array(self.y, "y")[chosen], lengths)


def split(x: Any, y: Any, lengths: Any, validation: Any, seed: int) -> tuple[Held, Held | None]:
    """Return what is trained on and what is held out.

    Raises:
        ArgumentError: neither a pair of arrays nor a fraction that leaves samples on both sides.
        ShapeError: x, y and lengths differ in their number of samples, or have none.
    """
    whole = Held(x, y, lengths)
    if validation is None:
        return whole, None
    if isinstance(validation, (tuple, list)):
        if len(validation) not in (2, 3):
            raise ArgumentError(
                f"validation: expected (x, y) or (x, y, lengths), got {len(validation)} parts"
            )
        return whole, Held(*validation)
    if isinstance(validation, (bool, np.bool_)) or not isinstance(validation, (int, float, np.number)):
        raise ArgumentError(f"validation: expected None, (x, y) or a fraction, got {shown(validation)}")
    share = as_real(validation, "validation")
    rows = _rows(x, "x", None)
    for array, name in ((y, "y"), (lengths, "lengths")):
        if array is not None or name == "y":
            _rows(array, name, rows)
    count = round(share * rows)
    if not 0 < share < 1 or not 0 < count < rows:
        raise ArgumentError(
            f"validation: expected a fraction that leaves samples on both sides of {rows}, got {share:g}"
        )
    # A stream of its own: which samples are held out has nothing to do with the order of the others.
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 1]))).permutation(rows)
    return whole.rows(np.sort(order[count:])), whole.rows(np.sort(order[:count]))


def _rows(value: Any, name: str, expected: int | None) -> int:
    """Return the number of samples that an array has."""
    array = as_array(value, name)
    if array.ndim == 0:
        rows = "one row a sample" if expected is None else f"{expected} rows, as x has"
        raise ShapeError(f"{name}: expected {rows}, got a single number, {array}")
    if expected is not None and len(array) != expected:
        raise ShapeError(f"{name}: expected {expected} rows, as x has, got {len(array)}")
    return len(array)


def predict(
    net: Running, x: NDArray[Any], lengths: Any = None, state: Any = None, batch_size: int | None = None
) -> NDArray[Any]:
    """Return the output for checked inputs, batch by batch, in inference."""
    size = _BATCH if batch_size is None else batch_size
    found = []
    for at in range(0, len(x), size):
        cut = slice(at, at + size)
        along: dict[str, Any] = {}
        if lengths is not None:
            along["lengths"] = lengths[cut]
        if state is not None:
            along["state"] = [np.ascontiguousarray(part[:, cut]) for part in state]
        result = net._core.forward(x[cut], **along)
        found.append(result if net.axis == "depth" else result[0])
    return found[0] if len(found) == 1 else np.concatenate(found)


def evaluate(net: Running, data: Held, loss: Loss, batch_size: int | None = None) -> tuple[float, float]:
    """Return (mean loss, score) of checked data: accuracy for class labels, else R squared."""
    size = max(_BATCH, batch_size or 0)
    total = weight = right = 0.0
    labels = data.y.dtype == np.int64
    spec = loss.to_spec()
    for at in range(0, len(data.x), size):
        part = replace(
            data,
            x=data.x[at : at + size],
            y=data.y[at : at + size],
            lengths=None if data.lengths is None else data.lengths[at : at + size],
        )
        along = {} if part.lengths is None else {"lengths": part.lengths}
        raw = net._core.run(
            part.x, part.y, spec, None, mode="loss", lr=None, stats="none", memory_budget=None, **along
        )
        count = _count(net, part)
        total, weight = total + raw["loss"] * count, weight + count
        if labels:
            right += raw["correct"][0]
    mean = total / weight
    if labels:
        return mean, right / weight
    return mean, r_squared(predict(net, data.x, data.lengths, None, size), data.y, data.lengths)


def _count(net: Running, data: Held) -> int:
    """Return how many output rows count."""
    if not net._door.every:
        return len(data.x)
    return int(data.lengths.sum()) if data.lengths is not None else data.x.shape[0] * data.x.shape[1]


def r_squared(output: NDArray[Any], y: NDArray[Any], lengths: Any = None) -> float:
    """Return the mean over outputs of ``1 - sum (y - output)^2 / sum (y - mean y)^2``.

    A constant target scores 1 where it is met exactly, else 0.

    Example:
        >>> r_squared(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]))
        0.5
    """
    z, t = np.asarray(output, np.float64), np.asarray(y, np.float64)
    if z.ndim == 3:
        lives = np.ones(z.shape[:2], bool)
        if lengths is not None:
            lives = np.arange(z.shape[1]) < np.asarray(lengths)[:, None]
        z, t = z[lives], t[lives]
    with np.errstate(over="ignore", invalid="ignore"):
        rest, whole = ((t - z) ** 2).sum(axis=0), ((t - t.mean(axis=0)) ** 2).sum(axis=0)
        share = np.where(whole > 0, rest / np.where(whole > 0, whole, 1.0), np.where(rest > 0, 1.0, 0.0))
    return float(np.mean(1.0 - share))
