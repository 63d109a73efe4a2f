"""Layer: testing tools, strategies. Hypothesis strategies for parts and whole networks, read from the
catalogues.

Knows layers and Network; hypothesis is imported here and nowhere else in the package. A part added to a
catalogue is drawn without a change here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import activations as _activations
from . import initializers as _initializers
from . import losses as _losses
from . import parametrizations as _parametrizations
from ._contextual import DEPENDENT
from .branches import Concat, Dropout, Highway, Residual
from .errors import missing_dependency
from .initializers import Initializer
from .layers import Activation, Dense, Layer, Repeat
from .losses import Loss
from .network import Network
from .normalisation import BatchNorm, GroupNorm, LayerNorm, RMSNorm

try:
    from hypothesis import strategies as st
except ImportError as _absent:
    raise missing_dependency("hypothesis", "testing", "drawing random networks") from _absent

__all__ = [
    "activation_layers",
    "dtype_names",
    "initializer_objects",
    "layer_lists",
    "loss_objects",
    "whole_networks",
]

Strategy = st.SearchStrategy[Any]

#: Added to variances: large, since a network of a few units would else be all but constant.
_EPS = 0.5


def _near(default: Any) -> Strategy:
    """Values of one parameter: its default, or a float within a factor of two of a default that is not
    zero."""
    if isinstance(default, bool) or not isinstance(default, (int, float)) or default == 0:
        return st.just(default)
    factor = st.sampled_from([0.5, 0.75, 1.0, 1.25, 1.5, 2.0])
    return st.one_of(st.just(float(default)), factor.map(lambda f: float(default) * f))


@st.composite
def activation_layers(
    draw: st.DrawFn, names: Sequence[str] | None = None, defaults: bool = False
) -> Activation:
    """Activation layers over the whole catalogue, parameters near their defaults."""
    name = draw(st.sampled_from(list(names) if names is not None else _activations.names()))
    entry = _activations.describe(name)
    if defaults:
        return Activation(name)
    return Activation(name, **{p.name: draw(_near(p.default)) for p in entry.params})


def _anywhere() -> list[str]:
    """Initializers that fit any width and activation."""
    return [name for name in _initializers.names() if name not in DEPENDENT]


@functools.cache
def _varied() -> tuple[str, ...]:
    """Initializers whose draw is not one number over and over: with the others a network computes next to
    nothing."""
    samples = {name: Initializer(name).sample((5, 5), dtype="float64", rng=0) for name in _anywhere()}
    return tuple(name for name, sample in samples.items() if np.unique(sample).size > 2)


def initializer_objects(names: Sequence[str] | None = None, constant: bool = False) -> Strategy:
    """Initializers with default parameters; those that fill with constants only with ``constant=True``."""
    chosen = list(names) if names is not None else _anywhere() if constant else list(_varied())
    return st.sampled_from(chosen).map(Initializer)


@st.composite
def loss_objects(draw: st.DrawFn, names: Sequence[str] | None = None) -> Loss:
    """Losses over the whole catalogue, parameters near their defaults."""
    name = draw(st.sampled_from(list(names) if names is not None else _losses.names()))
    params = {p.name: draw(_near(p.default)) for p in _losses.describe(name).params}
    if name == "cross_entropy":  # its one parameter has default 0, next to which there is nothing
        params["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 0.5]))
    return Loss(name, params)


def dtype_names() -> Strategy:
    """The float types that networks run in."""
    return st.sampled_from(["float64", "float32"])


@st.composite
def norm_layers(draw: st.DrawFn, width: int) -> Layer:
    """Normalisations of each sample by itself, for inputs of `width`."""
    affine = draw(st.booleans())
    kinds: list[Layer] = [RMSNorm(eps=_EPS, affine=affine)]
    if width > 2:  # one unit less its mean is zero, and two are nearly +-1, whatever comes in
        kinds.append(LayerNorm(eps=_EPS, affine=affine))
        groups = [g for g in range(1, width // 3 + 1) if width % g == 0]
        kinds.append(GroupNorm(draw(st.sampled_from(groups)), eps=_EPS, affine=affine))
    return draw(st.sampled_from(kinds))


@st.composite
def layer_lists(
    draw: st.DrawFn,
    width: int,
    *,
    activations: Strategy | None = None,
    initializers: Strategy | None = None,
    max_layers: int = 4,
    max_width: int = 6,
    max_repeat: int = 4,
    keep_width: bool = False,
    nesting: int = 2,
    noise: bool = False,
    coupled: bool = False,
    parametrized: bool = False,
) -> list[Layer]:
    """Lists of 1 to `max_layers` layers for inputs of `width`; with `keep_width` the output is as wide.

    Layers that draw in training (Dropout, stochastic depth) only with `noise`; BatchNorm, in which samples
    see each other, only with `coupled`; weights that are made from others only with `parametrized`, where
    rows are long enough to have a direction of their own.
    """
    functions = activation_layers() if activations is None else activations
    inits = initializer_objects() if initializers is None else initializers
    kinds = ["dense", "activation", "highway", "norm"] + ["dropout"] * noise + ["batch"] * coupled
    kinds += ["repeat", "residual", "gated", "concat"] if nesting else []
    wanted = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=max_layers))
    current, layers = width, list[Layer]()

    rules = st.sampled_from([None, *_parametrizations.names()])

    def dense(features: int, fan_in: int) -> Dense:
        bias = draw(st.booleans())
        made = draw(rules) if parametrized and fan_in > 3 else None
        return Dense(
            features,
            bias=bias,
            init=draw(inits),
            sigma_b2=draw(st.sampled_from([0.0, 0.1])) if bias else None,
            parametrization=made,
        )

    for kind in wanted:
        if kind == "dense":
            fan_in, current = current, draw(st.integers(1, max_width))
            layers.append(dense(current, fan_in))
        elif kind == "activation":
            layers.append(draw(functions))
        elif kind == "highway":
            layers.append(_highway(draw, None, functions, inits))
        elif kind == "norm":
            layers.append(draw(norm_layers(current)))
        elif kind == "batch":
            layers.append(
                BatchNorm(
                    eps=_EPS, affine=draw(st.booleans()), online=draw(st.sampled_from([False, False, True]))
                )
            )
        elif kind == "dropout":
            layers.append(Dropout(draw(st.sampled_from([0.1, 0.5]))))
        else:
            inner = functools.partial(
                layer_lists,
                current,
                activations=functions,
                initializers=inits,
                max_layers=3,
                max_width=max_width,
                max_repeat=max_repeat,
                nesting=nesting - 1,
                noise=noise,
                coupled=coupled,
                parametrized=parametrized,
            )
            body = draw(inner(keep_width=kind != "concat"))
            if kind == "repeat":
                layers.append(Repeat(body, draw(st.integers(1, max_repeat)), tied=draw(st.booleans())))
            elif kind == "concat":
                layers.append(Concat(body))
                current = layers[-1].out_features(current)
            elif kind == "gated":
                layers.append(_highway(draw, body, functions, inits))
            else:
                shortcut: Any = draw(st.sampled_from([1.0, 0.5, -2.0, None]))
                layers.append(
                    Residual(
                        body,
                        scale=draw(st.sampled_from([1.0, 0.5, -0.25])),
                        learned=draw(st.booleans()),
                        shortcut=draw(inner(keep_width=True)) if shortcut is None else shortcut,
                        survival=draw(st.sampled_from([1.0, 0.5])) if noise else 1.0,
                    )
                )
    if keep_width and current != width:
        layers.append(dense(width, current))
    return layers


def _highway(draw: st.DrawFn, body: list[Layer] | None, functions: Strategy, inits: Strategy) -> Highway:
    shared: dict[str, Any] = {
        "transform_bias": draw(st.sampled_from([-2.0, -1.0, 0.5])),
        "coupled": draw(st.booleans()),
        "gate_init": draw(inits),
    }
    if body is not None:
        return Highway(body, **shared)
    return Highway(activation=draw(functions), bias=draw(st.booleans()), init=draw(inits), **shared)


@st.composite
def whole_networks(
    draw: st.DrawFn, /, *, dtype: str | None = None, max_width: int = 6, **options: Any
) -> Network:
    """Networks of every layer, activation, initializer and float type, with a seed of their own."""
    width = draw(st.integers(1, max_width))
    layers = draw(layer_lists(width, max_width=max_width, **options))
    kind = draw(dtype_names()) if dtype is None else dtype
    return Network(width, layers, dtype=kind, rng=draw(st.integers(0, 2**32 - 1)))
