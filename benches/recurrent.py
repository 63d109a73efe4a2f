"""Benches, recurrent networks side by side: vgcore, PyTorch and JAX in turn, in one run.

    python benches/recurrent.py                      # the whole table, some minutes
    python benches/recurrent.py --quick              # a tenth of the steps, three rounds
    python benches/recurrent.py --json result.json   # also every figure, for programs

The work: gradients of all weights and, step by step, the norms of dL/dh_t (and dL/dc_t), float32, 32 inputs,
mean squared error of the last state. See benches/README.md for what is compared and how.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _machine import describe, fix_threads, log
from _options import emit, parsed, parser
from _texts import machine_text, milliseconds, table

ROWS = ("table", "long")


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    options = parser(__doc__, "a tenth of the steps", 9, ROWS)
    options.add_argument(
        "--workloads", nargs="+", metavar="CELL,T,B,H", help="other rows: cell,steps,batch,hidden"
    )
    options.add_argument(
        "--patience", type=float, default=30.0, metavar="S",
        help="leave out a peer's form whose one call takes longer (default %(default)s s)",
    )  # fmt: skip
    return parsed(options)


def table_text(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown: times, ratios, fraction of the peak, and notes."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["ratios"]))
    head = ["cell, steps, batch, hidden", "vgcore ms", *(f"{p} ms" for p in peers)]
    head += ["best peer / vgcore", "GFLOP/s", "of peak", "probe ms", "probe, full stats ms"]
    body, notes = [], []
    for row in rows:
        times, name = row["times"], title(row)
        cells = [name, milliseconds(times["vgcore"]["median"])]
        cells += [
            f"{milliseconds(times[p]['median'])} ({row['ratios'][p]:.2f})" if p in times else "-"
            for p in peers
        ]
        ratio = row["ratio_to_best"]
        cells += ["-" if ratio is None else f"**{ratio:.2f}** ({row['best_peer']})"]
        cells += [f"{row['gflops']:.0f}", f"{row['peak_fraction']:.1%}"]
        cells += [milliseconds(row["probe_times"][s]["median"]) for s in ("norms", "full")]
        body.append(cells)
        forms = "; ".join(f"{p}: {f}" for p, f in row["forms"].items())
        zeros = max(row["steps_that_read_zero"].values(), default=0)
        differ = max(row["largest_difference"].values(), default=float("nan"))
        notes.append(
            f"- {name}: peak {row['peak_gflops']:.0f} GFLOP/s; largest difference {differ:.1e}; "
            f"|dL/dh_0| = 1e{row['log10_norm_first_step']:.1f}, peers read 0 at up to {zeros:,} of "
            f"{row['steps']:,} steps; forms: {forms}"
        )
        notes += [f"- {name}: {peer} skipped: {why}" for peer, why in row["skipped"].items()]
    text = "### Gradients of all weights and norms of every step\n\n" + table(head, body)
    return text + "\n\nIn brackets: time / vgcore's.\n\n" + "\n".join(notes)


def title(row: dict[str, Any]) -> str:
    """Return what a row is called."""
    return f"{row['cell']} {row['steps']:,}, {row['batch']}, {row['hidden']}"


def long_text(rows: list[dict[str, Any]]) -> str:
    """Return the long runs as Markdown."""
    body = [
        [r["what"], r["budget"] or "automatic", f"{r['seconds']:.1f}", f"{r['input_bytes'] / 2**20:.0f}",
         f"{r['beyond_bytes'] / 2**20:.0f}", r["plan"]]
        for r in rows
    ]  # fmt: skip
    head = ["run", "memory_budget", "s", "input MiB", "peak MiB beyond Python and input", "plan"]
    return "### Very long and very deep, each in a process of its own\n\n" + table(head, body)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for and return every figure."""
    import _long
    import _recurrent
    from _machine import peak

    result: dict[str, Any] = {"machine": describe(options.threads), "peak_gflops": peak(options.threads)}
    result["repeats"], result["quick"] = options.repeats, options.quick
    works = list(_recurrent.TABLE)
    if options.workloads:
        cut = [text.split(",") for text in options.workloads]
        works = [_recurrent.Workload(cell, *map(int, sizes)) for cell, *sizes in cut]
    elif options.quick:
        works = [replace(w, steps=max(10, w.steps // 10)) for w in works]
    if "long" in options.rows:
        log("  long runs")
        result["long"] = _long.measure(10 if options.quick else 1)
    if "table" in options.rows:
        peers = set(options.peers)
        result["table"] = [
            _recurrent.measure(w, options.threads, options.repeats, peers, options.patience) for w in works
        ]
    return result


def main() -> int:
    """Run the benches and print the tables."""
    options = arguments()
    fix_threads(options.threads)
    result = run(options)
    parts = [machine_text(result["machine"], result["peak_gflops"])]
    if "table" in result:
        parts.append(table_text(result["table"]))
    if "long" in result:
        parts.append(long_text(result["long"]))
    return emit(result, "\n\n".join(parts), options.json)


if __name__ == "__main__":
    sys.exit(main())
