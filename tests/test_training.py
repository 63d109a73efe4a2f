"""Tests of fit, predict and score: what goes in, what comes out, how a training ends, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import vgcore as vg
import vgcore._progress_fit
from numpy.typing import NDArray
from refusals import CLASSES, LABELS, WIDTH, network, refused, samples
from vgcore.callbacks import EpochEnd


def blobs(rows: int = 300) -> tuple[NDArray[Any], NDArray[Any]]:
    """Three clouds of points that a small network tells apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, rows)
    return (rng.normal(size=(rows, WIDTH)) + 3 * np.eye(WIDTH)[y]).astype(np.float32), y


def test_a_training_learns_and_says_so() -> None:
    x, y = blobs()
    net = network()
    history = net.fit(x, y, epochs=15, optimizer=vg.Adam(0.02), validation=0.2, stats="full")
    assert net.score(x, y) > 0.95
    assert net.predict(x).argmax(axis=1)[:3].tolist() == y[:3].tolist()
    assert history.steps == 15 * 8
    assert history.epoch.tolist() == [e for e in range(15) for _ in range(8)]
    assert history.accuracy is not None
    assert history.accuracy[-8:].mean() > 0.9 > history.accuracy[0]
    assert [entry.epoch for entry in history.validation] == list(range(15))
    assert history.validation[-1].score > 0.8
    assert len(history.seconds) == 15
    assert history.layers == ("input", "hidden[0]", "hidden[1]", "hidden[2]", "output")
    assert history.records.units.kinds == ("dense",) * 5
    assert history.recorded.tolist() == list(range(120))
    ratio = history.update_ratio
    assert ratio is not None
    assert 1e-4 < np.median(ratio) < 0.5
    assert history.meta["optimizer"] == "Adam(lr=0.02)"


def test_figures_are_those_of_a_probe_before_the_update() -> None:
    x, y = blobs(32)
    net = network()
    flow = net.probe(x, y, loss="cross_entropy")
    before = net.parameters()
    history = net.fit(x, y, batch_size=32, shuffle=False, optimizer=vg.SGD(0.1), stats="full")
    assert history.loss[0] == flow.loss
    np.testing.assert_array_equal(history.log2_grad_norm[0], flow.raw["grad_log2_norm"])
    np.testing.assert_array_equal(history.records.dead[0], flow.raw["dead"])  # type: ignore[index]
    moved, w = net.parameters()["hidden.weight"] - before["hidden.weight"], before["hidden.weight"]
    for layer in range(3):
        expected = np.linalg.norm(moved[layer].astype(float)) / np.linalg.norm(w[layer].astype(float))
        assert history.update_ratio is not None
        np.testing.assert_allclose(history.update_ratio[0, 1 + layer], expected, rtol=1e-6)
        same = int((moved[layer] == 0).sum())
        assert history.unchanged is not None
        assert history.unchanged[0, 1 + layer] == same


@pytest.mark.parametrize("clip", [None, vg.ClipNorm(1e9)])
@pytest.mark.parametrize("along", ["depth", "time"])
def test_weights_that_became_zero_are_counted(clip: vg.Clip | None, along: str) -> None:
    # A decay of 1 / lr takes a weight whose gradient is zero to zero at once; dead inputs have such weights.
    draw = np.random.default_rng(0)
    if along == "depth":
        net, weight = network(), "input.weight"
        x = draw.normal(size=(32, net.in_features)).astype(net.dtype)
    else:
        net, weight = vg.rnn("gru", 5, in_features=4, out_features=3, rng=0), "rnn.weight_ih_l0"
        x = draw.normal(size=(32, 6, 4)).astype("float32")
    assert weight in net.parameters(), list(net.parameters())
    x[..., 1] = 0.0
    y = draw.integers(0, 3, 32)
    optimizer = vg.SGD(0.5, weight_decay=2.0)
    history = net.fit(x, y, batch_size=32, epochs=3, optimizer=optimizer, clip=clip, stats="full")
    assert history.zero_weights is not None
    at = history.layers.index(weight) if along == "time" else 0
    rows = net.parameters()[weight].shape[-2]
    assert not net.parameters()[weight][..., 1].any()
    assert (history.zero_weights[:, at] >= rows).all()
    assert history.zero_weights[-1, at] == int((net.parameters()[weight] == 0).sum())
    assert "zero_weights" in set(history.table["quantity"])


