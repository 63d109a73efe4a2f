"""Test layer: what the tests of networks share: data, layers of every kind, a comparison; no test."""

from __future__ import annotations

from typing import Any

import numpy as np
import vgcore as vg
from numpy.typing import NDArray
from vgcore.layers import Layer

BATCH = 5

LAYERS: list[Layer] = [
    vg.Dense(4, init=np.ones((4, 3), np.float32), bias_init="standard", name="first"),
    vg.Activation("leaky_relu", negative_slope=0.2),
    vg.Repeat([vg.Residual([vg.Activation("prelu"), vg.Dense(4, init="orthogonal")], scale=0.5)], 6),
    vg.Repeat(
        [vg.Dense(4, bias=False, init=vg.initializers.he_normal(mode="fan_out"), name="")], 2, tied=True
    ),
    vg.Dense(2, sigma_w2=1.5, sigma_b2=0.1),
]


def data(width: int, dtype: str = "float64", batch: int = BATCH) -> NDArray[Any]:
    return np.random.default_rng(1).standard_normal((batch, width)).astype(dtype)


def same(a: vg.Network, b: vg.Network) -> bool:
    p, q = a.parameters(), b.parameters()
    return list(p) == list(q) and all(np.array_equal(p[name], q[name]) for name in p)
