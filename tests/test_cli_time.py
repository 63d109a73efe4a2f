"""The command line on recurrent networks: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import vgcore as vg
from vgcore import _tasks, cli
from vgcore.flow import GradientFlow

SIZES = ["--width", "8", "--batch", "4"]


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*argv: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_probe_follows_a_gradient_back_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        "probe", "--cell", "lstm", "--length", "40", "--task", "adding", *SIZES, capsys=capsys
    )
    assert (code, err) == (0, "")
    assert "lstm, 8 units, 40 steps of adding" in out
    assert "4 sequences" in out
    assert "verdict:" in out
    assert "time step" in out


def test_probe_json_is_what_python_measures(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "probe",
        "--cell",
        "gru",
        "--length",
        "30",
        "--seed",
        "2",
        "--set",
        "num_layers=2",
        "--json",
        *SIZES,
    ]
    found = strict(run(*argv, capsys=capsys)[1])
    net = vg.rnn("gru", 8, in_features=2, out_features=1, num_layers=2, rng=2)
    flow = net.probe(*vg.datasets.adding(4, 30, 0), loss="mse")
    assert found["log10_grad_norm"] == flow.log10_grad_norm.tolist()
    assert (found["axis"], found["steps"], found["batch"]) == ("time", 30, 4)
    assert found["num_parameters"] == net.num_parameters


def test_probe_takes_any_of_three_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert "lstm, 8 units, 25 steps of adding" in run("probe", "--length", "25", *SIZES, capsys=capsys)[1]
    assert "rnn, 8 units, 1,000 steps of adding" in run("probe", "--cell", "rnn", *SIZES, capsys=capsys)[1]
    argv = ["probe", "--task", "temporal_order", "--length", "25", "--cell", "rnn", "--activation", "relu"]
    assert "25 steps of temporal_order" in run(*argv, *SIZES, capsys=capsys)[1]
    pytest.importorskip("sklearn")
    assert "lstm, 8 units, 64 steps" in run("probe", "--task", "digits_pixels", *SIZES, capsys=capsys)[1]


def test_probe_keeps_picture_and_flow(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    argv = ["probe", "--cell", "gru", "--length", "20", *SIZES, "--plot", "p.svg", "--save", "f.npz"]
    code, out, _ = run(*argv, capsys=capsys)
    assert code == 0
    assert "written: f.npz, p.svg" in out
    assert "per time step" in Path("p.svg").read_text() or Path("p.svg").stat().st_size > 1000
    assert GradientFlow.load("f.npz").axis == "time"


STUDY = ["study", "--task", "adding", "--cell", "rnn,lstm", "--length", "10,20", *SIZES, "-q"]


def test_study_writes_table_pictures_and_itself(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    code, out, err = run(*STUDY, "--out", "here", capsys=capsys)
    assert (code, err) == (0, "")
    assert "length 20" in out
    assert "decades/step" in out
    names = {path.name for path in Path("here").iterdir()}
    assert {"table.csv", "study.json", "heatmap.png", "rate.svg", "curves-10.png", "curves-20.svg"} <= names


def test_study_from_a_file_gives_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    first = strict(run(*STUDY, "--out", "one", "--no-plots", "--json", capsys=capsys)[1])
    argv = ["study", "--from", "one/study.json", "--out", "two", "--no-plots", "--json"]
    code, out, err = run(*argv, capsys=capsys)
    assert (code, err) == (0, "")
    curves = [[cell["curve"] for cell in found["cells"]] for found in (first, strict(out))]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 4
    code, _, err = run(*argv, "--task", "text", capsys=capsys)
    assert code == 2
    assert "--from describes the whole study" in err
    spec = json.loads(Path("one/study.json").read_text())
    spec["data"]["sha256"]["10"] = "0" * 64
    Path("other.json").write_text(json.dumps(spec))
    code, _, err = run("study", "--from", "other.json", "--no-plots", "-q", capsys=capsys)
    assert code == 0
    assert "made with other data of the same task" in err


def test_a_function_of_python_cannot_be_run_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    task = _tasks.as_task("adding")
    assert isinstance(task, _tasks.Task)
    found = vg.Study(cell="rnn", length=9, hidden_size=4).run(
        task=lambda n: task.make(3, n, 0), progress=False
    )
    found.save("made")
    code, _, err = run("study", "--from", "made/study.json", capsys=capsys)
    assert code == 2
    assert "run it from Python" in err


def test_study_sets_arguments_of_rnn(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["study", "--cell", "lstm", "--length", "10", "--set", "forget_bias=null,3", *SIZES]
    out = run(*argv, "--no-plots", "--json", capsys=capsys)[1]
    assert [cell["cell"]["forget_bias"] for cell in strict(out)["cells"]] == ["default", 3]


@pytest.mark.parametrize("command", ["study", "probe"])
def test_help_teaches_and_lists_every_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = set(run(command, "--help", capsys=capsys)[1].replace(",", " ").split())
    assert set(vg.cells.names()) <= words
    assert set(_tasks.task_names()) <= words
    assert {"--cell", "--length", "--task"} <= words


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["probe", "--cell", "lstn"], 2, "did you mean 'lstm'"),
        (["probe", "--task", "addding"], 2, "did you mean 'adding'"),
        (["probe", "--cell", "lstm", "--depth", "3"], 2, "--depth: it is about networks without time"),
        (["probe", "--cell", "lstm", "--input", "random"], 2, "give --task instead"),
        (["probe", "--length", "0"], 2, "expected at least 1"),
        (["probe", "--length", "1"], 2, "task 'adding' needs at least 2 steps, got 1"),
        (["probe", "--task", "digits_rows", "--length", "9"], 2, "real data of 8 steps, got 9"),
        (["probe", "--cell", "rnn", "--set", "hiden_size=3"], 2, "did you mean 'hidden_size'"),
        (["probe", "--cell", "gru", "--activation", "relu", "--length", "9"], 2, "activation: expected None"),
        (["study", "--length", "10", "--depth", "3"], 2, "--depth: it is about networks without time"),
        (["study", "--batch", "4"], 2, "--batch: it is about the sequences of a task"),
        (["study", "--cell", "lstn", "--length", "9"], 2, "did you mean 'lstm'"),
        (["study", "--task", "copy_memory", "--length", "20", "-q", "--no-plots"], 2, "at least 21 steps"),
    ],
)
def test_errors_are_one_clear_line(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(*argv, capsys=capsys)
    assert (found, out) == (code, "")
    assert words in err
    assert err.strip().splitlines()[-1].startswith("vgcore")
    assert "Traceback" not in err
