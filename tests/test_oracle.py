"""Tests of the test oracle itself: it must be right before anything is measured against it; vgcore is not
imported."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import (
    as_float,
    assert_close,
    exact_activations,
    known_answers,
    of_kind,
    portable_data,
    torch_golden,
)
from oracle import compile_program, directional_derivative, gradients, parameter_shapes
from oracle_activations import ACTIVATIONS, activation
from oracle_losses import loss_and_gradient


@pytest.mark.parametrize("case", sorted(exact_activations()))
def test_activation_against_300_digits(case: str) -> None:
    table = exact_activations()[case]
    value, slope = activation(table["name"], table["params"])
    x = np.array([p["x"] for p in table["points"]])
    for what, function in (("y", value), ("dy", slope)):
        exact = np.array([as_float(p[what]) for p in table["points"]])
        got = function(x)
        normal = (np.abs(exact) > 1e-300) | (exact == 0)
        assert_close(got[normal & (exact != 0)], exact[normal & (exact != 0)], 2e-13, f"{case} {what}")
        assert np.all(np.abs(got[exact == 0]) < 1e-300)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_complex_step_equals_derivative(name: str) -> None:
    value, slope = activation(name)
    x = np.concatenate([np.linspace(-12, 12, 1201) + 0.00123, [1e-12, -1e-12]])
    with np.errstate(under="ignore"):
        step = value(x + 1e-40j).imag / 1e-40
    exact = slope(x)
    root = np.abs(exact) < 1e-3 if name in ("silu", "mish", "gelu", "gelu_tanh") else np.zeros(len(x), bool)
    root &= np.abs(x) < 3
    # exp(z) of a large argument is relatively wrong by |z| ulp, so the two may differ by that much
    assert_close(step[~root], exact[~root], 2e-12, name)
    np.testing.assert_allclose(step[root], exact[root], atol=1e-15, rtol=1e-10)


def chain(
    function: str, depth: int, width: int, scale: float
) -> tuple[list[tuple[object, ...]], dict[str, np.ndarray]]:
    """The bias-free deterministic chain of the reference files, as an untied Repeat."""
    body = [("dense", width, False), ("activation", function, {})]
    weights = np.stack([portable_data((width, width), layer, scale) for layer in range(depth)])
    return [("repeat", body, depth, False)], {"0.0.weight": weights}


@pytest.mark.parametrize(
    "name", ["act_" + n for n in ("relu", "sigmoid", "silu", "mish", "selu", "hardswish")]
)
def test_activation_against_pytorch(name: str) -> None:
    case = torch_golden()[name]
    value, slope = activation(name[4:])
    assert_close(value(np.array(case["x"])), case["y"], 1e-12, name)
    right = np.array(case["x"]) < 10  # beyond, PyTorch's y(1-y) has lost digits
    assert_close(slope(np.array(case["x"]))[right], np.array(case["dy"])[right], 1e-12, name)


@pytest.mark.parametrize("name", ["deep_mlp_selu", "deep_mlp_mish"])
def test_deep_chain_against_pytorch(name: str) -> None:
    case = torch_golden()[name]
    layers, weights = chain(name[9:], case["L"], case["n"], case["scale"])
    run = gradients(
        layers,
        weights,
        portable_data((1, case["n"]), 105, 1.0),
        cotangent=portable_data((1, case["n"]), 109, 1.0),
    )
    assert_close(run.per_step(run.delta) * np.log10(2), case["log10_norm_dL_dpre"], 1e-12, name)


@pytest.mark.parametrize("name", [n for n in of_kind("scaled_backward") if "_L1000_" in n])
def test_scaled_backward_beyond_the_float_range(name: str) -> None:
    entry = known_answers()[name]
    s = entry["setting"]
    layers, weights = chain(s["activation"], s["L"], s["n"], s["scale"])
    run = gradients(
        layers,
        weights,
        portable_data((1, s["n"]), 900001, 1.0),
        cotangent=portable_data((1, s["n"]), 900002, 1.0),
    )
    assert_close(run.delta[0] * np.log10(2), entry["expected"]["log10_norm"], 1e-12, name)


@pytest.mark.parametrize("name", ["cross_entropy_mean", "cross_entropy_ls0.1", "smooth_l1_mean_beta1"])
def test_loss_against_pytorch(name: str) -> None:
    case = torch_golden()[name]
    if name.startswith("cross"):
        loss = {"name": "cross_entropy", "label_smoothing": 0.1 if "ls" in name else 0.0}
        got = loss_and_gradient(loss, portable_data((4, 3), 105, 1.0), np.array([0, 2, 1, 2]))
    else:
        got = loss_and_gradient({"name": "smooth_l1"}, portable_data((2, 3), 105, 3.0), np.zeros((2, 3)))
    assert_close(got[0], case["loss"], 1e-12, name)
    assert_close(np.ravel(got[1]), case["grad"], 1e-12, name)


LAYERS = [
    ("dense", 5, True),
    ("activation", "gelu", {}),
    ("activation", "prelu", {}),
    (
        "repeat",
        [
            ("residual", [("dense", 4, True), ("activation", "tanh", {}), ("dense", 5, False)], 0.7),
            ("activation", "mish", {}),
        ],
        3,
        False,
    ),
    (
        "repeat",
        [
            ("dense", 5, True),
            ("activation", "elu", {"alpha": 0.5}),
            ("repeat", [("dense", 5, False), ("activation", "prelu", {})], 2, False),
        ],
        3,
        True,
    ),
    ("dense", 3, True),
]


@pytest.mark.parametrize(
    "loss",
    [
        {"name": "mse"},
        {"name": "cross_entropy", "label_smoothing": 0.1},
        {"name": "bce_with_logits"},
        {"name": "smooth_l1", "beta": 0.4},
    ],
    ids=lambda e: e["name"],
)
def test_backward_equals_complex_step(loss: dict[str, object]) -> None:
    rng = np.random.default_rng(3)
    shapes, out = parameter_shapes(LAYERS, 6)
    parameters = {name: rng.normal(size=shape) * 0.8 for name, shape in shapes.items()}
    x = rng.normal(size=(4, 6))
    target = rng.integers(0, out, 4) if loss["name"] == "cross_entropy" else rng.uniform(size=(4, out))
    run = gradients(LAYERS, parameters, x, target=target, loss=loss)
    assert set(run.parameters) == set(parameters)
    for name, value in parameters.items():
        for position in np.ndindex(value.shape):
            direction = np.zeros(value.shape)
            direction[position] = 1.0
            step = directional_derivative(LAYERS, parameters, x, {name: direction}, target=target, loss=loss)
            # entries of one array share the rounding errors of the sums that made them
            assert abs(step - run.array(name)[position]) <= 1e-13 * np.abs(run.array(name)).max()


def test_units_and_steps_are_numbered_as_documented() -> None:
    ops = compile_program(LAYERS)
    units = {op.unit: op.step for op in ops if op.last and op.what not in ("fork", "next")}
    # dense+gelu | prelu | 3 x (dense+tanh, dense, join, mish) | 3 x (dense+elu, 2 x dense+prelu) | dense
    assert list(units.values()) == [0, 1] + [s for s in (2, 3, 4) for _ in range(4)] + [
        s for s in (5, 6, 7) for _ in range(3)
    ] + [8]
