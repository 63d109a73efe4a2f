"""Tests of layers that branch: their laws, known answers, ranges, and what the way back skips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import gap_by_norm
from helpers_theory import entries, ids
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from vgcore.layers import walk

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = vg.get_num_threads()
    yield
    vg.set_num_threads(before)


def pair(net: vg.Network, batch: int = 4, seed: int = 0) -> tuple[Any, Any]:
    """An input and a cotangent for a network."""
    rng = np.random.default_rng(seed)
    x, v = (rng.normal(size=(batch, n)).astype(net.dtype) for n in (net.in_features, net.out_features))
    return x, v


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nested", [False, True])
def test_doubling_has_no_end(dtype: str, nested: bool) -> None:
    """`y = x + x` through a branch of nothing but dropout that is off: 2^3000 is no float."""
    body: Any = vg.Residual(vg.Dropout(0.5)) if nested else vg.Dropout(0.5)
    net = vg.Network(4, [vg.Repeat(vg.Residual(body), 3_000)], dtype=dtype, rng=0)
    x, v = np.zeros((2, 4), dtype), np.array([[1, -3, 0.5, 1], [0, 0, 7, 0]], dtype)
    each = np.log2(3.0) if nested else 1.0
    got = net.probe(x, cotangent=v, training=False).log2_input_grad_norm
    assert got == pytest.approx(3_000 * each + np.log2(np.linalg.norm(v)), rel=1e-6)


def test_a_learned_factor_has_a_gradient_beyond_its_type() -> None:
    """sum(g f) of four rows is 16 times 1e38 times 1e5: no float32, but a mantissa and an exponent."""
    layer = vg.Residual(vg.Dense(4, init="identity"), learned=True, scale=1.0, name="r")
    net = vg.Network(4, [layer], rng=0)
    x, v = np.full((4, 4), 1e38, np.float32), np.full((4, 4), 1e5, np.float32)
    got = float(np.asarray(net.gradients(x, cotangent=v).log2_norm("r.scale")).item())
    assert got == pytest.approx(np.log2(16) + np.log2(1e38) + np.log2(1e5), rel=1e-6)


def input_gradient(net: vg.Network, x: Any, v: Any) -> Any:
    """dL/d(input) as plain floats."""
    m, e = net.gradients(x, cotangent=v).scaled_input
    return np.ldexp(m, np.asarray(e)[:, None]).astype(net.dtype)


def log2_input_gradient(net: vg.Network, x: Any, v: Any) -> float:
    """log2 of the largest entry of dL/d(input), at any exponent."""
    m, e = net.gradients(x, cotangent=v).scaled_input
    m, shift = np.frexp(np.abs(np.asarray(m, np.float64)).max(axis=1))
    return float((np.log2(m) + shift + np.asarray(e)).max())


# --- identities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("skip", ["rezero", "skipinit"])
def test_a_branch_that_starts_at_zero_is_the_identity_bit_for_bit(skip: str, dtype: str) -> None:
    """`resnet_zero_init`: input, output and gradient are the same bytes, through 1,000 steps."""
    net = vg.mlp(1000, 16, skip=skip, activation="tanh", dtype=dtype, rng=0)
    x, v = pair(net)
    assert net.forward(x).tobytes() == x.tobytes()
    assert input_gradient(net, x, v).tobytes() == v.tobytes()
    found = net.gradients(x, cotangent=v)
    assert not found["hidden.weight"].any()
    assert found["hidden.scale"].all()  # what the first step moves
    assert entries()["resnet_zero_init"]["expected"]["grad_ratio"] == 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_closed_gate_is_the_identity_bit_for_bit(dtype: str) -> None:
    closed = vg.Highway(transform_bias=-1000.0, gate_init="zeros")
    net = vg.Network(5, [vg.Repeat(closed, 200)], dtype=dtype, rng=0)
    x, v = pair(net)
    assert net.forward(x).tobytes() == x.tobytes()
    assert input_gradient(net, x, v).tobytes() == v.tobytes()


@given(vg.testing.dtypes(), st.integers(1, 6), SEEDS)
def test_what_is_spelled_out_is_what_is_left_out(dtype: str, width: int, seed: int) -> None:
    """Gain 1, survival 1, a learned scale and an identity that is computed give the plain Residual."""
    body = [vg.Dense(width), vg.Activation("gelu")]
    plain = vg.Network(width, [vg.Residual(body, scale=0.5)], dtype=dtype, rng=seed)
    x, v = pair(plain, seed=seed)
    want, gradient = plain.forward(x, training=True), input_gradient(plain, x, v)
    for other in (
        vg.Residual(body, scale=0.5, survival=1.0, shortcut=1),
        vg.Residual(body, scale=0.5, learned=True),
        vg.Residual(body, scale=0.5, shortcut=vg.Dense(width, bias=False, init="identity")),
    ):
        net = vg.Network(width, [other], dtype=dtype, rng=seed)
        net.load_parameters({**net.parameters(), **plain.parameters()})
        assert net.forward(x, training=True).tobytes() == want.tobytes(), other
        assert input_gradient(net, x, v).tobytes() == gradient.tobytes(), other


def test_concatenation_is_both_side_by_side() -> None:
    net = vg.Network(3, [vg.Concat(vg.Dense(2, name="part"))], dtype="float64", rng=0)
    x, v = pair(net)
    weight = net.parameters()["0.part.weight"]
    np.testing.assert_array_equal(net.forward(x)[:, :3], x)
    np.testing.assert_allclose(net.forward(x)[:, 3:], x @ weight.T, rtol=1e-13)
    np.testing.assert_allclose(input_gradient(net, x, v), v[:, :3] + v[:, 3:] @ weight, rtol=1e-12)


def test_a_shared_scale_gets_the_sum_of_its_uses() -> None:
    step = vg.Residual([vg.Dense(4), vg.Activation("tanh")], scale=0.3, learned=True)
    tied = vg.Network(4, [vg.Repeat(step, 5, tied=True)], dtype="float64", rng=1)
    own = vg.Network(4, [vg.Repeat(step, 5)], dtype="float64", rng=1)
    own.load_parameters({k: np.stack([a] * 5) for k, a in tied.parameters().items()})
    x, v = pair(tied)
    one, many = tied.gradients(x, cotangent=v), own.gradients(x, cotangent=v)
    np.testing.assert_allclose(one["0.0.scale"], many["0.0.scale"].sum(axis=0), rtol=1e-13)


def test_a_step_moves_a_learned_scale_along_its_gradient() -> None:
    net = vg.mlp(6, 5, skip="rezero", activation="tanh", dtype="float64", rng=0)
    x, v = pair(net)
    before, gradient = net.parameters()["hidden.scale"], net.gradients(x, cotangent=v)["hidden.scale"]
    net.step(x, cotangent=v, lr=0.25)
    np.testing.assert_array_equal(net.parameters()["hidden.scale"], before - 0.25 * gradient)


# --- ranges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gain", [0.5, 2.0**-70, -(2.0**60)])
def test_a_gain_leaves_no_range(gain: float, dtype: str) -> None:
    """Through 2,000 shortcuts of gain g and dead branches the gradient is g**2000 times, exactly."""
    step = vg.Residual(vg.Dense(3, init="zeros"), shortcut=gain)
    net = vg.Network(3, [vg.Repeat(step, 2000)], dtype=dtype, rng=0)
    x, v = np.zeros((2, 3), dtype), np.array([[1, -3, 0.5], [0, 0, 7]], dtype)
    m, e = net.gradients(x, cotangent=v).scaled_input
    drift = np.asarray(e) - int(2000 * np.log2(abs(gain)))
    np.testing.assert_array_equal(np.ldexp(m, drift[:, None]), v)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_leave_no_range(dtype: str) -> None:
    """A gate that is nearly shut, 3,000 times: only the transform's path comes back, t**3000 times."""
    t = 1.0 / (1.0 + np.exp(20.0))
    linear = vg.Dense(2, bias=False, init="identity")
    gate = vg.Highway(linear, coupled=False, transform_bias=-20.0, gate_init="zeros")
    net = vg.Network(2, [vg.Repeat(gate, 3000)], dtype=dtype, rng=0)
    biases = {"0.0.carry.bias": np.full((3000, 2), -20.0)}
    net.load_parameters({k: biases.get(k, a).astype(dtype) for k, a in net.parameters().items()})
    got = log2_input_gradient(net, np.zeros((1, 2), dtype), np.ones((1, 2), dtype))
    assert got == pytest.approx(3000 * np.log2(2 * t), rel=1e-5 if dtype == "float32" else 1e-13)


