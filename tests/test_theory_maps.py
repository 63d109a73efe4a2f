"""Tests of what follows from the moments: fixed points, correlations, criticality, blocks, normalisation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import vgcore as vg
from helpers_theory import ACTIVATIONS, label
from vgcore import theory
from vgcore.theory.correlation import pair_of
from vgcore.theory.gaussian import as_phi

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

names = st.sampled_from(ACTIVATIONS)
variances = st.floats(0.05, 6.0)
biases = st.one_of(st.just(0.0), st.floats(1e-3, 2.0))


# --- length -----------------------------------------------------------------------------------------------


@given(names, variances, biases, st.floats(1e-3, 30.0))
def test_the_length_that_is_reached_is_kept(
    activation: str | vg.Activation, w: float, b: float, q0: float
) -> None:
    m = theory.mean_field(activation, w, b, q0=q0)
    if math.isfinite(m.q_star):
        assert theory.length_map(activation, m.q_star, w, b) == pytest.approx(m.q_star, rel=1e-10, abs=1e-12)
    assert m.chi_1 == pytest.approx(theory.chi_1(activation, min(m.q_star, 1e300), w), rel=1e-6, abs=1e-9)
    assert m.phase == "critical" or (m.phase == "ordered") == (m.decades_per_layer < 0)


@given(names, variances, biases, st.floats(0.01, 10.0))
def test_iteration_reaches_it(activation: str | vg.Activation, w: float, b: float, q0: float) -> None:
    """A thousand layers from q0 end at q_star, unless its neighbourhood is as slow as a power law."""
    m = theory.mean_field(activation, w, b, q0=q0)
    slopes = [p.chi_q for p in theory.fixed_points(activation, w, b)]
    if any(abs(s - 1) < 0.03 for s in slopes) or not abs(m.chi_q) < 0.97:
        return
    last = theory.trajectory(activation, 1000, w, b, q1=q0).q[-1]
    assert last == pytest.approx(m.q_star, rel=1e-8, abs=1e-10)


@given(names, variances, biases, st.floats(0.05, 20.0))
def test_chi_q_is_the_slope_of_the_length_map(
    activation: str | vg.Activation, w: float, b: float, q: float
) -> None:
    h = 1e-4 * q
    ends = [theory.length_map(activation, q + s * h, w, b) for s in (-2, -1, 1, 2)]
    slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
    assert theory.chi_q(activation, q, w) == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_fixed_points_are_all_there() -> None:
    """GELU has three fixed points here: 0 is not one (there are biases), one stable, one unstable."""
    for q, slope in theory.fixed_points("gelu", 2.05, 0.1):
        assert theory.length_map("gelu", q, 2.05, 0.1) == pytest.approx(q, rel=1e-12)
        assert slope == theory.chi_q("gelu", q, 2.05)
    assert len(theory.fixed_points("gelu", 2.05, 0.1)) == 2
    assert theory.mean_field("gelu", 2.05, 0.1).q_star < 1 < theory.fixed_points("gelu", 2.05, 0.1)[1].q
    assert theory.mean_field("gelu", 2.05, 0.1, q0=3.0).q_star == math.inf
    assert theory.fixed_points("tanh", 0.5) == ((0.0, 0.5),)
    assert theory.fixed_points("relu", 2.0) == ()


def test_nothing_is_left_of_a_network_without_weights() -> None:
    m = theory.mean_field("tanh", 0.0, 0.3)
    assert (m.q_star, m.chi_1, m.decades_per_layer) == (0.3, 0.0, -math.inf)


# --- correlation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_pairs_at_both_ends(activation: str | vg.Activation) -> None:
    """At c = 1 a pair is one input, at c = 0 two independent ones; product and distance sum to E phi^2."""
    m = theory.moments(activation, 1.7)
    apart, near = (
        theory.pair_moments(activation, 1.7, 0.0),
        theory.pair_moments(activation, 1.7, distance=1e-9),
    )
    scale = m.square + 1e-3
    assert apart.product == pytest.approx(m.value**2, abs=1e-12 * scale)
    assert apart.slopes == pytest.approx(m.slope**2, abs=1e-12)
    assert near.distance == pytest.approx(1e-9 * 1.7 * m.slope2, rel=1e-3)
    for c in (-0.999, -0.3, 0.4, 0.99):
        pair = theory.pair_moments(activation, 1.7, c)
        assert pair.product + pair.distance == pytest.approx(m.square, rel=1e-12)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_arc_cosine_kernels_are_what_quadrature_gives(activation: str) -> None:
    from dataclasses import replace

    plain = replace(as_phi(activation), homogeneous=False)
    for q in (0.01, 1.0, 46.0):
        for d in (1.9, 1.3, 1.0, 0.4, 1e-3, 1e-8):
            a, b = pair_of(as_phi(activation), q, d), pair_of(plain, q, d)
            assert a.product == pytest.approx(b.product, rel=1e-11, abs=1e-14 * q)
            assert a.slopes == pytest.approx(b.slopes, rel=1e-11, abs=1e-14)
            assert a.distance == pytest.approx(b.distance, rel=1e-11)


def test_pairs_by_a_closed_form() -> None:
    for q in (1e-3, 1.0, 46.0, 1e4):
        for c in (-0.9, 0.0, 0.5, 0.999):
            got = theory.pair_moments("erf", q, c)
            product = 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))
            slopes = 4 / math.pi / math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
            assert got.product == pytest.approx(product, abs=1e-13)
            assert got.slopes == pytest.approx(slopes, rel=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_pairs_by_monte_carlo(activation: str | vg.Activation) -> None:
    phi, rng = as_phi(activation), np.random.default_rng(1)
    z, other = rng.normal(size=(2, 100_000))
    h1, h2 = math.sqrt(2.0) * z, math.sqrt(2.0) * (0.6 * z + 0.8 * other)
    pair = theory.pair_moments(activation, 2.0, 0.6)
    for sample, got in (
        (phi.value(h1) * phi.value(h2), pair.product),
        (phi.slope(h1) * phi.slope(h2), pair.slopes),
    ):
        assert abs(sample.mean() - got) <= 5 * sample.std() / math.sqrt(len(sample)) + 1e-12


@pytest.mark.parametrize("activation", ["tanh", "erf", "hardtanh", "selu", "sigmoid"])
@pytest.mark.parametrize(
    ("w", "b", "keep"), [(1.2, 0.05, 1.0), (4.0, 0.1, 1.0), (4.0, 0.0, 1.0), (3.0, 0.1, 0.7)]
)
def test_correlation_map(activation: str, w: float, b: float, keep: float) -> None:
    """It rises, convex; c* is its lowest fixed point, and is 1 in the ordered phase without dropout."""
    m = theory.mean_field(activation, w, b, keep_prob=keep)
    if not 0 < m.q_star < math.inf:  # selu with large weights: no length to hold
        with pytest.raises(vg.ArgumentError, match="finite"):
            m.correlation(0.5)
        return
    grid = np.linspace(0.0, 1.0, 9)
    mapped = np.array([m.correlation(float(c)) for c in grid])
    assert np.all(np.diff(mapped) > 0)
    assert np.all(np.diff(mapped, 2) > -1e-12)
    assert m.correlation(m.c_star) == pytest.approx(m.c_star, abs=1e-12)
    assert m.chi_c <= 1 + 1e-9
    if keep == 1.0:
        assert mapped[-1] == pytest.approx(1.0, abs=1e-12)
        assert (m.c_star == 1.0) == (m.phase != "chaotic")
    else:
        assert mapped[-1] < 1
        assert m.c_star < 1
    slope = (m.correlation(0.5 + 1e-5) - m.correlation(0.5 - 1e-5)) / 2e-5
    assert theory.pair_moments(activation, m.q_star, 0.5).slopes * w == pytest.approx(slope, rel=1e-7)


# --- criticality ------------------------------------------------------------------------------------------


@given(names, biases)
def test_critical_points_are_critical(activation: str | vg.Activation, b: float) -> None:
    for p in theory.critical_points(activation, b):
        assert theory.chi_1(activation, min(p.q_star, 1e20), p.sigma_w2) == pytest.approx(1.0, rel=1e-9)
        if math.isfinite(p.q_star) and p.q_star > 0:
            assert theory.length_map(activation, p.q_star, p.sigma_w2, b) == pytest.approx(p.q_star, rel=1e-9)
            assert theory.chi_q(activation, p.q_star, p.sigma_w2) == pytest.approx(p.chi_q, rel=1e-9)
        if p.stability == "stable":
            assert p.chi_q < 1
            near = theory.mean_field(activation, p.sigma_w2, b, q0=p.q_star * 1.0001)
            assert near.q_star == pytest.approx(p.q_star, rel=1e-6)
            assert near.phase == "critical"


@pytest.mark.parametrize("activation", ["tanh", "erf", "arctan", "softsign", "hardtanh", "elu", "lecun_tanh"])
def test_the_critical_line_rises_from_zero(activation: str) -> None:
    """More bias asks for larger weights; without bias they are 1 / phi'(0)^2, at a length of 0."""
    points = [theory.critical(activation, b) for b in (0.0, 1e-4, 0.01, 0.1, 0.5)]
    assert points[0].stability == "marginal"
    assert points[0].q_star == 0.0
    weights = [p.sigma_w2 for p in points]
    assert weights == sorted(weights)
    for p in points[1:]:
        back = theory.critical_line(activation, p.sigma_w2)
        assert any(q.sigma_b2 == pytest.approx(p.sigma_b2, rel=1e-7) for q in back)


