"""Tests of Ctrl-C: a long pass ends with KeyboardInterrupt, whatever it was doing, and everything works
afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="signals are sent in the way of POSIX systems"
)

PREPARE = """
import os, signal, sys, threading, time
import numpy as np, vgcore as vg

# A shell's background job begins with SIGINT ignored, and its children too: what is tested is a terminal's.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt_after(seconds):
    timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()

def until_interrupted(call):
    # As often as it takes: how long one pass lasts is the machine's business.
    interrupt_after(0.3)
    start = time.monotonic()
    try:
        while time.monotonic() - start < 60:
            call()
    except KeyboardInterrupt:
        return
    sys.exit("no KeyboardInterrupt")

net = vg.mlp(5_000, 64, activation="tanh", rng=0)
x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
small, ones = vg.mlp(20, 8, rng=0), np.ones((2, 8), np.float32)
expected = small.probe(ones, cotangent=ones).log10_grad_norm
"""

CHECK = """
assert (small.probe(ones, cotangent=ones).log10_grad_norm == expected).all()
print("works")
"""


def run(body: str) -> None:
    code = PREPARE + body + CHECK
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.stdout.strip() == "works", done.stderr + done.stdout


@pytest.mark.parametrize(
    "call",
    [
        "net.probe(x, cotangent=x)",
        "net.probe(x, cotangent=x, stats='norms')",
        "net.gradients(x, cotangent=x)",
        "net.forward(x)",
        "net.loss(x, x, loss='mse')",
    ],
)
def test_a_pass_ends_and_the_next_one_works(call: str) -> None:
    run(f"until_interrupted(lambda: {call})\n")


def test_a_training_step_ends_and_the_network_still_works() -> None:
    run(
        "until_interrupted(lambda: net.step(x, x, loss='mse', lr=1e-6))\n"
        "assert np.isfinite(net.forward(x)).all()\n"
    )


def test_ctrl_c_between_two_epochs_loses_no_step() -> None:
    """Epochs are over before the core looks for signals: Python finds them when its call returns."""
    run(
        "net = vg.mlp(2, 8, rng=0)\n"
        "for trial in range(12):\n"
        "    interrupt_after(0.05 + 0.017 * trial)\n"
        "    try:\n"
        "        net.fit(x[:, :8], x[:, :8], epochs=10**6, batch_size=4, optimizer='adam')\n"
        "    except KeyboardInterrupt as error:\n"
        "        h = error.history\n"
        "    assert h.steps == h.state['step'] > 0, (h.steps, h.state['step'])\n"
        "    assert h.stopped == f'step {h.steps}: interrupted'\n"
        "    assert len(h.seconds) == h.state['epoch'], (len(h.seconds), h.state['epoch'])\n"
        "    assert h.table['step'].size > h.steps\n"
    )


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(
    "call", ["probe(x, cotangent=x)", "step(x, cotangent=x, lr=0.0)", "forward(x, training=True)"]
)
def test_threads_that_wait_for_each_other_all_stop(threads: int, call: str) -> None:
    run(
        f"vg.set_num_threads({threads})\n"
        "net = vg.mlp(1_000, 128, in_features=64, out_features=64, norm='batch', rng=0)\n"
        f"until_interrupted(lambda: net.{call})\n"
        "assert np.isfinite(net.forward(x, training=True)).all()\n"
    )


def test_building_a_network_can_be_interrupted() -> None:
    run("until_interrupted(lambda: vg.mlp(5_000, 64, init='he_normal', rng=0))\n")


def test_gradient_stats_can_be_interrupted() -> None:
    run("a = np.ones(20_000_000, np.float32)\nuntil_interrupted(lambda: vg.gradient_stats(a))\n")


@pytest.mark.parametrize(
    "call",
    [
        "rnn.probe(seq, cotangent=v)",
        "rnn.gradients(seq, cotangent=v)",
        "rnn.forward(seq)",
        "rnn.lyapunov(seq[:1], k=4)",
    ],
)
def test_passes_along_time_can_be_interrupted(call: str) -> None:
    run(
        "rnn = vg.rnn('lstm', 64, in_features=8, rng=0)\n"
        "seq = np.random.default_rng(0).normal(size=(4, 30_000, 8)).astype(np.float32)\n"
        "v = np.ones((4, 64), np.float32)\n"
        f"until_interrupted(lambda: {call})\n"
    )


HANDLER = """
# Python calls signal handlers in the midst of a pass, on its thread.
seen = []
def handler(*_):
    try:
        seen.append((look(), None))
    except vg.BusyError as error:
        seen.append((None, str(error)))
