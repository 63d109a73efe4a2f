"""Layer: theory, a chain of layers. Length forward and gradient factor backward through described layers.

Knows the descriptions of layers that the compiled module takes, moments and weight laws; knows no Network.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..layers import Activation
from .copies import at_copy
from .gaussian import Phi, as_phi
from .maps import shared_table
from .moments import moments_of
from .special import digamma, fair_coins, trigamma
from .weight_law import WeightLaw, law_of

#: States that differ by less are the same: a power law at a million layers still moves by 1e-6 a layer.
_SETTLED = 1e-15


class State(NamedTuple):
    """What the units of a layer look like: mean square and mean over units, how many, whether normal.

    ``varied``: variance of a unit over a batch of unrelated samples; NaN: all but the square of the mean.
    """

    second: float
    mean: float
    width: int
    normal: bool
    varied: float = math.nan

    @property
    def over_batch(self) -> float:
        """Variance of a unit over a batch."""
        return max(self.second - self.mean**2, 0.0) if math.isnan(self.varied) else self.varied


class Modes(NamedTuple):
    """How a layer passes the two parts of the gradient's energy back, relative to its expected factor.

    One part lies along the layer's own output vector (radial), the other is spread over all directions.
    Columns are what comes in from above (radial, spread), rows what goes out below. ``keep`` is the
    amplitude with which the radial part stays radial, with its sign, relative to the root of the factor.
    """

    rr: float = 1.0
    rs: float = 0.0
    sr: float = 0.0
    ss: float = 1.0
    keep: float = 1.0

    def below(self, above: Modes) -> Modes:
        """Return both layers as one, `above` being nearer the output."""
        return Modes(
            self.rr * above.rr + self.rs * above.sr,
            self.rr * above.rs + self.rs * above.ss,
            self.sr * above.rr + self.ss * above.sr,
            self.sr * above.rs + self.ss * above.ss,
            self.keep * above.keep,
        )


class Effect(NamedTuple):
    """What a layer does to the gradient, going back.

    ``gain``: ln of the factor of the squared norm in expectation; ``shift`` and ``spread``: what the mean of
    ln of the square has beyond that, and its variance, at finite width; ``delta``: ln of the squared norm at
    the last pre-activation inside, relative to the output; ``length``: variance of that pre-activation;
    ``modes``: the same factor with the gradient's two parts kept apart.
    """

    gain: float = 0.0
    shift: float = 0.0
    spread: float = 0.0
    delta: float = 0.0
    length: float = math.nan
    modes: Modes = Modes()

    def averaged(self, share: float) -> Effect:
        """Return the effect with `share` of what varies from sample to sample."""
        return self._replace(shift=self.shift * share, spread=self.spread * share)


class Step(NamedTuple):
    """One step of a network: its effect, how many equal ones follow each other, and the width it puts out."""

    effect: Effect
    times: int
    width: int


#: Layers that `chain_gates` knows: kind -> (chain, description, state, place) -> (state, effect).
BEYOND: dict[str, Callable[[Chain, Mapping[str, Any], State, str], tuple[State, Effect]]] = {}


@dataclass
class Chain:
    """Walks descriptions of layers; collects notes on what theory leaves out."""

    notes: dict[str, None]
    batch: int | None = None
    """Samples of the batch; None for many."""
    coupled: bool = False
    """Whether some layer mixes the samples of a batch, so that its gradient is one."""

    def steps(self, layers: Sequence[Mapping[str, Any]], state: State) -> tuple[list[Step], State]:
        """Return the steps that layers at the top level make, and the state after them."""
        found: list[Step] = []
        for index, layer in enumerate(layers):
            where = f"layers[{index}]"
            if layer["kind"] == "repeat":
                state = self._repeat_steps(layer, state, where, found)
                continue
            before = layers[index - 1]["kind"] if index else ""
            state, effect = self.apply(layer, state, where)
            if layer["kind"] == "activation" and before in ("dense", "norm"):
                first = found.pop().effect  # with a Dense or a norm the activation right after it is one step
                effect = _joined(first, effect)
            found.append(Step(effect, 1, state.width))
        return found, state

    def _repeat_steps(self, layer: Mapping[str, Any], state: State, where: str, found: list[Step]) -> State:
        n = int(layer["n"])
        self._check_tied(layer, where)
        for done in range(n):
            after, effect = self.through(_body(layer, done), state, f"{where}.body")
            same = _same(after, state) and not layer.get("by_copy")
            found.append(Step(effect, n - done if same else 1, after.width))
            state = after
            if same:
                break
        return state

    def through(self, layers: Sequence[Mapping[str, Any]], state: State, where: str) -> tuple[State, Effect]:
        """Return the state after a list of layers, and their joint effect."""
        total = Effect()
        for index, layer in enumerate(layers):
            state, effect = self.apply(layer, state, f"{where}[{index}]")
            total = effect if index == 0 else _joined(total, effect)
        return state, total

    def apply(self, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
        """Return the state after one layer, and its effect."""
        kind = layer["kind"]
        if kind == "dense":
            return self._dense(layer, state, where)
        if kind == "activation":
            return self._activation(layer, state, where)
        if kind == "residual":
            return self._residual(layer, state, where)
        if kind in BEYOND:
            return BEYOND[kind](self, layer, state, where)
        if kind == "repeat":
            self._check_tied(layer, where)
            total = Effect()
            for done in range(int(layer["n"])):
                after, effect = self.through(_body(layer, done), state, f"{where}.body")
                left = int(layer["n"]) - done
                if _same(after, state) and not layer.get("by_copy"):
                    return after, _joined(total, _power(effect, left))
                state, total = after, _joined(total, effect) if done else effect
            return state, total
        raise ArgumentError(
            f"{where}: theory cannot predict a layer of kind {kind!r}; "
            f"it can predict Dense, Activation, Residual, Repeat, Highway, Concat, Dropout and "
            f"normalisation"
        )

    def _dense(self, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
        rows, cols = int(layer["features"]), state.width
        law = law_of(layer["init"], rows, cols, f"{where}.init")
        if "laws" not in layer["init"]:
            law = _made(layer.get("parametrization"), law, cols)
        if law.mean != 0.0:
            raise ArgumentError(
                f"{where}.init: theory cannot predict weights of mean {law.mean:g}, only of mean 0; "
                f"use an initializer that is symmetric about 0"
            )
        bias_mean = bias_variance = 0.0
        if layer["bias"]:
            bias = law_of(layer["bias_init"], rows, cols, f"{where}.bias_init")
            bias_mean, bias_variance = bias.mean, bias.variance
        second = state.second
        if _is_standardized(layer):
            second = max(second - state.mean**2, 0.0)  # rows of mean zero do not see the mean of their input
        variance = law.variance * cols * second + bias_variance if law.variance > 0 else bias_variance
        varied = law.variance * cols * state.over_batch
        after = State(variance + bias_mean**2, bias_mean, rows, True, varied)
        shift, spread = (0.0, 0.0) if law.orthogonal else _gaussian_log(cols)
        lengths = (second, after.second, bias_variance)
        modes = _dense_modes(law.variance * cols, lengths, rows, cols, law.orthogonal)
        return after, Effect(_ln(law.variance * cols), shift, spread, 0.0, variance, modes)

    def _activation(self, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
        phi = phi_of(str(layer["function"]), layer["params"])
        variance = state.second - state.mean**2 if state.mean != 0.0 else state.second
        if math.isnan(variance) or math.isinf(variance):
            variance = math.inf
        variance = max(variance, 0.0)
        if not state.normal:
            self.notes[
                f"{where}: the input of this activation is not the output of a Dense; it is taken as normal"
            ] = None
        mean = state.mean if math.isfinite(variance) else 0.0
        m = layer_moments(phi, variance, mean)
        slope2, kurtosis = m.slope2, m.slope4 / m.slope2**2 if m.slope2 > 1e-150 else math.inf
        shift, spread = _activation_log(phi if mean == 0.0 else None, kurtosis, state.width)
        ln, modes = _ln(slope2), _activation_modes(m, state, state.width)
        # The mean of an odd function is 0 up to rounding; a true one would change what is noted and added.
        small = abs(m.value) <= 1e-12 * math.sqrt(m.square)
        value = m.value if math.isfinite(m.value) and not small else 0.0
        return State(m.square, value, state.width, False, max(m.square - value**2, 0.0)), Effect(
            ln, shift, spread, ln, variance, modes
        )

    def _residual(self, layer: Mapping[str, Any], state: State, where: str) -> tuple[State, Effect]:
        if not _has_dense(layer["body"]):
            raise ArgumentError(
                f"{where}: theory cannot predict a Residual without a Dense in its body: "
                f"branch and shortcut are not independent"
            )
        a, gain_x = float(layer["scale"]), float(layer.get("gain", 1.0))
        survival = float(layer.get("survival", 1.0))
        branch, inside = self.through(layer["body"], state, f"{where}.body")
        if survival < 1.0:
            # Present or not, drawn once a batch: squares are there with its probability, and means too.
            self.notes[f"{where}: stochastic depth is taken in expectation over its draws"] = None
            a *= math.sqrt(survival)
        if layer.get("shortcut"):
            return self._projected(layer, state, (branch, inside, a), where)
        if gain_x == 0.0:
            raise ArgumentError(
                f"{where}: theory cannot predict a Residual whose shortcut is 0: it is its body"
            )
        if gain_x != 1.0:
            # y = g (x + (a / g) F(x)): a block with a plain shortcut, and a factor after it.
            after, effect = self._joined_paths(state, branch, inside, a / gain_x, where)
            g2 = gain_x**2
            grown = after._replace(
                second=after.second * g2, mean=after.mean * gain_x, varied=after.varied * g2
            )
            ln = 2.0 * math.log(abs(gain_x))
            return grown, effect._replace(gain=effect.gain + ln, delta=effect.delta + ln)
        return self._joined_paths(state, branch, inside, a, where)

    def _projected(
        self, layer: Mapping[str, Any], state: State, path: tuple[State, Effect, float], where: str
    ) -> tuple[State, Effect]:
        """Add two branches with weights of their own: squares add; what lies along the output is mixed."""
        branch, inside, a = path
        short, other = self.through(layer["shortcut"], state, f"{where}.shortcut")
        second = short.second + a * a * branch.second + 2.0 * a * short.mean * branch.mean
        gain = float(np.logaddexp(other.gain, _ln(a * a) + inside.gain))
        share = math.exp(_ln(a * a) + inside.gain - gain) if gain > -math.inf else 0.0
        spread = share**2 * inside.spread + (1.0 - share) ** 2 * other.spread
        varied = short.over_batch + a * a * branch.over_batch
        normal = short.normal and branch.normal
        after = State(second, short.mean + a * branch.mean, branch.width, normal, varied)
        return after, Effect(gain, -spread / 2.0, spread, _ln(a * a) + inside.delta, inside.length)

    def _joined_paths(
        self, state: State, branch: State, inside: Effect, a: float, where: str
    ) -> tuple[State, Effect]:
        """A branch of factor `a` beside an identity."""
        if a != 0.0 and branch.mean != 0.0:
            self.notes[
                f"{where}: the branch has a mean, along which gradient flows too: log10_finite and "
                f"log10_typical have it, log10_grad_norm, which is for infinite width, has not"
            ] = None
        ln_chi = _ln(a * a) + inside.gain
        gain = float(np.logaddexp(0.0, ln_chi))
        share = math.exp(ln_chi - gain) if ln_chi > -math.inf else 0.0
        # Both paths fluctuate, and so does the angle between them: 4 share (1 - share) / n.
        spread = share**2 * inside.spread + 4.0 * share * (1.0 - share) / state.width
        cross = 2.0 * a * state.mean * branch.mean if state.mean != 0.0 and branch.mean != 0.0 else 0.0
        second = state.second + a * a * branch.second + cross if a != 0.0 else state.second
        varied = state.over_batch + a * a * branch.over_batch
        normal = state.normal and branch.normal
        after = State(second, state.mean + a * branch.mean, state.width, normal, varied)
        modes = _residual_modes(a, share, gain, inside, state, branch, after)
        delta = _ln(a * a) + inside.delta
        return after, Effect(gain, -spread / 2.0, spread, delta, inside.length, modes)

    def _check_tied(self, layer: Mapping[str, Any], where: str) -> None:
        if layer["tied"] and int(layer["n"]) > 1:
            self.notes[
                f"{where}: tied weights are taken as independent, which is exact only at infinite width"
            ] = None


class LayerMoments(NamedTuple):
    """The means over a pre-activation that a chain needs; names as in `Moments`."""

    value: float
    square: float
    slope2: float
    slope4: float
    radial: float
    square_slope2: float
    radial2: float


def layer_moments(phi: Phi, variance: float, mean: float) -> LayerMoments:
    """Return the moments of an activation at N(mean, variance), interpolated where the mean is 0."""
    if mean == 0.0 and not phi.homogeneous and 0.0 < variance < math.inf:
        table = shared_table(phi)
        square, slope2 = table(variance)
        at = square * variance if phi.at_zero == 0.0 else square
        value, slope4, radial, square_slope2, radial2 = table.more(variance)
        return LayerMoments(value, at, slope2, slope4, radial, square_slope2, radial2)
    m = moments_of(phi, variance, mean)
    return LayerMoments(m.value, m.square, m.slope2, m.slope4, m.radial, m.square_slope2, m.radial2)


def phi_of(name: str, params: Mapping[str, Any]) -> Phi:
    """Return the activation for a layer's description."""
    return _phi_of(name, tuple(sorted(params.items())))