def test_faint_rows_meet_a_bias_as_others_do() -> None:
    """Inputs near the end of float32 beside ordinary ones: each row as if it were alone."""
    net = vg.Network(9, [vg.Dense(7, sigma_b2=1e-70, name="d")], rng=0)
    x = np.random.default_rng(1).normal(size=(6, 9)).astype(np.float32)
    x[[1, 4, 5]] *= np.float32(2.0**-125)
    y, p = net.forward(x), net.parameters()
    for row in range(6):
        assert net.forward(x[row : row + 1]).tobytes() == y[row].tobytes()
    weight, bias, wide = (a.astype(np.float64) for a in (p["d.weight"], p["d.bias"], x))
    expected = wide @ weight.T + bias
    sizes = np.abs(wide) @ np.abs(weight).T + np.abs(bias)
    np.testing.assert_array_less(np.abs(y - expected) / sizes, 2.0**-21)


def test_a_faint_part_of_a_concatenation_keeps_its_digits() -> None:
    """The body's part of the cotangent is 2**-120, and 2**-100 of that comes back, in float32."""
    net = vg.Network(1, [vg.Concat(vg.Repeat(vg.Dense(1, bias=False, init=[[0.5]]), 100))], rng=0)
    v = np.array([[0.0, 2.0**-120]], np.float32)
    assert log2_input_gradient(net, np.ones((1, 1), np.float32), v) == -220.0


