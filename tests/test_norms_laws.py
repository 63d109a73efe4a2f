"""Tests of laws that normalisation obeys, and that threads, plans and instruction paths change no bit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import vgcore as vg
from helpers import assert_close, double, functions_of, gap_by_norm, in_range, to_oracle
from hypothesis import assume, given, note
from hypothesis import strategies as st
from networks_norms import EVERY, KINDS, deep, draw, everything, known_answers_of_norms
from oracle_activations import ACTIVATIONS
from oracle_branches import Training
from vgcore._rng import key_of
from vgcore.layers import Layer


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = vg.get_num_threads()
    yield
    vg.set_num_threads(before)


# --- laws ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.1, 10.0, 1000.0])
def test_scaling_the_weights_in_front_changes_nothing(a: float) -> None:
    """BN((aW)u) = BN(Wu); dL/du is unchanged, dL/d(aW) = dL/dW / a."""
    entry = known_answers_of_norms()["batchnorm_scale_invariance"]
    rtol = entry["tolerance"]["rel"]
    for norm in (vg.BatchNorm(eps=0.0), vg.LayerNorm(eps=0.0), vg.RMSNorm(eps=0.0), vg.GroupNorm(2, eps=0.0)):
        net = vg.Network(5, [vg.Dense(6, bias=False), norm], dtype="float64", rng=1)
        x, v, start = draw((7, 5)), draw((7, 6), 1), net.parameters()
        y, g = net.forward(x, training=True), net.gradients(x, cotangent=v)
        net.load_parameters(start | {"0.weight": a * start["0.weight"]})
        assert np.abs(net.forward(x, training=True) - y).max() <= rtol * np.abs(y).max()
        h = net.gradients(x, cotangent=v)
        assert np.abs(a * h["0.weight"] - g["0.weight"]).max() <= 100 * rtol * np.abs(g["0.weight"]).max()
        one, other = (np.ldexp(m, np.asarray(e)[:, None]) for m, e in (g.scaled_input, h.scaled_input))
        assert np.abs(one - other).max() <= 100 * rtol * np.abs(one).max()


def test_a_shift_of_all_units_changes_no_layer_norm() -> None:
    net = vg.Network(8, [vg.LayerNorm()], dtype="float64", rng=0)
    x = draw((3, 8))
    assert np.abs(net.forward(x + 100.0) - net.forward(x)).max() < 1e-12
    one = vg.Network(8, [vg.GroupNorm(1)], dtype="float64")
    assert one.forward(x).tobytes() == net.forward(x).tobytes()


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaling_the_cotangent_moves_log_norms_exactly(kind: str, dtype: str) -> None:
    """At 1e-4000 too: exponents pass through."""
    faint = [vg.Dense(8, init="orthogonal"), vg.Activation("sigmoid")]
    norm = KINDS[kind]
    body: list[Layer] = [vg.Dense(8), norm, vg.Activation("tanh"), vg.Residual([norm, vg.Dense(8)])]
    net = vg.Network(8, [*body, vg.Repeat(faint, 6600), norm, vg.Dense(8)], dtype=dtype, rng=2)
    x, v = draw((6, 8), 1, dtype), draw((6, 8), 2, dtype)
    flows = [net.probe(x, cotangent=v * dtype_of(dtype)(2.0**k), stats="norms") for k in (0, 3, -20)]
    assert flows[0].log10_grad_norm[0] < -3000
    for k, flow in zip((3, -20), flows[1:], strict=True):
        for key in ("grad_log2_norm", "delta_log2_norm", "weight_grad_log2_norm", "bias_grad_log2_norm"):
            got, base = np.asarray(flow.raw[key]), np.asarray(flows[0].raw[key])
            finite = np.isfinite(base)
            assert finite.sum() > 3
            assert np.array_equal(got[~finite], base[~finite], equal_nan=True)
            assert np.abs(got[finite] - base[finite] - k).max() < 1e-9, key


def dtype_of(name: str) -> Any:
    return np.dtype(name).type


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_samples_of_very_different_gradients(kind: str) -> None:
    """Rows whose exponents lie far apart: the larger ones count, and a row of zeros sets no scale."""
    net = vg.Network(4, [vg.Dense(4), KINDS[kind], vg.Activation("tanh")], dtype="float32", rng=0)
    x, v = draw((3, 4), 1, "float32"), draw((3, 4), 2, "float32")
    v[0], v[1] = 0.0, v[1] * np.float32(1e-35)
    whole = vg.Network(4, net.layers, dtype="float64", rng=0)
    whole.load_parameters({name: a.astype(np.float64) for name, a in net.parameters().items()})
    a, b = (
        net.gradients(x, cotangent=v),
        whole.gradients(x.astype(np.float64), cotangent=v.astype(np.float64)),
    )
    for name in a:
        scale = np.abs(b[name]).max()
        if name != "0.bias" or kind != "batch":
            assert np.abs(a[name] - b[name]).max() <= 2e-5 * scale, name
    m, e = a.scaled_input
    n, f = b.scaled_input
    if kind == "layer":
        assert not m[0].any()
        assert_close(
            np.log2(np.linalg.norm(m[1].astype(float))) + e[1],
            np.log2(np.linalg.norm(n[1])) + f[1],
            1e-5,
            "row",
        )


# --- bits ---------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("batch", "width"), [(2, 2), (3, 6), (17, 34), (70, 8), (33, 64), (70, 128)])
def test_bits_over_threads_and_plans(kind: str, dtype: str, batch: int, width: int) -> None:
    """Where rows see each other, the last size is worth a meeting, and the one before on near cores."""
    norm = vg.GroupNorm(1) if kind == "group" and width == 2 else KINDS[kind]
    for tied in (False, True):
        net = deep(norm, width=width, dtype=dtype, tied=tied)
        x, v = draw((batch, width), 1, dtype), draw((batch, 3), 2, dtype)
        vg.set_num_threads(1)
        reference = everything(net, x, v)
        least = least_budget(net, batch)
        for threads in (1, 2, 3, 7):
            vg.set_num_threads(threads)
            for budget in (None, least):
                got = everything(net, x, v, budget)
                different = [key for key in reference if got[key] != reference[key]]
                assert not different, f"{threads} threads, budget {budget}: {different}"


def least_budget(net: vg.Network, batch: int) -> int:
    """A power of two of bytes that a pass keeps to on the most threads, with half of which it could not."""
    x, v = np.zeros((batch, net.in_features), net.dtype), np.zeros((batch, 3), net.dtype)
    vg.set_num_threads(7)
    for power in range(10, 34):
        try:
            net.gradients(x, cotangent=v, memory_budget=1 << power)
            net.probe(x, cotangent=v, memory_budget=1 << power)
        except vg.MemoryBudgetError:
            continue
        return 1 << power
    raise AssertionError("no budget is enough")


def test_networks_in_several_python_threads() -> None:
    """The pool is one: whoever does not get it works alone, to the same bits."""
    from concurrent.futures import ThreadPoolExecutor

    vg.set_num_threads(2)
    net = deep(KINDS["batch"], width=128, dtype="float32")
    x, v = draw((70, 128), 1, "float32"), draw((70, 3), 2, "float32")
    reference = everything(net, x, v)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: everything(net.copy(), x, v), range(24)):
            assert found == reference


def test_initial_values_without_storage() -> None:
    body = [vg.Dense(6), vg.BatchNorm(), vg.Activation("relu"), vg.LayerNorm()]
    kept, made = (vg.Network(6, [vg.Repeat(body, 30)], rng=4, stored=stored) for stored in (True, False))
    x, v = draw((4, 6), 1, "float32"), draw((4, 6), 2, "float32")
    assert kept.forward(x).tobytes() == made.forward(x).tobytes()
    a, b = (net.probe(x, cotangent=v, lr=0.1).raw for net in (kept, made))
    for key in set(a) - {"plan", "segment", "recompute"}:
        assert np.array_equal(np.asarray(a[key]), np.asarray(b[key]), equal_nan=a[key] is not None), key


def network_of_every_norm(dtype: str, width: int) -> vg.Network:
    layers = [layer for kind in KINDS if kind != "group" for layer in (vg.Dense(width), KINDS[kind])]
    step: list[Layer] = [vg.Residual([*layers, vg.Activation("gelu")], scale=0.5)]
    return vg.Network(width, [vg.Repeat(step, 2), vg.Dense(3)], dtype=dtype, rng=9)


def hashes() -> dict[str, str]:
    """Passes and steps through every normalisation at odd shapes, as hashes."""
    found = {}
    for dtype in ("float32", "float64"):
        for batch, width in ((2, 1), (3, 5), (17, 33), (5, 67), (65, 16), (70, 130)):
            x, v = draw((batch, width), 1, dtype), draw((batch, 3), 2, dtype)
            for key, value in everything(network_of_every_norm(dtype, width), x, v).items():
                found[f"{dtype} {batch}x{width} {key}"] = hashlib.sha256(value).hexdigest()[:16]
    return found


@pytest.mark.parametrize("isa", vg.config()["isa_available"])
def test_every_instruction_path_gives_the_same_bits(isa: str) -> None:
    code = (
        "import json, test_norms_laws as t, vgcore as vg\nprint(json.dumps([vg.config()['isa'], t.hashes()]))"
    )
    here = str(Path(__file__).resolve().parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "VGCORE_ISA": isa, "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    used, found = json.loads(run.stdout)
    assert used == isa
    different = [key for key, value in hashes().items() if found[key] != value]
    assert not different


# --- random networks ----------------------------------------------------------------------------------------


@given(
    vg.testing.networks(dtype="float64", coupled=True, noise=True),
    st.booleans(),
    st.integers(2, 5),
    st.integers(0, 2**32 - 1),
)
def test_random_networks_against_the_oracle(net: vg.Network, training: bool, batch: int, seed: int) -> None:
    """Every layer together, samples that see each other among them: values, gradients, norms, derivatives."""
    note(repr(net.layers))
    assume(functions_of(net.layers) <= set(ACTIVATIONS))
    rng = np.random.default_rng(seed)
    x, v = (rng.normal(size=(batch, n)) for n in (net.in_features, net.out_features))
    layers = to_oracle(net.layers)
    parameters = {name: double(value) for name, value in net.parameters().items()}
    drawn = Training(key_of(net.seed)) if training else None
    run = oracle.gradients(layers, parameters, x, cotangent=v, training=drawn)
    assume(np.isfinite(run.grad).any() and np.all(run.grad < 1000))
    assume(in_range(layers, parameters, x, 1e-100, drawn))
    output = net.forward(x, training=training)
    np.testing.assert_allclose(output, run.output, rtol=1e-9, atol=1e-12 * np.abs(run.output).max())
    found = net.gradients(x, cotangent=v, training=training)
    flow = net.probe(x, cotangent=v, training=training)
    # what batch normalisation takes away is zero but for rounding, here and there
    top = max(run.grad[np.isfinite(run.grad)].max(), 0.0)
    for name, expected in run.parameters.items():
        (m, e), (n, f) = found.scaled(name), expected
        if max(size(m, e), size(n, f)) > top - 30:
            assert gap_by_norm((m, e), (n, f)) < 1e-7, name
    for key, norms in (("grad", run.grad), ("delta", run.delta), ("weight_grad", run.weight)):
        got, seen = flow.raw[f"{key}_log2_norm"], np.nan_to_num(norms, nan=np.inf) > top - 30
        np.testing.assert_allclose(got[seen], norms[seen], rtol=1e-12, atol=1e-6, err_msg=key)


def size(mantissa: Any, exponent: Any) -> float:
    """log2 of the norm of a scaled array."""
    m = np.atleast_1d(double(mantissa))
    e = np.asarray(exponent).reshape(np.shape(exponent) + (1,) * (m.ndim - np.ndim(exponent))) + 0 * m
    rows = m != 0
    return float((np.log2(np.abs(m[rows])) + e[rows]).max()) if rows.any() else -np.inf
