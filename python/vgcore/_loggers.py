"""Layer: training, callbacks. Loggers: one line, or ten numbers and one picture, an epoch.

Knows histories and three places to write to, each imported when it is first used; nothing of training.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from ._callback import Callback, EpochEnd
from ._checks import as_size
from ._plot_heat import bin_grid
from ._table import json_safe
from .errors import missing_dependency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .history import History
    from .network import Network

__all__ = ["JSONLLogger", "TensorBoardLogger", "WandbLogger", "picture", "scalars"]

#: Name under which a picture is sent.
_PICTURE: Final = "gradient flow"
#: A line of text holds as many layers as a reader of it will ever look at.
_LINE_LAYERS: Final = 64


def scalars(history: History) -> dict[str, float]:
    """Return the figures of the last epoch that loggers send: at most ten; those not measured are left out.

    ``loss`` and ``accuracy`` (means over the epoch), ``lr``, ``seconds``, ``validation_loss``,
    ``validation_score``, ``log10_grad_norm_first`` and ``_last`` (nearest the input, and the loss, at the
    last recorded step), ``share_learning``, and ``layers_without_gradient`` (exactly zero).

    Example:
        >>> import numpy as np, vgcore as vg
        >>> x = np.ones((8, 4), np.float32)
        >>> found = vg.callbacks.scalars(vg.mlp(2, 4, rng=0).fit(x, x))
        >>> sorted(found)[:2], found["lr"]
        (['layers_without_gradient', 'log10_grad_norm_first'], 0.01)
    """
    found = {
        name: float(column[-1])
        for name, column in history.epochs.items()
        if name not in ("epoch", "steps") and column.size
    }
    # Not measured is NaN in the table; a loss that is NaN was measured.
    keep = {"loss", "lr", "seconds"} | ({"accuracy"} if history.accuracy is not None else set())
    if history.validation and history.validation[-1].epoch == len(history.epochs["epoch"]) - 1:
        keep |= {"validation_loss", "validation_score"}
    found = {name: value for name, value in found.items() if name in keep}
    if history.recorded.size and history.layers:
        last = history.log10_grad_norm[-1]
        found["log10_grad_norm_first"], found["log10_grad_norm_last"] = float(last[0]), float(last[-1])
        found["layers_without_gradient"] = float((last == -np.inf).sum())
    if not math.isnan(history.share_learning):
        found["share_learning"] = history.share_learning
    return found


def picture(history: History, dpi: int = 100) -> NDArray[np.uint8] | None:
    """Return ``history.plot_flow()`` as pixels, (height, width, 3); None where nothing was recorded yet.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if not history.recorded.size or not history.layers:
        return None
    figure = history.plot_flow().figure
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


class JSONLLogger(Callback):
    """Appends one line of JSON an epoch to a file: its number, at most ten figures, and the gradient norms.

    The line's ``flow`` is the epoch's column of the heat map: the mean log10 gradient norm of each layer, or
    of bins of neighbouring layers where there are more than 64. NaN and infinities are text, as strict JSON
    has neither. A line is written at once, behind whatever is there: several trainings may share a file, and
    one that was killed leaves at most its own last line broken.

    Args:
        path: the file; its folder is made.
        picture: also keep the heat map of the training so far as this PNG file, drawn anew each epoch.

    Raises:
        MissingDependencyError: a picture is wanted and matplotlib is not installed.

    Example:
        >>> import vgcore as vg
        >>> vg.callbacks.JSONLLogger("run.jsonl")
        JSONLLogger('run.jsonl')
    """

    def __init__(
        self, path: str | os.PathLike[str], *, picture: str | os.PathLike[str] | None = None
    ) -> None:
        """Keep the names."""
        self.path, self.picture = Path(path), None if picture is None else Path(picture)

    def on_fit_start(self, net: Network, epochs: int) -> None:
        """Make the folder, so that a training does not fail behind its first epoch."""
        for target in (self.path, self.picture):
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Write the line."""
        line: dict[str, Any] = {"epoch": end.epoch, "step": end.history.steps} | scalars(end.history)
        line["flow"] = epoch_column(end.history)
        text = json.dumps(json_safe(line), allow_nan=False) + "\n"
        if not _ends_with_newline(self.path):
            text = "\n" + text
        # One write in append mode: lines of several processes do not mix.
        with self.path.open("ab", buffering=0) as stream:
            stream.write(text.encode())
        if self.picture is not None and end.history.recorded.size:
            end.history.plot_flow().figure.savefig(self.picture, format="png")

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        extra = "" if self.picture is None else f", picture={str(self.picture)!r}"
        return f"JSONLLogger({str(self.path)!r}{extra})"


def epoch_column(history: History) -> list[float]:
    """Return the mean log10 gradient norms of the last epoch, of at most 64 layers or bins of layers.

    A layer without any finite norm in it is -inf where all were exactly zero, else NaN.
    """
    last = history.epoch[-1] if history.steps else -1
    rows = history.log10_grad_norm[history.epoch[history.recorded] == last]
    if not rows.size:
        return []
    grid, lost, zero = bin_grid(rows.T, columns=1, rows=_LINE_LAYERS)
    column = np.where(lost, np.nan, np.where(zero, -np.inf, grid))[:, 0]
    return [round(float(value), 4) for value in column]


def _ends_with_newline(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                return True
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"
    except FileNotFoundError:
        return True


class TensorBoardLogger(Callback):
    """Sends at most ten figures and one heat map an epoch to TensorBoard's files.

    Written by whichever is installed of tensorboardX (the smallest), ``torch.utils.tensorboard`` and
    tensorboard. The horizontal axis counts updates of the weights.

    Args:
        log_dir: the folder that ``tensorboard --logdir`` is given, or one inside it.
        picture_every: epochs from one heat map to the next; 1 sends one an epoch.

    Raises:
        MissingDependencyError: when training starts, none of the three is installed, or matplotlib.

    Example:
        >>> import vgcore as vg
        >>> vg.callbacks.TensorBoardLogger("runs/1")
        TensorBoardLogger('runs/1')
    """

    def __init__(self, log_dir: str | os.PathLike[str], *, picture_every: int = 1) -> None:
        """Keep the name."""
        self.log_dir = os.fspath(log_dir)
        self.picture_every = as_size(picture_every, "picture_every")
        self._writer: _Writer | None = None

    def on_fit_start(self, net: Network, epochs: int) -> None:
        """Open the files."""
        _needs_matplotlib()
        self._writer = _open_writer(self.log_dir)

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Send figures and picture."""
        assert self._writer is not None  # on_fit_start comes first
        for name, value in scalars(end.history).items():
            self._writer.scalar(name, value, end.history.steps)
        image = picture(end.history) if _due(end, self.picture_every) else None
        if image is not None:
            self._writer.image(_PICTURE, image, end.history.steps)

    def on_fit_end(self, end: EpochEnd | None) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"TensorBoardLogger({self.log_dir!r})"


