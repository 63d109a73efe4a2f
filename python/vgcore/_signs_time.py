"""Layer: results, signs along time. The tell-tale signs of a recurrent gradient that does not reach back.

Knows how to read them off one recurrent layer's arrays and, where there are several, off the others.
Thresholds stand here or in `_signs`, each with its reason.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from ._formats import LIMITS
from ._gates import ACTIVATED, gate_word, sigmoid_gates, typical
from ._rate import power_law
from ._signs import SATURATED_SHARE, SMALL_SHARE, TENTH, Sign, log10_sum_squares
from ._table import count, power, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._evidence import Evidence
    from ._flow_layer import LayerFlow
    from ._flow_time import TimeFlow

    FloatArray = NDArray[np.float64]

__all__ = ["MEMORY_DECADES", "time_signs"]

# A thousandth of the gradient: below it a step's say in the update drowns in the noise between batches.
MEMORY_DECADES: Final = 3.0
# A gate whose mean is below a tenth lets nearly nothing through.
SHUT_MEAN: Final = 0.1
# A hidden state that grows or fades tenfold is not settling.
DRIFT_DECADES: Final = 1.0
# Layers (or directions) whose ends drift apart by two decades do not learn alike.
APART_DECADES: Final = 2.0
# Samples whose norms differ by a decade as a rule: a few of them make up the batch's gradient.
SPREAD_DECADES: Final = 1.0


def time_signs(
    evidence: Evidence, view: LayerFlow | None, flow: TimeFlow | None, memory: float, how: str
) -> list[Sign]:
    """Return every sign that the evidence can answer, present or not.

    `memory`: steps until a thousandth is left, `how` it was found.
    """
    found: list[Sign | None] = [_memory(evidence, memory, how), _early(evidence, view)]
    found += [_non_finite(evidence, view, flow), _zeros(evidence, view), _power(evidence)]
    every = flow is not None and flow.reads == "every"
    if view is not None and view.has_statistics:
        found += [
            _saturation(view),
            *_shut(view),
            _jacobian(evidence, view, every),
            _drift(view),
            _spread(view),
        ]
    if flow is not None:
        found += [_apart(flow)]
    found += [_flushed(evidence, name) for name in LIMITS]
    return [sign for sign in found if sign is not None]


def time_of(view: LayerFlow | None, index: int, steps: int) -> int:
    """Return the time step of entry `index` of a curve that is ordered towards the loss."""
    if view is None:
        return index
    start = view.span.start or 0
    return start + (steps - 1 - index if view.direction else index)


def _memory(evidence: Evidence, memory: float, how: str) -> Sign | None:
    if math.isnan(memory):
        return None
    name = "memory shorter than the sequence"
    span = max(evidence.steps - 1, 0)
    if math.isinf(memory):
        return Sign(name, False, memory, "the gradient never falls to a thousandth at this rate")
    by = {"extrapolated": " (extrapolated)", "jacobian": " (by the typical Jacobian)"}.get(how, "")
    text = f"a thousandth of the gradient is left {count(memory)} steps back{by}, of {span:,}"
    return Sign(name, memory <= span, memory, text)


def _early(evidence: Evidence, view: LayerFlow | None) -> Sign | None:
    what, values = "gradient", evidence.curve
    if view is not None and view.has_statistics:
        what, values = "steps' shares in dL/dW", view.towards_loss(view.log10_weight_grad_norm)
    known = values[~np.isnan(values)]
    total = log10_sum_squares(known)
    if known.size < 2 or not math.isfinite(total):
        return None
    early = known[: max(1, round(TENTH * known.size))]
    value = log10_sum_squares(early) - total
    where = "last" if view is not None and view.direction else "first"
    text = (
        f"{power(value)} of the squared {what} comes from the {where} tenth of the steps "
        f"(an even share is {early.size / known.size:.2g})"
    )
    return Sign("far steps barely count", value < math.log10(SMALL_SHARE), value, text)


def _non_finite(evidence: Evidence, view: LayerFlow | None, flow: TimeFlow | None) -> Sign:
    name, parts = "non-finite values", []
    spot = None if flow is None else flow.nonfinite
    if spot is not None:
        parts.append(f"the forward pass leaves the float range at {where_nonfinite(spot)}")
    if flow is not None and flow.loss is not None and not math.isfinite(flow.loss):
        parts.append(f"the loss is {flow.loss}")
    curve = evidence.curve
    bad = np.flatnonzero(np.isnan(curve) | (curve == np.inf))
    if bad.size:
        ends = sorted(time_of(view, int(bad[i]), curve.size) for i in (0, -1))
        kinds = f"{int(np.isnan(curve).sum()):,} NaN, {int((curve == np.inf).sum()):,} infinite"
        parts.append(
            f"the norms of {bad.size:,} of {curve.size:,} steps are not finite ({kinds}), "
            f"steps {ends[0]:,} to {ends[1]:,}"
        )
    return Sign(name, bool(parts), float(bad.size), "; ".join(parts) or "every norm is finite")


def where_nonfinite(spot: dict[str, int]) -> str:
    """Return where the forward pass first left the float range, in words."""
    text = f"time step {spot['step']:,}"
    if "layer" in spot:
        text += f" of layer {spot['layer']}" + (" (reverse)" if spot.get("direction") else "")
    if "units" in spot:
        text += f", in {spot['units']:,} unit{'s' * (spot['units'] != 1)}"
    return text


def _zeros(evidence: Evidence, view: LayerFlow | None) -> Sign:
    zero = np.flatnonzero(evidence.curve == -np.inf)
    name = "exact zeros"
    if zero.size == 0:
        return Sign(name, False, 0.0, "no step's gradient is exactly zero")
    top = time_of(view, int(zero[-1]), evidence.steps)
    where = f"from time step {top:,} away from the loss"
    if zero.size == evidence.steps:
        where = "at every step"
    elif zero.size < int(zero[-1]) + 1:
        where = f"at {zero.size:,} of {evidence.steps:,} steps, time step {top:,} nearest the loss"
    return Sign(name, True, float(zero.size), f"the gradient is exactly zero {where}")


def _power(evidence: Evidence) -> Sign | None:
    curve = evidence.curve[evidence.rate.chain.start : evidence.rate.chain.stop]
    found = power_law(curve)
    if found is None:
        return None
    name = "falls like a power of time, not exponentially"
    if not found.power:
        return Sign(name, False, found.exponent, "a straight line in the logarithm describes it better")
    of = "the distance from the loss" if found.of == "distance" else "the time since the first step"
    text = (
        f"it follows {of} to the power {found.exponent:+.2g}: a half-life describes it only piece by piece, "
        "and horizons beyond the sequence are underestimated"
    )
    return Sign(name, True, found.exponent, text)


def _saturation(view: LayerFlow) -> Sign | None:
    if view.cell not in ACTIVATED or not view.gate_saturated:
        return None
    value = typical(view.gate_saturated[view.gates[0]][view.span])
    if math.isnan(value):
        return None
    text = f"typically {share(value)} of a step's activations have a slope below 5 % of the largest"
    bounded = is_bounded(view)
    if not bounded and value > 0:
        text += " (their zero side, not flat ends)"
    return Sign("saturation", bounded and value > SATURATED_SHARE, value, text)


def is_bounded(view: LayerFlow) -> bool:
    """Return whether the cell's activation has flat ends on both sides, so that it can saturate."""
    known = view.meta.get("saturates")
    return view.cell != "irnn" if known is None else bool(known)


