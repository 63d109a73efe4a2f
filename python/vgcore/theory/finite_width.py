"""Layer: theory, finite width. What one network of n units does, as against the mean over infinitely many.

Knows moments, maps and gamma-function relatives; knows no network. Infinite-width theory gives the mean of
the SQUARED gradient norm; the norm of a typical network is smaller, by an amount that grows with depth /
width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .._checks import as_size, shown
from ..errors import ArgumentError
from .gaussian import ActivationLike, FloatArray, as_phi, as_variance
from .maps import Trajectory, effective, trajectory
from .moments import Moments, moments_of
from .special import digamma, fair_coins, trigamma

__all__ = [
    "LogNorm",
    "alive_probability",
    "linear_log_norm",
    "log_norm",
    "lyapunov_spectrum",
    "relu_fourth_moment",
    "relu_log_norm",
    "two_mode",
]

Widths: TypeAlias = int | Sequence[int]

_LN10 = math.log(10.0)


@dataclass(frozen=True)
class LogNorm:
    """Mean and variance, over networks, of ln of a norm ratio (of the norm, not of its square).

    The law is close to normal for deep networks, so the norm is close to log-normal.
    """

    mean: float
    variance: float

    @property
    def mean_log10(self) -> float:
        """Mean of log10 of the norm: where a typical network is."""
        return self.mean / _LN10

    @property
    def sd_log10(self) -> float:
        """Standard deviation of log10 of the norm from network to network."""
        return math.sqrt(self.variance) / _LN10

    @property
    def log10_rms(self) -> float:
        """log10 of the root mean square, if the law is log-normal: above the mean by half a variance."""
        return (self.mean + self.variance) / _LN10


def linear_log_norm(width: Widths, depth: int | None = None, *, sigma_w2: float = 1.0) -> LogNorm:
    """Return the exact law of ln |W_L .. W_1 u| for a unit vector u and weights N(0, sigma_w2 / fan_in).

    Formula: mean ``sum_l [ln(sigma_w2 n_l / n_{l-1}) + ln(2 / n_l) + psi(n_l / 2)] / 2``, variance
    ``sum_l psi'(n_l / 2) / 4``. At sigma_w2 = 1 the mean square is kept, yet the typical norm falls by
    ``0.5 depth / width`` nats.

    Args:
        width: of every layer, with `depth`; or a list of widths, the input's first.
        depth: number of layers, when `width` is one number.
        sigma_w2: variance of a weight times fan_in.

    Raises:
        ArgumentError: numbers outside their range.

    Source: Cohen & Newman 1984; Newman 1986; Hanin & Nica 2018, arXiv:1812.05994.

    Example:
        >>> round(linear_log_norm(500, 100_000).mean_log10, 3)
        -43.458
    """
    w = as_variance(sigma_w2, "sigma_w2", positive=True)
    n, fan_in, count = _widths(width, depth)
    mean = 0.5 * (math.log(w) - np.log(fan_in) + math.log(2.0) + digamma(n / 2.0))
    return LogNorm(count * float(mean.sum()), count * float(trigamma(n / 2.0).sum()) / 4.0)


def relu_log_norm(width: Widths, depth: int | None = None, *, sigma_w2: float = 2.0) -> LogNorm:
    """Return the exact law of ln |x_L| / |x_0| for ``x' = relu(W x)``, given that no layer is wholly dead.

    The same law holds for the gradient, going back. Formula: K ~ Binomial(n, 1/2), K >= 1, units are active;
    per layer the mean of ln of the square is ``ln(sigma_w2 / fan_in) + E[ln 2 + psi(K/2)]``, its variance
    ``E psi'(K/2) + Var psi(K/2)``: about -2.5/n and 5/n with He weights.

    Raises:
        ArgumentError: as for `linear_log_norm`.

    Source: Hanin & Nica 2018, arXiv:1812.05994 (leading order: ln of the square is N(-b/2, b),
    b = 5 sum 1/n_l); Hanin 2018; here the exact sum over K.

    Example:
        >>> law = relu_log_norm(500, 100_000)  # critical in the mean, and yet
        >>> round(law.mean_log10, 2), round(law.sd_log10, 2)
        (-108.93, 6.89)
    """
    w = as_variance(sigma_w2, "sigma_w2", positive=True)
    n, fan_in, count = _widths(width, depth)
    mean = variance = 0.0
    for size, before in zip(n, fan_in, strict=True):
        k, p = fair_coins(int(size))
        psi = digamma(k / 2.0)
        centre = float(p @ psi)
        mean += math.log(2.0 * w / before) + centre
        variance += float(p @ trigamma(k / 2.0)) + float(p @ (psi - centre) ** 2)
    return LogNorm(count * mean / 2.0, count * variance / 4.0)


def log_norm(
    activation: ActivationLike,
    width: int,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    q1: float = 1.0,
) -> LogNorm:
    """Return the law of ln of the gradient-norm ratio over `depth` layers, to leading order in 1 / width.

    Formula: ln of the mean square is the sum of ln chi_1; the variance of ln of the square is the sum of
    ``(3 E phi'^4 / (E phi'^2)^2 - 1) / width`` (2/n linear, 5/n ReLU) and the mean lies half of it below.
    Valid while depth / width is small against 1 per e-fold, and where chi_q^2 does not exceed chi_1
    (`two_mode`).

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range.

    Source: Hanin & Nica 2018 for ReLU; the variance of one layer follows from normal weights.

    Example:
        >>> law = log_norm("relu", width=200, depth=51, sigma_w2=2.0)
        >>> round(2 * law.mean, 3), round(4 * law.variance, 3)  # exact: -0.630 and 1.274
        (-0.625, 1.25)
    """
    phi, n = as_phi(activation), as_size(width, "width")
    path = trajectory(activation, depth, sigma_w2, sigma_b2, q1=q1)
    lengths, counts = np.unique(path.q[:-1], return_counts=True)
    spread = sum(
        float(c) * (3.0 * moments_of(phi, float(q)).kurtosis - 1.0)
        for q, c in zip(lengths, counts, strict=True)
    )
    mean = path.log10_ratio * _LN10
    return LogNorm(mean - spread / n / 4.0, spread / n / 4.0)


def lyapunov_spectrum(width: int, *, sigma_w2: float = 1.0) -> FloatArray:
    """Return the Lyapunov exponents, nats per layer, of products of independent n x n normal matrices.

    Formula: ``lambda_i = [ln(2 sigma_w2 / n) + psi((n - i + 1) / 2)] / 2``, i = 1..n, largest first.

    Raises:
        ArgumentError: numbers outside their range.

    Source: Newman 1986.

    Example:
        >>> float(lyapunov_spectrum(8)[0].round(6))
        -0.065088
    """
    n, w = as_size(width, "width"), as_variance(sigma_w2, "sigma_w2", positive=True)
    return np.asarray(0.5 * (math.log(2.0 * w / n) + digamma(np.arange(n, 0, -1) / 2.0)))


def alive_probability(width: int, depth: int) -> float:
    """Return the probability that a ReLU network without biases has an output that is not wholly dead.

    Formula: ``(1 - 2^-n)^L`` for a given input: each layer must have an active unit.

    Raises:
        ArgumentError: sizes that are not positive.

    Source: Lu et al. 2019 (dying ReLU).

    Example:
        >>> round(alive_probability(10, 30), 4)
        0.9711
    """
    n, count = as_size(width, "width"), as_size(depth, "depth")
    return math.exp(count * math.log1p(-(2.0**-n)))


def relu_fourth_moment(width: int, depth: int) -> float:
    """Return E |x_L|^4 / |x_0|^4 of a ReLU network with He weights, whose mean square is kept.

    Formula: ``(1 + 5 / n)^L``, exact at every width; infinity beyond the range of floats.

    Raises:
        ArgumentError: sizes that are not positive.

    Source: Hanin 2018, arXiv:1801.03744 (growth as exp of sum 1/n_l); exact for normal weights.

    Example:
        >>> round(relu_fourth_moment(50, 20), 4)
        6.7275
    """
    ln = as_size(depth, "depth") * math.log1p(5.0 / as_size(width, "width"))
    return math.exp(ln) if ln < 709.0 else math.inf


def two_mode(
    activation: ActivationLike,
    width: int,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    q1: float = 1.0,
) -> Trajectory:
    """Return lengths and squared gradient factors with the gradient's component along h kept apart.

    That component has weight 1/n at first and the factor ``chi_q^2``, which for activations that are not odd
    may exceed chi_1; it then overtakes after about ``ln n / ln(chi_q^2 / chi_1)`` layers and the decay is
    slower than chi_1 says.

    Formula, per layer from the last, T = E|delta|^2, P = E(h . delta)^2 / n^2 relative to T = 1, P = q_L / n,
    ``rho = (q_l - sigma_b2) / q_l``, means at q_{l-1}: ``P~ = rho^2 P + sigma_b2 rho T / n``;
    ``T <- sigma_w2 T (E phi'^2 - E[phi^2 phi'^2] / (n E phi^2)) + P~ E[phi^2 phi'^2] / (E phi^2)^2``;
    ``P <- P~ (E[h phi phi'] / E phi^2)^2 + sigma_w2 (T/n) (E[(h phi')^2] - E[h phi phi']^2 / E phi^2)``.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range.

    Source: the two susceptibilities are those of Roberts, Yaida & Hanin 2022, ch. 5; the recursion follows
    from conditioning each Gaussian weight matrix on its forward pass.

    Example:
        >>> round(two_mode("softplus", 500, 41, sigma_w2=2.0).log10_ratio, 4)
        -1.6261
    """
    phi, n = as_phi(activation), as_size(width, "width")
    w, b = effective(sigma_w2, sigma_b2, 1.0)
    path = trajectory(activation, depth, sigma_w2, sigma_b2, q1=q1)
    q, chi = path.q, np.empty(len(path.q) - 1)
    share = 1.0  # P in units of T q / n: only ratios count, or a deep network would leave the float range
    last: Moments | None = None
    for layer in range(len(q) - 1, 0, -1):
        at, above = float(q[layer - 1]), float(q[layer])
        m = last if last is not None and last.q == at else moments_of(phi, at)
        last = m
        if not (0.0 < m.square < math.inf and 0.0 < above < math.inf):
            chi[layer - 1] = w * m.slope2
            continue
        rho = max(above - b, 0.0) / above
        p = (rho * rho * share * above + b * rho) / n
        pull, mixed = m.radial / m.square, m.square_slope2 / m.square
        after = w * (m.slope2 - mixed / n) + p / m.square * mixed
        chi[layer - 1] = after
        if after > 0.0:
            p = p * pull * pull + w / n * (m.radial2 - m.radial * pull)
            share = p / at * n / after
    return Trajectory(q.copy(), chi)


def _widths(width: Widths, depth: int | None) -> tuple[FloatArray, FloatArray, int]:
    """Return (widths, fan-ins, how often each is repeated)."""
    if isinstance(width, Sequence) and not isinstance(width, (str, bytes)):
        if depth is not None:
            raise ArgumentError("depth: a list of widths says the depth already; leave depth out")
        sizes = [as_size(n, f"width[{k}]") for k, n in enumerate(width)]
        if len(sizes) < 2:
            raise ArgumentError(
                f"width: expected the input's width and at least one layer's, got {shown(width)}"
            )
        return np.array(sizes[1:], np.float64), np.array(sizes[:-1], np.float64), 1
    n = np.array([as_size(width, "width")], np.float64)
    if depth is None:
        raise ArgumentError("depth: expected a number of layers beside one width, got None")
    return n, n, as_size(depth, "depth")
