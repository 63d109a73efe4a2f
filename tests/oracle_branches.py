"""Reference layer of the tests: layers that branch or draw, slow and readable, in NumPy.

Where branches begin, the oracle's program keeps x; where they end, the results of all branches meet here, in
the order in which `BRANCHES` gives them.  Random numbers are Philox4x32-10, written from its paper.  Knows
nothing of vgcore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Layer = tuple[Any, ...]
Chain = list[tuple[str, Layer]]
"""Layers that follow one another, each with its part of the parameters' names."""
U64 = (1 << 64) - 1


@dataclass(frozen=True)
class Training:
    """What draws are keyed by."""

    seed: int
    step: int = 0


# --- what branches there are --------------------------------------------------------------------------------


def numbered(layers: Sequence[Layer]) -> Chain:
    """Layers with their positions as names."""
    return [(str(position), layer) for position, layer in enumerate(layers)]


def _residual(layer: Layer, width: int) -> tuple[dict[str, Any], list[tuple[str, Chain]]]:
    options = layer[3] if len(layer) > 3 else {}
    end = {"what": "join", "scale": layer[2], "learned": False, "gain": 1.0, "survival": 1.0, **options}
    return end, [("shortcut.", numbered(end.pop("shortcut", ()))), ("", numbered(layer[1]))]


def _highway(layer: Layer, width: int) -> tuple[dict[str, Any], list[tuple[str, Chain]]]:
    _, body, plain, coupled = layer

    def gate(name: str) -> tuple[str, Chain]:
        return "", [(name, ("dense", width, True)), (name, ("activation", "sigmoid", {}))]

    transform = numbered(body or ())
    if body is None:
        function, params, bias = plain
        transform = [("transform", ("dense", width, bias)), ("transform", ("activation", function, params))]
    carry = [] if coupled else [gate("carry")]
    return {"what": "gate"}, [("", []), *carry, gate("gate"), ("", transform)]


def _concat(layer: Layer, width: int) -> tuple[dict[str, Any], list[tuple[str, Chain]]]:
    return {"what": "concat"}, [("", []), ("", numbered(layer[1]))]


#: By kind of layer: what ends its branches, and the branches, each with what its names begin with.
BRANCHES = {"residual": _residual, "highway": _highway, "concat": _concat}


# --- where they end -----------------------------------------------------------------------------------------


def meet(end: Mapping[str, Any], ends: Sequence[Array], scale: Any, there: float) -> Array:
    """What the branches' results become. `there`: 0 or 1 for a branch drawn, its probability in inference."""
    if end["what"] == "concat":
        return np.concatenate(ends, axis=1)
    if end["what"] == "gate":
        x, *carry, t, h = ends
        return t * h + (carry[0] if carry else 1 - t) * x
    skip, f = ends
    return end["gain"] * skip + (there * scale * f if there else 0.0)


def part(end: Mapping[str, Any], ends: Sequence[Array], scale: Any, there: float, g: Any) -> list[Any]:
    """Gradients of the branches' results from that of where they meet; `g`: rows with exponents."""
    of = type(g).of
    if end["what"] == "concat":
        n = ends[0].shape[1]
        return [of(g.m[:, :n], g.e), of(g.m[:, n:], g.e)]
    if end["what"] == "gate":
        x, *carry, t, h = ends
        if carry:
            return [of(g.m * carry[0], g.e), of(g.m * x, g.e), of(g.m * h, g.e), of(g.m * t, g.e)]
        return [of(g.m * (1 - t), g.e), of(g.m * (h - x), g.e), of(g.m * t, g.e)]
    return [of(g.m * end["gain"], g.e), of(g.m * (there * scale), g.e)]


# --- what is drawn ------------------------------------------------------------------------------------------


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """One block of Philox4x32-10 (Salmon et al. 2011, figure 4)."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32) ^ b ^ k0, q & 0xFFFFFFFF, (p >> 32) ^ d ^ k1, p & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [a, b, c, d]


def number(training: Training, path: str, times: int, stream: int, index: int) -> float:
    """Number `index` in (0, 1) of a layer's application: a word of 32 bits, as float32 has it."""
    z = (training.seed + (training.step + 1) * 0x9E3779B97F4A7C15) & U64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & U64
    z ^= z >> 31
    layer = 0x811C9DC5
    for byte in path.encode():
        layer = ((layer ^ byte) * 0x01000193) & 0xFFFFFFFF
    group, place = divmod(index, 64)  # 16 blocks side by side, one word of each after the other
    word, block = divmod(place, 16)
    at = group * 16 + block
    counter = (at & 0xFFFFFFFF, times, layer, (at >> 32) | stream << 12)
    u = np.float32((philox(counter, (z & 0xFFFFFFFF, z >> 32))[word] + 0.5) / 2**32)
    return float(min(u, np.float32(1 - 2.0**-24)))


def presence(end: Mapping[str, Any], training: Training | None, path: str, times: int) -> float:
    """What a branch is multiplied by: 1 or 0 as drawn, its probability in inference."""
    survival = end.get("survival", 1.0)
    if survival == 1.0 or training is None:
        return survival
    return float(number(training, path, times, 1, 0) < survival)


def mask(p: float, training: Training | None, path: str, times: int, shape: tuple[int, int]) -> Array:
    """What dropout multiplies a batch by."""
    if training is None or p == 0.0:
        return np.ones(shape)
    u = [number(training, path, times, 0, index) for index in range(shape[0] * shape[1])]
    return (np.reshape(u, shape) >= p) / (1 - p)
