"""Fabricates what a training leaves behind, so that histories can be tested without training a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from vgcore._fit_records import Records, Units, Validation


def noisy(curve: Any, noise: float, seed: int = 0) -> Any:
    """Return `curve` with relative normal noise, as batches bring."""
    values = np.asarray(curve, dtype=np.float64)
    return values * (1 + noise * np.random.default_rng(seed).standard_normal(values.size))


def fake_records(
    loss: Any = None,
    *,
    per_epoch: int = 50,
    layers: int = 6,
    every: int = 10,
    units_per_step: int = 1,
    rate: float = -0.3,
    full: bool = True,
    labels: bool = True,
    held_out: bool = True,
    along_time: bool = False,
    dies: int | None = None,
    still: int = 0,
    stopped: str | None = None,
    meta: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
) -> Records:
    """Return records whose gradient changes by `rate` decades a layer towards the input.

    From the recorded step of number `dies` on, the lowest layer's gradient is exactly zero; the lowest
    `still` layers get updates below the resolution of float32.
    """
    curve = noisy(2.3 * np.exp(-np.arange(200) / 60), 0.03) if loss is None else np.asarray(loss, np.float64)
    steps = curve.size
    epoch = np.arange(steps) // per_epoch
    recorded = np.arange(0, steps, every)
    units = layers * units_per_step
    depth = np.repeat(np.arange(layers), units_per_step)
    norms = np.log2(10.0) * rate * (layers - 1 - depth) + np.zeros((recorded.size, 1))
    norms = norms + np.log2(np.maximum(np.nan_to_num(curve[recorded], nan=1.0), 1e-3))[:, None]
    if dies is not None:
        norms[recorded >= dies, 0] = -np.inf
    ratio = np.full((recorded.size, units), 1e-3)
    ratio[:, :still] = 1e-9
    if units_per_step > 1:
        ratio[:, units_per_step - 1 :: units_per_step] = np.nan  # the end of a Residual has no weights
    number = int(epoch[-1]) + 1 if steps else 0
    return Records(
        loss=curve,
        accuracy=np.clip(1 - curve / 2.6, 0, 1) if labels else None,
        lr=np.full(steps, 0.05),
        epoch=epoch,
        recorded=recorded,
        log2_grad_norm=norms,
        update_ratio=ratio if full else None,
        dead=np.zeros((recorded.size, units), np.int64) if full else None,
        unchanged=np.full((recorded.size, units), 3, np.int64) if full else None,
        zero_weights=np.full((recorded.size, units), 2, np.int64) if full else None,
        units=Units(
            tuple(f"layer{i}.weight" for i in range(units))
            if along_time
            else tuple(f"hidden[{i}]" for i in range(units)),
            np.full(units, -1) if along_time else depth,
            ("parameter" if along_time else "dense",) * units,
        ),
        validation=tuple(
            Validation(i, float(curve[min((i + 1) * per_epoch, steps) - 1]) * 1.1, 0.9) for i in range(number)
        )
        if held_out
        else (),
        seconds=np.full(number, 0.25),
        stopped=stopped,
        meta={"loss": "cross_entropy()", "batch_size": 32, "dtype": "float32", "seed": 0} | (meta or {}),
        state=state,
    )
