"""Layer: results, the diagnosis along time. What a recurrent network remembers, and what closes the path.

Knows when a curve of norms along time counts as vanishing, exploding, stable, dead, saturated or mixed; the
thresholds are those of `diagnosis`. Knows nothing of how the curve was measured.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._evidence import Evidence, from_layer, from_norms
from ._gates import ACTIVATED, Gate, path_gate, typical
from ._horizon import Horizon, horizons, relative
from ._rate import half_life, mean_interval
from ._signs import SATURATED_SHARE
from ._signs_time import MEMORY_DECADES, is_bounded, log10_size, time_of, time_signs, where_nonfinite
from ._table import count, power, render_html, share
from .diagnosis import CHANCE_DECADES, STABLE_DECADES, Diagnosis, Verdict, rate_words, turning_point

if TYPE_CHECKING:
    from ._flow_layer import LayerFlow
    from ._flow_time import TimeFlow

__all__ = ["TimeDiagnosis", "diagnose_layer", "diagnose_norms"]

# A gate that explains half of the fall by itself is what closes the path.
GATE_SHARE: Final = 0.5
# Falling this much slower than the typical gate lets it, the gradient goes through untypical units.
FEW_UNITS: Final = 4.0
# Next to the loss, where many time scales still count, the first halving may take far less than later ones.
UNLIKE: Final = 3.0
_LOG10_2: Final = math.log10(2.0)


@dataclass(frozen=True)
class TimeDiagnosis(Diagnosis):
    """Verdict on a gradient along time, with its memory in steps; ``print`` it to read it.

    Besides what ``Diagnosis`` holds (``first`` and ``last`` are the norms farthest from the loss and at it):

    Attributes:
        path: the gradient that the verdict is about, "dL/dc_t" for an lstm, else "dL/dh_t".
        half_life: steps in which the gradient halves; ``inf`` where it does not shrink, NaN when unknown.
        half_life_ci: 95 % confidence interval of it, (low, high).
        halved_after: steps back from the loss after which half of the gradient is left, as measured there;
            the half-life is that of the long run.
        memory_horizon: steps back from the loss after which a thousandth of the gradient is left.
        memory_how: "measured", "extrapolated", "jacobian" (from the typical Jacobian, where the loss reads
            every step), "none" or "unknown".
        gate: what the gate on the path does; None where there is no such gate or no statistics.
        closed_by: what closes the path, in words; "" where nothing does or it is not known.
        nonfinite: where the forward pass first left the float range (``step``, ``layer``, ``direction``,
            ``units``), or None.
        layer, direction: which recurrent layer this is about.
    """

    path: str = "dL/dh_t"
    half_life: float = math.nan
    half_life_ci: tuple[float, float] = (math.nan, math.nan)
    halved_after: float = math.nan
    memory_horizon: float = math.nan
    memory_how: str = "unknown"
    gate: Gate | None = None
    closed_by: str = ""
    nonfinite: dict[str, int] | None = None
    layer: int = 0
    direction: int = 0

    def __str__(self) -> str:
        """Verdict, reasons, memory, horizons and signs, about 30 lines."""
        lines = [f"verdict: {self.verdict}", textwrap.fill(self.text, 100), "", "memory, in time steps:"]
        lines += [f"  {name:<20} {text}" for name, text in self._memory_rows()]
        lines += ["", "how far back from the loss a plain float format carries this gradient (by its norm):"]
        lines += [f"  {name:<12} {_horizon_text(h, self.steps)}" for name, h in self.horizons.items()]
        return "\n".join([*lines, "", *self._sign_lines()])

    def __repr__(self) -> str:
        """One line: verdict, rate and half-life."""
        rate = f"{self.decades_per_step:+.3g} decades/step ({self.ci[0]:+.3g} to {self.ci[1]:+.3g})"
        return f"<Diagnosis {self.verdict} along time: {rate}, half-life {_steps(self.half_life)}>"

    def _repr_html_(self) -> str:
        rows = [["verdict", self.verdict], ["why", self.text], *map(list, self._memory_rows())]
        rows += [[f"reaches, {n}", _horizon_text(h, self.steps)] for n, h in self.horizons.items()]
        rows += [[f"{'present' if s.present else 'absent'}: {s.name}", s.text] for s in self.signs]
        return render_html(rows, ["", ""], "vgcore.Diagnosis along time")

    def _memory_rows(self) -> list[tuple[str, str]]:
        low, high = self.half_life_ci
        between = f" (95 % {_plain(low)} to {_plain(high)})" if math.isfinite(low) else ""
        by = {"extrapolated": " (extrapolated)", "jacobian": " (by the typical Jacobian)"}
        how = by.get(self.memory_how, "")
        rows = [
            ("half-life", _steps(self.half_life) + between + (how if self.memory_how == "jacobian" else "")),
            ("first halving", _steps(self.halved_after)),
            ("down to 1/1000", _steps(self.memory_horizon) + how),
        ]
        if self.decades_per_step > 0 and math.isfinite(self.decades_per_step):
            rows.append(("doubles in", _steps(_LOG10_2 / self.decades_per_step)))
        if self.gate is not None:
            rows.append((self.gate.word, self.gate.text))
        return rows


def diagnose_norms(norms: Any, log10: bool) -> TimeDiagnosis:
    """Return a verdict on bare norms of dL/dh_t, first step first, from any framework."""
    return _diagnose(from_norms(norms, log10, "time"), None)


def diagnose_layer(view: LayerFlow) -> TimeDiagnosis:
    """Return the verdict on one recurrent layer."""
    return _diagnose(from_layer(view), view)


def _diagnose(evidence: Evidence, view: LayerFlow | None) -> TimeDiagnosis:
    flow = None if view is None else view.flow
    gate = None if view is None else path_gate(view)
    verdict, reasons = _judge(evidence, view, flow)
    rate = evidence.rate
    drifting = verdict not in ("stable", "mixed", "dead")
    found = horizons(evidence, drifting=drifting, dead=verdict == "dead" and view is not None)
    half, interval = half_life(rate), (math.nan, math.nan)
    halved, _ = relative(evidence, _LOG10_2, drifting=drifting or math.isfinite(half))
    memory, how = relative(evidence, MEMORY_DECADES, drifting=drifting or math.isfinite(half))
    if math.isfinite(half) and math.isfinite(rate.low) and rate.high < 0:
        interval = (_LOG10_2 / -rate.low, _LOG10_2 / -rate.high)
    closed = _closed_by(verdict, evidence, view, gate)
    reasons += [closed[0].upper() + closed[1:] + "."] if closed else []
    # A cotangent starts where its owner wants it to: then the curve is what was asked for.
    if flow is not None and flow.reads == "every" and flow.loss is not None:
        half, interval, memory, how, extra = _by_jacobian(view)
        halved = math.nan
        reasons.append(extra)
    elif math.isfinite(half) and verdict in ("vanishing", "saturated"):
        near = ""
        if halved * UNLIKE < half or halved > UNLIKE * half:
            near = f" (next to the loss it takes {_steps(halved)})"
        reasons.append(f"The gradient halves every {_steps(half)}{near}.")
    return TimeDiagnosis(
        verdict=verdict,
        decades_per_step=rate.mean,
        ci=(rate.low, rate.high),
        total_decades=rate.total,
        horizon={name: entry.steps for name, entry in found.items()},
        horizons=found,
        signs=time_signs(evidence, view, flow, memory, how),
        text=" ".join(filter(None, [*_opening(evidence, view), *reasons])),
        steps=evidence.steps,
        axis="time",
        first=float(evidence.curve[0]) if evidence.steps else math.nan,
        last=float(evidence.curve[-1]) if evidence.steps else math.nan,
        path="dL/dh_t" if view is None else view.memory_path,
        half_life=half,
        half_life_ci=interval,
        halved_after=halved,
        memory_horizon=memory,
        memory_how=how,
        gate=gate,
        closed_by=closed,
        nonfinite=None if flow is None else flow.nonfinite,
        layer=0 if view is None else view.index,
        direction=0 if view is None else view.direction,
    )


# --- verdict ------------------------------------------------------------------------------------------------


def _judge(evidence: Evidence, view: LayerFlow | None, flow: TimeFlow | None) -> tuple[Verdict, list[str]]:
    curve, rate = evidence.curve, evidence.rate
    if flow is not None and flow.nonfinite is not None:
        return "exploding", [_forward_broken(flow, flow.nonfinite)]
    if np.any(np.isnan(curve) | (curve == np.inf)) or _loss_broken(flow):
        return "exploding", [
            "Values left the float range, so the numbers say little beyond that: see non-finite values."
        ]
    if np.any(curve == -np.inf):
        return _zeros(evidence, view)
    mixed = turning_point(evidence, _namer(evidence, view))
    if mixed is not None:
        return "mixed", [mixed.replace("output", "loss")]
    total, chance = rate.total, rate.low <= 0 <= rate.high
    if math.isnan(total) or abs(total) < STABLE_DECADES:
        return "stable", [
            "The nearest and the farthest step differ by less than a factor of ten: all the steps count."
        ]
    if chance and abs(total) < CHANCE_DECADES:
        return "stable", ["The interval of the rate includes zero: what drift there is may be chance."]
    reasons = []
    if chance:
        reasons.append(
            "The interval of the rate includes zero, but this network's far steps are far off all the same."
        )
    if total > 0:
        return "exploding", reasons
    return "saturated" if view is not None and _saturated(view) else "vanishing", reasons


def _loss_broken(flow: TimeFlow | None) -> bool:
    return flow is not None and flow.loss is not None and not math.isfinite(flow.loss)


def _forward_broken(flow: TimeFlow, spot: dict[str, int]) -> str:
    """Say where the forward pass left the float range and how it came to that."""
    text = (
        f"The forward pass leaves the float range at {where_nonfinite(spot)}; nothing behind it is a number."
    )
    view = flow.layer(spot.get("layer", 0), spot.get("direction", 0))
    if not view.has_statistics:
        return text
    done = view.reach - spot["step"] if view.direction else spot["step"]
    sizes = log10_size(view)[:done]
    sizes = sizes[np.isfinite(sizes)]
    if sizes.size < 2:
        return text
    growth, _, _, _ = mean_interval(np.diff(sizes))
    if growth <= 0:
        return text
    return (
        f"{text} Up to there the hidden state grew by {growth:.3g} decades per step, from "
        f"{power(float(sizes[0]))} to {power(float(sizes[-1]))} (root mean square)."
    )


def _zeros(evidence: Evidence, view: LayerFlow | None) -> tuple[Verdict, list[str]]:
    curve = evidence.curve
    top = int(np.flatnonzero(curve == -np.inf)[-1])
    step = _namer(evidence, view)(top)
    if view is None:
        return _foreign_zeros(evidence, top)
    if top == curve.size - 1 and not np.any(curve > -np.inf):
        return "dead", ["The gradient is exactly zero at every step: nothing of the loss reaches this layer."]
    head = f"From time step {step:,} away from the loss the gradient is exactly zero, not tiny"
    return "dead", [f"{head}: {_why_zero(view, step)}."]


def _why_zero(view: LayerFlow, step: int) -> str:
    """Say what passes nothing on between `step` and the one nearer the loss."""
    if not view.has_statistics:
        return "every path is blocked there"
    near = min(max(step + (-1 if view.direction else 1), 0), view.steps - 1)
    if view.cell in ACTIVATED and view.gate_saturated and view.gate_saturated[view.gates[0]][near] >= 1.0:
        return f"all activations of time step {near:,} have slope zero"
    if view.hidden_var[near] == 0 and view.hidden_mean[near] == 0:
        return f"the hidden state is zero at time step {near:,}"
    if view.log10_jacobian_norm[near] == -np.inf:
        return f"the Jacobian of time step {near:,} is zero, so the recurrent weights or its slopes are"
    return "every path is blocked there"


def _foreign_zeros(evidence: Evidence, top: int) -> tuple[Verdict, list[str]]:
    above = evidence.curve[top + 1 :]
    if above.size == 0:
        return "dead", ["Every norm is exactly zero: nothing of the loss reaches any step."]
    if evidence.rate.total < -STABLE_DECADES:
        return "vanishing", [
            f"Zeros from time step {top:,} back: your framework may have flushed them. The last norm above "
            f"is {power(float(above[0]))} and falling; the true norms go on below it."
        ]
    return "dead", [
        f"Zeros from time step {top:,} back, while the norm just after is {power(float(above[0]))} and not "
        "falling: a cut graph (a detached state, or truncation), or units that pass nothing."
    ]


def _saturated(view: LayerFlow) -> bool:
    """Return whether most values that the path depends on sit on the flat end that closes it."""
    if not view.has_statistics:
        return False
    gate = path_gate(view)
    if gate is not None:
        return gate.keep < 0.5 and gate.saturated > SATURATED_SHARE
    if view.cell not in ACTIVATED or not view.gate_saturated or not is_bounded(view):
        return False
    return typical(view.gate_saturated[view.gates[0]][view.span]) > SATURATED_SHARE


def _closed_by(verdict: Verdict, evidence: Evidence, view: LayerFlow | None, gate: Gate | None) -> str:
    """Return what closes the path along time, in words; "" where nothing does or it is not known."""
    if view is None or not view.has_statistics or verdict not in ("vanishing", "saturated", "dead", "mixed"):
        return ""
    rate = evidence.rate.mean
    if gate is not None:
        falling = rate if math.isfinite(rate) else -math.inf
        if gate.decades <= GATE_SHARE * falling or (gate.keep == 0 and verdict == "dead"):
            shut = (
                f", least at time step {gate.step:,} ({share(gate.least)})"
                if gate.least < gate.keep / 2
                else ""
            )
            # A mean over units hides the few whose gate stays open; in the long run they are what is left.
            few = (
                "; a few units keep far more and carry the rest" if gate.decades < FEW_UNITS * falling else ""
            )
            return f"the {gate.word} closes the path: it {gate.text}{shut}{few}"
        return _output_gate(view) or (
            f"the {gate.word} does not close the path (by itself {gate.decades:+.3g} decades per step): the "
            "recurrent weights do the rest"
        )
    if _saturated(view):
        flat = typical(view.gate_saturated[view.gates[0]][view.span])
        return f"the activation closes the path: {share(flat)} of its values sit on the flat ends"
    jacobian = typical(view.log10_jacobian_norm[view.span])
    if verdict == "vanishing" and math.isfinite(jacobian) and jacobian < 0 and view.cell in ACTIVATED:
        return (
            f"the recurrent weights are too small for the slopes: one step back scales a gradient by "
            f"{power(jacobian)} (root mean square over directions)"
        )
    return ""


def _output_gate(view: LayerFlow) -> str:
    if view.cell != "lstm":
        return ""
    mean = typical(view.gate_mean["o"][view.span])
    flat = typical(view.gate_saturated["o"][view.span])
    if mean >= 0.5 or flat <= SATURATED_SHARE:
        return ""
    return (
        f"the output gate closes the path: {share(flat)} of its values are saturated at 0 (mean {mean:.2g})"
    )


def _by_jacobian(
    view: LayerFlow | None,
) -> tuple[float, tuple[float, float], float, str, str]:
    """Return half-life, its interval, memory and how, by the typical Jacobian: the loss reads every step."""
    text = (
        "The loss reads every step, so each norm holds its own step's share and hides how far back one "
        "step's gradient reaches; probe with a cotangent that is zero but at the last step to see that."
    )
    nothing = (math.nan, math.nan)
    if view is None or not view.has_statistics:
        return math.nan, nothing, math.nan, "unknown", text
    values = view.towards_loss(view.log10_jacobian_norm)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return math.nan, nothing, math.nan, "unknown", text
    mean, low, high, _ = mean_interval(values)
    text += f" One step back scales a gradient by {power(mean)} (root mean square over directions)."
    if mean >= 0 or (math.isfinite(low) and high >= 0):
        return math.inf, nothing, math.inf, "jacobian", text
    interval = (_LOG10_2 / -low, _LOG10_2 / -high) if math.isfinite(low) else nothing
    return _LOG10_2 / -mean, interval, float(math.ceil(MEMORY_DECADES / -mean)), "jacobian", text


# --- words --------------------------------------------------------------------------------------------------


def _namer(evidence: Evidence, view: LayerFlow | None) -> Callable[[int], int]:
    return lambda index: time_of(view, index, evidence.steps)


def _opening(evidence: Evidence, view: LayerFlow | None) -> list[str]:
    rate, curve, steps = evidence.rate, evidence.curve, evidence.steps
    what = "the gradient" if view is None else f"|{view.memory_path}|"
    parts: list[str] = []
    if math.isnan(rate.mean):
        parts.append(f"{steps:,} time step{'s' * (steps != 1)}: too few finite norms to estimate a rate.")
    else:
        change, total, interval = rate_words(rate)
        way = "forward" if view is not None and view.direction else "back"
        parts.append(
            f"Over {rate.chain.size:,} time steps {what} {change} per step {way} in time, {total} decades in "
            f"all ({interval}; mean of the log ratio)."
        )
    if steps:
        name = _namer(evidence, view)
        near, far = power(float(curve[-1])), power(float(curve[0]))
        parts.append(f"It is {near} at time step {name(steps - 1):,} and {far} at time step {name(0):,}.")
    if view is None:
        return parts
    if view.flow is not None and (view.flow.layers > 1 or view.direction):
        parts.insert(0, f"Layer {view.index} of {view.flow.layers} ({view.name}).")
    cut = view.meta.get("truncate")
    if cut and cut <= view.reach:
        parts.append(
            f"The gradient was truncated every {int(cut):,} steps; this is about the piece next to the loss."
        )
    shortest = view.meta.get("shortest")
    if shortest is not None and view.span.stop <= shortest < view.reach + 1 and not cut:
        parts.append(f"Sequences end at different steps; this is about the {steps:,} that all of them have.")
    if view.reach < view.steps - 1:
        parts.append(f"Steps after {view.reach:,} are padding: the loss does not depend on them.")
    return parts


def _plain(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else count(value)


def _steps(value: float) -> str:
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "none: it does not fall"
    return f"{_plain(value)} step{'s' * (value != 1)}"


def _horizon_text(horizon: Horizon, steps: int) -> str:
    if math.isnan(horizon.steps):
        return "unknown: there is no rate to go by"
    if math.isinf(horizon.steps):
        return "never lost at this rate"
    verb = "reads zero" if horizon.end == "zero" else "overflows"
    beyond = "" if horizon.how == "measured" else f" (extrapolated; this sequence has {steps:,})"
    return f"{verb} from step {count(horizon.steps)} back{beyond}"
