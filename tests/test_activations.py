"""Tests of activation functions: exact values from 300-digit tables, saturation far outside the float range,
edges, names."""

from __future__ import annotations

import numpy as np
import pytest
import vgcore as vg
from helpers import as_float, assert_close, exact_activations, log2_abs
from hypothesis import given
from hypothesis import strategies as st
from oracle_activations import ACTIVATIONS, activation

NAMES = vg.activations.names()
# Where phi' crosses zero its terms cancel: there the error is measured on their scale instead.
ROOTS = {"silu": -1.2784645, "gelu": -0.7517915, "gelu_tanh": -0.7524614, "mish": -1.1924}
# Units in the last place, as a relative error: float64 is held to what the deep chains need.
RTOL = {np.dtype(np.float64): 1e-13, np.dtype(np.float32): 1e-6}


def near_root(case: dict[str, object], x: np.ndarray) -> np.ndarray:
    root = ROOTS.get(str(case["name"]))
    return (
        np.zeros(x.shape, bool)
        if root is None
        else np.abs(x * dict(case["params"]).get("beta", 1.0) - root) < 0.6
    )  # type: ignore[call-overload]


def test_the_tables_know_every_activation_that_the_oracle_knows() -> None:
    assert {case["name"] for case in exact_activations().values()} == set(ACTIVATIONS)
    assert set(ACTIVATIONS) <= set(NAMES)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("what", ["y", "dy"])
