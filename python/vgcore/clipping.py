"""Layer: catalogues. Clips: what is done to gradients before a step, as objects that carry their parameters.

Knows the compiled module and gradients, but no network. Every decision is made from norms with exponents of
their own: a gradient of 1e-4000 is left alone, cut or lifted as exactly as one of 1.

Example:
    >>> import vgcore as vg
    >>> vg.ClipNorm(1.0, rule="pascanu")
    ClipNorm(rule='pascanu')
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from ._arrays import as_float_array
from ._checks import shown
from ._part import Part
from ._registry import Description, Registry
from .errors import ArgumentError
from .gradients import Gradients

__all__ = [
    "AGC",
    "Clip",
    "ClipLayer",
    "ClipNorm",
    "ClipValue",
    "NormBand",
    "SignGradient",
    "UnitNorm",
    "apply",
    "as_clips",
    "describe",
    "names",
]

_registry = Registry("clip", "vg.clips.names()")


class Clip(Part):
    """What is done to gradients before a step. Several in a list work one after another."""

    registry: ClassVar[Registry] = _registry


class ClipValue(Clip):
    """No entry is larger than `value`: ``g <- min(max(g, -value), value)``. Directions change.

    Raises:
        ArgumentError: `value` is not above 0.

    Example:
        >>> import vgcore as vg
        >>> vg.ClipValue(0.5)
        ClipValue(value=0.5)

    Source: Mikolov 2012; torch.nn.utils.clip_grad_value_.
    """

    def __init__(self, value: float = 1.0) -> None:
        """Check the argument."""
        super().__init__("value", {"value": value})


class ClipNorm(Clip):
    """The norm of all gradients together is at most `max_norm`; the direction stays.

    Args:
        max_norm: largest norm.
        rule: "torch": ``g <- g min(1, max_norm / (|g| + 1e-6))``; "pascanu": ``g <- g max_norm / |g|`` where
            ``|g| >= max_norm``, and nothing else.
        norm_type: 1, 2 or infinity: sum of magnitudes, Euclidean, largest magnitude.

    Raises:
        ArgumentError: `max_norm` is not above 0, another rule or norm.

    Example:
        >>> import vgcore as vg
        >>> vg.ClipNorm(0.25)
        ClipNorm(max_norm=0.25)

    Source: Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063; torch.nn.utils.clip_grad_norm_.
    """

    def __init__(self, max_norm: float = 1.0, rule: str = "torch", norm_type: float = 2) -> None:
        """Check the arguments."""
        known = {1.0: "1", 2.0: "2", float("inf"): "inf"}
        number = isinstance(norm_type, (int, float, np.number)) and not isinstance(norm_type, bool)
        if not number or norm_type not in known:
            raise ArgumentError(f"norm_type: expected 1, 2 or infinity, got {shown(norm_type)}")
        super().__init__("norm", {"max_norm": max_norm, "rule": rule, "norm_type": known[norm_type]})

    def _arguments(self, params: Mapping[str, Any]) -> dict[str, Any]:
        order = params["norm_type"]
        return dict(params) | {"norm_type": float(order) if order == "inf" else int(order)}


class ClipLayer(Clip):
    """The gradient of each layer's copy of each parameter has at most the norm `max_norm`.

    Raises:
        ArgumentError: `max_norm` is not above 0.

    Example:
        >>> import vgcore as vg
        >>> vg.ClipLayer(0.1)
        ClipLayer(max_norm=0.1)

    Source: Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, applied layer by layer.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        """Check the argument."""
        super().__init__("layer", {"max_norm": max_norm})


class AGC(Clip):
    """Adaptive gradient clipping: a unit's gradient is at most `clipping` times as large as its weights.

    ``g <- g clipping max(|w|, eps) / |g|`` for each row of a matrix (and each vector as a whole) where
    ``|g| / max(|w|, eps) > clipping``.

    Args:
        clipping: largest ratio of the two norms.
        eps: weights count as at least this norm.
        last: clip the network's last layer too.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.AGC(0.04)
        AGC(clipping=0.04)

    Source: Brock, De, Smith, Simonyan 2021, arXiv:2102.06171.
    """

    def __init__(self, clipping: float = 0.01, eps: float = 1e-3, last: bool = False) -> None:
        """Check the arguments."""
        super().__init__("agc", {"clipping": clipping, "eps": eps, "last": last})


class NormBand(Clip):
    """Gradients whose norm is below `floor` are scaled up to it, those above `ceiling` down to it.

    Args:
        floor: least norm; a gradient of zero stays zero.
        ceiling: largest norm.
        scope: "layer" (each layer's copy of each parameter by itself) or "all" (one factor for everything).

    Raises:
        ArgumentError: a value out of range, or a floor above the ceiling.

    Example:
        >>> import vgcore as vg
        >>> vg.NormBand(0.01, 10.0)
        NormBand(floor=0.01, ceiling=10.0)

    Source: Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, with a floor beside the ceiling.
    """

    def __init__(self, floor: float = 1e-3, ceiling: float = 1.0, scope: str = "layer") -> None:
        """Check the arguments."""
        super().__init__("band", {"floor": floor, "ceiling": ceiling, "scope": scope})


