"""Studies along time: cells and lengths as axes, tasks that make the data, tables and pictures."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import _tasks
from vgcore._study_axes import axis_names
from vgcore.study import Study, StudyResult


def small(**axes: Any) -> Study:
    given: dict[str, Any] = {"cell": ["rnn", "lstm"], "length": [12, 30], "hidden_size": 8}
    return Study(**(given | axes))


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return small(seeds=[0, 1]).run(task="adding", samples=5, progress=False)


def without_time(result: StudyResult) -> Any:
    cells = json.loads(result.to_json())["cells"]
    for cell in cells:
        cell["quantities"].pop("seconds")
        cell.pop("format", None)
    return cells


# --- the grid -----------------------------------------------------------------------------------------------


def test_every_cell_at_every_length(result: StudyResult) -> None:
    assert not result.errors
    cells = [entry["cell"] for entry in result.cells]
    assert [(c["cell"], c["length"], c["seed"]) for c in cells] == [
        (cell, length, seed) for cell in ("rnn", "lstm") for length in (12, 30) for seed in (0, 1)
    ]
    assert all((c["in_features"], c["out_features"], c["read"]) == (2, 1, "last") for c in cells)


def test_an_entry_is_what_one_probe_measures(result: StudyResult) -> None:
    entry = result.select(cell="lstm", length=30, seed=1)[0]
    net = vg.rnn("lstm", 8, in_features=2, out_features=1, rng=1)
    flow = net.probe(*vg.datasets.adding(5, 30, 0), loss="mse")
    assert entry["quantities"]["log10_grad_norm_first"] == flow.log10_grad_norm[0]
    assert entry["quantities"]["decades_per_step"] == flow.decades_per_step
    assert entry["quantities"]["half_life"] == flow.main.half_life
    assert entry["quantities"]["log10_cell_grad_norm_first"] == flow.log10_cell_grad_norm[0]
    assert entry["quantities"]["loss"] == flow.loss
    assert entry["curve"]["log10_grad_norm"] == flow.log10_grad_norm.tolist()
    assert entry["curve"]["log10_cell_grad_norm"] == flow.log10_cell_grad_norm.tolist()
    assert entry["verdict"] == flow.diagnose().verdict


def test_the_axes_are_the_arguments_of_rnn() -> None:
    names = axis_names("time")
    assert names[:3] == ["cell", "hidden_size", "length"]
    assert {"num_layers", "read", "bidirectional", "init", "forget_bias", "dtype"} <= set(names)
    assert "rng" not in names
    assert "length" not in axis_names()
    grid = Study(
        cell="lstm", length=20, num_layers=[1, 2], bidirectional=[False, True], forget_bias=[None, 3]
    )
    assert len(grid) == 8
    assert grid.axes["hidden_size"] == [64]
    found = grid.run(task="adding", samples=2, progress=False)
    assert not found.errors
    assert "num_layers" in found.summary().splitlines()[2]


def test_objects_run_and_come_back() -> None:
    grid = Study(
        cell=["lstm", vg.cells.lstm(peephole=True), vg.cells.rnn(activation="relu")],
        length=9,
        hidden_size=4,
        recurrent_init=[None, "orthogonal"],
    )
    again = Study.from_spec(json.loads(json.dumps(grid.to_spec())))
    assert again.axes == grid.axes
    found = grid.run(task="adding", samples=2, progress=False)
    assert not found.errors
    assert without_time(again.run(task="adding", samples=2, progress=False)) == without_time(found)
    assert "lstm(peephole=True)" in found.summary()
    gates = Study(cell="lstm", length=9, gate_bias=[None, vg.cells.forget_bias(2.0), vg.cells.chrono(50)])
    assert Study.from_spec(json.loads(json.dumps(gates.to_spec()))).axes == gates.axes
    assert not gates.run(task="adding", samples=2, progress=False).errors


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({"cell": "lstn", "length": 9}, vg.UnknownNameError, "did you mean 'lstm'"),
        ({"cell": "lstm", "lenght": 9}, vg.UnknownNameError, "did you mean 'length'"),
        ({"cell": "lstm", "length": 0}, vg.ArgumentError, "length: expected an integer of at least 1"),
        ({"cell": [], "length": 9}, vg.ArgumentError, "cell: .* empty axis"),
        ({"cell": ["lstm", "LSTM"], "length": 9}, vg.ArgumentError, "given twice"),
        ({"cell": "lstm", "depth": 9}, vg.ArgumentError, "num_layers= for stacked layers"),
        ({"length": 9}, vg.ArgumentError, "length: it needs cell="),
        ({"depth": 3, "length": 9}, vg.ArgumentError, "length: it needs cell="),
        ({"hidden_size": 9}, vg.ArgumentError, "hidden_size: it needs cell="),
    ],
)
def test_bad_axes_are_refused_before_anything_runs(axes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Study(**axes)


# --- data ---------------------------------------------------------------------------------------------------


def test_arrays_bring_their_own_length() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 15, 3)).astype(np.float32)
    found = Study(cell="gru", hidden_size=4).run(x, rng.integers(0, 5, 4), progress=False)
    cell = found.cells[0]["cell"]
    assert (cell["length"], cell["in_features"], cell["read"]) == (15, 3, "last")
    assert found.cells[0]["status"] == "ok"
    assert "length 15" in found.summary()
    every = Study(cell="gru", hidden_size=4).run(x, rng.integers(0, 5, (4, 15)), progress=False)
    assert every.cells[0]["cell"]["read"] == "every"
    values = Study(cell="gru", hidden_size=4).run(x, x[:, :, :2], loss="mse", progress=False)
    assert values.cells[0]["cell"]["out_features"] == 2
    assert not every.errors + values.errors
    with pytest.raises(vg.ArgumentError, match=r"x has 15 steps, got \[20\]"):
        Study(cell="gru", length=20).run(x, rng.integers(0, 5, 4), progress=False)


def test_bad_data_is_refused_before_anything_runs() -> None:
    x = np.ones((4, 15, 3), np.float32)
    grid = Study(cell="rnn", hidden_size=4)
    for bad_x, bad_y, error in [
        (x[:, :, 0], np.zeros(4, int), vg.ShapeError),
        (x, np.zeros(5, int), vg.ShapeError),
        (x, np.zeros((4, 15, 2), int), vg.ShapeError),
        (x * np.nan, np.zeros(4, int), vg.NonFiniteError),
        (x, np.zeros(4, int) - 1, vg.LabelError),
    ]:
        with pytest.raises(error):
            grid.run(bad_x, bad_y, progress=False)
    with pytest.raises(vg.ArgumentError, match="either x and y or task=, got neither"):
        small().run(progress=False)
    with pytest.raises(vg.ArgumentError, match="either x and y or task=, not both"):
        small().run(x, np.zeros(4, int), task="adding", progress=False)
    with pytest.raises(vg.UnknownNameError, match="did you mean 'adding'"):
        small().run(task="ading", progress=False)
    with pytest.raises(vg.ArgumentError, match=r"task: expected one of 'adding'.*or a function"):
        small().run(task=3, progress=False)  # type: ignore[arg-type]
    with pytest.raises(vg.ArgumentError, match="task: sequences are for recurrent networks"):
        Study(depth=3).run(task="adding", progress=False)
    with pytest.raises(vg.ArgumentError, match="with x and y, cut the arrays"):
        grid.run(x, np.zeros(4, int), samples=3, progress=False)


@pytest.mark.parametrize("name", ["adding", "copy_memory", "temporal_order", "text"])
def test_every_made_task_runs(name: str) -> None:
    found = Study(cell="rnn", length=[25, 30], hidden_size=4).run(task=name, samples=3, progress=False)
    assert not found.errors
    assert [entry["quantities"]["steps"] for entry in found.cells] == [25, 30]
    assert found.spec["data"]["task"] == name
    assert set(found.spec["data"]["sha256"]) == {"25", "30"}


def test_real_tasks_have_their_own_length() -> None:
    pytest.importorskip("sklearn")
    found = Study(cell="lstm", hidden_size=4).run(task="digits_rows", progress=False)
    assert found.cells[0]["cell"]["length"] == 8
    assert found.cells[0]["cell"]["out_features"] == 10
    with pytest.raises(vg.ArgumentError, match="real data of 8 steps, got 12; leave length out"):
        small().run(task="digits_rows", progress=False)
    with pytest.raises(vg.ArgumentError, match="samples: there are 1,797 of them, got 2,000"):
        Study(cell="lstm").run(task="digits_rows", samples=2000, progress=False)
    with pytest.raises(vg.ArgumentError, match="has any length; expected one or a list"):
        Study(cell="lstm").run(task="adding", progress=False)
    with pytest.raises(vg.ArgumentError, match="needs at least 21 steps, got 12"):
        small().run(task="copy_memory", progress=False)


def test_tasks_are_the_data_sets() -> None:
    assert set(_tasks.task_names()) < set(vg.datasets.__all__)
    task = _tasks.as_task("copy_memory")
    assert isinstance(task, _tasks.Task)
    x, y = task.make(3, 50, 1)
    again = vg.datasets.copy_memory(3, 30, 1)
    assert (x == again[0]).all()
    assert (y == again[1]).all()
    for name in ("adding", "copy_memory", "temporal_order", "text"):
        known = _tasks.as_task(name)
        assert isinstance(known, _tasks.Task)
        made = _tasks.sequences(*known.make(200, 60, 0))
        assert made.outputs <= known.outputs
        assert made.length == 60


def parity(length: int) -> tuple[Any, Any]:
    bits = np.random.default_rng(length).integers(0, 2, (6, length, 1))
    return bits.astype(np.float32), bits.sum(axis=(1, 2)) % 2


def test_a_function_of_the_length_is_a_task() -> None:
    found = small().run(task=parity, progress=False)
    assert not found.errors
    assert found.cells[0]["cell"]["out_features"] == 2
    assert found.spec["data"]["function"] == "parity"
    assert found.spec["loss"] == "cross_entropy"
    with pytest.raises(vg.ArgumentError, match="a function decides itself how many samples"):
        small().run(task=parity, samples=3, progress=False)
    with pytest.raises(vg.ShapeError, match="returned sequences of 13 steps"):
        small().run(task=lambda length: parity(length + 1), progress=False)
    with pytest.raises(vg.ArgumentError, match="takes a length and returns"):
        small().run(task=lambda: 3, progress=False)  # type: ignore[arg-type, misc]


# --- running ------------------------------------------------------------------------------------------------


def test_results_do_not_depend_on_the_executor_and_are_resumed(tmp_path: Path, result: StudyResult) -> None:
    grid = small(seeds=[0, 1])
    with ThreadPoolExecutor(3) as pool:
        other = grid.run(task="adding", samples=5, executor=pool, storage=tmp_path, progress=False)
    assert without_time(other) == without_time(result)
    assert grid.run(task="adding", samples=5, storage=tmp_path, progress=False).reused == 8
    assert grid.run(task="adding", samples=6, storage=tmp_path, progress=False).reused == 0
    assert grid.run(task="adding", samples=5, data_rng=1, storage=tmp_path, progress=False).reused == 0
    longer = small(length=[12, 30, 40], seeds=[0, 1])
    assert longer.run(task="adding", samples=5, storage=tmp_path, progress=False).reused == 8


def test_a_failing_cell_is_recorded_and_the_others_go_on() -> None:
    found = small(peephole=[None, True]).run(task="adding", samples=2, progress=False)
    assert len(found.errors) == 2  # an rnn has no peephole
    assert {error["cell"] for error in found.errors} == {"rnn"}
    assert "2 of 8 cells failed" in found.summary()


# --- results ------------------------------------------------------------------------------------------------


def test_summary_has_lengths_across_and_rates_per_step(result: StudyResult) -> None:
    lines = result.summary().splitlines()
    assert "first time step" in lines[0]
    assert lines[2].split()[0] == "cell"
    for word in ("length 12", "length 30", "decades/step", "half-life", "0 in float32"):
        assert word in lines[2]
    assert lines[4].startswith("rnn ")
    assert lines[5].startswith("lstm")
    assert "|dL/dc_t|" in lines[-1]
    assert "first time step" in result._repr_html_()


def test_half_lives_are_those_of_the_rates_beside_them() -> None:
    """Of an even number of seeds the median rate lies between two, where the half-lives' is another."""
    found = small(length=60, seeds=[0, 1, 2, 3]).run(task="adding", samples=4, progress=False)
    head, *rows = (line.split() for line in found.summary().splitlines()[2:5] if not line.startswith("-"))
    assert head[0] == "cell"
    for row in rows:
        at = row.index("steps")
        rate, half = float(row[at - 2]), float(row[at - 1])
        assert half == pytest.approx(-math.log10(2.0) / rate, rel=6e-3)
    entries = [e["quantities"] for e in found.cells if e["cell"]["cell"] == "rnn"]
    own, typical = (sorted(e[name] for e in entries) for name in ("half_life", "decades_per_step"))
    assert (own[1] + own[2]) / 2 > -math.log10(2.0) / ((typical[1] + typical[2]) / 2)


