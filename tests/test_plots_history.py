"""Pictures of a training: the loss with its marks, and layers x steps, for ten layers and for thousands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from _fake_records import fake_records, noisy
from test_plotting import drawn, texts
from vgcore._plot_heat import bin_grid
from vgcore.errors import ArgumentError
from vgcore.history import History

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def image(ax: Any) -> Any:
    return ax.images[0].get_array()


def ticks(ax: Any) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


# --- loss ---------------------------------------------------------------------------------------------------


def test_loss_and_held_out_data_are_drawn() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    history = History(fake_records())
    ax = history.plot()
    assert pyplot.get_fignums() == before
    raw, mean, held_out = ax.lines
    np.testing.assert_array_equal(raw.get_ydata(), history.loss)
    np.testing.assert_allclose(mean.get_ydata()[0], history.loss[:5].mean(), rtol=1e-12)
    assert mean.get_xdata()[0] == 2.0
    assert held_out.get_xdata().tolist() == [49, 99, 149, 199]
    assert held_out.get_ydata().tolist() == [entry.loss for entry in history.validation]
    assert ax.get_yscale() == "log"  # it fell to less than a tenth
    assert "held-out data 90 % right" in ax.get_title()
    assert ax.get_ylabel() == "cross_entropy"
    assert drawn(ax)


def test_accuracy_is_drawn_as_a_share() -> None:
    history = History(fake_records())
    ax = history.plot(quantity="accuracy", color="red")
    assert ax.lines[1].get_color() == "red"
    assert ax.lines[2].get_ydata().tolist() == [0.9] * 4
    assert ax.get_ylim()[1] > 1
    with pytest.raises(ArgumentError, match="without class labels"):
        History(fake_records(labels=False)).plot(quantity="accuracy")
    with pytest.raises(ArgumentError, match="expected 'loss' or 'accuracy', got 'lr'"):
        history.plot(quantity="lr")


def test_stagnation_is_marked_where_it_begins() -> None:
    history = History(fake_records(noisy(np.r_[np.linspace(2.3, 1.2, 300), np.full(700, 1.2)], 0.02)))
    ax = history.plot()
    step = history.stagnation.step
    assert f"no longer improves from step {step}" in texts(ax)
    assert any(list(line.get_xdata()) == [step, step] for line in ax.lines)
    assert ax.get_yscale() == "linear"
    assert "improves from" not in texts(History(fake_records()).plot())


def test_a_loss_that_breaks_off_is_marked() -> None:
    ax = History(fake_records(np.r_[np.linspace(2.3, 2.0, 60), np.full(40, np.nan)])).plot()
    assert "loss not finite from step 60" in texts(ax)
    assert ax.get_xlim()[1] > 99
    assert drawn(ax)


@pytest.mark.parametrize("number", [1, 2, 39, 4001, 100_000])
def test_any_number_of_steps_is_drawn(number: int) -> None:
    ax = History(fake_records(np.linspace(2.3, 1.0, number), layers=2, every=max(1, number // 50))).plot()
    assert len(ax.lines[0].get_xdata()) <= 4000
    assert len(ax.lines[1].get_xdata()) <= 8001
    assert drawn(ax)


def test_why_a_training_ended_is_in_the_title() -> None:
    history = History(fake_records(stopped="step 200: the loss is NaN"))
    assert history.plot().get_title().endswith("\nended early: step 200: the loss is NaN")
    assert "ended early" in history.plot_flow().get_title()
    long = History(fake_records(stopped="no better " * 20)).plot().get_title().splitlines()[1]
    assert len(long) < 100


def test_the_given_axes_and_title_are_used() -> None:
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert History(fake_records()).plot(ax, title="mine") is ax
    assert ax.get_title() == "mine"


# --- heat map -----------------------------------------------------------------------------------------------


def test_layers_stand_above_each_other_with_the_input_at_the_bottom() -> None:
    history = History(fake_records(layers=5, every=10))
    ax = history.plot_flow()
    np.testing.assert_array_equal(image(ax), history.log10_grad_norm.T)
    assert ax.images[0].origin == "lower"
    assert ax.images[0].get_extent() == [-5, 195, -0.5, 4.5]
    assert ticks(ax) == [f"hidden[{i}]" for i in range(5)]
    assert "5 layers, 200 steps" in ax.get_title()
    assert "input at the bottom" in ax.get_ylabel()
    assert drawn(ax)


def test_zeros_and_lost_values_have_colours_of_their_own() -> None:
    records = fake_records(layers=5, dies=100)
    records.log2_grad_norm[3, 2] = np.nan
    ax = History(records).plot_flow()
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["exactly 0", "NaN or infinite"]
    assert image(ax).mask[0, 10:].all()
    assert not image(ax).mask[0, :10].any()
    assert image(ax).mask[2, 3]
    assert History(fake_records()).plot_flow().get_legend() is None


def test_a_layer_of_several_units_is_one_row() -> None:
    history = History(fake_records(layers=4, units_per_step=3))
    assert image(history.plot_flow()).shape[0] == 4
    assert ticks(history.plot_flow()) == [f"hidden[{i}]" for i in (2, 5, 8, 11)]
    assert image(history.plot_flow(every_unit=True)).shape[0] == 12


def test_rows_without_weights_have_no_update() -> None:
    history = History(fake_records(layers=4, units_per_step=2))
    ax = history.plot_flow(quantity="log10_update_ratio")
    assert ticks(ax) == [f"hidden[{i}]" for i in (0, 2, 4, 6)]
    np.testing.assert_allclose(image(ax), -3.0, rtol=1e-12)
    records = fake_records(layers=4)
    records.update_ratio[:] = np.nan  # type: ignore[index]  # full statistics are there
    with pytest.raises(ArgumentError, match="at no step of any layer"):
        History(records).plot_flow(quantity="log10_update_ratio")


def test_counts_are_drawn_as_counts() -> None:
    ax = History(fake_records()).plot_flow(quantity="unchanged")
    assert (image(ax) == 3).all()
    assert "Unchanged weights" in ax.get_title()
    assert "10^" not in "".join(label.get_text() for label in ax.figure.axes[1].get_yticklabels())


def test_parameters_are_named_along_time() -> None:
    ax = History(fake_records(layers=3, along_time=True)).plot_flow()
    assert ticks(ax) == ["layer0.weight", "layer1.weight", "layer2.weight"]
    assert "3 parameters" in ax.get_title()
    assert "whole parameter" in ax.figure.axes[1].get_ylabel()


def test_thousands_of_layers_and_steps_are_binned() -> None:
    history = History(fake_records(np.linspace(2.3, 1, 30_000), layers=3000, every=10, rate=-0.6, full=False))
    ax = history.plot_flow()
    assert image(ax).shape == (400, 2000)
    assert ax.images[0].get_extent() == [-5, 29995, -0.5, 2999.5]
    assert image(history.plot_flow(columns=7)).shape == (400, 7)
    assert drawn(ax)


def test_steps_at_unequal_distances_stand_where_they_belong() -> None:
    records = fake_records(layers=2, every=10)
    recorded = np.unique(np.geomspace(1, 199, 20).astype(int))
    thin = {
        name: getattr(records, name)[: recorded.size]
        for name in ("update_ratio", "dead", "unchanged", "zero_weights")
    }
    norms = np.repeat(recorded[:, None].astype(float), 2, axis=1)
    history = History(replace(records, recorded=recorded, log2_grad_norm=norms, **thin))
    ax = history.plot_flow()
    shown = image(ax)[0] / np.log10(2)
    assert shown.size == 199
    assert (shown <= np.arange(1, 200) + 1e-9).all()  # never a step that had not been
    np.testing.assert_allclose(shown[recorded - 1], recorded, rtol=1e-12)


def test_what_was_not_measured_is_refused() -> None:
    history = History(fake_records(full=False))
    with pytest.raises(
        ArgumentError, match=r'"dead"|\'dead\' was not measured; train with fit\(..., stats="full"\)'
    ):
        history.plot_flow(quantity="dead")
    with pytest.raises(ArgumentError, match="quantity: expected one of 'log10_grad_norm'"):
        history.plot_flow(quantity="loss")
    with pytest.raises(ArgumentError, match="columns: expected at least 1, got 0"):
        history.plot_flow(columns=0)


@pytest.mark.parametrize("how", ["mean", "min", "max"])
def test_bins_agree_with_a_plain_loop(how: str) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(23, 57))
    values[random.random(values.shape) < 0.5] = -np.inf
    values[:6, :9] = -np.inf
    values[20, 50] = np.nan
    grid, lost, zero = bin_grid(values, how, columns=10, rows=5)
    rows, columns = (np.r_[np.linspace(0, n, m + 1).astype(int)] for n, m in ((23, 5), (57, 10)))
    for i in range(5):
        for j in range(10):
            block = values[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            finite = block[np.isfinite(block)]
            assert lost[i, j] == bool(np.isnan(block).any())
            assert zero[i, j] == (finite.size == 0 and not lost[i, j])
            if finite.size:
                np.testing.assert_allclose(grid[i, j], getattr(np, how)(finite), rtol=1e-12)
            else:
                assert np.isnan(grid[i, j])
