"""Callbacks: what they are given, what loggers write, when training ends, what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from _fake_records import fake_records
from vgcore import callbacks
from vgcore._fit_records import Records, Validation
from vgcore.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochEnd,
    as_callbacks,
)
from vgcore.errors import ArgumentError
from vgcore.history import History


def net() -> vg.Network:
    return vg.mlp(depth=3, width=4, rng=0)


def until(records: Records, epochs: int) -> Records:
    """Return the records as they were behind `epochs` epochs."""
    steps = int((records.epoch < epochs).sum())
    rows = int((records.recorded < steps).sum())
    cut = {name: getattr(records, name) for name in ("loss", "accuracy", "lr", "epoch")}
    close = {
        name: getattr(records, name)
        for name in ("recorded", "log2_grad_norm", "update_ratio", "dead", "unchanged", "zero_weights")
    }
    return replace(
        records,
        **{name: None if array is None else array[:steps] for name, array in cut.items()},
        **{name: None if array is None else array[:rows] for name, array in close.items()},
        validation=tuple(entry for entry in records.validation if entry.epoch < epochs),
        seconds=records.seconds[:epochs],
    )


def train(
    observers: Any, records: Records, network: vg.Network | None = None, touch: bool = True
) -> EpochEnd:
    """Call `observers` as a training would whose records are `records`; weights become the epoch's number."""
    network = net() if network is None else network
    epochs = int(records.epoch[-1]) + 1
    found = as_callbacks(observers)
    for callback in found:
        callback.on_fit_start(network, epochs)
    end = None
    for epoch in range(epochs):
        if touch:
            network.load_parameters({k: np.full_like(v, epoch) for k, v in network.parameters().items()})
        end = EpochEnd(epoch, epochs, network, History(until(records, epoch + 1)))
        for callback in found:
            callback.on_epoch_end(end)
        if end.reason is not None:
            break
    for callback in found:
        callback.on_fit_end(end)
    assert end is not None
    return end


def validated(losses: Sequence[float], scores: Sequence[float] | None = None) -> Records:
    """Return records of ten steps an epoch with these losses of held-out data."""
    records = fake_records(np.ones(10 * len(losses)), per_epoch=10, every=5)
    scores = [0.5] * len(losses) if scores is None else scores
    entries = tuple(Validation(i, a, b) for i, (a, b) in enumerate(zip(losses, scores, strict=True)))
    return replace(records, validation=entries)


def weights(network: vg.Network) -> float:
    return float(network.parameters()["hidden.weight"].flat[0])


# --- the protocol -------------------------------------------------------------------------------------------


def test_functions_and_objects_are_callbacks() -> None:
    seen: list[Any] = []

    class Mine:
        def on_fit_start(self, net: Any, epochs: int) -> None:
            seen.append(epochs)

        def on_epoch_end(self, end: EpochEnd) -> None:
            seen.append(end.epoch)

        def on_fit_end(self, end: EpochEnd | None) -> None:
            seen.append("end")

    train([Mine(), lambda end: seen.append(-end.epoch)], validated([1, 1]))
    assert seen == [2, 0, 0, 1, -1, "end"]
    assert as_callbacks(()) == ()
    assert len(as_callbacks(Callback())) == 1


def test_what_is_no_callback_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match=r"^callbacks\[1\]: expected a vg.callbacks.Callback or a function"
    ):
        as_callbacks([print, 3])
    with pytest.raises(
        ArgumentError, match=r"callbacks\[0\]: expected an object, got the class; write Early"
    ):
        as_callbacks([EarlyStopping])


def test_the_first_reason_to_stop_counts() -> None:
    end = train([lambda end: end.stop("enough"), lambda end: end.stop("too late")], validated([1, 1, 1]))
    assert (end.epoch, end.reason) == (0, "enough")


# --- early stopping -----------------------------------------------------------------------------------------


def test_training_ends_when_patience_is_over_and_the_best_comes_back() -> None:
    network = net()
    stopper = EarlyStopping(patience=2)
    end = train(stopper, validated([3, 2, 1, 1.5, 1.2, 0.1]), network)
    assert end.epoch == 4
    assert end.reason == "no better validation_loss for 2 epochs: the best, 1, is that of epoch 2"
    assert stopper.best == 1
    assert stopper.best_epoch == 2
    assert weights(network) == 2


def test_the_last_parameters_can_be_kept() -> None:
    network = net()
    train(EarlyStopping(patience=1, restore_best=False), validated([1, 2, 3]), network)
    assert weights(network) == 1


def test_the_best_comes_back_without_a_stop_too() -> None:
    network = net()
    end = train(EarlyStopping(patience=5), validated([3, 1, 2]), network)
    assert end.reason is None
    assert weights(network) == 1


