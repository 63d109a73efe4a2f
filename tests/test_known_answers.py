"""Tests against exact known answers: deep scaled gradients, float ranges, derivatives in saturation,
activation moments.

Each entry of tests/data/known_answers.json is held to its own tolerance. Answers that need a simulation of
many networks are in test_known_simulations.py, initializer conventions in test_initializers.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import vgcore as vg
from helpers import assert_close, known_answers, of_kind, portable_data, portable_stack
from numpy.typing import NDArray

FORMAT_NAMES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
FORMATS = ("float64", "float32", "bfloat16", "float16", "float8_e5m2", "float8_e4m3")


def flow_counts(flow: vg.GradientFlow, what: str, name: str) -> NDArray[np.int64]:
    """Per unit, how many delta entries a format would flush, or hold as subnormal."""
    return np.asarray(flow.raw[f"delta_{what}"])[:, FORMATS.index(FORMAT_NAMES[name])]


# --- scaled backward ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [n for n in of_kind("scaled_backward") if "bit_exact" not in n])
def test_gradient_far_outside_the_float_range(name: str, dtype: str) -> None:
    """|dL/d(pre-activation 0)| of 10**-41911 and the like, against 30-digit arithmetic with unlimited
    exponent."""
    entry = known_answers()[name]
    s, expected = entry["setting"], entry["expected"]["log10_norm"]
    n, depth = s["n"], s["L"]
    weights = portable_stack(np.arange(depth), (n, n), s["scale"]).astype(dtype)
    step = [vg.Dense(n, bias=False, init=weights), vg.Activation(s["activation"])]
    net = vg.Network(n, [vg.Repeat(step, depth)], dtype=dtype, rng=0)
    x, v = (portable_data((1, n), seed, 1.0).astype(dtype) for seed in (900001, 900002))
    got = net.probe(x, cotangent=v).log10_delta_norm[0]
    if dtype == "float64":
        assert_close(got, expected, 1e-12, name)
        assert abs(got - expected) <= entry["tolerance"]["f64_abs"]
    else:
        assert abs(got - expected) <= entry["tolerance"]["f32_abs"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scaled_backward_is_the_plain_one_bit_for_bit(dtype: str) -> None:
    """`scaled_backward_bit_exact`: layer after layer in plain floats, each with its own call, against one
    deep pass."""
    s = known_answers()["scaled_backward_bit_exact"]["setting"]
    n, depth, rng = s["n"], s["L"], np.random.default_rng(1)
    net = vg.mlp(depth, n, activation="sigmoid", init="glorot_normal", dtype=dtype, rng=2)
    x, v = (rng.normal(size=(3, n)).astype(dtype) for _ in range(2))
    mantissa, exponent = net.gradients(x, cotangent=v).scaled_input
    parameters = net.parameters()
    layers = []
    for k in range(depth):
        one = vg.mlp(1, n, activation="sigmoid", dtype=dtype, rng=0)
        one.load_parameters({name: value[k : k + 1] for name, value in parameters.items()})
        layers.append((one, x))
        x = one.forward(x)
    for one, h in reversed(layers):
        m, e = one.gradients(h, cotangent=v).scaled_input
        v = np.ldexp(m, np.asarray(e)[:, None]).astype(dtype)
        assert np.abs(v).min() > np.finfo(dtype).tiny  # nothing under- or overflows on the way
    scaled = np.ldexp(mantissa, np.asarray(exponent)[:, None]).astype(dtype)
    assert int((scaled != v).sum()) == known_answers()["scaled_backward_bit_exact"]["expected"]["mismatches"]


# --- float ranges ---------------------------------------------------------------------------------------


def quarter_chain() -> tuple[vg.GradientFlow, int]:
    """Sigmoid at exactly 0 in every layer, weight 1: the delta k layers below the top, top included, is
    4**-(k+1)."""
    depth = 545
    step = [vg.Dense(1, init=[[1.0]], bias_init=[-0.5]), vg.Activation("sigmoid")]
    net = vg.Network(1, [vg.Repeat(step, depth)], dtype="float64", rng=0)
    return net.probe(np.array([[0.5]]), cotangent=np.ones((1, 1))), 1


def half_chain() -> tuple[vg.GradientFlow, int]:
    """Weight 1/2 and nothing else: the delta k layers below the top is 2**-k."""
    net = vg.Network(1, [vg.Repeat([vg.Dense(1, bias=False, init=[[0.5]])], 1080)], dtype="float64", rng=0)
    return net.probe(np.ones((1, 1)), cotangent=np.ones((1, 1))), 0


@pytest.mark.parametrize("name", ["float_chain_quarter", "float_chain_half"])
def test_depth_at_which_each_format_reads_zero(name: str) -> None:
    flow, first = quarter_chain() if name.endswith("quarter") else half_chain()
    factor = known_answers()[name]["setting"]["factor"]
    depth = flow.steps
    powers = np.arange(depth)[::-1] + first
    np.testing.assert_array_equal(flow.log10_delta_norm, powers * np.log2(factor) * np.log10(2.0))
    for short, expected in known_answers()[name]["expected"].items():
        zero = flow_counts(flow, "flush", short)[::-1]
        subnormal = flow_counts(flow, "subnormal", short)[::-1]
        assert int(np.flatnonzero(zero)[0]) + first == expected["first_zero"], short
        assert int(np.flatnonzero(subnormal)[0]) + first == expected["first_subnormal"], short
        assert zero[expected["first_zero"] - first :].all()
        assert not subnormal[expected["first_zero"] - first :].any()


@pytest.mark.parametrize("short", sorted(FORMAT_NAMES))
def test_float_limits(short: str) -> None:
    limits, name = known_answers()["float_limits"]["expected"][short], FORMAT_NAMES[short]
    tiny, normal = 2.0 ** limits["min_subnormal_log2"], 2.0 ** limits["min_normal_log2"]

    def count(*values: float) -> tuple[int, int, int]:
        stats = vg.gradient_stats(np.array(values, np.float64))
        return stats.flush[name], stats.subnormal[name], stats.overflow[name]

    assert count(tiny, -tiny) == (0, 2, 0)
    assert count(normal, -normal) == (0, 0, 0)
    assert count(normal * 0.5) == (0, 1, 0)
    assert count(limits["max"]) == (0, 0, 0)
    assert count(0.0) == (0, 0, 0)
    if short != "f64":  # float64 input cannot hold what float64 would flush or overflow
        assert count(tiny / 2) == (1, 0, 0)  # a tie, and to even is to zero
        assert count(tiny * (0.5 + 2.0**-40)) == (0, 1, 0)
        half_unit = 2.0 ** (np.floor(np.log2(limits["max"])) + limits["eps_log2"] - 1)
        assert count(limits["max"] + half_unit) == (0, 0, 1)
        assert count(np.nextafter(limits["max"] + half_unit, 0)) == (0, 0, 0)


def test_underflow_depth_of_a_sigmoid_network() -> None:
    """Layers below the top at which each format would hold only zeros, or only zeros and subnormals."""
    entry = known_answers()["sigmoid_xavier_underflow_depth"]
    n, depth, rng = entry["setting"]["n"], 530, np.random.default_rng(0)
    q_star = known_answers()["chi1_sigmoid_sw2_1_sb2_0"]["expected"]["q_star"]
    step = [vg.Activation("sigmoid"), vg.Dense(n, bias=False, sigma_w2=1.0)]
    net = vg.Network(n, [vg.Repeat(step, depth)], dtype="float64", rng=3)
    flow = net.probe(rng.normal(size=(1, n)) * np.sqrt(q_star), cotangent=rng.normal(size=(1, n)))
    dense = np.asarray(flow.raw["kind"]) == 0
    alive = (np.asarray(flow.raw["delta_count"]) - np.asarray(flow.raw["delta_zero"]))[dense][::-1]
    for short in FORMAT_NAMES:
        zero, low = (flow_counts(flow, what, short)[dense][::-1] for what in ("flush", "subnormal"))
        expected, tolerance = entry["expected"][short], entry["tolerance"]["layers"]
        assert abs(int(np.flatnonzero(zero == alive)[0]) - expected["first_all_zero_layer"]) <= tolerance
        assert (
            abs(int(np.flatnonzero(zero + low == alive)[0]) - expected["first_all_subnormal_layer"])
            <= tolerance
        )


# --- derivatives in saturation, activation constants ----------------------------------------------------


@pytest.mark.parametrize("name", of_kind("derivative_accuracy"))
def test_derivative_accuracy(name: str) -> None:
    entry = known_answers()[name]
    function, tolerance = entry["setting"]["activation"], entry["tolerance"]
    for point in entry["expected"]["points"]:
        x, true = np.array([float(point["x"])]), float(point["true"])
        plain = float(vg.activations.derivative(function, x)[0])
        mantissa, exponent = vg.activations.scaled_derivative(function, x)
        if point.get("ill_conditioned"):  # next to a root: only the absolute error means something
            assert abs(plain - true) < 1e-15
            continue
        log10 = np.log10(abs(float(mantissa[0]))) + int(exponent[0]) * np.log10(2.0)
        assert abs(log10 - float(point["log10"])) <= tolerance["log10_abs"]
        assert np.sign(mantissa[0]) == (-1 if point["true"].startswith("-") else 1)
        if abs(true) > np.finfo(np.float64).tiny:
            assert_close(plain, true, tolerance["f64_rel"], f"{function}'({point['x']})")
            value = np.ldexp(float(mantissa[0]), int(exponent[0]))
            assert_close(value, true, tolerance["f64_rel"], f"scaled {function}'({point['x']})")


def gaussian_nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of E over N(0, 1): 24-point Gauss-Legendre on panels split at 0 and +-1."""
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 21), np.arange(1.2, 14.1, 0.2)])
    t, w = np.polynomial.legendre.leggauss(24)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    z = (middle[:, None] + half[:, None] * t).ravel()
    p = (half[:, None] * w).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return np.concatenate([-z[::-1], z]), np.concatenate([p[::-1], p])


