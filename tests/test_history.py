"""Histories: arrays, tables, files, what follows from them, and text that says it."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _fake_records import fake_records, noisy
from vgcore._fit_records import Records, Units
from vgcore.errors import ArgumentError, ShapeError
from vgcore.history import History


def empty() -> History:
    none = np.zeros(0)
    whole = np.zeros(0, np.int64)
    units = Units((), whole, ())
    return History(Records(none, None, none, whole, whole, np.zeros((0, 0)), None, None, None, units))


def words(history: History) -> str:
    """Return the description without its line breaks."""
    return " ".join(history.describe().split())


def same(a: Any, b: Any) -> bool:
    """True where two trees of arrays and plain values agree, arrays to the bit."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


# --- arrays -------------------------------------------------------------------------------------------------


def test_it_is_frozen_and_its_arrays_are_read_only() -> None:
    history = History(fake_records())
    with pytest.raises(FrozenInstanceError):
        history.records = fake_records()  # type: ignore[misc]  # that is the test
    for array in (
        history.loss,
        history.log10_grad_norm,
        history.update_ratio,
        history.learning,
        history.died,
    ):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_callers_arrays_stay_writeable() -> None:
    records = fake_records()
    History(records)
    records.loss[0] = 7.0
    assert records.loss[0] == 7.0


@pytest.mark.parametrize(
    "name",
    ["lr", "epoch", "accuracy", "log2_grad_norm", "update_ratio", "dead", "unchanged", "zero_weights"],
)
def test_arrays_must_fit_each_other(name: str) -> None:
    records = fake_records()
    with pytest.raises(ShapeError, match=rf"^records\.{name}: expected shape \(.*\), got \("):
        History(replace(records, **{name: getattr(records, name)[:-1]}))


def test_norms_are_decades() -> None:
    history = History(fake_records(layers=5, rate=-0.3))
    assert history.log10_grad_norm.shape == (history.recorded.size, 5)
    np.testing.assert_allclose(np.diff(history.log10_grad_norm, axis=1), 0.3, rtol=1e-12)
    deep = History(fake_records(layers=3, rate=-3135.0))
    assert deep.log10_grad_norm[0, 0] < -6000  # beyond any float


# --- what follows -------------------------------------------------------------------------------------------


def test_layers_whose_updates_round_away_do_not_learn() -> None:
    history = History(fake_records(layers=8, still=2))
    np.testing.assert_array_equal(history.learning, 0.75)
    assert history.share_learning == 0.75
    # In float64 the same updates are large enough.
    assert History(fake_records(layers=8, still=2, meta={"dtype": "float64"})).share_learning == 1.0
    # Ends of Residuals have no weights and count neither way.
    assert History(fake_records(layers=8, units_per_step=2, still=4)).share_learning == 0.75


def test_a_broken_update_is_no_learning() -> None:
    records = fake_records(layers=4)
    ratio = records.update_ratio
    assert ratio is not None
    ratio[-1, 1], ratio[-1, 2] = np.nan, np.inf
    assert History(records).learning[-1] == 0.5


def test_without_full_statistics_nothing_is_claimed() -> None:
    history = History(fake_records(full=False))
    assert np.isnan(history.learning).all()
    assert math.isnan(history.share_learning)
    assert "Layers that learn" not in history.describe()


def test_the_step_at_which_a_layer_died_is_dated() -> None:
    history = History(fake_records(layers=4, every=10, dies=70))
    assert history.died.tolist() == [70, -1, -1, -1]
    assert "hidden[0] from step 70" in words(history)
    # A zero that passes is no death; one from the first step on is.
    records = fake_records(layers=4, every=10)
    records.log2_grad_norm[3, 1] = -np.inf
    records.log2_grad_norm[:, 2] = -np.inf
    assert History(records).died.tolist() == [-1, -1, 0, -1]
    assert History(fake_records(layers=4)).died.tolist() == [-1] * 4


def test_many_dead_layers_are_counted() -> None:
    records = fake_records(layers=30)
    records.log2_grad_norm[5:, :20] = -np.inf
    text = words(History(records))
    assert "20 of 30, among them hidden[0] from step 50, hidden[19] from step 50" in text


def test_stagnation_knows_the_epoch_and_the_loss_of_guessing() -> None:
    flat = noisy(np.full(200, 2.31), 0.01)
    history = History(fake_records(flat, per_epoch=50, meta={"guessing_loss": math.log(10)}))
    assert history.stagnation
    assert history.stagnation.kind == "start"
    assert history.stagnation.epoch == 0
    assert "guessing gives 2.303" in words(history)
    assert not History(fake_records()).stagnation