@functools.lru_cache(maxsize=4096)
def _phi_of(name: str, params: tuple[tuple[str, Any], ...]) -> Phi:
    return as_phi(Activation(name, **dict(params)))


@functools.lru_cache(maxsize=4096)
def _gaussian_log(n: int) -> tuple[float, float]:
    """Mean and variance of ln(chi^2_n / n): what a Gaussian matrix adds, exactly."""
    half = np.array([n / 2.0])
    return float(digamma(half)[0]) - math.log(n / 2.0), float(trigamma(half)[0])


@functools.lru_cache(maxsize=4096)
def _relu_log(n: int) -> tuple[float, float]:
    """What n slopes that are 0 or 1 add to `_gaussian_log`, exactly: K of n normal entries are left."""
    k, p = fair_coins(n)
    psi = digamma(k / 2.0)
    centre = float(p @ psi)
    spread = float(p @ trigamma(k / 2.0)) + float(p @ (psi - centre) ** 2)
    mean, variance = _gaussian_log(n)
    return centre - math.log(n / 4.0) - mean, spread - variance


def _activation_log(phi: Phi | None, kurtosis: float, n: int) -> tuple[float, float]:
    """What the slopes of n units add: exact for ReLU, else to leading order in 1/n."""
    if phi is not None and phi.homogeneous and 0.0 in phi.slopes and phi.slopes[0] != phi.slopes[1]:
        return _relu_log(n)
    spread = 3.0 * (kurtosis - 1.0) / n
    return (-spread / 2.0, spread) if math.isfinite(spread) else (0.0, 0.0)


