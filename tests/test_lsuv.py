"""Tests of layer-sequential unit variance: the law, by an independent walk in NumPy, and what stays as it
is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from numpy.typing import NDArray
from oracle_activations import activation
from refusals import refused


def samples(width: int, batch: int = 200, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(1).normal(size=(batch, width)).astype(dtype)


def variances(net: vg.Network, x: NDArray[Any]) -> NDArray[np.float64]:
    """Variance of every pre-activation of a plain chain, by the NumPy oracle."""
    values = {name: np.float64(v) for name, v in net.parameters().items()}
    phi, _ = activation(net.layers[0].body[1].function, {})
    h, found = np.float64(x), []
    for w, b in zip(values["hidden.weight"], values["hidden.bias"], strict=True):
        z = h @ w.T + b
        found.append(z.var())
        h = phi(z)
    return np.array(found)


@pytest.mark.parametrize("function", ["relu", "tanh", "sigmoid", "selu", "gelu", "identity", "softplus"])
def test_every_layer_puts_out_unit_variance(function: str) -> None:
    x = samples(24)
    net = vg.mlp(60, 24, activation=function, init="he_uniform", rng=0)
    before, after = variances(net, x), variances(net.lsuv(x), x)
    assert np.abs(before - 1).max() > 0.1
    assert np.abs(after - 1).max() < 0.1
    exact = variances(net.lsuv(x, tolerance=0.0, max_iterations=3), x)
    assert np.abs(exact - 1).max() < 1e-4


def test_rows_keep_their_right_angles() -> None:
    x = samples(24)
    new = vg.mlp(60, 24, activation="tanh", dtype="float64", rng=0).lsuv(np.float64(x))
    for w in new.parameters()["hidden.weight"]:
        product = w @ w.T
        np.testing.assert_allclose(product, np.eye(24) * product[0, 0], atol=1e-10)


def test_biases_take_more_than_one_correction() -> None:
    x = samples(24)
    biased = vg.mlp(20, 24, activation="tanh", init=vg.initializers.normal(std=0.1), rng=0)
    values = biased.parameters()
    values["hidden.bias"][:] = 0.4 * np.random.default_rng(0).normal(size=values["hidden.bias"].shape)
    layers = [
        vg.Repeat([vg.Dense(24, bias_init=values["hidden.bias"], name=""), vg.Activation("tanh")], 20,
                  name="hidden")
    ]  # fmt: skip
    net = vg.Network(24, layers, rng=0)
    once, often = (
        np.abs(variances(net.lsuv(x, tolerance=1e-3, max_iterations=n), x) - 1).max() for n in (1, 20)
    )
    assert often < 2e-3 < once
    np.testing.assert_array_equal(net.lsuv(x).parameters()["hidden.bias"], values["hidden.bias"])


def test_layers_inside_others_are_fitted_to_what_they_read() -> None:
    """Branches see the stream as it has become; a weight of zeros stays, and so does everything that is no
    Dense."""
    step = [
        vg.Residual([vg.Activation("relu"), vg.Dense(16, name="a"), vg.Activation("tanh"),
                     vg.Dense(16, name="b", init="zeros")], learned=True),
        vg.Residual([vg.Dense(12, name="c"), vg.Activation("gelu"), vg.Dense(16, name="d")],
                    shortcut=vg.Dense(16, bias=False)),
        vg.Concat([vg.Dense(8, name="e")]),
        vg.Dense(16, name="f"),
        vg.Highway(name="g"),
    ]  # fmt: skip
    layers = [vg.Dense(16, name="in"), vg.Repeat(step, 3, name="h"), vg.Dense(4, name="out")]
    net = vg.Network(10, layers, dtype="float64", rng=0)
    x = samples(10, dtype="float64")
    new = net.lsuv(x, tolerance=1e-6)
    p, old = new.parameters(), net.parameters()
    kept = [n for n in p if n.endswith("bias") or ".g." in n or n.endswith(("scale", "b.weight"))]
    assert len(kept) > 10
    for name in kept:
        np.testing.assert_array_equal(p[name], old[name], name)
    h = x @ p["in.weight"].T
    assert h.var() == pytest.approx(1, abs=1e-6)
    gelu, _ = activation("gelu", {})
    for i in range(3):
        inner = np.maximum(h, 0) @ p["h.0.a.weight"][i].T
        assert inner.var() == pytest.approx(1, abs=1e-6)
        c = h @ p["h.1.c.weight"][i].T
        d = gelu(c) @ p["h.1.d.weight"][i].T
        skip = h @ p["h.1.shortcut.0.weight"][i].T
        h = skip + d
        e = h @ p["h.2.e.weight"][i].T
        f = np.concatenate([h, e], axis=1) @ p["h.f.weight"][i].T
        for part in (c, d, skip, e, f):
            assert part.var() == pytest.approx(1, abs=1e-6)
        t = 1 / (1 + np.exp(-(f @ p["h.g.gate.weight"][i].T + p["h.g.gate.bias"][i])))
        h = t * np.tanh(f @ p["h.g.transform.weight"][i].T) + (1 - t) * f
    out = h @ p["out.weight"].T
    assert out.var() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(new.forward(x), out, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", vg.parametrizations.names())
def test_parametrized_weights_are_scaled_by_their_vector(name: str) -> None:
    layers = [vg.Repeat([vg.Dense(16, parametrization=name, name=""), vg.Activation("tanh")], 5, name="h")]
    net = vg.Network(16, layers, dtype="float64", rng=0)
    x = samples(16, dtype="float64")
    new = net.lsuv(x, tolerance=1e-9)
    h = x
    for w in new.effective_weights()["h.weight"]:
        z = h @ w.T
        assert z.var() == pytest.approx(1, abs=1e-8)
        h = np.tanh(z)


def test_steps_that_share_their_weights_are_fitted_once() -> None:
    net = vg.Network(16, [vg.Repeat([vg.Dense(16, name="a"), vg.Activation("tanh")], 9, tied=True)], rng=0)
    x = samples(16)
    w = net.lsuv(x, tolerance=1e-6).parameters()["0.a.weight"]
    assert np.var(np.float64(x) @ w.T) == pytest.approx(1, abs=1e-5)


def test_the_network_itself_is_left_alone_and_bits_do_not_depend_on_threads() -> None:
    x = samples(24)
    net = vg.mlp(30, 24, activation="selu", rng=5)
    before, threads = net.parameters()["hidden.weight"].tobytes(), vg.get_num_threads()
    found = set()
    try:
        for n in (1, 2, 3, 7):
            vg.set_num_threads(n)
            found.add(net.lsuv(x).parameters()["hidden.weight"].tobytes())
    finally:
        vg.set_num_threads(threads)
    assert len(found) == 1
    assert net.parameters()["hidden.weight"].tobytes() == before
    new = net.lsuv(x)
    assert (new.layers, new.seed, new.dtype) == (net.layers, net.seed, net.dtype)


def test_refusals() -> None:
    net, x = vg.mlp(3, 8, activation="relu", rng=0), samples(8)
    with refused(vg.ArgumentError, "tolerance", "-0.1"):
        net.lsuv(x, tolerance=-0.1)
    with refused(vg.ArgumentError, "max_iterations", "0"):
        net.lsuv(x, max_iterations=0)
    with refused(vg.ShapeError, "x", "8"):
        net.lsuv(samples(7))
    with refused(vg.ArgumentError, "lsuv", "'hidden[0]'", "variance 0", "200 samples"):
        net.lsuv(np.zeros_like(x))
    with refused(vg.ArgumentError, "lsuv", "along time", "recurrent_init"):
        vg.rnn("lstm", 4, in_features=3, rng=0).lsuv(np.zeros((2, 5, 3), np.float32))
    with refused(vg.ArgumentError, "lsuv", "stored=True"):
        vg.mlp(3, 8, rng=0, stored=False).lsuv(x)
