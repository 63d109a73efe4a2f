"""Tests of running beside others: Python threads that probe at once, a fork after first use, thread
counts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import vgcore as vg


def work(seed: int) -> bytes:
    """One network's probe and gradients, as bytes."""
    net = vg.mlp(40, 48, in_features=5, activation="gelu", rng=seed)
    x = np.random.default_rng(seed).normal(size=(33, 5)).astype(np.float32)
    v = np.ones((33, 48), np.float32)
    found = net.gradients(x, cotangent=v)
    flow = net.probe(x, cotangent=v)
    return b"".join([found.scaled(name)[0].tobytes() for name in found] + [flow.log10_grad_norm.tobytes()])


def test_python_threads_probe_at_once_and_get_their_own_results() -> None:
    expected = [work(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(12))) == expected


def test_one_network_serves_several_threads() -> None:
    net = vg.mlp(100, 32, activation="tanh", rng=0)
    x = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)
    expected = net.probe(x, cotangent=x).log10_grad_norm
    with ThreadPoolExecutor(4) as pool:
        for flow in pool.map(lambda _: net.probe(x, cotangent=x), range(16)):
            np.testing.assert_array_equal(flow.log10_grad_norm, expected)


def test_python_runs_on_during_a_pass() -> None:
    """The interpreter is released: another thread counts while a long pass runs."""
    net = vg.mlp(3000, 64, activation="tanh", rng=0)
    x = np.ones((64, 64), np.float32)
    done, ticks = threading.Event(), 0

    def probe() -> None:
        net.probe(x, cotangent=x)
        done.set()

    thread = threading.Thread(target=probe)
    thread.start()
    while not done.is_set():
        ticks += 1
        done.wait(0.001)
    thread.join()
    assert ticks > 3


def test_thread_counts_change_while_others_run() -> None:
    before = vg.get_num_threads()
    try:
        expected = work(3)
        with ThreadPoolExecutor(3) as pool:
            runs = [pool.submit(work, 3) for _ in range(9)]
            for threads in (1, 4, 2, 7, 1, 3):
                vg.set_num_threads(threads)
                assert vg.get_num_threads() == threads
            assert all(run.result() == expected for run in runs)
    finally:
        vg.set_num_threads(before)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "two", None, True])
def test_bad_thread_counts_are_typed_errors(bad: Any) -> None:
    with pytest.raises(vg.ArgumentError, match=r"threads|integer"):
        vg.set_num_threads(bad)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "VGCORE_NUM_THREADS",
            "abc",
            'expected an integer from 1 to 1024, got "abc"; correct it, or leave it out',
        ),
        ("VGCORE_NUM_THREADS", "0", 'expected an integer from 1 to 1024, got "0"'),
        ("VGCORE_NUM_THREADS", "-1", 'expected an integer from 1 to 1024, got "-1"'),
        ("VGCORE_NUM_THREADS", "99999", 'expected an integer from 1 to 1024, got "99999"'),
        (
            "VGCORE_ISA",
            "avx9",
            'expected one of "scalar", "avx2", "avx512", got "avx9"; correct it, or leave it out',
        ),
        ("VGCORE_ISA", "neon", 'expected one of "scalar", "avx2", "avx512", got "neon"'),
    ],
)
def test_settings_of_the_environment_that_mean_nothing_are_refused(
    variable: str, value: str, said: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import vgcore"],
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert f"vgcore.errors.ArgumentError: {variable}: {said}" in run.stderr


def test_settings_of_the_environment_are_read_generously() -> None:
    code = "import vgcore as vg; print(vg.config()['isa'], vg.get_num_threads())"
    plain = {k: v for k, v in os.environ.items() if k not in ("VGCORE_ISA", "VGCORE_NUM_THREADS")}

    def answer(**env: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=plain | env, capture_output=True, text=True, check=True).stdout

    assert answer(VGCORE_ISA=" Scalar", VGCORE_NUM_THREADS=" 2 ") == "scalar 2\n"
    assert answer(VGCORE_ISA="SCALAR", VGCORE_NUM_THREADS="1024") == "scalar 1024\n"
    assert answer(VGCORE_ISA="", VGCORE_NUM_THREADS="") == answer()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_works() -> None:
    """The pool's threads do not exist in the child; it must start its own, and get the same bits."""
    code = """
import os, sys, warnings
import numpy as np, vgcore as vg
warnings.simplefilter("ignore", DeprecationWarning)
net = vg.mlp(50, 64, activation="tanh", rng=0)
x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
expected = net.probe(x, cotangent=x).log10_grad_norm
for _ in range(3):
    child = os.fork()
    if child == 0:
        same = (net.probe(x, cotangent=x).log10_grad_norm == expected).all()
        vg.set_num_threads(3)
        same &= (net.probe(x, cotangent=x).log10_grad_norm == expected).all()
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if (net.probe(x, cotangent=x).log10_grad_norm == expected).all() else 1)
        os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
assert (net.probe(x, cotangent=x).log10_grad_norm == expected).all()
print("works")
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.strip() == "works", run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_during_a_pass_of_another_thread_works() -> None:
    code = """
import os, threading, warnings
import numpy as np, vgcore as vg
warnings.simplefilter("ignore", DeprecationWarning)
net, small = vg.mlp(2000, 64, activation="tanh", rng=0), vg.mlp(5, 8, rng=0)
x = np.ones((64, 64), np.float32)
net.probe(x, cotangent=x)  # all of Python that a pass needs is imported: a fork would keep the import lock
stop = threading.Event()
def busy():
    while not stop.is_set():
        net.probe(x, cotangent=x, stats="norms")
thread = threading.Thread(target=busy)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        small.probe(np.ones((2, 8), np.float32), cotangent=np.ones((2, 8), np.float32))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
print("works")
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.strip() == "works", run.stderr
