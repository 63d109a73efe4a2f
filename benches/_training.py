"""Benches, the training-step rows: the same start for everybody, results compared before the clock.

Knows the peers, not how the table is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import _jax_peer
import _numpy_peer
import _torch_peer
import numpy as np
import vgcore as vg
from _machine import log, peak
from _timing import alternate, fastest

RATE = 1e-3


@dataclass(frozen=True)
class Workload:
    """`layers` times Dense(`width`) + tanh in float32, on `batch` samples."""

    layers: int
    width: int
    batch: int

    @property
    def flops(self) -> float:
        """Operations of the three matrix products of every layer: forward, delta, weight gradient."""
        return 6.0 * self.layers * self.batch * self.width**2

    def __str__(self) -> str:
        return f"{self.layers}, {self.width}, {self.batch}"


TABLE = (Workload(1000, 64, 32), Workload(1000, 256, 128), Workload(100, 1024, 256))


def network(work: Workload, bias: bool) -> vg.Network:
    """Return the network that all start from."""
    return vg.mlp(
        depth=work.layers, width=work.width, activation="tanh", init="glorot_normal", bias=bias, rng=0
    )


def data(work: Workload) -> tuple[Any, Any]:
    """Return inputs and targets, (batch, width) each."""
    rng = np.random.default_rng(1)
    shape = (work.batch, work.width)
    return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)


def compare(name: str, found: Any, wanted: Any) -> float:
    """Return the largest relative difference of two lists of norms; raise if it is not rounding."""
    difference = float(np.max(np.abs(np.asarray(found, np.float64) / wanted - 1)))
    if not difference < 1e-3:
        raise SystemExit(
            f"{name}: weight gradients' norms differ from vgcore's by up to {difference:.2e} relative, "
            "expected less than 1e-3: the timings would not compare the same work"
        )
    return difference


def core_runner(net: Any, x: Any, y: Any, mode: str, stats: str) -> Callable[[], Any]:
    """Return a pass through the compiled module, where statistics can be left out altogether."""
    core = net._core
    lr = RATE if mode == "step" else None
    loss = {"name": "mse"}
    return lambda: core.run(x, y, loss, None, mode=mode, lr=lr, stats=stats, memory_budget=None)


def measure(work: Workload, threads: int, repeats: int, bias: bool, peers: set[str]) -> dict[str, Any]:
    """Return times, ratios and checks of one workload, everybody in turn."""
    net = network(work, bias)
    x, y = data(work)
    parameters = net.parameters()
    weight = np.asarray(parameters["hidden.weight"])
    start_bias = np.asarray(parameters["hidden.bias"]) if bias else None
    arguments = (weight, start_bias, x, y, RATE)
    offered: dict[str, tuple[dict[str, Callable[[], Any]], str]] = {
        "numpy": (_numpy_peer.forms(*arguments), "")
    }
    if "torch" in peers:
        offered["torch"] = _torch_peer.forms(threads, *arguments)
    if "jax" in peers:
        offered["jax"] = _jax_peer.forms(*arguments)

    # What everybody finds on the first step, from the same start.
    flow = net.step(x, y, loss="mse", lr=RATE, stats="norms")
    wanted = 10.0 ** np.asarray(flow.log10_weight_grad_norm)
    after = np.asarray(net.parameters()["hidden.weight"])
    moved = float(np.linalg.norm(after - weight))
    chosen: dict[str, Any] = {}
    checks: dict[str, float] = {}
    forms: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for peer, (makers, reason) in offered.items():
        if not makers:
            skipped[peer] = reason
            log(f"  {peer} skipped: {reason}")
            continue
        made = {}
        for name, make in makers.items():
            made[name] = make()
            made[name].step()
            checks[f"{peer}, {name}"] = compare(f"{peer}, {name}", made[name].norms(), wanted)
            if isinstance(made[name], _numpy_peer.NumpyStep):
                theirs = made[name].weight if made[name].out_in else made[name].weight.transpose(0, 2, 1)
                off = float(np.linalg.norm(theirs - after)) / moved
                if not off < 1e-2:
                    raise SystemExit(f"{peer}, {name}: updated weights differ by {off:.2e} of the update")
        best = fastest({name: peer_step.step for name, peer_step in made.items()})
        chosen[peer], forms[peer] = made[best], best
        del made

    contestants: dict[str, Callable[[], Any]] = {
        "vgcore": lambda: net.step(x, y, loss="mse", lr=RATE, stats="norms").log2_weight_grad_norm,
        "vgcore full": lambda: net.step(x, y, loss="mse", lr=RATE, stats="full").log2_weight_grad_norm,
    }
    contestants |= {peer: step.step for peer, step in chosen.items()}
    before = peak(threads, 0.5)
    log(f"  {work}: peak {before:.0f} GFLOP/s; forms {forms}")
    times = alternate(contestants, repeats)
    # The cost of statistics is a difference of near-equal times: a round of its own, so that no peer's cache
    # footprint lies between them.
    costs = {}
    for mode in ("step", "probe"):
        runners = {s: core_runner(net, x, y, mode, s) for s in ("none", "norms", "full")}
        if mode == "probe":
            # Without statistics a probe has nothing to do in the weight phase.
            del runners["none"]
        costs[mode] = alternate(runners, repeats)
    top = max(before, peak(threads, 0.5))
    ours = times["vgcore"]["median"]
    step = {name: t["median"] for name, t in costs["step"].items()}
    return {
        "layers": work.layers,
        "width": work.width,
        "batch": work.batch,
        "bias": bias,
        "peak_gflops": top,
        "gflops": work.flops / ours / 1e9,
        "peak_fraction": work.flops / ours / 1e9 / top,
        "times": times,
        "ratios": {peer: times[peer]["median"] / ours for peer in chosen},
        "ratios_full": {peer: times[peer]["median"] / times["vgcore full"]["median"] for peer in chosen},
        "statistics_times": costs,
        "statistics_cost": {
            "norms": step["norms"] / step["none"] - 1,
            "full": step["full"] / step["none"] - 1,
        },
        "probe_seconds": {name: t["median"] for name, t in costs["probe"].items()},
        "forms": forms,
        "largest_norm_difference": checks,
        "skipped": skipped,
    }
