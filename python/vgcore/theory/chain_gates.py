"""Layer: theory, a chain of layers. Gates, concatenation, normalisation: length and gradient through them.

Knows states and effects of a chain; enters itself into the kinds that a chain knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .chain import BEYOND, Chain, Effect, Modes, State, layer_moments, phi_of
from .weight_law import law_of

__all__ = ["concat", "dropout", "highway", "norm"]


def _ln(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def norm(chain: Chain, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
    """Divide by a spread: squared gradients are divided by its square, less what lies along what it fixes.

    Over the batch the samples are taken as many and unrelated. Source: theory of batch normalisation: Yang et
    al. 2019, arXiv:1902.08129; for layer and root mean square: Xu et al. 2019, arXiv:1911.07013.
    """
    kind = str(layer["norm"])
    eps = float(layer["params"].get("eps", 0.0))
    if kind == "batch":
        if layer["params"].get("online"):
            raise ArgumentError(
                f"{where}: theory cannot predict online batch normalisation, which begins with statistics "
                "that are not the batch's"
            )
        chain.notes["batch normalisation: samples of a batch are taken as unrelated"] = None
        chain.coupled = True
        # The mean over the batch is taken out: of what lay along the input the rest is like any direction.
        rest = state.over_batch / state.second if state.second > 0.0 else 1.0
        along = Modes(rr=rest, sr=1.0 - rest, keep=math.sqrt(rest))
        gain = _few(chain.batch, 2, where, "samples in a batch") - _ln(state.over_batch + eps)
        return State(1.0, 0.0, state.width, True, 1.0), Effect(gain, modes=along)
    # What lies along the input is what a row's norm takes out of a gradient.
    along = Modes(rr=0.0, keep=0.0)
    groups = int(layer["params"].get("groups", 1)) if kind == "group" else 1
    count = state.width // groups
    free = {"rms": 0, "layer": 1}.get(kind, 2)
    few = _few(count, free, where, "units that are normalised together")
    finite = Effect(shift=few - 1.0 / state.width, spread=2.0 / state.width, modes=along)
    if kind == "rms":
        size = max(eps, 0.0) + state.second
        mean = state.mean / math.sqrt(size) if size > 0.0 else 0.0
        varied = state.over_batch / size if size > 0.0 else 0.0
        return State(1.0, mean, state.width, state.normal, varied), finite._replace(gain=-_ln(size))
    size = max(state.second - state.mean**2, 0.0) + eps
    varied = state.over_batch / size if size > 0.0 else 0.0
    return State(1.0, 0.0, state.width, state.normal, varied), finite._replace(gain=-_ln(size))


def _few(count: int | None, taken: int, where: str, what: str) -> float:
    """Ln of what so few numbers add: E 1/s^2 of their variance, less the directions that `taken` counts.

    Exact for linear layers: (B - 2) / (B - 3) over a batch of B; where a row is normalised, the direction of
    the input is left to the modes.
    """
    if count is None:
        return 0.0
    least = 3 if taken else 2
    if count <= least:
        raise ArgumentError(
            f"{where}: theory cannot predict normalisation over {count} {what}, whose mean square gradient "
            f"is infinite; expected at least {least + 1}"
        )
    return math.log((count - taken) / (count - least))


def highway(chain: Chain, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
    """Mix transform and input by gates whose weights are as random as the transform's.

    Formula: ``E c^2 + E t^2 chi_h`` and what goes back through the gates, ``E t'^2 sigma_g2 E h^2`` and
    the same for the carry; coupled gates have c = 1 - t and one set of weights.

    Source: Srivastava, Greff & Schmidhuber 2015, eqs. 2 and 3, in the mean field of Gilboa et al. 2019.
    """
    h, inside = chain.through(layer["body"], state, f"{where}.body")
    t, t2, slope, weight = _gate(layer["gate"], state, where)
    chain.notes[f"{where}: gates and transform are taken as independent"] = None
    if h.mean != 0.0:
        chain.notes[
            f"{where}: the transform has a mean, along which gradient flows too: it falls more slowly"
        ] = None
    if layer.get("carry"):
        c, c2, slope_c, weight_c = _gate(layer["carry"], state, where)
        both = t * c
        gates = slope * weight * h.second + slope_c * weight_c * state.second
    else:
        c2, both = 1.0 - 2.0 * t + t2, t - t2
        gates = slope * weight * (h.second + state.second - 2.0 * h.mean * state.mean)
    cross = 2.0 * both * h.mean * state.mean
    second = c2 * state.second + t2 * h.second + cross
    varied = c2 * state.over_batch + t2 * h.over_batch
    mean = t * h.mean + (1.0 - t) * state.mean if not layer.get("carry") else t * h.mean + c * state.mean
    through = _ln(t2) + inside.gain
    gain = float(np.logaddexp(_ln(c2 + gates), through))
    share = math.exp(through - gain) if through > -math.inf else 0.0
    spread = share**2 * inside.spread + 4.0 * share * (1.0 - share) / state.width
    after = State(second, mean, state.width, False, varied)
    return after, Effect(gain, -spread / 2.0, spread, _ln(t2) + inside.delta, inside.length)


def _gate(gate: Any, state: State, where: str) -> tuple[float, float, float, float]:
    """Return mean and mean square of a gate, the mean square of its slope, and fan_in Var(weight)."""
    dense, function = gate
    cols = state.width
    law = law_of(dense["init"], cols, cols, f"{where}.gate_init")
    bias = law_of(dense["bias_init"], cols, cols, f"{where}.gate")
    if law.mean != 0.0:
        raise ArgumentError(f"{where}: theory cannot predict gates whose weights have mean {law.mean:g}")
    variance = law.variance * cols * state.second + bias.variance
    m = layer_moments(phi_of(str(function["function"]), function["params"]), variance, bias.mean)
    return m.value, m.square, m.slope2, law.variance * cols


def concat(chain: Chain, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
    """Put a body's output beside its input: of the gradient each part has the share of its units."""
    f, inside = chain.through(layer["body"], state, f"{where}.body")
    width = state.width + f.width
    own, other = state.width / width, f.width / width
    gain = float(np.logaddexp(_ln(own), _ln(other) + inside.gain))
    share = math.exp(_ln(other) + inside.gain - gain) if inside.gain > -math.inf else 0.0
    spread = share**2 * inside.spread
    after = State(
        own * state.second + other * f.second,
        own * state.mean + other * f.mean,
        width,
        False,
        own * state.over_batch + other * f.over_batch,
    )
    return after, Effect(gain, -spread / 2.0, spread, inside.delta, inside.length)


def dropout(chain: Chain, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
    """Keep units with probability 1 - p, times 1 / (1 - p), as in training: squares grow by 1 / (1 - p).

    Source: Schoenholz et al. 2017, sec. 4 (dropout as multiplicative noise).
    """
    keep = 1.0 - float(layer["p"])
    second = state.second / keep
    spread = 3.0 * (1.0 / keep - 1.0) / state.width
    after = State(second, state.mean, state.width, False, max(second - state.mean**2, 0.0))
    chain.notes[f"{where}: dropout is taken as in training"] = None
    return after, Effect(-_ln(keep), -spread / 2.0, spread)


BEYOND |= {"dropout": dropout, "norm": norm, "highway": highway, "concat": concat}
