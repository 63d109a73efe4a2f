"""Layer: model description. What a network is made of, as frozen values that are cheap to copy and compare.

Knows catalogues and arrays, not the compiled network. A new kind of layer is one class here: its fields,
`out_features`, `own_parameters` and `to_spec`; saving, summaries, memory estimates and name checks follow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import activations
from ._arrays import check_finite, check_shape
from ._checks import as_flag, as_real, as_size, shown
from ._contextual import Around, pairs_after, resolved
from ._layer_values import changed
from .errors import ArgumentError, DTypeError, ShapeError
from .initializers import AnyInitializer, FromArray, Initializer, as_initializer
from .parametrizations import Parametrization, as_parametrization

__all__ = ["Activation", "Container", "Dense", "Layer", "Repeat"]

InitLike: TypeAlias = "str | Initializer | FromArray | ArrayLike"

#: Containers inside containers, at most: deeper nesting is a slip (depth is what Repeat is for).
_MAX_NESTING = 64


@dataclass(frozen=True)
class Context:
    """What a layer must know of its place to describe itself to the compiled module."""

    in_features: int
    dtype: np.dtype[Any]
    where: str = "layers"
    """The place in the caller's words: ``layers[1].body[0]``."""
    copies: tuple[int, ...] = ()
    """Leading axes of a parameter: the n of every enclosing Repeat whose steps own their parameters."""
    following: Activation | None = None
    """The activation that the layer's output goes into, if it does so directly."""
    preceding: Activation | None = None
    """The activation that the layer's input comes from, if it does so directly."""
    pairs: bool = False
    """Whether its input comes in pairs of opposite signs (see `_contextual`)."""
    inside: str = ""
    """The kind of container right around the layer, if there is one: "Repeat"."""


