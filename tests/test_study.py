"""Studies: grids, seeds, resuming, failures, tables, files and pictures."""

from __future__ import annotations

import csv
import json
import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import _progress, study
from vgcore._study_cells import Store, digest
from vgcore.study import Study, StudyResult


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(24, 12)).astype(np.float32), rng.integers(0, 3, 24)


def small(**axes: Any) -> Study:
    given: dict[str, Any] = {
        "depth": [3, 6],
        "width": 8,
        "activation": ["tanh", "sigmoid"],
        "init": "glorot_normal",
    }
    return Study(**(given | axes))


@pytest.fixture(scope="module")
def result(data: tuple[Any, Any]) -> StudyResult:
    return small(init=["glorot_normal", "orthogonal"], seeds=[0, 1]).run(*data, progress=False)


def without_time(result: StudyResult) -> Any:
    cells = json.loads(result.to_json())["cells"]
    for cell in cells:
        cell["quantities"].pop("seconds")
        cell.pop("format", None)
    return cells


# --- the grid -----------------------------------------------------------------------------------------------


def test_every_combination_in_the_order_given(result: StudyResult) -> None:
    assert len(result) == 16
    cells = [entry["cell"] for entry in result.cells]
    assert [cell["depth"] for cell in cells] == [3] * 8 + [6] * 8
    assert [cell["seed"] for cell in cells[:4]] == [0, 1, 0, 1]
    assert all(cell["in_features"] == 12 and cell["out_features"] == 3 for cell in cells)


def test_a_cell_is_what_one_probe_measures(result: StudyResult, data: tuple[Any, Any]) -> None:
    entry = result.select(depth=6, activation="tanh", init="orthogonal", seed=1)[0]
    net = vg.mlp(6, 8, in_features=12, out_features=3, activation="tanh", init="orthogonal", rng=1)
    flow = net.probe(*data, loss="cross_entropy")
    assert entry["quantities"]["log10_grad_norm_first"] == flow.log10_grad_norm[0]
    assert entry["quantities"]["decades_per_step"] == flow.decades_per_step
    assert entry["curve"]["log10_grad_norm"] == flow.log10_grad_norm.tolist()
    assert entry["verdict"] == flow.diagnose().verdict


def test_any_constructor_argument_is_an_axis(data: tuple[Any, Any]) -> None:
    grid = Study(depth=4, width=[8, 16], bias=[True, False], activation="tanh", dtype=["float32", "float64"])
    assert len(grid) == 8
    found = grid.run(*data, progress=False)
    assert not found.errors
    assert {"width", "bias", "dtype"} <= set(found.table)
    assert "width" in found.summary().splitlines()[2]


def test_sequences_of_every_kind_are_axes() -> None:
    assert Study(depth=range(1, 4)).axes["depth"] == [1, 2, 3]
    assert Study(depth=np.array([4, 5])).axes["depth"] == [4, 5]
    assert Study(depth=(7,)).axes["depth"] == [7]
    assert Study(depth=7).axes["width"] == [64]


def test_names_become_canonical_and_objects_are_kept() -> None:
    grid = Study(
        depth=2, init=["xavier_normal", vg.initializers.normal(std=0.1)], activation=vg.Activation("relu")
    )
    assert grid.axes["init"][0] == "glorot_normal"
    assert grid.axes["activation"] == ["relu"]
    again = Study.from_spec(json.loads(json.dumps(grid.to_spec())))
    assert again.axes == grid.axes


def test_objects_with_parameters_run_and_come_back(data: tuple[Any, Any]) -> None:
    steep = vg.Activation("leaky_relu", negative_slope=0.2)
    weights = np.eye(8, dtype=np.float32)
    grid = Study(
        depth=3, width=8, activation=["relu", steep], init=[None, vg.initializers.normal(std=0.1), weights]
    )
    found = grid.run(*data, progress=False)
    assert not found.errors
    assert (
        Study.from_spec(json.loads(json.dumps(grid.to_spec())))
        .run(*data, progress=False)
        .curves[5]["log10_grad_norm"]
        .tolist()
        == found.curves[5]["log10_grad_norm"].tolist()
    )
    assert "leaky_relu(negative_slope=0.2)" in found.summary()
    assert "array(8, 8)" in found.summary()