def test_the_order_is_new_each_epoch_and_leaves_nobody_out() -> None:
    rows = 50
    y = np.arange(rows, dtype=np.float64)[:, None]
    orders = []
    for rng in (0, 0, 1):
        net = vg.Network(1, [vg.Dense(1, init="zeros")], dtype="float64", rng=0)
        history = net.fit(np.ones((rows, 1)), y, epochs=2, batch_size=1, optimizer=vg.SGD(0.0), rng=rng)
        orders.append(np.sqrt(history.loss).round().astype(int).reshape(2, rows))
    assert (np.sort(orders[0], axis=1) == np.arange(rows)).all()
    assert (orders[0][0] != orders[0][1]).any()
    assert (orders[0] == orders[1]).all()
    assert (orders[0] != orders[2]).any()
    plain = net.fit(np.ones((rows, 1)), y, batch_size=1, optimizer=vg.SGD(0.0), shuffle=False)
    assert np.sqrt(plain.loss).round().astype(int).tolist() == list(range(rows))


def test_predict_goes_by_batches() -> None:
    net, x = network(), blobs(77)[0]
    whole = net.forward(x)
    assert net.predict(x, batch_size=10).tobytes() == whole.tobytes() == net.predict(x).tobytes()
    rnn = vg.rnn("gru", 4, in_features=3, read="every", rng=0)
    series = np.random.default_rng(0).normal(size=(9, 7, 3)).astype(np.float32)
    lengths, state = np.arange(1, 8).repeat(2)[:9], np.ones((1, 9, 4), np.float32)
    expected = rnn.forward(series, lengths=lengths, state=state)
    got = rnn.predict(series, lengths=lengths, state=state, batch_size=2)
    assert got.tobytes() == expected.tobytes()


def test_scores() -> None:
    x, y = blobs(100)
    net = network("float64")
    x = x.astype(np.float64)
    z = net.forward(x)
    assert net.score(x, y) == np.mean(z.argmax(axis=1) == y)
    target = np.random.default_rng(0).normal(size=z.shape)
    r2 = 1 - ((target - z) ** 2).sum(axis=0) / ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    assert net.score(x, target) == pytest.approx(r2.mean(), rel=1e-12)
    rnn = vg.rnn("rnn", 4, in_features=2, out_features=3, read="every", dtype="float64", rng=0)
    series, lengths = np.random.default_rng(1).normal(size=(20, 6, 2)), np.arange(20) % 6 + 1
    labels = np.random.default_rng(2).integers(0, 3, (20, 6))
    lives = np.arange(6) < lengths[:, None]
    right = rnn.forward(series, lengths=lengths).argmax(axis=2) == labels
    assert rnn.score(series, labels, lengths=lengths) == right[lives].mean()


def test_a_fraction_is_held_out_of_the_training() -> None:
    x, y = blobs(100)
    x[:, 0] = np.arange(100)
    net = vg.Network(WIDTH, [vg.Dense(CLASSES)], rng=0)
    history = net.fit(x, y, validation=0.25, epochs=1, batch_size=75)
    assert history.meta["rows"] == 75
    again = vg.Network(WIDTH, [vg.Dense(CLASSES)], rng=0).fit(x, y, validation=0.25, epochs=1, batch_size=75)
    assert history.validation == again.validation


def test_a_loss_that_is_no_number_ends_the_training_before_its_step() -> None:
    x, y = blobs(64)
    x[40] = 3e38
    net = vg.mlp(3, 5, in_features=WIDTH, out_features=CLASSES, activation="identity", rng=0)
    before = net.parameters()
    history = net.fit(x, y, batch_size=64, optimizer="adam", epochs=3)
    assert history.stopped is not None
    assert history.stopped.startswith("step 0: the loss is ")
    assert history.steps == 0
    assert all((v == before[k]).all() for k, v in net.parameters().items())


