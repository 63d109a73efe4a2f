"""Trainings on the digits and what their histories tell: healthy, starved, dead, stopped and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from test_history import words
from vgcore._stagnation import guessing
from vgcore.callbacks import Checkpoint, EarlyStopping, EpochEnd, JSONLLogger

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")

X, Y = vg.datasets.digits()


def healthy(depth: int = 6) -> vg.Network:
    return vg.mlp(depth, 48, in_features=64, out_features=10, rng=0)


def starved() -> vg.Network:
    """Return fifty plain sigmoid layers, whose lower ones get nothing."""
    return vg.mlp(50, 32, in_features=64, out_features=10, activation="sigmoid", init="glorot_normal", rng=0)


def bits(network: vg.Network) -> bytes:
    return b"".join(array.tobytes() for array in network.parameters().values())


def same_figures(a: vg.History, b: vg.History) -> bool:
    arrays = (
        "loss",
        "accuracy",
        "lr",
        "epoch",
        "recorded",
        "log2_grad_norm",
        "update_ratio",
        "dead",
        "unchanged",
        "zero_weights",
    )
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
        for name in arrays
        if getattr(a, name) is not None or getattr(b, name) is not None
    )


def test_a_healthy_network_learns_and_its_history_says_so() -> None:
    net = healthy()
    history = net.fit(X, Y, epochs=12, optimizer=vg.SGD(0.1), validation=0.2, stats="full", rng=0)
    assert not history.stagnation
    assert history.stagnation.kind in ("improving", "converged")
    assert history.validation[-1].score > 0.9
    assert history.share_learning == 1.0
    assert (history.died == -1).all()
    assert history.layers[0].startswith("input")
    assert history.log10_grad_norm.shape == (history.recorded.size, 8)
    assert history.epochs["accuracy"][-1] > 0.95
    # What a picture and a table show is what was measured.
    frame = history.table
    row = (frame["quantity"] == "log10_grad_norm") & (frame["layer"] == 3)
    assert (frame["value"][row] == history.log10_grad_norm[:, 3]).all()


def test_fifty_sigmoid_layers_never_learn_and_their_history_says_why() -> None:
    history = starved().fit(X, Y, epochs=3, optimizer=vg.SGD(0.1), stats="full", rng=0)
    found = history.stagnation
    assert found.kind == "start"
    assert found.step is not None
    assert found.step < 0.2 * history.steps
    assert found.level == pytest.approx(np.log(10), rel=0.02)
    assert history.meta["guessing_loss"] == guessing("cross_entropy", Y)
    # About 0.6 decades a layer: most layers' updates are under the resolution of float32.
    assert history.share_learning < 0.6
    assert history.log10_grad_norm[:, 0].max() < -20
    assert (history.died == -1).all()  # next to nothing is not nothing
    text = words(history)
    assert "nothing was learned" in text
    assert "of those with weights" in text


def test_relus_that_a_bias_has_killed_are_dated() -> None:
    net = healthy()
    parameters = net.parameters()
    parameters["hidden.bias"][2] = -1e3
    net.load_parameters(parameters)
    history = net.fit(X, Y, epochs=2, optimizer=vg.SGD(0.1), stats="full", rng=0)
    # Units: input, hidden 0 to 5, output. The one that was killed passes zeros on, whose slope is zero too;
    # so the last hidden output is the lowest that still has a gradient.
    assert history.died.tolist() == [0] * 6 + [-1] * 2
    assert history.dead is not None
    assert (history.dead[:, 3:7] == 48).all()
    assert (history.dead[:, :3] < 48).all()
    assert "Layers whose gradient became exactly zero: 6 of 8" in words(history)


def test_figures_do_not_depend_on_how_closely_one_looks() -> None:
    every = healthy().fit(X, Y, epochs=1, stats="full", record_every=1, rng=0)
    rarely = healthy().fit(X, Y, epochs=1, stats="norms", record_every=7, rng=0)
    assert (every.loss == rarely.loss).all()
    assert (every.log2_grad_norm[rarely.recorded] == rarely.log2_grad_norm).all()
    assert rarely.update_ratio is None


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    optimizer = vg.Adam(0.003)
    whole, part = healthy(), healthy()
    keeper = Checkpoint(tmp_path / "{epoch}.safetensors", every=2)
    wanted = whole.fit(X, Y, epochs=4, optimizer=optimizer, stats="full", record_every=5, rng=3)
    part.fit(X, Y, epochs=3, optimizer=optimizer, stats="full", record_every=5, rng=3, callbacks=keeper)
    path = keeper.saved[0]
    assert path.name == "1.safetensors"
    again = vg.load(path)
    middle = vg.History.load(keeper.history_path(path))
    assert len(middle.epochs["epoch"]) == 2
    history = again.fit(
        X, Y, epochs=4, optimizer=optimizer, stats="full", record_every=5, rng=3, resume=middle
    )
    assert bits(again) == bits(whole)
    assert same_figures(history, wanted)


def test_callbacks_see_the_training_as_it_goes(tmp_path: Path) -> None:
    seen: list[Any] = []

    def look(end: EpochEnd) -> None:
        seen.append((end.epoch, end.epochs, end.history.steps, len(end.history.validation)))
        if end.epoch == 2:
            end.stop("three are enough")

    log = JSONLLogger(tmp_path / "log.jsonl")
    history = healthy().fit(X, Y, epochs=9, validation=0.1, callbacks=[look, log], rng=0)
    per_epoch = history.steps // 3
    assert seen == [(i, 9, (i + 1) * per_epoch, i + 1) for i in range(3)]
    assert history.stopped == "three are enough"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[-1]["validation_score"] == history.validation[-1].score
    assert len(lines[-1]["flow"]) == 8


def test_early_stopping_ends_a_training_that_overfits() -> None:
    random = np.random.default_rng(0)
    noise, labels = random.normal(size=(300, 64)).astype(np.float32), random.integers(0, 10, 300)
    net = healthy(2)
    stopper = EarlyStopping(patience=2)
    history = net.fit(
        noise, labels, epochs=60, optimizer=vg.Adam(0.01), validation=0.3, callbacks=stopper, rng=0
    )
    assert history.stopped is not None
    assert history.stopped.startswith("no better validation_loss for 2 epochs")
    assert history.best is not None
    assert stopper.best_epoch == history.best.epoch
    assert len(history.validation) == history.best.epoch + 3


def test_a_recurrent_network_is_recorded_by_its_parameters() -> None:
    x, y = vg.datasets.adding(64, length=20, rng=0)
    net = vg.rnn("gru", 8, in_features=2, out_features=1, rng=0)
    history = net.fit(x, y, epochs=6, optimizer=vg.Adam(0.01), validation=0.25, stats="full", rng=0)
    assert "rnn.weight_hh_l0" in history.layers
    assert (history.units.steps == -1).all()
    assert history.accuracy is None
    assert np.isfinite(history.log10_grad_norm).all()
    pytest.importorskip("matplotlib")
    ax = history.plot_flow()
    assert "rnn.weight_hh_l0" in [label.get_text() for label in ax.get_yticklabels()]


def test_a_training_that_explodes_says_where() -> None:
    net = vg.mlp(20, 32, in_features=64, out_features=10, rng=0)
    history = net.fit(X, Y, epochs=2, optimizer=vg.SGD(1e6), stats="full", rng=0)
    assert history.stopped is not None
    assert "step" in history.stopped
    assert history.stagnation.kind == "unknown"
    assert "It ended early" in words(history)
    assert "stopped" in repr(history)


def test_the_best_epoch_comes_back_with_its_running_statistics() -> None:
    net = vg.mlp(4, 32, in_features=64, out_features=10, norm="batch", rng=0)
    kept: dict[int, dict[str, Any]] = {}
    stopper = EarlyStopping(patience=2)
    history = net.fit(
        X[:400], Y[:400], epochs=30, optimizer=vg.Adam(0.02), validation=0.3, rng=0,
        callbacks=[stopper, lambda end: kept.update({end.epoch: end.net.buffers()})],
    )  # fmt: skip
    assert history.stopped is not None
    assert stopper.best_epoch is not None
    found, best, last = net.buffers(), kept[stopper.best_epoch], kept[max(kept)]
    assert found
    for name, array in found.items():
        assert (array == best[name]).all(), name
        assert not (array == last[name]).all(), name
