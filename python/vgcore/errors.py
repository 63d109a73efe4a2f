"""Layer: errors. Every exception vgcore raises, and the two messages that many places share.

Knows nothing of networks, arrays or the compiled module (which imports these classes and raises them too).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "BusyError",
    "DTypeError",
    "LabelError",
    "MemoryBudgetError",
    "MissingDependencyError",
    "NonFiniteError",
    "ShapeError",
    "UnknownNameError",
    "VgcoreError",
]


class VgcoreError(Exception):
    """Base of every error that vgcore raises on purpose.

    Example:
        >>> import vgcore as vg
        >>> try:
        ...     vg.Dense(-1)
        ... except vg.VgcoreError as error:
        ...     print(type(error).__name__)
        ArgumentError
    """


class ShapeError(VgcoreError, ValueError):
    """An array has the wrong shape, no elements, or the wrong number of axes."""


class DTypeError(VgcoreError, TypeError):
    """An array has an element type that vgcore will not convert silently."""


class NonFiniteError(VgcoreError, ValueError):
    """An input holds NaN or infinity."""


class LabelError(VgcoreError, ValueError):
    """A class label lies outside ``range(number of classes)``."""


class UnknownNameError(VgcoreError, ValueError):
    """A name is in no catalogue; the message suggests the nearest one that is."""


class ArgumentError(VgcoreError, ValueError):
    """An argument has a value that makes no sense: negative, absurdly large, contradictory."""


class MemoryBudgetError(VgcoreError, MemoryError):
    """A network or a pass does not fit in memory: by an estimate beforehand, or the system refuses."""


class BusyError(VgcoreError, RuntimeError):
    """A network or a training is in use by the pass that this very call was made from.

    Python runs signal handlers in the midst of a pass, on its thread. One that wanted the parameters that a
    step is changing would wait for ever; it should set a flag, to be looked at afterwards or in a callback.
    """


class MissingDependencyError(VgcoreError, ImportError):
    """An optional package is needed; the message is the line that installs it."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the entry of `known` that is spelled most like `name`, or None if none is close.

    Example:
        >>> nearest("tahn", ["relu", "tanh"])
        'tanh'
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.5)
    return by_folded[found[0]] if found else None


def unknown_name(kind: str, name: object, known: Iterable[str], look: str) -> UnknownNameError:
    """Build the error for `name`, which no `kind` has; `look` is the call that lists the names.

    Example:
        >>> print(unknown_name("activation", "tahn", ["relu", "tanh"], "vg.activations.names()"))
        unknown activation 'tahn'; did you mean 'tanh'? vg.activations.names() lists all of them
    """
    known = list(known)
    guess = nearest(name, known) if isinstance(name, str) else None
    more = ", ..." if len(known) > 6 else ""
    hint = f"did you mean {guess!r}?" if guess else f"expected one of {', '.join(known[:6])}{more};"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint} {look} lists all of them")


def missing_dependency(package: str, extra: str, purpose: str) -> MissingDependencyError:
    """Build the error for an optional `package` that is absent, naming the line that installs it.

    Example:
        >>> print(missing_dependency("safetensors", "io", "saving a network"))
        saving a network needs the package 'safetensors'; install it with: pip install "vgcore[io]"
    """
    message = f'{purpose} needs the package {package!r}; install it with: pip install "vgcore[{extra}]"'
    return MissingDependencyError(message, name=package)
