"""Layer: results, pictures of a prescription. Bars of losses, gradient curves, losses in training.

Knows matplotlib and the fields of a prescription.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._checks import as_choice, as_size
from ._plot_lines import GREY, axes_of, binned

if TYPE_CHECKING:
    from .doctor import Prescription

__all__ = ["plot_prescription"]


def plot_prescription(found: Prescription, kind: str, ax: Any, top: int) -> Any:
    """Draw a prescription; see `Prescription.plot`."""
    chosen = as_choice(kind, "kind", ("loss", "curves", "training"))
    trials = found.trials[: as_size(top, "top")]
    axes = axes_of(ax)
    along = "time step" if found.diagnosis.axis == "time" else "layer"
    if chosen == "loss":
        named = [found.untouched, *trials]
        places = np.arange(len(named))[::-1]
        colours = [GREY if not t.cures else "C0" if found.helped(t) else "C3" for t in named]
        axes.barh(places, [t.loss for t in named], color=colours)
        axes.set_yticks(places, [t.name if t.cures else "untouched" for t in named])
        axes.axvline(found.untouched.loss, color=GREY, linestyle=":", linewidth=1.0)
        axes.set_xlabel(f"loss after {found.settings['steps']} steps (blue: helped)")
    elif chosen == "curves":
        for number, trial in enumerate((found.untouched, *trials)):
            x, middle, _, _ = binned(trial.curve)
            # Layouts differ in their number of steps: a curve is drawn over its own share of the depth.
            axes.plot(
                np.asarray(x) / max(1, trial.curve.size - 1),
                middle,
                color="black" if number == 0 else f"C{number - 1}",
                linewidth=2.0 if number == 0 else 1.2,
                label=trial.name if trial.cures else "untouched",
            )
        axes.set_xlabel(f"share of the way from the first {along} to the last")
        axes.set_ylabel("log10 of the gradient norm, at the start")
        axes.legend(fontsize="small")
    else:
        for number, trial in enumerate((found.untouched, *trials)):
            colour = "black" if number == 0 else f"C{number - 1}"
            axes.plot(trial.losses, color=colour, label=trial.name if trial.cures else "untouched")
        axes.set_xlabel("step of training")
        axes.set_ylabel("loss")
        axes.legend(fontsize="small")
    axes.set_title(f"illness: {found.illness}")
    return axes
