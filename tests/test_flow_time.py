"""Flows along time: layers and directions, rates, tables and files of what a recurrent network reported."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _fake_raw import fake_raw
from _fake_time import fading, fake_block, fake_time
from hypothesis import given, settings
from hypothesis import strategies as st
from vgcore import _rate
from vgcore._flow_time import TimeFlow
from vgcore.errors import ArgumentError, ShapeError, UnknownNameError
from vgcore.flow import GradientFlow


def flow_of(*blocks: dict[str, Any], meta: dict[str, Any] | None = None, **extra: Any) -> TimeFlow:
    flow = GradientFlow.from_raw(fake_time(*blocks, **extra), meta or {})
    assert isinstance(flow, TimeFlow)
    return flow


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def stacked(layers: int, steps: int = 30) -> Any:
    return np.stack([fading(steps, -0.1 * (k + 1), seed=k) for k in range(layers)])


# --- layers -------------------------------------------------------------------------------------------------


def test_a_report_along_time_gives_a_flow_along_time() -> None:
    curve = fading(20)
    flow = flow_of(fake_block(curve))
    assert isinstance(flow, GradientFlow)
    assert (flow.axis, flow.steps, flow.batch, flow.loss, flow.layers, flow.directions) == (
        "time", 20, 8, 0.7, 1, 1,
    )  # fmt: skip
    np.testing.assert_allclose(flow.log10_grad_norm, curve, rtol=1e-14)
    np.testing.assert_allclose(flow.log2_grad_norm, curve * np.log2(10), rtol=1e-14)
    np.testing.assert_allclose(flow.log10_cell_grad_norm, curve + np.log10(2))
    np.testing.assert_allclose(flow.log10_delta_norm, curve - np.log10(4))
    np.testing.assert_allclose(flow.log10_weight_grad_norm, curve + 1.5 * np.log10(2))
    assert flow.log10_state_grad_norm == pytest.approx(curve[0] - 0.5 * np.log10(2))
    assert flow.log10_input_grad_norm == pytest.approx(-7 * np.log10(2))
    assert set(flow.gate_mean) == set(flow.gate_saturated) == {"i", "f", "g", "o"}
    assert flow.weight_norms == {"rnn.weight_hh_l0": pytest.approx(-3 * np.log10(2))}
    assert flow.feed_forward is None
    assert flow.units == {}


def test_the_layer_nearest_the_loss_speaks_for_the_network() -> None:
    first, last = stacked(2), stacked(3) - 5
    flow = flow_of(fake_block(first, cell="gru", name="low"), fake_block(last, cell="rnn", name="top"))
    assert flow.layers == 5
    np.testing.assert_allclose(flow.by_layer, np.concatenate((first, last)), rtol=1e-14)
    np.testing.assert_array_equal(flow.log10_grad_norm, flow.layer(4).log10_grad_norm)
    assert [flow.layer(k).name for k in (0, 1, 2, -1)] == ["low l0", "low l1", "top l0", "top l2"]
    assert (flow.layer(1).cell, flow.layer(1).index, flow.layer(1).number) == ("gru", 1, 1)
    assert flow.layer(np.int64(-5)) is flow.layer(0)
    assert flow.stack("log10_weight_grad_norm").shape == (5, 30)
    assert flow.stack("gate_mean:z").shape == (5, 30)
    assert np.isnan(flow.stack("gate_mean:z")[2:]).all()


def test_directions_stand_inside_layers() -> None:
    rows = stacked(4)
    flow = flow_of(fake_block(rows, cell="gru", directions=2))
    assert (flow.layers, flow.directions) == (2, 2)
    for layer in (0, 1):
        for direction in (0, 1):
            view = flow.layer(layer, direction)
            np.testing.assert_allclose(view.log10_grad_norm, rows[2 * layer + direction], rtol=1e-14)
    np.testing.assert_allclose(flow.by_layer, rows[::2], rtol=1e-14)
    np.testing.assert_allclose(flow.stack(direction=1), rows[1::2], rtol=1e-14)
    assert flow.layer(1, 1).name == "rnn l1 reverse"


def test_what_there_is_not_is_said() -> None:
    flow = flow_of(fake_block(stacked(2), cell="gru"))
    with pytest.raises(ArgumentError, match="expected one of 0 to 1, 0 nearest the input, got 2"):
        flow.layer(2)
    with pytest.raises(ArgumentError, match=r"expected 0 \(forward\) in layer 0, got 1"):
        flow.layer(0, 1)
    with pytest.raises(ArgumentError, match="whole number"):
        flow.layer("top")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="such as an lstm, got 'gru'"):
        _ = flow.log10_cell_grad_norm
    with pytest.raises(ArgumentError, match=r"flow\.feed_forward has it"):
        _ = flow.share_zero
    with pytest.raises(ArgumentError, match="such as 'log10_grad_norm', got 'loss'"):
        flow.stack("loss")
    with pytest.raises(ArgumentError, match="direction 1"):
        flow.stack(direction=1)
    norms = flow_of(fake_block(stacked(2), full=False))
    assert not norms.has_statistics
    for name in ("log10_weight_grad_norm", "log10_jacobian_norm", "gate_mean", "out_var", "grad_spread"):
        with pytest.raises(ArgumentError, match='measure with stats="full"'):
            getattr(norms, name)


def test_a_flow_along_depth_says_that_it_has_no_time() -> None:
    flow = GradientFlow.from_raw(fake_raw([-1.0, -2.0]))
    for name in ("by_layer", "log10_cell_grad_norm", "log10_jacobian_norm", "gate_mean", "gate_saturated"):
        with pytest.raises(ArgumentError, match=f"{name}: expected a flow along time"):
            getattr(flow, name)
    with pytest.raises(ArgumentError, match=r"layer\(\): expected a flow along time"):
        flow.layer(0)


def test_arrays_are_read_only() -> None:
    flow = flow_of(fake_block(stacked(2)))
    arrays = [flow.log10_grad_norm, flow.log2_grad_norm, flow.by_layer, flow.gate_mean["f"], flow.out_var]
    for array in [*arrays, flow.log10_weight_grad_norm, flow.raw["time"][0]["grad_log2_norm"]]:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad_log2_norm": np.zeros((1, 9))}, r"\['grad_log2_norm'\]: expected shape \(2, 30\), got \(1, 9"),
        ({"gate_mean": np.zeros((2, 3, 30))}, r"expected shape \(2, 4, 30\)"),
        ({"state_grad_log2_norm": np.zeros(3)}, r"expected shape \(2,\), got \(3,\)"),
        ({"delta_log2_norm": None}, "got none for delta_log2_norm"),
    ],
)  # fmt: skip
def test_malformed_reports_are_refused(change: dict[str, Any], message: str) -> None:
    block = {key: value for key, value in (fake_block(stacked(2)) | change).items() if value is not None}
    with pytest.raises(ShapeError, match=message):
        flow_of(block)


def test_no_layers_or_uneven_steps_are_refused() -> None:
    with pytest.raises(ShapeError, match="one mapping for each recurrent layer, got none"):
        GradientFlow.from_raw({"axis": "time", "steps": 3, "time": []})
    with pytest.raises(ShapeError, match="expected 20 steps, as the last one has, got 30"):
        flow_of(fake_block(fading(30)), fake_block(fading(20)))


def test_layers_that_are_not_recurrent_keep_their_flow_along_depth() -> None:
    stages = [fake_raw([-3.0, -1.0]) | {"stage": 0}, fake_raw([-0.5]) | {"stage": 2}]
    flow = flow_of(fake_block(fading(30)), stages=stages)
    inner = flow.feed_forward
    assert inner is not None
    assert (inner.axis, inner.steps, flow.steps) == ("depth", 3, 30)
    np.testing.assert_allclose(inner.log10_grad_norm, [-3.0, -1.0, -0.5], rtol=1e-14)
    assert inner.diagnose().axis == "depth"
    assert inner.has_statistics
    assert len(flow.units["unit"]) == 3
    assert np.isnan(flow.unchanged_share).all()
    assert flow.width.tolist() == [16] * 30


# --- norms of the weights -----------------------------------------------------------------------------------


def test_both_weights_add_up_in_log_space() -> None:
    block = fake_block(np.full(3, -9000.0))
    own, recurrent = np.array([[-20000.0, 1.0, np.nan]]), np.array([[-20000.0, -np.inf, 1.0]])
    block |= {"weight_ih_grad_log2_norm": own, "weight_hh_grad_log2_norm": recurrent}
    layer = flow_of(block).layer(0)
    np.testing.assert_allclose(layer.log2_weight_grad_norm[:2], [-19999.5, 1.0])
    assert math.isnan(layer.log2_weight_grad_norm[2])  # a gradient gone wrong is not hidden by the other


def test_a_cell_without_recurrent_weights_has_its_input_weights_alone() -> None:
    layer = flow_of(fake_block(fading(10), cell="min_gru")).layer(0)
    np.testing.assert_array_equal(layer.log10_weight_grad_norm, layer.log10_weight_ih_grad_norm)
    assert np.isnan(layer.log10_weight_hh_grad_norm).all()
    assert np.isfinite(layer.log10_weight_grad_norm).all()
    assert flow_of(fake_block(fading(10), cell="lru")).gate_mean == {}


# --- rates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "half_life"), [(0.0, 1.0), (3.0, 14.266000473558291), (5.0, 103.21834848677966)]
)
def test_an_lstm_without_weights_remembers_by_its_forget_gate_alone(bias: float, half_life: float) -> None:
    """dc_T/dc_0 = sigmoid(b)^T, while dL/dh_t is exactly zero before the last step."""
    steps = 200
    cell = np.log10(sigmoid(bias)) * np.arange(steps)[::-1]
    hidden = np.where(np.arange(steps) == steps - 1, 0.0, -np.inf)
    flow = flow_of(fake_block(hidden, cell_curves=cell))
    assert flow.decades_per_step == pytest.approx(math.log10(sigmoid(bias)), rel=1e-12)
    assert flow.half_life == pytest.approx(half_life, rel=1e-12)
    assert flow.layer(0).memory_path == "dL/dc_t"
    low, high = flow.decades_per_step_ci
    assert low == pytest.approx(high, abs=1e-9)


def test_half_life_needs_a_fall_beyond_chance() -> None:
    assert _rate.half_life(_rate.estimate(np.zeros(50))) == math.inf
    assert _rate.half_life(_rate.estimate(np.zeros(1))) != _rate.half_life(_rate.estimate(np.zeros(1)))
    assert _rate.half_life(_rate.estimate(np.array([-1.0, 0.0]))) == pytest.approx(math.log10(2))
    assert _rate.half_life(_rate.estimate(np.linspace(5, 0, 50))) == math.inf
    noise = np.random.default_rng(0).normal(0, 1, 50)
    assert _rate.half_life(_rate.estimate(noise)) == math.inf
    assert _rate.half_life(_rate.estimate(1e-12 * np.arange(50.0))) == math.inf


def test_reverse_layers_are_measured_against_their_own_direction() -> None:
    curve = fading(200, -0.07)
    flow = flow_of(fake_block(np.stack((curve, curve[::-1])), cell="gru", directions=2))
    forward, reverse = flow.layer(0, 0), flow.layer(0, 1)
    assert reverse.decades_per_step == pytest.approx(forward.decades_per_step, rel=1e-12)
    assert reverse.half_life == pytest.approx(forward.half_life)


def test_padding_behind_the_longest_sequence_is_left_out() -> None:
    curve = fading(150, -0.07)
    pad = np.full(50, -np.inf)
    rows = np.stack((np.concatenate((curve, pad)), np.concatenate((curve[::-1], pad))))
    flow = flow_of(fake_block(rows, cell="gru", directions=2))
    for direction in (0, 1):
        view = flow.layer(0, direction)
        assert (view.reach, view.steps) == (149, 200)
        assert view.decades_per_step == pytest.approx(_rate.estimate(curve).mean, rel=1e-12)
        assert view.rate.chain.size == 150


def test_truncation_leaves_the_piece_next_to_the_loss() -> None:
    curve = np.where(np.arange(100) < 75, -np.inf, fading(100, -0.3))
    assert flow_of(fake_block(curve, cell="gru"), meta={"truncate": 25}).rate.chain.size == 25
    rows = np.stack((curve, curve[::-1]))
    view = flow_of(fake_block(rows, cell="gru", directions=2), meta={"truncate": 25}).layer(0, 1)
    assert view.span == slice(0, 25)
    assert view.decades_per_step == pytest.approx(_rate.estimate(curve[75:]).mean)


def test_sequences_of_different_ends_are_measured_where_all_are() -> None:
    curve = fading(100, -0.07)
    curve[40:] += 2.0  # where the shortest ends, the norm over the batch jumps
    view = flow_of(fake_block(curve, cell="gru"), meta={"shortest": 40}).layer(0)
    assert view.span == slice(0, 40)
    assert view.decades_per_step == pytest.approx(_rate.estimate(curve[:40]).mean)
    assert "that all of them have" in view.diagnose().text
    assert flow_of(fake_block(curve, cell="gru"), meta={"shortest": 3}).layer(0).span == slice(0, 100)


@settings(max_examples=30, deadline=None)
@given(st.integers(-3000, 3000), st.integers(3, 200), st.integers(0, 1000))
def test_scaling_the_loss_moves_norms_and_not_the_rate(shift: int, steps: int, seed: int) -> None:
    block = fake_block(fading(steps, seed=seed), cell="gru")
    moved = block | {"grad_log2_norm": block["grad_log2_norm"] + shift}
    one, other = flow_of(block), flow_of(moved)
    np.testing.assert_allclose(other.log2_grad_norm - one.log2_grad_norm, shift, atol=1e-9)
    assert other.decades_per_step == pytest.approx(one.decades_per_step, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, -0.3), st.integers(100, 3000))
def test_power_laws_are_told_from_exponentials(exponent: float, steps: int) -> None:
    by_distance = _rate.power_law(exponent * np.log10(np.arange(steps, 0.0, -1.0)))
    if by_distance is None:  # less than a decade in all
        assert -exponent * math.log10(steps) < 1
    else:
        assert by_distance.power
        assert by_distance.exponent == pytest.approx(exponent)
        assert by_distance.of == "distance"
    by_time = _rate.power_law(-exponent * np.log10(np.arange(1.0, steps + 1)))
    if by_time is not None:
        assert (by_time.power, by_time.of) == (True, "time")
    straight = _rate.power_law(fading(steps, exponent, noise=0.05))
    assert straight is not None
    assert not straight.power


# --- where the forward pass broke ---------------------------------------------------------------------------


def test_the_layer_that_was_first_not_finite_is_counted_over_all() -> None:
    low, top = fake_block(stacked(2)), fake_block(stacked(2))
    assert flow_of(low, top).nonfinite is None
    spot = {"step": 7, "layer": 1, "direction": 0, "units": 3}
    staged = flow_of(low | {"stage": 0}, top | {"stage": 2}, nonfinite=spot | {"stage": 2})
    assert staged.nonfinite == spot | {"layer": 3}
    top["hidden_var"][1, 7:] = np.nan  # without a stage, the figures of that step tell
    assert flow_of(low, top, nonfinite=spot).nonfinite == spot | {"layer": 3}
    low["hidden_var"][1, 7:] = np.inf
    assert flow_of(low, top, nonfinite=spot).nonfinite == spot


# --- tables and files ---------------------------------------------------------------------------------------


def test_long_table_has_one_row_per_step_layer_and_quantity() -> None:
    flow = flow_of(fake_block(stacked(2, 7), cell="gru"), fake_block(stacked(1, 7)))
    table = flow.table
    assert list(table) == ["step", "layer", "direction", "unit", "quantity", "value"]
    assert {len(column) for column in table.values()} == {table.rows}
    rows = (table["quantity"] == "log10_grad_norm") & (table["layer"] == 1)
    assert table["step"][rows].tolist() == list(range(7))
    np.testing.assert_array_equal(table["value"][rows], flow.layer(1).log10_grad_norm)
    assert set(table["layer"][table["quantity"] == "log10_cell_grad_norm"]) == {2}
    assert {"gate_mean_z", "gate_saturated_f", "log10_jacobian_norm"} <= set(table.quantities)
    assert set(table["unit"]) == {"log10", "share", "decades", "value"}
    assert set(table["direction"]) == {"forward"}
    with pytest.raises(KeyError):
        table["steps"]


def test_the_table_can_be_narrowed() -> None:
    flow = flow_of(fake_block(stacked(3, 7)))
    some = flow.table.select(quantity=["log10_grad_norm", "gate_mean_f"], layer=[0, -1])
    assert some.rows == 2 * 2 * 7
    assert set(some["layer"]) == {0, 2}
    with pytest.raises(UnknownNameError, match="did you mean 'log10_grad_norm'"):
        flow.table.select(quantity="log10_grad_nrom")
    with pytest.raises(ArgumentError, match="expected one of 0 to 2, got 3"):
        flow.table.select(layer=3)
    norms = flow_of(fake_block(stacked(1, 7), full=False)).table
    assert norms.quantities == ["log10_grad_norm", "log10_cell_grad_norm", "log10_delta_norm"]
    assert "21 rows" in repr(norms)


def test_data_frame() -> None:
    pytest.importorskip("pandas")
    flow = flow_of(fake_block(stacked(4, 7), directions=2))
    frame = flow.to_pandas()
    assert list(frame.columns) == list(flow.table)
    assert str(frame["quantity"].dtype) == "category"
    for name in flow.table:
        assert frame[name].tolist() == flow.table[name].tolist()
    assert len(flow.to_pandas("log10_grad_norm", layer=1)) == 2 * 7


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_files_keep_every_bit(tmp_path: Path, suffix: str) -> None:
    curve = np.array([-np.inf, -700.125, np.nan, 1 / 3, np.inf])
    spot = {"step": 2, "layer": 0, "direction": 0, "units": 4}
    flow = flow_of(
        fake_block(curve),
        fake_block(curve - 1, cell="lru"),
        meta={"label": "x", "read": "last"},
        loss=math.nan,
        nonfinite=spot,
        weight_norms={"rnn.weight_hh_l0": -math.inf},
        gradients={"rnn.weight_hh_l0": (np.zeros(3), np.int64(0))},
        stages=[fake_raw([-1.0, -2.0]) | {"stage": 2}],
        step=np.array([1]),
    )
    path = tmp_path / f"flow{suffix}"
    flow.save(path)
    again = GradientFlow.load(path)
    assert isinstance(again, TimeFlow)
    assert again.meta == flow.meta
    assert set(again.raw) == set(flow.raw) - {"gradients"}
    assert again.nonfinite == spot
    assert again.weight_norms == {"rnn.weight_hh_l0": -math.inf}
    for one, other in zip(again.raw["time"], flow.raw["time"], strict=True):
        assert set(one) == set(other)
        for key, value in other.items():
            np.testing.assert_array_equal(np.asarray(one[key]), np.asarray(value))
    np.testing.assert_array_equal(again.raw["step"], [1])
    assert again.feed_forward is not None
    np.testing.assert_allclose(again.feed_forward.log10_grad_norm, [-1.0, -2.0], rtol=1e-14)
    if suffix == ".json":  # strict: no NaN or Infinity tokens
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the file"))


def test_dict_round_trip() -> None:
    flow = flow_of(fake_block(stacked(2)))
    again = GradientFlow.from_dict(json.loads(json.dumps(flow.to_dict())))
    np.testing.assert_array_equal(again.by_layer, flow.by_layer)
    assert again.diagnose().text == flow.diagnose().text


def test_texts_are_short() -> None:
    flow = flow_of(fake_block(stacked(2, 1000)))
    assert len(repr(flow)) < 160
    assert "2 x lstm(16)" in repr(flow)
    assert "1e-199.7" in repr(flow)
    assert "no rate" in repr(flow_of(fake_block(np.full(3, np.nan))))
    assert len(repr(flow.layer(0))) < 160
    assert "<table>" in flow._repr_html_()
    assert "dL/dc_t" in flow._repr_html_()


@pytest.mark.parametrize("steps", [1, 2])
def test_the_shortest_sequences(steps: int) -> None:
    flow = flow_of(fake_block(fading(steps)))
    assert math.isnan(flow.decades_per_step) == (steps == 1)
    assert repr(flow)
    assert flow.diagnose().verdict == "stable"
    assert flow._repr_html_()


def test_a_million_steps_take_no_loop() -> None:
    rows = np.stack([fading(1_000_000, -1e-4 * k, noise=0.001) for k in (1, 2)])
    raw = fake_time(fake_block(rows))
    start = time.perf_counter()
    flow = GradientFlow.from_raw(raw, {})
    assert flow.by_layer.shape == (2, 1_000_000)
    assert repr(flow)
    assert isinstance(flow, TimeFlow)
    assert flow.table.rows == 2 * 18 * 1_000_000  # counted, not made
    flow.diagnose()
    flow.layer(0).diagnose()
    # Generous: a Python loop over the steps takes far longer.
    assert time.perf_counter() - start < 8.0


def test_what_the_loss_reads_is_taken_from_the_network() -> None:
    structure = [
        {"kind": "recurrent", "read": "every"},
        {"kind": "recurrent", "read": "last"},
        {"kind": "dense"},
    ]
    block = fake_block(fading(9))
    assert flow_of(block, meta={"structure": structure}).reads == "last"
    assert flow_of(block, meta={"structure": structure, "read": "every"}).reads == "every"
    assert flow_of(block).reads is None


@pytest.mark.parametrize("figures", ["none", "empty", "absent"])
def test_blocks_of_weights_that_are_no_gates(figures: str) -> None:
    block = fake_block(fading(60), cell="lru") | {"gates": ["re", "im"]}
    for key in ("gate_mean", "gate_saturated"):
        if figures == "absent":
            del block[key]
        elif figures == "none":
            block[key] = np.full((1, 2, 60), np.nan)
    flow = flow_of(block)
    assert flow.gate_mean == {}
    assert flow.diagnose().gate is None
    assert flow.table.rows
    assert len(flow.table["value"]) == flow.table.rows


def test_a_shut_output_gate_at_the_last_step_does_not_hide_the_memory() -> None:
    curve = np.where(np.arange(100) >= 98, -np.inf, fading(100, -0.1))
    for rows, direction in ((curve[None], 0), (np.stack((curve, curve[::-1])), 1)):
        hidden = np.zeros_like(rows)
        flow = flow_of(fake_block(hidden, cell_curves=rows, directions=direction + 1))
        view = flow.layer(0, direction)
        assert view.span == (slice(2, 100) if direction else slice(0, 98))
        found = view.diagnose()
        assert found.verdict == "vanishing"
        assert f"at time step {2 if direction else 97} and" in found.text
