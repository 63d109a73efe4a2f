"""Test layer: what tests of recurrent networks share: random layers, for vgcore and for the oracle, and
comparisons; no test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vgcore as vg
from helpers import double
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle_cells import CELLS
from oracle_time import Flow, Recurrent, Sum, random_parameters

Array = NDArray[Any]

#: What a forward pass reports of how it went about it, not of what it found.
MANNER = ("plan", "segment", "recompute")


def vg_layer(layer: Recurrent, name: str = "rnn") -> vg.Recurrent:
    """The oracle's layer as vgcore's."""
    cell = getattr(vg.cells, layer.cell)(**layer.options) if layer.options else layer.cell
    return vg.Recurrent(
        cell,
        layer.hidden,
        num_layers=layer.layers,
        bidirectional=layer.bidirectional,
        residual=layer.residual,
        bias=layer.bias,
        read=layer.read,
        state="learned" if layer.learned else "zeros",
        name=name,
    )


def vg_network(
    layer: Recurrent, inputs: int, parameters: dict[str, Array], dtype: str = "float64", head: Any = ()
) -> vg.Network:
    """The layer with these parameters, under `head`, whose parameters are drawn."""
    net = vg.Network(inputs, [vg_layer(layer), *head], dtype=dtype, rng=0)
    given = {f"rnn.{name}": value.astype(dtype) for name, value in parameters.items()}
    net.load_parameters(net.parameters() | given)
    return net


def as_state(layer: Recurrent, state: Any) -> Any:
    """The oracle's tuple of states as the dict that vgcore takes."""
    return None if state is None else dict(zip(CELLS[layer.cell].states, state, strict=True))


@dataclass(frozen=True)
class Problem:
    """A random recurrent layer and all that a pass takes, everything in the network's float type."""

    layer: Recurrent
    parameters: dict[str, Array]
    x: Array
    state: tuple[Array, ...] | None
    lengths: Array | None
    cotangent: Array
    truncate: int | None
    dtype: str

    @property
    def inputs(self) -> int:
        return self.x.shape[2]

    @property
    def valid(self) -> Array:
        ends = np.full(len(self.x), self.x.shape[1]) if self.lengths is None else self.lengths
        return np.arange(self.x.shape[1]) < ends[:, None]

    def network(self, **more: Any) -> vg.Network:
        return vg_network(self.layer, self.inputs, self.parameters, self.dtype, **more)

    @property
    def given(self) -> dict[str, Any]:
        """Keyword arguments of vgcore's forward pass."""
        return {"state": as_state(self.layer, self.state), "lengths": self.lengths}

    @property
    def backward(self) -> dict[str, Any]:
        """Keyword arguments of vgcore's backward passes."""
        return self.given | {"cotangent": self.cotangent, "truncate": self.truncate}

    @property
    def oracle(self) -> dict[str, Any]:
        """Keyword arguments of the oracle's backward pass."""
        state = None if self.state is None else tuple(double(part) for part in self.state)
        return {"state": state, "lengths": self.lengths, "truncate": self.truncate}

    @property
    def used(self) -> list[str]:
        """Parameters that have a gradient: not a learned start where a state is given."""
        starts = ("h0", "c0") if self.state is not None else ()
        return [name for name in self.parameters if name not in starts]

    @property
    def weights(self) -> dict[str, Array]:
        return {name: double(value) for name, value in self.parameters.items()}


SMOOTH = ("tanh", "sigmoid", "gelu", "softplus", "silu", "erf", "arctan", "mish")


