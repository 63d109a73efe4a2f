"""Layer: doctor, the illness. From a diagnosis and the network's own numbers to what is wrong with it.

Knows weights, activations and gates, and what would fit them; knows no cure and trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import activations
from ._diagnosis_time import TimeDiagnosis
from ._mitigation_base import Draft
from ._mitigation_rewrite import named, starts
from ._mitigation_start import next_activations
from ._table import share
from .errors import ArgumentError
from .layers import Activation, Layer
from .theory.weight_law import law_of

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .flow import GradientFlow
    from .network import Network

__all__ = ["CAUSES", "Cause", "find_cause"]

CAUSES: Final = (
    "none",
    "dead units",
    "saturating activation",
    "small weights",
    "large weights",
    "growing sum",
    "depth",
    "closed gate",
    "small recurrent weights",
    "large recurrent weights",
    "unknown",
)
# The usable range of a weight's variance is narrow, but rounding, finite width and a slightly different rule
# (glorot for he) stay within a factor of two of what fits.
FITTING: Final = 2.0
# Most units of a layer off for every sample: what is left of the network is too narrow to speak of.
DEAD_SHARE: Final = 0.5


@dataclass(frozen=True)
class Cause:
    """What is wrong with a network: a name from `CAUSES` and a sentence with the numbers."""

    name: str
    text: str


def find_cause(net: Network, flow: GradientFlow, diagnosis: Diagnosis) -> Cause:
    """Return why the gradient does what the diagnosis says."""
    if isinstance(diagnosis, TimeDiagnosis):
        return _along_time(net, diagnosis)
    dead = _dead(net, flow)
    if diagnosis.verdict == "dead" or (dead is not None and diagnosis.verdict != "exploding"):
        return dead or Cause("dead units", "every path of the gradient is blocked by units of slope zero")
    if diagnosis.verdict == "stable":
        return Cause("none", "first and last layers get gradients of one size")
    return _weights(net, diagnosis)


def _dead(net: Network, flow: GradientFlow) -> Cause | None:
    if not flow.has_statistics or not flow.steps:
        return None
    shares = flow.dead_share[np.isfinite(flow.dead_share)]
    if shares.size == 0 or float(np.median(shares)) < DEAD_SHARE:
        return None
    text = f"{share(float(np.mean(shares)))} of the units have slope zero for every sample"
    biases = [value for name, value in _parameters(net).items() if name.split(".")[-1] == "bias"]
    if biases:
        mean = float(np.concatenate([value.ravel() for value in biases]).mean(dtype=np.float64))
        if mean < -0.1:
            text += f"; biases of {mean:.2g} on average hold them off"
    return Cause("dead units", text)


def _parameters(net: Network) -> dict[str, Any]:
    try:
        return net.parameters()
    except ArgumentError:  # a network that keeps none
        return {}


def _weights(net: Network, diagnosis: Diagnosis) -> Cause:
    found = _variances(net)
    way = "shrinks" if diagnosis.total_decades < 0 else "grows"
    if not found:
        return Cause("unknown", f"the gradient {way}, and no Dense layer with an activation explains it")
    # Layers of one kind are in the majority wherever there is depth: the most frequent activation speaks.
    function = max({f for f, _, _, _ in found}, key=lambda f: sum(n for g, _, _, n in found if g == f))
    mine = [(have, fit, n) for f, have, fit, n in found if f == function]
    total = sum(n for _, _, n in mine)
    have, fit = (sum(values[at] * values[2] for values in mine) / total for at in (0, 1))
    numbers = f"fan_in times the variance of a weight is {have:.3g}, where {fit:.3g} fits {function}"
    if diagnosis.total_decades < 0 and have < fit / FITTING:
        return Cause("small weights", numbers)
    if diagnosis.total_decades > 0 and have > fit * FITTING:
        return Cause("large weights", numbers)
    if diagnosis.total_decades > 0 and _has_shortcuts(net.layers):
        return Cause(
            "growing sum", "every block adds to the sum that its shortcut carries on, and to the gradient"
        )
    entry = activations.describe(function).extra
    if diagnosis.total_decades < 0 and entry.get("saturates"):
        slope = float(entry.get("max_slope") or 1.0)
        return Cause("saturating activation", f"{function}'s slope is at most {slope:g} and less away from 0")
    return Cause("depth", f"each layer is off by a little, and the little adds up: {numbers}")


def _has_shortcuts(layers: Sequence[Layer]) -> bool:
    return any(layer.kind == "residual" or _has_shortcuts(layer.body) for layer in layers)


def _variances(net: Network) -> list[tuple[str, float, float, int]]:
    """Return (activation, sigma_w2 as it is, as it would fit, how many) of weights before activations."""
    draft = Draft(named(net.layers), net.in_features, net.dtype)
    values = _parameters(net)
    known = starts(draft)
    found = []
    for name, following in next_activations(draft).items():
        shape = net.parameter_shapes().get(name)
        if shape is None or following is None:
            continue
        rows, cols = shape[-2:]
        copies = math.prod(shape[:-2])
        fit = _fitting(following, rows, cols)
        if name in values:
            have = float(np.mean(np.square(values[name], dtype=np.float64))) * cols
        else:
            have = law_of(known[name]["init"], rows, cols, name).variance * cols
        found.append((following.function, have, fit, copies))
    return found


def _fitting(following: Activation, rows: int, cols: int) -> float:
    from .initializers import Initializer

    fits = Initializer(str(activations.describe(following.function).extra["fits"]))
    return law_of(fits.to_spec(), rows, cols, following.function).variance * cols


def _along_time(net: Network, diagnosis: TimeDiagnosis) -> Cause:
    if diagnosis.verdict == "stable":
        return Cause("none", "near and far time steps get gradients of one size")
    gate = diagnosis.gate
    if gate is not None and "gate closes the path" in diagnosis.closed_by:
        return Cause("closed gate", diagnosis.closed_by)
    recurrent = [value for name, value in _parameters(net).items() if "weight_hh" in name]
    size = (
        f", its recurrent weights' largest singular value is {_largest(recurrent):.3g}" if recurrent else ""
    )
    if diagnosis.verdict == "exploding":
        rate = diagnosis.decades_per_step
        grows = f"{rate:+.3g} decades a time step" if math.isfinite(rate) else "out of the float range"
        return Cause("large recurrent weights", f"the gradient grows going back in time, by {grows}{size}")
    if "activation closes the path" in diagnosis.closed_by:
        return Cause("saturating activation", diagnosis.closed_by + size)
    if diagnosis.closed_by:
        return Cause("small recurrent weights", diagnosis.closed_by + size)
    return Cause("unknown", "the gradient does not come through all time steps" + size)


def _largest(weights: Sequence[Any]) -> float:
    finite = [w for w in weights if w.ndim == 2 and np.isfinite(w).all()]
    squares = [w[at : at + w.shape[1]] for w in finite for at in range(0, w.shape[0], w.shape[1])]
    return max((float(np.linalg.norm(w, 2)) for w in squares), default=math.nan)
