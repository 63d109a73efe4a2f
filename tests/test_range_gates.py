"""Tests of gates closed beyond the float range: what comes through is still a number, against formulas and
against mpmath, which takes every step of the reverse in forty digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import gap_by_norm
from networks_time import assert_same_bits

LN10 = np.log(10.0)
# How far log10 of a norm may be off: what rounding to the type's digits adds up to over a few steps.
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def log_sigmoid(x: float) -> float:
    """Natural logarithm of the logistic function."""
    return -float(np.logaddexp(0.0, -x))


def closed(cell: str, bias: float, dtype: str, width: int = 4) -> tuple[vg.Network, float]:
    """A cell without weights that keeps exp(-bias) of its state a step, and log10 of exactly that."""
    net = vg.rnn(cell, width, in_features=1, dtype=dtype, rng=0)
    parameters = {name: np.zeros_like(value) for name, value in net.parameters().items()}
    gate, sign = {"lstm": (1, -1), "gru": (1, -1), "min_gru": (0, 1), "min_lstm": (0, -1)}[cell]
    parameters["rnn.bias_ih_l0"][gate * width : (gate + 1) * width] = sign * bias
    net.load_parameters(parameters)
    keep = log_sigmoid(-bias)
    return net, float((keep - np.logaddexp(keep, np.log(0.5)) if cell == "min_lstm" else keep) / LN10)


@pytest.mark.parametrize("bias", [30.0, 50.0, 80.0, 90.0, 120.0, 400.0, 800.0, 5000.0, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "min_gru", "min_lstm"])
def test_what_a_closed_gate_lets_through_is_never_lost(cell: str, dtype: str, bias: float) -> None:
    """Five steps behind gates from 1e-13 to 1e-434294 a step: none is faster than the exponents."""
    net, rate = closed(cell, bias, dtype)
    x, v = np.zeros((2, 5, 1), dtype), np.ones((2, 4), dtype)
    flow = net.probe(x, cotangent=v)
    memory = flow.log10_cell_grad_norm if cell == "lstm" else flow.log10_grad_norm
    # half of dL/dh reaches dL/dc: the output gate is half open
    first = np.log10(np.sqrt(8.0)) - (np.log10(2.0) if cell == "lstm" else 0.0)
    expected = first + rate * np.arange(4, -1, -1)
    np.testing.assert_allclose(memory, expected, rtol=1e-14, atol=TOLERANCE[dtype])
    assert flow.log10_state_grad_norm == pytest.approx(first + 5 * rate, abs=TOLERANCE[dtype], rel=1e-14)
    # of an lstm's two states one goes through, to itself and, halved, to the output
    through = rate + (0.5 * np.log10(1.25 / 2.0) if cell == "lstm" else 0.0)
    np.testing.assert_allclose(flow.layer(0).log10_jacobian_norm, through, rtol=1e-14, atol=TOLERANCE[dtype])
    assert flow.diagnose().verdict in ("vanishing", "saturated")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_state_gradient_keeps_its_digits_too(dtype: str) -> None:
    net, rate = closed("gru", 120.0, dtype)
    state = np.zeros((1, 2, 4), dtype)
    v = np.random.default_rng(0).normal(size=(2, 4)).astype(dtype)
    found = net.gradients(np.zeros((2, 5, 1), dtype), cotangent=v, state=state)
    m, e = found.scaled("state.h")
    expected = v.astype(np.float64)[None] * 10.0 ** (5 * rate + 250)
    gap = gap_by_norm((m.astype(np.float64) * 10.0**250, e), (expected, np.zeros_like(e)))
    assert gap < 10 * TOLERANCE[dtype]


@pytest.mark.parametrize(("activation", "size"), [("tanh", 2.0), ("sigmoid", 1.0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_activations_lose_nothing_either(dtype: str, activation: str, size: float) -> None:
    """Slopes of exp(-800) in both types: float64 ends at exp(-745)."""
    net = vg.rnn(vg.cells.rnn(activation=activation), 3, in_features=1, dtype=dtype, rng=0)
    one = np.eye(3, dtype=dtype)
    at = {name: np.zeros_like(value) for name, value in net.parameters().items()}
    # the state is 1 there (0 from the start), so that both terms give 800 from the second step on
    at["rnn.bias_ih_l0"][:], at["rnn.weight_hh_l0"][:] = 800.0 / size, one
    net.load_parameters(at)
    flow = net.probe(np.zeros((1, 6, 1), dtype), cotangent=np.ones((1, 3), dtype))
    slope = (np.log(4.0 if activation == "tanh" else 1.0) - size * (800.0 / size + 1.0)) / LN10
    expected = np.log10(np.sqrt(3.0)) + slope * np.arange(5, -1, -1)
    np.testing.assert_allclose(flow.log10_grad_norm, expected, rtol=1e-13, atol=TOLERANCE[dtype])


# --- an lstm with weights, against mpmath ---------------------------------------------------------------

BEHIND = {
    "all but the candidate": (-120.0, -120.0, 0.5, -120.0),
    "input alone": (-120.0, 3.0, 0.5, 0.3),
    "input, memory open": (-700.0, 40.0, 0.5, 0.3),
    "forget alone": (0.2, -300.0, 0.5, 0.3),
    "forget and output": (0.2, -150.0, 0.5, -150.0),
    "output alone": (0.2, 1.0, 0.5, -200.0),
    "none": (0.2, 1.0, 0.5, 0.3),
}


def lstm(biases: tuple[float, ...], dtype: str, peephole: bool) -> vg.Network:
    cell: Any = vg.cells.lstm(peephole=True) if peephole else "lstm"
    net = vg.rnn(cell, 3, in_features=2, dtype=dtype, read="every", rng=1)
    parameters = dict(net.parameters())
    parameters["rnn.bias_ih_l0"] = np.repeat(np.array(biases, dtype), 3)
    if peephole:
        parameters["rnn.peephole_l0"] = np.linspace(-1.5, 1.5, 9).astype(dtype)
    net.load_parameters(parameters)
    return net


def states_before(net: vg.Network, x: Any) -> list[tuple[Any, Any]]:
    """(h, c) before each step and after the last, as the network's own arithmetic has them."""
    found = [(np.zeros(3), np.zeros(3))]
    for t in range(1, x.shape[1] + 1):
        _, state = net.forward(x[:, :t], return_state=True)
        found.append((state["h"][0, 0], state["c"][0, 0]))
    return found


