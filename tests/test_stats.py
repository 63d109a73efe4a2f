"""Statistics of one array: the figures NumPy gives, and what NumPy loses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from vgcore.flow import FORMATS
from vgcore.stats import Stats, gradient_stats


def test_figures_agree_with_numpy() -> None:
    array = np.random.default_rng(0).normal(0, 1e-3, (100, 30)).astype(np.float32)
    array[0, :5] = 0.0
    stats = gradient_stats(array)
    wide = array.astype(np.float64)
    assert (stats.count, stats.zero, stats.nan, stats.inf) == (3000, 5, 0, 0)
    assert stats.positive == np.count_nonzero(array > 0)
    assert stats.norm == pytest.approx(np.linalg.norm(wide), rel=1e-12)
    assert stats.log10_norm == pytest.approx(math.log10(np.linalg.norm(wide)), abs=1e-12)
    assert stats.log10_max == pytest.approx(math.log10(np.abs(wide).max()), abs=1e-12)
    assert stats.log10_min == pytest.approx(math.log10(np.abs(wide[wide != 0]).min()), abs=1e-12)
    assert stats.log10_mean_abs == pytest.approx(math.log10(np.abs(wide).mean()), abs=1e-9)
    assert stats.mean == pytest.approx(wide.mean(), rel=1e-9)


def test_norms_that_squares_would_lose() -> None:
    tiny = np.full(1000, 1e-42, np.float32)  # subnormal; its square is 0 in float32
    assert gradient_stats(tiny).log10_norm == pytest.approx(math.log10(float(tiny[0])) + 1.5, abs=1e-9)
    huge = np.full(4, 1e300)
    assert gradient_stats(huge).log10_norm == pytest.approx(300 + math.log10(2), abs=1e-9)


def test_kinds_of_value() -> None:
    stats = gradient_stats(np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1e-6, 1e-9], np.float32))
    assert (stats.zero, stats.nan, stats.inf, stats.count) == (2, 1, 2, 8)
    assert stats.flush["float16"] == 1
    assert stats.subnormal["float16"] == 1
    assert stats.flush["float32"] == 0
    assert list(stats.flush) == list(FORMATS)


@pytest.mark.parametrize("name", ["float32", "float16"])
def test_flushed_values_are_those_numpy_rounds_to_zero(name: str) -> None:
    info = np.finfo(name)
    edge = float(info.smallest_subnormal)
    values = edge * np.array([0.25, 0.5, 0.5000001, 0.75, 1.0, 2.0])
    stats = gradient_stats(values)
    with np.errstate(under="ignore"):
        assert stats.flush[name] == np.count_nonzero(values.astype(name) == 0)


def test_all_zero_and_one_value() -> None:
    zero = gradient_stats(np.zeros(3))
    assert zero.log2_norm == -math.inf
    assert zero.norm == 0.0
    assert zero.exponents.size == 0
    one = gradient_stats(np.array(0.5))
    assert (one.count, one.log2_norm, one.exponents.tolist(), one.counts.tolist()) == (1, -1.0, [-1], [1])


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_exponents_count_every_finite_value_that_is_not_zero(array: Any) -> None:
    stats = gradient_stats(array)
    finite = array[np.isfinite(array) & (array != 0)]
    assert int(stats.counts.sum()) == finite.size
    _, exponents = np.frexp(finite)
    for exponent, number in zip(stats.exponents, stats.counts, strict=True):
        assert number == np.count_nonzero(exponents - 1 == exponent)
    assert stats.count == array.size
    assert stats.zero + stats.nan + stats.inf + finite.size == array.size


@pytest.mark.parametrize(
    "kind", ["strided", "transposed", "read-only", "big-endian", "misaligned", "reversed"]
)
def test_any_layout(kind: str) -> None:
    base = np.random.default_rng(1).normal(size=(12, 10)).astype(np.float32)
    if kind == "strided":
        array = base[::2, 1::3]
    elif kind == "transposed":
        array = base.T
    elif kind == "read-only":
        array = base.copy()
        array.setflags(write=False)
    elif kind == "big-endian":
        array = base.astype(">f4")
    elif kind == "misaligned":
        buffer = np.empty(base.nbytes + 1, np.uint8)
        array = buffer[1:].view(np.float32).reshape(base.shape)
        array[...] = base
    else:
        array = base[::-1]
    plain = gradient_stats(np.ascontiguousarray(array).astype(np.float32))
    assert gradient_stats(array).log2_norm == pytest.approx(plain.log2_norm, abs=1e-12)
    assert gradient_stats(array).count == array.size


@pytest.mark.parametrize(
    "bad", [np.arange(3), np.ones(3, np.float16), np.ones(3, complex), np.array([object()])]
)
def test_other_types_are_refused(bad: Any) -> None:
    with pytest.raises(vg.DTypeError):
        gradient_stats(bad)


def test_empty_is_refused() -> None:
    with pytest.raises(vg.ShapeError):
        gradient_stats(np.empty((0, 3)))


def test_texts_and_dict() -> None:
    stats = gradient_stats(np.array([1e-30, 2.0]))
    assert isinstance(stats, Stats)
    assert len(repr(stats)) < 120
    assert "float8_e4m3" in str(stats)
    assert "<table>" in stats._repr_html_()
    data = stats.to_dict()
    assert data["count"] == 2
    assert sum(data["counts"]) == 2
    with pytest.raises(AttributeError):
        stats.count = 3  # type: ignore[misc]
