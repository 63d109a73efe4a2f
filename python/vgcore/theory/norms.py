"""Layer: theory, normalisation. The gradient factor of layers that normalise their pre-activations.

Knows moments of activations; knows no network. Factors are those of the SQUARED gradient norm, going back
over one layer ``phi(norm(W x))`` of infinite width, whatever the size of its weights.
"""

from __future__ import annotations

import math

import numpy as np

from .._checks import as_size
from ..errors import ArgumentError
from .gaussian import ActivationLike, FloatArray, Phi, as_phi, graded, panel_nodes
from .moments import moments_of

__all__ = ["batch_norm_factor", "layer_norm_factor", "rms_norm_factor"]


def batch_norm_factor(activation: ActivationLike, batch: int | None = None) -> float:
    """Return the factor of a layer with batch normalisation of its pre-activations, without a shortcut.

    Formula for infinite batches: ``E phi'^2 / Var phi`` over N(0, 1), which is at least 1 and 1 only for
    linear phi: batch normalisation never lets gradients vanish and always lets them explode (ReLU: pi / (pi
    - 1)). For a batch of B: with y uniform on the sphere of radius sqrt(B) orthogonal to (1, .., 1), D =
    phi'(y), v = y / sqrt(B), ``S_k = sum D^k``,
    ``B / (tau (B-3)(B-1)) E[(1-1/B) S_2 - (S_2 - S_1^2/B)/B - (sum v^2 D^2 - (sum v D)^2/B)]``,
    ``tau = E phi(y_1)^2 - E phi(y_1) phi(y_2)``. Only pairs of entries matter, so the means are integrals
    over a disc, computed here to about 1e-9; linear: ``(B-2)/(B-3)``. Valid where the width is far above B.

    Args:
        activation: a name, or a ``vg.Activation`` with parameters.
        batch: samples in a batch, at least 4; None for infinitely many.

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: a batch below 4, where the expectation is infinite; a constant activation.

    Source: Yang, Pennington, Rao, Sohl-Dickstein & Schoenholz 2019, arXiv:1902.08129, for ReLU
    and linear; the integral for other activations follows from the symmetry of the sphere.

    Example:
        >>> round(batch_norm_factor("relu"), 6)
        1.466942
        >>> round(batch_norm_factor("relu", 16), 6)
        1.58995
    """
    phi = as_phi(activation)
    one = moments_of(phi, 1.0)
    if one.variance <= 0.0:
        raise ArgumentError(f"{phi.label}: expected an activation that varies, got a constant one")
    if batch is None:
        return one.slope2 / one.variance
    size = as_size(batch, "batch")
    if size < 4:
        raise ArgumentError(
            f"batch: expected at least 4 samples, got {size}: with fewer the mean square is infinite"
        )
    return _finite_batch(phi, size)


def layer_norm_factor(activation: ActivationLike) -> float:
    """Return the factor of a layer with layer normalisation of its pre-activations, x = phi(LN(W x)).

    Formula: ``E phi'^2 / E phi^2`` over N(0, 1). It may lie below 1 (sigmoid: 0.153).

    Raises:
        UnknownNameError: no such activation.

    Source: Doshi, He & Gromov 2021, arXiv:2111.12143; Ba, Kiros & Hinton 2016 for the layer.

    Example:
        >>> round(layer_norm_factor("gelu"), 6)
        1.072032
    """
    one = moments_of(as_phi(activation), 1.0)
    return one.slope2 / one.square if one.square > 0.0 else math.nan


def rms_norm_factor(activation: ActivationLike) -> float:
    """Return the factor of a layer with RMS normalisation of its pre-activations: as `layer_norm_factor`.

    Pre-activations of random weights have mean 0 over the units, so centring them changes nothing.

    Raises:
        UnknownNameError: no such activation.

    Source: Zhang & Sennrich 2019; formula as for `layer_norm_factor`.

    Example:
        >>> rms_norm_factor("relu") == layer_norm_factor("relu")
        True
    """
    return layer_norm_factor(activation)


def _finite_batch(phi: Phi, size: int) -> float:
    ya, yb, w = _disc(phi, size)
    da, db, fa, fb = phi.slope(ya), phi.slope(yb), phi.value(ya), phi.value(yb)
    b = float(size)
    va, vb = ya / math.sqrt(b), yb / math.sqrt(b)

    def mean(f: FloatArray) -> float:
        return float((w * f).sum())

    # By symmetry over entries: sums become B and B (B - 1) times the means over one entry and over a pair.
    d2, dd = b * mean(da * da), b * (b - 1) * mean(da * db)
    vd2, vdd = b * mean(va * va * da * da), b * (b - 1) * mean(va * vb * da * db)
    s1 = d2 + dd
    tau = mean(fa * (fa - fb))
    bracket = (1 - 1 / b) * d2 - (d2 - s1 / b) / b - (vd2 - (vd2 + vdd) / b)
    return b / (tau * (b - 3) * (b - 1)) * bracket


def _disc(phi: Phi, size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return nodes (y_a, y_b) and weights of the joint law of two entries of a normalised batch.

    In the plane of the two entries, y_a = R cos(angle) and y_b = R cos(angle - apart), cos(apart) = -1/(B-1);
    R = sqrt(B-1) sin(s), whose density is (B-3) sin(s) cos(s)^(B-4). Angles are cut at every kink line.
    """
    radius = math.sqrt(size - 1.0)
    apart = math.acos(-1.0 / (size - 1.0))
    # Beyond this cos^(B-4) is below 1e-19.
    top = math.pi / 2 if size < 8 else min(math.pi / 2, math.acos(math.exp(-44.0 / (size - 4))))
    kinks = np.array(phi.kinks)
    far = kinks[(kinks != 0.0) & (np.abs(kinks) < radius * math.sin(top))]
    # Where a circle first touches a kink line, or the crossing of two, its mean has a root-like corner.
    corners = list(np.arcsin(np.abs(far) / radius))
    for ka in far:
        for kb in np.concatenate([far, [0.0]]):
            r2 = (ka * ka + kb * kb - 2 * ka * kb * math.cos(apart)) / math.sin(apart) ** 2
            if r2 < (radius * math.sin(top)) ** 2:
                corners.append(math.asin(math.sqrt(r2) / radius))
    step = min(0.25, top / 4)
    edges = np.unique(np.concatenate([[0.0, top], np.arange(0, top, min(step, 0.5 / radius))]))
    if corners:
        marks = np.array(corners)
        edges = np.unique(np.concatenate([edges, graded(marks, 0.0, top, 1e-8)]))
    s, ws = panel_nodes(edges)
    ws = ws * (size - 3) * np.sin(s) * np.cos(s) ** (size - 4)
    r = radius * np.sin(s)
    lines = []
    for kink in kinks:
        with np.errstate(invalid="ignore", divide="ignore"):
            at = np.arccos(np.clip(np.where(r > 0, kink / r, 0.0), -1.0, 1.0))
        lines += [at, -at, apart + at, apart - at]
    cuts = np.mod(np.stack(lines, axis=1), 2 * math.pi)
    grid = np.broadcast_to(np.linspace(0.0, 2 * math.pi, 13), (len(s), 13))
    angle, wa = panel_nodes(np.sort(np.concatenate([grid, cuts], axis=1), axis=1))
    w = ws[:, None] * wa / (2 * math.pi)
    ya, yb = r[:, None] * np.cos(angle), r[:, None] * np.cos(angle - apart)
    return ya, yb, w
