"""Layer: testing tools. Checks of gradients for those who write activations, layers or networks, and
hypothesis strategies.

Knows networks through their public face. Every check is relative and refuses to pass on nothing: a gradient
that is zero everywhere, or differences too noisy to judge by, are errors.

Example:
    >>> import numpy as np, vgcore as vg
    >>> vg.testing.check_activation(np.tanh, lambda x: 1 / np.cosh(x) ** 2, low=-15, high=15).resolved > 100
    True
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._gradcheck import GradientCheck, GradientCheckError, Tally
from ._numdiff import complex_step, differences
from .errors import ArgumentError
from .network import Network

__all__ = [
    "GradientCheck",
    "GradientCheckError",
    "activations",
    "check_activation",
    "check_gradients",
    "dtypes",
    "initializers",
    "layers",
    "losses",
    "networks",
]


# --- strategies -----------------------------------------------------------------------------------------


def _drawing() -> Any:
    """Import the strategies on first use: hypothesis is an optional package."""
    return importlib.import_module("._strategies", __package__)


def activations(names: Sequence[str] | None = None, *, defaults: bool = False) -> Any:
    """Return a hypothesis strategy for ``vg.Activation`` layers over the whole catalogue.

    Args:
        names: draw from these only.
        defaults: keep every parameter at its default; else parameters lie within a factor of two of it.

    Raises:
        MissingDependencyError: hypothesis is not installed.

    Example:
        >>> from hypothesis import find
        >>> find(activations(["tanh"]), lambda layer: True)
        Activation('tanh')
    """
    return _drawing().activation_layers(names, defaults)


def initializers(names: Sequence[str] | None = None, *, constant: bool = False) -> Any:
    """Return a hypothesis strategy for initializer objects; ``constant=True`` adds those that fill with
    constants.

    Raises:
        MissingDependencyError: hypothesis is not installed.

    Example:
        >>> from hypothesis import find
        >>> find(initializers(["he_normal"]), lambda init: True).name
        'he_normal'
    """
    return _drawing().initializer_objects(names, constant)


def losses(names: Sequence[str] | None = None) -> Any:
    """Return a hypothesis strategy for loss objects over the whole catalogue.

    Raises:
        MissingDependencyError: hypothesis is not installed.

    Example:
        >>> from hypothesis import find
        >>> find(losses(["mse"]), lambda loss: True).name
        'mse'
    """
    return _drawing().loss_objects(names)


def dtypes() -> Any:
    """Return a hypothesis strategy for the float types of networks, as text.

    Raises:
        MissingDependencyError: hypothesis is not installed.

    Example:
        >>> from hypothesis import find
        >>> find(dtypes(), lambda name: name == "float32")
        'float32'
    """
    return _drawing().dtype_names()


def layers(width: int, **options: Any) -> Any:
    """Return a hypothesis strategy for lists of layers that take `width` features.

    Args:
        width: features of the input.
        options: `activations` and `initializers` (strategies), `max_layers`, `max_width`, `max_repeat`,
            `keep_width`, `nesting` (how deep containers may hold one another), `noise` (also layers that
            draw in training: Dropout, stochastic depth), `coupled` (also BatchNorm, where samples see each
            other), `parametrized` (also weights that are made from others).

    Raises:
        MissingDependencyError: hypothesis is not installed.

    Example:
        >>> from hypothesis import find
        >>> len(find(layers(3, max_layers=2), lambda found: len(found) == 2))
        2
    """
    return _drawing().layer_lists(width, **options)


def networks(*, dtype: str | None = None, max_width: int = 6, **options: Any) -> Any:
    """Return a hypothesis strategy for small networks of every layer, activation, initializer and float type.

    `options` as for `layers`. ``net.layers`` shows what was drawn and ``net.seed`` its weights' seed.

    Raises:
        MissingDependencyError: hypothesis is not installed.

    Example:
        >>> from hypothesis import find
        >>> find(networks(dtype="float64"), lambda net: True).dtype
        dtype('float64')
    """
    return _drawing().whole_networks(dtype=dtype, max_width=max_width, **options)


# --- gradients ------------------------------------------------------------------------------------------


def check_gradients(
    model: Network | Callable[[Any], Any],
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    loss: Any = None,
    cotangent: ArrayLike | None = None,
    vjp: Callable[[Any, Any], Any] | None = None,
    lengths: ArrayLike | None = None,
    state: Any = None,
    rtol: float | None = None,
    max_entries: int = 48,
    rng: int = 0,
) -> GradientCheck:
    """Check the gradients of a network, or of any function with its vector-Jacobian product, against
    differences.

    A network is checked step by step: each step's derivatives with respect to its parameters and its input
    against differences in float64, then the gradients of the whole network against the chain of its steps,
    with exponents, so that a gradient of 1e-5000 is checked as sharply as one of 1. A function ``model(x)``
    is checked as a whole against ``vjp(x, cotangent)``, the gradient of ``sum(cotangent * model(x))`` with
    respect to x. So is a network along time, whose steps share their parameters: take sequences so short that
    differences can still see their beginning. Networks that draw in training (Dropout, stochastic depth) are
    checked as they infer.

    The error of an entry is taken relative to its size plus the root mean square of its array; there is no
    absolute tolerance. Zero everywhere, NaN, infinity, or differences too noisy to judge by are errors, never
    a pass.

    Args:
        model: a Network, or a function from an array to an array.
        x: the input; for a network (batch, in_features) or (batch, time, in_features).
        y: targets, with `loss`.
        loss: a loss name or object; without one, `cotangent`.
        cotangent: gradient with respect to the output; None for a function draws one.
        vjp: the claimed gradient of a function; not for networks.
        lengths, state: as for ``Network.forward``; for networks along time.
        rtol: relative tolerance; None is 1e-6 in float64 and 2e-4 in float32 (for the arithmetic of that
            type).
        max_entries: entries of each array tested one by one; all others together along one random direction.
        rng: seed of the entries and directions chosen.

    Raises:
        GradientCheckError: a gradient is wrong (the message names the place), or nothing could be checked.
        ArgumentError: contradictory arguments.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.mlp(depth=20, width=4, activation="tanh", dtype="float64", rng=0)
        >>> report = vg.testing.check_gradients(net, np.ones((2, 4)), cotangent=np.ones((2, 4)))
        >>> report.entries > 400 and report.worst < 1e-6
        True
    """
    if isinstance(model, Network):
        if vjp is not None:
            raise ArgumentError("vjp is for functions; a network brings its own gradients")
        if (loss is None) == (cotangent is None):
            raise ArgumentError("a network needs either y and loss, or cotangent")
        from ._check_network import check_network

        kind = np.dtype(model.dtype)
        single = kind == np.float32
        given = np.asarray(x, kind)
        incoming = None if cotangent is None else np.asarray(cotangent, kind)
        tolerance = rtol if rtol is not None else 2e-4 if single else 1e-6
        if model.axis == "time":
            from ._check_recurrent import check_recurrent

            return check_recurrent(
                model, given, y, loss, incoming, lengths=lengths, state=state, rtol=tolerance,
                max_entries=max_entries, seed=rng,
            ).result()  # fmt: skip
        if lengths is not None or state is not None:
            raise ArgumentError("lengths and state are for networks along time; this one is along depth")
        return check_network(
            model, given, y, loss, incoming, rtol=tolerance, chain_rtol=1e-4 if single else 1e-11,
            max_entries=max_entries, seed=rng,
        ).result()  # fmt: skip
    if lengths is not None or state is not None:
        raise ArgumentError("lengths and state are for networks along time; got a function")
    if vjp is None or y is not None or loss is not None:
        raise ArgumentError("a function is checked with vjp=, the gradient you claim, and without y and loss")
    return _check_function(
        model, np.asarray(x, np.float64), cotangent, vjp, 1e-6 if rtol is None else rtol, max_entries, rng
    )


def _check_function(
    model: Callable[[Any], Any],
    x: NDArray[np.float64],
    cotangent: ArrayLike | None,
    vjp: Callable[[Any, Any], Any],
    rtol: float,
    max_entries: int,
    seed: int,
) -> GradientCheck:
    from ._check_network import check_array

    rng = np.random.default_rng(seed)
    output = np.asarray(model(x), np.float64)
    incoming = rng.normal(size=output.shape) if cotangent is None else np.asarray(cotangent, np.float64)
    if incoming.shape != output.shape:
        raise ArgumentError(f"cotangent: expected the output's shape {output.shape}, got {incoming.shape}")
    claimed = np.asarray(vjp(x, incoming), np.float64)
    if claimed.shape != x.shape:
        raise GradientCheckError(
            f"vjp: expected a gradient of the input's shape {x.shape}, got {claimed.shape}"
        )
    tally = Tally(rtol)
    tally.finite(claimed, "input")
    check_array(
        tally,
        claimed,
        x,
        lambda moved: float(np.sum(incoming * np.asarray(model(moved)))),
        "input",
        max_entries,
        rng,
    )
    return tally.result()


def check_activation(
    fn: Callable[[Any], Any],
    dfn: Callable[[Any], Any],
    *,
    low: float = -40.0,
    high: float = 40.0,
    points: int = 400,
    dtype: str = "float64",
    rtol: float | None = None,
    increasing: bool = False,
    max_slope: float | None = None,
) -> GradientCheck:
    """Check an activation of your own: its derivative on [low, high], in deep saturation too, and what you
    claim of it.

    The reference is a complex step where `fn` takes complex numbers and agrees with differences in the middle
    of the range, which is exact however small the derivative is; else differences, which can judge only where
    the derivative is not lost in rounding. A derivative of exactly 0 where the true one is a normal number of
    `dtype` is an error: it would stop a gradient that is still alive.

    Args:
        fn, dfn: value and derivative, elementwise functions of an array.
        low, high, points: the grid; half of the points lie evenly, half gather at 0.
        dtype: float type in which `dfn` is evaluated.
        rtol: relative tolerance; None is 1e-9 in float64 and 1e-4 in float32.
        increasing: claim that fn never falls and dfn is never negative.
        max_slope: claim that ``|dfn|`` never exceeds this.

    Raises:
        GradientCheckError: a derivative or a claim is wrong (the message names x), or nothing could be
            checked.
        ArgumentError: an empty range.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> try:
        ...     vg.testing.check_activation(np.tanh, lambda x: 1 - np.tanh(x) ** 2)
        ... except vg.testing.GradientCheckError as error:
        ...     print("derivative" in str(error))
        True
    """
    if not low < high:
        raise ArgumentError(f"low must be below high, got {low} and {high}")
    kind = np.dtype(dtype)
    single = kind == np.float32
    tolerance = rtol if rtol is not None else 1e-4 if single else 1e-9
    even = np.linspace(low, high, max(points // 2, 8))
    near = np.sinh(np.linspace(np.arcsinh(low), np.arcsinh(high), max(points - points // 2, 8)))
    x = np.unique(np.concatenate([even, near]).astype(kind))
    with np.errstate(all="ignore"):
        claimed, value = np.asarray(dfn(x)), np.asarray(fn(x))
    if claimed.shape != x.shape or value.shape != x.shape:
        raise GradientCheckError(
            f"fn and dfn must keep the shape {x.shape}, got {value.shape} and {claimed.shape}"
        )
    exact, error = _reference(fn, x.astype(np.float64), tolerance)
    tally = Tally(tolerance)
    _refuse_lost(claimed, exact, error, x, kind)
    keep = np.abs(exact) >= np.finfo(kind).tiny
    # each point stands alone: no root mean square to hide behind; subnormal derivatives have too few digits
    # to compare
    judged = np.flatnonzero(keep | (exact == 0))
    tally.finite(claimed, "dfn at grid point ")
    tally.compare(claimed[judged], exact[judged], error[judged], "derivative at x = ", x[judged, None], 0.0)
    _check_claims(value, claimed, x, increasing, max_slope)
    return tally.result()


def _reference(
    fn: Callable[[Any], Any], x: NDArray[np.float64], rtol: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Derivative and its error on the grid: complex steps if they can be trusted, else differences."""
    with np.errstate(all="ignore"):
        slope, noise = differences(lambda t: fn(x + t * np.maximum(np.abs(x), 1.0)), 0.02)
        slope, noise = slope / np.maximum(np.abs(x), 1.0), noise / np.maximum(np.abs(x), 1.0)
        exact = complex_step(fn, x)
        if exact is not None and np.all(np.isfinite(exact)):
            clear = noise <= 1e-6 * np.abs(slope)
            agrees = np.abs(exact - slope)[clear] <= 1e-5 * np.abs(slope)[clear]
            if clear.sum() >= 8 and agrees.all():
                return exact, np.zeros_like(exact)
    return slope, np.where(np.isfinite(noise), noise, np.inf)


