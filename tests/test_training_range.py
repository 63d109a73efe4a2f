"""Tests of training where gradients are far outside the range of floats: what moves, what stays, where to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from numpy.typing import NDArray

WIDTH = 8


def deep(depth: int = 10_000) -> tuple[vg.Network, NDArray[Any], NDArray[Any]]:
    """Sigmoid layers whose first gradient is about 1e-4000 and less."""
    net = vg.mlp(depth, WIDTH, activation="sigmoid", init="glorot_normal", rng=0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, WIDTH)).astype(np.float32)
    return net, x, rng.uniform(size=(6, WIDTH)).astype(np.float32)


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine of the angle between two stacks, copy by copy."""
    rows = [np.asarray(v, np.float64).reshape(len(v), -1) for v in (a, b)]
    unit = [r / np.linalg.norm(r / np.abs(r).max(axis=1, keepdims=True), axis=1, keepdims=True) for r in rows]
    unit = [u / np.linalg.norm(u, axis=1, keepdims=True) for u in unit]
    return np.asarray((unit[0] * unit[1]).sum(axis=1))


def test_scale_free_moves_every_layer_along_its_own_gradient() -> None:
    net, x, y = deep()
    before, g = net.parameters(), net.gradients(x, y, loss="mse")
    log10 = np.asarray(g.log2_norm("hidden.weight")) * np.log10(2)
    assert log10[0] < -4000
    history = net.fit(x, y, epochs=1, batch_size=6, loss="mse", shuffle=False, optimizer=vg.ScaleFree(0.05))
    assert history.log10_grad_norm[0, 0] == pytest.approx(float(net_norm(g)), abs=60)
    for name in ("hidden.weight", "hidden.bias"):
        move = net.parameters()[name] - before[name]
        mantissa, _ = g.scaled(name)
        # float32 rounds what is added to a weight: one part in a thousand of a step of a twentieth.
        assert cosines(-move, mantissa).min() > 1 - 1e-6, name
        size = np.sqrt(np.mean(move.reshape(len(move), -1).astype(np.float64) ** 2, axis=1))
        own = np.sqrt(np.mean(before[name].reshape(len(move), -1).astype(np.float64) ** 2, axis=1))
        np.testing.assert_allclose(size, 0.05 * np.maximum(own, 0.001), rtol=1e-4)


def net_norm(g: Any) -> float:
    return float(np.asarray(g.log2_norm("hidden.weight"))[0] * np.log10(2))


def test_other_rules_leave_such_a_layer_where_it_is() -> None:
    net, x, y = deep(2_000)
    before = net.parameters()["hidden.weight"]
    net.fit(x, y, epochs=1, batch_size=6, loss="mse", optimizer=vg.SGD(0.1))
    after = net.parameters()["hidden.weight"]
    assert (after[0] == before[0]).all()
    assert (after[-1] != before[-1]).any()


@pytest.mark.parametrize(
    "clip", [vg.ClipNorm(1.0), vg.ClipNorm(1.0, rule="pascanu"), vg.ClipLayer(1.0), vg.ClipValue(1.0)]
)
def test_a_limit_leaves_what_is_below_it_to_the_bit(clip: vg.clips.Clip) -> None:
    net, x, y = deep()
    g = net.gradients(x, 0.5 * y, loss="mse")
    assert np.asarray(g.log2_norm("hidden.weight")).max() < 0
    got = vg.clips.apply(clip, g, net.parameters())
    for name in g:
        for a, b in zip(got.scaled(name), g.scaled(name), strict=True):
            assert a.tobytes() == b.tobytes(), name


def test_unit_norm_lifts_what_is_faint() -> None:
    net, x, y = deep()
    g = net.gradients(x, y, loss="mse")
    got = vg.clips.apply(vg.UnitNorm(), g)
    np.testing.assert_allclose(np.asarray(got.log2_norm("hidden.weight")), 0.0, atol=1e-6)
    assert cosines(got["hidden.weight"], g.scaled("hidden.weight")[0]).min() > 1 - 1e-12


def test_a_band_lifts_and_cuts() -> None:
    net, x, y = deep(3_000)
    g = net.gradients(x, 1e6 * y, loss="mse")
    before = np.asarray(g.log2_norm("hidden.weight"))
    assert before[0] < -1000
    assert before[-1] > 3
    got = vg.clips.apply(vg.NormBand(2.0**-10, 2.0**-5), g)
    expected = np.clip(before, -10, -5)
    np.testing.assert_allclose(np.asarray(got.log2_norm("hidden.weight")), expected, atol=1e-5)


def test_signs_of_what_no_float_holds() -> None:
    net, x, y = deep()
    g = net.gradients(x, y, loss="mse")
    got = vg.clips.apply(vg.SignGradient(), g)
    assert (got["hidden.weight"] == np.sign(g.scaled("hidden.weight")[0])).all()
    assert got["hidden.weight"][0].any()


