"""Tests of cures in a row: each works on what those before it made, and what a later one undoes is refused."""

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
    text = rf"layerwise_pretraining\(2\) and .* do not go together in this order: the second {why}; turn them "
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
