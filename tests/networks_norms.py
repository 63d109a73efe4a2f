"""Test layer: what the tests of normalisation share: layers, a network, all that it returns; no test."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import DATA, known_answers
from vgcore.layers import Layer
from vgcore.normalisation import Normalisation

KINDS: dict[str, Normalisation] = {
    "batch": vg.BatchNorm(),
    "online": vg.BatchNorm(online=True),
    "layer": vg.LayerNorm(),
    "rms": vg.RMSNorm(),
    "group": vg.GroupNorm(2),
}
EVERY = pytest.mark.parametrize("kind", list(KINDS))


def draw(shape: tuple[int, ...], seed: int = 0, dtype: str = "float64") -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def deep(
    norm: Layer, *, depth: int = 4, width: int = 8, dtype: str = "float64", tied: bool = False
) -> vg.Network:
    """Steps with a norm before and one behind the activation, inside a residual branch and not."""
    body: list[Layer] = [
        vg.Residual([vg.Dense(width), norm, vg.Activation("gelu")], scale=0.5),
        vg.Dense(width, bias=False),
        vg.Activation("tanh"),
        norm,
    ]
    return vg.Network(width, [norm, vg.Repeat(body, depth, tied=tied), vg.Dense(3)], dtype=dtype, rng=5)


def everything(net: vg.Network, x: Any, v: Any, budget: int | None = None) -> dict[str, bytes]:
    """All that passes and a step return and leave, as bytes."""
    g = net.gradients(x, cotangent=v, memory_budget=budget)
    arrays = {f"{part}{name}": a for name in g for part, a in zip("me", g.scaled(name), strict=True)}
    arrays["m input"], arrays["e input"] = g.scaled_input
    arrays["out"], arrays["trained"] = net.forward(x), net.forward(x, training=True)
    twin = net.copy()
    for step in range(2):
        raw = twin.step(x, cotangent=v, lr=0.05, memory_budget=budget).raw
        for key, value in raw.items():
            if key not in ("plan", "segment", "recompute") and value is not None:
                arrays[f"{step} {key}"] = np.asarray(value)
    arrays |= {f"after {k}": a for k, a in (twin.parameters() | twin.buffers()).items()}
    return {key: np.ascontiguousarray(a).tobytes() for key, a in arrays.items()}


def known_answers_of_norms() -> dict[str, Any]:
    more = json.loads((DATA / "known_norms.json").read_text())["entries"]
    return known_answers() | {entry["id"]: entry for entry in more}
