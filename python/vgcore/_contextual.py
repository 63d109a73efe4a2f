"""Layer: model description. Initial weights that depend on what stands around a layer: solved, or mirrored.

Knows layers by their descriptions and asks theory where an initializer needs numbers; draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import activations
from .errors import ArgumentError, ShapeError
from .initializers import AnyInitializer, Initializer, describe

if TYPE_CHECKING:
    from .layers import Activation, Layer

__all__ = ["DEPENDENT", "Around", "adds_up", "pairs_after", "resolved"]

#: Where phi(z) - phi(-z) is compared with c z.
_PLACES = np.array([0.25, 1.0, 3.0, 10.0])


@dataclass(frozen=True)
class Around:
    """What stands around a Dense."""

    where: str
    in_features: int
    features: int
    preceding: Activation | None
    following: Activation | None
    pairs: bool
    """Whether its input comes in pairs of opposite signs, halves side by side."""


def resolved(
    init: AnyInitializer, bias_init: AnyInitializer, bias: bool, around: Around
) -> tuple[AnyInitializer, AnyInitializer]:
    """Return both initializers of a Dense with what depends on its place filled in; others as they are.

    Raises:
        ArgumentError: no critical point, an activation that cannot look linear, a bias that is said twice.
        ShapeError: an odd width where units come in pairs.
    """
    if not isinstance(init, Initializer) or (rule := DEPENDENT.get(init.name)) is None:
        return init, bias_init
    return rule(init, bias_init, bias, around)


def _edge_of_chaos(
    init: Initializer, bias_init: AnyInitializer, bias: bool, around: Around
) -> tuple[AnyInitializer, AnyInitializer]:
    params = describe(init.name).check_params(init.params)
    w2, b2 = float(params["sigma_w2"]), float(params["sigma_b2"])
    if b2 > 0.0 and bias_init != Initializer("zeros"):
        raise ArgumentError(
            f"{around.where}: edge_of_chaos(sigma_b2={b2:g}) and bias_init both say how the bias starts: "
            f"give one of them"
        )
    if b2 > 0.0 and not bias:
        raise ArgumentError(f"{around.where}: edge_of_chaos(sigma_b2={b2:g}) needs a bias, but bias=False")
    phi = around.following or around.preceding
    if w2 == 0.0 and phi is not None:
        from .theory import critical

        try:
            w2 = critical(phi, b2).sigma_w2
        except ArgumentError as error:
            raise ArgumentError(f"{around.where}: edge_of_chaos: {error}") from None
    weight = Initializer("mean_field", {"sigma_w2": w2 or 1.0})
    return weight, Initializer("normal", {"std": math.sqrt(b2)}) if b2 > 0.0 else bias_init


def _looks_linear(
    init: Initializer, bias_init: AnyInitializer, bias: bool, around: Around
) -> tuple[AnyInitializer, AnyInitializer]:
    params = describe(init.name).check_params(init.params)
    gain, mirror = float(params["gain"]), str(params["mirror"])
    if mirror == "auto":
        out = around.following is not None
        mirror = {(True, True): "both", (True, False): "in", (False, True): "out"}.get(
            (around.pairs, out), "none"
        )
    if around.following is not None and mirror in ("both", "out"):
        _slope(around.following, around.where)
    for side, name, width in (
        ("in", "in_features", around.in_features),
        ("out", "features", around.features),
    ):
        if mirror in (side, "both") and width % 2:
            raise ShapeError(
                f"{around.where}: looks_linear needs units in pairs, so an even width there; expected an "
                f"even {name}, got {width}"
            )
    if gain == 0.0:
        paired = mirror in ("both", "in") and around.preceding is not None
        gain = 1.0 / _slope(around.preceding, around.where) if paired and around.preceding else 1.0
    return Initializer(init.name, {"gain": gain, "mirror": mirror}), bias_init


def adds_up(phi: Activation) -> bool:
    """Return whether phi(z) - phi(-z) = c z with c other than 0: what looks_linear is for.

    Example:
        >>> import vgcore as vg
        >>> adds_up(vg.Activation("gelu")), adds_up(vg.Activation("tanh"))
        (True, False)
    """
    odd = _odd(phi)
    return bool(np.allclose(odd, odd[0], rtol=1e-6, atol=0.0) and odd[0] != 0.0)


def _odd(phi: Activation) -> NDArray[np.float64]:
    """Return (phi(z) - phi(-z)) / z at a few places."""
    both = activations.value(phi.function, np.concatenate([_PLACES, -_PLACES]), **phi.params)
    return np.asarray((both[: len(_PLACES)] - both[len(_PLACES) :]) / _PLACES)


def _slope(phi: Activation, where: str) -> float:
    """The c of phi(z) - phi(-z) = c z."""
    odd = _odd(phi)
    if not adds_up(phi):
        raise ArgumentError(
            f"{where}: looks_linear needs an activation with phi(z) - phi(-z) = c z, as relu, leaky_relu, "
            f"gelu, silu and softplus have; {phi!r} has none: there the factor goes from {odd[0]:.4g} at "
            f"z = {_PLACES[0]:g} to {odd[-1]:.4g} at z = {_PLACES[-1]:g}"
        )
    return float(odd[0])


_Rule = Callable[[Initializer, AnyInitializer, bool, Around], tuple[AnyInitializer, AnyInitializer]]

#: Initializers whose numbers depend on the place of the layer.
DEPENDENT: dict[str, _Rule] = {"edge_of_chaos": _edge_of_chaos, "looks_linear": _looks_linear}


def pairs_after(layers: Sequence[Layer], following: Activation | None, before: bool) -> bool:
    """Return whether what comes out of a chain is in pairs of opposite signs, its input being so or not."""
    for index, layer in enumerate(layers):
        rest = [other for other in layers[index + 1 :] if "norm" not in other.kind]
        if layer.kind == "dense":
            init = getattr(layer, "init", None)
            mirrored = isinstance(init, Initializer) and init.name == "looks_linear"
            before = mirrored and (_leads(rest[0]) if rest else following) is not None
        elif layer.body:
            before = pairs_after(layer.body, _leads(rest[0]) if rest else following, before)
    return before


def _leads(layer: Layer) -> Activation | None:
    while layer.body:
        layer = layer.body[0]
    return layer if layer.kind == "activation" else None  # type: ignore[return-value]  # the kind says it
