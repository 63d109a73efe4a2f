"""Benches, the machine: thread counts fixed before NumPy loads, what it is, how fast it reads memory.

Knows no workload.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any


def fix_threads(threads: int) -> None:
    """Give every library the same number of threads; must run before any of them is imported."""
    for name in ("OPENBLAS", "OMP", "MKL", "VGCORE"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["NPROC"] = str(threads)  # read by XLA, JAX's compiler, for its own pool
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        # No library can then use more processors than it was given, whatever it makes of the settings.
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, set(mine[:threads]))


def processor() -> str:
    """Return the processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(
            line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line
        )
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        name = fields.get("model name", "")
        if name:
            return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
    return platform.processor() or platform.machine()


def openblas_core() -> str:
    """Return which processor NumPy's OpenBLAS chose its kernels for, or "" where that cannot be asked."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return ""
    paths = {line.split()[-1] for line in maps.read_text().splitlines() if "openblas" in line}
    for path in sorted(paths, key=lambda p: "numpy" not in p):
        library = ctypes.CDLL(path)
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", ""):
                ask = getattr(library, f"{prefix}_get_corename{suffix}", None)
                if ask is not None:
                    ask.restype = ctypes.c_char_p
                    return str(ask().decode())
    return ""


def describe(threads: int) -> dict[str, Any]:
    """Return what the figures depend on: processor, threads, versions."""
    versions = {"python": platform.python_version()}
    for name in ("vgcore", "numpy", "torch", "jax", "jaxlib"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    import vgcore._core as core

    versions["vgcore"] = str(core.config()["version"])
    return {
        "cpu": processor(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "isa": core.config()["isa"],
        "openblas_kernels": openblas_core(),
        "versions": versions,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }


def peak(threads: int, seconds: float = 1.0) -> float:
    """Return the float32 fused-multiply-add rate of `threads` threads in GFLOP/s, as it is now."""
    import vgcore._core as core

    return float(core.measure_peak("float32", threads, seconds))


def read_bandwidth(array: Any, threads: int, repeats: int) -> float:
    """Return GB/s at which `threads` threads read `array`: the best of several NumPy reductions.

    Each thread reduces its own part with the interpreter's lock released. Reading cannot be faster than the
    memory, so the best of the candidates is the closest from below.
    """
    import numpy as np

    words = array.view(np.uint64)
    candidates = [
        lambda part: np.bitwise_or.reduce(part),
        lambda part: np.maximum.reduce(part.view(np.float32)),
        lambda part: np.add.reduce(part),
    ]
    best = 0.0
    for reduce in candidates:
        for _ in range(repeats):
            parts = np.array_split(words, threads)
            gate = threading.Barrier(threads + 1)

            def work(part: Any, reduce: Any = reduce, gate: threading.Barrier = gate) -> None:
                gate.wait()
                with np.errstate(all="ignore"):
                    reduce(part)

            crew = [threading.Thread(target=work, args=(part,)) for part in parts]
            for thread in crew:
                thread.start()
            gate.wait()
            start = time.perf_counter()
            for thread in crew:
                thread.join()
            best = max(best, array.nbytes / (time.perf_counter() - start) / 1e9)
    return best


def log(text: str) -> None:
    """Say on standard error what is going on, so that standard output stays the table."""
    print(text, file=sys.stderr, flush=True)
