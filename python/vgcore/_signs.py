"""Layer: results, signs. The tell-tale signs of a gradient that does not flow, each measured, present or
absent.

Knows what textbooks name as signs of vanishing and exploding gradients and how to read them off a flow.
Thresholds stand here, each with its reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ._formats import FORMATS
from ._table import power, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._evidence import Evidence
    from .flow import GradientFlow

    FloatArray = NDArray[np.float64]

__all__ = ["Sign", "log10_sum_squares", "signs"]

# Relative updates that differ by 100 between the ends: no single learning rate suits both, since the usable
# range of learning rates of one layer spans about two decades.
UNEVEN_DECADES: Final = 2.0
# The first tenth of the layers owns a tenth of the update when all learn alike; a tenth of that is uneven.
SMALL_SHARE: Final = 0.01
# Half of the early weights not moving at all is more than rounding noise.
UNCHANGED_SHARE: Final = 0.5
# In a healthy ReLU network some units are off for all samples; a tenth of them is worth naming.
DEAD_SHARE: Final = 0.1
# Most units flat.
SATURATED_SHARE: Final = 0.5
# One value in a thousand lost is harmless; the sign is about whole steps going missing.
FLUSHED_SHARE: Final = 0.5
TENTH: Final = 0.1


@dataclass(frozen=True, slots=True)
class Sign:
    """One tell-tale sign: its name, whether it is present, the number it was read from, and a sentence."""

    name: str
    present: bool
    value: float
    text: str


def signs(evidence: Evidence) -> list[Sign]:
    """Return every sign that the evidence can answer, present or not."""
    found = [_uneven(evidence), _early_share(evidence), _non_finite(evidence), _zeros(evidence)]
    flow = evidence.flow
    if flow is not None and flow.has_statistics:
        found += [_unchanged(flow), _dead(evidence, flow), _saturation(evidence)]
        found += [_flushed(flow, name) for name in FORMATS]
    return [sign for sign in found if sign is not None]


def _updates(evidence: Evidence) -> tuple[FloatArray, FloatArray, str]:
    """Return log10 relative update per step, log10 of the update itself, and what they were read from."""
    flow = evidence.flow
    if flow is None:
        return evidence.curve, evidence.curve, "gradient"
    update = flow.log10_weight_grad_norm
    if not flow.has_statistics:
        return update, update, "weight gradient"
    with np.errstate(invalid="ignore"):
        return update - flow.log10_weight_norm, update, "relative update |dL/dW| / |W|"


def _ends(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the first and the last tenth (at least one step) of the values that are not NaN."""
    values = values[~np.isnan(values)]
    size = max(1, round(TENTH * values.size))
    return values[:size], values[values.size - size :]


def _uneven(evidence: Evidence) -> Sign | None:
    relative, _, what = _updates(evidence)
    early, late = _ends(relative)
    if early.size == 0 or not np.isfinite(np.median(late)):
        return None
    gap = float(np.median(late) - np.median(early))
    name = "upper layers change and lower ones barely or not at all"
    if math.isinf(gap):
        return Sign(name, True, gap, f"the {what} of the first tenth of the steps is exactly zero")
    text = f"{what}: the last tenth of the steps moves {power(gap)} times as much as the first tenth"
    return Sign(name, gap >= UNEVEN_DECADES, gap, text)


def log10_sum_squares(log10: FloatArray) -> float:
    """Return log10 of the sum of the squares of ``10**log10``, at any size of the numbers."""
    return float(np.logaddexp2.reduce(2 * math.log2(10.0) * log10, initial=-np.inf)) * math.log10(2.0)


def _early_share(evidence: Evidence) -> Sign | None:
    _, update, _ = _updates(evidence)
    early, _ = _ends(update)
    total = log10_sum_squares(update[~np.isnan(update)])
    if early.size == 0 or not math.isfinite(total):
        return None
    value = log10_sum_squares(early) - total
    even = early.size / np.count_nonzero(~np.isnan(update))
    what = "gradient" if evidence.flow is None else "update"
    fair = f"an even share is {even:.2g}"
    text = f"{power(value)} of the squared {what} falls on the first tenth of the steps ({fair})"
    return Sign("early layers' share of the whole update", value < math.log10(SMALL_SHARE), value, text)


