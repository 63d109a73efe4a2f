"""Layer: cures, recurrent networks. Other cells, how their gates start, and truncation.

Knows recurrent layers as values. Each entry is one line of the catalogue in `mitigations`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from . import cells
from ._layer_values import changed
from ._mitigation_base import DoesNotApply, Draft, Entry, Order, Setting
from ._mitigation_rewrite import edit_layers, nothing_to_change
from .cells import Cell, GateBias
from .initializers import Initializer
from .layers import Layer
from .recurrent import Recurrent

__all__ = ["ENTRIES"]


def _recurrent(draft: Draft, edit: Callable[[Recurrent], Recurrent], without: str = "") -> Draft:
    """Return the draft with `edit` done to every recurrent layer; `without`: why it may do nothing."""
    seen = found = 0
    fresh: set[str] = set()

    def each(layer: Layer, path: str, width: int) -> Layer:
        nonlocal seen, found
        if not isinstance(layer, Recurrent):
            return layer
        seen += 1
        cured = edit(layer)
        if cured == layer and not without.startswith("="):
            return layer
        found += 1
        if cured.gate_bias is not None:
            leaves = (leaf for leaf in cured.own_parameters(width) if leaf.startswith("bias"))
            fresh.update(f"{path}.{leaf}" if path else leaf for leaf in leaves)
        return cured

    result = edit_layers(draft, each)
    if not seen:
        raise nothing_to_change("it has no recurrent layer")
    if not found:
        raise nothing_to_change(without.lstrip("="))
    return replace(result, fresh=result.fresh | fresh)


def _cell(name: str) -> Callable[..., Draft]:
    def apply(draft: Draft) -> Draft:
        def edit(layer: Recurrent) -> Recurrent:
            if layer.unit.name == name:
                return layer
            gates = layer.gate_bias if cells.is_gated(Cell(name)) else None
            cured: Recurrent = changed(layer, cell=Cell(name), gate_bias=gates)
            return cured

        return _recurrent(draft, edit, f"its cell is {name} already")

    return apply


def _irnn(draft: Draft) -> Draft:
    start = Initializer("identity")

    def edit(layer: Recurrent) -> Recurrent:
        if layer.unit.name == "irnn":
            return layer
        cured: Recurrent = changed(
            layer, cell=Cell("irnn"), recurrent_init=start, bias_init=None, gate_bias=None
        )
        return cured

    return _recurrent(draft, edit, "its cell is irnn already")


def _orthogonal_rnn(draft: Draft) -> Draft:
    def edit(layer: Recurrent) -> Recurrent:
        if layer.unit.name == "orthogonal_rnn":
            return layer
        # A start that was given for the other cell would undo what this one is about.
        cured: Recurrent = changed(
            layer, cell=Cell("orthogonal_rnn"), recurrent_init=None, bias_init=None, gate_bias=None
        )
        return cured

    return _recurrent(draft, edit, "its cell is orthogonal_rnn already")


def _gates(draft: Draft, bias: GateBias) -> Draft:
    def edit(layer: Recurrent) -> Recurrent:
        if not cells.is_gated(layer.unit):
            raise nothing_to_change(
                f"the cell {layer.unit.name!r} has no gates; put a gated one in first: lstm, gru"
            )
        if not layer.bias:
            raise nothing_to_change("its recurrent layer has no biases")
        cured: Recurrent = changed(layer, gate_bias=bias)
        return cured

    # "=": also where it starts so already: biases that were loaded or trained start anew.
    return _recurrent(draft, edit, "=")


def _forget_bias(draft: Draft, value: float) -> Draft:
    return _gates(draft, cells.forget_bias(value))


def _chrono(draft: Draft, T: int | None) -> Draft:
    if T is None and any(isinstance(layer, Recurrent) for layer in draft.layers):
        if draft.x is None:
            raise DoesNotApply(
                "needs the longest lag in steps: chrono(T), or the data, net.mitigate(..., x=x), "
                "whose length it then takes"
            )
        T = int(draft.x.shape[1])
    lag = max(T or 0, 3)
    return _gates(draft, cells.chrono(lag))


def _uniform_gates(draft: Draft) -> Draft:
    return _gates(draft, cells.uniform_gates())


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "lstm",
        "cell",
        "c_t = f c_(t-1) + i g",
        "A memory that a gate keeps, instead of a product of matrices.",
        "the recurrent layer's cell; its weights are drawn anew",
        "Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000",
        _cell("lstm"),
        Order.CELL,
        needs="a recurrent layer",
    ),
    Entry(
        "gru",
        "cell",
        "h_t = (1 - z) n + z h_(t-1)",
        "A gated state with fewer parameters than an lstm.",
        "the recurrent layer's cell; its weights are drawn anew",
        "Cho et al. 2014, arXiv:1406.1078",
        _cell("gru"),
        Order.CELL,
        needs="a recurrent layer",
    ),
    Entry(
        "irnn",
        "cell",
        "h_t = relu(W x_t + h_(t-1)) at the start",
        "A relu network that starts by remembering: recurrent weights at the identity, biases at 0.",
        "the recurrent layer's cell and how its recurrent weights start",
        "Le, Jaitly & Hinton 2015, arXiv:1504.00941",
        _irnn,
        Order.CELL,
        needs="a recurrent layer",
        conflicts={
            "start": "its recurrent weights start at the identity",
            "activation": "its activation is relu",
        },
        refits=True,
    ),
    Entry(
        "orthogonal_rnn",
        "cell",
        "h_t = phi(W x_t + Q h_(t-1)), Q^T Q = I",
        "A plain cell whose recurrent weights start as a rotation: only the slopes shrink the gradient.",
        "the recurrent layer's cell and how its recurrent weights start",
        "Saxe, McClelland & Ganguli 2014, arXiv:1312.6120; Henaff, Szlam & LeCun 2016, arXiv:1602.06662",
        _orthogonal_rnn,
        Order.CELL,
        needs="a recurrent layer",
        conflicts={"start": "its recurrent weights start as a rotation"},
        refits=True,
    ),
    Entry(
        "forget_bias",
        "gate",
        "f = sigmoid(b + ...)",
        "Gates that start open, so that the state lives longer: b = 1 keeps 73 % a step, 3 keeps 95 %.",
        "the bias of the gate that keeps the state",
        "Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015",
        _forget_bias,
        Order.GATE,
        (Setting("value", 1.0, "b, before the sigmoid"),),
        needs="a gated cell",
        tried_as=lambda draft: ({"value": 1.0}, {"value": 3.0}),
    ),
    Entry(
        "chrono",
        "gate",
        "b_f = ln U(1, T - 1), b_i = -b_f",
        "Units that remember for all lengths up to T steps.",
        "the biases of the gates that keep and write the state",
        "Tallec & Ollivier 2018, arXiv:1804.11188",
        _chrono,
        Order.GATE,
        (Setting("T", None, "longest lag in steps; None: the length of the data given as x", kind="size"),),
        needs="a gated cell",
        needs_data="T",
    ),
    Entry(
        "uniform_gates",
        "gate",
        "b_f = logit U(1/H, 1 - 1/H), b_i = -b_f",
        "Gates spread over all time scales, whatever the lags.",
        "the biases of the gates that keep and write the state",
        "Gu et al. 2020, arXiv:1910.09890",
        _uniform_gates,
        Order.GATE,
        needs="a gated cell",
    ),
)
