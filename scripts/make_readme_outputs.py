"""Runs the Python blocks of README.md and writes, or checks, the outputs printed below them.

A block marked ``text`` that directly follows one marked ``python`` is its output. All blocks share one
namespace, as they would in one interpreter. ``--check`` compares and changes nothing; without it the
outputs are written anew.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n?```text\n(?P<output>.*?)^```\n)?", re.M | re.S)


def run(code: str, namespace: dict[str, Any]) -> str:
    """Return what `code` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, README.name, "exec"), namespace)
    return printed.getvalue()


def renewed(text: str) -> str:
    """Return README with every output as the code prints it now."""
    namespace: dict[str, Any] = {"__name__": "readme"}
    parts, end = [], 0
    for block in BLOCK.finditer(text):
        printed = run(block["code"], namespace)
        if block["output"] is None:
            if printed:
                raise SystemExit(f"a block prints, but README shows no output:\n{block['code']}\n{printed}")
            continue
        parts += [text[end : block.start("output")], printed]
        end = block.end("output")
    if not parts:
        raise SystemExit("README has no python block with an output: is its form still what BLOCK expects?")
    return "".join([*parts, text[end:]])


def main() -> int:
    """Check or write; the exit code says whether README was true."""
    old = README.read_text(encoding="utf-8")
    new = renewed(old)
    if new == old:
        return 0
    if "--check" not in sys.argv[1:]:
        README.write_text(new, encoding="utf-8")
        return 0
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "README.md", "what it prints", lineterm=""
    )
    print("\n".join(lines))
    return 1


if __name__ == "__main__":
    sys.exit(main())
