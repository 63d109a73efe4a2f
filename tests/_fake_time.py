"""Fabricates what a pass through recurrent layers reports: results can be tested without running one."""

from __future__ import annotations

from typing import Any

import numpy as np

GATES = {
    "rnn": ["h"],
    "irnn": ["h"],
    "lstm": ["i", "f", "g", "o"],
    "gru": ["r", "z", "n"],
    "min_gru": ["z", "n"],
    "min_lstm": ["f", "i", "n"],
    "lru": [],
}


def fading(steps: int, rate: float = -0.2, noise: float = 0.02, seed: int = 0, end: float = -1.0) -> Any:
    """Return log10 norms by time step that change by `rate` decades per step back and end at `end`."""
    walk = np.random.default_rng(seed).normal(0, noise, steps).cumsum()
    return rate * np.arange(steps)[::-1] + walk - walk[-1] + end


def fake_block(
    curves: Any,
    *,
    cell: str = "lstm",
    name: str = "rnn",
    directions: int = 1,
    hidden: int = 16,
    full: bool = True,
    cell_curves: Any = None,
    gates: dict[str, Any] | None = None,
    saturated: dict[str, Any] | None = None,
    jacobian: Any = -0.1,
) -> dict[str, Any]:
    """Return one recurrent layer's report: `curves` are log10 |dL/dh_t|, (layers * directions, steps)."""
    log2 = np.atleast_2d(np.asarray(curves, dtype=np.float64)) * np.log2(10.0)
    rows, steps = log2.shape
    names = GATES[cell]
    block: dict[str, Any] = {
        "name": name,
        "cell": cell,
        "gates": names,
        "layers": rows // directions,
        "directions": directions,
        "hidden": hidden,
        "steps": steps,
        "grad_log2_norm": log2.copy(),
        "delta_log2_norm": log2 - 2,
        "state_grad_log2_norm": log2[:, 0] - 0.5,
    }
    if cell == "lstm":
        block["cell_grad_log2_norm"] = (
            log2 + 1 if cell_curves is None else np.atleast_2d(cell_curves) * np.log2(10.0)
        )
    if full:
        shape = (rows, steps)
        block["weight_ih_grad_log2_norm"] = log2 + 1.0
        recurrent = np.nan if cell in ("min_gru", "min_lstm", "lru") else log2 + 1.0
        block["weight_hh_grad_log2_norm"] = np.broadcast_to(recurrent, shape).copy()
        means = dict.fromkeys(names, 0.5) | (gates or {})
        flat = dict.fromkeys(names, 0.05) | (saturated or {})
        for key, values in (("gate_mean", means), ("gate_saturated", flat)):
            block[key] = np.stack(
                [np.broadcast_to(np.asarray(values[gate], np.float64), shape) for gate in names], axis=1
            ) if names else np.empty((rows, 0, steps))  # fmt: skip
        block["jacobian_log2_norm"] = np.broadcast_to(np.asarray(jacobian) * np.log2(10.0), shape).copy()
        block["hidden_mean"] = np.zeros(shape)
        block["hidden_var"] = np.full(shape, 0.25)
        block["grad_spread"] = np.full(shape, 0.1)
    return block


def fake_time(*blocks: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Return a whole report of recurrent layers, nearest the input first."""
    raw = {
        "axis": "time",
        "loss": 0.7,
        "batch": 8,
        "plan": "keep all",
        "segment": blocks[-1]["steps"],
        "recompute": 1.0,
        "steps": blocks[-1]["steps"],
        "time": list(blocks),
        "nonfinite": None,
        "weight_norms": {"rnn.weight_hh_l0": -3.0},
        "input_grad_log2_norm": -7.0,
    }
    return raw | extra
