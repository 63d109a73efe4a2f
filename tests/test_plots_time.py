"""Pictures along time: lines, heat maps and gates, for one step and for a million."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from _fake_raw import fake_raw
from _fake_time import fading, fake_block, fake_time
from test_flow_time import flow_of, stacked
from test_plotting import drawn, texts
from vgcore import plotting
from vgcore.errors import ArgumentError
from vgcore.flow import GradientFlow

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def labels(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def curves(ax: Any) -> list[Any]:
    """Return the lines of norms, without the limits of formats."""
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


# --- lines --------------------------------------------------------------------------------------------------


def test_an_lstm_shows_both_states() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    ax = flow_of(fake_block(fading(300))).plot()
    assert pyplot.get_fignums() == before
    assert ["c_t" in label for label in labels(ax)] == [False, True]
    assert "lstm(16), 300 time steps" in ax.get_title()
    assert "decades per step back" in ax.get_title()
    assert ax.get_xlabel() == "time step"
    assert "float16: zero below" in texts(ax)
    assert drawn(ax)
    assert len(curves(flow_of(fake_block(fading(300), cell="gru")).plot())) == 1


def test_layers_and_directions_are_lines() -> None:
    flow = flow_of(fake_block(stacked(3, 100)))
    assert labels(flow.plot()) == ["layer 0", "layer 1", "layer 2"]
    assert labels(flow.plot(layers=[0, -1])) == ["layer 0", "layer 2"]
    assert len(curves(flow.plot(layers=-1))) == 2
    both = flow.plot(layers=[0, 1], quantity=["log10_grad_norm", "log10_weight_grad_norm"])
    assert len(labels(both)) == 4
    two = flow_of(fake_block(stacked(2, 100), cell="gru", directions=2)).plot()
    assert labels(two) == ["layer 0", "layer 0 reverse"]
    many = flow_of(fake_block(stacked(40, 100), cell="gru")).plot()
    assert len(curves(many)) == 6
    assert labels(many)[0] == "layer 0"
    assert labels(many)[-1] == "layer 39"


def test_cells_without_a_c_are_passed_over() -> None:
    flow = flow_of(fake_block(stacked(1, 50), cell="gru"), fake_block(stacked(1, 50)))
    ax = flow.plot(quantity=["log10_grad_norm", "log10_cell_grad_norm"])
    assert len(labels(ax)) == 3
    with pytest.raises(ArgumentError, match="such as an lstm"):
        flow.plot(quantity="log10_cell_grad_norm")


def test_steps_can_be_counted_back_from_the_loss() -> None:
    padded = np.concatenate((fading(100), np.full(20, -np.inf)))
    flow = flow_of(fake_block(padded, cell="gru"))
    ax = flow.plot(x="back")
    line = curves(ax)[0]
    assert line.get_xdata()[0] == 99
    assert line.get_xdata()[-1] == 0
    assert ax.get_xlabel() == "time steps before the loss"
    assert ax.xaxis_inverted()
    assert len(curves(flow.plot())[0].get_xdata()) == 100  # padding is not drawn
    with pytest.raises(ArgumentError, match="'time' or 'back'"):
        flow.plot(x="depth")


def test_given_axes_and_line_properties() -> None:
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    flow = flow_of(fake_block(fading(30), cell="gru"))
    assert flow.plot(ax=ax, color="red", title="mine") is ax
    assert curves(ax)[0].get_color() == "red"
    assert ax.get_title() == "mine"


@pytest.mark.parametrize("steps", [1, 2, 10, 4000, 4001, 100_000])
@pytest.mark.parametrize("x", ["time", "back"])
def test_any_number_of_steps(steps: int, x: str) -> None:
    flow = flow_of(fake_block(fading(steps, -1e-4), full=False))
    ax = flow.plot(x=x)
    assert len(ax.lines[0].get_xdata()) <= plotting.MOST_POINTS
    assert drawn(ax)
    assert drawn(flow.plot(kind="heatmap"))


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_lost_ends_and_empty_pictures_are_marked(value: float) -> None:
    curve = fading(90)
    curve[:30] = value
    ax = flow_of(fake_block(curve, cell="gru")).plot()
    assert "further from the loss" in texts(ax)
    assert drawn(ax)
    empty = flow_of(fake_block(np.full(9, value), cell="gru")).plot()
    assert ("exactly 0" if value == -np.inf else "NaN or infinite") in texts(empty)
    assert "no rate" in empty.get_title()
    assert drawn(empty)


def test_a_broken_forward_pass_is_in_the_title() -> None:
    spot = {"step": 4, "layer": 0, "direction": 0, "units": 1}
    flow = flow_of(fake_block(np.full(9, np.nan), cell="gru"), nonfinite=spot)
    assert "forward pass not finite from time step 4 of layer 0" in flow.plot().get_title()
    assert drawn(flow.plot(kind="heatmap"))


def test_what_cannot_be_drawn_is_said() -> None:
    flow = flow_of(fake_block(stacked(2)))
    for kw, message in [
        ({"quantity": "loss"}, "expected one of log10_grad_norm"),
        ({"quantity": []}, "at least one name"),
        ({"kind": "pie"}, "expected one of 'lines', 'heatmap', 'gates', got 'pie'"),
        ({"layers": 2}, "expected one of 0 to 1"),
        ({"kind": "heatmap", "quantity": "loss"}, "expected one of log10_grad_norm"),
        ({"kind": "heatmap", "bins": "median"}, "'mean', 'min' or 'max'"),
        ({"kind": "heatmap", "columns": 0}, "at least 1"),
        ({"kind": "gates", "layer": 5}, "expected one of 0 to 1"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            flow.plot(**kw)  # type: ignore[arg-type]


def test_networks_side_by_side() -> None:
    flows = {
        "rnn": flow_of(fake_block(fading(100, -0.3), cell="rnn")),
        "lstm": flow_of(fake_block(fading(300, -0.05))),
    }
    ax = plotting.plot_times(flows)
    assert labels(ax) == ["rnn", "lstm"]
    assert [line.get_xdata()[0] for line in curves(ax)] == [99, 299]
    assert {float(line.get_xdata()[-1]) for line in curves(ax)} == {0.0}
    assert drawn(ax)
    assert drawn(plotting.plot_times(flows, x="time", styles={"rnn": {"color": "black"}}))
    with pytest.raises(
        ArgumentError, match=r"flows\['deep'\]: expected a flow along time, got one along depth"
    ):
        plotting.plot_times({"deep": GradientFlow.from_raw(fake_raw([-1.0]))})  # type: ignore[dict-item]


# --- heat maps ----------------------------------------------------------------------------------------------


def test_heat_map_rows_are_layers_and_columns_are_time() -> None:
    rows = stacked(3, 50)
    ax = flow_of(fake_block(rows, cell="gru")).plot(kind="heatmap")
    np.testing.assert_allclose(ax.images[0].get_array(), rows, rtol=1e-14)
    assert ax.images[0].origin == "lower"
    assert list(ax.images[0].get_extent()) == [-0.5, 49.5, -0.5, 2.5]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "1", "2"]
    assert "input" in ax.get_ylabel()
    assert drawn(ax)
    two = flow_of(fake_block(stacked(2), cell="gru", directions=2)).plot(kind="heatmap")
    assert [tick.get_text() for tick in two.get_yticklabels()] == ["0", "0 reverse"]
    tall = flow_of(fake_block(stacked(100), cell="gru")).plot(kind="heatmap")
    assert len(tall.get_yticklabels()) <= 24
    assert drawn(tall)


def test_heat_map_bins_show_mean_least_or_largest() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 10_007))
    rows[1, 5000], rows[0, 7] = 50.0, -50.0
    flow = flow_of(fake_block(rows, cell="gru"))
    shown = {
        how: flow.plot(kind="heatmap", bins=how, columns=500).images[0].get_array()
        for how in ("mean", "min", "max")
    }
    assert {array.shape for array in shown.values()} == {(2, 500)}
    assert shown["max"].max() == pytest.approx(50.0)
    assert shown["min"].min() == pytest.approx(-50.0)
    assert (shown["min"] <= shown["mean"]).all()
    assert (shown["mean"] <= shown["max"]).all()
    assert flow.plot(kind="heatmap").images[0].get_array().shape == (2, 2000)
    assert "bins of 5" in flow.plot(kind="heatmap").get_title()


def test_heat_map_tells_zeros_from_lost_values() -> None:
    rows = np.zeros((1, 10_000))
    rows[0, :3000], rows[0, 9000] = -np.inf, np.nan
    ax = flow_of(fake_block(rows, cell="gru")).plot(kind="heatmap", columns=100)
    assert labels(ax) == ["exactly 0", "NaN or infinite"]
    shown, zero, lost = (np.ma.getmaskarray(image.get_array())[0] for image in ax.images)
    assert shown[:30].all()
    assert not zero[:30].any()
    assert zero[30:].all()
    assert np.flatnonzero(~lost).tolist() == [90]
    assert drawn(ax)


def test_layers_without_the_quantity_are_no_rows() -> None:
    flow = flow_of(fake_block(stacked(1), cell="gru"), fake_block(stacked(2)))
    ax = flow.plot(kind="heatmap", quantity="log10_cell_grad_norm")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2"]
    with pytest.raises(ArgumentError, match="quantity"):
        flow_of(fake_block(stacked(1), cell="gru")).plot(kind="heatmap", quantity="log10_cell_grad_norm")


# --- gates --------------------------------------------------------------------------------------------------


def test_gates_are_drawn_with_their_flat_shares() -> None:
    flow = flow_of(fake_block(stacked(2), gates={"f": 0.9}))
    ax = flow.plot(kind="gates")
    assert len(labels(ax)) == 8
    assert labels(ax)[2] == "forget gate: mean"
    assert len(labels(flow.plot(kind="gates", saturated=False))) == 4
    assert drawn(ax)
    assert drawn(flow_of(fake_block(fading(10_000), cell="gru")).plot(kind="gates"))
    with pytest.raises(ArgumentError, match="expected a cell with gates, got 'lru'"):
        flow_of(fake_block(fading(10), cell="lru")).plot(kind="gates")
    with pytest.raises(ArgumentError, match='measure with stats="full"'):
        flow_of(fake_block(fading(10), full=False)).plot(kind="gates")


# --- size ---------------------------------------------------------------------------------------------------


def test_a_million_steps_draw_at_once() -> None:
    rows = np.stack([fading(1_000_000, -1e-4 * k) for k in (1, 2, 3)])
    flow = GradientFlow.from_raw(fake_time(fake_block(rows)), {})
    start = time.perf_counter()
    for ax in (flow.plot(), flow.plot(x="back"), flow.plot(kind="heatmap"), flow.plot(kind="gates")):
        assert drawn(ax)
    # Four pictures; a point or a cell for every step would take far longer.
    assert time.perf_counter() - start < 20.0
