"""Layer: cures, history compression. Recurrent networks in levels, each of which gets only what the one below
could not foretell.

Knows networks along time and `fit`; nothing of how a pass runs.

A gradient that has to go back over 1,000 steps hardly arrives. If a first network learns to foretell most of
them, only the few that surprise it hold news; a second network that sees those alone, with the time at which
they came, has to look back over a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import as_float_array
from ._checks import as_flag, as_real, as_size
from ._inputs import read_lengths
from ._rng import RngLike, seed_of
from ._training import check_options
from .cells import Cell
from .errors import ArgumentError
from .models import rnn
from .network import Network

if TYPE_CHECKING:
    from .history import History

__all__ = ["Chunker", "ChunkerFit", "Compressed", "chunker"]


@dataclass(frozen=True, repr=False, eq=False)
class Compressed:
    """Sequences without the steps that were foretold: x, lengths, and when each step came.

    Attributes:
        x: (samples, longest, features + 1): the steps that surprised, and the time of each as a share of the
            sequence, in the last channel; zeros behind a sample's end.
        lengths: steps that are left of each sample, (samples,), at least 1.
        positions: the step of the original sequence that each was, (samples, longest); -1 behind the end.
        steps: original lengths, (samples,).
    """

    x: NDArray[Any]
    lengths: NDArray[np.int64]
    positions: NDArray[np.int64]
    steps: NDArray[np.int64]

    @property
    def ratio(self) -> float:
        """Steps left over steps there were, all samples together."""
        return float(self.lengths.sum() / self.steps.sum())

    def __repr__(self) -> str:
        """One line: how many steps are left."""
        return (
            f"<Compressed {len(self.lengths)} sequences: {self.steps.mean():.4g} steps -> "
            f"{self.lengths.mean():.4g} (longest {self.lengths.max()})>"
        )


@dataclass(frozen=True, eq=False)
class ChunkerFit:
    """What training a chunker gave: the history of every level, and how far each compressed."""

    levels: tuple[History, ...]
    """Those of the networks that foretell the next input, lowest first."""
    top: History
    """That of the network that answers."""
    compressed: tuple[Compressed, ...]
    """The training sequences as each level passed them on, lowest first."""


class Chunker:
    """Recurrent networks in levels; `vg.chunker` makes one.

    Attributes:
        levels: the networks that foretell the next input of their level, lowest first.
        top: the network that sees what is left and answers.
        threshold: largest error of a component that still counts as foretold.
        symbols: whether steps are one-hot symbols (a level then gives probabilities) or numbers.
    """

    def __init__(
        self, levels: tuple[Network, ...], top: Network, threshold: float, symbols: bool, seed: int
    ) -> None:
        """Hold the networks; they are trained in place by `fit`."""
        self.levels, self.top = levels, top
        self.threshold, self.symbols, self.seed = threshold, symbols, seed

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        epochs: int = 10,
        level_epochs: int | None = None,
        loss: Any = None,
        rng: RngLike = None,
        **fit: Any,
    ) -> ChunkerFit:
        """Train every level to foretell its next input, from below, then the top to answer.

        Args:
            x: (samples, time, features); one-hot where the chunker is for symbols.
            y: what the top is to answer after the last step, as for `Network.fit`.
            lengths: number of steps of each sample; None counts all.
            epochs: passes of the top over the compressed sequences.
            level_epochs: passes of each level; None takes `epochs`.
            loss: of the top; None takes cross_entropy for class labels, else mse.
            rng: seed of the order of samples; None takes the chunker's own.
            fit: what else `Network.fit` takes, for all levels: optimizer, clip, batch_size, truncate, ...

        Raises:
            ArgumentError: sequences of one step, in which there is nothing to foretell, steps that are not
                one-hot where the chunker is for symbols, an argument that `Network.fit` does not take or that
                makes no sense level by level (validation, callbacks, resume). Others as for `Network.fit`.
        """
        check_options(fit, "Chunker.fit", "each level is trained on its own here")
        seed = self.seed if rng is None else seed_of(rng)
        array, ends = self._read(x, lengths)
        if array.shape[1] < 2:
            raise ArgumentError("x: expected sequences of at least two steps, got one: nothing to foretell")
        passes = as_size(epochs if level_epochs is None else level_epochs, "level_epochs")
        histories: list[History] = []
        passed: list[Compressed] = []
        current, ends, places, steps = array, ends, _places(array), ends
        for number, level in enumerate(self.levels):
            order = np.random.SeedSequence([seed, number])
            usable = ends > 1  # of one step there is nothing to foretell
            if usable.any():
                inputs, target, kind = self._lesson(current[usable])
                more: dict[str, Any] = {"lengths": ends[usable] - 1, "loss": kind, "rng": order}
                histories.append(level.fit(inputs, target, epochs=passes, **more, **fit))
            result = self._passed(level, current, ends, places, steps, first=number == 0)
            passed.append(result)
            current, ends, places = result.x, result.lengths, result.positions
        order = np.random.SeedSequence([seed, len(self.levels)])
        answered = self.top.fit(current, y, lengths=ends, epochs=epochs, loss=loss, rng=order, **fit)
        return ChunkerFit(tuple(histories), answered, tuple(passed))

    def compress(
        self, x: ArrayLike, *, lengths: ArrayLike | None = None, level: int | None = None
    ) -> Compressed:
        """Return what is left of sequences when the steps that were foretold are taken out.

        The first step of a sequence always stays, for nothing foretells it.

        Args:
            x: (samples, time, features).
            lengths: number of steps of each sample; None counts all.
            level: after how many levels, from 1; None takes all.

        Raises:
            ShapeError, DTypeError, NonFiniteError: as for `Network.forward`.
            ArgumentError: no such level, or steps that are no symbols.

        Example:
            >>> import vgcore as vg
            >>> x, _ = vg.datasets.long_lag(3, 5, rng=0)
            >>> vg.chunker(7, 2, rng=0).compress(x)  # untrained: every step surprises
            <Compressed 3 sequences: 6 steps -> 6 (longest 6)>
        """
        count = len(self.levels)
        chosen = count if level is None else as_size(level, "level", maximum=count)
        current, ends = self._read(x, lengths)
        places, steps = _places(current), ends
        result: Compressed | None = None
        for number, net in enumerate(self.levels[:chosen]):
            result = self._passed(net, current, ends, places, steps, first=number == 0)
            current, ends, places = result.x, result.lengths, result.positions
        assert result is not None, "there is at least one level"
        return result

    def predict(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the top's output for each sequence, (samples, out_features): class scores, or numbers."""
        left = self.compress(x, lengths=lengths)
        return self.top.forward(left.x, lengths=left.lengths)

    def score(self, x: ArrayLike, y: ArrayLike, *, lengths: ArrayLike | None = None) -> float:
        """Return the share of class labels that are right, or the mean R squared over the outputs.

        Arguments and errors as for `fit`; it is the top's `Network.score` on the compressed sequences.
        """
        left = self.compress(x, lengths=lengths)
        return self.top.score(left.x, y, lengths=left.lengths)

    def __repr__(self) -> str:
        """One line: levels, threshold, kind."""
        kind = "symbols" if self.symbols else "numbers"
        return f"Chunker({len(self.levels)} levels, threshold={self.threshold:g}, {kind}, seed={self.seed})"

    # --- one level -----------------------------------------------------------------------------------------

    def _read(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        lowest = self.levels[0]
        array = as_float_array(x, name="x", dtype=lowest.dtype, shape=("batch", "time", lowest.in_features))
        batch, steps = array.shape[:2]
        ends = np.full(batch, steps) if lengths is None else read_lengths(lengths, batch, steps)
        if self.symbols:
            counted = array[np.arange(steps) < ends[:, None]]
            if not (((counted == 0) | (counted == 1)).all() and (counted.sum(axis=1) == 1).all()):
                raise ArgumentError(
                    "x: expected one-hot steps (a single 1, else 0), as this chunker is for symbols; for "
                    "numbers build it with vg.chunker(..., symbols=False)"
                )
        return array, ends

    def _lesson(self, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], str]:
        """Return what a level sees, what it is to foretell, and the loss."""
        inputs = np.ascontiguousarray(x[:, :-1])
        target = x[:, 1:, : self.levels[0].in_features]
        if self.symbols:
            return inputs, np.ascontiguousarray(target.argmax(axis=2)), "cross_entropy"
        return inputs, np.ascontiguousarray(target), "mse"

    def _errors(self, level: Network, x: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the largest error of a component at each step from the second on, (samples, steps - 1)."""
        inputs, _, _ = self._lesson(x)
        out = level.forward(inputs, lengths=np.maximum(ends - 1, 1)).astype(np.float64)
        if self.symbols:
            out = np.exp(out - out.max(axis=2, keepdims=True))
            out /= out.sum(axis=2, keepdims=True)
        return np.asarray(np.abs(out - x[:, 1:, : self.levels[0].in_features]).max(axis=2))

    def _passed(
        self,
        level: Network,
        x: NDArray[Any],
        ends: NDArray[np.int64],
        places: NDArray[np.int64],
        steps: NDArray[np.int64],
        *,
        first: bool,
    ) -> Compressed:
        """Return what the next level gets: the steps that surprised this one, and when they came."""
        batch, longest = x.shape[:2]
        kept = np.zeros((batch, longest), bool)
        kept[:, 0] = True
        if longest > 1:
            kept[:, 1:] = self._errors(level, x, ends) > self.threshold
        kept &= np.arange(longest) < ends[:, None]
        counts = kept.sum(axis=1)
        which, old = np.nonzero(kept)
        new = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        width = self.levels[0].in_features
        result = np.zeros((batch, int(counts.max()), width + 1), x.dtype)
        positions = np.full(result.shape[:2], -1)
        positions[which, new] = places[which, old]
        result[which, new, :width] = x[which, old, :width]
        result[which, new, width] = places[which, old] / steps[which]
        return Compressed(result, counts, positions, steps)


def chunker(
    in_features: int,
    out_features: int,
    *,
    hidden_size: int = 16,
    top_size: int | None = None,
    cell: str | Cell = "rnn",
    top_cell: str | Cell | None = None,
    levels: int = 1,
    threshold: float = 0.2,
    symbols: bool = True,
    dtype: Any = "float32",
    rng: RngLike = None,
) -> Chunker:
    """Return a chunker: levels that foretell their next input, and a top that sees what they could not.

    Level 0 reads the sequence and foretells each next step. A step counts as foretold when no component of
    the prediction (probabilities, for symbols) is off by more than `threshold`. The others go up, with the
    time at which they came, to the next level, which foretells among those; the last rest goes to the top,
    whose answer is read after its last step. What goes up holds everything that is needed to make the
    sequence again, as far as the threshold is.

    Args:
        in_features: width of a step.
        out_features: width of the answer.
        hidden_size: width of each level's state.
        top_size: width of the top's state; None takes `hidden_size`.
        cell: of the levels: a name from ``vg.cells.names()``, or a cell.
        top_cell: of the top; None takes `cell`.
        levels: how many networks foretell, one above the other.
        threshold: largest error of a component that counts as foretold.
        symbols: steps are one-hot symbols; False: any numbers.
        dtype: "float32" or "float64".
        rng: None, an int, a SeedSequence or a Generator; ``.seed`` shows what was used.

    Raises:
        ArgumentError: sizes that are not positive, a threshold below 0.
        UnknownNameError: no such cell.

    Source: Schmidhuber 1992, Learning Complex, Extended Sequences Using the Principle of History Compression,
    Neural Computation 4(2):234.

    Example:
        >>> import vgcore as vg
        >>> x, y = vg.datasets.long_lag(64, 20, rng=0)
        >>> chunker = vg.chunker(22, 2, rng=0)
        >>> trained = chunker.fit(x, y, epochs=30, batch_size=16, optimizer=vg.Adam(0.02), rng=0)
        >>> chunker.compress(x)
        <Compressed 64 sequences: 21 steps -> 1 (longest 1)>
        >>> chunker.score(x, y)
        1.0
    """
    seed, width, outputs = (
        seed_of(rng),
        as_size(in_features, "in_features"),
        as_size(out_features, "out_features"),
    )
    limit, number = as_real(threshold, "threshold", minimum=0.0), as_size(levels, "levels")
    kind = as_flag(symbols, "symbols")
    below: list[Network] = []
    for level in range(number):
        start = np.random.SeedSequence([seed, level])
        sees = width + (level > 0)  # the time of each step comes along from the first level on
        below.append(
            rnn(cell, hidden_size, in_features=sees, out_features=width, read="every", dtype=dtype, rng=start)
        )
    top = rnn(
        cell if top_cell is None else top_cell,
        hidden_size if top_size is None else top_size,
        in_features=width + 1,
        out_features=outputs,
        dtype=dtype,
        rng=np.random.SeedSequence([seed, number]),
    )
    return Chunker(tuple(below), top, limit, kind, seed)


def _places(x: NDArray[Any]) -> NDArray[np.int64]:
    batch, steps = x.shape[:2]
    return np.broadcast_to(np.arange(steps), (batch, steps)).copy()
