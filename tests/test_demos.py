"""Tests of the demonstrations: the script runs, says what it measured, and asks for what was promised."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import vgcore as vg

SCRIPT = Path(__file__).resolve().parent.parent / "demos" / "training.py"

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_training", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_what_was_promised_is_there(script: ModuleType) -> None:
    demos = {demo.name: demo for demo in script.DEMOS}
    assert len(demos) == len(script.DEMOS)
    steps = {
        name: demo.build(0, False).num_steps - 2 for name, demo in demos.items() if demo.data == "digits"
    }
    assert steps == {
        "sigmoid-50": 50,
        "relu-20": 20,
        "rezero-1000": 1000,
        "pre-norm-500": 500,
        "highway-100": 100,
        "batch-norm-20": 20,
        "batch-norm-100": 100,
        "orthogonal-200": 200,
        "sigmoid-8": 8,
        "pretrained-8": 8,
    }
    assert {name for name, demo in demos.items() if demo.expect == "fails"} == {
        *("sigmoid-50", "sigmoid-8", "tanh-rnn"),
    }
    adding = [demo for demo in demos.values() if demo.data == "adding"]
    assert len({demo.epochs for demo in adding}) == 1, "one budget for all that are compared"
    x, y = script.adding(False).test
    assert x.shape == (2000, 200, 2)
    assert float(np.mean((y - 1.0) ** 2)) == pytest.approx(script.GUESS, rel=0.1)


def test_what_decides_when_to_stop_is_not_what_is_told(script: ModuleType) -> None:
    data = script.digits(False)
    rows = [{row.tobytes() for row in part[0]} for part in (data.train, data.stop, data.test)]
    assert sum(len(part[0]) for part in (data.train, data.stop, data.test)) == 1797
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]
    assert len(data.test[0]) == 360


@pytest.mark.parametrize("names", ["relu-20,sigmoid-50", "pretrained-8", "gru", "pixels"])
def test_a_quick_run_writes_curves_table_and_figures(names: str, script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--quick", "--only", names, "--out", str(tmp_path)]) == 0
    results: list[dict[str, Any]] = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert sorted(r["name"] for r in results) == sorted(names.split(","))
    for result in results:
        assert (tmp_path / f"{result['name']}.png").stat().st_size > 10_000
        assert result["seed"] == 0
        assert result["epochs"] == 2 == len(result["validation"])
        assert result["steps"] >= len(result["loss"]) > 0
        assert np.isfinite(result["test"])
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text.count("\n") == 2 + len(results)


def test_the_figure_told_is_that_of_the_network_on_the_test_set(script: ModuleType, tmp_path: Path) -> None:
    demo, data = next(d for d in script.DEMOS if d.name == "relu-20"), script.digits(True)
    first = script.run(demo, data, False, tmp_path)
    net = demo.build(script.SEED, False)
    net.fit(*data.train, epochs=first["epochs"], rng=script.SEED, **demo.fit)
    x, y = data.test
    assert first["test"] == float((net.forward(x).argmax(axis=1) == y).mean())
    assert first["reached"]
    assert first["as_expected"]
    assert first["stopped"].startswith("learned")


def test_unknown_names_are_refused(script: ModuleType, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        script.main(["--only", "relu-21"])
    assert "no demonstration named relu-21" in capsys.readouterr().err


def test_a_failure_to_fail_is_not_as_expected(script: ModuleType) -> None:
    demo = script.DEMOS[0]
    assert script.reached(demo, 0.95)
    assert not script.reached(demo, 0.1)
    lstm = next(d for d in script.DEMOS if d.name == "lstm")
    assert script.reached(lstm, 0.009)
    assert not script.reached(lstm, 1 / 6)
    assert isinstance(lstm.fit["clip"], type(vg.ClipNorm(1.0)))
