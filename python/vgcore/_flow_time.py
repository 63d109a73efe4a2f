"""Layer: results, the flow along time. A recurrent network's gradient at every time step of every layer.

Knows how a pass reports recurrent layers and which of them speaks for the network. Knows nothing of how the
pass ran; verdicts are in `diagnosis`, pictures in `_plots_time`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import _rate
from ._flow_layer import DIRECTIONS, LayerFlow
from ._flow_time_table import TimeTable, time_table
from ._table import power, render_html
from .errors import ArgumentError, ShapeError
from .flow import GradientFlow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._diagnosis_time import TimeDiagnosis
    from ._flow_steps import Steps

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["TimeFlow"]

_REQUIRED: Final = ("cell", "layers", "directions", "hidden", "steps", "grad_log2_norm", "delta_log2_norm")
_PER_GATE: Final = ("gate_mean", "gate_saturated")


@dataclass(frozen=True, eq=False, repr=False)
class TimeFlow(GradientFlow):
    """Gradient norms of a recurrent network at every time step, from one backward pass.

    Step 0 is the first element of the sequence. The arrays of the flow itself, of shape (steps,), are those
    of the layer nearest the loss in the forward direction, ``layer(-1)``; ``layer(k)`` gives every other one
    and ``by_layer`` all of them at once. dL/dh_t is the whole derivative of the loss with respect to the
    cell's output at step t, through every later step. Steps after the end of the longest sequence hold exact
    zeros (``-inf``).

    ``decades_per_step`` and the verdict go by the gradient that carries memory: dL/dc_t in an lstm, dL/dh_t
    in the other cells.

    Example:
        >>> import numpy as np
        >>> from vgcore.flow import GradientFlow
        >>> norms = np.log2(0.5) * np.arange(9.0, -1.0, -1.0)[None, :]
        >>> entry = {"name": "rnn", "cell": "gru", "gates": [], "layers": 1, "directions": 1, "hidden": 4,
        ...          "steps": 10, "grad_log2_norm": norms, "delta_log2_norm": norms}
        >>> flow = GradientFlow.from_raw({"axis": "time", "steps": 10, "time": [entry]})
        >>> flow.axis, flow.steps, round(flow.decades_per_step, 4)
        ('time', 10, -0.301)
    """

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> TimeFlow:
        """Return the flow for what a pass through a recurrent network reported.

        ``raw["time"]`` holds one mapping for each ``Recurrent``, nearest the input first, with arrays of
        shape (layers * directions, steps), layers one after another and directions inside. ``meta`` may hold,
        beside the keys of a flow along depth, ``truncate`` (steps) and ``read`` ("last" or "every"; else
        that of the last entry of ``structure`` that has one).

        Raises:
            ShapeError: an array is missing or has another shape.
        """
        blocks = list(raw.get("time") or ())
        if not blocks:
            raise ShapeError("raw['time']: expected one mapping for each recurrent layer, got none")
        frozen = dict(raw) | {"axis": "time", "time": [_checked(b, i) for i, b in enumerate(blocks)]}
        frozen["steps"] = int(frozen["time"][-1]["steps"])
        uneven = [i for i, block in enumerate(frozen["time"]) if int(block["steps"]) != frozen["steps"]]
        if uneven:
            raise ShapeError(
                f"raw['time'][{uneven[0]}]: expected {frozen['steps']} steps, as the last one has, "
                f"got {frozen['time'][uneven[0]]['steps']}"
            )
        return cls(frozen, dict(meta or {}) | {"axis": "time"})

    # --- layers --------------------------------------------------------------------------------------------

    @cached_property
    def _layers(self) -> list[list[LayerFlow]]:
        blocks = self.raw["time"]
        reach = _reach(blocks)
        found: list[list[LayerFlow]] = []
        for block in blocks:
            for number in range(int(block["layers"])):
                directions = range(int(block["directions"]))
                index = len(found)
                found.append([LayerFlow(block, self.meta, index, number, d, reach, self) for d in directions])
        return found

    @property
    def layers(self) -> int:
        """Number of recurrent layers, stacked ones each counted."""
        return len(self._layers)

    @property
    def directions(self) -> int:
        """2 if a layer is bidirectional, else 1."""
        return max(len(views) for views in self._layers)

    def layer(self, index: int, direction: int = 0) -> LayerFlow:
        """Return one recurrent layer's arrays; 0 is nearest the input, negative numbers count from the last.

        Raises:
            ArgumentError: no such layer or direction.
        """
        found = self._layers
        at = _whole(index, "layer")
        if not -len(found) <= at < len(found):
            raise ArgumentError(
                f"layer: expected one of 0 to {len(found) - 1}, 0 nearest the input, got {index}"
            )
        way = _whole(direction, "direction")
        if not 0 <= way < len(found[at]):
            known = " or ".join(f"{i} ({DIRECTIONS[i]})" for i in range(len(found[at])))
            raise ArgumentError(f"direction: expected {known} in layer {index}, got {direction}")
        return found[at][way]

    @property
    def main(self) -> LayerFlow:
        """The layer that speaks for the network: the one nearest the loss, forward in time."""
        return self._layers[-1][0]

    @cached_property
    def by_layer(self) -> FloatArray:
        """log10 of the norm of dL/dh_t of every layer, shape (layers, steps), forward direction."""
        return self.stack()

    def stack(self, quantity: str = "log10_grad_norm", direction: int = 0) -> FloatArray:
        """Return one quantity of every layer, shape (layers, steps), row 0 nearest the input.

        Layers that lack the quantity or the direction are rows of NaN.

        Raises:
            ArgumentError: no layer has it.
        """
        rows = [_values(views, quantity, direction) for views in self._layers]
        if all(row is None for row in rows):
            raise ArgumentError(
                f"quantity: expected an array that a layer has, such as 'log10_grad_norm', got {quantity!r} "
                f"(direction {direction})"
            )
        empty = np.full(self.steps, np.nan)
        result = np.stack([empty if row is None else row for row in rows])
        result.setflags(write=False)
        return result

    @cached_property
    def feed_forward(self) -> GradientFlow | None:
        """The flow along depth of the layers that are not recurrent, in order, None if there are none.

        Where such layers run at every time step, their figures are over all samples and steps.
        """
        raw = _joined_stages(self.raw)
        return None if raw is None else GradientFlow.from_raw(raw, dict(self.meta) | {"axis": "depth"})

    # --- what the pass was ---------------------------------------------------------------------------------

    @property
    def reads(self) -> str | None:
        """What the loss reads: the "last" step or "every" one; None when the pass did not say."""
        value = self.meta.get("read")
        if value is None:
            known = [entry["read"] for entry in self.meta.get("structure", ()) if "read" in entry]
            value = known[-1] if known else None
        return None if value is None else str(value)

    @property
    def has_statistics(self) -> bool:
        """Whether the pass took full statistics, not only norms."""
        return self.main.has_statistics

    @cached_property
    def nonfinite(self) -> dict[str, int] | None:
        """Where the forward pass first left the float range: ``step``, ``layer`` (as in ``layer(k)``),
        ``direction`` and ``units``, the number of values that did; None if it never did.

        Everything measured of the forward pass up to that step is kept.
        """
        spot = self.raw.get("nonfinite")
        if not spot:
            return None
        found = {key: int(value) for key, value in spot.items() if key != "stage"}
        if "layer" in found:
            found["layer"] += _first_broken(self.raw["time"], spot)
        return found

    @property
    def weight_norms(self) -> dict[str, float]:
        """log10 of the norm of the whole gradient of each recurrent parameter, by name."""
        return {str(k): float(v) * float(np.log10(2.0)) for k, v in self.raw.get("weight_norms", {}).items()}

    @property
    def width(self) -> IntArray:
        """Number of hidden units of the layer nearest the loss, at every step."""
        return np.full(self.steps, self.main.hidden, dtype=np.int64)

    # --- the layer nearest the loss ------------------------------------------------------------------------

    @property
    def log2_grad_norm(self) -> FloatArray:
        """log2 of the norm of dL/dh_t."""
        return self.main.log2_grad_norm

    @property
    def log10_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/dh_t."""
        return self.main.log10_grad_norm

    @property
    def log10_cell_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/dc_t (lstm)."""
        return self.main.log10_cell_grad_norm

    @property
    def log2_delta_norm(self) -> FloatArray:
        """log2 of the norm of dL/d(pre-activations of step t), all gates together."""
        return self.main.log2_delta_norm

    @property
    def log10_delta_norm(self) -> FloatArray:
        """log10 of the norm of dL/d(pre-activations of step t), all gates together."""
        return self.main.log10_delta_norm

    @property
    def log2_weight_grad_norm(self) -> FloatArray:
        """log2 of the norm of what step t adds to dL/dW, both weights together."""
        return self.main.log2_weight_grad_norm

    @property
    def log10_weight_grad_norm(self) -> FloatArray:
        """log10 of the norm of what step t adds to dL/dW, both weights together."""
        return self.main.log10_weight_grad_norm

    @property
    def log10_jacobian_norm(self) -> FloatArray:
        """log10 of the root mean square singular value of d state_t / d state_{t-1}."""
        return self.main.log10_jacobian_norm

    @property
    def gate_mean(self) -> dict[str, FloatArray]:
        """Mean value of each gate at every step."""
        return self.main.gate_mean

    @property
    def gate_saturated(self) -> dict[str, FloatArray]:
        """Share of each gate's values whose slope is below 5 % of the largest, at every step."""
        return self.main.gate_saturated

    @property
    def grad_spread(self) -> FloatArray:
        """Standard deviation over the samples of log10 of each sample's own norm of dL/dh_t."""
        return self.main.grad_spread

    @property
    def out_mean(self) -> FloatArray:
        """Mean of h_t over units and samples."""
        return self.main.hidden_mean

    @property
    def out_var(self) -> FloatArray:
        """Variance of h_t over units and samples."""
        return self.main.hidden_var

    @property
    def log10_state_grad_norm(self) -> float:
        """log10 of the norm of dL/d(initial state) of the layer nearest the loss."""
        return self.main.log10_state_grad_norm

    @property
    def rate(self) -> _rate.Rate:
        """Rate of the gradient that carries memory, with its interval, and the steps it came from."""
        return self.main.rate

    @property
    def unchanged_share(self) -> FloatArray:
        """NaN: weights that all steps share are not updated step by step."""
        return np.full(self.steps, np.nan)

    def diagnose(self) -> TimeDiagnosis:
        """Return the verdict on the layer nearest the loss, with its reasons and memory; ``print`` it.

        ``layer(k).diagnose()`` gives another layer's.
        """
        return self.main.diagnose()

    # --- pictures, tables and text -------------------------------------------------------------------------

    def plot(self, ax: Any = None, *, theory: Any = False, kind: str = "lines", **kw: Any) -> Any:
        """Draw the gradient along time and return the matplotlib Axes.

        `kind`: "lines" (norms against time, see ``plotting.plot_time``), "heatmap" (every layer and step, see
        ``plotting.plot_time_heatmap``) or "gates" (mean value of each gate, see ``plotting.plot_gates``).
        `theory`: as for `GradientFlow.plot`; on lines, for one vanilla recurrent layer.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            ArgumentError: no such kind or quantity.
        """
        from . import _plots_time
        from ._plot_theory import draw_theory

        axes = _plots_time.plot(self, ax, kind=kind, **kw)
        return axes if theory is False or kind != "lines" else draw_theory(self, axes, theory)

    @cached_property
    def table(self) -> TimeTable:
        """Long format: columns ``step``, ``layer``, ``direction``, ``unit``, ``quantity``, ``value``.

        A mapping whose columns are made when they are asked for; ``table.select(quantity=, layer=)`` narrows
        it first, which is worth it for a million steps.
        """
        return time_table(self)

    @property
    def units(self) -> dict[str, Any]:
        """Every unit of the layers that are not recurrent and everything measured of it."""
        return {} if self.feed_forward is None else self.feed_forward.units

    def to_pandas(
        self, quantity: str | Sequence[str] | None = None, layer: int | Sequence[int] | None = None
    ) -> Any:
        """Return ``table`` as a pandas DataFrame, or only some of its quantities and layers.

        Raises:
            MissingDependencyError: pandas is not installed.
            ArgumentError: no such quantity or layer.
        """
        return self.table.select(quantity=quantity, layer=layer).to_pandas()

    def __repr__(self) -> str:
        """One line: steps, layers, the norms at both ends, the rate."""
        main, curve = self.main, self.log10_grad_norm
        stack = f"{self.layers} x " if self.layers > 1 else ""
        ends = (
            f"|grad| {power(curve[0])} (step 0) to {power(curve[main.reach])} (step {main.reach})"
            if curve.size
            else "empty"
        )
        what = f"{stack}{main.cell}({main.hidden})"
        return f"<GradientFlow time, {self.steps} steps, {what}, {ends}, {_rate.words(self.rate)}>"

    def _repr_html_(self) -> str:
        found = self.diagnose()
        rows = [["steps", f"{self.steps:,} along time, {self.layers} x {self.main.cell}({self.main.hidden})"]]
        for views in self._layers:
            for view in views:
                curve = view.log10_memory_norm
                first, last = (power(float(curve[i]), 2) if curve.size else "" for i in (0, view.reach))
                rows.append([f"|{view.memory_path}|, layer {view.index} ({view.name})", f"{first} to {last}"])
                low, high = view.decades_per_step_ci
                rows.append(["decades per step", f"{view.decades_per_step:+.4g} ({low:+.4g} to {high:+.4g})"])
        rows.append(["verdict", found.verdict])
        return render_html(rows, ["quantity", "value"], "vgcore.GradientFlow along time")

    @property
    def _steps(self) -> Steps:
        raise self._by_depth("this quantity")

    def _unit(self, key: str, *, full: bool = False) -> NDArray[Any]:
        raise self._by_depth(key)

    def _by_depth(self, what: str) -> ArgumentError:
        return ArgumentError(
            f"{what}: not measured along time; flow.feed_forward has it for the layers that are not "
            "recurrent, and flow.layer(k) has what is measured of a recurrent layer"
        )


