"""Property tests of laws that gradients obey along time: sharing, cutting, truncation, scaling, lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import double, flat_gradient, gap_by_norm
from hypothesis import assume, given
from hypothesis import strategies as st
from networks_time import Problem, assert_same_bits, bits, by_step, gradients, problems, time_arrays
from oracle_cells import CELLS

SEEDS = st.integers(0, 2**32 - 1)
CLOSE = {"float64": 1e-12, "float32": 2e-5}


def rows_of(state: Any, rows: Any) -> Any:
    return None if state is None else {name: part[:, rows] for name, part in state.items()}


# --- depth and time are the same axis -------------------------------------------------------------------


@given(
    st.sampled_from(["tanh", "sigmoid", "gelu", "softplus", "relu"]),
    vg.testing.dtypes(),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 4),
    SEEDS,
)
def test_an_rnn_without_input_is_a_deep_network(
    function: str, dtype: str, width: int, steps: int, batch: int, seed: int
) -> None:
    """Its weights shared by all layers; and dW_shared is the sum of dW_own over the steps."""
    rng = np.random.default_rng(seed)
    net = vg.rnn("rnn", width, in_features=1, activation=function, dtype=dtype, rng=0)
    weight, bias = rng.normal(size=(width, width)) / np.sqrt(width), 0.3 * rng.normal(size=width)
    p = {name: np.zeros_like(value) for name, value in net.parameters().items()}
    net.load_parameters(p | {"rnn.weight_hh_l0": weight.astype(dtype), "rnn.bias_hh_l0": bias.astype(dtype)})
    body = [vg.Dense(width), vg.Activation(function)]
    tied = vg.Network(width, [vg.Repeat(body, steps, tied=True)], dtype=dtype, rng=0)
    own = vg.Network(width, [vg.Repeat(body, steps)], dtype=dtype, rng=0)
    assert net.axis == "time"
    assert tied.axis == "depth"
    shared = {"0.0.weight": weight.astype(dtype), "0.0.bias": bias.astype(dtype)}
    tied.load_parameters(shared)
    own.load_parameters({name: np.stack([value] * steps) for name, value in shared.items()})
    h0, v = (rng.normal(size=(batch, width)).astype(dtype) for _ in range(2))
    x, state = np.zeros((batch, steps, 1), dtype), {"h": h0[None]}
    tolerance = CLOSE[dtype]
    assert gap_by_norm((net.forward(x, state=state), 0), (tied.forward(h0), 0)) <= tolerance
    along_time, along_depth = net.probe(x, cotangent=v, state=state), own.probe(h0, cotangent=v)
    assume(np.isfinite(along_depth.log10_grad_norm).all())
    np.testing.assert_allclose(along_time.log10_grad_norm, along_depth.log10_grad_norm, atol=10 * tolerance)
    np.testing.assert_allclose(along_time.log10_delta_norm, along_depth.log10_delta_norm, atol=10 * tolerance)
    single = time_arrays(along_time)["weight_hh_grad_log2_norm"][0]
    np.testing.assert_allclose(single * np.log10(2), along_depth.log10_weight_grad_norm, atol=10 * tolerance)
    found, deep = net.gradients(x, cotangent=v, state=state), own.gradients(h0, cotangent=v)
    assert gap_by_norm(found.scaled("state.h"), (deep.scaled_input[0][None], deep.scaled_input[1][None])) <= (
        10 * tolerance
    )
    for name, stacked in (("weight_hh_l0", "0.0.weight"), ("bias_hh_l0", "0.0.bias")):
        terms, exponent = flat_gradient(deep.scaled(stacked))
        mine, mine_exponent = flat_gradient(found.scaled(f"rnn.{name}"))
        gap = np.linalg.norm(
            np.ldexp(mine, int(np.clip(mine_exponent - exponent, -4000, 900))) - terms.sum(0)
        )
        # relative to the terms: what is left after cancellation has the rounding of what cancelled
        assert gap <= 10 * tolerance * np.linalg.norm(terms), name


# --- cut and glue ---------------------------------------------------------------------------------------


@given(problems(bidirectional=False, lengths=False, max_steps=8), st.data())
def test_the_state_glues_a_cut_sequence(problem: Problem, data: Any) -> None:
    """Forward, to the bit: the last state of one piece starts the next."""
    steps = problem.x.shape[1]
    assume(steps > 1)
    cut = data.draw(st.integers(1, steps - 1))
    net = problem.network()
    whole, last = net.forward(problem.x, state=problem.given["state"], return_state=True)
    first, middle = net.forward(problem.x[:, :cut], state=problem.given["state"], return_state=True)
    second, end = net.forward(problem.x[:, cut:], state=middle, return_state=True)
    glued = second if problem.layer.read == "last" else np.concatenate([first, second], axis=1)
    assert np.ascontiguousarray(glued).tobytes() == whole.tobytes()
    for letter in last:
        assert end[letter].tobytes() == last[letter].tobytes()


@pytest.mark.parametrize("cell", sorted(set(CELLS) - {"lstm"}))
@given(data=st.data())
def test_gradients_of_glued_pieces_are_those_of_the_whole(cell: str, data: Any) -> None:
    """dL/d(state between the pieces) is the cotangent of the first one.

    One layer whose state is its output: no other state can be given a gradient from outside.
    """
    fixed = {"layers": 1, "bidirectional": False, "read": "last"}
    problem = data.draw(problems(cell=cell, lengths=False, max_steps=8, **fixed))
    steps = problem.x.shape[1]
    assume(steps > 1)
    cut = data.draw(st.integers(1, steps - 1))
    net = problem.network()
    _, middle = net.forward(problem.x[:, :cut], state=problem.given["state"], return_state=True)
    whole = gradients(net, problem)
    top = gradients(net, problem, x=problem.x[:, cut:], state=middle)
    m, e = flat_gradient(top.scaled("state.h"))
    assume(m.any())
    low = gradients(net, problem, x=problem.x[:, :cut], cotangent=m[0].astype(problem.dtype))
    tolerance = 10 * CLOSE[problem.dtype]
    for name in set(problem.used) - {"h0"}:  # the second piece was given its state
        a, a_e = flat_gradient(top.scaled(f"rnn.{name}"))
        b, b_e = flat_gradient(low.scaled(f"rnn.{name}"))
        peak = max(a_e if a.any() else -(10**6), b_e + e if b.any() else -(10**6))
        parts = [np.ldexp(part, max(by - peak, -4000)) for part, by in ((a, a_e), (b, b_e + e)) if part.any()]
        mine, mine_e = flat_gradient(whole.scaled(f"rnn.{name}"))
        if not parts:
            continue
        size = np.sqrt(sum(np.sum(part**2) for part in parts))
        gap = np.ldexp(mine, int(np.clip(mine_e - peak, -4000, 900))) - sum(parts)
        assert np.linalg.norm(gap) <= tolerance * size, name
    assert gap_by_norm(late(whole, cut), top.scaled_input) <= tolerance
    mantissa, exponent = low.scaled_input
    assert gap_by_norm(early(whole, cut), (mantissa, np.asarray(exponent) + e)) <= tolerance


def late(found: vg.Gradients, cut: int) -> tuple[Any, Any]:
    m, e = by_step(found)
    return m[:, cut:], e[:, cut:]


def early(found: vg.Gradients, cut: int) -> tuple[Any, Any]:
    m, e = by_step(found)
    return m[:, :cut], e[:, :cut]


@given(problems(bidirectional=False, lengths=False, read="every", learned=False, max_steps=8), st.data())
def test_truncation_adds_the_gradients_of_pieces(problem: Problem, data: Any) -> None:
    """Pieces of k steps, each from the last state of the one before: their gradients add up."""
    net, steps = problem.network(), problem.x.shape[1]
    k = data.draw(st.integers(1, steps))
    whole = gradients(net, problem, truncate=k)
    state, pieces = problem.given["state"], []
    for start in range(0, steps, k):
        part = {"x": problem.x[:, start : start + k], "cotangent": problem.cotangent[:, start : start + k]}
        pieces.append(gradients(net, problem, state=state, **part))
        _, state = net.forward(part["x"], state=state, return_state=True)
    for name in problem.parameters:
        flat = [flat_gradient(piece.scaled(f"rnn.{name}")) for piece in pieces]
        if not any(m.any() for m, _ in flat):
            continue
        peak = max(e for m, e in flat if m.any())
        parts = [np.ldexp(m, max(e - peak, -4000)) for m, e in flat]
        mine, mine_e = flat_gradient(whole.scaled(f"rnn.{name}"))
        gap = np.linalg.norm(np.ldexp(mine, int(np.clip(mine_e - peak, -4000, 900))) - sum(parts))
        assert gap <= 10 * CLOSE[problem.dtype] * np.sqrt(sum(np.sum(part**2) for part in parts)), name
    for number, piece in enumerate(pieces):
        m, e = by_step(whole)
        mine = m[:, number * k : (number + 1) * k], e[:, number * k : (number + 1) * k]
        assert gap_by_norm(mine, piece.scaled_input) <= 10 * CLOSE[problem.dtype]


@given(problems(max_steps=6), st.integers(0, 3))
def test_truncation_beyond_the_end_changes_nothing(problem: Problem, more: int) -> None:
    net = problem.network()
    everything = bits(net, problem)
    long = replace(problem, truncate=problem.x.shape[1] + more)
    assert_same_bits(everything, bits(net, long), f"truncate {long.truncate}")


@given(problems(truncate=True, max_steps=12))
def test_truncation_loses_what_it_says(problem: Problem) -> None:
    """The forward pass stays; the gradient of the last piece alone remains of a loss on the last step."""
    net = problem.network()
    whole, cut = (
        net.probe(problem.x, **{**problem.backward, "truncate": k}) for k in (None, problem.truncate)
    )
    np.testing.assert_array_equal(time_arrays(whole)["hidden_mean"], time_arrays(cut)["hidden_mean"])
    if problem.layer.read == "every" or problem.layer.bidirectional or problem.lengths is not None:
        return
    steps, k = problem.x.shape[1], problem.truncate or 1
    start = (steps - 1) // k * k
    norms = time_arrays(cut)["grad_log2_norm"]
    assert np.all(norms[:, :start] == -np.inf)
    np.testing.assert_array_equal(norms[:, start:], time_arrays(whole)["grad_log2_norm"][:, start:])


# --- linearity ------------------------------------------------------------------------------------------


@given(problems(dtype="float64", truncate=True), SEEDS)
def test_backward_is_linear_in_the_cotangent(problem: Problem, seed: int) -> None:
    net, a = problem.network(), problem.cotangent
    b = np.random.default_rng(seed).normal(size=a.shape)
    one, two, total = (gradients(net, problem, cotangent=v) for v in (a, b, 2 * a - 3 * b))
    for name in total:
        scale = 2 * np.linalg.norm(one[name]) + 3 * np.linalg.norm(two[name])
        assert np.linalg.norm(total[name] - (2 * one[name] - 3 * two[name])) <= 1e-12 * scale, name


@given(problems(truncate=True), st.integers(-100, 100))
def test_a_power_of_two_moves_exponents_and_no_bit(problem: Problem, k: int) -> None:
    v = np.where(np.abs(problem.cotangent) < 2.0**-20, 1, problem.cotangent).astype(problem.dtype)
    net, moved = problem.network(), np.ldexp(v, k).astype(problem.dtype)
    plain, scaled = gradients(net, problem, cotangent=v), gradients(net, problem, cotangent=moved)
    names = [lambda g, name=name: g.scaled(name) for name in plain] + [lambda g: g.scaled_input]
    for get in names:
        (m, e), (n, f) = get(plain), get(scaled)
        # the same numbers, however they are split into mantissa and exponent
        tail = (1,) * (m.ndim - np.ndim(e))
        drift = (np.asarray(f) - np.asarray(e) - k).reshape(np.shape(e) + tail)
        assert np.abs(np.broadcast_to(drift, m.shape)[m != 0]).max(initial=0) < 200
        np.testing.assert_array_equal(np.ldexp(double(n), np.where(np.abs(drift) < 200, drift, 0)), double(m))
    one, two = (
        time_arrays(net.probe(problem.x, **{**problem.backward, "cotangent": c}, stats="full"))
        for c in (v, moved)
    )
    for key in one:
        by = k if "grad_log2" in key or key.startswith("delta_log2") else 0
        np.testing.assert_allclose(two[key], one[key] + by, rtol=0, atol=1e-12 * 1100, err_msg=key)


# --- rows and lengths -----------------------------------------------------------------------------------


@given(problems(truncate=True, max_batch=8), SEEDS)
def test_rows_of_a_batch_do_not_touch_each_other(problem: Problem, seed: int) -> None:
    """Permuted rows give permuted outputs and gradients, to the bit; a row alone gives its own."""
    rng, net, batch = np.random.default_rng(seed), problem.network(), len(problem.x)

    def of(rows: Any) -> tuple[Any, Any, vg.Gradients]:
        lengths = None if problem.lengths is None else problem.lengths[rows]
        state = rows_of(problem.given["state"], rows)
        y, last = net.forward(problem.x[rows], state=state, lengths=lengths, return_state=True)
        v = problem.cotangent[rows]
        return y, last, gradients(net, problem, x=problem.x[rows], state=state, lengths=lengths, cotangent=v)

    everything, order, row = of(slice(None)), rng.permutation(batch), int(rng.integers(batch))
    for rows, picked in ((order, of(order)), ([row], of(slice(row, row + 1)))):
        assert np.ascontiguousarray(everything[0][rows]).tobytes() == picked[0].tobytes()
        for letter, part in everything[1].items():
            assert np.ascontiguousarray(part[:, rows]).tobytes() == picked[1][letter].tobytes()
        for before, after in zip(everything[2].scaled_input, picked[2].scaled_input, strict=True):
            assert np.ascontiguousarray(np.asarray(before)[rows]).tobytes() == np.asarray(after).tobytes()


@given(problems(lengths=True, truncate=True))
def test_a_length_cuts_the_sample(problem: Problem) -> None:
    net = problem.network()
    assert problem.lengths is not None
    y, last = net.forward(problem.x, **problem.given, return_state=True)
    m, e = by_step(gradients(net, problem))
    for row, n in enumerate(problem.lengths):
        one = slice(row, row + 1)
        state = rows_of(problem.given["state"], one)
        alone, end = net.forward(problem.x[one, :n], state=state, return_state=True)
        v = problem.cotangent[one]
        if problem.layer.read == "every":
            assert y[one, :n].tobytes() == alone.tobytes()
            assert not y[row, n:].any()
            v = v[:, :n]
        else:
            assert y[one].tobytes() == alone.tobytes()
        for letter, part in end.items():
            assert np.ascontiguousarray(last[letter][:, one]).tobytes() == part.tobytes()
        own = gradients(net, problem, x=problem.x[one, :n], state=state, lengths=None, cotangent=v)
        assert gap_by_norm((m[one, :n], e[one, :n]), own.scaled_input) <= CLOSE[problem.dtype]
        assert not m[row, n:].any()


@given(problems(lengths=True))
def test_what_is_behind_a_samples_end_does_not_count(problem: Problem) -> None:
    """Other numbers there change no bit of anything."""
    net = problem.network()
    x = np.where(problem.valid[:, :, None], problem.x, np.float32(7.5)).astype(problem.dtype)
    v = problem.cotangent
    if problem.layer.read == "every":
        v = np.where(problem.valid[:, :, None], v, np.float32(-3.0)).astype(problem.dtype)
    other = replace(problem, x=x, cotangent=v)
    assert_same_bits(bits(net, problem), bits(net, other), "behind the end")


@given(problems(lengths=True, truncate=True))
def test_a_mask_is_the_lengths_it_has(problem: Problem) -> None:
    net = problem.network()
    by_length = gradients(net, problem)
    by_mask = gradients(net, problem, lengths=None, mask=problem.valid)
    for name in by_length:
        assert by_length.scaled(name)[0].tobytes() == by_mask.scaled(name)[0].tobytes()
    y = net.forward(problem.x, mask=problem.valid, state=problem.given["state"])
    assert y.tobytes() == net.forward(problem.x, **problem.given).tobytes()


@given(problems(lengths=False))
def test_full_lengths_are_none(problem: Problem) -> None:
    full = replace(problem, lengths=np.full(len(problem.x), problem.x.shape[1]))
    net = problem.network()
    assert_same_bits(bits(net, problem), bits(net, full), "full lengths")
