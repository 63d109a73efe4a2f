"""The command line: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import cli
from vgcore.flow import GradientFlow

PROBE = ["probe", "--depth", "6", "--width", "8", "--input", "random", "--batch", "16"]
STUDY = ["study", "--depth", "3,6", "--width", "8", "--activation", "tanh,relu", "--init", "he_normal", "-q"]


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*argv: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# --- probe --------------------------------------------------------------------------------------------------


def test_probe_prints_a_diagnosis(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(*PROBE, "--activation", "sigmoid", capsys=capsys)
    assert (code, err) == (0, "")
    assert "6 layers of 8 units" in out
    assert "verdict:" in out
    assert "signs" in out


def test_probe_json_is_the_same_network(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(*PROBE, "--activation", "tanh", "--seed", "3", "--json", capsys=capsys)
    found = strict(out)
    again = strict(run(*PROBE, "--activation", "tanh", "--seed", "3", "--json", capsys=capsys)[1])
    assert found == again
    assert found["diagnosis"]["verdict"] in ("stable", "vanishing", "exploding", "saturated", "mixed", "dead")
    assert len(found["log10_grad_norm"]) == found["steps"]
    assert found["batch"] == 16


def test_probe_on_the_digits(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    code, out, _ = run("probe", "--depth", "4", "--batch", "100", "--lr", "0.1", capsys=capsys)
    assert code == 0
    assert "100 samples" in out
    assert "unchanged to the bit" in out
    code, _, err = run("probe", "--depth", "4", "--batch", "5000", capsys=capsys)
    assert code == 2
    assert "1,797 images" in err


def test_probe_keeps_picture_and_flow(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    code, out, _ = run(*PROBE, "--plot", "p.svg", "--save", "f.npz", capsys=capsys)
    assert code == 0
    assert "written: f.npz, p.svg" in out
    assert Path("p.svg").read_text().startswith("<?xml")
    assert GradientFlow.load("f.npz").batch == 16


def test_probe_takes_any_constructor_argument(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(*PROBE, "--set", "skip=residual", "--set", "bias=false", "--json", capsys=capsys)
    assert code == 0
    plain = strict(run(*PROBE, "--json", capsys=capsys)[1])
    assert strict(out)["num_parameters"] < plain["num_parameters"]


def test_probe_says_what_it_made(capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--activation", "leaky_relu:0.2", "--set", "skip=residual", "--set", "norm=group:4", "--quiet"]
    code, out, _ = run(*PROBE, *more, capsys=capsys)
    assert code == 0
    assert out.startswith(
        "leaky_relu(negative_slope=0.2) network, 6 layers of 8 units, skip residual, norm group(groups=4), "
    )


def test_probe_gives_activations_and_initializers_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*PROBE, "--activation", "leaky_relu:0.2", "--init", "normal:std=0.1", "--json"]
    found = strict(run(*argv, capsys=capsys)[1])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 64), dtype=np.float32), rng.integers(0, 10, 16)
    steep, narrow = vg.Activation("leaky_relu", negative_slope=0.2), vg.initializers.normal(std=0.1)
    net = vg.mlp(6, 8, in_features=64, out_features=10, activation=steep, init=narrow, rng=0)
    flow = net.probe(x, y, loss="cross_entropy")
    assert found["log10_grad_norm"] == flow.log10_grad_norm.tolist()


def test_findings_are_printed_before_files_are_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, path: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(GradientFlow, "save", full)
    code, out, err = run(*PROBE, "--save", "f.npz", capsys=capsys)
    assert code == 1
    assert "verdict:" in out
    assert "written" not in out
    assert err == "vgcore probe: error: No space left on device\n"


# --- study --------------------------------------------------------------------------------------------------


def test_study_writes_table_pictures_and_itself(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    code, out, err = run(*STUDY, "--out", "here", capsys=capsys)
    assert (code, err) == (0, "")
    assert "depth 3" in out
    assert "Results in here" in out
    names = {path.name for path in Path("here").iterdir()}
    assert {
        "table.csv",
        "summary.txt",
        "study.json",
        "cells.jsonl",
        "heatmap.png",
        "heatmap.svg",
        "rate.png",
    } <= names
    assert {"curves-3.png", "curves-6.svg"} <= names
    assert Path("here/summary.txt").read_text().strip() in out
    code, out, _ = run(*STUDY, "--out", "here", "--no-plots", capsys=capsys)
    assert "4 networks" in out
    assert "4 of them already there" in out
    code, out, _ = run(*STUDY, "--out", "here", "--no-plots", "--fresh", capsys=capsys)
    assert "already there" not in out


def test_study_from_a_file_gives_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    first = strict(run(*STUDY, "--out", "one", "--no-plots", "--json", capsys=capsys)[1])
    argv = ["study", "--from", "one/study.json", "--out", "two", "--no-plots", "--json"]
    second = strict(run(*argv, capsys=capsys)[1])
    curves = [[cell["curve"] for cell in found["cells"]] for found in (first, second)]
    assert curves[0] == curves[1]
    code, _, err = run(*argv, "--depth", "3", capsys=capsys)
    assert code == 2
    assert "--from describes the whole study" in err


def test_study_takes_parameters_and_other_starts(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    short = ["study", "--depth", "3", "--width", "8", "--no-plots", "--json", "--out"]
    argv = [*short, "a", "--activation", "tanh,leaky_relu:0.2", "--init", "none,normal:std=0.1"]
    code, out, _ = run(*argv, capsys=capsys)
    assert code == 0
    cells = [cell["cell"] for cell in strict(out)["cells"]]
    assert [cell["activation"] for cell in cells[::2]] == ["tanh", "leaky_relu(negative_slope=0.2)"]
    assert [cell["init"] for cell in cells[:2]] == ["default", "normal(std=0.1)"]
    code, out, _ = run(*short, "b", "--activation", "tanh", "--set", "sigma_w2=1.5,2", capsys=capsys)
    assert code == 0
    found = strict(out)["cells"]
    assert [cell["cell"]["sigma_w2"] for cell in found] == [1.5, 2]
    assert "init" not in found[0]["cell"]
    code, _, err = run(*short, "c", "--set", "sigma_w2=1.5", "--init", "zeros", capsys=capsys)
    assert code == 2
    assert "sigma_w2 and init both say how the weights start: give one of them" in err


def test_study_of_other_data_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    run(*STUDY, "--out", "one", "--no-plots", capsys=capsys)
    spec = json.loads(Path("one/study.json").read_text())
    spec["data"]["sha256"] = "0" * 64
    Path("other.json").write_text(json.dumps(spec))
    code, _, err = run("study", "--from", "other.json", capsys=capsys)
    assert code == 2
    assert "other data than the digits" in err


def test_a_failed_cell_makes_the_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    code, out, _ = run(*STUDY, "--set", "skip=null,long:5", "--no-plots", capsys=capsys)
    assert code == 1
    assert "2 of 8 cells failed" in out


# --- info and help ------------------------------------------------------------------------------------------


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("info", "--seconds", "0.02", capsys=capsys)
    assert code == 0
    assert "GFLOP/s" in out
    found = strict(run("info", "--seconds", "0", "--json", capsys=capsys)[1])
    assert found["version"] == vg.config()["version"]
    assert found["peak_gflops"] == {}


@pytest.mark.parametrize("command", ["study", "probe"])
def test_help_teaches_and_lists_every_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(command, "--help", capsys=capsys)
    assert code == 0
    words = set(out.replace(",", " ").split())
    assert set(vg.activations.names()) <= words
    assert set(vg.initializers.names()) <= words
    assert "examples:" in out
    assert "exit codes:" in out
    assert "130" in out


def test_version_and_bare_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version", capsys=capsys)[1].startswith("vgcore ")
    code, _, err = run(capsys=capsys)
    assert code == 2
    assert "command" in err


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["probe", "--activation", "tahn", "--input", "random"], 2, "did you mean 'tanh'"),
        (["probe", "--init", "he_norml", "--input", "random"], 2, "did you mean 'he_normal'"),
        (["probe", "--depth", "0"], 2, "expected at least 1"),
        (["probe", "--depth", "x"], 2, "expected a whole number"),
        (["probe", "--lr", "-1"], 2, "above 0"),
        (["probe", "--set", "skip"], 2, "NAME=VALUE"),
        (["probe", "--set", "skp=residual", "--input", "random"], 2, "did you mean 'skip'"),
        (["probe", "--set", "bias=true,false", "--input", "random"], 2, "expected one value"),
        (
            ["probe", "--set", "depth=20", "--input", "random"],
            2,
            "--set depth: it has an option of its own; ",
        ),
        (["probe", "--set", "width=3,4", "--input", "random"], 2, "give --width instead"),
        (["probe", "--cell", "gru", "--set", "hidden_size=3"], 2, "give --width instead"),
        (["doctor", "--set", "activation=tanh", "--input", "random"], 2, "give --activation instead"),
        (["study", "--set", "init=zeros"], 2, "give --init instead"),
        (["probe", "--set", "skip=unet", "--set", "skip=dense"], 2, "--set skip: given twice; leave one"),
        (["study", "--set", "skip=unet", "--set", "skip=dense"], 2, "--set skip: given twice; leave one"),
        (["probe", "--input", "random", "--set", "out_features=3"], 2, "labels"),
        (["study", "--set", "dtype=float16"], 2, "dtype: expected float32 or float64, got float16"),
        (["probe", "--widht", "5"], 2, "probe: error: unknown option '--widht'; did you mean '--width'?"),
        (["study", "--dephts=5"], 2, "unknown option '--dephts=5'; did you mean '--depth'?"),
        (["doctor", "--zzz"], 2, "unknown option '--zzz' (see vgcore doctor --help)"),
        (["probe", "12"], 2, "unexpected argument '12'; every value follows an option"),
        (["probe", "--activation", "leaky_rel:0.2", "--input", "random"], 2, "did you mean 'leaky_relu'?"),
        (
            ["probe", "--activation", "relu:0.2", "--input", "random"],
            2,
            "relu has 0 parameters; got 1 values",
        ),
        (
            ["probe", "--init", "normal:sd=1", "--input", "random"],
            2,
            "no parameter 'sd'; did you mean 'std'?",
        ),
        (["probe", "--save", "flow.pkl", "--input", "random"], 2, ".npz or .json"),
        (["probe", "--plot", "flow.xyz", "--input", "random"], 2, ".png, .svg or .pdf"),
        (["probe", "--input", "random", "--plot", "no/such/dir/p.png"], 1, "No such file"),
        (["probe", "--input", "random", "--save", "no/such/dir/f.npz"], 1, "'no/such/dir'; make it first"),
        (["doctor", "--input", "random", "--plot", "no/p.png"], 1, "--plot: No such file or directory: 'no'"),
        (["study", "--depth", "10,,20"], 2, "separated by commas"),
        (["study", "--activation", "tahn"], 2, "did you mean 'tanh'"),
        (["study", "--from", "absent.json"], 1, "No such file"),
        (["study", "--set", "depht=3"], 2, "did you mean 'depth'"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_errors_are_one_clear_line(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(*argv, capsys=capsys)
    assert found == code
    assert out == ""
    assert words in err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("vgcore")
    assert "error:" in last


def test_missing_scikit_learn_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = run("probe", "--depth", "3", capsys=capsys)
    assert code == 1
    assert 'pip install "vgcore[study]"' in err


def test_interrupt_returns_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from vgcore import _cli_commands

    def stop(args: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(_cli_commands, "info", stop)
    assert run("info", capsys=capsys)[0] == 130


def test_a_mistake_of_our_own_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vgcore import _cli_commands

    monkeypatch.setattr(_cli_commands, "info", lambda args: [][0])
    code, _, err = run("info", capsys=capsys)
    assert code == 1
    assert err.startswith("vgcore info: error: internal error, IndexError")
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("VGCORE_TRACEBACK", "1")
    with pytest.raises(IndexError):
        cli.main(["info"])


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_stops_a_long_probe_at_once() -> None:
    shape = ["--depth", "100000", "--width", "32", "--input", "random", "--batch", "4000"]
    argv = [sys.executable, "-m", "vgcore", "probe", *shape]
    process = subprocess.Popen(
        argv,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell's background job begins with SIGINT ignored, and its children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(3.0)
    if process.poll() is not None:
        pytest.skip("the probe was over before it could be stopped")
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert time.perf_counter() - start < 2.0


def test_a_closed_pipe_is_no_error() -> None:
    command = f'"{sys.executable}" -m vgcore study --help | head -n 1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage:")
    assert done.stderr == ""


def test_json_has_nothing_else_on_standard_output() -> None:
    argv = [sys.executable, "-m", "vgcore", *PROBE, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    strict(done.stdout)
    assert len(done.stdout.splitlines()) == 1
