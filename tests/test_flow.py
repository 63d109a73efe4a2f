"""Results of a pass: units to steps, rates and their intervals, tables and files."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _fake_raw import fake_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from vgcore import _rate
from vgcore._flow_steps import Steps
from vgcore.errors import ArgumentError, ShapeError, UnknownNameError
from vgcore.flow import FORMATS, GradientFlow


def flow_of(curve: Any, meta: dict[str, Any] | None = None, **kw: Any) -> GradientFlow:
    return GradientFlow.from_raw(fake_raw(curve, **kw), meta or {})


def falling(steps: int, rate: float = -0.6, noise: float = 0.04, seed: int = 0) -> Any:
    walk = np.random.default_rng(seed).normal(0, noise, steps).cumsum()
    return rate * np.arange(steps)[::-1] + walk - walk[-1] - 1.0


# --- units to steps -----------------------------------------------------------------------------------------


def test_one_unit_per_step_is_read_as_it_stands() -> None:
    curve = np.array([-3.0, -2.0, -1.0])
    flow = flow_of(curve)
    np.testing.assert_allclose(flow.log10_grad_norm, curve, rtol=1e-15)
    np.testing.assert_allclose(flow.log2_grad_norm, curve * np.log2(10), rtol=1e-15)
    np.testing.assert_allclose(flow.log10_delta_norm, curve - np.log10(2))
    assert (flow.axis, flow.steps, flow.batch, flow.loss) == ("depth", 3, 32, 2.3)


def test_a_step_of_several_units_is_described_by_its_last() -> None:
    raw = fake_raw([-3.0, -1.0], units_per_step=3)
    raw["grad_log2_norm"] = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    raw["delta_log2_norm"] = np.array([10.0, 20.0, np.nan, 40.0, 50.0, np.nan])
    raw["weight_grad_log2_norm"] = np.array([0.0, 0.0, np.nan, 3.0, -np.inf, np.nan])
    flow = GradientFlow.from_raw(raw)
    assert flow.log2_grad_norm.tolist() == [3.0, 6.0]
    assert flow.log2_delta_norm.tolist() == [20.0, 50.0]
    assert flow.log2_weight_grad_norm.tolist() == [0.5, 3.0]


def test_steps_of_unequal_length() -> None:
    steps = Steps(np.array([0, 1, 1, 1, 2]), np.zeros(5, np.uint8), 3)
    assert steps.last(np.arange(5)).tolist() == [0, 3, 4]
    assert steps.total(np.ones((5, 2), np.int64)).tolist() == [[1, 1], [3, 3], [1, 1]]


def test_norms_beyond_the_float_range_add_up() -> None:
    raw = fake_raw([-5000.0], units_per_step=3)
    raw["weight_grad_log2_norm"] = np.array([-20000.0, -20000.0, np.nan])
    assert GradientFlow.from_raw(raw).log2_weight_grad_norm[0] == pytest.approx(-19999.5, abs=1e-12)


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_zero_infinity_and_nan_flow_through(value: float) -> None:
    for units in (1, 2):
        flow = flow_of([value, -1.0, 0.0], units_per_step=units)
        for array in (flow.log10_grad_norm, flow.log10_delta_norm, flow.log10_weight_grad_norm):
            np.testing.assert_equal(array[0], value)
            assert np.isfinite(array[1:]).all()


def test_no_bias_is_nan_and_a_nan_bias_gradient_is_nan_too() -> None:
    raw = fake_raw([-1.0, np.nan])
    raw["bias_grad_log2_norm"] = np.array([np.nan, np.nan])
    assert np.isnan(GradientFlow.from_raw(raw).log10_bias_grad_norm).all()


def test_residual_steps_without_weights_have_no_weight_gradient() -> None:
    raw = fake_raw([-1.0, -1.0])
    raw["kind"] = np.array([2, 0], np.uint8)
    raw["weight_grad_log2_norm"] = np.array([np.nan, 1.0])
    raw["delta_log2_norm"] = np.array([np.nan, 1.0])
    flow = GradientFlow.from_raw(raw)
    assert np.isnan(flow.log10_weight_grad_norm[0])
    assert np.isfinite(flow.log10_weight_grad_norm[1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_vectorised_sums_equal_a_plain_loop(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    step = np.repeat(np.arange(len(sizes)), sizes)
    kind = rng.integers(0, 3, step.size).astype(np.uint8)
    log2 = rng.normal(0, 300, step.size)
    present = kind != 2
    groups = Steps(step, kind, len(sizes))
    found = groups.log2_norm(log2, present)
    last = groups.last_delta(log2)
    for k in range(len(sizes)):
        mine = log2[(step == k) & present]
        if mine.size == 0:
            assert math.isnan(found[k])
            assert math.isnan(last[k])
            continue
        top = mine.max()
        expected = top + 0.5 * math.log2(sum(2.0 ** (2 * (v - top)) for v in mine))
        assert found[k] == pytest.approx(expected, abs=1e-9)
        assert last[k] == mine[-1]


def test_a_million_units_take_no_loop() -> None:
    lines = 0

    def count(*_: Any) -> Any:
        nonlocal lines
        lines += 1
        return count

    curve = falling(500_000, rate=-1e-5)
    sys.settrace(count)
    try:
        flow_of(curve, {"lr": 0.1}, units_per_step=2, lr=0.1).diagnose()
    finally:
        sys.settrace(None)
    assert lines < 100_000  # a loop over the units in Python runs through a million at least


def test_arrays_are_read_only() -> None:
    flow = flow_of([-1.0, -2.0])
    for array in (flow.log10_grad_norm, flow.raw["grad_log2_norm"], flow.dead, flow.share_flushed("float16")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_malformed_raw_is_refused() -> None:
    with pytest.raises(ShapeError, match="none for step"):
        GradientFlow.from_raw(
            {"steps": 1, "kind": [], "width": [], "grad_log2_norm": [], "delta_log2_norm": []}
        )
    raw = fake_raw([-1.0, -2.0])
    raw["width"] = np.ones(3, np.int64)
    with pytest.raises(ShapeError, match="expected 2 entries"):
        GradientFlow.from_raw(raw)
    raw = fake_raw([-1.0, -2.0])
    raw["step"] = np.array([0, 0])
    with pytest.raises(ShapeError, match="step 1 of 2 has no unit"):
        _ = GradientFlow.from_raw(raw).log10_grad_norm


# --- statistics ---------------------------------------------------------------------------------------------


def test_shares_per_format() -> None:
    flow = flow_of([-60.0, -1.0])
    assert flow.share_flushed("float32").tolist() == [1.0, 0.0]
    assert flow.share_flushed("float64").tolist() == [0.0, 0.0]
    assert (flow.share_subnormal("float16") >= 0).all()
    assert flow_of([60.0]).share_overflow("float32").tolist() == [1.0]
    with pytest.raises(UnknownNameError, match="did you mean 'float16'"):
        flow.share_flushed("flot16")
    with pytest.raises(
        UnknownNameError, match=r"unknown float format \['float16'\]; expected one of float64"
    ):
        flow.share_flushed(["float16"])  # type: ignore[arg-type]


def test_exact_zeros_are_not_flushed_values() -> None:
    flow = flow_of([-np.inf, -1.0])
    assert flow.share_zero.tolist() == [1.0, 0.0]
    assert math.isnan(flow.share_flushed("float16")[0])


def test_histograms() -> None:
    flow = flow_of([-1.0, -np.inf])
    exponents, counts = flow.exponent_histogram(0)
    assert exponents[0] - exponents[1] == 2
    assert counts.sum() == 32 * 64
    every, total = flow.exponent_histogram()
    assert total.sum() == 32 * 64
    assert (every % 2 == 0).all()
    with pytest.raises(ArgumentError, match="expected one of 0 to 1"):
        flow.exponent_histogram(2)
    for bad in ("a", 1.5, True):
        with pytest.raises(ArgumentError, match="step: expected an integer, got"):
            flow.exponent_histogram(bad)  # type: ignore[arg-type]


def test_update_to_weight_ratio() -> None:
    flow = flow_of([-2.0, -1.0])
    expected = flow.log10_weight_grad_norm - flow.log10_weight_norm - 1.0
    np.testing.assert_allclose(flow.update_to_weight(0.1), expected)
    np.testing.assert_allclose(flow_of([-2.0, -1.0], {"lr": 0.1}).update_to_weight(), expected)
    with pytest.raises(ArgumentError, match="rate above 0"):
        flow.update_to_weight()
    for bad, want in (
        ("a", "number, got 'a'"),
        (True, "number, got True"),
        (math.inf, "finite number, got inf"),
    ):
        with pytest.raises(ArgumentError, match=f"lr: expected a {want}"):
            flow.update_to_weight(bad)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="lr: expected a rate above 0, got 0"):
        flow.update_to_weight(0)


def test_unchanged_share_needs_a_rate() -> None:
    assert np.isnan(flow_of([-1.0]).unchanged_share).all()
    assert flow_of([-60.0, -1.0], lr=0.1).unchanged_share.tolist() == [1.0, 0.0]


def test_norms_only_says_what_to_do_for_more() -> None:
    flow = flow_of([-1.0, -2.0], full=False)
    assert not flow.has_statistics
    with pytest.raises(ArgumentError, match='measure with stats="full"'):
        _ = flow.out_var
    assert flow.diagnose().verdict in ("stable", "exploding")
    assert set(flow.table["quantity"]) == {
        "log10_grad_norm",
        "log10_delta_norm",
        "log10_weight_grad_norm",
        "log10_bias_grad_norm",
    }


# --- rate ---------------------------------------------------------------------------------------------------


def test_rate_is_the_mean_change_towards_the_input() -> None:
    flow = flow_of([-3.0, -2.0, -1.0])
    assert flow.decades_per_step == pytest.approx(-1.0)
    low, high = flow.decades_per_step_ci
    assert low == pytest.approx(-1.0)
    assert high == pytest.approx(-1.0)
    assert flow_of([3.0, 2.0, 1.0]).decades_per_step == pytest.approx(1.0)


def test_the_chain_leaves_out_steps_of_another_width() -> None:
    raw = fake_raw([-50.0, *falling(30, rate=-0.5, noise=0.0), 40.0])
    raw["width"][0], raw["width"][-1] = 784, 10
    rate = GradientFlow.from_raw(raw).rate
    assert (rate.chain.start, rate.chain.stop) == (1, 31)
    assert rate.mean == pytest.approx(-0.5)


def test_alternating_widths_use_all_steps() -> None:
    raw = fake_raw(falling(20, noise=0.0))
    raw["width"][::2] = 32
    assert GradientFlow.from_raw(raw).rate.chain.size == 20


def test_zeros_and_nans_are_left_out_of_the_rate() -> None:
    curve = falling(60, rate=-0.25, noise=0.0)
    curve[:20] = -np.inf
    rate = flow_of(curve).rate
    assert rate.chain.start == 20
    assert rate.mean == pytest.approx(-0.25)


def test_long_chains_leave_out_their_ends() -> None:
    curve = falling(1000, rate=-0.1, noise=0.0)
    curve[:20] += 50.0
    curve[-20:] -= 50.0
    rate = flow_of(curve).rate
    assert rate.mean == pytest.approx(-0.1)
    assert rate.used.size == 900


@pytest.mark.parametrize("steps", [0, 1])
def test_too_few_steps_have_no_rate(steps: int) -> None:
    rate = _rate.estimate(np.zeros(steps))
    assert math.isnan(rate.mean)


def test_two_steps_have_a_rate_and_no_interval() -> None:
    rate = _rate.estimate(np.array([-1.0, 0.0]))
    assert (rate.mean, rate.low, rate.high) == (-1.0, -math.inf, math.inf)


def test_student_quantiles() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in [*range(1, 40), 100, 1000]:
        assert _rate.student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-5)


def noise(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    draws = rng.normal(size=(shape[0], shape[1] + 1))
    if kind == "independent":
        return draws[:, 1:]
    if kind == "norm noise":  # noise of single norms enters two neighbouring differences with opposite signs
        return np.diff(draws) + 0.5 * rng.normal(size=shape)
    result = np.empty(shape)  # drifts: each difference keeps 0.6 of the one before
    result[:, 0] = draws[:, 0] / 0.8
    for k in range(1, shape[1]):
        result[:, k] = 0.6 * result[:, k - 1] + draws[:, k]
    return result


@pytest.mark.parametrize("kind", ["independent", "norm noise", "drifting"])
@pytest.mark.parametrize("count", [9, 99, 999])
def test_the_interval_covers_the_true_rate(kind: str, count: int) -> None:
    """Nominal 95 %: at least 92 %, save in short drifting chains, which cannot tell drift from rate."""
    rng = np.random.default_rng([len(kind), count])
    trials = 600
    series = noise(kind, (trials, count), rng) * 0.04 - 0.6
    intervals = np.array([_rate.mean_interval(row)[1:3] for row in series])
    coverage = np.mean((intervals[:, 0] <= -0.6) & (intervals[:, 1] >= -0.6))
    least = {"independent": 0.92, "norm noise": 0.92, "drifting": {9: 0.70, 99: 0.88, 999: 0.92}[count]}[kind]
    assert coverage >= least
    # Not by being wide: for independent noise the interval is close to the exact Student one.
    if kind == "independent":
        assert coverage <= 0.985
        half = np.median(intervals[:, 1] - intervals[:, 0]) / 2
        assert half < 1.5 * 1.96 * 0.04 / math.sqrt(count) * (1.25 if count == 9 else 1.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(-3000, 3000), st.integers(3, 200), st.integers(0, 1000))
def test_scaling_the_loss_moves_norms_and_not_the_rate(shift: int, steps: int, seed: int) -> None:
    raw = fake_raw(falling(steps, seed=seed))
    moved = dict(raw)
    for key in ("grad_log2_norm", "delta_log2_norm", "weight_grad_log2_norm"):
        moved[key] = raw[key] + shift
    one, other = GradientFlow.from_raw(raw), GradientFlow.from_raw(moved)
    np.testing.assert_allclose(other.log2_grad_norm - one.log2_grad_norm, shift, atol=1e-9)
    assert other.decades_per_step == pytest.approx(one.decades_per_step, abs=1e-9)


# --- tables and files ---------------------------------------------------------------------------------------


def test_long_table_has_one_row_per_step_and_quantity() -> None:
    flow = flow_of(falling(7), {"lr": 0.1}, lr=0.1)
    table = flow.table
    quantities = list(dict.fromkeys(table["quantity"]))
    assert all(len(column) == 7 * len(quantities) for column in table.values())
    rows = [i for i, name in enumerate(table["quantity"]) if name == "log10_grad_norm"]
    assert table["step"][rows].tolist() == list(range(7))
    np.testing.assert_array_equal(table["value"][rows], flow.log10_grad_norm)
    assert {"unchanged_share", "log10_update_to_weight", "share_flushed_float8_e4m3"} <= set(quantities)
    assert set(table["unit"]) == {"log10", "share", "count", "decades", "value"}


def test_unit_table_has_one_row_per_unit() -> None:
    units = flow_of(falling(4), units_per_step=2).units
    assert all(len(column) == 8 for column in units.values())
    assert list(units["kind"][:2]) == ["dense", "residual"]
    assert {f"delta_flush_{name}" for name in FORMATS} <= set(units)


def test_data_frame() -> None:
    pytest.importorskip("pandas")
    frame = flow_of(falling(5)).to_pandas()
    assert list(frame.columns) == ["step", "unit", "quantity", "value"]
    assert str(frame["quantity"].dtype) == "category"


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_files_keep_every_bit(tmp_path: Path, suffix: str) -> None:
    flow = flow_of(
        [-np.inf, -700.125, np.nan, 1 / 3, np.inf], {"lr": 0.1, "label": "x"}, lr=0.1, loss=math.nan
    )
    path = tmp_path / f"flow{suffix}"
    flow.save(path)
    again = GradientFlow.load(path)
    assert again.meta == flow.meta
    assert set(again.raw) == set(flow.raw)
    for key, value in flow.raw.items():
        np.testing.assert_array_equal(np.asarray(again.raw[key]), np.asarray(value))
        if isinstance(value, np.ndarray):
            assert again.raw[key].dtype == value.dtype
    if suffix == ".json":  # strict: no NaN or Infinity tokens
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the file"))


def test_dict_round_trip() -> None:
    flow = flow_of(falling(3))
    again = GradientFlow.from_dict(flow.to_dict())
    np.testing.assert_array_equal(again.log10_grad_norm, flow.log10_grad_norm)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.json or \.npz"):
        flow_of([-1.0]).save(tmp_path / "flow.pkl")
    for name, content in [
        ("a.json", b"{}"),
        ("b.json", b"nonsense"),
        ("c.npz", b"nonsense"),
        ("d.json", b"[1]"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArgumentError, match=r"written by GradientFlow\.save"):
            GradientFlow.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        GradientFlow.load(tmp_path / "absent.npz")


def test_texts_are_short_and_escaped() -> None:
    flow = flow_of(falling(1000))
    assert len(repr(flow)) < 160
    assert "1e-598.5" in repr(flow)
    assert "<table>" in flow._repr_html_()