def _dense_modes(
    factor: float, lengths: tuple[float, float, float], rows: int, cols: int, orthogonal: bool
) -> Modes:
    """A random matrix, given that it maps x to h - b: what lay along h goes along x, the rest anywhere.

    A Gaussian one adds a random part to what lay along h; an orthogonal one keeps angles and adds none.
    """
    before, after, bias = lengths
    if factor <= 0.0 or not _usable(before, after):
        return Modes()
    rho = max(after - bias, 0.0) / after
    blurred = bias / before * rho / (cols * factor)
    rr = rho * rho * (after / before) * rows / (cols * factor)
    keep = math.sqrt(rr)
    if orthogonal:
        return Modes(rr + blurred, blurred, max(1.0 - rr - blurred, 0.0), 1.0 - blurred, keep)
    anywhere = 1.0 - 1.0 / cols
    return Modes(rr + blurred, blurred, anywhere, anywhere, keep)


def _activation_modes(m: LayerMoments, state: State, n: int) -> Modes:
    """Slopes multiply the gradient: along phi(h) it is pulled with h phi phi', elsewhere with phi'^2."""
    before, after = state.second, m.square
    if m.slope2 <= 0.0 or not _usable(before, after):
        return Modes()
    # With a mean, h phi phi' is about h and not about its deviation; the two agree where the mean is 0.
    pull, mixed = m.radial, m.square_slope2 / after
    rr = (pull / after) * (pull / before) / m.slope2
    rs = max(m.radial2 - pull * (pull / after), 0.0) / before / (n * m.slope2)
    total_r = mixed / m.slope2
    total_s = max(1.0 - mixed / (n * m.slope2), 0.0) * (n / (n - 1.0) if n > 1 else 1.0)
    keep = math.copysign(math.sqrt(rr), pull)
    return Modes(rr, rs, max(total_r - rr, 0.0), max(total_s - rs, 0.0), keep)


