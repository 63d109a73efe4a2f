"""Tests of initializers: PyTorch's conventions, exact properties, distributions, and independence of
everything but the key."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import known_answers, of_kind
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

NAMES = vg.initializers.names()
SEEDS = st.integers(0, 2**63 - 1)

# Known answer -> the same initializer here. PyTorch's gains are given as it computes them.
CONVENTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "init_kaiming_uniform_a_sqrt5": ("kaiming_uniform", {"negative_slope": math.sqrt(5)}),
    "init_kaiming_uniform_relu": ("kaiming_uniform", {}),
    "init_kaiming_normal_relu_fan_in": ("kaiming_normal", {}),
    "init_xavier_normal_tanh_gain": ("xavier_normal", {"gain": 5 / 3}),
    "init_trunc_normal_std1_pm2": ("trunc_normal_", {}),
}
# Conventions of clips and normalisation: their own tests have them.
LATER = {"clip_grad_norm", "batchnorm_convention"}


def sample(
    name: str, shape: tuple[int, ...], seed: int = 0, dtype: str = "float64", **params: Any
) -> NDArray[Any]:
    init = vg.initializers.Initializer(name, params)
    return np.asarray(init.sample(shape, dtype=dtype, rng=seed))


def second_moment(name: str, shape: tuple[int, int], **params: Any) -> float:
    """Mean square over eight matrices."""
    return float(np.mean([np.mean(sample(name, shape, seed, **params) ** 2) for seed in range(8)]))


def test_every_convention_is_covered() -> None:
    assert set(of_kind("convention")) == set(CONVENTIONS) | LATER | {"init_gains"}


@pytest.mark.parametrize("key", sorted(CONVENTIONS))
def test_conventions_of_pytorch(key: str) -> None:
    """Second moment over eight tensors, and the bound where there is one: never passed, nearly reached."""
    entry = known_answers()[key]
    name, params = CONVENTIONS[key]
    shape = tuple(entry["setting"]["shape"])
    moment, bound = entry["expected"]["second_moment"], entry["expected"]["bound"]
    assert abs(second_moment(name, shape, **params) / moment - 1) <= entry["tolerance"]["second_moment_rel"]
    if bound is not None:
        largest = max(np.abs(sample(name, shape, seed, **params)).max() for seed in range(8))
        assert bound * 0.999 < largest <= bound * (1 + 1e-15)
        assert np.abs(sample(name, shape, dtype="float32", **params)).max() <= np.float32(bound)


def test_standard_and_normalised_initialisation_of_glorot() -> None:
    """n Var W is 1/3 for U(+-1/sqrt n), so that a linear layer divides squared gradients by 3; 1 for Glorot's
    own."""
    expected, n = known_answers()["glorot_standard_init"]["expected"], 512
    assert abs(n * second_moment("standard", (n, n)) - expected["standard"]) < 0.002
    assert abs(n * second_moment("glorot_uniform", (n, n)) - expected["normalised"]) < 0.006
    assert np.abs(sample("standard", (n, n))).max() <= 1 / math.sqrt(n)
    assert np.abs(sample("glorot_uniform", (n, n))).max() <= math.sqrt(6 / (2 * n))
    rng, ratios = np.random.default_rng(0), []
    for seed in range(10):
        net = vg.mlp(20, n, activation="identity", init="standard", bias=False, dtype="float64", rng=seed)
        v = rng.normal(size=(4, n))
        norms = net.probe(v, cotangent=v).log10_grad_norm
        ratios.append(10 ** (2 * (norms[0] - norms[-1]) / (len(norms) - 1)))
    assert abs(np.mean(ratios) - expected["standard"]) < 0.005


# name -> (parameters, frozen distribution of an entry as a function of fan_in and fan_out)
LAWS: dict[str, tuple[dict[str, Any], Any]] = {
    "normal": ({"mean": 0.5, "std": 2.0}, lambda i, o: stats.norm(0.5, 2.0)),
    "uniform": ({"low": -1.0, "high": 3.0}, lambda i, o: stats.uniform(-1.0, 4.0)),
    "truncated_normal": (
        {"mean": 0.5, "std": 2.0, "a": -1.0, "b": 3.0},
        lambda i, o: stats.truncnorm(-0.75, 1.25, 0.5, 2.0),
    ),
    "lecun_normal": ({}, lambda i, o: stats.norm(0, i**-0.5)),
    "lecun_uniform": ({}, lambda i, o: stats.uniform(-((3 / i) ** 0.5), 2 * (3 / i) ** 0.5)),
    "glorot_normal": ({"gain": 1.5}, lambda i, o: stats.norm(0, 1.5 * (2 / (i + o)) ** 0.5)),
    "glorot_uniform": ({}, lambda i, o: stats.uniform(-((6 / (i + o)) ** 0.5), 2 * (6 / (i + o)) ** 0.5)),
    "he_normal": ({"mode": "fan_out"}, lambda i, o: stats.norm(0, (2 / o) ** 0.5)),
    "he_uniform": (
        {"negative_slope": 0.3},
        lambda i, o: stats.uniform(-((6 / (1.09 * i)) ** 0.5), 2 * (6 / (1.09 * i)) ** 0.5),
    ),
    "standard": ({}, lambda i, o: stats.uniform(-(i**-0.5), 2 * i**-0.5)),
    "mean_field": ({"sigma_w2": 3.0}, lambda i, o: stats.norm(0, (3 / i) ** 0.5)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(LAWS))
def test_entries_follow_their_law(name: str, dtype: str) -> None:
    """Kolmogorov-Smirnov over 80,000 entries, and no dependence between neighbours, layers or seeds."""
    params, law = LAWS[name]
    rows, cols = 320, 250
    w = sample(name, (rows, cols), 7, dtype, **params).astype(np.float64)
    frozen = law(cols, rows)
    assert stats.kstest(w.ravel(), frozen.cdf).pvalue > 1e-4
    z = (w - frozen.mean()) / frozen.std()
    limit = 4.5 / math.sqrt(w.size)
    assert abs(np.mean(z[:, 1:] * z[:, :-1])) < limit
    assert abs(np.mean(z[1:] * z[:-1])) < limit
    other = (sample(name, (rows, cols), 8, dtype, **params).astype(np.float64) - frozen.mean()) / frozen.std()
    assert abs(np.mean(z * other)) < limit
    stack = (
        sample(name, (2, rows, cols), 7, dtype, **params).astype(np.float64) - frozen.mean()
    ) / frozen.std()
    assert abs(np.mean(stack[0] * stack[1])) < limit
    assert np.array_equal(stack[0], z)


def test_tails_of_the_normal_law_reach_far() -> None:
    """2^22 entries: the largest lies where it must, and the share beyond 4 deviations is right."""
    w = np.abs(sample("normal", (2048, 2048), 3))
    share, expected = float(np.mean(w > 4)), 2 * stats.norm.sf(4)
    assert abs(share - expected) < 5 * math.sqrt(expected / w.size)
    assert 4.6 < w.max() < 7.0


@given(st.integers(1, 40), st.integers(1, 40), vg.testing.dtypes(), st.sampled_from([1.0, 0.5, 2.0]), SEEDS)
def test_orthogonal(rows: int, cols: int, dtype: str, gain: float, seed: int) -> None:
    """Columns (or rows, where there are fewer) of one length and at right angles."""
    w = sample("orthogonal", (rows, cols), seed, dtype, gain=gain).astype(np.float64)
    product = w.T @ w if rows >= cols else w @ w.T
    tolerance = 1e-13 if dtype == "float64" else 2e-6
    assert np.abs(product / gain**2 - np.eye(min(rows, cols))).max() < tolerance * max(rows, cols)


def test_orthogonal_is_uniform_over_rotations_and_reflections() -> None:
    """Without the sign rule of R's diagonal, the trace of Q would have a mean of its own."""
    draws = np.array([sample("orthogonal", (4, 4), seed) for seed in range(2000)])
    assert abs(np.mean(np.linalg.det(draws) > 0) - 0.5) < 0.06
    for entry in (draws[:, 0, 0], draws[:, 3, 3], draws[:, 1, 2]):
        assert abs(entry.mean()) < 4.5 * 0.5 / math.sqrt(2000)
        assert abs(np.mean(entry**2) - 0.25) < 0.03


