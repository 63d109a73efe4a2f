"""Loggers: figures, pictures, lines of JSON, TensorBoard's files and Weights & Biases."""

from __future__ import annotations

import json
import struct
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _fake_records import fake_records
from test_callbacks import net, train, validated
from vgcore._loggers import epoch_column, picture
from vgcore.callbacks import JSONLLogger, TensorBoardLogger, WandbLogger, scalars
from vgcore.errors import MissingDependencyError
from vgcore.history import History

# --- figures ------------------------------------------------------------------------------------------------


def test_at_most_ten_figures_are_sent() -> None:
    found = scalars(History(fake_records(layers=3, still=1)))
    assert len(found) == 10
    assert list(found) == [
        "loss", "accuracy", "lr", "seconds", "validation_loss", "validation_score", "log10_grad_norm_first",
        "log10_grad_norm_last", "layers_without_gradient", "share_learning",
    ]  # fmt: skip
    assert found["share_learning"] == pytest.approx(2 / 3)
    assert found["lr"] == 0.05


def test_what_was_not_measured_is_left_out() -> None:
    found = scalars(History(fake_records(labels=False, held_out=False, full=False)))
    assert set(found) == {
        "loss", "lr", "seconds", "log10_grad_norm_first", "log10_grad_norm_last", "layers_without_gradient"
    }  # fmt: skip
    # Validation every few epochs: none of an epoch before is sent again.
    records = fake_records()
    assert "validation_loss" not in scalars(History(replace(records, validation=records.validation[:-1])))


def test_a_loss_that_broke_is_sent() -> None:
    found = scalars(History(fake_records(np.full(60, np.nan), per_epoch=20, dies=0)))
    assert np.isnan(found["loss"])
    assert found["log10_grad_norm_first"] == -np.inf
    assert found["layers_without_gradient"] == 1


def test_a_picture_is_pixels() -> None:
    pytest.importorskip("matplotlib")
    pixels = picture(History(fake_records()))
    assert pixels is not None
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert len(np.unique(pixels)) > 50
    records = fake_records()
    cut = {
        name: getattr(records, name)[:0] for name in ("recorded", "log2_grad_norm", "update_ratio", "dead")
    }
    assert picture(History(replace(records, unchanged=None, zero_weights=None, **cut))) is None


# --- lines of JSON ------------------------------------------------------------------------------------------


def test_one_line_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.jsonl"
    records = fake_records(layers=3, per_epoch=50)
    train(JSONLLogger(path), records)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    assert [line["step"] for line in lines] == [50, 100, 150, 200]
    assert len(lines[0]) == 2 + 10 + 1
    history = History(records)
    for i, line in enumerate(lines):
        assert line["loss"] == pytest.approx(history.epochs["loss"][i], rel=1e-12)
        rows = history.log10_grad_norm[history.epoch[history.recorded] == i]
        np.testing.assert_allclose(line["flow"], rows.mean(axis=0), rtol=1e-3, atol=5e-5)


def test_lines_are_appended_behind_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"epoch": 0, "step')
    train(JSONLLogger(path), validated([1, 1]))
    train(JSONLLogger(path), validated([1]))
    lines = path.read_text().splitlines()
    assert lines[0] == '{"epoch": 0, "step'
    assert [json.loads(line)["epoch"] for line in lines[1:]] == [0, 1, 0]