def _residual_modes(
    a: float, share: float, gain: float, inside: Effect, state: State, branch: State, after: State
) -> Modes:
    """A shortcut beside a branch: amplitudes along x add, also those that came through the branch."""
    n, qx, qf, qy = state.width, state.second, branch.second, after.second
    if a == 0.0 or share == 0.0 or not _usable(qx, qf, qy):
        return Modes()
    joint = state.mean * branch.mean  # per unit, x . F(x): fresh weights share nothing else with x
    xy = (qx + a * joint) / (math.sqrt(qx) * math.sqrt(qy))
    fy = (a * qf + joint) / (math.sqrt(qf) * math.sqrt(qy))
    xf = joint / (math.sqrt(qx) * math.sqrt(qf))
    whole, b = math.exp(-gain), inside.modes
    k = math.copysign(math.sqrt(share / whole), a) * b.keep  # a times the branch's amplitude
    keep = xy + k * fy
    chi = share / whole
    f_r, f_s = fy * fy, max(1.0 - fy * fy, 0.0) / n  # how much of either part lies along F(x)
    loose = max(b.rr - b.keep * b.keep, 0.0)
    rr = keep * keep + chi * (loose * f_r + b.rs * (1.0 - f_r))
    rs = max(1.0 + k * k + 2.0 * k * xf - keep * keep, 0.0) / n + chi * (loose * f_s + b.rs * (1.0 - f_s))
    through_r, through_s = b.rr + b.sr, b.rs + b.ss
    total_r = 1.0 + chi * (through_r * f_r + through_s * (1.0 - f_r)) + 2.0 * k * fy * xy
    total_s = 1.0 + chi * (through_r * f_s + through_s * (1.0 - f_s)) + 2.0 * k * (xf - fy * xy) / n
    return Modes(
        rr * whole,
        rs * whole,
        max(total_r - rr, 0.0) * whole,
        max(total_s - rs, 0.0) * whole,
        keep * math.sqrt(whole),
    )


