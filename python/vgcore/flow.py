"""Layer: results, the flow. What one backward pass measured, per step, as a frozen object.

Knows how a pass reports (the arrays of the compiled module) and derives steps from units. Knows nothing of
how the pass ran; verdicts are in `diagnosis`, pictures in `plotting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _rate
from ._flow_arrays import FlowArrays
from ._flow_tables import flow_table, unit_table
from ._formats import FORMATS
from ._table import power, render_html, to_pandas
from .errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._flow_layer import LayerFlow
    from .diagnosis import Diagnosis

    FloatArray = NDArray[np.float64]

__all__ = ["FORMATS", "GradientFlow"]

_REQUIRED = ("steps", "step", "kind", "width", "grad_log2_norm", "delta_log2_norm")


@dataclass(frozen=True, eq=False, repr=False)
class GradientFlow(FlowArrays):
    """Gradient norms of every step of one network, from one backward pass.

    A step is a layer where ``axis`` is "depth" and a time step where it is "time", which it is in networks
    with a ``Recurrent`` layer. Step 0 is nearest the input, or the first in time. Arrays named ``log10_*``
    hold log10 of Frobenius norms over the whole batch; ``-inf`` is an exact zero, ``inf`` and ``nan`` are
    what the pass itself produced. No norm is lost to the float range: 1e-6270 is as good a number here as
    1e-2. All arrays are read-only, of shape (steps,) unless said.

    Along depth a step is a layer at the top level of the network or one iteration of a top-level ``Repeat``.
    A step made of several units (a Dense with its activation is one unit) is described by its last one; its
    weight gradient norm is the root of the sum of squares over its units. Along time the arrays are those of
    the recurrent layer nearest the loss, forward in time; ``layer(k)`` gives the others.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.mlp(depth=50, width=8, activation="tanh", rng=0)
        >>> flow = net.probe(np.ones((4, 8), np.float32), cotangent=np.ones((4, 8), np.float32))
        >>> flow.steps, flow.log10_grad_norm.shape
        (50, (50,))
    """

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> GradientFlow:
        """Return the flow for what a pass reported.

        ``raw`` holds one array per quantity with one entry per unit; ``meta`` describes the network and the
        call (all keys optional): ``axis`` ("depth"), ``lr``, ``loss``, ``dtype``, ``seed``, ``activations``
        (names used), ``saturates`` (whether the activation is bounded), ``label`` (a title for plots). What a
        recurrent network reported (``raw["axis"]`` is "time") gives a flow along time.

        Raises:
            ShapeError: a required array is missing, or arrays differ in length.
        """
        if raw.get("axis") == "time":
            from ._flow_time import TimeFlow

            return TimeFlow.from_raw(raw, meta)
        missing = [key for key in _REQUIRED if key not in raw]
        if missing:
            raise ShapeError(
                f"raw: expected the keys {', '.join(_REQUIRED)}, got none for {', '.join(missing)}"
            )
        frozen: dict[str, Any] = {}
        units = len(raw["step"])
        for key, value in raw.items():
            if isinstance(value, np.ndarray) and value.ndim > 0:
                if len(value) != units:
                    raise ShapeError(
                        f"raw[{key!r}]: expected {units} entries, one per unit, got {len(value)}"
                    )
                value = value.view()
                value.setflags(write=False)
            frozen[key] = value
        return cls(frozen, dict(meta or {}))

    # --- rate and verdict ----------------------------------------------------------------------------------

    @cached_property
    def rate(self) -> _rate.Rate:
        """Rate of the gradient norm with its interval, and the steps it was estimated from."""
        return _rate.estimate(self.log10_grad_norm, self._steps.change(np.asarray(self.raw["width"])))

    @property
    def decades_per_step(self) -> float:
        """Mean change of log10 |dL/dh| when going one step back towards the input; negative when vanishing.

        The mean is taken over the longest chain of equal steps (same width and make-up); from 40 steps on, 5
        % of them (at most 100) are left out at each end, where the forward pass has not settled. It is the
        mean of the log ratio, the typical rate of this one network, which lies O(1/width) below the log of
        the mean squared ratio that mean-field theory predicts.

        Source: estimator and interval are explained in ``vgcore._rate``.
        """
        return self.rate.mean

    @property
    def decades_per_step_ci(self) -> tuple[float, float]:
        """95 % confidence interval of ``decades_per_step``, as ``(low, high)``.

        Student's t with a long-run variance (equally weighted cosines), because neighbouring steps are
        correlated.
        """
        return self.rate.low, self.rate.high

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves, log10(2) / rate; ``inf`` where it does not shrink, NaN without
        a rate."""
        return _rate.half_life(self.rate)

    def diagnose(self) -> Diagnosis:
        """Return the verdict on this flow, with its reasons; ``print`` it."""
        from .diagnosis import diagnose

        return diagnose(self)

    def plot(self, ax: Any = None, *, theory: Any = False, **kw: Any) -> Any:
        """Draw the gradient norm against the step and return the matplotlib Axes (see
        ``plotting.plot_flow``).

        `theory`: True draws what ``vg.theory.predict`` expects of fresh weights under the measurement, from
        the layers and the mean square of the input that the flow remembers, beginning at the measured last
        step: the typical curve, two standard deviations around it, and the curve of infinite width. A Network
        or a Prediction is taken instead.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            ArgumentError: a layer that theory says nothing about (the message says which), or a flow that
                does not remember its layers.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(50, 64, activation="tanh", rng=0)
            >>> x = np.random.default_rng(0).normal(size=(8, 64)).astype("float32")
            >>> len(net.probe(x, cotangent=x).plot(theory=True).lines)
            3
        """
        from ._plot_theory import draw_theory
        from .plotting import plot_flow

        axes = plot_flow(self, ax=ax, **kw)
        return axes if theory is False else draw_theory(self, axes, theory)

    # --- along time alone ----------------------------------------------------------------------------------

    def layer(self, index: int, direction: int = 0) -> LayerFlow:
        """Return the arrays of one recurrent layer, 0 nearest the input (along time).

        Raises:
            ArgumentError: no such layer, or a flow along depth, whose steps are the layers.
        """
        raise self._time_only("layer()")

    @property
    def by_layer(self) -> FloatArray:
        """log10 of the norm of dL/dh_t of every recurrent layer, shape (layers, steps) (along time)."""
        raise self._time_only("by_layer")

    @property
    def log10_cell_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/dc_t, the cell state of an lstm (along time)."""
        raise self._time_only("log10_cell_grad_norm")

    @property
    def log10_jacobian_norm(self) -> FloatArray:
        """log10 of the root mean square singular value of each step's Jacobian (along time)."""
        raise self._time_only("log10_jacobian_norm")

    @property
    def gate_mean(self) -> Mapping[str, FloatArray]:
        """Mean value of each gate at every step, by the gate's name (along time)."""
        raise self._time_only("gate_mean")

    @property
    def gate_saturated(self) -> Mapping[str, FloatArray]:
        """Share of each gate's values on their flat ends at every step, by the gate's name (along time)."""
        raise self._time_only("gate_saturated")

    def _time_only(self, name: str) -> ArgumentError:
        return ArgumentError(
            f"{name}: expected a flow along time, from a network with a Recurrent layer, got one along "
            f"{self.axis}; its steps are layers, and log10_grad_norm[k] is step k"
        )

    # --- tables and files ----------------------------------------------------------------------------------

    @cached_property
    def units(self) -> dict[str, Any]:
        """Every unit and everything measured of it: columns of length (units,), one row per unit."""
        return unit_table(self.raw)

    @cached_property
    def table(self) -> Mapping[str, Any]:
        """Long format: columns ``step``, ``unit``, ``quantity``, ``value``; one row per step and quantity.

        ``unit`` is the unit of measurement: "log10", "share", "count", "decades" or "value".
        """
        return flow_table(self)

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table, categories=("unit", "quantity"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python numbers, strings and lists; ``from_dict`` reads it back."""
        from ._flow_io import flow_to_dict

        return flow_to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GradientFlow:
        """Return the flow that ``to_dict`` wrote."""
        from ._flow_io import flow_from_dict

        return cls.from_raw(*flow_from_dict(data))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the flow to `path`: ``.json`` (text) or ``.npz`` (compressed arrays, no pickle).

        Raises:
            ArgumentError: another suffix.
        """
        from ._flow_io import save_flow

        save_flow(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> GradientFlow:
        """Return the flow that ``save`` wrote to `path`.

        Raises:
            ArgumentError: the file is not one that ``save`` wrote.
        """
        from ._flow_io import load_flow

        return cls.from_raw(*load_flow(path))

    def __repr__(self) -> str:
        """One line: steps, the norms at both ends, the rate."""
        curve = self.log10_grad_norm
        ends = (
            f"|grad| {power(curve[0])} (step 0) to {power(curve[-1])} (step {self.steps - 1})"
            if curve.size
            else "empty"
        )
        rate = f"{self.decades_per_step:+.3g} decades/step"
        return f"<GradientFlow {self.axis}, {self.steps} steps, {ends}, {rate}>"

    def _repr_html_(self) -> str:
        curve, last = self.log10_grad_norm, self.steps - 1
        low, high = self.decades_per_step_ci
        rows = [
            ["steps", f"{self.steps:,} along {self.axis}"],
            ["gradient norm, step 0", power(float(curve[0]), 2) if last >= 0 else ""],
            [f"gradient norm, step {last:,}", power(float(curve[-1]), 2) if last >= 0 else ""],
            ["decades per step", f"{self.decades_per_step:+.4g} ({low:+.4g} to {high:+.4g})"],
            ["verdict", self.diagnose().verdict],
        ]
        return render_html(rows, ["quantity", "value"], "vgcore.GradientFlow")
