"""Test layer: networks that cures are tried on, deep, flat and along time, with data; no test in here."""

from __future__ import annotations

import numpy as np
import vgcore as vg

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 16)


def deep(**options: object) -> vg.Network:
    settings = {"depth": 12, "width": 8, "in_features": 6, "out_features": 3, "activation": "tanh", "rng": 0}
    return vg.mlp(**(settings | options))


def flat() -> vg.Network:
    layers = [vg.Dense(8), vg.Activation("tanh")] + 6 * [vg.Dense(8), vg.Activation("tanh")] + [vg.Dense(3)]
    return vg.Network(6, layers, rng=0)


def tied(n: int = 6) -> vg.Network:
    step = [vg.Dense(8), vg.Activation("tanh")]
    layers = [vg.Dense(8), vg.Activation("tanh"), vg.Repeat(step, n, tied=True, name="hidden"), vg.Dense(3)]
    return vg.Network(6, layers, rng=0)


def along_time(cell: str = "rnn", **options: object) -> vg.Network:
    return vg.rnn(cell, 8, in_features=3, out_features=2, rng=0, **options)


def sequences() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(4, 10, 3)).astype("float32")


def owners(net: vg.Network) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in net.parameters().items()}
