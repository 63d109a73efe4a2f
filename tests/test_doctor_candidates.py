"""Tests of which cures the doctor tries first, and of what it says of those that it does not try."""

from __future__ import annotations

import numpy as np
import pytest
import vgcore as vg
from vgcore._doctor_candidates import all_cures, why_not
from vgcore._doctor_cause import Cause


def deep(activation: str = "sigmoid") -> vg.Network:
    return vg.mlp(30, 8, in_features=8, out_features=3, activation=activation, rng=0)


def data() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(6)
    return draw.normal(size=(64, 8)).astype("float32"), draw.integers(0, 3, 64)


@pytest.mark.parametrize(
    ("illness", "first"),
    [
        ("saturating activation", {"activation", "block", "norm", "start"}),
        ("growing sum", {"block", "norm", "start", "clip"}),
        ("unknown", set()),
    ],
)
def test_families_that_suit_the_illness_are_tried_to_their_end_before_others(
    illness: str, first: set[str]
) -> None:
    order = [cures[0] for cures in all_cures(deep(), Cause(illness, ""))]
    suits = [cure.group in first for cure in order]
    assert suits == sorted(suits, reverse=True)
    assert len(set(order)) == len(order)
    beginning = [cure.group for cure in order[: max(1, len(first))]]
    assert len(set(beginning)) == len(beginning), "families take turns"


def test_what_cannot_be_tried_is_not_left_out_for_want_of_a_budget() -> None:
    x, y = data()
    found = deep().doctor(x, y, steps=2, rates=(0.01,), budget=2 * 9)
    assert found.left_out
    along_time = set(vg.mitigations.names("cell") + vg.mitigations.names("gate"))
    named = {text.split(":")[0] for text in found.left_out}
    assert named.isdisjoint(along_time)
    assert along_time <= {text.split(":")[0] for text in found.refused}
    assert "it has no recurrent layer" in found.refused["gru"]
    tried = [trial.cures[0].group for trial in found.trials if len(trial.cures) == 1]
    assert set(tried) <= {"activation", "block", "norm", "start"}


def test_why_a_cure_does_not_apply_is_known_without_a_trial() -> None:
    x, _ = data()
    net = deep()
    cures = vg.mitigations.as_cures
    assert why_not(net, cures("rezero"), x) == ""
    assert "it has no recurrent layer" in why_not(net, cures("lstm"), x)
    assert "do not go together" in why_not(net, cures("residual+highway"), x)
    assert "residual blocks" in why_not(net, cures("stochastic_depth"), x)
    assert why_not(net, cures("residual+stochastic_depth"), x) == ""
    assert "do not go together" in why_not(net.mitigate("residual"), cures("rezero"), x)
