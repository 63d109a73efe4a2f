"""Tests of docs/theory.md: its code prints what it says, and its tables name all that vg.theory has."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from vgcore import theory

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "theory.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|text)\n(.*?)```", PAGE, flags=re.S)


def test_the_code_prints_what_it_says() -> None:
    names: dict[str, object] = {}
    pairs = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))
    assert len(pairs) == 3
    for (kind, code), (other, printed) in pairs:
        assert (kind, other) == ("python", "text")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert out.getvalue() == printed


def test_every_function_is_named() -> None:
    functions = [name for name in theory.__all__ if name[0].islower()]
    rare = "chi_1 chi_q length_map depth_scale scalar_recurrence largest_slope lyapunov_spectrum weight_law"
    rare += " alive_probability relu_fourth_moment stochastic_depth_blocks"
    missing = [name for name in functions if name not in rare.split() and f"`{name}" not in PAGE]
    assert not missing, f"docs/theory.md does not name {missing}"


def test_the_page_names_nothing_that_is_not_there() -> None:
    called = set(re.findall(r"vg\.theory\.(\w+)", PAGE))
    assert called
    assert all(hasattr(theory, name) for name in called)
