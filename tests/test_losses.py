"""Tests of losses: value and gradient against the NumPy oracle and complex steps, extreme logits, and bad
targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import assert_close, double
from hypothesis import given
from hypothesis import strategies as st
from oracle_losses import loss_and_gradient

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**32 - 1)


def identity(width: int, dtype: str) -> vg.Network:
    return vg.Network(width, [vg.Activation("identity")], dtype=dtype, rng=0)


def targets(name: str, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    if name == "cross_entropy":
        if rng.random() < 0.5:
            return rng.integers(0, shape[1], shape[0])
        rows = rng.random(shape) + 0.01
        return rows / rows.sum(axis=1, keepdims=True)
    return rng.random(shape) if name == "bce_with_logits" else rng.normal(size=shape) * 2


@given(vg.testing.losses(), SHAPES, SEEDS)
def test_value_and_gradient_against_the_oracle(loss: Any, shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=shape) * 3, targets(loss.name, shape, rng)
    value, slope = loss_and_gradient(loss.to_spec(), z, y)
    net = identity(shape[1], "float64")
    found = net.gradients(z, y, loss=loss)
    # the terms of a mean may cancel, and so may those of a gradient: relative to the terms
    assert abs(net.loss(z, y, loss=loss) - value) <= 1e-12 * (abs(value) + np.abs(z).max())
    assert found.loss == pytest.approx(net.loss(z, y, loss=loss), rel=1e-14)
    assert np.abs(found.input - slope).max() <= 1e-13 / z.size + 1e-12 * np.abs(slope).max()


@given(vg.testing.losses(), SHAPES, SEEDS)
def test_gradient_is_the_complex_step_of_the_value(loss: Any, shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=shape) * 3, targets(loss.name, shape, rng)
    found = identity(shape[1], "float64").gradients(z, y, loss=loss).input
    for index in np.ndindex(shape):
        moved = z.astype(complex)
        moved[index] += 1e-60j
        step = float(np.imag(loss_and_gradient(loss.to_spec(), moved, y, gradient=False)[0]) / 1e-60)
        assert abs(step - found[index]) <= 1e-12 / len(z)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits(dtype: str) -> None:
    """Neither overflow nor NaN at +-1e4; a gradient far too small for the float type keeps its exponent or is
    0."""
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 500.0]], dtype)
    net = identity(3, dtype)
    labels = np.array([0, 1])
    assert net.loss(z, labels, loss="cross_entropy") == 0.0
    assert net.loss(z, labels[::-1].copy(), loss="cross_entropy") == pytest.approx(2e4, rel=1e-6)
    assert np.isfinite(net.gradients(z, labels, loss="cross_entropy").input).all()
    ones = np.array([[1, 0, 0], [0, 1, 1]], dtype)
    assert net.loss(z, ones, loss="bce_with_logits") == pytest.approx(np.log(2) / 6, rel=1e-6)
    assert np.isfinite(net.gradients(z, 1 - ones, loss="bce_with_logits").input).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_losses_keep_their_digits(dtype: str) -> None:
    """A confident prediction: loss and gradient of 1e-9 come out of exp and log1p, not out of 1 - p."""
    z = np.array([[20.0, -1.0]], dtype)
    exact = np.log1p(np.exp(-21.0))
    net = identity(2, dtype)
    assert_close(
        net.loss(z, np.array([0]), loss="cross_entropy"), exact, 1e-6 if dtype == "float32" else 1e-12, "loss"
    )
    slope = double(net.gradients(z, np.array([0]), loss="cross_entropy").input)
    small = np.exp(-21.0) / (1 + np.exp(-21.0))
    assert_close(slope, [[-small, small]], 2e-6 if dtype == "float32" else 1e-12, "gradient")
    wide = np.array([[25.0]], dtype)
    assert_close(
        identity(1, dtype).loss(wide, np.ones((1, 1), dtype), loss="bce_with_logits"),
        np.log1p(np.exp(-25.0)),
        2e-6 if dtype == "float32" else 1e-12,
        "bce",
    )


def test_label_smoothing_and_probabilities_agree() -> None:
    rng = np.random.default_rng(0)
    z, labels, net = rng.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2]), identity(4, "float64")
    smooth = 0.9 * np.eye(4)[labels] + 0.1 / 4
    loss = vg.losses.cross_entropy(label_smoothing=0.1)
    assert net.loss(z, labels, loss=loss) == pytest.approx(
        net.loss(z, smooth, loss="cross_entropy"), rel=1e-14
    )


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("CrossEntropyLoss", "cross_entropy"),
        ("MSELoss", "mse"),
        ("BCEWithLogitsLoss", "bce_with_logits"),
        ("SmoothL1Loss", "smooth_l1"),
    ],
)
def test_names_of_pytorchs_classes(alias: str, name: str) -> None:
    assert vg.losses.describe(alias).name == name
    assert alias in vg.losses.describe(name).aliases
    net, z = identity(3, "float64"), np.random.default_rng(0).dirichlet(np.ones(3), size=2)
    assert net.loss(z, z, loss=alias) == net.loss(z, z, loss=name)


def test_bad_targets_are_typed_errors() -> None:
    net, z = identity(3, "float64"), np.zeros((2, 3))
    with pytest.raises(vg.LabelError, match="3"):
        net.loss(z, np.array([0, 3]), loss="cross_entropy")
    with pytest.raises(vg.LabelError):
        net.loss(z, np.array([-1, 0]), loss="cross_entropy")
    with pytest.raises(vg.ShapeError):
        net.loss(z, np.array([0, 1, 2]), loss="cross_entropy")
    with pytest.raises(vg.ShapeError):
        net.loss(z, np.zeros((2, 2)), loss="mse")
    with pytest.raises(vg.NonFiniteError):
        net.loss(z, np.full((2, 3), np.nan), loss="mse")
    with pytest.raises(vg.UnknownNameError, match="cross_entropy"):
        net.loss(z, np.array([0, 1]), loss="crossentropyy")
    with pytest.raises(vg.ArgumentError):
        net.probe(z)
