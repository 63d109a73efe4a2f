"""Flows along time of networks that ran: what the compiled module reports fits what results expect of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore._diagnosis_time import TimeDiagnosis
from vgcore._flow_time import TimeFlow
from vgcore._gates import keeps
from vgcore.flow import GradientFlow

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 60, 3)).astype(np.float32)
Y = np.array([0, 1, 0, 1])


def probe(net: vg.Network, x: Any = X, **kw: Any) -> TimeFlow:
    flow = net.probe(x, Y, loss="cross_entropy", **kw)
    assert isinstance(flow, TimeFlow)
    return flow


def rnn(cell: str, **kw: Any) -> vg.Network:
    return vg.rnn(cell, 16, in_features=3, out_features=2, rng=0, **kw)


@pytest.mark.parametrize("stats", ["norms", "full"])
@pytest.mark.parametrize("cell", vg.cells.names())
def test_every_cell_has_a_flow(cell: str, stats: str, tmp_path: Path) -> None:
    flow = probe(rnn(cell, num_layers=2), stats=stats)
    assert (flow.axis, flow.steps, flow.layers, flow.reads) == ("time", 60, 2, "last")
    assert flow.has_statistics == (stats == "full")
    assert np.isfinite(flow.by_layer).all()
    assert math.isfinite(flow.decades_per_step)
    found = flow.diagnose()
    assert isinstance(found, TimeDiagnosis)
    assert found.verdict in ("vanishing", "stable")
    assert str(found)
    assert flow.table.rows == len(flow.table["value"])
    if stats == "full":
        assert np.isfinite(flow.log10_jacobian_norm).all()
        assert np.isfinite(flow.log10_weight_grad_norm[1:]).all()
        assert (set(flow.gate_mean) == set(flow.main.gates)) == (cell != "lru")
    head = flow.feed_forward
    assert head is not None
    assert head.steps == 1
    for suffix in ("npz", "json"):
        flow.save(tmp_path / f"flow.{suffix}")
        again = GradientFlow.load(tmp_path / f"flow.{suffix}")
        np.testing.assert_array_equal(again.by_layer, flow.by_layer)
        assert again.diagnose().text == found.text


def test_stacks_of_several_kinds() -> None:
    layers = [
        vg.Dense(8),
        vg.Activation("tanh"),
        vg.Recurrent("gru", 8, read="every", bidirectional=True, name="low"),
        vg.Dense(6),
        vg.Recurrent("lstm", 8, num_layers=2, name="top"),
        vg.Dense(2),
    ]
    flow = probe(vg.Network(3, layers, rng=0))
    assert [flow.layer(k).name for k in range(3)] == ["low l0", "top l0", "top l1"]
    assert flow.layer(0, 1).name == "low l0 reverse"
    assert flow.feed_forward is not None
    assert flow.feed_forward.steps == 3
    assert flow.feed_forward.has_statistics


def test_padding_and_different_ends() -> None:
    flow = probe(rnn("gru", bidirectional=True), lengths=[40, 30, 20, 35])
    assert flow.main.reach == 39
    assert flow.meta["shortest"] == 20
    assert flow.layer(0, 1).span.stop == 20
    same = probe(rnn("gru"), X[:, :40])
    padded = probe(rnn("gru"), lengths=[40, 40, 40, 40])
    np.testing.assert_allclose(padded.log10_grad_norm[:40], same.log10_grad_norm, rtol=1e-12)
    assert padded.decades_per_step == pytest.approx(same.decades_per_step)


def test_truncation_is_no_death() -> None:
    found = probe(rnn("rnn"), truncate=25).diagnose()
    assert found.verdict == "vanishing"
    assert "truncated every 25 steps" in found.text


def test_where_a_forward_pass_breaks() -> None:
    net = rnn("irnn", num_layers=2)
    p = net.parameters()
    net.load_parameters(p | {"rnn.weight_hh_l1": 10 * np.eye(16, dtype=np.float32)})
    flow = probe(net, np.abs(X))
    spot = flow.nonfinite
    assert spot is not None
    assert spot["layer"] == 1
    assert 30 < spot["step"] < 60
    assert np.isfinite(flow.layer(1).hidden_mean[: spot["step"]]).all()  # kept up to there
    found = flow.diagnose()
    assert found.verdict == "exploding"
    assert f"time step {spot['step']} of layer 1" in found.text
    assert "grew by 1" in found.text


def test_a_cotangent_at_the_last_step_shows_memory_where_every_step_is_read() -> None:
    net = rnn("rnn", read="every")
    y = RNG.integers(0, 2, (4, 60))
    every = net.probe(X, y, loss="cross_entropy").diagnose()
    assert isinstance(every, TimeDiagnosis)
    assert every.memory_how == "jacobian"
    v = np.zeros((4, 60, 2), np.float32)
    v[:, -1] = 1.0
    last = net.probe(X, cotangent=v).diagnose()
    assert isinstance(last, TimeDiagnosis)
    assert last.verdict == "vanishing"
    assert last.memory_how == "measured"
    assert every.half_life == pytest.approx(last.half_life, rel=0.5)


def test_gates_close_and_open_the_path() -> None:
    shut = probe(rnn("lstm", forget_bias=-3.0)).diagnose()
    assert shut.verdict == "vanishing"
    assert shut.closed_by.startswith("the forget gate closes the path: it keeps 4")
    assert probe(rnn("lstm", forget_bias=5.0)).diagnose().closed_by == ""


@pytest.mark.parametrize("front", [(), (vg.Dense(4), vg.Activation("tanh"))], ids=["first", "behind a Dense"])
@pytest.mark.parametrize("head", [(), (vg.Dense(2),)], ids=["last", "before a Dense"])
@pytest.mark.parametrize("read", ["last", "every"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "lru"])
def test_the_inputs_gradient_is_that_of_the_networks_input(
    cell: str, read: str, head: Any, front: Any
) -> None:
    layers = [*front, vg.Recurrent(cell, 6, read=read, bidirectional=read == "every"), *head]
    net = vg.Network(3, layers, dtype="float64", rng=0)
    x, lengths = X.astype(np.float64), [60, 7, 30, 1]
    v = np.random.default_rng(1).normal(size=net.forward(x).shape) * 1e-200
    flow = net.probe(x, cotangent=v, lengths=lengths)
    found = net.gradients(x, cotangent=v, lengths=lengths)
    expected = np.logaddexp2.reduce(2 * found.input_log2_norm()) / 2
    assert flow.log2_input_grad_norm == pytest.approx(expected, rel=1e-12)
    norms = net.probe(x, cotangent=v, lengths=lengths, stats="norms").log10_input_grad_norm
    # a product at every step that nothing else asks for
    assert math.isnan(norms) if not front else norms == pytest.approx(flow.log10_input_grad_norm, rel=1e-12)


def test_the_inputs_gradient_has_no_float_range() -> None:
    net = vg.rnn("rnn", 2, in_features=2, bias=False, dtype="float32", rng=0)
    one = np.eye(2, dtype=np.float32)
    net.load_parameters({"rnn.weight_ih_l0": one, "rnn.weight_hh_l0": 300 * one})
    x = np.zeros((3, 1000, 2), np.float32)
    flow = net.probe(x, cotangent=np.ones((3, 2), np.float32))
    series = np.sum(300.0 ** (-2.0 * np.arange(100)))
    expected = 0.5 * np.log10(6.0 * series) + 999 * np.log10(300.0)
    assert flow.log10_input_grad_norm == pytest.approx(expected, rel=1e-9)


def test_gates_that_are_both_shut_still_share_the_state() -> None:
    """The means of f and i are zero to a float; what a min_lstm keeps is f / (f + i)."""
    net = vg.rnn("min_lstm", 4, in_features=3, dtype="float32", rng=0)
    parameters = {name: np.zeros_like(value) for name, value in net.parameters().items()}
    parameters["rnn.bias_ih_l0"][:4], parameters["rnn.bias_ih_l0"][4:8] = -201.0, -200.0
    net.load_parameters(parameters)
    flow = net.probe(X, cotangent=np.ones((4, 4), np.float32))
    assert isinstance(flow, TimeFlow)
    keep = 1 / (1 + math.e)
    np.testing.assert_allclose(keeps(flow.main), keep, rtol=1e-6)
    assert flow.decades_per_step == pytest.approx(math.log10(keep), rel=1e-6)
