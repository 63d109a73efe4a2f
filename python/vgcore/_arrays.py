"""Layer: the door for arrays. What comes in becomes an aligned, contiguous, native float array or an error.

Knows nothing of networks. The rule: layout is repaired silently (strides, byte order, alignment, read-only
memory), values never change silently (no narrowing, no integers read as floats, no dropped mask).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import shown
from ._memory import ensure_fits
from .errors import ArgumentError, DTypeError, NonFiniteError, ShapeError

#: A wanted shape: a number is a fixed length, a word is an axis of any length (and its name in messages).
Shape = tuple["int | str", ...]
#: Entries that are looked at in one go: what is found out of them is as large again.
MOST_AT_ONCE = 2**22


def as_array(x: Any, name: str) -> NDArray[Any]:
    """Return `x` (sequence, buffer, ``__array__`` or ``__dlpack__``) as an ndarray of its own element type.

    Raises:
        ShapeError: nested sequences of unequal lengths.
        DTypeError: an object that is no array, or an element type that NumPy has no name for.
        ArgumentError: a masked array with masked entries, or memory that is not in this computer's main
            memory.
    """
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        count = int(np.ma.getmaskarray(x).sum())
        raise ArgumentError(
            f"{name}: {count} masked entries would lose their mask; fill them first, as in {name}.filled(0.0)"
        )
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    try:
        if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
            return np.from_dlpack(x)
        return np.asarray(x)
    except ValueError as error:
        if isinstance(x, (list, tuple)):
            raise ShapeError(
                f"{name}: expected rows of equal length, got a ragged sequence ({error})"
            ) from None
        raise ArgumentError(_unreadable(x, name, error)) from error
    except TypeError as error:
        raise DTypeError(_unreadable(x, name, error)) from error
    except (RuntimeError, BufferError, AttributeError) as error:
        raise ArgumentError(_unreadable(x, name, error)) from error


def as_float_array(
    x: Any,
    *,
    name: str,
    dtype: np.dtype[Any] | None = None,
    shape: Shape | None = None,
    finite: bool = True,
    allow_empty: bool = False,
) -> NDArray[Any]:
    """Return `x` as an aligned, C-contiguous, native array of `dtype` and `shape`.

    A float32 array widens to float64 (exact); a float64 array does not narrow to float32. Python floats,
    alone or in lists, have no type of their own and take `dtype`. With ``dtype=None`` the array keeps its
    float type.

    Raises:
        DTypeError: integers, bool, complex, float16, object, or a float64 array where float32 is wanted.
        ShapeError: empty, or not of `shape`.
        NonFiniteError: NaN or infinity (unless ``finite=False``).
        ArgumentError: masked entries, or memory that cannot be read.
        MemoryBudgetError: a copy is needed and would not fit in memory.

    Example:
        >>> import numpy as np
        >>> a = as_float_array([[1.0, 2.0]], name="x", dtype=np.dtype("float32"), shape=("batch", 2))
        >>> a.dtype, a.shape
        (dtype('float32'), (1, 2))
    """
    array = as_array(x, name)
    _check_float(array, x, name, dtype)
    if shape is not None:
        check_shape(array, name, shape)
    if array.size == 0 and not allow_empty:
        raise ShapeError(_empty(array, name, shape))
    wanted = array.dtype.newbyteorder("=") if dtype is None else dtype
    plain = array.dtype == wanted and array.dtype.byteorder == wanted.byteorder == "="
    ready = plain and array.flags.c_contiguous and array.flags.aligned
    if not ready:  # a broadcast array is large in its copy alone: said before its values are gone through
        what = f"{name}: an array of shape {format_shape(array.shape)} in {wanted.name}"
        ensure_fits(array.size * wanted.itemsize, what, "take fewer samples at a time")
    if finite:
        check_finite(array, name)
    if ready:
        return array  # nothing to repair: the usual case, in a few microseconds
    with np.errstate(over="ignore"):  # reported just below, by position
        result = np.require(array, dtype=wanted, requirements=["C", "A"])
    if finite and wanted.itemsize < array.dtype.itemsize:
        check_finite(result, name, note=f" once held as {wanted}")
    return result


def check_shape(array: NDArray[Any], name: str, shape: Shape) -> None:
    """Raise ShapeError, with the likely repair, when `array` is not of `shape`."""
    if array.ndim == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(shape, array.shape, strict=True)
    ):
        return
    hint = _shape_hint(array, name, shape)
    raise ShapeError(f"{name}: expected shape {format_shape(shape)}, got {format_shape(array.shape)}{hint}")


def check_finite(array: NDArray[Any], name: str, note: str = "") -> None:
    """Raise NonFiniteError, with the count and the first position, when `array` holds NaN or infinity."""
    nans = infs = 0
    first: tuple[int, ...] | None = None
    for at, part in _parts(array):
        finite = np.isfinite(part)
        if finite.all():
            continue
        if first is None:
            inside = (int(i) for i in np.unravel_index(int(np.argmin(finite)), part.shape))
            first = tuple(i + j for i, j in zip_longest(inside, at, fillvalue=0))
        missing = int(np.isnan(part).sum())
        nans, infs = nans + missing, infs + int(part.size - finite.sum()) - missing
    if first is None:
        return
    where = f"at {name}[{', '.join(map(str, first))}]" if first else "alone"
    raise NonFiniteError(
        f"{name}: expected finite values, got {nans + infs} of {array.size} that are not{note} "
        f"({nans} NaN, {infs} inf); the first, {array[first]}, is {where}; "
        f"remove or replace them (numpy.nan_to_num)"
    )


def _parts(
    array: NDArray[Any], axis: int = 0, before: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Yield views of an array, in order, each small enough for arrays of its size, and where each begins."""
    if array.size <= MOST_AT_ONCE:
        yield before, array
        return
    rows = max(1, MOST_AT_ONCE * array.shape[axis] // array.size)
    for start in range(0, array.shape[axis], rows):
        part = array[(*(slice(None) for _ in range(axis)), slice(start, start + rows))]
        yield from _parts(part, axis + 1, (*before, start))


def format_shape(shape: Shape | tuple[int, ...]) -> str:
    """Return a shape as messages show it.

    Example:
        >>> format_shape(("batch", 64)), format_shape((3,))
        ('(batch, 64)', '(3,)')
    """
    inside = ", ".join(str(length) for length in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def cast_hint(x: Any, name: str, dtype: str) -> str:
    """Return the expression that converts `x`, in the words of the library that `x` comes from.

    Example:
        >>> cast_hint([1, 2], "x", "float32")
        'numpy.asarray(x, dtype="float32")'
    """
    if type(x).__module__.partition(".")[0] == "torch":
        return f"{name}.to(torch.{dtype})"
    if hasattr(x, "astype"):
        return f'{name}.astype("{dtype}")'
    return f'numpy.asarray({name}, dtype="{dtype}")'


def _check_float(array: NDArray[Any], x: Any, name: str, dtype: np.dtype[Any] | None) -> None:
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize in (4, 8):
        if dtype is not None and dtype.itemsize < array.dtype.itemsize and not is_weak(x):
            raise DTypeError(
                f"{name}: expected float32, got {array.dtype}, which float32 cannot hold exactly; "
                f'convert with {cast_hint(x, name, "float32")}, or build the network with dtype="float64"'
            )
        return
    wanted = str(dtype or "float32")
    expected = "float32 or float64" if dtype is None or dtype.itemsize == 8 else "float32"
    got = f"{name}: expected {expected}, got {_dtype_name(array, x)}"
    if kind == "c":
        raise DTypeError(f'{got}; take the part you mean first, as in {name}.real.astype("{wanted}")')
    # bfloat16 and its like are numbers of a kind that NumPy does not know.
    extended = kind == "V" and not issubclass(array.dtype.type, np.void)
    if kind in "iubf" or extended:
        raise DTypeError(f"{got}; convert with {cast_hint(x, name, wanted)}")
    if kind == "O":
        raise DTypeError(f"{got}; if every entry is a number, convert with {cast_hint(x, name, wanted)}")
    raise DTypeError(f"{got}; convert it to numbers first, then {cast_hint(x, name, wanted)}")


def _dtype_name(array: NDArray[Any], x: Any) -> str:
    if array.ndim == 0 and not isinstance(x, np.ndarray) and array.dtype.kind in "OUS":
        return shown(x)
    return f"{array.dtype} (complex)" if array.dtype.kind == "c" else str(array.dtype)


def is_weak(x: Any) -> bool:
    """True for Python numbers, alone or in nested lists: they have no element type that could be narrowed."""
    if isinstance(x, (list, tuple)):
        return all(is_weak(item) for item in x)
    return type(x) in (float, int)  # not isinstance: numpy.float64 is a subclass of float


def _shape_hint(array: NDArray[Any], name: str, shape: Shape) -> str:
    free = [isinstance(length, str) for length in shape]
    if array.size == 0:
        return ""
    if array.ndim == 0:
        return f"; a single number is no array here: pass {len(shape)} axes"
    if len(shape) == 3 and free[1]:
        return _sequence_hint(array, name, shape[2])
    if len(shape) == 2 and free[0]:
        width = shape[1]
        if array.shape == (width,):
            return f"; a single sample is one row: {name}.reshape(1, -1)"
        if array.ndim == 1 and width == 1:
            return f"; one column is {name}.reshape(-1, 1)"
        if array.ndim == 2 and array.shape[0] == width:
            return f"; the samples are the rows: {name}.T"
        if array.ndim > 2 and array[0].size == width:
            return f"; flatten each sample: {name}.reshape(len({name}), -1)"
    if not any(free):
        if array.shape == shape[:1] and shape[1:] == (1,):
            return f"; one column is {name}.reshape(-1, 1)"
        if array.shape == shape[::-1]:
            return f"; transposed it would fit: {name}.T"
        if shape[0] == 1 and array.shape == shape[1:]:
            return f"; the first axis is there even if it is 1: {name}[None]"
        if len(shape) > 2 and array.shape == (shape[1], shape[0], *shape[2:]):
            return f"; with its first two axes exchanged it would fit: {name}.swapaxes(0, 1)"
    return ""


def _sequence_hint(array: NDArray[Any], name: str, width: int | str) -> str:
    """The likely repair of what should have been (batch, time, width)."""
    if array.ndim == 2 and array.shape[1] == width:
        return f"; a single sequence is one sample: {name}[None]"
    if width == 1 and array.ndim in (1, 2):
        index = "None, :, None" if array.ndim == 1 else ":, :, None"
        return f"; one number a step is {name}[{index}]"
    if array.ndim == 3 and array.shape[1] == width:
        return f"; the features come last: {name}.swapaxes(1, 2)"
    if array.ndim > 3 and array[0, 0].size == width:
        return f"; flatten each step: {name}.reshape(*{name}.shape[:2], -1)"
    return ""


def _empty(array: NDArray[Any], name: str, shape: Shape | None) -> str:
    text = f"{name}: expected at least one element, got an empty array of shape {array.shape}"
    for length, axis in zip(array.shape, shape or (), strict=False):
        if length == 0 and isinstance(axis, str):
            return f"{text}: the axis {axis} has length 0"
    return text


def _unreadable(x: Any, name: str, error: Exception) -> str:
    hint = ""
    if type(x).__module__.partition(".")[0] == "torch":
        hint = f"; for a torch tensor use {name}.detach().cpu(), in float32 or float64"
    got = f"{type(x).__module__}.{type(x).__qualname__}"
    return f"{name}: expected an array, got {got} that cannot be read ({error}){hint}"