def test_relu_is_critical_at_every_length() -> None:
    assert theory.critical("relu").stability == "neutral"
    assert theory.critical("relu").sigma_w2 == 2.0
    drifting = theory.critical("relu", 0.1)
    assert (drifting.stability, drifting.q_star) == ("drifting", math.inf)
    leaky = vg.Activation("leaky_relu", negative_slope=0.5)
    assert theory.critical(leaky).sigma_w2 == pytest.approx(2 / 1.25, rel=1e-15)


def test_what_is_said_where_nothing_is_critical() -> None:
    with pytest.raises(vg.ArgumentError, match=r"silu has no critical point.*sigma_b2=0.555143"):
        theory.critical("silu")
    with pytest.raises(vg.ArgumentError, match=r"softplus.*normalisation layer"):
        theory.critical("softplus")
    with pytest.raises(vg.ArgumentError, match=r"selu.*sigma_w2=0.47677 is critical there only"):
        theory.critical("selu")


# --- blocks and normalisation -----------------------------------------------------------------------------


def test_residual_forms() -> None:
    """Pre-norm blocks of He ReLU branches telescope; scaled by 1/sqrt(L) a stack tends to e."""
    depth = 200
    flow = theory.residual("relu", depth, 2.0, form="pre_norm")
    assert 10 ** (2 * flow.log10_ratio) == pytest.approx(1 + depth, rel=1e-12)
    scaled = theory.residual("relu", depth, 2.0, form="pre", scale=depth**-0.5)
    assert 10 ** (2 * scaled.log10_ratio) == pytest.approx((1 + 1 / depth) ** depth, rel=1e-12)
    post = theory.residual("tanh", 5, 1.5, form="post_norm")
    m = theory.moments("tanh")
    assert post.factor[3] == pytest.approx(theory.postnorm_factor(1.5 * m.slope2, 1.5 * m.square), rel=1e-12)
    assert set(post.q) == {1.0}
    assert theory.prenorm_factor(1.0, 2.0) == 1.5
    # tanh residual: the logarithm of the gradient grows as the root of the depth
    logs = [theory.residual("tanh", n, 1.0).log10_ratio for n in (1000, 4000)]
    assert logs[1] / logs[0] == pytest.approx(2.0, rel=0.05)


