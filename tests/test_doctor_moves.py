"""Tests of the share of layers that learn: what the gradient moves counts, not what happens without it."""

from __future__ import annotations

import numpy as np
import pytest
import vgcore as vg
from vgcore._doctor_moves import layers_moved, reached


def unreached(**options: object) -> vg.Network:
    """A network whose gradient only reaches the last layers."""
    small = vg.initializers.normal(std=0.05)
    return vg.mlp(20, 16, in_features=16, out_features=4, activation="relu", init=small, rng=0, **options)


def data() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    return draw.normal(size=(64, 16)).astype("float32"), draw.integers(0, 4, 64)


@pytest.mark.parametrize(
    "idle",
    ["weight_decay:0.1", "weight_decay:50", "adamw:weight_decay=0.3", "spectral_constraint:0.2",
     "max_norm_constraint:0.1", "momentum:weight_decay=0.5"],
)  # fmt: skip
@pytest.mark.parametrize("norm", [None, "batch"])
def test_what_decay_and_constraints_do_is_no_learning(idle: str, norm: str | None) -> None:
    x, y = data()
    net = unreached(norm=norm)
    cured = net.mitigate(idle)
    optimizer = cured.training_defaults.get("optimizer", vg.SGD(0.001)).at(0.001)
    plain = vg.optimizers.Optimizer(optimizer.name, {**optimizer.params, "weight_decay": 0.0})
    shares = []
    for each, by in ((cured, optimizer), (net, plain)):
        trained = each.copy()
        trained.fit(x, y, epochs=5, optimizer=by, shuffle=False)
        shares.append(layers_moved(each, trained, by, 10))
    if norm is None:
        assert shares[1] < 0.5, "the gradient ends on its way down"
    assert shares[0] == pytest.approx(shares[1], abs=0.15)


def test_the_doctor_does_not_take_decay_for_a_cure() -> None:
    x, y = data()
    found = unreached().doctor(x, y, candidates=["weight_decay:0.5"], steps=10)
    assert found.trials[0].learning < found.untouched.learning + 0.15 < 0.5


def test_the_share_within_a_factor_of_a_hundred() -> None:
    assert reached([0.0, -1.9, -2.1, -np.inf]) == 0.5
    assert reached([]) == 0.0
    assert reached([np.nan, -np.inf]) == 0.0
