"""Tests of the lowest part of vg.theory: expectations over normal arguments, against closed forms and another
quadrature, for every activation, at any length, with and without a mean."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import vgcore as vg
from helpers_theory import ACTIVATIONS, label
from numpy.typing import NDArray
from vgcore import theory
from vgcore.theory.gaussian import as_phi
from vgcore.theory.maps import Table
from vgcore.theory.moments import moments_of
from vgcore.theory.special import digamma, fair_coins, trigamma

FIELDS = ("value", "square", "slope", "slope2", "slope4", "radial", "square_slope2", "radial2")
LENGTHS = (1e-6, 0.01, 1.0, 46.0, 1e5)


def integrands(phi: object, z: NDArray[np.float64], q: float, mean: float) -> dict[str, NDArray[np.float64]]:
    """What each moment integrates, at h = mean + sqrt(q) z, without the density."""
    h = math.sqrt(q) * z
    f, s = phi.value(mean + h), phi.slope(mean + h)  # type: ignore[attr-defined]
    parts = (f, f * f, s, s * s, s**4, h * f * s, f * f * s * s, h * h * s * s)
    return dict(zip(FIELDS, parts, strict=True))


def reference(activation: str | vg.Activation, q: float, mean: float) -> dict[str, float]:
    """The moments by a trapezoidal rule that knows nothing of panels: 200,001 points between kinks."""
    phi = as_phi(activation)
    marks = sorted({(k - mean) / math.sqrt(q) for k in phi.kinks} | {-12.0, 12.0})
    marks = [m for m in marks if -12.0 <= m <= 12.0]
    total = dict.fromkeys(FIELDS, 0.0)
    for low, high in pairwise(marks):
        # tanh-sinh: exponentially accurate whatever happens at the ends
        t = np.linspace(-3.4, 3.4, 6001)
        u = np.tanh(np.pi / 2 * np.sinh(t))
        weight = np.pi / 2 * np.cosh(t) / np.cosh(np.pi / 2 * np.sinh(t)) ** 2 * (t[1] - t[0])
        z = (high + low) / 2 + (high - low) / 2 * u
        inside = (z > low) & (z < high)
        z, weight = z[inside], weight[inside]
        w = weight * (high - low) / 2 * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        for key, values in integrands(phi, z, q, mean).items():
            total[key] += float(np.sum(w * values))
    return total


@pytest.mark.parametrize("mean", [0.0, -1.3])
@pytest.mark.parametrize("q", [0.01, 1.0, 46.0])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_moments_by_another_quadrature(activation: str | vg.Activation, q: float, mean: float) -> None:
    got, expected = theory.moments(activation, q, mean), reference(activation, q, mean)
    for key in FIELDS:
        size = max(abs(expected[key]), 1e-3 * expected["square"], 1e-3 * expected["slope2"])
        assert abs(getattr(got, key) - expected[key]) < 1e-12 * max(size, 1e-2), key


@pytest.mark.parametrize("q", LENGTHS)
def test_closed_forms(q: float) -> None:
    """erf, ELU and leaky ReLU have moments in elementary functions; the erf family tests steep integrands."""
    erf = theory.moments("erf", q)
    assert abs(erf.square / (2 / math.pi * math.asin(2 * q / (1 + 2 * q))) - 1) < 1e-12
    assert abs(erf.slope2 / (4 / math.pi / math.sqrt(1 + 4 * q)) - 1) < 1e-12
    elu, root = theory.moments("elu", q), math.sqrt(q)

    def tail(x: float) -> float:  # exp(x^2/2) Phi(-x), which does not overflow
        from scipy.special import erfcx

        return float(erfcx(x / math.sqrt(2))) / 2

    assert abs(elu.slope2 / (0.5 + tail(2 * root)) - 1) < 1e-12
    square = q / 2 + tail(2 * root) - 2 * tail(root) + 0.5
    assert abs(elu.square - square) < 1e-12 * max(square, 1e-3)
    leaky = theory.moments(vg.Activation("leaky_relu", negative_slope=0.3), q)
    assert leaky.slope2 == pytest.approx((1 + 0.09) / 2, rel=1e-15)
    assert leaky.square == pytest.approx(q * (1 + 0.09) / 2, rel=1e-15)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "prelu", "identity"])
def test_closed_forms_of_the_relu_family_are_what_quadrature_gives(activation: str) -> None:
    from dataclasses import replace

    plain = replace(as_phi(activation), homogeneous=False)
    for q in LENGTHS:
        a, b = moments_of(as_phi(activation), q), moments_of(plain, q)
        for key in FIELDS:
            assert getattr(a, key) == pytest.approx(getattr(b, key), rel=1e-12, abs=1e-14 * max(1, q)), key


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_limits(activation: str | vg.Activation) -> None:
    """Very small and very large lengths join the limits, where only slopes at 0 and far out count."""
    phi = as_phi(activation)
    small, zero = moments_of(phi, 1e-14), moments_of(phi, 0.0)
    assert small.slope2 == pytest.approx(zero.slope2, rel=1e-5, abs=1e-12)
    assert small.value == pytest.approx(zero.value, abs=1e-6)
    large, end = moments_of(phi, 1e28), moments_of(phi, math.inf)
    assert large.slope2 == pytest.approx(end.slope2, rel=1e-10, abs=1e-12)
    if math.isfinite(end.square):
        assert large.square == pytest.approx(end.square, rel=1e-10)
    point = moments_of(phi, 0.0, mean=0.7)  # no spread at all: the function at one point
    assert point.value == float(phi.value(np.array([0.7]))[0])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_interpolated_moments(activation: str | vg.Activation) -> None:
    phi = as_phi(activation)
    table = Table(phi)
    for q in np.geomspace(1e-9, 1e6, 23):
        m = moments_of(phi, float(q))
        square, slope2 = table(float(q))
        square *= float(q) if phi.at_zero == 0.0 else 1.0
        assert square == pytest.approx(m.square, rel=1e-12)
        assert slope2 == pytest.approx(m.slope2, rel=1e-12)
        for got, key in zip(
            table.more(float(q)), ("value", "slope4", "radial", "square_slope2", "radial2"), strict=True
        ):
            scale = 1e-10 * (abs(m.square) + m.slope2 + math.sqrt(m.square))
            assert got == pytest.approx(getattr(m, key), rel=1e-9, abs=scale), key


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_monte_carlo(activation: str | vg.Activation) -> None:
    """Means over 200,000 draws, within five of their own standard errors."""
    phi, z = as_phi(activation), np.random.default_rng(0).normal(size=200_000)
    m = theory.moments(activation, 2.0, 0.4)
    for key, sample in integrands(phi, z, 2.0, 0.4).items():
        error = sample.std() / math.sqrt(len(sample))
        assert abs(sample.mean() - getattr(m, key)) <= 5 * error + 1e-12, key


def test_kinks_are_found() -> None:
    assert as_phi("hardtanh").kinks == (-1.0, 0.0, 1.0)
    assert as_phi("hardswish").kinks == (-3.0, 0.0, 3.0)
    assert as_phi("relu6").kinks == (0.0, 6.0)
    assert as_phi(vg.Activation("hardtanh", min_val=-0.4, max_val=1.7)).kinks == (-0.4, 0.0, 1.7)
    assert as_phi("tanh").kinks == (0.0,)


def test_a_relu_that_dies_from_its_bias() -> None:
    """At a mean of -20 deviations the slope's mean square is a tail probability of 3e-89, not 0."""
    from scipy.special import log_ndtr

    got = theory.moments("relu", 1.0, mean=-20.0).slope2
    assert abs(math.log(got) / float(log_ndtr(-20.0)) - 1) < 1e-12


