"""Layer: results, the arrays of a flow. Everything a pass measured, per step, in log space.

Knows the arrays that the compiled module reports and derives steps from units. Knows no verdict, file or
picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._checks import MAX_SIZE, as_real, as_size
from ._flow_steps import Steps, has_parameter
from ._flow_tables import HIST_BINS
from ._formats import FORMATS, limits
from .errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["FlowArrays"]

_LOG10_2: Final = math.log10(2.0)


@dataclass(frozen=True, eq=False, repr=False)
class FlowArrays:
    """The measured part of ``GradientFlow``: what the pass reported, read per step.

    ``raw``: arrays with one entry per unit, and scalars, by the compiled module's names. ``meta``: the
    network and the call.
    """

    raw: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)

    # --- what the pass was ---------------------------------------------------------------------------------

    @property
    def axis(self) -> str:
        """What a step is: "depth" (a layer) or "time"."""
        return str(self.meta.get("axis", "depth"))

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(self.raw["steps"])

    @property
    def batch(self) -> int | None:
        """Number of samples of the pass."""
        value = self.raw.get("batch")
        return None if value is None else int(value)

    @property
    def loss(self) -> float | None:
        """Value of the loss; None when a cotangent was given."""
        value = self.raw.get("loss")
        return None if value is None else float(value)

    @property
    def lr(self) -> float | None:
        """Learning rate of the step that was taken or asked about; None when there was none."""
        value = self.meta.get("lr")
        return None if value is None else float(value)

    @property
    def has_statistics(self) -> bool:
        """Whether the pass took full statistics, not only norms."""
        return "delta_count" in self.raw

    # --- norms ---------------------------------------------------------------------------------------------

    @cached_property
    def _steps(self) -> Steps:
        return Steps(np.asarray(self.raw["step"]), np.asarray(self.raw["kind"]), self.steps)

    @cached_property
    def log2_grad_norm(self) -> FloatArray:
        """log2 of the norm of dL/d(output of the step)."""
        return _floats(self._steps.last(self._unit("grad_log2_norm")))

    @cached_property
    def log10_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/d(output of the step)."""
        return _floats(self.log2_grad_norm * _LOG10_2)

    @cached_property
    def log2_delta_norm(self) -> FloatArray:
        """log2 of the norm of dL/d(pre-activation of the step); NaN where a step has none."""
        return _floats(self._steps.last_delta(self._unit("delta_log2_norm")))

    @cached_property
    def log10_delta_norm(self) -> FloatArray:
        """log10 of the norm of dL/d(pre-activation of the step); NaN where a step has none."""
        return _floats(self.log2_delta_norm * _LOG10_2)

    @cached_property
    def log2_weight_grad_norm(self) -> FloatArray:
        """log2 of the norm of dL/d(weights of the step); NaN where a step has no weights."""
        return _floats(self._parameter_norm("weight_grad_log2_norm"))

    @cached_property
    def log10_weight_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/d(weights of the step); NaN where a step has no weights."""
        return _floats(self.log2_weight_grad_norm * _LOG10_2)

    @cached_property
    def log2_bias_grad_norm(self) -> FloatArray:
        """log2 of the norm of dL/d(biases of the step); NaN where a step has no biases."""
        return _floats(self._parameter_norm("bias_grad_log2_norm"))

    @cached_property
    def log10_bias_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/d(biases of the step); NaN where a step has no biases."""
        return _floats(self.log2_bias_grad_norm * _LOG10_2)

    @property
    def log2_input_grad_norm(self) -> float:
        """log2 of the norm of dL/d(input of the network), along time over all its steps.

        NaN along time where the network begins with a recurrent layer and ``stats="norms"`` were taken: it is
        a product at every step that nothing else there needs.
        """
        return float(self.raw.get("input_grad_log2_norm", math.nan))

    @property
    def log10_input_grad_norm(self) -> float:
        """log10 of the norm of dL/d(input of the network); NaN where `log2_input_grad_norm` is."""
        return self.log2_input_grad_norm * _LOG10_2

    @cached_property
    def log10_weight_norm(self) -> FloatArray:
        """log10 of the norm of the weights of the step; NaN where a step has none."""
        values = self._unit("weight_log2_norm", full=True)
        present = ~np.isnan(values)
        return _floats(self._steps.log2_norm(values, present) * _LOG10_2)

    # --- statistics of the gradient ------------------------------------------------------------------------

    @cached_property
    def grad_spread(self) -> FloatArray:
        """Standard deviation over the samples of log10 of each sample's own gradient norm."""
        return _floats(self._steps.last(self._unit("grad_spread", full=True)))

    @cached_property
    def log2_delta_max(self) -> FloatArray:
        """log2 of the largest magnitude in dL/d(pre-activation of the step)."""
        return _floats(self._steps.last_delta(self._unit("delta_log2_max", full=True)))

    @cached_property
    def log10_delta_max(self) -> FloatArray:
        """log10 of the largest magnitude in dL/d(pre-activation of the step)."""
        return _floats(self.log2_delta_max * _LOG10_2)

    @cached_property
    def log10_delta_mean_abs(self) -> FloatArray:
        """log10 of the mean magnitude in dL/d(pre-activation of the step)."""
        return _floats(self._steps.last_delta(self._unit("delta_log2_mean_abs", full=True)) * _LOG10_2)

    @cached_property
    def share_zero(self) -> FloatArray:
        """Share of the entries of delta that are exactly zero: no format would save them."""
        return _floats(self._share("delta_zero"))

    @cached_property
    def share_nonfinite(self) -> FloatArray:
        """Share of the entries of delta that are NaN or infinite."""
        return _floats(self._share("delta_nan") + self._share("delta_inf"))

    def share_flushed(self, format: str) -> FloatArray:
        """Share of the non-zero finite entries of delta that a plain float of `format` would read as zero.

        1.0 means: nothing of this step's gradient is left in that format. NaN: no such entries.

        Raises:
            UnknownNameError: `format` is not in ``FORMATS``.
        """
        return self._format_share("delta_flush", format)

    def share_subnormal(self, format: str) -> FloatArray:
        """Share of the non-zero finite entries of delta held with fewer digits (subnormal) in `format`."""
        return self._format_share("delta_subnormal", format)

    def share_overflow(self, format: str) -> FloatArray:
        """Share of the non-zero finite entries of delta that would overflow in `format`."""
        return self._format_share("delta_overflow", format)

    def exponent_histogram(self, step: int | None = None) -> tuple[IntArray, IntArray]:
        """Return how many entries of delta have which binary exponent, as ``(exponents, counts)``.

        Bins are two binades wide: ``exponents[i]`` and ``exponents[i] - 1``. For one `step`, counted from the
        end where it is negative, the bins are exact and the last one takes everything smaller; for all steps
        together (None) each step's bins are rounded down to even exponents, exact to one binade.

        Raises:
            ArgumentError: no such step, or no integer.
        """
        hist = self._steps.last(self._unit("delta_hist", full=True))
        top = self._steps.last(self._unit("delta_hist_top", full=True))
        if step is not None:
            step = as_size(step, "step", minimum=-MAX_SIZE)
            if not -self.steps <= step < self.steps:
                raise ArgumentError(f"step: expected one of 0 to {self.steps - 1}, got {step}")
            return top[step] - 2 * np.arange(HIST_BINS), np.asarray(hist[step])
        counted = hist.sum(axis=1) > 0
        if not counted.any():
            return np.empty(0, np.int64), np.empty(0, np.int64)
        upper = (top[counted, None] - 2 * np.arange(HIST_BINS)) // 2
        low, high = int(upper.min()), int(upper.max())
        counts = np.bincount((upper - low).ravel(), weights=hist[counted].ravel(), minlength=high - low + 1)
        return 2 * np.arange(high, low - 1, -1), counts[::-1].astype(np.int64)

    def update_to_weight(self, lr: float | None = None) -> FloatArray:
        """log10 of |lr * dL/dW| / |W| per step, for an SGD step of rate `lr` (default: this pass's own).

        Around -3 is a common rule of thumb for a step that learns.

        Raises:
            ArgumentError: no rate, here or in the pass, or one that is no finite number above 0.
        """
        rate = self.lr if lr is None else as_real(lr, "lr")
        if rate is None or rate <= 0:
            raise ArgumentError(
                f"lr: expected a rate above 0, got {rate}; pass one, as in update_to_weight(lr=0.1)"
            )
        return _floats(self.log10_weight_grad_norm - self.log10_weight_norm + math.log10(rate))

    @cached_property
    def unchanged_share(self) -> FloatArray:
        """Share of a step's weights that an SGD step of this pass's rate leaves unchanged to the bit.

        NaN where a step has no weights, or where the pass was given no rate.
        """
        if "weight_unchanged" not in self.raw:
            return _floats(np.full(self.steps, np.nan))
        return _floats(self._share("weight_unchanged", "weight_grad_count"))

    # --- statistics of the forward pass --------------------------------------------------------------------

    @cached_property
    def out_mean(self) -> FloatArray:
        """Mean of the step's output over units and samples."""
        return _floats(self._steps.last(self._unit("out_mean", full=True)))

    @cached_property
    def out_var(self) -> FloatArray:
        """Variance of the step's output over units and samples."""
        return _floats(self._steps.last(self._unit("out_var", full=True)))

    @cached_property
    def pre_mean(self) -> FloatArray:
        """Mean of the step's pre-activation over units and samples."""
        return _floats(self._steps.last_delta(self._unit("pre_mean", full=True)))

    @cached_property
    def pre_var(self) -> FloatArray:
        """Variance of the step's pre-activation over units and samples."""
        return _floats(self._steps.last_delta(self._unit("pre_var", full=True)))

    @cached_property
    def saturated(self) -> FloatArray:
        """Share of activations whose slope is below 5 % of the function's largest."""
        return _floats(self._steps.mean(self._unit("saturated", full=True), self._widths))

    @cached_property
    def zero_slope(self) -> FloatArray:
        """Share of activations whose slope is exactly zero."""
        return _floats(self._steps.mean(self._unit("zero_slope", full=True), self._widths))

    @cached_property
    def dead(self) -> IntArray:
        """Number of the step's units whose slope is zero for every sample: no gradient can pass them."""
        return _counts(self._steps.total(self._unit("dead", full=True)))

    @cached_property
    def dead_share(self) -> FloatArray:
        """Share of the step's units whose slope is zero for every sample."""
        total = self._steps.total(self._widths)
        return _floats(self.dead / np.maximum(total, 1))

    @cached_property
    def width(self) -> IntArray:
        """Number of outputs of the step."""
        return _counts(self._steps.last(np.asarray(self.raw["width"])))

    # --- from units to steps -------------------------------------------------------------------------------

    @cached_property
    def _widths(self) -> IntArray:
        return np.asarray(self.raw["width"], dtype=np.int64)

    def _unit(self, key: str, *, full: bool = False) -> NDArray[Any]:
        try:
            return np.asarray(self.raw[key])
        except KeyError:
            reason = (
                'this flow holds norms only; measure with stats="full"' if full else "it was not measured"
            )
            raise ArgumentError(f"{key}: {reason}") from None

    def _parameter_norm(self, key: str) -> FloatArray:
        if key not in self.raw:
            return np.full(self.steps, np.nan)
        return self._steps.log2_norm(self._unit(key), has_parameter(self.raw, key))

    def _share(self, key: str, of: str = "delta_count") -> FloatArray:
        top = self._steps.total(self._unit(key, full=True))
        bottom = self._steps.total(self._unit(of, full=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(bottom > 0, top / bottom, np.nan)

    def _format_share(self, key: str, format: str) -> FloatArray:
        index = FORMATS.index(limits(format).name)
        top = self._steps.total(self._unit(key, full=True)[:, index])
        count, zero, nan, inf = (
            self._steps.total(self._unit(f"delta_{name}", full=True))
            for name in ("count", "zero", "nan", "inf")
        )
        finite = count - zero - nan - inf
        with np.errstate(invalid="ignore", divide="ignore"):
            return _floats(np.where(finite > 0, top / finite, np.nan))


def _floats(values: Any) -> FloatArray:
    """Return `values` as a read-only view."""
    array: FloatArray = np.asarray(values, dtype=np.float64).view()
    array.setflags(write=False)
    return array


def _counts(values: Any) -> IntArray:
    """Return `values` as a read-only view of integers."""
    array: IntArray = np.asarray(values, dtype=np.int64).view()
    array.setflags(write=False)
    return array
