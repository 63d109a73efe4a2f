"""Layer: catalogues. Constraints: what weight matrices are brought back to after each step.

Knows the compiled module, but no network.

Example:
    >>> import vgcore as vg
    >>> vg.SpectralConstraint(1.5)
    SpectralConstraint(limit=1.5)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from ._checks import as_size, shown
from ._part import Part
from ._registry import Description, Registry
from .errors import ArgumentError

__all__ = [
    "Constraint",
    "MaxNormConstraint",
    "OrthogonalConstraint",
    "SpectralConstraint",
    "as_constraints",
    "describe",
    "names",
]

_registry = Registry("constraint", "vg.constraints.names()")


class Constraint(Part):
    """What weight matrices are brought back to after each step.

    `only` is a pattern for the names of parameters, as in a shell: ``"*.weight_hh_*"``. Vectors are never
    held; of a recurrent layer's weights, each gate's matrix is held by itself.
    """

    registry: ClassVar[Registry] = _registry

    only: str = "*weight*"

    def _hold(self, only: str) -> None:
        if not isinstance(only, str) or not only:
            raise ArgumentError(f"only: expected a pattern such as '*weight_hh*', got {shown(only)}")
        object.__setattr__(self, "only", only)

    def chosen(self, parameters: Iterable[str]) -> list[str]:
        """Return the names that are held."""
        return [name for name in parameters if fnmatchcase(name, self.only)]

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        if not isinstance(other, Constraint):
            return NotImplemented
        return super().__eq__(other) and self.only == other.only

    def __hash__(self) -> int:
        """Hash by value, so that equal constraints are one dictionary key."""
        return hash((super().__hash__(), self.only))

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return self._with_only(super().__repr__())

    @property
    def text(self) -> str:
        """The call by the catalogue's name, with what is held."""
        return self._with_only(super().text)

    def _with_only(self, call: str) -> str:
        if self.only == Constraint.only:
            return call
        return f"{call[:-1]}{'' if call[-2] == '(' else ', '}only={self.only!r})"


class SpectralConstraint(Constraint):
    """No matrix stretches any direction by more than `limit`: ``W <- W limit / sigma_1`` where it would.

    sigma_1 comes from power iteration that goes on from step to step, so it is a lower bound that tightens.

    Args:
        limit: largest singular value.
        iterations: rounds of power iteration in each step.
        only: pattern for the names of the parameters that are held.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.SpectralConstraint(1.0, only="*weight_hh*")
        SpectralConstraint(only='*weight_hh*')

    Source: Yoshida, Miyato 2017, arXiv:1705.10941; Miyato et al. 2018, arXiv:1802.05957.
    """

    def __init__(self, limit: float = 1.0, iterations: int = 2, only: str = Constraint.only) -> None:
        """Check the arguments."""
        super().__init__("spectral", {"limit": limit, "iterations": as_size(iterations, "iterations")})
        self._hold(only)


class OrthogonalConstraint(Constraint):
    """Matrices stay orthogonal: all their singular values are `gain` (the rows', where there are fewer rows).

    ``X <- 3/2 X - 1/2 X X^T X`` until it stands still: the nearest such matrix. One that starts far from
    orthogonal is brought there in the first step.

    Args:
        gain: what all singular values are.
        only: pattern for the names of the parameters that are held.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.OrthogonalConstraint()
        OrthogonalConstraint()

    Source: Bjorck, Bowie 1971; Arjovsky, Shah, Bengio 2016, arXiv:1511.06464.
    """

    def __init__(self, gain: float = 1.0, only: str = Constraint.only) -> None:
        """Check the arguments."""
        super().__init__("orthogonal", {"gain": gain})
        self._hold(only)


class MaxNormConstraint(Constraint):
    """No unit's weights are longer than `limit`: ``w <- w limit / |w|`` for each longer row.

    Args:
        limit: largest norm of a row.
        only: pattern for the names of the parameters that are held.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.MaxNormConstraint(2.0)
        MaxNormConstraint(limit=2.0)

    Source: Srebro, Shraibman 2005; Srivastava et al. 2014, JMLR 15:1929.
    """

    def __init__(self, limit: float = 3.0, only: str = Constraint.only) -> None:
        """Check the arguments."""
        super().__init__("max_norm", {"limit": limit})
        self._hold(only)


def as_constraints(value: Any, name: str = "constraint") -> tuple[Constraint, ...]:
    """Return `value` (None, a name, a Constraint or several) as a tuple of constraints, in order.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something else.

    Example:
        >>> as_constraints("max_norm")
        (max_norm(),)
    """
    if value is None:
        return ()
    given = value if isinstance(value, (list, tuple)) else [value]
    found = []
    for i, item in enumerate(given):
        where = name if item is value else f"{name}[{i}]"
        if isinstance(item, str):
            item = Constraint(item)
        if isinstance(item, type) and issubclass(item, Constraint):
            raise ArgumentError(f"{where}: expected an object, got the class; write vg.{item.__name__}()")
        if not isinstance(item, Constraint):
            known = ", ".join(map(repr, names()))
            raise ArgumentError(
                f"{where}: expected None, one of {known}, an object such as vg.SpectralConstraint(1.0), or a "
                f"list of them; got {shown(item)}"
            )
        found.append(item)
    return tuple(found)


def names() -> list[str]:
    """Return the canonical names of all constraints.

    Example:
        >>> names()
        ['max_norm', 'spectral', 'orthogonal']
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return formula, parameters and reference of one constraint; ``print`` shows them.

    Raises:
        UnknownNameError: no constraint has this name or alias.

    Example:
        >>> describe("spectral").kind
        'constraint'
    """
    return _registry.describe(name)


def __getattr__(name: str) -> Callable[..., Constraint]:
    """Return the maker of one constraint by its catalogue name: ``vg.constraints.spectral(limit=1.0)``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)

    def make(**params: Any) -> Constraint:
        return Constraint(entry.name, params)

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the names of this module and every constraint."""
    return sorted([*__all__, *names()])
