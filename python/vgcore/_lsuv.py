"""Layer: the network. Layer-sequential unit variance: a start that the data set, one layer after the other.

Knows layers, names and arrays, and runs single layers as networks of their own; one pass over the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._layer_values import values_of
from .errors import ArgumentError
from .initializers import FromArray, Initializer
from .layers import Dense, Layer, Repeat, replace_name
from .parametrizations import Parametrization

if TYPE_CHECKING:
    from .network import Network

__all__ = ["unit_variance"]

Arrays = dict[str, NDArray[Any]]


def unit_variance(
    net: Network, x: NDArray[Any], tolerance: float, max_iterations: int
) -> dict[str, NDArray[Any]]:
    """Return the parameters of `net` as LSUV starts them for the checked input `x`, (batch, in_features)."""
    given = net.parameters()
    kind = type(net)
    start = kind(net.in_features, _edited(net.layers, _orthogonal), dtype=net.dtype, rng=net.seed)
    values = start.parameters()
    for name, value in given.items():
        if name in values and value.ndim >= 2 and not value.any():
            values[name] = value  # meant to start as nothing, as the last weights of a Fixup branch are
    _Fit(kind, tolerance, max_iterations).chain(net.layers, net.in_features, values, "", x, "", True)
    return values


def _edited(layers: Sequence[Layer], edit: Callable[[Layer, dict[str, Any]], None]) -> list[Layer]:
    """The same layers, those inside others too, after `edit` changed the values of their fields."""
    found = []
    for layer in layers:
        values = values_of(layer)
        edit(layer, values)
        for part in ("body", "shortcut"):
            if isinstance(values.get(part), tuple) and values[part]:
                values[part] = _edited(values[part], edit)
        found.append(layer.from_fields(values))
    return found


def _orthogonal(layer: Layer, values: dict[str, Any]) -> None:
    """A Dense starts with orthonormal weights."""
    if isinstance(layer, Dense):
        values["init"] = Initializer("orthogonal")


def _bare(layer: Layer, values: dict[str, Any]) -> None:
    """Explicit arrays, which may be for many steps, are left out."""
    for name, value in values.items():
        if isinstance(value, FromArray):
            values[name] = Initializer("zeros")


class _Fit:
    """Goes through layers in forward order. `values` hold one copy's parameters, as views that it changes."""

    def __init__(self, kind: type[Network], tolerance: float, most: int) -> None:
        """Keep what every layer is held to; single layers become networks of class `kind`, once each."""
        self.kind, self.tolerance, self.most = kind, tolerance, most
        self.alone: dict[tuple[int, int], Network] = {}

    def chain(
        self,
        layers: Sequence[Layer],
        width: int,
        values: Arrays,
        path: str,
        x: NDArray[Any],
        where: str,
        fits: bool,
    ) -> NDArray[Any]:
        """Fit every Dense of a chain to its input and return what comes out; not `fits`: only run it."""
        for index, layer in enumerate(layers):
            part = str(index) if layer.name is None else layer.name
            own = f"{path}{part}." if part else path
            if isinstance(layer, Dense) and fits:
                x = self.dense(layer, width, values, own, x, f"{own.rstrip('.')}{where}")
            elif isinstance(layer, Repeat):
                x = self.repeat(layer, width, values, own, x, where, fits)
            else:
                for prefix, inner in layer.branches() if fits else ():
                    below = own + "".join(f"{p}." for p in prefix)
                    self.chain(inner, width, values, below, x, where, True)
                x = self.run(layer, width, values, own, x)
            width = layer.out_features(width)
        return x

    def repeat(
        self, layer: Repeat, width: int, values: Arrays, path: str, x: NDArray[Any], where: str, fits: bool
    ) -> NDArray[Any]:
        """Each step of a Repeat in turn; steps that share their parameters are fitted to the first input."""
        inside = {name: value for name, value in values.items() if name.startswith(path)}
        for i in range(layer.n):
            copy = inside if layer.tied else {name: value[i] for name, value in inside.items()}
            at = where if layer.tied or layer.n == 1 else f"{where}[{i}]"
            x = self.chain(layer.body, width, copy, path, x, at, fits and (i == 0 or not layer.tied))
            width = layer.out_features(width)
        return x

    def dense(
        self, layer: Dense, width: int, values: Arrays, path: str, x: NDArray[Any], where: str
    ) -> NDArray[Any]:
        """Scale the weight of a Dense until the variance of its output is within the tolerance of one."""
        made = layer.parametrization
        matrix, scaled = made.leaves if isinstance(made, Parametrization) else ("weight", "weight")
        y = self.run(layer, width, values, path, x)
        if not values[path + matrix].any():
            return y
        for _ in range(self.most):
            variance = float(np.var(y, dtype=np.float64))
            if not (0.0 < variance < np.inf):
                raise ArgumentError(
                    f"x: lsuv cannot scale {where!r} to unit variance: its output has variance "
                    f"{variance:g} over the {len(x)} samples; give more or other samples, or an activation "
                    f"before it that is not dead"
                )
            if abs(variance - 1.0) < self.tolerance:
                break
            values[path + scaled][...] /= np.sqrt(variance)
            y = self.run(layer, width, values, path, x)
        return y

    def run(self, layer: Layer, width: int, values: Arrays, path: str, x: NDArray[Any]) -> NDArray[Any]:
        """Return the output of one layer alone."""
        key = (id(layer), width)
        if key not in self.alone:
            self.alone[key] = self.kind(
                width, _edited([replace_name(layer, "")], _bare), dtype=x.dtype, rng=0
            )
        net = self.alone[key]
        needed = net.parameter_shapes()
        if needed:
            net.load_parameters({name: values[path + name] for name in needed})
        return np.asarray(net.forward(x))