class _Writer(Protocol):
    """What the three packages have in common, under one set of names."""

    def scalar(self, name: str, value: float, step: int) -> None: ...
    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None: ...
    def close(self) -> None: ...


class _SummaryWriter:
    """tensorboardX and torch.utils.tensorboard, which share an interface."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def scalar(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _EventWriter:
    """tensorboard alone: it has a writer of events, which are made here."""

    def __init__(self, log_dir: str) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary, self._writer = Event, Summary, EventFileWriter(log_dir)

    def scalar(self, name: str, value: float, step: int) -> None:
        self._add(self._summary.Value(tag=name, simple_value=value), step)

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        from PIL import Image  # matplotlib, which has drawn the pixels, depends on it

        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="png")
        height, width, colours = pixels.shape
        data = stream.getvalue()
        image = self._summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=data)
        self._add(self._summary.Value(tag=name, image=image), step)

    def close(self) -> None:
        self._writer.close()

    def _add(self, value: Any, step: int) -> None:
        summary = self._summary(value=[value])
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))


def _open_writer(log_dir: str) -> _Writer:
    try:
        from tensorboardX import SummaryWriter

        return _SummaryWriter(SummaryWriter(log_dir))
    except ImportError:
        pass
    try:
        from torch.utils.tensorboard import SummaryWriter as TorchWriter

        return _SummaryWriter(TorchWriter(log_dir))
    except ImportError:
        pass
    try:
        return _EventWriter(log_dir)
    except ImportError:
        raise missing_dependency("tensorboardX", "tensorboard", "logging to TensorBoard") from None


class WandbLogger(Callback):
    """Sends at most ten figures and one heat map an epoch to Weights & Biases.

    Args:
        run: a run that ``wandb.init`` returned, which stays open; None starts one when training starts and
            finishes it at the end.
        picture_every: epochs from one heat map to the next; 1 sends one an epoch.
        init: for ``wandb.init`` where it starts the run: ``project="depth", mode="offline"``.

    Raises:
        MissingDependencyError: when training starts, wandb or matplotlib is not installed.

    Example:
        >>> import vgcore as vg
        >>> vg.callbacks.WandbLogger(project="depth")
        WandbLogger(project='depth')
    """

    def __init__(self, run: Any = None, *, picture_every: int = 1, **init: Any) -> None:
        """Keep the run, or what makes one."""
        self.run, self.init = run, init
        self.picture_every = as_size(picture_every, "picture_every")
        self._own: Any = None
        self._configured = False

    def on_fit_start(self, net: Network, epochs: int) -> None:
        """Start a run where none was given."""
        _needs_matplotlib()
        wandb = _wandb()
        self._own = wandb.init(**self.init) if self.run is None else None
        self._configured = False

    def on_epoch_end(self, end: EpochEnd) -> None:
        """Send figures and picture together, as one step."""
        run = self.run if self._own is None else self._own
        if not self._configured:
            # What a run is, once: the keys are those of history.meta.
            run.config.update(json_safe(dict(end.history.meta)), allow_val_change=True)
            self._configured = True
        sent: dict[str, Any] = dict(scalars(end.history))
        image = picture(end.history) if _due(end, self.picture_every) else None
        if image is not None:
            sent[_PICTURE] = _wandb().Image(image)
        run.log(sent, step=end.history.steps)

    def on_fit_end(self, end: EpochEnd | None) -> None:
        """Finish the run that was started here."""
        if self._own is not None:
            self._own.finish()
        self._own = None

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        given = [] if self.run is None else [repr(self.run)]
        return f"WandbLogger({', '.join(given + [f'{key}={value!r}' for key, value in self.init.items()])})"


def _wandb() -> Any:
    try:
        import wandb
    except ImportError:
        raise missing_dependency("wandb", "wandb", "logging to Weights & Biases") from None
    return wandb


def _needs_matplotlib() -> None:
    """Fail before an epoch is trained, not behind it."""
    try:
        import matplotlib  # noqa: F401  (whether it is there is the question)
    except ImportError:
        raise missing_dependency("matplotlib", "plot", "the heat map of a log") from None


def _due(end: EpochEnd, every: int) -> bool:
    return (end.epoch + 1) % every == 0 or end.epoch + 1 == end.epochs
