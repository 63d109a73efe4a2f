"""Layer: catalogues. A part of the training (an optimizer, a clip, a constraint) as a frozen value.

Knows how the compiled module describes a part; each catalogue has its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from . import _core
from ._registry import Description, Registry

__all__ = ["Part"]


@dataclass(frozen=True, repr=False, eq=False)
class Part:
    """A catalogue name with its parameters. `params` holds every one, at its default where none was given.

    Two are equal that do the same, whichever way they were written: ``vg.SGD(0.1)`` and
    ``vg.optimizers.sgd(lr=0.1)``.
    """

    registry: ClassVar[Registry]

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Resolve the name and check the parameters."""
        entry = self.describe()
        object.__setattr__(self, "name", entry.name)
        object.__setattr__(self, "params", entry.check_params(self.params))
        # The compiled module knows the ranges: a wrong value is said here, not at the first step.
        _core.check_part(self.registry.kind, self.to_spec())

    def describe(self) -> Description:
        """Return formula, parameters and reference; ``print`` shows them."""
        return self.registry.describe(self.name)

    def to_spec(self) -> dict[str, Any]:
        """Return what the compiled module takes: the name and every parameter, in one dict."""
        return {"name": self.name, **self.params}

    def __eq__(self, other: object) -> bool:
        """Compare by value: kind, name and parameters."""
        if not isinstance(other, Part):
            return NotImplemented
        mine, others = ((p.registry.kind, p.name, p.params) for p in (self, other))
        return mine == others

    def __hash__(self) -> int:
        """Hash by value, so that equal parts are one dictionary key."""
        return hash((self.name, tuple(sorted(self.params.items()))))

    def __repr__(self) -> str:
        """Return the call that makes this object, with what differs from the defaults."""
        own = self._arguments(self.params)
        defaults = self._arguments(self.describe().defaults)
        given = (f"{key}={value!r}" for key, value in own.items() if value != defaults[key])
        return f"{self._call()}({', '.join(given)})"

    @property
    def text(self) -> str:
        """The call by the catalogue's name, the same for all that are equal: "sgd(lr=0.1)"."""
        defaults = self.describe().defaults
        given = (f"{key}={value!r}" for key, value in self.params.items() if value != defaults[key])
        return f"{self.name}({', '.join(given)})"

    def _arguments(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as the arguments of the call."""
        return dict(params)

    def _call(self) -> str:
        return self.name if type(self).__init__ is Part.__init__ else type(self).__name__
