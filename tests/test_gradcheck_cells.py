"""Property tests of recurrent gradients: every cell, every option, random sizes, lengths and states.

Three independent judges: differences of vgcore's own forward pass, the NumPy oracle's backward pass, and its
complex step through the whole sequence. All tolerances are relative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import oracle_time
import pytest
import vgcore as vg
from helpers import double, gap_by_norm
from hypothesis import assume, event, given, note
from hypothesis import strategies as st
from networks_time import (
    Problem,
    as_state,
    expected_gradients,
    found_gradients,
    layers,
    problems,
    scaled,
    time_arrays,
    vg_layer,
    vg_network,
)
from oracle_activations import ACTIVATIONS
from oracle_cells import CELLS
from oracle_time import (
    Flow,
    Recurrent,
    directional_derivative,
    jacobian_norms,
    random_parameters,
    recurrent_gradients,
)

EVERY_CELL = pytest.mark.parametrize("cell", sorted(CELLS))


def run_oracle(problem: Problem) -> Flow:
    x, v = double(problem.x), double(problem.cotangent)
    return recurrent_gradients(problem.layer, problem.weights, x, v, **problem.oracle)


def assert_same_gradients(found: Any, expected: Any, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name][0].shape == value[0].shape, name
        assert gap_by_norm(found[name], value) <= tolerance, name


# --- the oracle -----------------------------------------------------------------------------------------


@EVERY_CELL
@given(data=st.data())
def test_whole_sequence_against_the_oracle(cell: str, data: Any) -> None:
    problem = data.draw(problems(cell=cell, dtype="float64", truncate=data.draw(st.booleans())))
    net, run = problem.network(), run_oracle(problem)
    y, last = net.forward(problem.x, **problem.given, return_state=True)
    assert gap_by_norm((y, 0), (run.trace.output, 0)) <= 1e-11
    for which, letter in enumerate(CELLS[cell].states):
        assert gap_by_norm((last[letter], 0), (run.trace.states[which], 0)) <= 1e-11
    found = net.gradients(problem.x, **problem.backward)
    assert_same_gradients(found_gradients(found, problem), expected_gradients(run, problem), 1e-10)
    leaves = {name.split(".", 1)[1] for name in found if name.startswith("rnn.")}
    assert leaves == set(problem.parameters)
    for name in leaves - set(problem.used):  # a learned start in whose place a state was given
        assert not found[f"rnn.{name}"].any()


@EVERY_CELL
@given(data=st.data())
def test_norms_of_every_step_against_the_oracle(cell: str, data: Any) -> None:
    problem = data.draw(problems(cell=cell, dtype="float64", truncate=data.draw(st.booleans())))
    flow, run = problem.network().probe(problem.x, **problem.backward, stats="full"), run_oracle(problem)
    found = time_arrays(flow)
    expected = {
        "grad_log2_norm": run.hidden,
        "delta_log2_norm": run.delta,
        "state_grad_log2_norm": run.start,
        "weight_ih_grad_log2_norm": run.contribution("weight_ih"),
    }
    if cell == "lstm":
        expected["cell_grad_log2_norm"] = run.cell
    if "weight_hh" in CELLS[cell].leaves:
        expected["weight_hh_grad_log2_norm"] = run.contribution("weight_hh")
    else:
        assert np.isnan(found["weight_hh_grad_log2_norm"]).all()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        # a slope of 1e-190 times a state of 1e-141 is zero in the oracle's doubles, not here
        seen = ~(np.isneginf(value) & (found[name] < -1000))
        np.testing.assert_allclose(found[name][seen], value[seen], rtol=1e-12, atol=1e-9, err_msg=name)
    assert ("cell_grad_log2_norm" in found) == (cell == "lstm")
    # of the forward pass, over the samples that have the step: NaN where there is none
    np.testing.assert_allclose(
        found["jacobian_log2_norm"], jacobian_norms(problem.layer, run.trace), rtol=1e-11, atol=1e-9
    )
    for number, track in enumerate(run.trace.tracks):
        hidden = np.ma.masked_array(
            track.hidden, np.repeat(~problem.valid[..., None], problem.layer.hidden, 2)
        )
        for key, value in (("mean", hidden.mean(axis=(0, 2))), ("var", hidden.var(axis=(0, 2)))):
            got = found[f"hidden_{key}"][number]
            np.testing.assert_allclose(got, value.filled(np.nan), rtol=1e-9, atol=1e-12, err_msg=key)


@EVERY_CELL
@given(data=st.data())
def test_whole_sequence_against_complex_steps(cell: str, data: Any) -> None:
    """Along random directions of everything at once: one forward pass, no formula of any derivative."""
    problem = data.draw(problems(cell=cell, dtype="float64"))
    assume(cell != "irnn" or run_oracle(problem).hidden.max() > -np.inf)
    found = found_gradients(problem.network().gradients(problem.x, **problem.backward), problem)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    for _ in range(3):
        directions = {name: rng.normal(size=value.shape) for name, value in problem.parameters.items()}
        along_x, along = rng.normal(size=problem.x.shape), None
        if problem.state is not None:
            along = [rng.normal(size=part.shape) for part in problem.state]
        step = directional_derivative(
            problem.layer, problem.weights, problem.x, directions, problem.cotangent, x_direction=along_x,
            state=problem.state, state_direction=along, lengths=problem.lengths,
        )  # fmt: skip
        every = directions | {"x": along_x}
        every |= {f"state.{s}": d for s, d in zip(CELLS[cell].states, along or [], strict=False)}
        terms = np.concatenate([(plain(found[name]) * every[name]).ravel() for name in found])
        # rounding is relative to the terms of the sum, not to what is left when they cancel
        assert abs(step - terms.sum()) <= 1e-10 * np.sqrt(np.sum(terms**2))


def plain(pair: tuple[Any, Any]) -> Any:
    m, e = double(pair[0]), np.asarray(pair[1])
    return np.ldexp(m, np.clip(e, -4000, 4000).reshape(e.shape + (1,) * (m.ndim - e.ndim)))


# --- differences of vgcore's own forward pass -----------------------------------------------------------


@EVERY_CELL
@given(data=st.data())
def test_whole_sequence_against_differences(cell: str, data: Any) -> None:
    """Eight-point differences along random directions; the oracle has no part in it."""
    problem = data.draw(problems(cell=cell, dtype="float64", max_steps=5))
    net = problem.network()
    found = found_gradients(net.gradients(problem.x, **problem.backward), problem)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    directions = {name: rng.normal(size=value.shape) for name, value in problem.parameters.items()}
    along_x = rng.normal(size=problem.x.shape)
    along = [rng.normal(size=part.shape) for part in problem.state or ()]

    def value(t: float) -> float:
        moved = {f"rnn.{name}": a + t * directions[name] for name, a in problem.parameters.items()}
        net.load_parameters(moved)
        state = None
        if problem.state is not None:
            state = tuple(a + t * d for a, d in zip(problem.state, along, strict=True))
        given_state = as_state(problem.layer, state)
        y = net.forward(problem.x + t * along_x, state=given_state, lengths=problem.lengths)
        return float(np.sum(problem.cotangent * y))

    def slope(h: float) -> float:
        weights = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
        return sum(w * (value(k * h) - value(-k * h)) for k, w in enumerate(weights, 1)) / h

    coarse, fine = slope(4e-4), slope(2e-4)
    every = directions | {"x": along_x}
    every |= {f"state.{s}": d for s, d in zip(CELLS[cell].states, along, strict=False)}
    terms = np.concatenate([(plain(found[name]) * every[name]).ravel() for name in found])
    size = np.sqrt(np.sum(terms**2))
    if abs(coarse - fine) > 1e-7 * size:  # next to a kink, or curved too sharply for this step
        event("not judged")
        assume(False)
    assert abs(fine - terms.sum()) <= 1e-6 * size


# --- every activation, every loss, float32 --------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(vg.activations.names()) & set(ACTIVATIONS) - {"prelu"}))
def test_rnn_of_every_activation(name: str) -> None:
    """40 steps, two layers, both of the oracle's ways."""
    rng = np.random.default_rng(11)
    layer = Recurrent("rnn", 5, {"activation": name}, layers=2, read="every")
    # weights small enough for the unbounded activations to stay in range
    parameters = random_parameters(layer, 3, rng, 0.25)
    x, v = rng.normal(size=(3, 40, 3)), rng.normal(size=(3, 40, 5))
    run = recurrent_gradients(layer, parameters, x, v)
    net = vg_network(layer, 3, parameters)
    found = net.gradients(x, cotangent=v)
    for key, total in run.parameters.items():
        assert gap_by_norm(found.scaled(f"rnn.{key}"), scaled(total)) < 1e-10, key
    assert gap_by_norm(found.scaled_input, run.scaled_input()) < 1e-10
    directions = {key: rng.normal(size=value.shape) for key, value in parameters.items()}
    step = directional_derivative(layer, parameters, x, directions, v)
    terms = np.concatenate([(found[f"rnn.{key}"] * directions[key]).ravel() for key in parameters])
    assert abs(step - terms.sum()) <= 1e-10 * np.sqrt(np.sum(terms**2))


