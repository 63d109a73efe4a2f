"""Diagnoses along time: verdicts, memory in steps, gates that close the path, broken forward passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from _fake_time import fading, fake_block, fake_time
from test_flow_time import flow_of, stacked
from vgcore._diagnosis_time import TimeDiagnosis
from vgcore.diagnosis import VERDICTS, Diagnosis, diagnose
from vgcore.errors import ArgumentError, ShapeError
from vgcore.flow import FORMATS, GradientFlow


def diagnosed(*blocks: dict[str, Any], meta: dict[str, Any] | None = None, **extra: Any) -> TimeDiagnosis:
    return flow_of(*blocks, meta=meta, **extra).diagnose()


def present(diagnosis: Diagnosis, name: str) -> bool:
    sign = diagnosis.sign(name)
    assert sign is not None, f"no sign {name!r} among {[entry.name for entry in diagnosis.signs]}"
    return sign.present


# --- verdicts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "steps", "verdict"),
    [
        (-0.2, 20, "vanishing"),
        (-0.2, 2000, "vanishing"),
        (-0.001, 5000, "vanishing"),
        (0.2, 20, "exploding"),
        (0.002, 2000, "exploding"),
        (0.0, 100, "stable"),
        (-0.01, 50, "stable"),
    ],
)
def test_verdict_follows_rate_and_length(rate: float, steps: int, verdict: str) -> None:
    curve = rate * np.arange(steps)[::-1] + np.random.default_rng(1).normal(0, 0.01, steps)
    found = diagnosed(fake_block(curve, cell="gru", full=False))
    assert found.verdict == verdict
    assert found.axis == "time"
    assert found.steps == steps
    bare = diagnose(curve, log10=True, axis="time")
    assert isinstance(bare, TimeDiagnosis)
    assert (bare.verdict, bare.half_life) == (verdict, found.half_life)


def test_vanishing_is_told_in_steps() -> None:
    found = diagnosed(fake_block(fading(400, -0.1, noise=0.0), cell="gru"))
    assert found.half_life == pytest.approx(3.0103, rel=1e-4)
    assert found.half_life_ci[0] == pytest.approx(found.half_life, rel=1e-6)
    assert (found.memory_horizon, found.memory_how) == (30.0, "measured")
    assert "The gradient halves every 3.01 steps." in found.text
    assert "per step back in time" in found.text
    assert found.halved_after == 4.0  # whole steps
    assert present(found, "memory shorter than the sequence")
    text = str(found)
    assert "half-life            3.01 steps" in text
    assert "down to 1/1000       30 steps" in text
    assert len(repr(found)) < 140


def test_memory_beyond_the_sequence_is_extrapolated() -> None:
    found = diagnosed(fake_block(fading(101, -0.02, noise=0.0), cell="gru"))
    assert found.verdict == "vanishing"
    assert (found.memory_horizon, found.memory_how) == (150.0, "extrapolated")
    assert not present(found, "memory shorter than the sequence")
    # A fall too small for a verdict has a half-life all the same.
    slow = diagnosed(fake_block(fading(101, -0.005, noise=0.0), cell="gru"))
    assert slow.verdict == "stable"
    assert slow.half_life == pytest.approx(60.2, rel=1e-3)
    assert slow.memory_horizon == 600.0


def test_growing_gradients_have_no_half_life_but_a_doubling_time() -> None:
    found = diagnosed(fake_block(fading(400, 0.1, noise=0.0), cell="gru"))
    assert (found.half_life, found.memory_horizon, found.memory_how) == (math.inf, math.inf, "none")
    assert "doubles in           3.01 steps" in str(found)


def test_mixed_names_the_time_step_where_it_turns() -> None:
    hill = np.concatenate((np.linspace(0, 20, 50), np.linspace(20, 0, 50)))
    found = diagnosed(fake_block(hill, cell="gru"))
    assert found.verdict == "mixed"
    assert "back from the loss the gradient first grows" in found.text
    assert "step 49" in found.text or "step 50" in found.text


def test_horizons_of_formats_go_by_the_norm() -> None:
    found = diagnosed(fake_block(fading(400, -0.1, noise=0.0, end=0.0), cell="gru"))
    # 2**-150 is 1e-45.15: the 453rd step from the loss would be the first below; the sequence has 400.
    assert found.horizon["float32"] == pytest.approx(453, abs=1)
    assert found.horizons["float32"].how == "extrapolated"
    assert found.horizon["float16"] == pytest.approx(77, abs=1)
    assert found.horizons["float16"].how == "measured"
    assert set(found.horizon) == set(FORMATS)
    assert present(found, "flushed in float16")
    assert not present(found, "flushed in float64")
    assert "this sequence has 400" in str(found)


# --- zeros and what is not a number -------------------------------------------------------------------------


def test_dead_steps_are_named_with_their_cause() -> None:
    curve = fading(300, -0.001)
    curve[:120] = -np.inf
    flat = np.where(np.arange(300) <= 120, 1.0, 0.1)
    found = diagnosed(fake_block(curve, cell="rnn", saturated={"h": flat}))
    assert found.verdict == "dead"
    assert "From time step 119 away from the loss" in found.text
    assert "all activations of time step 120 have slope zero" in found.text
    assert found.horizon["float64"] == 181
    block = fake_block(curve, cell="irnn")
    block["hidden_var"][:, :121] = 0.0
    assert "hidden state is zero at time step 120" in diagnosed(block).text
    block = fake_block(curve, cell="gru", jacobian=np.where(np.arange(300) <= 120, -np.inf, -0.1))
    assert "Jacobian of time step 120 is zero" in diagnosed(block).text
    assert "every path is blocked" in diagnosed(fake_block(curve, cell="gru", full=False)).text
    everything = diagnosed(fake_block(np.full(9, -np.inf), cell="gru"))
    assert everything.verdict == "dead"
    assert "zero at every step" in everything.text


def test_a_reverse_layer_names_its_zeros_by_time() -> None:
    curve = fading(100, -0.001)
    curve[:40] = -np.inf
    rows = np.stack((fading(100), curve[::-1]))
    found = flow_of(fake_block(rows, cell="gru", directions=2, full=False)).layer(0, 1).diagnose()
    assert found.verdict == "dead"
    assert "From time step 60 away from the loss" in found.text
    assert "rnn l0 reverse" in found.text
    assert found.direction == 1


def test_padding_and_truncation_are_no_zeros_of_the_network() -> None:
    padded = np.concatenate((fading(100, -0.001), np.full(30, -np.inf)))
    found = diagnosed(fake_block(padded, cell="gru"))
    assert found.verdict == "stable"
    assert "Steps after 99 are padding" in found.text
    cut = np.where(np.arange(100) < 75, -np.inf, fading(100, -0.3))
    found = diagnosed(fake_block(cut, cell="gru"), meta={"truncate": 25})
    assert found.verdict == "vanishing"
    assert "truncated every 25 steps" in found.text
    assert diagnosed(fake_block(cut, cell="gru")).verdict == "dead"


def test_zeros_of_another_framework() -> None:
    flushed = np.where(np.arange(60) < 20, -np.inf, fading(60, -1.0))
    assert diagnose(flushed, log10=True, axis="time").verdict == "vanishing"
    detached = np.where(np.arange(60) < 20, 0.0, 1.0)
    found = diagnose(detached, axis="time")
    assert found.verdict == "dead"
    assert "truncation" in found.text
    assert diagnose(np.zeros(5), axis="time").verdict == "dead"
    with pytest.raises(ShapeError, match="one norm per time step"):
        diagnose([], axis="time")
    with pytest.raises(ArgumentError, match="expected 'depth' or 'time', got 'space'"):
        diagnose([1.0], axis="space")  # type: ignore[arg-type]


def test_a_broken_forward_pass_is_told_with_what_led_to_it() -> None:
    block = fake_block(np.full((2, 300), np.nan), cell="irnn")
    size = np.where(np.arange(300) < 200, 10.0 ** (0.3 * np.arange(300)), np.nan)
    block["hidden_var"] = np.stack((np.ones(300), size))
    spot = {"step": 200, "layer": 1, "direction": 0, "units": 3}
    found = diagnosed(block, loss=math.nan, nonfinite=spot)
    assert found.verdict == "exploding"
    assert found.nonfinite == spot
    assert "leaves the float range at time step 200 of layer 1, in 3 units" in found.text
    assert "grew by 0.15 decades per step, from 1 to 1e29.8" in found.text
    sign = found.sign("non-finite values")
    assert sign is not None
    assert sign.present
    assert "the loss is nan" in sign.text
    assert "300 of 300 steps are not finite (300 NaN, 0 infinite), steps 0 to 299" in sign.text
    assert math.isnan(found.half_life)
    assert found.to_dict()["nonfinite"] == spot
    without = diagnosed(fake_block(np.full(30, np.nan), full=False), nonfinite={"step": 3})
    assert "at time step 3;" in without.text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite_are_named(value: float) -> None:
    curve = fading(30, 0.5)
    curve[:5] = value
    for found in (diagnosed(fake_block(curve, cell="gru")), diagnose(curve, log10=True, axis="time")):
        assert found.verdict == "exploding"
        sign = found.sign("non-finite values")
        assert sign is not None
        assert "5 of 30 steps" in sign.text
        assert "steps 0 to 4" in sign.text


# --- gates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "gates", "word", "keep"),
    [
        ("lstm", {"f": 0.5}, "forget gate", 0.5),
        ("gru", {"z": 0.5}, "update gate", 0.5),
        ("min_gru", {"z": 0.6}, "update gate", 0.4),
        ("min_lstm", {"f": 0.3, "i": 0.6}, "forget gate", 1 / 3),
    ],
)
def test_the_gate_that_closes_the_path(cell: str, gates: dict[str, Any], word: str, keep: float) -> None:
    curve = fading(100, math.log10(keep), noise=0.001)
    found = diagnosed(fake_block(curve, cell=cell, gates=gates))
    assert found.verdict == "vanishing"
    assert found.gate is not None
    assert found.gate.word == word
    assert found.gate.keep == pytest.approx(keep)
    assert found.closed_by.startswith(f"the {word} closes the path: it keeps")
    assert f"The {word} closes the path" in found.text
    assert word in str(found)


def test_a_gate_that_stays_open_is_not_blamed() -> None:
    block = fake_block(fading(100, -0.2), cell="gru", gates={"z": 0.98})
    assert "does not close the path" in diagnosed(block).closed_by
    shut = fake_block(fading(100, -0.2), gates={"f": 0.98, "o": 0.02}, saturated={"o": 0.9})
    found = diagnosed(shut)
    assert found.closed_by.startswith(
        "the output gate closes the path: 90 % of its values are saturated at 0"
    )
    assert present(found, "output gate shut")
    assert not present(found, "forget gate shut")
    assert diagnosed(fake_block(fading(100, 0.2))).closed_by == ""


def test_the_step_where_the_gate_shuts_is_named() -> None:
    forget = np.full(100, 0.7)
    forget[40] = 0.001
    found = diagnosed(fake_block(fading(100, -0.17), gates={"f": forget}))
    assert found.gate is not None
    assert (found.gate.step, found.gate.least) == (40, 0.001)
    assert "least at time step 40" in found.closed_by


def test_a_few_open_units_carry_what_the_typical_gate_forgets() -> None:
    found = diagnosed(fake_block(fading(2000, -0.01), gates={"f": 0.5}))
    assert "a few units keep far more" in found.closed_by


def test_saturated_goes_by_the_flat_end_that_closes() -> None:
    curve = fading(100, -0.5)
    assert diagnosed(fake_block(curve, gates={"f": 0.02}, saturated={"f": 0.9})).verdict == "saturated"
    assert diagnosed(fake_block(curve, gates={"f": 0.99}, saturated={"f": 0.9})).verdict == "vanishing"
    rnn = fake_block(curve, cell="rnn", saturated={"h": 0.9})
    assert diagnosed(rnn).verdict == "saturated"
    assert "90 % of its values sit on the flat ends" in diagnosed(rnn).closed_by
    # The zero side of a ReLU is no saturation.
    assert diagnosed(rnn, meta={"saturates": False}).verdict == "vanishing"
    assert diagnosed(fake_block(curve, cell="irnn", saturated={"h": 0.9})).verdict == "vanishing"
    weak = diagnosed(fake_block(curve, cell="rnn", jacobian=-0.5))
    assert "recurrent weights are too small" in weak.closed_by


# --- reading every step -------------------------------------------------------------------------------------


def test_where_the_loss_reads_every_step_the_jacobian_speaks() -> None:
    flat = fading(1000, 0.0, noise=0.001)
    found = diagnosed(fake_block(flat, cell="rnn", jacobian=-0.1), meta={"read": "every"})
    assert found.verdict == "stable"
    assert found.memory_how == "jacobian"
    assert found.half_life == pytest.approx(3.0103, rel=1e-4)
    assert found.memory_horizon == 30
    assert "reads every step" in found.text
    assert "by the typical Jacobian" in str(found)
    assert present(found, "memory shorter than the sequence")
    norms = diagnosed(fake_block(flat, cell="rnn", full=False), meta={"read": "every"})
    assert (norms.memory_how, math.isnan(norms.half_life)) == ("unknown", True)
    one = diagnosed(fake_block(fading(99, -0.1), cell="rnn"), meta={"read": "every"}, loss=None)
    assert one.memory_how == "measured"  # a cotangent, which starts where its owner wants it to
    chaotic = diagnosed(fake_block(flat, cell="rnn", jacobian=0.1), meta={"read": "every"})
    assert chaotic.half_life == math.inf


# --- signs --------------------------------------------------------------------------------------------------


def test_signs_of_a_short_memory() -> None:
    found = diagnosed(fake_block(fading(200, -0.2), cell="rnn", jacobian=-0.2))
    for name in ("far steps barely count", "contracting steps", "memory shorter than the sequence"):
        assert present(found, name)
    for name in ("exact zeros", "non-finite values", "saturation", "hidden state drifts"):
        assert not present(found, name)
    healthy = diagnosed(fake_block(fading(200, 0.0), cell="rnn", jacobian=0.0))
    assert not [sign.name for sign in healthy.signs if sign.present]


def test_layers_that_remember_differently() -> None:
    found = diagnosed(fake_block(stacked(3, 100), cell="gru"))
    assert present(found, "layers differ in memory")
    sign = found.sign("layers differ in memory")
    assert sign is not None
    assert "0: -0.0" in sign.text or "0: -0.1" in sign.text
    alike = diagnosed(fake_block(np.stack([fading(100, seed=1)] * 2), cell="gru"))
    assert not present(alike, "layers differ in memory")
    assert diagnosed(fake_block(fading(100), cell="gru")).sign("layers differ in memory") is None


def test_a_hidden_state_that_drifts_and_samples_that_differ() -> None:
    block = fake_block(fading(200, 0.0), cell="irnn")
    block["hidden_var"] = 10.0 ** np.linspace(0, 8, 200)[None]
    block["grad_spread"] = np.full((1, 200), 1.5)
    found = diagnosed(block)
    assert present(found, "hidden state drifts")
    assert present(found, "few samples carry the gradient")


def test_a_power_law_is_named() -> None:
    """Forget gates uniform between 0 and 1 give 1 / (T + 1)."""
    kept = np.log10(1.0 / np.arange(1000.0, 0.0, -1.0))
    found = diagnosed(fake_block(kept, cell_curves=kept))
    assert present(found, "falls like a power of time, not exponentially")
    sign = found.sign("falls like a power of time, not exponentially")
    assert sign is not None
    assert "distance from the loss to the power -1" in sign.text
    assert found.halved_after == 1.0
    assert "(next to the loss it takes 1 step)" in found.text


# --- as an object -------------------------------------------------------------------------------------------


def test_every_layer_can_be_asked() -> None:
    flow = flow_of(fake_block(stacked(3, 100), cell="gru"))
    verdicts = [flow.layer(k).diagnose() for k in range(3)]
    assert [found.layer for found in verdicts] == [0, 1, 2]
    assert "Layer 0 of 3 (rnn l0)." in verdicts[0].text
    assert diagnose(flow).text == flow.diagnose().text == verdicts[2].text
    assert diagnose(flow.layer(0)).text == verdicts[0].text


def test_as_plain_values_and_html() -> None:
    found = diagnosed(fake_block(fading(100)))
    data = found.to_dict()
    assert data["half_life"] == found.half_life
    assert data["gate"]["word"] == "forget gate"
    assert "<table>" in found._repr_html_()
    assert "half-life" in found._repr_html_()
    assert found.verdict in VERDICTS
    # A verdict along depth keeps its own keys.
    assert "half_life" not in diagnose([1e-3, 1.0]).to_dict()


def test_a_report_without_statistics_still_has_a_verdict() -> None:
    found = GradientFlow.from_raw(fake_time(fake_block(fading(100), full=False))).diagnose()
    assert found.verdict == "vanishing"
    assert isinstance(found, TimeDiagnosis)
    assert (found.gate, found.closed_by) == (None, "")
    assert str(found)
