"""Tests that normalised networks do what theory says: gradient growth per layer, measured by probe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers_theory import entries

ENTRIES = {name: entry for name, entry in entries().items() if name.startswith(("bn_explosion", "ln_factor"))}


def growth(
    norm: Any, activation: str, batch: int, width: int, depth: int, seeds: int, ends: tuple[int, int]
) -> float:
    """Geometric mean over layers and seeds of |dL/dh_l|^2 / |dL/dh_(l+1)|^2, h what the norm takes in."""
    rates = []
    for seed in range(seeds):
        step = [vg.Dense(width, bias=False, init="lecun_normal"), norm, vg.Activation(activation)]
        net = vg.Network(width, [vg.Repeat(step, depth)], dtype="float32", rng=seed)
        rng = np.random.default_rng(seed)
        x, v = (rng.normal(size=(batch, width)).astype(np.float32) for _ in range(2))
        flow = net.probe(x, cotangent=v, stats="norms")
        # the delta of a Dense without an activation is the gradient that the norm hands it
        dense = np.asarray(flow.raw["kind"]) == 0
        norms = np.asarray(flow.raw["delta_log2_norm"])[dense][ends[0] : depth - ends[1]]
        rates.append(2 * (norms[0] - norms[-1]) / (len(norms) - 1))
    return float(np.exp2(np.mean(rates)))


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_gradient_growth_per_layer(name: str) -> None:
    entry = ENTRIES[name]
    setting, expected, tolerance = entry["setting"], entry["expected"], entry["tolerance"]
    activation = {"linear": "identity"}.get(setting["activation"], setting["activation"])
    if name.startswith("ln_"):
        got = growth(vg.LayerNorm(eps=0.0), activation, 16, 600, 20, 4, (2, 2))
        want, rel = expected["squared_ratio"], tolerance["simulation_rel"]
    else:
        batch = setting["batch"] if isinstance(setting["batch"], int) else setting["batch"][0]
        width = 1500 if batch > 100 else 1000
        got = growth(vg.BatchNorm(eps=0.0), activation, batch, width, 22, 1 if batch > 100 else 2, (6, 3))
        want = expected.get("squared_ratio", expected.get("squared_ratio_B32"))
        rel = tolerance.get("simulation_rel", tolerance.get("B32_rel"))
    assert abs(got / want - 1) <= rel, f"{got} measured, {want} expected within {rel}"
