"""Layer: data sets, tasks. Data sets of sequences under one call: how long and how many in, x and y out.

Knows the data sets, which loss and how many outputs each asks for, and which have a length of their own;
nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import datasets
from ._arrays import as_array, as_float_array
from ._checks import as_size, shown
from ._rng import RngLike, seed_of
from .errors import ArgumentError, ShapeError, unknown_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pair = tuple[NDArray[Any], NDArray[Any]]

__all__ = ["SAMPLES", "Sequences", "Source", "Task", "as_task", "sequences", "task_names"]

#: How many samples a study or a probe of a task takes unless told.
SAMPLES: Final = 32


@dataclass(frozen=True)
class Task:
    """A data set of sequences: what it is, how it is made, what is asked of a network.

    `make`: (samples, length, seed) -> (x, y). `outputs`: how many values or classes the answer has. `steps`:
    the only length there is, None where any is. `least`: the shortest length.
    """

    name: str
    summary: str
    make: Callable[[int, int, int], Pair]
    outputs: int
    loss: str = "cross_entropy"
    steps: int | None = None
    least: int = 1

    def check_length(self, length: int | None) -> int:
        """Return the length to make, or say which there are.

        Raises:
            ArgumentError: a length that this task cannot have, or none where one is needed.
        """
        if self.steps is not None:
            if length not in (None, self.steps):
                raise ArgumentError(
                    f"length: task {self.name!r} is real data of {self.steps:,} steps, got {length:,}; leave "
                    "length out"
                )
            return self.steps
        if length is None:
            raise ArgumentError(
                f"length: task {self.name!r} has any length; expected one or a list, such as [100, 1000]"
            )
        if length < self.least:
            raise ArgumentError(
                f"length: task {self.name!r} needs at least {self.least} steps, got {length:,}"
            )
        return length


@dataclass(frozen=True)
class Sequences:
    """Sequences of one length and what a network of them needs: widths, what the loss reads, the loss."""

    x: NDArray[Any]
    y: NDArray[Any]
    outputs: int
    read: str

    @property
    def length(self) -> int:
        """Number of steps."""
        return int(self.x.shape[1])

    @property
    def features(self) -> int:
        """Width of the input at a step."""
        return int(self.x.shape[2])


def sequences(x: Any, y: Any, outputs: int | None = None) -> Sequences:
    """Return x (batch, time, features) and y with the sizes that follow from them.

    ``y``: class indices (batch,) or values (batch, outputs), read at the last step; class indices (batch,
    time) or values (batch, time, outputs), read at every step.

    Raises:
        ShapeError, DTypeError, NonFiniteError: not such arrays.
    """
    x = as_float_array(x, name="x", shape=("batch", "time", "features"))
    y = as_array(y, "y")
    classes = y.dtype.kind in "iu"
    steps = y.ndim - (1 if classes else 2)
    if steps not in (0, 1) or y.size == 0:
        raise ShapeError(
            "y: expected class indices (batch,) or (batch, time), or values (batch, outputs) or "
            f"(batch, time, outputs), got {y.dtype} of shape {y.shape}"
        )
    if outputs is None:
        outputs = max(int(y.max()) + 1, 2) if classes else int(y.shape[-1])
    return Sequences(x, y, outputs, "every" if steps else "last")


class Source:
    """Where a study's sequences come from: a task by name, or a function of the length."""

    def __init__(self, task: Task | Callable[[int], Any], samples: int | None, rng: RngLike) -> None:
        """Hold a task, how many samples it makes and its seed."""
        self.task = task
        if not isinstance(task, Task) and samples is not None:
            raise ArgumentError(
                "samples: a function decides itself how many samples it makes; leave samples out"
            )
        self.samples = SAMPLES if samples is None else as_size(samples, "samples")
        self.seed = seed_of(rng, "data_rng")

    @property
    def name(self) -> str:
        """The task's name, or the function's."""
        return str(getattr(self.task, "name", None) or getattr(self.task, "__qualname__", "function"))

    def lengths(self, wanted: Sequence[int] | None) -> list[int]:
        """Return the lengths to make.

        Raises:
            ArgumentError: the task does not have them, or a function was given none.
        """
        if isinstance(self.task, Task):
            asked: Sequence[int | None] = wanted or [None]
            return [self.task.check_length(length) for length in asked]
        if not wanted:
            raise ArgumentError("length: a task that is a function needs one or a list, such as [100, 1000]")
        return list(wanted)

    def make(self, length: int) -> Sequences:
        """Return the sequences of one length.

        Raises:
            ShapeError: a function returned something else.
        """
        if isinstance(self.task, Task):
            x, y = self.task.make(self.samples, length, self.seed)
            return sequences(x, y, self.task.outputs)
        try:
            x, y = self.task(length)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"task: expected a function that takes a length and returns (x, y); {self.name}({length}) "
                f"raised {type(error).__name__}: {error}"
            ) from error
        made = sequences(x, y)
        if made.length != length:
            raise ShapeError(f"task: {self.name}({length}) returned sequences of {made.length} steps")
        return made

    def loss(self, made: Sequences) -> str:
        """Return the loss that goes with the answers."""
        if isinstance(self.task, Task):
            return self.task.loss
        return "cross_entropy" if made.y.dtype.kind in "iu" else "mse"

    def to_spec(self) -> dict[str, Any]:
        """Return what makes the same sequences again, as plain values."""
        if not isinstance(self.task, Task):
            return {"function": self.name}
        return {"task": self.name, "samples": self.samples, "rng": self.seed}


