"""Layer: model description. Recurrent layers: one cell over the steps of a sequence, stacked, in one or both
directions.

Knows layers and cells, not the compiled network. Equations, gate order and the layout of the weights are
PyTorch's, so that weights move both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ._checks import as_choice, as_flag, as_size
from .cells import Cell, GateBias, as_cell, as_gate_bias
from .errors import ArgumentError, ShapeError
from .initializers import FromArray, as_initializer
from .layers import Context, InitLike, Layer, check_name, init_spec

__all__ = ["Recurrent"]

_READS = ("last", "every")
_STATES = ("zeros", "learned")


@dataclass(frozen=True)
class Recurrent(Layer):
    """A cell run over a sequence: ``h_t = cell(x_t, h_{t-1})``, from (batch, time, in) to (batch, out).

    `out` is `hidden_size`, twice that in both directions. Parameters have PyTorch's names, layouts and gate
    order: ``weight_ih_l0`` (G * hidden_size, in), ``weight_hh_l0`` (G * hidden_size, hidden_size),
    ``bias_ih_l0`` and ``bias_hh_l0`` (G * hidden_size,), for G gates; ``_l1``, ... for the layers above,
    ``_reverse`` at the end for the second direction. So the parameters of a layer with ``name="rnn"``,
    without that part, are a state_dict:
    ``torch_layer.load_state_dict({k.removeprefix("rnn."): torch.tensor(v) for k, v in ...})``, and back
    ``net.load_parameters({"rnn." + k: v.numpy() for k, v in torch_layer.state_dict().items()})``.
    Beyond PyTorch there are ``peephole_l0`` (3 * hidden_size,), ``lru_l0`` (3 * hidden_size / 2,), and the
    learned start ``h0`` and ``c0`` (num_layers * directions, hidden_size).

    Args:
        cell: a name from ``vg.cells.names()``, or a cell with parameters: ``vg.cells.lstm(peephole=True)``.
        hidden_size: width H of the state h.
        num_layers: layers one above the other; the first reads x, the others the layer below.
        read: "last": the output is h after a sample's last step, (batch, out); backward direction: after its
            first step. "every": h at every step, (batch, time, out), zero behind a sample's end.
        bidirectional: also run from the last step to the first, with weights of its own, side by side.
        residual: add a layer's input to its output, from the second layer on.
        bias: whether there are biases.
        state: how h (and c) start where a call brings no state: "zeros", or "learned", as parameters.
        init: how ``weight_ih`` starts: a name, an object from ``vg.initializers``, or an array, the latter
            for one layer in one direction. None takes the cell's own rule, which is PyTorch's
            U(+-1/sqrt(hidden_size)) for rnn, lstm and gru.
        recurrent_init: how ``weight_hh`` starts, in the same forms.
        bias_init: how both biases start, in the same forms.
        gate_bias: ``vg.cells.forget_bias(1.0)``, ``vg.cells.chrono(T)`` or ``vg.cells.uniform_gates()``: how
            the biases of the gates start, after `bias_init`.
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: sizes that are not positive, contradictory arguments (`residual` in both directions,
            `gate_bias` without gates), an odd `hidden_size` for lru, whose units are complex numbers.
        UnknownNameError: no such cell or initializer.

    Source: PyTorch's RNN, LSTM and GRU; the papers of the cells are in ``vg.cells.describe(name)``.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.Network(3, [vg.Recurrent("gru", 8, num_layers=2, name="rnn"), vg.Dense(2)], rng=0)
        >>> net.parameter_shapes()["rnn.weight_ih_l1"]
        (24, 8)
        >>> net.forward(np.zeros((5, 100, 3), np.float32)).shape
        (5, 2)
    """

    kind: ClassVar[str] = "recurrent"
    cell: str | Cell
    hidden_size: int
    num_layers: int = field(default=1, kw_only=True)
    read: str = field(default="last", kw_only=True)
    bidirectional: bool = field(default=False, kw_only=True)
    residual: bool = field(default=False, kw_only=True)
    bias: bool = field(default=True, kw_only=True)
    state: str = field(default="zeros", kw_only=True)
    init: InitLike | None = field(default=None, kw_only=True)
    recurrent_init: InitLike | None = field(default=None, kw_only=True)
    bias_init: InitLike | None = field(default=None, kw_only=True)
    gate_bias: GateBias | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every argument; resolve the cell and the initializers."""
        put = object.__setattr__  # frozen: this is the one moment at which fields are set
        put(self, "cell", as_cell(self.cell))
        put(self, "hidden_size", as_size(self.hidden_size, "hidden_size"))
        put(self, "num_layers", as_size(self.num_layers, "num_layers"))
        put(self, "read", as_choice(self.read, "read", _READS))
        for flag in ("bidirectional", "residual", "bias"):
            put(self, flag, as_flag(getattr(self, flag), flag))
        put(self, "state", as_choice(self.state, "state", _STATES))
        for start in ("init", "recurrent_init", "bias_init"):
            put(self, start, self._start(start))
        put(self, "gate_bias", as_gate_bias(self.gate_bias, self.unit, self.bias))
        check_name(self.name)
        if self.residual and self.bidirectional:
            raise ArgumentError(
                "residual: expected one direction, got residual=True with bidirectional=True: the output is "
                "twice as wide as the state, so a layer's input cannot be added to it; choose one of the two"
            )
        self.unit.leaf_shapes(1, self.hidden_size)  # refuses widths that the cell cannot have

    def _start(self, name: str) -> Any:
        value = getattr(self, name)
        if value is None:
            return None
        init = as_initializer(value, name)
        leaf = _LEAF_OF[name]
        if leaf == "bias_ih" and not self.bias:
            raise ArgumentError(f"bias_init: {init!r} is about biases, but bias=False; leave one of them out")
        if leaf not in self.unit.leaves:
            raise ArgumentError(
                f"{name}: expected None for cell {self.unit.name!r}, which has no {leaf}, got {init!r}; "
                f"its parameters are {', '.join(self.unit.leaves)}"
            )
        if isinstance(init, FromArray) and (self.num_layers > 1 or self.bidirectional):
            raise ArgumentError(
                f"{name}: an array is the start of one layer in one direction, but num_layers="
                f"{self.num_layers} and bidirectional={self.bidirectional}; build the network, then set "
                f"each parameter with net.load_parameters"
            )
        return init

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def unit(self) -> Cell:
        """The cell as an object, whichever way it was given."""
        return as_cell(self.cell)

    @property
    def directions(self) -> int:
        """1, or 2 when bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def state_rows(self) -> int:
        """Leading length of a state: layers times directions, layer-major."""
        return self.num_layers * self.directions

    def out_features(self, in_features: int) -> int:
        """Return the width of h, of both directions together."""
        return self.hidden_size * self.directions

    def functions(self) -> tuple[str, ...]:
        """Return the activations of the cell."""
        return tuple(self.unit.functions)

    def own_parameters(self, in_features: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every leaf of every layer and direction, and of a learned start."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            width = in_features if layer == 0 else self.out_features(in_features)
            leaves = self.unit.leaf_shapes(width, self.hidden_size, self.bias)
            for suffix in ("", "_reverse")[: self.directions]:
                shapes |= {f"{leaf}_l{layer}{suffix}": shape for leaf, shape in leaves.items()}
        if self.state == "learned":
            shapes |= {f"{part}0": (self.state_rows, self.hidden_size) for part in self.unit.states}
        return shapes

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        if context.inside:
            raise ArgumentError(
                f"{context.where}: expected a Recurrent at the top level of the network, got one inside a "
                f"{context.inside}; layers one above the other are Recurrent(..., num_layers=n), with "
                f"residual=True for shortcuts"
            )
        shapes = self.unit.leaf_shapes(context.in_features, self.hidden_size)
        starts: dict[str, Any] = {}
        for key, leaf in _LEAF_OF.items():
            start, where = getattr(self, key), f"{context.where}.{key}"
            if start is not None:
                start = init_spec(as_initializer(start), where, shapes[leaf], context)
            starts[key] = start
        return {
            "kind": self.kind,
            **self.unit.to_spec(),
            "hidden": self.hidden_size,
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "residual": self.residual,
            "bias": self.bias,
            "read": self.read,
            "state": self.state,
            **starts,
            "gate_bias": None if self.gate_bias is None else self.gate_bias.to_spec(),
        }


#: The kind of parameter that an argument gives the start of.
_LEAF_OF: Mapping[str, str] = {"init": "weight_ih", "recurrent_init": "weight_hh", "bias_init": "bias_ih"}


def recurrent_layers(layers: Sequence[Layer]) -> tuple[Recurrent, ...]:
    """Return the recurrent layers at the top level, nearest the input first.

    Raises:
        ShapeError: a Recurrent behind one that reads the last step alone: there is no sequence left for it.

    Example:
        >>> recurrent_layers([Recurrent("gru", 4, read="every"), Recurrent("lstm", 8)])[1].hidden_size
        8
    """
    found: list[Recurrent] = []
    for index, layer in enumerate(layers):
        if not isinstance(layer, Recurrent):
            continue
        if found and found[-1].read == "last":
            raise ShapeError(
                f"layers[{index}]: expected a sequence, (batch, time, features), for {layer.unit!r}, got one "
                f'vector a sample, because a Recurrent before it has read="last"; give that one read="every"'
            )
        found.append(layer)
    return tuple(found)