@given(st.integers(1, 50), st.integers(1, 20), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), SEEDS)
def test_sparse(rows: int, cols: int, sparsity: float, seed: int) -> None:
    w = sample("sparse", (rows, cols), seed, sparsity=sparsity)
    assert np.all((w == 0).sum(axis=0) == math.ceil(sparsity * rows))


def test_constants() -> None:
    assert not sample("zeros", (3, 5)).any()
    assert (sample("ones", (3, 5)) == 1).all()
    assert (sample("constant", (3, 5), value=-0.25) == -0.25).all()
    np.testing.assert_array_equal(sample("identity", (3, 5), gain=2.0), 2 * np.eye(3, 5))
    np.testing.assert_array_equal(sample("eye", (5, 3)), np.eye(5, 3))


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 200), ("fan_out", 400), ("fan_avg", 300)])
def test_variance_scaling(distribution: str, mode: str, fan: int) -> None:
    moment = second_moment("variance_scaling", (400, 200), scale=3.0, mode=mode, distribution=distribution)
    assert abs(moment * fan / 3.0 - 1) < 0.01


@given(st.sampled_from(NAMES), st.tuples(st.integers(1, 20), st.integers(1, 20)), vg.testing.dtypes(), SEEDS)
def test_the_same_key_gives_the_same_numbers(
    name: str, shape: tuple[int, int], dtype: str, seed: int
) -> None:
    w = sample(name, shape, seed, dtype)
    assert w.shape == shape
    assert w.dtype == dtype
    assert np.isfinite(w).all()
    before = vg.get_num_threads()
    vg.set_num_threads(3)
    again = sample(name, shape, seed, dtype)
    vg.set_num_threads(before)
    assert w.tobytes() == again.tobytes()