@pytest.mark.parametrize(
    ("clip", "norm"),
    [
        (vg.ClipNorm(1.0), None),
        (vg.ClipLayer(0.25), -2.0),
        # Every entry of an exploded layer is at the limit: |g| = 0.5 sqrt(8).
        (vg.ClipValue(0.5), 0.5),
        # The biases are zero and count as 1e-3.
        (vg.AGC(0.5), float(np.log2(0.5e-3))),
        (vg.UnitNorm(), 0.0),
    ],
)
def test_gradients_beyond_the_other_end(clip: vg.clips.Clip, norm: float | None) -> None:
    # Forward stays at zero, and 2,000 layers double what comes back: 2^2000 is no float.
    net = vg.mlp(2_000, WIDTH, activation="identity", init="orthogonal", dtype="float64", rng=0)
    net.load_parameters({k: 2.0 * v for k, v in net.parameters().items()})
    g = net.gradients(np.zeros((3, WIDTH)), cotangent=np.ones((3, WIDTH)))
    before = np.asarray(g.log2_norm("hidden.bias"))
    assert before[0] > 1990
    got = np.asarray(vg.clips.apply(clip, g, net.parameters()).log2_norm("hidden.bias"))
    if norm is not None:
        np.testing.assert_allclose(got[before > 60], norm, atol=1e-9)
    elif isinstance(clip, vg.ClipNorm):
        np.testing.assert_allclose(got - before, got[0] - before[0], atol=1e-9)
        assert np.log2(np.sum(4.0**got)) / 2 == pytest.approx(0, abs=1e-6)


def test_exploding_gradients_are_clipped_and_train() -> None:
    # dL/dw of about 1e35 in the first layers; without a clip a step would end the numbers.
    net = vg.mlp(60, WIDTH, in_features=4, out_features=2, activation="relu", dtype="float32", rng=0)
    net.load_parameters({k: v * (3.0 if k.endswith("weight") else 1.0) for k, v in net.parameters().items()})
    rng = np.random.default_rng(0)
    x = 1e-20 * rng.normal(size=(64, 4)).astype(np.float32)
    y = rng.normal(size=(64, 2)).astype(np.float32)
    history = net.fit(
        x, y, epochs=3, batch_size=16, loss="mse", optimizer=vg.SGD(1e-3), clip=vg.ClipNorm(1.0)
    )
    assert history.log10_grad_norm.max() > 25
    assert history.stopped is None
    assert all(np.isfinite(v).all() for v in net.parameters().values())


def test_a_rate_of_zero_is_no_step_however_large_the_gradient() -> None:
    # Outputs stay at zero, and the gradients of the first layers are about 2^1300.
    parts = [vg.Dense(16, init=vg.initializers.normal(std=1.0), name="d"), vg.Activation("tanh")]
    net = vg.Network(16, [vg.Repeat(parts, 700), vg.Dense(2)], dtype="float32", rng=0)
    x, y = np.zeros((4, 16), np.float32), np.ones((4, 2), np.float32)
    before = net.parameters()
    assert np.asarray(net.gradients(x, y, loss="mse").log2_norm("0.d.bias")).max() > 1100
    net.step(x, y, loss="mse", lr=0.0)
    for clip in (None, vg.ClipNorm(1.0)):
        net.fit(
            x, y, loss="mse", epochs=1, optimizer=vg.SGD(0.1), clip=clip, schedule=lambda _: 0.0, batch_size=4
        )
    assert all((v == before[k]).all() for k, v in net.parameters().items())
    assert net.probe(x, y, loss="mse", lr=0.0).unchanged_share.min() == 1.0


@pytest.mark.parametrize(("dtype", "lr"), [("float32", 1e39), ("float32", 1e300), ("float64", 1.7e308)])
def test_a_rate_beyond_the_type_moves_nothing_where_the_gradient_is_zero(dtype: str, lr: float) -> None:
    net = vg.mlp(4, 5, in_features=3, out_features=1, activation="relu", dtype=dtype, rng=0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3)).astype(dtype), rng.normal(size=(2, 1)).astype(dtype)
    before, g = net.parameters(), net.gradients(x, y, loss="mse")
    share = net.probe(x, y, loss="mse", lr=lr).unchanged_share
    layers = [g["input.weight"], *np.asarray(g["hidden.weight"]), g["output.weight"]]
    zeros = [float(np.mean(np.asarray(layer) == 0)) for layer in layers]
    assert share.tolist() == pytest.approx(zeros)
    assert max(zeros) > 0.0
    net.step(x, y, loss="mse", lr=lr)
    for key, after in net.parameters().items():
        still = np.asarray(g[key]) == 0
        np.testing.assert_array_equal(after[still], before[key][still])
        assert (np.abs(after[~still]) > 1e30).all()


