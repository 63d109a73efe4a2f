"""Layer: results, the diagnosis. From evidence to a verdict that a stranger understands.

Knows when a curve counts as vanishing, exploding, stable, dead, saturated or mixed, with the reason for every
threshold. Knows nothing of how the curve was measured.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ._evidence import Evidence, from_flow, from_norms
from ._formats import LIMITS
from ._horizon import Horizon, horizons
from ._rate import Rate, mean_interval
from ._signs import SATURATED_SHARE, Sign, signs
from ._table import count, power, render_html
from .errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .flow import GradientFlow

    FloatArray = NDArray[np.float64]

__all__ = ["VERDICTS", "Diagnosis", "Sign", "Verdict", "diagnose"]

Verdict = Literal["vanishing", "exploding", "stable", "dead", "saturated", "mixed"]
VERDICTS: Final[tuple[Verdict, ...]] = ("vanishing", "exploding", "stable", "dead", "saturated", "mixed")

# Gradients of the first and the last step within a factor of ten: one learning rate serves both.
STABLE_DECADES: Final = 1.0
# A drift that could be chance (the interval holds zero) starves the first step all the same when it reaches a
# factor of 100: no single learning rate suits both ends any more.
CHANCE_DECADES: Final = 2.0
# For "mixed" both the growing and the shrinking part must change by this much, and each must exceed twice its
# own 95 % half-width: the turning point is picked as the best one, and picking inflates ordinary
# significance.
MIXED_DECADES: Final = 1.0
MIXED_CERTAINTY: Final = 2.0
# A part shorter than this has no interval worth the name.
MIXED_STEPS: Final = 5
# Squares of a norm underflow in float32 below 2**-75: frameworks print 0 from there on.
_SQUARE_FLOAT32: Final = -75 * math.log10(2.0)


@dataclass(frozen=True)
class Diagnosis:
    """Verdict on a gradient flow, with its numbers and reasons; ``print`` it to read it.

    Attributes:
        verdict: "vanishing", "exploding", "stable", "dead" (exact zeros: units that pass nothing),
            "saturated" (vanishing because most activations sit on their flat ends) or "mixed" (grows here,
            shrinks there).
        decades_per_step: mean change of log10 norm per step towards the input; negative when shrinking.
        ci: its 95 % confidence interval, (low, high).
        total_decades: change of log10 norm over the whole homogeneous chain.
        horizon: format name -> the first step, counted back from the output, whose gradient reads zero (or
            overflows) in that format; ``inf`` when never at this rate, NaN when there is no rate.
        horizons: the same with how it was found ("measured", "extrapolated") and which end was met.
        signs: the tell-tale signs, present or not, each with its number and a sentence.
        text: the verdict and its reasons in one paragraph.
        steps, axis, first, last: size of the evidence and log10 norms at both ends.
    """

    verdict: Verdict
    decades_per_step: float
    ci: tuple[float, float]
    total_decades: float
    horizon: dict[str, float]
    horizons: dict[str, Horizon]
    signs: list[Sign]
    text: str
    steps: int
    axis: str
    first: float
    last: float

    def sign(self, name: str) -> Sign | None:
        """Return the sign of that name, or None where the evidence could not answer it."""
        return next((sign for sign in self.signs if sign.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        return asdict(self)

    def __str__(self) -> str:
        """Verdict, reasons, horizons and signs, about 25 lines."""
        lines = [f"verdict: {self.verdict}", textwrap.fill(self.text, 100), ""]
        lines.append("how far back from the output a plain float format carries this gradient:")
        lines += [f"  {name:<12} {_horizon_text(self.horizons[name], self.steps)}" for name in self.horizons]
        return "\n".join([*lines, "", *self._sign_lines()])

    def _sign_lines(self) -> list[str]:
        present = [sign for sign in self.signs if sign.present]
        absent = [sign for sign in self.signs if not sign.present]
        lines = ["signs present:" if present else "signs present: none"]
        lines += [hang(f"  + {sign.name}: ", sign.text) for sign in present]
        if absent:
            lines.append("signs absent:")
            lines += [hang(f"  - {sign.name}: ", sign.text) for sign in absent]
        return lines

    def __repr__(self) -> str:
        """One line: verdict and rate."""
        low, high = self.ci
        rate = f"{self.decades_per_step:+.3g} decades/step ({low:+.3g} to {high:+.3g})"
        return f"<Diagnosis {self.verdict}: {rate}, {self.steps} steps>"

    def _repr_html_(self) -> str:
        rows = [["verdict", self.verdict], ["why", self.text]]
        rows += [[f"reaches, {n}", _horizon_text(h, self.steps)] for n, h in self.horizons.items()]
        rows += [[f"{'present' if s.present else 'absent'}: {s.name}", s.text] for s in self.signs]
        return render_html(rows, ["", ""], "vgcore.Diagnosis")


def diagnose(norms: Any, *, log10: bool = False, axis: Literal["depth", "time"] = "depth") -> Diagnosis:
    """Return a verdict on gradient norms of a network's layers, from vgcore or from any other framework.

    `norms`: a ``GradientFlow`` (or one layer of it), or one norm per layer, **nearest the input first**: an
    array, a list (of numbers or of zero-dimensional tensors), or a mapping name -> norm in that order. With
    ``log10=True`` they are logarithms, which is the only way to pass norms beyond the float range. Zeros, NaN
    and infinities are evidence, not errors. With ``axis="time"`` they are norms of dL/dh_t of a recurrent
    network, one per time step, the first step first; a flow knows its own axis.

    Along time the result is a ``TimeDiagnosis``, which adds half-life, memory horizon and the gate that
    closes the path.

    With y = log10 norm, the rate is the mean of y[k] - y[k+1] over the layers: the change per layer towards
    the input (``GradientFlow.decades_per_step`` explains the estimator and its interval). Verdicts, first
    match wins:

    - NaN or infinity in a norm, NaN in the forward pass: "exploding" (an overflow is behind nearly all of
      them; nothing finer can be said);
    - an exact zero: "exploding" where the forward pass is not finite there or nearer the output; "vanishing"
      where the norms were shrinking into the smallest float when they ended; else "dead";
    - "mixed" when one part grows and another shrinks, each by over 1 decade and clearly beyond chance;
    - "stable" when the whole change is under 1 decade, or under 2 decades and the interval of the rate holds
      zero;
    - "saturated" when shrinking with over half of a bounded function's activations on their flat ends;
    - else "vanishing" or "exploding" by the sign of the rate.

    Raises:
        ShapeError: empty, or not one-dimensional.
        ArgumentError: not numbers, a negative norm, or no such axis.

    Example:
        >>> diagnose([1e-9, 1e-6, 1e-3, 1.0]).verdict
        'vanishing'
        >>> diagnose([0.0, 0.0, 1e-30, 1e-15, 1.0]).sign("exact zeros").text
        'the gradient is exactly zero from step 1 down'
    """
    from ._flow_layer import LayerFlow
    from .flow import GradientFlow

    if axis not in ("depth", "time"):
        raise ArgumentError(f"axis: expected 'depth' or 'time', got {axis!r}")
    if isinstance(norms, LayerFlow) or (isinstance(norms, GradientFlow) and norms.axis == "time"):
        return norms.diagnose()
    if axis == "time" and not isinstance(norms, GradientFlow):
        from ._diagnosis_time import diagnose_norms

        return diagnose_norms(norms, log10)
    evidence = from_flow(norms) if isinstance(norms, GradientFlow) else from_norms(norms, log10)
    verdict, reasons = _judge(evidence)
    drifting = verdict not in ("stable", "mixed", "dead")
    found = horizons(evidence, drifting=drifting, dead=verdict == "dead")
    rate = evidence.rate
    return Diagnosis(
        verdict=verdict,
        decades_per_step=rate.mean,
        ci=(rate.low, rate.high),
        total_decades=rate.total,
        horizon={name: entry.steps for name, entry in found.items()},
        horizons=found,
        signs=signs(evidence),
        text=" ".join([*_opening(evidence), *reasons]),
        steps=evidence.steps,
        axis=evidence.axis,
        first=float(evidence.curve[0]) if evidence.steps else math.nan,
        last=float(evidence.curve[-1]) if evidence.steps else math.nan,
    )


def _judge(evidence: Evidence) -> tuple[Verdict, list[str]]:
    curve, rate = evidence.curve, evidence.rate
    left = "Values left the float range, so the numbers say little beyond that: see non-finite values."
    if np.any(np.isnan(curve) | (curve == np.inf)) or _forward_broken(evidence.flow):
        return "exploding", [left]
    zero = np.flatnonzero(curve == -np.inf)
    if zero.size and np.any(evidence.spoiled >= zero[0]):
        return "exploding", [
            left,
            "The gradient is exactly zero where the forward pass has left it: that is no sign of dead units.",
        ]
    if zero.size:
        return _zeros(evidence)
    mixed = turning_point(evidence)
    if mixed is not None:
        return "mixed", [mixed]
    total = rate.total
    chance = rate.low <= 0 <= rate.high
    if math.isnan(total) or abs(total) < STABLE_DECADES:
        return "stable", [
            "First and last steps differ by less than a factor of ten: one learning rate serves both."
        ]
    if chance and abs(total) < CHANCE_DECADES:
        return "stable", ["The interval of the rate includes zero: what drift there is may be chance."]
    reasons = []
    if chance:
        reasons.append(
            "The interval of the rate includes zero, but this network's first steps are far off all the same."
        )
    if total > 0:
        return "exploding", reasons
    saturated = evidence.saturated
    if evidence.bounded and saturated > SATURATED_SHARE:
        reasons.append(f"Typically {100 * saturated:.0f} % of a step's activations sit on their flat ends.")
        return "saturated", reasons
    return "vanishing", reasons


def _forward_broken(flow: GradientFlow | None) -> bool:
    if flow is None:
        return False
    # NaN in a step is NaN in the output, of which a cotangent tells nothing. An infinite variance may be that
    # of finite numbers whose squares overflow.
    lost = flow.has_statistics and bool(np.isnan(flow.out_var).any())
    return lost or (flow.loss is not None and not math.isfinite(flow.loss))


def _zeros(evidence: Evidence) -> tuple[Verdict, list[str]]:
    curve, flow = evidence.curve, evidence.flow
    top = int(np.flatnonzero(curve == -np.inf)[-1])
    above = curve[top + 1 :]
    if flow is not None:
        # This engine keeps every exponent: a zero here is no underflow but a product with an exact zero.
        return "dead", [_why_dead(flow, top)]
    if above.size == 0:
        return "dead", ["Every norm is exactly zero: nothing reaches any layer, not even the last."]
    last, step = float(above[0]), evidence.rate.mean
    floors = {f"the smallest {entry.name}": entry.log10_zero for entry in LIMITS.values()}
    floors["the smallest norm whose square a float32 holds"] = _SQUARE_FLOAT32
    # Where would the next norm have been? Within two steps of a floor the format, not the network, made the
    # zero.
    reach = last + 2 * step if math.isfinite(step) and step < 0 else last
    near = [name for name, floor in floors.items() if reach <= floor <= last + 0.5]
    if near and evidence.rate.total < -STABLE_DECADES:
        return "vanishing", [
            f"Zeros from layer {top:,} down: your framework flushed them. The last norm above is "
            f"{power(last)} and "
            f"falling, close to {near[0]}; the true norms go on below it."
        ]
    return "dead", [
        f"Zeros from layer {top:,} down, while the norm just above is {power(last)}, far from any format's "
        "smallest "
        "number: units that pass nothing (or a cut graph), not underflow."
    ]


def _why_dead(flow: GradientFlow, top: int) -> str:
    """Say what blocks the gradient: a forward pass that faded to zero, or units that are off."""
    head = f"From step {top:,} down the gradient is exactly zero, not tiny: every path is blocked"
    if flow.has_statistics:
        silent = np.flatnonzero((flow.out_var == 0) & (flow.out_mean == 0))
        if silent.size:
            held = f" in {flow.meta['dtype']}" if "dtype" in flow.meta else ""
            return (
                f"{head}, as the forward pass is: from step {int(silent[0]):,} on all outputs are zero{held}."
            )
    return f"{head} by units of slope zero."


def turning_point(evidence: Evidence, step: Callable[[int], int] = int) -> str | None:
    """Return where a curve that grows in one part and shrinks in another turns, in words; else None.

    `step` names the step of an entry of the curve.
    """
    chain = evidence.rate.chain
    curve = evidence.curve[chain.start : chain.stop]
    if curve.size < 2 * MIXED_STEPS:
        return None
    # The turning point: where the curve is farthest from the straight line between its ends.
    line = np.linspace(curve[0], curve[-1], curve.size)
    for turn in {
        int(np.argmax(curve - line)),
        int(np.argmin(curve - line)),
        int(curve.argmax()),
        int(curve.argmin()),
    }:
        lower, upper = curve[: turn + 1], curve[turn:]
        if min(lower.size, upper.size) < MIXED_STEPS:
            continue
        changes = [float(part[0] - part[-1]) for part in (lower, upper)]
        if changes[0] * changes[1] >= 0 or min(map(abs, changes)) < MIXED_DECADES:
            continue
        if not all(_certain(part) for part in (lower, upper)):
            continue
        word = "grows" if changes[1] > 0 else "shrinks"
        other = "shrinks" if changes[1] > 0 else "grows"
        return (
            f"Going back from the output the gradient first {word} (by {abs(changes[1]):.3g} decades, down "
            "to step "
            f"{step(chain.start + turn):,}) and then {other} (by {abs(changes[0]):.3g} decades)."
        )
    return None


def _certain(part: FloatArray) -> bool:
    mean, low, _, _ = mean_interval(part[:-1] - part[1:])
    return abs(mean) > MIXED_CERTAINTY * (mean - low)


def _opening(evidence: Evidence) -> list[str]:
    rate, steps = evidence.rate, evidence.steps
    curve = evidence.curve
    ends = ""
    if steps:
        first, last = power(float(curve[0])), power(float(curve[-1]))
        ends = f"|gradient| is {last} at the last step and {first} at step 0."
    if math.isnan(rate.mean):
        return [f"{steps:,} step{'s' * (steps != 1)}.", ends, "Too few finite norms to estimate a rate."]
    change, total, interval = rate_words(rate)
    return [
        f"Over {rate.chain.size:,} steps the gradient {change} per step towards the input, "
        f"{total} decades in all ({interval}; mean of the log ratio).",
        ends,
    ]


def rate_words(rate: Rate) -> tuple[str, str, str]:
    """Return in words what a step does, the whole change, and the interval."""
    low, high = rate.low, rate.high
    interval = (
        f"95 % interval {low:+.3g} to {high:+.3g}" if math.isfinite(low) else "no interval from two steps"
    )
    change = f"changes by {rate.mean:+.3g} decades"
    if not low <= 0 <= high:
        change = f"{'shrinks' if rate.mean < 0 else 'grows'} by {abs(rate.mean):.3g} decades"
    total = f"{rate.total:+,.0f}" if abs(rate.total) >= 100 else f"{rate.total:+.3g}"
    return change + _factor(rate.mean), total, interval


def _factor(rate: float) -> str:
    """Return a rate in decades as the factor it stands for; nothing where that rounds to 1."""
    factor = f"{10.0 ** abs(rate):.3g}" if abs(rate) < 3 else power(abs(rate))
    return "" if factor == "1" else f" (a factor of {factor})"


def _horizon_text(horizon: Horizon, steps: int) -> str:
    if math.isnan(horizon.steps):
        return "unknown: there is no rate to go by"
    if math.isinf(horizon.steps):
        return "never lost at this rate"
    verb = "reads zero" if horizon.end == "zero" else "overflows"
    beyond = "" if horizon.how == "measured" else f" (extrapolated; this network has {steps:,})"
    return f"{verb} from step {count(horizon.steps)} back{beyond}"


def hang(head: str, text: str) -> str:
    """Return `text` behind `head`, folded with a hanging indent."""
    return textwrap.fill(head + text, 100, subsequent_indent="      ")