@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1))
def test_a_network_draws_what_the_catalogue_draws(name: str, seed: int) -> None:
    """Every initializer works in a network, stacked or not, and layers do not repeat each other."""
    init = vg.initializers.Initializer(name)
    net = vg.Network(6, [vg.Dense(6, init=init), vg.Repeat([vg.Dense(6, init=init)], 4)], rng=seed)
    parameters = net.parameters()
    stack = [parameters["0.weight"], *parameters["1.0.weight"]]
    assert all(w.shape == (6, 6) and np.isfinite(w).all() for w in stack)
    if np.unique(init.sample((6, 6), rng=0)).size > 2 and name != "sparse":
        assert len({w.tobytes() for w in stack}) == len(stack)
    again = vg.Network(6, net.layers, rng=net.seed).parameters()
    assert all(again[key].tobytes() == value.tobytes() for key, value in parameters.items())


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    ("init", "got"),
    [
        (vg.initializers.constant(value=1e300), "inf"),
        (vg.initializers.constant(value=-1e39), "-inf"),
        (vg.initializers.normal(std=1e39), "-?inf"),
        (vg.initializers.uniform(low=-1e39, high=1e39), "-?inf|NaN"),
        (vg.initializers.orthogonal(gain=1e40), "-?inf"),
        (vg.initializers.mean_field(sigma_w2=1e300), "-?inf"),
        (vg.initializers.he_normal(gain=1e300), "-?inf"),
    ],
)
def test_values_beyond_the_type_are_refused(init: Any, got: str, stored: bool) -> None:
    said = (
        r"parameter hidden\.weight: expected initial values that float32 holds "
        r"\(up to 3\.4e38 in magnitude\), "
        rf'got ({got}); choose smaller parameters, or dtype="float64"$'
    )
    with pytest.raises(vg.ArgumentError, match=said):
        vg.mlp(5, 64, init=init, rng=0, stored=stored)
    assert np.isfinite(vg.mlp(5, 64, init=init, rng=0, dtype="float64").parameters()["hidden.weight"]).all()
    with pytest.raises(vg.ArgumentError, match=r"^expected initial values that float32 holds"):
        init.sample((8, 8), dtype="float32", rng=0)


def test_values_beyond_the_type_are_refused_wherever_they_start() -> None:
    with pytest.raises(vg.ArgumentError, match=r"parameter hidden\.weight: .* got -?inf"):
        vg.mlp(3, 4, sigma_w2=1e300, rng=0)
    # The values fit, their rows' norms do not.
    std = vg.initializers.constant(value=3e38)
    with pytest.raises(vg.ArgumentError, match=r"parameter v\.weight_g: .* float32 holds .* got inf"):
        vg.Network(64, [vg.Dense(4, init=std, parametrization="weight_norm", name="v")], rng=0)
    with pytest.raises(vg.ArgumentError, match=r"parameter .*bias_ih_l0: .* float32 holds .* got inf"):
        vg.rnn("lstm", 4, in_features=2, forget_bias=1e300, rng=0)
    said = r"float64 holds \(up to 1\.8e308 in magnitude\), got -?inf; choose smaller parameters$"
    with pytest.raises(vg.ArgumentError, match=said):
        vg.mlp(3, 64, init=vg.initializers.normal(std=1.7e308), dtype="float64", rng=0)


@pytest.mark.parametrize(
    "name", ["lecun_normal", "lecun_uniform", "he_normal", "he_uniform", "glorot_normal"]
)
def test_gain_is_a_factor_of_every_entry(name: str) -> None:
    plain, twice = sample(name, (30, 20)), sample(name, (30, 20), gain=2.0)
    np.testing.assert_array_equal(twice, 2 * plain)
    np.testing.assert_array_equal(sample(name, (30, 20), gain=1.0), plain)
    init = getattr(vg.initializers, name)
    law, wide = (vg.theory.weight_law(init(gain=gain), 30, 20) for gain in (1.0, 2.0))
    assert wide.variance == 4 * law.variance


def test_explicit_arrays() -> None:
    rng = np.random.default_rng(0)
    one, many = rng.normal(size=(3, 3)), rng.normal(size=(5, 3, 3))
    for array in (one, many):
        net = vg.Network(3, [vg.Repeat([vg.Dense(3, init=array)], 5)], dtype="float64", rng=0)
        np.testing.assert_array_equal(net.parameters()["0.0.weight"], np.broadcast_to(array, (5, 3, 3)))
    with pytest.raises(vg.ShapeError):
        vg.Network(3, [vg.Repeat([vg.Dense(3, init=many)], 4)], dtype="float64", rng=0)


def test_aliases_and_typed_errors() -> None:
    for name in NAMES:
        for alias in vg.initializers.describe(name).aliases:
            assert vg.initializers.describe(alias).name == name
    for spelling, name in (
        ("kaiming_normal", "he_normal"),
        ("HeNormal", "he_normal"),
        ("xavier_uniform", "glorot_uniform"),
    ):
        assert vg.initializers.describe(spelling).name == name
    with pytest.raises(vg.UnknownNameError, match="he_normal"):
        vg.Dense(3, init="he_norml")
    with pytest.raises(vg.ArgumentError, match="negative_slope"):
        vg.initializers.Initializer("he_normal", {"slope": 1.0})
