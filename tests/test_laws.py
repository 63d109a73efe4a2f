"""Property tests of laws that gradients obey whatever the network: sharing, cutting, scaling, plans, threads,
depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import double, flat_gradient, forward_in_range, gap_by_norm
from hypothesis import assume, given
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.integers(1, 5)


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = vg.get_num_threads()
    yield
    vg.set_num_threads(before)


def normal(rng: np.random.Generator, net: vg.Network, batch: int) -> tuple[Any, Any]:
    """An input and a cotangent for a network."""
    x, v = (rng.normal(size=(batch, n)).astype(net.dtype) for n in (net.in_features, net.out_features))
    return x, v


def bits(net: vg.Network, x: Any, v: Any, memory_budget: int | None = None) -> dict[str, bytes]:
    """Everything that a forward pass, the gradients and a probe return, as bytes."""
    found = net.gradients(x, cotangent=v, memory_budget=memory_budget)
    arrays: dict[str, Any] = {"output": net.forward(x)}
    for name in found:
        arrays[f"m {name}"], arrays[f"e {name}"] = found.scaled(name)
    arrays["m input"], arrays["e input"] = found.scaled_input
    flow = net.probe(x, cotangent=v, lr=0.01, memory_budget=memory_budget)
    for key, value in flow.raw.items():
        if key not in ("plan", "segment", "recompute"):
            arrays[f"flow {key}"] = np.asarray(value)
    return {
        key: np.ascontiguousarray(value).tobytes() for key, value in arrays.items() if value.dtype != object
    }


def assert_same_bits(a: dict[str, bytes], b: dict[str, bytes], what: str) -> None:
    different = [key for key in a if a[key] != b.get(key)]
    assert a.keys() == b.keys(), what
    assert not different, f"{what}: not the same bits in {different}"


# --- own and shared parameters --------------------------------------------------------------------------


@given(st.data(), vg.testing.dtypes(), st.integers(1, 5), st.integers(1, 7), BATCHES, SEEDS)
def test_equal_own_parameters_give_the_tied_network(
    data: Any, dtype: str, width: int, n: int, batch: int, seed: int
) -> None:
    """Same output and norms to the bit; dW_tied is the sum of dW_own over the steps."""
    body = data.draw(vg.testing.layers(width, keep_width=True, nesting=1, max_layers=3))
    tied = vg.Network(width, [vg.Repeat(body, n, tied=True)], dtype=dtype, rng=seed)
    own = vg.Network(width, [vg.Repeat(body, n)], dtype=dtype, rng=seed + 1)
    own.load_parameters({name: np.stack([value] * n) for name, value in tied.parameters().items()})
    x, v = normal(np.random.default_rng(seed), tied, batch)
    np.testing.assert_array_equal(tied.forward(x), own.forward(x))
    one, many = tied.gradients(x, cotangent=v), own.gradients(x, cotangent=v)
    assert one.scaled_input[0].tobytes() == many.scaled_input[0].tobytes()
    flows = tied.probe(x, cotangent=v), own.probe(x, cotangent=v)
    np.testing.assert_array_equal(flows[0].log10_grad_norm, flows[1].log10_grad_norm)
    np.testing.assert_array_equal(flows[0].log10_delta_norm, flows[1].log10_delta_norm)
    assume(forward_in_range(own, x))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for name in one:
        steps, exponent = flat_gradient(many.scaled(name))
        total, size = steps.sum(axis=0), float(np.linalg.norm(steps))
        if size == 0:
            assert not one.scaled(name)[0].any()
            continue
        # relative to the terms: what is left after cancellation has the rounding of what cancelled
        mine, mine_exponent = flat_gradient(one.scaled(name))
        gap = np.linalg.norm(np.ldexp(mine, int(np.clip(mine_exponent - exponent, -4000, 900))) - total)
        assert gap <= tolerance * size, name


# --- cut and glue ---------------------------------------------------------------------------------------


@given(st.data(), vg.testing.dtypes(), BATCHES, SEEDS)
def test_cutting_a_chain_and_gluing_it_changes_nothing(data: Any, dtype: str, batch: int, seed: int) -> None:
    width = data.draw(st.integers(1, 6))
    upper_width = data.draw(st.integers(1, 6))
    lower = [*data.draw(vg.testing.layers(width, max_layers=3)), vg.Dense(upper_width)]
    upper = [vg.Dense(3), *data.draw(vg.testing.layers(3, max_layers=3))]
    whole = vg.Network(width, lower + upper, dtype=dtype, rng=seed)
    first = vg.Network(width, lower, dtype=dtype, rng=seed)
    second = vg.Network(upper_width, upper, dtype=dtype, rng=seed)
    parameters, cut = whole.parameters(), len(lower)
    first.load_parameters({name: parameters[name] for name in first.parameters()})
    second.load_parameters({name: parameters[shift(name, cut)] for name in second.parameters()})
    x, v = normal(np.random.default_rng(seed), whole, batch)
    middle = first.forward(x)
    np.testing.assert_array_equal(second.forward(middle), whole.forward(x))
    top = second.gradients(middle, cotangent=v)
    mantissa, exponent = top.scaled_input
    assume(mantissa.any())
    rows = np.asarray(exponent)[mantissa.any(axis=1)]
    peak = int(rows.max())
    glued = np.ldexp(mantissa, np.clip(np.asarray(exponent) - peak, -4000, 0)[:, None]).astype(dtype)
    bottom, together = first.gradients(x, cotangent=glued), whole.gradients(x, cotangent=v)
    assume(forward_in_range(whole, x))
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    for name in bottom:
        m, e = bottom.scaled(name)
        assert gap_by_norm((m, np.asarray(e) + peak), together.scaled(name)) <= tolerance, name
    for name in top:
        assert gap_by_norm(top.scaled(name), together.scaled(shift(name, cut))) <= tolerance, name
    m, e = bottom.scaled_input
    assert gap_by_norm((m, np.asarray(e) + peak), together.scaled_input) <= tolerance


def shift(name: str, by: int) -> str:
    """The parameter's name with its first component, a position, moved up."""
    head, rest = name.split(".", 1)
    return f"{int(head) + by}.{rest}"


