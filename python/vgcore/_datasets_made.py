"""Layer: data sets, made ones. Problems whose answer lies far back in a sequence: adding, copying, order.

Knows the definitions of the literature and how to draw from a seed, nothing of networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._checks import as_dtype, as_size
from ._memory import ensure_fits
from ._rng import RngLike, seed_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ORDER_CHANNELS", "Draws", "adding", "copy_memory", "long_lag", "temporal_order"]

#: What each channel of `temporal_order` stands for: four distractors, the two that count, end and beginning.
ORDER_CHANNELS = ("a", "b", "c", "d", "X", "Y", "B", "E")
_DISTRACTORS = 4
# Where the symbols that count may stand, in hundredths of the length (both ends belong to the range).
_ORDER_WINDOWS = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}
# Raw numbers drawn at a time: 8 MiB, so that drawing costs little memory beside the result.
_BLOCK = 2**20


class Draws:
    """Uniform numbers from a seed, row by row.

    Only raw 64-bit words of PCG64 are used, whose stream NumPy guarantees; its distributions may change from
    release to release. Each sample takes a fixed number of words, so that the first k of n samples are the
    same for every n.
    """

    def __init__(self, rng: RngLike, name: str = "rng") -> None:
        """Start at the seed that `rng` stands for."""
        self._bits = np.random.PCG64(seed_of(rng, name))

    def blocks(self, n: int, words: int) -> Any:
        """Yield ``(rows, words of those rows)``, the words uint64 (rows, `words`), for all n rows in turn."""
        most = max(1, _BLOCK // words)
        for start in range(0, n, most):
            rows = slice(start, min(start + most, n))
            yield rows, self._bits.random_raw((rows.stop - rows.start, words))


def unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the words as numbers in [0, 1), multiples of 2^-24: the same in float32 and in float64."""
    return np.asarray((words >> np.uint64(40)) * 2.0**-24)