def test_the_best_validation_is_the_lowest_finite_loss() -> None:
    records = fake_records(np.r_[np.full(50, 2.0), np.full(50, 0.5), np.full(50, 0.8), np.full(50, np.nan)])
    best = History(records).best
    assert best is not None
    assert best.epoch == 1
    assert "the later epochs" in words(History(replace(records, validation=records.validation[:3])))
    assert History(fake_records(held_out=False)).best is None


# --- tables -------------------------------------------------------------------------------------------------


def test_one_row_an_epoch() -> None:
    history = History(fake_records(np.arange(130.0), per_epoch=50, held_out=True))
    table = history.epochs
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["steps"].tolist() == [50, 50, 30]
    assert table["loss"].tolist() == [24.5, 74.5, 114.5]
    assert table["lr"].tolist() == [0.05] * 3
    assert table["validation_loss"].tolist() == pytest.approx([49 * 1.1, 99 * 1.1, 129 * 1.1])
    without = History(fake_records(labels=False, held_out=False)).epochs
    assert np.isnan(without["accuracy"]).all()
    assert np.isnan(without["validation_score"]).all()


def test_the_table_is_long() -> None:
    history = History(fake_records(layers=4, per_epoch=50, every=10))
    table = history.table
    assert list(table) == ["step", "epoch", "layer", "name", "quantity", "value"]
    sizes = {name: int((table["quantity"] == name).sum()) for name in dict.fromkeys(table["quantity"])}
    assert sizes == {
        "loss": 200, "accuracy": 200, "lr": 200, "seconds": 4, "validation_loss": 4, "validation_score": 4,
        "log10_grad_norm": 80, "update_ratio": 80, "dead": 80, "unchanged": 80,
        "zero_weights": 80,
    }  # fmt: skip
    row = (table["quantity"] == "log10_grad_norm") & (table["step"] == 120) & (table["layer"] == 2)
    assert table["value"][row].tolist() == [history.log10_grad_norm[12, 2]]
    assert table["name"][row].tolist() == ["hidden[2]"]
    assert table["epoch"][row].tolist() == [2]
    whole = table["quantity"] == "validation_loss"
    assert table["step"][whole].tolist() == [49, 99, 149, 199]
    assert set(table["layer"][whole]) == {-1}
    assert set(table["name"][whole]) == {""}


def test_the_table_as_a_data_frame() -> None:
    pytest.importorskip("pandas")
    history = History(fake_records())
    frame = history.to_pandas()
    assert len(frame) == len(history.table["value"])
    assert str(frame["quantity"].dtype) == "category"
    grid = frame[frame["quantity"] == "log10_grad_norm"].pivot_table(
        index="step", columns="layer", values="value"
    )
    np.testing.assert_array_equal(grid.to_numpy(), history.log10_grad_norm)


# --- files --------------------------------------------------------------------------------------------------


STATE = {
    "step": 200,
    "seed": 2**63 + 5,
    "scale": float("inf"),
    "arrays": {"hidden.weight/m": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.zeros((0, 3))},
    "order": np.arange(5, dtype=np.uint64),
    "list": [1, None, "text", np.zeros(2)],
}


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_file_gives_back_everything_to_the_bit(tmp_path: Path, suffix: str) -> None:
    records = fake_records(dies=50, units_per_step=2, stopped="step 200: the loss is nan", state=STATE)
    records.loss[7] = np.nan
    records.log2_grad_norm[3, 1] = np.inf
    history = History(records)
    history.save(tmp_path / f"run{suffix}")
    again = History.load(tmp_path / f"run{suffix}")
    for name in ("loss", "accuracy", "lr", "epoch", "recorded", "log2_grad_norm", "update_ratio", "dead"):
        assert same(getattr(history, name), getattr(again, name)), name
    assert again.units.names == history.units.names
    assert again.units.kinds == history.units.kinds
    assert same(again.units.steps, history.units.steps)
    assert again.validation == history.validation
    assert again.stopped == history.stopped
    assert again.meta == history.meta
    assert again.state is not None
    assert same(dict(again.state) | {"list": 0}, STATE | {"list": 0})
    assert again.state["list"][:3] == [1, None, "text"]
    assert again.describe() == history.describe()


def test_a_training_without_extras_comes_back_too(tmp_path: Path) -> None:
    for i, history in enumerate((History(fake_records(full=False, labels=False, held_out=False)), empty())):
        for suffix in (".json", ".npz"):
            history.save(tmp_path / f"{i}{suffix}")
            again = History.load(tmp_path / f"{i}{suffix}")
            assert same(again.log2_grad_norm, history.log2_grad_norm)
            assert again.update_ratio is None
            assert again.accuracy is None
            assert again.validation == ()
            assert again.state is None


