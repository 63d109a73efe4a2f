"""Benches, side by side: vgcore, NumPy and, where installed, PyTorch and JAX in turn, in one run.

    python benches/peers.py                      # the whole table, a few minutes
    python benches/peers.py --quick              # smaller, for a look
    python benches/peers.py --openblas SkylakeX  # the same with NumPy's OpenBLAS told which kernels to use
    python benches/peers.py --json result.json   # also every figure, for programs

See benches/README.md for what is compared and how.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _machine import describe, fix_threads, log
from _options import emit, parsed, parser
from _texts import machine_text, milliseconds, table

ROWS = ("training", "probe", "stats")


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    options = parser(__doc__, "a tenth of the layers, a smaller array", 11, ROWS)
    options.add_argument(
        "--workloads", nargs="+", metavar="L,W,B", help="other training workloads: layers,width,batch"
    )
    options.add_argument("--no-bias", action="store_true", help="leave the bias out, for everybody")
    options.add_argument(
        "--openblas", metavar="CORE", help="run with OPENBLAS_CORETYPE=CORE, for example SkylakeX or Haswell"
    )
    return parsed(options)


def training_text(rows: list[dict[str, Any]]) -> str:
    """Return the training rows as Markdown: times, ratios, fraction of the peak, cost of statistics."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["ratios"]))
    head = ["layers, width, batch", "vgcore ms", *(f"{p} ms" for p in peers)]
    head += [f"{p} / vgcore" for p in peers] + [
        "GFLOP/s",
        "of peak",
        "norms cost",
        "full cost",
        "vgcore, full stats ms",
    ]
    body = []
    for row in rows:
        times = row["times"]
        cells = [f"{row['layers']}, {row['width']}, {row['batch']}", milliseconds(times["vgcore"]["median"])]
        cells += [milliseconds(times[p]["median"]) if p in times else "-" for p in peers]
        cells += [f"{row['ratios'][p]:.2f}" if p in row["ratios"] else "-" for p in peers]
        cells += [f"{row['gflops']:.0f}", f"{row['peak_fraction']:.1%}"]
        cells += [f"{row['statistics_cost'][s]:+.1%}" for s in ("norms", "full")]
        cells += [milliseconds(times["vgcore full"]["median"])]
        body.append(cells)
    notes = []
    for row in rows:
        shape = f"{row['layers']}, {row['width']}, {row['batch']}"
        probe = ", ".join(f"{name} {milliseconds(t)} ms" for name, t in row["probe_seconds"].items())
        differ = max(row["largest_norm_difference"].values())
        forms = "; ".join(f"{p}: {f}" for p, f in row["forms"].items())
        notes.append(
            f"- {shape}: peak {row['peak_gflops']:.0f} GFLOP/s; probe with {probe}; largest difference of a "
            f"norm {differ:.1e}; forms: {forms}"
        )
    skipped = {p: why for row in rows for p, why in row["skipped"].items()}
    notes += [f"- {peer} skipped: {why}" for peer, why in skipped.items()]
    return "### Training step\n\n" + table(head, body) + "\n\n" + "\n".join(notes)


def probe_text(rows: list[dict[str, Any]]) -> str:
    """Return the very deep probe as Markdown."""
    body = [
        [f"{r['layers']:,}, {r['width']}, {r['batch']}", r["stats"], f"{r['build_seconds']:.2f}",
         f"{r['probe_seconds']:.2f}", f"{r['peak_bytes'] / 2**30:.2f}"]
        for r in rows
    ]  # fmt: skip
    head = ["layers, width, batch", "statistics", "build s", "probe s", "peak GiB of the process"]
    return "### Probe, in a process of its own\n\n" + table(head, body)


def stats_text(row: dict[str, Any]) -> str:
    """Return the statistics of one array as Markdown."""
    mine = row["times"]["vgcore"]["median"]
    body = [["vgcore", milliseconds(mine), "1"]]
    body += [
        [n, milliseconds(row["times"][n]["median"]), f"{ratio:.1f}"] for n, ratio in row["ratios"].items()
    ]
    note = (
        f"vgcore reads {row['gb_per_s']:.1f} GB/s, {row['bandwidth_fraction']:.0%} of the "
        f"{row['read_bandwidth_gb_per_s']:.1f} GB/s at which the threads read the same array."
    )
    title = f"### Statistics of {row['count']:,} float32\n\n"
    return title + table(["", "ms", "time / vgcore's"], body) + "\n\n" + note


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for and return every figure."""
    import _deep
    import _magnitudes
    import _training
    from _machine import peak

    result: dict[str, Any] = {"machine": describe(options.threads), "peak_gflops": peak(options.threads)}
    result["repeats"], result["quick"] = options.repeats, options.quick
    works = list(_training.TABLE)
    if options.workloads:
        works = [_training.Workload(*(int(n) for n in text.split(","))) for text in options.workloads]
    elif options.quick:
        works = [_training.Workload(max(10, w.layers // 10), w.width, w.batch) for w in works]
    if "probe" in options.rows:
        # First: this process is still small.
        log("  deep probe")
        result["probe"] = _deep.measure(
            10_000 if options.quick else 100_000, 32, 16, 1 if options.quick else 3
        )
    if "training" in options.rows:
        result["training"] = [
            _training.measure(w, options.threads, options.repeats, not options.no_bias, set(options.peers))
            for w in works
        ]
    if "stats" in options.rows:
        result["stats"] = _magnitudes.measure(
            5_000_000 if options.quick else 50_000_000, options.threads, max(3, options.repeats // 2)
        )
    return result


def main() -> int:
    """Run the benches and print the table."""
    options = arguments()
    if options.openblas and os.environ.get("OPENBLAS_CORETYPE") != options.openblas:
        # OpenBLAS reads it once, when NumPy loads it: a new process is the only way.
        return subprocess.run(
            [sys.executable, *sys.argv], env=os.environ | {"OPENBLAS_CORETYPE": options.openblas}, check=False
        ).returncode
    fix_threads(options.threads)
    result = run(options)
    parts = [machine_text(result["machine"], result["peak_gflops"])]
    if "training" in result:
        parts.append(training_text(result["training"]))
    if "probe" in result:
        parts.append(probe_text(result["probe"]))
    if "stats" in result:
        parts.append(stats_text(result["stats"]))
    return emit(result, "\n\n".join(parts), options.json)


if __name__ == "__main__":
    sys.exit(main())
