"""Tests of README.md: its code runs and prints what it says; its commands, links and picture are real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason='README\'s code uses the digits: pip install "vgcore[study]"')

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SCRIPT = ROOT / "scripts" / "make_readme_outputs.py"
TEXT = README.read_text(encoding="utf-8")


def test_the_code_prints_what_it_says() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False, timeout=600
    )
    hint = "if the new output is right: python scripts/make_readme_outputs.py"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{hint}"


def test_the_first_screen_has_code_of_six_lines_and_the_two_commands() -> None:
    first = TEXT[: TEXT.index("\n## ")]
    (code,) = re.findall(r"```python\n(.*?)```", first, flags=re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 6
    assert 'pip install ".[study]" && vgcore study\n' in first
    assert 'pip install ".[test]" && pytest\n' in first


def test_relative_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", TEXT)
    assert any(link.endswith(".png") for link in links), "README has lost its picture"
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), f"README links to {link}, which does not exist"


def test_every_command_shown_exists() -> None:
    from vgcore.cli import build_parser

    parser = build_parser()
    shown = re.findall(r"^(?:\$ )?vgcore (.+?)(?:\s{2,}#.*)?$", TEXT, flags=re.M)
    assert len(shown) >= 3
    for line in shown:
        parser.parse_args(line.split())  # exits, and so fails, where a command or an option does not exist


def test_what_it_measures_is_what_a_flow_has() -> None:
    import vgcore as vg

    section = TEXT.split("## What it measures")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "`" in line]
    named = [name for row in rows for name in re.findall(r"`(?:flow)?\.(\w+)", row)]
    assert len(named) > 15
    assert [name for name in named if not hasattr(vg.GradientFlow, name)] == []