def _shut(view: LayerFlow) -> list[Sign]:
    found = []
    for name in sigmoid_gates(view):
        mean = typical(view.gate_mean[name][view.span])
        if math.isnan(mean):
            continue
        flat = typical(view.gate_saturated[name][view.span])
        word = gate_word(name)
        text = f"the {word} lets {share(mean)} through as a rule, {share(flat)} of its values on a flat end"
        found.append(Sign(f"{word} shut", mean < SHUT_MEAN, mean, text))
    return found


def _jacobian(evidence: Evidence, view: LayerFlow, every: bool) -> Sign | None:
    """Give the typical factor of one step.

    A gradient goes through the directions that shrink least, so where the curve itself tells (the loss does
    not read every step), it has to agree.
    """
    values = view.towards_loss(view.log10_jacobian_norm)
    known = values[np.isfinite(values)]
    if known.size == 0:
        return None
    value = float(np.mean(known))
    total = value * known.size
    text = (
        f"one step back scales a gradient by {power(value)} (root mean square over directions, typical "
        f"step), which over the sequence makes {power(total)}"
    )
    agreed = every or evidence.rate.total < -MEMORY_DECADES
    return Sign("contracting steps", total < -MEMORY_DECADES and agreed, value, text)


def _drift(view: LayerFlow) -> Sign | None:
    """Compare the hidden state's size in the second tenth of the steps (the first holds the start) and the
    last."""
    values = log10_size(view)
    tenth = values.size // 10
    if tenth < 1:
        return None
    early, late = typical(values[tenth : 2 * tenth]), typical(values[-tenth:])
    if math.isnan(early) or math.isnan(late):
        return None
    value = late - early
    text = f"the root mean square of h_t goes from {power(early)} to {power(late)}"
    return Sign("hidden state drifts", abs(value) >= DRIFT_DECADES, value, text)


def log10_size(view: LayerFlow) -> FloatArray:
    """Return log10 of the root mean square of h_t over the steps in forward order of the cell."""
    square = (view.hidden_var + view.hidden_mean**2)[: view.reach + 1]
    square = square[::-1] if view.direction else square
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(0.5 * np.log10(square))


def _spread(view: LayerFlow) -> Sign | None:
    value = typical(view.grad_spread[view.span])
    if math.isnan(value):
        return None
    text = f"the samples' own norms of dL/dh_t differ by {value:.2g} decades (standard deviation)"
    return Sign("few samples carry the gradient", value > SPREAD_DECADES, value, text)


def _apart(flow: TimeFlow) -> Sign | None:
    views = [view for row in flow._layers for view in row]
    if len(views) < 2:
        return None
    rates = [view.decades_per_step for view in views]
    known = [rate for rate in rates if math.isfinite(rate)]
    if len(known) < 2:
        return None
    value = (max(known) - min(known)) * max(flow.main.reach, 1)
    shown = [
        f"{view.index}{' reverse' if view.direction else ''}: {rate:+.3g}"
        for view, rate in zip(views, rates, strict=True)
    ]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    text = f"decades per step by layer, 0 nearest the input: {', '.join(shown[:8])}{more}"
    return Sign("layers differ in memory", value >= APART_DECADES, value, text)


def _flushed(evidence: Evidence, name: str) -> Sign | None:
    peak = evidence.log2_peak
    finite = np.isfinite(peak)
    if not finite.any():
        return None
    lost = int(np.count_nonzero(peak[finite] <= LIMITS[name].zero))
    known = int(finite.sum())
    text = f"at least {lost:,} of {known:,} steps keep nothing (their whole norm reads zero)"
    if lost == 0:
        text = "no step's whole norm reads zero"
    return Sign(f"flushed in {name}", lost > 0, lost / known, text)
