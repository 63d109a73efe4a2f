"""Tests of recurrent networks against known answers: half-lives of gates, mean field, Lyapunov exponents,
bounds, decay of default cells.

Each entry of tests/data/known_recurrent.json is held to its own tolerance, by what a network's own passes
measure: no test computes an answer by formula and compares it with the formula.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import assert_close
from helpers_time import known_recurrent
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

LN10 = math.log(10.0)


def setting(name: str) -> dict[str, Any]:
    """Setting, expected values and tolerances of an entry in one dict."""
    entry = known_recurrent()[name]
    return {**entry["setting"], **entry["expected"], **entry["tolerance"]}


def named(start: str) -> list[str]:
    return [name for name in known_recurrent() if name.startswith(start)]


def still(cell: str, hidden: int, gate_bias: Any = None, dtype: str = "float64") -> vg.Network:
    """A network of one cell whose weights and biases are zero, but for the bias of its gates."""
    layer = vg.Recurrent(
        cell, hidden, init="zeros", recurrent_init="zeros", bias_init="zeros", gate_bias=gate_bias, name="rnn"
    )
    return vg.Network(1, [layer], dtype=dtype, rng=0)


def nothing(steps: int, width: int = 1) -> NDArray[np.float64]:
    """One sample of zeros."""
    return np.zeros((1, steps, width))


# --- gates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", named("lstm_forget_bias"))
def test_forget_bias_sets_the_half_life_of_the_cell_state(name: str) -> None:
    s = setting(name)
    net = still("lstm", 3, vg.cells.forget_bias(s["forget_bias_total"]))
    for steps in s["T"]:
        flow = net.probe(nothing(steps + 1), cotangent=np.ones((1, 3)))
        cell = flow.log10_cell_grad_norm
        assert_close(cell[0] - cell[-1], s[f"T{steps}"], s["theory_rel"], f"T{steps}")
        assert_close((cell[0] - cell[-1]) / steps, s["log10_per_step"], s["theory_rel"], "log10_per_step")
        half_life = math.log10(0.5) * steps / (cell[0] - cell[-1])
        assert_close(half_life, s["half_life_steps"], s["theory_rel"], "half_life_steps")


def test_the_bias_of_chrono_initialisation_keeps_1_over_e_after_T_steps() -> None:
    s = setting("chrono_T1000")
    net = still("lstm", 3, vg.cells.forget_bias(math.log(s["T"] - 1)))
    flow = net.probe(nothing(s["T"] + 1), cotangent=np.ones((1, 3)), stats="full")
    gates = flow.raw["time"][0]["gates"]
    forget = np.asarray(flow.raw["time"][0]["gate_mean"])[0, list(gates).index("f")]
    assert_close(forget, np.full(s["T"] + 1, s["forget_gate"]), s["theory_rel"], "forget gate")
    cell = flow.log10_cell_grad_norm
    assert_close(10.0 ** (cell[0] - cell[-1]), s["grad_over_T"], s["theory_rel"], "grad_over_T")


def test_chrono_draws_memory_lengths_up_to_T() -> None:
    """b_f = ln U(1, T-1), b_i = -b_f; the two biases of a gate add."""
    s, hidden = setting("chrono_T1000"), 1000
    p = vg.rnn("lstm", hidden, in_features=1, chrono=s["T"], dtype="float64", rng=1).parameters()
    i, f, _, _ = np.split(p["rnn.bias_ih_l0"] + p["rnn.bias_hh_l0"], 4)
    np.testing.assert_allclose(i, -f, rtol=1e-12)
    assert i.min() >= s["input_bias"] * (1 + s["theory_rel"])
    assert f.min() >= 0
    drawn = np.sort((np.exp(f) - 1) / (s["T"] - 2))
    # Kolmogorov-Smirnov: 1.95/sqrt(n) is passed by chance in 1 of 1,000 draws
    assert np.abs(drawn - (np.arange(hidden) + 0.5) / hidden).max() < 1.95 / math.sqrt(hidden)


def test_gru_with_zero_weights_halves_the_gradient() -> None:
    s = setting("gru_zero_weights_bz_0")
    steps = 1200
    net = still("gru", 3, vg.cells.forget_bias(s["b_z"]))
    flow = net.probe(nothing(steps + 1), cotangent=np.ones((1, 3)))
    norms = flow.log10_grad_norm
    assert_close(np.diff(-norms), np.full(steps, s["log10_per_step"]), s["theory_rel"] * steps, "each step")
    assert_close((norms[0] - norms[-1]) / steps, s["log10_per_step"], s["theory_rel"], "log10_per_step")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [1, 2, 37, 20_000])
def test_irnn_hands_the_gradient_on_unchanged(steps: int, dtype: str) -> None:
    """Identity start, relu, positive input: dh_T/dh_0 is the identity, to the bit."""
    s, hidden, rng = setting("irnn_identity"), 5, np.random.default_rng(0)
    layer = vg.Recurrent("irnn", hidden, init=np.full((hidden, 2), 1e-5, dtype), name="rnn")
    net = vg.Network(2, [layer], dtype=dtype, rng=0)
    p = net.parameters()
    np.testing.assert_array_equal(p["rnn.weight_hh_l0"], np.eye(hidden))
    net.load_parameters(p | {name: np.zeros_like(p[name]) for name in p if "bias" in name})
    x = rng.uniform(0.1, 1.0, (3, steps, 2)).astype(dtype)
    v = rng.normal(size=(3, hidden)).astype(dtype)
    start = {"h": np.ones((1, 3, hidden), dtype)}
    found, flow = (run(x, cotangent=v, state=start) for run in (net.gradients, net.probe))
    assert s["bitwise"]
    assert found["state.h"][0].tobytes() == v.tobytes()
    assert len(np.unique(flow.log10_grad_norm)) == 1


# --- mean field -----------------------------------------------------------------------------------------


def driven(activation: str, sigma_w2: float, n: int, steps: int, seed: int, drive: float, q: float) -> Any:
    """log10 |dL/d(pre-activation)| of h_t = W phi(h_{t-1}) + u_t at q*, 16 samples."""
    rng = np.random.default_rng(seed)
    net = vg.rnn("rnn", n, in_features=n, activation=activation, bias=False, rng=seed)
    weights = {
        "rnn.weight_ih_l0": np.eye(n, dtype=np.float32),
        "rnn.weight_hh_l0": (rng.normal(size=(n, n)) * math.sqrt(sigma_w2 / n)).astype(np.float32),
    }
    net.load_parameters(weights)
    x = (rng.normal(size=(16, steps, n)) * math.sqrt(drive)).astype(np.float32)
    start = vg.activations.value(activation, rng.normal(size=(1, 16, n)) * math.sqrt(q)).astype(np.float32)
    flow = net.probe(x, cotangent=rng.normal(size=(16, n)).astype(np.float32), state=start)
    return flow.log10_delta_norm


@pytest.mark.parametrize("name", named("rnn_step"))
def test_gradient_factor_of_a_driven_rnn(name: str) -> None:
    s = setting(name)
    norms = [
        driven(s["activation"], s["sigma_w2"], 500, 24, seed, s["input_variance"], s["q_star"])
        for seed in range(16)
    ]
    chi = float(np.mean(10.0 ** (2 * (np.array(norms)[:, :-1] - np.array(norms)[:, 1:]))))
    assert abs(chi / s["chi_1"] - 1) <= s["simulation_rel"]
    # and the typical rate, to the same share of the squared factor
    rate = float(np.mean([(run[0] - run[-1]) / (len(run) - 1) for run in norms]))
    assert abs(10 ** (2 * (rate - s["log10_norm_per_step"])) - 1) <= s["simulation_rel"]


# --- Lyapunov exponents ---------------------------------------------------------------------------------


def chaotic(g: float, n: int, seed: int) -> tuple[vg.Network, Any]:
    """An autonomous tanh rnn with recurrent weights N(0, g^2/n), and its state after 150 steps."""
    rng = np.random.default_rng(seed)
    net = vg.rnn("rnn", n, in_features=1, bias=False, dtype="float64", rng=seed)
    weight = rng.normal(size=(n, n)) * (g / math.sqrt(n))
    net.load_parameters({"rnn.weight_ih_l0": np.zeros((n, 1)), "rnn.weight_hh_l0": weight})
    start = {"h": np.tanh(rng.normal(size=(1, 1, n)))}
    return net, net.forward(nothing(150), state=start, return_state=True)[1]


@pytest.mark.parametrize("name", named("lyapunov_tanh_rnn"))
def test_gradient_grows_at_the_largest_lyapunov_exponent(name: str) -> None:
    s, steps = setting(name), 400
    rates = []
    for seed in range(4):
        net, state = chaotic(s["g"], 500, seed)
        v = np.random.default_rng(seed).normal(size=(1, 500))
        norms = net.probe(nothing(steps), cotangent=v, state=state, stats="norms").log10_grad_norm
        rates.append((norms[0] - norms[-1]) * LN10 / (steps - 1))
    assert abs(float(np.mean(rates)) - s["lambda_max"]) <= s["simulation_abs"]


@pytest.mark.parametrize("name", named("lyapunov_tanh_rnn"))
def test_largest_lyapunov_exponent(name: str) -> None:
    s = setting(name)
    found = []
    for seed in range(4):
        net, state = chaotic(s["g"], 500, seed)
        exponents = np.asarray(net.lyapunov(nothing(400), k=2, state=state))
        assert exponents.shape == (2,)
        assert exponents[0] >= exponents[1]
        found.append(exponents[0])
    assert abs(float(np.mean(found)) - s["lambda_max"]) <= s["simulation_abs"]


def henon_step(a: float, b: float, scale: float = 1e-3) -> tuple[list[vg.Layer], dict[str, Any]]:
    """(x, y) -> (1 - a x^2 + y, b x) as two dense layers.

    silu(z) - silu(-z) = z exactly, and silu(z) + silu(-z) = z^2/2 - z^4/24 + ..., so that x^2 comes out to
    scale^2/12 relative.  Whatever the square is, the determinant of the step is -b.
    """
    up = np.array([[scale, 0], [-scale, 0], [0, 1], [0, -1]])
    square = -2 * a / scale**2
    down = np.array([[square, square, 1, -1], [b / scale, -b / scale, 0, 0]])
    layers = [vg.Dense(4, bias=False, init=up), vg.Activation("silu")]
    return [*layers, vg.Dense(2, init=down, bias_init=[1.0, 0.0])], {"up": up, "down": down}


def test_henon_map_by_gradients() -> None:
    """The Jacobian at each point of the orbit is the input gradient of one step; their QR gives the
    spectrum."""
    s, steps, dropped = setting("lyapunov_henon"), 200_000, 1000
    x, y = 0.1, 0.1
    orbit = np.empty((steps + dropped, 2))
    for t in range(len(orbit)):
        orbit[t] = x, y
        x, y = 1 - s["a"] * x * x + y, s["b"] * x
    net = vg.Network(2, henon_step(s["a"], s["b"])[0], dtype="float64", rng=0)
    points = orbit[dropped:]
    step = net.forward(points[:-1])
    np.testing.assert_allclose(step, points[1:], atol=1e-6)
    rows = [
        net.gradients(points, cotangent=np.tile(unit, (steps, 1))).input for unit in ([1.0, 0.0], [0.0, 1.0])
    ]
    q, total = np.eye(2), np.zeros(2)
    for top, bottom in zip(*(row.tolist() for row in rows), strict=True):
        # two columns by Gram-Schmidt
        (u0, u1), (w0, w1) = q.T.tolist()
        u0, u1 = top[0] * u0 + top[1] * u1, bottom[0] * u0 + bottom[1] * u1
        w0, w1 = top[0] * w0 + top[1] * w1, bottom[0] * w0 + bottom[1] * w1
        size = math.hypot(u0, u1)
        u0, u1 = u0 / size, u1 / size
        area = u0 * w1 - u1 * w0
        total += math.log(size), math.log(abs(area))
        q = np.array([[u0, -u1 * math.copysign(1, area)], [u1, u0 * math.copysign(1, area)]])
    exponents = total / steps
    assert abs(exponents[0] - s["lambda_1"]) <= s["lambda_1_abs"]
    assert abs(exponents.sum() - s["sum"]) <= s["sum_abs"]


def test_henon_map_as_a_deep_chain() -> None:
    """200,000 layers that share their weights."""
    s = setting("lyapunov_henon")
    layers = henon_step(s["a"], s["b"])[0]
    start = vg.Network(2, [vg.Repeat(layers, 1000, tied=True)], dtype="float64", rng=0).forward([[0.1, 0.1]])
    net = vg.Network(2, [vg.Repeat(layers, 200_000, tied=True)], dtype="float64", rng=0)
    exponents = np.asarray(net.lyapunov(start, k=2))
    assert abs(exponents[0] - s["lambda_1"]) <= s["lambda_1_abs"]
    assert abs(exponents.sum() - s["sum"]) <= s["sum_abs"]


# --- one unit -------------------------------------------------------------------------------------------


def test_a_unit_at_the_margin_forgets_by_a_power_law() -> None:
    """x <- tanh(x) from 1/2: dx_T/dx_0 falls as T^(-3/2)."""
    s = setting("scalar_tanh_rnn_w1")
    net = vg.rnn("rnn", 1, in_features=1, bias=False, dtype="float64", rng=0)
    net.load_parameters({"rnn.weight_ih_l0": [[0.0]], "rnn.weight_hh_l0": [[s["w"]]]})
    start = np.full((1, 1, 1), s["x0"])
    slopes = {}
    for steps, expected in s["dxT_dx0"].items():
        found = net.gradients(nothing(int(steps)), cotangent=np.ones((1, 1)), state=start)
        slopes[int(steps)] = found["state.h"].item()
        assert_close(slopes[int(steps)], expected, s["theory_rel"], f"T = {steps}")
    exponent = math.log10(slopes[100_000] / slopes[10_000])
    assert exponent == pytest.approx(s["asymptotic_exponent"], abs=1e-3)


def test_slope_of_a_logistic_unit_over_its_weight() -> None:
    """f'(w y) w is largest at w = coth(w/2) for y = 1, and below 1 for every |w| < 4.

    One network of many units that do not see each other, one a weight: the gradient at the initial state is
    f'(w y) w for all of them.  A polynomial through Chebyshev points finds the top.
    """
    s = setting("hochreiter_w_coth")

    def slopes(w: NDArray[np.float64]) -> NDArray[np.float64]:
        n = len(w)
        net = vg.rnn("rnn", n, in_features=1, activation="sigmoid", bias=False, dtype="float64", rng=0)
        net.load_parameters({"rnn.weight_ih_l0": np.zeros((n, 1)), "rnn.weight_hh_l0": np.diag(w)})
        start = np.full((1, 1, n), s["y"])
        return net.gradients(nothing(1), cotangent=np.ones((1, n)), state=start)["state.h"].ravel()

    polynomial = np.polynomial.Chebyshev.interpolate(slopes, 24, domain=[1.0, 2.2])
    tops = [
        root.real for root in polynomial.deriv().roots() if abs(root.imag) < 1e-9 and 1.1 < root.real < 2.1
    ]
    assert len(tops) == 1
    assert abs(tops[0] - s["w_star"]) <= s["abs"]
    assert abs(float(slopes(np.array(tops))[0]) - s["max_value"]) <= s["abs"]
    limit = s["limit_w"]
    assert np.abs(slopes(np.linspace(-limit, limit, 201)[1:-1])).max() < 1
    # f' is at most 1/4, at a state of 0, where the weight alone counts
    net = vg.rnn("rnn", 1, in_features=1, activation="sigmoid", bias=False, dtype="float64", rng=0)
    net.load_parameters({"rnn.weight_ih_l0": [[0.0]], "rnn.weight_hh_l0": [[limit]]})
    at_zero = net.gradients(nothing(1), cotangent=np.ones((1, 1)), state=np.zeros((1, 1, 1)))["state.h"]
    assert at_zero.item() == 1.0


# --- bounds ---------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["tanh", "sigmoid"]),
    st.integers(1, 8),
    st.integers(2, 60),
    st.floats(0.0, 30.0),
    st.integers(0, 2**32 - 1),
)
def test_no_gradient_outlives_the_bound(function: str, n: int, steps: int, size: float, seed: int) -> None:
    """|dh_T/dh_t| <= (gamma sigma_max)^(T-t) for any input, bias and direction."""
    s = setting("pascanu_bounds")
    rng, rate = np.random.default_rng(seed), 0.95
    net = vg.rnn("rnn", n, in_features=2, activation=function, dtype="float64", rng=seed)
    p = {name: rng.normal(size=value.shape) for name, value in net.parameters().items()}
    weight = p["rnn.weight_hh_l0"]
    p["rnn.weight_hh_l0"] = weight * (rate / s[f"gamma_{function}"] / np.linalg.norm(weight, 2))
    net.load_parameters(p)
    x, v = size * rng.normal(size=(1, steps, 2)), rng.normal(size=(1, n))
    norms = net.probe(x, cotangent=v, stats="norms").log10_grad_norm
    back = np.arange(steps - 1, -1, -1)
    assert np.all(norms - norms[-1] <= back * math.log10(rate) + 1e-12 * (back + 1))


@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
@pytest.mark.parametrize("rate", [0.99, 1.01])
def test_the_threshold_is_where_the_bound_turns(function: str, rate: float) -> None:
    """At rest in the steepest point (tanh: 0; a logistic unit: bias -w/2) and with W a multiple of an
    orthogonal matrix, the bound is reached."""
    s, n, steps = setting("pascanu_bounds"), 6, 300
    size = rate * s[f"threshold_{function}"]
    net = vg.rnn("rnn", n, in_features=1, activation=function, dtype="float64", rng=0)
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    rest = 0.0 if function == "tanh" else 0.5
    p = {name: np.zeros_like(value) for name, value in net.parameters().items()}
    p["rnn.weight_hh_l0"] = size * q
    p["rnn.bias_hh_l0"] = -size * q.sum(axis=1) * rest
    net.load_parameters(p)
    # every step starts at rest: cut the forward orbit off its own instability by short pieces
    total, pieces = 0.0, 30
    for _ in range(pieces):
        state = np.full((1, 1, n), rest)
        found = net.gradients(nothing(steps // pieces), cotangent=np.ones((1, n)), state=state)
        total += found.log2_norm("state.h") - 0.5 * math.log2(n)
    assert total * math.log10(2.0) == pytest.approx(steps * math.log10(rate), rel=1e-9)


# --- default cells --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", named("torch_default"))
def test_decay_of_default_cells(name: str) -> None:
    """Drawn as PyTorch draws them; 5 to 35 steps back from the end, ten networks."""
    s = setting(name)
    slopes = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        net = vg.rnn(s["cell"], s["hidden"], in_features=s["input"], forget_bias=s["forget_bias"], rng=seed)
        x = rng.normal(size=(16, s["T"], s["input"])).astype(np.float32)
        flow = net.probe(x, cotangent=rng.normal(size=(16, s["hidden"])).astype(np.float32), stats="norms")
        norms = flow.log10_cell_grad_norm if s["cell"] == "lstm" else flow.log10_grad_norm
        slopes.append((norms[-36] - norms[-6]) / 30)
    assert abs(float(np.mean(slopes)) - s["log10_per_step"]) <= s["abs"]


def test_every_entry_has_a_test() -> None:
    starts = ("lstm_forget_bias", "rnn_step", "lyapunov_tanh_rnn", "torch_default")
    singles = {
        "chrono_T1000",
        "gru_zero_weights_bz_0",
        "irnn_identity",
        "lyapunov_henon",
        "scalar_tanh_rnn_w1",
        "hochreiter_w_coth",
        "pascanu_bounds",
    }
    assert {name for name in known_recurrent() if not name.startswith(starts)} == singles
