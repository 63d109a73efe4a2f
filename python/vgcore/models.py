"""Layer: model description. Ready-made networks in one call.

Knows layers and Network, nothing of how they run.
"""

from __future__ import annotations

from typing import Any

from ._checks import as_real, as_size, shown
from ._rng import RngLike
from .errors import ArgumentError, nearest
from .initializers import AnyInitializer, FromArray, as_initializer
from .layers import Activation, Dense, InitLike, Layer, Repeat, Residual
from .network import Network

__all__ = ["mlp"]

_NORMS: tuple[str, ...] = ()
_SKIPS: tuple[str, ...] = ("residual",)


def mlp(
    depth: int,
    width: int,
    *,
    in_features: int | None = None,
    out_features: int | None = None,
    activation: str | Activation = "relu",
    init: InitLike | None = None,
    bias: bool = True,
    norm: str | None = None,
    skip: str | None = None,
    sigma_w2: float | None = None,
    sigma_b2: float | None = None,
    dtype: Any = "float32",
    rng: RngLike = None,
) -> Network:
    """Return a network of `depth` equal steps, each Dense(width) and an activation.

    Parameters are named ``hidden.weight`` (depth, width, width), ``hidden.bias`` (depth, width), and where
    they exist ``input.weight`` (width, in_features), ``output.weight`` (out_features, width) and their
    biases.

    Args:
        depth: number of steps, without the input and output layers.
        width: width of each step.
        in_features: width of the input. Given, an input layer Dense(width) + activation comes first; else the
            input is `width` wide.
        out_features: width of the output. Given, an output layer Dense(out_features) comes last.
        activation: a name from ``vg.activations.names()``, or an Activation with parameters.
        init: how every weight starts (see Dense). An array is for the steps alone: (width, width) or
            (depth, width, width).
        bias: whether Dense layers have a bias.
        norm: None; no other value exists yet.
        skip: None, or "residual": each step becomes ``x + activation(dense(x))``.
        sigma_w2: mean-field shorthand, instead of `init`: weights N(0, sigma_w2 / fan_in).
        sigma_b2: mean-field shorthand: biases N(0, sigma_b2).
        dtype: "float32" or "float64".
        rng: None, an int, a SeedSequence or a Generator; ``net.seed`` shows what was used.

    Raises:
        ArgumentError: a size that is not positive, contradictory or unknown options.
        UnknownNameError: no such activation or initializer.
        MemoryBudgetError: the parameters would not fit in memory; raised before anything is allocated.

    Example:
        >>> import vgcore as vg
        >>> net = vg.mlp(depth=1000, width=16, in_features=4, out_features=3, activation="tanh", rng=0)
        >>> {name: array.shape for name, array in net.parameters().items() if name.endswith("weight")}
        {'input.weight': (16, 4), 'hidden.weight': (1000, 16, 16), 'output.weight': (3, 16)}
    """
    depth, width = as_size(depth, "depth"), as_size(width, "width")
    norm = _option(norm, "norm", _NORMS)
    skip = _option(skip, "skip", _SKIPS)
    nonlinearity = _activation(activation)
    if sigma_w2 is not None and init is not None:
        raise ArgumentError("sigma_w2 and init both say how the weights start: give one of them")
    weights = None if init is None else as_initializer(init, "init")
    if sigma_b2 is not None and as_real(sigma_b2, "sigma_b2", minimum=0.0) > 0.0 and not bias:
        raise ArgumentError(f"sigma_b2={sigma_b2:g} needs biases, but bias=False")

    def dense(features: int, name: str, start: AnyInitializer | None) -> Dense:
        return Dense(features, bias=bias, init=start, sigma_w2=sigma_w2, sigma_b2=sigma_b2, name=name)

    # An array has the shape of a step's weight; the layers at both ends have other shapes.
    ends = None if isinstance(weights, FromArray) else weights
    step: list[Layer] = [dense(width, "", weights), nonlinearity]
    if skip == "residual":
        step = [Residual(step, name="")]
    layers: list[Layer] = [Repeat(step, depth, name="hidden")]
    if in_features is not None:
        in_features = as_size(in_features, "in_features")
        layers = [dense(width, "input", ends), nonlinearity, *layers]
    if out_features is not None:
        layers.append(dense(as_size(out_features, "out_features"), "output", ends))
    return Network(width if in_features is None else in_features, layers, dtype=dtype, rng=rng)


def _activation(value: Any) -> Activation:
    if isinstance(value, Activation):
        return value
    if isinstance(value, str):
        return Activation(value)
    if callable(value):
        raise ArgumentError(f"activation: expected a name such as 'tanh', got the function {shown(value)}")
    raise ArgumentError(f"activation: expected a name such as 'tanh' or a vg.Activation, got {shown(value)}")


def _option(value: Any, name: str, known: tuple[str, ...]) -> str | None:
    if value is None or value in known:
        return None if value is None else str(value)
    listed = " or ".join(["None", *map(repr, known)])
    guess = nearest(value, known) if isinstance(value, str) else None
    hint = f"; did you mean {guess!r}?" if guess else ""
    raise ArgumentError(
        f"{name}: expected {listed} (nothing else exists in this version), got {shown(value)}{hint}"
    )
