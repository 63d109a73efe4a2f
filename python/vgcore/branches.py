"""Layer: model description. Layers that branch or draw: shortcuts, gates, concatenation, dropout.

Knows layers, not the compiled network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ._checks import as_flag, as_real, shown
from .errors import ArgumentError, ShapeError
from .initializers import Initializer, as_initializer
from .layers import (
    Activation,
    Container,
    Context,
    Dense,
    InitLike,
    Layer,
    as_layers,
    chain_specs,
    check_name,
    width_after,
)

__all__ = ["Concat", "Dropout", "Highway", "Residual"]


@dataclass(frozen=True, init=False)
class Residual(Container):
    """A body with a shortcut: ``y = shortcut(x) + scale * body(x)``.

    Args:
        body: the layers of the branch.
        scale: factor of the branch.
        learned: the factor is a parameter, named ``scale``, of shape (1,), that starts at `scale`. From 0 the
            layer starts as its shortcut: ReZero, SkipInit.
        shortcut: a number multiplies the input; layers project it to the body's width. Their parameters are
            named ``shortcut.0.weight`` and so on.
        survival: probability that the branch is there in training, drawn once a batch from the network's seed
            and the step's number (stochastic depth). A branch that is left out is not computed, in either
            direction. Inference multiplies the branch by the probability.
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: `scale` or a `shortcut` is not a finite number, `survival` not a probability above 0,
            the body is empty or not made of layers.

    Example:
        >>> import vgcore as vg
        >>> vg.Residual([vg.Activation("relu"), vg.Dense(64)], scale=0.5).scale
        0.5
        >>> block = vg.Residual([vg.Dense(8), vg.Activation("tanh")], shortcut=vg.Dense(8, bias=False))
        >>> vg.Network(4, [block]).parameter_shapes()["0.shortcut.0.weight"]
        (8, 4)

    Source: He et al. 2016, arXiv:1512.03385, eq. 2; Huang et al. 2016, arXiv:1603.09382, eqs. 2 and 5;
    Bachlechner et al. 2021, arXiv:2003.04887, eq. 2; De, Smith 2020, arXiv:2002.10444.
    """

    kind: ClassVar[str] = "residual"
    body: tuple[Layer, ...] = field()
    scale: float = field(default=1.0, kw_only=True)
    learned: bool = field(default=False, kw_only=True)
    shortcut: float | tuple[Layer, ...] = field(default=1.0, kw_only=True)
    survival: float = field(default=1.0, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __init__(
        self,
        body: Layer | Sequence[Layer],
        *,
        scale: float = 1.0,
        learned: bool = False,
        shortcut: float | Layer | Sequence[Layer] = 1.0,
        survival: float = 1.0,
        name: str | None = None,
    ) -> None:
        """Check every argument."""
        put = object.__setattr__
        put(self, "body", as_layers(body, "body"))
        put(self, "scale", as_real(scale, "scale"))
        put(self, "learned", as_flag(learned, "learned"))
        layers = isinstance(shortcut, (Layer, Sequence)) and not isinstance(shortcut, str)
        put(self, "shortcut", as_layers(shortcut, "shortcut") if layers else as_real(shortcut, "shortcut"))
        put(self, "survival", _probability(survival, "survival", "0 < survival <= 1"))
        if self.survival == 0.0:
            raise ArgumentError(
                "survival: expected 0 < survival <= 1, got 0: the branch would never be there; leave it out"
            )
        check_name(name)
        put(self, "name", name)

    @property
    def projection(self) -> tuple[Layer, ...]:
        """The layers of the shortcut; none for a number."""
        return self.shortcut if isinstance(self.shortcut, tuple) else ()

    def describe(self) -> str:
        """Return the layer in one line for `Network.summary`, where a projection has lines of its own."""
        return replace(self, shortcut=1.0).describe() if self.projection else super().describe()

    def branches(self) -> tuple[tuple[tuple[str, ...], tuple[Layer, ...]], ...]:
        """Return the projection and the body."""
        body: tuple[tuple[tuple[str, ...], tuple[Layer, ...]], ...] = (((), self.body),)
        return ((("shortcut",), self.projection), *body) if self.projection else body

    def own_parameters(self, in_features: int) -> dict[str, tuple[int, ...]]:
        """Return the scale, if it is learned."""
        return {"scale": (1,)} if self.learned else {}

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        inner = replace(context, where=f"{context.where}.body", inside="Residual")
        body = chain_specs(self.body, inner)
        shortcut: list[dict[str, Any]] = []
        if self.projection:
            shortcut = chain_specs(self.projection, replace(inner, where=f"{context.where}.shortcut"))
            ends = (self.out_features(context.in_features), width_after(self.projection, context.in_features))
            if ends[0] != ends[1]:
                raise ShapeError(
                    f"{context.where}: a Residual adds its shortcut to its body, which need one width; the "
                    f"shortcut ends with {ends[1]} features, the body with {ends[0]}; end one of them with "
                    f"Dense({ends[0]})"
                )
        else:
            self._check_width(
                context, "the shortcut is added to it; or give a projection, shortcut=Dense(...)"
            )
        return {
            "kind": self.kind,
            "scale": self.scale,
            "learned": self.learned,
            "gain": 1.0 if self.projection else self.shortcut,
            "shortcut": shortcut,
            "survival": self.survival,
            "body": body,
        }


@dataclass(frozen=True, init=False)
class Highway(Container):
    """A gated shortcut: ``y = t h + (1 - t) x``, where ``t = sigmoid(gate(x))`` and h is the transform.

    The transform is ``activation(dense(x))``, or `body`. The gate is a Dense whose bias starts at
    `transform_bias`: below zero the layer starts near the identity. With ``coupled=False`` the carry gate is
    a branch of its own, ``y = t h + c x`` with ``c = sigmoid(carry(x))``, whose bias starts at
    ``-transform_bias``.

    Parameters are named ``transform.weight`` (n, n), ``transform.bias``, ``gate.weight``, ``gate.bias`` and,
    not coupled, ``carry.weight``, ``carry.bias``; those of a `body` as in a Residual.

    Args:
        body: the layers of h, which keep the width; None for a Dense with `activation`.
        activation: of the transform, "tanh" if not given.
        transform_bias: start of the gate's bias.
        coupled: whether the carry gate is ``1 - t``.
        bias: whether the transform's Dense has a bias; gates have one always.
        init: how the transform's weight starts (see Dense).
        gate_init: how the weights of the gates start (see Dense).
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: `transform_bias` is not a finite number, a body together with what is for a Dense.
        UnknownNameError: no such activation or initializer.

    Example:
        >>> import vgcore as vg
        >>> list(vg.Network(8, [vg.Highway(activation="relu")]).parameter_shapes())
        ['0.gate.weight', '0.gate.bias', '0.transform.weight', '0.transform.bias']

    Source: Srivastava, Greff, Schmidhuber 2015, arXiv:1505.00387, eqs. 2 and 3.
    """

    kind: ClassVar[str] = "highway"
    body: tuple[Layer, ...] = field(default=())
    activation: Activation | None = field(default=None, kw_only=True)
    transform_bias: float = field(default=-1.0, kw_only=True)
    coupled: bool = field(default=True, kw_only=True)
    bias: bool = field(default=True, kw_only=True)
    init: InitLike | None = field(default=None, kw_only=True)
    gate_init: InitLike | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __init__(
        self,
        body: Layer | Sequence[Layer] | None = None,
        *,
        activation: str | Activation | None = None,
        transform_bias: float = -1.0,
        coupled: bool = True,
        bias: bool = True,
        init: InitLike | None = None,
        gate_init: InitLike | None = None,
        name: str | None = None,
    ) -> None:
        """Check every argument."""
        put = object.__setattr__
        own = body is None
        if not own and (activation is not None or init is not None):
            what = "activation" if activation is not None else "init"
            raise ArgumentError(
                f"{what} and body both say what the transform is: put {what}= into the body's own layers"
            )
        put(self, "body", () if body is None else as_layers(body, "body"))
        if own:
            activation = "tanh" if activation is None else activation
            if not isinstance(activation, (str, Activation)):
                raise ArgumentError(
                    f"activation: expected a name such as 'tanh' or a vg.Activation, got {shown(activation)}"
                )
            if isinstance(activation, str):
                activation = Activation(activation)
        put(self, "activation", activation)
        put(self, "transform_bias", as_real(transform_bias, "transform_bias"))
        put(self, "coupled", as_flag(coupled, "coupled"))
        put(self, "bias", as_flag(bias, "bias"))
        put(self, "init", None if init is None else as_initializer(init, "init"))
        put(self, "gate_init", None if gate_init is None else as_initializer(gate_init, "gate_init"))
        check_name(name)
        put(self, "name", name)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Layer:
        """Build the layer from the values of its fields, where no layers are no body."""
        return cls(**{**values, "body": values["body"] or None})

    def parts(self, in_features: int) -> dict[str, tuple[Layer, ...]]:
        """Return the chains of layers that it is made of, those of a body apart: gate, carry, body."""

        def gate(name: str, start: float) -> tuple[Layer, ...]:
            bias = Initializer("constant", {"value": start})
            dense = Dense(in_features, init=self.gate_init, bias_init=bias, name=name)
            return (dense, Activation("sigmoid", name=name))

        parts = {"gate": gate("gate", self.transform_bias)}
        if not self.coupled:
            parts = {"carry": gate("carry", -self.transform_bias), **parts}
        if self.activation is not None:
            dense = Dense(in_features, bias=self.bias, init=self.init, name="transform")
            function = Activation(self.activation.function, name="transform", **self.activation.params)
            parts["body"] = (dense, function)
        return parts

    def functions(self) -> tuple[str, ...]:
        """Return the transform's activation, unless it is a body's, and the gate's."""
        return ((self.activation.function,) if self.activation is not None else ()) + ("sigmoid",)

    def own_parameters(self, in_features: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters of the gates, and of the transform unless it is a body."""
        return {
            f"{layer.name}.{leaf}": shape
            for layers in self.parts(in_features).values()
            for layer in layers
            for leaf, shape in layer.own_parameters(in_features).items()
        }

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        inner = replace(context, inside="Highway", following=None)
        parts = {"carry": (), "body": self.body, **self.parts(context.in_features)}
        wheres = {"body": f"{context.where}.body"} if self.body else {}
        specs = {
            key: chain_specs(layers, replace(inner, where=wheres.get(key, context.where)))
            for key, layers in parts.items()
        }
        if self.body:
            self._check_width(context, "the gate mixes the two")
        return {"kind": self.kind, **specs}


@dataclass(frozen=True, init=False)
class Concat(Container):
    """A body beside its input: ``y = [x, body(x)]``, as wide as both together.

    A chain of them is dense connectivity: each layer sees the outputs of all before it. One inside the other
    are a U: what goes in at the top comes out at its end.

    Raises:
        ArgumentError: the body is empty or not made of layers.

    Example:
        >>> import vgcore as vg
        >>> vg.Network(4, [vg.Concat([vg.Dense(3), vg.Activation("relu")])]).out_features
        7

    Source: Huang et al. 2017, arXiv:1608.06993, eq. 2; Ronneberger et al. 2015, arXiv:1505.04597.
    """

    kind: ClassVar[str] = "concat"
    body: tuple[Layer, ...] = field()
    name: str | None = field(default=None, kw_only=True)

    def __init__(self, body: Layer | Sequence[Layer], *, name: str | None = None) -> None:
        """Check every argument."""
        put = object.__setattr__
        put(self, "body", as_layers(body, "body"))
        check_name(name)
        put(self, "name", name)

    def out_features(self, in_features: int) -> int:
        """Return the widths of the input and of the body's output together."""
        return in_features + width_after(self.body, in_features)

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        inner = replace(context, where=f"{context.where}.body", inside="Concat")
        return {"kind": self.kind, "body": chain_specs(self.body, inner)}


@dataclass(frozen=True)
class Dropout(Layer):
    """In training ``y = x * m / (1 - p)``, each m 0 with probability `p`, else 1; in inference ``y = x``.

    Each m is a pure function of the network's seed, the layer's path, the step's number, the row in the batch
    and the unit: the same for every thread count and memory plan, and for both float types.

    Raises:
        ArgumentError: `p` is not a probability below 1.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.Network(4, [vg.Dropout(0.5)], rng=1)
        >>> x = np.ones((9, 4), np.float32)
        >>> np.unique(net.forward(x)), np.unique(net.forward(x, training=True))
        (array([1.], dtype=float32), array([0., 2.], dtype=float32))

    Source: Srivastava et al. 2014, JMLR 15:1929, scaled while training.
    """

    kind: ClassVar[str] = "dropout"
    p: float
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every argument."""
        object.__setattr__(self, "p", _probability(self.p, "p", "0 <= p < 1"))
        if self.p == 1.0:
            raise ArgumentError("p: expected 0 <= p < 1, got 1: nothing would be left")
        check_name(self.name)

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        return {"kind": self.kind, "p": self.p}


def _probability(value: Any, name: str, range_: str) -> float:
    number = as_real(value, name)
    if not 0.0 <= number <= 1.0:
        raise ArgumentError(f"{name}: expected a probability, {range_}, got {number:g}")
    return number


def draws(layers: Sequence[Layer]) -> bool:
    """Whether a pass in training draws: some unit or branch may be left out."""
    return any(
        isinstance(layer, Dropout)
        or (isinstance(layer, Residual) and layer.survival < 1.0)
        or any(draws(inner) for _, inner in layer.branches())
        for layer in layers
    )
