"""Layer: theory, initial weights. Mean and variance of an entry for every initializer of the catalogue.

Knows initializers by name and the fans of a layer; knows no network and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._checks import as_size
from ..errors import ArgumentError
from ..initializers import FromArray, as_initializer

__all__ = ["WeightLaw", "weight_law"]


@dataclass(frozen=True)
class WeightLaw:
    """Law of an entry of a fresh weight or bias: ``mean``, ``variance``, and whether rows are orthogonal.

    ``bound`` is the largest magnitude that can occur, infinite for normal entries.
    """

    mean: float
    variance: float
    bound: float = math.inf
    orthogonal: bool = False

    @property
    def second_moment(self) -> float:
        """Mean of the square of an entry."""
        return self.mean**2 + self.variance


def weight_law(init: Any, fan_out: int, fan_in: int) -> WeightLaw:
    """Return mean, variance and bound of an entry of a weight (fan_out, fan_in) as an initializer draws it.

    Formula: that of the initializer (``vg.initializers.describe(name)``); ``sigma_w2 = fan_in * variance``.

    Args:
        init: a name from ``vg.initializers.names()``, or an object such as ``vg.initializers.he_normal()``.
        fan_out: rows of the weight.
        fan_in: columns of the weight.

    Raises:
        UnknownNameError: no such initializer.
        ArgumentError: sizes that are not positive; an initializer whose entries are not drawn alike
            (identity, an explicit array).

    Source: PyTorch's torch.nn.init; He et al. 2015; Glorot & Bengio 2010.

    Example:
        >>> weight_law("he_normal", 768, 512).variance == 2 / 512
        True
    """
    rows, cols = as_size(fan_out, "fan_out"), as_size(fan_in, "fan_in")
    given = as_initializer(init)
    if isinstance(given, FromArray):
        raise ArgumentError("init: an explicit array is not drawn from a law; give an initializer")
    spec = given.to_spec()
    return law_of(spec, rows, cols, "init")


def law_of(spec: Mapping[str, Any], rows: int, cols: int, where: str) -> WeightLaw:
    """Return the law for a description ``{"name", "params"}``, or ``{"laws"}`` as `measured` writes it.

    Errors name `where`.
    """
    if "laws" in spec:
        return spec["laws"].law()  # type: ignore[no-any-return]  # of another layer of theory
    if "array" in spec:
        raise ArgumentError(
            f"{where}: theory cannot predict explicit arrays, got one of shape {spec['array'].shape}; "
            f"give an initializer such as 'he_normal', or sigma_w2="
        )
    rule = _LAWS.get(str(spec["name"]))
    if rule is None:
        raise ArgumentError(
            f"{where}: theory cannot predict weights from {spec['name']!r}, whose entries are not drawn "
            f"alike and independently; known are {', '.join(_LAWS)}"
        )
    return rule(dict(spec["params"]), rows, cols)


def _normal(variance: float) -> WeightLaw:
    return WeightLaw(0.0, variance)


def _uniform(low: float, high: float) -> WeightLaw:
    return WeightLaw((low + high) / 2, (high - low) ** 2 / 12, max(abs(low), abs(high)))


def _symmetric(variance: float) -> WeightLaw:
    return WeightLaw(0.0, variance, math.sqrt(3.0 * variance))


def _fan(params: Mapping[str, Any], rows: int, cols: int) -> float:
    return {"fan_in": float(cols), "fan_out": float(rows)}.get(str(params["mode"]), (rows + cols) / 2)


def _he(params: Mapping[str, Any], rows: int, cols: int) -> float:
    gain = float(params["gain"])
    return 2.0 * gain**2 / ((1.0 + float(params["negative_slope"]) ** 2) * _fan(params, rows, cols))


def _glorot(params: Mapping[str, Any], rows: int, cols: int) -> float:
    return 2.0 * float(params["gain"]) ** 2 / (rows + cols)


def _scaling(params: Mapping[str, Any], rows: int, cols: int) -> WeightLaw:
    variance = float(params["scale"]) / _fan(params, rows, cols)
    return _symmetric(variance) if params["distribution"] == "uniform" else _normal(variance)


def _truncated(params: Mapping[str, Any], rows: int, cols: int) -> WeightLaw:
    """Moments of a normal law cut at a and b, both absolute."""
    mean, std, low, high = (float(params[key]) for key in ("mean", "std", "a", "b"))
    if std == 0.0:
        return WeightLaw(mean, 0.0, abs(mean))
    alpha, beta = (low - mean) / std, (high - mean) / std
    mass = 0.5 * (math.erfc(alpha / math.sqrt(2)) - math.erfc(beta / math.sqrt(2)))
    at_low, at_high = (math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (alpha, beta))
    shift = (at_low - at_high) / mass
    ends = (alpha * at_low if math.isfinite(alpha) else 0.0) - (
        beta * at_high if math.isfinite(beta) else 0.0
    )
    return WeightLaw(mean + std * shift, std**2 * (1 + ends / mass - shift**2), max(abs(low), abs(high)))


def _orthogonal(params: Mapping[str, Any], rows: int, cols: int) -> WeightLaw:
    return WeightLaw(0.0, float(params["gain"]) ** 2 / max(rows, cols), abs(float(params["gain"])), True)


def _sparse(params: Mapping[str, Any], rows: int, cols: int) -> WeightLaw:
    zeros = math.ceil(float(params["sparsity"]) * rows)
    return _normal((1.0 - zeros / rows) * float(params["std"]) ** 2)


def _constant(value: float) -> WeightLaw:
    return WeightLaw(value, 0.0, abs(value))


_Law = Callable[[dict[str, Any], int, int], WeightLaw]

_LAWS: dict[str, _Law] = {
    "zeros": lambda p, rows, cols: _constant(0.0),
    "ones": lambda p, rows, cols: _constant(1.0),
    "constant": lambda p, rows, cols: _constant(float(p["value"])),
    "normal": lambda p, rows, cols: WeightLaw(float(p["mean"]), float(p["std"]) ** 2),
    "uniform": lambda p, rows, cols: _uniform(float(p["low"]), float(p["high"])),
    "truncated_normal": _truncated,
    "lecun_normal": lambda p, rows, cols: _normal(float(p["gain"]) ** 2 / cols),
    "lecun_uniform": lambda p, rows, cols: _symmetric(float(p["gain"]) ** 2 / cols),
    "glorot_normal": lambda p, rows, cols: _normal(_glorot(p, rows, cols)),
    "glorot_uniform": lambda p, rows, cols: _symmetric(_glorot(p, rows, cols)),
    "he_normal": lambda p, rows, cols: _normal(_he(p, rows, cols)),
    "he_uniform": lambda p, rows, cols: _symmetric(_he(p, rows, cols)),
    "standard": lambda p, rows, cols: _symmetric(1.0 / (3.0 * cols)),
    "variance_scaling": _scaling,
    "mean_field": lambda p, rows, cols: _normal(float(p["sigma_w2"]) / cols),
    "edge_of_chaos": lambda p, rows, cols: _normal((float(p["sigma_w2"]) or 1.0) / cols),
    "orthogonal": _orthogonal,
    "sparse": _sparse,
}
