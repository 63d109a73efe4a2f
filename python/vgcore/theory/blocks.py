"""Layer: theory, blocks. Residual and gated blocks: what a shortcut or a gate does to length and gradient.

Knows moments of activations; knows no network. Factors are those of the SQUARED gradient norm, going back
over one block, in expectation over fresh weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .._checks import as_choice, as_real, as_size
from ..errors import ArgumentError
from .gaussian import ActivationLike, FloatArray, as_phi, as_variance
from .maps import effective
from .moments import moments_of

__all__ = [
    "BlockFlow",
    "gated_factor",
    "highway",
    "postnorm_factor",
    "prenorm_factor",
    "residual",
    "residual_factor",
    "stochastic_depth_blocks",
]

_FORMS = ("post", "pre", "pre_norm", "post_norm")


@dataclass(frozen=True)
class BlockFlow:
    """Lengths and gradient through a stack of blocks.

    ``q`` (depth + 1,) is the mean square of a unit before each block and after the last; ``factor`` (depth,)
    the squared gradient factor of each block; ``log10_grad_norm`` (depth + 1,) the log10 gradient norm at
    each place, 0 at the output.
    """

    q: FloatArray
    factor: FloatArray
    log10_grad_norm: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Sum the factors from the output back."""
        with np.errstate(divide="ignore"):
            back = np.cumsum(0.5 * np.log10(self.factor)[::-1])[::-1]
        object.__setattr__(self, "log10_grad_norm", np.concatenate([back, [0.0]]))

    @property
    def log10_ratio(self) -> float:
        """log10 of the gradient norm at the input over that at the output."""
        return float(self.log10_grad_norm[0])


def residual_factor(chi: float, scale: float = 1.0) -> float:
    """Return the factor of a block ``x + scale * F(x)`` whose branch alone has factor `chi`.

    Formula: ``1 + scale^2 chi``, for a branch that is uncorrelated with the shortcut: its last layer has mean
    zero. `scale` = 0 (ReZero, SkipInit, Fixup at the start) gives exactly 1; ``scale = 1/sqrt(L)`` over L
    blocks gives at most ``exp(chi)``.

    Raises:
        ArgumentError: a negative `chi`.

    Source: Yang & Schoenholz 2017, arXiv:1712.08969; Hanin & Rolnick 2018; Bachlechner et al. 2020.

    Example:
        >>> round(residual_factor(1.0, scale=0.1) ** 100, 4)  # (1 + 1/L)^L for L = 100
        2.7048
    """
    return 1.0 + as_real(scale, "scale") ** 2 * as_variance(chi, "chi")


def gated_factor(transform: float, chi: float = 1.0, *, coupled: bool = True) -> float:
    """Return the factor of ``T H(x) + C x`` with constant gates T and C = 1 - T (C = 1 if not coupled).

    Formula: ``C^2 + T^2 chi`` for a zero-mean branch H of factor `chi`: below 1 for coupled gates and chi =
    1, so a fresh highway network loses gradient, slowly. The same for a recurrent state with a constant gate.

    Raises:
        ArgumentError: a negative `chi`, `transform` outside 0 to 1.

    Source: Srivastava, Greff & Schmidhuber 2015, sec. 2; Gilboa et al. 2019 (gates in mean field).

    Example:
        >>> round(gated_factor(0.5), 3)
        0.5
    """
    t = as_real(transform, "transform", minimum=0.0)
    if t > 1.0:
        raise ArgumentError(f"transform: expected a gate from 0 to 1, got {t:g}")
    carry = 1.0 - t if coupled else 1.0
    return carry**2 + t**2 * as_variance(chi, "chi")


def highway(
    gate_bias: float, depth: int = 1, *, chi: float = 1.0, v: float = 1.0, q0: float = 1.0
) -> BlockFlow:
    """Return the flow through `depth` highway blocks whose gate weights are 0: T = sigmoid(gate_bias).

    Formula: back ``(1-T)^2 + T^2 chi``, forward ``q' = (1-T)^2 q + T^2 v q``; `chi` and `v` are the branch's
    factors of gradient and of length (1 for ``W2 relu(W1 x)`` with He weights in W1, N(0, 1/n) in W2). If the
    branch is not zero-mean (plain relu), the gradient falls more slowly than this.

    Raises:
        ArgumentError: numbers outside their range.

    Source: Srivastava, Greff & Schmidhuber 2015, arXiv:1505.00387, sec. 2 and 3.

    Example:
        >>> round(highway(-1.0, 50).log10_ratio, 4)
        -5.4243
    """
    gate = sigmoid(as_real(gate_bias, "gate_bias"))
    depth = as_size(depth, "depth")
    forward = gated_factor(gate, v)
    q = as_variance(q0, "q0") * np.power(forward, np.arange(depth + 1), dtype=np.float64)
    return BlockFlow(q, np.full(depth, gated_factor(gate, chi)))


