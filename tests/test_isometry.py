"""Tests of dynamical isometry on real networks: moments of the Jacobian's squared singular values, as the
known answers measure them (width 400, 16 networks), within their own tolerance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers_theory import entries, ids
from numpy.typing import NDArray

WIDTH, NETWORKS = 400, 16


def jacobian(net: vg.Network, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """One pass: the same sample in every row, and the gradient of one output in each."""
    found = net.gradients(np.tile(x, (WIDTH, 1)), cotangent=np.eye(WIDTH))
    return np.asarray(found.input)


def network(setting: dict[str, Any], seed: int) -> vg.Network:
    name, depth = setting["network"], setting["L"]
    w2, b2 = setting.get("sigma_w2", 1.0), setting.get("sigma_b2", 0.0)
    if "orth" in name:
        init = vg.initializers.orthogonal(gain=math.sqrt(w2))
    else:
        init = vg.initializers.edge_of_chaos(sigma_b2=b2)  # solves sigma_w2, which is then checked
        b2 = None
    phi = "identity" if "linear" in name else name.split("_")[0]
    step = [vg.Dense(WIDTH, init=init, sigma_b2=b2), vg.Activation(phi)]
    return vg.Network(WIDTH, [vg.Repeat(step, depth, name="h")], dtype="float64", rng=seed)


@pytest.mark.parametrize("name", ids("dynamical_isometry"))
def test_singular_values(name: str) -> None:
    entry = entries()[name]
    setting, expected = entry["setting"], entry["expected"]["normalised_variance"]
    w2, b2 = setting.get("sigma_w2", 1.0), setting.get("sigma_b2", 0.0)
    found = []
    for seed in range(NETWORKS if expected else 2):  # what is exact needs no mean
        net = network(setting, seed)
        x = np.random.default_rng(seed).normal(size=WIDTH)
        if "q_star" in setting:  # the length that stays, from the first pre-activation on
            x *= math.sqrt((setting["q_star"] - b2) / w2 / np.mean(x**2))
        j = jacobian(net, x)
        gram = j @ j.T
        first, second = np.trace(gram) / WIDTH, np.sum(gram**2) / WIDTH
        found.append(second / first**2 - 1)
    if expected == 0.0:
        assert max(map(abs, found)) < 1e-12
    else:
        assert np.mean(found) == pytest.approx(expected, rel=entry["tolerance"]["simulation_rel"])
    variance = network(setting, 0).parameters()["h.0.weight"].var() * WIDTH
    assert variance == pytest.approx(2.0 if "relu" in name else w2, rel=0.01)
