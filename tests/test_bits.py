"""Tests that every instruction path and every thread count of this machine gives the same bits, on odd shapes
too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg

PATHS = vg.config()["isa_available"]
THREADS = (1, 2, 3, 7)
# (batch, width): one element, no full vector, a vector and a rest, the longest chain of sums the kernels
# split
SHAPES = ((1, 1), (3, 5), (1, 16), (17, 33), (2, 515), (65, 40))


def digest(*arrays: Any) -> str:
    """Hash of shapes, types and bytes."""
    found = hashlib.sha256()
    for array in arrays:
        value = np.ascontiguousarray(array)
        found.update(f"{value.shape}{value.dtype}".encode())
        found.update(value.tobytes())
    return found.hexdigest()[:16]


def digest_flow(flow: vg.GradientFlow) -> str:
    """Hash of all that a pass reports, without how it went about it."""
    keys = sorted(set(flow.raw) - {"plan", "segment", "recompute"})
    return digest(*(np.asarray(flow.raw[key], np.float64 if flow.raw[key] is None else None) for key in keys))


def activations_and_initializers(dtype: str) -> dict[str, str]:
    """Every activation over a wide range of arguments, every initializer at every shape."""
    rng, found = np.random.default_rng(0), {}
    x = np.concatenate(
        [
            rng.normal(size=515) * 3,
            rng.normal(size=515) * 100,
            np.linspace(-20, 20, 1001),
            [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, np.inf, -np.inf, np.nan],
        ]
    ).astype(dtype)
    for name in vg.activations.names():
        # a NaN is a NaN, whatever its payload
        value, slope = (
            np.nan_to_num(f(name, x), nan=7.0) for f in (vg.activations.value, vg.activations.derivative)
        )
        mantissa, exponent = vg.activations.scaled_derivative(name, x)
        found[f"{dtype} {name}"] = digest(value, slope, np.nan_to_num(mantissa, nan=7.0), exponent)
    for name in vg.initializers.names():
        init = vg.initializers.Initializer(name)
        samples = [
            init.sample(shape, dtype=dtype, rng=3) for shape in ((1, 1), (3, 5), (33, 17), (515, 3), (64, 64))
        ]
        found[f"{dtype} {name}"] = digest(*samples)
    return found


def network(dtype: str, width: int) -> vg.Network:
    """Own and shared steps, branches of every kind, a learned slope, several activations."""
    return vg.Network(
        width,
        [
            vg.Dense(width, sigma_b2=0.1),
            vg.Activation("gelu"),
            vg.Repeat(
                [vg.Residual([vg.Dense(width), vg.Activation("tanh")], scale=0.5), vg.Activation("prelu")], 3
            ),
            vg.Repeat([vg.Dense(width, sigma_b2=0.1), vg.Activation("silu")], 3, tied=True),
            vg.Repeat(
                [
                    vg.Highway(activation="tanh"),
                    vg.Dropout(0.2),
                    vg.Residual(vg.Dense(width), learned=True, scale=0.5, survival=0.7, shortcut=0.9),
                ],
                3,
            ),
            vg.Highway(vg.Dense(width), coupled=False),
            vg.Concat([vg.Dense(3), vg.Activation("tanh")]),
            vg.Dense(7),
        ],
        dtype=dtype,
        rng=9,
    )


def passes(dtype: str) -> dict[str, str]:
    """Forward, gradients, probe and two training steps of a network at each shape."""
    found = {}
    for batch, width in SHAPES:
        rng = np.random.default_rng(batch * width)
        x, labels = rng.normal(size=(batch, width)).astype(dtype), rng.integers(0, 7, batch)
        net = network(dtype, width)
        gradients = net.gradients(x, labels, loss="cross_entropy")
        parts = [part for name in gradients for part in gradients.scaled(name)]
        key = f"{dtype} {batch}x{width}"
        found[f"{key} forward"] = digest(net.forward(x))
        found[f"{key} gradients"] = digest(*parts, *gradients.scaled_input)
        found[f"{key} probe"] = digest_flow(net.probe(x, labels, loss="cross_entropy", lr=0.01))
        flows = [net.step(x, labels, loss="cross_entropy", lr=0.05) for _ in range(2)]
        found[f"{key} steps"] = digest(*net.parameters().values()) + "".join(map(digest_flow, flows))
        stats = vg.gradient_stats(x * np.float32(1e-30)).to_dict()
        found[f"{key} stats"] = digest(np.array(json.dumps(stats, sort_keys=True)))
    return found


def everything() -> dict[str, str]:
    """All hashes of this process."""
    found: dict[str, str] = {}
    for dtype in ("float32", "float64"):
        found |= activations_and_initializers(dtype) | passes(dtype)
    return found


def in_a_process(**environment: str) -> dict[str, str]:
    """`everything` in a fresh process with these environment variables, and the path it says it takes."""
    code = "import json, test_bits, vgcore as vg\n"
    code += "print(json.dumps([vg.config()['isa'], test_bits.everything()]))"
    here = str(Path(__file__).resolve().parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    isa, found = json.loads(run.stdout)
    assert isa == environment.get("VGCORE_ISA", isa)
    return dict(found)


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return everything()


@pytest.mark.parametrize("isa", PATHS)
def test_every_instruction_path_gives_the_same_bits(isa: str, reference: dict[str, str]) -> None:
    found = in_a_process(VGCORE_ISA=isa)
    different = [key for key in reference if found[key] != reference[key]]
    assert not different, f"{isa} differs in {different}"


@pytest.mark.parametrize("threads", THREADS)
def test_every_thread_count_gives_the_same_bits(threads: int, reference: dict[str, str]) -> None:
    before = vg.get_num_threads()
    vg.set_num_threads(threads)
    try:
        found = {key: value for dtype in ("float32", "float64") for key, value in passes(dtype).items()}
    finally:
        vg.set_num_threads(before)
    different = [key for key in found if found[key] != reference[key]]
    assert not different, f"{threads} threads differ in {different}"


def test_the_environment_sets_the_thread_count() -> None:
    code = "import vgcore as vg; print(vg.get_num_threads())"
    env = {**os.environ, "VGCORE_NUM_THREADS": "3"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "3"
