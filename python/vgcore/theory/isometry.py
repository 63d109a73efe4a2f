"""Layer: theory, singular values. How evenly a deep network passes gradient in different directions.

Knows moments and fixed points; knows no network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._checks import as_choice, as_size
from .fixed_points import mean_field
from .gaussian import ActivationLike, as_phi, as_variance
from .moments import moments_of

__all__ = ["Isometry", "dynamical_isometry", "largest_singular_value"]

_WEIGHTS = ("gaussian", "orthogonal")


@dataclass(frozen=True)
class Isometry:
    """Moments of the squared singular values of the Jacobian from input to output, over their law.

    ``log10_mean`` is log10 of their mean (``chi_1^L``); ``normalised_variance`` their variance over that mean
    squared: 0 is perfect isometry, of the order of the depth is a spectrum that spreads like any other.
    """

    log10_mean: float
    normalised_variance: float


def dynamical_isometry(
    activation: ActivationLike,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    weights: str = "gaussian",
    q: float | None = None,
) -> Isometry:
    """Return mean and spread of the squared singular values of a deep network's Jacobian, at length q*.

    Formula: ``m_1 = chi_1^L``, ``m_2 / m_1^2 - 1 = L (mu_2 / mu_1^2 - 1 - s_1)``, ``mu_k = E phi'^(2k)``,
    s_1 = -1 for Gaussian weights and 0 for orthogonal ones. Linear Gaussian: L; ReLU: 2 L and L; only a phi
    that is nearly linear at q*, with orthogonal weights, keeps this bounded in depth.

    Args:
        activation: a name, or a ``vg.Activation`` with parameters.
        depth: number of layers L.
        sigma_w2: variance of a weight times fan_in; for orthogonal weights the square of their gain.
        sigma_b2: variance of a bias.
        weights: "gaussian" or "orthogonal".
        q: length of the pre-activations; None takes the fixed point.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range.

    Source: Pennington, Schoenholz & Ganguli 2017, arXiv:1711.04735, sec. 2.5.2; 2018,
    arXiv:1802.09979, eq. 14.

    Example:
        >>> dynamical_isometry("relu", 8, sigma_w2=2.0).normalised_variance
        16.0
    """
    phi, depth = as_phi(activation), as_size(depth, "depth")
    kind = as_choice(weights, "weights", _WEIGHTS)
    length = mean_field(activation, sigma_w2, sigma_b2).q_star if q is None else as_variance(q, "q")
    m = moments_of(phi, length)
    chi = as_variance(sigma_w2, "sigma_w2") * m.slope2
    log10_mean = depth * math.log10(chi) if chi > 0 else -math.inf
    s1 = -1.0 if kind == "gaussian" else 0.0
    return Isometry(log10_mean, depth * (m.kurtosis - 1.0 - s1))


def largest_singular_value(depth: int) -> float:
    """Return the largest singular value of a product of `depth` wide Gaussian matrices of mean square 1.

    Formula: ``s_max^2 = (L + 1)^(L + 1) / L^L``, about ``e L``: it grows though the mean square stays 1.

    Raises:
        ArgumentError: a depth that is not positive.

    Source: Pennington, Schoenholz & Ganguli 2017 (edge of the Fuss-Catalan law).

    Example:
        >>> largest_singular_value(1)
        2.0
    """
    n = as_size(depth, "depth")
    return math.sqrt((n + 1) * math.exp(n * math.log1p(1.0 / n)))
