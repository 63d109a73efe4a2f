"""Rows keep scales of their own: what is dead or faint in one sample costs the others nothing."""

from __future__ import annotations

import numpy as np
import pytest
import vgcore as vg


@pytest.mark.parametrize("activation", ["leaky_relu", "prelu"])
def test_a_sample_without_a_gradient_is_as_one_that_is_not_there(activation: str) -> None:
    """Also where rows take part in the gradient of a learned slope."""
    step = [vg.Dense(16, init="standard", name="d"), vg.Activation(activation, name="a")]
    net = vg.Network(16, [vg.Repeat(step, 400)], rng=0)
    rng = np.random.default_rng(1)
    x, v = (rng.normal(size=(4, 16)).astype(np.float32) for _ in range(2))
    v[1] = 0.0
    rest = [0, 2, 3]
    with_it, without = net.gradients(x, cotangent=v), net.gradients(x[rest], cotangent=v[rest])
    for name in without:
        want = np.asarray(without.log2_norm(name))
        assert -5000 < want[0] < -400
        np.testing.assert_allclose(np.asarray(with_it.log2_norm(name)), want, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dead_sample_does_not_set_the_scale_of_the_batch(dtype: str) -> None:
    """A sample whose gradient is exactly zero has no exponent; the others' weight gradients stay whole."""
    net = vg.mlp(depth=250, width=16, activation="sigmoid", init="glorot_normal", dtype=dtype, rng=0)
    x = np.random.default_rng(0).normal(size=(2, 16)).astype(dtype)
    v = np.ones((2, 16), dtype)
    v[1] = 0.0
    one = net.probe(x[:1], cotangent=v[:1])
    two = net.probe(x, cotangent=v)
    assert np.isfinite(one.log10_weight_grad_norm).all()
    np.testing.assert_allclose(two.log10_weight_grad_norm, one.log10_weight_grad_norm, rtol=1e-12)
    np.testing.assert_allclose(two.log10_grad_norm, one.log10_grad_norm, rtol=1e-12)


def test_faint_inputs_keep_their_digits() -> None:
    """A ReLU chain is homogeneous: inputs 2^-120 times smaller leave dL/dh and make dL/dW 2^-120 smaller."""
    net = vg.mlp(depth=40, width=16, activation="relu", init="he_normal", rng=1)
    x = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)
    v = np.ones((4, 16), np.float32)
    plain = net.probe(x, cotangent=v)
    faint = net.probe(np.ldexp(x, -120), cotangent=v)
    np.testing.assert_allclose(faint.log10_grad_norm, plain.log10_grad_norm, rtol=1e-6)
    shift = faint.log10_weight_grad_norm - plain.log10_weight_grad_norm
    np.testing.assert_allclose(shift, -120 * np.log10(2.0), rtol=1e-6)
