"""Benches, statistics of one large array: vgcore against the same figures from NumPy, and the memory's speed.

Knows no networks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import vgcore as vg
from _machine import log, read_bandwidth
from _timing import alternate

# Half the smallest number of each narrower format that a float32 can still tell from zero.
HALF = {"bfloat16": -134, "float16": -25, "float8_e5m2": -17, "float8_e4m3": -10}
CHUNK = 1 << 16


def array_of(count: int) -> Any:
    """Return gradients as they come: magnitudes over many binades, both signs, some exact zeros."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal(count, np.float32)
    values *= np.exp2(rng.standard_normal(count, np.float32) * 4 - 12)
    values[rng.integers(0, count, count // 100)] = 0
    return values


def plain(array: Any) -> dict[str, Any]:
    """Return the figures as one writes them down: a whole-array expression each."""
    magnitude = np.abs(array)
    exponents = (array.view(np.uint32) >> 23) & 0xFF
    return {
        "norm": float(np.sqrt(np.sum(np.square(array, dtype=np.float64)))),
        "max": float(magnitude.max()),
        "mean_abs": float(magnitude.mean(dtype=np.float64)),
        "mean": float(array.mean(dtype=np.float64)),
        "zero": int(array.size - np.count_nonzero(array)),
        "nan": int(np.count_nonzero(np.isnan(array))),
        "inf": int(np.count_nonzero(np.isinf(array))),
        "flush": {
            name: int(np.count_nonzero(magnitude <= np.float32(2.0**k))) - int(np.count_nonzero(array == 0))
            for name, k in HALF.items()
        },
        "hist": np.bincount(exponents, minlength=256),
    }


class Chunked:
    """The same in pieces that stay in cache, into buffers made once; on one thread or several.

    NaN and infinities are told by the exponent histogram, so that they cost nothing unless there are some;
    zeros by a count of the non-zero. Sums go through a float64 copy of the piece; BLAS takes its dot product.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __call__(self, array: Any) -> dict[str, Any]:
        """Return the figures of `array`."""
        if self.pool is None:
            parts = [self.part(array)]
        else:
            parts = list(self.pool.map(self.part, np.array_split(array, self.threads)))
        count = array.size
        hist = sum(p["hist"] for p in parts)
        odd = int(hist[255])
        zero = sum(p["zero"] for p in parts)
        return {
            "norm": float(np.sqrt(sum(p["squares"] for p in parts))),
            "max": float(max(p["max"] for p in parts)),
            "mean_abs": sum(p["abs"] for p in parts) / count,
            "mean": sum(p["sum"] for p in parts) / count,
            "zero": zero,
            "nan": int(np.count_nonzero(np.isnan(array))) if odd else 0,
            "inf": int(np.count_nonzero(np.isinf(array))) if odd else 0,
            "flush": {name: sum(p["flush"][name] for p in parts) - zero for name in HALF},
            "hist": hist,
        }

    @staticmethod
    def part(array: Any) -> dict[str, Any]:
        """Return sums and counts of one contiguous part."""
        magnitude = np.empty(CHUNK, np.float32)
        wide = np.empty(CHUNK, np.float64)
        bits = np.empty(CHUNK, np.uint32)
        index = np.empty(CHUNK, np.int64)
        flag = np.empty(CHUNK, np.bool_)
        hist = np.zeros(256, np.int64)
        limits = {name: np.float32(2.0**k) for name, k in HALF.items()}
        flush = dict.fromkeys(HALF, 0)
        squares = absolute = total = 0.0
        top, zero = np.float32(0), 0
        for at in range(0, len(array), CHUNK):
            x = array[at : at + CHUNK]
            n = len(x)
            m, w, b, i, f = magnitude[:n], wide[:n], bits[:n], index[:n], flag[:n]
            np.abs(x, out=m)
            top = max(top, m.max())
            np.copyto(w, x)
            squares += float(np.dot(w, w))
            total += float(w.sum())
            absolute += float(m.sum(dtype=np.float64))
            zero += n - int(np.count_nonzero(x))
            for name, limit in limits.items():
                np.less_equal(m, limit, out=f)
                flush[name] += int(np.count_nonzero(f))
            np.right_shift(m.view(np.uint32), 23, out=b)
            np.copyto(i, b)
            hist += np.bincount(i, minlength=256)
        return {
            "squares": squares, "abs": absolute, "sum": total, "max": top, "zero": zero,
            "flush": flush, "hist": hist,
        }  # fmt: skip


def check(name: str, found: dict[str, Any], ours: Any) -> None:
    """Raise if a peer's figures are not vgcore's."""
    wanted = {
        "norm": ours.norm, "max": 2.0**ours.log2_max, "mean_abs": 2.0**ours.log2_mean_abs, "mean": ours.mean
    }  # fmt: skip
    for key, value in wanted.items():
        if not abs(found[key] - value) <= 1e-6 * wanted["norm" if key == "norm" else "max"]:
            raise SystemExit(f"{name}: {key} is {found[key]!r}, vgcore says {value!r}")
    counts = {"zero": ours.zero, "nan": ours.nan, "inf": ours.inf}
    counts |= {f"flush {k}": ours.flush[k] for k in HALF}
    theirs = {key: found[key] for key in ("zero", "nan", "inf")} | {
        f"flush {k}": found["flush"][k] for k in HALF
    }
    if counts != theirs:
        raise SystemExit(f"{name}: counts are {theirs}, vgcore says {counts}")
    hist = np.zeros(256, np.int64)
    normal = ours.exponents >= -126
    hist[ours.exponents[normal] + 127] = ours.counts[normal]
    if not np.array_equal(hist[1:255], found["hist"][1:255]):
        raise SystemExit(f"{name}: the exponent histogram is not vgcore's")


def measure(count: int, threads: int, repeats: int) -> dict[str, Any]:
    """Return times and ratios for an array of `count` float32."""
    log(f"  statistics of {count:,} float32")
    array = array_of(count)
    peers = {
        "numpy, whole array": plain,
        "numpy, in cache": Chunked(1),
        f"numpy, in cache, {threads} threads": Chunked(threads),
    }
    ours = vg.gradient_stats(array)
    for name, peer in peers.items():
        check(name, peer(array), ours)
    contestants = {"vgcore": lambda: vg.gradient_stats(array)}
    contestants |= {name: (lambda peer=peer: peer(array)) for name, peer in peers.items()}
    bandwidth = read_bandwidth(array, threads, 5)
    times = alternate(contestants, repeats)
    bandwidth = max(bandwidth, read_bandwidth(array, threads, 5))
    mine = times["vgcore"]["median"]
    return {
        "count": count,
        "times": times,
        "ratios": {name: times[name]["median"] / mine for name in peers},
        "gb_per_s": array.nbytes / mine / 1e9,
        "read_bandwidth_gb_per_s": bandwidth,
        "bandwidth_fraction": array.nbytes / mine / 1e9 / bandwidth,
    }
