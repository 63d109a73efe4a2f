"""Layer: results, text of a history. What happened in a training, in words that need no glossary.

Knows histories and how numbers are read; nothing of how they were measured.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._table import count, power, render_html, share

if TYPE_CHECKING:
    from .history import History

__all__ = ["describe", "html_table", "one_line"]

_WIDTH: Final = 100
# More names than this are a count and two examples.
_MOST_NAMES: Final = 4
_SETTINGS: Final = ("network", "loss", "optimizer", "clip", "batch_size", "seed")


def describe(history: History) -> str:
    """Return paragraphs: what ran, the loss, held-out data, stagnation, the gradient, the layers."""
    parts = [_run(history), _loss(history)]
    parts += [_held_out(history)] if history.validation else []
    if history.steps:
        parts.append(f"Stagnation: {history.stagnation.text}.")
    if history.recorded.size and len(history.units):
        parts += [_gradient(history), _layers(history)]
    return "\n".join(textwrap.fill(part, _WIDTH, subsequent_indent="  ") for part in parts if part)


def one_line(history: History) -> str:
    """Return the representation: epochs, steps, both ends of the loss, held-out data, stagnation."""
    if not history.steps:
        return "<History, no steps>"
    first, last = _ends(history.loss)
    parts = [_sizes(history), f"loss {first:.4g} to {last:.4g}"]
    if history.accuracy is not None:
        parts.append(f"accuracy {share(_ends(history.accuracy)[1])}")
    if history.validation:
        parts.append(f"validation {_validated(history, history.validation[-1])}")
    found = history.stagnation
    parts.append(found.kind if found.step is None else f"{found.kind} from step {count(found.step)}")
    if history.stopped:
        parts.append(f"stopped ({history.stopped})")
    return f"<History {', '.join(parts)}>"


def html_table(history: History) -> str:
    """Return the same as a table for notebooks."""
    rows = [["size", _sizes(history)]]
    rows += [
        [name, _setting(history.meta[name])] for name in _SETTINGS if history.meta.get(name) not in (None, [])
    ]
    if history.steps:
        first, last = _ends(history.loss)
        rows.append(["loss, first and last steps", f"{first:.4g} to {last:.4g}"])
        if history.accuracy is not None:
            first, last = _ends(history.accuracy)
            rows.append(["accuracy, first and last steps", f"{share(first)} to {share(last)}"])
        if history.validation:
            rows.append(["held-out data, last epoch", _validated(history, history.validation[-1])])
        rows.append(["stagnation", history.stagnation.text])
    if not math.isnan(history.share_learning):
        rows.append(["layers that learn", share(history.share_learning)])
    if history.stopped:
        rows.append(["stopped", history.stopped])
    return render_html(rows, ["quantity", "value"], "vgcore.History")


def _sizes(history: History) -> str:
    epochs = len(history.epochs["epoch"])
    return f"{epochs:,} epoch{'s' * (epochs != 1)}, {history.steps:,} step{'s' * (history.steps != 1)}"


def _run(history: History) -> str:
    meta = history.meta
    text = f"Training: {_sizes(history)}"
    if meta.get("batch_size"):
        text += f" of {meta['batch_size']} samples"
    for name in ("loss", "optimizer", "clip", "constraint"):
        text += f", {name} {_setting(meta[name])}" if meta.get(name) else ""
    if history.seconds.size:
        text += f"; {float(np.median(history.seconds)):.3g} s an epoch"
    text += "."
    return f"{text} It ended early: {history.stopped}." if history.stopped else text


def _setting(value: Any) -> str:
    """Return what a training was given, several parts in their order."""
    return ", then ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _loss(history: History) -> str:
    if not history.steps:
        return "Nothing was trained."
    first, last = _ends(history.loss)
    bad = int((~np.isfinite(history.loss)).sum())
    text = f"Loss: {first:.4g} over the first steps, {last:.4g} over the last"
    if bad:
        at = int(np.argmin(np.isfinite(history.loss)))
        text += f"; it is not finite at {count(bad)} steps, first at step {count(at)}"
    if history.accuracy is not None:
        first, last = _ends(history.accuracy)
        text += f"; accuracy on the training data {share(first)}, then {share(last)}"
    return text + "."


def _held_out(history: History) -> str:
    last, best = history.validation[-1], history.best
    text = f"Held-out data: loss {_validated(history, last)} after epoch {last.epoch}"
    if best is not None and best.epoch != last.epoch:
        text += f"; the lowest loss was {best.loss:.4g}, after epoch {best.epoch}"
        if last.loss > 1.1 * best.loss:
            text += ", so the later epochs fitted the training data alone"
    return text + "."


def _validated(history: History, entry: Any) -> str:
    score = f"{share(entry.score)} right" if history.accuracy is not None else f"R squared {entry.score:.3g}"
    return f"{entry.loss:.4g} ({score})"


def _gradient(history: History) -> str:
    norms, steps = history.log10_grad_norm, history.recorded
    text = (
        f"Gradient norm at the lowest layer ({history.layers[0]}) and the highest ({history.layers[-1]}): "
        f"{power(float(norms[0, 0]))} and {power(float(norms[0, -1]))} at step {count(steps[0])}"
    )
    if steps.size > 1:
        text += f", {power(float(norms[-1, 0]))} and {power(float(norms[-1, -1]))} at step {count(steps[-1])}"
    lost = np.flatnonzero((np.isnan(norms) | (norms == np.inf)).any(axis=1))
    if lost.size:
        text += f"; not finite from step {count(steps[lost[0]])}"
    return text + "."


def _layers(history: History) -> str:
    parts = []
    learning = history.share_learning
    if learning < 1:
        parts.append(
            f"Layers that learn: {share(learning)} of those with weights (the others' updates are under "
            f"{history.resolution:.1e} of their weights, which rounding takes away)"
        )
    elif learning == 1:
        parts.append("Layers that learn: all that have weights")
    died = history.died
    gone = np.flatnonzero(died >= 0)
    if gone.size:
        named = ", ".join(
            f"{history.layers[i]} from step {count(died[i])}"
            for i in (gone if gone.size <= _MOST_NAMES else (gone[0], gone[-1]))
        )
        some = "" if gone.size <= _MOST_NAMES else f"{gone.size:,} of {died.size:,}, among them "
        parts.append(f"Layers whose gradient became exactly zero: {some}{named}")
    elif (history.log2_grad_norm[-1] > -np.inf).all():
        parts.append("No layer's gradient is exactly zero at the end")
    return ". ".join(parts) + "."


def _ends(values: Any) -> tuple[float, float]:
    """Return the means over the first and the last twentieth, at least one step."""
    some = max(1, values.size // 20)
    return float(values[:some].mean()), float(values[-some:].mean())
