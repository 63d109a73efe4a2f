"""Tests of vg.theory.predict for layers that normalise, branch, gate or draw, against probes of real
networks, and of the picture that has both.

The mean of the logarithms of many networks is compared with the typical curve at every step: within four
standard errors and, growing with the distance from the output, what theory leaves out at order 1/width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import refused
from vgcore import theory

WIDTH, DEPTH, SEEDS = 128, 30, 12
A, D, R = vg.Activation, vg.Dense, vg.Residual


def repeated(*body: vg.Layer) -> Callable[[int], vg.Network]:
    return lambda seed: vg.Network(WIDTH, [vg.Repeat(list(body), DEPTH)], rng=seed)


STANDARDIZED = vg.parametrizations.weight_standardized(gain=1.7)
PROJECTION = D(WIDTH, init="orthogonal", bias=False)
EDGE = vg.initializers.edge_of_chaos(sigma_b2=0.05)
CASES: dict[str, Callable[[int], vg.Network]] = {
    "layer norm relu": repeated(D(WIDTH), vg.LayerNorm(), A("relu")),
    "layer norm tanh": repeated(D(WIDTH), vg.LayerNorm(), A("tanh")),
    "layer norm behind": repeated(D(WIDTH), A("tanh"), vg.LayerNorm()),
    "rms norm gelu": repeated(D(WIDTH), vg.RMSNorm(), A("gelu")),
    "group norm": repeated(D(WIDTH), vg.GroupNorm(8), A("relu")),
    "pre-norm residual": repeated(R([vg.LayerNorm(), A("relu"), D(WIDTH)])),
    "post-norm residual": repeated(R([A("tanh"), D(WIDTH)]), vg.LayerNorm()),
    "highway": repeated(vg.Highway(activation="tanh", transform_bias=-1.0)),
    "highway, carry of its own": repeated(vg.Highway(activation="tanh", coupled=False)),
    "highway relu": repeated(vg.Highway(activation="relu", transform_bias=-2.0)),
    "scaled residual": repeated(R([A("tanh"), D(WIDTH)], scale=1 / math.sqrt(DEPTH))),
    "learned scale": repeated(R([A("relu"), D(WIDTH)], scale=0.3, learned=True)),
    "rezero": repeated(R([A("relu"), D(WIDTH)], scale=0.0, learned=True)),
    "shortcut gain": repeated(R([A("tanh"), D(WIDTH)], shortcut=0.9)),
    "projection": repeated(R([D(WIDTH), A("tanh"), D(WIDTH)], shortcut=PROJECTION)),
    "concat": lambda seed: vg.Network(
        WIDTH, [*(vg.Concat([D(16), A("tanh")]) for _ in range(10)), D(WIDTH)], rng=seed
    ),
    "weight norm": repeated(D(WIDTH, parametrization="weight_norm"), A("relu")),
    "weight standardisation": repeated(D(WIDTH, parametrization=STANDARDIZED), A("relu")),
    "edge of chaos": repeated(D(WIDTH, init=EDGE), A("tanh")),
    "dropout": repeated(D(WIDTH), A("relu"), vg.Dropout(0.2)),
    "batch norm relu": repeated(D(WIDTH), vg.BatchNorm(), A("relu")),
    "batch norm tanh": repeated(D(WIDTH), vg.BatchNorm(), A("tanh")),
    "batch norm residual": repeated(R([vg.BatchNorm(), A("relu"), D(WIDTH)])),
}


def probe(net: vg.Network, seed: int, batch: int) -> vg.GradientFlow:
    rng = np.random.default_rng(1000 + seed)
    x = rng.normal(size=(batch, net.in_features))
    x *= np.sqrt(net.in_features) / np.linalg.norm(x, axis=1, keepdims=True)
    v = rng.normal(size=(batch, net.out_features))
    return net.probe(x.astype("f4"), cotangent=v.astype("f4"))


@pytest.mark.parametrize("name", CASES)
def test_prediction_and_measurement_agree(name: str) -> None:
    make, batch = CASES[name], 48 if "batch" in name else 1
    expected = theory.predict(make(0), batch=batch)
    found = np.array([probe(make(seed), seed, batch).log10_grad_norm for seed in range(SEEDS)])
    found -= found[:, -1:]
    error = found.std(axis=0, ddof=1) / math.sqrt(SEEDS)
    far = np.linspace(1.0, 0.0, found.shape[1])
    gap = np.abs(found.mean(axis=0) - expected.log10_typical)
    assert (gap <= 4 * error + 0.12 * far + 0.005).all(), float((gap - 4 * error).max())
    assert expected.steps == make(0).num_steps
    # The spread between networks is of the size that is said; samples of one batch share their weights.
    if "rezero" in name:
        assert not found.any()
    elif batch == 1:
        assert 0.4 < found.std(axis=0, ddof=1)[0] / expected.log10_sd[0] < 2.5


def test_batch_normalisation_depends_on_the_batch() -> None:
    """(B - 2) / (B - 3) a layer beyond many samples, exactly so without an activation."""
    net = vg.Network(WIDTH, [vg.Repeat([D(WIDTH, bias=False), vg.BatchNorm(eps=0.0)], 11)], rng=0)
    many, few = theory.predict(net), theory.predict(net, batch=8)
    move = few.log10_grad_norm[0] - many.log10_grad_norm[0]
    assert move == pytest.approx(10 * 0.5 * math.log10(6 / 5), rel=1e-9)
    assert many.log10_grad_norm[0] == pytest.approx(0.0, abs=1e-9)
    with refused(vg.ArgumentError, "normalisation over 3 samples", "at least 4"):
        theory.predict(net, batch=3)


@pytest.mark.parametrize("name", ["layer norm tanh", "highway", "edge of chaos", "batch norm relu"])
def test_a_flow_draws_what_theory_expects_of_it(name: str) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    net = CASES[name](0)
    flow = probe(net, 0, 8)
    plain, axes = flow.plot(), flow.plot(theory=True)
    assert len(axes.lines) == len(plain.lines) + 2
    expected = theory.predict(net, mean_square=1.0, batch=8).anchored(flow)
    drawn = {line.get_label(): np.asarray(line.get_ydata(), np.float64) for line in axes.lines}
    np.testing.assert_allclose(drawn["theory, typical"], expected.log10_typical, atol=1e-5)
    for given in (net, expected):
        again = {line.get_label(): line.get_ydata() for line in flow.plot(theory=given).lines}
        np.testing.assert_allclose(again["theory, typical"], expected.log10_typical, atol=1e-5)
    assert flow.meta["mean_square"] == pytest.approx(1.0, abs=1e-5)


def test_a_flow_from_a_file_remembers_its_network(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    flow = probe(CASES["pre-norm residual"](0), 0, 8)
    for name in ("flow.json", "flow.npz"):
        flow.save(tmp_path / name)
        again = vg.GradientFlow.load(tmp_path / name)
        assert again.meta == flow.meta
        lines = [flow.plot(theory=True).lines, again.plot(theory=True).lines]
        assert [line.get_ydata().tolist() for line in lines[0]] == [
            line.get_ydata().tolist() for line in lines[1]
        ]


def test_along_time() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    net = vg.rnn("rnn", 64, in_features=8, rng=0)
    x = np.random.default_rng(0).normal(size=(4, 40, 8)).astype("f4")
    flow = net.probe(x, cotangent=np.ones((4, 64), np.float32))
    assert len(flow.plot(theory=True).lines) == len(flow.plot().lines) + 2


def test_refusals() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    arrays = vg.Network(8, [D(8, init=np.eye(8)), A("relu")], dtype="float64")
    x = np.ones((2, 8))
    with refused(vg.ArgumentError, "theory", "explicit arrays", "theory=net"):
        arrays.probe(x, cotangent=x).plot(theory=True)
    with refused(vg.ArgumentError, "theory", "explicit arrays"):
        arrays.probe(x, cotangent=x).plot(theory=arrays)
    with refused(vg.ArgumentError, "theory", "True", "3"):
        arrays.probe(x, cotangent=x).plot(theory=3)
    other = vg.mlp(5, 8, rng=0, dtype="float64")
    with refused(vg.ArgumentError, "flow", "steps"):
        arrays.probe(x, cotangent=x).plot(theory=other)
