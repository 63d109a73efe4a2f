"""Layer: catalogues. Initializers: what there is, how each draws, and objects that carry their parameters.

Knows no network. Every draw comes from a counter-based generator in the compiled module, keyed by seed,
tensor and layer, so any layer's weights can be made again alone.

Example:
    >>> import vgcore as vg
    >>> vg.initializers.normal(std=0.1)
    normal(std=0.1)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import as_float_array, is_weak
from ._checks import as_dtype, as_size, shown
from ._registry import Description, Registry
from ._rng import RngLike, key_of, seed_of
from .errors import ArgumentError, ShapeError

__all__ = ["FromArray", "Initializer", "describe", "from_array", "names"]

_registry = Registry("initializer", "vg.initializers.names()")


@dataclass(frozen=True, repr=False)
class Initializer:
    """A catalogue name with its parameters: what ``vg.initializers.he_normal(...)`` returns.

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
        ):  # the compiled module knows the ranges: a wrong value is said here, not at the first draw
            _core.initialize(entry.name, checked, 1, 1, "float64", 0, 0, 0)

    def __hash__(self) -> int:
        """Hash by value, so that equal initializers are one dictionary key."""
        return hash((self.name, tuple(sorted(self.params.items(), key=lambda item: item[0]))))

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.params.items())})"

    def to_spec(self) -> dict[str, Any]:
        """Return what the compiled module takes: the name and every parameter."""
        return {"name": self.name, "params": describe(self.name).check_params(self.params)}

    def sample(
        self, shape: tuple[int, ...], *, dtype: Any = "float32", rng: RngLike = None
    ) -> NDArray[np.floating[Any]]:
        """Return one draw of `shape`: (out, in), or (n, out, in) for a stack of n independent layers.

        Raises:
            ShapeError: not 2 or 3 axes.
            ArgumentError: a length that is not a positive integer, a bad `rng`.

        Example:
            >>> import vgcore as vg
            >>> vg.initializers.he_normal().sample((4, 3), rng=0).shape
            (4, 3)
        """
        if not isinstance(shape, tuple) or len(shape) not in (2, 3):
            raise ShapeError(f"shape: expected (out, in) or (n, out, in), got {shown(shape)}")
        sizes = [as_size(length, f"shape[{axis}]") for axis, length in enumerate(shape)]
        kind, key = as_dtype(dtype).name, key_of(seed_of(rng))
        spec = self.to_spec()
        *stack, rows, cols = sizes
        if not stack:
            return _core.initialize(spec["name"], spec["params"], rows, cols, kind, key, 0, 0)
        result: NDArray[np.floating[Any]] = np.empty((stack[0], rows, cols), dtype=kind)
        for layer in range(stack[0]):
            result[layer] = _core.initialize(spec["name"], spec["params"], rows, cols, kind, key, 0, layer)
        return result


@dataclass(frozen=True, eq=False, repr=False)
class FromArray:
    """An explicit array as initial value: of the parameter's shape, or a stack with one entry per step."""

    array: NDArray[np.floating[Any]]
    weak: bool = False
    """Made of Python floats, which have no element type of their own: may become float32."""

    def __eq__(self, other: object) -> bool:
        """Equal when the arrays are equal to the bit, NaN aside."""
        if not isinstance(other, FromArray):
            return NotImplemented
        return self.array.dtype == other.array.dtype and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        """Hash by shape and type: equal arrays hash alike."""
        return hash((self.array.shape, self.array.dtype.str))

    def __repr__(self) -> str:
        """Show the shape, not the values."""
        return f"from_array(<{self.array.dtype} {self.array.shape}>)"


#: What `init=` accepts once it is normalised.
AnyInitializer: TypeAlias = Initializer | FromArray


def from_array(array: Any) -> FromArray:
    """Return an initializer that copies `array`; ``init=array`` does the same.

    Raises:
        DTypeError, ShapeError, NonFiniteError: not a finite, non-empty float32 or float64 array.

    Example:
        >>> import numpy as np
        >>> from_array(np.eye(2))
        from_array(<float64 (2, 2)>)
    """
    copied = as_float_array(array, name="init").copy()
    copied.flags.writeable = False
    return FromArray(copied, weak=is_weak(array))


def as_initializer(value: Any, name: str = "init") -> AnyInitializer:
    """Return `value` (a name, an initializer or an array) as an initializer object.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something that is none of the three.

    Example:
        >>> as_initializer("kaiming_normal") == as_initializer("he_normal")
        True
    """
    if isinstance(value, (Initializer, FromArray)):
        return value
    if isinstance(value, str):
        return Initializer(value)
    if isinstance(value, np.ndarray) or hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        return from_array(value)
    if isinstance(value, (list, tuple, memoryview)):
        return from_array(value)
    if callable(value):
        raise ArgumentError(
            f"{name}: call the initializer first, as in vg.initializers.he_normal(); got {shown(value)}"
        )
    raise ArgumentError(
        f'{name}: expected a name such as "he_normal", an initializer such as '
        f"vg.initializers.normal(std=0.1), or an array; got {shown(value)}"
    )


def names() -> list[str]:
    """Return the canonical names of all initializers.

    Example:
        >>> "he_normal" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return formula, parameters and reference of one initializer; ``print`` shows them.

    Raises:
        UnknownNameError: no initializer has this name or alias.

    Example:
        >>> describe("xavier_uniform").name
        'glorot_uniform'
    """
    return _registry.describe(name)


def __getattr__(name: str) -> Callable[..., Initializer]:
    """Return the maker of one initializer: ``vg.initializers.he_normal(mode="fan_out")``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)

    def make(**params: Any) -> Initializer:
        return Initializer(entry.name, params)

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the functions of this module and every initializer."""
    return sorted([*__all__, *names()])
