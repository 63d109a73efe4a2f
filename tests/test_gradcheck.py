"""Property tests of gradients: random networks over every layer, activation, loss, initializer and float
type.

Three independent judges: differences step by step, the NumPy oracle's backward pass, and its complex step
through the whole chain. All tolerances are relative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
import vgcore as vg
from helpers import double, functions_of, gap_by_norm, in_range, to_oracle
from hypothesis import assume, event, given, note
from hypothesis import strategies as st
from oracle_activations import ACTIVATIONS
from oracle_branches import Training
from vgcore._rng import key_of

SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.integers(1, 4)


def draw_target(loss: vg.losses.Loss, batch: int, width: int, rng: np.random.Generator) -> Any:
    """A target that the loss takes: labels or probabilities, values in [0, 1], or any numbers."""
    if loss.name == "cross_entropy":
        if rng.random() < 0.5:
            return rng.integers(0, width, batch)
        weights = rng.random((batch, width)) + 0.1
        return weights / weights.sum(axis=1, keepdims=True)
    return rng.random((batch, width)) if loss.name == "bce_with_logits" else rng.normal(size=(batch, width))


def cast(target: Any, dtype: Any) -> Any:
    return target.astype(dtype) if target.dtype.kind == "f" else target


def parameters_of(net: vg.Network) -> dict[str, np.ndarray]:
    return {name: double(value) for name, value in net.parameters().items()}


def off_zero(layers: Any, parameters: Any, x: Any, training: Training | None = None) -> bool:
    """Whether no activation is asked at exactly 0, a kink of many: there the step's h^2 decides which side it
    is on."""
    program = oracle.compile_program(layers)
    _, inputs = oracle.forward(program, parameters, double(x), training)
    return all(np.all(h != 0) for op, h in zip(program, inputs, strict=True) if op.what == "activation")


def alive(run: oracle.Gradients) -> bool:
    """Something other than zero, and nothing overflown, came back."""
    return bool(np.isfinite(run.grad).any() and np.all(run.grad < 1000))


@given(vg.testing.networks(), vg.testing.losses(), st.booleans(), BATCHES, SEEDS)
def test_differences_step_by_step(net: vg.Network, loss: Any, with_loss: bool, batch: int, seed: int) -> None:
    note(repr(net.layers))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, net.in_features)).astype(net.dtype)
    if with_loss:
        given_loss = {"y": cast(draw_target(loss, batch, net.out_features, rng), net.dtype), "loss": loss}
    else:
        given_loss = {"cotangent": rng.normal(size=(batch, net.out_features)).astype(net.dtype)}
    try:
        report = vg.testing.check_gradients(net, x, **given_loss, max_entries=16, rng=seed)
    except vg.testing.GradientCheckError as error:
        # a network that is dead, or sits on a kink, is not judged; a wrong gradient is
        if "exactly zero" in str(error) or "too noisy" in str(error):
            event("not judged")
            assume(False)
        raise
    assert report.resolved > 0


@given(vg.testing.networks(dtype="float64"), vg.testing.losses(), st.booleans(), BATCHES, SEEDS)
def test_whole_chain_against_the_oracle(
    net: vg.Network, loss: Any, with_loss: bool, batch: int, seed: int
) -> None:
    note(repr(net.layers))
    assume(functions_of(net.layers) <= set(ACTIVATIONS))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, net.in_features))
    layers, parameters = to_oracle(net.layers), parameters_of(net)
    if with_loss:
        target = draw_target(loss, batch, net.out_features, rng)
        run = oracle.gradients(layers, parameters, x, target=target, loss=loss.to_spec())
        found, flow = net.gradients(x, target, loss=loss), net.probe(x, target, loss=loss)
        assert found.loss == pytest.approx(run.loss, rel=1e-10, abs=1e-14)
    else:
        v = rng.normal(size=(batch, net.out_features))
        run = oracle.gradients(layers, parameters, x, cotangent=v)
        found, flow = net.gradients(x, cotangent=v), net.probe(x, cotangent=v)
    # the oracle's slopes are plain floats: one like that of tanhshrink, x^2, must not underflow
    assume(alive(run) and in_range(layers, parameters, x, 1e-100))
    np.testing.assert_allclose(net.forward(x), run.output, rtol=1e-9, atol=1e-12 * np.abs(run.output).max())
    for name, expected in run.parameters.items():
        assert gap_by_norm(found.scaled(name), expected) < 1e-8, name
    assert gap_by_norm(found.scaled_input, (run.input.m, run.input.e)) < 1e-8
    np.testing.assert_array_equal(flow.raw["step"], run.step)
    np.testing.assert_array_equal(flow.raw["kind"], run.kind)
    for key, norms in (
        ("grad", run.grad),
        ("delta", run.delta),
        ("weight_grad", run.weight),
        ("bias_grad", run.bias),
    ):
        np.testing.assert_allclose(flow.raw[f"{key}_log2_norm"], norms, rtol=1e-12, atol=1e-7, err_msg=key)


@given(vg.testing.networks(dtype="float64"), BATCHES, SEEDS)
def test_whole_chain_against_complex_steps(net: vg.Network, batch: int, seed: int) -> None:
    """Along random directions of all parameters at once: one forward pass, no formula of any derivative."""
    note(repr(net.layers))
    assume(functions_of(net.layers) <= set(ACTIVATIONS))
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(batch, net.in_features)), rng.normal(size=(batch, net.out_features))
    layers, parameters = to_oracle(net.layers), parameters_of(net)
    found = net.gradients(x, cotangent=v)
    assume(in_range(layers, parameters, x, 1e-100) and off_zero(layers, parameters, x))
    assume(all(np.isfinite(found[name]).all() for name in found) and np.abs(found.input).max() > 1e-100)
    for _ in range(3):
        directions = {name: rng.normal(size=value.shape) for name, value in parameters.items()}
        x_direction = rng.normal(size=x.shape)
        step = oracle.directional_derivative(
            layers, parameters, x, directions, x_direction=x_direction, cotangent=v
        )
        terms = np.concatenate(
            [(found[name] * directions[name]).ravel() for name in found]
            + [(found.input * x_direction).ravel()]
        )
        # rounding is relative to the terms of the sum, not to what is left when they cancel
        assert abs(step - terms.sum()) <= 1e-9 * np.sqrt(np.sum(terms**2))


@given(vg.testing.networks(dtype="float32", max_layers=3, max_repeat=3), BATCHES, SEEDS)
def test_float32_against_the_float64_oracle(net: vg.Network, batch: int, seed: int) -> None:
    note(repr(net.layers))
    assume(functions_of(net.layers) <= set(ACTIVATIONS))
    rng = np.random.default_rng(seed)
    x, v = (rng.normal(size=(batch, n)).astype(np.float32) for n in (net.in_features, net.out_features))
    layers, parameters = to_oracle(net.layers), parameters_of(net)
    run = oracle.gradients(layers, parameters, double(x), cotangent=double(v))
    assume(alive(run) and in_range(layers, parameters, x, 1e-20))
    # How far float32 may be off is a property of the network: what rounding its input and parameters does, in
    # float64. Ill-conditioned networks are left to the check step by step.
    sensitivity = dict.fromkeys(parameters, 0.0)
    for _ in range(4):
        moved = {
            name: value * (1 + 2.0**-23 * rng.normal(size=value.shape)) for name, value in parameters.items()
        }
        near_x = double(x) * (1 + 2.0**-23 * rng.normal(size=x.shape))
        near = oracle.gradients(layers, moved, near_x, cotangent=double(v))
        for name, expected in run.parameters.items():
            gap = gap_by_norm(near.parameters[name], expected)
            sensitivity[name] = max(sensitivity[name], gap)
    found = net.gradients(x, cotangent=v)
    for name, expected in run.parameters.items():
        assume(sensitivity[name] < 1e-5)
        assert gap_by_norm(found.scaled(name), expected) < 1e-5 + 100 * sensitivity[name], name


@given(vg.testing.networks(dtype="float64", noise=True), st.booleans(), BATCHES, SEEDS)
def test_what_is_drawn_against_the_oracle(net: vg.Network, training: bool, batch: int, seed: int) -> None:
    """Dropout and stochastic depth, in training and in inference: the same draws, and what follows."""
    note(repr(net.layers))
    assume(functions_of(net.layers) <= set(ACTIVATIONS))
    rng = np.random.default_rng(seed)
    x, v = (rng.normal(size=(batch, n)) for n in (net.in_features, net.out_features))
    layers, parameters = to_oracle(net.layers), parameters_of(net)
    drawn = Training(key_of(net.seed)) if training else None
    run = oracle.gradients(layers, parameters, x, cotangent=v, training=drawn)
    assume(alive(run) and in_range(layers, parameters, x, 1e-100, drawn))
    output = net.forward(x, training=training)
    np.testing.assert_allclose(output, run.output, rtol=1e-9, atol=1e-12 * np.abs(run.output).max())
    found = net.gradients(x, cotangent=v, training=training)
    for name, expected in run.parameters.items():
        assert gap_by_norm(found.scaled(name), expected) < 1e-8, name
    assert gap_by_norm(found.scaled_input, (run.input.m, run.input.e)) < 1e-8
    flow = net.probe(x, cotangent=v, training=training)
    for key, norms in (("grad", run.grad), ("delta", run.delta), ("weight_grad", run.weight)):
        np.testing.assert_allclose(flow.raw[f"{key}_log2_norm"], norms, rtol=1e-12, atol=1e-7, err_msg=key)
    directions = {name: rng.normal(size=value.shape) for name, value in parameters.items()}
    assume(off_zero(layers, parameters, x, drawn))
    step = oracle.directional_derivative(layers, parameters, x, directions, cotangent=v, training=drawn)
    terms = np.concatenate([(found[key] * directions[key]).ravel() for key in found] or [np.zeros(1)])
    assume(np.isfinite(terms).all())
    assert abs(step - terms.sum()) <= 1e-8 * np.sqrt(np.sum(terms**2)) + 1e-300


@pytest.mark.parametrize("tied", [False, True], ids=["own", "tied"])
@pytest.mark.parametrize("name", sorted(set(vg.activations.names()) & set(ACTIVATIONS)))
def test_deep_chain_of_each_activation(name: str, tied: bool) -> None:
    """60 steps: gradients of 1e-40 and less to 1e-8 of their norm, by both of the oracle's ways."""
    width, depth, rng = 5, 60, np.random.default_rng(11)
    body = [vg.Dense(width, init="glorot_normal", sigma_b2=0.05), vg.Activation(name)]
    net = vg.Network(width, [vg.Repeat(body, depth, tied=tied)], dtype="float64", rng=5)
    layers, parameters = to_oracle(net.layers), parameters_of(net)
    x, v = rng.normal(size=(3, width)), rng.normal(size=(3, width))
    run, found = oracle.gradients(layers, parameters, x, cotangent=v), net.gradients(x, cotangent=v)
    assert np.isfinite(run.grad).any()
    for key, expected in run.parameters.items():
        assert gap_by_norm(found.scaled(key), expected) < 1e-8, key
    directions = {key: rng.normal(size=value.shape) for key, value in parameters.items()}
    step = oracle.directional_derivative(layers, parameters, x, directions, cotangent=v)
    terms = np.concatenate([(found[key] * directions[key]).ravel() for key in found])
    assert abs(step - terms.sum()) <= 1e-8 * np.sqrt(np.sum(terms**2))


@pytest.mark.parametrize("name", vg.activations.names())
def test_every_activation_passes_the_public_checker(name: str) -> None:
    """Also those that the oracle does not know: whatever the catalogue lists."""

    def value(x: Any) -> Any:
        return vg.activations.value(name, x)

    def slope(x: Any) -> Any:
        return vg.activations.derivative(name, x)

    report = vg.testing.check_activation(value, slope, low=-6.03, high=6.01, points=300, rtol=1e-6)
    assert report.resolved > 100
