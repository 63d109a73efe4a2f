"""Layer: catalogues. Losses: what there is, what target each takes, and objects that carry their parameters.

Knows arrays and the compiled module, but no network. Every loss is a mean, as PyTorch's are by default.

Example:
    >>> import vgcore as vg
    >>> vg.losses.cross_entropy(label_smoothing=0.1)
    cross_entropy(label_smoothing=0.1)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import as_array, as_float_array, cast_hint, check_finite, format_shape
from ._checks import shown
from ._registry import Description, Registry
from .errors import ArgumentError, DTypeError, LabelError, ShapeError

__all__ = ["Loss", "describe", "names"]

_registry = Registry("loss", "vg.losses.names()")


@dataclass(frozen=True, repr=False)
class Loss:
    """A catalogue name with its parameters: what ``vg.losses.cross_entropy(...)`` returns.

    `name` is canonical; `params` holds only what was given, the rest keeps its default.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Resolve the name and check the parameters."""
        entry = describe(self.name)
        checked = entry.check_params(self.params)
        object.__setattr__(self, "name", entry.name)
        object.__setattr__(self, "params", {key: checked[key] for key in self.params})
        if (
            self.params
        ):  # the compiled module knows the ranges: a wrong value is said here, not at the first pass
            _run_alone(self, np.zeros((1, 1)), np.zeros((1, 1)), "loss")

    def __hash__(self) -> int:
        """Hash by value, so that equal losses are one dictionary key."""
        return hash((self.name, tuple(sorted(self.params.items()))))

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.params.items())})"

    def to_spec(self) -> dict[str, Any]:
        """Return what the compiled module takes: the name and every parameter, in one dict."""
        return {"name": self.name, **describe(self.name).defaults, **self.params}

    def check_target(
        self,
        y: Any,
        lead: int | tuple[int, ...],
        width: int,
        dtype: np.dtype[Any],
        name: str = "y",
        valid: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """Return `y` as this loss takes it for an output of shape (*lead, width), or raise a typed error.

        `lead` is the batch, or (batch, time). cross_entropy: integer class labels of shape `lead`, or
        probabilities (*lead, width). Others: a float array of the output's shape; bce_with_logits wants it
        within [0, 1]. Where `valid`, of shape `lead`, is False, `y` may hold anything: it becomes 0.

        Raises:
            ShapeError, DTypeError, NonFiniteError: not such an array.
            LabelError: a label outside ``range(width)``.
            ArgumentError: probabilities that are none.
        """
        lead = (lead,) if isinstance(lead, int) else lead
        if describe(self.name).extra.get("classes"):
            return _class_target(y, lead, width, dtype, name, valid)
        target = _float_target(y, lead, width, dtype, name, valid)
        if self.name == "bce_with_logits":
            _check_range(target, name)
        return target

    def value(self, output: Any, y: Any) -> float:
        """Return the mean loss of `output`, (batch, width), for the target `y`.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError, ArgumentError: as for `Network.loss`.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> vg.losses.mse().value(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
            2.0
        """
        return float(self._run(output, y, "loss")["loss"])

    def gradient(self, output: Any, y: Any) -> NDArray[Any]:
        """Return dL/d(output), of the output's shape and float type.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError, ArgumentError: as for `Network.loss`.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> vg.losses.mse().gradient(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
            array([[0., 2.]])
        """
        mantissa, exponent = self._run(output, y, "gradients")["input_gradient"]
        bounded = np.clip(exponent, -(2**20), 2**20).astype(np.intc)
        return np.asarray(np.ldexp(mantissa, bounded[:, None]))

    def _run(self, output: Any, y: Any, mode: str) -> dict[str, Any]:
        array = as_float_array(output, name="output", shape=("batch", "width"))
        batch, width = array.shape
        return _run_alone(self, array, self.check_target(y, batch, width, array.dtype), mode)


def as_loss(value: Any, name: str = "loss") -> Loss:
    """Return `value` (a name or a Loss) as a Loss.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something that is neither.

    Example:
        >>> as_loss("mse")
        mse()
    """
    if isinstance(value, Loss):
        return value
    if isinstance(value, str):
        return _named(value)
    if callable(value):
        raise ArgumentError(f"{name}: call the loss first, as in vg.losses.mse(); got {shown(value)}")
    known = ", ".join(map(repr, names()))
    raise ArgumentError(f"{name}: expected one of {known}, or an object from vg.losses; got {shown(value)}")


def names() -> list[str]:
    """Return the canonical names of all losses.

    Example:
        >>> "cross_entropy" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return formula, parameters and reference of one loss; ``print`` shows them.

    Raises:
        UnknownNameError: no loss has this name or alias.

    Example:
        >>> describe("cross_entropy").kind
        'loss'
    """
    return _registry.describe(name)


@functools.lru_cache(maxsize=64)
def _named(name: str) -> Loss:
    # A training loop names its loss at every step.
    return Loss(name)


def _run_alone(loss: Loss, output: NDArray[Any], target: NDArray[Any], mode: str) -> dict[str, Any]:
    # The loss has no door of its own in the compiled module: an identity network's loss is the loss.
    identity = [{"kind": "activation", "name": "0", "function": "identity", "params": {}}]
    network = _core.Network(identity, output.shape[1], output.dtype.name, 0)
    spec = loss.to_spec()
    return network.run(output, target, spec, None, mode=mode, lr=None, stats="none", memory_budget=None)


def _float_target(
    y: Any,
    lead: tuple[int, ...],
    width: int,
    dtype: np.dtype[Any],
    name: str,
    valid: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    shape = (*lead, width)
    if valid is None or valid.all():
        return as_float_array(y, name=name, dtype=dtype, shape=shape)
    whole = as_float_array(y, name=name, dtype=dtype, shape=shape, finite=False)
    target = np.where(valid[..., None], whole, np.zeros((), dtype))
    check_finite(target, name)
    return target


def _class_target(
    y: Any,
    lead: tuple[int, ...],
    width: int,
    dtype: np.dtype[Any],
    name: str,
    valid: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    array = as_array(y, name)
    if array.size == 0:
        raise ShapeError(
            f"{name}: expected {math.prod(lead)} class labels, of shape {format_shape(lead)}, got an empty "
            f"array of shape {format_shape(array.shape)}"
        )
    if array.dtype.kind in "iu":
        return _labels(array, lead, width, dtype, name, valid)
    if array.ndim == len(lead) and array.dtype.kind in "fb":
        raise DTypeError(
            f"{name}: expected integer class labels, got {array.dtype}; "
            f"convert with {cast_hint(y, name, 'int64')}"
        )
    if array.shape == (*lead, 1) and width != 1:
        flat = f"{name}.ravel()" if len(lead) == 1 else f"{name}[..., 0]"
        shapes = f"{format_shape(lead)} or probabilities of shape {format_shape((*lead, width))}"
        raise ShapeError(
            f"{name}: expected class labels of shape {shapes}, got {format_shape(array.shape)}; "
            f'labels are {flat}.astype("int64")'
        )
    target = _float_target(y, lead, width, dtype, name, valid)
    _check_probabilities(target, name, valid)
    return target


def _labels(
    array: NDArray[Any],
    lead: tuple[int, ...],
    width: int,
    dtype: np.dtype[Any],
    name: str,
    valid: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    if array.shape != lead:
        hint = ""
        if len(lead) == 1 and array.shape in ((*lead, 1), (1, *lead)):
            hint = f"; use {name}.ravel()"
        elif array.shape == (*lead, 1):
            hint = f"; use {name}[..., 0]"
        elif array.shape == (*lead, width):
            labels, probabilities = f"{name}.argmax(axis={len(lead)})", f'{name}.astype("{dtype}")'
            hint = f"; one-hot rows are {labels} as labels, or {probabilities} as probabilities"
        elif len(lead) == 2 and array.shape == lead[::-1]:
            hint = f"; the samples come first, then the steps: {name}.T"
        raise ShapeError(
            f"{name}: expected class labels of shape {format_shape(lead)}, got {format_shape(array.shape)}"
            f"{hint}"
        )
    if valid is not None and not valid.all():
        array = np.where(valid, array, np.zeros((), array.dtype))
    wrong = (array < 0) | (array >= width)
    if wrong.any():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), array.shape))
        label = int(array[first])
        hint = ""
        if label == width and array.min() >= 1:
            hint = f"; labels count from 0: {name} - 1"
        elif label < 0:
            hint = "; there is no label that means 'ignore'"
            hint += ", but steps behind a sample's end (lengths=) do not count" if len(lead) == 2 else ""
        raise LabelError(
            f"{name}: expected class labels in 0..{width - 1} ({width} classes: the width of the output), "
            f"got {label} at {name}[{', '.join(map(str, first))}] ({int(wrong.sum())} of {array.size} out of "
            f"range){hint}"
        )
    return np.require(array, dtype=np.int64, requirements=["C", "A"])


def _check_probabilities(target: NDArray[Any], name: str, valid: NDArray[np.bool_] | None) -> None:
    if target.min() < 0:
        first = tuple(int(i) for i in np.unravel_index(int(np.argmin(target)), target.shape))
        raise ArgumentError(
            f"{name}: expected probabilities, got {target[first]:g} at {name}[{', '.join(map(str, first))}]; "
            f"labels are integers of shape {format_shape(target.shape[:-1])}"
        )
    sums = target.sum(axis=-1, dtype=np.float64)
    # Room for rows that were normalised in float16 or float32 elsewhere.
    wrong = np.abs(sums - 1.0) > 1e-3
    if valid is not None:
        wrong &= valid
    if wrong.any():
        row = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), sums.shape))
        raise ArgumentError(
            f"{name}: expected probabilities that sum to 1 in each row, got {sums[row]:g} in row "
            f"{', '.join(map(str, row))}; normalise with {name} / {name}.sum(axis=-1, keepdims=True)"
        )


def _check_range(target: NDArray[Any], name: str) -> None:
    wrong = (target < 0) | (target > 1)
    if wrong.any():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), target.shape))
        raise ArgumentError(
            f"{name}: expected targets in [0, 1] for bce_with_logits, got {target[first]:g} at "
            f"{name}[{', '.join(map(str, first))}]"
        )


def __getattr__(name: str) -> Callable[..., Loss]:
    """Return the maker of one loss: ``vg.losses.smooth_l1(beta=0.5)``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)

    def make(**params: Any) -> Loss:
        return Loss(entry.name, params)

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the functions of this module and every loss."""
    return sorted([*__all__, *names()])