def _refuse_lost(
    claimed: NDArray[Any],
    exact: NDArray[np.float64],
    error: NDArray[np.float64],
    x: NDArray[Any],
    kind: np.dtype[Any],
) -> None:
    lost = (claimed == 0) & (np.abs(exact) >= np.finfo(kind).tiny) & (error <= 0.1 * np.abs(exact))
    if lost.any():
        at = int(np.flatnonzero(lost)[np.abs(x[lost]).argmin()])
        raise GradientCheckError(
            f"derivative at x = {x[at]:.6g} is exactly 0, but the true one is "
            f"{exact[at]:.6g}, a normal {kind} number: "
            f"{int(lost.sum())} of {x.size} points lose the gradient; write it from exp(-|x|) "
            "instead of from the value"
        )


def _check_claims(
    value: NDArray[Any], slope: NDArray[Any], x: NDArray[Any], increasing: bool, top: float | None
) -> None:
    if increasing:
        falls = np.flatnonzero(np.diff(value) < 0)
        if falls.size:
            at = int(falls[0])
            raise GradientCheckError(
                f"fn is claimed to increase, but falls between x = {x[at]:.6g} and {x[at + 1]:.6g}"
            )
        if (slope < 0).any():
            raise GradientCheckError(
                f"fn is claimed to increase, but dfn is negative at x = {x[int(slope.argmin())]:.6g}"
            )
    if top is not None and (np.abs(slope) > top * (1 + 1e-12)).any():
        at = int(np.abs(slope).argmax())
        raise GradientCheckError(
            f"|dfn| is claimed to be at most {top}, but is {abs(slope[at]):.17g} at x = {x[at]:.6g}"
        )