def _checked(block: Mapping[str, Any], place: int) -> dict[str, Any]:
    """Return `block` with read-only arrays, or say which one does not fit."""
    where = f"raw['time'][{place}]"
    missing = [key for key in _REQUIRED if key not in block]
    if missing:
        raise ShapeError(f"{where}: expected the keys {', '.join(_REQUIRED)}, got none for {missing[0]}")
    steps, gates = int(block["steps"]), len(block.get("gates", ()))
    rows = int(block["layers"]) * int(block["directions"])
    result: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, np.ndarray):
            shape: tuple[int, ...] = (rows, steps)
            if key in _PER_GATE:  # a cell may have blocks of weights and yet no gates to take figures of
                shape = (rows, gates if value.shape[1:2] != (0,) else 0, steps)
            shape = (rows,) if key == "state_grad_log2_norm" else shape
            if value.shape != shape:
                raise ShapeError(f"{where}[{key!r}]: expected shape {shape}, got {value.shape}")
            value = value.view()
            value.setflags(write=False)
        result[key] = value
    return result


def _joined_stages(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report of a network that has the layers around the recurrent ones alone, None if none."""
    stages = list(raw.get("stages") or ())
    if not stages:
        return None
    counts = [int(np.max(stage["step"], initial=-1)) + 1 for stage in stages]
    first = np.cumsum([0, *counts])
    result: dict[str, Any] = {key: raw[key] for key in ("loss", "batch") if key in raw}
    for key, value in stages[0].items():
        if isinstance(value, np.ndarray) and all(key in stage for stage in stages):
            result[key] = np.concatenate([stage[key] for stage in stages])
    result["step"] = np.concatenate(
        [np.asarray(stage["step"]) + start for stage, start in zip(stages, first, strict=False)]
    )
    return result | {"steps": int(first[-1])}


def _first_broken(blocks: Sequence[Mapping[str, Any]], spot: Mapping[str, int]) -> int:
    """Return the number of layers before the ``Recurrent`` that `spot` is about.

    `spot` counts layers within its own; which that is its ``stage`` says, else the figures of that step.
    """
    before, step = 0, int(spot["step"])
    for block in blocks:
        row = int(spot["layer"]) * int(block["directions"]) + int(spot.get("direction", 0))
        if "stage" in spot and "stage" in block:
            mine = spot["stage"] == block["stage"]
        else:
            size = block.get("hidden_var")
            mine = size is None or (row < len(size) and not np.isfinite(size[row, step]))
        if mine:
            return before
        before += int(block["layers"])
    return 0


def _reach(blocks: Sequence[Mapping[str, Any]]) -> int:
    """Return the last step at which any layer's gradient is not exactly zero; the last step if there is none.

    Later steps are padding behind the longest sequence: the loss does not depend on them.
    """
    steps = int(blocks[-1]["steps"])
    live = np.zeros(steps, dtype=np.bool_)
    for block in blocks:
        for key in ("grad_log2_norm", "cell_grad_log2_norm"):
            if key in block:
                live |= (block[key] != -np.inf).any(axis=0)
    # From the back: argmax stops at the first that is live, which is the last step in most passes.
    return steps - 1 - int(np.argmax(live[::-1])) if live.any() else steps - 1


def _values(views: Sequence[LayerFlow], quantity: str, direction: int) -> FloatArray | None:
    if not 0 <= direction < len(views):
        return None
    name, _, gate = quantity.partition(":")
    try:
        values = getattr(views[direction], name, None)
    except ArgumentError:
        return None
    if isinstance(values, dict):
        values = values.get(gate)
    return values if isinstance(values, np.ndarray) and values.ndim == 1 else None


def _whole(value: int, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name}: expected a whole number, got {value!r}") from None