def reference(net: vg.Network, x: Any, v: Any) -> dict[str, list[float]]:
    """log10 of |dL/dh_t|, |dL/dc_t| and |dL/dz_t|, and of both parts of the initial state's gradient: the
    exact reverse of every step from the state that the forward pass, in its floats, brought it."""
    mp = pytest.importorskip("mpmath")
    mp.mp.dps = 40
    p = {name.removeprefix("rnn.").removesuffix("_l0"): value for name, value in net.parameters().items()}
    number = lambda a: np.vectorize(mp.mpf, otypes=[object])(np.asarray(a, np.float64))  # noqa: E731
    w_ih, w_hh = number(p["weight_ih"]), number(p["weight_hh"])
    b = number(p["bias_ih"]) + number(p["bias_hh"])
    holes = number(p.get("peephole", np.zeros(9))).reshape(3, 3)
    states = [(number(h), number(c)) for h, c in states_before(net, x)]
    exp, tanh = np.vectorize(mp.exp, otypes=[object]), np.vectorize(mp.tanh, otypes=[object])
    norm = lambda a: float(mp.log10(mp.sqrt(sum(y * y for y in a))))  # noqa: E731
    found: dict[str, list[float]] = {"h": [], "c": [], "z": []}
    dh, dc = number(np.zeros(3)), number(np.zeros(3))
    for t in reversed(range(x.shape[1])):
        h, c = states[t]
        z = w_ih @ number(x[0, t]) + w_hh @ h + b
        a = np.split(z, 4)
        a[0], a[1] = a[0] + holes[0] * c, a[1] + holes[1] * c
        new = tanh(a[2]) / (1 + exp(-a[0])) + c / (1 + exp(-a[1]))
        a[3] = a[3] + holes[2] * new
        value = [1 / (1 + exp(-a[0])), 1 / (1 + exp(-a[1])), tanh(a[2]), 1 / (1 + exp(-a[3]))]
        slope = [s * (1 / (1 + exp(q))) for s, q in zip(value, a, strict=True)]
        slope[2] = 4 * exp(-2 * abs(a[2])) / (1 + exp(-2 * abs(a[2]))) ** 2
        dh = dh + number(v[0, t])
        flat = 4 * exp(-2 * abs(new)) / (1 + exp(-2 * abs(new))) ** 2
        zo = dh * tanh(new) * slope[3]
        dc = dc + dh * value[3] * flat + zo * holes[2]
        dz = [dc * value[2] * slope[0], dc * c * slope[1], dc * value[0] * slope[2], zo]
        found["h"].insert(0, norm(dh))
        found["c"].insert(0, norm(dc))
        found["z"].insert(0, norm(np.concatenate(dz)))
        dc = dc * value[1] + dz[0] * holes[0] + dz[1] * holes[1]
        dh = w_hh.T @ np.concatenate(dz)
    return found | {"start": [norm(dh), norm(dc)]}