@pytest.mark.parametrize("key", sorted(exact_activations()))
def test_value_and_derivative_to_the_last_digits(key: str, what: str, dtype: type) -> None:
    case = exact_activations()[key]
    x = np.array([point["x"] for point in case["points"]])
    exact = np.array([as_float(point[what]) for point in case["points"]])
    function = vg.activations.value if what == "y" else vg.activations.derivative
    got = function(case["name"], x.astype(dtype), **case["params"])
    assert got.dtype == dtype
    assert got.shape == x.shape
    info = np.finfo(dtype)
    normal = (np.abs(exact) >= info.tiny) & (np.abs(exact) <= info.max)
    held = normal & ~(near_root(case, x) if what == "dy" else np.zeros(x.shape, bool))
    assert_close(got[held], exact[held], RTOL[np.dtype(dtype)], f"{key} {what} {info.dtype}")
    rooted = normal & ~held
    assert np.all(np.abs(got[rooted] - exact[rooted]) <= 4 * info.eps)
    # below the normal numbers: at most the smallest of them, and of the right sign
    small = np.abs(exact) < info.tiny
    assert np.all(np.abs(got[small]) <= info.tiny)
    assert np.all((got[small] == 0) | (np.sign(got[small]) == np.sign(exact[small])) | (exact[small] == 0))
    assert np.all(got[exact == 0][np.array([p[what] == ["0", 0] for p in case["points"]])[exact == 0]] == 0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("key", sorted(exact_activations()))
def test_scaled_derivative_at_any_exponent(key: str, dtype: type) -> None:
    """mantissa * 2**exponent where no float holds the derivative: log2 to 1e-12 of its size, and the sign."""
    case = exact_activations()[key]
    x = np.array([point["x"] for point in case["points"]])
    mantissa, exponent = vg.activations.scaled_derivative(case["name"], x.astype(dtype), **case["params"])
    assert mantissa.dtype == dtype
    assert exponent.dtype == np.int64
    with np.errstate(divide="ignore"):
        got = np.log2(np.abs(mantissa.astype(np.float64))) + exponent
    expected = np.array([log2_abs(point["dy"]) for point in case["points"]])
    far = ~near_root(case, x)
    assert np.array_equal(np.isneginf(got), np.isneginf(expected))
    finite = far & np.isfinite(expected)
    # a float64 logarithm of 1e6 has an error of 1e-10 of its own; the derivative behind it has 1e-12, or 5e-7
    allowed = (1e-12 if dtype is np.float64 else 5e-7) + 4e-16 * np.abs(expected[finite])
    assert np.all(np.abs(got[finite] - expected[finite]) <= allowed)
    sign = np.array([-1.0 if point["dy"][0].startswith("-") else 1.0 for point in case["points"]])
    assert np.array_equal(np.sign(mantissa)[finite], sign[finite].astype(dtype))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", NAMES)
def test_edges(name: str, dtype: type) -> None:
    """NaN in, NaN out; infinities and the largest numbers give limits, not NaN by accident."""
    nan = np.array([np.nan], dtype)
    assert np.isnan(vg.activations.value(name, nan)).all()
    # The identity alone has a slope that does not depend on x; of others no piece holds NaN.
    straight = name == "identity"
    assert np.isnan(vg.activations.derivative(name, nan)).all() != straight
    assert np.isnan(vg.activations.scaled_derivative(name, nan)[0]).all() != straight
    huge = np.array([np.finfo(dtype).max, -np.finfo(dtype).max, 1e30, -1e30], dtype)
    assert not np.isnan(vg.activations.value(name, huge)).any()
    slope = vg.activations.derivative(name, huge)
    assert np.isfinite(slope).all()
    assert np.all(np.abs(slope) <= 2)
    assert vg.activations.value(name, np.empty((0, 3), dtype)).shape == (0, 3)
    assert vg.activations.value(name, np.zeros((2, 3, 1), dtype)).shape == (2, 3, 1)


@pytest.mark.parametrize("name", NAMES)
def test_claims_of_the_catalogue(name: str) -> None:
    """`max_slope` is the largest |phi'|, and `saturates` says whether phi' vanishes on both sides."""
    entry = vg.activations.describe(name)
    ends_of_pieces = [np.nextafter(edge, side) for edge in (-3.0, 0.0, 3.0) for side in (-9, 9)]
    x = np.concatenate([np.linspace(-40, 40, 160_001), [-1e4, 1e4], ends_of_pieces])
    slope = np.abs(vg.activations.derivative(name, x))
    assert slope.max() <= entry.extra["max_slope"] * (1 + 1e-9)
    assert slope.max() >= entry.extra["max_slope"] * (1 - 1e-6)
    ends = np.abs(vg.activations.derivative(name, np.array([-1e4, 1e4])))
    assert bool(np.all(ends < 1e-3)) == entry.extra["saturates"]
    assert entry.formula
    assert entry.derivative
    assert entry.summary
    assert entry.extra["fits"] in vg.initializers.names()


@pytest.mark.parametrize("name", NAMES)
def test_names_and_aliases(name: str) -> None:
    x = np.linspace(-3, 3, 7)
    direct = getattr(vg.activations, name)(x)
    for spelling in (name, name.upper(), name.replace("_", "-"), *vg.activations.describe(name).aliases):
        np.testing.assert_array_equal(vg.activations.value(spelling, x), direct)


@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1), vg.testing.dtypes())
def test_every_lane_gives_the_same_bits(name: str, seed: int, dtype: str) -> None:
    """An element's result does not depend on its neighbours or its place in the array."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=67) * 10.0 ** rng.uniform(-3, 2, 67)).astype(dtype)
    for function in (vg.activations.value, vg.activations.derivative):
        whole = function(name, x)
        alone = np.array([function(name, x[i : i + 1])[0] for i in range(len(x))])
        assert whole.tobytes() == alone.tobytes()
        assert function(name, x[::-3]).tobytes() == whole[::-3].tobytes()


@given(st.sampled_from(sorted(ACTIVATIONS)), st.integers(0, 2**32 - 1))
def test_random_points_against_the_oracle(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=100) * 10.0 ** rng.uniform(-4, 1.3, 100)
    value, slope = activation(name)
    held = np.abs(value(x)) > 1e-290
    assert_close(vg.activations.value(name, x)[held], value(x)[held], 5e-13, f"{name} value")
    far = np.abs(slope(x)) > (0.01 if name in ROOTS else 1e-290)
    assert_close(vg.activations.derivative(name, x)[far], slope(x)[far], 5e-13, f"{name} derivative")


def test_typed_errors() -> None:
    with pytest.raises(vg.UnknownNameError, match="tanh"):
        vg.activations.value("tahn", np.zeros(2))
    with pytest.raises(vg.ArgumentError, match="negative_slope"):
        vg.activations.value("leaky_relu", np.zeros(2), negative_slop=0.1)
    for bad in (np.zeros(2, np.int64), np.zeros(2, np.complex128), np.zeros(2, np.float16)):
        with pytest.raises(vg.DTypeError):
            vg.activations.value("tanh", bad)
