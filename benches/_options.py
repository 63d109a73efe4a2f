"""Benches, what all of them can be asked on the command line. Knows no workload."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def parser(text: str | None, quick: str, repeats: int, rows: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser with the common options; `text` is the bench's docstring, `quick` what --quick does."""
    result = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--quick", action="store_true", help=f"{quick}, three rounds")
    result.add_argument(
        "--repeats", type=int, default=0, metavar="N", help=f"rounds, at least 1 (default {repeats}; quick 3)"
    )
    result.add_argument(
        "--threads", type=int, default=2, metavar="N", help="threads for everybody (default 2)"
    )
    result.add_argument("--rows", nargs="+", choices=rows, default=list(rows), help="which parts to run")
    result.add_argument(
        "--peers", nargs="*", choices=("torch", "jax"), default=["torch", "jax"],
        help="optional peers to ask",
    )  # fmt: skip
    result.add_argument(
        "--json", type=Path, metavar="FILE", help='write every figure to FILE ("-": standard output)'
    )
    result.set_defaults(usual=repeats)
    return result


def parsed(options: argparse.ArgumentParser) -> argparse.Namespace:
    """Return what was asked for, checked, with `repeats` filled in."""
    result = options.parse_args()
    if result.threads < 1 or result.repeats < 0:
        options.error("--threads and --repeats must be positive")
    result.repeats = result.repeats or (3 if result.quick else result.usual)
    return result


def emit(result: dict[str, Any], tables: str, where: Path | None) -> int:
    """Print the tables and write every figure to `where` ("-": print those instead); return the exit code."""
    text = json.dumps(result, indent=1)
    if where == Path("-"):
        print(text)
        return 0
    if where:
        where.write_text(text + "\n")
    print(tables)
    return 0
