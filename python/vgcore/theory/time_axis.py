"""Layer: theory, recurrent networks. The same recursions along time, constant gates, and bounds on Jacobians.

Knows fixed points and moments; knows no network. Shared weights change nothing at infinite width, so a time
step is a layer whose input adds to the variance of its bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import activations
from .._checks import as_real, as_size
from ..errors import ArgumentError
from .blocks import sigmoid
from .fixed_points import MeanField, mean_field
from .gaussian import ActivationLike, FloatArray, Phi, as_phi, as_variance

__all__ = [
    "Chrono",
    "GateDecay",
    "Latching",
    "chrono",
    "gate_decay",
    "hochreiter",
    "largest_slope",
    "lyapunov_exponent",
    "pascanu_bound",
    "pascanu_threshold",
    "recurrent",
    "scalar_recurrence",
    "uniform_gate_mean",
]


def recurrent(
    activation: ActivationLike, sigma_w2: float, input_variance: float = 0.0, sigma_b2: float = 0.0
) -> MeanField:
    """Return what a long recurrence ``h_t = W phi(h_{t-1}) + u_t + b`` does, u_t new at every step.

    Formula: as `mean_field` with ``sigma_b2 + input_variance`` for the biases; ``chi_1`` is then the factor
    of the squared gradient norm per step back in time. Tied weights do not change it at infinite width.

    Args:
        activation: a name, or a ``vg.Activation`` with parameters.
        sigma_w2: variance of a recurrent weight times the number of units.
        input_variance: variance of an entry of u_t: for ``u_t = U x_t`` Var(U) times the sum of squares of
        x_t. sigma_b2: variance of a bias.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range.

    Source: Chen, Pennington & Schoenholz 2018, arXiv:1806.05394, sec. 3.

    Example:
        >>> round(recurrent("tanh", 1.0, input_variance=0.1).decades_per_layer, 6)
        -0.080941
    """
    return mean_field(
        activation,
        sigma_w2,
        as_variance(sigma_b2, "sigma_b2") + as_variance(input_variance, "input_variance"),
    )


def lyapunov_exponent(
    activation: ActivationLike, sigma_w2: float, input_variance: float = 0.0, sigma_b2: float = 0.0
) -> float:
    """Return the largest Lyapunov exponent of a wide random recurrence, in nats per step.

    Formula: ``0.5 ln chi_1(q*)``. Without input and with sigma_w2 > 1 a tanh network is chaotic: positive.

    Raises:
        UnknownNameError, ArgumentError: as for `recurrent`.

    Source: Molgedey, Schuchhardt & Schuster 1992; Engelken, Wolf & Abbott 2020, arXiv:2006.02427.

    Example:
        >>> round(lyapunov_exponent("tanh", 4.0), 6)
        0.154724
    """
    chi = recurrent(activation, sigma_w2, input_variance, sigma_b2).chi_1
    return 0.5 * math.log(chi) if chi > 0 else -math.inf


@dataclass(frozen=True)
class GateDecay:
    """What a constant gate does to a state's gradient: ``gate`` per step, as log10, and its half-life."""

    gate: float
    log10_per_step: float
    half_life: float

    def log10_after(self, steps: int) -> float:
        """Return log10 of the gradient left after `steps` steps."""
        return self.log10_per_step * as_size(steps, "steps", minimum=0)


def gate_decay(bias: float) -> GateDecay:
    """Return how fast the cell state's gradient falls when only a gate's bias acts: all weights 0.

    Formula: gate ``f = sigmoid(bias)``, ``dc_T / dc_0 = f^T``, half-life ``ln 2 / -ln f`` steps. `bias` is
    the forget bias of an LSTM (PyTorch adds two, ``bias_ih + bias_hh``), or the update bias of a GRU, whose
    state passes as ``h' = (1 - z) n + z h`` with z = sigmoid(bias).

    Raises:
        ArgumentError: not a finite number.

    Source: Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015.

    Example:
        >>> decay = gate_decay(3.0)
        >>> round(decay.log10_per_step, 6), round(decay.half_life, 2)
        (-0.021101, 14.27)
    """
    b = as_real(bias, "bias")
    ln = -(max(-b, 0.0) + math.log1p(math.exp(-abs(b))))
    return GateDecay(sigmoid(b), ln / math.log(10.0), math.log(2.0) / -ln if ln < 0.0 else math.inf)


@dataclass(frozen=True)
class Chrono:
    """Chrono initialisation for memories of length T: biases, the gate they give, and the gradient over T."""

    forget_bias: float
    input_bias: float
    forget_gate: float
    grad_over_t: float


def chrono(steps: int) -> Chrono:
    """Return the biases for memories of `steps` steps and what they do.

    Formula: ``b_f = ln(T - 1)``, ``b_i = -b_f``; the gate is ``1 - 1/T`` and the gradient over T steps
    ``(1 - 1/T)^T``, which tends to 1/e.

    Raises:
        ArgumentError: fewer than 2 steps.

    Source: Tallec & Ollivier 2018, arXiv:1804.11188, eq. 16.

    Example:
        >>> round(chrono(1000).grad_over_t, 6)
        0.367695
    """
    t = as_size(steps, "steps", minimum=2)
    bias = math.log(t - 1.0)
    return Chrono(bias, -bias, 1.0 - 1.0 / t, math.exp(t * math.log1p(-1.0 / t)))


