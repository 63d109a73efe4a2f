"""Layer: model description. How ``vg.mlp(skip=...)`` builds its steps: one function and one line a kind.

Knows layers, not Network. A kind added to the table is known to `mlp`, to studies and to the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import activations
from ._checks import shown
from .branches import Concat, Highway, Residual
from .errors import ArgumentError, nearest
from .initializers import AnyInitializer, FromArray, Initializer, describe
from .layers import Activation, Dense, Layer, Repeat, replace_name
from .normalisation import LayerNorm, Normalisation, as_norm

__all__ = ["SKIPS", "Parts", "Skip", "build", "deepnorm_constants", "fixup_factor", "names", "scaled_init"]


@dataclass(frozen=True)
class Parts:
    """What the steps of a network are made of."""

    depth: int
    width: int
    activation: Activation
    dense: Callable[[int, str], Dense]
    """A Dense of a width and a name, with the weights that the caller asked for."""
    norm: str | Normalisation | None = None
    """The normalisation of each step; a name means the layer that suits the step's width."""
    norm_position: str = "pre"
    """Whether it stands before the activation ("pre") or behind it ("post")."""
    number: int = 0
    """What the kind is given behind a colon, as in "long:8"."""

    def curved(self, name: str = "", width: int | None = None) -> list[Layer]:
        """The activation with the normalisation around it."""
        made = as_norm(self.norm, self.width if width is None else width)
        norm = [] if made is None else [replace_name(made, f"{name}_norm" if name else "norm")]
        curve: Layer = self.activation
        if name and curve.own_parameters(1):
            # Steps with names of their own stand in one list: what they learn needs a name each, too.
            curve = replace_name(curve, f"{name}_{curve.name or 'act'}")
        return [*norm, curve] if self.norm_position == "pre" else [curve, *norm]

    def step(self, name: str = "", width: int | None = None) -> list[Layer]:
        """Dense, normalisation, activation."""
        features = self.width if width is None else width
        return [self.dense(features, name), *self.curved(name, features)]

    def before(self, name: str = "") -> list[Layer]:
        """Normalisation, activation, Dense: what stands before its weights."""
        return [*self.curved(name), self.dense(self.width, name)]

    def scaled(self, name: str, factor: float, following: Activation | None = None) -> Dense:
        """A Dense whose weights start `factor` times as large; 0 for zeros."""
        dense = self.dense(self.width, name)
        if factor == 0.0:
            return replace(dense, init="zeros")
        init = dense.init
        if init is None:
            function = "identity" if following is None else following.function
            init = Initializer(str(activations.describe(function).extra["fits"]))
        return replace(dense, init=scaled_init(init, factor))  # type: ignore[arg-type]  # Dense has resolved it

    def hidden(self, step: list[Layer]) -> list[Layer]:
        """All steps, alike."""
        return [Repeat(step, self.depth, name="hidden")]


# --- kinds --------------------------------------------------------------------------------------------------


def _plain(p: Parts) -> list[Layer]:
    return p.hidden(p.step())


def _residual(p: Parts) -> list[Layer]:
    return p.hidden([Residual(p.step(), name="")])


def _pre_activation(p: Parts) -> list[Layer]:
    return p.hidden([Residual(p.before(), name="")])


def _rezero(p: Parts) -> list[Layer]:
    return p.hidden([Residual(p.step(), scale=0.0, learned=True, name="")])


def _skipinit(p: Parts) -> list[Layer]:
    return p.hidden([Residual(p.before(), scale=0.0, learned=True, name="")])


def _scaled(p: Parts) -> list[Layer]:
    return p.hidden([Residual(p.step(), scale=1.0 / math.sqrt(p.depth), name="")])


def _fixup(p: Parts) -> list[Layer]:
    lower = p.scaled("lower", fixup_factor(p.depth, 2), p.activation)
    body = [lower, *p.curved(), p.scaled("upper", 0.0)]
    return p.hidden([Residual(body, scale=1.0, learned=True, name="")])


def _highway(p: Parts) -> list[Layer]:
    if p.norm is not None:
        return p.hidden([Highway(p.step("transform"), name="")])
    dense = p.dense(p.width, "transform")
    return p.hidden([Highway(activation=p.activation, bias=dense.bias, init=dense.init, name="")])


