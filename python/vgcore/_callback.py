"""Layer: training, callbacks. What a callback is, and what it is given behind every epoch.

Knows histories and networks from outside; nothing of how `fit` trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._checks import shown
from .errors import ArgumentError

if TYPE_CHECKING:
    from .history import History
    from .network import Network

__all__ = ["Callback", "EpochEnd", "as_callbacks"]


@dataclass
class EpochEnd:
    """What a callback is given behind an epoch.

    Attributes:
        epoch: number of the epoch that has just ended, from 0.
        epochs: how many were asked for; what a resumed training did before counts.
        net: the network, its parameters as they are now.
        history: everything measured so far.
        reason: why training shall end here; None to go on. ``stop`` sets it.
    """

    epoch: int
    epochs: int
    net: Network
    history: History
    reason: str | None = field(default=None)

    def stop(self, reason: str) -> None:
        """Ask for the end of training; `reason` becomes ``history.stopped``. Of several, the first counts."""
        if self.reason is None:
            self.reason = reason


class Callback:
    """Base of what `fit` calls while it trains; each method does nothing until it is overridden.

    A function that takes an `EpochEnd` will do instead of a class. Callbacks see each epoch in the order in
    which they were given, and one that raises ends the training with its error.

    Example:
        >>> import vgcore as vg
        >>> class Patience(vg.callbacks.Callback):
        ...     def on_epoch_end(self, end):
        ...         if end.history.loss[-1] < 0.01:
        ...             end.stop("the loss is below 0.01")
    """

    def on_fit_start(self, net: Network, epochs: int) -> None:
        """Run once before the first epoch."""

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Run behind every epoch, after the validation."""

    def on_fit_end(self, end: EpochEnd | None) -> None:
        """Run once when training ends in whatever way; None where not even one epoch was finished."""


@dataclass(frozen=True)
class _Function(Callback):
    """A plain function as a callback."""

    call: Callable[[EpochEnd], object]

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Call it."""
        self.call(end)


def as_callbacks(value: Any) -> tuple[Callback, ...]:
    """Return `value`, one callback or several, as a tuple of them; functions are wrapped.

    Raises:
        ArgumentError: something that is neither a callback nor a function.

    Example:
        >>> as_callbacks(print)
        (_Function(call=<built-in function print>),)
    """
    given = value if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else (value,)
    found: list[Callback] = []
    for i, item in enumerate(given):
        if isinstance(item, type):
            raise ArgumentError(f"callbacks[{i}]: expected an object, got the class; write {item.__name__}()")
        if isinstance(item, Callback) or all(hasattr(item, name) for name in _METHODS):
            found.append(item)
        elif callable(item):
            found.append(_Function(item))
        else:
            raise ArgumentError(
                f"callbacks[{i}]: expected a vg.callbacks.Callback or a function of one argument, "
                f"got {shown(item)}"
            )
    return tuple(found)


_METHODS = ("on_fit_start", "on_epoch_end", "on_fit_end")