def test_one_use_of_shared_weights_that_gets_nothing_hides_no_other() -> None:
    """The middle step's relu is dead while the others' gradients are 2**-3000 and less."""
    dead = vg.Residual(
        [vg.Dense(1, init=[[1.0]], bias_init=[-1.0]), vg.Activation("relu")], scale=-6.0, name="shared"
    )
    faint = vg.Residual(vg.Dense(1, init="zeros"), shortcut=0.5)
    net = vg.Network(1, [vg.Repeat(dead, 3, tied=True), vg.Repeat(faint, 3000)], dtype="float64", rng=0)
    m, e = net.gradients(np.array([[1.25]]), cotangent=np.array([[1.0]])).scaled("0.shared.0.weight")
    assert np.ldexp(m[0, 0], int(e) + 3000) == -6.0 * 1.25


# --- stochastic depth and dropout ---------------------------------------------------------------------------


def residuals(survival: float = 0.5, n: int = 40, dtype: str = "float64", seed: int = 3) -> vg.Network:
    step = vg.Residual([vg.Dense(6, name=""), vg.Activation("tanh")], survival=survival, name="")
    return vg.Network(6, [vg.Repeat(step, n, name="hidden")], dtype=dtype, rng=seed)


def test_a_branch_that_is_left_out_is_not_computed() -> None:
    """NaN in its weights reaches nothing; its gradients and figures are exact zeros; the rest is the network
    without it."""
    net = residuals()
    x, v = pair(net)
    found = net.gradients(x, cotangent=v)
    absent = ~found["hidden.weight"].any(axis=(1, 2))
    assert 8 < absent.sum() < 32
    poisoned = net.parameters()
    poisoned["hidden.weight"][absent] = np.nan
    net.load_parameters(poisoned)
    again, flow = net.gradients(x, cotangent=v), net.probe(x, cotangent=v)
    for name in found:
        assert again[name].tobytes() == found[name].tobytes(), name
    units = np.asarray(flow.raw["kind"]) == 0
    for key in ("grad_log2_norm", "delta_log2_norm", "weight_grad_log2_norm"):
        np.testing.assert_array_equal(np.asarray(flow.raw[key])[units] == -np.inf, absent)
    assert np.isfinite(flow.log10_grad_norm).all()
    kept = {name: value[~absent] for name, value in poisoned.items()}
    short = residuals(1.0, n=int((~absent).sum()))
    short.load_parameters(kept)
    assert short.forward(x).tobytes() == net.forward(x, training=True).tobytes()


