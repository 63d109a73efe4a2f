"""Benches, networks of blocks side by side: vgcore, PyTorch and JAX in turn, in one run.

    python benches/blocks.py                      # the whole tables, a few minutes
    python benches/blocks.py --quick              # a tenth of the layers, three rounds
    python benches/blocks.py --json result.json   # also every figure, for programs

A training step of residual blocks with batch or layer normalisation and of highway layers, with the norm of
every weight gradient; what an optimizer costs; an epoch on real images. See benches/README.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _machine import describe, fix_threads
from _options import emit, parsed, parser
from _texts import machine_text, milliseconds, table

ROWS = ("blocks", "optimizers", "epoch")


def blocks_text(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown: times, ratios, notes."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["ratios"]))
    head = ["block, layers, width, batch", "vgcore ms", *(f"{p} ms" for p in peers), "best peer / vgcore"]
    body, notes = [], []
    for row in rows:
        best = row["best_peer"]
        cells = [row["work"], milliseconds(row["times"]["vgcore"]["median"])]
        cells += [milliseconds(row["times"][p]["median"]) if p in row["times"] else "-" for p in peers]
        body.append([*cells, "-" if best is None else f"**{row['ratios'][best]:.2f}** ({best})"])
        differ = max(row["largest_norm_difference"].values(), default=float("nan"))
        forms = "; ".join(f"{p}: {f}" for p, f in row["forms"].items())
        notes.append(f"- {row['work']}: largest difference of a norm {differ:.1e}; forms: {forms}")
        notes += [f"- {row['work']}: {peer} skipped: {why}" for peer, why in row["skipped"].items()]
    return "### Training step of blocks\n\n" + table(head, body) + "\n\n" + "\n".join(notes)


def optimizers_text(row: dict[str, Any]) -> str:
    """Return the optimizers' times as Markdown."""
    body = [
        [name, milliseconds(t["median"] / row["steps"]), f"{row['ratios'][name]:.2f}"]
        for name, t in row["times"].items()
    ]
    return f"### Step by optimizer: {row['work']}, tanh\n\n" + table(["", "ms a step", "time / SGD's"], body)


def epoch_text(row: dict[str, Any]) -> str:
    """Return the epoch's time in words."""
    return f"### Epoch\n\n{row['work']}: {row['times']['epoch']['median']:.2f} s"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for and return every figure."""
    import _blocks
    from _machine import peak

    result: dict[str, Any] = {"machine": describe(options.threads), "peak_gflops": peak(options.threads)}
    result["repeats"], result["quick"] = options.repeats, options.quick
    part = 10 if options.quick else 1
    if "blocks" in options.rows:
        works = [replace(w, layers=w.layers // part) for w in _blocks.TABLE]
        peers = set(options.peers)
        result["blocks"] = [_blocks.measure(w, options.threads, options.repeats, peers) for w in works]
    if "optimizers" in options.rows:
        result["optimizers"] = _blocks.optimizers(1000 // part, 256, 128, options.repeats)
    if "epoch" in options.rows:
        result["epoch"] = _blocks.epoch(100 // part, options.repeats)
    return result


def main() -> int:
    """Run the benches and print the tables."""
    options = parsed(parser(__doc__, "a tenth of the layers", 9, ROWS))
    fix_threads(options.threads)
    result = run(options)
    parts = [machine_text(result["machine"], result["peak_gflops"])]
    if "blocks" in result:
        parts.append(blocks_text(result["blocks"]))
    if "optimizers" in result:
        parts.append(optimizers_text(result["optimizers"]))
    if "epoch" in result:
        parts.append(epoch_text(result["epoch"]))
    return emit(result, "\n\n".join(parts), options.json)


if __name__ == "__main__":
    sys.exit(main())