def uniform_gate_mean(steps: int) -> float:
    """Return the mean over units of f^T when forget gates f are uniform on (0, 1).

    Formula: ``1 / (T + 1)``: a power law, where any constant gate decays exponentially.

    Raises:
        ArgumentError: a negative number of steps.

    Source: Gu et al. 2020 (uniform gate initialisation).

    Example:
        >>> uniform_gate_mean(99)
        0.01
    """
    return 1.0 / (as_size(steps, "steps", minimum=0) + 1.0)


def scalar_recurrence(activation: ActivationLike, weight: float, x0: float, steps: int) -> FloatArray:
    """Return log10 |dx_t / dx_0|, t = 0..steps, of one unit that feeds itself: ``x <- phi(weight x)``.

    Formula: ``dx_T / dx_0 = prod weight phi'(weight x_t)``, summed as logarithms. With tanh and weight 1 it
    falls as T^(-3/2); with a weight above 1 the unit latches, and its gradient falls exponentially.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: not finite numbers, a negative number of steps.

    Source: Bengio, Simard & Frasconi 1994.

    Example:
        >>> round(float(10 ** scalar_recurrence("tanh", 1.0, 0.5, 10)[10]), 6)
        0.22276
    """
    phi, count = as_phi(activation), as_size(steps, "steps", minimum=0)
    w, x = as_real(weight, "weight"), np.array([as_real(x0, "x0")])
    slopes = np.empty(count)
    for step in range(count):
        slopes[step] = w * phi.slope(w * x)[0]
        x = phi.value(w * x)
    with np.errstate(divide="ignore"):
        return np.concatenate([[0.0], np.cumsum(np.log10(np.abs(slopes)))])


def pascanu_bound(activation: ActivationLike, sigma_max: float, steps: int = 1) -> float:
    """Return the largest log10 |dh_T / dh_0| that a recurrence with that largest singular value can have.

    Formula: ``steps * log10(gamma sigma_max)``, gamma = max |phi'|. Vanishing is certain below the threshold
    ``sigma_max < 1/gamma``; above it exploding is possible, not certain.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range.

    Source: Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, sec. 2.1.

    Example:
        >>> round(pascanu_bound("sigmoid", 2.0, steps=100), 3)
        -30.103
    """
    bound = largest_slope(activation) * as_variance(sigma_max, "sigma_max")
    count = as_size(steps, "steps", minimum=0)
    return count * math.log10(bound) if bound > 0 else (-math.inf if count else 0.0)


def pascanu_threshold(activation: ActivationLike) -> float:
    """Return the singular value below which the gradient must vanish: ``1 / max |phi'|``.

    Raises:
        UnknownNameError: no such activation.

    Source: Pascanu, Mikolov & Bengio 2013, sec. 2.1.

    Example:
        >>> pascanu_threshold("tanh"), pascanu_threshold("sigmoid")
        (1.0, 4.0)
    """
    slope = largest_slope(activation)
    return 1.0 / slope if slope > 0 else math.inf


def largest_slope(activation: ActivationLike) -> float:
    """Return max |phi'(x)| over all x.

    Formula: the catalogue's, where all parameters have their defaults; else a grid over the activation's
    structure, then finer grids around the best point, to about 1e-14.

    Raises:
        UnknownNameError: no such activation.

    Example:
        >>> round(largest_slope("silu"), 6)
        1.099839
    """
    phi: Phi = as_phi(activation)
    if not phi.params:
        return float(activations.describe(phi.name).extra["max_slope"])
    near = np.array([k * (1 + s * 1e-15) + s * 1e-300 for k in phi.kinks for s in (-1, 1)])
    x = np.concatenate([np.linspace(-40.0, 40.0, 16001), near, [-1e150, 1e150]])
    slopes = np.abs(phi.slope(x))
    best, width = float(x[np.argmax(slopes)]), 0.005
    top = float(slopes.max())
    for _ in range(6):
        if not abs(best) < 41.0:
            break
        x = np.linspace(best - width, best + width, 401)
        slopes = np.abs(phi.slope(x))
        best, top, width = float(x[np.argmax(slopes)]), max(top, float(slopes.max())), width / 40
    return top


@dataclass(frozen=True)
class Latching:
    """The weight that passes most error back through a logistic unit of activation y, and how much: < 1."""

    weight: float
    factor: float


def hochreiter(y: float = 1.0) -> Latching:
    """Return where ``|f'(w y) w|`` is largest over w, for logistic f and an incoming activation y > 0.

    Formula: ``w = coth(w y / 2) / y``. The factor is ``f'(w y) w``, below 1 whenever |w| < 4.

    Raises:
        ArgumentError: `y` not above 0.

    Source: Hochreiter 1991; Hochreiter & Schmidhuber 1997, sec. 3.1.

    Example:
        >>> best = hochreiter()
        >>> round(best.weight, 6), round(best.factor, 6)
        (1.543405, 0.223872)
    """
    unit = as_real(y, "y")
    if unit <= 0.0:
        raise ArgumentError(f"y: expected an activation above 0, got {unit:g}")
    u = 1.5  # u = w y solves u tanh(u / 2) = 1, whose left side is convex here: Newton's method
    for _ in range(50):
        t = math.tanh(u / 2.0)
        step = (u * t - 1.0) / (t + u * (1.0 - t * t) / 2.0)
        u -= step
        if abs(step) < 1e-16:
            break
    gate = sigmoid(u)
    return Latching(u / unit, gate * sigmoid(-u) * u / unit)
