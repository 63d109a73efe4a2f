"""Tests of layer-wise pretraining: each layer is what training its autoencoder alone makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(96, 3)) @ RNG.normal(size=(3, 10))).astype(np.float32)  # three dimensions in ten


def sigmoid(depth: int = 3, **more: Any) -> vg.Network:
    return vg.mlp(depth, 6, in_features=10, out_features=4, activation="sigmoid", rng=0, **more)


def test_every_layer_learns_to_give_back_what_came_in() -> None:
    net = sigmoid()
    before = net.parameters()
    made = vg.pretraining.autoencoders(net, X, epochs=40, optimizer=vg.SGD(0.5), rng=1)
    assert [stage.name for stage in made.stages] == ["input", "hidden[0]", "hidden[1]", "hidden[2]"]
    assert [stage.loss for stage in made.stages] == ["mse", "bce", "bce", "bce"]
    for stage in made.stages:
        assert stage.after < stage.before
    assert made.stages[0].after < 0.5 * made.stages[0].before
    after = made.network.parameters()
    assert not any((before[n] == after[n]).all() for n in before if not n.startswith("output"))
    assert all(before[n].tobytes() == after[n].tobytes() for n in ("output.weight", "output.bias"))
    assert all(before[n].tobytes() == v.tobytes() for n, v in net.parameters().items()), "net has changed"


def test_a_stage_is_the_training_of_its_autoencoder_and_nothing_else() -> None:
    """The second layer, made again by hand: its input is what the first gives, its start is the network's."""
    net, options = sigmoid(2), {"optimizer": vg.SGD(0.3), "batch_size": 16}
    made = vg.pretraining.autoencoders(net, X, epochs=3, loss="mse", rng=5, **options)
    new, old = made.network.parameters(), net.parameters()
    h = vg.activations.sigmoid(X @ new["input.weight"].T + new["input.bias"])
    layers = [vg.Dense(6, name="encoder"), vg.Activation("sigmoid"), vg.Dense(6, name="decoder")]
    seed = np.random.SeedSequence([5, 1])
    ae = vg.Network(6, layers, rng=seed)
    ae.load_parameters(
        ae.parameters() | {"encoder.weight": old["hidden.weight"][0], "encoder.bias": old["hidden.bias"][0]}
    )
    below = vg.Network(10, [vg.Dense(6, name="input"), vg.Activation("sigmoid")], rng=0)
    below.load_parameters({name: new[name] for name in ("input.weight", "input.bias")})
    exact = below.forward(X)
    np.testing.assert_allclose(exact, h, rtol=1e-4)
    history = ae.fit(exact, exact, epochs=3, loss="mse", rng=seed, **options)
    assert ae.parameters()["encoder.weight"].tobytes() == new["hidden.weight"][0].tobytes()
    assert made.stages[1].curve.tolist() == np.asarray(history.loss).tolist()


@pytest.mark.parametrize("corruption", [0.0, 0.3])
def test_it_is_the_same_to_the_bit_every_time_and_no_layer_depends_on_those_above(corruption: float) -> None:
    options: dict[str, Any] = {"epochs": 3, "corruption": corruption, "optimizer": vg.SGD(0.2), "rng": 3}
    first, again = (vg.pretraining.greedy(sigmoid(), X, **options).parameters() for _ in range(2))
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    deeper = vg.pretraining.greedy(sigmoid(7), X, **options).parameters()
    assert deeper["hidden.weight"][:3].tobytes() == first["hidden.weight"].tobytes()
    other = vg.pretraining.greedy(sigmoid(), X, **(options | {"rng": 4})).parameters()
    assert other["hidden.weight"].tobytes() != first["hidden.weight"].tobytes()


def test_corruption_masks_the_share_it_says_and_asks_for_the_clean_input() -> None:
    from vgcore._datasets_made import Draws
    from vgcore.pretraining import _corrupted

    ones = np.ones((500, 40), np.float32)
    draws = Draws(np.random.SeedSequence(0))
    first, second = _corrupted(ones, 0.3, draws), _corrupted(ones, 0.3, draws)
    assert abs(float((first == 0).mean()) - 0.3) < 0.015  # five standard deviations of 20,000 coins
    assert (first != second).any()
    made = vg.pretraining.autoencoders(sigmoid(1), X, epochs=5, corruption=0.3, optimizer=vg.SGD(0.3), rng=0)
    assert [stage.history.stopped for stage in made.stages] == [None, None]
    assert len(made.stages[0].curve) == 15
    clean = vg.pretraining.autoencoders(sigmoid(1), X, epochs=5, optimizer=vg.SGD(0.3), rng=0)
    assert made.stages[0].before == clean.stages[0].before, "the loss told is that of the clean input"