@pytest.mark.parametrize("name", [n for n in of_kind("activation_constant") if n.startswith("act_moments")])
def test_moments_of_activations(name: str) -> None:
    """Means over N(0, 1) of phi, phi^2, phi'^2, phi'^4 and the gains from them."""
    entry = known_answers()[name]
    function = entry["setting"]["activation"].removesuffix("_0.01")
    z, p = gaussian_nodes()
    phi, slope = vg.activations.value(function, z), vg.activations.derivative(function, z)
    mean, second, d2, d4 = (float(np.sum(p * f)) for f in (phi, phi**2, slope**2, slope**4))
    got = {
        "mean": mean,
        "second_moment": second,
        "variance": second - mean**2,
        "d_second_moment": d2,
        "d_fourth_moment": d4,
        "gain_forward": second**-0.5,
        "gain_backward": d2**-0.5,
        "nf_gamma": (second - mean**2) ** -0.5,
    }
    for key, expected in entry["expected"].items():
        if abs(expected) < 1e-12:  # a mean of 0, up to rounding of the terms that cancel
            assert abs(got[key]) < 1e-12
        else:
            assert_close(got[key], expected, entry["tolerance"]["theory_rel"], f"{function} {key}")


def test_selu_fixed_point() -> None:
    """selu(z) of z ~ N(0, 1) has mean 0 and variance 1, and its constants are Klambauer's."""
    entry = known_answers()["selu_fixed_point"]["setting"]
    z, p = gaussian_nodes()
    phi = vg.activations.value("selu", z)
    assert abs(np.sum(p * phi)) < 1e-12
    assert abs(np.sum(p * phi**2) - 1) < 1e-12
    assert_close(vg.activations.value("selu", np.array([1.0]))[0], entry["lam"], 1e-15, "scale")
    assert_close(
        vg.activations.value("selu", np.array([-1e4]))[0],
        -entry["lam"] * entry["alpha"],
        1e-15,
        "scale*alpha",
    )


