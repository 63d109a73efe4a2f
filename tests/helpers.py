"""Test layer: what several test files share (reference data, portable hash data, comparisons); no test in
here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from oracle import compile_program, forward
from oracle_activations import ACTIVATIONS

DATA = Path(__file__).resolve().parent / "data"


def portable_data(shape: tuple[int, ...], seed: int, scale: float) -> NDArray[np.float64]:
    """The integer-hash data of the reference files: exact in float32 and float64, the same in any language.

    u32 arithmetic: x = k+1+1000003*(seed+1); x *= 2654435761; x ^= x>>15; x *= 2246822519; x ^= x>>13;
    P[k] = scale*(((x>>20) & 0xFFF)/2048 - 1).
    """
    return portable_stack(np.array([seed]), shape, scale)[0]


def portable_stack(seeds: NDArray[np.int64], shape: tuple[int, ...], scale: float) -> NDArray[np.float64]:
    """`portable_data` for many seeds at once, one entry of the leading axis for each."""
    mask = np.uint64(0xFFFFFFFF)
    start = (np.asarray(seeds, np.uint64)[:, None] + np.uint64(1)) * np.uint64(1000003) + np.uint64(1)
    x = (np.arange(int(np.prod(shape)), dtype=np.uint64) + start) & mask
    x = (x * np.uint64(2654435761)) & mask
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(2246822519)) & mask
    x ^= x >> np.uint64(13)
    grid = ((x >> np.uint64(20)) & np.uint64(0xFFF)).astype(np.float64)
    return np.asarray(scale * (grid / 2048 - 1)).reshape(len(x), *shape)


@cache
def known_answers() -> dict[str, dict[str, Any]]:
    """The entries of tests/data/known_answers.json by their id."""
    entries = json.loads((DATA / "known_answers.json").read_text())["entries"]
    return {entry["id"]: entry for entry in entries}


def of_kind(kind: str) -> list[str]:
    """Ids of the known answers of one kind, in file order."""
    return [name for name, entry in known_answers().items() if entry["kind"] == kind]


@cache
def torch_golden() -> dict[str, dict[str, Any]]:
    """The cases of tests/data/torch_golden.json by name."""
    cases = json.loads((DATA / "torch_golden.json").read_text())["cases"]
    return {case["case"]: case for case in cases}


@cache
def exact_activations() -> dict[str, dict[str, Any]]:
    """The high-precision activation tables by case name."""
    cases = json.loads((DATA / "activations_mpmath.json").read_text())["cases"]
    return {case["case"]: case for case in cases}


def as_float(pair: list[Any]) -> float:
    """The float64 nearest to [mantissa text, exponent of ten]; 0 or infinity outside the range."""
    return float(f"{pair[0]}e{pair[1]}")


def log2_abs(pair: list[Any]) -> float:
    """log2 |value| of [mantissa text, exponent of ten], at any exponent; -inf for zero."""
    mantissa = float(pair[0])
    return -np.inf if mantissa == 0 else float(np.log2(abs(mantissa)) + pair[1] * np.log2(10.0))


def relative_error(got: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """|got - expected| / |expected|, 0 where both are equal (also zeros and infinities), inf where only one
    is zero."""
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(a - b) / np.abs(b)
    return np.where(a == b, 0.0, np.where(np.isnan(error), np.inf, error))


def assert_close(got: ArrayLike, expected: ArrayLike, rtol: float, what: str) -> None:
    """Fail with the worst entry and where it is, if any relative error exceeds rtol; never an absolute
    tolerance."""
    a, b = np.asarray(got), np.asarray(expected)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    error = np.atleast_1d(relative_error(a, b))
    if error.size and float(error.max()) > rtol:
        where = np.unravel_index(int(error.argmax()), error.shape)
        raise AssertionError(
            f"{what}: relative error {error.max():.3g} > {rtol:.3g} at {tuple(map(int, where))}: "
            f"got {np.atleast_1d(a)[where]!r}, expected {np.atleast_1d(b)[where]!r}; "
            f"{int((error > rtol).sum())} of {error.size} entries differ"
        )


def to_oracle(layers: Any) -> list[tuple[Any, ...]]:
    """vgcore layers as the nested tuples of the oracle; only default names, which the oracle gives too."""
    found: list[tuple[Any, ...]] = []
    for layer in layers:
        assert layer.name is None
        if layer.kind == "dense":
            found.append(("dense", layer.features, layer.bias))
        elif layer.kind == "activation":
            found.append(("activation", layer.function, dict(layer.params)))
        elif layer.kind == "repeat":
            found.append(("repeat", to_oracle(layer.body), layer.n, layer.tied))
        elif layer.kind == "highway":
            function = layer.activation
            plain = None if function is None else (function.function, dict(function.params), layer.bias)
            found.append(("highway", to_oracle(layer.body) if layer.body else None, plain, layer.coupled))
        elif layer.kind == "concat":
            found.append(("concat", to_oracle(layer.body)))
        elif layer.kind.endswith("_norm"):
            options = {"groups": getattr(layer, "groups", 1), "online": getattr(layer, "online", False)}
            options |= {"eps": layer.eps, "affine": layer.affine}
            found.append(("norm", layer.entry, options))
        elif layer.kind == "dropout":
            found.append(("dropout", layer.p))
        else:
            shortcut = layer.projection
            options = {
                "learned": layer.learned,
                "gain": 1.0 if shortcut else layer.shortcut,
                "shortcut": to_oracle(shortcut),
                "survival": layer.survival,
            }
            found.append(("residual", to_oracle(layer.body), layer.scale, options))
    return found


def functions_of(layers: Any) -> set[str]:
    """Names of the activations that a list of layers uses."""
    names = {name for layer in layers for name in layer.functions()}
    return names.union(*(functions_of(inner) for layer in layers for _, inner in layer.branches()))


def double(array: ArrayLike) -> NDArray[np.float64]:
    """As float64."""
    return np.asarray(array, np.float64)


def flat_gradient(scaled: tuple[Any, Any]) -> tuple[NDArray[np.float64], int]:
    """(mantissa, exponents of leading axes) as one array and one exponent: what cannot be seen next to the
    largest is 0."""
    m, e = double(scaled[0]), np.asarray(scaled[1], np.int64)
    e = np.broadcast_to(e.reshape(e.shape + (1,) * (m.ndim - e.ndim)), m.shape)
    m, shift = np.frexp(m)  # however small the mantissas are, what counts is the largest number
    e = e + shift
    top = int(e[m != 0].max()) if m.any() else 0
    return np.ldexp(m, np.clip(e - top, -4000, 0)), top


def gap_by_norm(got: tuple[Any, Any], expected: tuple[Any, Any]) -> float:
    """|got - expected| / |expected| of two scaled arrays, at any exponent; 0 when both are exactly zero."""
    (a, a_e), (b, b_e) = flat_gradient(got), flat_gradient(expected)
    if not b.any():
        return float("inf") if a.any() else 0.0
    size = float(np.linalg.norm(b))
    return float(np.linalg.norm(np.ldexp(a, int(np.clip(a_e - b_e, -4000, 900))) - b)) / size


def in_range(layers: Any, parameters: Any, x: Any, lowest: float, training: Any = None) -> bool:
    """Whether every value of the forward pass is zero or well inside the float range; only gradients are
    scaled."""
    _, inputs = forward(compile_program(layers), parameters, double(x), training)
    arrays = [a for h in inputs for a in (h if isinstance(h, list) else [h])]
    sizes = np.abs(np.concatenate([a.ravel() for a in arrays]))
    return bool(np.all(sizes < 1 / lowest) and np.all((sizes == 0) | (sizes > lowest)))


def forward_in_range(net: Any, x: Any) -> bool:
    """`in_range` of a network at float32's or float64's own distance from underflow."""
    parameters = {name: double(value) for name, value in net.parameters().items()}
    known = functions_of(net.layers) <= set(ACTIVATIONS)
    return known and in_range(
        to_oracle(net.layers), parameters, x, 1e-20 if net.dtype == np.float32 else 1e-150
    )