def test_normalisations_are_values_and_come_back(data: tuple[Any, Any]) -> None:
    norms = [None, "batch", "group:4", vg.BatchNorm(momentum=None, online=True), vg.LayerNorm(eps=0.1)]
    grid = Study(depth=3, width=8, norm=norms)
    assert grid.axes["norm"][2] == vg.GroupNorm(4)
    spec = json.loads(json.dumps(grid.to_spec()))
    assert spec["axes"]["norm"][2:4] == [
        {"name": "group", "params": {"groups": 4}},
        {"name": "batch", "params": {"momentum": None, "online": True}},
    ]
    assert Study.from_spec(spec).axes == grid.axes
    found = grid.run(*data, progress=False)
    assert not found.errors
    assert [entry["cell"]["norm"] for entry in found.cells] == [
        "default", "batch", "group(groups=4)", "batch(momentum=None, online=True)", "layer(eps=0.1)",
    ]  # fmt: skip
    assert StudyResult(found.spec, found.cells).axes["norm"][2] == "group(groups=4)"
    with pytest.raises(vg.ArgumentError, match="given twice"):
        Study(depth=3, norm=["layer", vg.LayerNorm(name="mine")])


def test_names_with_parameters_may_be_text() -> None:
    grid = Study(depth=3, activation=["leaky_relu:0.2", "elu:alpha=0.5"], init="normal:std=0.1")
    assert grid.axes["activation"] == [
        vg.Activation("leaky_relu", negative_slope=0.2), vg.Activation("elu", alpha=0.5),
    ]  # fmt: skip
    assert grid.axes["init"] == [vg.initializers.normal(std=0.1)]
    assert Study(cell="lstm:peephole=true").axes["cell"] == [vg.cells.lstm(peephole=True)]


