"""Layer: results, gates. What the gates of a recurrent cell do to the path that carries memory along time.

Knows which gate of which cell stands on that path and on which side it closes; reads mean values and
saturated shares. Knows no verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ._table import share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._flow_layer import LayerFlow

    FloatArray = NDArray[np.float64]

__all__ = ["ACTIVATED", "Gate", "gate_word", "keeps", "path_gate", "sigmoid_gates", "typical"]

# Cells whose only way back in time is through their activation.
ACTIVATED: Final = ("rnn", "irnn", "orthogonal_rnn")
# The gate that scales the old state in each cell.
_ON_PATH: Final = {"lstm": "f", "gru": "z", "min_gru": "z", "min_lstm": "f"}
_WORDS: Final = {
    "i": "input gate", "f": "forget gate", "o": "output gate", "r": "reset gate", "z": "update gate",
}  # fmt: skip
# What is no gate but has figures all the same: new content, or the activation itself.
_OTHERS: Final = {"g": "candidate", "n": "candidate", "h": "activation"}


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate on the memory path does by itself.

    ``keep``: the share of the old state that it lets through at a typical step (geometric mean over steps of
    the mean over units and samples). ``decades``: log10 of that, its own part of the rate per step.
    ``saturated``: share of its values on a flat end. ``step``: the step at which it keeps least, ``least``.
    ``text`` says so, without naming the gate.
    """

    name: str
    word: str
    keep: float
    decades: float
    saturated: float
    step: int
    least: float
    text: str


def gate_word(name: str) -> str:
    """Return a gate's name in words.

    Example:
        >>> gate_word("f"), gate_word("n")
        ('forget gate', 'candidate')
    """
    return (_WORDS | _OTHERS).get(name, f"gate {name}")


def sigmoid_gates(view: LayerFlow) -> list[str]:
    """Return the gates of `view` that open and close: those with a word of their own, values from 0 to 1."""
    return [name for name in view.gate_mean if name in _WORDS]


def keeps(view: LayerFlow) -> FloatArray | None:
    """Return the share of the old state that the cell's gates keep at each step, (steps,).

    None where no gate stands on the path or no statistics were taken.
    """
    name = _ON_PATH.get(view.cell)
    if name is None or not view.has_statistics or name not in view.gate_mean:
        return None
    value = view.gate_mean[name]
    if view.cell == "min_gru":  # h' = (1 - z) h + z n
        return np.asarray(1.0 - value)
    if view.cell == "min_lstm":  # f' = f / (f + i)
        total = value + view.gate_mean["i"]
        with np.errstate(invalid="ignore", divide="ignore"):
            # Both gates may be closed beyond the float range; the step's Jacobian is f' itself, unit by unit.
            return np.where(total > 0, value / total, 10.0**view.log10_jacobian_norm)
    return value


def path_gate(view: LayerFlow) -> Gate | None:
    """Return what the gate on the memory path does, None where there is no such gate or no statistics."""
    kept = keeps(view)
    if kept is None:
        return None
    name = _ON_PATH[view.cell]
    kept = kept[view.span]
    known = kept[np.isfinite(kept)]
    if known.size == 0:
        return None
    with np.errstate(divide="ignore"):
        decades = float(np.mean(np.log10(known)))
    at = int(np.nanargmin(kept))
    saturated = typical(view.gate_saturated[name][view.span])
    word, keep = gate_word(name), 10.0**decades
    text = (
        f"keeps {share(keep)} of the old state at a typical step ({decades:+.3g} decades per step by itself; "
        f"{share(saturated)} of its values on a flat end)"
    )
    return Gate(name, word, keep, decades, saturated, (view.span.start or 0) + at, float(kept[at]), text)


def typical(values: FloatArray) -> float:
    """Return the median of the values that are finite; NaN when there is none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else math.nan
