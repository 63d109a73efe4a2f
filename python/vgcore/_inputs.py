"""Layer: the network. What comes into a pass: x, lengths or mask, state, truncation, target, cotangent.

Knows which arrays a network takes (its widths, float type and recurrent layers), not the network itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._arrays import as_array, as_float_array, cast_hint, format_shape
from ._checks import as_size, shown
from .errors import ArgumentError, DTypeError, ShapeError, unknown_name
from .losses import Loss
from .recurrent import Recurrent

#: What `state=` takes: {"h": ..., "c": ...}, (h, c), or h alone where the cell hands on nothing else.
StateLike: TypeAlias = Any


@dataclass(frozen=True)
class Series:
    """What belongs to sequences alone, as the compiled module takes it."""

    lengths: NDArray[np.int64] | None = None
    state: list[NDArray[Any]] | None = None
    truncate: int | None = None


@dataclass(frozen=True)
class Inputs:
    """The checked input of one pass."""

    x: NDArray[Any]
    series: Series

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.x)

    @property
    def steps(self) -> int:
        """Number of steps in time; 1 for a network without time."""
        return self.x.shape[1] if self.x.ndim == 3 else 1


@dataclass(frozen=True)
class Door:
    """Which arrays a network takes."""

    in_features: int
    out_features: int
    dtype: np.dtype[Any]
    recurrent: tuple[Recurrent, ...] = ()
    widest: int = 1
    """Features of the widest output of a layer."""

    @property
    def axis(self) -> str:
        """What a step is: "time" with a recurrent layer, else "depth"."""
        return "time" if self.recurrent else "depth"

    @property
    def every(self) -> bool:
        """Whether there is an output for every step."""
        return bool(self.recurrent) and self.recurrent[-1].read == "every"

    def forward_bytes(self, batch: int, steps: int) -> int:
        """Return the bytes that a pass without a way back takes at least, the outputs of its widest layer.

        Along time only the outputs of all steps are ever there at once.
        """
        rows, width = (steps, self.out_features) if self.every else (1, self.widest)
        return batch * rows * width * self.dtype.itemsize

    def open(
        self, x: Any, lengths: Any = None, mask: Any = None, state: StateLike = None, truncate: Any = None
    ) -> Inputs:
        """Return `x` and what goes with it, or say what is wrong with it."""
        if not self.recurrent:
            given = {"lengths": lengths, "mask": mask, "state": state, "truncate": truncate}
            for name, value in given.items():
                if value is not None:
                    raise ArgumentError(
                        f"{name}: expected None for a network along depth, got {shown(value)}; sequences "
                        f"need a Recurrent layer, as in vg.rnn(...)"
                    )
            return Inputs(self._floats(x, "x", ("batch", self.in_features)), Series())
        array = self._floats(x, "x", ("batch", "time", self.in_features))
        batch, steps = array.shape[:2]
        if lengths is not None and mask is not None:
            raise ArgumentError("lengths and mask both say where samples end: give one of them")
        if mask is not None:
            ends: NDArray[np.int64] | None = read_mask(mask, batch, steps)
        else:
            ends = None if lengths is None else read_lengths(lengths, batch, steps)
        start = None if state is None else self.read_state(state, batch)
        cut = None if truncate is None else as_size(truncate, "truncate")
        return Inputs(array, Series(ends, start, cut))

    def one_recurrent(self, name: str) -> Recurrent:
        """Return the recurrent layer whose state `name` is about."""
        if len(self.recurrent) == 1:
            return self.recurrent[0]
        have = f"{len(self.recurrent)} of them; one with num_layers= holds all" if self.recurrent else "none"
        raise ArgumentError(f"{name}: expected a network with one Recurrent layer, got {have}")

    def read_state(self, state: StateLike, batch: int) -> list[NDArray[Any]]:
        """Return the parts of a state, (layers * directions, batch, hidden_size) each."""
        layer = self.one_recurrent("state")
        parts, cell = layer.unit.states, layer.unit.name
        forms = "{" + ", ".join(f'"{part}": ...' for part in parts) + "}"
        forms += f" or a tuple ({', '.join(parts)})" if len(parts) > 1 else f" or {parts[0]} alone"
        if isinstance(state, Mapping):
            for key in state:
                if key not in parts:
                    raise unknown_name(
                        f"part of the state of cell {cell!r}", key, parts, "the cell's .states"
                    )
            given: list[Any] = [state.get(part) for part in parts]
            missing = [part for part, value in zip(parts, given, strict=True) if value is None]
            if missing:
                raise ArgumentError(
                    f"state: expected {forms} for cell {cell!r}, got none for {', '.join(map(repr, missing))}"
                )
        elif isinstance(state, tuple):
            given = list(state)
            if len(given) != len(parts):
                raise ArgumentError(f"state: expected {forms} for cell {cell!r}, got {len(given)} parts")
        elif len(parts) > 1:
            raise ArgumentError(
                f"state: expected {forms} for cell {cell!r}, got one {type(state).__name__}; "
                f"a start of zeros is state=None"
            )
        else:
            given = [state]
        shape = (layer.state_rows, batch, layer.hidden_size)
        return [
            self._floats(value, f"state[{part!r}]", shape) for part, value in zip(parts, given, strict=True)
        ]

    def read_cotangent(self, cotangent: Any, inputs: Inputs) -> NDArray[Any]:
        """Return the gradient with respect to the output, of the output's shape."""
        shape = (*self._lead(inputs), self.out_features)
        direction = as_float_array(cotangent, name="cotangent", dtype=self.dtype)
        if inputs.batch == 1 and direction.shape == shape[1:]:
            direction = direction.reshape(shape)
        return self._floats(direction, "cotangent", shape)

    def read_target(self, loss: Loss, y: Any, inputs: Inputs) -> NDArray[Any]:
        """Return the target as `loss` takes it; what lies behind a sample's end does not count."""
        valid, ends = None, inputs.series.lengths
        if self.every and ends is not None:
            valid = np.arange(inputs.steps) < ends[:, None]
        return loss.check_target(y, self._lead(inputs), self.out_features, self.dtype, valid=valid)

    def _lead(self, inputs: Inputs) -> tuple[int, ...]:
        return (inputs.batch, inputs.steps) if self.every else (inputs.batch,)

    def _floats(self, value: Any, name: str, shape: tuple[int | str, ...]) -> NDArray[Any]:
        return as_float_array(value, name=name, dtype=self.dtype, shape=shape)


