"""Tests of the catalogue of cells, the helpers for gates, and Recurrent layers as values: defaults, names and
shapes of parameters, equality, files, summaries."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import vgcore as vg
from refusals import refused
from vgcore.layers import walk

NAMES = [
    "rnn",
    "lstm",
    "gru",
    "irnn",
    "orthogonal_rnn",
    "antisymmetric_rnn",
    "min_gru",
    "min_lstm",
    "lru",
]
GATES = {
    "lstm": ("i", "f", "g", "o"),
    "gru": ("r", "z", "n"),
    "min_gru": ("z", "n"),
    "min_lstm": ("f", "i", "n"),
    "lru": ("re", "im"),
}
FULL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
LEAVES = {
    "min_gru": ("weight_ih", "bias_ih"),
    "min_lstm": ("weight_ih", "bias_ih"),
    "lru": ("weight_ih", "lru"),
}


def test_every_cell_is_there() -> None:
    assert set(NAMES) <= set(vg.cells.names())


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_say_everything(name: str) -> None:
    entry = vg.cells.describe(name)
    assert entry.kind == "cell"
    assert entry.name == name
    assert entry.formula
    assert entry.summary
    assert entry.reference
    assert all(p.doc for p in entry.params)
    text = str(entry)
    assert entry.formula in text
    assert "gates" in text or len(vg.cells.Cell(name).gates) == 1


@pytest.mark.parametrize("name", NAMES)
def test_gates_states_and_leaves(name: str) -> None:
    cell = vg.cells.Cell(name)
    assert cell.gates == GATES.get(name, cell.gates)
    assert len(cell.gates) == len(GATES.get(name, "1"))
    assert cell.states == (("h", "c") if name == "lstm" else ("h",))
    assert set(cell.leaves) == set(LEAVES.get(name, FULL))


def test_makers_know_their_entry() -> None:
    assert vg.cells.lstm(peephole=True) == vg.cells.Cell("lstm", {"peephole": True})
    assert vg.cells.lstm(peephole=True) != vg.cells.lstm()
    assert vg.cells.lstm(peephole=1).params == {"peephole": True}
    assert "peephole" in vg.cells.lstm(peephole=True).leaves
    assert "peephole" not in vg.cells.lstm(peephole=False).leaves
    assert repr(vg.cells.rnn(activation="relu")) == "rnn(activation='relu')"
    assert vg.cells.rnn(activation="swish").params == {"activation": "silu"}
    assert vg.cells.rnn().functions == ("tanh",)
    assert set(vg.cells.lstm().functions) == set(vg.cells.gru().functions) == {"sigmoid", "tanh"}
    assert hash(vg.cells.lru(r_min=0.5)) == hash(vg.cells.lru(r_min=0.5))
    assert "lstm" in dir(vg.cells)
    assert "peephole" in (vg.cells.lstm.__doc__ or "")
    assert not hasattr(vg.cells, "no_such_cell")
    with pytest.raises(AttributeError, match=r"did you mean 'lstm'\? vg\.cells\.names\(\)"):
        vg.cells.lstn  # noqa: B018


def test_names_are_matched_as_in_other_catalogues() -> None:
    assert vg.cells.describe("LSTM").name == "lstm"
    assert vg.cells.describe("minGRU").name == "min_gru"
    assert vg.Recurrent("GRU", 4) == vg.Recurrent("gru", 4) == vg.Recurrent(vg.cells.gru(), 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vg.Recurrent("lstn", 4), ["cell 'lstn'", "'lstm'", "vg.cells.names()"]),
        (lambda: vg.rnn("gruu", 4, in_features=2), ["cell 'gruu'", "'gru'"]),
        (lambda: vg.cells.describe("qqqq"), ["expected one of", "vg.cells.names()"]),
        (lambda: vg.cells.rnn(activation="tahn"), ["activation 'tahn'", "'tanh'"]),
        (lambda: vg.rnn("rnn", 4, in_features=2, activation="rellu"), ["activation 'rellu'", "'relu'"]),
        (
            lambda: vg.Recurrent("gru", 4, recurrent_init="orthogonl"),
            ["initializer 'orthogonl'", "'orthogonal'"],
        ),
    ],
)
def test_unknown_names_suggest_the_nearest(call, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    with refused(vg.UnknownNameError, "unknown", *words):
        call()


def test_values_out_of_range_are_told_the_range() -> None:
    with pytest.raises(vg.ArgumentError, match="max_phase to be a number above 0 and at most 7; got 100"):
        vg.rnn(vg.cells.lru(max_phase=100.0), 4, in_features=1)
    with pytest.raises(vg.ArgumentError, match="r_min to be a number from 0 to 1; got 2"):
        vg.rnn(vg.cells.lru(r_min=2.0), 4, in_features=1)
    with pytest.raises(vg.ArgumentError, match="epsilon to be a finite number above 0; got 0"):
        vg.rnn(vg.cells.antisymmetric_rnn(epsilon=0.0), 4, in_features=1)


def test_how_gates_may_start() -> None:
    assert repr(vg.cells.forget_bias(1.5)) == "forget_bias(1.5)"
    assert repr(vg.cells.chrono(784)) == "chrono(784)"
    assert repr(vg.cells.uniform_gates()) == "uniform_gates()"
    assert vg.cells.forget_bias(2).to_spec() == {"kind": "forget", "value": 2.0}
    assert vg.cells.chrono(np.int64(10)).to_spec() == {"kind": "chrono", "T": 10}
    assert vg.cells.uniform_gates().to_spec() == {"kind": "uniform"}
    short = vg.rnn("lstm", 4, in_features=2, forget_bias=1.0, rng=0).layers
    assert short == vg.rnn("lstm", 4, in_features=2, gate_bias=vg.cells.forget_bias(1.0), rng=0).layers


# --- names and shapes of parameters ------------------------------------------------------------------------

LAYERS = [
    vg.Recurrent("rnn", 5, name="rnn"),
    vg.Recurrent("lstm", 4, num_layers=2, bidirectional=True, name="rnn"),
    vg.Recurrent(vg.cells.lstm(peephole=True), 4, num_layers=2, state="learned", name="rnn"),
    vg.Recurrent("gru", 3, num_layers=3, residual=True, bias=False, read="every"),
    vg.Recurrent("gru", 3, bidirectional=True, state="learned", name=""),
    vg.Recurrent(vg.cells.rnn(activation="relu"), 3, recurrent_init="identity", bias_init="zeros", name="a"),
    vg.Recurrent("irnn", 3),
    vg.Recurrent("orthogonal_rnn", 3),
    vg.Recurrent(vg.cells.antisymmetric_rnn(epsilon=0.1), 3),
    vg.Recurrent("min_gru", 4, num_layers=2),
    vg.Recurrent("min_lstm", 4, gate_bias=vg.cells.forget_bias(2.0)),
    vg.Recurrent(vg.cells.lru(r_min=0.5), 6, num_layers=2, bidirectional=True),
    vg.Recurrent("lstm", 4, gate_bias=vg.cells.chrono(100)),
    vg.Recurrent("gru", 4, gate_bias=vg.cells.uniform_gates(), init=np.ones((12, 3))),
]


def build(layer: vg.Recurrent, dtype: str = "float64") -> vg.Network:
    return vg.Network(3, [layer, vg.Dense(2, name="output")], dtype=dtype, rng=0)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_the_front_and_the_core_agree_on_parameters(layer: vg.Recurrent) -> None:
    net = build(layer)
    expected = {name: shape for placed in walk(net.layers, 3) for name, shape in placed.parameters().items()}
    assert net.parameter_shapes() == expected
    assert {name: value.shape for name, value in net.parameters().items()} == expected
    assert net.num_parameters == sum(int(np.prod(shape)) for shape in expected.values())
    assert net.axis == "time"
    assert net.out_features == 2


def test_the_names_are_pytorchs() -> None:
    names = list(vg.rnn("lstm", 4, in_features=3, num_layers=2, bidirectional=True, rng=0).parameter_shapes())
    ends = [f"l{layer}{direction}" for layer in (0, 1) for direction in ("", "_reverse")]
    assert sorted(names) == sorted(f"rnn.{leaf}_{end}" for leaf in FULL for end in ends)
    shapes = vg.rnn("lstm", 4, in_features=3, num_layers=2, bidirectional=True, rng=0).parameter_shapes()
    assert shapes["rnn.weight_ih_l0"] == (16, 3)
    assert shapes["rnn.weight_ih_l1_reverse"] == (16, 8)
    assert shapes["rnn.weight_hh_l1"] == (16, 4)
    assert shapes["rnn.bias_hh_l0"] == (16,)


def test_learned_starts_are_parameters() -> None:
    net = vg.rnn("lstm", 4, in_features=3, num_layers=2, bidirectional=True, state="learned", rng=0)
    assert net.parameter_shapes()["rnn.h0"] == net.parameter_shapes()["rnn.c0"] == (4, 4)
    assert "rnn.c0" not in vg.rnn("gru", 4, in_features=3, state="learned", rng=0).parameter_shapes()


# --- as values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_files_pickles_and_copies(layer: vg.Recurrent, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    net = build(layer)
    net.save(tmp_path / "net.safetensors")
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    for again in (vg.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert again.layers == net.layers
        assert repr(again) == repr(net)
        held = net.parameters()
        for name, value in again.parameters().items():
            np.testing.assert_array_equal(value, held[name])
        np.testing.assert_array_equal(again.forward(x), net.forward(x))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_summaries_and_reprs(layer: vg.Recurrent) -> None:
    net = build(layer)
    assert repr(layer.cell) in repr(layer)
    assert f"Recurrent({layer.cell!r}, {layer.hidden_size}" in net.summary()
    assert "axis=time" in repr(net)
    assert "Recurrent(" in net._repr_html_()
    assert hash(layer) == hash(copy.copy(layer))


def test_the_same_seed_gives_the_same_network() -> None:
    a, b = (vg.rnn("lstm", 4, in_features=3, rng=7).parameters() for _ in range(2))
    c = vg.rnn("lstm", 4, in_features=3, rng=8).parameters()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not any(np.array_equal(a[name], c[name]) for name in a)