def prenorm_factor(chi: float, q: float) -> float:
    """Return the factor of ``x + F(norm(x))`` at stream length q, the branch after the norm having `chi`.

    Formula: ``1 + chi / q``, while the stream grows as ``q' = q + V_F``. With chi = V_F = 1 the product over
    L blocks telescopes to ``(q_0 + L) / q_0``: a power law instead of an exponential.

    Raises:
        ArgumentError: a negative `chi`, `q` not above 0.

    Source: De & Smith 2020 (SkipInit); Xiong et al. 2020 (pre- and post-norm).

    Example:
        >>> prenorm_factor(1.0, 4.0)
        1.25
    """
    return 1.0 + as_variance(chi, "chi") / as_variance(q, "q", positive=True)


def postnorm_factor(chi: float, v: float) -> float:
    """Return the factor of ``norm(x + F(x))``, the branch having `chi` for gradients and `v` for length.

    Formula: ``(1 + chi) / (1 + v)``, the stream being held at length 1.

    Raises:
        ArgumentError: a negative number.

    Source: Wang et al. 2022 (DeepNet); Xiong et al. 2020.

    Example:
        >>> round(postnorm_factor(0.5, 1.0), 3)
        0.75
    """
    return (1.0 + as_variance(chi, "chi")) / (1.0 + as_variance(v, "v"))


def residual(
    activation: ActivationLike,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    form: str = "post",
    scale: float = 1.0,
    q0: float = 1.0,
) -> BlockFlow:
    """Follow length and gradient through `depth` residual blocks with one Dense layer each.

    Formula, with a = `scale` and h the pre-activation of the branch:
    ``"post"`` x + a phi(W x + b): ``h ~ N(0, sigma_w2 q + sigma_b2)``, ``q' = q + 2 a m E phi + a^2 E
    phi^2``, ``m' = m + a E phi`` (mean of the units), factor ``1 + a^2 sigma_w2 E phi'^2``;
    ``"pre"`` x + a (W phi(x) + b): ``q' = q + a^2 (sigma_w2 E phi^2 + sigma_b2)``, same factor, at h = x;
    ``"pre_norm"`` x + a (W phi(norm(x)) + b): moments at N(0, 1), factor ``1 + a^2 sigma_w2 E phi'^2 / q``;
    ``"post_norm"`` norm(x + a (W phi(x) + b)): ``(1 + a^2 chi) / (1 + a^2 V)``, length 1.

    For tanh the logarithm of the gradient grows as sqrt(depth), for ReLU as depth.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: numbers outside their range, or a `form` that is none of the four.

    Source: Yang & Schoenholz 2017, arXiv:1712.08969 (``"post"`` is their reduced residual network).

    Example:
        >>> flow = residual("tanh", 50, sigma_w2=1.0)
        >>> round(flow.log10_ratio, 6), round(float(flow.q[-1]), 4)
        (1.566956, 39.5935)
    """
    phi, depth = as_phi(activation), as_size(depth, "depth")
    w, b = effective(sigma_w2, sigma_b2, 1.0)
    a, form = as_real(scale, "scale"), as_choice(form, "form", _FORMS)
    q, mean = as_variance(q0, "q0", positive=True), 0.0
    if form == "post_norm":
        q = 1.0
    lengths, factor = np.empty(depth + 1), np.empty(depth)
    lengths[0] = q
    for block in range(depth):
        if form == "post":
            m = moments_of(phi, w * q + b)
            factor[block] = 1.0 + a * a * w * m.slope2
            q, mean = q + 2.0 * a * mean * m.value + a * a * m.square, mean + a * m.value
        else:
            m = moments_of(phi, q if form == "pre" else 1.0)
            chi, grown = a * a * w * m.slope2, a * a * (w * m.square + b)
            if form == "post_norm":
                factor[block] = (1.0 + chi) / (1.0 + grown)
            else:
                factor[block] = 1.0 + (chi if form == "pre" else chi / q)
                q += grown
        lengths[block + 1] = q
    return BlockFlow(lengths, factor)


def stochastic_depth_blocks(depth: int, last_keep_prob: float = 0.5) -> float:
    """Return the expected number of blocks that run, keep probabilities falling linearly to the last's.

    Formula: ``sum_l 1 - (l / L)(1 - p_L)``, l = 1..L; ``(3 L - 1) / 4`` for p_L = 1/2.

    Raises:
        ArgumentError: a `depth` below 1, a probability outside 0 to 1.

    Source: Huang et al. 2016 (stochastic depth).

    Example:
        >>> stochastic_depth_blocks(54)
        40.25
    """
    depth, p = as_size(depth, "depth"), as_real(last_keep_prob, "last_keep_prob", minimum=0.0)
    if p > 1.0:
        raise ArgumentError(f"last_keep_prob: expected a probability from 0 to 1, got {p:g}")
    return depth - (1.0 - p) * (depth + 1) / 2.0


def sigmoid(x: float) -> float:
    """Return the logistic function of a float, to full relative accuracy on both sides."""
    e = math.exp(-abs(x))
    return 1.0 / (1.0 + e) if x >= 0 else e / (1.0 + e)
