"""Layer: results, training. What happened in a training, step by step and layer by layer, as a frozen object.

Knows the arrays that `fit` left behind; nothing of how it trained. Pictures are in `_plots_history`, the rule
for stagnation in `_stagnation`, text in `_history_text`, tables in `_history_table`, files in `_history_io`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from ._fit_records import Records, Units, Validation
from ._history_table import epoch_table, history_table
from ._stagnation import Stagnation, guessing_loss, stagnation
from ._table import to_pandas
from .errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["History", "Stagnation", "Validation"]

_Array = TypeVar("_Array", bound="NDArray[Any]")

_LOG10_2: Final = float(np.log10(2.0))
_PER_STEP: Final = ("accuracy", "lr", "epoch")
_PER_LAYER: Final = ("log2_grad_norm", "update_ratio", "dead", "unchanged", "zero_weights")


@dataclass(frozen=True, eq=False, repr=False)
class History:
    """Loss, accuracy and the gradient flow of a training, in long format; what `fit` returns.

    Arrays with one entry a step (an update of the weights) have the shape (steps,). Those that are looked at
    less often have the shape (recorded, layers): ``recorded`` holds the numbers of their steps, ``layers``
    the names along the other axis, nearest the input first. A layer is here what is reported singly: a Dense
    with its activation, the end of a Residual; with a Recurrent layer it is a parameter, because the steps in
    time share them. Norms are log10 of Frobenius norms, free of the float range, of the batch's gradient
    before any clipping; ``-inf`` is an exact zero. All arrays are read-only.

    Example:
        >>> import vgcore as vg
        >>> x, y = vg.datasets.digits()
        >>> net = vg.mlp(6, 32, in_features=64, out_features=10, rng=0)
        >>> history = net.fit(x, y, epochs=2, optimizer=vg.SGD(0.1), stats="full", rng=0)
        >>> history.steps, history.log10_grad_norm.shape == (history.recorded.size, len(history.layers))
        (114, True)
        >>> bool(history.stagnation), history.share_learning
        (False, 1.0)
    """

    records: Records

    def __post_init__(self) -> None:
        """Check that the arrays fit each other, and make them read-only.

        Raises:
            ShapeError: arrays of different lengths.
        """
        given = self.records
        steps, shape = given.loss.shape, (given.recorded.size, len(given.units))
        for name in (*_PER_STEP, *_PER_LAYER):
            array, wanted = getattr(given, name), steps if name in _PER_STEP else shape
            if array is not None and array.shape != wanted:
                raise ShapeError(f"records.{name}: expected shape {wanted}, got {array.shape}")
        frozen = {
            entry.name: _frozen(getattr(given, entry.name))
            for entry in fields(given)
            if isinstance(getattr(given, entry.name), np.ndarray)
        }
        object.__setattr__(self, "records", replace(given, **frozen))

    # --- per step ------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Number of updates."""
        return self.records.loss.size

    @property
    def loss(self) -> Floats:
        """Mean loss of each step's batch, before its update, (steps,)."""
        return self.records.loss

    @property
    def accuracy(self) -> Floats | None:
        """Share of each batch's labels that were right, (steps,); None without class labels."""
        return self.records.accuracy

    @property
    def lr(self) -> Floats:
        """Learning rate of each step, the schedule applied, (steps,)."""
        return self.records.lr

    @property
    def epoch(self) -> Ints:
        """Epoch of each step, from 0, (steps,)."""
        return self.records.epoch

    # --- per epoch -----------------------------------------------------------------------------------------

    @property
    def validation(self) -> tuple[Validation, ...]:
        """What held-out data gave: entries with ``epoch``, ``loss``, ``score`` (accuracy or R squared)."""
        return self.records.validation

    @property
    def seconds(self) -> Floats:
        """Seconds that each epoch took, without the validation, (epochs,)."""
        return self.records.seconds

    @cached_property
    def epochs(self) -> Mapping[str, Any]:
        """One row an epoch: ``epoch``, ``steps``, ``loss`` and ``accuracy`` (means over its steps), ``lr``
        (the last), ``seconds``, ``validation_loss``, ``validation_score``; NaN where nothing was measured."""
        return epoch_table(self.records)

    @property
    def best(self) -> Validation | None:
        """The validation with the lowest loss, the first of equals; None where there was none."""
        finite = [entry for entry in self.validation if np.isfinite(entry.loss)]
        return min(finite, key=lambda entry: entry.loss, default=None)

    # --- per recorded step and layer -----------------------------------------------------------------------

    @property
    def recorded(self) -> Ints:
        """Numbers of the steps that were looked at closely, (recorded,)."""
        return self.records.recorded

    @property
    def units(self) -> Units:
        """What stands along the layer axis: names, steps of the network, kinds."""
        return self.records.units

    @property
    def layers(self) -> tuple[str, ...]:
        """Names along the layer axis, nearest the input first."""
        return self.records.units.names

    @property
    def log2_grad_norm(self) -> Floats:
        """log2 of the norm of dL/d(output of the layer), over the batch, (recorded, layers)."""
        return self.records.log2_grad_norm

    @cached_property
    def log10_grad_norm(self) -> Floats:
        """log10 of the norm of dL/d(output of the layer), over the batch, (recorded, layers)."""
        return _frozen(self.records.log2_grad_norm * _LOG10_2)

    @property
    def update_ratio(self) -> Floats | None:
        """Norm of each step's change of the layer's weights over that of the weights, (recorded, layers).

        NaN for layers without weights. About 1e-3 is healthy; below the resolution of the float type nothing
        moves. None unless the training ran with ``stats="full"``.
        """
        return self.records.update_ratio

    @property
    def dead(self) -> Ints | None:
        """Outputs of the layer that were zero for the whole batch, (recorded, layers); None without
        ``stats="full"``."""
        return self.records.dead

    @property
    def unchanged(self) -> Ints | None:
        """Weights that the update left as they were, to the bit, (recorded, layers); None without
        ``stats="full"``."""
        return self.records.unchanged

    @property
    def zero_weights(self) -> Ints | None:
        """Weights that are exactly zero after the update, (recorded, layers); None without ``stats="full"``.

        Where the number grows, weights became zero. They are counted before constraints are applied.
        """
        return self.records.zero_weights

    # --- what follows from it ------------------------------------------------------------------------------

    @cached_property
    def stagnation(self) -> Stagnation:
        """From which step on the loss no longer improves, and whether that is a failure; ``print`` it.

        A tail of at least a quarter of the run counts as flat when its last third is not below its first by
        three standard errors (or by so little that another run of this length would win under 1 %), and the
        data exclude, at three standard errors, that another such run would win 10 %. A flat tail at a tenth
        of where the loss began has converged and is no stagnation.

        Source: the rule, with the reason for each constant, is in ``vgcore._stagnation``.
        """
        return stagnation(self.loss, self.epoch, guessing_loss(self.records.meta))

    @property
    def resolution(self) -> float:
        """Smallest relative change that the weights' float type can hold, its machine epsilon."""
        return float(np.finfo(np.dtype(str(self.records.meta.get("dtype", "float32")))).eps)

    @cached_property
    def learning(self) -> Floats:
        """Share of the layers with weights that learn, at each recorded step, (recorded,).

        A layer learns where its ``update_ratio`` is above ``resolution``: smaller changes are rounded away,
        weight by weight. NaN without ``stats="full"``.
        """
        ratio = self.update_ratio
        if ratio is None or not ratio.size:
            return _frozen(np.full(self.recorded.size, np.nan))
        weighted = ~np.isnan(ratio).all(axis=0)
        with np.errstate(invalid="ignore"):
            moves = (ratio[:, weighted] > self.resolution) & np.isfinite(ratio[:, weighted])
        return _frozen(moves.mean(axis=1) if weighted.any() else np.full(ratio.shape[0], np.nan))

    @property
    def share_learning(self) -> float:
        """Share of the layers with weights that learn, mean over the last tenth of the recorded steps."""
        last = self.learning[-max(1, self.recorded.size // 10) :]
        return float(last.mean()) if last.size else float("nan")

    @cached_property
    def died(self) -> Ints:
        """Recorded step from which on each layer's gradient is exactly zero, to the end, (layers,).

        -1 where it is not: nothing reaches such a layer any more, whatever the learning rate.
        """
        zero = self.log2_grad_norm == -np.inf
        alive = ~zero[::-1]
        # Steps at the end without a gradient: all of them, where there never was one.
        trailing = np.where(alive.any(axis=0), alive.argmax(axis=0), zero.shape[0]) if zero.size else None
        if trailing is None:
            return _frozen(np.full(len(self.units), -1, dtype=np.int64))
        first = np.append(self.recorded, -1)[zero.shape[0] - trailing]
        return _frozen(np.where(trailing > 0, first, -1).astype(np.int64))

    @property
    def stopped(self) -> str | None:
        """Why training ended before its time, as "step 12: the loss is nan"; None where it did not."""
        return self.records.stopped

    @property
    def meta(self) -> Mapping[str, Any]:
        """Where it came from: network, loss, optimizer, batch size, seed and so on."""
        return self.records.meta

    @property
    def state(self) -> Mapping[str, Any] | None:
        """What ``net.fit(..., resume=history)`` goes on from, bit for bit.

        None where nothing was trained, and in a history that a callback kept without looking at it before
        the training went on.
        """
        return self.records.state or None

    def describe(self) -> str:
        """Return in words what happened: the loss, held-out data, stagnation, which layers learn.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> x = np.ones((8, 4), np.float32)
            >>> print(vg.mlp(2, 4, rng=0).fit(x, x, epochs=2).describe().splitlines()[1])
            Loss: 0.6418 over the first steps, 0.634 over the last.
        """
        from ._history_text import describe

        return describe(self)

    # --- pictures ------------------------------------------------------------------------------------------

    def plot(self, ax: Any = None, *, quantity: str = "loss", title: str | None = None, **kw: Any) -> Any:
        """Draw the loss of every step, its running mean and the validation; return the matplotlib Axes.

        `quantity`: "loss" or "accuracy". Where the loss stagnates a line says so. `kw` goes to the line of
        the mean.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            ArgumentError: no such quantity, or accuracy without class labels.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> x = np.ones((8, 4), np.float32)
            >>> vg.mlp(2, 4, rng=0).fit(x, x, epochs=20).plot(title="learning ones").get_title()
            'learning ones'
        """
        from ._plots_history import plot_history

        return plot_history(self, ax, quantity=quantity, title=title, **kw)

    def plot_flow(
        self, ax: Any = None, *, quantity: str = "log10_grad_norm", every_unit: bool = False, **kw: Any
    ) -> Any:
        """Draw gradient norms as a heat map, layers (input at the bottom) x steps; return the Axes.

        Many layers and steps are binned to what a screen can show. Exact zeros are grey, NaN and infinities
        orange. `quantity`: "log10_grad_norm", "log10_update_ratio", "dead", "unchanged" or "zero_weights". A
        layer at the top of the network that is made of several units is shown by its last one, unless
        `every_unit`.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            ArgumentError: no such quantity, or one that was not measured.
        """
        from ._plots_history import plot_training_flow

        return plot_training_flow(self, ax, quantity=quantity, every_unit=every_unit, **kw)

    # --- tables and files ----------------------------------------------------------------------------------

    @cached_property
    def table(self) -> Mapping[str, Any]:
        """Long format: columns ``step``, ``epoch``, ``layer``, ``name``, ``quantity``, ``value``.

        One row per step and quantity, per epoch and quantity (at the epoch's last step), and per recorded
        step, layer and quantity. ``layer`` is the place along the layer axis, -1 for the whole network.
        """
        return history_table(self.records)

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table, categories=("name", "quantity"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python numbers, strings and lists; ``from_dict`` reads it back."""
        from ._history_io import records_to_dict

        return records_to_dict(self.records)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> History:
        """Return the history that ``to_dict`` wrote.

        Raises:
            ArgumentError: another mapping.
        """
        from ._history_io import records_from_dict

        return cls(records_from_dict(data))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the history to `path`: ``.json`` (text) or ``.npz`` (compressed arrays, no pickle).

        Its `state` goes along, so that ``net.fit(..., resume=vg.History.load(path))`` goes on from the file.

        Raises:
            ArgumentError: another suffix.

        Example:
            >>> import pathlib, tempfile, numpy as np, vgcore as vg
            >>> x = np.ones((8, 4), np.float32)
            >>> history = vg.mlp(2, 4, rng=0).fit(x, x, epochs=2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = pathlib.Path(folder, "run.npz")
            ...     history.save(path)
            ...     vg.History.load(path).steps
            2
        """
        from ._history_io import save_records

        save_records(self.records, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> History:
        """Return the history that ``save`` wrote to `path`.

        Raises:
            ArgumentError: the file is not one that ``save`` wrote.
        """
        from ._history_io import load_records

        return cls(load_records(path))

    def __repr__(self) -> str:
        """One line: epochs, steps, the loss at both ends, held-out data, stagnation."""
        from ._history_text import one_line

        return one_line(self)

    def _repr_html_(self) -> str:
        from ._history_text import html_table

        return html_table(self)


def _frozen(array: _Array) -> _Array:
    view = array.view()
    view.setflags(write=False)
    return view


def measured(history: History, quantity: str) -> Floats:
    """Return one quantity per recorded step and layer as floats.

    Raises:
        ArgumentError: no such quantity, or one that was not measured.
    """
    names = ("log10_grad_norm", "log10_update_ratio", "dead", "unchanged", "zero_weights")
    if quantity not in names:
        raise ArgumentError(f"quantity: expected one of {', '.join(map(repr, names))}, got {quantity!r}")
    array = getattr(history, quantity.replace("log10_update_ratio", "update_ratio"))
    if array is None:
        raise ArgumentError(f'quantity: {quantity!r} was not measured; train with fit(..., stats="full")')
    values = np.asarray(array, dtype=np.float64)
    if quantity == "log10_update_ratio":
        with np.errstate(divide="ignore"):
            values = np.log10(values)
    return values