def read_lengths(lengths: Any, batch: int, steps: int) -> NDArray[np.int64]:
    """Return the number of steps of each sample, (batch,), each from 1 to `steps`.

    Example:
        >>> read_lengths([3, 1], batch=2, steps=3)
        array([3, 1])
    """
    array = as_array(lengths, "lengths")
    if array.dtype.kind == "b":
        raise DTypeError("lengths: expected integers, got bool; flags for each step go into mask=")
    if array.dtype.kind not in "iu":
        hint = f"; convert with {cast_hint(lengths, 'lengths', 'int64')}" if array.dtype.kind == "f" else ""
        raise DTypeError(f"lengths: expected integers, got {array.dtype}{hint}")
    if array.shape != (batch,):
        hint = f"; the same for all is numpy.full({batch}, {array})" if array.ndim == 0 else ""
        if array.shape == (steps,):
            hint = "; if x is (time, batch, features), pass x.swapaxes(0, 1)"
        elif array.size == batch:
            hint = "; use lengths.ravel()"
        raise ShapeError(
            f"lengths: expected shape ({batch},), one number for each of the {batch} samples of x, got "
            f"{format_shape(array.shape)}{hint}"
        )
    wrong = (array < 1) | (array > steps)
    if wrong.any():
        first = int(np.argmax(wrong))
        hint = "leave samples without steps out" if array[first] < 1 else "pad x, or shorten the length"
        raise ArgumentError(
            f"lengths: expected 1 to {steps} (the steps that x has), got {array[first]} at lengths[{first}] "
            f"({int(wrong.sum())} of {batch} out of range); {hint}"
        )
    return np.require(array, dtype=np.int64, requirements=["C", "A"])


def read_mask(mask: Any, batch: int, steps: int) -> NDArray[np.int64]:
    """Return the number of steps of each sample that a mask, (batch, steps), lets count: a run from step 0.

    Example:
        >>> read_mask([[True, True, False], [True, False, False]], batch=2, steps=3)
        array([2, 1])
    """
    array = as_array(mask, "mask")
    if array.dtype.kind != "b":
        raise DTypeError(f"mask: expected bool, got {array.dtype}; compare first, as in mask != 0")
    if array.shape != (batch, steps):
        hint = "; the samples come first, then the steps: mask.T" if array.shape == (steps, batch) else ""
        raise ShapeError(
            f"mask: expected shape {format_shape((batch, steps))}, a flag for each sample and step of x, got "
            f"{format_shape(array.shape)}{hint}"
        )
    counts: NDArray[np.int64] = array.sum(axis=1, dtype=np.int64)
    run = np.arange(steps) < counts[:, None]
    gaps = (array != run).any(axis=1)
    if gaps.any():
        sample = int(np.argmax(gaps))
        hole = int(np.argmin(array[sample]))
        again = hole + int(np.argmax(array[sample, hole:]))
        hint = "cut what does not count out of x and pad behind the end"
        if not (~array != (np.arange(steps) < (steps - counts)[:, None])).any():
            hint = "if True marks padding here, pass ~mask; padding comes behind the end"
        raise ArgumentError(
            f"mask: expected a run of True from step 0, without gaps, for each sample, got False at step "
            f"{hole} and True at step {again} of sample {sample} ({int(gaps.sum())} of {batch} "
            f"samples); {hint}"
        )
    if not counts.all():
        empty = int(np.argmin(counts))
        raise ArgumentError(
            f"mask: expected at least one step for each sample, got none for sample {empty}; leave "
            f"samples without steps out"
        )
    return counts
