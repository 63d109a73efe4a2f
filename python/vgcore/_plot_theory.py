"""Layer: results, pictures. The curve that theory expects, drawn under the one that was measured.

Knows what a flow remembers of its network; theory is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _saving
from ._checks import shown
from ._passes import TOUCHED
from .errors import ArgumentError

if TYPE_CHECKING:
    from .flow import GradientFlow
    from .theory import Prediction

__all__ = ["draw_theory", "expected"]


def expected(flow: GradientFlow, theory: Any = True) -> Prediction:
    """Return what theory expects for `flow`, moved so that it starts where the flow starts.

    `theory`: True takes the layers and the input's mean square that the flow remembers, with fresh weights; a
    Network its layers and weights instead; a Prediction is taken as it is.

    Raises:
        ArgumentError: True for a flow whose weights were no longer fresh, or that has no layers; something
            else than these; what theory cannot predict.
    """
    from .network import Network
    from .theory import Prediction, predict, predict_layers

    if isinstance(theory, Prediction):
        return theory.anchored(flow)
    meta = flow.meta
    known: dict[str, Any] = {key: float(meta[key]) for key in ("mean_square", "mean") if key in meta}
    known["batch"] = meta.get("batch")
    steps = flow.steps if flow.axis == "time" else None
    if isinstance(theory, Network):
        return predict(theory, steps=steps, **known).anchored(flow)
    if theory is not True:
        raise ArgumentError(
            f"theory: expected True, a vg.Network or a Prediction of vg.theory.predict, got {shown(theory)}"
        )
    if meta.get("weights") == TOUCHED:
        raise ArgumentError(
            "theory: this flow was measured with weights that were loaded, scaled or trained since they were "
            "drawn, and remembers the layers alone; give the network, flow.plot(theory=net), whose weights "
            "are then taken as they are"
        )
    recipe = meta.get("recipe")
    if recipe is None:
        raise ArgumentError(
            "theory: this flow does not remember its layers (they hold explicit arrays, or it was not "
            "measured by a vg.Network); give the network, flow.plot(theory=net)"
        )
    layers = _saving.layers_from(recipe["layers"])
    return predict_layers(layers, recipe["in_features"], steps=steps, **known).anchored(flow)


def draw_theory(flow: GradientFlow, axes: Any, theory: Any) -> Any:
    """Draw `expected` on the Axes of a flow and return them."""
    return expected(flow, theory).plot(axes)
