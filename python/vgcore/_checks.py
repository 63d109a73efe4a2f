"""Layer: argument checks. Turns scalar arguments into plain Python values, or says what is wrong with them.

Knows nothing of networks or layers. Arrays have their own file (`_arrays`).
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from .errors import ArgumentError, DTypeError

#: Sizes are held as 32-bit integers by the compiled module.
MAX_SIZE = 2**31 - 1


def shown(value: object, limit: int = 60) -> str:
    """Return `value` as an error message shows it: its repr, shortened, and its type.

    Example:
        >>> shown("64")
        "'64' (str)"
    """
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python is willing to write out
        text = _integer(value) if isinstance(value, int) else object.__repr__(value)
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return f"{text} ({type(value).__name__})"


def as_size(value: object, name: str, *, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """Return `value` as an int with ``minimum <= value <= maximum``, or raise ArgumentError.

    Example:
        >>> as_size(64, "width")
        64
    """
    if isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name}: expected an integer, got {shown(value)}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # anything may come: TypeError is caught
    except TypeError:
        hint = f"; write {name}={int(value)}" if isinstance(value, float) and value.is_integer() else ""
        raise ArgumentError(f"{name}: expected an integer, got {shown(value)}{hint}") from None
    if number < minimum:
        raise ArgumentError(f"{name}: expected an integer of at least {minimum:,}, got {_integer(number)}")
    if number > maximum:
        raise ArgumentError(f"{name}: expected an integer of at most {maximum:,}, got {_integer(number)}")
    return number


def _integer(number: int) -> str:
    """Return an integer as text: in digits, or by its size where nobody would read them."""
    if abs(number) < 10**30:
        return f"{number:,}"
    return f"about {'-' * (number < 0)}1e{int(math.log10(abs(number)))}"


def as_real(value: object, name: str, *, minimum: float | None = None) -> float:
    """Return `value` as a finite float of at least `minimum`, or raise ArgumentError.

    Example:
        >>> as_real(1, "scale")
        1.0
    """
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None:
        raise ArgumentError(f"{name}: expected a number, got {shown(value)}")
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may come: TypeError is caught
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name}: expected a number, got {shown(value)}") from None
    if not math.isfinite(number):
        raise ArgumentError(f"{name}: expected a finite number, got {number}")
    if minimum is not None and number < minimum:
        raise ArgumentError(f"{name}: expected a number of at least {minimum:g}, got {number:g}")
    return number


def as_flag(value: object, name: str) -> bool:
    """Return `value` as a bool, or raise ArgumentError: no truthiness of other types.

    Example:
        >>> as_flag(True, "bias")
        True
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ArgumentError(f"{name}: expected True or False, got {shown(value)}")


def as_choice(value: object, name: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`, or raise ArgumentError that lists them.

    Example:
        >>> as_choice("full", "stats", ("norms", "full"))
        'full'
    """
    if isinstance(value, str) and value in choices:
        return value
    listed = ", ".join(repr(choice) for choice in choices)
    raise ArgumentError(f"{name}: expected one of {listed}, got {shown(value)}")


def as_dtype(value: Any, name: str = "dtype") -> np.dtype[Any]:
    """Return `value` as float32 or float64 in this machine's byte order, or raise DTypeError.

    Example:
        >>> as_dtype("float32")
        dtype('float32')
    """
    advice = 'use "float32" or "float64"'
    if value is None:  # NumPy would read None as float64: an accident, not a choice
        raise DTypeError(f"{name}: expected float32 or float64, got None; {advice}")
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise DTypeError(f"{name}: expected float32 or float64, got {shown(value)}; {advice}") from None
    if dtype.kind != "f" or dtype.itemsize not in (4, 8):
        raise DTypeError(f"{name}: expected float32 or float64, got {dtype}; {advice}")
    return np.dtype(f"float{8 * dtype.itemsize}")  # this machine's byte order
