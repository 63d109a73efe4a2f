"""Trainings that end early and go on again: what callbacks and checkpoints have, what a resume compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import refused
from vgcore.callbacks import Callback, Checkpoint, EarlyStopping, EpochEnd, JSONLLogger

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def network(depth: int = 2, **options: Any) -> vg.Network:
    return vg.mlp(depth, 8, in_features=6, out_features=3, rng=0, **options)


def bits(net: vg.Network) -> bytes:
    return b"".join(array.tobytes() for array in net.parameters().values())


# --- what a resume compares ---------------------------------------------------------------------------------


def test_another_network_is_refused_before_anything_is_trained() -> None:
    history = network().fit(X, Y, epochs=1)
    for other in (network(3), network(activation="tanh"), network(norm="layer")):
        before = bits(other)
        words = ("resume: expected network as in the training that is resumed", "steps=4", "with layers")
        with refused(vg.ArgumentError, *words):
            other.fit(X, Y, epochs=2, resume=history)
        assert bits(other) == before


def test_how_weights_started_is_of_no_matter_to_a_resume() -> None:
    whole, twin = network(), network(init="orthogonal")
    wanted = whole.fit(X, Y, epochs=2)
    first = network()
    history = first.fit(X, Y, epochs=1)
    twin.load_parameters(first.parameters())
    assert twin.fit(X, Y, epochs=2, resume=history, rng=0).loss.tobytes() == wanted.loss.tobytes()
    assert bits(twin) == bits(whole)


def test_a_schedule_with_another_past_is_refused() -> None:
    cosine = vg.schedules.cosine
    net = network()
    half = net.fit(X, Y, epochs=2, batch_size=8, schedule=cosine())
    per_epoch = half.steps // 2
    words = f"expected schedule as in the training that is resumed, cosine(steps={2 * per_epoch}, floor=0.0)"
    with refused(vg.ArgumentError, words, f"got cosine(steps={4 * per_epoch}", "vg.schedules.cosine(steps)"):
        net.fit(X, Y, epochs=4, batch_size=8, schedule=cosine(), resume=half)
    with refused(vg.ArgumentError, "expected schedule as in the training that is resumed"):
        net.fit(X, Y, epochs=4, batch_size=8, schedule=lambda step: 0.5, resume=half.state)
    whole, parted = network(), network()
    bound = cosine(4 * per_epoch)
    wanted = whole.fit(X, Y, epochs=4, batch_size=8, schedule=cosine())
    first = parted.fit(X, Y, epochs=2, batch_size=8, schedule=bound)
    assert first.state is not None
    then = parted.fit(X, Y, epochs=4, batch_size=8, schedule=bound, resume=dict(first.state))
    assert then.loss.tobytes() == wanted.loss[first.steps :].tobytes()
    assert bits(parted) == bits(whole)


def test_parameters_that_the_training_did_not_leave_are_refused() -> None:
    net = network()
    history = net.fit(X, Y, epochs=1)
    before = bits(network())
    for untrained in (network(), network(init="orthogonal")):
        with refused(vg.ArgumentError, "resume: expected the parameters that the training left, got others"):
            untrained.fit(X, Y, epochs=2, resume=history)
    assert bits(network()) == before
    copy = net.copy()
    assert copy.fit(X, Y, epochs=2, resume=history).steps == 2 * history.steps


def test_another_seed_is_refused() -> None:
    net = network()
    history = net.fit(X, Y, epochs=1, rng=3)
    words = "resume: expected the seed of the training that is resumed, 3, got rng=4"
    with refused(vg.ArgumentError, words, "leave rng= out"):
        net.fit(X, Y, epochs=2, rng=4, resume=history)
    assert net.fit(X, Y, epochs=2, rng=3, resume=history).steps == 2 * history.steps


def test_what_was_not_set_is_called_none() -> None:
    net = network()
    history = net.fit(X, Y, epochs=1)
    with refused(vg.ArgumentError, "expected clip as in the training that is resumed, none, got norm"):
        net.fit(X, Y, epochs=2, clip=vg.ClipNorm(1.0), resume=history)
    with refused(vg.ArgumentError, "expected constraint as in the training that is resumed, none, got"):
        net.fit(X, Y, epochs=2, constraint="max_norm", resume=history)


def test_an_optimizer_is_the_same_however_it_is_written() -> None:
    net = network()
    history = net.fit(X, Y, epochs=1, optimizer="adam", clip="sign", constraint="max_norm")
    history = net.fit(
        X, Y, epochs=2, optimizer=vg.Adam(), clip=vg.SignGradient(), constraint=vg.MaxNormConstraint(),
        resume=history,
    )  # fmt: skip
    assert len(history.seconds) == 2


# --- resumed from the state alone ---------------------------------------------------------------------------


def test_what_is_resumed_from_its_state_counts_its_own_steps(tmp_path: Path) -> None:
    net = network()
    first = net.fit(X, Y, epochs=2, batch_size=8, record_every=3, stats="full")
    log = JSONLLogger(tmp_path / "log.jsonl")
    then = net.fit(
        X, Y, epochs=4, batch_size=8, record_every=3, stats="full", resume=first.state, callbacks=log,
        validation=(X, Y),
    )  # fmt: skip
    assert then.steps == 20
    assert then.epoch.tolist() == [2] * 10 + [3] * 10
    assert then.recorded.tolist() == [1, 4, 7, 10, 13, 16, 19]  # steps 21, 24, ... of all
    table = then.table
    assert table["step"].max() == 19
    assert (table["epoch"][table["quantity"] == "log10_grad_norm"] >= 2).all()
    seconds = then.epochs["seconds"]
    assert np.isnan(seconds[:2]).all()
    assert (seconds[2:] == then.seconds).all()
    assert [entry.epoch for entry in then.validation] == [2, 3]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    # And once more, from the history of that.
    last = net.fit(X, Y, epochs=5, batch_size=8, record_every=3, stats="full", resume=then)
    assert last.steps == 30
    assert last.recorded.tolist() == list(range(1, 30, 3))
    assert last.table["step"].max() == 29


# --- checkpoints --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4])
def test_a_checkpoint_of_an_interrupted_training_goes_on_bit_for_bit(
    tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.setattr("vgcore._progress_fit._PAUSE", 0.0)  # hears of every step
    whole, part = network(), network()
    options: dict[str, Any] = {"batch_size": 8, "optimizer": "adam", "record_every": 3}
    wanted = whole.fit(X, Y, epochs=4, **options)
    keeper = Checkpoint(tmp_path / "{epoch}.safetensors", every=every)

    def counted(done: int, total: int, loss: float) -> None:
        if done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part.fit(X, Y, epochs=4, callbacks=keeper, progress=counted, **options)
    path = keeper.saved[-1]
    assert path.name == "2.safetensors"  # the epoch in which it ended
    again, middle = vg.load(path), vg.History.load(keeper.history_path(path))
    assert bits(again) == bits(part)
    assert (middle.steps, middle.stopped) == (24, "step 24: interrupted")
    history = again.fit(X, Y, epochs=4, resume=middle, **options)
    assert bits(again) == bits(whole)
    assert history.loss.tobytes() == wanted.loss.tobytes()
    assert history.recorded.tolist() == wanted.recorded.tolist()


def test_a_checkpoint_of_a_training_that_diverged_says_so(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    net, keeper = network(), Checkpoint(tmp_path / "net.safetensors", every=3)
    history = net.fit(
        X, Y, epochs=9, batch_size=8, optimizer="sgd", callbacks=keeper,
        schedule=lambda step: 1.0 if step < 14 else 1e38,
    )  # fmt: skip
    assert history.stopped is not None
    saved = vg.History.load(keeper.history_path(keeper.saved[-1]))
    assert (saved.steps, saved.stopped) == (history.steps, history.stopped)
    assert bits(vg.load(keeper.saved[-1])) == bits(net)


@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_is_of_the_last_step_whatever_early_stopping_gives_back(
    tmp_path: Path, first: bool
) -> None:
    pytest.importorskip("safetensors")
    net, plain = network(), network()
    noise = RNG.integers(0, 3, len(Y))
    keeper, stopper = Checkpoint(tmp_path / "net.safetensors", every=50), EarlyStopping(2)
    options: dict[str, Any] = {"optimizer": vg.Adam(0.05), "validation": 0.3}
    history = net.fit(
        X, noise, epochs=60, callbacks=[keeper, stopper] if first else [stopper, keeper], **options
    )
    assert stopper.best_epoch is not None
    plain.fit(X, noise, epochs=len(history.seconds), **options)
    assert bits(vg.load(keeper.saved[-1])) == bits(plain) != bits(net)
    assert vg.History.load(keeper.history_path(keeper.saved[-1])).steps == history.steps


# --- callbacks ----------------------------------------------------------------------------------------------


class Told(Callback):
    """Notes what it is told; raises where it shall."""

    def __init__(self, seen: list[str], name: str, fails: str = "") -> None:
        self.seen, self.name, self.fails = seen, name, fails

    def _note(self, what: str) -> None:
        self.seen.append(f"{self.name} {what}")
        if what == self.fails:
            raise RuntimeError(f"{self.name} fails")

    def on_fit_start(self, net: vg.Network, epochs: int) -> None:
        self._note("start")

    def on_fit_end(self, end: EpochEnd | None) -> None:
        self._note("end")


def test_all_that_were_started_are_ended_whichever_fails() -> None:
    seen: list[str] = []
    with pytest.raises(RuntimeError, match="a fails"):
        network().fit(X, Y, callbacks=[Told(seen, "a", "end"), Told(seen, "b")])
    assert seen == ["a start", "b start", "a end", "b end"]
    seen.clear()
    with pytest.raises(RuntimeError, match="b fails"):
        network().fit(X, Y, callbacks=[Told(seen, "a"), Told(seen, "b", "start"), Told(seen, "c")])
    assert seen == ["a start", "b start", "a end"]


def test_the_end_tells_of_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgcore._progress_fit._PAUSE", 0.0)  # hears of every step
    found: list[tuple[int, int, str | None]] = []

    class Last(Callback):
        def on_fit_end(self, end: EpochEnd | None) -> None:
            assert end is not None
            found.append((end.epoch, end.history.steps, end.history.stopped))

    def pressed(done: int, total: int, loss: float) -> None:
        if done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network().fit(X, Y, epochs=3, batch_size=8, callbacks=Last(), progress=pressed)
    assert found == [(0, 14, "step 14: interrupted")]


def test_a_history_is_put_together_when_somebody_looks() -> None:
    """Of the epoch that it was, also later; its state goes with the training."""
    kept: list[EpochEnd] = []
    states: list[Any] = []

    def look(end: EpochEnd) -> None:
        kept.append(end)
        if end.epoch == 1:
            states.append(end.history.state)
            assert end.history.state is not None
            assert end.history.state["step"] == 20

    net = network()
    history = net.fit(X, Y, epochs=4, batch_size=8, validation=(X, Y), callbacks=look, stats="full")
    for i, end in enumerate(kept):
        assert end.history.steps == 10 * (i + 1)
        assert end.history is end.history
        assert len(end.history.seconds) == len(end.history.validation) == i + 1
        assert end.history.loss.tobytes() == history.loss[: end.history.steps].tobytes()
        assert end.history.log2_grad_norm.shape[0] == end.history.recorded.size
    assert kept[0].history.state is None
    assert states[0]["step"] == 20
    assert kept[3].history.state is not None
    with refused(vg.ArgumentError, "resume: expected a history with a state", "a callback kept it"):
        net.fit(X, Y, epochs=5, batch_size=8, resume=kept[0].history)


def test_what_nobody_looks_at_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr("vgcore._fit.snapshot", lambda *given: taken.append(1) or {"step": 1})
    ends: list[EpochEnd] = []
    history = network().fit(X, Y, epochs=3, callbacks=[ends.append, lambda end: end.history.loss])
    assert not taken
    assert history.state is not None
    assert taken == [1]
