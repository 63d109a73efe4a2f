"""Benches, the recurrent rows: the same start for everybody, results compared before the clock.

Knows the peers, not how the table is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import _jax_recurrent
import _torch_recurrent
import numpy as np
import vgcore as vg
from _machine import log, peak
from _timing import alternate, fastest

INPUTS = 32
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# Peers' norms are sums of squares in float32: below this they are no longer the norms of what they had.
FAINT = 1e-15
# A Python loop makes an autograd graph of some twenty nodes a step; from here on memory is what is measured.
MOST_LOOP_STEPS = 20_000


@dataclass(frozen=True)
class Workload:
    """One layer of `hidden` units, `steps` steps of 32 inputs, `batch` sequences; loss on the last state."""

    cell: str
    steps: int
    batch: int
    hidden: int

    @property
    def flops(self) -> float:
        """Operations of the matrix products: forward, delta to h_{t-1}, gradients of both weights."""
        gates = GATES[self.cell] * self.hidden
        return 2.0 * self.steps * self.batch * gates * (2 * (INPUTS + self.hidden) + self.hidden)

    def __str__(self) -> str:
        return f"{self.cell} {self.steps}, {self.batch}, {self.hidden}"


TABLE = (
    Workload("lstm", 1000, 32, 128),
    Workload("gru", 1000, 32, 128),
    Workload("rnn", 1000, 32, 128),
    Workload("rnn", 10_000, 8, 64),
    Workload("lstm", 10_000, 8, 64),
    Workload("lstm", 100_000, 1, 32),
)


def data(work: Workload) -> tuple[Any, Any]:
    """Return inputs (batch, time, 32) and the target of the last state (batch, hidden)."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((work.batch, work.steps, INPUTS), np.float32)
    return x, rng.standard_normal((work.batch, work.hidden), np.float32)


class Vgcore:
    """vgcore's pass: gradients of all weights as arrays, and the norms of every step."""

    def __init__(self, net: Any, x: Any, y: Any, mode: str, stats: str) -> None:
        core, loss = net._core, {"name": "mse"}
        self.step: Callable[[], Any] = lambda: core.run(
            x, y, loss, None, mode=mode, lr=None, stats=stats, memory_budget=None, inputs=False
        )


def gradients_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return vgcore's weight gradients as plain arrays by PyTorch's names."""
    found = {}
    for name in NAMES:
        mantissa, exponent = raw["gradients"][f"rnn.{name}_l0"]
        found[name] = np.ldexp(np.asarray(mantissa, np.float64), int(np.clip(exponent, -2000, 1000)))
    return found


def norms_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return log2 of vgcore's norms of dL/dh_t, and of dL/dc_t where there is a c."""
    rows = raw["time"][0]
    found = {"h": np.asarray(rows["grad_log2_norm"])[0]}
    if "cell_grad_log2_norm" in rows:
        found["c"] = np.asarray(rows["cell_grad_log2_norm"])[0]
    return found


def compare(name: str, peer: Any, weights: dict[str, Any], norms: dict[str, Any]) -> tuple[float, int]:
    """Return the largest relative difference and how many steps read zero; raise if it is not rounding."""
    theirs = peer.gradients()
    worst = max(
        float(np.linalg.norm(np.asarray(theirs[key], np.float64) - mine) / np.linalg.norm(mine))
        for key, mine in weights.items()
    )
    zeros = 0
    for key, found in peer.norms().items():
        found = np.asarray(found, np.float64)
        zeros += int((found == 0).sum()) if key == "h" else 0
        seen = found > FAINT
        if seen.any():
            off = np.abs(np.log2(found[seen]) - norms[key][seen]).max()
            worst = max(worst, float(np.expm1(off * np.log(2.0))))
    if not worst < 1e-3:
        raise SystemExit(
            f"{name}: gradients or norms differ from vgcore's by up to {worst:.2e} relative, expected less "
            "than 1e-3: the timings would not compare the same work"
        )
    return worst, zeros


