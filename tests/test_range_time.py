"""Tests of recurrent gradients far outside the float range, against the oracle's rows with exponents of their
own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import double, gap_by_norm
from networks_time import (
    Problem,
    by_step,
    expected_gradients,
    found_gradients,
    gradients,
    time_arrays,
)
from oracle_cells import CELLS
from oracle_time import Flow, Recurrent, random_parameters, recurrent_gradients


def fading(cell: str, hidden: int) -> tuple[Recurrent, dict[str, Any]]:
    """A layer of each cell that loses two to three decades a step; its numbers are float32's."""
    rng = np.random.default_rng(5)
    options = {"antisymmetric_rnn": {"epsilon": 1.0, "gamma": 1 - 2.0**-8}}.get(cell, {})
    layer = Recurrent(cell, hidden, options, read="every")
    p = random_parameters(layer, 3, rng, 0.3)
    gates = {"lstm": (1, -7.0), "gru": (1, -7.0), "min_lstm": (0, -7.0), "min_gru": (0, 7.0)}
    if cell in gates:
        gate, value = gates[cell]
        p["bias_ih_l0"][gate * hidden : (gate + 1) * hidden] += value
    if "weight_hh_l0" in p:
        p["weight_hh_l0"] *= 0.01
    if cell == "irnn":
        p["weight_ih_l0"], p["bias_ih_l0"] = 0.01 * p["weight_ih_l0"], np.ones(hidden)
    if cell == "antisymmetric_rnn":
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            p[name] *= 0.01
    if cell == "lru":
        p["lru_l0"][: hidden // 2] = np.log(6.0)
    return layer, {name: value.astype(np.float32) for name, value in p.items()}


@cache
def faded(cell: str) -> tuple[Problem, Flow]:
    """2,000 steps of which the loss reads the last, and what the oracle finds in float64."""
    layer, parameters = fading(cell, 4)
    rng, steps, batch = np.random.default_rng(6), 2000, 2
    x = rng.normal(size=(batch, steps, 3)).astype(np.float32)
    v = np.zeros((batch, steps, 4), np.float32)
    v[:, -1] = rng.normal(size=(batch, 4))
    state = tuple(rng.normal(size=(1, batch, 4)).astype(np.float32) for _ in CELLS[cell].states)
    problem = Problem(layer, parameters, x, state, None, v, None, "float32")
    return problem, recurrent_gradients(layer, problem.weights, double(x), double(v), **problem.oracle)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_gradients_far_outside_the_float_range(cell: str, dtype: str) -> None:
    """dL/dx_0 and dL/dh_0 of 1e-4000 to 1e-6000, and every step between at its own scale."""
    given, run = faded(cell)
    assert run.start[0] * np.log10(2) < -4000
    assert given.state is not None
    problem = replace(
        given,
        parameters={name: value.astype(dtype) for name, value in given.parameters.items()},
        x=given.x.astype(dtype),
        state=tuple(part.astype(dtype) for part in given.state),
        cotangent=given.cotangent.astype(dtype),
        dtype=dtype,
    )
    net = problem.network()
    result = gradients(net, problem)
    found, expected = found_gradients(result, problem), expected_gradients(run, problem)
    # 1/256 is left of 1 - 255/256 there: float32 keeps five digits of it a step
    tolerance = {"float64": 1e-9, "float32": 1e-2 if cell == "antisymmetric_rnn" else 1e-3}[dtype]
    for name, value in expected.items():
        assert gap_by_norm(found[name], value) < tolerance, name
    m, e = by_step(result)
    wide, exponents = expected["x"]
    for t in range(0, problem.x.shape[1], 37):
        assert gap_by_norm((m[:, t], e[:, t]), (wide[:, t], exponents[:, t])) < tolerance, t
    flow = time_arrays(net.probe(problem.x, **problem.backward))
    for key, norms in (
        ("grad", run.hidden), ("delta", run.delta), ("state_grad", run.start),
        ("weight_ih_grad", run.contribution("weight_ih")),
    ):  # fmt: skip
        np.testing.assert_allclose(
            flow[f"{key}_log2_norm"], norms, rtol=tolerance / 1000, atol=10 * tolerance, err_msg=key
        )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_that_explode_beyond_the_float_range(dtype: str) -> None:
    """At rest in 0 tanh has slope 1; weights 300 times an orthogonal matrix make 300^2000, about 1e4954."""
    width, steps = 4, 2000
    net = vg.rnn("rnn", width, in_features=1, bias=False, dtype=dtype, rng=0)
    # a signed permutation: no rounding at all
    q = np.array([[0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1], [-1, 0, 0, 0]], dtype)
    net.load_parameters({"rnn.weight_ih_l0": np.zeros((width, 1), dtype), "rnn.weight_hh_l0": 300 * q})
    x, v = np.zeros((1, steps, 1), dtype), np.array([[3.0, 0.0, 4.0, 0.0]], dtype)
    flow = net.probe(x, cotangent=v)
    expected = np.log10(5.0) + np.arange(steps - 1, -1, -1) * np.log10(300.0)
    np.testing.assert_allclose(flow.log10_grad_norm, expected, rtol=1e-12 if dtype == "float64" else 1e-7)


def test_one_dead_sample_does_not_touch_the_others() -> None:
    """A sample whose gradient is exactly zero has no exponent; weight gradients of the rest stay whole."""
    layer, parameters = fading("lstm", 4)
    rng = np.random.default_rng(8)
    x, v = rng.normal(size=(2, 900, 3)).astype(np.float32), np.zeros((2, 900, 4), np.float32)
    v[0, -1] = 1.0
    problem = Problem(layer, parameters, x, None, None, v, None, "float32")
    net = problem.network()
    one, two = (net.probe(x[:rows], cotangent=v[:rows], stats="full") for rows in (1, 2))
    for key, value in time_arrays(one).items():
        if "grad_log2_norm" in key:
            np.testing.assert_allclose(time_arrays(two)[key], value, rtol=1e-12, err_msg=key)