class Layer(ABC):
    """Base of all layers: a frozen value with an optional `name`."""

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Layer]]] = {}
    name: str | None
    body: tuple[Layer, ...] = ()
    """The layers inside; none, unless this is a container."""
    unsaid: ClassVar[Mapping[str, Any]] = {}
    """Values of fields that a summary leaves out, beside the defaults."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Enter the class under its `kind`, by which saved networks are rebuilt."""
        super().__init_subclass__(**kwargs)
        if cls.kind:
            Layer.kinds[cls.kind] = cls

    def out_features(self, in_features: int) -> int:
        """Return the output's width for an input's width; the same unless a layer says otherwise."""
        return in_features

    def branches(self) -> tuple[tuple[tuple[str, ...], tuple[Layer, ...]], ...]:
        """Return the chains of layers inside, each with what its names have beside the layer's own."""
        return (((), self.body),) if self.body else ()

    def functions(self) -> tuple[str, ...]:
        """Return the names of the activations that this layer itself applies, not its body."""
        return ()

    def own_parameters(self, in_features: int) -> dict[str, tuple[int, ...]]:
        """Return leaf name and shape of each parameter of this layer itself, not of its body."""
        return {}

    @abstractmethod
    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes, without the name."""

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Layer:
        """Build the layer from the values of its dataclass fields: the inverse of reading them."""
        return cls(**values)

    def describe(self) -> str:
        """Return the layer in one line for `Network.summary`."""
        parts = []
        for f in fields(self):  # type: ignore[arg-type]  # every concrete layer is a dataclass
            value = getattr(self, f.name)
            plain = value == f.default or repr(value) == self.unsaid.get(f.name)
            if f.name not in ("name", "body") and not plain:
                parts.append(f"{f.name}={value!r}" if f.kw_only else repr(value))
        return f"{type(self).__name__}({', '.join(parts)})" if parts else type(self).__name__


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: ``y = x @ weight.T + bias``, weight (features, in_features), bias (features,).

    Args:
        features: width of the output.
        bias: whether there is a bias.
        init: how the weight starts: a name, an object from ``vg.initializers`` or an array. None takes what
            fits the activation that follows directly: he_normal before the ReLU family, lecun_normal before
            selu, else glorot_normal. Under a Repeat an array is (features, in_features), the same for each
            step, or stacked.
        bias_init: how the bias starts, in the same forms.
        sigma_w2: mean-field shorthand, instead of `init`: weights N(0, sigma_w2 / in_features).
        sigma_b2: mean-field shorthand, instead of `bias_init`: biases N(0, sigma_b2).
        parametrization: how the weight is made from what is learned: None for the weight itself, or a name
            from ``vg.parametrizations.names()``, or an object. "weight_norm" learns ``weight_v`` (features,
            in_features) and ``weight_g`` (features,), "weight_standardized" ``weight`` and ``gain``, of the
            same shapes; `init` is then that of the matrix. ``net.effective_weights()`` has the result.
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: not a positive size, contradictory arguments.
        UnknownNameError: no such initializer.

    Example:
        >>> import vgcore as vg
        >>> vg.Dense(64, init="kaiming_normal")
        Dense(features=64, bias=True, init=he_normal(), bias_init=zeros(), parametrization=None, name=None)
    """

    kind: ClassVar[str] = "dense"
    unsaid: ClassVar[Mapping[str, Any]] = {"bias_init": "zeros()"}
    features: int
    bias: bool = field(default=True, kw_only=True)
    init: InitLike | None = field(default=None, kw_only=True)
    bias_init: InitLike = field(default="zeros", kw_only=True)
    parametrization: str | Parametrization | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    sigma_w2: InitVar[float | None] = field(default=None, kw_only=True)
    sigma_b2: InitVar[float | None] = field(default=None, kw_only=True)

    def __post_init__(self, sigma_w2: float | None, sigma_b2: float | None) -> None:
        """Check every argument and resolve the initializers."""
        put = object.__setattr__  # frozen: this is the one moment at which fields are set
        put(self, "features", as_size(self.features, "features"))
        put(self, "bias", as_flag(self.bias, "bias"))
        check_name(self.name)
        put(self, "parametrization", as_parametrization(self.parametrization))
        init = None if self.init is None else as_initializer(self.init, "init")
        bias_init = as_initializer(self.bias_init, "bias_init")
        if sigma_w2 is not None:
            if init is not None:
                raise ArgumentError("sigma_w2 and init both say how the weight starts: give one of them")
            init = Initializer("mean_field", {"sigma_w2": as_real(sigma_w2, "sigma_w2", minimum=0.0)})
        if sigma_b2 is not None:
            variance = as_real(sigma_b2, "sigma_b2", minimum=0.0)
            if bias_init != Initializer("zeros"):
                raise ArgumentError("sigma_b2 and bias_init both say how the bias starts: give one of them")
            if variance > 0.0:
                if not self.bias:
                    raise ArgumentError(f"sigma_b2={variance:g} needs a bias, but bias=False")
                bias_init = Initializer("normal", {"std": math.sqrt(variance)})
        put(self, "init", init)
        put(self, "bias_init", bias_init)

    def out_features(self, in_features: int) -> int:
        """Return `features`, whatever comes in."""
        return self.features

    def own_parameters(self, in_features: int) -> dict[str, tuple[int, ...]]:
        """Return the weight's shape, or those of what it is made from, and the bias's if there is one."""
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.features, in_features)}
        if isinstance(self.parametrization, Parametrization):
            matrix, vector = self.parametrization.leaves
            shapes = {matrix: shapes["weight"], vector: (self.features,)}
        if self.bias:
            shapes["bias"] = (self.features,)
        return shapes

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        init = self.init
        if init is None:
            following = context.following.function if context.following else "identity"
            init = str(activations.describe(following).extra["fits"])
        weight_shape, bias_shape = (self.features, context.in_features), (self.features,)
        ends = (context.preceding, context.following)
        around = Around(context.where, context.in_features, self.features, *ends, context.pairs)
        init, bias_init = resolved(as_initializer(init), as_initializer(self.bias_init), self.bias, around)
        made = as_parametrization(self.parametrization)
        return {
            "kind": self.kind,
            "features": self.features,
            "bias": self.bias,
            "init": init_spec(init, f"{context.where}.init", weight_shape, context),
            "bias_init": init_spec(bias_init, f"{context.where}.bias_init", bias_shape, context),
            "parametrization": None if made is None else made.to_spec(),
        }


@dataclass(frozen=True, init=False, repr=False)
class Activation(Layer):
    """An elementwise function, by its name in ``vg.activations.names()`` and its parameters.

    ``prelu`` learns its slope, a parameter named ``slope`` of shape (1,).

    Raises:
        UnknownNameError: no such activation.
        ArgumentError: no such parameter of it.

    Example:
        >>> import vgcore as vg
        >>> vg.Activation("leaky_relu", negative_slope=0.2)
        Activation('leaky_relu', negative_slope=0.2)
    """

    kind: ClassVar[str] = "activation"
    function: str
    params: Mapping[str, float]
    name: str | None

    def __init__(self, function: str, *, name: str | None = None, **params: float) -> None:
        """Resolve the name and check the parameters."""
        entry = activations.describe(function)
        checked = entry.check_params(params)
        check_name(name)
        if (
            params
        ):  # the compiled module knows the ranges: a wrong value is said here, not when a network is built
            activations.value(entry.name, np.zeros(1), **params)
        put = object.__setattr__
        put(self, "function", entry.name)
        put(self, "params", {key: checked[key] for key in params})
        put(self, "name", name)

    def __hash__(self) -> int:
        """Hash by value."""
        return hash((self.function, tuple(sorted(self.params.items())), self.name))

    def __repr__(self) -> str:
        """Return the call that makes this layer."""
        parts = [repr(self.function), *(f"{key}={value!r}" for key, value in self.params.items())]
        if self.name is not None:
            parts.append(f"name={self.name!r}")
        return f"Activation({', '.join(parts)})"

    def describe(self) -> str:
        """Return the layer in one line for `Network.summary`."""
        return repr(replace_name(self, None))

    def functions(self) -> tuple[str, ...]:
        """Return its name."""
        return (self.function,)

    def own_parameters(self, in_features: int) -> dict[str, tuple[int, ...]]:
        """Return the learned slope, if this activation has one."""
        return {"slope": (1,)} if activations.describe(self.function).extra.get("learned") else {}

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        params = activations.describe(self.function).check_params(self.params)
        return {"kind": self.kind, "function": self.function, "params": params}

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Layer:
        """Build the layer from the values of its fields."""
        return cls(values["function"], name=values["name"], **values["params"])


