"""Layer: theory, predictions. The gradient curve that theory expects of a network before it is measured.

Knows networks by the description that they are compiled from, and chains; measures nothing. What it cannot
predict it refuses with the place in the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import as_real, as_size, shown
from .._plot_lines import GREY, axes_of, binned
from .._table import json_safe, power, render_html, to_pandas
from ..errors import ArgumentError
from ..flow import GradientFlow
from ..layers import Context, Layer, as_layers, chain_specs
from ..network import Network
from . import chain_gates as _chain_gates  # noqa: F401  reason: enters gates and norms into the chain
from . import measured
from .chain import Chain, State, Step, layer_moments, phi_of
from .gaussian import FloatArray, as_variance
from .weight_law import law_of

__all__ = ["Prediction", "predict", "predict_layers"]

_LN10 = math.log(10.0)
#: Cells whose state follows the vanilla recursion.
_PLAIN_CELLS = ("rnn", "orthogonal_rnn")
_QUANTITIES = (
    ("log10_grad_norm", "log10"),
    ("log10_finite", "log10"),
    ("log10_typical", "log10"),
    ("log10_sd", "decades"),
    ("log10_delta_norm", "log10"),
    ("q", "value"),
)


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Gradient norms of every step that theory expects of random weights: what `predict` returns.

    Arrays have shape (steps,), step 0 nearest the input, and match those of a GradientFlow of the same name
    up to one number: here ``log10_grad_norm`` is 0 at the last step (`anchored` moves it onto a flow).

    ``log10_grad_norm`` log10 of the root mean square, over networks, of |dL/d(output of step)|: the
    infinite-width answer. ``log10_finite`` the same at the network's own width, where the part of the
    gradient that lies along the forward signal may come to rule (see `two_mode`). ``log10_typical`` the mean
    over networks of log10 of the norm, which is what one network of this width shows; ``log10_sd`` its
    standard deviation from network to network, for one sample and layers that vary independently; where an
    Activation reads a residual stream, which changes slowly, the true spread is larger.
    ``log10_delta_norm`` as the first, for dL/d(pre-activation). ``q`` variance of the step's last
    pre-activation. ``notes`` what the theory leaves out.
    """

    axis: str
    log10_grad_norm: FloatArray
    log10_finite: FloatArray
    log10_typical: FloatArray
    log10_sd: FloatArray
    log10_delta_norm: FloatArray
    log10_input_grad_norm: float
    q: FloatArray
    notes: tuple[str, ...] = ()
    anchor: float = field(default=0.0)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.log10_grad_norm)

    @property
    def decades_per_step(self) -> float:
        """Mean change of `log10_typical` per step going back, over all steps."""
        if self.steps < 2:
            return math.nan
        with np.errstate(invalid="ignore"):
            return float((self.log10_typical[0] - self.log10_typical[-1]) / (self.steps - 1))

    def anchored(self, flow: GradientFlow) -> Prediction:
        """Return the prediction moved so that it starts where a measured flow starts: at its last step.

        Raises:
            ArgumentError: not a flow of the same number of steps, or its last gradient is 0 or not finite.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=20, width=64, activation="tanh", rng=0)
            >>> x = np.random.default_rng(0).normal(size=(8, 64))
            >>> flow = net.probe(x.astype("float32"), cotangent=np.ones((8, 64), "float32"))
            >>> expected = vg.theory.predict(net).anchored(flow)
            >>> bool(abs(expected.log10_typical[0] - flow.log10_grad_norm[0]) < 0.3)
            True
        """
        if not isinstance(flow, GradientFlow):
            raise ArgumentError(f"flow: expected a GradientFlow, got {shown(flow)}")
        if flow.steps != self.steps:
            raise ArgumentError(
                f"flow: expected one of {self.steps} steps, got {flow.steps}: not the same network"
            )
        top = float(flow.log10_grad_norm[-1])
        if not math.isfinite(top):
            raise ArgumentError(
                f"flow: its gradient at the last step is 1e{top}: there is nothing to start from"
            )
        move = top - float(self.log10_grad_norm[-1])
        return replace(
            self,
            log10_grad_norm=self.log10_grad_norm + move,
            log10_finite=self.log10_finite + move,
            log10_typical=self.log10_typical + move,
            log10_delta_norm=self.log10_delta_norm + move,
            log10_input_grad_norm=self.log10_input_grad_norm + move,
            anchor=self.anchor + move,
        )

    @property
    def table(self) -> dict[str, Any]:
        """Long format: columns ``step``, ``unit``, ``quantity``, ``value``, as a GradientFlow's table has."""
        count = self.steps
        return {
            "step": np.tile(np.arange(count), len(_QUANTITIES)),
            "unit": np.repeat([unit for _, unit in _QUANTITIES], count),
            "quantity": np.repeat([name for name, _ in _QUANTITIES], count),
            "value": np.concatenate([getattr(self, name) for name, _ in _QUANTITIES]),
        }

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table, categories=("unit", "quantity"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, text and lists that JSON can hold."""
        return {f.name: json_safe(getattr(self, f.name)) for f in fields(self)}

    def plot(self, ax: Any = None, **kw: Any) -> Any:
        """Draw the typical curve, two standard deviations around it and the infinite-width curve.

        `ax` may be the Axes on which a flow was drawn (see `anchored`); `kw` goes to the typical line.
        Returns the Axes.

        Raises:
            MissingDependencyError: matplotlib is not installed.

        Example:
            >>> import vgcore as vg
            >>> expected = vg.theory.predict(vg.mlp(depth=100, width=64, activation="tanh", rng=0))
            >>> axes = expected.plot()
            >>> len(axes.lines)
            2
        """
        own = ax is None
        axes = axes_of(ax)
        look = {"color": "black", "linestyle": "--", "linewidth": 1.2, "label": "theory, typical"} | kw
        # A million steps are drawn as their bins' middles: theory is smooth.
        x, typical, _, _ = binned(self.log10_typical)
        _, wide, _, _ = binned(self.log10_grad_norm)
        _, spread, _, _ = binned(self.log10_sd)
        axes.plot(x, typical, **look)
        axes.plot(x, wide, color=GREY, linestyle=":", linewidth=1.0, label="theory, infinite width")
        if np.isfinite(spread).any():
            axes.fill_between(
                x, typical - 2 * spread, typical + 2 * spread, color=GREY, alpha=0.2, linewidth=0
            )
        if own:
            axes.set_xlabel("step" if self.axis == "depth" else "time step")
            axes.set_ylabel("log10 of the gradient norm, relative to the last step")
        axes.legend(fontsize="small")
        return axes

    def _repr_html_(self) -> str:
        rows = [
            ["steps", f"{self.steps:,} along {self.axis}"],
            ["gradient norm, step 0, typical", power(float(self.log10_typical[0]), 2)],
            ["from network to network", f"{float(self.log10_sd[0]):.2g} decades"],
            ["gradient norm, step 0, infinite width", power(float(self.log10_grad_norm[0]), 2)],
            *(["left out", note] for note in self.notes),
        ]
        return render_html(rows, ["quantity", "value"], "vgcore.theory.Prediction")

    def __repr__(self) -> str:
        """Show both ends and what is left out."""
        first, typical = float(self.log10_grad_norm[0]), float(self.log10_typical[0])
        text = (
            f"Prediction({self.axis}, steps={self.steps:,}, log10_grad_norm[0]={first:.4g}, "
            f"typical {typical:.4g} +- {float(self.log10_sd[0]):.2g}"
        )
        return text + (f", notes={len(self.notes)})" if self.notes else ")")


def predict(
    net: Network,
    *,
    mean_square: float = 1.0,
    mean: float = 0.0,
    steps: int | None = None,
    batch: int | None = None,
) -> Prediction:
    """Return the gradient norm that theory expects at every step of a network with random weights.

    Weights that are as they were drawn are taken by their initializers; those that were loaded, scaled on
    data or trained by the variances that they have, layer by layer, which a note says.

    Formula: lengths ``q`` go forward by `length_map`, squared gradient norms back by ``chi_1`` of each layer,
    ``1 + scale^2 chi`` of each residual block; finite width moves the typical network by the laws of
    `log_norm` (exact for linear and ReLU layers). The gradient that enters at the last step is taken as
    random, the same at every unit.

    Args:
        net: a network of Dense with random zero-mean weights, Activation, Repeat, Residual, Highway, Concat,
            Dropout and normalisation, as it trains; or one vanilla recurrent layer, with a Dense head or
            without.
        mean_square: mean square of an entry of the input, ``np.mean(x**2)``.
        mean: mean of an entry of the input; matters only where the input goes into an Activation.
        steps: number of time steps, for a recurrent network.
        batch: number of samples, which batch normalisation depends on; None for many.

    Raises:
        ArgumentError: a layer or an initializer that theory says nothing about (the message says which), or
            numbers outside their range; weights that are no finite numbers.

    Source: Schoenholz et al. 2017, sec. 5; Yang & Schoenholz 2017; Hanin & Nica 2018; for recurrent networks
    Chen, Pennington & Schoenholz 2018, sec. 3.

    Example:
        >>> import vgcore as vg
        >>> net = vg.mlp(depth=1000, width=64, activation="sigmoid", init="glorot_normal", rng=0)
        >>> round(float(predict(net).log10_grad_norm[0]), 1)
        -626.4
    """
    if not isinstance(net, Network):
        raise ArgumentError(f"net: expected a vg.Network, got {shown(net)}")
    known = {"mean_square": mean_square, "mean": mean}
    if net.touched:
        specs = measured.described(net)
        found = _predicted(specs, net.in_features, steps=steps, batch=batch, **known)
        found = replace(found, notes=(*measured.notes(net), *found.notes))
    else:
        found = predict_layers(net.layers, net.in_features, steps=steps, batch=batch, **known)
    if found.axis == "depth" and found.steps != net.num_steps:
        raise ArgumentError(f"net: theory counts {found.steps} steps where the network has {net.num_steps}")
    return found


def predict_layers(
    layers: Layer | Sequence[Layer],
    in_features: int,
    *,
    mean_square: float = 1.0,
    mean: float = 0.0,
    steps: int | None = None,
    batch: int | None = None,
) -> Prediction:
    """Return `predict` for a network that is only described: no weight is drawn.

    Formula, arguments and source as for `predict`; `layers` and `in_features` as for ``vg.Network``.

    Raises:
        ArgumentError: as for `predict`, and where no network could be built from `layers`.

    Example:
        >>> import vgcore as vg
        >>> step = [vg.Dense(4096, sigma_w2=2.0), vg.Activation("relu")]
        >>> float(predict_layers(vg.Repeat(step, 10_000), 4096).log10_grad_norm[0])
        0.0
    """
    width = as_size(in_features, "in_features")
    specs = chain_specs(as_layers(layers, "layers"), Context(width, np.dtype(np.float64)))
    return _predicted(specs, width, mean_square, mean, steps, batch)


def _predicted(
    specs: Sequence[Mapping[str, Any]],
    width: int,
    mean_square: float,
    mean: float,
    steps: int | None,
    batch: int | None,
) -> Prediction:
    second, centre = as_variance(mean_square, "mean_square"), as_real(mean, "mean")
    if centre**2 > second:
        raise ArgumentError(f"mean_square: expected at least mean**2 = {centre**2:g}, got {second:g}")
    start = State(second, centre, width, True)
    if any(spec["kind"] == "recurrent" for spec in specs):
        return _predict_time(specs, start, steps)
    if steps is not None:
        raise ArgumentError(
            f"steps: expected None for a network without a recurrent layer, got {shown(steps)}"
        )
    chain = Chain({}, None if batch is None else as_size(batch, "batch"))
    found, _ = chain.steps(specs, start)
    if chain.coupled:
        # What fluctuates from sample to sample is averaged over the batch.
        share = 0.0 if chain.batch is None else 1.0 / chain.batch
        found = [step._replace(effect=step.effect.averaged(share)) for step in found]
    return _prediction("depth", found, tuple(chain.notes))


def _prediction(axis: str, found: Sequence[Step], notes: tuple[str, ...]) -> Prediction:
    """Sum the effects of steps from the output back."""
    times = np.array([step.times for step in found])
    columns = np.array([step.effect[:5] for step in found], np.float64)
    gain, shift, spread, delta, length = np.repeat(columns, times, axis=0).T
    apart = _two_modes(found, times)

    def back(parts: FloatArray) -> FloatArray:
        return np.concatenate([np.cumsum(parts[:0:-1])[::-1], [0.0]])

    # An exact zero in the middle of a sum: everything below it is zero too, without a warning.
    with np.errstate(invalid="ignore"):
        grad = back(gain) / (2 * _LN10)
        finite = grad + apart / (2 * _LN10)
        typical = finite + back(shift) / (2 * _LN10)
    arrays = {
        "log10_grad_norm": grad,
        "log10_finite": finite,
        "log10_typical": typical,
        "log10_sd": np.sqrt(back(spread)) / (2 * _LN10),
        "log10_delta_norm": grad + delta / (2 * _LN10),
        "q": length,
    }
    for array in arrays.values():
        array.setflags(write=False)
    first = float(grad[0] + gain[0] / (2 * _LN10))
    return Prediction(axis=axis, log10_input_grad_norm=first, notes=notes, **arrays)


def _two_modes(found: Sequence[Step], times: NDArray[np.int64]) -> FloatArray:
    """Return ln of the mean square at every step relative to infinite width, from the output back."""
    total = np.zeros(int(times.sum()))
    place = len(total) - 1
    radial, ln = 1.0 / found[-1].width, 0.0  # share of the gradient that lies along the output
    for step, count in zip(reversed(found), reversed(times.tolist()), strict=True):
        m = step.effect.modes
        for _ in range(count):
            if place == 0:
                break
            r = m.rr * radial + m.rs * (1.0 - radial)
            s = m.sr * radial + m.ss * (1.0 - radial)
            both = r + s
            if 0.0 < both < math.inf:
                radial, ln = r / both, ln + math.log(both)
            place -= 1
            total[place] = ln
    return total


def _predict_time(specs: Sequence[Mapping[str, Any]], start: State, steps: int | None) -> Prediction:
    """Predict dL/dh_t for one vanilla recurrent layer: a time step is a layer with new input."""
    layer = specs[0]
    if layer["kind"] != "recurrent" or any(
        s["kind"] in ("recurrent", "residual", "repeat") for s in specs[1:]
    ):
        raise ArgumentError(
            "layers: theory predicts one recurrent layer, at the start, with Dense and Activation after it"
        )
    cell, where = str(layer["cell"]), "layers[0]"
    if cell not in _PLAIN_CELLS:
        raise ArgumentError(
            f"{where}: theory cannot predict cell {cell!r} with random weights, only "
            f"{' and '.join(_PLAIN_CELLS)}; "
            f"for constant gates see vg.theory.gate_decay"
        )
    if int(layer["num_layers"]) > 1 or layer["bidirectional"]:
        raise ArgumentError(f"{where}: theory predicts one layer in one direction")
    if steps is None:
        raise ArgumentError("steps: expected the number of time steps for a recurrent network, got None")
    count, hidden = as_size(steps, "steps"), int(layer["hidden"])
    default = {"name": "uniform", "params": {"low": -(hidden**-0.5), "high": hidden**-0.5}}
    square = {"name": "orthogonal", "params": {"gain": 1.0}} if cell == "orthogonal_rnn" else default
    u = law_of(layer["init"] or default, hidden, start.width, f"{where}.init")
    w = law_of(layer["recurrent_init"] or square, hidden, hidden, f"{where}.recurrent_init")
    bias = (
        law_of(layer["bias_init"] or default, hidden, hidden, f"{where}.bias_init") if layer["bias"] else None
    )
    if u.mean or w.mean or (bias and bias.mean):
        raise ArgumentError(f"{where}: theory cannot predict weights or biases whose mean is not 0")
    fixed = u.variance * start.width * start.second + (2 * bias.variance if bias else 0.0)
    function = str(dict(layer["params"]).get("activation", "tanh"))
    phi = phi_of(function, {})
    q, ln_chi = np.empty(count), np.empty(count)
    square_before = 0.0  # the state starts at 0
    for t in range(count):
        q[t] = w.variance * hidden * square_before + fixed
        m = layer_moments(phi, float(q[t]), 0.0)
        square_before, slope2 = m.square, m.slope2
        ln_chi[t] = math.log(w.variance * hidden * slope2) if w.variance * slope2 > 0 else -math.inf
    every = layer["read"] == "every"
    ln = np.zeros(count)
    for t in range(count - 2, -1, -1):  # with a loss at every step, each adds a gradient of its own
        through = ln_chi[t + 1] + ln[t + 1]
        ln[t] = np.logaddexp(0.0, through) if every else through
    grad = ln / (2 * _LN10)
    slope = np.array([layer_moments(phi, float(x), 0.0).slope2 for x in q])
    with np.errstate(divide="ignore"):
        delta = grad + 0.5 * np.log10(slope)
    state = float(grad[0] + ln_chi[0] / (2 * _LN10))
    note = "recurrent weights are taken as independent at every step: exact at infinite width"
    flat = np.full(count, np.nan)
    return Prediction("time", grad, grad, grad, flat, delta, state, q, (note,))