def _dense(p: Parts) -> list[Layer]:
    growth = max(1, p.width // 8)
    return [Concat(p.step(width=growth), name=f"hidden{step}") for step in range(p.depth)]


def _unet(p: Parts) -> list[Layer]:
    if p.depth < 3:
        raise ArgumentError(f"skip: 'unet' needs at least 3 steps, down, bottom and up, got depth={p.depth}")
    levels = min(4, (p.depth - 1) // 2)
    each, left = divmod(p.depth, 2 * levels + 1)
    inner: list[Layer] = []
    for level in range(levels, -1, -1):
        width = max(1, p.width >> level)
        if level == levels:  # the bottom takes what does not divide
            inner = _run(p, "bottom", each + left, width)
        else:
            up, down = (_run(p, f"{way}{level}", each, width) for way in ("up", "down"))
            inner = [*down, Concat(inner, name=""), *up]
    return inner


def _run(p: Parts, name: str, steps: int, width: int) -> list[Layer]:
    """Steps of one width, whose first may come from another."""
    first = p.step(name, width)
    more: list[Layer] = [Repeat(p.step(width=width), steps - 1, name=f"{name}_more")] if steps > 1 else []
    return [*first, *more]


def _long(p: Parts) -> list[Layer]:
    if not 1 <= p.number <= p.depth:
        raise ArgumentError(
            f"skip: expected 'long:k' with k from 1 to depth={p.depth}, the steps under one shortcut, "
            f"got 'long:{p.number}'"
        )
    blocks, rest = divmod(p.depth, p.number)
    block = Residual([Repeat(p.step(), p.number, name="")], name="")
    layers: list[Layer] = [Repeat([block], blocks, name="hidden")]
    return [*layers, Repeat(p.step(), rest, name="rest")] if rest else layers


def _deepnorm(p: Parts) -> list[Layer]:
    if p.norm is not None:
        raise ArgumentError("norm and skip='deepnorm' both say how each step is normalised: leave norm= out")
    alpha, beta = deepnorm_constants(p.depth / 2)
    body = [p.scaled("lower", beta, p.activation), p.activation, p.scaled("upper", beta)]
    return p.hidden([Residual(body, shortcut=alpha, name=""), LayerNorm(name="norm")])


@dataclass(frozen=True)
class Skip:
    """A kind of skip connection."""

    name: str
    formula: str
    summary: str
    reference: str
    build: Callable[[Parts], list[Layer]]
    numbered: bool = False
    """It is written with a number: "long:8"."""


SKIPS: Mapping[str, Skip] = {
    skip.name: skip
    for skip in (
        Skip("residual", "x + act(dense(x))", "An identity shortcut around every step.",
             "He et al. 2016, arXiv:1512.03385", _residual),
        Skip("pre_activation", "x + dense(act(x))", "Nothing but sums lies between the input and the output.",
             "He et al. 2016, arXiv:1603.05027", _pre_activation),
        Skip("rezero", "x + a act(dense(x)), a learned from 0", "Starts as the identity, at any depth.",
             "Bachlechner et al. 2021, arXiv:2003.04887", _rezero),
        Skip("skipinit", "x + a dense(act(x)), a learned from 0", "A pre-activation step that does.",
             "De, Smith 2020, arXiv:2002.10444", _skipinit),
        Skip("scaled", "x + act(dense(x)) / sqrt(depth)", "All steps together grow variances e-fold.",
             "Hanin, Rolnick 2018, arXiv:1803.01719", _scaled),
        Skip("fixup", "x + a dense(act(dense(x))), a learned from 1",
             "Two layers a step: the lower starts depth^(-1/2) times as large, the upper at zero. The "
             "paper's scalar biases are the layers' own here. The classifier does not start at zero, as it "
             "does there: no gradient would reach the steps at first.",
             "Zhang, Dauphin, Ma 2019, arXiv:1901.09321", _fixup),
        Skip("deepnorm", "layer_norm(alpha x + dense(act(dense(x))))",
             "alpha = (2N)^(1/4), and weights beta = (8N)^(-1/4) times as large. A transformer's layer has "
             "two branches, so N is half of the depth.",
             "Wang et al. 2022, arXiv:2203.00555", _deepnorm),
        Skip("highway", "t act(dense(x)) + (1 - t) x, t = sigmoid(gate(x))", "A learned gate for each unit.",
             "Srivastava, Greff, Schmidhuber 2015, arXiv:1505.00387", _highway),
        Skip("dense", "[x, act(dense(x))]",
             "Each step adds width // 8 features to all that came before: the output is wide.",
             "Huang et al. 2017, arXiv:1608.06993", _dense),
        Skip("unet", "[x, up(bottom(down(x)))]",
             "Up to four levels, each half as wide as the one above, whose input joins its output.",
             "Ronneberger, Fischer, Brox 2015, arXiv:1505.04597", _unet),
        Skip("long", "x + step(... step(x)), k steps", "A shortcut around every k steps, written long:k.",
             "He et al. 2016, arXiv:1512.03385", _long, numbered=True),
    )
}  # fmt: skip


def names() -> list[str]:
    """Return the names of all kinds, as `skip` takes them."""
    return [f"{skip.name}:k" if skip.numbered else skip.name for skip in SKIPS.values()]


def build(skip: Any, parts: Parts) -> list[Layer]:
    """Return the hidden layers of a network with that kind of skip connection; None for none.

    Raises:
        ArgumentError: no such kind, or one that these parts cannot make.
    """
    if skip is None:
        return _plain(parts)
    head, colon, tail = skip.partition(":") if isinstance(skip, str) else ("", "", "")
    kind = SKIPS.get(head)
    if kind is None or kind.numbered != bool(colon) or (kind.numbered and not tail.isdecimal()):
        listed = ", ".join(["None", *map(repr, names())])
        known = [f"{name}:4" if SKIPS[name].numbered else name for name in SKIPS]
        guess = nearest(skip, known) if isinstance(skip, str) else None
        hint = f"; did you mean {guess!r}?" if guess else ""
        raise ArgumentError(f"skip: expected one of {listed}, got {shown(skip)}{hint}")
    return kind.build(replace(parts, number=int(tail)) if colon else parts)


# --- constants ----------------------------------------------------------------------------------------------


def fixup_factor(branches: int, layers: int) -> float:
    """Return what Fixup multiplies the weights in a branch by: ``L^(-1 / (2m - 2))``, m layers in each of L.

    Example:
        >>> fixup_factor(100, 2)
        0.1

    Source: Zhang, Dauphin, Ma 2019, arXiv:1901.09321, section 3, rule 2.
    """
    return math.pow(branches, -1.0 / (2 * layers - 2))


def deepnorm_constants(layers: float) -> tuple[float, float]:
    """Return DeepNorm's ``alpha = (2N)^(1/4)`` and ``beta = (8N)^(-1/4)`` for N layers of two branches each.

    Example:
        >>> [round(value, 6) for value in deepnorm_constants(8)]
        [2.0, 0.353553]

    Source: Wang et al. 2022, arXiv:2203.00555, figure 2.
    """
    return math.pow(2.0 * layers, 0.25), math.pow(8.0 * layers, -0.25)


#: Parameters of initializers that are in proportion to the weights, or to their squares.
_LINEAR = ("gain", "std", "mean", "low", "high", "value", "noise")
_SQUARE = ("scale", "sigma_w2")
#: Those that find their size out from the activation where it is 0.
_FOUND_OUT: Mapping[str, str] = {"edge_of_chaos": "sigma_w2", "looks_linear": "gain"}


def scaled_init(init: AnyInitializer, factor: float) -> AnyInitializer:
    """Return an initializer whose weights are `factor` times as large as those of `init`.

    Raises:
        ArgumentError: it has no parameter for its size, or finds it out from the layer's activation.

    Example:
        >>> import vgcore as vg
        >>> scaled_init(vg.initializers.glorot_normal(), 0.5)
        glorot_normal(gain=0.5)
    """
    if isinstance(init, FromArray):
        return FromArray((init.array * factor).astype(init.array.dtype), weak=init.weak)
    params = describe(init.name).check_params(init.params)
    if init.name == "zeros":
        return init
    size = _FOUND_OUT.get(init.name)
    if size is not None and params[size] == 0.0:
        raise ArgumentError(
            f"init: {init!r} takes its size from the activation, and this skip= changes it; say the size to "
            f"change, as in vg.initializers.{init.name}({size}=1.0)"
        )
    if init.name == "ones":
        return Initializer("constant", {"value": factor})
    if init.name == "standard":  # has no size of its own; this draws by the same law
        return Initializer("lecun_uniform", {"gain": factor / math.sqrt(3.0)})
    found = {key: params[key] * factor for key in _LINEAR if key in params}
    found |= {key: params[key] * factor * factor for key in _SQUARE if key in params}
    if init.name == "truncated_normal":  # its bounds are absolute
        found |= {key: params[key] * factor for key in ("a", "b")}
    if not found:
        raise ArgumentError(
            f"init: {init!r} has no parameter for its size, which this skip= changes; "
            f"choose another, such as 'glorot_normal' or 'orthogonal'"
        )
    return Initializer(init.name, {**init.params, **found})
