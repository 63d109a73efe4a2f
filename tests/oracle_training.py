"""Reference layer of the tests: whole trainings in NumPy, slow and readable: optimizers, clips, constraints.

Gradients come from `oracle.gradients`; arithmetic is plain float64, so gradients have to be ordinary numbers.
A layer's copy of a parameter is what rules with norms look at. Knows nothing of vgcore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracle import gradients

Array = NDArray[np.float64]
Arrays = dict[str, Array]
#: (parameter, indices of the copy, whether its own shape is a matrix, whether it is of the last layer)
Copy = tuple[str, tuple[int, ...], bool, bool]


def sgd(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """Momentum v starts as the first gradient."""
    g = g + p.get("weight_decay", 0.0) * w
    if p.get("momentum", 0.0):
        s["v"] = g if t == 1 else p["momentum"] * s["v"] + g
        g = g + p["momentum"] * s["v"] if p.get("nesterov") else s["v"]
    return w - p["lr"] * g


def adagrad(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """The sum of squares never forgets."""
    g = g + p.get("weight_decay", 0.0) * w
    s["sum"] = s.get("sum", 0.0) + g * g
    rate = p["lr"] / (1 + (t - 1) * p.get("lr_decay", 0.0))
    return w - rate * g / (np.sqrt(s["sum"]) + p.get("eps", 1e-10))


def rmsprop(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """eps outside the root."""
    alpha = p.get("alpha", 0.99)
    g = g + p.get("weight_decay", 0.0) * w
    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * g * g
    square = s["v"]
    if p.get("centered"):
        s["m"] = alpha * s.get("m", 0.0) + (1 - alpha) * g
        square = square - s["m"] ** 2
    u = g / (np.sqrt(square) + p.get("eps", 1e-8))
    if p.get("momentum", 0.0):
        s["b"] = p["momentum"] * s.get("b", 0.0) + u
        u = s["b"]
    return w - p["lr"] * u


def moments(g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """Adam's direction: corrected mean over corrected root mean square."""
    one, two = p.get("beta1", 0.9), p.get("beta2", 0.999)
    s["m"] = one * s.get("m", 0.0) + (1 - one) * g
    s["v"] = two * s.get("v", 0.0) + (1 - two) * g * g
    s["top"] = np.maximum(s.get("top", 0.0), s["v"])
    v = s["top"] if p.get("amsgrad") else s["v"]
    return np.asarray(s["m"] / (1 - one**t) / (np.sqrt(v / (1 - two**t)) + p.get("eps", 1e-8)))