def test_selu_jacobian() -> None:
    """How mean and variance of a layer's output move with those of its input, at the fixed point (0, 1)."""
    entry = known_answers()["selu_jacobian"]
    z, p = gaussian_nodes()

    def moments(variance: float) -> NDArray[np.float64]:
        phi = vg.activations.value("selu", np.sqrt(variance) * z)
        mean = np.sum(p * phi)
        return np.array([mean, np.sum(p * phi**2) - mean**2])

    h = 1e-5  # weights of mean 0 pass no mean on: the first column is 0
    slope = (moments(1 + h) - moments(1 - h)) / (2 * h)
    jacobian = np.column_stack([np.zeros(2), slope])
    np.testing.assert_allclose(jacobian, entry["expected"]["J"], rtol=0, atol=entry["tolerance"]["abs"])
    norm = np.linalg.norm(jacobian, 2)
    assert abs(norm - entry["expected"]["spectral_norm"]) <= entry["tolerance"]["abs"]


@pytest.mark.parametrize("name", sorted(known_answers()["init_gains"]["expected"]))
def test_gains(name: str) -> None:
    """The gain each activation describes is PyTorch's calculate_gain; PyTorch's "linear" is our identity."""
    entry = known_answers()["init_gains"]
    described = vg.activations.describe("identity" if name == "linear" else name).extra["gain"]
    assert_close(described, entry["expected"][name], entry["tolerance"]["theory_rel"], name)