@st.composite
def layers(draw: st.DrawFn, cell: str | None = None, **fixed: Any) -> Recurrent:
    """Recurrent layers of every cell and option."""
    name = draw(st.sampled_from(sorted(CELLS))) if cell is None else cell
    options: dict[str, Any] = {}
    if name == "lstm" and draw(st.booleans()):
        options = {"peephole": True}
    elif name == "rnn":
        options = {"activation": draw(st.sampled_from(SMOOTH))}
    elif name == "antisymmetric_rnn" and draw(st.booleans()):
        options = {"epsilon": draw(st.sampled_from([0.05, 0.5])), "gamma": draw(st.sampled_from([0.0, 0.3]))}
    hidden = 2 * draw(st.integers(1, 3)) if name == "lru" else draw(st.integers(1, 6))
    bidirectional = draw(st.booleans())
    drawn = {
        "layers": draw(st.integers(1, 3)),
        "bidirectional": bidirectional,
        "residual": not bidirectional and draw(st.booleans()),
        "bias": draw(st.booleans()),
        "read": draw(st.sampled_from(["last", "every"])),
        "learned": draw(st.booleans()),
    }
    return Recurrent(name, hidden, options, **{**drawn, **fixed})


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    cell: str | None = None,
    dtype: str | None = None,
    max_steps: int = 7,
    max_batch: int = 4,
    lengths: bool | None = None,
    state: bool | None = None,
    truncate: bool = False,
    **fixed: Any,
) -> Problem:
    """Layers with parameters, inputs, states, lengths and cotangents; None leaves a choice to chance."""
    layer = draw(layers(cell, **fixed))
    kind = draw(st.sampled_from(["float32", "float64"])) if dtype is None else dtype
    batch, steps, inputs = (draw(st.integers(1, top)) for top in (max_batch, max_steps, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.3, 0.7, 1.2])) / np.sqrt(max(layer.hidden, inputs) / 2)
    parameters = random_parameters(layer, inputs, rng, scale)
    with_state = draw(st.booleans()) if state is None else state
    ends = rng.integers(1, steps + 1, batch) if lengths or (lengths is None and draw(st.booleans())) else None
    shape = (batch, layer.width) if layer.read == "last" else (batch, steps, layer.width)
    given = [rng.normal(size=(len(layer.tracks), batch, layer.hidden)) for _ in CELLS[layer.cell].states]
    return Problem(
        layer,
        {name: value.astype(kind) for name, value in parameters.items()},
        rng.normal(size=(batch, steps, inputs)).astype(kind),
        tuple(part.astype(kind) for part in given) if with_state else None,
        ends,
        rng.normal(size=shape).astype(kind),
        draw(st.integers(1, steps + 1)) if truncate else None,
        kind,
    )


# --- what came back -------------------------------------------------------------------------------------


def scaled(total: Sum) -> tuple[Array, Array]:
    """An oracle's sum as (mantissa, exponent)."""
    return total.m, np.asarray(total.e)


def found_gradients(found: vg.Gradients, problem: Problem) -> dict[str, tuple[Array, Array]]:
    """Every gradient that vgcore returned, by the oracle's names."""
    gradients = {name: found.scaled(f"rnn.{name}") for name in problem.used}
    gradients["x"] = found.scaled_input
    if problem.state is not None:
        for letter in CELLS[problem.layer.cell].states:
            gradients[f"state.{letter}"] = found.scaled(f"state.{letter}")
    return gradients


def expected_gradients(run: Flow, problem: Problem) -> dict[str, tuple[Array, Array]]:
    """The same of the oracle's."""
    gradients = {name: scaled(run.parameters[name]) for name in problem.used}
    gradients["x"] = run.scaled_input()
    if problem.state is not None:
        for which, letter in enumerate(CELLS[problem.layer.cell].states):
            gradients[f"state.{letter}"] = run.scaled_start(which)
    return gradients


def gradients(net: vg.Network, problem: Problem, **changed: Any) -> vg.Gradients:
    """vgcore's gradients of a problem, with some arguments changed."""
    given_arguments = {"x": problem.x, **problem.backward, **changed}
    return net.gradients(given_arguments.pop("x"), **given_arguments)


def by_step(found: vg.Gradients) -> tuple[Any, Any]:
    """dL/dx as (mantissa, exponent of every sample and step)."""
    m, e = (np.asarray(part) for part in found.scaled_input)
    return m, np.broadcast_to(e.reshape(e.shape + (1,) * (2 - e.ndim)), m.shape[:2])


def time_arrays(flow: Any, number: int = 0) -> dict[str, Array]:
    """What a probe reports of one recurrent layer, arrays only."""
    block = flow.raw["time"][number]
    return {key: np.asarray(value) for key, value in block.items() if np.ndim(value) > 0 and key != "gates"}


def bits(net: vg.Network, problem: Problem, **manner: Any) -> dict[str, bytes]:
    """Everything that a forward pass, the gradients and a probe return, as bytes."""
    y, last = net.forward(problem.x, **problem.given, return_state=True)
    arrays: dict[str, Any] = {"output": y} | {f"last {letter}": part for letter, part in last.items()}
    found = net.gradients(problem.x, **problem.backward, **manner)
    for name in found:
        arrays[f"m {name}"], arrays[f"e {name}"] = found.scaled(name)
    arrays["m input"], arrays["e input"] = found.scaled_input
    flow = net.probe(problem.x, **problem.backward, **manner)
    arrays |= {f"time {key}": value for key, value in time_arrays(flow).items()}
    for key, value in flow.raw.items():
        if key not in MANNER and isinstance(value, np.ndarray) and value.dtype != object:
            arrays[f"flow {key}"] = value
    return {key: np.ascontiguousarray(value).tobytes() for key, value in arrays.items()}


def assert_same_bits(a: dict[str, bytes], b: dict[str, bytes], what: str) -> None:
    assert a.keys() == b.keys(), what
    different = [key for key in a if a[key] != b[key]]
    assert not different, f"{what}: not the same bits in {different}"