def _joined(first: Effect, second: Effect) -> Effect:
    """Return the effect of two layers, the first nearer the input."""
    return Effect(
        first.gain + second.gain,
        first.shift + second.shift,
        first.spread + second.spread,
        second.delta,
        second.length,
        first.modes.below(second.modes),
    )


def _power(effect: Effect, times: int) -> Effect:
    total = effect
    for _ in range(times - 1):
        total = _joined(effect, total)
    return total


def _body(layer: Mapping[str, Any], copy: int) -> Sequence[Mapping[str, Any]]:
    """Return the body of a Repeat in one of its copies: weights as they are differ from copy to copy."""
    found: Sequence[Mapping[str, Any]] = layer["body"]
    return at_copy(found, copy) if layer.get("by_copy") else found


def _is_standardized(layer: Mapping[str, Any]) -> bool:
    made = layer.get("parametrization") or {}
    return bool(made.get("name") == "weight_standardized")


def _made(parametrization: Mapping[str, Any] | None, law: WeightLaw, cols: int) -> WeightLaw:
    """Return the law of a weight that is made from a matrix of that law and a vector, both fresh."""
    if not parametrization or parametrization["name"] == "weight_norm":
        return law  # lengths start as those of the matrix
    gain = float(parametrization["params"]["gain"])
    return WeightLaw(0.0, gain**2 / cols)


def _usable(*lengths: float) -> bool:
    return all(1e-290 < q < 1e290 for q in lengths)


def _ln(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def _same(a: State, b: State) -> bool:
    def near(x: float, y: float) -> bool:
        return x == y or abs(x - y) <= _SETTLED * abs(y)

    alike = near(a.second, b.second) and near(a.mean, b.mean) and near(a.over_batch, b.over_batch)
    return alike and a.normal == b.normal and a.width == b.width


def _has_dense(layers: Sequence[Mapping[str, Any]]) -> bool:
    return any(layer["kind"] == "dense" or _has_dense(layer.get("body", ())) for layer in layers)
