"""Tests of gradient_stats and of a probe's statistics against exact sums and NumPy, at every exponent and
layout."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

# Format -> (log2 smallest subnormal, log2 smallest normal, least magnitude that rounds beyond the largest
# number, and whether that magnitude itself does: ties go to the even significand).
FORMATS: dict[str, tuple[int, int, Fraction, bool]] = {
    "float64": (-1074, -1022, Fraction(2) ** 1024 - Fraction(2) ** 970, True),
    "float32": (-149, -126, Fraction(2) ** 128 - Fraction(2) ** 103, True),
    "bfloat16": (-133, -126, Fraction(2) ** 128 - Fraction(2) ** 119, True),
    "float16": (-24, -14, Fraction(65520), True),
    "float8_e5m2": (-16, -14, Fraction(61440), True),
    "float8_e4m3": (-9, -6, Fraction(464), False),
}


def log2_of(value: Fraction) -> float:
    """log2 of an exact positive number of any size."""
    if value == 0:
        return -math.inf
    shift = value.numerator.bit_length() - value.denominator.bit_length()
    return math.log2(float(value / Fraction(2) ** shift)) + shift


def exact_stats(values: NDArray[Any]) -> dict[str, Any]:
    """The same figures with unlimited precision."""
    flat = values.astype(np.float64).ravel()
    finite = [Fraction(float(v)) for v in flat if np.isfinite(v)]
    sizes = [abs(v) for v in finite if v]
    found: dict[str, Any] = {
        "count": flat.size,
        "zero": int((flat == 0).sum()),
        "nan": int(np.isnan(flat).sum()),
        "inf": int(np.isinf(flat).sum()),
        "positive": int((flat > 0).sum()),
        "log2_norm": log2_of(sum((s * s for s in sizes), Fraction(0))) / 2,
        "log2_max": log2_of(max(sizes, default=Fraction(0))),
        "log2_min": log2_of(min(sizes)) if sizes else math.nan,
        "log2_mean_abs": log2_of(sum(sizes, Fraction(0)) / max(len(flat), 1)),
    }
    for name, (lowest, normal, beyond, tie) in FORMATS.items():
        flushed = [s for s in sizes if s <= Fraction(2) ** (lowest - 1)]
        found[f"flush {name}"] = len(flushed)
        found[f"subnormal {name}"] = sum(s < Fraction(2) ** normal for s in sizes) - len(flushed)
        found[f"overflow {name}"] = sum(s >= beyond if tie else s > beyond for s in sizes)
    return found


def assert_stats(stats: vg.Stats, values: NDArray[Any]) -> None:
    exact = exact_stats(values)
    for key in ("count", "zero", "nan", "inf", "positive"):
        assert getattr(stats, key) == exact[key], key
    for name in FORMATS:
        assert stats.flush[name] == exact[f"flush {name}"], name
        assert stats.subnormal[name] == exact[f"subnormal {name}"], name
        assert stats.overflow[name] == exact[f"overflow {name}"], name
    if not exact["nan"] and not exact["inf"]:
        for key in ("log2_norm", "log2_max", "log2_mean_abs"):
            got, expected = getattr(stats, key), exact[key]
            # log2 of a sum within 1e-13 of it
            assert got == expected or abs(got - expected) <= 1e-12 + 1e-15 * abs(expected), key
        if exact["zero"] < exact["count"]:
            assert abs(stats.log2_min - exact["log2_min"]) <= 1e-12
            assert int(stats.counts.sum()) == exact["count"] - exact["zero"]


def wide(rng: np.random.Generator, size: int, dtype: str) -> NDArray[Any]:
    """Numbers over the whole range of the format, subnormals, zeros and powers of two among them."""
    low, high = (-1074, 1023) if dtype == "float64" else (-149, 127)
    exponents = rng.integers(low, high, size)
    mantissas = np.where(rng.random(size) < 0.3, 1.0, rng.uniform(1, 2, size)) * rng.choice([-1, 1], size)
    values = np.ldexp(mantissas, exponents)
    values[rng.random(size) < 0.1] = 0.0
    return values.astype(dtype)


@given(vg.testing.dtypes(), st.integers(1, 600), st.integers(0, 2**32 - 1))
def test_any_numbers(dtype: str, size: int, seed: int) -> None:
    values = wide(np.random.default_rng(seed), size, dtype)
    assert_stats(vg.gradient_stats(values), values)


@given(vg.testing.dtypes(), st.integers(0, 2**32 - 1), st.sampled_from(list(FORMATS)))
def test_the_very_borders_of_each_format(dtype: str, seed: int, name: str) -> None:
    """Half the smallest number, the smallest normal one, the largest, and their neighbours on both sides."""
    lowest, normal, beyond, _ = FORMATS[name]
    borders = [Fraction(2) ** (lowest - 1), Fraction(2) ** lowest, Fraction(2) ** normal, beyond]
    kind = np.dtype(dtype).type
    with np.errstate(over="ignore", under="ignore"):
        points = [kind(float(b)) if log2_of(b) < 1024 else kind(np.inf) for b in borders]
        values = np.array(
            [
                f(p)
                for p in points
                for f in (
                    lambda p: p,
                    lambda p: -p,
                    lambda p: np.nextafter(p, kind(0)),
                    lambda p: np.nextafter(p, kind(np.inf)),
                )
            ]
        )
    values = np.random.default_rng(seed).permutation(values[np.isfinite(values)]).astype(dtype)
    assert_stats(vg.gradient_stats(values), values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_are_counted(dtype: str) -> None:
    values = np.array([1.0, np.nan, -np.inf, 0.0, np.inf, -2.0, np.nan], dtype)
    stats = vg.gradient_stats(values)
    assert (stats.count, stats.nan, stats.inf, stats.zero, stats.positive) == (7, 2, 2, 1, 2)
    assert math.isnan(stats.log2_norm)
    assert math.isinf(vg.gradient_stats(values[[0, 2, 4]]).log2_norm)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_beyond_the_range_of_squares(dtype: str) -> None:
    info = np.finfo(dtype)
    for size in (info.max, info.tiny, info.smallest_subnormal):
        values = np.full(1000, size, dtype)
        expected = math.log2(float(size)) + math.log2(1000) / 2
        assert abs(vg.gradient_stats(values).log2_norm - expected) < 1e-12
    assert vg.gradient_stats(np.zeros(5, dtype)).log2_norm == -math.inf


@given(st.integers(0, 2**32 - 1))
def test_any_layout(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = wide(rng, 6 * 8 * 3, "float32").reshape(6, 8, 3)
    reference = vg.gradient_stats(np.ascontiguousarray(base)).to_dict()
    raw = bytearray(b"\0") + base.tobytes()
    read_only = base.copy()
    read_only.setflags(write=False)
    for same in (
        base.transpose(2, 0, 1),
        np.asfortranarray(base),
        base[::-1, :, ::-1],
        read_only,
        base.astype(">f4"),
        np.frombuffer(raw, np.float32, offset=1),
    ):
        got = vg.gradient_stats(same).to_dict()
        order = ("log2_norm", "log2_mean_abs", "mean")  # sums depend on the order of their terms
        assert {k: v for k, v in got.items() if k not in order} == {
            k: v for k, v in reference.items() if k not in order
        }
        np.testing.assert_allclose([got[k] for k in order], [reference[k] for k in order], rtol=1e-9)


def test_large_arrays_do_not_depend_on_threads() -> None:
    values = wide(np.random.default_rng(0), 3_000_001, "float32")
    before, found = vg.get_num_threads(), []
    for threads in (1, 2, 3, 7):
        vg.set_num_threads(threads)
        found.append(vg.gradient_stats(values).to_dict())
    vg.set_num_threads(before)
    assert all(stats == found[0] for stats in found)
    assert found[0]["zero"] == int((values == 0).sum())


# --- what a probe counts --------------------------------------------------------------------------------


@given(
    vg.testing.dtypes(),
    st.sampled_from(["tanh", "relu", "sigmoid", "gelu", "hardtanh"]),
    st.integers(0, 2**32 - 1),
)
def test_statistics_of_a_probe(dtype: str, activation: str, seed: int) -> None:
    """Every figure of a one-step network from its arrays: forward means, dead units, delta and weight
    gradient counts."""
    rng = np.random.default_rng(seed)
    batch, n, m = int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 12))
    net = vg.Network(
        n, [vg.Dense(m, sigma_w2=2.0, sigma_b2=0.5), vg.Activation(activation)], dtype=dtype, rng=seed
    )
    x, v = (rng.normal(size=shape).astype(dtype) for shape in ((batch, n), (batch, m)))
    raw = net.probe(x, cotangent=v, lr=0.1).raw
    tolerance = 1e-11 if dtype == "float64" else 1e-4
    parameters = {name: value.astype(np.float64) for name, value in net.parameters().items()}
    pre = x.astype(np.float64) @ parameters["0.weight"].T + parameters["0.bias"]
    slope = vg.activations.derivative(activation, pre)
    out = vg.activations.value(activation, pre)
    delta = v * slope
    gradient = delta.T @ x.astype(np.float64)
    # a unit on a threshold may fall on either side in float32
    edge = vg.activations.describe(activation).extra["max_slope"] * 0.05
    if dtype == "float32" and (np.abs(np.abs(slope) - edge) < 1e-4).any():
        return

    def close(key: str, expected: float) -> None:
        np.testing.assert_allclose(raw[key][0], expected, rtol=tolerance, atol=tolerance, err_msg=key)

    close("pre_mean", float(pre.mean()))
    close("pre_var", float(pre.var()))
    close("out_mean", float(out.mean()))
    close("out_var", float(out.var()))
    close("saturated", float(np.mean(np.abs(slope) < edge)))
    close("zero_slope", float(np.mean(slope == 0)))
    assert raw["dead"][0] == int(np.all(slope == 0, axis=0).sum())
    assert raw["delta_count"][0] == delta.size
    assert raw["delta_zero"][0] == int((delta == 0).sum())
    assert raw["delta_nan"][0] == raw["delta_inf"][0] == 0
    with np.errstate(divide="ignore"):
        close("grad_log2_norm", float(np.log2(np.linalg.norm(v))))
        close("delta_log2_norm", float(np.log2(np.linalg.norm(delta))))
        close("delta_log2_max", float(np.log2(np.abs(delta).max())))
        close("delta_log2_mean_abs", float(np.log2(np.abs(delta).mean())))
        close("weight_grad_log2_norm", float(np.log2(np.linalg.norm(gradient))))
        close("weight_grad_log2_max", float(np.log2(np.abs(gradient).max())))
        close("bias_grad_log2_norm", float(np.log2(np.linalg.norm(delta.sum(axis=0)))))
        close("weight_log2_norm", float(np.log2(np.linalg.norm(parameters["0.weight"]))))
        norms = np.log10(np.linalg.norm(v, axis=1))
    if batch > 1:
        close("grad_spread", float(norms.std(ddof=1)))
    assert raw["weight_grad_count"][0] == gradient.size
    assert raw["delta_hist"][0].sum() == int((delta != 0).sum())
    top = int(raw["delta_hist_top"][0])
    if dtype == "float64" and (delta != 0).any():
        exponents = np.frexp(np.abs(delta[delta != 0]))[1] - 1
        assert top == exponents.max()
        bins = np.minimum((top - exponents) // 2, 31)
        np.testing.assert_array_equal(raw["delta_hist"][0], np.bincount(bins, minlength=32))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-12, 1e-9, 1e-7, 1e-3]))
def test_weights_that_a_step_leaves_unchanged(seed: int, lr: float) -> None:
    """The share of weights that one SGD step would not move, counted to the bit, and the step that proves
    it."""
    rng = np.random.default_rng(seed)
    net = vg.mlp(6, 9, activation="tanh", dtype="float32", rng=seed)
    x, y = (rng.normal(size=(4, 9)).astype(np.float32) for _ in range(2))
    before = net.parameters()["hidden.weight"]
    flow = net.probe(x, y, loss="mse", lr=lr)
    assert before.tobytes() == net.parameters()["hidden.weight"].tobytes()
    net.step(x, y, loss="mse", lr=lr)
    same = (net.parameters()["hidden.weight"] == before).sum(axis=(1, 2))
    np.testing.assert_array_equal(flow.raw["weight_unchanged"], same)
