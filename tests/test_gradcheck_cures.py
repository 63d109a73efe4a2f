"""Property tests of cured networks: cures of every family in any order, gradients against differences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from hypothesis import assume, event, given
from hypothesis import strategies as st
from vgcore.mitigations import DoesNotApply, Mitigation, check_together, get

#: Families whose cures change the network; one of each is drawn, or none.
FAMILIES = {
    group: [name for name in vg.mitigations.names(group) if name not in ("lsuv", "layerwise_pretraining")]
    for group in ("activation", "start", "weight", "norm", "block", "long", "depth")
}


def of(name: str) -> Mitigation:
    """The cure, with parameters that suit a network of six layers."""
    suits = {"long_skip": "long_skip:2", "dense_skip": "dense_skip:2", "unet": "unet:2"}
    suits |= {"group_norm": "group_norm:2", "activation": "activation:softplus"}
    return get(suits.get(name, name))


@st.composite
def cures(draw: st.DrawFn) -> list[Mitigation]:
    chosen = [draw(st.sampled_from([None, *names])) for names in FAMILIES.values()]
    found = draw(st.permutations([of(name) for name in chosen if name is not None]))
    try:
        check_together(found)
    except vg.ArgumentError:
        assume(False)
    return list(found)


def networks(kind: str, activation: str) -> vg.Network:
    if kind == "repeat":
        return vg.mlp(6, 4, in_features=3, out_features=2, activation=activation, dtype="float64", rng=0)
    step = [vg.Dense(4), vg.Activation(activation)]
    return vg.Network(3, [*step, *6 * step, vg.Dense(2)], dtype="float64", rng=0)


def moved(net: vg.Network) -> vg.Network:
    """The network a little away from its start: where a factor is 0, nothing behind it has a gradient."""
    draw = np.random.default_rng(5)
    net.load_parameters({k: v + 0.2 * draw.normal(size=v.shape) for k, v in net.parameters().items()})
    return net


def check(net: vg.Network, x: Any) -> None:
    result = vg.testing.check_gradients(moved(net), x, np.array([0, 1, 0, 1, 1]), loss="cross_entropy")
    assert result.resolved > 0


X = np.random.default_rng(0).normal(size=(5, 3))


@pytest.mark.parametrize("name", [name for names in FAMILIES.values() for name in names])
@pytest.mark.parametrize("kind", ["repeat", "written out"])
def test_each_cure_alone(kind: str, name: str) -> None:
    first = ["residual"] if name in ("stochastic_depth", "layer_drop") else []
    base = networks(kind, "relu" if name == "looks_linear" else "tanh")
    check(base.mitigate(*first, of(name)), X)


@given(st.sampled_from(["repeat", "written out"]), cures())
def test_cures_together_in_any_order(kind: str, chosen: list[Mitigation]) -> None:
    try:
        net = networks(kind, "mish").mitigate(*chosen)
    except DoesNotApply as error:
        event(f"does not apply: {str(error).split('(')[0]}")
        assume(False)
    event(f"{len(chosen)} cures")
    assert net.cures == tuple(chosen)
    check(net, X)


@pytest.mark.parametrize("first", ["lstm", "gru", "irnn", "orthogonal_rnn"])
@pytest.mark.parametrize("then", ["orthogonal", "forget_bias:2", "chrono:6", "weight_norm", "zero_bias"])
def test_along_time(first: str, then: str) -> None:
    net = vg.rnn("rnn", 4, in_features=3, out_features=2, dtype="float64", rng=0)
    x = np.random.default_rng(0).normal(size=(5, 4, 3))
    pair = itertools.takewhile(bool, (first, then))
    try:
        cured = net.mitigate(*pair)
    except (DoesNotApply, vg.ArgumentError):
        cured = net.mitigate(first)
    check(cured, x)
