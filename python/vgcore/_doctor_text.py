"""Layer: results, a prescription in words. Tables, text and HTML of what the doctor found.

Knows the fields of a prescription; decides nothing.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any, Final

from ._table import render, render_html, share

if TYPE_CHECKING:
    from ._doctor_trials import Trial
    from .doctor import Prescription

__all__ = ["columns", "html", "rows", "text"]

#: Trials that are printed; all of them are in the table.
SHOWN: Final = 12
_WIDTH: Final = 100

RULE: Final = (
    "Ranked by the loss reached (in steps of 1 %), then by the share of layers that learn, then by how even "
    "the gradient is, then by the number of cures and the cost of a step. A cure helps (*) when its loss is "
    "at least 5 % below the untouched network's and below that of the best constant answer."
)
#: What the rule goes on with, by whether the first was trained again.
CONFIRMED: Final = {
    True: " The first was trained a second time on other batches; its worse loss is shown.",
    False: " The first was not trained a second time on other batches: it may have been lucky.",
}


def rows(found: Prescription) -> list[dict[str, Any]]:
    """Return every trial as plain values, the untouched network first."""
    return [_row(found, trial) for trial in (found.untouched, *found.trials)]


def columns(found: Prescription) -> dict[str, list[Any]]:
    """Return the rows as columns."""
    listed = rows(found)
    return {key: [row[key] for row in listed] for key in listed[0]}


def _row(found: Prescription, trial: Trial) -> dict[str, Any]:
    base = found.untouched
    return {
        "cures": trial.name,
        "helped": bool(trial.cures) and found.helped(trial),
        "verdict": trial.verdict,
        "decades_per_step": trial.decades_per_step,
        "change_in_decades": abs(base.decades_per_step) - abs(trial.decades_per_step),
        "predicted_decades": trial.predicted,
        "learning_share": trial.learning,
        "first_loss": trial.first_loss,
        "loss": trial.loss,
        "steps": trial.steps,
        "relative_loss": trial.loss / base.loss if base.loss and trial.steps == base.steps else math.nan,
        "learning_rate": trial.learning_rate,
        "confirmed": trial.confirmed,
        "relative_cost": trial.seconds_per_step / base.seconds_per_step,
        "code": trial.code,
        "failed": trial.failed,
    }


def _decades(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else "-"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "nothing finite"


def _cells(found: Prescription, trial: Trial) -> list[str]:
    row = _row(found, trial)
    cost = row["relative_cost"]
    return [
        ("* " if row["helped"] else "  ") + trial.name,
        "failed" if trial.failed else _number(trial.loss) + _when(found, trial),
        _decades(trial.decades_per_step),
        _decades(trial.predicted),
        share(trial.learning),
        f"{cost:.1f} x" if math.isfinite(cost) else "-",
        f"{trial.learning_rate:g}" if math.isfinite(trial.learning_rate) else "-",
    ]


def _when(found: Prescription, trial: Trial) -> str:
    return "" if trial.steps == found.untouched.steps else f" at {trial.steps}"


def _header(found: Prescription) -> list[str]:
    step = "time step" if found.diagnosis.axis == "time" else "layer"
    reach = "steps reached" if found.diagnosis.axis == "time" else "layers learn"
    return [
        "  cures",
        f"loss, step {found.untouched.steps}",
        f"decades/{step}",
        "theory",
        reach,
        "cost",
        "rate",
    ]


def _names(names: Any) -> str:
    return ", ".join(names)


def text(found: Prescription) -> str:
    """Return the prescription as people read it."""
    lines = [f"illness: {found.illness}"]
    low = f"{found.cause.text[0].upper()}{found.cause.text[1:]}." if found.cause.text else ""
    lines += [textwrap.fill(f"{low} {found.diagnosis.text}".strip(), _WIDTH), ""]
    first, last = found.untouched.first_loss, found.untouched.loss
    steps = found.untouched.steps
    trained = f"Left as it is, {steps} steps take the loss from {_number(first)} to {_number(last)}"
    lines += [f"{trained}; the best constant answer costs {_number(found.chance)}."]
    if steps > found.settings["steps"]:
        few = f"Within {found.settings['steps']} steps nothing helped, so the most promising were trained for"
        lines.append(textwrap.fill(f"{few} {steps}, with {found.untouched.optimizer or 'Adam'}.", _WIDTH))
    if found.healthy:
        lines.append(
            "The network is healthy: gradients of one size everywhere, and it learns. No cure is needed."
        )
    shown = found.trials[:SHOWN]
    if shown:
        lines += ["", render([_cells(found, trial) for trial in (found.untouched, *shown)], _header(found))]
        if len(found.trials) > SHOWN:
            lines.append(f"  and {len(found.trials) - SHOWN} more that did worse: see prescription.table")
        lines += ["", textwrap.fill(RULE + CONFIRMED[shown[0].confirmed], _WIDTH)]
    lines += _advice(found)
    lines += _refused(found)
    if found.left_out:
        lines += [
            "",
            textwrap.fill(f"Not tried, because the budget was spent: {_names(found.left_out)}.", _WIDTH),
        ]
    return "\n".join(lines)


def _refused(found: Prescription) -> list[str]:
    """Return how many candidates do not apply, and why each does not where somebody asked for it."""
    if not found.refused:
        return []
    told = f"Not tried, because they do not apply: {len(found.refused)}"
    if found.settings["candidates"] == "all":
        return ["", f"{told} (prescription.refused says why)."]
    reasons = (f"{name}: {' '.join(why.split())}" for name, why in found.refused.items())
    wrapped = (textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    ") for text in reasons)
    return ["", told + ".", *wrapped]


def _advice(found: Prescription) -> list[str]:
    if found.recommended:
        best = found.recommended[0]
        return [
            "",
            "The best that was tried:",
            f"  cured = {best.code}",
            f"  cured.fit(x, y, epochs={_epochs(found)}, optimizer={_call(best)})",
        ]
    if found.healthy or not found.trials:
        return []
    lines = ["", f"Nothing that was tried helped within {found.untouched.steps} steps."]
    even = [trial for trial in found.trials if trial.verdict == "stable" and not trial.failed]
    if even and found.untouched.verdict != "stable":
        lines.append(
            f"{_names(t.name for t in even[:3])} made the gradient even; more steps= may show what for."
        )
    return lines


def _epochs(found: Prescription) -> int:
    """Return epochs of at least as many steps as the trials had."""
    seen = found.untouched.steps * int(found.settings["batch"])
    return max(10, math.ceil(seen / int(found.settings["samples"])))


def _call(trial: Trial) -> str:
    """Return the call that makes a trial's optimizer: by its class, or by its name in the catalogue."""
    text = repr(trial.optimizer)
    return f"vg.{text}" if text[0].isupper() else f"vg.optimizers.{text}"


def html(found: Prescription) -> str:
    """Return the ranking as an HTML table."""
    listed = [_cells(found, trial) for trial in (found.untouched, *found.trials)]
    return render_html(listed, _header(found), f"illness: {found.illness}")
