"""Tests of optimizers, clips and losses against PyTorch in float64, to 1e-12 relative, and known answers."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import DATA, assert_close, known_answers, portable_data
from vgcore.gradients import Gradients

RTOL = 1e-12
# Curvatures of the four parabolas that the reference trajectories run down.
CURVES = np.array([1.0, 10.0, 100.0, 0.1])


@cache
def reference() -> dict[str, Any]:
    """tests/data/torch_training.json."""
    found: dict[str, Any] = json.loads((DATA / "torch_training.json").read_text())
    return found


@pytest.mark.parametrize("case", sorted(reference()["optimizers"]))
def test_an_optimizer_walks_as_pytorchs_does(case: str) -> None:
    entry = reference()["optimizers"][case]
    params = {k: tuple(v) if k == "betas" else v for k, v in entry["params"].items()}
    # A sample for each parabola: the mean over four of (x w - x)^2 with x = sqrt(2 a) is sum a (w - 1)^2 / 2.
    x = np.diag(np.sqrt(2 * CURVES))
    y = x.sum(axis=1, keepdims=True)
    start = portable_data((4,), 0, 1.0)
    net = vg.Network(4, [vg.Dense(1, bias=False, init=start[None])], dtype="float64", rng=0)
    optimizer = getattr(vg, entry["kind"])(**params)
    history = None
    for epoch, expected in enumerate(entry["trajectory"], 1):
        # Each step resumes the one before: what is remembered goes through the state as well.
        history = net.fit(
            x, y, epochs=epoch, batch_size=4, loss="mse", optimizer=optimizer, resume=history, shuffle=False
        )
        assert_close(net.parameters()["0.weight"][0], expected, RTOL, f"{case}, step {epoch}")


def gradients(*arrays: Any, exponent: int = 0) -> Gradients:
    """Plain arrays as the result of a pass."""
    shift = np.asarray(exponent, np.int64)
    return Gradients({f"g{i}": (np.asarray(a), shift) for i, a in enumerate(arrays)}, None)


@pytest.mark.parametrize("case", sorted(reference()["clips"]))
def test_a_clip_leaves_what_pytorch_leaves(case: str) -> None:
    entry = reference()["clips"][case]
    if "value" in entry:
        clip: vg.clips.Clip = vg.ClipValue(entry["value"])
    else:
        clip = vg.ClipNorm(entry["max_norm"], norm_type=float(entry["norm_type"]))
    given = gradients(portable_data((3,), 1, 3.0), portable_data((2, 2), 2, 3.0))
    got = vg.clips.apply(clip, given)
    for i, expected in enumerate(entry["g"]):
        assert_close(got[f"g{i}"].ravel(), expected, RTOL, f"{case} g{i}")


def test_known_answer_of_clip_grad_norm() -> None:
    entry = known_answers()["clip_grad_norm"]
    given = gradients(np.array(entry["setting"]["grad"], np.float64))
    got = vg.clips.apply(vg.ClipNorm(entry["setting"]["max_norm"]), given)["g0"]
    assert np.abs(got - entry["expected"]["clipped"]).max() <= entry["tolerance"]["abs"]
    # Pascanu's rule has no eps.
    exact = vg.clips.apply(vg.ClipNorm(1.0, rule="pascanu"), given)["g0"]
    assert_close(exact, [0.6, 0.8], 1e-15, "pascanu")


def test_known_answer_of_agc() -> None:
    # |g| / max(|w|, eps) > clipping, row by row; rows of small weights count as 1e-3.
    g = np.array([[3.0, 4.0], [3e-3, 4e-3], [0.3, 0.4]])
    w = np.array([[6.0, 8.0], [6.0, 8.0], [0.0, 0.0]])
    got = vg.clips.apply(vg.AGC(0.1), gradients(g), {"g0": w})["g0"]
    assert_close(got, [[0.6, 0.8], [3e-3, 4e-3], [6e-5, 8e-5]], 1e-14, "agc")
    same = vg.clips.apply(vg.AGC(0.1), gradients(g), {"g0": w}, last=["g0"])["g0"]
    assert same.tobytes() == g.tobytes()