def test_inference_multiplies_a_branch_by_its_probability() -> None:
    net, sure = residuals(0.25), residuals(1.0)
    x, _ = pair(net)
    scaled = vg.Residual([vg.Dense(6, name=""), vg.Activation("tanh")], scale=0.25, name="")
    same = vg.Network(6, [vg.Repeat(scaled, 40, name="hidden")], dtype="float64", rng=3)
    assert net.forward(x).tobytes() == same.forward(x).tobytes() != sure.forward(x).tobytes()


def test_as_many_branches_are_there_as_said() -> None:
    net = residuals(0.7, n=2000, dtype="float32")
    x, v = pair(net, batch=1)
    there = net.gradients(x, cotangent=v)["hidden.weight"].any(axis=(1, 2)).mean()
    assert abs(there - 0.7) < 4 * np.sqrt(0.21 / 2000)


def test_dropout_keeps_the_mean_and_the_share() -> None:
    net = vg.Network(64, [vg.Dropout(0.3)], dtype="float64", rng=5)
    y = net.forward(np.ones((500, 64)), training=True)
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert abs((y == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / y.size)
    # every row and every unit has its own
    assert len({row.tobytes() for row in y}) == 500
    assert len({column.tobytes() for column in y.T}) == 64


def test_draws_depend_on_seed_path_application_step_and_row_alone() -> None:
    x, single = np.ones((6, 8)), np.ones((6, 8), np.float32)
    net = vg.Network(8, [vg.Dropout(0.5)], dtype="float64", rng=5)

    def drawn(step: int, seed: int = 5) -> bytes:
        return net._core.forward(x, training=(seed, step)).tobytes()

    assert drawn(0) == drawn(0)
    assert len({drawn(step) for step in range(20)} | {drawn(0, seed) for seed in range(6, 26)}) == 40
    other = vg.Network(8, [vg.Dropout(0.5, name="other")], dtype="float64", rng=5)
    assert other.forward(x, training=True).tobytes() != net.forward(x, training=True).tobytes()
    # the same units in float32, and in a batch that goes on
    narrow = vg.Network(8, [vg.Dropout(0.5)], rng=5)
    np.testing.assert_array_equal(narrow.forward(single, training=True), net.forward(x, training=True))
    longer = net.forward(np.ones((60, 8)), training=True)
    np.testing.assert_array_equal(longer[:6], net.forward(x, training=True))
    # the applications of one layer draw apart, also where they share parameters
    for tied in (False, True):
        twice = vg.Network(8, [vg.Repeat(vg.Dropout(0.5, name="d"), 2, tied=tied)], dtype="float64", rng=5)
        assert set(np.unique(twice.forward(np.ones((60, 8)), training=True))) == {0.0, 4.0}
        assert 0.6 < (twice.forward(np.ones((600, 8)), training=True) == 0).mean() < 0.9


# --- known answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in ids("residual_gated", "resnet_rrn") if n.endswith("L50")])
def test_residual_networks_against_theory(name: str) -> None:
    """x + tanh(Wx): growth of the gradient's and of the state's mean square, over networks of width 250."""
    entry = entries()[name]
    s, expected, n, runs = entry["setting"], entry["expected"], 250, 24
    growth, p = [], []
    for seed in range(runs):
        step = vg.Residual([vg.Dense(n, bias=False, sigma_w2=s["sigma_w2"]), vg.Activation(s["activation"])])
        net = vg.Network(n, [vg.Repeat(step, s["L"])], rng=seed)
        x, v = pair(net, batch=8, seed=seed)
        x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True))
        flow = net.probe(x, cotangent=v)
        growth.append(10 ** (2 * (flow.log10_input_grad_norm - np.log10(np.linalg.norm(v)))))
        p.append(np.mean(net.forward(x) ** 2))
    assert (
        abs(0.5 * np.log10(np.mean(growth)) - expected["log10_norm_growth"])
        <= entry["tolerance"]["simulation_abs"]
    )
    assert abs(np.mean(p) / expected["p_L"] - 1) <= entry["tolerance"]["p_rel"]