@pytest.mark.parametrize("name", vg.optimizers.names())
def test_no_optimizer_makes_nan_of_a_rate_beyond_the_type(name: str) -> None:
    net = vg.Network(4, [vg.Dense(4)], rng=0)
    before, zeros = net.parameters(), np.zeros((8, 4), np.float32)
    options = {"weight_decay": 0.0} if name == "adamw" else {}
    rule = getattr(vg.optimizers, name)(lr=1e300, **options)
    net.fit(zeros, zeros, epochs=2, batch_size=4, loss="mse", optimizer=rule)
    assert all((v == before[k]).all() for k, v in net.parameters().items())


NAMES = list(vg.optimizers.names())


@pytest.mark.parametrize("name", NAMES)
def test_no_optimizer_holds_subnormal_numbers(name: str) -> None:
    """Most of what is remembered would be, where gradients vanish, at hundreds of cycles a product."""
    net, x, y = deep(300)
    options: dict[str, Any] = {"sgd": {"momentum": 0.9}, "adam": {"amsgrad": True}}.get(name, {})
    if name == "rmsprop":
        options = {"momentum": 0.9, "centered": True}
    rule = getattr(vg.optimizers, name)(**options)
    history = net.fit(x, y, epochs=12, batch_size=6, loss="mse", optimizer=rule)
    assert history.log10_grad_norm.min() < -60
    least, held = np.finfo(np.float32).smallest_normal, 0
    for key, value in history.state.items():
        if "/" in key:
            held += 1
            size = np.abs(np.asarray(value))
            assert np.isfinite(size).all(), key
            assert not ((size > 0) & (size < least)).any(), key
    assert held > 0
    assert all(np.isfinite(v).all() for v in net.parameters().values())


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
def test_a_variance_of_constant_gradients_is_not_below_zero(alpha: float) -> None:
    # Rounding lets the running square's fixed point lie below the squared running mean.
    net = vg.Network(4, [vg.Dense(4, init="zeros")], rng=0)
    x, y = np.ones((8, 4), np.float32), np.full((8, 4), 1e3, np.float32)
    rule = vg.RMSprop(1e-4, alpha=alpha, centered=True)
    history = net.fit(x, y, epochs=400, batch_size=8, loss="smooth_l1", optimizer=rule)
    assert history.stopped is None
    assert all(np.isfinite(v).all() for v in net.parameters().values())


@pytest.mark.parametrize("eps", [0.0, 1e-50])
@pytest.mark.parametrize("name", ["adam", "adamw", "lamb", "adagrad", "rmsprop"])
def test_a_weight_without_a_gradient_stays_without_eps_too(name: str, eps: float) -> None:
    net = vg.Network(4, [vg.Dense(4)], rng=0)
    options = {"weight_decay": 0.0} if name == "adamw" else {}
    before, zeros = net.parameters(), np.zeros((8, 4), np.float32)
    rule = getattr(vg.optimizers, name)(eps=eps, **options)
    net.fit(zeros, zeros, epochs=3, batch_size=4, loss="mse", optimizer=rule)
    assert all((v == before[k]).all() for k, v in net.parameters().items())


@pytest.mark.parametrize(
    ("clips", "norm"),
    [
        ([vg.UnitNorm()], 0.0),
        ([vg.ClipNorm(1.0)], 0.0),
        ([vg.ClipLayer(1.9)], float(np.log2(1.9))),
        # Each row is cut to its own limit, and a row to a share of the other's exponent.
        ([vg.AGC(0.75)], None),
        ([vg.ClipNorm(1.9), vg.ClipValue(1e3)], float(np.log2(1.9))),
    ],
)
def test_mantissas_at_the_upper_end_of_the_type_are_clipped(clips: list[Any], norm: float | None) -> None:
    net = vg.Network(2, [vg.Dense(1, bias=False, name="a")], rng=0)
    g = net.gradients(np.array([[3.3e38, 1e38]], np.float32), cotangent=np.ones((1, 1), np.float32))
    got = vg.clips.apply(clips, g, {"a.weight": np.full((1, 2), 3.0, np.float32)})
    m, _ = got.scaled("a.weight")
    assert np.isfinite(m).all()
    np.testing.assert_allclose(m[0, 0] / m[0, 1], 3.3, rtol=1e-6)
    want = np.log2(0.75 * np.sqrt(18)) if norm is None else norm
    np.testing.assert_allclose(float(got.log2_norm("a.weight")), want, atol=1e-6)


def test_lars_too_has_a_ratio_for_any_gradient() -> None:
    net, x, y = deep(2_000)
    before, g = net.parameters()["hidden.weight"], net.gradients(x, y, loss="mse")
    assert np.asarray(g.log2_norm("hidden.weight"))[0] < -2000
    net.fit(x, y, epochs=1, batch_size=6, loss="mse", shuffle=False, optimizer=vg.LARS(trust=0.05))
    move = (net.parameters()["hidden.weight"] - before).astype(np.float64).reshape(2_000, -1)
    own = np.linalg.norm(before.astype(np.float64).reshape(2_000, -1), axis=1)
    np.testing.assert_allclose(np.linalg.norm(move, axis=1), 0.05 * own, rtol=1e-4)