@pytest.mark.parametrize("peephole", [False, True], ids=["plain", "peephole"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("behind", list(BEHIND))
def test_an_lstm_behind_closed_gates(behind: str, dtype: str, peephole: bool) -> None:
    """dL/dh and dL/dc may lie hundreds of decades apart, in either order, and each is right by itself."""
    net = lstm(BEHIND[behind], dtype, peephole)
    x = np.zeros((1, 5, 2), dtype)
    v = np.zeros((1, 5, 3), dtype)
    v[0, -1], v[0, 1] = [1.0, -0.5, 0.25], [0.5, 0.5, 1.0]
    for seen in (v, np.where(np.arange(5)[None, :, None] == 4, v, 0.0).astype(dtype)):
        expected = reference(net, x, seen)
        flow = net.probe(x, cotangent=seen)
        # a pre-activation of 700 is known to 1e-4 in float32, and with it its exponential
        close = {"float32": 2e-4, "float64": 1e-12}[dtype]
        for key, got in (
            ("h", flow.log10_grad_norm), ("c", flow.log10_cell_grad_norm), ("z", flow.log10_delta_norm),
        ):  # fmt: skip
            np.testing.assert_allclose(got, expected[key], rtol=1e-12, atol=close, err_msg=key)
        state = {name: np.zeros((1, 1, 3), dtype) for name in "hc"}
        found = net.gradients(x, cotangent=seen, state=state)
        for name, want in zip("hc", expected["start"], strict=True):
            m, e = found.scaled(f"state.{name}")
            got = np.log10(np.linalg.norm(m.astype(np.float64))) + float(e.ravel()[0]) * np.log10(2.0)
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=close, err_msg=f"state.{name}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("behind", list(BEHIND))
def test_closed_gates_give_the_same_bits_for_every_plan_and_neighbour(behind: str, dtype: str) -> None:
    """Rows that are taken again are so for their own sake: neither batch nor plan nor threads matter."""
    net = lstm(BEHIND[behind], dtype, peephole=False)
    rng = np.random.default_rng(3)
    x, v = rng.normal(size=(6, 300, 2)).astype(dtype), np.zeros((6, 300, 3), dtype)
    v[:, -1] = rng.normal(size=(6, 3))
    v[2] = 0.0
    v[3, 10] = 1.0

    def bits(**manner: Any) -> dict[str, bytes]:
        found = net.gradients(x, cotangent=v, **manner)
        arrays = {name: found.scaled(name) for name in found} | {"x": found.scaled_input}
        return {f"{name} {i}": part.tobytes() for name, pair in arrays.items() for i, part in enumerate(pair)}

    whole, threads = bits(), vg.get_num_threads()
    budget = {"float32": "450KB", "float64": "700KB"}[dtype]
    assert "checkpoint" in net.memory_plan(6, steps=300, memory_budget=budget)
    assert_same_bits(whole, bits(memory_budget=budget), "checkpoints")
    try:
        vg.set_num_threads(3)
        assert_same_bits(whole, bits(), "threads")
    finally:
        vg.set_num_threads(threads)
    m, e = net.gradients(x, cotangent=v).scaled_input
    for i in range(6):
        one = net.gradients(x[i : i + 1], cotangent=v[i : i + 1]).scaled_input
        assert one[0].tobytes() == m[i : i + 1].tobytes()
        assert one[1].tobytes() == e[i : i + 1].tobytes()


# --- min_lstm: shares of two closed gates ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("at", [0.0, 3.0, -30.0, -87.0, -103.0, -200.0, -745.0, -1000.0, -1e6, 200.0, 1e6])
def test_shares_of_gates_closed_beyond_the_range(at: float, dtype: str) -> None:
    """f and i may both be zero to a float; f/(f + i) is not, and neither is its gradient."""
    net = vg.rnn("min_lstm", 3, in_features=1, dtype=dtype, rng=0)
    shift = np.array([0.0, 2.0, -30.0])
    parameters = {name: np.zeros_like(value) for name, value in net.parameters().items()}
    parameters["rnn.bias_ih_l0"][:3], parameters["rnn.bias_ih_l0"][3:6] = at + shift, at
    parameters["rnn.bias_ih_l0"][6:] = 0.5
    net.load_parameters(parameters)
    f, i = (parameters["rnn.bias_ih_l0"][part].astype(np.float64) for part in (slice(3), slice(3, 6)))
    log_f, log_i = -np.logaddexp(0, -f), -np.logaddexp(0, -i)
    keep, take = np.exp(-np.logaddexp(0, log_i - log_f)), np.exp(-np.logaddexp(0, log_f - log_i))
    state = np.array([[[1.0, -2.0, 4.0]]], dtype)
    x, close = np.zeros((1, 1, 1), dtype), {"float32": 1e-6, "float64": 1e-13}[dtype]
    # the difference of two floats of a million is exact; their logarithms' need not be
    close += 4 * np.finfo(np.float64).eps * abs(at)
    y = net.forward(x, state=state)
    np.testing.assert_allclose(y[0], keep * state[0, 0] + take * 0.5, rtol=close)
    v = np.array([[1.0, 1.0, 1.0]], dtype)
    found = net.gradients(x, cotangent=v, state=state)
    np.testing.assert_allclose(found["state.h"][0, 0], keep, rtol=close)
    b = found["rnn.bias_ih_l0"]
    pull = (state[0, 0].astype(np.float64) - 0.5) * keep * take
    np.testing.assert_allclose(b[6:], take, rtol=close)
    np.testing.assert_allclose(b[:3], pull * np.exp(-np.logaddexp(0, f)), rtol=close, atol=1e-36)
    np.testing.assert_allclose(b[3:6], -pull * np.exp(-np.logaddexp(0, i)), rtol=close, atol=1e-36)


def test_a_min_lstm_of_large_inputs_gives_numbers() -> None:
    for dtype, size in (("float32", -200.0), ("float64", -1000.0)):
        net = vg.rnn("min_lstm", 2, in_features=1, dtype=dtype, rng=0)
        net.load_parameters(
            {name: np.full_like(value, float("weight" in name)) for name, value in net.parameters().items()}
        )
        x = np.full((1, 3, 1), size, dtype)
        # f = i, so the state is the mean of itself and the candidate, which is x
        np.testing.assert_array_equal(net.forward(x), np.full((1, 2), size * (1 - 0.5**3), dtype))
        flow = net.probe(x, cotangent=np.ones((1, 2), dtype))
        expected = np.log10(np.sqrt(2.0)) + np.log10(0.5) * np.arange(2, -1, -1)
        np.testing.assert_allclose(flow.log10_grad_norm, expected, rtol=1e-12)
