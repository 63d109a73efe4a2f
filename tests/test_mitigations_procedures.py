"""Tests of cures in every name that the literature gives them, of procedures, and of layer dropping."""

from __future__ import annotations

import re

import numpy as np
import pytest
import vgcore as vg
from helpers_cures import X, Y, deep


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("chunker", "chunker"),
        ("multi-level hierarchy", "chunker"),
        ("layer_dropping", "layer_drop"),
        ("progressive_growth", "progressive_growth"),
        ("layer_removal", "layer_removal"),
        ("pruning", "layer_removal"),
        ("depth_bisection", "trainable_depth"),
        ("truncated_bptt", "truncate"),
        ("bptt", "truncate"),
        ("gradient_clipping", "clip_norm"),
        ("faster hardware", "hardware"),
        ("pretraining", "layerwise_pretraining"),
        ("reduced_depth", "fewer_layers"),
    ],
)
def test_what_the_literature_calls_a_cure_is_described(name: str, entry: str) -> None:
    found = vg.mitigations.describe(name)
    assert found.name == entry
    assert found.extra["changes"]
    assert found.reference


def test_a_misspelt_procedure_is_suggested() -> None:
    with pytest.raises(vg.UnknownNameError, match="did you mean 'chunker'"):
        vg.mitigations.describe("chuncker")


@pytest.mark.parametrize("name", vg.mitigations.procedures())
def test_a_procedure_names_functions_that_are_there(name: str) -> None:
    text = vg.mitigations.describe(name).extra["function"]
    called = re.findall(r"\b(vg|net)\.([\w.]+)\(", text)
    assert called
    for owner, path in called:
        found: object = vg if owner == "vg" else vg.Network
        for part in path.split("."):
            found = getattr(found, part)
        assert callable(found)
    assert name not in vg.mitigations.names()


@pytest.mark.parametrize("name", vg.mitigations.procedures())
def test_a_procedure_is_no_cure_of_one_network_and_says_what_to_call(name: str) -> None:
    says = rf"mitigation: expected a change of a network .*got '{name}', which is a procedure of its own: "
    says += re.escape(vg.mitigations.describe(name).extra["function"])
    with pytest.raises(vg.ArgumentError, match=says):
        deep().mitigate(name)
    with pytest.raises(vg.ArgumentError, match=says):
        vg.Study(depth=5, mitigation=name)
    with pytest.raises(vg.ArgumentError, match=says):
        getattr(vg.mitigations, name)


def test_layer_drop_leaves_out_all_blocks_alike() -> None:
    net = deep().mitigate("residual", "layer_drop:0.3")
    blocks = [layer for layer in net.layers for layer in (layer, *layer.body) if hasattr(layer, "survival")]
    assert {block.survival for block in blocks} == {0.7}
    plain = deep().mitigate("residual")
    for name, value in plain.parameters().items():
        assert net.parameters()[name].tobytes() == value.tobytes()
    thinned = vg.depth.stochastic(plain, 0.7, rule="uniform")
    assert np.array_equal(net.forward(X), thinned.forward(X))
    losses = [each.fit(X, Y, epochs=3, rng=0).loss for each in (net, thinned)]
    assert np.array_equal(*losses)


@pytest.mark.parametrize(
    ("cures", "says"),
    [
        (["layer_drop"], "it has no residual blocks to leave out"),
        (["residual", "layer_drop:1"], "p: expected a probability from 0 to below 1, got 1"),
        (["residual", "stochastic_depth", "layer_drop"], "both say how likely a block is there"),
        (["residual", "layer_drop", "stochastic_depth"], "both say how likely a block is there"),
    ],
)
def test_layer_drop_where_it_makes_no_sense(cures: list[str], says: str) -> None:
    with pytest.raises(vg.ArgumentError, match=says):
        deep().mitigate(*cures)