def test_gates() -> None:
    assert theory.gated_factor(0.3) == pytest.approx(0.7**2 + 0.3**2, rel=1e-15)
    assert theory.gated_factor(0.3, coupled=False) == pytest.approx(1 + 0.3**2, rel=1e-15)
    assert theory.gate_decay(-800.0).log10_per_step == pytest.approx(-800 / math.log(10), rel=1e-15)
    assert theory.gate_decay(800.0).half_life == math.inf or theory.gate_decay(800.0).half_life > 1e300
    assert theory.stochastic_depth_blocks(100) == (3 * 100 - 1) / 4


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_batch_norm_never_lets_gradients_vanish(activation: str | vg.Activation) -> None:
    """The Gaussian Poincare inequality; a small batch makes it worse, a large one tends to the limit."""
    limit = theory.batch_norm_factor(activation)
    assert limit >= 1 - 1e-12
    factors = [theory.batch_norm_factor(activation, b) for b in (4, 16, 256)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] >= limit - 1e-9
    assert theory.batch_norm_factor(activation, 100_000) == pytest.approx(limit, rel=1e-3)


def test_batch_norm_by_the_published_formula() -> None:
    for b in (4, 7, 16, 128, 1000):
        assert theory.batch_norm_factor("identity", b) == pytest.approx((b - 2) / (b - 3), rel=1e-12)
        r = -1 / (b - 1)
        k = (math.sqrt(1 - r * r) + r * (math.pi - math.acos(r))) / (2 * math.pi)
        p = 0.25 + math.asin(r) / (2 * math.pi)
        inner = (
            (1 - 1 / b) * b / 2
            - (b / 2 - (b / 2 + b * (b - 1) * p) / b) / b
            - (0.5 - (0.5 + (b - 1) * k) / b)
        )
        assert theory.batch_norm_factor("relu", b) == pytest.approx(
            b / ((0.5 - k) * (b - 3) * (b - 1)) * inner, rel=1e-12
        )


