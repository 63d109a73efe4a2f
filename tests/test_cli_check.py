"""Tests of ``vgcore check``, ``vgcore describe``, of ``--cures`` and of what ``vgcore info`` measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import cli
from vgcore._speed import step_speed


def run(*argv: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# --- check --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_activations_are_right(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("check", "--activations", "all", "--dtype", dtype, capsys=capsys)
    assert (code, err) == (0, "")
    for name in vg.activations.names():
        assert f"activation {name} " in out
    assert f"{len(vg.activations.names())} checked against differences in {dtype}, none wrong" in out


def test_without_options_activations_and_cells_are_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vg.activations, "names", lambda: ["tanh"])
    monkeypatch.setattr(vg.cells, "names", lambda: ["rnn", "lru"])
    from vgcore._cli_check import check

    args = cli.build_parser().parse_args(["check", "--json"])
    assert check(args) == 0
    found = strict(capsys.readouterr().out)
    assert [row["what"] for row in found["checks"]] == ["activation tanh", "cell rnn", "cell lru"]
    assert found["passed"] is True
    for row in found["checks"]:
        assert row["largest_relative_error"] <= row["tolerance"]
        assert row["resolved"] > 0.5 * row["entries"]


def test_a_network_is_checked_by_the_options_of_probe(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["check", "--depth", "3", "--width", "4", "--input", "random"]
    code, out, _ = run(*shape, "--cures", "pre_activation+layer_norm", capsys=capsys)
    assert code == 0
    assert "network of 3 layers" in out
    assert "1 checked against differences in float64, none wrong" in out
    code, out, _ = run(
        "check", "--cell", "gru", "--width", "3", "--length", "5", "--set", "num_layers=2", capsys=capsys
    )
    assert code == 0
    assert "network of 5 time steps" in out


def test_a_wrong_gradient_is_exit_code_1_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = vg.activations.derivative
    monkeypatch.setattr(vg.activations, "derivative", lambda name, x: 1.01 * right(name, x))
    code, out, _ = run("check", "--activations", "tanh", capsys=capsys)
    assert code == 1
    assert "activation tanh" in out
    assert "relative error 0.01" in out
    assert "1 wrong" in out
    code, out, _ = run("check", "--activations", "tanh", "--json", capsys=capsys)
    assert code == 1
    found = strict(out)
    assert found["passed"] is False
    assert "derivative at x" in found["checks"][0]["error"]


def test_a_network_without_a_gradient_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        "check", "--depth", "2", "--width", "4", "--input", "random", "--init", "zeros",
        "--set", "bias=false", capsys=capsys,
    )  # fmt: skip
    assert code == 1
    assert "the incoming gradient is exactly zero, so nothing below it can be checked" in out


# --- describe -----------------------------------------------------------------------------------------------


def test_every_entry_of_every_catalogue_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    listed = strict(run("describe", "--json", capsys=capsys)[1])
    assert listed["cure"] == vg.mitigations.names()
    assert listed["activation"] == vg.activations.names()
    for kind, names in listed.items():
        for name in names:
            code, out, _ = run("describe", name, capsys=capsys)
            assert code == 0
            assert f"{kind} {name}(" in out, (kind, name)


def test_a_name_of_several_things_shows_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    out = run("describe", "orthogonal", capsys=capsys)[1]
    assert [line.split("(")[0] for line in out.splitlines() if line and line[0] != " "] == [
        "initializer orthogonal", "cell orthogonal_rnn", "constraint orthogonal", "cure orthogonal",
    ]  # fmt: skip
    found = strict(run("describe", "rezero", "--json", capsys=capsys)[1])["entries"]
    assert [(entry["kind"], entry["name"]) for entry in found] == [("cure", "rezero")]
    assert "learned number a that starts at 0" in found[0]["about"]["changes"]


def test_a_misspelt_name_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("describe", "rezro", capsys=capsys)
    assert (code, out) == (2, "")
    assert "unknown name 'rezro'; did you mean 'rezero'? vgcore describe lists all of them" in err


# --- cures --------------------------------------------------------------------------------------------------


def test_probe_takes_cures(capsys: pytest.CaptureFixture[str]) -> None:
    sick = ["probe", "--depth", "30", "--width", "8", "--activation", "sigmoid", "--input", "random"]
    plain = strict(run(*sick, "--json", capsys=capsys)[1])
    cured = strict(run(*sick, "--cures", "activation:tanh+rezero", "--json", capsys=capsys)[1])
    assert plain["diagnosis"]["verdict"] == "vanishing"
    assert cured["diagnosis"]["verdict"] == "stable"
    assert "(mitigation)" in " ".join(run("probe", "--help", capsys=capsys)[1].split())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cures", "residul"], "did you mean 'residual'"),
        (["--cures", "residual,rezero"], 'joined by "+"'),
        (
            ["--set", "mitigation=rezero"],
            "--set mitigation: it has an option of its own; give --cures instead",
        ),
    ],
)
def test_cures_that_make_no_sense(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("probe", "--input", "random", *options, capsys=capsys)
    assert (code, out) == (2, "")
    assert says in err


def test_study_takes_cures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(
        "study", "--depth", "12", "--width", "8", "--activation", "sigmoid", "--init", "glorot_normal",
        "--cures", "none,activation:tanh+rezero", "--no-plots", "-q", "--json", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    cells = strict(out)["cells"]
    assert [cell["cell"]["mitigation"] for cell in cells] == ["none", "activation:tanh+rezero"]


def test_the_doctor_says_why_what_was_asked_for_does_not_apply(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        "doctor", "--input", "random", "--batch", "64", "--width", "8", "--steps", "2", "--depth", "10",
        "--cures", "residual+highway,lstm", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    said = " ".join(out.split())
    assert "Not tried, because they do not apply: 2." in said
    assert "residual+highway: residual() and highway() do not go together: a network has one shape" in said
    assert "lstm: lstm() does not apply to this network: it has no recurrent layer" in said


# --- info ---------------------------------------------------------------------------------------------------


def test_info_tells_what_a_training_step_reaches(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("info", "--seconds", "0.02", capsys=capsys)
    assert code == 0
    assert out.count("of the peak: SGD, 100 relu layers of 256 units, batch 128") == 2
    found = strict(run("info", "--seconds", "0.02", "--json", capsys=capsys)[1])
    for dtype in ("float32", "float64"):
        reached = found["training_step"][dtype]
        assert reached["share_of_peak"] == pytest.approx(reached["gflops"] / found["peak_gflops"][dtype])
        assert reached["share_of_peak"] > 0  # no more: other programs may have the machine
    assert strict(run("info", "--seconds", "0", "--json", capsys=capsys)[1])["training_step"] == {}


def test_the_speed_counts_the_products_of_a_step() -> None:
    speed = step_speed("float32", 0.001)
    operations = 1e9 * speed.gflops * speed.seconds
    hidden, last = 100 * 256 * 256, 256 * 10
    # Forward and weight gradients everywhere; the gradient of the input everywhere but in the first layer.
    expected = 2 * 128 * (3 * (hidden + 256 * 256 + last) - 256 * 256)
    assert np.isclose(operations, expected)