def draw_target(loss: Any, rows: tuple[int, ...], width: int, rng: np.random.Generator) -> Any:
    """A target that the loss takes: labels or probabilities, values in [0, 1], or any numbers."""
    if loss.name == "cross_entropy":
        if rng.random() < 0.5:
            return rng.integers(0, width, rows)
        weights = rng.random((*rows, width)) + 0.1
        return weights / weights.sum(axis=-1, keepdims=True)
    return rng.random((*rows, width)) if loss.name == "bce_with_logits" else rng.normal(size=(*rows, width))


@given(problems(dtype="float64", truncate=True), vg.testing.losses(), st.integers(1, 4), st.booleans())
def test_head_and_loss_against_the_oracle(problem: Problem, loss: Any, width: int, deep: bool) -> None:
    """The mean over all rows that are read: samples, or steps that samples have."""
    rng = np.random.default_rng(width)
    head: list[Any] = [vg.Dense(width, sigma_b2=0.1, name="output")]
    tuples: list[Any] = [("dense", width, True)]
    if deep:
        head, tuples = [vg.Dense(5), vg.Activation("gelu"), *head], [
            ("dense", 5, True), ("activation", "gelu", {}), *tuples,
        ]  # fmt: skip
    net = problem.network(head=head)
    names = {"1": "0", "output": str(len(tuples) - 1)}
    above = {
        f"{names[name.split('.')[0]]}.{name.split('.')[1]}": double(value)
        for name, value in net.parameters().items()
        if not name.startswith("rnn.")
    }
    rows = problem.x.shape[:1] if problem.layer.read == "last" else problem.x.shape[:2]
    target = draw_target(loss, rows, width, rng)
    run, top = oracle_time.network_gradients(
        problem.layer, problem.weights, tuples, above, problem.x, target=target, loss=loss.to_spec(),
        **problem.oracle,
    )  # fmt: skip
    passed = problem.given | {"truncate": problem.truncate, "loss": loss}
    found = net.gradients(problem.x, target, **passed)
    assert found.loss == pytest.approx(top.loss, rel=1e-11, abs=1e-14)
    assert net.loss(problem.x, target, loss=loss, **problem.given) == pytest.approx(top.loss, rel=1e-11)
    assume(np.isfinite(top.input.log2_norm()))
    assert_same_gradients(found_gradients(found, problem), expected_gradients(run, problem), 1e-9)
    for name in found:
        if not name.startswith(("rnn.", "state.")):
            first, leaf = name.split(".")
            expected = top.parameters[f"{names[first]}.{leaf}"]
            assert gap_by_norm(found.scaled(name), expected) <= 1e-9, name
    flow = net.probe(problem.x, target, **passed)
    np.testing.assert_allclose(time_arrays(flow)["grad_log2_norm"], run.hidden, rtol=1e-11, atol=1e-8)