def test_batch_norm_by_simulation() -> None:
    """A stack of batch-normalised layers of width 600, batch 8, gradient by hand: mean ratio per layer."""
    rng, n, batch, depth = np.random.default_rng(3), 600, 8, 14
    ratios = []
    for _ in range(4):
        x, tape = rng.normal(size=(n, batch)), []
        for _ in range(depth):
            w = rng.normal(size=(n, n)) / math.sqrt(n)
            h = w @ x
            sigma = h.std(axis=1, keepdims=True)
            y = (h - h.mean(axis=1, keepdims=True)) / sigma
            tape.append((w, y, sigma))
            x = np.tanh(y)
        g, norms = rng.normal(size=(n, batch)), []
        for w, y, sigma in reversed(tape):
            g = g * (1 - np.tanh(y) ** 2)
            g = (g - g.mean(axis=1, keepdims=True) - y * (g * y).mean(axis=1, keepdims=True)) / sigma
            norms.append(np.sum(g * g))
            g = w.T @ g
        ratios += [b / a for a, b in pairwise(norms[3:-4])]
    expected = theory.batch_norm_factor("tanh", batch)
    assert np.mean(ratios) == pytest.approx(expected, rel=0.03)


# --- finite width, isometry -------------------------------------------------------------------------------


def test_unequal_widths_add_up() -> None:
    whole = theory.relu_log_norm([8, 16, 4, 8])
    parts = [theory.relu_log_norm([a, b]) for a, b in ((8, 16), (16, 4), (4, 8))]
    assert whole.mean == pytest.approx(sum(p.mean for p in parts), rel=1e-13)
    assert whole.variance == pytest.approx(sum(p.variance for p in parts), rel=1e-13)
    assert theory.linear_log_norm([8] * 11).mean == pytest.approx(
        theory.linear_log_norm(8, 10).mean, rel=1e-13
    )


def test_leading_order_agrees_with_the_exact_laws() -> None:
    for exact, activation, w in (
        (theory.relu_log_norm(400, 50), "relu", 2.0),
        (theory.linear_log_norm(400, 50), "identity", 1.0),
    ):
        law = theory.log_norm(activation, 400, 51, w)
        assert law.mean == pytest.approx(exact.mean, rel=0.02)
        assert law.variance == pytest.approx(exact.variance, rel=0.02)
        assert law.log10_rms == pytest.approx(0.0, abs=1e-12)


