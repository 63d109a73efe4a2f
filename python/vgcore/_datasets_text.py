"""Layer: data sets, text. Windows of the English text that comes with CPython, and the character after each.

Knows the text and its alphabet, nothing of networks. Nothing is downloaded or installed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._checks import as_dtype, as_flag, as_size
from ._datasets_made import Draws, below
from ._memory import ensure_fits
from ._rng import RngLike
from .errors import ArgumentError, MissingDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TEXT_CHARACTERS", "text"]

#: The alphabet of `text`: line feed and printable ASCII, 96 characters; a class is an index into it.
TEXT_CHARACTERS: Final = "\n" + "".join(map(chr, range(32, 127)))
# Typographic marks become what a typewriter has; anything else outside the alphabet becomes a question mark.
_PLAIN: Final[dict[str, str | int | None]] = {
    **dict(zip("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--", strict=True)),
    "\u2026": "...",
    "\t": " ",
}


def text(
    n: int, length: int, rng: RngLike = None, *, one_hot: bool = True, dtype: Any = "float32"
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return `n` random windows of English text, ``(x, y)``: for every character, predict the next.

    The text is Python's reference on its own language, about 450,000 characters, as ``help("if")`` prints it
    (``pydoc_data.topics``, in the order of the topics' names). ``x``: one-hot (n, length, 96), or with
    ``one_hot=False`` the indices, int64 (n, length). ``y``: int64 (n, length), ``y[i, t] = x[i, t + 1]`` as
    an index. Index i stands for ``TEXT_CHARACTERS[i]``. A uniform guess costs ln 96 = 4.564 nats.

    The wording changes a little from one version of Python to the next, and with it the windows; the alphabet
    does not.

    Args:
        n: number of windows. Window i is the same whatever n.
        length: number of steps, less than the text has characters.
        rng: None, an int, a SeedSequence or a Generator.
        one_hot: whether x is one-hot or holds indices.
        dtype: "float32" or "float64", where x is one-hot.

    Raises:
        ArgumentError: a size that makes no sense, or windows longer than the text.
        DTypeError: another dtype.
        MissingDependencyError: this Python was installed without its help texts.
        MemoryBudgetError: the arrays would not fit in memory.

    Source: The Python Language Reference, Python Software Foundation.

    Example:
        >>> x, y = text(2, 50, rng=0, one_hot=False)
        >>> bool((x[:, 1:] == y[:, :-1]).all()), "".join(TEXT_CHARACTERS[i] for i in x[0])  # doctest: +SKIP
        (True, ' have the same\\n  *__slots__*.\\n\\n* Multiple inherita')
    """
    n, length, hot = as_size(n, "n"), as_size(length, "length"), as_flag(one_hot, "one_hot")
    kind = as_dtype(dtype)
    indices = _indices()
    last = len(indices) - length
    if last < 1:
        raise ArgumentError(
            f"length: expected at most {len(indices) - 1:,} steps, the text is no longer; got {length:,}"
        )
    bytes_each = 16 + (len(TEXT_CHARACTERS) * kind.itemsize if hot else 0)
    ensure_fits(
        n * length * bytes_each, f"{n:,} windows of {length:,} characters", "fewer or shorter need less"
    )
    starts = np.concatenate([below(words[:, 0], last) for _, words in Draws(rng).blocks(n, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(indices, length + 1)[starts]
    found, y = windows[:, :-1].copy(), windows[:, 1:].copy()
    if not hot:
        return found, y
    x = np.zeros((n, length, len(TEXT_CHARACTERS)), kind)
    np.put_along_axis(x, found[:, :, None], 1, axis=2)
    return x, y


@cache
def _indices() -> NDArray[np.int64]:
    """Return the whole text as indices into the alphabet."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise MissingDependencyError(
            "the text needs Python's own help texts (the standard module pydoc_data.topics), which this "
            "installation leaves out; a complete Python of the same version has them",
            name="pydoc_data",
        ) from None
    whole = "\n".join(topics[name] for name in sorted(topics)).translate(str.maketrans(_PLAIN))
    codes = np.frombuffer(whole.encode("utf-32-le"), np.uint32)
    table = np.full(int(codes.max()) + 1, TEXT_CHARACTERS.index("?"), np.int64)
    for i, character in enumerate(TEXT_CHARACTERS):
        if ord(character) < len(table):
            table[ord(character)] = i
    return np.asarray(table[codes])
