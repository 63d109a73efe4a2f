"""Tests of weights that are made from a matrix and a vector: PyTorch's numbers, exact derivatives, range,
bits, and all that a network does with its parameters."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import DATA, assert_close, portable_data
from hypothesis import assume, given, note
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusals import refused

RTOL = 1e-12
NAMES = vg.parametrizations.names()
PATHS = vg.config()["isa_available"]
INITS = vg.testing.initializers(["he_normal", "glorot_uniform", "orthogonal", "lecun_normal"])


def golden() -> dict[str, dict[str, Any]]:
    cases = json.loads((DATA / "torch_weights.json").read_text())["cases"]
    return {case["case"]: case for case in cases}


def made(name: str, v: NDArray[Any], g: NDArray[Any], **params: float) -> NDArray[Any]:
    """The effective weights, written down independently; the last axis is a row."""
    if name == "weight_norm":
        return np.asarray(g[..., None] * v / np.sqrt((v * v).sum(-1, keepdims=True)))
    centred = v - v.mean(-1, keepdims=True)
    std = np.sqrt((centred**2).mean(-1, keepdims=True))
    return np.asarray(g[..., None] * centred / ((std + params.get("eps", 1e-5)) * np.sqrt(v.shape[-1])))


def network(
    name: str | None, *, dtype: str = "float64", tied: bool = False, times: int = 3, **options: Any
) -> vg.Network:
    """Own copies or shared ones, in a Repeat and beside it, with and without biases."""
    step = [
        vg.Residual([vg.Dense(6, parametrization=name, bias=False), vg.Activation("tanh")], scale=0.5),
        vg.Dense(6, parametrization=name, init="glorot_normal"),
        vg.Activation("softplus"),
    ]
    layers = [
        vg.Dense(6, parametrization=name, init="glorot_normal", name="in"),
        vg.Activation("tanh"),
        vg.Repeat(step, times, tied=tied, name="hidden"),
        vg.Dense(3, parametrization=name, init="glorot_normal", name="out"),
    ]
    return vg.Network(4, layers, dtype=dtype, rng=5, **options)


def data(dtype: str = "float64", batch: int = 7) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(batch, 4)).astype(dtype), rng.normal(size=(batch, 3)).astype(dtype)


def test_the_golden_linear_layer() -> None:
    case = golden()["linear"]
    layer = vg.Dense(2, parametrization="weight_norm", init=portable_data((2, 3), 0, 0.5), name="a",
                     bias_init=portable_data((2,), 1, 0.5))  # fmt: skip
    net = vg.Network(3, [layer], dtype="float64")
    x, cotangent = portable_data((4, 3), 105, 1.0), portable_data((4, 2), 109, 1.0)
    assert_close(net.forward(x).ravel(), case["y"], RTOL, "y")
    found = net.gradients(x, cotangent=cotangent)
    assert_close(found["a.weight_g"], case["grad_g"], RTOL, "dL/dg")
    assert_close(found["a.weight_v"].ravel(), case["grad_v"], RTOL, "dL/dv")
    assert_close(found.input.ravel(), case["grad_x"], RTOL, "dL/dx")


@pytest.mark.parametrize("name", NAMES)
def test_chains_and_steps_as_pytorch_takes_them(name: str) -> None:
    case = golden()[f"chain_{name}"]
    params = {"eps": 1e-3, "gain": 1.25} if name == "weight_standardized" else {}
    rule = vg.parametrizations.Parametrization(name, params)
    stack = np.stack([portable_data((5, 5), k, 0.8) for k in range(4)])
    biases = np.stack([portable_data((5,), 50 + k, 0.1) for k in range(4)])
    step = [vg.Dense(5, init=stack, bias_init=biases, parametrization=rule, name=""), vg.Activation("tanh")]
    net = vg.Network(5, [vg.Repeat(step, 4, name="h")], dtype="float64")
    x, cotangent = portable_data((6, 5), 105, 1.0), portable_data((6, 5), 109, 1.0)
    found, (matrix, vector) = net.gradients(x, cotangent=cotangent), rule.leaves
    assert_close(net.forward(x).ravel(), case["y"], RTOL, "y")
    assert_close(found.input.ravel(), case["grad_x"], 1e-11, "dL/dx")
    for leaf, key in ((matrix, "matrix"), (vector, "vector"), ("bias", "bias")):
        assert_close(found[f"h.{leaf}"].reshape(4, -1), case[f"grad_{key}"], 1e-11, leaf)
    for _ in range(3):
        net.step(x, cotangent=cotangent, lr=0.05)
    for leaf, key in ((matrix, "matrix"), (vector, "vector")):
        assert_close(net.parameters()[f"h.{leaf}"].reshape(4, -1), case[f"steps_{key}"], RTOL, leaf)
    assert_close(net.forward(x).ravel(), case["steps_y"], RTOL, "output after three steps")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_derivatives(name: str, tied: bool) -> None:
    net = network(name, tied=tied)
    x, cotangent = data()
    found, start = net.gradients(x, cotangent=cotangent), net.parameters()
    for key, value in start.items():
        direction = np.random.default_rng(len(key)).normal(size=value.shape)
        ends = []
        for h in (1e-5, -1e-5):
            net.load_parameters(start | {key: value + h * direction})
            ends.append(float((net.forward(x) * cotangent).sum()))
        slope = (ends[0] - ends[1]) / 2e-5
        assert_close(np.float64((found[key] * direction).sum()), np.float64(slope), 1e-7, key)


@pytest.mark.parametrize("name", NAMES)
def test_the_shared_gradient_is_the_sum_of_own_ones(name: str) -> None:
    shared, own = network(name, tied=True), network(name)
    values = shared.parameters()
    own.load_parameters({k: np.broadcast_to(values[k], s) for k, s in own.parameter_shapes().items()})
    x, cotangent = data()
    a, b = shared.gradients(x, cotangent=cotangent), own.gradients(x, cotangent=cotangent)
    for key, value in values.items():
        total = b[key].sum(0) if b[key].shape != value.shape else b[key]
        assert np.linalg.norm(a[key] - total) <= 1e-13 * np.linalg.norm(total), key


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weight_norm_starts_as_the_weights_it_replaces(dtype: str) -> None:
    net, plain = network("weight_norm", dtype=dtype), network(None, dtype=dtype)
    x, _ = data(dtype)
    for key, weight in net.effective_weights().items():
        assert weight.tobytes() == plain.parameters()[key].tobytes(), key
    assert net.forward(x).tobytes() == plain.forward(x).tobytes()
    flow, before = (n.probe(x, cotangent=data(dtype)[1]) for n in (net, plain))
    np.testing.assert_array_equal(flow.log10_delta_norm, before.log10_delta_norm)
    assert (flow.log10_weight_grad_norm <= before.log10_weight_grad_norm).all()  # a part of it is dL/dg


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_effective_weights_follow_the_parameters(name: str, tied: bool, tmp_path: Path) -> None:
    matrix, vector = vg.parametrizations.Parametrization(name).leaves

    def check(net: vg.Network) -> None:
        values = net.parameters()
        for key, weight in net.effective_weights().items():
            at = key.removesuffix("weight")
            assert_close(weight, made(name, values[at + matrix], values[at + vector]), RTOL, key)

    net = network(name, tied=tied)
    x, y = data()
    check(net)
    before = net.effective_weights()["out.weight"]
    for _ in range(2):
        net.step(x, y, loss="mse", lr=0.5)
    assert (net.effective_weights()["out.weight"] != before).any()
    check(net)
    changed = {k: v + 0.1 * np.cos(np.arange(v.size)).reshape(v.shape) for k, v in net.parameters().items()}
    net.load_parameters(changed)
    check(net)
    net.save(tmp_path / "net.safetensors")
    loaded = vg.load(tmp_path / "net.safetensors")
    for twin in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), loaded):
        check(twin)
        assert twin.forward(x).tobytes() == net.forward(x).tobytes()
        assert twin.layers == net.layers
        net.step(x, y, loss="mse", lr=0.5)  # a copy shares nothing
        assert twin.forward(x).tobytes() != net.forward(x).tobytes()
        net.load_parameters(changed)


@given(
    vg.testing.networks(
        dtype="float64", parametrized=True, max_width=8, initializers=INITS, max_layers=3, nesting=1
    ),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
)
def test_random_networks_step_by_step(net: vg.Network, batch: int, seed: int) -> None:
    """Beside every other layer, and inside them."""
    note(repr(net.layers))
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(batch, net.in_features)), rng.normal(size=(batch, net.out_features))
    try:
        report = vg.testing.check_gradients(net, x, cotangent=v, max_entries=16, rng=seed)
    except vg.testing.GradientCheckError as error:
        if "exactly zero" in str(error) or "too noisy" in str(error):
            assume(False)
        raise
    assert report.resolved > 0


@pytest.mark.parametrize("clip", [None, vg.ClipNorm(1e-3)])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_training_keeps_them_up_to_date(name: str, tied: bool, clip: Any) -> None:
    """However a step is taken: by SGD or with a state, at once or after the norm of everything is known."""
    net = network(name, tied=tied)
    x, y = data(batch=32)
    for optimizer in (vg.SGD(0.01), vg.Adam(0.01)):
        before = net.effective_weights()["out.weight"]
        net.fit(x, y, epochs=2, batch_size=8, optimizer=optimizer, clip=clip, rng=0)
        assert (net.effective_weights()["out.weight"] != before).any()
        matrix, vector = vg.parametrizations.Parametrization(name).leaves
        values = net.parameters()
        for key, weight in net.effective_weights().items():
            at = key.removesuffix("weight")
            assert_close(weight, made(name, values[at + matrix], values[at + vector]), RTOL, key)


def test_dl_dv_is_orthogonal_to_v() -> None:
    net = network("weight_norm", dtype="float32")
    x, cotangent = data("float32")
    found = net.gradients(x, cotangent=cotangent)
    for key in (k for k in found if k.endswith("weight_v")):
        v, d = np.float64(net.parameters()[key]), np.float64(found[key])
        along = np.abs((v * d).sum(-1)) / np.linalg.norm(v, axis=-1) / np.linalg.norm(d, axis=-1)
        assert along.max() < 2e-6, key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("power", [-90, -20, 20, 90])
def test_no_gradient_is_lost_where_v_is_tiny_or_huge(name: str, power: int) -> None:
    """w does not change with |v|, so dL/dv is exactly 2^-power times what it was."""
    rule = vg.parametrizations.Parametrization(name, {"eps": 0.0} if name == "weight_standardized" else {})
    net = network(rule, dtype="float32")  # type: ignore[arg-type]
    x, cotangent = data("float32")
    before, values = net.gradients(x, cotangent=cotangent), net.parameters()
    matrix, _ = rule.leaves
    net.load_parameters(
        {k: v * np.float32(2.0**power) if k.endswith(matrix) else v for k, v in values.items()}
    )
    after = net.gradients(x, cotangent=cotangent)
    flow = net.probe(x, cotangent=cotangent)
    for key in after:
        move = -power if key.endswith(matrix) else 0
        assert after.log2_norm(key) == pytest.approx(before.log2_norm(key) + move, abs=1e-9), key
    assert flow.log10_weight_grad_norm[0] == pytest.approx(
        after.log2_norm(f"in.{matrix}") * np.log10(2), abs=1e-9
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_keep_their_exponents_through_depth(name: str) -> None:
    step = [vg.Dense(8, parametrization=name, name=""), vg.Activation("sigmoid")]
    net = vg.Network(8, [vg.Repeat(step, 2000, name="h")], rng=0)
    x = np.random.default_rng(0).normal(size=(4, 8)).astype("f4")
    flow = net.probe(x, cotangent=np.ones((4, 8), np.float32))
    found = net.gradients(x, cotangent=np.ones((4, 8), np.float32))
    assert flow.log10_weight_grad_norm[0] < -500
    mantissa, exponent = found.scaled(f"h.{'weight_v' if name == 'weight_norm' else 'weight'}")
    norm = np.log2(np.linalg.norm(np.float64(mantissa[0]))) + exponent[0]
    assert norm * np.log10(2) == pytest.approx(flow.log10_weight_grad_norm[0], rel=1e-12)


@pytest.mark.parametrize("stats", ["norms", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_keeps_nothing_makes_its_weights_again(name: str, stats: Any) -> None:
    kept, again = (network(name, dtype="float32", stored=stored) for stored in (True, False))
    x, cotangent = data("float32")
    assert kept.forward(x).tobytes() == again.forward(x).tobytes()
    a, b = (n.probe(x, cotangent=cotangent, stats=stats) for n in (kept, again))
    for key in set(a.raw) - {"plan"}:
        np.testing.assert_array_equal(a.raw[key], b.raw[key], key)
    with refused(vg.ArgumentError, "effective_weights", "stored=True"):
        again.effective_weights()


def digest(dtype: str) -> str:
    """Bytes of everything that a pass or a step gives, for every parametrization."""
    found = b""
    for name in NAMES:
        for tied in (False, True):
            net = network(name, dtype=dtype, tied=tied, times=60)
            x, y = data(dtype, 33)
            gradients = net.gradients(x, y, loss="mse", memory_budget=BUDGET)
            found += b"".join(a.tobytes() for k in gradients for a in gradients.scaled(k))
            flow = net.probe(x, y, loss="mse", stats="full", lr=0.1)
            for figures in (flow.log10_weight_grad_norm, flow.raw["weight_unchanged"]):
                found += np.asarray(figures).tobytes()
            for _ in range(2):
                net.step(x, y, loss="mse", lr=0.1)
            found += b"".join(v.tobytes() for v in net.effective_weights().values())
            found += b"".join(v.tobytes() for v in net.parameters().values())
    return found.hex()


BUDGET: str | None = None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads_or_plans(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, threads = digest(dtype), vg.get_num_threads()
    try:
        for n in (1, 2, 3, 7):
            vg.set_num_threads(n)
            assert digest(dtype) == expected, n
    finally:
        vg.set_num_threads(threads)
    monkeypatch.setattr(sys.modules[__name__], "BUDGET", "140kB" if dtype == "float32" else "280kB")
    plan = network(NAMES[0], dtype=dtype, times=60).memory_plan(
        batch=33, memory_budget=BUDGET, mode="gradients"
    )
    assert "again" in plan
    assert digest(dtype) == expected


@pytest.mark.parametrize("path", [p for p in PATHS if p != PATHS[-1]])
def test_bits_do_not_depend_on_instructions(path: str) -> None:
    script = (
        "import hashlib, test_parametrizations as t; both = t.digest('float32') + t.digest('float64');"
        "print(hashlib.sha256(both.encode()).hexdigest())"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}

    def run(isa: str) -> str:
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, env=env | {"VGCORE_ISA": isa}, capture_output=True, text=True, check=True
        ).stdout

    assert run(path) == run(PATHS[-1])


def test_rows_without_a_direction_stay_zero() -> None:
    layer = vg.Dense(3, init="zeros", parametrization="weight_norm", name="a")
    net = vg.Network(4, [layer], rng=0)
    x = np.ones((2, 4), np.float32)
    flow = net.step(x, cotangent=np.ones((2, 3), np.float32), lr=0.1)
    assert not net.effective_weights()["a.weight"].any()
    assert np.isneginf(flow.log10_weight_grad_norm[0])
    assert np.isfinite(net.parameters()["a.weight_v"]).all()


@pytest.mark.parametrize("rule", ["weight_norm", "weight_standardized"])
def test_what_spares_the_last_layer_spares_what_its_weight_is_made_from(rule: str) -> None:
    x = np.random.default_rng(3).normal(size=(8, 4)).astype(np.float32)
    found = []
    for clip in (None, vg.AGC(1e-6)):
        parts = [vg.Dense(n, parametrization=rule, name=name) for n, name in ((4, "a"), (3, "z"))]
        net = vg.Network(4, [parts[0], vg.Activation("tanh"), parts[1]], rng=0)
        net.fit(x, np.arange(8) % 3, epochs=1, batch_size=8, optimizer=vg.SGD(0.1), clip=clip)
        found.append(net.parameters())
    for name, value in found[0].items():
        assert (value == found[1][name]).all() == name.startswith("z."), name


def test_descriptions_and_refusals() -> None:
    rule = vg.parametrizations.weight_standardized(gain=1.5)
    layer = vg.Dense(4, parametrization=rule)
    assert layer == vg.Dense(4, parametrization=vg.parametrizations.weight_standardized(gain=1.5))
    assert hash(layer) == hash(vg.Dense(4, parametrization=rule))
    assert "parametrization=weight_standardized(gain=1.5)" in repr(layer)
    net = vg.Network(3, [layer], rng=0)
    assert net.parameter_shapes() == {"0.weight": (4, 3), "0.gain": (4,), "0.bias": (4,)}
    assert (net.parameters()["0.gain"] == 1.5).all()
    assert net.num_parameters == 20
    assert "weight_standardized" in net.summary()
    with refused(vg.UnknownNameError, "weight_nrom", "'weight_norm'", "vg.parametrizations.names()"):
        vg.Dense(4, parametrization="weight_nrom")
    with refused(vg.ArgumentError, "parametrization", "weight_norm", "3"):
        vg.Dense(4, parametrization=3)  # type: ignore[arg-type]
    with refused(vg.ArgumentError, "parametrization", "call the parametrization first"):
        vg.Dense(4, parametrization=vg.parametrizations.weight_norm)  # type: ignore[arg-type]
    with refused(vg.ArgumentError, "weight_standardized", "eps", "-1"):
        vg.parametrizations.weight_standardized(eps=-1.0)
    with refused(vg.ArgumentError, "weight_norm", "gain"):
        vg.parametrizations.weight_norm(gain=1.0)
    with refused(vg.ArgumentError, "parameters", "0.gain"):
        net.load_parameters({"0.weight": np.ones((4, 3), np.float32), "0.bias": np.zeros(4, np.float32)})
    with refused(vg.UnknownNameError, "0.weight.effective"):
        net.load_parameters({"0.weight.effective": np.ones((4, 3), np.float32)})