@pytest.mark.parametrize("name", ids("residual_gated", "highway"))
def test_highway_networks_against_theory(name: str) -> None:
    """y = t H + (1 - t) x with H = W2 relu(W1 x) and gates without weights: both ways shrink alike."""
    entry = entries()[name]
    s, n = entry["setting"], 300
    body = [
        vg.Dense(n, bias=False, sigma_w2=2.0, name="lower"),
        vg.Activation("relu"),
        vg.Dense(n, bias=False, sigma_w2=1.0, name="upper"),
    ]
    step = vg.Highway(body, transform_bias=s["gate_bias"], gate_init="zeros")
    back, forth = [], []
    for seed in range(16):
        net = vg.Network(n, [vg.Repeat(step, s["L"])], rng=seed)
        x, v = pair(net, batch=4, seed=seed)
        flow = net.probe(x, cotangent=v, stats="norms")
        back.append(10 ** (2 * flow.log10_input_grad_norm) / np.sum(v**2))
        forth.append(np.sum(net.forward(x) ** 2) / np.sum(x**2))
    expected, allowed = entry["expected"]["log10_norm_total_L50"], entry["tolerance"]["simulation_abs"]
    assert abs(0.5 * np.log10(np.mean(back)) - expected) <= allowed
    # the reference's own forward simulation spreads three times as far
    assert abs(0.5 * np.log10(np.mean(forth)) - expected) <= 3 * allowed


# --- structure ----------------------------------------------------------------------------------------------


@given(vg.testing.networks(noise=True, nesting=3))
def test_python_and_the_core_agree_on_parameters(net: vg.Network) -> None:
    placed = [p for layer in walk(net.layers, net.in_features) for p in layer.parameters().items()]
    assert dict(placed) == net.parameter_shapes()
    assert len(placed) == len(net.parameter_shapes())
    assert net.summary().count("\n") >= len(list(walk(net.layers, net.in_features)))


@given(net=vg.testing.networks(noise=True), seed=SEEDS)
def test_saving_keeps_every_field(net: vg.Network, seed: int, tmp_path_factory: Any) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    net.save(path)
    twin = vg.load(path)
    assert twin.layers == net.layers
    x, v = pair(net, seed=seed)
    one, two = net.gradients(x, cotangent=v), twin.gradients(x, cotangent=v)
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)


@given(vg.testing.networks(), SEEDS)
def test_networks_without_storage_measure_the_same(net: vg.Network, seed: int) -> None:
    lean = vg.Network(net.in_features, net.layers, dtype=net.dtype, rng=net.seed, stored=False)
    x, v = pair(net, seed=seed)
    assert lean.forward(x).tobytes() == net.forward(x).tobytes()
    one, two = lean.probe(x, cotangent=v), net.probe(x, cotangent=v)
    for key in ("grad_log2_norm", "weight_grad_log2_norm", "bias_grad_log2_norm"):
        np.testing.assert_array_equal(one.raw[key], two.raw[key])


def test_branches_stand_around_recurrent_layers() -> None:
    layers = [
        vg.Highway(activation="tanh"),
        vg.Recurrent("gru", 3, read="every"),
        vg.Residual([vg.Dense(3), vg.Activation("tanh")], scale=0.3, learned=True),
        vg.Concat([vg.Dense(2), vg.Activation("tanh")]),
        vg.Dense(2),
    ]
    net = vg.Network(4, layers, dtype="float64", rng=0)
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 2))
    assert vg.testing.check_gradients(net, x, cotangent=v).resolved > 100
    before, gradient = net.parameters(), net.gradients(x, cotangent=v)
    net.step(x, cotangent=v, lr=0.125)
    np.testing.assert_array_equal(
        net.parameters()["2.scale"], before["2.scale"] - 0.125 * gradient["2.scale"]
    )
    noisy = vg.Network(4, [vg.Dropout(0.5), *layers, vg.Dropout(0.5)], dtype="float64", rng=0)
    vg.set_num_threads(1)
    one = noisy.gradients(x, cotangent=v)
    vg.set_num_threads(3)
    three = noisy.gradients(x, cotangent=v)
    assert all(one[name].tobytes() == three[name].tobytes() for name in one)


def test_lyapunov_exponents_go_through_branches() -> None:
    """A gain g in every step, and nothing else, is an exponent of ln g."""
    net = vg.Network(4, [vg.Repeat(vg.Residual(vg.Dense(4, init="zeros"), shortcut=0.75), 50)], rng=0)
    np.testing.assert_allclose(net.lyapunov(np.ones((1, 4), np.float32), k=2), np.log(0.75), rtol=1e-6)