def test_lines_are_strict_json(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    train(JSONLLogger(tmp_path / "a"), fake_records(np.full(60, np.nan), per_epoch=20, dies=0))
    line = json.loads((tmp_path / "a").read_text().splitlines()[-1], parse_constant=refuse)
    assert line["loss"] == "NaN"
    assert line["flow"][0] == "-Infinity"


def test_many_layers_are_binned_in_a_line() -> None:
    records = fake_records(layers=1000, rate=-0.6)
    column = epoch_column(History(records))
    assert len(column) == 64
    assert column[0] < -590
    assert column == sorted(column)
    records.log2_grad_norm[-1, 3] = np.nan
    assert np.isnan(epoch_column(History(records))[0])


def test_a_picture_can_be_kept_beside_the_lines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    train(JSONLLogger(tmp_path / "a", picture=tmp_path / "pictures" / "a.png"), validated([1, 1]))
    assert (tmp_path / "pictures" / "a.png").read_bytes().startswith(b"\x89PNG")


# --- TensorBoard --------------------------------------------------------------------------------------------


def events(folder: Path) -> list[Any]:
    """Read the records of TensorBoard's files: length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event()
            event.ParseFromString(data[at + 12 : at + 12 + size])
            found += [(event.step, value) for value in event.summary.value]
            at += 16 + size
    return found


def test_tensorboard_gets_ten_figures_and_one_picture_an_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    pytest.importorskip("matplotlib")
    records = fake_records(layers=3)
    train(TensorBoardLogger(tmp_path), records)
    found = events(tmp_path)
    assert len(found) == 4 * 11
    assert sorted({step for step, _ in found}) == [50, 100, 150, 200]
    losses = [value.simple_value for _, value in found if value.tag == "loss"]
    np.testing.assert_allclose(losses, History(records).epochs["loss"], rtol=1e-6)
    images = [value.image for _, value in found if value.HasField("image")]
    assert len(images) == 4
    assert images[-1].encoded_image_string.startswith(b"\x89PNG")
    assert images[-1].width > images[-1].height > 100


def test_pictures_may_be_rarer(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    pytest.importorskip("matplotlib")
    train(TensorBoardLogger(tmp_path, picture_every=3), fake_records(layers=3))
    assert [step for step, value in events(tmp_path) if value.HasField("image")] == [150, 200]


NAMES = {
    "tensorboardX": ("tensorboardX",),
    "torch": ("torch", "torch.utils", "torch.utils.tensorboard"),
    "tensorboard": (
        "tensorboard",
        "tensorboard.compat",
        "tensorboard.compat.proto",
        "tensorboard.compat.proto.event_pb2",
        "tensorboard.compat.proto.summary_pb2",
        "tensorboard.summary",
        "tensorboard.summary.writer",
        "tensorboard.summary.writer.event_file_writer",
    ),
}


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    pytest.importorskip("matplotlib")
    for names in NAMES.values():
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
    return monkeypatch


def test_without_a_writer_the_line_that_installs_one_is_told(
    nothing_installed: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(MissingDependencyError, match=r"tensorboardX.*pip install \"vgcore\[tensorboard\]\""):
        train(TensorBoardLogger(tmp_path), validated([1]))


@pytest.mark.parametrize("package", ["tensorboardX", "torch"])
def test_whichever_writer_is_installed_is_used(
    nothing_installed: pytest.MonkeyPatch, package: str, tmp_path: Path
) -> None:
    sent: list[Any] = []

    class Writer:
        def __init__(self, where: str) -> None:
            sent.append(where)

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            sent.append((tag, step))

        def add_image(self, tag: str, data: Any, step: int, dataformats: str) -> None:
            sent.append((tag, data.ndim, dataformats, step))

        def close(self) -> None:
            sent.append("closed")

    fake = types.ModuleType("stands for a package")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]  # a module made on the spot
    for name in NAMES[package]:
        nothing_installed.setitem(sys.modules, name, fake)
    train(TensorBoardLogger(tmp_path), validated([1]))
    assert sent[0] == str(tmp_path)
    assert sent[-1] == "closed"
    assert ("loss", 10) in sent
    assert ("gradient flow", 3, "HWC", 10) in sent
    assert len(sent) == 1 + 10 + 1 + 1


def test_tensorboard_alone_is_given_events(nothing_installed: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Its events are those of tensorboardX, whose classes stand for them here.
    nothing_installed.delitem(sys.modules, "tensorboardX")
    proto = pytest.importorskip("tensorboardX.proto")
    from tensorboardX.proto import event_pb2, summary_pb2

    nothing_installed.setitem(sys.modules, "tensorboardX", None)
    found: list[Any] = []

    class EventFileWriter:
        def __init__(self, where: str) -> None:
            found.append(where)

        def add_event(self, event: Any) -> None:
            found.append(event)

        def close(self) -> None:
            found.append("closed")

    fake = types.ModuleType("stands for a package")
    fake.EventFileWriter = EventFileWriter  # type: ignore[attr-defined]  # a module made on the spot
    for name in NAMES["tensorboard"]:
        part = {"event_pb2": event_pb2, "summary_pb2": summary_pb2}.get(name.rpartition(".")[2], fake)
        nothing_installed.setitem(sys.modules, name, part)
    assert proto
    train(TensorBoardLogger(tmp_path), validated([1]))
    assert found[0] == str(tmp_path)
    assert found[-1] == "closed"
    values = [event.summary.value[0] for event in found[1:-1]]
    assert len(values) == 11
    assert values[0].tag == "loss"
    assert values[0].simple_value == 1.0
    assert values[-1].image.encoded_image_string.startswith(b"\x89PNG")
    assert {event.step for event in found[1:-1]} == {10}


# --- Weights & Biases ---------------------------------------------------------------------------------------


class FakeRun:
    """What a run of wandb is, as far as it is used."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.config: Any = types.SimpleNamespace(update=self._configure)
        self.meta: dict[str, Any] = {}
        self.finished = False

    def _configure(self, values: dict[str, Any], allow_val_change: bool) -> None:
        assert allow_val_change
        self.meta |= values

    def log(self, values: dict[str, Any], step: int) -> None:
        self.sent.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("matplotlib")
    fake = types.ModuleType("wandb")
    runs: list[Any] = []

    def init(**kw: Any) -> FakeRun:
        runs.append((kw, FakeRun()))
        return runs[-1][1]

    fake.Image = lambda pixels: ("image", pixels.shape[2])  # type: ignore[attr-defined]  # as below
    fake.init, fake.runs = init, runs  # type: ignore[attr-defined]  # a module made on the spot
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_gets_one_step_an_epoch(wandb: Any) -> None:
    train(WandbLogger(project="depth"), fake_records(layers=3))
    ((options, run),) = wandb.runs
    assert options == {"project": "depth"}
    assert [step for step, _ in run.sent] == [50, 100, 150, 200]
    for _, values in run.sent:
        assert len(values) == 11
        assert values["gradient flow"] == ("image", 3)
    assert run.meta["batch_size"] == 32
    assert run.finished


def test_a_given_run_stays_open(wandb: Any) -> None:
    run = FakeRun()
    train(WandbLogger(run), validated([1, 1]))
    assert len(run.sent) == 2
    assert not run.finished
    assert wandb.runs == []


@pytest.mark.parametrize("logger", [WandbLogger, lambda: TensorBoardLogger("nowhere")])
def test_a_missing_package_is_told_before_the_first_epoch(
    logger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "vgcore\[plot\]"'):
        logger().on_fit_start(net(), 1)


def test_wandb_missing_names_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "vgcore\[wandb\]"'):
        WandbLogger().on_fit_start(net(), 1)
