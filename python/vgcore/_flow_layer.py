"""Layer: results, one recurrent layer of a flow along time. Its norms, gates and Jacobians, step by step.

Knows the arrays that the compiled module reports of a recurrent layer and which of its states carries memory.
Knows no verdict, file or picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import _rate
from .errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._diagnosis_time import TimeDiagnosis
    from ._flow_time import TimeFlow

    FloatArray = NDArray[np.float64]

__all__ = ["DIRECTIONS", "LayerFlow"]

DIRECTIONS: Final = ("forward", "reverse")
_LOG10_2: Final = math.log10(2.0)
# On fewer steps than this a rate means little, and sequences of different ends are the lesser evil.
LEAST_SHORTEST: Final = 10


@dataclass(frozen=True, eq=False, repr=False)
class LayerFlow:
    """What one backward pass measured of one recurrent layer, at every time step.

    Arrays have shape (steps,), are read-only and are indexed by **time**: entry 0 is the first element of the
    sequence, for the reverse direction too. ``log10_*`` hold log10 of Frobenius norms over the whole batch;
    ``-inf`` is an exact zero.

    Attributes:
        raw: what the pass reported of the ``Recurrent`` that this layer is part of.
        meta: the network and the call.
        index: which recurrent layer of the network this is, 0 nearest the input.
        number: which layer of its own ``Recurrent`` this is (the ``k`` of ``weight_hh_lk``).
        direction: 0 forward in time, 1 reverse.
        reach: the last step that the loss depends on; later ones are padding.
        flow: the flow that this layer is part of.

    Example:
        >>> import numpy as np
        >>> from vgcore.flow import GradientFlow
        >>> norms = np.log2(0.5) * np.arange(9.0, -1.0, -1.0)[None, :]
        >>> entry = {"name": "rnn", "cell": "gru", "gates": [], "layers": 1, "directions": 1, "hidden": 4,
        ...          "steps": 10, "grad_log2_norm": norms, "delta_log2_norm": norms}
        >>> flow = GradientFlow.from_raw({"axis": "time", "steps": 10, "time": [entry]})
        >>> round(flow.layer(0).half_life, 6)
        1.0
    """

    raw: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0
    number: int = 0
    direction: int = 0
    reach: int = -1
    flow: TimeFlow | None = None

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Path of the ``Recurrent`` in the network and the layer's number, as in "rnn l0"."""
        head = f"{self.raw.get('name', '')} l{self.number}".strip()
        return head + (f" {DIRECTIONS[1]}" if self.direction else "")

    @property
    def cell(self) -> str:
        """Name of the cell, as in ``vg.cells.names()``."""
        return str(self.raw["cell"])

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates, in the order of the rows of the weights, as in ("i", "f", "g", "o")."""
        return tuple(self.raw.get("gates", ()))

    @property
    def hidden(self) -> int:
        """Number of units of the hidden state."""
        return int(self.raw["hidden"])

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return int(self.raw["steps"])

    @property
    def has_statistics(self) -> bool:
        """Whether the pass took full statistics, not only norms."""
        return "hidden_var" in self.raw

    @property
    def has_cell_state(self) -> bool:
        """Whether the cell keeps a second state c beside h, as an lstm does."""
        return "cell_grad_log2_norm" in self.raw

    # --- norms ---------------------------------------------------------------------------------------------

    @property
    def log2_grad_norm(self) -> FloatArray:
        """log2 of the norm of dL/dh_t, h_t the output of the cell at step t."""
        return self._row("grad_log2_norm")

    @cached_property
    def log10_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/dh_t, h_t the output of the cell at step t."""
        return _frozen(self.log2_grad_norm * _LOG10_2)

    @cached_property
    def log10_cell_grad_norm(self) -> FloatArray:
        """log10 of the norm of dL/dc_t, c_t the cell state of an lstm.

        Raises:
            ArgumentError: the cell has no state beside h.
        """
        if not self.has_cell_state:
            raise ArgumentError(
                f"log10_cell_grad_norm: expected a cell with a state c, such as an lstm, got {self.cell!r}; "
                "its gradient along time is log10_grad_norm"
            )
        return _frozen(self._row("cell_grad_log2_norm") * _LOG10_2)

    @cached_property
    def log2_delta_norm(self) -> FloatArray:
        """log2 of the norm of dL/d(pre-activations of step t), all gates together."""
        return self._row("delta_log2_norm")

    @cached_property
    def log10_delta_norm(self) -> FloatArray:
        """log10 of the norm of dL/d(pre-activations of step t), all gates together."""
        return _frozen(self.log2_delta_norm * _LOG10_2)

    @property
    def log10_state_grad_norm(self) -> float:
        """log10 of the norm of dL/d(initial state), all states of the cell together; NaN if not measured."""
        values = self.raw.get("state_grad_log2_norm")
        return math.nan if values is None else float(values[self._at]) * _LOG10_2

    @cached_property
    def log10_weight_ih_grad_norm(self) -> FloatArray:
        """log10 of the norm of what step t adds to dL/d(weight_ih)."""
        return _frozen(self._row("weight_ih_grad_log2_norm", full=True) * _LOG10_2)

    @cached_property
    def log10_weight_hh_grad_norm(self) -> FloatArray:
        """log10 of the norm of what step t adds to dL/d(weight_hh); NaN in cells without that weight."""
        return _frozen(self._row("weight_hh_grad_log2_norm", full=True) * _LOG10_2)

    @cached_property
    def log2_weight_grad_norm(self) -> FloatArray:
        """log2 of the norm of what step t adds to dL/dW, both weights together."""
        own = self._row("weight_ih_grad_log2_norm", full=True)
        recurrent = self._row("weight_hh_grad_log2_norm", full=True)
        # A cell without the weight reports NaN throughout; a NaN among numbers is a gradient gone wrong.
        if np.isnan(recurrent).all():
            return own
        if np.isnan(own).all():
            return recurrent
        with np.errstate(invalid="ignore"):
            return _frozen(0.5 * np.logaddexp2(2.0 * own, 2.0 * recurrent))

    @cached_property
    def log10_weight_grad_norm(self) -> FloatArray:
        """log10 of the norm of what step t adds to dL/dW, both weights together."""
        return _frozen(self.log2_weight_grad_norm * _LOG10_2)

    # --- statistics ----------------------------------------------------------------------------------------

    @cached_property
    def log10_jacobian_norm(self) -> FloatArray:
        """log10 of the typical factor by which step t's Jacobian d state_t / d state_{t-1} scales a vector.

        Root mean square over the batch of the Frobenius norm, over the root of the state's size: the root
        mean square of the singular values.
        """
        return _frozen(self._row("jacobian_log2_norm", full=True) * _LOG10_2)

    @cached_property
    def gate_mean(self) -> dict[str, FloatArray]:
        """Mean value of each gate over units and samples, at every step: gate name -> (steps,)."""
        return self._by_gate("gate_mean")

    @cached_property
    def gate_saturated(self) -> dict[str, FloatArray]:
        """Share of each gate's values whose slope is below 5 % of the largest: gate name -> (steps,)."""
        return self._by_gate("gate_saturated")

    @property
    def hidden_mean(self) -> FloatArray:
        """Mean of h_t over units and samples."""
        return self._row("hidden_mean", full=True)

    @property
    def hidden_var(self) -> FloatArray:
        """Variance of h_t over units and samples."""
        return self._row("hidden_var", full=True)

    @property
    def grad_spread(self) -> FloatArray:
        """Standard deviation over the samples of log10 of each sample's own norm of dL/dh_t."""
        return self._row("grad_spread", full=True)

    # --- memory --------------------------------------------------------------------------------------------

    @property
    def memory_path(self) -> str:
        """The gradient that tells how far back the cell remembers: "dL/dc_t" in an lstm, else "dL/dh_t"."""
        return "dL/dc_t" if self.has_cell_state else "dL/dh_t"

    @property
    def log10_memory_norm(self) -> FloatArray:
        """log10 of the norm of the gradient that carries memory: ``log10_cell_grad_norm`` in an lstm, else
        ``log10_grad_norm``.

        An lstm whose recurrent weights are zero has a dL/dh_t of exactly zero before the last step and yet
        remembers, by its c alone.
        """
        return self.log10_cell_grad_norm if self.has_cell_state else self.log10_grad_norm

    @cached_property
    def span(self) -> slice:
        """The steps that the rate is about.

        Those that every sequence has (where they end at different steps and the shortest has ten), since the
        norm over the batch jumps where a sequence ends; and of these the piece next to the loss if
        backpropagation is truncated. Steps next to the loss at which the memory's gradient is exactly zero,
        as behind an output gate that is shut, are left out.
        """
        cut = self.meta.get("truncate")
        start, stop = 0, self.reach + 1
        shortest = self.meta.get("shortest")
        if shortest is not None and shortest >= LEAST_SHORTEST:
            stop = min(stop, int(shortest))
        if cut and self.direction == 0:
            start = int(cut) * ((stop - 1) // int(cut))
        elif cut:
            stop = min(stop, int(cut))
        live = np.flatnonzero(self.log10_memory_norm[start:stop] != -np.inf)
        if live.size and self.direction == 0:
            stop = start + int(live[-1]) + 1
        elif live.size:
            start += int(live[0])
        return slice(start, stop)

    def towards_loss(self, values: FloatArray) -> FloatArray:
        """Return `values` (steps,) over ``span``, ordered so that the last one is nearest the loss."""
        return values[self.span][::-1] if self.direction else values[self.span]

    @cached_property
    def rate(self) -> _rate.Rate:
        """Rate of ``log10_memory_norm`` per step back from the loss, with its interval."""
        return _rate.estimate(self.towards_loss(self.log10_memory_norm))

    @property
    def decades_per_step(self) -> float:
        """Mean change of ``log10_memory_norm`` per step away from the loss; negative when vanishing."""
        return self.rate.mean

    @property
    def decades_per_step_ci(self) -> tuple[float, float]:
        """95 % confidence interval of ``decades_per_step``, as ``(low, high)``."""
        return self.rate.low, self.rate.high

    @property
    def half_life(self) -> float:
        """Steps after which the gradient has halved, log10(2) / rate; ``inf`` where it does not shrink."""
        return _rate.half_life(self.rate)

    def diagnose(self) -> TimeDiagnosis:
        """Return the verdict on this layer, with its reasons; ``print`` it."""
        from ._diagnosis_time import diagnose_layer

        return diagnose_layer(self)

    def __repr__(self) -> str:
        """One line: which layer, its cell and its rate."""
        return (
            f"<LayerFlow {self.index} ({self.name}), {self.cell}({self.hidden}), {self.steps} steps, "
            f"{_rate.words(self.rate)}>"
        )

    # --- rows ----------------------------------------------------------------------------------------------

    @property
    def _at(self) -> int:
        """The row of this layer and direction: layers one after another, directions inside."""
        return self.number * int(self.raw["directions"]) + self.direction

    def _row(self, key: str, *, full: bool = False) -> FloatArray:
        if key not in self.raw:
            reason = (
                'this flow holds norms only; measure with stats="full"' if full else "it was not measured"
            )
            raise ArgumentError(f"{key}: {reason}")
        return _frozen(self.raw[key][self._at])

    def _by_gate(self, key: str) -> dict[str, FloatArray]:
        if self.has_statistics and key not in self.raw:
            return {}
        rows = self._row(key, full=True)
        # Blocks of weights that are no gates (an lru's) have names and no figures.
        return {name: _frozen(rows[i]) for i, name in enumerate(self.gates[: len(rows)]) if _known(rows[i])}


def _known(values: FloatArray) -> bool:
    """Return whether any value is a number."""
    return not np.isnan(values).all()


def _frozen(values: Any) -> FloatArray:
    """Return `values` as a read-only view."""
    array: FloatArray = np.asarray(values, dtype=np.float64).view()
    array.setflags(write=False)
    return array
