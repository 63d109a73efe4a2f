"""Layer: training, callbacks. What looks on while `fit` trains: loggers, early stopping, checkpoints.

Knows histories and networks from outside; nothing of how `fit` trains.

Example:
    >>> import vgcore as vg
    >>> vg.callbacks.EarlyStopping(patience=3)
    EarlyStopping(patience=3, min_delta=0.0, restore_best=True, monitor='validation_loss')
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._callback import Callback, EpochEnd, as_callbacks
from ._checks import as_choice, as_flag, as_real, as_size
from ._loggers import JSONLLogger, TensorBoardLogger, WandbLogger, scalars
from .errors import ArgumentError

if TYPE_CHECKING:
    from .history import History
    from .network import Network

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochEnd",
    "JSONLLogger",
    "TensorBoardLogger",
    "WandbLogger",
    "as_callbacks",
    "scalars",
]

_MONITORS: Final = ("validation_loss", "validation_score", "loss", "accuracy")
#: Of these more is better.
_RISING: Final = ("validation_score", "accuracy")


class EarlyStopping(Callback):
    """Ends training when an epoch's figure has not improved by `min_delta` for `patience` epochs.

    Args:
        patience: epochs without improvement that are borne; the one behind them is not trained.
        min_delta: what counts as improvement, in the figure's own unit.
        restore_best: give the network the parameters of its best epoch back at the end, however it ends.
        monitor: "validation_loss", "validation_score", "loss" or "accuracy". NaN is no improvement.

    Raises:
        ArgumentError: numbers out of range; while training, a figure that is not measured.

    Example:
        >>> import vgcore as vg
        >>> vg.callbacks.EarlyStopping(patience=2, monitor="loss")
        EarlyStopping(patience=2, min_delta=0.0, restore_best=True, monitor='loss')
    """

    changes_network = True

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        monitor: str = "validation_loss",
    ) -> None:
        """Check the arguments."""
        self.patience = as_size(patience, "patience")
        self.min_delta = as_real(min_delta, "min_delta", minimum=0.0)
        self.restore_best = as_flag(restore_best, "restore_best")
        self.monitor = as_choice(monitor, "monitor", _MONITORS)
        self._forget()

    def _forget(self) -> None:
        self.best = math.nan
        self.best_epoch: int | None = None
        self._waited = 0
        self._parameters: dict[str, Any] | None = None

    def on_fit_start(self, net: Network, epochs: int) -> None:
        """Forget the training before."""
        self._forget()

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Compare, remember, and ask for the end when patience is over."""
        value = self._figure(end.history)
        gain = (value - self.best) if self.monitor in _RISING else (self.best - value)
        if (self.best_epoch is None and not math.isnan(value)) or gain > self.min_delta:
            self.best, self.best_epoch, self._waited = value, end.epoch, 0
            if self.restore_best:
                self._parameters = {**end.net.parameters(), **end.net.buffers()}
            return
        self._waited += 1
        if self._waited >= self.patience:
            best = "was never a number" if self.best_epoch is None else f"is that of epoch {self.best_epoch}"
            waited = f"{self._waited} epoch{'s' * (self._waited > 1)}"
            end.stop(f"no better {self.monitor} for {waited}: the best, {self.best:.4g}, {best}")

    def on_fit_end(self, end: EpochEnd | None) -> None:
        """Give the best parameters back."""
        if end is not None and self._parameters is not None:
            end.net.load_parameters(self._parameters)
        self._parameters = None

    def _figure(self, history: History) -> float:
        figures = history.epochs
        if self.monitor.startswith("validation") and not history.validation:
            raise ArgumentError(
                f"EarlyStopping: expected held-out data to watch {self.monitor}, got none; "
                f'call fit(..., validation=0.1), or watch the training with monitor="loss"'
            )
        if self.monitor == "accuracy" and history.accuracy is None:
            raise ArgumentError(
                'EarlyStopping: expected class labels to watch accuracy, got none; use monitor="loss"'
            )
        return float(figures[self.monitor][-1])

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return (
            f"EarlyStopping(patience={self.patience}, min_delta={self.min_delta}, "
            f"restore_best={self.restore_best}, monitor={self.monitor!r})"
        )


class Checkpoint(Callback):
    """Saves the network every few epochs and at the end, with the history to go on from beside it.

    ``vg.load(path)`` reads the network. ``net.fit(..., resume=vg.History.load(c.history_path(path)))`` goes
    on where the checkpoint was taken. Each file appears whole or not at all. The last one is of the last
    step, also where training ended within an epoch; what EarlyStopping gives back at the end is not in it.

    Args:
        path: of the network; "{epoch}" in it becomes the number of the epoch in which its last step was, else
            each replaces the last. Folders are made.
        every: epochs from one checkpoint to the next.
        history: also save the history (see `history_path`).

    Raises:
        ArgumentError: a number out of range, a path with another field than {epoch}.
        MissingDependencyError: while training, the package safetensors is not installed.

    Example:
        >>> import vgcore as vg
        >>> keeper = vg.callbacks.Checkpoint("run/{epoch}.safetensors", every=5)
        >>> str(keeper.history_path("run/4.safetensors").name)
        '4.history.npz'
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1, *, history: bool = True) -> None:
        """Check the arguments."""
        self.path = os.fspath(path)
        self.every = as_size(every, "every")
        self.history = as_flag(history, "history")
        self.saved: list[Path] = []
        self._at: int | None = None
        try:
            self.path.format(epoch=0)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ArgumentError(
                f'path: expected a name in which {{epoch}} is the only field, got "{self.path}" ({error!r})'
            ) from None

    def on_fit_start(self, net: Network, epochs: int) -> None:
        """Make the folder, so that a training does not fail on its first checkpoint."""
        folder = Path(self.path).parent
        while str(folder).format(epoch=0) != str(folder):  # one for each epoch: made when it is needed
            folder = folder.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._at = None

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Save when it is time."""
        if (end.epoch + 1) % self.every == 0:
            self._save(end)

    def on_fit_end(self, end: EpochEnd | None) -> None:
        """Save what the last steps did."""
        if end is not None and self._at != end.history.steps:
            self._save(end)

    def _target(self, epoch: int) -> Path:
        return Path(self.path.format(epoch=epoch))

    def _save(self, end: EpochEnd) -> None:
        target = self._target(int(end.history.epoch[-1]))
        target.parent.mkdir(parents=True, exist_ok=True)
        end.net.save(target)
        if self.history:
            end.history.save(self.history_path(target))
        self._at = end.history.steps
        if target not in self.saved:
            self.saved.append(target)

    @staticmethod
    def history_path(path: str | os.PathLike[str]) -> Path:
        """Return where the history of the network at `path` is.

        ``.history.npz`` takes the place of ``.safetensors``, or comes behind a name that ends otherwise.

        Example:
            >>> import vgcore as vg
            >>> vg.callbacks.Checkpoint.history_path("model-0.1").name
            'model-0.1.history.npz'
        """
        target = Path(path)
        return target.with_name(target.name.removesuffix(".safetensors") + ".history.npz")

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"Checkpoint({self.path!r}, every={self.every}, history={self.history})"