def test_dictionaries_survive_strict_json() -> None:
    history = History(fake_records(dies=0, state=STATE))
    assert same(History.from_dict(history.to_dict()).log2_grad_norm, history.log2_grad_norm)
    from vgcore._table import json_safe

    text = json.dumps(json_safe(history.to_dict()), allow_nan=False)
    assert same(History.from_dict(json.loads(text)).log2_grad_norm, history.log2_grad_norm)


def test_other_files_are_refused(tmp_path: Path) -> None:
    history = History(fake_records())
    with pytest.raises(
        ArgumentError, match=r'^path: expected a name that ends in .json or .npz, got "run.pkl"$'
    ):
        history.save(tmp_path / "run.pkl")
    (tmp_path / "other.json").write_text('{"format": "vgcore.GradientFlow", "version": 1}')
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "list.json").write_text("[1, 2]")
    np.savez(tmp_path / "bare.npz", a=np.zeros(3))
    (tmp_path / "empty.npz").touch()
    (tmp_path / "empty.json").touch()
    for name in ("empty.npz", "empty.json", "other.json", "text.npz", "list.json", "bare.npz"):
        with pytest.raises(ArgumentError, match=r"expected a file written by History.save .*" + name):
            History.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        History.load(tmp_path / "none.npz")
    with pytest.raises(ArgumentError, match=r"expected what History.to_dict gave"):
        History.from_dict({"format": "vgcore.History"})


def test_no_file_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", _head=np.array([{"format": "vgcore.History"}], dtype=object))
    with pytest.raises(ArgumentError, match="expected a file written by"):
        History.load(tmp_path / "bad.npz")


# --- text ---------------------------------------------------------------------------------------------------


def test_the_representation_is_one_line() -> None:
    text = repr(History(fake_records()))
    assert text.startswith("<History 4 epochs, 200 steps, loss 2.")
    assert "accuracy" in text
    assert "validation" in text
    assert "improving" in text
    assert "\n" not in text
    flat = repr(History(fake_records(np.full(100, 2.3), stopped="step 100: enough")))
    assert "start from step 0" in flat
    assert "stopped (step 100: enough)" in flat
    assert repr(empty()) == "<History, no steps>"
    assert "1 epoch, 1 step," in repr(History(fake_records([2.3])))


def test_the_notebook_gets_a_table() -> None:
    html = History(fake_records(meta={"network": "Network(<b>)"}))._repr_html_()
    assert html.startswith("<table>")
    assert "Network(&lt;b&gt;)" in html
    assert "layers that learn" in html
    assert empty()._repr_html_().startswith("<table>")


def test_the_description_says_what_happened() -> None:
    history = History(
        fake_records(
            layers=8,
            still=2,
            meta={"optimizer": "SGD(0.05)", "clip": ["ClipNorm(1.0)", "AGC()"], "constraint": []},
        )
    )
    text = history.describe()
    flat = words(history)
    assert "Training: 4 epochs, 200 steps of 32 samples, loss cross_entropy(), optimizer SGD(0.05)" in flat
    assert "clip ClipNorm(1.0), then AGC();" in flat
    assert "0.25 s an epoch" in flat
    assert "accuracy on the training data" in flat
    assert "Held-out data: loss" in flat
    assert "the loss improves still" in flat
    assert "Layers that learn: 75 % of those with weights" in flat
    assert "No layer's gradient is exactly zero at the end." in flat
    assert max(map(len, text.splitlines())) <= 100
    assert empty().describe().endswith("Nothing was trained.")


def test_a_broken_training_says_so() -> None:
    curve = np.r_[np.linspace(2.3, 2.0, 60), np.full(40, np.nan)]
    records = fake_records(curve, stopped="step 60: the loss is nan")
    records.log2_grad_norm[6:] = np.nan
    text = words(History(records))
    assert "It ended early: step 60: the loss is nan." in text
    assert "it is not finite at 40 steps, first at step 60" in text
    assert "not finite from step 60" in text


def test_regressions_are_scored_by_r_squared() -> None:
    history = History(fake_records(labels=False))
    assert "R squared 0.9" in history.describe()
    assert "accuracy" not in repr(history)


def test_parameters_stand_along_the_axis_of_a_recurrent_network() -> None:
    history = History(fake_records(along_time=True))
    assert "the lowest layer (layer0.weight)" in words(history)
