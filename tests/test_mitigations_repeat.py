"""Tests of cures that cut a Repeat or write it out: initial arrays and weights go with their steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers_cures import X, Y, deep, flat, owners, tied
from vgcore.mitigations import DoesNotApply

STACKED = np.random.default_rng(5).normal(size=(12, 8, 8)).astype("float32")


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    ("cure", "stays"),
    [
        ("fewer_layers:0.25", lambda w: w[:3]),
        ("long_skip:3", lambda w: w.reshape(4, 3, 8, 8)),
        ("residual:2", lambda w: w.reshape(6, 2, 8, 8)),
        ("pre_activation:4", lambda w: w.reshape(3, 4, 8, 8)),
        ("deepnorm:2", None),
        ("fixup:2", None),
        ("unet:1", None),
    ],
)
def test_initial_arrays_with_an_entry_for_each_step_are_cut_with_the_steps(
    cure: str, stays: Any, trained: bool
) -> None:
    step = [vg.Dense(8, init=STACKED, bias_init=STACKED[:, 0], name=""), vg.Activation("tanh")]
    net = vg.Network(8, [vg.Repeat(step, 12, name="hidden")], rng=0)
    if trained:
        net.load_parameters({name: 2.0 * value for name, value in net.parameters().items()})
    cured = net.mitigate(cure)
    if stays is not None:
        assert np.array_equal(cured.parameters()["hidden.weight"], stays(net.parameters()["hidden.weight"]))
    if not trained:
        assert owners(vg.Network(8, cured.layers, rng=cured.seed)) == owners(cured)


def test_a_dense_block_is_not_for_weights_that_were_given_as_arrays() -> None:
    step = [vg.Dense(8, init=STACKED, name=""), vg.Activation("tanh")]
    net = vg.Network(8, [vg.Repeat(step, 12, name="hidden")], rng=0)
    with pytest.raises(
        DoesNotApply, match=r"dense_skip\(2\) does not apply to this network: its weights were gi"
    ):
        net.mitigate("dense_skip:2")


@pytest.mark.parametrize("form", [[], ["weight_norm"]])
@pytest.mark.parametrize("make", [deep, flat])
def test_layers_written_out_keep_what_keeps_its_shape(make: Any, form: list[str]) -> None:
    net = make()
    net.load_parameters({k: v + np.float32(0.25) for k, v in net.parameters().items()})
    before, cured = net.parameters(), net.mitigate(*form, "dense_skip:2").parameters()
    matrix = "weight_v" if form else "weight"
    if make is deep:
        for k in range(2):
            assert np.array_equal(cured[f"hidden.layer{k}.bias"], before["hidden.bias"][k::2])
        assert np.array_equal(cured[f"hidden.layer0.{matrix}"], before["hidden.weight"][::2])
        assert cured[f"hidden.layer1.{matrix}"].shape == (6, 8, 16)
        if form:
            lengths = np.linalg.norm(before["hidden.weight"].astype(float), axis=-1)
            assert np.allclose(cured["hidden.layer0.weight_g"], lengths[::2], rtol=1e-6)
    fixed = net.mitigate("fixup:3").parameters()
    if make is deep:
        for k in range(3):
            assert np.array_equal(fixed[f"hidden.layer{k}.bias"], before["hidden.bias"][k::3])


def test_layers_that_share_their_weights_form_blocks_of_the_size_that_was_asked_for() -> None:
    net = tied()
    cured = net.mitigate("residual:layers=2")
    assert owners(cured) == owners(net)
    assert cured.num_steps == 5  # the input layer, three blocks, the output layer
    p = {name: value.astype(float) for name, value in net.parameters().items()}
    h = np.tanh(X @ p["0.weight"].T + p["0.bias"])
    for _ in range(3):
        inner = h
        for _ in range(2):
            inner = np.tanh(inner @ p["hidden.0.weight"].T + p["hidden.0.bias"])
        h = h + inner
    np.testing.assert_allclose(cured.forward(X), h @ p["3.weight"].T + p["3.bias"], rtol=1e-4, atol=1e-5)
    exact = vg.Network(6, cured.layers, dtype="float64", rng=0)
    vg.testing.check_gradients(exact, X.astype(float), Y, loss="cross_entropy")
    for cure in ("pre_activation:3", "rezero:2", "deepnorm:3", "scaled_residual:2", "long_skip:3"):
        blocks = 2 if "3" in cure else 3
        assert net.mitigate(cure).num_steps in (blocks + 2, blocks + 3), cure
    with pytest.raises(DoesNotApply, match=r"blocks of 4 layers do not divide the 6 of its Repeat"):
        net.mitigate("residual:layers=4")


@pytest.mark.parametrize(
    ("cure", "why"),
    [
        ("fixup", r"the last of a branch starts at 0, the others do not"),
        ("dense_skip:2", r"each layer of a dense block has a wider input"),
        ("unet:1", r"each part of a U has its own"),
    ],
)
def test_layers_that_share_their_weights_cannot_be_made_different(cure: str, why: str) -> None:
    text = r"does not apply to this network: the layers of its Repeat share their weights \(tied=True\), and "
    with pytest.raises(DoesNotApply, match=text + why):
        tied().mitigate(cure)


def test_the_doctor_tries_cures_on_layers_that_share_their_weights() -> None:
    found = tied().doctor(X, Y, candidates=["fixup", "residual:2", "rezero"], steps=2)
    assert {trial.name for trial in found.trials} >= {"residual:2", "rezero"}
    assert "share their weights" in found.refused["fixup"]


def test_pre_activation_blocks_take_the_factors_that_residual_ones_take() -> None:
    net = deep()
    p = {name: value.astype(float) for name, value in net.parameters().items()}
    h = np.tanh(X @ p["input.weight"].T + p["input.bias"])
    for weight, bias in zip(p["hidden.weight"], p["hidden.bias"], strict=True):
        h = 0.9 * h + 0.5 * (np.tanh(h) @ weight.T + bias)
    got = net.mitigate("pre_activation:scale=0.5:shortcut=0.9")
    assert owners(got) == owners(net)
    np.testing.assert_allclose(
        got.forward(X), h @ p["output.weight"].T + p["output.bias"], rtol=1e-4, atol=1e-5
    )
