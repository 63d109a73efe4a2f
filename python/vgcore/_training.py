"""Layer: the network, as it learns. Training over many batches, and what comes out of it.

Knows how a network runs; the loop is in `_fit`, scores are in `_evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import ArrayLike, NDArray

from ._checks import as_size
from ._evaluate import Held, evaluate, predict
from ._fit import Options, default_loss, fit
from ._inputs import StateLike
from ._progress import ProgressLike
from ._rng import RngLike
from ._running import Running
from .clipping import Clip
from .constraints import Constraint
from .errors import ArgumentError, nearest
from .history import History
from .losses import Loss, as_loss
from .optimizers import Optimizer

if TYPE_CHECKING:
    from .network import Network

__all__ = ["Training", "check_options"]

#: Arguments of `fit` that are of one training, not of several on data of their own.
_OF_ONE = ("loss", "validation", "resume", "callbacks")


def check_options(options: Mapping[str, Any], caller: str, why: str) -> None:
    """Check the names of what a caller hands on to `fit` for several networks, one after another.

    Raises:
        ArgumentError: a name that `fit` does not have, or that is of one training alone; `why` says why.
    """
    known = [name for name in signature(Training.fit).parameters if name not in ("self", "x", "y", *_OF_ONE)]
    for name in options:
        if name in _OF_ONE:
            raise ArgumentError(f"{name}: {why}; leave {name}= out")
        if name not in known:
            guess = nearest(name, known)
            hint = (
                f"did you mean {guess!r}?"
                if guess
                else f"Network.fit, to which it goes, has {', '.join(known)}"
            )
            raise ArgumentError(f"{caller}: no parameter {name!r}; {hint}")


class Training(Running):
    """A network that can be trained: the part of `Network` that is not cured."""

    __slots__ = ()

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        loss: str | Loss | None = None,
        optimizer: str | Optimizer | None = None,
        clip: str | Clip | list[Any] | tuple[Any, ...] | None = None,
        constraint: str | Constraint | list[Any] | tuple[Any, ...] | None = None,
        schedule: Callable[[int], float] | None = None,
        validation: Any = None,
        callbacks: Any = (),
        progress: ProgressLike = False,
        rng: RngLike = None,
        shuffle: bool = True,
        lengths: ArrayLike | None = None,
        truncate: int | None = None,
        stats: str = "norms",
        record_every: int | None = None,
        memory_budget: int | str | None = None,
        resume: Any = None,
    ) -> History:
        """Train on `x` and `y`, changing this network's parameters; return what was measured on the way.

        Args:
            x: inputs, (rows, in_features), or (rows, time, in_features) along time.
            y: targets: class labels (rows,) or probabilities for cross_entropy, else of the output's shape.
            epochs: how often all samples are gone through, counted from the beginning of a resumed training.
            batch_size: samples of a step; the last one of an epoch may have fewer.
            loss: a name or an object; None takes cross_entropy for integer labels, else mse.
            optimizer: a name or an object such as ``vg.Adam(1e-3)``; None is ``vg.SGD(0.01)``.
            clip: what is done to gradients before each step: a name, an object such as ``vg.ClipNorm(1.0)``,
                or a list of them, in order.
            constraint: what weights are brought back to after each step: ``vg.SpectralConstraint(1.0)``, ...
            schedule: a function of the step's number, from 0, whose value multiplies the learning rate, such
                as ``vg.schedules.cosine()``.
            validation: held-out data (x, y), or (x, y, lengths), or the share of samples to hold out.
            callbacks: `vg.callbacks` objects, or functions of an EpochEnd, called behind every epoch.
            progress: True for a bar, or a function (steps done, steps in all, loss).
            rng: where the order of samples and what layers draw come from; None is the network's own seed.
            shuffle: bring the samples into a new order each epoch.
            lengths: how many steps of each sample count, (rows,); along time.
            truncate: cut the gradient at steps k, 2k, ...; along time.
            stats: "norms" (gradient norms layer by layer), "full" (also update ratios, dead units, weights
                that a step left unchanged and weights that are zero), or "none".
            record_every: steps between two that are looked at; None looks at about 200 of the training.
            memory_budget: most bytes that a step may use, as for `probe`.
            resume: a History, or its ``state``, to go on from. With the same data, the steps are bit for bit
                those that an uninterrupted training would have taken; parameters, a seed or a schedule with
                which they would not be are refused. A schedule without steps of its own is bound to `epochs`.

        Where `optimizer`, `clip`, `constraint` and `truncate` are None, what cures have set is taken:
        ``net.training_defaults``.

        A loss that is NaN or infinite ends training before that step changes anything; ``history.stopped``
        says which step it was. Ctrl-C raises KeyboardInterrupt with the parameters and the state of the last
        complete step; the error's `history` attribute holds the History, from which to resume.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError: an array that does not fit.
            ArgumentError: another argument that makes no sense, or a `resume` of another training.
            UnknownNameError: a loss, optimizer, clip or constraint that is in no catalogue.
            MemoryBudgetError: the optimizer's memory or a step would not fit.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
            >>> y = (x[:, 0] > 0).astype(int)
            >>> net = vg.mlp(2, 16, in_features=4, out_features=2, rng=0)
            >>> history = net.fit(x, y, epochs=20, optimizer=vg.Adam(0.01))
            >>> bool(history.loss[-1] < history.loss[0]), net.score(x, y) > 0.9
            (True, True)
        """
        cured = self._applied.training
        optimizer = cured.get("optimizer") if optimizer is None else optimizer
        clip = cured.get("clip") if clip is None else clip
        constraint = cured.get("constraint") if constraint is None else constraint
        truncate = cured.get("truncate") if truncate is None else truncate
        options = Options(
            epochs, batch_size, loss, optimizer, clip, constraint, schedule, validation, callbacks, progress,
            rng, shuffle, truncate, stats, record_every, memory_budget, resume,
        )  # fmt: skip
        return fit(cast("Network", self), x, y, lengths, options)

    def predict(
        self,
        x: ArrayLike,
        *,
        batch_size: int | None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
    ) -> NDArray[Any]:
        """Return the output for any number of samples, `batch_size` of them at a time, in inference.

        Arguments and errors as for `forward`. Classes are ``net.predict(x).argmax(axis=-1)``.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> vg.mlp(depth=3, width=4, rng=0).predict(np.zeros((5000, 4), np.float32)).shape
            (5000, 4)
        """
        size = None if batch_size is None else as_size(batch_size, "batch_size")
        inputs = self._door.open(x, lengths, mask, state)
        return predict(self, inputs.x, inputs.series.lengths, inputs.series.state, size)

    def score(
        self, x: ArrayLike, y: ArrayLike, *, loss: str | Loss | None = None, lengths: ArrayLike | None = None
    ) -> float:
        """Return the share of right answers for class labels, else the mean R squared over the outputs.

        ``R^2 = 1 - sum (y - output)^2 / sum (y - mean y)^2``; arguments and errors as for `loss`.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=2, width=3, init="identity", activation="identity", rng=0)
            >>> net.score(np.eye(3, dtype=np.float32), [0, 1, 2])
            1.0
        """
        chosen = default_loss(y) if loss is None else as_loss(loss)
        return evaluate(self, Held(x, y, lengths).checked(self, chosen), chosen)[1]
