"""Layer: model description. Ready-made networks in one call.

Knows layers and Network, nothing of how they run.
"""

from __future__ import annotations

from typing import Any

from . import cells
from ._checks import as_choice, as_real, as_size, shown
from ._rng import RngLike
from ._skips import Parts, build
from .cells import Cell, GateBias
from .errors import ArgumentError
from .initializers import AnyInitializer, FromArray, as_initializer
from .layers import Activation, Dense, InitLike, Layer
from .network import Network
from .normalisation import Normalisation, as_norm
from .recurrent import Recurrent

__all__ = ["mlp", "rnn"]

#: Where a step's normalisation stands, seen from its activation.
_POSITIONS = ("pre", "post")


def mlp(
    depth: int,
    width: int,
    *,
    in_features: int | None = None,
    out_features: int | None = None,
    activation: str | Activation = "relu",
    init: InitLike | None = None,
    bias: bool = True,
    norm: str | Normalisation | None = None,
    norm_position: str = "pre",
    skip: str | None = None,
    sigma_w2: float | None = None,
    sigma_b2: float | None = None,
    dtype: Any = "float32",
    rng: RngLike = None,
    stored: bool = True,
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
        norm: normalisation in each step: None, a name from ``vg.norms.names()`` or a layer such as
            ``vg.BatchNorm(online=True)``. Its parameters are named ``hidden.norm.weight`` and so on. "group"
            takes as many groups as suit each step's width (see GroupNorm).
        norm_position: "pre" before the activation, "post" behind it.
        skip: how steps are bridged: None, "residual" ``x + act(dense(x))``, "pre_activation"
            ``x + dense(act(x))``, "rezero" and "skipinit" (the same two with a learned factor from 0),
            "scaled" (a factor 1 / sqrt(depth)), "fixup", "deepnorm", "highway", "dense" (each step beside all
            before it), "unet", or "long:k" (a shortcut around every k steps). A step of fixup and deepnorm
            has two Dense layers, ``lower`` and ``upper``.
        sigma_w2: mean-field shorthand, instead of `init`: weights N(0, sigma_w2 / fan_in).
        sigma_b2: mean-field shorthand: biases N(0, sigma_b2).
        dtype: "float32" or "float64".
        rng: None, an int, a SeedSequence or a Generator; ``net.seed`` shows what was used.
        stored: False keeps no parameters and makes the initial values again in every pass (see Network).

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
    position = as_choice(norm_position, "norm_position", _POSITIONS)
    as_norm(norm, width)  # said here, in the caller's words; each step takes what suits its own width
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
    parts = Parts(
        depth,
        width,
        nonlinearity,
        lambda features, name: dense(features, name, weights),
        norm=norm,
        norm_position=position,
    )
    layers = build(skip, parts)
    if in_features is not None:
        in_features = as_size(in_features, "in_features")
        layers = [dense(width, "input", ends), nonlinearity, *layers]
    if out_features is not None:
        layers.append(dense(as_size(out_features, "out_features"), "output", ends))
    return Network(width if in_features is None else in_features, layers, dtype=dtype, rng=rng, stored=stored)


def rnn(
    cell: str | Cell,
    hidden_size: int,
    *,
    in_features: int,
    out_features: int | None = None,
    num_layers: int = 1,
    read: str = "last",
    bidirectional: bool = False,
    residual: bool = False,
    activation: str | None = None,
    bias: bool = True,
    forget_bias: float | None = None,
    chrono: int | None = None,
    gate_bias: GateBias | None = None,
    peephole: bool | None = None,
    state: str = "zeros",
    init: InitLike | None = None,
    recurrent_init: InitLike | None = None,
    bias_init: InitLike | None = None,
    dtype: Any = "float32",
    rng: RngLike = None,
) -> Network:
    """Return a recurrent network: a Recurrent layer named "rnn" and, if asked for, a Dense named "output".

    Its input is (batch, time, in_features), of any length. Parameters are named ``rnn.weight_ih_l0``
    (G * hidden_size, in_features), ``rnn.weight_hh_l0``, ``rnn.bias_ih_l0``, ``rnn.bias_hh_l0`` and so on, as
    PyTorch names and lays them out (see Recurrent), and ``output.weight``, ``output.bias``.

    Args:
        cell: a name from ``vg.cells.names()``, such as "lstm", or a cell: ``vg.cells.lstm(peephole=True)``.
        hidden_size: width of the state.
        in_features: width of the input at each step.
        out_features: width of the output. Given, a Dense(out_features) comes last.
        num_layers: recurrent layers one above the other.
        read: "last": one output a sample, from its last step; "every": one for every step.
        bidirectional: also run from the last step to the first.
        residual: add a layer's input to its output, from the second layer on.
        activation: of the cell "rnn", tanh if not given; other cells have their own.
        bias: whether the recurrent layer has biases.
        forget_bias: short for ``gate_bias=vg.cells.forget_bias(value)``.
        chrono: short for ``gate_bias=vg.cells.chrono(T)``.
        gate_bias: how the biases of the gates start: an object from ``vg.cells``.
        peephole: whether the gates of an "lstm" see its cell state.
        state: how the state starts where a call brings none: "zeros", or "learned".
        init: how ``weight_ih`` starts; None takes the cell's own rule (see Recurrent).
        recurrent_init: how ``weight_hh`` starts.
        bias_init: how both biases start.
        dtype: "float32" or "float64".
        rng: None, an int, a SeedSequence or a Generator; ``net.seed`` shows what was used.

    Raises:
        ArgumentError: a size that is not positive, contradictory or unknown options.
        UnknownNameError: no such cell, activation or initializer.
        MemoryBudgetError: the parameters would not fit in memory; raised before anything is allocated.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.rnn("lstm", 16, in_features=4, out_features=3, forget_bias=1.0, rng=0)
        >>> net.parameter_shapes()["rnn.weight_hh_l0"]
        (64, 16)
        >>> net.forward(np.zeros((2, 1000, 4), np.float32)).shape
        (2, 3)
    """
    kind = _with_params(cells.as_cell(cell), activation=activation, peephole=peephole)
    biases = {
        "forget_bias": None if forget_bias is None else cells.forget_bias(forget_bias),
        "chrono": None if chrono is None else cells.chrono(chrono),
        "gate_bias": gate_bias,
    }
    given = {key: value for key, value in biases.items() if value is not None}
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(given)} all say how the gates' biases start: give one of them")
    layers: list[Layer] = [
        Recurrent(
            kind,
            hidden_size,
            num_layers=num_layers,
            read=read,
            bidirectional=bidirectional,
            residual=residual,
            bias=bias,
            state=state,
            init=init,
            recurrent_init=recurrent_init,
            bias_init=bias_init,
            gate_bias=next(iter(given.values()), None),
            name="rnn",
        )
    ]
    if out_features is not None:
        layers.append(Dense(as_size(out_features, "out_features"), name="output"))
    return Network(as_size(in_features, "in_features"), layers, dtype=dtype, rng=rng)


def _with_params(cell: Cell, **params: Any) -> Cell:
    """Return the cell with the parameters that are not None, unless it says them already or has none such."""
    wanted = {key: value for key, value in params.items() if value is not None}
    if not wanted:
        return cell
    known = cells.describe(cell.name).defaults
    for key in wanted:
        if key in cell.params:
            raise ArgumentError(f"{key}: {cell!r} already says it: leave {key}= out")
        if key not in known:
            have = ", ".join(n for n in cells.names() if key in cells.describe(n).defaults)
            raise ArgumentError(
                f"{key}: expected None for cell {cell.name!r}; it is a choice of {have} alone"
            )
    return Cell(cell.name, {**cell.params, **wanted})


def _activation(value: Any) -> Activation:
    if isinstance(value, Activation):
        return value
    if isinstance(value, str):
        return Activation(value)
    if callable(value):
        raise ArgumentError(f"activation: expected a name such as 'tanh', got the function {shown(value)}")
    raise ArgumentError(f"activation: expected a name such as 'tanh' or a vg.Activation, got {shown(value)}")