@pytest.mark.parametrize("clip", [None, vg.ClipNorm(1e300)])
def test_a_training_that_explodes_is_dated(clip: Any) -> None:
    x, _ = blobs(64)
    net = network()
    history = net.fit(
        x, 1e6 * np.ones((64, CLASSES), np.float32), loss="mse", clip=clip, optimizer=vg.SGD(10.0), epochs=50
    )
    assert history.stopped is not None
    assert f"step {history.steps}: the loss is" in history.stopped
    assert np.isfinite(history.loss).all()


def test_callbacks_hear_of_epochs_and_may_end_them() -> None:
    x, y = blobs(64)
    heard: list[tuple[int, int]] = []

    def listen(end: EpochEnd) -> None:
        heard.append((end.epoch, end.history.steps))
        if end.epoch == 2:
            end.stop("enough")

    history = network().fit(x, y, epochs=9, callbacks=listen)
    assert heard == [(0, 2), (1, 4), (2, 6)]
    assert history.stopped == "enough"


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgcore._progress_fit, "_PAUSE", 0.0)
    x, y = blobs(64)
    told: list[tuple[int, int]] = []
    network().fit(x, y, epochs=2, progress=lambda done, total, loss: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    network().fit(x, y, epochs=2, progress=True)
    assert "loss" in capsys.readouterr().err


def test_along_time_the_parameters_are_reported() -> None:
    rng = np.random.default_rng(0)
    net = vg.rnn("gru", 6, in_features=2, out_features=1, rng=0)
    x, y = rng.normal(size=(40, 9, 2)).astype(np.float32), rng.normal(size=(40, 1)).astype(np.float32)
    first = net.gradients(x[:8], y[:8], loss="mse")
    history = net.fit(x, y, epochs=2, batch_size=8, shuffle=False, stats="full")
    assert set(history.layers) == set(net.parameter_shapes())
    for i, name in enumerate(history.layers):
        np.testing.assert_allclose(history.log2_grad_norm[0, i], first.log2_norm(name), rtol=1e-6, atol=1e-6)
    assert history.dead is None
    assert history.update_ratio is not None
    assert (history.update_ratio[0] > 0).any()


def test_resuming_goes_on_to_the_epochs_asked_for() -> None:
    x, y = blobs(64)
    net = network()
    first = net.fit(x, y, epochs=2, optimizer="adam", validation=(x, y))
    then = net.fit(x, y, epochs=5, optimizer="adam", validation=(x, y), resume=first)
    assert then.steps == 10
    assert len(then.validation) == len(then.seconds) == 5
    alone = network()
    assert alone.fit(x, y, epochs=5, optimizer="adam").loss.tobytes() == then.loss.tobytes()


def test_batch_normalisation_needs_more_than_one_sample_in_the_last_batch() -> None:
    x, y = blobs(33)
    net = vg.mlp(2, 5, in_features=WIDTH, out_features=CLASSES, norm="batch", rng=0)
    before = net.parameters()
    words = ("batch_size: expected one that leaves no batch of one sample", "32 for 33 samples", "take 33")
    with refused(vg.ArgumentError, *words, "BatchNorm(online=True)"):
        net.fit(x, y, batch_size=32)
    with refused(vg.ArgumentError, "got 1 for 33 samples", "take 3"):
        net.fit(x, y, batch_size=1)
    with refused(vg.ArgumentError, "x: expected at least 2 samples, got 1"):
        net.fit(x[:1], y[:1])
    assert all((v == before[k]).all() for k, v in net.parameters().items())
    assert net.fit(x, y, batch_size=11, epochs=3).stopped is None


def test_an_epoch_that_cannot_end_does_not_begin() -> None:
    """Along time too: a last batch of one, and several lengths where all steps make one batch."""
    x, y = np.zeros((33, 6, 3), np.float32), np.arange(33) % 2
    net = vg.Network(3, [vg.Recurrent("gru", 5, read="last"), vg.BatchNorm(), vg.Dense(2)], rng=0)
    before = net.parameters()
    with refused(vg.ArgumentError, "the last batch of 33 samples by 32 has one sample", "at least 2"):
        net.fit(x, y, epochs=1, batch_size=32)
    assert all((v == before[k]).all() for k, v in net.parameters().items())
    net = vg.Network(
        3, [vg.Dense(4), vg.BatchNorm(), vg.Recurrent("gru", 5, read="last"), vg.Dense(2)], rng=0
    )
    net.fit(x, y, epochs=1, batch_size=32)
    before, lengths = net.parameters(), np.full(33, 6)
    lengths[-1] = 4
    with refused(vg.ArgumentError, "sequences of one length"):
        net.fit(x, y, epochs=1, batch_size=32, lengths=lengths, shuffle=False)
    assert all((v == before[k]).all() for k, v in net.parameters().items())


def schedules() -> Iterator[tuple[Any, list[float]]]:
    s = vg.schedules
    yield s.constant(0.5), [0.5] * 6
    yield s.step(2, 0.5), [1, 1, 0.5, 0.5, 0.25, 0.25]
    yield s.exponential(0.5), [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    yield s.cosine(4, floor=0.2), [1.0, 0.8828427, 0.6, 0.3171573, 0.2, 0.2]
    yield s.cosine(), [(1 + np.cos(np.pi * i / 6)) / 2 for i in range(6)]
    yield s.warmup(3, then=s.constant(1.0)), [1 / 3, 2 / 3, 1, 1, 1, 1]
    yield s.warmup(2, then=s.cosine()), [0.5, 1.0, *((1 + np.cos(np.pi * i / 4)) / 2 for i in range(4))]
    yield (lambda step: 1.0 if step < 3 else 0.1), [1, 1, 1, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(("schedule", "expected"), list(schedules()))
def test_schedules(schedule: Any, expected: list[float]) -> None:
    x, y = blobs(96)
    history = network().fit(x, y, epochs=2, optimizer=vg.SGD(0.1), schedule=schedule)
    np.testing.assert_allclose(history.lr, 0.1 * np.asarray(expected), rtol=1e-6)


INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np, vgcore as vg
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
net = vg.mlp(400, 64, in_features=64, out_features=10, activation="tanh", rng=0)
x, y = rng.normal(size=(4096, 64)).astype(np.float32), rng.integers(0, 10, 4096)
options = dict(batch_size=64, optimizer=vg.Adam(1e-3), epochs=10_000, clip={clip})
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    net.fit(x, y, **options)
    sys.exit("no KeyboardInterrupt")
except KeyboardInterrupt as error:
    history = error.history
assert history.steps > 0 and history.stopped.endswith(": interrupted"), history.stopped
twin = vg.mlp(400, 64, in_features=64, out_features=10, activation="tanh", rng=0)
def stop(done, total, loss):
    if done == history.steps:
        raise KeyboardInterrupt
import vgcore._progress_fit
vgcore._progress_fit._PAUSE = 0.0
try:
    twin.fit(x, y, progress=stop, **options)
except KeyboardInterrupt as error:
    other = error.history
a, b = net.parameters(), twin.parameters()
assert all((a[k] == b[k]).all() for k in a)
arrays = [k for k, v in history.state.items() if isinstance(v, np.ndarray)]
assert arrays and all((history.state[k] == other.state[k]).all() for k in arrays)
print("whole")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in the way of POSIX systems")
@pytest.mark.parametrize("clip", ["None", "vg.ClipNorm(1.0)"])
def test_ctrl_c_leaves_the_last_complete_step(clip: str) -> None:
    code = INTERRUPT.format(clip=clip)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.strip() == "whole", done.stderr + done.stdout


BAD: list[tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ({"epochs": 0}, vg.ArgumentError, ("epochs: expected", "got 0")),
    ({"batch_size": 0}, vg.ArgumentError, ("batch_size: expected", "got 0")),
    ({"loss": "msee"}, vg.UnknownNameError, ("unknown loss 'msee'", "did you mean 'mse'?")),
    ({"optimizer": "adm"}, vg.UnknownNameError, ("unknown optimizer 'adm'", "vg.optimizers.names()")),
    (
        {"optimizer": vg.SGD},
        vg.ArgumentError,
        ("optimizer: expected an object, got the class; write vg.SGD()",),
    ),
    ({"optimizer": 0.1}, vg.ArgumentError, ("optimizer: expected one of 'sgd'", "vg.SGD(0.01)", "got 0.1")),
    ({"clip": 1.0}, vg.ArgumentError, ("clip: expected None, one of 'value'", "vg.ClipNorm(1.0)", "got 1.0")),
    ({"clip": ["norm", 3]}, vg.ArgumentError, ("clip[1]: expected", "got 3")),
    ({"clip": "nrm"}, vg.UnknownNameError, ("unknown clip 'nrm'", "vg.clips.names()")),
    ({"constraint": 2}, vg.ArgumentError, ("constraint: expected None, one of 'max_norm'", "got 2")),
    (
        {"constraint": vg.MaxNormConstraint(only="*bias*")},
        vg.ArgumentError,
        ("constraint max_norm: no weight matrix is among",),
    ),
    ({"schedule": 0.5}, vg.ArgumentError, ("schedule: expected a function of the step's number", "got 0.5")),
    ({"schedule": lambda step: -1.0}, vg.ArgumentError, ("schedule(0): expected a number of at least 0",)),
    ({"validation": 1.5}, vg.ArgumentError, ("validation: expected a fraction", "got 1.5")),
    ({"validation": "x"}, vg.ArgumentError, ("validation: expected None, (x, y) or a fraction, got 'x'",)),
    ({"validation": 0.2, "lengths": 3}, vg.ShapeError, ("lengths: expected", "rows, as x has, got a single")),
    ({"validation": (1,)}, vg.ArgumentError, ("validation: expected (x, y)", "got 1 parts")),
    (
        {"constraint": vg.SpectralConstraint},
        vg.ArgumentError,
        ("constraint: expected an object, got the class; write vg.SpectralConstraint()",),
    ),
    ({"callbacks": 3}, vg.ArgumentError, ("callbacks[0]: expected", "got 3")),
    ({"progress": 3}, vg.ArgumentError, ("progress: expected True, False or a function",)),
    ({"rng": -1}, vg.ArgumentError, ("rng: expected a seed of at least 0, got -1",)),
    ({"shuffle": 1}, vg.ArgumentError, ("shuffle: expected",)),
    ({"lengths": [1] * 6}, vg.ArgumentError, ("lengths: expected None for a network along depth",)),
    ({"truncate": 3}, vg.ArgumentError, ("truncate: expected None for a network along depth",)),
    ({"stats": "all"}, vg.ArgumentError, ("stats: expected", "'norms'", "got 'all'")),
    ({"record_every": 0}, vg.ArgumentError, ("record_every: expected", "got 0")),
    ({"memory_budget": "1B"}, vg.MemoryBudgetError, ("memory_budget",)),
    ({"resume": {}}, vg.ArgumentError, ("resume: expected the state of a history", "'step'")),
    ({"resume": 3}, vg.ArgumentError, ("resume: expected a History or its state, got 3",)),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD)
def test_what_is_refused_changes_nothing(
    options: dict[str, Any], error: type[Exception], words: tuple[str, ...]
) -> None:
    net = network()
    before = net.parameters()
    with refused(error, *words):
        net.fit(samples(), LABELS, **options)
    assert all((v == before[k]).all() for k, v in net.parameters().items())


def test_what_is_split_has_rows() -> None:
    x, y = blobs(20)
    with refused(vg.ShapeError, "y: expected 20 rows, as x has, got a single number, 3"):
        network().fit(x, 3, validation=0.2)
    with refused(vg.ShapeError, "y: expected 20 rows, as x has, got 19"):
        network().fit(x, y[:19], validation=0.2)
    with refused(vg.ShapeError, "x: expected one row a sample, got a single number, 1"):
        network().fit(1.0, y, validation=0.2)


def test_bools_are_labels_that_want_to_be_integers() -> None:
    x, y = blobs(20)
    with refused(vg.DTypeError, "y: expected integer class labels, got bool", 'y.astype("int64")'):
        network().fit(x, y == 1)


def test_no_callbacks_can_be_said_in_two_ways() -> None:
    x, y = blobs(20)
    assert network().fit(x, y, callbacks=None).steps == network().fit(x, y, callbacks=()).steps


def test_a_resume_of_another_training_is_refused() -> None:
    x, y = blobs(64)
    net = network()
    history = net.fit(x, y, epochs=2, optimizer="adam")
    with refused(vg.ArgumentError, "resume: expected optimizer as in the training", "adam()", "sgd()"):
        net.fit(x, y, epochs=3, resume=history)
    with refused(vg.ArgumentError, "resume: expected batch_size as in the training", "32, got 16"):
        net.fit(x, y, epochs=3, optimizer="adam", batch_size=16, resume=history)
    with refused(vg.ArgumentError, "resume: expected truncate as in the training", "None, got 2"):
        along = vg.rnn("rnn", 4, in_features=2, out_features=1, rng=0)
        seq, out = np.ones((4, 5, 2), np.float32), np.ones((4, 1), np.float32)
        along.fit(seq, out, epochs=2, truncate=2, resume=along.fit(seq, out))
    with refused(vg.ArgumentError, "epochs: expected at least 2", "got 1"):
        net.fit(x, y, epochs=1, optimizer="adam", resume=history)
    with refused(vg.ArgumentError, "fit: expected a network that keeps its parameters"):
        vg.Network(WIDTH, [vg.Repeat([vg.Dense(WIDTH)], 3)], rng=0, stored=False).fit(x, x)


def gradients() -> vg.Gradients:
    return network().gradients(samples()[:3], cotangent=np.ones((3, CLASSES), np.float32))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: vg.SGD(-1.0), ("sgd: expected lr to be a finite number of at least 0; got -1",)),
        (lambda: vg.SGD(0.1, momentum=1.5), ("sgd: expected momentum to be a number from 0 to 1; got 1.5",)),
        (
            lambda: vg.SGD(0.1, nesterov=True),
            ("sgd: expected momentum to be above 0 where nesterov is on", "; got 0. Change"),
        ),
        (lambda: vg.optimizers.nesterov(momentum=0.0), ("sgd: expected momentum to be above 0 where",)),
        (lambda: vg.Adam(betas=(0.9, 1.0)), ("adam: expected beta2 to be",)),
        (lambda: vg.Adam(betas=0.9), ("betas: expected two numbers",)),  # type: ignore[arg-type]  # reason: wrong on purpose
        (lambda: vg.ClipNorm(0.0), ("norm: expected max_norm to be a finite number above 0; got 0",)),
        (lambda: vg.ClipNorm(1.0, rule="keras"), ('norm: expected rule to be one of "torch", "pascanu"',)),
        (lambda: vg.ClipNorm(1.0, norm_type=3), ("norm_type: expected 1, 2 or infinity, got 3",)),
        (lambda: vg.ClipNorm(1.0, norm_type=[2]), ("norm_type: expected 1, 2 or infinity, got [2]",)),  # type: ignore[arg-type]  # reason: wrong on purpose
        (lambda: vg.ClipNorm(1.0, norm_type=True), ("norm_type: expected 1, 2 or infinity, got True",)),
        (lambda: vg.clips.apply("sign", {"a": 1}), ("gradients: expected what net.gradients(...) returns",)),  # type: ignore[arg-type]  # reason: wrong on purpose
        (lambda: vg.clips.apply("sign", gradients(), 5), ("parameters: expected None or net.parameters()",)),  # type: ignore[arg-type]  # reason: wrong on purpose
        (
            lambda: vg.NormBand(2.0, 1.0),
            ("band: expected floor to be at most the ceiling, 1; got 2. Change floor",),
        ),
        (lambda: vg.clips.band(floor=2.0), ("band: expected floor to be at most the ceiling, 1; got 2",)),
        (lambda: vg.SpectralConstraint(0.0), ("spectral: expected limit to be a finite number above 0",)),
        (lambda: vg.MaxNormConstraint(1.0, only=3), ("only: expected a pattern",)),  # type: ignore[arg-type]  # reason: wrong on purpose
        (lambda: vg.optimizers.sgd(rate=0.1), ("optimizer 'sgd': no parameter 'rate'",)),
        (lambda: vg.schedules.step(0), ("size: expected",)),
    ],
)
def test_parts_check_their_numbers_when_they_are_made(make: Any, words: tuple[str, ...]) -> None:
    with refused(vg.ArgumentError, *words):
        make()


