"""Layer: results, gradient arrays. What `Network.gradients` returns: arrays whose scale is kept apart.

Knows arrays and powers of two, not how they were computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, UnknownNameError, nearest

__all__ = ["Gradients", "Truncation"]

Array: TypeAlias = NDArray[Any]

#: Beyond this exponent any float64 mantissa is 0 or infinite; C's ldexp takes no more than an int.
_FAR = 2**20
#: Elements that are squared in float64 at a time: a few MiB, whatever the size of the stack.
_CHUNK = 2**19


class Gradients(Mapping[str, Array]):
    """Gradients of one backward pass, by parameter name: a read-only mapping of name to array.

    Each array is held as ``mantissa * 2**exponent``, one exponent per step of a stack, so no gradient is lost
    to the range of floats. ``g[name]`` gives plain numbers, where what is too small becomes 0 and what is too
    large becomes inf; ``g.scaled(name)`` and ``g.log2_norm(name)`` lose nothing. Where a recurrent network
    was given a state, the gradients for its parts are here as ``state.h`` and ``state.c``.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.mlp(depth=1000, width=8, activation="sigmoid", init="glorot_normal", rng=0)
        >>> ones = np.ones((4, 8), np.float32)
        >>> g = net.gradients(ones, cotangent=ones)
        >>> float(np.abs(g["hidden.weight"][0]).max())
        0.0
        >>> bool(g.log2_norm("hidden.weight")[0] < -1000)
        True
    """

    __slots__ = ("_input", "_loss", "_scaled")

    def __init__(
        self,
        scaled: Mapping[str, tuple[Array, NDArray[np.int64]]],
        scaled_input: tuple[Array, NDArray[np.int64]] | None,
        loss: float | None = None,
    ) -> None:
        """Hold what a pass returned; arrays become read-only."""
        self._scaled = {name: (_frozen(m), _frozen(np.asarray(e))) for name, (m, e) in scaled.items()}
        self._input = None
        if scaled_input is not None:
            self._input = (_frozen(scaled_input[0]), _frozen(np.asarray(scaled_input[1])))
        self._loss = loss

    @property
    def loss(self) -> float | None:
        """The loss at this point; None when a cotangent was given."""
        return self._loss

    @property
    def input(self) -> Array:
        """dL/dx as plain numbers, of x's shape."""
        return _plain(*self.scaled_input)

    @property
    def scaled_input(self) -> tuple[Array, NDArray[np.int64]]:
        """dL/dx as (mantissa of x's shape, exponent of 2 of leading axes: (batch,) along depth).

        Raises:
            ArgumentError: the pass was made with ``inputs=False``.
        """
        if self._input is None:
            raise ArgumentError("the gradient for the input was left out by inputs=False; ask for it")
        return self._input

    def scaled(self, name: str) -> tuple[Array, NDArray[np.int64]]:
        """Return (mantissa, exponent of 2) of one gradient.

        The mantissa has the parameter's shape; the exponent has shape (n,) for a stack of n steps, else ().

        Raises:
            UnknownNameError: no parameter has this name.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=3, width=2, rng=0)
            >>> m, e = net.gradients([[1.0, 2.0]], cotangent=[[1.0, 1.0]]).scaled("hidden.weight")
            >>> m.shape, e.shape
            ((3, 2, 2), (3,))
        """
        try:
            return self._scaled[name]
        except (KeyError, TypeError):
            raise _unknown(name, self._scaled) from None

    def replaced(self, scaled: Mapping[str, tuple[Array, NDArray[np.int64]]]) -> Gradients:
        """Return the same pass with other gradients for the parameters, as (mantissa, exponent) by name."""
        return Gradients(scaled, self._input, self._loss)

    def log2_norm(self, name: str) -> float | NDArray[np.float64]:
        """Return log2 of the Frobenius norm: a float, or (n,) for a stack of n steps. -inf is exactly zero.

        Raises:
            UnknownNameError: no parameter has this name.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=3, width=2, rng=0)
            >>> net.gradients([[1.0, 2.0]], cotangent=[[1.0, 1.0]]).log2_norm("hidden.weight").shape
            (3,)
        """
        mantissa, exponent = self.scaled(name)
        if exponent.ndim == 0:
            return float(_log2_norms(mantissa[None], exponent[None])[0])
        return _log2_norms(mantissa.reshape(exponent.size, -1), exponent.ravel()).reshape(exponent.shape)

    def input_log2_norm(self) -> NDArray[np.float64]:
        """Return log2 of the norm of dL/dx for each sample, of shape (batch,)."""
        mantissa, exponent = self.scaled_input
        batch = len(mantissa)
        parts = _log2_norms(mantissa.reshape(exponent.size, -1), exponent.ravel()).reshape(batch, -1)
        with np.errstate(invalid="ignore"):  # NaN is evidence here, not an accident
            return np.asarray(0.5 * np.logaddexp2.reduce(2.0 * parts, axis=1))

    def __getitem__(self, name: str) -> Array:
        """Return one gradient as plain numbers, in the network's float type."""
        try:
            scaled = self._scaled[name]
        except (KeyError, TypeError):
            # Mapping.get and `in` rely on KeyError.
            raise _UnknownKey(str(_unknown(name, self._scaled))) from None
        return _plain(*scaled)

    def __iter__(self) -> Iterator[str]:
        """Parameter names, nearest the input first."""
        return iter(self._scaled)

    def __len__(self) -> int:
        """Return the number of parameter arrays."""
        return len(self._scaled)

    def __contains__(self, name: object) -> bool:
        """Whether a parameter has this name."""
        return name in self._scaled

    def __repr__(self) -> str:
        """Show names and shapes."""
        parts = [f"{name}: {mantissa.shape}" for name, (mantissa, _) in self._scaled.items()]
        more = f", ... {len(parts) - 6} more" if len(parts) > 6 else ""
        loss = "" if self._loss is None else f"loss={self._loss:.6g}, "
        return f"Gradients({loss}{', '.join(parts[:6])}{more})"


