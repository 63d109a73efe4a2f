"""Layer: results, evidence. What a diagnosis is drawn from, taken from a flow or from a bare list of norms.

Knows both sources, so that the verdict, the horizon and the signs need to know neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _rate
from .errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._flow_layer import LayerFlow
    from .flow import GradientFlow

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["Evidence", "from_flow", "from_layer", "from_norms"]

_LOG2_10 = math.log2(10.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Curve of log10 norms, its rate, the curve the formats are held against, and the flow if there is one.

    ``log2_peak``: log2 of the largest magnitude of each step's gradient where it is known, else of its norm,
    which is an upper bound of it.
    """

    curve: FloatArray
    rate: _rate.Rate
    log2_peak: FloatArray
    flow: GradientFlow | None
    axis: str

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(self.curve.size)

    @property
    def saturated(self) -> float:
        """Typical saturated share of the chain's steps; NaN when unknown."""
        return self._typical("saturated")

    @property
    def bounded(self) -> bool:
        """Whether saturation means the flat ends of a bounded function, not the zero side of a ReLU."""
        if self.flow is None or not self.flow.has_statistics:
            return False
        known = self.flow.meta.get("saturates")
        if known is not None:
            return bool(known)
        # Without the function's name: the zero side of a ReLU has slope exactly zero, flat ends mostly do
        # not.
        return self.saturated > 2 * self._typical("zero_slope")

    @property
    def spoiled(self) -> IntArray:
        """Steps whose outputs or pre-activations are not all finite; none where that was not measured."""
        flow = self.flow
        if flow is None or not flow.has_statistics:
            return np.empty(0, np.int64)
        # A bounded function makes a finite output even of an infinite pre-activation.
        before = flow._steps.any_delta(~np.isfinite(flow.raw["pre_var"]))
        return np.flatnonzero(before | ~np.isfinite(flow.out_var))

    def _typical(self, name: str) -> float:
        if self.flow is None or not self.flow.has_statistics or self.rate.chain.size == 0:
            return math.nan
        values = getattr(self.flow, name)[self.rate.chain.start : self.rate.chain.stop]
        values = values[np.isfinite(values)]
        return float(np.median(values)) if values.size else math.nan


def from_flow(flow: GradientFlow) -> Evidence:
    """Return the evidence in a measured flow."""
    peak = flow.log2_grad_norm
    if flow.has_statistics:
        # A step without a pre-activation (a Residual's end) has no delta: its norm stands in.
        peak = np.where(np.isnan(flow.log2_delta_max) & np.isfinite(peak), peak, flow.log2_delta_max)
    return Evidence(flow.log10_grad_norm, flow.rate, peak, flow, flow.axis)


def from_layer(view: LayerFlow) -> Evidence:
    """Return the evidence in one recurrent layer: its steps in order towards the loss, without padding.

    What a step's largest value is was not measured; its norm, an upper bound, stands for it.
    """
    curve = view.towards_loss(view.log10_memory_norm)
    return Evidence(curve, view.rate, curve * _LOG2_10, None, "time")


def from_norms(norms: Any, log10: bool, axis: str = "depth") -> Evidence:
    """Return the evidence in bare norms, nearest the input first, from any framework.

    Raises:
        ShapeError: not one-dimensional, or empty.
        ArgumentError: not numbers, or a negative norm.
    """
    values = _numbers(norms)
    if values.ndim != 1 or values.size == 0:
        each = "layer, shape (layers,)" if axis == "depth" else "time step, shape (steps,)"
        raise ShapeError(f"norms: expected one norm per {each}, got shape {values.shape}")
    if log10:
        curve = values
    else:
        if np.any(values < 0):
            first = int(np.flatnonzero(values < 0)[0])
            raise ArgumentError(
                f"norms: expected norms of at least 0, got {values[first]:g} at norms[{first}]; "
                "for logarithms pass log10=True"
            )
        with np.errstate(divide="ignore"):
            curve = np.log10(values)
    return Evidence(curve, _rate.estimate(curve), curve * _LOG2_10, None, axis)


def _numbers(norms: Any) -> FloatArray:
    if isinstance(norms, Mapping):
        norms = list(norms.values())
    if not hasattr(norms, "__array__"):
        try:
            # One by one: elements may be zero-dimensional tensors of any framework.
            norms = [float(value) for value in norms]
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"norms: expected a sequence of numbers, one per layer, got {type(norms).__name__} ({error})"
            ) from None
    try:
        array = np.asarray(norms)
        if array.dtype.kind not in "fiu":
            raise TypeError(f"dtype {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"norms: expected real numbers, one per layer, got {error}") from None
