"""Tests of initial weights that depend on what stands around a layer: edge of chaos, looks-linear, delta."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import refused

#: phi(z) - phi(-z) = c z.
PAIRED = {"relu": 1.0, "leaky_relu": 1.01, "gelu": 1.0, "silu": 1.0, "softplus": 1.0, "gelu_tanh": 1.0}


@pytest.mark.parametrize(("activation", "b2"), [("tanh", 0.0), ("tanh", 0.05), ("erf", 0.1), ("relu", 0.0)])
def test_edge_of_chaos_is_the_critical_point_of_the_activation(activation: str, b2: float) -> None:
    point = vg.theory.critical(activation, b2)
    init = vg.initializers.edge_of_chaos(sigma_b2=b2)
    net = vg.mlp(4, 400, activation=activation, init=init, dtype="float64", rng=0)
    values = net.parameters()
    assert np.mean(values["hidden.weight"] ** 2) * 400 == pytest.approx(point.sigma_w2, rel=0.01)
    assert np.mean(values["hidden.bias"] ** 2) == pytest.approx(b2, rel=0.15)
    same = vg.mlp(4, 400, activation=activation, dtype="float64", rng=0,
                  init=vg.initializers.mean_field(sigma_w2=point.sigma_w2))  # fmt: skip
    assert values["hidden.weight"].tobytes() == same.parameters()["hidden.weight"].tobytes()


def test_edge_of_chaos_keeps_the_gradient_where_others_lose_it() -> None:
    """From q*, chi_1 = 1: the squared norm keeps its expectation, up to what finite width takes."""
    q = vg.theory.critical("tanh", 0.05).q_star
    x = np.sqrt(q) * np.random.default_rng(0).normal(size=(8, 256))
    init = vg.initializers.edge_of_chaos(sigma_b2=0.05)
    net = vg.mlp(100, 256, activation="tanh", init=init, rng=0)
    flow = net.probe(x.astype("f4"), cotangent=np.random.default_rng(1).normal(size=(8, 256)).astype("f4"))
    expected = vg.theory.predict(net, mean_square=q).anchored(flow)
    assert abs(expected.log10_grad_norm[0] - expected.log10_grad_norm[-1]) < 0.1
    deviation = flow.log10_grad_norm - expected.log10_typical
    assert (np.abs(deviation) <= 4 * expected.log10_sd + 0.02).all()


def test_a_layer_without_an_activation_behind_it_takes_the_one_in_front() -> None:
    layers = [
        vg.Activation("tanh"),
        vg.Dense(300, init=vg.initializers.edge_of_chaos(sigma_b2=0.05), name="a"),
    ]
    weight = vg.Network(300, layers, rng=0).parameters()["a.weight"]
    assert np.mean(weight**2) * 300 == pytest.approx(vg.theory.critical("tanh", 0.05).sigma_w2, rel=0.02)
    alone = vg.Network(300, [vg.Dense(300, init="edge_of_chaos", name="a")], rng=0).parameters()["a.weight"]
    assert np.mean(alone**2) * 300 == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("activation", sorted(PAIRED))
def test_a_looks_linear_network_is_linear_and_orthogonal(activation: str) -> None:
    """Gradients keep their norm to rounding, 100 layers deep, and the output is linear in the input."""
    net = vg.Network(
        16,
        [
            vg.Dense(32, init="looks_linear", name="in"),
            vg.Activation(activation),
            vg.Repeat([vg.Dense(32, init="looks_linear"), vg.Activation(activation)], 100, name="hidden"),
            vg.Dense(16, init="looks_linear", name="out"),
        ],
        dtype="float64",
        rng=0,
    )
    rng = np.random.default_rng(0)
    x, y, v = rng.normal(size=(3, 5, 16))
    a, b, both = (net.forward(z) for z in (x, y, 2.0 * x - y))
    np.testing.assert_allclose(both, 2.0 * a - b, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), np.linalg.norm(x, axis=1), rtol=1e-10)
    found = net.gradients(x, cotangent=v)
    np.testing.assert_allclose(np.linalg.norm(found.input, axis=1), np.linalg.norm(v, axis=1), rtol=1e-10)
    w = net.parameters()["hidden.0.weight"][7]
    assert (w[:16, :16] == -w[16:, :16]).all()
    assert (w[:16, :16] == -w[:16, 16:]).all()
    block = w[:16, :16] * PAIRED[activation]
    np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-12)


def test_looks_linear_sides_follow_the_place() -> None:
    """A bare Repeat reads pairs from its second step on, so its first takes differences too."""
    net = vg.mlp(3, 8, activation="relu", init="looks_linear", in_features=5, out_features=3, rng=0)
    p = net.parameters()
    assert (p["input.weight"][:4] == -p["input.weight"][4:]).all()
    assert (p["output.weight"][:, :4] == -p["output.weight"][:, 4:]).all()
    bare = vg.mlp(3, 8, activation="relu", init="looks_linear", rng=0).parameters()["hidden.weight"]
    assert (bare[:, :, :4] == -bare[:, :, 4:]).all()


def test_delta_starts_near_the_identity() -> None:
    net = vg.mlp(50, 12, activation="relu", init=vg.initializers.delta(noise=1e-3), dtype="float64", rng=0)
    x = np.abs(np.random.default_rng(0).normal(size=(4, 12)))
    np.testing.assert_allclose(net.forward(x), x, rtol=0.2)
    exact = vg.mlp(50, 12, activation="relu", init=vg.initializers.delta(noise=0.0), dtype="float64", rng=0)
    np.testing.assert_array_equal(exact.forward(x), x)
    assert (vg.initializers.delta(gain=2.0, noise=0.0).sample((3, 5)) == 2 * np.eye(3, 5)).all()


REFUSED: list[tuple[Callable[[], Any], type[Exception], list[str]]] = [
    (lambda: vg.mlp(3, 8, activation="softplus", init="edge_of_chaos"), vg.ArgumentError,
     ["softplus", "no critical point", "sigma_b2=0", "layers[0]"]),
    (lambda: vg.mlp(3, 8, activation="tanh", bias=False, init=vg.initializers.edge_of_chaos(sigma_b2=0.1)),
     vg.ArgumentError, ["edge_of_chaos(sigma_b2=0.1)", "needs a bias"]),
    (lambda: vg.Network(4, [vg.Dense(4, bias_init="ones", init=vg.initializers.edge_of_chaos(sigma_b2=0.1))]),
     vg.ArgumentError, ["edge_of_chaos(sigma_b2=0.1)", "bias_init", "one of them"]),
    (lambda: vg.initializers.edge_of_chaos(sigma_b2=-1.0), vg.ArgumentError,
     ["edge_of_chaos", "sigma_b2", "-1"]),
    (lambda: vg.mlp(3, 8, activation="tanh", init="looks_linear"), vg.ArgumentError,
     ["looks_linear", "phi(z) - phi(-z) = c z", "'tanh'", "relu"]),
    (lambda: vg.mlp(3, 7, activation="relu", init="looks_linear"), vg.ShapeError,
     ["looks_linear", "even", "7"]),
    (lambda: vg.initializers.looks_linear(mirror="up"), vg.ArgumentError, ["looks_linear", "mirror", "both"]),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refusals(case: int) -> None:
    call, kind, words = REFUSED[case]
    with refused(kind, *words):
        call()