def test_momentum_and_nesterov_are_optimizers_with_a_momentum() -> None:
    as_optimizer = vg.optimizers.as_optimizer
    assert as_optimizer("momentum") == vg.SGD(momentum=0.9) == vg.optimizers.momentum()
    assert as_optimizer("Nesterov") == vg.SGD(momentum=0.9, nesterov=True) == vg.optimizers.nesterov()
    assert vg.optimizers.momentum(lr=0.1, momentum=0.5) == vg.SGD(0.1, momentum=0.5)
    assert vg.optimizers.describe("momentum").defaults["momentum"] == 0.9
    assert vg.optimizers.describe("nesterov").defaults["nesterov"] is True
    assert "momentum" not in vg.optimizers.describe("sgd").aliases
    assert "momentum" not in vg.mitigations.describe("sgd").aliases
    x = samples()
    ends = []
    for optimizer in ("momentum", vg.SGD(momentum=0.9), "sgd"):
        net = network()
        net.fit(x, np.arange(len(x)) % CLASSES, epochs=2, optimizer=optimizer)
        ends.append(b"".join(value.tobytes() for value in net.parameters().values()))
    assert ends[0] == ends[1] != ends[2]
    for name in ("momentum", "nesterov"):
        assert net.mitigate(name).training_defaults["optimizer"] == as_optimizer(name)


