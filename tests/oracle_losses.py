"""Reference layer of the tests: losses and their gradients in NumPy, PyTorch's definitions, real or complex
outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _log_softmax(z: Array) -> Array:
    """z - log(sum exp z) by rows, shifted by the largest real part."""
    z = z - z.real.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def _targets(target: Array, classes: int, smoothing: float) -> NDArray[np.float64]:
    """One probability row per sample: class indices as one-hot rows; smoothing mixes in the uniform row."""
    rows = np.eye(classes)[target] if target.ndim == 1 else np.asarray(target, np.float64)
    return np.asarray((1 - smoothing) * rows + smoothing / classes)


def loss_and_gradient(
    loss: Mapping[str, Any], output: Array, target: Array | None, *, gradient: bool = True
) -> tuple[Any, Array | None]:
    """(loss value, gradient with respect to the output); all losses are means.

    mse: mean (z-y)^2.  cross_entropy: mean over rows of -sum t log softmax(z).  bce_with_logits: mean of
    log(1+e^z) - y z.  smooth_l1: mean of d^2/(2 beta) where |d| < beta, |d| - beta/2 elsewhere.
    """
    assert target is not None
    z, name, slope = np.asarray(output), loss["name"], None
    if name == "mse":
        d = z - target
        if gradient:
            slope = 2 * d / d.size
        return np.mean(d * d), slope
    if name == "smooth_l1":
        d, beta = z - target, loss.get("beta", 1.0)
        small = np.abs(d.real) < beta
        sign = np.sign(d.real)
        if gradient:
            slope = np.where(small, d / beta, sign) / d.size
        return np.mean(np.where(small, d * d / (2 * beta), sign * d - beta / 2)), slope
    if name == "bce_with_logits":
        shifted = np.exp(-np.where(z.real < 0, -z, z))
        value = np.where(z.real > 0, z, 0 * z) - z * target + np.log(1 + shifted)
        if gradient:
            slope = (np.where(z.real < 0, shifted, 1) / (1 + shifted) - target) / z.size
        return np.mean(value), slope
    if name == "cross_entropy":
        rows = _targets(np.asarray(target), z.shape[1], loss.get("label_smoothing", 0.0))
        log_p = _log_softmax(z)
        if gradient:
            slope = (np.exp(log_p) * rows.sum(axis=1, keepdims=True) - rows) / len(z)
        return -np.sum(rows * log_p) / len(z), slope
    raise ValueError(name)
