"""Diagnoses: verdicts, horizons, signs, and norms that come from other frameworks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from _fake_raw import fake_raw
from test_flow import falling, flow_of
from vgcore._formats import LIMITS
from vgcore.diagnosis import VERDICTS, Diagnosis, diagnose
from vgcore.errors import ArgumentError, ShapeError
from vgcore.flow import FORMATS, GradientFlow


def walk(steps: int, sd: float, seed: int) -> Any:
    return np.random.default_rng(seed).normal(0, sd, steps).cumsum()


# --- verdicts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "steps", "verdict"),
    [
        (-0.6, 10, "vanishing"),
        (-0.6, 1000, "vanishing"),
        (-0.001, 5000, "vanishing"),
        (0.2, 10, "exploding"),
        (0.002, 2000, "exploding"),
        (0.0, 100, "stable"),
        (-0.01, 50, "stable"),
        (0.01, 50, "stable"),
    ],
)
def test_verdict_follows_rate_and_depth(rate: float, steps: int, verdict: str) -> None:
    curve = rate * np.arange(steps)[::-1] + np.random.default_rng(1).normal(0, 0.01, steps)
    assert flow_of(curve).diagnose().verdict == verdict
    assert diagnose(curve, log10=True).verdict == verdict


def test_saturated_needs_a_bounded_function() -> None:
    curve = falling(50)
    assert flow_of(curve, saturated=0.8).diagnose().verdict == "saturated"
    assert flow_of(curve, {"saturates": False}, saturated=0.8).diagnose().verdict == "vanishing"
    assert (
        flow_of(curve, {"saturates": True}, saturated=0.8, zero_slope=0.8).diagnose().verdict == "saturated"
    )
    # The zero side of a ReLU is no saturation.
    assert flow_of(curve, saturated=0.55, zero_slope=0.55).diagnose().verdict == "vanishing"
    # Flat ends without a shrinking gradient are no verdict.
    assert flow_of(np.zeros(50), saturated=0.8).diagnose().verdict == "stable"


def test_zeros_where_the_forward_pass_is_not_finite_are_no_dead_units() -> None:
    dead = np.where(np.arange(50) >= 30, 64, 0)
    raw = fake_raw(np.full(50, -np.inf), dead=dead)
    raw["out_var"] = np.where(np.arange(50) >= 30, np.inf, 1.0)
    diagnosis = GradientFlow.from_raw(raw).diagnose()
    assert diagnosis.verdict == "exploding"
    assert "that is no sign of dead units" in diagnosis.text
    sign = diagnosis.sign("dead units")
    assert sign is not None
    assert not sign.present
    assert sign.text == "0 % of the units (0) have slope zero for every sample"
    spoiled = diagnosis.sign("non-finite values")
    assert spoiled is not None
    assert spoiled.text == "the forward pass leaves the float range at step 30"
    # Zeros behind a dead layer that lies above everything that overflowed are zeros of that layer.
    raw = fake_raw(np.where(np.arange(50) < 20, -np.inf, -1.0), dead=np.where(np.arange(50) == 20, 64, 0))
    assert GradientFlow.from_raw(raw).diagnose().verdict == "dead"
    raw["out_var"] = np.full(50, np.nan)
    assert GradientFlow.from_raw(raw).diagnose().sign("dead units") is None


def test_nan_in_the_forward_pass_is_no_flow_to_judge() -> None:
    raw = fake_raw(np.full(50, -1.0), loss=None)
    assert GradientFlow.from_raw(raw).diagnose().verdict == "stable"
    raw["out_var"] = np.where(np.arange(50) >= 30, np.nan, 1.0)
    assert GradientFlow.from_raw(raw).diagnose().verdict == "exploding"


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "prelu", "relu6", "hardtanh", "hardsigmoid", "tanh"])
def test_an_overflow_is_never_called_dead(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 32)).astype("f4")
    net = vg.mlp(40, 32, activation=name, bias=False, rng=0)
    parameters = net.parameters()
    # Products that overflow to either sign, of which NaN is the sum.
    parameters["hidden.weight"][20] = np.finfo("f4").max * np.sign(parameters["hidden.weight"][20])
    net.load_parameters(parameters)
    assert net.probe(x, cotangent=x).diagnose().verdict != "dead"


def test_dead_units_are_told_from_underflow() -> None:
    curve = np.zeros(50)
    curve[:20] = -np.inf
    dead = np.where(np.arange(50) == 19, 64, 0)
    diagnosis = flow_of(curve, dead=dead).diagnose()
    assert diagnosis.verdict == "dead"
    assert "step 19" in diagnosis.text
    sign = diagnosis.sign("dead units")
    assert sign is not None
    assert sign.present
    assert "all units of step 19" in sign.text
    assert diagnosis.horizon["float64"] == 31  # the 31st step from the output is the first exact zero


def test_mixed_needs_both_parts_beyond_chance() -> None:
    hill = np.concatenate((np.linspace(0, 20, 50), np.linspace(20, 0, 50)))
    diagnosis = diagnose(hill, log10=True)
    assert diagnosis.verdict == "mixed"
    assert "first grows" in diagnosis.text
    assert diagnose(-hill, log10=True).verdict == "mixed"
    assert diagnose(np.linspace(0, 20, 100), log10=True).verdict != "mixed"


def test_a_random_walk_is_seldom_mixed() -> None:
    verdicts = [diagnose(walk(2000, 0.06, seed), log10=True).verdict for seed in range(200)]
    assert verdicts.count("mixed") <= 10


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_values_are_named(value: float) -> None:
    curve = falling(30, rate=0.5)
    curve[:5] = value
    for diagnosis in (flow_of(curve).diagnose(), diagnose(curve, log10=True)):
        assert diagnosis.verdict == "exploding"
        sign = diagnosis.sign("non-finite values")
        assert sign is not None
        assert sign.present
        assert "5 of 30 steps" in sign.text
        assert "steps 0 to 4" in sign.text


def test_a_broken_forward_pass_is_named() -> None:
    raw = fake_raw([math.nan] * 5, loss=math.nan)
    raw["out_var"][3:] = np.inf
    sign = GradientFlow.from_raw(raw).diagnose().sign("non-finite values")
    assert sign is not None
    assert "forward pass leaves the float range at step 3" in sign.text
    assert "the loss is nan" in sign.text


# --- horizons -----------------------------------------------------------------------------------------------


def test_horizon_is_where_the_largest_value_reads_zero() -> None:
    """A scalar chain that quarters each step: first exact zeros as a plain float computes them."""
    steps = 600
    log2 = -2.0 * np.arange(1, steps + 1)[::-1]
    raw = fake_raw(log2 * math.log10(2))
    raw["delta_log2_max"] = log2
    horizon = GradientFlow.from_raw(raw).diagnose().horizon
    value32, value16 = np.float32(1), np.float16(1)
    for k in range(1, steps):
        value32 = np.float32(value32 * np.float32(0.25))
        if value32 == 0:
            assert horizon["float32"] == k
            break
    for k in range(1, steps):
        value16 = np.float16(value16 * np.float16(0.25))
        if value16 == 0:
            assert horizon["float16"] == k
            break
    assert (horizon["float32"], horizon["float16"], horizon["bfloat16"], horizon["float64"]) == (
        75,
        13,
        67,
        538,
    )


def test_horizon_beyond_the_network_is_extrapolated() -> None:
    diagnosis = diagnose(
        falling(10, rate=-1.0, noise=0.0) + 1.0, log10=True
    )  # 0 at the last step, -9 at step 0
    entry = diagnosis.horizons["float32"]
    assert entry.how == "extrapolated"
    assert entry.end == "zero"
    # 10**-k reads zero from k = 46 on: half the smallest float32 is 10**-45.15.
    assert diagnosis.horizon["float32"] == 47
    longer = diagnose(falling(100, rate=-1.0, noise=0.0) + 1.0, log10=True)
    assert longer.horizon["float32"] == 47
    assert longer.horizons["float32"].how == "measured"


def test_explosions_overflow() -> None:
    entry = diagnose(falling(50, rate=1.0, noise=0.0) + 1.0, log10=True).horizons["float32"]
    assert (entry.end, entry.how, entry.steps) == ("overflow", "measured", 40.0)


def test_without_a_rate_the_horizon_is_unknown() -> None:
    diagnosis = flow_of(np.full(5, math.nan)).diagnose()
    assert all(math.isnan(steps) for steps in diagnosis.horizon.values())
    assert "unknown" in str(diagnosis)


def test_a_faded_forward_pass_is_named() -> None:
    raw = fake_raw([-math.inf] * 8 + [0.0, 0.0])
    raw["out_var"][4:], raw["out_mean"][4:] = 0.0, 0.0
    text = GradientFlow.from_raw(raw, {"dtype": "float32"}).diagnose().text
    assert "from step 4 on all outputs are zero in float32" in text


def test_stable_gradients_have_no_horizon() -> None:
    diagnosis = diagnose(np.ones(50))
    assert all(math.isinf(steps) for steps in diagnosis.horizon.values())
    assert set(diagnosis.horizon) == set(FORMATS)


@pytest.mark.parametrize("name", ["float64", "float32", "float16"])
def test_limits_are_those_of_the_format(name: str) -> None:
    info, entry = np.finfo(name), LIMITS[name]
    assert entry.zero == math.log2(float(info.smallest_subnormal)) - 1
    assert entry.subnormal == math.log2(float(info.smallest_normal))
    assert entry.overflow == pytest.approx(math.log2(float(info.max)), abs=1e-2)
    if name == "float16":
        assert np.float16(2.0**entry.zero) == 0
        assert np.float16(2.0**entry.zero * 1.01) != 0
        with np.errstate(over="ignore"):
            assert np.isinf(np.float16(2.0**entry.overflow * (1 + 1e-9)))
        assert np.isfinite(np.float16(2.0**entry.overflow * (1 - 1e-6)))


# --- signs --------------------------------------------------------------------------------------------------


def test_signs_of_a_vanishing_gradient() -> None:
    diagnosis = flow_of(falling(100, rate=-0.6), {"lr": 0.1}, lr=0.1).diagnose()
    uneven = diagnosis.sign("upper layers change and lower ones barely or not at all")
    share = diagnosis.sign("early layers' share of the whole update")
    unchanged = diagnosis.sign("weights unchanged to the bit")
    flushed = diagnosis.sign("flushed in float32")
    assert uneven is not None
    assert share is not None
    assert unchanged is not None
    assert flushed is not None
    assert uneven.present
    assert uneven.value == pytest.approx(0.6 * 90, abs=2)
    assert share.present
    assert share.value < -100
    assert unchanged.present
    assert unchanged.value == 1.0
    assert flushed.present


def test_signs_of_a_healthy_gradient() -> None:
    diagnosis = flow_of(np.zeros(100), {"lr": 0.1}, lr=0.1).diagnose()
    assert [sign.name for sign in diagnosis.signs if sign.present and "float8" not in sign.name] == []
    share = diagnosis.sign("early layers' share of the whole update")
    assert share is not None
    assert share.value == pytest.approx(-1.0)
    assert diagnosis.sign("no such sign") is None


def test_the_text_is_for_strangers() -> None:
    text = str(flow_of(falling(1000, rate=-0.627), {"lr": 0.1}, lr=0.1).diagnose())
    assert text.startswith("verdict: vanishing")
    for words in (
        "95 % interval",
        "float32",
        "reads zero from step",
        "signs present",
        "signs absent",
        "mean of the log",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100


def test_shape_of_a_diagnosis() -> None:
    diagnosis = diagnose([1e-9, 1e-6, 1e-3, 1.0])
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.verdict in VERDICTS
    assert diagnosis.ci[0] <= diagnosis.decades_per_step <= diagnosis.ci[1]
    assert diagnosis.total_decades == pytest.approx(-9)
    assert diagnosis.to_dict()["verdict"] == diagnosis.verdict
    assert repr(diagnosis).startswith("<Diagnosis vanishing")
    assert "<table>" in diagnosis._repr_html_()
    with pytest.raises(AttributeError):
        diagnosis.verdict = "stable"  # type: ignore[misc]


# --- norms from elsewhere -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "norms",
    [
        [1e-3, 1e-2, 1e-1, 1.0],
        (1e-3, 1e-2, 1e-1, 1.0),
        np.array([1e-3, 1e-2, 1e-1, 1.0], np.float32),
        np.array([1e-3, 1e-2, 1e-1, 1.0], np.dtype(">f8"))[::1],
        np.array([1e-3, 1e-2, 1e-1, 1.0], np.float16),
        {"a": 1e-3, "b": 1e-2, "c": 1e-1, "d": 1.0},
        [np.float32(1e-3), np.array(1e-2), 1e-1, 1],
        (v for v in (1e-3, 1e-2, 1e-1, 1.0)),
    ],
)
def test_any_sequence_of_norms(norms: Any) -> None:
    assert diagnose(norms).decades_per_step == pytest.approx(-1.0, abs=1e-3)


def test_zeros_that_a_framework_flushed() -> None:
    true = 10.0 ** falling(60, rate=-1.0, noise=0.0)
    diagnosis = diagnose(true.astype(np.float32))
    assert diagnosis.verdict == "vanishing"
    assert "your framework flushed them" in diagnosis.text
    assert "layer 15 down" in diagnosis.text or "layer 14 down" in diagnosis.text


def test_norms_lost_by_squaring_in_float32() -> None:
    true = (10.0 ** falling(60, rate=-1.0, noise=0.0)).astype(np.float32)
    with np.errstate(under="ignore"):
        norms = np.sqrt(true * true)
    diagnosis = diagnose(norms)
    assert diagnosis.verdict == "vanishing"
    assert "flushed" in diagnosis.text


def test_zeros_far_from_underflow_are_dead() -> None:
    diagnosis = diagnose([0.0, 0.0, 0.5, 0.4, 0.6, 0.5])
    assert diagnosis.verdict == "dead"
    assert "layer 1 down" in diagnosis.text
    assert diagnose([0.0, 0.0]).verdict == "dead"


def test_logarithms_beyond_the_float_range() -> None:
    diagnosis = diagnose([-6270.0, -3135.0, 0.0], log10=True)
    assert diagnosis.verdict == "vanishing"
    assert "1e-6270" in diagnosis.text


def test_one_norm_is_no_curve() -> None:
    diagnosis = diagnose([1.0])
    assert diagnosis.verdict == "stable"
    assert math.isnan(diagnosis.decades_per_step)


def test_bad_norms_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"-1 at norms\[1\].*log10=True"):
        diagnose([1.0, -1.0])
    with pytest.raises(ShapeError, match=r"shape \(0,\)"):
        diagnose([])
    with pytest.raises(ShapeError, match=r"shape \(2, 2\)"):
        diagnose(np.ones((2, 2)))
    for bad in (3, "text", [None, 1.0], [[1.0], [2.0, 3.0]], np.array([1 + 2j])):
        with pytest.raises(ArgumentError, match="norms: expected"):
            diagnose(bad)
