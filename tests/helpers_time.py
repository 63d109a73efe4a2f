"""Test layer: reference cases of recurrent networks as arrays, for oracle and vgcore; no test in here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from helpers import DATA, portable_data, torch_golden
from numpy.typing import NDArray
from oracle_time import Recurrent

Array = NDArray[Any]

GOLDEN = ("rnn_tanh", "lstm", "gru", "lstm_bidirectional")
LOG10_2 = float(np.log10(2.0))


@dataclass(frozen=True)
class Golden:
    """A PyTorch case with batch-first sequences; `expected` holds what PyTorch computed, in those shapes."""

    layer: Recurrent
    parameters: dict[str, Array]
    x: Array
    state: tuple[Array, ...]
    cotangent: Array
    expected: dict[str, Any]


def golden_case(name: str) -> Golden:
    """One of the cases `GOLDEN`, whose files keep time first."""
    case = torch_golden()[name]
    cell, hidden, batch, steps = name.split("_")[0], case["hidden"], case["batch"], case["T"]
    layer = Recurrent(cell, hidden, {}, case["layers"], case["bidirectional"], read="every")
    tracks = len(layer.tracks)

    def tensor(entry: Any) -> Array:
        return portable_data(tuple(entry["shape"]), entry["seed"], entry["scale"])

    def by_batch(flat: Any, width: int) -> Array:
        return np.asarray(flat).reshape(steps, batch, width).swapaxes(0, 1)

    wide = (steps, batch, layer.width)
    expected: dict[str, Any] = {
        "output": by_batch(case["output"], layer.width),
        "loss": case["loss"],
        "grad_x": by_batch(case["grad_x"], case["input_size"]),
        "grad_params": {
            key: np.asarray(value).reshape(case["params"][key]["shape"])
            for key, value in case["grad_params"].items()
        },
    }
    for key in ("h_n", "c_n", "grad_h0", "grad_c0"):
        if key in case:
            expected[key] = np.asarray(case[key]).reshape(tracks, batch, hidden)
    return Golden(
        layer,
        {key: tensor(entry) for key, entry in case["params"].items()},
        tensor(case["x"]).swapaxes(0, 1),
        tuple(tensor(case[key]) for key in ("h0", "c0") if key in case),
        portable_data(wide, 109, 1.0).swapaxes(0, 1),
        expected,
    )


def long_gru() -> tuple[Recurrent, dict[str, Array], Array, Array, dict[int, float]]:
    """Layer, parameters, input, cotangent and log10 |dL/dh| by steps back from the end."""
    case = torch_golden()["long_gru"]
    hidden = case["hidden"]
    shapes = {
        "weight_ih_l0": (3 * hidden, case["input_size"]),
        "weight_hh_l0": (3 * hidden, hidden),
        "bias_ih_l0": (3 * hidden,),
        "bias_hh_l0": (3 * hidden,),
    }
    parameters = {name: portable_data(shape, j, 0.5) for j, (name, shape) in enumerate(shapes.items())}
    x = portable_data(tuple(case["x"]["shape"]), 105, 1.0)[None]
    back = {int(k): value for k, value in case["log10_norm_dL_dh_at_steps_back"].items()}
    return Recurrent("gru", hidden), parameters, x, portable_data((1, hidden), 109, 1.0), back


@cache
def known_recurrent() -> dict[str, dict[str, Any]]:
    """The entries of tests/data/known_recurrent.json by their id."""
    entries = json.loads((DATA / "known_recurrent.json").read_text())["entries"]
    return {entry["id"]: entry for entry in entries}