class UnitNorm(Clip):
    """The gradient of each layer's copy of each parameter gets the norm one: ``g <- g / |g|``; zero stays.

    Example:
        >>> import vgcore as vg
        >>> vg.UnitNorm()
        UnitNorm()

    Source: Hazan, Levy, Shalev-Shwartz 2015, arXiv:1507.02030; by layers, Yu et al. 2017, arXiv:1707.04822.
    """

    def __init__(self) -> None:
        """Take no argument."""
        super().__init__("unit_norm", {})


class SignGradient(Clip):
    """Each entry becomes its sign, -1, 0 or 1: every weight moves by the same amount.

    Example:
        >>> import vgcore as vg
        >>> vg.SignGradient()
        SignGradient()

    Source: Riedmiller, Braun 1993; Bernstein et al. 2018, arXiv:1802.04434.
    """

    def __init__(self) -> None:
        """Take no argument."""
        super().__init__("sign", {})


def as_clips(value: Any, name: str = "clip") -> tuple[Clip, ...]:
    """Return `value` (None, a name, a Clip or several) as a tuple of clips, in order.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something else.

    Example:
        >>> as_clips(["sign", ClipNorm(1.0)])
        (sign(), ClipNorm())
    """
    if value is None:
        return ()
    given = value if isinstance(value, (list, tuple)) else [value]
    return tuple(_as_clip(item, name if item is value else f"{name}[{i}]") for i, item in enumerate(given))


def _as_clip(value: Any, name: str) -> Clip:
    if isinstance(value, Clip):
        return value
    if isinstance(value, str):
        return Clip(value)
    if isinstance(value, type) and issubclass(value, Clip):
        raise ArgumentError(f"{name}: expected an object, got the class; write vg.{value.__name__}()")
    known = ", ".join(map(repr, names()))
    raise ArgumentError(
        f"{name}: expected None, one of {known}, an object such as vg.ClipNorm(1.0), or a list of them; "
        f"got {shown(value)}"
    )


def apply(
    clip: Any,
    gradients: Gradients,
    parameters: Mapping[str, ArrayLike] | None = None,
    *,
    last: Collection[str] = (),
) -> Gradients:
    """Return what `fit` would make of `gradients` with ``clip=clip``; their exponents stay unlimited.

    Args:
        clip: as for `fit`: a clip, a name, or several in order.
        gradients: what ``net.gradients`` returned.
        parameters: ``net.parameters()``, which `AGC` compares with; zeros if None.
        last: names of the last layer's parameters, which `AGC` leaves alone.

    Raises:
        ArgumentError, UnknownNameError: no such clip; gradients or parameters of another kind.
        ShapeError, DTypeError: a parameter that is not like its gradient.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.mlp(depth=1000, width=8, activation="sigmoid", init="glorot_normal", rng=0)
        >>> g = net.gradients(np.ones((4, 8), np.float32), cotangent=np.ones((4, 8), np.float32))
        >>> bool(abs(vg.clips.apply(vg.UnitNorm(), g).log2_norm("hidden.weight")[0]) < 1e-6)
        True
    """
    chosen = [part.to_spec() for part in as_clips(clip)]
    if not isinstance(gradients, Gradients):
        raise ArgumentError(f"gradients: expected what net.gradients(...) returns, got {shown(gradients)}")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ArgumentError(
            f"parameters: expected None or net.parameters(), a mapping from names to arrays, got "
            f"{shown(parameters)}"
        )
    rows: list[Any] = []
    for name in gradients:
        mantissa, exponent = gradients.scaled(name)
        weights = None
        if parameters is not None and name in parameters:
            weights = as_float_array(
                parameters[name], name=name, dtype=mantissa.dtype, shape=mantissa.shape, finite=False
            )
        outer = np.require(exponent, np.int64, ["C", "A"])
        rows.append((mantissa, outer.reshape(-1), weights, outer.ndim, name in last))
    dtype = rows[0][0].dtype.name if rows else "float64"
    done = _core.clip(chosen, rows, dtype)
    shaped = {
        name: (mantissa, exponent.reshape(np.shape(gradients.scaled(name)[1])))
        for name, (mantissa, exponent) in zip(gradients, done, strict=True)
    }
    return gradients.replaced(shaped)


def names() -> list[str]:
    """Return the canonical names of all clips.

    Example:
        >>> "norm" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return formula, parameters and reference of one clip; ``print`` shows them.

    Raises:
        UnknownNameError: no clip has this name or alias.

    Example:
        >>> describe("clip_grad_norm").name
        'norm'
    """
    return _registry.describe(name)


def __getattr__(name: str) -> Callable[..., Clip]:
    """Return the maker of one clip by its catalogue name: ``vg.clips.norm(max_norm=0.5)``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)

    def make(**params: Any) -> Clip:
        return Clip(entry.name, params)

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the names of this module and every clip."""
    return sorted([*__all__, *names()])
