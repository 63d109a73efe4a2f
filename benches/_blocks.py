"""Benches, networks of blocks: the same start for everybody, results compared before the clock.

Knows the peers, not how the table is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import _blocks_jax
import _blocks_torch
import numpy as np
import vgcore as vg
from _machine import log, peak
from _timing import alternate, fastest

RATE = 1e-4
#: Blocks of the network on which results are compared.
SHALLOW = 3
#: Steps of one training of an optimizer; its memory is made anew for each training, as part of the time.
STEPS = 10
KINDS = ("batch_norm", "layer_norm", "highway")


@dataclass(frozen=True)
class Workload:
    """`layers` blocks of a kind in float32, `width` wide, on `batch` samples."""

    kind: str
    layers: int
    width: int
    batch: int

    def block(self) -> vg.layers.Layer:
        """Return one block: ``x + relu(norm(dense(x)))``, or a highway layer with relu."""
        if self.kind == "highway":
            return vg.Highway(activation="relu", transform_bias=-2.0, name="block")
        norm = vg.BatchNorm(name="norm") if self.kind == "batch_norm" else vg.LayerNorm(name="norm")
        return vg.Residual([vg.Dense(self.width, name="dense"), norm, vg.Activation("relu")], name="block")

    def network(self) -> vg.Network:
        """Return the network that all start from."""
        return vg.Network(self.width, [vg.Repeat(self.block(), self.layers, name="")], rng=0)

    def __str__(self) -> str:
        return f"{self.kind} {self.layers}, {self.width}, {self.batch}"


TABLE = tuple(Workload(kind, 1000, 64, 32) for kind in KINDS)


def data(work: Workload) -> tuple[Any, Any]:
    """Return inputs and targets, (batch, width) each."""
    rng = np.random.default_rng(1)
    shape = (work.batch, work.width)
    return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)


def norms(gradients: vg.Gradients) -> dict[str, Any]:
    """Return the norm of each layer's gradient, (layers,), by the matrix's name."""
    found = {}
    for name in gradients:
        if name.endswith("weight") and gradients[name].ndim == 3:
            mantissa, exponent = gradients.scaled(name)
            square = np.sum(np.square(mantissa, dtype=np.float64), axis=(1, 2))
            found[name] = np.sqrt(square) * np.exp2(np.asarray(exponent, np.float64)).reshape(-1)
    return found


def compare(peer: str, found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """Return the largest relative difference of the norms; raise if it is not rounding."""
    worst = 0.0
    for name, theirs in found.items():
        worst = max(worst, float(np.max(np.abs(np.asarray(theirs, np.float64) / wanted[name] - 1))))
    if not worst < 1e-3:
        raise SystemExit(
            f"{peer}: weight gradients' norms differ from vgcore's by up to {worst:.2e} relative, expected "
            "less than 1e-3: the timings would not compare the same work"
        )
    return worst


def offers(work: Workload, threads: int, peers: set[str]) -> tuple[Any, dict[str, Any]]:
    """Return the network, and what each peer offers: its forms and, where there is none, why."""
    net, (x, y) = work.network(), data(work)
    start = net.parameters()
    offered: dict[str, Any] = {}
    if "torch" in peers:
        offered["torch"] = _blocks_torch.forms(work.kind, threads, start, x, y, RATE)
    if "jax" in peers:
        offered["jax"] = _blocks_jax.forms(work.kind, start, x, y, RATE)
    return net, offered


def same_work(work: Workload, threads: int, peers: set[str]) -> dict[str, float]:
    """Return by how much peers' norms differ from vgcore's on a shallow network of the same blocks.

    Through 1,000 blocks a last digit grows until nothing is left to compare; XLA's reciprocal square root,
    for one, is right to 1e-5 alone.
    """
    shallow = replace(work, layers=SHALLOW)
    net, offered = offers(shallow, threads, peers)
    wanted = norms(net.gradients(*data(shallow), loss="mse"))
    found = {}
    for peer, (makers, _) in offered.items():
        for name, make in makers.items():
            step = make()
            step.step()
            found[f"{peer}, {name}"] = compare(f"{peer}, {name}", step.norms(), wanted)
    return found


def measure(work: Workload, threads: int, repeats: int, peers: set[str]) -> dict[str, Any]:
    """Return times, ratios and checks of one workload, everybody in turn."""
    checks = same_work(work, threads, peers)
    net, offered = offers(work, threads, peers)
    x, y = data(work)
    chosen: dict[str, Any] = {}
    forms: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for peer, (makers, reason) in offered.items():
        if not makers:
            skipped[peer] = reason
            log(f"  {peer} skipped: {reason}")
            continue
        made = {name: make() for name, make in makers.items()}
        forms[peer] = fastest({name: step.step for name, step in made.items()})
        chosen[peer] = made[forms[peer]]
    contestants: dict[str, Callable[[], Any]] = {
        "vgcore": lambda: net.step(x, y, loss="mse", lr=RATE, stats="norms").log2_weight_grad_norm
    }
    contestants |= {peer: step.step for peer, step in chosen.items()}
    log(f"  {work}: forms {forms}")
    times = alternate(contestants, repeats)
    ours = times["vgcore"]["median"]
    ratios = {peer: times[peer]["median"] / ours for peer in chosen}
    return {
        "work": str(work),
        "peak_gflops": peak(threads, 0.5),
        "times": times,
        "ratios": ratios,
        "best_peer": min(ratios, key=lambda p: ratios[p]) if ratios else None,
        "forms": forms,
        "largest_norm_difference": checks,
        "skipped": skipped,
    }


def optimizers(layers: int, width: int, batch: int, repeats: int) -> dict[str, Any]:
    """Return the time of a training step with each optimizer, over the same network and data."""
    work = Workload("", layers, width, batch)
    x, y = data(work)
    rules = {"SGD": vg.SGD(RATE), "momentum": vg.SGD(RATE, momentum=0.9), "Adam": vg.Adam(RATE)}

    def training(rule: Any) -> Callable[[], Any]:
        net = vg.mlp(depth=layers, width=width, activation="tanh", init="glorot_normal", rng=0)
        rows = np.concatenate([x] * STEPS), np.concatenate([y] * STEPS)
        return lambda: net.fit(*rows, loss="mse", epochs=1, batch_size=batch, optimizer=rule, shuffle=False)

    times = alternate({name: training(rule) for name, rule in rules.items()}, repeats)
    base = times["SGD"]["median"]
    return {
        "work": f"{layers}, {width}, {batch}",
        "steps": STEPS,
        "times": times,
        "ratios": {name: t["median"] / base for name, t in times.items()},
    }


def epoch(layers: int, repeats: int) -> dict[str, Any]:
    """Return the time of one epoch on the digits through a residual network of width 64."""
    x, y = vg.datasets.digits()
    net = vg.mlp(
        depth=layers, width=64, in_features=64, out_features=10, activation="relu", norm="layer",
        skip="pre_activation", rng=0,
    )  # fmt: skip
    run = {"epoch": lambda: net.fit(x, y, epochs=1, batch_size=32, optimizer=vg.SGD(0.01), rng=0)}
    return {"work": f"{layers} residual layers, {len(x):,} digits", "times": alternate(run, repeats)}
