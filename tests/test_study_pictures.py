"""Pictures of studies: what stands in rows, columns and titles, and that all of it can be read."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import plotting
from vgcore.study import Study, StudyResult

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(24, 12)).astype(np.float32), rng.integers(0, 3, 24)


def small(**axes: Any) -> Study:
    given: dict[str, Any] = {"depth": [3, 6], "width": 8, "activation": ["tanh", "sigmoid"]}
    return Study(**(given | axes))


@pytest.fixture(scope="module")
def result(data: tuple[Any, Any]) -> StudyResult:
    return small(init=["glorot_normal", "orthogonal"], seeds=[0, 1]).run(*data, progress=False)


@pytest.mark.parametrize("kind", ["curves", "heatmap", "rate"])
def test_pictures(result: StudyResult, kind: str) -> None:
    ax = result.plot(kind)
    ax.figure.canvas.draw()
    assert ax.get_title()
    if kind == "curves":
        assert len(ax.lines) == 4
        assert "depth 6" in ax.get_title()
        assert len(result.plot(kind, depth=3, activation="tanh", seed=[0, 1]).lines) == 4
        assert len(result.plot(kind, depth=[3, 6], relative=True).lines) == 8


def row_names(ax: Any) -> list[str]:
    return [text.get_text().replace("\n", ", ") for text in ax.get_yticklabels()]


def numbers(ax: Any) -> Any:
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def test_a_heat_map_has_a_row_for_every_combination(data: tuple[Any, Any]) -> None:
    found = small(depth=8, init=["glorot_normal", "orthogonal"], skip=[None, "residual"], width=[8, 16]).run(
        *data, progress=False
    )
    ax = found.plot("heatmap")
    assert row_names(ax) == [
        f"{activation}, width {width}, skip {skip}"
        for activation in ("tanh", "sigmoid")
        for width in (8, 16)
        for skip in ("default", "residual")
    ]
    rates = [
        [
            found.select(activation=a, width=w, skip=s, init=i)[0]["quantities"]["decades_per_step"]
            for i in ("glorot_normal", "orthogonal")
        ]
        for a in ("tanh", "sigmoid")
        for w in (8, 16)
        for s in (None, "residual")
    ]
    np.testing.assert_array_equal(numbers(ax), rates)
    assert ax.get_title() == "Decades per layer towards the input\ndepth 8"
    chosen = found.plot("heatmap", skip="residual", width=16)
    assert row_names(chosen) == ["tanh", "sigmoid"]
    assert chosen.get_title() == "Decades per layer towards the input\ndepth 8, width 16, skip residual"


def test_titles_tell_what_cells_share_and_end_there(result: StudyResult, data: tuple[Any, Any]) -> None:
    expected = "Decades per layer towards the input\ndepth 6, width 8, medians of 2 seeds"
    assert result.plot("heatmap").get_title() == expected
    assert result.plot("curves").get_title() == "Gradient norm against layer: depth 6, width 8, seed 0"
    wide = small(init=["glorot_normal", "orthogonal"], width=[8, 16]).run(*data, progress=False)
    assert wide.plot("rate").get_title() == "Decades per layer against depth, 95 % intervals"


def test_the_label_of_the_colours_is_whole_however_few_rows_there_are(result: StudyResult) -> None:
    for ax in (
        result.plot("heatmap", activation="tanh"),
        plotting.plot_heatmap([[0.1]], ["tanh"], ["zeros"]),
    ):
        ax.figure.savefig(io.BytesIO(), format="png", dpi=80)  # which lays everything out
        label = ax.images[-1].colorbar.ax.yaxis.label
        assert label.get_text() == "decades per layer\nnegative = vanishing"
        box, page = label.get_window_extent(), ax.figure.bbox
        assert 0 <= box.y0 < box.y1 <= page.height
        assert 0 <= box.x0 < box.x1 <= page.width
        title = ax.title.get_window_extent()
        assert 0 <= title.x0 < title.x1 <= page.width


def test_bad_pictures_are_refused(result: StudyResult) -> None:
    with pytest.raises(vg.ArgumentError, match="'curves', 'heatmap', 'rate'"):
        result.plot("pie")
    for kind in ("curves", "heatmap", "rate"):
        with pytest.raises(vg.ArgumentError, match=r"ax: expected None or a matplotlib Axes, got 3 \(int\)"):
            result.plot(kind, 3)
