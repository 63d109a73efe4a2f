"""Tests of docs/cures.md: its code prints what it says, and its table names every cure there is."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import vgcore as vg

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "cures.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|text)\n(.*?)```", PAGE, flags=re.S)


def test_the_code_prints_what_it_says() -> None:
    names: dict[str, object] = {}
    pairs = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))
    assert len(pairs) == 2
    for (kind, code), (other, printed) in pairs:
        assert (kind, other) == ("python", "text")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert out.getvalue() == printed


def test_the_table_names_every_cure_and_no_other() -> None:
    rows = "".join(line for line in PAGE.splitlines() if line.startswith("| ") and "| ---" not in line)
    named = {re.split(r"[:<]", text)[0] for text in re.findall(r"`([a-z]\w*[^`]*)`", rows)}
    assert named == set(vg.mitigations.names())


def test_what_the_page_calls_is_there() -> None:
    called = set(re.findall(r"`?vg\.((?:\w+\.)*\w+)", PAGE))
    assert {"chunker", "depth.progressive", "mitigations.predict"} <= called
    for path in called:
        found: object = vg
        for part in path.split("."):
            found = getattr(found, part)