# --- linearity ------------------------------------------------------------------------------------------


@given(vg.testing.networks(dtype="float64", noise=True), BATCHES, SEEDS)
def test_backward_is_linear_in_the_cotangent(net: vg.Network, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, a = normal(rng, net, batch)
    _, b = normal(rng, net, batch)
    parts = net.gradients(x, cotangent=a), net.gradients(x, cotangent=b)
    total = net.gradients(x, cotangent=2 * a - 3 * b)
    for name in total:
        one, two = parts[0][name], parts[1][name]
        assume(np.isfinite(one).all() and np.isfinite(two).all())
        scale = 2 * np.linalg.norm(one) + 3 * np.linalg.norm(two)
        assert np.linalg.norm(total[name] - (2 * one - 3 * two)) <= 1e-12 * scale, name


@given(vg.testing.networks(noise=True), BATCHES, st.integers(-100, 100), SEEDS)
def test_a_power_of_two_moves_exponents_and_no_bit(net: vg.Network, batch: int, k: int, seed: int) -> None:
    x, v = normal(np.random.default_rng(seed), net, batch)
    v = np.where(np.abs(v) < 2.0**-20, 1, v).astype(net.dtype)  # scaled entries stay normal numbers
    plain, scaled = (
        net.gradients(x, cotangent=v),
        net.gradients(x, cotangent=np.ldexp(v, k).astype(net.dtype)),
    )
    for get in [lambda g, name=name: g.scaled(name) for name in plain] + [lambda g: g.scaled_input]:
        (m, e), (n, f) = get(plain), get(scaled)
        # the same numbers, however they are split into mantissa and exponent
        tail = (1,) * (m.ndim - np.ndim(e))
        drift = (np.asarray(f) - np.asarray(e) - k).reshape(np.shape(e) + tail)
        assert np.abs(np.broadcast_to(drift, m.shape)[m != 0]).max(initial=0) < 200
        np.testing.assert_array_equal(np.ldexp(double(n), np.where(np.abs(drift) < 200, drift, 0)), double(m))
    one, two = net.probe(x, cotangent=v), net.probe(x, cotangent=np.ldexp(v, k).astype(net.dtype))
    for key in ("grad_log2_norm", "delta_log2_norm", "weight_grad_log2_norm", "bias_grad_log2_norm"):
        np.testing.assert_allclose(
            two.raw[key], np.asarray(one.raw[key]) + k, rtol=0, atol=1e-12 * 1100, err_msg=key
        )


# --- the same bits --------------------------------------------------------------------------------------


@given(vg.testing.networks(max_repeat=50, max_layers=2, nesting=1, noise=True), BATCHES, SEEDS)
def test_every_memory_plan_gives_the_same_bits(net: vg.Network, batch: int, seed: int) -> None:
    """Without a limit, and with every budget of a rising series that is enough."""
    x, v = normal(np.random.default_rng(seed), net, batch)
    reference, enough = bits(net, x, v), 0
    for budget in (2**k for k in range(10, 30)):
        try:
            assert_same_bits(reference, bits(net, x, v, memory_budget=budget), f"budget {budget}")
            enough += 1
        except vg.MemoryBudgetError:
            assert not enough, "a larger budget must do if a smaller one does"
        if enough > 2:
            return
    assert enough


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_deep_memory_plans_give_the_same_bits(dtype: str) -> None:
    """Enough depth for the plans to differ: keep all, checkpoints, few checkpoints."""
    net = vg.mlp(600, 24, in_features=7, out_features=5, activation="gelu", dtype=dtype, rng=4)
    x, v = normal(np.random.default_rng(0), net, 9)
    reference, plans = bits(net, x, v), set()
    most = net._core.memory_estimate(9, 1, "gradients", "none")
    for share in (1.0, 0.7, 0.4, 0.2, 0.1):
        try:
            plans.add(net.probe(x, cotangent=v, memory_budget=int(most * share)).raw["plan"])
            assert_same_bits(reference, bits(net, x, v, memory_budget=int(most * share)), f"budget {share}")
        except vg.MemoryBudgetError:
            continue
    assert len(plans) > 1, plans


@given(vg.testing.networks(max_width=20, noise=True), st.integers(1, 40), SEEDS)
def test_every_thread_count_gives_the_same_bits(net: vg.Network, batch: int, seed: int) -> None:
    x, v = normal(np.random.default_rng(seed), net, batch)
    vg.set_num_threads(1)
    reference = bits(net, x, v)
    for threads in (2, 3, 7):
        vg.set_num_threads(threads)
        assert_same_bits(reference, bits(net, x, v), f"{threads} threads")


@given(vg.testing.networks(), st.integers(2, 9), SEEDS)
def test_rows_of_a_batch_do_not_touch_each_other(net: vg.Network, batch: int, seed: int) -> None:
    """Permuted rows give permuted outputs and input gradients, to the bit; a row alone gives its own."""
    rng = np.random.default_rng(seed)
    x, v = normal(rng, net, batch)
    order = rng.permutation(batch)
    plain, moved = net.gradients(x, cotangent=v), net.gradients(x[order], cotangent=v[order])
    assert net.forward(x)[order].tobytes() == net.forward(x[order]).tobytes()
    for before, after in zip(plain.scaled_input, moved.scaled_input, strict=True):
        assert np.asarray(before)[order].tobytes() == np.asarray(after).tobytes()
    row = int(rng.integers(batch))
    assert net.forward(x[row : row + 1]).tobytes() == net.forward(x)[row : row + 1].tobytes()


@given(
    vg.testing.dtypes(),
    st.sampled_from(["he_normal", "glorot_uniform", "orthogonal"]),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    SEEDS,
)
def test_a_layer_is_the_same_whatever_the_depth(
    dtype: str, init: str, width: int, depth: int, more: int, seed: int
) -> None:
    short, deep = (
        vg.mlp(d, width, init=init, sigma_b2=0.1, dtype=dtype, rng=seed) for d in (depth, depth + more)
    )
    for name, value in short.parameters().items():
        assert value.tobytes() == deep.parameters()[name][:depth].tobytes(), name
