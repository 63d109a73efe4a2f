"""Tests of options of recurrent layers that contradict each other or make no sense, and of budgets that are
too small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import refused

BATCH, STEPS, IN, HIDDEN, OUT = 4, 7, 3, 5, 2
X, V = np.ones((BATCH, STEPS, IN), np.float32), np.ones((BATCH, OUT), np.float32)
R = vg.Recurrent


def network(cell: str = "lstm", **more: Any) -> vg.Network:
    return vg.rnn(cell, HIDDEN, in_features=IN, out_features=OUT, rng=0, **more)


OPTIONS: list[tuple[Callable[[], Any], list[str]]] = [
    (lambda: R("lstm", 0), ["hidden_size", "at least 1", "got 0"]),
    (lambda: R("lstm", 4.0), ["hidden_size", "4.0 (float)", "hidden_size=4"]),  # type: ignore[arg-type]
    (lambda: R("lstm", 4, num_layers=0), ["num_layers", "at least 1"]),
    (lambda: R("lstm", 4, read="all"), ["read", "'last', 'every'", "'all'"]),
    (lambda: R("lstm", 4, state="random"), ["state", "'zeros', 'learned'"]),
    (lambda: R("lstm", 4, bidirectional=1), ["bidirectional", "True or False"]),  # type: ignore[arg-type]
    (lambda: R(vg.cells.lstm, 4), ["cell", "call the cell first"]),  # type: ignore[arg-type]
    (lambda: R(3, 4), ["cell", '"lstm"', "3 (int)"]),  # type: ignore[arg-type]
    (
        lambda: R("gru", 4, residual=True, bidirectional=True),
        ["residual", "bidirectional=True", "one of the two"],
    ),
    (lambda: R("lru", 5), ["hidden_size", "even number", "'lru'", "got 5", "4 or 6"]),
    (lambda: R("lru", 1), ["got 1", "use 2"]),
    (lambda: R("gru", 4, name="a.b"), ["name", "'.'"]),
    (lambda: R("gru", 4, gate_bias=1.0), ["gate_bias", "vg.cells.forget_bias(1)"]),  # type: ignore[arg-type]
    (lambda: R("gru", 4, gate_bias="chrono"), ["gate_bias", "vg.cells.chrono(T)"]),  # type: ignore[arg-type]
    (
        lambda: R("rnn", 4, gate_bias=vg.cells.forget_bias()),
        ["a cell with gates (", "lstm", "'rnn'", "has none"],
    ),
    (lambda: R("lru", 4, gate_bias=vg.cells.chrono(9)), ["'lru'", "has none"]),
    (lambda: R("lstm", 4, bias=False, gate_bias=vg.cells.chrono(9)), ["chrono(9)", "bias=False"]),
    (lambda: R("lstm", 4, bias=False, bias_init="zeros"), ["bias_init", "bias=False"]),
    (
        lambda: R("min_gru", 4, recurrent_init="orthogonal"),
        ["recurrent_init", "no weight_hh", "weight_ih, bias_ih"],
    ),
    (lambda: R("lru", 4, bias_init="zeros"), ["bias_init", "no bias_ih"]),
    (lambda: R("gru", 4, num_layers=2, init=np.ones((12, 3))), ["init", "num_layers=2", "load_parameters"]),
    (lambda: R("gru", 4, bidirectional=True, recurrent_init=np.ones((12, 4))), ["bidirectional=True"]),
    (lambda: vg.cells.chrono(2), ["chrono", "at least 3", "got 2", "length of the sequences"]),
    (lambda: vg.cells.chrono(-1), ["at least 3", "got -1"]),
    (lambda: vg.cells.chrono(10.0), ["chrono", "integer", "10.0 (float)"]),  # type: ignore[arg-type]
    (lambda: vg.cells.chrono(10**9), ["chrono", "at most"]),
    (lambda: vg.cells.forget_bias(float("inf")), ["forget_bias", "finite"]),
    (lambda: vg.cells.lstm(peephole=2), ["'lstm'", "peephole", "True or False", "2 (int)"]),
    (
        lambda: vg.cells.lstm(peepholes=True),
        ["'lstm'", "no parameter 'peepholes'", "did you mean 'peephole'"],
    ),
    (lambda: vg.cells.gru(peephole=True), ["'gru'", "no parameter 'peephole'", "it has none"]),
    (lambda: vg.cells.rnn(activation=3), ["'rnn'", "activation", "text"]),
    (lambda: vg.cells.lru(r_min=0.9, r_max=0.5), ["lru"]),
    (lambda: vg.cells.antisymmetric_rnn(epsilon=-1.0), ["antisymmetric_rnn"]),
    (lambda: network("rnn", activation="relu", peephole=True), ["peephole", "'rnn'", "lstm alone"]),
    (lambda: network("lstm", activation="relu"), ["activation", "'lstm'", "a choice of rnn"]),
    (
        lambda: vg.rnn(vg.cells.rnn(activation="relu"), 4, in_features=3, activation="tanh"),
        ["already says it"],
    ),
    (lambda: network("lstm", forget_bias=1.0, chrono=10), ["forget_bias and chrono", "one of them"]),
    (lambda: network("lstm", chrono=1), ["chrono", "at least 3", "got 1"]),
    (lambda: vg.rnn("lstm", 4, in_features=0), ["in_features", "got 0"]),
    (lambda: vg.rnn("lstm", 4, in_features=2, out_features=0), ["out_features", "got 0"]),
    (
        lambda: vg.Network(4, [vg.Repeat(R("gru", 4), 3)]),
        ["layers[0].body[0]", "inside a Repeat", "num_layers="],
    ),
    (
        lambda: vg.Network(4, [vg.Residual(R("gru", 4))]),
        ["layers[0].body[0]", "inside a Residual", "residual=True"],
    ),
    (lambda: vg.Network(4, [R("gru", 4)], stored=False), ["stored", "Recurrent", "stored=False is for deep"]),
    (lambda: network().probe(X, cotangent=V, truncate=0), ["truncate", "at least 1", "got 0"]),
    (lambda: network().probe(X, cotangent=V, truncate=2.0), ["truncate", "integer"]),  # type: ignore[arg-type]
    (lambda: network().truncation_loss(X, cotangent=V, truncate=None), ["truncate"]),  # type: ignore[arg-type]
    (lambda: network().memory_plan(2), ["steps", "length of the sequences"]),
    (lambda: network().memory_plan(2, 0), ["steps", "at least 1"]),
    (lambda: network().memory_plan(2, 9, mode="train"), ["mode", "'probe'"]),
    (lambda: vg.mlp(3, 4).memory_plan(2, 9), ["steps", "along depth"]),
]


@pytest.mark.parametrize(("call", "words"), OPTIONS, ids=range(len(OPTIONS)))
def test_bad_options(call: Callable[[], Any], words: list[str]) -> None:
    with refused(vg.ArgumentError, *words):
        call()


def test_a_recurrent_layer_needs_a_sequence() -> None:
    with refused(vg.ShapeError, "layers[1]", "gru()", 'read="last"', 'read="every"'):
        vg.Network(3, [vg.Recurrent("lstm", 4), vg.Recurrent("gru", 4)])


@pytest.mark.parametrize("key", ["init", "recurrent_init", "bias_init"])
def test_initial_arrays_of_the_wrong_shape(key: str) -> None:
    with refused(vg.ShapeError, f"layers[0].{key}", "got (2, 2)"):
        vg.Network(3, [vg.Recurrent("lstm", 4, **{key: np.ones((2, 2), "f4")})])


@pytest.mark.parametrize(
    "given", [{"lengths": [1]}, {"mask": [[True]]}, {"state": np.ones((1, 1, 4))}, {"truncate": 3}]
)
def test_networks_along_depth_have_no_sequences(given: dict[str, Any]) -> None:
    net, x = vg.mlp(3, 4, rng=0), np.ones((1, 4), np.float32)
    with refused(vg.ArgumentError, f"{next(iter(given))}: expected None", "Recurrent", "vg.rnn"):
        net.gradients(x, cotangent=x, **given)
    with refused(vg.ArgumentError, "return_state", "one Recurrent layer", "none"):
        net.forward(x, return_state=True)


# --- memory ------------------------------------------------------------------------------------------------


def test_a_budget_too_small_for_one_step_says_the_least_that_works() -> None:
    with refused(vg.MemoryBudgetError, "memory_budget"):
        network().probe(X, cotangent=V, memory_budget=100)
    with refused(vg.MemoryBudgetError, "memory_budget"):
        network().memory_plan(BATCH, STEPS, 100)


def test_figures_that_would_not_fit_are_refused_before_the_pass() -> None:
    net = vg.rnn("lstm", 2, in_features=1, num_layers=3, rng=0)
    x = np.zeros((1, 100_000, 1), np.float32)
    with refused(vg.MemoryBudgetError, "100,000 steps"):
        net.probe(x, cotangent=np.ones((1, 2), "f4"), memory_budget="2MB")