def adam(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """Decay goes through the gradient."""
    return w - p["lr"] * moments(g + p.get("weight_decay", 0.0) * w, s, t, p)


def adamw(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """Decay goes its own way."""
    return w * (1 - p["lr"] * p.get("weight_decay", 0.01)) - p["lr"] * moments(g, s, t, p)


def lars(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """A layer's rate is the ratio of norms."""
    decay, own, other = p.get("weight_decay", 0.0), np.linalg.norm(w), np.linalg.norm(g)
    local = p.get("trust", 0.001) * own / (other + decay * own) if own and other else 1.0
    s["v"] = p.get("momentum", 0.9) * s.get("v", 0.0) + p["lr"] * local * (g + decay * w)
    return np.asarray(w - s["v"])


def lamb(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """Adam's direction with the length of the weights."""
    r = moments(g, s, t, {"eps": 1e-6, **p}) + p.get("weight_decay", 0.0) * w
    own, other = np.linalg.norm(w), np.linalg.norm(r)
    return np.asarray(w - p["lr"] * (own / other if own and other else 1.0) * r)


def scale_free(w: Array, g: Array, s: dict[str, Any], t: int, p: Mapping[str, Any]) -> Array:
    """Directions of root mean square one, lengths relative to the weights."""
    keep, size = p.get("momentum", 0.9), np.sqrt(np.mean(g * g))
    s["m"] = keep * s.get("m", 0.0) + (1 - keep) * (g / size if size else g)
    length = max(np.sqrt(np.mean(w * w)), p.get("floor", 0.001))
    return np.asarray(w - p["lr"] * length * s["m"] / (1 - keep**t))


OPTIMIZERS: dict[str, Callable[..., Array]] = {
    f.__name__: f for f in (sgd, adagrad, rmsprop, adam, adamw, lars, lamb, scale_free)
}


def clip(name: str, p: Mapping[str, Any], g: Arrays, w: Arrays, copies: Sequence[Copy]) -> None:
    """Change the gradients in place."""
    parts = [g[n][at] for n, at, _, _ in copies]
    if name == "value":
        for a in parts:
            np.clip(a, -p["value"], p["value"], out=a)
    elif name == "sign":
        for a in parts:
            np.sign(a, out=a)
    elif name == "norm":
        order = {"1": 1, "2": 2, "inf": np.inf}[p.get("norm_type", "2")]
        total = float(np.linalg.norm(np.concatenate([a.ravel() for a in parts]), order))
        if p.get("rule", "torch") == "torch":
            factor = min(1.0, p["max_norm"] / (total + 1e-6))
        else:
            factor = p["max_norm"] / total if total >= p["max_norm"] else 1.0
        for a in parts:
            a *= factor
    elif name == "band" and p.get("scope") == "all":
        total = float(np.linalg.norm(np.concatenate([a.ravel() for a in parts])))
        for a in parts:
            a *= _into(total, p["floor"], p["ceiling"])
    elif name == "agc":
        for (n, at, matrix, last), a in zip(copies, parts, strict=True):
            if last and not p.get("last", False):
                continue
            rows = zip(a, w[n][at], strict=True) if matrix else [(a, w[n][at])]
            for row, own in rows:
                most = p.get("clipping", 0.01) * max(float(np.linalg.norm(own)), p.get("eps", 1e-3))
                size = float(np.linalg.norm(row))
                if size > most:
                    row *= most / size
    else:
        for a in parts:
            size = float(np.linalg.norm(a))
            if name == "layer":
                a *= min(1.0, p["max_norm"] / size) if size else 1.0
            elif name == "unit_norm":
                a *= 1.0 / size if size else 1.0
            elif name == "band":
                a *= _into(size, p["floor"], p["ceiling"])
            else:
                raise AssertionError(name)


def _into(size: float, floor: float, ceiling: float) -> float:
    if size > ceiling:
        return ceiling / size
    return floor / size if 0 < size < floor else 1.0


def constrain(name: str, p: Mapping[str, Any], w: Array) -> None:
    """Bring a matrix back in place."""
    if name == "max_norm":
        for row in w:
            row *= min(1.0, p["limit"] / float(np.linalg.norm(row)))
        return
    u, s, v = np.linalg.svd(w, full_matrices=False)
    if name == "orthogonal":
        w[...] = p.get("gain", 1.0) * (u @ v)
    else:
        w *= min(1.0, p["limit"] / float(s[0]))


def train(
    layers: Sequence[Any],
    parameters: Mapping[str, Array],
    batches: Iterator[tuple[Array, Array]] | Sequence[tuple[Array, Array]],
    loss: Mapping[str, Any],
    optimizer: tuple[str, Mapping[str, Any]],
    clips: Sequence[tuple[str, Mapping[str, Any]]] = (),
    constraints: Sequence[tuple[str, Mapping[str, Any]]] = (),
    rates: Callable[[int], float] = lambda step: 1.0,
) -> tuple[Arrays, list[float]]:
    """The parameters after one step a batch, and each batch's loss before its step."""
    w = {name: np.array(value, np.float64) for name, value in parameters.items()}
    rule, memory = OPTIMIZERS[optimizer[0]], {}  # type: dict[Any, dict[str, Any]]
    losses = []
    for step, (x, y) in enumerate(batches):
        found = gradients(layers, w, x, target=y, loss=loss)
        losses.append(float(found.loss or 0.0))
        g = {name: found.array(name).copy() for name in w}
        last = [name for name in w if name.endswith("weight")][-1].removesuffix("weight")
        copies: list[Copy] = []
        for name in w:
            lead = found.parameters[name][1].shape
            ends = tuple(n - 1 for n in lead)
            for at in np.ndindex(*lead):
                of_last = name in (f"{last}weight", f"{last}bias") and at == ends
                copies.append((name, at, w[name].ndim - len(lead) == 2, of_last))
        for kind, params in clips:
            clip(kind, params, g, w, copies)
        for name, at, matrix, _ in copies:
            p = {**optimizer[1], "lr": optimizer[1]["lr"] * rates(step)}
            w[name][at] = rule(w[name][at], g[name][at], memory.setdefault((name, at), {}), step + 1, p)
            for kind, params in constraints if matrix else ():
                constrain(kind, params, w[name][at])
    return w, losses
