"""Tests of whole trainings against the slow one in NumPy: every optimizer with every clip, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import to_oracle
from numpy.typing import NDArray
from oracle_training import OPTIMIZERS, train

RTOL = 1e-12
LOSS = {"name": "cross_entropy"}

# Numbers that every part of each rule has a say in.
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.2, "momentum": 0.7, "nesterov": True, "weight_decay": 0.01},
    "adagrad": {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.02},
    "rmsprop": {
        "lr": 0.01,
        "alpha": 0.9,
        "momentum": 0.6,
        "weight_decay": 0.01,
        "eps": 1e-3,
        "centered": True,
    },
    "adam": {"lr": 0.02, "weight_decay": 0.05, "amsgrad": True, "eps": 1e-3, "beta2": 0.9},
    "adamw": {"lr": 0.02, "weight_decay": 0.3, "eps": 1e-3, "beta1": 0.5},
    "lars": {"lr": 1.0, "momentum": 0.8, "weight_decay": 0.1, "trust": 0.05},
    "lamb": {"lr": 0.02, "weight_decay": 0.1, "eps": 1e-3},
    "scale_free": {"lr": 0.02, "momentum": 0.8, "floor": 0.05},
}
CLIPS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "none": [],
    "value": [("value", {"value": 0.02})],
    "norm": [("norm", {"max_norm": 0.1})],
    "pascanu": [("norm", {"max_norm": 0.1, "rule": "pascanu"})],
    "norm_1": [("norm", {"max_norm": 0.3, "norm_type": "1"})],
    "norm_inf": [("norm", {"max_norm": 0.03, "norm_type": "inf"})],
    "layer": [("layer", {"max_norm": 0.05})],
    "agc": [("agc", {"clipping": 0.02})],
    "agc_last": [("agc", {"clipping": 0.02, "last": True})],
    "band": [("band", {"floor": 0.05, "ceiling": 0.1})],
    "band_all": [("band", {"floor": 5.0, "ceiling": 10.0, "scope": "all"})],
    "unit_norm": [("unit_norm", {})],
    "sign": [("sign", {})],
    # Order matters: a norm of what is left, and a limit on what has been scaled.
    "several": [
        ("value", {"value": 0.02}),
        ("unit_norm", {}),
        ("norm", {"max_norm": 0.7}),
        ("value", {"value": 0.1}),
    ],
}


def layers() -> list[Any]:
    """One matrix, stacked ones in branches with a learned slope, a tied one; biases or none."""
    return [
        vg.Dense(6),
        vg.Activation("tanh"),
        vg.Repeat([vg.Residual([vg.Activation("prelu"), vg.Dense(6)], scale=0.5)], 3),
        vg.Repeat([vg.Dense(6, bias=False), vg.Activation("tanh")], 2, tied=True),
        vg.Dense(3),
    ]


def problem() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(22, 4)), rng.integers(0, 3, 22)


def gap(got: dict[str, Any], expected: dict[str, Any]) -> float:
    """Largest distance of a parameter, relative to its norm."""
    assert got.keys() == expected.keys()
    return max(float(np.linalg.norm(got[k] - e) / np.linalg.norm(e)) for k, e in expected.items())


def both(
    rule: tuple[str, dict[str, Any]],
    clips: list[tuple[str, dict[str, Any]]],
    constraints: list[tuple[str, dict[str, Any]]] | None = None,
    schedule: Any = None,
) -> tuple[dict[str, Any], dict[str, Any], vg.History, list[float]]:
    """Three epochs of three batches, the last of which is smaller: by vgcore and by the reference."""
    x, y = problem()
    net = vg.Network(4, layers(), dtype="float64", rng=1)
    start = net.parameters()
    cuts = [slice(i, i + 8) for _ in range(3) for i in range(0, 22, 8)]
    held = constraints or []
    expected, losses = train(
        to_oracle(layers()),
        start,
        [(x[c], y[c]) for c in cuts],
        LOSS,
        rule,
        clips,
        held,
        schedule or (lambda _: 1.0),
    )
    history = net.fit(
        x, y, epochs=3, batch_size=8, shuffle=False, schedule=schedule,
        optimizer=vg.optimizers.Optimizer(*rule),
        clip=[vg.clips.Clip(*c) for c in clips],
        constraint=[vg.constraints.Constraint(*c) for c in held],
    )  # fmt: skip
    assert gap(start, expected) > 1e-3, "nothing was trained"
    return net.parameters(), expected, history, losses


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", RULES)
def test_a_training_is_that_of_the_reference(rule: str, clip: str) -> None:
    got, expected, history, losses = both((rule, RULES[rule]), CLIPS[clip])
    assert gap(got, expected) < RTOL
    assert np.abs(history.loss - losses).max() < RTOL * max(losses)


def test_every_optimizer_and_clip_is_compared() -> None:
    assert set(OPTIMIZERS) == set(RULES) == set(vg.optimizers.names())
    assert {name for clips in CLIPS.values() for name, _ in clips} == set(vg.clips.names())


@pytest.mark.parametrize("rule", vg.optimizers.names())
def test_plain_parameters_too(rule: str) -> None:
    lr = {"lars": 20.0, "adagrad": 0.05}.get(rule, 0.03)
    got, expected, _, _ = both((rule, {"lr": lr}), [])
    # Without eps to speak of, Adam and its kin divide small numbers by small numbers.
    assert gap(got, expected) < 1e-10


@pytest.mark.parametrize(
    ("name", "params", "tolerance"),
    [
        ("max_norm", {"limit": 0.9}, RTOL),
        ("orthogonal", {"gain": 1.2}, RTOL),
        # Power iteration bounds the singular value from below and closes in on it.
        ("spectral", {"limit": 0.8, "iterations": 400}, 1e-9),
    ],
)
def test_constraints(name: str, params: dict[str, Any], tolerance: float) -> None:
    got, expected, _, _ = both(("sgd", {"lr": 0.1, "momentum": 0.5}), [], [(name, params)])
    assert gap(got, expected) < tolerance
    free, _, _, _ = both(("sgd", {"lr": 0.1, "momentum": 0.5}), [])
    assert gap(got, free) > 1e-3, "the constraint held nothing"


def test_schedules_multiply_the_rate() -> None:
    schedule = vg.schedules.warmup(3, then=vg.schedules.exponential(0.7))
    got, expected, history, _ = both(("adam", RULES["adam"]), [], None, schedule)
    assert gap(got, expected) < RTOL
    assert np.array_equal(history.lr, [0.02 * schedule(i) for i in range(9)])