def test_min_delta_is_what_counts_as_better() -> None:
    losses = [1.0, 0.95, 0.91, 0.89]
    assert train(EarlyStopping(patience=2, min_delta=0.1), validated(losses)).epoch == 2
    assert train(EarlyStopping(patience=2), validated(losses)).reason is None


def test_scores_rise_when_they_improve() -> None:
    stopper = EarlyStopping(patience=1, monitor="validation_score")
    end = train(stopper, validated([1, 1, 1, 1], [0.5, 0.7, 0.6, 0.9]))
    assert (end.epoch, stopper.best) == (2, 0.7)


def test_nan_is_no_improvement() -> None:
    stopper = EarlyStopping(patience=2)
    nan = float("nan")
    assert train(stopper, validated([nan, 1.0, nan, nan, 0.5])).epoch == 3
    assert stopper.best == 1.0
    end = train(EarlyStopping(patience=2), validated([nan, nan, nan]))
    assert end.reason == "no better validation_loss for 2 epochs: the best, nan, was never a number"


def test_each_training_starts_afresh() -> None:
    stopper = EarlyStopping(patience=1)
    train(stopper, validated([0.1, 0.2]))
    assert train(stopper, validated([5, 4, 3])).reason is None


def test_what_is_not_measured_cannot_be_watched() -> None:
    records = fake_records(held_out=False, labels=False)
    with pytest.raises(ArgumentError, match=r"expected held-out data .* call fit\(..., validation=0.1\)"):
        train(EarlyStopping(), records)
    with pytest.raises(ArgumentError, match="expected class labels to watch accuracy"):
        train(EarlyStopping(monitor="accuracy"), records)
    assert train(EarlyStopping(monitor="loss"), records).reason is None


@pytest.mark.parametrize(
    "arguments",
    [{"patience": 0}, {"patience": 1.5}, {"min_delta": -1}, {"restore_best": 1}, {"monitor": "mse"}],
)
def test_nonsense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"^{next(iter(arguments))}: expected"):
        EarlyStopping(**arguments)


# --- checkpoints --------------------------------------------------------------------------------------------


def test_checkpoints_are_taken_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    keeper = Checkpoint(tmp_path / "deep" / "{epoch}.safetensors", every=2)
    train(keeper, validated([1, 1, 1, 1, 1]))
    assert [path.name for path in keeper.saved] == ["1.safetensors", "3.safetensors", "4.safetensors"]
    assert [weights(vg.load(path)) for path in keeper.saved] == [1, 3, 4]
    assert [History.load(keeper.history_path(path)).steps for path in keeper.saved] == [20, 40, 50]
    left = {path.name for path in (tmp_path / "deep").iterdir()}
    assert left == {f"{i}.{kind}" for i in (1, 3, 4) for kind in ("safetensors", "history.npz")}


def test_one_name_holds_the_last_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    keeper = Checkpoint(tmp_path / "net.safetensors", history=False)
    train(keeper, validated([1, 1, 1]))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    assert weights(vg.load(keeper.saved[0])) == 2
    assert keeper.saved == [tmp_path / "net.safetensors"]


def test_every_checkpoint_has_a_history_of_its_own() -> None:
    found = [Checkpoint.history_path(name).name for name in ("a.safetensors", "m-0.1", "m-0.2", "a.net")]
    assert found == ["a.history.npz", "m-0.1.history.npz", "m-0.2.history.npz", "a.net.history.npz"]


def test_a_folder_can_have_the_epoch_in_its_name(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    train(Checkpoint(tmp_path / "run-{epoch}" / "net.safetensors", every=2), validated([1, 1, 1, 1, 1]))
    assert {path.name for path in tmp_path.iterdir()} == {"run-1", "run-3", "run-4"}


def test_other_fields_than_the_epoch_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"in which \{epoch\} is the only field"):
        Checkpoint("{loss}.safetensors")
    for path in ("{epoch.x}.safetensors", "{epoch[0]}.safetensors", "{", "{:d}"):
        with pytest.raises(ArgumentError, match=r"in which \{epoch\} is the only field"):
            Checkpoint(path)
    with pytest.raises(ArgumentError, match=r"^every: expected"):
        Checkpoint("a.safetensors", every=0)


@pytest.mark.parametrize(
    "text",
    [
        "EarlyStopping(patience=3, min_delta=0.5, restore_best=False, monitor='loss')",
        "Checkpoint('a{epoch}.safetensors', every=2, history=False)",
        "JSONLLogger('a.jsonl', picture='a.png')",
        "TensorBoardLogger('runs')",
        "WandbLogger(project='depth')",
    ],
)
def test_representations_are_calls(text: str) -> None:
    assert repr(eval(text, dict(vars(callbacks)))) == text
