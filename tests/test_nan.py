"""Tests of NaN that arises on the way: it goes through every activation, forward and back, and is counted
as what it is, never as a dead unit or a zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg

X = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
# Its slope is one whatever the argument, so its deltas are those of the gradient that comes in.
NAMES = [name for name in vg.activations.names() if name != "identity"]


def broken(activation: str, bias: bool) -> vg.Network:
    """Layers whose pre-activations, from the third layer on, hold nothing but NaN."""
    net = vg.mlp(6, 32, activation=activation, bias=bias, rng=0)
    p = net.parameters()
    weight = p["hidden.weight"].copy()
    weight[2] = np.nan
    net.load_parameters(p | {"hidden.weight": weight})
    return net


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_nan_goes_through_every_activation_and_is_counted(name: str, bias: bool) -> None:
    net = broken(name, bias)
    assert np.isnan(net.forward(X)).all()
    flow = net.probe(X, cotangent=X)
    assert flow.share_nonfinite.tolist() == [1.0] * 6
    assert flow.share_zero.tolist() == [0.0] * 6
    assert flow.dead[2:].tolist() == [0] * 4
    assert flow.zero_slope[2:].tolist() == [0.0] * 4
    assert flow.saturated[2:].tolist() == [0.0] * 4
    assert np.isnan(flow.out_var[2:]).all()
    assert np.isnan(flow.log10_weight_grad_norm).all()
    assert np.isnan(flow.log10_grad_norm[:5]).all()
    found = flow.diagnose()
    assert found.verdict == "exploding"
    sign = found.sign("non-finite values")
    assert sign is not None
    assert "forward pass leaves the float range at step 2" in sign.text


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "hardsigmoid", "leaky_relu", "prelu"])
def test_a_forward_pass_that_explodes_is_not_called_dead(name: str) -> None:
    net = vg.mlp(200, 32, activation=name, init=vg.initializers.normal(std=1e20), bias=False, rng=0)
    flow = net.probe(X, cotangent=X)
    if np.isfinite(flow.out_var).all():  # a bounded function keeps it in range
        assert name in ("relu6", "hardtanh", "hardsigmoid")
        return
    first = int(np.flatnonzero(~np.isfinite(flow.out_var))[0])
    assert np.isnan(flow.log10_grad_norm[:first]).all()
    found = flow.diagnose()
    assert found.verdict == "exploding"
    sign = found.sign("non-finite values")
    assert sign is not None
    assert f"forward pass leaves the float range at step {first}" in sign.text


@pytest.mark.parametrize("name", vg.activations.names())
def test_every_place_where_a_gradient_is_looked_at_sees_nan(name: str) -> None:
    """A row that leaves the range among others that do not: sums over rows and counts say the same."""
    net = vg.mlp(4, 32, activation=name, rng=0)
    assert net.probe(X, cotangent=X).share_nonfinite.max() == 0.0
    x = X.copy()
    x[1] = 3e38
    flow = net.probe(x, cotangent=X)
    np.testing.assert_array_equal(~np.isfinite(flow.log10_delta_norm), flow.share_nonfinite > 0)


def test_a_learned_slope_has_a_gradient_of_nan() -> None:
    net = broken("prelu", bias=True)
    g = net.gradients(X, cotangent=X)
    assert np.isnan(g["hidden.1.slope"]).all()
    assert np.isnan(g["hidden.weight"]).all()


@pytest.mark.parametrize("name", [n for n in NAMES if n != "prelu"])
def test_nan_goes_back_through_time(name: str) -> None:
    net = vg.rnn("rnn", 8, in_features=3, out_features=2, activation=name, rng=0)
    p = net.parameters()
    weight = p["rnn.weight_ih_l0"].copy()
    weight[:, 2] = np.nan
    net.load_parameters(p | {"rnn.weight_ih_l0": weight})
    x = np.random.default_rng(1).normal(size=(4, 20, 3)).astype(np.float32)
    flow: Any = net.probe(x, np.array([0, 1, 0, 1]), loss="cross_entropy")
    assert np.isnan(flow.log10_grad_norm).all()
    assert np.isnan(flow.log10_delta_norm).all()
    assert all((share == 0.0).all() for share in flow.gate_saturated.values())
    assert flow.diagnose().verdict == "exploding"
    g = net.gradients(x, np.array([0, 1, 0, 1]), loss="cross_entropy")
    assert all(np.isnan(g[key]).all() for key in p if key.startswith("rnn."))
