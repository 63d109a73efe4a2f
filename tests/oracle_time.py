"""Reference layer of the tests: recurrent layers over a whole sequence, forward and backward, slow and
readable, in NumPy.

Layers, directions, residuals, lengths, initial states, truncation and the reading are here; one step of a
cell is in oracle_cells.  The forward pass takes float64 and complex128; the backward pass keeps one exponent
a row, so its range is unlimited.  Knows nothing of vgcore.

Parameters are named as PyTorch names them (weight_ih_l0, ..., suffix _reverse), and h0, c0 if learned.
Track number k*D + d is direction d of layer k.  The index of a step is always its place in the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracle import Gradients, Scaled, gradients
from oracle_cells import CELLS, Back, Kept, States, jacobians, leaf_shapes

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recurrent:
    """One recurrent layer (a stack counts as one)."""

    cell: str
    hidden: int
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 1
    bidirectional: bool = False
    residual: bool = False
    bias: bool = True
    read: str = "last"
    learned: bool = False

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def tracks(self) -> list[tuple[int, int, str]]:
        """Layer, direction and name suffix of each track."""
        names = ("", "_reverse")
        return [(k, d, f"_l{k}{names[d]}") for k in range(self.layers) for d in range(self.directions)]

    @property
    def given(self) -> dict[str, Any]:
        return {**CELLS[self.cell].options, **self.options}

    @property
    def width(self) -> int:
        return self.hidden * self.directions

    def adds_input(self, layer: int) -> bool:
        return self.residual and layer > 0 and not self.bidirectional


def parameter_shapes(layer: Recurrent, inputs: int) -> Shapes:
    """Name -> shape of every parameter."""
    found: Shapes = {}
    for k, _, suffix in layer.tracks:
        width = inputs if k == 0 else layer.width
        shapes = leaf_shapes(layer.cell, width, layer.hidden, layer.bias, layer.given)
        found |= {leaf + suffix: shape for leaf, shape in shapes.items()}
    if layer.learned:
        for state in CELLS[layer.cell].states:
            found[f"{state}0"] = (len(layer.tracks), layer.hidden)
    return found


def random_parameters(layer: Recurrent, inputs: int, rng: np.random.Generator, scale: float = 0.7) -> Any:
    """Normal numbers, except that an lru's moduli and phases are drawn as its authors draw them."""
    found = {}
    for name, shape in parameter_shapes(layer, inputs).items():
        found[name] = scale * rng.normal(size=shape)
        if name.startswith("lru"):
            size, phase = rng.uniform(0.5, 0.99, shape[0] // 3), rng.uniform(0.1, 3.0, shape[0] // 3)
            found[name] = np.concatenate([np.log(-np.log(size)), np.log(phase), 0.5 * np.log1p(-size * size)])
    return found


@dataclass
class Track:
    """What one direction of one layer computed."""

    weights: dict[str, Array]
    order: list[int]  # steps in the order they were taken
    hidden: Array  # (batch, time, H), the state carried on after a sample's end
    final: States
    kept: dict[int, Kept]


@dataclass
class Trace:
    """A forward pass."""

    output: Array
    states: tuple[Array, ...]  # the last state of every track, (tracks, batch, H) each
    tracks: list[Track]
    valid: NDArray[np.bool_]  # (batch, time)
    inputs: list[Array]  # of each layer


def start_states(layer: Recurrent, parameters: Mapping[str, Array], state: Any, batch: int) -> States:
    """The states before the first step, (tracks, batch, H) each: given, learned, or zero."""
    shape = (len(layer.tracks), batch, layer.hidden)
    if state is not None:
        return tuple(np.asarray(part) for part in state)
    names = CELLS[layer.cell].states
    if layer.learned:
        return tuple(np.broadcast_to(parameters[f"{name}0"][:, None], shape) for name in names)
    return tuple(np.zeros(shape) for _ in names)


def forward(
    layer: Recurrent, parameters: Mapping[str, Array], x: Array, state: Any = None, lengths: Any = None
) -> Trace:
    """Run over x, (batch, time, features); a sample's steps from its length on change no state of it."""
    batch, steps = x.shape[:2]
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    valid = np.arange(steps) < ends[:, None]
    starts = start_states(layer, parameters, state, batch)
    cell, tracks, inputs, finals = CELLS[layer.cell], [], [x], []
    for number, (k, direction, suffix) in enumerate(layer.tracks):
        weights = {
            name.removesuffix(suffix): value for name, value in parameters.items() if name.endswith(suffix)
        }
        order = list(range(steps))[:: -1 if direction else 1]
        states, hidden, kept = tuple(part[number] for part in starts), {}, {}
        for t in order:
            new, kept[t] = cell.forward(weights, inputs[k][:, t], states, layer.given)
            here = valid[:, t, None]
            states = tuple(np.where(here, a, b) for a, b in zip(new, states, strict=True))
            hidden[t] = states[0]
        sequence = np.stack([hidden[t] for t in range(steps)], axis=1)
        tracks.append(Track(weights, order, sequence, states, kept))
        finals.append(states)
        if direction == layer.directions - 1:
            together = np.concatenate([track.hidden for track in tracks[-layer.directions :]], axis=2)
            inputs.append(together + inputs[k] if layer.adds_input(k) else together)
    every = np.where(valid[:, :, None], inputs[-1], 0.0)
    if layer.read == "last":
        last = every[np.arange(batch), ends - 1]
        if layer.bidirectional:
            last[:, layer.hidden :] = every[:, 0, layer.hidden :]
        every = last
    return Trace(every, tuple(np.stack(part) for part in zip(*finals, strict=True)), tracks, valid, inputs)


# --- backward -------------------------------------------------------------------------------------------


def zero_rows(batch: int, width: int) -> Scaled:
    return Scaled.of(np.zeros((batch, width)))


def masked(rows: Scaled, keep: Any) -> Scaled:
    return Scaled(np.where(keep[:, None], rows.m, 0.0), rows.e)


def columns(rows: Scaled, part: slice) -> Scaled:
    return Scaled.of(rows.m[:, part], rows.e)


def one_exponent(states: list[Scaled]) -> tuple[States, NDArray[np.int64]]:
    """Mantissas of several states, brought to one exponent a row."""
    zero = [np.all(part.m == 0, axis=1) for part in states]
    top = np.max([np.where(z, -(2**40), s.e) for s, z in zip(states, zero, strict=True)], axis=0)
    top = np.where(np.all(zero, axis=0), 0, top)
    shifts = [np.where(z, 0, np.maximum(s.e - top, -4000)) for s, z in zip(states, zero, strict=True)]
    return tuple(np.ldexp(s.m, shift[:, None]) for s, shift in zip(states, shifts, strict=True)), top


@dataclass
class Sum:
    """A sum of arrays with one exponent: mantissa * 2**exponent."""

    m: Array
    e: int = 0

    def add(self, mantissa: Array, exponent: int) -> None:
        if not np.any(self.m):
            self.e = exponent
        top = max(self.e, exponent) if np.any(mantissa) else self.e
        total = np.ldexp(self.m, max(self.e - top, -4000)) + np.ldexp(mantissa, max(exponent - top, -4000))
        shift = int(np.frexp(np.abs(total).max(initial=0.0))[1])
        self.m, self.e = np.ldexp(total, -shift), top + shift

    def log2_norm(self) -> float:
        size = float(np.sqrt(np.sum(self.m * self.m)))
        return -np.inf if size == 0 else float(np.log2(size)) + self.e


@dataclass
class Flow:
    """A backward pass: gradients as (mantissa, exponent), and by track and step what a probe reports."""

    trace: Trace
    parameters: dict[str, Sum]
    input: list[Scaled]  # by step
    starts: list[list[Scaled]]  # dL/d(state before the first step) by track: h, or h and c
    states: list[list[list[Scaled]]]  # [track][step]: dL/dh_t, or dL/dh_t and dL/dc_t, by every path
    pre: list[list[Scaled]]  # [track][step]: dL/d(pre-activations)
    steps: list[dict[str, list[float]]]  # [track][weight][step]: log2 norm of the contribution to dL/dW

    def state_norms(self, which: int) -> Array:
        return np.array([[step[which].log2_norm() for step in track] for track in self.states])

    @property
    def hidden(self) -> Array:
        """log2 |dL/dh_t|, (tracks, time)."""
        return self.state_norms(0)

    @property
    def cell(self) -> Array:
        return self.state_norms(1)

    @property
    def delta(self) -> Array:
        return np.array([[step.log2_norm() for step in track] for track in self.pre])

    @property
    def start(self) -> Array:
        """log2 norm of the gradient of all initial states of a track together."""
        return np.array([0.5 * np.logaddexp2.reduce([2 * s.log2_norm() for s in t]) for t in self.starts])

    def contribution(self, weight: str) -> Array:
        return np.array([track[weight] for track in self.steps])

    def plain(self, name: str) -> Array:
        return np.ldexp(self.parameters[name].m, int(np.clip(self.parameters[name].e, -4000, 4000)))

    def plain_input(self) -> Array:
        return np.stack([plain(rows) for rows in self.input], axis=1)

    def scaled_input(self) -> tuple[Array, Array]:
        return np.stack([r.m for r in self.input], axis=1), np.stack([r.e for r in self.input], axis=1)

    def scaled_start(self, which: int) -> tuple[Array, Array]:
        rows = [track[which] for track in self.starts]
        return np.stack([r.m for r in rows]), np.stack([r.e for r in rows])


def plain(rows: Scaled) -> Array:
    return np.asarray(np.ldexp(rows.m, np.clip(rows.e, -4000, 4000)[:, None]))


def backward(
    layer: Recurrent,
    parameters: Mapping[str, Array],
    trace: Trace,
    cotangent: tuple[Array, Array],
    *,
    truncate: int | None = None,
    given_state: bool = False,
) -> Flow:
    """Backward through `trace` from (mantissa, exponent a row) of dL/d(output), with the output's shape.

    A step that a sample does not have takes no gradient: rows of dL/dh_t are zero there.  With `truncate`
    the gradient does not pass between steps t and t+1 where t+1 is a multiple of it, in either direction.
    The initial state is before the first step a direction takes, so it is cut off by no multiple.
    """
    batch, steps = trace.valid.shape
    cell, hidden, count = CELLS[layer.cell], layer.hidden, len(CELLS[layer.cell].states)
    arriving = reading(layer, trace, cotangent)  # dL/d(output of the top layer), by step
    sums = {name: Sum(np.zeros(np.shape(value))) for name, value in parameters.items()}
    tracks = len(layer.tracks)
    flow = Flow(trace, sums, [], [[] for _ in range(tracks)], [[] for _ in range(tracks)], [], [])
    flow.pre, flow.steps = [[] for _ in range(tracks)], [{} for _ in range(tracks)]
    for k in reversed(range(layer.layers)):
        below = [
            arriving[t] if layer.adds_input(k) else zero_rows(batch, trace.inputs[k].shape[2])
            for t in range(steps)
        ]
        for number, (_, direction, suffix) in enumerate(layer.tracks):
            if layer.tracks[number][0] != k:
                continue
            track, mine = trace.tracks[number], slice(direction * hidden, (direction + 1) * hidden)
            carried = [zero_rows(batch, hidden) for _ in range(count)]
            found: dict[int, list[Scaled]] = {}
            pre: dict[int, Scaled] = {}
            norms = {name: [-np.inf] * steps for name in track.weights}
            for t in reversed(track.order):
                here = trace.valid[:, t]
                total = [carried[0] + columns(arriving[t], mine), *carried[1:]]
                mantissas, exponents = one_exponent([masked(part, here) for part in total])
                back = cell.backward(track.weights, track.kept[t], mantissas, layer.given)
                found[t] = [masked(total[0], here)]
                found[t] += [Scaled.of(back.cell, exponents)] if back.cell is not None else []
                pre[t] = Scaled.of(back.pre, exponents)
                below[t] = below[t] + Scaled.of(back.x, exponents)
                add_weights(sums, norms, suffix, t, mantissas, exponents, layer, track)
                boundary = t if direction == 0 else t + 1  # where the state came from lies across it
                cut = np.zeros(batch, bool)
                if truncate is not None and boundary % truncate == 0 and boundary > 0:
                    cut = boundary < trace.valid.sum(axis=1)
                carried = [
                    # a sample without this step only hands its gradient on
                    masked(Scaled.of(new, exponents), here & ~cut) + masked(old, ~here)
                    for new, old in zip(back.states, carried, strict=True)
                ]
            flow.starts[number] = carried
            flow.states[number] = [found[t] for t in range(steps)]
            flow.pre[number] = [pre[t] for t in range(steps)]
            flow.steps[number] = norms
        arriving = below
    flow.input = arriving
    if layer.learned and not given_state:
        for which, name in enumerate(cell.states):
            for number in range(tracks):
                mantissa, exponent = flow.starts[number][which].sum_rows(lambda m: m.sum(axis=0))
                whole = np.zeros((tracks, hidden))
                whole[number] = mantissa
                sums[f"{name}0"].add(whole, exponent)
    return flow


def add_weights(
    sums: dict[str, Sum],
    norms: dict[str, list[float]],
    suffix: str,
    t: int,
    mantissas: States,
    exponents: NDArray[np.int64],
    layer: Recurrent,
    track: Track,
) -> None:
    """Add step t's contribution to every weight of a track: rows aligned to the largest exponent."""
    used = np.any([np.any(part != 0, axis=1) for part in mantissas], axis=0)
    top = int(exponents[used].max()) if used.any() else 0
    shift = np.clip(exponents - top, -4000, 0)[:, None]
    aligned = tuple(np.ldexp(part, shift) for part in mantissas)
    back: Back = CELLS[layer.cell].backward(track.weights, track.kept[t], aligned, layer.given)
    for leaf, value in back.weights.items():
        own = Sum(np.zeros(value.shape))
        own.add(value, top)
        norms[leaf][t] = own.log2_norm()
        sums[leaf + suffix].add(value, top)


def reading(layer: Recurrent, trace: Trace, cotangent: tuple[Array, Array]) -> list[Scaled]:
    """dL/d(output of the top layer) by step, from the gradient of what is read."""
    (batch, steps), width = trace.valid.shape, layer.width
    m, e = np.asarray(cotangent[0], np.float64), np.asarray(cotangent[1], np.int64)
    e = np.broadcast_to(e, m.shape[:-1])
    if layer.read == "every":
        return [masked(Scaled.of(m[:, t], e[:, t]), trace.valid[:, t]) for t in range(steps)]
    found = []
    ends = trace.valid.sum(axis=1)
    for t in range(steps):
        keep = np.zeros((batch, width), bool)
        keep[ends - 1 == t, : layer.hidden] = True
        if layer.bidirectional and t == 0:
            keep[:, layer.hidden :] = True
        found.append(Scaled.of(np.where(keep, m, 0.0), e))
    return found


def recurrent_gradients(
    layer: Recurrent,
    parameters: Mapping[str, Array],
    x: Array,
    cotangent: Array | tuple[Array, Array],
    *,
    state: Any = None,
    lengths: Any = None,
    truncate: int | None = None,
) -> Flow:
    """Forward and backward of one recurrent layer alone."""
    trace = forward(layer, parameters, np.asarray(x, np.float64), state, lengths)
    pair = cotangent if isinstance(cotangent, tuple) else (cotangent, np.int64(0))
    return backward(layer, parameters, trace, pair, truncate=truncate, given_state=state is not None)


def jacobian_norms(layer: Recurrent, trace: Trace) -> Array:
    """log2 of sqrt(mean over the samples that have the step of |d state_t / d state_{t-1}|_F^2 / size of the
    state), by track, step; NaN where there is none."""
    found = np.full((len(layer.tracks), trace.valid.shape[1]), np.nan)
    for number, track in enumerate(trace.tracks):
        for t in np.flatnonzero(trace.valid.any(axis=0)):
            matrix = jacobians(layer.cell, track.weights, track.kept[t], layer.given)[trace.valid[:, t]]
            with np.errstate(divide="ignore"):  # a dead step passes nothing on
                found[number, t] = 0.5 * np.log2(np.mean(np.sum(matrix**2, axis=(1, 2))) / matrix.shape[1])
    return found


# --- a network: one recurrent layer and what reads it ---------------------------------------------------


def read_rows(layer: Recurrent, trace: Trace) -> Array:
    """What the layers above see as samples: one row a sample, or one a step that a sample has."""
    return trace.output if layer.read == "last" else trace.output[trace.valid]


def network_gradients(
    layer: Recurrent,
    parameters: Mapping[str, Array],
    head: list[tuple[Any, ...]],
    head_parameters: Mapping[str, Array],
    x: Array,
    *,
    target: Any = None,
    loss: Any = None,
    cotangent: Any = None,
    state: Any = None,
    lengths: Any = None,
    truncate: int | None = None,
) -> tuple[Flow, Gradients]:
    """The recurrent layer under feed-forward layers: the loss is the mean over all rows that are read."""
    trace = forward(layer, parameters, np.asarray(x, np.float64), state, lengths)
    rows = read_rows(layer, trace)
    if layer.read == "every":
        target, cotangent = (None if a is None else np.asarray(a)[trace.valid] for a in (target, cotangent))
    top = gradients(head, head_parameters, rows, cotangent=cotangent, target=target, loss=loss)
    m, e = top.input.m, top.input.e
    if layer.read == "every":
        wide, exponents = np.zeros(trace.output.shape), np.zeros(trace.valid.shape, np.int64)
        wide[trace.valid], exponents[trace.valid] = m, e
        m, e = wide, exponents
    flow = backward(layer, parameters, trace, (m, e), truncate=truncate, given_state=state is not None)
    return flow, top


def directional_derivative(
    layer: Recurrent,
    parameters: Mapping[str, Array],
    x: Array,
    directions: Mapping[str, Array],
    cotangent: Array,
    *,
    x_direction: Any = 0.0,
    state: Any = None,
    state_direction: Any = None,
    lengths: Any = None,
    h: float = 1e-60,
) -> float:
    """d sum(cotangent * output) along a direction by a complex step: one forward pass, no derivative's
    formula."""
    moved = {name: value + 1j * h * directions.get(name, 0.0) for name, value in parameters.items()}
    if state is not None and state_direction is not None:
        state = tuple(s + 1j * h * d for s, d in zip(state, state_direction, strict=True))
    trace = forward(layer, moved, x + 1j * h * x_direction, state, lengths)
    return float(np.sum(trace.output.imag * cotangent) / h)