class Container(Layer, ABC):
    """What layers that hold others share; it is no layer of its own."""

    kind: ClassVar[str] = ""

    def out_features(self, in_features: int) -> int:
        """Return the width after the whole body."""
        return width_after(self.body, in_features)

    def _check_width(self, context: Context, reason: str) -> None:
        out = self.out_features(context.in_features)
        if out != context.in_features:
            raise ShapeError(
                f"{context.where}: a {type(self).__name__} needs a body whose output is as wide as its input "
                f"({reason}); expected {context.in_features}, got {out}; "
                f"end the body with Dense({context.in_features})"
            )


@dataclass(frozen=True, init=False)
class Repeat(Container):
    """`n` steps of a body, one after the other: the way to depth.

    Each step owns its parameters, which are stacked: one array with leading axis `n`. With ``tied=True`` all
    steps share one set (no leading axis). The body's output is as wide as its input, unless ``n == 1``.

    Raises:
        ArgumentError: `n` is not a positive integer, or the body is empty or not made of layers.

    Example:
        >>> import vgcore as vg
        >>> step = [vg.Dense(8, name=""), vg.Activation("tanh")]
        >>> vg.Network(8, [vg.Repeat(step, 1000, name="hidden")]).parameters()["hidden.weight"].shape
        (1000, 8, 8)
    """

    kind: ClassVar[str] = "repeat"
    body: tuple[Layer, ...] = field()
    n: int = field()
    tied: bool = field(default=False, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __init__(
        self, body: Layer | Sequence[Layer], n: int, *, tied: bool = False, name: str | None = None
    ) -> None:
        """Check every argument."""
        put = object.__setattr__
        put(self, "body", as_layers(body, "body"))
        put(self, "n", as_size(n, "n"))
        put(self, "tied", as_flag(tied, "tied"))
        check_name(name)
        put(self, "name", name)

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        inner = replace(context, where=f"{context.where}.body", inside="Repeat")
        if self.n > 1:
            first = leading_activation(self.body[0])
            inner = replace(
                inner,
                following=first,
                preceding=trailing_activation(self.body[-1]),
                pairs=pairs_after(self.body, first, context.pairs),
            )
        if not self.tied:
            inner = replace(inner, copies=(*context.copies, self.n))
        body = chain_specs(self.body, inner)
        if self.n > 1:  # after the body: what is wrong inside is said first
            self._check_width(context, "the next step takes it")
        return {"kind": self.kind, "n": self.n, "tied": self.tied, "body": body}


@dataclass(frozen=True)
class Placed:
    """A layer at its place in a network, as `walk` yields it."""

    layer: Layer
    path: tuple[str, ...]
    """Parts of its parameters' names."""
    in_features: int
    level: int
    """How many containers are around it."""
    copies: tuple[int, ...]
    """Leading axes of its parameters."""
    times: int
    """How often it runs in one forward pass."""

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return full name and shape of each of the layer's own parameters."""
        own = self.layer.own_parameters(self.in_features)
        return {".".join((*self.path, leaf)): (*self.copies, *shape) for leaf, shape in own.items()}


def walk(layers: Sequence[Layer], in_features: int, _outer: Placed | None = None) -> Iterator[Placed]:
    """Yield every layer, containers before what they hold, in forward order."""
    path, level, copies, times = ((), 0, (), 1) if _outer is None else _inside(_outer)
    for index, layer in enumerate(layers):
        part = str(index) if layer.name is None else layer.name
        placed = Placed(layer, (*path, part) if part else path, in_features, level, copies, times)
        yield placed
        for prefix, inner in layer.branches():
            yield from walk(inner, in_features, replace(placed, path=(*placed.path, *prefix)))
        in_features = layer.out_features(in_features)


def width_after(layers: Sequence[Layer], in_features: int) -> int:
    """Return the width that comes out of a chain of layers."""
    for layer in layers:
        in_features = layer.out_features(in_features)
    return in_features


def chain_specs(layers: Sequence[Layer], context: Context) -> list[dict[str, Any]]:
    """Return the descriptions of layers that follow one another; errors say at which place."""
    specs = []
    width, pairs = context.in_features, context.pairs
    for index, layer in enumerate(layers):
        following = _following(layers[index + 1 :], context)
        preceding = trailing_activation(layers[index - 1]) if index else context.preceding
        place = replace(context, in_features=width, where=f"{context.where}[{index}]", pairs=pairs)
        place = replace(place, following=following, preceding=preceding)
        name = str(index) if layer.name is None else layer.name
        specs.append({**layer.to_spec(place), "name": name})
        width = layer.out_features(width)
        pairs = pairs_after([layer], following, pairs)
    return specs


def _following(rest: Sequence[Layer], context: Context) -> Activation | None:
    # What a normalisation hands on has any size, so weights start as they would without it.
    for layer in rest:
        if "norm" not in layer.kind:
            return leading_activation(layer)
    return context.following


def trailing_activation(layer: Layer) -> Activation | None:
    """Return the activation that a layer's output comes from directly, if it does."""
    while layer.body and isinstance(layer, Repeat):
        layer = layer.body[-1]
    return layer if isinstance(layer, Activation) else None


def leading_activation(layer: Layer) -> Activation | None:
    """Return the activation that a layer's input goes into directly, if it does."""
    while layer.body:
        layer = layer.body[0]
    return layer if isinstance(layer, Activation) else None


def as_layers(value: Any, name: str) -> tuple[Layer, ...]:
    """Return one layer or a sequence of layers as a tuple, or raise ArgumentError."""
    if isinstance(value, Layer):
        value = [value]
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise ArgumentError(f"{name}: expected a list of layers such as [vg.Dense(64)], got {shown(value)}")
    if not value:
        raise ArgumentError(f"{name}: expected at least one layer, got an empty list")
    for index, layer in enumerate(value):
        if not isinstance(layer, Layer):
            hint = f"; write vg.Activation({layer!r})" if layer in activations._registry else ""
            raise ArgumentError(
                f"{name}[{index}]: expected a layer such as vg.Dense(64), got {shown(layer)}{hint}"
            )
    if max(map(_nesting, value)) > _MAX_NESTING:
        raise ArgumentError(
            f"{name}: containers are nested more than {_MAX_NESTING} deep; use Repeat for depth"
        )
    return tuple(value)


def replace_name(layer: Layer, name: str | None) -> Layer:
    """Return the layer under another name."""
    return changed(layer, name=name)


def _inside(outer: Placed) -> tuple[tuple[str, ...], int, tuple[int, ...], int]:
    layer = outer.layer
    if not isinstance(layer, Repeat):
        return outer.path, outer.level + 1, outer.copies, outer.times
    copies = outer.copies if layer.tied else (*outer.copies, layer.n)
    return outer.path, outer.level + 1, copies, outer.times * layer.n


def _nesting(layer: Layer) -> int:
    inner = [_nesting(one) for _, layers in layer.branches() for one in layers]
    return 1 + max(inner) if inner else 0


def check_name(name: Any) -> None:
    """Raise ArgumentError when `name` cannot be a part of a parameter's name."""
    if name is None:
        return
    if not isinstance(name, str):
        raise ArgumentError(f"name: expected text or None, got {shown(name)}")
    if "." in name or not name.isprintable():
        raise ArgumentError(
            f"name: expected printable text without '.', which joins the parts of a name; got {name!r}"
        )


def init_spec(init: AnyInitializer, where: str, shape: tuple[int, ...], context: Context) -> dict[str, Any]:
    """Return an initializer as the compiled module takes it, for a parameter of `shape`."""
    if isinstance(init, Initializer):
        return init.to_spec()
    array = init.array
    stacked = (*context.copies, *shape)
    if array.shape != shape:  # the same for each step; else one entry a step
        check_shape(array, where, stacked)
    if array.dtype.itemsize > context.dtype.itemsize:
        if not init.weak:
            raise DTypeError(
                f'{where}: expected float32, got {array.dtype}; convert with .astype("float32"), '
                f'or build the network with dtype="float64"'
            )
        with np.errstate(over="ignore"):
            array = array.astype(context.dtype)
        check_finite(array, where, note=f" once held as {context.dtype}")
    return {"array": np.require(array, dtype=context.dtype, requirements=["C", "A"])}