def test_gains_hold_what_they_say() -> None:
    for activation in ACTIVATIONS:
        g = theory.gain(activation, 1.3)
        assert theory.length_map(activation, 1.3, g.forward**2) == pytest.approx(1.3, rel=1e-12)
        assert theory.chi_1(activation, 1.3, g.backward**2) == pytest.approx(1.0, rel=1e-12)
        assert theory.chi_1(activation, 1.3, g.forward**2) == pytest.approx(g.chi_1, rel=1e-12)
        assert theory.chi_q(activation, 1.3, g.forward**2) == pytest.approx(g.chi_q, rel=1e-12, abs=1e-15)


def test_gamma_function_relatives() -> None:
    from scipy import special, stats

    x = np.concatenate([np.geomspace(1e-3, 1e6, 40), np.arange(1, 30) / 2])
    np.testing.assert_allclose(digamma(x), special.digamma(x), rtol=2e-14, atol=2e-14)
    np.testing.assert_allclose(trigamma(x), special.polygamma(1, x), rtol=2e-14)
    for n in (1, 2, 17, 5000):
        k, p = fair_coins(n)
        expected = stats.binom.pmf(k, n, 0.5) / (1 - 0.5**n)
        np.testing.assert_allclose(p, expected, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.moments("tahn"), "did you mean 'tanh'"),
        (lambda: theory.moments("tanh", -1.0), "q: expected a number of at least 0, got -1"),
        (lambda: theory.moments("tanh", "1"), "q: expected a number, got '1'"),  # type: ignore[arg-type]
        (lambda: theory.moments(np.tanh), "activation: expected a name such as 'tanh'"),  # type: ignore[arg-type]
        (lambda: theory.gain("tanh", 0.0), "q: expected a number above 0, got 0"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(vg.VgcoreError, match=message):
        call()  # type: ignore[operator]