def choose(
    contestant: str,
    makers: Mapping[str, Callable[[], Any]],
    check: Callable[[str, Any], None],
    patience: float,
) -> tuple[Any, str, dict[str, str]]:
    """Return the contestant's fastest form, its name, and why each form that was left out was left out."""
    made, skipped = {}, {}
    for name, make in makers.items():
        form = make()
        form.step()
        check(f"{contestant}, {name}", form)
        start = time.perf_counter()
        form.step()
        seconds = time.perf_counter() - start
        if seconds > patience:
            skipped[f"{contestant}, {name}"] = (
                f"a call takes {seconds:.0f} s, more than --patience {patience:g}"
            )
        else:
            made[name] = form
    if not made:
        return None, "", skipped
    best = fastest({name: form.step for name, form in made.items()}) if len(made) > 1 else next(iter(made))
    return made[best], best, skipped


def measure(work: Workload, threads: int, repeats: int, peers: set[str], patience: float) -> dict[str, Any]:
    """Return times, ratios and checks of one workload, everybody in turn."""
    x, y = data(work)
    net = vg.rnn(work.cell, work.hidden, in_features=INPUTS, rng=0)
    parameters = net.parameters()
    weights = {name: np.asarray(parameters[f"rnn.{name}_l0"]) for name in NAMES}
    mine = Vgcore(net, x, y, "gradients", "norms")
    raw = mine.step()
    wanted, norms = gradients_of(raw), norms_of(raw)
    plan = str(raw.get("plan", ""))
    del raw

    in_time = np.ascontiguousarray(x.transpose(1, 0, 2))
    offered: dict[str, dict[str, Callable[[], Any]]] = {}
    skipped: dict[str, str] = {}
    for peer, offer in (
        ("torch", lambda: _torch_recurrent.forms(threads, work.cell, weights, in_time, y)),
        ("jax", lambda: _jax_recurrent.forms(work.cell, weights, in_time, y)),
    ):
        if peer in peers:
            makers, reason = offer()
            offered |= makers
            if reason:
                skipped[peer] = reason
    if work.steps > MOST_LOOP_STEPS and offered.pop("torch loop", None):
        skipped["torch loop"] = (
            f"autograd's graph of {work.steps:,} steps in Python takes minutes and gigabytes"
        )

    differences: dict[str, float] = {}
    zeros: dict[str, int] = {}

    def check(name: str, form: Any) -> None:
        differences[name], zeros[name] = compare(name, form, wanted, norms)

    chosen: dict[str, Any] = {}
    forms: dict[str, str] = {}
    for contestant, makers in offered.items():
        form, best, left_out = choose(contestant, makers, check, patience)
        skipped |= left_out
        if form is not None:
            chosen[contestant], forms[contestant] = form, best
    for name, reason in skipped.items():
        log(f"  {work}: {name} skipped: {reason}")

    before = peak(threads, 0.5)
    log(f"  {work}: peak {before:.0f} GFLOP/s; forms {forms}")
    full = Vgcore(net, x, y, "probe", "full")
    contestants = {"vgcore": mine.step} | {name: form.step for name, form in chosen.items()}
    times = alternate(contestants, repeats)
    # The whole statistics are another job than the peers': timed apart, beside the probe with norms alone.
    probes = alternate({"norms": Vgcore(net, x, y, "probe", "norms").step, "full": full.step}, repeats)
    top = max(before, peak(threads, 0.5))
    ours = times["vgcore"]["median"]
    ratios = {name: times[name]["median"] / ours for name in chosen}
    best = min(ratios, key=lambda name: ratios[name], default="")
    return {
        "cell": work.cell,
        "steps": work.steps,
        "batch": work.batch,
        "hidden": work.hidden,
        "inputs": INPUTS,
        "plan": plan,
        "peak_gflops": top,
        "gflops": work.flops / ours / 1e9,
        "peak_fraction": work.flops / ours / 1e9 / top,
        "times": times,
        "probe_times": probes,
        "ratios": ratios,
        "best_peer": best,
        "ratio_to_best": ratios.get(best),
        "log10_norm_first_step": float(norms["h"][0] * np.log10(2.0)),
        "forms": forms,
        "largest_difference": differences,
        "steps_that_read_zero": zeros,
        "skipped": skipped,
    }