signal.signal(signal.SIGALRM, handler)

def until_seen(call, refused):
    # Once a pass, until it came in the midst of one: between two passes nothing is in use.
    start = time.monotonic()
    while all((error is not None) != refused for _, error in seen):
        if time.monotonic() - start > 60:
            sys.exit(f"no such call: {seen}")
        signal.setitimer(signal.ITIMER_REAL, 0.08)
        call()
    signal.setitimer(signal.ITIMER_REAL, 0)

vg.set_num_threads(1)
x = np.repeat(x, 6, axis=0)
deep = vg.mlp(3_000, 64, activation="tanh", rng=0)
"""


@pytest.mark.parametrize(
    "look",
    [
        "deep.parameters()",
        "deep.load_parameters(old)",
        "deep.forward(x)",
        "deep.step(x, x, loss='mse', lr=0.1)",
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        "deep.step(x, x, loss='mse', lr=1e-6)",
        "deep.fit(x, x, loss='mse', epochs=1, batch_size=384, optimizer='adam', clip=vg.ClipNorm(1.0))",
    ],
)
def test_a_handler_that_wants_what_a_step_is_changing_is_refused(look: str, call: str) -> None:
    run(
        f"{HANDLER}vg.set_num_threads(2)\nold = deep.parameters()\nlook = lambda: {look}\n"
        f"until_seen(lambda: {call}, True)\n"
        "assert all(e is None or 'signal handler' in e and 'set a flag' in e for _, e in seen), seen\n"
        "assert np.isfinite(deep.forward(x)).all()\n"
    )


@pytest.mark.parametrize(
    ("call", "look", "refused"),
    [
        ("deep.probe(x, cotangent=x)", "deep.parameters()", False),
        ("deep.probe(x, cotangent=x)", "deep.load_parameters(old)", True),
        ("rnn.probe(seq, cotangent=v)", "rnn.parameters()", False),
        ("rnn.probe(seq, cotangent=v)", "rnn.load_parameters(rnn.parameters())", True),
        ("rnn.step(seq, v, loss='mse', lr=1e-6)", "rnn.load_parameters(rnn.parameters())", True),
        ("rnn.lyapunov(seq[:1], k=4)", "rnn.load_parameters(rnn.parameters())", True),
    ],
)
def test_a_handler_may_read_what_a_pass_reads_and_not_change_it(call: str, look: str, refused: bool) -> None:
    run(
        HANDLER + "rnn = vg.rnn('lstm', 64, in_features=8, rng=0)\n"
        "seq = np.random.default_rng(0).normal(size=(4, 20_000, 8)).astype(np.float32)\n"
        f"v, old = np.ones((4, 64), np.float32), deep.parameters()\nlook = lambda: {look}\n"
        f"until_seen(lambda: {call}, {refused})\n"
        f"assert {refused} or not any(e for _, e in seen), seen\n"
    )


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_handler_may_run_a_pass_whose_threads_wait_for_each_other(threads: int) -> None:
    run(
        f"{HANDLER}vg.set_num_threads({threads})\n"
        "net = vg.mlp(400, 128, in_features=64, norm='batch', rng=0)\n"
        "other = vg.mlp(3, 256, norm='batch', rng=0)\n"
        "wide = np.random.default_rng(1).normal(size=(64, 256)).astype(np.float32)\n"
        "look = lambda: other.probe(wide, cotangent=wide).log10_grad_norm\nwant = look()\n"
        "until_seen(lambda: net.probe(x, cotangent=np.ones((384, 128), np.float32)), False)\n"
        "assert (seen[0][0] == want).all()\n"
    )


def test_a_real_ctrl_c_from_outside() -> None:
    """SIGINT from another process during one single long pass."""
    code = PREPARE + "print('ready', flush=True)\ntry:\n    while True: net.probe(x, cotangent=x)\n"
    code += "except KeyboardInterrupt: pass\n" + CHECK
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "ready"
    try:
        child.wait(0.5)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=120)
    assert out.strip() == "works"
    assert child.returncode == 0