@given(problems(dtype="float32", truncate=True))
def test_float32_against_the_float64_oracle(problem: Problem) -> None:
    note(repr(problem.layer))
    run = run_oracle(problem)
    expected = expected_gradients(run, problem)
    # How far float32 may be off is a property of the network: what rounding its input and parameters does, in
    # float64.
    sensitivity, rng = dict.fromkeys(expected, 0.0), np.random.default_rng(0)
    for _ in range(3):
        near = {
            name: value * (1 + 2.0**-23 * rng.normal(size=value.shape))
            for name, value in problem.weights.items()
        }
        x = double(problem.x) * (1 + 2.0**-23 * rng.normal(size=problem.x.shape))
        moved = recurrent_gradients(problem.layer, near, x, double(problem.cotangent), **problem.oracle)
        for name, value in expected_gradients(moved, problem).items():
            sensitivity[name] = max(sensitivity[name], gap_by_norm(value, expected[name]))
    assume(all(value < 1e-4 for value in sensitivity.values()))
    found = found_gradients(problem.network().gradients(problem.x, **problem.backward), problem)
    for name, value in expected.items():
        assert gap_by_norm(found[name], value) < 1e-5 + 100 * sensitivity[name], name


TANH = {("lstm", "g"), ("gru", "n"), ("antisymmetric_rnn", "h"), ("orthogonal_rnn", "h")}
FLAT = {("min_gru", "n"), ("min_lstm", "n")}  # not a gate but a sum: no flat part


