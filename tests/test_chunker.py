"""Tests of the chunker: what goes up is what was not foretold, and the way back becomes short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg

LAG = 20


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any, np.ndarray, np.ndarray]:
    x, y = vg.datasets.long_lag(128, LAG, rng=0)
    chunker = vg.chunker(LAG + 2, 2, rng=0)
    return chunker, chunker.fit(x, y, epochs=15, batch_size=16, optimizer=vg.Adam(0.02), rng=0), x, y


def test_the_data_is_that_of_the_paper() -> None:
    x, y = vg.datasets.long_lag(300, LAG, rng=0)
    kinds = x.argmax(axis=2)
    assert x.shape == (300, 21, 22)
    assert (x.sum(axis=2) == 1).all()
    assert (kinds[:, 0] == y).all()
    assert (kinds[:, 1:] == np.arange(2, 22)).all()  # b_1 ... b_20, always the same
    assert 100 < y.sum() < 200
    again, same = vg.datasets.long_lag(10, LAG, rng=0)
    assert again.tobytes() == x[:10].tobytes()
    assert same.tolist() == y[:10].tolist()
    assert vg.datasets.long_lag(10, 3, rng=0)[1].tolist() == same.tolist()


def test_what_could_be_foretold_does_not_go_up_and_the_rest_is_answered(trained: Any) -> None:
    chunker, told, x, y = trained
    left = chunker.compress(x)
    assert left.lengths.tolist() == [1] * 128
    assert left.positions.tolist() == [[0]] * 128
    assert left.x[:, 0, : LAG + 2].tobytes() == np.ascontiguousarray(x[:, 0]).tobytes()
    assert left.ratio == pytest.approx(1 / 21)
    assert chunker.score(x, y) == 1.0
    fresh, truth = vg.datasets.long_lag(50, LAG, rng=1)
    assert (chunker.predict(fresh).argmax(axis=1) == truth).all()
    assert told.compressed[0].lengths.tolist() == left.lengths.tolist()
    assert "21 steps -> 1 (longest 1)" in repr(left)


def test_the_gradient_has_3_steps_to_go_instead_of_20(trained: Any) -> None:
    """Schmidhuber 1992: lag 20 in the flat network against a lag of at most 3 among what is left."""
    chunker, _, x, y = trained
    flat = vg.rnn("rnn", 16, in_features=LAG + 2, out_features=2, rng=0)
    whole = flat.probe(x, y, loss="cross_entropy").log10_grad_norm
    left = chunker.compress(x)
    fresh = vg.chunker(LAG + 2, 2, rng=0).top  # as it started: the same kind of network, untrained too
    short = fresh.probe(left.x, y, loss="cross_entropy", lengths=left.lengths).log10_grad_norm
    lag_flat, lag_short = len(whole) - 1, len(short) - 1
    assert lag_flat == LAG
    assert lag_short <= 3
    assert whole[-1] - whole[0] > 4, "the flat network's gradient is down by decades at lag 20"
    assert short[-1] - short[0] < 1
    assert short[0] - whole[0] > 4


def test_steps_that_surprise_keep_their_place_and_time() -> None:
    """A symbol out of order in the middle goes up; every kept step is a copy, at the step that it was."""
    x, y = vg.datasets.long_lag(64, 8, rng=0)
    chunker = vg.chunker(10, 2, rng=0)
    chunker.fit(x, y, epochs=30, batch_size=16, optimizer=vg.Adam(0.02), rng=0)
    odd = x[:4].copy()
    odd[1, 5] = 0
    odd[1, 5, 0] = 1  # an "a" where b_5 belongs
    left = chunker.compress(odd)
    assert left.positions[1].tolist()[:2] == [0, 5]
    assert left.lengths[0] == left.lengths[2] == left.lengths[3] == 1
    for sample in range(4):
        for place in range(left.lengths[sample]):
            step = left.positions[sample, place]
            assert (left.x[sample, place, :10] == odd[sample, step]).all()
            assert left.x[sample, place, 10] == np.float32(step / 9)
        assert (left.positions[sample, left.lengths[sample] :] == -1).all()
        assert not left.x[sample, left.lengths[sample] :].any()


def test_sequences_of_unequal_length_are_compressed_as_each_alone(trained: Any) -> None:
    chunker, _, x, _ = trained
    lengths = np.array([21, 3, 9, 1, 15])
    left = chunker.compress(x[:5], lengths=lengths)
    for sample, length in enumerate(lengths):
        alone = chunker.compress(x[sample : sample + 1, :length])
        count = alone.lengths[0]
        assert left.lengths[sample] == count
        assert left.positions[sample, :count].tolist() == alone.positions[0].tolist()
        assert left.x[sample, :count].tobytes() == alone.x[0].tobytes()


def test_levels_pass_on_less_and_less_and_numbers_work_like_symbols() -> None:
    rng = np.random.default_rng(0)
    x = np.sin(np.linspace(0, 12, 60))[None, :, None] * np.ones((24, 1, 1))
    places = rng.integers(10, 50, 24)
    x[np.arange(24), places, 0] += 3.0  # one jump each
    y = (places / 60).reshape(-1, 1)
    chunker = vg.chunker(1, 1, symbols=False, levels=2, threshold=0.6, dtype="float64", rng=0)
    told = chunker.fit(x, y, epochs=40, level_epochs=60, batch_size=8, optimizer=vg.Adam(0.01), rng=0)
    one, two = chunker.compress(x, level=1), chunker.compress(x)
    assert len(told.levels) == len(told.compressed) == 2
    assert (two.lengths <= one.lengths).all()
    assert one.ratio < 0.3
    assert all(place in one.positions[i] for i, place in enumerate(places)), "every jump goes up"
    assert all(set(two.positions[i]) - {-1} <= set(one.positions[i]) for i in range(24))
    assert chunker.predict(x).shape == (24, 1)
    assert chunker.score(x, y) <= 1.0


def test_scores_are_those_of_the_top() -> None:
    x, y = vg.datasets.long_lag(32, 6, rng=0)
    chunker = vg.chunker(8, 2, rng=3)
    chunker.fit(x, y, epochs=2, optimizer=vg.Adam(0.02))
    assert chunker.score(x, y) == (chunker.predict(x).argmax(axis=1) == y).mean()
    numbers = vg.chunker(8, 2, rng=3)
    target = np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)
    numbers.fit(x, target, epochs=2)
    rest = ((numbers.predict(x) - target.astype(float)) ** 2).sum(axis=0)
    spread = ((target - target.astype(float).mean(axis=0)) ** 2).sum(axis=0)
    assert numbers.score(x, target) == pytest.approx((1 - rest / spread).mean(), rel=1e-5)
    assert numbers.score(x, np.ones((32, 2), np.float32)) == 0.0
    for wrong in (target[:, 0], target[:5], target[:, :1]):
        with pytest.raises(vg.ShapeError, match="y: expected shape"):
            numbers.score(x, wrong)


def test_training_is_the_same_to_the_bit_every_time() -> None:
    x, y = vg.datasets.long_lag(32, 6, rng=0)
    outs = []
    for _ in range(2):
        chunker = vg.chunker(8, 2, rng=3)
        chunker.fit(x, y, epochs=2, optimizer=vg.SGD(0.1))
        outs.append(chunker.predict(x).tobytes())
    assert outs[0] == outs[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c, x: c.compress(2 * x),
            r"x: expected one-hot steps \(a single 1, else 0\), as this chunker is",
        ),
        (lambda c, x: c.fit(x[:, :1], [0] * len(x)), r"x: expected sequences of at least two steps, got one"),
        (
            lambda c, x: c.fit(x, [0] * len(x), validation=(x, [0] * len(x))),
            r"validation: each level is trained on its own here; leave validation= out",
        ),
        (lambda c, x: c.fit(x, [0] * len(x), resume={}), r"resume: each level is trained on its own"),
        (lambda c, x: c.fit(x, [0] * len(x), optimzer="sgd"), r"no parameter 'optimzer'; did you mean 'opti"),
        (lambda c, x: c.compress(x, level=2), r"level: expected an integer of at most 1, got 2"),
        (lambda c, x: c.compress(x[:, :, 1:]), r"x: expected shape \(batch, time, 22\), got"),
        (lambda c, x: vg.chunker(2, 2, threshold=-1), r"threshold: expected a number of at least 0, got -1"),
        (lambda c, x: vg.chunker(2, 2, cell="lsmt"), r"unknown cell 'lsmt'; did you mean 'lstm'"),
    ],
)
def test_refusals_say_what_to_do(call: Any, message: str, trained: Any) -> None:
    with pytest.raises(vg.VgcoreError, match=message):
        call(trained[0], trained[2])
    assert repr(trained[0]) == "Chunker(1 levels, threshold=0.2, symbols, seed=0)"
