"""Tests of Lyapunov exponents: singular steps, any length under any budget, lengths, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from hypothesis import given
from hypothesis import strategies as st
from networks_time import Problem, problems
from numpy.typing import NDArray
from refusals import refused

Array = NDArray[Any]
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def linear(matrix: Array, dtype: str) -> vg.Network:
    """h_t = W h_{t-1} + x_t, whose Jacobians are W."""
    net = vg.rnn(
        "rnn", len(matrix), in_features=1, activation="identity", bias=False, init="zeros",
        recurrent_init=matrix.astype(dtype), dtype=dtype, rng=0,
    )  # fmt: skip
    return net


def basis(n: int, seed: int) -> Array:
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0])


# --- singular steps ------------------------------------------------------------------------------------


@DTYPES
def test_directions_that_a_step_kills_are_minus_infinity(dtype: str) -> None:
    half = np.diag([0.5, 0.5, 0.0, 0.0])
    net = vg.rnn("rnn", 4, in_features=2, dtype=dtype, rng=0, bias=False, recurrent_init=half.astype(dtype))
    found = net.lyapunov(np.zeros((1, 400, 2), dtype), k=4)
    np.testing.assert_allclose(found[:2], np.log(0.5), atol=0.02)
    assert found[2:].tolist() == [-np.inf, -np.inf]


@DTYPES
@given(st.integers(2, 12), st.data(), st.integers(0, 2**32 - 1))
def test_a_matrix_of_some_rank_has_as_many_exponents(dtype: str, n: int, data: Any, seed: int) -> None:
    """Rows of zeros under Q diag(d) Q^T: exponents ln d, and minus infinity for every row of zeros."""
    rank = data.draw(st.integers(0, n))
    sizes = np.linspace(1.2, 0.6, max(rank, 1))[:rank]
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    if rank:
        q = basis(rank, seed)
        matrix[:rank, :rank] = q * sizes @ q.T
    matrix[rank:] = 0.0
    found = linear(matrix, dtype).lyapunov(np.ones((1, 400, 1), dtype), k=n)
    assert np.isneginf(found).sum() == n - rank, found
    np.testing.assert_allclose(found[:rank], np.log(sizes), atol=0.05)


def test_dead_units_are_no_noise() -> None:
    net = vg.rnn("irnn", 4, in_features=2, init=np.full((4, 2), -1.0, np.float32), rng=0)
    assert net.lyapunov(np.ones((1, 50, 2), np.float32), k=2).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("seed", range(5))
def test_a_deep_chain_with_dead_units_has_the_exponents_of_its_rank(seed: int) -> None:
    net = vg.mlp(50, 8, activation="relu", init="he_normal", dtype="float64", rng=seed)
    x = np.random.default_rng(seed).normal(size=(1, 8))
    found = net.lyapunov(x, k=8)
    h, product, sums = x[0], np.eye(8), np.zeros(8)
    weights, biases = (net.parameters()[f"hidden.{leaf}"] for leaf in ("weight", "bias"))
    jacobians = []
    for w, b in zip(weights, biases, strict=True):
        z = w @ h + b
        h = np.maximum(z, 0)
        jacobians.append((z > 0)[:, None] * w)
    # The oracle: QR with the rows that have become dependent left out.
    product = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    for j in reversed(jacobians):
        product, live = product @ j, 0
        kept = np.zeros((0, 8))
        for i, row in enumerate(product):
            if np.isneginf(sums[i]):
                continue
            rest = row - kept.T @ (kept @ row)
            rest -= kept.T @ (kept @ rest)
            if np.linalg.norm(rest) <= 1e-13 * np.linalg.norm(row):
                sums[i] = -np.inf
                continue
            sums[i] += np.log(np.linalg.norm(rest))
            product[i] = rest / np.linalg.norm(rest)
            kept = np.vstack([kept, product[i]])
            live += 1
        product[np.isneginf(sums)] = 0
    expected = np.sort(sums / 50)[::-1]
    assert np.isneginf(found).sum() == np.isneginf(expected).sum() > 0
    assert not np.isnan(found).any()
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], atol=0.15)


def test_a_cell_without_a_gradient_leaves_the_others_theirs() -> None:
    """Stacked layers whose exponents of rows differ without bound."""
    net = vg.rnn("rnn", 3, in_features=1, num_layers=2, activation="relu", bias=False, dtype="float64", rng=0)
    p = {name: np.zeros_like(value) for name, value in net.parameters().items()}
    p["rnn.weight_ih_l0"][:] = 1.0
    p["rnn.weight_hh_l0"][:] = 1e-30 * np.eye(3)
    p["rnn.weight_ih_l1"][:] = -1.0
    net.load_parameters(p)
    found = net.lyapunov(np.ones((1, 40, 1)), k=6)
    np.testing.assert_allclose(found[:3], np.log(1e-30), atol=0.1)
    assert np.isneginf(found[3:]).all()


def test_only_what_is_not_finite_is_nan_and_it_comes_last() -> None:
    net = linear(np.diag([0.5, 2.0]), "float32")
    net.load_parameters(net.parameters() | {"rnn.weight_hh_l0": np.diag([0.5, 3e38]).astype("f4")})
    found = net.lyapunov(np.ones((1, 3, 1), np.float32), k=2)
    assert not np.isnan(found).any()
    tanh = vg.rnn("rnn", 2, in_features=1, activation="softplus", rng=0)
    tanh.load_parameters({n: np.full_like(v, 3e38) for n, v in tanh.parameters().items()})
    found = tanh.lyapunov(np.ones((1, 4, 1), np.float32), k=2)
    assert np.isnan(found[-1])


# --- any length ----------------------------------------------------------------------------------------


@given(problems(max_steps=60, max_batch=1, lengths=False), st.integers(1, 3))
def test_budgets_change_no_bit(problem: Problem, k: int) -> None:
    if problem.layer.bidirectional:
        return
    net, state = problem.network(), problem.given["state"]
    count = min(k, problem.layer.hidden)
    free, enough = net.lyapunov(problem.x, count, state=state), 0
    for budget in (2**p for p in range(8, 24)):
        try:
            found = net.lyapunov(problem.x, count, state=state, memory_budget=budget)
        except vg.MemoryBudgetError:
            assert not enough
            continue
        assert found.tobytes() == free.tobytes(), budget
        enough += 1
    assert enough


def named(call: Any) -> str:
    with pytest.raises(vg.MemoryBudgetError) as info:
        call(1)
    found = re.search(r"needs about ([\d.]+ (?:[KMGT]i)?B), but 1 B are allowed", str(info.value))
    assert found, str(info.value)
    return found[1]


def test_the_least_that_works_is_named() -> None:
    rng = np.random.default_rng(0)
    net = vg.rnn("lstm", 6, in_features=1, num_layers=2, dtype="float64", rng=0)
    x = rng.normal(size=(1, 3000, 1))
    size = named(lambda budget: net.lyapunov(x, 4, memory_budget=budget))
    assert np.array_equal(net.lyapunov(x, 4, memory_budget=size), net.lyapunov(x, 4))
    with refused(vg.MemoryBudgetError, "4 Lyapunov exponents along 3,000 steps", "raise memory_budget"):
        net.lyapunov(x, 4, memory_budget="20kB")
    deep, y = vg.mlp(2000, 6, activation="tanh", rng=0), np.ones((1, 6), np.float32)
    size = named(lambda budget: deep.lyapunov(y, 2, memory_budget=budget))
    assert np.array_equal(deep.lyapunov(y, 2, memory_budget=size), deep.lyapunov(y, 2))


def test_long_sequences_need_little() -> None:
    """200,000 steps of an lstm whose steps would take 190 MB if they were kept for four gradients."""
    net, x = vg.rnn("lstm", 8, in_features=1, rng=0), np.zeros((1, 200_000, 1), np.float32)
    assert np.array_equal(net.lyapunov(x, 4, memory_budget="8MB"), net.lyapunov(x, 4))


def test_lengths_and_masks_say_which_steps_count() -> None:
    net = vg.rnn("gru", 5, in_features=2, dtype="float64", rng=0)
    x = np.random.default_rng(0).normal(size=(3, 30, 2))
    ends = [30, 7, 1]
    each = [net.lyapunov(x[i : i + 1, :end], k=3) for i, end in enumerate(ends)]
    found = net.lyapunov(x, k=3, lengths=ends)
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-14)
    mask = np.arange(30) < np.array(ends)[:, None]
    assert np.array_equal(net.lyapunov(x, k=3, mask=mask), found)


# --- refusals ------------------------------------------------------------------------------------------


def test_what_has_no_exponents_is_refused() -> None:
    x = np.ones((1, 5, 3), np.float32)
    front = vg.Network(3, [vg.Dense(4), vg.Recurrent("gru", 4, name="memory")], rng=0)
    with refused(vg.ArgumentError, "lyapunov", "other layers in front", '"memory"', "put x through"):
        front.lyapunov(x)
    both = vg.rnn("gru", 4, in_features=3, bidirectional=True, rng=0)
    with refused(
        vg.ArgumentError, "lyapunov", "one direction", '"rnn"', "bidirectional=True", "bidirectional=False"
    ):
        both.lyapunov(x)
    one = vg.rnn("gru", 4, in_features=3, rng=0)
    with refused(vg.ArgumentError, "k: expected 1 to 4", "got 5", "fewer"):
        one.lyapunov(x, k=5)
    with refused(vg.ArgumentError, "memory_budget", "512MB"):
        one.lyapunov(x, memory_budget="lots")
    with refused(vg.ArgumentError, "lengths", "along depth"):
        vg.mlp(3, 4, rng=0).lyapunov(np.ones((1, 4), np.float32), lengths=[1])
