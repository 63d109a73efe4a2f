"""Tests of cures in a row: each works on what those before it made; what a later one undoes is refused."""

from __future__ import annotations

import numpy as np
import pytest
import vgcore as vg
from helpers_cures import deep, owners
from vgcore.mitigations import as_cures, in_order

X = np.random.default_rng(0).normal(size=(128, 6)).astype("float32")


@pytest.mark.parametrize(
    "pair",
    [
        "lsuv+layer_norm:position=after",
        "lsuv+rms_norm",
        "lsuv+dense_skip",
        "lsuv+residual",
        "lsuv+skipinit",
        "lsuv+fewer_layers",
        "lsuv+activation:relu",
    ],
)
def test_what_runs_on_data_runs_at_its_place_in_the_row(pair: str) -> None:
    first, second = as_cures(pair)
    made = {}
    for a, b in ((first, second), (second, first)):
        at_once, in_turn = deep().mitigate(a, b, x=X), deep().mitigate(a, x=X).mitigate(b, x=X)
        assert at_once.cures == in_turn.cures == (a, b)
        assert owners(at_once) == owners(in_turn)
        made[a] = owners(at_once)
    assert made[first] != made[second]


def test_pretrained_layers_may_take_another_form_afterwards() -> None:
    net = deep().mitigate("layerwise_pretraining:2", "weight_norm", x=X)
    trained = deep().mitigate("layerwise_pretraining:2", x=X)
    assert owners(net)["hidden.weight_v"] == owners(trained)["hidden.weight"]
    assert owners(trained) != owners(deep())


@pytest.mark.parametrize(
    ("later", "why"),
    [
        ("orthogonal", "draws anew the weights that were trained"),
        ("lsuv", "draws anew the weights that were trained"),
        ("activation:relu", "draws anew the weights that were trained, for another activation"),
        ("zero_bias", "takes away the biases that were trained"),
    ],
)
def test_what_a_later_cure_would_undo_is_refused_in_that_order(later: str, why: str) -> None:
    text = (
        rf"layerwise_pretraining\(2\) and .* do not go together in this order: the second {why}; turn them "
    )
    with pytest.raises(vg.ArgumentError, match=text + "around, or leave one of them out$"):
        deep().mitigate("layerwise_pretraining:2", later, x=X)
    with pytest.raises(vg.ArgumentError, match="in this order"):
        deep().mitigate("layerwise_pretraining:2", x=X).mitigate(later, x=X)
    if later != "zero_bias":
        deep().mitigate(later, "layerwise_pretraining:2", x=X)
    assert "start of the weights (draws anew" in str(vg.mitigations.describe("layerwise_pretraining"))


def test_a_refused_pair_is_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vg.pretraining, "greedy", lambda *a, **b: pytest.fail("it has begun"))
    with pytest.raises(vg.ArgumentError, match="do not go together"):
        deep().mitigate("layerwise_pretraining", "residual", x=X)


def test_in_a_pair_of_the_doctor_what_looks_at_data_comes_when_the_layers_stand() -> None:
    for other in ("residual", "rms_norm", "long_skip", "fewer_layers"):
        assert [cure.name for cure in in_order(as_cures(f"lsuv+{other}"))] == [other, "lsuv"]
    assert [c.name for c in in_order(as_cures("adam+layerwise_pretraining+lsuv"))] == [
        "lsuv",
        "layerwise_pretraining",
        "adam",
    ]


def test_pretraining_takes_the_optimizer_that_was_set_before_it_at_a_rate_of_its_own() -> None:
    net = deep(depth=3, activation="sigmoid")

    def by_hand(**fit: object) -> dict[str, bytes]:
        return owners(vg.pretraining.greedy(net, X, epochs=2, rng=net.seed, **fit))

    def by_cure(*cures: str) -> dict[str, bytes]:
        return owners(net.mitigate(*cures, x=X))

    assert by_cure("layerwise_pretraining:2") == by_hand() == by_hand(optimizer=vg.Adam(0.003))
    assert by_cure("layerwise_pretraining:2:lr=0.01") == by_hand(optimizer=vg.Adam(0.01))
    assert by_cure("sgd:0.5", "layerwise_pretraining:2") == by_hand(optimizer=vg.SGD(0.5))
    assert by_cure("sgd:0.5", "layerwise_pretraining:2:lr=0.2") == by_hand(optimizer=vg.SGD(0.2))
    assert by_cure("clip_norm:0.1", "layerwise_pretraining:2") == by_hand(clip=vg.ClipNorm(0.1))
    assert by_cure("layerwise_pretraining:2", "sgd:0.5") == by_hand()


def test_a_network_that_stays_at_chance_trains_after_the_cure() -> None:
    pytest.importorskip("sklearn")
    x, y = vg.datasets.digits()
    net = vg.mlp(8, 64, in_features=64, out_features=10, activation="sigmoid", rng=0)

    def accuracy(trained: vg.Network) -> float:
        trained.fit(x[:1400], y[:1400], epochs=20, optimizer=vg.SGD(0.1, momentum=0.9), rng=0, stats="none")
        return float((trained.predict(x[1400:]).argmax(1) == y[1400:]).mean())

    assert accuracy(net.mitigate("layerwise_pretraining", x=x[:1400])) > 0.9
    assert accuracy(net.copy()) < 0.2


CLIPS = [name for name in vg.mitigations.names("clip") if name != "sign_gradient"]


@pytest.mark.parametrize("clip", CLIPS)
def test_no_clip_comes_before_the_signs_which_it_does_not_change(clip: str) -> None:
    text = r"in this order: the second keeps the sign of each entry alone, which no clip changes"
    with pytest.raises(vg.ArgumentError, match=text):
        deep().mitigate(clip, "sign_gradient")
    deep().mitigate("sign_gradient", clip)
    gradients = deep().gradients(X, cotangent=np.ones((128, 3), np.float32))
    clips = deep().mitigate(clip).training_defaults["clip"]
    both, sign = (vg.clips.apply(c, gradients, deep().parameters()) for c in ([*clips, "sign"], "sign"))
    assert all((both[name] == sign[name]).all() for name in gradients)


@pytest.mark.parametrize("clip", ["clip_norm", "clip_layer", "norm_band"])
def test_no_scaling_of_whole_layers_comes_before_their_norm_is_set(clip: str) -> None:
    with pytest.raises(vg.ArgumentError, match=r"the second gives every layer the norm 1, whatever it was"):
        deep().mitigate(clip, "unit_norm")
    deep().mitigate("unit_norm", clip)
    deep().mitigate("clip_value", "unit_norm")


@pytest.mark.parametrize("other", ["spectral_constraint", "max_norm_constraint"])
def test_orthogonal_weights_take_no_other_limit(other: str) -> None:
    for pair in ((other, "orthogonal_constraint"), ("orthogonal_constraint", other)):
        with pytest.raises(
            vg.ArgumentError, match=r"do not go together: orthogonal weights have the singular"
        ):
            deep().mitigate(*pair)
    deep().mitigate("spectral_constraint", "max_norm_constraint")


def test_settings_that_make_no_sense_for_any_network_are_refused_where_the_cure_is_made() -> None:
    with pytest.raises(vg.ArgumentError, match=r"band: expected floor to be at most the ceiling, 1; got 2"):
        vg.mitigations.get("norm_band:floor=2:ceiling=1")
    with pytest.raises(
        vg.ArgumentError,
        match=r"^mitigation 'weight_standardized': gain: expected a number above 0, got 0; with weights of",
    ):
        vg.mitigations.get("weight_standardized:0")
