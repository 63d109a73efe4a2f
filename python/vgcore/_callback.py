"""Layer: training, callbacks. What a callback is, and what it is given behind every epoch.

Knows histories and networks from outside; nothing of how `fit` trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ._checks import shown
from .errors import ArgumentError

if TYPE_CHECKING:
    from .history import History
    from .network import Network

__all__ = ["Callback", "EpochEnd", "as_callbacks"]


class EpochEnd:
    """What a callback is given behind an epoch.

    Attributes:
        epoch: number of the epoch that has just ended, from 0.
        epochs: how many were asked for; what a resumed training did before counts.
        net: the network, its parameters as they are now.
        history: everything measured so far. It is put together when somebody looks; its ``state``, which can
            be twice the network's size, is copied when that is looked at, and is None once the training has
            gone on.
        reason: why training shall end here; None to go on. ``stop`` sets it.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        net: Network,
        history: History | Callable[[], History],
        reason: str | None = None,
    ) -> None:
        """Hold what there is; `history` may be how it is made."""
        self.epoch, self.epochs, self.net, self.reason = epoch, epochs, net, reason
        self._history = history

    @property
    def history(self) -> History:
        """Everything measured so far."""
        if callable(self._history):
            self._history = self._history()
        return self._history

    def __repr__(self) -> str:
        """One line: how far the training is."""
        return f"<EpochEnd epoch {self.epoch} of {self.epochs}>"

    def stop(self, reason: str) -> None:
        """Ask for the end of training; `reason` becomes ``history.stopped``. Of several, the first counts."""
        if self.reason is None:
            self.reason = reason


class Callback:
    """Base of what `fit` calls while it trains; each method does nothing until it is overridden.

    A function that takes an `EpochEnd` will do instead of a class. Callbacks see each epoch in the order in
    which they were given, and one that raises ends the training with its error. Whatever ends a training,
    each callback that was started is told so once; those whose `changes_network` is true come last, so that
    the others find the network as the last step left it.

    Example:
        >>> import vgcore as vg
        >>> class Patience(vg.callbacks.Callback):
        ...     def on_epoch_end(self, end):
        ...         if end.history.loss[-1] < 0.01:
        ...             end.stop("the loss is below 0.01")
    """

    changes_network: ClassVar[bool] = False
    """Whether its `on_fit_end` changes the network."""

    def on_fit_start(self, net: Network, epochs: int) -> None:
        """Run once before the first epoch."""

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Run behind every epoch, after the validation."""

    def on_fit_end(self, end: EpochEnd | None) -> None:
        """Run once when training ends in whatever way; None where not even one epoch was finished.

        `end` tells of the last step: where training ended within an epoch, its history goes beyond the epoch
        whose number it has.
        """


@dataclass(frozen=True)
class _Function(Callback):
    """A plain function as a callback."""

    call: Callable[[EpochEnd], object]

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Call it."""
        self.call(end)


def as_callbacks(value: Any) -> tuple[Callback, ...]:
    """Return `value`, one callback, several or None, as a tuple of them; functions are wrapped.

    Raises:
        ArgumentError: something that is neither a callback nor a function.

    Example:
        >>> as_callbacks(print)
        (_Function(call=<built-in function print>),)
    """
    if value is None:
        return ()
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