def test_written_out_and_repeated_layers_are_pretrained_alike() -> None:
    flat = vg.Network(
        10,
        [
            *[vg.Dense(6, name="input"), vg.Activation("sigmoid")],
            *[layer for i in range(3) for layer in (vg.Dense(6, name=f"h{i}"), vg.Activation("sigmoid"))],
            vg.Dense(4, name="output"),
        ],
        rng=9,
    )
    net = sigmoid()
    own = net.parameters()
    values = {name: own[name] for name in own if not name.startswith("hidden")}
    values |= {f"h{i}.{k}": own[f"hidden.{k}"][i] for i in range(3) for k in ("weight", "bias")}
    flat.load_parameters(values)
    a = vg.pretraining.greedy(net, X, epochs=2, rng=0).parameters()
    b = vg.pretraining.greedy(flat, X, epochs=2, rng=0).parameters()
    assert all(a["hidden.weight"][i].tobytes() == b[f"h{i}.weight"].tobytes() for i in range(3))


def test_learned_slopes_and_layers_without_bias_are_pretrained_too() -> None:
    step = [vg.Dense(6, bias=False), vg.Activation("prelu")]
    net = vg.Network(10, [vg.Dense(6), vg.Activation("prelu"), vg.Repeat(step, 2), vg.Dense(2)], rng=0)
    ready = vg.pretraining.greedy(net, X, epochs=3, layers=[0, 2], optimizer=vg.SGD(0.1), rng=0).parameters()
    old = net.parameters()
    assert (ready["1.slope"] != old["1.slope"]).all()
    assert ready["2.0.weight"][0].tobytes() == old["2.0.weight"][0].tobytes()  # layer 1 was left out
    assert (ready["2.0.weight"][1] != old["2.0.weight"][1]).any()


def test_what_is_told_is_a_table_and_a_picture() -> None:
    made = vg.pretraining.autoencoders(sigmoid(1), X, epochs=2, batch_size=48, rng=0)
    assert set(made.table["name"]) == {"input", "hidden[0]"}
    assert len(made.table["loss"]) == 2 * 2 * 2
    assert made.to_dict()["stages"][0]["curve"] == made.stages[0].curve.tolist()
    assert repr(made) == "<Pretraining 2 layers, corruption 0, seed 0>"
    assert "10 -> 6" in str(made)
    assert "<table>" in made._repr_html_()
    pytest.importorskip("matplotlib")
    assert len(made.plot().lines) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: vg.pretraining.greedy(sigmoid(), X, corruption=1.0),
            r"corruption: expected a share from 0 to",
        ),
        (
            lambda: vg.pretraining.greedy(sigmoid(), X, layers=[9]),
            r"layers: expected numbers from 0 to 4, got 9",
        ),
        (
            lambda: vg.pretraining.greedy(sigmoid(), X, layers=[]),
            r"layers: expected at least one layer, got none",
        ),
        (
            lambda: vg.pretraining.greedy(sigmoid(), X, layers="1"),
            r"layers: expected a list of numbers such as",
        ),
        (
            lambda: vg.pretraining.greedy(vg.mlp(3, 10, skip="residual"), X),
            r"Dense layers with activations one after the other, got Residual \(hidden\[0\]\) behind 0",
        ),
        (
            lambda: vg.pretraining.greedy(vg.Network(10, [vg.Dense(2)]), X),
            r"expected a Dense with an Activation",
        ),
        (
            lambda: vg.pretraining.greedy(sigmoid(), X, validation=0.1),
            r"validation: each layer is trained on its",
        ),
        (
            lambda: vg.pretraining.greedy(sigmoid(), X, optimiser="adam"),
            r"autoencoders: no parameter 'optimiser'; did you mean 'optimizer'\?",
        ),
        (
            lambda: vg.pretraining.autoencoders(sigmoid(), X, zzz=1),
            r"no parameter 'zzz'; Network.fit, to which it goes, has epochs, batch_size, optimizer",
        ),
        *(
            (
                lambda share=share: vg.pretraining.autoencoders(
                    vg.mlp(3, 10, rng=0), X, corruption=share, optimizer=vg.SGD(1e12)
                ),
                r"the training of layer hidden\[0\] diverged at step \d+: .*; take a smaller learning rate",
            )
            for share in (0.0, 0.3)
        ),
        (lambda: vg.pretraining.greedy(vg.rnn("gru", 4, in_features=2), X), r"vg.chunker is for those"),
        (lambda: vg.pretraining.greedy(sigmoid(), X, loss="bce"), r"y"),
        (
            lambda: vg.pretraining.greedy(sigmoid(), X[:, :3]),
            r"x: expected shape \(batch, 10\), got \(96, 3\)",
        ),
    ],
)
def test_refusals_say_what_to_do(call: Any, message: str) -> None:
    with pytest.raises(vg.VgcoreError, match=message):
        call()
