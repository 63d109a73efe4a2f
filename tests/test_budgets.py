"""Tests of memory budgets: the least that works is named and works, what `memory_plan` promises holds, no
pass uses more, and the plan is said before it runs."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from hypothesis import given
from hypothesis import strategies as st
from networks_time import Problem, problems
from refusals import refused
from vgcore._memory import format_bytes, parse_bytes

Call = Callable[[Any], Any]


def named(call: Call, budget: Any = 1) -> str:
    """The size that the refusal of `call` says is needed."""
    with pytest.raises(vg.MemoryBudgetError) as info:
        call(budget)
    found = re.search(
        r"needs about ([\d.]+ (?:[KMGT]i)?B), but ([\d.]+ (?:[KMGT]i)?B) are allowed", str(info.value)
    )
    assert found, str(info.value)
    assert parse_bytes(found[2]) <= parse_bytes(budget)
    assert parse_bytes(found[2]) < parse_bytes(found[1])
    return found[1]


def check(net: vg.Network, x: Any, run: dict[str, Any], stats: str) -> None:
    """Every kind of pass: the size named works as it stands, a byte below the least does not."""
    batch, steps = len(x), x.shape[1] if net.axis == "time" else None

    def plan(mode: str) -> Call:
        return lambda budget: net.memory_plan(batch, steps, budget, mode=mode, stats=stats)

    calls: dict[str, Call] = {
        "probe": lambda budget: net.probe(x, **run, stats=stats, memory_budget=budget),
        "gradients": lambda budget: net.gradients(x, **run, memory_budget=budget),
        "step": lambda budget: net.step(x, **run, stats=stats, lr=0.0, memory_budget=budget),
    }
    for mode, call in calls.items():
        for one in (plan(mode), call):
            size = named(one)
            one(size)
            one(size.replace(" ", ""))
        shown = stats if mode != "gradients" else "none"
        least = net._core.memory_estimate(batch, steps or 1, mode, shown, least=True)
        assert size == format_bytes(least, up=True)
        for one in (plan(mode), call):
            one(least)
            assert named(one, least - 1) == size


STATS = st.sampled_from(["norms", "full"])


@given(vg.testing.networks(max_repeat=40, max_layers=3, nesting=1), st.integers(1, 40), STATS)
def test_the_least_that_works_is_named_along_depth(net: vg.Network, batch: int, stats: str) -> None:
    x, v = np.ones((batch, net.in_features), net.dtype), np.ones((batch, net.out_features), net.dtype)
    check(net, x, {"cotangent": v}, stats)


@given(problems(max_steps=60, max_batch=40, truncate=True), STATS)
def test_the_least_that_works_is_named_along_time(problem: Problem, stats: str) -> None:
    check(problem.network(), problem.x, problem.backward, stats)


@pytest.mark.parametrize("stats", ["norms", "full"])
def test_the_least_that_works_is_named_for_chains_of_layers(stats: str) -> None:
    """Several stages share a budget: none in front may take what one behind must have."""
    body = [vg.Dense(6), vg.Activation("tanh")]
    layers = [vg.Repeat(body, 9), vg.Recurrent("lstm", 5, num_layers=2, read="every"), vg.Dense(4)]
    net = vg.Network(6, [*layers, vg.Recurrent("gru", 3, name="second"), vg.Dense(2)], rng=0)
    x, v = np.ones((3, 50, 6), np.float32), np.ones((3, 2), np.float32)
    check(net, x, {"cotangent": v}, stats)
    most = net._core.memory_estimate(3, 50, "probe", stats)
    least = net._core.memory_estimate(3, 50, "probe", stats, least=True)
    assert least < most
    for budget in np.linspace(least, most, 17).astype(int).tolist():
        net.probe(x, cotangent=v, stats=stats, memory_budget=budget)
    assert "keep the state" not in net.memory_plan(3, 50, most, stats=stats)


def test_the_refusal_says_all_that_an_error_should() -> None:
    net = vg.rnn("lstm", 5, in_features=3, out_features=2, rng=0)
    x, v = np.zeros((4, 10, 3), np.float32), np.zeros((4, 2), np.float32)
    with refused(
        vg.MemoryBudgetError, "a batch of 4 through 10 steps", "1.1 KiB are allowed", "raise memory_budget"
    ):
        net.probe(x, cotangent=v, memory_budget=1200)


def test_what_is_needed_is_rounded_up_and_what_there_is_down() -> None:
    for count in (1, 1023, 1024, 1025, 1076, 10_239, 1024**2 - 1, 1024**2 + 1, 5 * 1024**3 + 7, 2**50 + 1):
        up, down = (parse_bytes(format_bytes(count, up=way)) for way in (True, False))
        assert down <= count <= up <= count * 1.1 + 1


# --- what a plan promises ------------------------------------------------------------------------------


def test_a_plan_promises_what_a_probe_keeps() -> None:
    net, x = vg.mlp(300, 8, activation="tanh", rng=0), np.ones((4, 8), np.float32)
    size = named(lambda budget: net.probe(x, cotangent=x, memory_budget=budget))
    assert named(lambda budget: net.memory_plan(4, memory_budget=budget)) == size
    with refused(vg.MemoryBudgetError, "300 units"):
        net.memory_plan(4, memory_budget="100KB")
    assert named(lambda budget: net.memory_plan(4, memory_budget=budget, stats="norms")) != size


def test_small_plans_have_sizes_too() -> None:
    for plan in (
        vg.mlp(3, 4, rng=0).memory_plan(2),
        vg.rnn("gru", 4, in_features=2, rng=0).memory_plan(1, 3),
    ):
        sizes = re.findall(r"([\d.]+) (?:[KMGT]i)?B", plan)
        assert len(sizes) == 2, plan
        assert all(float(size) > 0 for size in sizes), plan


def test_figures_are_counted_in_full() -> None:
    """What a pass returns is what it was estimated to return, and the largest array once more."""
    deep, x = vg.mlp(200, 4, rng=0), np.ones((1, 4), np.float32)
    long, s = vg.rnn("lstm", 4, in_features=1, num_layers=2, rng=0), np.ones((1, 500, 1), np.float32)
    for stats in ("norms", "full"):
        raw = deep.probe(x, cotangent=x, stats=stats, lr=0.1).raw
        arrays = [value.nbytes for value in raw.values() if isinstance(value, np.ndarray) and value.ndim]
        few, many = (vg.mlp(n, 4, rng=0)._core.memory_estimate(1, 1, "loss", "none") for n in (1, 200))
        more, most = (
            vg.mlp(n, 4, rng=0)._core.memory_estimate(1, 1, "probe", stats, least=True) for n in (1, 200)
        )
        assert sum(arrays) + max(arrays) <= (most - more) / 199 * 200 + abs(many - few)
        block = long.probe(s, cotangent=np.ones((1, 4), "f4"), stats=stats).raw["time"][0]
        arrays = [value.nbytes for value in block.values() if isinstance(value, np.ndarray)]
        assert sum(arrays) + max(arrays) <= long._core.memory_estimate(1, 500, "probe", stats, least=True)


PEAK = """
import json, sys
import numpy as np, vgcore as vg
steps, stats, share = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
x, v = np.ones((1, steps, 32), np.float32), np.ones((1, 32), np.float32)
net = vg.rnn("lstm", 32, in_features=32, rng=0)
net.probe(x[:, :50], cotangent=v, stats=stats)
budget = int(share * net._core.memory_estimate(1, steps, "probe", stats, least=True))
def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
# A process begins with the peak of the one that started it; this makes it what is in use.
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
flow = net.probe(x, cotangent=v, stats=stats, memory_budget=budget)
print(json.dumps([budget, peak() - before]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads and resets the peak in /proc")
@pytest.mark.parametrize(("stats", "share"), [("norms", 1.0), ("full", 1.0), ("full", 1.5)])
def test_no_pass_uses_more_than_its_budget(stats: str, share: float) -> None:
    command = [sys.executable, "-c", PEAK, "200000", stats, str(share)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    budget, used = json.loads(done.stdout)
    # Pages of two megabytes round up; a sixteenth more is the allocator's.
    assert used <= budget * 1.06 + 8 * 2**20, (budget, used)
    assert used > budget / 4


# --- what is said --------------------------------------------------------------------------------------


def test_a_budget_says_its_plan_once(capsys: pytest.CaptureFixture[str]) -> None:
    net, x = vg.mlp(300, 8, activation="tanh", rng=0), np.ones((4, 8), np.float32)
    net.probe(x, cotangent=x)
    assert capsys.readouterr().err == ""
    flow = net.probe(x, cotangent=x, memory_budget="1MB")
    said = capsys.readouterr().err
    assert said == f"vgcore plan: {flow.raw['plan']}\n"
    assert "recompute factor" in said
    for _ in range(3):
        net.probe(x, cotangent=x, memory_budget="1MB")
    assert capsys.readouterr().err == ""
    net.probe(x, cotangent=x, stats="norms", memory_budget="200kB")
    assert "keep the input of each segment" in capsys.readouterr().err


def test_a_plan_is_logged_where_somebody_listens(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    net, x = vg.rnn("gru", 4, in_features=2, rng=0), np.ones((1, 9, 2), np.float32)
    with caplog.at_level(logging.INFO, "vgcore"):
        flow = net.probe(x, cotangent=np.ones((1, 4), "f4"), memory_budget="1MB")
    assert caplog.messages == [f"plan: {flow.raw['plan']}"]
    assert capsys.readouterr().err == ""


def test_a_training_says_its_plan(capsys: pytest.CaptureFixture[str]) -> None:
    net, x = vg.mlp(3, 4, activation="tanh", rng=0), np.ones((8, 4), np.float32)
    net.fit(x, x, loss="mse", epochs=2, batch_size=4, memory_budget="1MB")
    assert capsys.readouterr().err.count("vgcore plan: ") == 1


def test_a_flow_remembers_its_plan() -> None:
    net, x = vg.mlp(300, 8, activation="tanh", rng=0), np.ones((4, 8), np.float32)
    assert "plan" not in net.probe(x, cotangent=x).meta
    flow = net.probe(x, cotangent=x, stats="norms", memory_budget="200kB")
    assert flow.meta["memory_budget"] == 200_000
    assert flow.meta["plan"] == net.memory_plan(4, memory_budget="200kB", stats="norms")
    assert 0 < flow.meta["recompute"] < 1
    again = type(flow).from_dict(flow.to_dict())
    assert again.meta["plan"] == flow.meta["plan"]
