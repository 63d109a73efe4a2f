"""Benches, very long and very deep runs: time and peak memory, each in a process of its own.

Run as a script it is that process: it prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _machine import log

#: kind, size (steps or layers), budget.
RUNS = (
    ("lstm", 100_000, None),
    ("lstm", 1_000_000, None),
    ("lstm", 1_000_000, "192MB"),
    ("initial values", 1_000_000, "384MB"),
)


def inside(kind: str, size: int, budget: str | None) -> dict[str, Any]:
    """Run one probe in this process and return what it took."""
    import resource

    import numpy as np
    import vgcore as vg

    # Kilobytes, save on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    rng = np.random.default_rng(0)
    if kind == "lstm":
        what = f"lstm, {size:,} steps, batch 1, hidden 32"
        x, y = rng.standard_normal((1, size, 32), np.float32), rng.standard_normal((1, 32), np.float32)
        vg.rnn("lstm", 32, in_features=32, rng=0).probe(x[:, :10], y, loss="mse")
    else:
        what = f"{size:,} layers, width 32, batch 8, weights not stored"
        x, y = rng.standard_normal((8, 32), np.float32), rng.standard_normal((8, 32), np.float32)
        vg.mlp(10, 32, activation="tanh", stored=False, rng=0).probe(x, y, loss="mse")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    start = time.perf_counter()
    if kind == "lstm":
        net = vg.rnn("lstm", 32, in_features=32, rng=0)
    else:
        net = vg.mlp(size, 32, activation="tanh", init="glorot_normal", stored=False, rng=0)
    flow = net.probe(x, y, loss="mse", stats="norms", memory_budget=budget)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert flow.steps >= size
    return {
        "what": what,
        "budget": budget,
        "seconds": seconds,
        "input_bytes": x.nbytes,
        # Python, NumPy and the input were there before; of the rest this is an upper bound.
        "beyond_bytes": after - before,
        "plan": str(flow.raw.get("plan", "")),
    }


def measure(shrink: int) -> list[dict[str, Any]]:
    """Return every run that succeeds, `shrink` times shorter, each from a fresh process."""
    rows = []
    for kind, size, budget in RUNS:
        command = [sys.executable, str(Path(__file__).resolve()), kind, str(size // shrink), budget or ""]
        # Pipes alone, no fork of this large process: the peak would be that of the copy.
        done = subprocess.run(command, check=False, capture_output=True, env=os.environ)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            log(f"  {kind} {size // shrink:,}, budget {budget}: failed: {' '.join(reason)}")
            continue
        rows.append(json.loads(done.stdout))
    return rows


if __name__ == "__main__":
    print(json.dumps(inside(sys.argv[1], int(sys.argv[2]), sys.argv[3] or None)))