def _non_finite(evidence: Evidence) -> Sign:
    curve = evidence.curve
    bad = np.isnan(curve) | (curve == np.inf)
    number = int(bad.sum())
    name = "non-finite values"
    flow = evidence.flow
    forward = ""
    if evidence.spoiled.size:
        forward = f"the forward pass leaves the float range at step {int(evidence.spoiled[0]):,}"
    if flow is not None and flow.loss is not None and not math.isfinite(flow.loss):
        forward = "; ".join(filter(None, [forward, f"the loss is {flow.loss}"]))
    if number == 0:
        return Sign(name, bool(forward), 0.0, forward or "every norm is finite")
    first, last = int(np.flatnonzero(bad)[0]), int(np.flatnonzero(bad)[-1])
    kinds = f"{int(np.isnan(curve).sum()):,} NaN, {int((curve == np.inf).sum()):,} infinite"
    where = f"steps {first:,} to {last:,}"
    text = f"the norms of {number:,} of {curve.size:,} steps are not finite ({kinds}), {where}"
    return Sign(name, True, float(number), "; ".join(filter(None, [text, forward])))


def _zeros(evidence: Evidence) -> Sign:
    curve = evidence.curve
    zero = np.flatnonzero(curve == -np.inf)
    name = "exact zeros"
    if zero.size == 0:
        return Sign(name, False, 0.0, "no step's gradient is exactly zero")
    top = int(zero[-1])
    where = "in every step" if zero.size == curve.size else f"from step {top:,} down"
    if zero.size < top + 1:
        where = f"in {zero.size:,} steps, the highest being step {top:,}"
    return Sign(name, True, float(zero.size), f"the gradient is exactly zero {where}")


def _unchanged(flow: GradientFlow) -> Sign | None:
    early, _ = _ends(flow.unchanged_share)
    if early.size == 0:
        return None
    value = float(np.mean(early))
    text = (
        f"{share(value)} of the first tenth's weights stay the same to the bit in a step of rate {flow.lr:g}"
    )
    return Sign("weights unchanged to the bit", value > UNCHANGED_SHARE, value, text)


def _dead(evidence: Evidence, flow: GradientFlow) -> Sign | None:
    shares = flow.dead_share.copy()
    # What a function makes of NaN has no slope to speak of, zero or other.
    shares[evidence.spoiled] = np.nan
    known = np.isfinite(shares)
    if flow.steps and not known.any():
        return None
    total = int(flow.dead[known].sum())
    value = float(np.mean(shares[known])) if flow.steps else 0.0
    whole = np.flatnonzero(shares >= 1.0)
    text = f"{share(value)} of the units ({total:,}) have slope zero for every sample"
    if whole.size:
        text += f"; all units of step {int(whole[-1]):,} do: no gradient passes it"
    return Sign("dead units", value >= DEAD_SHARE or whole.size > 0, value, text)


def _saturation(evidence: Evidence) -> Sign | None:
    value = evidence.saturated
    if math.isnan(value):
        return None
    text = f"typically {share(value)} of a step's activations have a slope below 5 % of the largest"
    if not evidence.bounded and value > 0:
        text += " (their zero side, not flat ends)"
    return Sign("saturation", evidence.bounded and value > SATURATED_SHARE, value, text)


def _flushed(flow: GradientFlow, name: str) -> Sign | None:
    values = flow.share_flushed(name)
    known = values[~np.isnan(values)]
    if known.size == 0:
        return None
    value = float(np.mean(known))
    gone = int(np.count_nonzero(known >= 1.0))
    text = f"{share(value)} of the gradient's values read zero; {gone:,} of {known.size:,} steps keep nothing"
    return Sign(f"flushed in {name}", value > FLUSHED_SHARE or gone > 0, value, text)
