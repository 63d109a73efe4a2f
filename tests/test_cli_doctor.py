"""Tests of ``vgcore doctor`` and of cures as an axis of studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import vgcore as vg
from vgcore.cli import build_parser, main

SMALL = ["doctor", "--input", "random", "--batch", "64", "--width", "8", "--steps", "4", "--quiet"]


def test_it_prints_the_illness_and_the_ranking(capsys: pytest.CaptureFixture[str]) -> None:
    sick = ["--depth", "40", "--activation", "sigmoid"]
    assert main([*SMALL, *sick, "--cures", "activation:tanh,rezero,activation:tanh+rezero,lstm"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("sigmoid network, 40 layers of 8 units")
    assert "illness: vanishing: saturating activation" in out
    for name in ("none", "activation:tanh", "rezero", "activation:tanh+rezero"):
        assert f" {name} " in out
    assert "Not tried, because they do not apply: 1" in out
    assert max(map(len, out.splitlines())) <= 130


def test_json_is_one_strict_object(capsys: pytest.CaptureFixture[str]) -> None:
    sick = ["--depth", "40", "--activation", "sigmoid", "--cures", "rezero", "--json"]
    assert main([*SMALL, *sick]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda text: pytest.fail(text))
    assert found["illness"] == "vanishing: saturating activation"
    assert [trial["cures"] for trial in found["trials"]] == ["none", "rezero"]
    assert found["trials"][1]["code"] == "net.mitigate('rezero')"


def test_along_time(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["doctor", "--cell", "lstm", "--set", "forget_bias=-3", "--length", "30", "--batch", "16"]
    options += ["--width", "8", "--steps", "3", "--cures", "forget_bias:3,gru", "--no-pairs", "--quiet"]
    assert main(options) == 0
    out = capsys.readouterr().out
    assert "illness: vanishing: closed gate" in out
    assert "decades/time step" in out


def test_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "doctor.png"
    sick = ["--depth", "20", "--activation", "sigmoid", "--cures", "rezero", "--plot", str(file)]
    assert main([*SMALL, *sick]) == 0
    assert file.stat().st_size > 1000
    assert f"written: {file}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cures", "residul"], "unknown mitigation 'residul'; did you mean 'residual'?"),
        (["--cures", "long_skip:x"], "'long_skip': every: expected an integer"),
        (["--budget", "soon"], 'budget: expected a time such as "30s"'),
        (["--set", "mitigation=residual,rezero"], "--set mitigation: expected one value, got 2"),
        (["--plot", "x.xyz"], "expected a file that ends in .png"),
        (["--cell", "lstm", "--depth", "5"], "--depth: it is about networks without time"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    without = [o for o in SMALL if o not in ("--input", "random")] if "--cell" in options else SMALL
    assert main([*without, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vgcore doctor: error: ")
    assert says in err
    assert err.count("\n") == 1


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    out = capsys.readouterr().out
    for name in vg.mitigations.names():
        assert name in out.replace("\n", " "), name
    assert "how to read the ranking" in out
    assert "examples:" in out


# --- studies ------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 16)


def test_cures_are_an_axis(tmp_path: Path) -> None:
    cures = ["none", "rezero", ["activation:relu", "residual"], vg.mitigations.long_skip(5)]
    study = vg.Study(depth=20, width=8, activation="sigmoid", mitigation=cures)
    assert study.axes["mitigation"] == ["none", "rezero", "activation:relu+residual", "long_skip:5"]
    result = study.run(X, Y, progress=False)
    assert not result.errors
    rates = {e["cell"]["mitigation"]: e["quantities"]["decades_per_step"] for e in result.cells}
    assert rates["none"] < -0.5
    assert abs(rates["rezero"]) < 1e-6
    assert rates["activation:relu+residual"] > 0.05
    again = vg.Study.from_spec(json.loads(json.dumps(study.to_spec())))
    assert again.axes == study.axes
    assert "activation:relu+residual" in result.summary()
    untouched = next(e for e in result.cells if e["cell"]["mitigation"] == "none")
    plain = vg.Study(depth=20, width=8, activation="sigmoid").run(X, Y, progress=False).cells[0]
    assert untouched["quantities"]["log10_grad_norm_first"] == plain["quantities"]["log10_grad_norm_first"]


def test_cures_are_an_axis_along_time() -> None:
    study = vg.Study(cell="rnn", hidden_size=8, length=[10, 20], mitigation=["none", "lstm+chrono"])
    result = study.run(task="adding", samples=4, progress=False)
    assert not result.errors
    assert len(result.cells) == 4


def test_a_misspelt_cure_and_a_pair_that_does_not_fit_are_refused_before_the_run() -> None:
    with pytest.raises(vg.UnknownNameError, match="did you mean 'residual'"):
        vg.Study(depth=5, mitigation="residul")
    with pytest.raises(vg.ArgumentError, match="do not go together"):
        vg.Study(depth=5, mitigation=[["residual", "rezero"]])
    with pytest.raises(vg.ArgumentError, match="given twice"):
        vg.Study(depth=5, mitigation=["residual", vg.mitigations.residual()])


def test_the_changelog_names_every_command() -> None:
    text = (Path(__file__).resolve().parent.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    (commands,) = (action for action in build_parser()._actions if action.dest == "command")
    assert commands.choices
    assert [name for name in commands.choices if f"`vgcore {name}`" not in text] == []