@pytest.mark.parametrize("cell", sorted(set(CELLS) - {"lru", "rnn", "irnn"}))
@given(data=st.data())
def test_gate_statistics_against_the_oracle(cell: str, data: Any) -> None:
    """Mean, and share whose slope is below 5 % of the steepest, over the samples that have the step."""
    problem = data.draw(problems(cell=cell, dtype="float64"))
    found = time_arrays(problem.network().probe(problem.x, **problem.backward, stats="full"))
    run = run_oracle(problem)
    for number, track in enumerate(run.trace.tracks):
        for t in np.flatnonzero(problem.valid.any(axis=0)):
            for k, gate in enumerate(CELLS[cell].gates):
                value = track.kept[t]["gates"][k][problem.valid[:, t]]
                # tanh: 1 - y^2, largest 1; sigmoid: y (1 - y), largest 1/4
                slope = 1 - value**2 if (cell, gate) in TANH else 4 * value * (1 - value)
                slope = np.ones_like(value) if (cell, gate) in FLAT else slope
                np.testing.assert_allclose(
                    found["gate_mean"][number, k, t], value.mean(), rtol=1e-9, atol=1e-13
                )
                if np.abs(slope - 0.05).min() > 1e-9:
                    share = float(np.mean(slope < 0.05))
                    assert found["gate_saturated"][number, k, t] == pytest.approx(share, abs=1e-12)


@given(problems(dtype="float64", truncate=True, max_steps=12))
def test_truncation_loss_against_the_oracle(problem: Problem) -> None:
    """|g_cut - g| / |g| and the cosine between them, for every parameter and part of the state."""
    assert problem.truncate is not None
    x, v, arguments = double(problem.x), double(problem.cotangent), problem.oracle
    runs = [
        recurrent_gradients(problem.layer, problem.weights, x, v, **{**arguments, "truncate": k})
        for k in (None, problem.truncate)
    ]
    whole, cut = ({name: plain(pair) for name, pair in expected_gradients(r, problem).items()} for r in runs)
    found = problem.network().truncation_loss(
        problem.x, cotangent=problem.cotangent, truncate=problem.truncate, **problem.given
    )
    for name in whole:
        size = np.linalg.norm(whole[name])
        if name == "x" or size == 0:
            continue
        difference, cosine = found[name if name.startswith("state.") else f"rnn.{name}"]
        assert abs(difference - np.linalg.norm(cut[name] - whole[name]) / size) <= 1e-9 * (1 + difference)
        if cut[name].any():
            expected = np.sum(cut[name] * whole[name]) / size / np.linalg.norm(cut[name])
            assert abs(cosine - expected) <= 1e-9
        else:
            assert np.isnan(cosine)
            assert difference == 1


