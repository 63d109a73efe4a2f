"""The rule for stagnation: curves that are healthy, flat, rising, never learned, short or broken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from _fake_records import noisy
from vgcore import losses
from vgcore._stagnation import guessing, stagnation

SEEDS = range(20)


def steps(number: int) -> Any:
    return np.arange(number, dtype=np.float64)


HEALTHY = {
    "exponential, not yet at its end": lambda n: 2.3 * np.exp(-steps(n) / (0.7 * n)),
    "power law": lambda n: 2.3 / np.sqrt(1 + steps(n) / (n / 20)),
    "straight line": lambda n: 2.3 - 1.3 * steps(n) / n,
    "slow but steady": lambda n: 2.3 - 0.4 * steps(n) / n,
    "plateau first, then a fall": lambda n: 2.3 - 1.8 / (1 + np.exp(-(steps(n) - 0.7 * n) / (0.08 * n))),
    "staircase": lambda n: 2.3 - 0.25 * np.floor(8 * steps(n) / n),
}


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.05, 0.2])
@pytest.mark.parametrize("number", [60, 300, 2000])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_curves_are_left_alone(name: str, number: int, noise: float) -> None:
    curve = HEALTHY[name](number)
    fired = [seed for seed in SEEDS if stagnation(noisy(curve, noise, seed))]
    kinds = {stagnation(noisy(curve, noise, seed)).kind for seed in SEEDS}
    assert kinds <= {"improving", "unclear"}
    assert noise > 0.05 or number < 300 or kinds == {"improving"}
    assert not fired, f"{name} of {number} steps with {noise:.1%} noise: fired for seeds {fired}"


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("at", [0.1, 0.3, 0.6])
def test_a_plateau_is_found_and_dated(at: float, noise: float) -> None:
    number = 1000
    fall = np.minimum(steps(number) / (at * number), 1.0)
    for seed in SEEDS:
        found = stagnation(noisy(2.3 - 1.2 * fall, noise, seed))
        if noise == 0.05 and at == 0.6 and not found:
            assert found.kind in (
                "unclear",
                "improving",
            )  # the noise of so short a tail could hide a fall, and it says so
            continue
        assert found.kind == "plateau"
        assert found.step is not None
        # Early by what noise hides, late by at most a few blocks.
        assert at - 0.12 <= found.step / number <= at + 0.10, (seed, found)
        assert math.isclose(found.level, 1.1, rel_tol=0.05)


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.05])
def test_a_network_that_never_learns_stagnates_from_the_start(noise: float) -> None:
    for seed in SEEDS:
        # An output layer that starts off and settles at once on the shares of the classes.
        curve = math.log(10) + 0.3 * np.exp(-steps(400) / 4)
        found = stagnation(noisy(curve, noise, seed), guessing=math.log(10))
        assert found.kind == "start"
        assert found.step is not None
        assert found.step <= 40
        assert "nothing was learned" in found.text
        assert "guessing gives 2.303" in found.text
        assert stagnation(noisy(curve, noise, seed)).kind == "start"


def test_the_loss_of_guessing_tells_a_large_start_from_learning() -> None:
    curve = noisy(2.303 + 40 * np.exp(-steps(400) / 3), 0.01)
    assert stagnation(curve).kind in ("plateau", "converged")  # nothing in the curve alone says otherwise
    assert stagnation(curve, guessing=2.303).kind == "start"


def test_noise_that_hides_the_trend_does_not_hide_guessing() -> None:
    for seed in SEEDS:
        # The adding problem: 140 steps about 1/6, after a start that was off.
        curve = noisy(1 / 6 + 0.5 * np.exp(-steps(140) / 4), 0.1, seed)
        found = stagnation(curve, guessing=1 / 6)
        assert found.kind == "start"
        assert found.step is not None
        assert found.step <= 70
    # What is clearly lower has learned something.
    assert stagnation(noisy(np.full(140, 0.14), 0.1), guessing=1 / 6).kind != "start"


def test_a_converged_curve_is_no_failure() -> None:
    found = stagnation(noisy(2.3 * np.exp(-steps(1000) / 60) + 0.01, 0.01))
    assert found.kind == "converged"
    assert not found
    assert found.step is not None
    assert "converged" in str(found)


def test_a_loss_of_zero_has_converged() -> None:
    found = stagnation(np.r_[np.linspace(1, 0, 100), np.zeros(300)])
    assert found.kind == "converged"


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_a_rising_loss_is_told_apart(noise: float) -> None:
    number = 1000
    curve = np.r_[np.linspace(2.3, 1.0, 300), np.linspace(1.0, 2.0, 700)]
    for seed in SEEDS:
        found = stagnation(noisy(curve, noise, seed), epoch=steps(number).astype(int) // 100)
        assert found.kind == "rising"
        assert found.step is not None
        assert found.epoch == found.step // 100
        assert 150 <= found.step <= 450
        assert "rises from step" in found.text


def test_a_curve_without_noise_may_crawl() -> None:
    # Full batches: every step is a true fall, of which the sum is nothing.
    assert stagnation(2.3026 - 1e-6 * steps(500)).kind == "start"
    assert stagnation(2.3026 - 1e-3 * steps(500)).kind == "improving"


def test_what_comes_behind_the_first_nan_does_not_count() -> None:
    curve = np.r_[np.linspace(2.3, 1.0, 100), np.nan, np.full(900, 1.0)]
    found = stagnation(curve)
    assert found.kind == "improving"
    assert stagnation(np.full(100, np.nan)).kind == "unknown"


@pytest.mark.parametrize("number", [0, 1, 19])
def test_few_steps_tell_nothing(number: int) -> None:
    found = stagnation(np.ones(number))
    assert found.kind == "unknown"
    assert not found
    assert f"{number} step" in found.text


def test_the_scale_of_the_loss_does_not_matter() -> None:
    curve = noisy(np.r_[np.linspace(2.3, 1.0, 300), np.full(700, 1.0)], 0.02)
    found = stagnation(curve)
    for scale in (2.0**-100, 2.0**80):
        other = stagnation(curve * scale)
        assert (other.kind, other.step) == (found.kind, found.step)


def test_it_can_be_kept_as_plain_values() -> None:
    found = stagnation(np.ones(100), epoch=np.arange(100) // 10)
    assert found.to_dict()["kind"] == "start"
    assert found.to_dict()["epoch"] == 0


def test_guessing_is_the_best_constant_answer() -> None:
    random = np.random.default_rng(0)
    labels = random.choice(4, 300, p=[0.1, 0.2, 0.3, 0.4])
    shares = np.bincount(labels) / 300
    soft = random.dirichlet(np.ones(4), 300)
    ones = (random.random((300, 4)) < shares).astype(np.float64)
    numbers = random.normal(3.0, 2.0, (300, 4))
    cases = (
        ("cross_entropy", labels, np.log(shares)),
        ("cross_entropy", soft, np.log(soft.mean(axis=0))),
        ("bce_with_logits", ones, np.log(ones.mean(axis=0) / (1 - ones.mean(axis=0)))),
        ("mse", numbers, numbers.mean(axis=0)),
    )
    for name, y, best in cases:
        value = getattr(losses, name)().value(np.tile(best, (300, 1)), y)
        found = guessing(name, y)
        assert found is not None
        assert math.isclose(found, value, rel_tol=1e-9), name
        for way in np.eye(4):  # whichever way one steps from there, it gets worse
            assert getattr(losses, name)().value(np.tile(best + 1e-3 * way, (300, 1)), y) > value


def test_guessing_that_is_not_known_is_not_made_up() -> None:
    assert guessing("smooth_l1", np.ones((3, 2))) is None
    assert guessing("mse", np.zeros((0, 2))) is None
    assert guessing("cross_entropy", np.full(50, 3)) == 0.0
