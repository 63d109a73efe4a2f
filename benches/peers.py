"""Benches, side by side: vgcore, NumPy and, where installed, PyTorch and JAX in turn, in one run.

    python benches/peers.py                      # the whole table, a few minutes
    python benches/peers.py --quick              # smaller, for a look
    python benches/peers.py --openblas SkylakeX  # the same with NumPy's OpenBLAS told which kernels to use
    python benches/peers.py --json result.json   # also every figure, for programs

See benches/README.md for what is compared and how.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _machine import describe, fix_threads, log

ROWS = ("training", "probe", "stats")


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer layers, a smaller array, three rounds")
    parser.add_argument(
        "--repeats", type=int, default=0, metavar="N", help="rounds, at least 1 (default 11; quick 3)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="threads for everybody (default 2)"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which parts to run")
    parser.add_argument(
        "--workloads", nargs="+", metavar="L,W,B", help="other training workloads: layers,width,batch"
    )
    parser.add_argument("--peers", nargs="*", choices=("torch", "jax"), default=["torch", "jax"],
                        help="optional peers to ask (NumPy always takes part)")  # fmt: skip
    parser.add_argument("--no-bias", action="store_true", help="leave the bias out, for everybody")
    parser.add_argument(
        "--openblas", metavar="CORE", help="run with OPENBLAS_CORETYPE=CORE, for example SkylakeX or Haswell"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help='write every figure to FILE ("-": standard output)'
    )
    options = parser.parse_args()
    if options.threads < 1 or options.repeats < 0:
        parser.error("--threads and --repeats must be positive")
    options.repeats = options.repeats or (3 if options.quick else 11)
    return options


def milliseconds(seconds: float) -> str:
    """Return a time in ms with three digits."""
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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


def machine_text(machine: dict[str, Any], peak: float) -> str:
    """Return what the figures depend on as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = "/".join(f"{x:.1f}" for x in machine["load_average"])
    return (
        f"{machine['cpu']}, {machine['cpus']} processors, {machine['threads']} threads each; "
        f"{machine['system']}; "
        f"vgcore on {machine['isa']}, OpenBLAS kernels {machine['openblas_kernels'] or 'unknown'}; "
        f"{versions}; "
        f"measured float32 peak {peak:.0f} GFLOP/s; load average at the start {load}."
    )


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
    text = json.dumps(result, indent=1)
    if options.json == Path("-"):
        print(text)
        return 0
    if options.json:
        options.json.write_text(text + "\n")
    print("\n\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