def test_singular_values_by_simulation() -> None:
    """Normalised variance of squared singular values: product of 6 Gaussian tanh layers at criticality."""
    p, n, depth, rng = theory.critical("tanh", 0.05), 300, 6, np.random.default_rng(0)
    found = []
    for _ in range(4):
        h, jacobian = rng.normal(size=n) * math.sqrt(p.q_star), np.eye(n)
        for _ in range(depth):
            w = rng.normal(size=(n, n)) * math.sqrt(p.sigma_w2 / n)
            jacobian = w @ ((1 - np.tanh(h) ** 2)[:, None] * jacobian)
            h = w @ np.tanh(h) + rng.normal(size=n) * math.sqrt(0.05)
        s2 = np.linalg.svd(jacobian, compute_uv=False) ** 2
        found.append(s2.var() / s2.mean() ** 2)
    expected = theory.dynamical_isometry("tanh", depth, p.sigma_w2, 0.05).normalised_variance
    assert np.mean(found) == pytest.approx(expected, rel=0.1)
    assert theory.largest_singular_value(100) ** 2 == pytest.approx(math.e * 100.5, rel=1e-4)


# --- far out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [1e-8, 1e6])
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "softplus", "tanhshrink", "relu6"])
@pytest.mark.filterwarnings("error")
def test_absurd_weights_give_numbers(activation: str, w: float) -> None:
    """Lengths that leave the range of floats take their limits: no NaN, no warning."""
    for b in (0.0, 1e6):
        m = theory.mean_field(activation, w, b)
        assert not math.isnan(m.q_star + m.chi_1 + m.decades_per_layer)
        for path in (theory.trajectory(activation, 150, w, b), theory.two_mode(activation, 50, 150, w, b)):
            assert not np.isnan(path.log10_grad_norm).any()
        net = vg.Network(
            4, [vg.Repeat([vg.Dense(4, sigma_w2=w, sigma_b2=b), vg.Activation(activation)], 150)], rng=0
        )
        got = theory.predict(net)
        assert not np.isnan(got.log10_grad_norm).any()
        assert not np.isnan(got.log10_typical).any()


def test_correlations_where_the_length_has_no_scale() -> None:
    for m in (
        theory.mean_field("relu", 8.0),
        theory.mean_field("tanh", 0.5),
        theory.mean_field("relu", 2.0, 0.1),
    ):
        assert (m.c_star, m.chi_c, m.xi_c) == (1.0, 1.0, math.inf)


def test_products_beyond_the_range_of_floats() -> None:
    assert theory.residual("relu", 3000, 2.0).log10_ratio == pytest.approx(1500 * math.log10(2.0), rel=1e-12)
    assert theory.relu_fourth_moment(1, 10**6) == math.inf
    assert theory.highway(0.0, 5000).log10_ratio == pytest.approx(-2500 * math.log10(2.0), rel=1e-12)
    assert theory.gate_decay(1e6).half_life == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.mean_field("tanh", -1.0), "sigma_w2: expected a number of at least 0"),
        (lambda: theory.mean_field("tanh", 1.0, keep_prob=0.0), "keep_prob: expected a probability"),
        (lambda: theory.mean_field("tanh", 0.5).correlation(0.2), "finite q\\* above 0"),
        (lambda: theory.pair_moments("tanh", 1.0), "either c or distance"),
        (lambda: theory.pair_moments("tanh", 1.0, 1.5), "correlation from -1 to 1"),
        (
            lambda: theory.correlation_trajectory("tanh", 5, 1.0, c0=0.5, q=1.0),
            "fixed point of the length map",
        ),
        (lambda: theory.critical("tanh", -0.1), "sigma_b2: expected a number of at least 0"),
        (lambda: theory.batch_norm_factor("relu", 3), "batch: expected at least 4 samples"),
        (lambda: theory.residual("relu", 3, 2.0, form="mid"), "form: expected one of"),
        (lambda: theory.gated_factor(1.2), "transform: expected a gate"),
        (lambda: theory.linear_log_norm(8), "depth: expected a number of layers"),
        (lambda: theory.linear_log_norm([8, 8], 3), "leave depth out"),
        (lambda: theory.hochreiter(0.0), "y: expected an activation above 0"),
        (lambda: theory.chrono(1), "steps: expected an integer of at least 2"),
        (lambda: theory.weight_law("identity", 4, 4), "not drawn alike"),
        (lambda: theory.weight_law(np.eye(3), 3, 3), "explicit array"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(vg.ArgumentError, match=message):
        call()  # type: ignore[operator]