def test_seeds() -> None:
    assert Study(depth=1, seeds=7).seeds == [7]
    assert Study(depth=1, seeds=range(3)).seeds == [0, 1, 2]
    drawn = Study(depth=1, seeds=5, rng=3).seeds
    assert len(set(drawn)) == 5
    assert Study(depth=1, seeds=5, rng=3).seeds == drawn
    for bad in ([], [1, 1], -1, [0.5]):
        with pytest.raises(vg.ArgumentError):
            Study(depth=1, seeds=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({"depht": 3, "depth": 3}, vg.UnknownNameError, "did you mean 'depth'"),
        ({"depth": 3, "activation": ["tanh", "tahn"]}, vg.UnknownNameError, "did you mean 'tanh'"),
        ({"depth": 3, "init": "he_norml"}, vg.UnknownNameError, "did you mean 'he_normal'"),
        ({"width": 3}, vg.ArgumentError, "depth: expected one depth or a list"),
        ({"depth": []}, vg.ArgumentError, "empty axis"),
        ({"depth": [3, -1]}, vg.ArgumentError, "depth: expected an integer of at least 1"),
        ({"depth": 2.5}, vg.ArgumentError, "depth: expected an integer"),
        ({"depth": 3, "init": ["glorot_normal", "xavier_normal"]}, vg.ArgumentError, "given twice"),
        ({"depth": 3, "norm": object()}, vg.ArgumentError, "so that it can be stored"),
        ({"depth": [3, 9], "skip": [None, "residul"]}, vg.ArgumentError, "did you mean 'residual'"),
        ({"depth": [3, 9], "skip": "long:10"}, vg.ArgumentError, "'long:k' with k from 1 to depth=3"),
        ({"depth": 3, "dtype": ["float32", "float16"]}, vg.DTypeError, "dtype: expected float32 or float64"),
        ({"depth": 3, "bias": [True, "yes"]}, vg.ArgumentError, "bias: expected True or False, got 'yes'"),
        ({"depth": 3, "norm_position": "middle"}, vg.ArgumentError, "norm_position: expected one of 'pre'"),
        ({"depth": 3, "norm": ["batch", "group:5"], "width": [8, 16]}, vg.ArgumentError, "5; take 4"),
        (
            {"depth": 3, "norm": "group:4:1e-5:true:9"},
            vg.ArgumentError,
            "group has 3 parameters: groups, eps",
        ),
        ({"depth": 3, "activation": "leaky_relu:x"}, vg.ArgumentError, "negative_slope: expected a number"),
        ({"depth": 3, "sigma_w2": [1.0, -1]}, vg.ArgumentError, "sigma_w2: expected a number of at least 0"),
        ({"depth": 3, "sigma_w2": "a"}, vg.ArgumentError, r"sigma_w2: expected a number, got 'a' \(str\)"),
        ({"depth": 3, "sigma_w2": 1.5, "init": "zeros"}, vg.ArgumentError, "give one of them"),
        ({"depth": 3, "in_features": -3}, vg.ArgumentError, "in_features: expected an integer of at least 1"),
        ({"depth": 3, "activation": [None, "tanh"]}, vg.ArgumentError, "activation: expected a name such as"),
        ({"depth": 3, "stored": ["yes"]}, vg.ArgumentError, "stored: expected True or False, got 'yes'"),
        (
            {"cell": "lstm", "read": ["last", "all"]},
            vg.ArgumentError,
            "read: expected one of 'last', 'every'",
        ),
        ({"cell": ["lstm", "gru"], "activation": "relu"}, vg.ArgumentError, "it is a choice of rnn, irnn"),
    ],
)
def test_bad_axes_are_refused_before_anything_runs(axes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Study(**axes)


def test_what_one_network_of_the_grid_takes_is_not_refused() -> None:
    assert len(Study(depth=[1, 3, 9], skip=[None, "unet", "long:5"])) == 9
    assert len(Study(depth=2, width=[4, 12], norm=["layer", "group:3"])) == 4
    assert len(Study(cell=["rnn", "lstm"], activation=[None, "relu"], peephole=[None, True])) == 8
    assert len(Study(depth=10**6, width=10**4)) == 1  # that it fits in memory is not a matter of its values


def test_bad_data_is_refused_before_anything_runs(data: tuple[Any, Any]) -> None:
    x, y = data
    spoiled = x.copy()
    spoiled[1, 1] = np.nan
    for bad_x, bad_y, error in [
        (x.astype(int), y, vg.DTypeError),
        (x[0], y, vg.ShapeError),
        (spoiled, y, vg.NonFiniteError),
        (x, y[:-1], vg.ShapeError),
        (x, y - 1, vg.LabelError),
        (x, y.astype(float), vg.ShapeError),
    ]:
        with pytest.raises(error):
            small().run(bad_x, bad_y, progress=False)
    with pytest.raises(vg.UnknownNameError, match="did you mean 'cross_entropy'"):
        small().run(x, y, loss="cros_entropy", progress=False)


def test_other_losses_take_their_outputs_from_the_target(data: tuple[Any, Any]) -> None:
    x, _ = data
    found = small().run(x, x[:, :2], loss="mse", progress=False)
    assert not found.errors
    assert found.cells[0]["cell"]["out_features"] == 2


def test_a_failing_cell_is_recorded_and_the_others_go_on(data: tuple[Any, Any]) -> None:
    found = small(skip=[None, "residual", "long:5"]).run(*data, progress=False)
    assert len(found.errors) == 2
    assert all("got 'long:5'" in error["message"] for error in found.errors)
    assert sum(entry["status"] == "ok" for entry in found.cells) == 10
    text = found.summary()
    assert "2 of 12 cells failed" in text
    assert "failed" in text.splitlines()[-4] or "and 1 more" in text
    assert found.plot("heatmap") is not None


# --- running ------------------------------------------------------------------------------------------------


def test_results_do_not_depend_on_the_executor(result: StudyResult, data: tuple[Any, Any]) -> None:
    grid = small(init=["glorot_normal", "orthogonal"], seeds=[0, 1])
    with ThreadPoolExecutor(3) as pool:
        assert without_time(grid.run(*data, executor=pool, progress=False)) == without_time(result)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert without_time(grid.run(*data, executor=pool, progress=False)) == without_time(result)


def test_what_is_no_executor_is_refused(data: tuple[Any, Any]) -> None:
    with pytest.raises(vg.ArgumentError, match=r"executor: expected None or an executor .*, got 3 \(int\)"):
        small().run(*data, executor=3, progress=False)  # type: ignore[arg-type]


def test_progress_is_called_for_every_cell(data: tuple[Any, Any]) -> None:
    calls: list[tuple[int, int, Any]] = []
    small().run(*data, progress=lambda *args: calls.append(args))
    assert [done for done, _, _ in calls] == [1, 2, 3, 4]
    assert {total for _, total, _ in calls} == {4}
    assert calls[0][2]["activation"] == "tanh"
    assert calls[0][2]["status"] == "ok"
    with pytest.raises(vg.ArgumentError, match="progress"):
        small().run(*data, progress="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("tqdm", [True, False])
def test_the_bar_shows_rate_and_time_left(
    data: tuple[Any, Any], tqdm: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import sys

    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setattr(_progress._PlainBar, "INTERVAL", 0.0)
    small().run(*data, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "layers/s" in err
    assert "4/4 cells" in err
    assert "100" in err


# --- resuming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["store", "cells.jsonl"])
def test_finished_cells_are_not_run_again(
    tmp_path: Path, data: tuple[Any, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small(depth=3).run(*data, storage=tmp_path / name, progress=False)
    ran: list[Any] = []
    real = study.run_cell
    monkeypatch.setattr(study, "run_cell", lambda *args: ran.append(args) or real(*args))
    second = small().run(*data, storage=tmp_path / name, progress=False)
    assert len(ran) == 2
    assert second.reused == 2
    assert without_time(second)[:2] == without_time(first)
    fresh = small().run(*data, progress=False)
    assert without_time(second) == without_time(fresh)


def test_a_cut_off_line_costs_one_cell(tmp_path: Path, data: tuple[Any, Any]) -> None:
    small().run(*data, storage=tmp_path, progress=False)
    path = tmp_path / "cells.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = small().run(*data, storage=tmp_path, progress=False)
    assert again.reused == 3
    assert small().run(*data, storage=tmp_path, progress=False).reused == 4


def test_other_data_loss_or_seed_is_another_cell(tmp_path: Path, data: tuple[Any, Any]) -> None:
    x, y = data
    small().run(x, y, storage=tmp_path, progress=False)
    assert small().run(x + 1, y, storage=tmp_path, progress=False).reused == 0
    assert small().run(x, (y + 1) % 3, storage=tmp_path, progress=False).reused == 0
    assert small(seeds=1).run(x, y, storage=tmp_path, progress=False).reused == 0
    smooth = vg.losses.cross_entropy(label_smoothing=0.1)
    assert small().run(x, y, loss=smooth, storage=tmp_path, progress=False).reused == 0
    assert small().run(x, y, storage=tmp_path, progress=False).reused == 4


def test_failed_cells_are_tried_again(
    tmp_path: Path, data: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = study.run_cell
    monkeypatch.setattr(
        study,
        "run_cell",
        lambda args, *rest: real({**args, "skip": "nonsense"} if args["depth"] == 6 else args, *rest),
    )
    assert len(small().run(*data, storage=tmp_path, progress=False).errors) == 2
    monkeypatch.undo()
    again = small().run(*data, storage=tmp_path, progress=False)
    assert again.reused == 2
    assert not again.errors


def test_an_interrupt_keeps_what_is_done(tmp_path: Path, data: tuple[Any, Any]) -> None:
    def stop(done: int, total: int, cell: Any) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small().run(*data, storage=tmp_path, progress=stop)
    assert small().run(*data, storage=tmp_path, progress=False).reused == 2


def test_storage_that_is_some_other_file_is_refused(tmp_path: Path, data: tuple[Any, Any]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(vg.ArgumentError, match="storage"):
        small().run(*data, storage=tmp_path / "notes.txt", progress=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_non_finite_numbers_survive_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = {
        "key": "k", "status": "ok", "args": {}, "seed": 0, "quantities": {"a": math.inf, "b": math.nan},
        "curve": {"step": [0, 1], "log10_grad_norm": [-math.inf, 0.5]},
    }  # fmt: skip
    store.append(entry)
    back = store.read()["k"]
    assert back["quantities"]["a"] == math.inf
    assert math.isnan(back["quantities"]["b"])
    assert back["curve"]["log10_grad_norm"] == [-math.inf, 0.5]


def test_digest_sees_values_types_and_shapes_not_layout() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = [array.copy(order="F"), array.astype(">f4")]
    other = [array.reshape(3, 2), array.astype(np.float64), array + 1]
    assert {digest(a) for a in same} == {digest(array)}
    assert digest(array) not in {digest(a) for a in other}


# --- results ------------------------------------------------------------------------------------------------


def test_long_table(result: StudyResult) -> None:
    table = result.table
    sizes = {len(column) for column in table.values()}
    assert len(sizes) == 1
    assert {"depth", "activation", "init", "seed", "status", "verdict", "quantity", "value"} <= set(table)
    wanted = {
        "log10_grad_norm_first",
        "decades_per_step",
        "decades_per_step_low",
        "loss",
        "horizon_float32",
        "seconds",
    }
    assert wanted <= set(table["quantity"])
    assert all(isinstance(value, float) for value in table["value"])


def test_curves_of_deep_cells_are_exact_samples(data: tuple[Any, Any]) -> None:
    found = Study(depth=2500, width=4, activation="tanh").run(*data, progress=False)
    curve = found.curves[0]
    flow = vg.mlp(2500, 4, in_features=12, out_features=3, activation="tanh", rng=0).probe(
        *data, loss="cross_entropy"
    )
    assert curve["step"].size == 2000
    assert (curve["step"][0], curve["step"][-1]) == (0, flow.steps - 1)
    np.testing.assert_array_equal(curve["log10_grad_norm"], flow.log10_grad_norm[curve["step"]])


def test_summary_is_a_table_of_networks_by_depth(result: StudyResult) -> None:
    lines = result.summary().splitlines()
    assert "2 seeds (medians)" in lines[0]
    assert lines[2].split()[:2] == ["activation", "init"]
    assert "depth 3" in lines[2]
    assert "depth 6" in lines[2]
    assert len(lines) == 8
    assert any(word in lines[4] for word in ("stable", "vanishing", "exploding", "saturated"))


def test_select(result: StudyResult) -> None:
    assert len(result.select(depth=3, activation=["tanh", "sigmoid"], seed=0)) == 4
    with pytest.raises(vg.UnknownNameError, match="did you mean 'activation'"):
        result.select(activaton="tanh")
    with pytest.raises(vg.ArgumentError, match="there are 3, 6"):
        result.select(depth=7)


def test_exports(tmp_path: Path, result: StudyResult) -> None:
    result.to_csv(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(result.table["value"])
    np.testing.assert_array_equal([float(row["value"]) for row in rows], result.table["value"])
    text = result.to_json(tmp_path / "t.json")
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == json.loads(
        (tmp_path / "t.json").read_text()
    )
    pandas = pytest.importorskip("pandas")
    assert len(result.to_pandas()) == len(rows)
    pytest.importorskip("pyarrow")
    result.to_parquet(tmp_path / "t.parquet")
    assert len(pandas.read_parquet(tmp_path / "t.parquet")) == len(rows)


def test_save_and_load(tmp_path: Path, result: StudyResult) -> None:
    paths = result.save(tmp_path / "saved")
    assert all(path.exists() for path in paths)
    again = StudyResult.load(tmp_path / "saved")
    assert without_time(again) == without_time(result)
    assert again.summary() == result.summary()
    result.save(tmp_path / "saved")  # twice changes nothing
    assert len((tmp_path / "saved" / "cells.jsonl").read_text().splitlines()) == len(result)
    with pytest.raises(vg.ArgumentError, match="holds no result"):
        StudyResult.load(tmp_path)


def test_a_saved_study_runs_again_to_the_bit(
    tmp_path: Path, result: StudyResult, data: tuple[Any, Any]
) -> None:
    result.save(tmp_path)
    again = Study.load(tmp_path / "study.json").run(*data, progress=False)
    assert without_time(again) == without_time(result)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(vg.ArgumentError, match=r"vgcore\.Study"):
        Study.load(tmp_path / "study.json")


def test_texts(result: StudyResult) -> None:
    assert repr(small()) == "<Study of 4 cells: 2 depth x 2 activation, 1 seeds>"
    assert "16 cells" in repr(result)
    assert "<table>" in result._repr_html_()