class Truncation(NamedTuple):
    """What one gradient loses to truncated backpropagation, as `Network.truncation_loss` measures it.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.rnn("gru", 8, in_features=2, rng=0)
        >>> x, v = np.ones((4, 60, 2), np.float32), np.ones((4, 8), np.float32)
        >>> net.truncation_loss(x, cotangent=v, truncate=5)["rnn.weight_hh_l0"].difference > 0
        True
    """

    difference: float
    """``|g_cut - g| / |g|``, in Frobenius norms; 0 where nothing is lost."""
    cosine: float
    """``<g_cut, g> / (|g_cut| |g|)``: 1 where nothing is lost, NaN where one of them is exactly zero."""


def truncation(whole: Gradients, cut: Gradients) -> dict[str, Truncation]:
    """Return, by name, how far `cut` is from `whole`.

    Example:
        >>> import numpy as np
        >>> x = np.ones((1, 1)), np.zeros(1)
        >>> g, cut = (Gradients({"w": (np.array([[3.0, b]]), np.array(-9000))}, x) for b in (4.0, 0.0))
        >>> {name: tuple(round(v, 12) for v in pair) for name, pair in truncation(g, cut).items()}
        {'w': (0.8, 0.6)}
    """
    result = {}
    for name in whole:
        a, a_top = _on_one_exponent(*whole.scaled(name))
        b, b_top = _on_one_exponent(*cut.scaled(name))
        a_norm, b_norm = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        # Relative to the larger one, which neither can overflow; what is then lost is below its last digit.
        top = max(a_top, b_top) if a_norm and b_norm else a_top if a_norm else b_top
        gap = float(np.linalg.norm(_shifted(b, b_top - top) - _shifted(a, a_top - top)))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = np.float64(gap) / np.ldexp(a_norm, max(a_top - top, -_FAR)) if gap else 0.0
            cosine = np.float64(np.vdot(b, a)) / (np.float64(a_norm) * b_norm)
        if a_norm and a_top == b_top and np.array_equal(a, b):
            cosine = np.float64(1.0)  # rounding would leave it beside that
        result[name] = Truncation(float(ratio), float(cosine))
    return result


def _on_one_exponent(mantissa: Array, exponent: NDArray[np.int64]) -> tuple[Array, int]:
    """Return float64 with its largest magnitude in [1/2, 1), and the power of two that it is to be times."""
    values, shift = np.frexp(mantissa.astype(np.float64))
    powers = exponent.reshape(exponent.shape + (1,) * (mantissa.ndim - exponent.ndim)) + shift
    used = np.broadcast_to(powers, values.shape)[values != 0]
    top = int(used.max()) if used.size else 0
    return np.asarray(np.ldexp(values, np.clip(powers - top, -_FAR, 0).astype(np.intc))), top


def _shifted(values: Array, power: int) -> Array:
    return np.asarray(np.ldexp(values, max(power, -_FAR)))


class _UnknownKey(UnknownNameError, KeyError):
    """An UnknownNameError where Python's mapping protocol asks for a KeyError."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


def _unknown(name: object, known: Mapping[str, Any]) -> UnknownNameError:
    guess = nearest(name, known) if isinstance(name, str) else None
    hint = f"did you mean {guess!r}? " if guess else ""
    return UnknownNameError(f"unknown parameter {name!r}; {hint}list(gradients) lists all of them")


def _frozen(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _plain(mantissa: Array, exponent: NDArray[np.int64]) -> Array:
    bounded = np.clip(exponent, -_FAR, _FAR).astype(np.intc)
    bounded = bounded.reshape(bounded.shape + (1,) * (mantissa.ndim - bounded.ndim))
    with np.errstate(over="ignore", under="ignore"):  # documented: this form has a float's range
        return np.asarray(np.ldexp(mantissa, bounded))


def _log2_norms(mantissa: Array, exponent: NDArray[np.int64]) -> NDArray[np.float64]:
    rows = mantissa.reshape(len(exponent), -1)
    result = np.empty(len(exponent), dtype=np.float64)
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        part = rows[start : start + step].astype(np.float64)
        largest = np.max(np.abs(part), axis=1)
        # A power of two brings the largest entry to [0.5, 1), exactly, before anything is squared.
        _, shift = np.frexp(np.where(np.isfinite(largest), largest, 0.0))
        np.ldexp(part, -shift[:, None], out=part)
        with np.errstate(divide="ignore", invalid="ignore"):
            norm2 = np.einsum("ij,ij->i", part, part)
            result[start : start + step] = 0.5 * np.log2(norm2) + shift
    with np.errstate(invalid="ignore"):
        return result + exponent
