"""Tests of networks that keep no parameters: the same results as those that do, and what they cannot."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import refused


def test_a_network_that_keeps_nothing_gives_the_same_results() -> None:
    kept, made = (vg.mlp(9, 4, activation="tanh", rng=3, stored=stored) for stored in (True, False))
    x = np.random.default_rng(0).standard_normal((2, 4)).astype("f4")
    assert repr(made).endswith("seed=3, stored=False)")
    np.testing.assert_array_equal(made.forward(x), kept.forward(x))
    assert made.loss(x, x, "mse") == kept.loss(x, x, "mse")
    a, b = (net.probe(x, cotangent=x) for net in (made, kept))
    np.testing.assert_array_equal(a.log10_grad_norm, b.log10_grad_norm)
    np.testing.assert_array_equal(a.log10_weight_grad_norm, b.log10_weight_grad_norm)
    np.testing.assert_array_equal(made.copy().forward(x), kept.forward(x))
    assert made.parameter_shapes() == kept.parameter_shapes()
    assert made.num_parameters == kept.num_parameters


def test_a_network_that_keeps_nothing_can_be_sent() -> None:
    made = vg.mlp(9, 4, rng=3, stored=False)
    x = np.ones((1, 4), np.float32)
    again = pickle.loads(pickle.dumps(made))
    assert repr(again) == repr(made)
    np.testing.assert_array_equal(again.forward(x), made.forward(x))


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda net, x: net.parameters(), "parameters"),
        (lambda net, x: net.load_parameters({}), "load_parameters"),
        (lambda net, x: net.gradients(x, cotangent=x), "gradients"),
        (lambda net, x: net.step(x, cotangent=x, lr=0.1), "step"),
        (lambda net, x: net.save("nowhere.safetensors"), "save"),
    ],
)
def test_a_network_that_keeps_nothing_says_what_it_cannot(call: Callable[..., Any], what: str) -> None:
    with refused(vg.ArgumentError, f"{what}: expected a network that keeps", "stored=True"):
        call(vg.mlp(3, 4, rng=0, stored=False), np.ones((1, 4), np.float32))
