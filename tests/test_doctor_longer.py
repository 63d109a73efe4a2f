"""Tests of the doctor's longer trials: what is learned along time is seldom learned in a few dozen steps."""

from __future__ import annotations

import numpy as np
import pytest
import vgcore as vg
from vgcore._doctor_clock import Clock
from vgcore._doctor_longer import CHOSEN, LONGER, promising
from vgcore.doctor import Trial, helps, rank_key

CURES = ["forget_bias:1", "forget_bias:3", "gru", "orthogonal", "clip_norm"]


def sick(cell: str) -> vg.Network:
    if cell == "lstm":
        return vg.rnn("lstm", 16, in_features=2, out_features=1, forget_bias=-3.0, rng=0)
    start = vg.initializers.normal(std=0.8)
    return vg.rnn("rnn", 16, in_features=2, out_features=1, recurrent_init=start, rng=0)


@pytest.mark.parametrize(
    ("cell", "illness"),
    [("lstm", "vanishing: closed gate"), ("rnn", "exploding: large recurrent weights")],
)
def test_a_cure_of_the_adding_problem_is_found_and_then_trains(cell: str, illness: str) -> None:
    x, y = vg.datasets.adding(512, 30, rng=0)
    net = sick(cell)
    found = net.doctor(x, y, candidates=CURES, pairs=False)
    assert found.illness == illness
    assert found.recommended, found
    best = found.recommended[0]
    assert best is found.trials[0]
    assert best.steps == found.untouched.steps == found.settings["longest"]
    assert best.steps in [factor * found.settings["steps"] for factor in LONGER]
    assert best.confirmed
    shorter = [trial for trial in found.trials if trial.steps < best.steps]
    assert not any(found.helped(trial) for trial in shorter), "they are not compared with longer ones"
    text = " ".join(str(found).split())
    assert f"Within 40 steps nothing helped, so the most promising were trained for {best.steps}" in text
    assert f"Left as it is, {best.steps} steps take the loss" in text
    cured, held_out = found.best(), vg.datasets.adding(512, 30, rng=1)
    history = cured.fit(x, y, epochs=150, rng=9)
    assert history.stopped is None
    assert cured.loss(*held_out, loss="mse") < 0.3 * found.chance


def test_a_budget_without_room_for_longer_trials_is_kept() -> None:
    x, y = vg.datasets.adding(64, 20, rng=0)
    trials = 3 * 5
    found = sick("lstm").doctor(
        x, y, candidates=["forget_bias:3", "gru"], pairs=False, steps=5, budget=trials * 10
    )
    assert found.untouched.steps == found.settings["longest"] == 5
    assert found.recommended == ()
    assert "Nothing that was tried helped within 5 steps." in str(found)
    clock = Clock(100, 10)
    clock.spend(8)
    assert not clock.late(1.0, 2)
    assert clock.late(1.0, 3)
    assert Clock("1s", 10).late(1.0, seconds=2.0)


def _trial(cure: str, learning: float, loss: float = 1.0, steps: int = 40) -> Trial:
    return Trial(
        vg.mitigations.as_cures(cure), learning=learning, loss=loss, steps=steps, optimizer=vg.SGD(0.1),
        seconds_per_step=1.0,
    )  # fmt: skip


def test_those_go_on_that_let_the_gradient_reach_more() -> None:
    untouched = _trial("none", 0.1)
    ranked = [
        _trial("clip_norm", 0.1), _trial("gru", 0.9), _trial("lstm", 0.8), _trial("irnn", 1.0),
        _trial("lstm+forget_bias:3", 0.9),
        _trial("forget_bias:1", 0.5), _trial("orthogonal", 0.4), _trial("truncate", 0.1),
    ]  # fmt: skip
    assert [trial.name for trial in promising(ranked, untouched)] == [
        "gru", "lstm", "lstm+forget_bias:3", "forget_bias:1", "orthogonal",
    ]  # fmt: skip
    alike = [_trial(name, 0.1) for name in ("clip_norm", "adam")]
    assert [trial.name for trial in promising(alike, untouched)] == ["clip_norm", "adam"]
    assert promising([Trial(vg.mitigations.as_cures("gru"), failed="no")], untouched) == []
    assert len(promising(ranked * 3, untouched)) <= CHOSEN


def test_trials_of_other_lengths_are_not_compared() -> None:
    base, short, long = _trial("none", 0.1, 1.0, 320), _trial("gru", 1.0, 0.1), _trial("lstm", 0.1, 2.0, 320)
    assert not helps(short, base, 1.0)
    assert helps(_trial("gru", 1.0, 0.1, 320), base, 1.0)
    assert rank_key(long, base, 0.01) < rank_key(short, base, 0.01)


def test_along_depth_nothing_goes_on() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(64, 8)).astype("float32"), draw.integers(0, 3, 64)
    net = vg.mlp(60, 8, in_features=8, out_features=3, activation="sigmoid", rng=0)
    found = net.doctor(x, y, candidates=["init:glorot_uniform"], steps=3)
    assert found.settings["longest"] == found.settings["steps"] == 3
