"""Tests of vg.mlp(skip=...): what each kind builds, the papers' constants, initializers times a factor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers_theory import entries
from vgcore._skips import SKIPS, deepnorm_constants, fixup_factor, scaled_init
from vgcore.layers import walk

KINDS = [f"{kind.name}:3" if kind.numbered else kind.name for kind in SKIPS.values()]


def pair(net: vg.Network, batch: int = 4) -> tuple[Any, Any]:
    """An input and a cotangent for a network."""
    rng = np.random.default_rng(0)
    x, v = (rng.normal(size=(batch, n)).astype(net.dtype) for n in (net.in_features, net.out_features))
    return x, v


def test_fixup_constants() -> None:
    for key, expected in entries()["fixup_scale"]["expected"].items():
        branches, layers = key.removeprefix("L").split("_m")
        assert fixup_factor(int(branches), int(layers)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["deepnorm_N6", "deepnorm_N1000"])
def test_deepnorm_constants(name: str) -> None:
    entry = entries()[name]
    alpha, beta = deepnorm_constants(entry["setting"]["N"])
    assert alpha == pytest.approx(entry["expected"]["alpha"], rel=1e-12)
    assert beta == pytest.approx(entry["expected"]["beta"], rel=1e-12)


@pytest.mark.parametrize("skip", KINDS)
def test_every_kind_of_skip_has_as_many_steps_as_asked(skip: str) -> None:
    """And a gradient that reaches the input; in a step of two layers, both count."""
    net = vg.mlp(10, 16, in_features=5, out_features=3, activation="tanh", skip=skip, rng=0)
    hidden = [p for p in walk(net.layers, 5) if p.layer.kind == "dense"][1:-1]
    runs = sum(p.times for p in hidden)
    runs += sum(p.times for p in walk(net.layers, 5) if p.layer.kind == "highway")
    assert runs == (20 if skip in ("fixup", "deepnorm") else 10)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    flow = net.probe(x, np.arange(4) % 3, loss="cross_entropy")
    assert np.isfinite(flow.log10_input_grad_norm)
    assert np.isfinite(flow.log10_grad_norm).all()


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("skip", [kind for kind in KINDS if kind != "deepnorm"])
def test_every_kind_of_skip_takes_a_normalisation(skip: str, norm: str) -> None:
    net = vg.mlp(5, 8, skip=skip, norm=norm, activation="tanh", dtype="float64", rng=0)
    x, v = pair(net)
    assert vg.testing.check_gradients(net, x, cotangent=v, max_entries=8).resolved > 20


@pytest.mark.parametrize("skip", [kind for kind in KINDS if kind != "deepnorm"])
def test_groups_by_name_suit_the_width_of_every_step(skip: str) -> None:
    """Steps of "unet" and "dense" are narrower than the network."""
    net = vg.mlp(9, 64, skip=skip, norm="group", activation="tanh", rng=0)
    layers = [p for p in walk(net.layers, 64) if isinstance(p.layer, vg.GroupNorm)]
    assert layers
    assert all(p.layer.groups == vg.GroupNorm.default(p.in_features).groups for p in layers)
    x, v = pair(net)
    assert np.isfinite(net.probe(x, cotangent=v).log10_grad_norm).all()


@pytest.mark.parametrize("name", [None, "slopes"])
@pytest.mark.parametrize("skip", [None, *KINDS])
def test_every_kind_of_skip_takes_an_activation_that_learns(skip: str | None, name: str | None) -> None:
    for depth in (3, 9):
        activation = vg.Activation("prelu", name=name)
        net = vg.mlp(depth, 16, skip=skip, in_features=4, activation=activation, rng=0)
        learned = [n for n, shape in net.parameter_shapes().items() if shape[-1] == 1 and "scale" not in n]
        assert len(learned) > 1
        x, v = pair(net)
        assert np.isfinite(net.probe(x, cotangent=v).log10_grad_norm).all()


def test_steps_of_one_weight_start_alike() -> None:
    """The same seed draws the same weights, whatever bridges the steps."""
    plain = vg.mlp(4, 8, activation="tanh", init="orthogonal", rng=3).parameters()["hidden.weight"]
    for skip in ("residual", "pre_activation", "rezero", "skipinit", "scaled"):
        other = vg.mlp(4, 8, activation="tanh", init="orthogonal", skip=skip, rng=3).parameters()
        assert other["hidden.weight"].tobytes() == plain.tobytes(), skip


def test_fixup_starts_as_the_paper_says() -> None:
    """Upper layers at zero, lower ones depth**(-1/2) times as large; so the gradient does not change."""
    net = vg.mlp(100, 32, skip="fixup", activation="relu", dtype="float64", rng=0)
    p = net.parameters()
    assert not p["hidden.upper.weight"].any()
    assert np.std(p["hidden.lower.weight"]) == pytest.approx(0.1 * np.sqrt(2 / 32), rel=0.02)
    assert (p["hidden.scale"] == 1.0).all()
    x, v = pair(net)
    m, e = net.gradients(x, cotangent=v).scaled_input
    np.testing.assert_array_equal(np.ldexp(m, np.asarray(e)[:, None]), v)


def test_deepnorm_is_built_of_its_constants() -> None:
    net = vg.mlp(16, 32, skip="deepnorm", activation="relu", init="glorot_normal", dtype="float64", rng=0)
    alpha, beta = deepnorm_constants(8)
    repeat = net.layers[0]
    assert repeat.body[0].shortcut == alpha
    assert np.std(net.parameters()["hidden.upper.weight"]) == pytest.approx(beta / np.sqrt(32), rel=0.02)
    x, _ = pair(net)
    y = net.forward(x)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=1), 1, rtol=1e-3)


@pytest.mark.parametrize("name", [n for n in vg.initializers.names() if n not in ("zeros", "sparse")])
def test_scaled_initializers_are_scaled(name: str) -> None:
    # Two take their size from the activation unless it is given.
    given = {"edge_of_chaos": {"sigma_w2": 1.5}, "looks_linear": {"gain": 1.5}}.get(name, {})
    init = vg.initializers.Initializer(name, given)
    small = scaled_init(init, 0.25)
    for fan in (40, 90):
        a, b = (i.sample((64, fan), dtype="float64", rng=1) for i in (init, small))
        np.testing.assert_allclose(b, 0.25 * a, rtol=1e-14)


@pytest.mark.parametrize(("name", "size"), [("edge_of_chaos", "sigma_w2"), ("looks_linear", "gain")])
def test_a_size_that_the_activation_gives_is_not_scaled_in_silence(name: str, size: str) -> None:
    for skip in ("fixup", "deepnorm"):
        with pytest.raises(vg.ArgumentError, match=rf"init: {name}\(\) takes its size .*{name}\({size}="):
            vg.mlp(4, 8, skip=skip, init=name, rng=0)
    small = vg.mlp(4, 8, skip="fixup", init=getattr(vg.initializers, name)(**{size: 1.0}), rng=0)
    assert small.parameters()["hidden.lower.weight"].any()
