"""Layer: training. The loop around the compiled trainer: checks what goes in, collects what comes out.

Knows networks, losses, optimizers and records; the steps themselves are taken in the compiled module.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import as_array
from ._callback import Callback, EpochEnd, as_callbacks
from ._checks import as_choice, as_flag, as_size
from ._evaluate import Held, evaluate, split
from ._fit_collect import Collected
from ._fit_records import Records, Units, Validation
from ._fit_state import Later, check_place, check_state, identity, place_of, restored, snapshot
from ._flow_steps import KIND_NAMES
from ._memory import ensure_fits, parse_bytes
from ._planning import say
from ._progress import ProgressLike
from ._progress_fit import FitProgress
from ._rng import RngLike, key_of, seed_of
from ._stagnation import guessing
from .clipping import as_clips
from .constraints import as_constraints
from .errors import ArgumentError
from .history import History
from .losses import Loss, as_loss
from .normalisation import normalises_batches
from .optimizers import Optimizer, as_optimizer
from .schedules import as_schedule, bound, factors

if TYPE_CHECKING:
    from .network import Network

__all__ = ["Options", "default_loss", "fit"]

_STATS = ("none", "norms", "full")
#: Steps that are looked at closely, about, where `record_every` does not say otherwise.
_LOOKS = 200
#: A progress bar moves about twice a second.
_SLICE = 0.5


@dataclass(frozen=True)
class Options:
    """What `fit` was called with, but for network and data."""

    epochs: int
    batch_size: int
    loss: Any
    optimizer: Any
    clip: Any
    constraint: Any
    schedule: Any
    validation: Any
    callbacks: Any
    progress: ProgressLike
    rng: RngLike
    shuffle: bool
    truncate: int | None
    stats: str
    record_every: int | None
    memory_budget: int | str | None
    resume: Any


def default_loss(y: Any) -> Loss:
    """Return cross_entropy for labels, integers or (to be converted) bools, else mse.

    Example:
        >>> default_loss([0, 1]), default_loss([0.5])
        (cross_entropy(), mse())
    """
    return as_loss("cross_entropy" if as_array(y, "y").dtype.kind in "iub" else "mse")


def without_single(rows: int, batch_size: int) -> int:
    """Return the least batch size from `batch_size` on that leaves no batch of one of `rows` samples.

    Example:
        >>> without_single(65, 32), without_single(64, 32), without_single(5, 1)
        (33, 32, 3)
    """
    size = min(batch_size, rows)
    while rows > 1 and 1 in (size, rows % size):
        size += 1
    return size if size < rows else max(batch_size, rows)


def fit(net: Network, x: Any, y: Any, lengths: Any, o: Options) -> History:
    """Train; `Network.fit` documents it."""
    run = _Run.prepare(net, x, y, lengths, o)
    net._touched = True
    started: list[Callback] = []
    told = False
    try:
        for callback in as_callbacks(o.callbacks):
            callback.on_fit_start(net, run.epochs)
            started.append(callback)
        with FitProgress(o.progress, run.total, run.done) as progress:
            while run.goes_on():
                if not run.epoch(progress):
                    break
                told = True
                if started:
                    _tell(started, run)
    except KeyboardInterrupt as interrupt:
        run.interrupted()
        interrupt.history = run.history()  # type: ignore[attr-defined]  # reason: where fit says it is
        raise
    finally:
        _end(started, run.end() if told else None)
    return run.history()


def _tell(callbacks: Sequence[Callback], run: _Run) -> None:
    end = run.end()
    for callback in callbacks:
        callback.on_epoch_end(end)
    if end.reason is not None:
        run.stopped = end.reason


def _end(callbacks: Sequence[Callback], end: EpochEnd | None) -> None:
    """End all of them, also behind one that raises; those that change the network come last."""
    ordered = sorted(callbacks, key=lambda callback: bool(getattr(callback, "changes_network", False)))
    with ExitStack() as stack:
        for callback in reversed(ordered):  # a stack unwinds from its top
            stack.callback(callback.on_fit_end, end)


class _Run:
    """A training in work."""

    def __init__(
        self,
        net: Network,
        core: _core.Trainer,
        o: Options,
        loss: Loss,
        optimizer: Optimizer,
        rows: int,
        seed: int,
    ) -> None:
        self.net, self._core, self._loss, self._seed = net, core, loss, seed
        self.epochs = as_size(o.epochs, "epochs")
        self.batch_size = as_size(o.batch_size, "batch_size")
        self._per_epoch = -(-rows // self.batch_size)
        self.total = self.epochs * self._per_epoch
        self._stats = as_choice(o.stats, "stats", _STATS)
        every = max(1, -(-self.total // _LOOKS))
        self._every = every if o.record_every is None else as_size(o.record_every, "record_every")
        self._optimizer = optimizer
        self._schedule = bound(as_schedule(o.schedule), self.total)
        self._budget = None if o.memory_budget is None else parse_bytes(o.memory_budget)
        self.stopped: str | None = None
        self._held: Held | None = None
        self._names, self._steps, self._kinds = core.units()
        self._validation: list[Validation] = []
        self._seconds: list[float] = []
        self._running = self._begun = 0.0
        self.meta: dict[str, Any] = {}
        self.same: dict[str, str] = {}
        self.begin(None)

    def begin(self, earlier: Records | None) -> None:
        """Count from where the trainer is now, behind what an earlier training left."""
        self._first = self.finished
        self._earlier = earlier
        self._collected = Collected(len(self._names), self._stats == "full", earlier, self.step)

    @classmethod
    def prepare(cls, net: Network, x: Any, y: Any, lengths: Any, o: Options) -> _Run:
        """Check everything before anything is changed."""
        net._needs_stored("fit")
        loss = default_loss(y) if o.loss is None else as_loss(o.loss)
        optimizer = as_optimizer(o.optimizer if o.optimizer is not None else "sgd")
        clips, constraints = as_clips(o.clip), as_constraints(o.constraint)
        state, earlier = restored(o.resume)
        seed = int(state["seed"]) if state else (net.seed if o.rng is None else seed_of(o.rng))
        data, held = split(x, y, lengths, o.validation, seed)
        inputs = net._door.open(data.x, data.lengths, None, None, o.truncate)
        target = net._door.read_target(loss, data.y, inputs)
        shapes = net.parameter_shapes()
        _fits(net, optimizer)
        core = _core.Trainer(
            net._core,
            optimizer.to_spec(),
            [part.to_spec() for part in clips],
            [(part.to_spec(), part.chosen(shapes)) for part in constraints],
            loss.to_spec(),
            batch_size=as_size(o.batch_size, "batch_size"),
            seed=key_of(seed),
            shuffle=as_flag(o.shuffle, "shuffle"),
            truncate=inputs.series.truncate,
        )
        core.load(inputs.x, target, inputs.series.lengths)
        run = cls(net, core, o, loss, optimizer, inputs.batch, seed)
        _needs_pairs(net, inputs.batch, run.batch_size)
        if run._budget is not None:
            rows = min(run.batch_size, inputs.batch)
            plan, _ = net._core.plan(rows, inputs.steps, "step", run._stats, run._budget, inputs=False)
            say(plan, net._said)
        if held is not None:
            run._held = held.checked(net, loss)
        run.meta = net._meta | {
            "loss": repr(loss),
            "optimizer": repr(optimizer),
            "clip": [repr(part) for part in clips],
            "constraint": [repr(part) for part in constraints],
            "schedule": repr(run._schedule),
            "batch_size": run.batch_size,
            "rows": inputs.batch,
            "shuffle": bool(o.shuffle),
            "fit_seed": seed,
            "classes": net.out_features if target.dtype == np.int64 else None,
            "guessing_loss": _guessing(loss, target, inputs.series.lengths),
        }
        run.same = identity(run.meta, net.layers, optimizer, clips, constraints, inputs.series.truncate)
        if state:
            check_state(state, run.same, None if o.rng is None else seed_of(o.rng))
            core.load_state(dict(state))
            run.begin(earlier)
            check_place(state, run.place())
            if run.done > run.total:
                least = -(-run.done // run._per_epoch)
                raise ArgumentError(
                    f"epochs: expected at least {least}, which is how far the resumed training has come, got "
                    f"{run.epochs}; epochs counts from its beginning"
                )
        return run

    @property
    def done(self) -> int:
        """Steps taken, those of the training that is resumed counted."""
        return self._core.progress()[0]

    step = done

    @property
    def finished(self) -> int:
        """Epochs completed."""
        return self._core.progress()[1]

    def goes_on(self) -> bool:
        """Whether there is an epoch left."""
        return self.stopped is None and self.finished < self.epochs

    def epoch(self, progress: FitProgress) -> bool:
        """Train to the end of the epoch in work; False where training has to end within it."""
        finished = self.finished
        while self.finished == finished:
            _, _, _, left = self._core.progress()
            count = min(left, progress.slice(left))
            rates = self._optimizer.lr * factors(self._schedule, self.step, count)
            self._begun = time.perf_counter()
            steps = partial(self._core.run, every=self._every, stats=self._stats, memory_budget=self._budget)
            # From the trainer to the list in one call: Python raises KeyboardInterrupt as soon as a call
            # returns, and what the steps told must not be lost between two lines.
            self._collected.parts.extend(map(steps, (rates,)))
            raw = self._collected.parts[-1]
            spent, self._begun = time.perf_counter() - self._begun, 0.0
            self._running += spent
            progress.advance(len(raw["loss"]), spent, raw["loss"])
            if raw["interrupted"]:
                raise raw["signal"] or KeyboardInterrupt()
            if raw["stopped"]:
                self.stopped = raw["stopped"]
                return False
        self._seconds.append(self._running)
        self._running = 0.0
        if self._held is not None:
            loss, score = evaluate(self.net, self._held, self._loss, self.batch_size)
            self._validation.append(Validation(finished, loss, score))
        return True

    def place(self) -> dict[str, str]:
        """Where the training is: the past of its schedule, and the parameters."""
        return place_of(self._schedule, self.step, self.net.parameters())

    def interrupted(self) -> None:
        """Say that Ctrl-C came; an epoch whose last step it came behind is over all the same."""
        if self.finished - self._first > len(self._seconds):
            since = time.perf_counter() - self._begun if self._begun else 0.0
            self._seconds.append(self._running + since)
        self.stopped = f"step {self.step}: interrupted"

    def end(self) -> EpochEnd:
        """Return what callbacks are given now; its history is put together when somebody looks."""
        seen = (self.step, len(self._validation), len(self._seconds), self.stopped)
        return EpochEnd(self.finished - 1, self.epochs, self.net, lambda: self._history(*seen))

    def history(self) -> History:
        """Everything measured so far."""
        return self._history(self.step, len(self._validation), len(self._seconds), self.stopped)

    def _history(self, step: int, validations: int, epochs: int, stopped: str | None) -> History:
        """What was measured up to a step."""
        kinds = tuple("parameter" if kind == 255 else KIND_NAMES[kind] for kind in self._kinds)
        seconds, validation = np.asarray(self._seconds[:epochs], np.float64), self._validation[:validations]
        if self._earlier is not None:
            seconds = np.concatenate([self._earlier.seconds, seconds])
            validation = [*self._earlier.validation, *validation]
        state = Later(
            lambda: snapshot(self._core.state(), self._seed, self.same, self.place()),
            lambda: self.step == step,
        )
        return History(
            Records(
                **self._collected.arrays(step),
                units=Units(tuple(self._names), self._steps, kinds),
                validation=tuple(validation),
                seconds=seconds,
                stopped=stopped,
                meta=self.meta,
                state=state,
            )
        )


def _needs_pairs(net: Network, rows: int, size: int) -> None:
    """Refuse batches of one sample where rows are normalised by their batch; time steps count as samples."""
    if net.axis != "depth" or 1 not in (rows, size, rows % size) or not normalises_batches(net.layers):
        return
    what = "batch normalisation has no variance of one sample"
    if rows == 1:
        raise ArgumentError(
            f"x: expected at least 2 samples, got 1: {what}; BatchNorm(online=True) takes one"
        )
    raise ArgumentError(
        f"batch_size: expected one that leaves no batch of one sample, got {size} for {rows} samples: "
        f"{what}; take {without_single(rows, size)}, or BatchNorm(online=True)"
    )


def _guessing(loss: Loss, target: NDArray[Any], lengths: Any) -> float | None:
    """Return the loss of the best constant answer; None where padding or parameters make it another one."""
    return None if loss.params or lengths is not None else guessing(loss.name, target)


def _fits(net: Network, optimizer: Optimizer) -> None:
    """Refuse what cannot fit before anything is allocated: the optimizer's memory, and one gradient."""
    arrays = len(optimizer.memory) + 1
    needed = arrays * net.num_parameters * net.dtype.itemsize
    what = f"training {net.num_parameters:,} parameters with {optimizer!r}"
    ensure_fits(needed, what, "use an optimizer that remembers less, such as vg.SGD(0.01), or float32")