def below(words: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """Return the words as integers in ``range(bound)``, for bounds below 2^31; biased by less than 2^-32."""
    return (((words >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


def adding(
    n: int, length: int, rng: RngLike = None, *, dtype: Any = "float32"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return `n` samples of the adding problem, ``(x, y)``: add the two numbers that carry a mark.

    ``x``: (n, length, 2). Channel 0 is uniform in [0, 1); channel 1 is 0 but for two ones, one at a step of
    the first half, one of the second. ``y``: (n, 1), the sum of the two marked numbers. A network that
    always answers 1 has a mean squared error of 1/6 (the variance of a sum of two uniform numbers): below
    that it has learned something.

    Args:
        n: number of samples. Sample i is the same whatever n.
        length: number of steps, at least 2.
        rng: None, an int, a SeedSequence or a Generator.
        dtype: "float32" or "float64"; the values of x are the same in both.

    Raises:
        ArgumentError: a size that is no positive integer, or a length of 1.
        DTypeError: another dtype.
        MemoryBudgetError: the arrays would not fit in memory.

    Source: Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 4.1, after Hochreiter and Schmidhuber, Long
    Short-Term Memory, Neural Computation 9 (1997), experiment 4 (values in [-1, 1], target 0.5 + sum / 4).

    Example:
        >>> x, y = adding(4, 1000, rng=0)
        >>> x.shape, y.shape, x[:, :, 1].sum(axis=1)
        ((4, 1000, 2), (4, 1), array([2., 2., 2., 2.], dtype=float32))
    """
    n, length = as_size(n, "n"), as_size(length, "length", minimum=2)
    kind = as_dtype(dtype)
    x = _zeros((n, length, 2), kind, "the adding problem")
    y = np.empty((n, 1), kind)
    half = length // 2
    for rows, words in Draws(rng).blocks(n, length + 2):
        x[rows, :, 0] = unit(words[:, :length])
        marks = np.stack([below(words[:, -2], half), half + below(words[:, -1], length - half)], axis=1)
        which = np.arange(rows.start, rows.stop)[:, None]
        x[which, marks, 1] = 1
        y[rows, 0] = x[which, marks, 0].sum(axis=1)
    return x, y


def copy_memory(
    n: int, delay: int, rng: RngLike = None, *, symbols: int = 8, width: int = 10, dtype: Any = "float32"
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return `n` samples of the copying problem, ``(x, y)``: repeat `width` symbols after `delay` steps.

    With T = `delay`, S = `symbols`, W = `width`: the input is W random symbols, T - 1 blanks, one delimiter
    ("answer now") and W blanks; the target is T + W blanks and then the W symbols. ``x``: (n, T + 2 W,
    S + 2), one-hot, channel S is the blank and S + 1 the delimiter. ``y``: int64 (n, T + 2 W), a class in
    ``range(S + 1)`` for every step, S the blank. Without memory the best mean cross-entropy is
    W ln(S) / (T + 2 W) nats, which is 10 ln(8) / (T + 20) by default: blanks first, then a guess.

    Args:
        n: number of samples. Sample i is the same whatever n, and its symbols whatever the delay.
        delay: steps from the last symbol to the delimiter, at least 1.
        rng: None, an int, a SeedSequence or a Generator.
        symbols: how many different symbols, at least 2.
        width: how many symbols to remember.
        dtype: "float32" or "float64".

    Raises:
        ArgumentError: a size that makes no sense.
        DTypeError: another dtype.
        MemoryBudgetError: the arrays would not fit in memory.

    Source: Arjovsky, Shah, Bengio 2016, arXiv:1511.06464, section 4.1, after Hochreiter and Schmidhuber 1997.

    Example:
        >>> x, y = copy_memory(1, 3, rng=0, symbols=2, width=4)
        >>> print(x[0].argmax(axis=1), y[0])
        [1 0 0 0 2 2 3 2 2 2 2] [2 2 2 2 2 2 2 1 0 0 0]
    """
    n, delay = as_size(n, "n"), as_size(delay, "delay")
    symbols, width = as_size(symbols, "symbols", minimum=2), as_size(width, "width")
    kind = as_dtype(dtype)
    steps = delay + 2 * width
    x = _zeros((n, steps, symbols + 2), kind, "the copying problem")
    y = np.full((n, steps), symbols, np.int64)
    x[:, width:, symbols] = 1
    x[:, width + delay - 1, symbols:] = 0, 1
    for rows, words in Draws(rng).blocks(n, width):
        y[rows, -width:] = below(words, symbols)
    which, place = np.arange(n)[:, None], np.arange(width)[None]
    x[which, place, y[:, -width:]] = 1
    return x, y


def temporal_order(
    n: int, length: int, rng: RngLike = None, *, symbols: int = 2, dtype: Any = "float32"
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return `n` samples of the temporal order problem, ``(x, y)``: in which order did X and Y come?

    A sequence begins with E, ends with B and holds random distractors a, b, c, d, except at `symbols` steps
    that hold X or Y. ``x``: (n, length, 8), one-hot, channels as in ``ORDER_CHANNELS``. ``y``: int64 (n,),
    the class: the symbols read as binary digits, X = 0, Y = 1, the first one the highest. For two: XX 0,
    XY 1, YX 2, YY 3. Without memory the best cross-entropy is ``symbols`` ln 2 nats.

    Args:
        n: number of samples. Sample i is the same whatever n.
        length: number of steps, at least 10.
        rng: None, an int, a SeedSequence or a Generator.
        symbols: 2 (task 6a, 4 classes; they stand in 10 to 20 % and 50 to 60 % of the length) or 3 (task 6b,
            8 classes; 10 to 20 %, 33 to 43 %, 66 to 76 %).
        dtype: "float32" or "float64".

    Raises:
        ArgumentError: a size that makes no sense, or another number of symbols.
        DTypeError: another dtype.
        MemoryBudgetError: the arrays would not fit in memory.

    Source: Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9 (1997), experiments 6a
    and 6b. There the length is random from 100 to 110; here it is given, and the positions scale with it.

    Example:
        >>> x, y = temporal_order(1, 20, rng=0)
        >>> "".join(ORDER_CHANNELS[i] for i in x[0].argmax(axis=1)), int(y[0])
        ('EbXaddcccdYadacadcbB', 1)
    """
    n, length = as_size(n, "n"), as_size(length, "length", minimum=10)
    symbols = as_size(symbols, "symbols", minimum=2, maximum=3)
    kind = as_dtype(dtype)
    x = _zeros((n, length, len(ORDER_CHANNELS)), kind, "the temporal order problem")
    y = np.empty(n, np.int64)
    windows = [(low * length // 100, high * length // 100) for low, high in _ORDER_WINDOWS[symbols]]
    for rows, words in Draws(rng).blocks(n, length + symbols):
        kinds = below(words[:, :length], _DISTRACTORS)
        kinds[:, 0], kinds[:, -1] = ORDER_CHANNELS.index("E"), ORDER_CHANNELS.index("B")
        which = np.arange(len(kinds))
        value = np.zeros(len(kinds), np.int64)
        for i, (low, high) in enumerate(windows):
            place = low + below(words[:, length + i], high - low + 1)
            # The word of the distractor that would stand there says which of the two symbols it is.
            bit = below(words[which, place], 2)
            kinds[which, place] = ORDER_CHANNELS.index("X") + bit
            value = 2 * value + bit
        y[rows] = value
        np.put_along_axis(x[rows], kinds[:, :, None], 1, axis=2)
    return x, y


def long_lag(
    n: int, lag: int = 20, rng: RngLike = None, *, dtype: Any = "float32"
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return `n` samples of the long time lag problem, ``(x, y)``: which symbol came `lag` steps ago?

    A sequence is a or x, then always b_1, b_2, ... b_lag; the answer, at its end, is which of the two came
    first. All but the first step can be foretold from the step before, so a network that passes on only what
    it did not expect passes on what the answer hangs on. ``x``: (n, lag + 1, lag + 2), one-hot, channel 0 is
    a, 1 is x, then b_1 to b_lag. ``y``: int64 (n,), 0 for a, 1 for x. Without memory the best cross-entropy
    is ln 2 nats.

    Args:
        n: number of samples. Sample i is the same whatever n, and its answer whatever the lag.
        lag: steps between the symbol that counts and the end.
        rng: None, an int, a SeedSequence or a Generator.
        dtype: "float32" or "float64".

    Raises:
        ArgumentError: a size that is no positive integer.
        DTypeError: another dtype.
        MemoryBudgetError: the arrays would not fit in memory.

    Source: Schmidhuber, Learning Complex, Extended Sequences Using the Principle of History Compression,
    Neural Computation 4 (1992), the experiment with a 20-step time lag. There the sequences follow each other
    without a border; here each is a sample.

    Example:
        >>> x, y = long_lag(2, 4, rng=0)
        >>> x.argmax(axis=2).tolist(), y.tolist()
        ([[1, 2, 3, 4, 5], [0, 2, 3, 4, 5]], [1, 0])
    """
    n, lag = as_size(n, "n"), as_size(lag, "lag")
    x = _zeros((n, lag + 1, lag + 2), as_dtype(dtype), "the long time lag problem")
    y = np.empty(n, np.int64)
    for rows, words in Draws(rng).blocks(n, 1):
        y[rows] = below(words[:, 0], 2)
    x[np.arange(n), 0, y] = 1
    x[:, np.arange(1, lag + 1), np.arange(2, lag + 2)] = 1
    return x, y


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Return zeros, or say in time that they would not fit."""
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    size = " x ".join(f"{count:,}" for count in shape)
    ensure_fits(needed, f"{what} ({size}, {dtype})", "fewer samples or steps need less")
    return np.zeros(shape, dtype)
