"""Pictures: what is drawn, on which Axes, for ten steps and for a million."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from test_flow import falling, flow_of
from vgcore import plotting
from vgcore.errors import ArgumentError

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def drawn(ax: Any) -> bytes:
    stream = io.BytesIO()
    ax.figure.savefig(stream, format="png", dpi=40)
    return stream.getvalue()


def texts(ax: Any) -> str:
    return " | ".join(
        [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)]
    )


def test_plot_returns_axes_and_leaves_pyplot_alone() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    ax = flow_of(falling(10)).plot()
    assert pyplot.get_fignums() == before
    assert "decades per step" in ax.get_title()
    assert "nearest the input" in ax.get_xlabel()
    assert drawn(ax)


def test_plot_draws_on_the_given_axes_and_passes_line_properties() -> None:
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert flow_of(falling(10)).plot(ax=ax, color="red", linewidth=3) is ax
    assert ax.lines[0].get_color() == "red"
    assert ax.lines[0].get_linewidth() == 3


def test_limits_of_formats_are_drawn_where_the_curve_passes_them() -> None:
    assert "float32: zero below" in texts(flow_of(falling(200)).plot())
    assert "float16: zero below" in texts(flow_of(falling(20)).plot())
    assert "float32" not in texts(flow_of(falling(20)).plot())
    assert "overflows above" in texts(flow_of(falling(200, rate=0.5)).plot())
    assert "float" not in texts(flow_of(falling(200)).plot(formats=()))


@pytest.mark.parametrize("steps", [1, 2, 10, 4000, 4001, 100_000])
def test_any_number_of_steps(steps: int) -> None:
    ax = flow_of(falling(steps, rate=-1e-4), full=False).plot()
    assert len(ax.lines[0].get_xdata()) <= plotting.MOST_POINTS
    assert drawn(ax)


def test_bins_keep_every_extreme() -> None:
    values = np.random.default_rng(0).normal(size=1_000_003)
    values[123_456], values[7] = 99.0, np.nan
    x, middle, low, high = plotting.binned(values)
    assert x.size == plotting.MOST_POINTS
    assert np.nanmax(high) == 99.0
    assert np.nanmin(low) == np.nanmin(values)
    assert np.all((low <= middle) & (middle <= high))


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
@pytest.mark.parametrize("steps", [30, 10_000])
def test_lost_ends_are_marked(value: float, steps: int) -> None:
    curve = falling(steps, rate=-0.01)
    curve[: steps // 3] = value
    ax = flow_of(curve, full=False).plot()
    word = {-np.inf: "exactly 0 from", np.inf: "infinite from"}.get(value, "NaN from")
    assert word in texts(ax)
    assert drawn(ax)


def test_all_zero_draws_an_empty_picture() -> None:
    assert drawn(flow_of(np.full(5, -np.inf), full=False).plot())


@pytest.mark.parametrize("steps", [5, 100, 5000])
@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_curve_without_a_finite_point_is_named_in_the_legend(steps: int, value: float) -> None:
    curves = {"lost": (np.arange(steps), np.full(steps, value)), "fine": (np.arange(steps), falling(steps))}
    ax = plotting.plot_curves(curves)
    assert drawn(ax)
    label = ax.get_legend().get_texts()[0].get_text()
    assert label == ("lost (exactly 0)" if value == -np.inf else "lost (NaN)")


def test_several_quantities_and_a_bad_one() -> None:
    ax = flow_of(falling(10)).plot(quantity=["log10_grad_norm", "log10_weight_grad_norm"])
    assert len(ax.get_legend().get_texts()) == 2
    for bad in ("loss", "steps", "nothing"):
        with pytest.raises(ArgumentError, match="log10_grad_norm"):
            flow_of(falling(10)).plot(quantity=bad)


def test_curves_of_very_different_depth_share_an_axis() -> None:
    curves = {str(n): (np.arange(n), falling(n)) for n in (10, 1000)}
    ax = plotting.plot_curves(curves, relative=True)
    assert max(line.get_xdata()[-1] for line in ax.lines) == 1.0
    assert ax.get_yscale() == "symlog"
    assert drawn(ax)


def test_no_two_of_six_lines_look_alike_without_colour() -> None:
    curves = {str(i): (np.arange(5), np.arange(5.0) * i) for i in range(6)}
    ax = plotting.plot_curves(curves)
    lines = [line for line in ax.lines if line.get_marker() != "None"]  # without the limits of formats
    looks = {(str(line._dash_pattern), line.get_marker()) for line in lines}
    assert len(looks) == 6


def test_heatmap() -> None:
    grid = [[-0.6, 0.0], [0.002, np.nan]]
    ax = plotting.plot_heatmap(grid, ["a", "b"], ["c", "d"], marks=[["vanishing", ""], ["", ""]])
    assert "-0.6\nvanishing" in [text.get_text() for text in ax.texts]
    assert "no rate" in [text.get_text() for text in ax.texts]
    assert drawn(ax)
    assert drawn(plotting.plot_heatmap([[np.nan]], ["a"], ["b"]))
    assert drawn(plotting.plot_heatmap([[0.0]], ["a"], ["b"]))


def test_rates() -> None:
    lines = {
        "a": ([10, 100], [-0.6, -0.61], [-0.7, -0.62], [-0.5, -0.6]),
        "b": ([10], [np.nan], [np.nan], [np.nan]),
    }
    ax = plotting.plot_rates(lines)
    assert ax.get_xscale() == "log"
    assert drawn(ax)
    assert drawn(plotting.plot_rates({"z": ([10, 100], [0.0, 0.0], [-np.inf, 0.0], [np.inf, 0.0])}))


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = (
        "import sys, vgcore.plotting, vgcore.flow, vgcore.diagnosis;"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('matplotlib', 'pandas', 'sklearn')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vgcore.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "vgcore\[plot\]"'):
        flow_of(falling(3)).plot()
