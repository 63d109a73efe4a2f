"""Benches, the very deep probe: time and peak memory in a process of its own.

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


def inside(layers: int, width: int, batch: int, stats: str) -> dict[str, Any]:
    """Build, probe and return what it took, in this process."""
    import resource

    import numpy as np
    import vgcore as vg

    # Kilobytes, save on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    start = time.perf_counter()
    net = vg.mlp(depth=layers, width=width, activation="tanh", init="glorot_normal", rng=0)
    built = time.perf_counter()
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((batch, width), np.float32) for _ in range(2))
    flow = net.probe(x, y, loss="mse", stats=stats)
    done = time.perf_counter()
    return {
        "stats": stats,
        "build_seconds": built - start,
        "probe_seconds": done - built,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "steps": flow.steps,
    }


def measure(layers: int, width: int, batch: int, repeats: int) -> list[dict[str, Any]]:
    """Return, for each kind of statistics, the run of median time among several fresh processes."""
    rows = []
    for stats in ("norms", "full"):
        runs = []
        for _ in range(repeats):
            command = [
                sys.executable,
                str(Path(__file__).resolve()),
                str(layers),
                str(width),
                str(batch),
                stats,
            ]
            # A pipe alone, no fork of this large process: the peak would be that of the copy.
            text = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout
            runs.append(json.loads(text))
        runs.sort(key=lambda run: run["probe_seconds"])
        rows.append(runs[len(runs) // 2] | {"layers": layers, "width": width, "batch": batch})
    return rows


if __name__ == "__main__":
    size = [int(a) for a in sys.argv[1:4]]
    print(json.dumps(inside(*size, sys.argv[4])))