@given(layers(read="every"), layers(), st.integers(1, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_recurrent_layers_between_others(
    first: Recurrent, second: Recurrent, batch: int, short: bool, seed: int
) -> None:
    """Dense, Activation, two recurrent layers and Dense, all at once, against the oracle piece by piece."""
    rng, steps, inputs, width = np.random.default_rng(seed), 5, 3, 4
    net = vg.Network(
        inputs,
        [
            vg.Dense(width, sigma_b2=0.1),
            vg.Activation("silu"),
            vg_layer(first, name="low"),
            vg_layer(second, name="high"),
            vg.Dense(2),
        ],
        dtype="float64",
        rng=seed,
    )
    lower, upper = ([("dense", width, True), ("activation", "silu", {})], [("dense", 2, True)])
    p = random_parameters(first, width, rng, 0.5), random_parameters(second, first.width, rng, 0.5)
    own = {f"low.{key}": value for key, value in p[0].items()}
    own |= {f"high.{key}": value for key, value in p[1].items()}
    net.load_parameters(net.parameters() | own)
    weights = net.parameters()
    below, above = ({f"0.{leaf}": weights[f"{k}.{leaf}"] for leaf in ("weight", "bias")} for k in (0, 4))
    x = rng.normal(size=(batch, steps, inputs))
    lengths = rng.integers(1, steps + 1, batch) if short else None
    rows, _ = oracle.forward(oracle.compile_program(lower), below, x.reshape(-1, inputs))
    low = oracle_time.forward(first, p[0], rows.reshape(batch, steps, width), None, lengths)
    high = oracle_time.forward(second, p[1], low.output, None, lengths)
    read = oracle_time.read_rows(second, high)
    v = rng.normal(size=(*high.output.shape[:-1], 2))
    picked = v if second.read == "last" else v[high.valid]
    top = oracle.gradients(upper, above, read, cotangent=picked)
    m, e = top.input.m, top.input.e
    if second.read == "every":
        m, e = np.zeros(high.output.shape), np.zeros(high.valid.shape, np.int64)
        m[high.valid], e[high.valid] = top.input.m, top.input.e
    high_flow = oracle_time.backward(second, p[1], high, (m, e))
    low_flow = oracle_time.backward(first, p[0], low, high_flow.scaled_input())
    cotangent = low_flow.plain_input().reshape(-1, width)
    bottom = oracle.gradients(lower, below, x.reshape(-1, inputs), cotangent=cotangent)
    y = net.forward(x, lengths=lengths)
    valid = np.ones(batch, bool) if second.read == "last" else high.valid
    assert gap_by_norm((y[valid], 0), (top.output, 0)) <= 1e-11
    found, flow = (run(x, cotangent=v, lengths=lengths) for run in (net.gradients, net.probe))
    expected = {f"4.{leaf}": top.parameters[f"0.{leaf}"] for leaf in ("weight", "bias")}
    expected |= {f"0.{leaf}": bottom.parameters[f"0.{leaf}"] for leaf in ("weight", "bias")}
    expected |= {f"low.{name}": scaled(value) for name, value in low_flow.parameters.items()}
    expected |= {f"high.{name}": scaled(value) for name, value in high_flow.parameters.items()}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert gap_by_norm(found.scaled(name), value) <= 1e-10, name
    by_sample = bottom.input.m.reshape(x.shape), bottom.input.e.reshape(batch, steps)
    assert gap_by_norm(found.scaled_input, by_sample) <= 1e-10
    for number, run in enumerate((low_flow, high_flow)):
        np.testing.assert_allclose(time_arrays(flow, number)["grad_log2_norm"], run.hidden, atol=1e-9)
