"""Tests that recurrent passes give the same bits on every memory plan, thread count and instruction path."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import vgcore as vg
from hypothesis import given
from hypothesis import strategies as st
from networks_time import MANNER, Problem, assert_same_bits, bits, problems
from oracle_cells import CELLS
from oracle_time import Recurrent, random_parameters


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = vg.get_num_threads()
    yield
    vg.set_num_threads(before)


@given(problems(max_steps=60, max_batch=3, truncate=True), st.lists(st.integers(8, 26), min_size=3))
def test_every_memory_plan_gives_the_same_bits(problem: Problem, sizes: list[int]) -> None:
    """Random budgets, the largest last: those that are enough give the bits of no limit."""
    net = problem.network()
    reference, enough = bits(net, problem), False
    for budget in [2**size + 37 * size for size in sorted({*sizes, 27})]:
        try:
            assert_same_bits(reference, bits(net, problem, memory_budget=budget), f"budget {budget}")
            enough = True
        except vg.MemoryBudgetError:
            assert not enough, "a larger budget must do if a smaller one does"
    assert enough


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "min_lstm"])
def test_plans_of_long_sequences_give_the_same_bits(cell: str, dtype: str) -> None:
    """Enough steps for the plans to differ: keep all, checkpoints, few checkpoints."""
    rng, form = np.random.default_rng(3), {"layers": 2, "bidirectional": True, "read": "every"}
    layer = Recurrent(cell, 12, **form)
    parameters = {name: value.astype(dtype) for name, value in random_parameters(layer, 3, rng, 0.3).items()}
    shape = (5, 700, 24)
    problem = Problem(
        layer, parameters, rng.normal(size=(5, 700, 3)).astype(dtype), None, np.array([700, 1, 333, 699, 64]),
        rng.normal(size=shape).astype(dtype), None, dtype,
    )  # fmt: skip
    net, plans = problem.network(), set()
    reference = bits(net, problem)
    for budget in (int(2 ** (k / 3)) for k in range(48, 81)):
        try:
            plans.add(net.probe(problem.x, **problem.backward, memory_budget=budget).raw["plan"])
            assert_same_bits(reference, bits(net, problem, memory_budget=budget), f"budget {budget}")
        except vg.MemoryBudgetError:
            assert not plans
    assert len(plans) > 1, plans


@given(problems(max_batch=20, max_steps=12, truncate=True))
def test_every_thread_count_gives_the_same_bits(problem: Problem) -> None:
    net = problem.network()
    vg.set_num_threads(1)
    reference = bits(net, problem)
    for threads in (2, 3, 7):
        vg.set_num_threads(threads)
        assert_same_bits(reference, bits(net, problem), f"{threads} threads")


#: (batch, steps, hidden, inputs): one number, no full vector, a vector and a rest, long sums
SHAPES = ((1, 1, 2, 1), (3, 5, 6, 5), (1, 40, 16, 3), (17, 9, 34, 7), (2, 3, 260, 515), (65, 4, 40, 16))


def everything() -> dict[str, str]:
    """Hashes of all that every cell computes at each shape."""
    found = {}
    for dtype in ("float32", "float64"):
        for cell in sorted(CELLS):
            for batch, steps, hidden, inputs in SHAPES:
                form = {"layers": 2, "bidirectional": True, "read": "every", "learned": True}
                options = {"peephole": True} if cell == "lstm" and hidden == 6 else {}
                layer = Recurrent(cell, hidden, options, **(form if hidden < 40 else {}))
                rng = np.random.default_rng(batch * hidden)
                p = random_parameters(layer, inputs, rng, 0.7 / np.sqrt(max(hidden, inputs)))
                wide = (batch, layer.width) if layer.read == "last" else (batch, steps, layer.width)
                problem = Problem(
                    layer, {name: value.astype(dtype) for name, value in p.items()},
                    rng.normal(size=(batch, steps, inputs)).astype(dtype), None,
                    rng.integers(1, steps + 1, batch), rng.normal(size=wide).astype(dtype), None, dtype,
                )  # fmt: skip
                for key, value in bits(problem.network(), problem).items():
                    name = f"{dtype} {cell} {batch}x{steps}x{hidden} {key}"
                    found[name] = hashlib.sha256(value).hexdigest()[:16]
    return found


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return everything()


@pytest.mark.parametrize("isa", vg.config()["isa_available"])
def test_every_instruction_path_gives_the_same_bits(isa: str, reference: dict[str, str]) -> None:
    code = "import json, test_bits_time, vgcore as vg\n"
    code += "print(json.dumps([vg.config()['isa'], test_bits_time.everything()]))"
    here = str(Path(__file__).resolve().parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "VGCORE_ISA": isa, "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    taken, found = json.loads(run.stdout)
    assert taken == isa
    different = [key for key in reference if found[key] != reference[key]]
    assert not different, f"{isa} differs in {different}"


def test_nothing_of_how_a_pass_went_is_compared() -> None:
    """The keys that the comparisons of bits leave out exist, and differ between plans."""
    net = vg.rnn("gru", 4, in_features=2, rng=0)
    raw = net.probe(np.ones((1, 9, 2), np.float32), cotangent=np.ones((1, 4), np.float32)).raw
    assert set(MANNER) <= set(raw)


@pytest.mark.parametrize("cell", ["lstm", "gru", "antisymmetric_rnn"])
def test_a_closed_sample_changes_nothing_for_the_others(cell: str) -> None:
    """One sample's gates are shut, so that its deltas lie far below its state's gradient; the others take the
    same way to the bit, alone, beside it and on any number of threads."""
    rng = np.random.default_rng(8)
    net = vg.rnn(cell, 20, in_features=3, dtype="float32", rng=1)
    x = rng.normal(size=(5, 40, 3)).astype(np.float32)
    x[2] *= 200
    v = rng.normal(size=(5, 20)).astype(np.float32)
    others = [0, 1, 3, 4]
    alone = net.gradients(x[others], cotangent=v[others]).scaled_input
    seen = set()
    for threads in (1, 2, 3, 7):
        vg.set_num_threads(threads)
        found = net.gradients(x, cotangent=v)
        mantissa, exponent = found.scaled_input
        assert mantissa[others].tobytes() == alone[0].tobytes()
        assert exponent[others].tobytes() == alone[1].tobytes()
        seen.add(b"".join(found.scaled(name)[0].tobytes() for name in found) + mantissa.tobytes())
    assert len(seen) == 1