# --- messages -----------------------------------------------------------------------------------------------

D = vg.Dense(4)
MESSAGES: list[tuple[Any, list[str]]] = [
    (lambda: vg.Residual(D, survival=0), ["survival", "0 < survival <= 1", "got 0", "leave it out"]),
    (lambda: vg.Residual(D, survival=1.5), ["survival", "probability", "got 1.5"]),
    (lambda: vg.Residual(D, shortcut="identity"), ["shortcut", "number", "'identity'"]),  # type: ignore[arg-type]
    (lambda: vg.Residual(D, shortcut=[]), ["shortcut", "at least one layer"]),
    (lambda: vg.Residual(D, learned=1), ["learned", "True or False"]),  # type: ignore[arg-type]
    (lambda: vg.Highway(D, activation="tanh"), ["activation", "body", "what the transform is"]),
    (lambda: vg.Highway(activation=3), ["activation", "'tanh'", "3 (int)"]),  # type: ignore[arg-type]
    (lambda: vg.Highway(transform_bias=float("nan")), ["transform_bias", "finite"]),
    (lambda: vg.Highway([]), ["body", "at least one layer"]),
    (lambda: vg.Concat([]), ["body", "at least one layer"]),
    (lambda: vg.Dropout(1.0), ["p: expected 0 <= p < 1", "nothing would be left"]),
    (lambda: vg.Dropout(-0.1), ["p", "probability", "got -0.1"]),
    (
        lambda: vg.Network(4, [vg.Repeat([vg.Dropout(0.5, name=""), vg.Dropout(0.5, name="")], 2, name="r")]),
        ['"r"', "draw random numbers", "another name"],
    ),
    (lambda: vg.mlp(5, 4, skip="long"), ["skip", "'long:k'", "did you mean 'long:4'"]),
    (lambda: vg.mlp(5, 4, skip="long:9"), ["'long:k'", "1 to depth=5", "'long:9'"]),
    (lambda: vg.mlp(5, 4, skip="long:²"), ["skip", "'long:k'", "got 'long:²'"]),
    (lambda: vg.mlp(2, 4, skip="unet"), ["'unet'", "at least 3 steps", "depth=2"]),
    (lambda: vg.mlp(5, 4, skip="fixup", init="looks_like"), ["looks_like"]),
]


@pytest.mark.parametrize(("call", "words"), MESSAGES)
def test_messages_say_what_was_expected(call: Any, words: list[str]) -> None:
    with refused(vg.VgcoreError, *words):
        call()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (vg.Residual(vg.Dense(7)), ["layers[0]", "Residual", "expected 4, got 7", "projection"]),
        (
            vg.Residual(vg.Dense(7), shortcut=[vg.Dense(5)]),
            ["layers[0]", "shortcut ends with 5", "body with 7", "Dense(7)"],
        ),
        (vg.Highway(vg.Dense(7)), ["layers[0]", "Highway", "expected 4, got 7", "gate mixes"]),
    ],
)
def test_widths_that_do_not_meet_say_where(layer: Any, words: list[str]) -> None:
    with refused(vg.ShapeError, *words):
        vg.Network(4, [layer])


@pytest.mark.parametrize("inside", [vg.Concat, vg.Highway, vg.Residual])
def test_time_stays_outside(inside: Any) -> None:
    with refused(vg.ArgumentError, "layers[0].body[0]", f"inside a {inside.__name__}"):
        vg.Network(4, [inside(vg.Recurrent("gru", 4))])


def test_kinds_of_shapes() -> None:
    """Gradients of a projection, against those of the oracle's own naming."""
    net = vg.Network(3, [vg.Residual(vg.Dense(5), shortcut=[vg.Dense(5, bias=False)], scale=2.0)], rng=0)
    x, v = pair(net)
    found = net.gradients(x, cotangent=v)
    assert gap_by_norm(found.scaled("0.0.weight"), (2 * v.T @ x, 0)) < 1e-6
    assert gap_by_norm(found.scaled("0.shortcut.0.weight"), (v.T @ x, 0)) < 1e-6