def test_table_files_and_curves(tmp_path: Path, result: StudyResult) -> None:
    assert {"cell", "length", "hidden_size"} <= set(result.table)
    assert {"half_life", "log10_state_grad_norm", "log10_cell_grad_norm_first"} <= set(
        result.table["quantity"]
    )
    result.save(tmp_path)
    again = StudyResult.load(tmp_path)
    assert without_time(again) == without_time(result)
    assert again.summary() == result.summary()
    plain, gated = result.curves[0], result.curves[-1]
    assert "log10_cell_grad_norm" not in plain
    assert gated["log10_cell_grad_norm"].shape == gated["step"].shape == (30,)
    assert math.isfinite(gated["log10_grad_norm"][0])


@pytest.mark.parametrize("kind", ["curves", "heatmap", "rate"])
def test_pictures(result: StudyResult, kind: str) -> None:
    pytest.importorskip("matplotlib")
    ax = result.plot(kind)
    ax.figure.canvas.draw()
    assert "layer" not in ax.get_title() + ax.get_xlabel() + ax.get_ylabel()
    if kind == "curves":
        assert {line.get_label() for line in ax.lines} >= {"rnn", "lstm"}
        assert "length 30" in ax.get_title()
        assert ax.get_xlabel().startswith("time step")
        assert len(result.plot(kind, length=12, cell="lstm", seed=[0, 1]).lines) == 2
    elif kind == "rate":
        assert "length" in ax.get_xlabel()
    else:
        assert [text.get_text() for text in ax.get_xticklabels()] == ["length 12", "length 30"]
        assert [text.get_text() for text in ax.get_yticklabels()] == ["rnn", "lstm"]
