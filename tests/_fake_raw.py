"""Fabricates what a pass reports, so that results can be tested without running a network."""

from __future__ import annotations

from typing import Any

import numpy as np

ZERO_EXPONENT = (-1075, -150, -134, -25, -17, -10)
NORMAL_EXPONENT = (-1022, -126, -126, -14, -14, -6)
OVERFLOW_EXPONENT = (1024, 128, 128, 16, 16, 9)


def fake_raw(
    log10_norm: Any,
    *,
    width: int = 64,
    batch: int = 32,
    full: bool = True,
    lr: float | None = None,
    units_per_step: int = 1,
    saturated: float = 0.0,
    zero_slope: float = 0.0,
    dead: Any = 0,
    loss: float | None = 2.3,
) -> dict[str, Any]:
    """Return a raw dict whose gradient norm per step is ``10**log10_norm``, spread over a few binades."""
    curve = np.asarray(log10_norm, dtype=np.float64)
    steps = curve.size
    units = steps * units_per_step
    log2 = np.repeat(curve * np.log2(10.0), units_per_step)
    kind = np.zeros(units, np.uint8)
    if units_per_step > 1:
        kind[units_per_step - 1 :: units_per_step] = 2  # the step ends with a Residual
    lone = kind == 2
    raw: dict[str, Any] = {
        "loss": loss,
        "batch": batch,
        "steps": steps,
        "plan": "keep all",
        "segment": steps,
        "recompute": 1.0,
        "step": np.repeat(np.arange(steps), units_per_step),
        "kind": kind,
        "width": np.full(units, width, np.int64),
        "grad_log2_norm": log2.copy(),
        "delta_log2_norm": np.where(lone, np.nan, log2 - 1),
        "weight_grad_log2_norm": np.where(lone, np.nan, log2 + 2),
        "bias_grad_log2_norm": np.where(lone, np.nan, log2),
        "input_grad_log2_norm": float(log2[0]) if steps else 0.0,
    }
    if full:
        raw |= _full(log2, lone, width, batch, saturated, zero_slope, dead, lr)
    return raw


def _full(
    log2: Any,
    lone: Any,
    width: int,
    batch: int,
    saturated: float,
    zero_slope: float,
    dead: Any,
    lr: float | None,
) -> dict[str, Any]:
    units, count = log2.size, width * batch
    mean_abs = np.where(lone, np.nan, log2 - 1 - 0.5 * np.log2(count))
    # Four groups of equal size, at the mean magnitude and 2, 4, 8 binades below.
    offsets = np.array([0.0, -2.0, -4.0, -8.0])
    exponent = mean_abs[:, None] + offsets
    finite = np.isfinite(exponent)
    quarter = count // 4

    def counted(test: Any) -> Any:
        return np.stack([(finite & test(k)).sum(axis=1) * quarter for k in range(6)], axis=1).astype(np.int64)

    flush = counted(lambda k: exponent <= ZERO_EXPONENT[k])
    subnormal = counted(lambda k: (exponent > ZERO_EXPONENT[k]) & (exponent < NORMAL_EXPONENT[k]))
    overflow = counted(lambda k: exponent >= OVERFLOW_EXPONENT[k])
    top = np.where(np.isfinite(mean_abs), np.floor(np.nan_to_num(mean_abs, neginf=0, posinf=0)), 0).astype(
        np.int64
    )
    hist = np.zeros((units, 32), np.int64)
    for offset in offsets:
        hist[:, int(-offset) // 2] += quarter
    exact = np.isneginf(log2) & ~lone
    hist[~np.isfinite(mean_abs)] = 0
    raw = {
        "grad_spread": np.full(units, 0.1),
        "grad_zero_samples": np.zeros(units, np.int64),
        "delta_log2_max": mean_abs,
        "delta_log2_mean_abs": mean_abs - 1,
        "delta_count": np.where(lone, 0, 4 * quarter),
        "delta_zero": np.where(exact, 4 * quarter, 0),
        "delta_nan": np.where(np.isnan(log2), 4 * quarter, 0),
        "delta_inf": np.where(np.isposinf(log2), 4 * quarter, 0),
        "delta_flush": flush,
        "delta_subnormal": subnormal,
        "delta_overflow": overflow,
        "delta_hist": hist,
        "delta_hist_top": top,
        "weight_grad_log2_max": log2,
        "weight_grad_log2_mean_abs": log2 - 3,
        "weight_grad_count": np.where(lone, 0, width * width),
        "weight_grad_zero": np.zeros(units, np.int64),
        "weight_grad_nonfinite": np.zeros(units, np.int64),
        "weight_grad_flush": flush,
        "weight_log2_norm": np.where(lone, np.nan, 3.0),
        "out_mean": np.zeros(units),
        "out_var": np.ones(units),
        "pre_mean": np.where(lone, np.nan, 0.0),
        "pre_var": np.where(lone, np.nan, 1.0),
        "saturated": np.where(lone, np.nan, saturated),
        "zero_slope": np.where(lone, np.nan, zero_slope),
        "dead": np.where(lone, 0, np.broadcast_to(dead, units)).astype(np.int64),
    }
    if lr is not None:
        moved = np.log2(lr) + log2 > -24
        raw["weight_unchanged"] = np.where(lone | moved, 0, width * width)
    return raw