def test_parts_are_values() -> None:
    assert vg.SGD(0.1) == vg.SGD(0.1) != vg.SGD(0.2)
    assert vg.SGD(0.1) == vg.optimizers.sgd(lr=0.1)
    assert vg.Adam() == vg.Adam(0.5).at(0.001) == vg.optimizers.as_optimizer("adam") != "adam"
    assert len({vg.Adam(), vg.optimizers.adam()}) == 1
    assert vg.ClipNorm(0.5, norm_type=1) == vg.clips.norm(max_norm=0.5, norm_type="1")
    assert vg.MaxNormConstraint() == vg.constraints.max_norm() != vg.MaxNormConstraint(only="*hh*")
    assert vg.Adam(0.01, betas=(0.8, 0.999)).text == "adam(lr=0.01, beta1=0.8)"
    assert vg.MaxNormConstraint(1.0, only="*hh*").text == "max_norm(limit=1.0, only='*hh*')"
    assert hash(vg.ClipNorm(1.0)) == hash(vg.ClipNorm(1.0))
    assert repr(vg.Adam(0.01, betas=(0.8, 0.999))) == "Adam(lr=0.01, betas=(0.8, 0.999))"
    assert repr(vg.ClipNorm(1.0, norm_type=1)) == "ClipNorm(norm_type=1)"
    assert vg.MaxNormConstraint(1.0) != vg.MaxNormConstraint(1.0, only="*hh*")
    assert vg.optimizers.describe("AdamW").name == "adamw"
    assert "torch.optim.SGD" in str(vg.optimizers.describe("gradient_descent"))
    for registry in (vg.optimizers, vg.clips, vg.constraints):
        for name in registry.names():
            entry = registry.describe(name)
            assert entry.formula
            assert entry.summary.endswith(".")
            assert entry.reference
