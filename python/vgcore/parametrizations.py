"""Layer: catalogues. Parametrizations: weights that a layer makes from a matrix and a vector that it learns.

Knows no network. An entry added to the table of the compiled module appears here without a change.

Example:
    >>> import vgcore as vg
    >>> vg.parametrizations.weight_standardized(gain=1.5)
    weight_standardized(gain=1.5)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _core
from ._checks import shown
from ._registry import Description, Registry
from .errors import ArgumentError

__all__ = ["Parametrization", "describe", "names"]

_registry = Registry("parametrization", "vg.parametrizations.names()")


@dataclass(frozen=True, repr=False)
class Parametrization:
    """A catalogue name with its parameters: what ``vg.parametrizations.weight_norm()`` returns.

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
        if self.params:  # the compiled module knows the ranges: a wrong value is said here, not at a network
            dense = {"kind": "dense", "name": "", "features": 1, "bias": False}
            zeros = {"name": "zeros", "params": {}}
            _core.Network([dense | {"init": zeros, "parametrization": self.to_spec()}], 1, "float64", 0)

    def __hash__(self) -> int:
        """Hash by value, so that equal ones are one dictionary key."""
        return hash((self.name, tuple(sorted(self.params.items()))))

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.params.items())})"

    @property
    def leaves(self) -> tuple[str, str]:
        """Leaf names of the matrix, shaped as the weight, and of the vector, one number a unit."""
        matrix, vector = describe(self.name).extra["leaves"]
        return str(matrix), str(vector)

    def to_spec(self) -> dict[str, Any]:
        """Return what the compiled module takes: the name and every parameter."""
        return {"name": self.name, "params": describe(self.name).check_params(self.params)}


def as_parametrization(value: Any, name: str = "parametrization") -> Parametrization | None:
    """Return `value` (None, a name or an object) as an object, None staying None.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something that is none of the three.

    Example:
        >>> as_parametrization("WeightNorm")
        weight_norm()
    """
    if value is None or isinstance(value, Parametrization):
        return value
    if isinstance(value, str):
        return Parametrization(value)
    if callable(value):
        raise ArgumentError(
            f"{name}: call the parametrization first, as in vg.parametrizations.weight_norm(); "
            f"got {shown(value)}"
        )
    raise ArgumentError(
        f'{name}: expected None, a name such as "weight_norm" or an object such as '
        f"vg.parametrizations.weight_standardized(gain=1.5), got {shown(value)}"
    )


def names() -> list[str]:
    """Return the canonical names of all parametrizations.

    Example:
        >>> "weight_norm" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return formula, parameters and reference of one parametrization; ``print`` shows them.

    Raises:
        UnknownNameError: no parametrization has this name or alias.

    Example:
        >>> describe("weight_standardization").name
        'weight_standardized'
    """
    return _registry.describe(name)


def __getattr__(name: str) -> Callable[..., Parametrization]:
    """Return the maker of one parametrization: ``vg.parametrizations.weight_standardized(gain=1.5)``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)

    def make(**params: Any) -> Parametrization:
        return Parametrization(entry.name, params)

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the functions of this module and every parametrization."""
    return sorted([*__all__, *names()])