def task_names() -> list[str]:
    """Return the names of all tasks."""
    return list(_TASKS)


def as_task(value: Any) -> Task | Callable[[int], Any]:
    """Return `value`, a name or a function of the length, as a task.

    Raises:
        UnknownNameError: no task has this name.
        ArgumentError: neither a name nor a function.

    Example:
        >>> as_task("adding").loss
        'mse'
    """
    if isinstance(value, str):
        if value not in _TASKS:
            raise unknown_name("task", value, _TASKS, "vgcore study --help")
        return _TASKS[value]
    if callable(value):
        known: Callable[[int], Any] = value
        return known
    raise ArgumentError(
        f"task: expected one of {', '.join(map(repr, _TASKS))}, or a function of the length; "
        f"got {shown(value)}"
    )


def _first(make: Callable[[], Pair]) -> Callable[[int, int, int], Pair]:
    """Return the first samples of a real data set, however long it is."""

    def take(samples: int, length: int, seed: int) -> Pair:
        x, y = make()
        if samples > len(x):
            raise ArgumentError(f"samples: there are {len(x):,} of them, got {samples:,}")
        return np.ascontiguousarray(x[:samples]), y[:samples]

    return take


# The copying problem's length counts all its steps: ten symbols, the delay, ten answers.
_COPY_WIDTH = 10

_TASKS: Final = {
    task.name: task
    for task in (
        Task("adding", "add two marked numbers among many; any length", datasets.adding, 1, "mse", least=2),
        Task(
            "copy_memory",
            "repeat ten symbols after a delay of length - 20",
            lambda n, length, seed: datasets.copy_memory(n, length - 2 * _COPY_WIDTH, seed),
            9,
            least=2 * _COPY_WIDTH + 1,
        ),
        Task(
            "temporal_order",
            "tell in which order two symbols came; any length",
            datasets.temporal_order,
            4,
            least=10,
        ),
        Task(
            "text",
            "the next character of English text; any length",
            datasets.text,
            len(datasets.TEXT_CHARACTERS),
        ),
        Task("digits_rows", "real digits, 8 steps of 8 pixels", _first(datasets.digits_rows), 10, steps=8),
        Task(
            "digits_pixels", "real digits, 64 steps of 1 pixel", _first(datasets.digits_pixels), 10, steps=64
        ),
        Task("mnist_pixels", "real MNIST images, 784 steps", _first(datasets.mnist_pixels), 10, steps=784),
        Task("pigcvp", "real blood-pressure series, 2,000 steps", _first(datasets.pigcvp), 52, steps=2000),
    )
}
