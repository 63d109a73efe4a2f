"""Layer: testing tools, networks. Checks a network's gradients step by step, so that depth cannot hide an
error.

Knows Network and its layers through their public face. Differences through a whole deep chain drown in
rounding: each step is cut out, its own derivatives are compared with differences in float64, and the chain of
the cut pieces is compared with the gradients of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._gradcheck import GradientCheckError, Tally
from ._layer_values import values_of
from ._numdiff import differences
from .branches import Highway, draws
from .layers import Dense, Layer, Repeat, replace_name
from .network import Network
from .normalisation import Normalisation

__all__ = ["check_network", "pieces"]

Array = NDArray[Any]
_STEP = 0.02


def plain(layer: Layer) -> Layer:
    """Return the layer with weights that start at zero: its values are about to be replaced."""
    values = values_of(layer)
    if isinstance(layer, Dense):
        values |= {"init": "zeros", "bias_init": "zeros"}
    if isinstance(layer, Highway):
        values |= {"init": None, "gate_init": "zeros"}
    for key, inside in values.items():
        if isinstance(inside, tuple):
            values[key] = tuple(
                replace_name(plain(inner), str(at) if inner.name is None else inner.name)
                for at, inner in enumerate(inside)
            )
    return type(layer).from_fields(values)


class Piece:
    """One step of a network as a network of its own, and where its parameters are in the whole."""

    def __init__(self, layers: Sequence[Layer], whole: Network, width: int, at: int | None) -> None:
        """Cut out `layers`, whose input has `width` features; `at` is the place in an untied Repeat's
        stack."""
        self.at = at
        self.net = Network(width, list(layers), dtype=whole.dtype, rng=0)
        values = {name: whole.parameters()[name] for name in self.net.parameters()}
        if at is not None:
            values = {name: value[at : at + 1] for name, value in values.items()}
        self.net.load_parameters(values)
        self.twin = Network(width, list(layers), dtype="float64", rng=0)
        self.twin.load_parameters({name: value.astype(np.float64) for name, value in values.items()})


def pieces(net: Network) -> Iterator[Piece]:
    """Cut a network at its top level: a Dense with its activation, another layer, or one iteration of a
    Repeat."""
    width, position, layers = net.in_features, 0, list(net.layers)
    named = [
        replace_name(plain(layer), str(i) if layer.name is None else layer.name)
        for i, layer in enumerate(layers)
    ]
    while position < len(named):
        layer = named[position]
        if isinstance(layer, Repeat):
            once = Repeat(layer.body, 1, tied=layer.tied, name=layer.name)
            for iteration in range(layer.n):
                yield Piece([once], net, width, None if layer.tied else iteration)
                width = layer.out_features(width)
            position += 1
            continue
        opens = isinstance(layer, (Dense, Normalisation))
        fused = opens and position + 1 < len(named) and named[position + 1].kind == "activation"
        group = named[position : position + 1 + fused]
        yield Piece(group, net, width, None)
        for member in group:
            width = member.out_features(width)
        position += len(group)


def _entries(size: int, limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.arange(size) if size <= limit else np.sort(rng.choice(size, limit, replace=False))


def check_array(
    tally: Tally,
    claimed: Array,
    base: Array,
    value: Callable[[Array], float],
    where: str,
    limit: int,
    rng: np.random.Generator,
) -> None:
    """Compare `claimed` with differences of `value` around `base`: up to `limit` entries, and one random
    direction."""
    flat = _entries(base.size, limit, rng)
    index = np.stack(np.unravel_index(flat, base.shape), axis=1)
    unit = _STEP * max(1.0, float(np.sqrt(np.mean(base**2))))

    def along(direction: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return differences(lambda t: value(base + t * direction), unit)

    measured, error = np.empty(flat.size), np.empty(flat.size)
    for row, entry in enumerate(flat):
        direction = np.zeros(base.size)
        direction[entry] = 1.0
        measured[row], error[row] = along(direction.reshape(base.shape))
    tally.compare(claimed.reshape(-1)[flat], measured, error, where, index)
    if flat.size < base.size:  # the entries left out, all at once
        direction = rng.choice([-1.0, 1.0], base.shape)
        slope, noise = along(direction)
        size = float(np.linalg.norm(claimed))
        tally.compare(np.sum(claimed * direction), slope, noise, f"{where} (random direction)", scale=size)


def check_network(
    net: Network,
    x: Array,
    y: Any,
    loss: Any,
    cotangent: Array | None,
    *,
    rtol: float,
    chain_rtol: float,
    max_entries: int,
    seed: int,
) -> Tally:
    """Check every step of `net` at `x` and the chain of all steps; raise GradientCheckError at the first
    error."""
    rng = np.random.default_rng(seed)
    tally = Tally(rtol)
    # What is drawn hangs on a layer's path and copy, which differ in a piece: such networks are checked in
    # inference.
    training = not draws(net.layers)
    start = {"y": y, "loss": loss} if cotangent is None else {"cotangent": cotangent}
    whole = net.gradients(x, **start, training=training)
    parts = list(pieces(net))
    inputs = [x]
    for part in parts[:-1]:
        inputs.append(part.net.forward(inputs[-1], training=training))
    sums: dict[str, tuple[Array, int]] = {}
    rows: tuple[Array, Array] | None = None  # dL/d(output of the piece): mantissa and exponent by rows
    for number in range(len(parts) - 1, -1, -1):
        part, h = parts[number], inputs[number]
        if rows is None and cotangent is None:
            own, top = part.net.gradients(h, y, loss=loss, training=training), 0
            value = _loss_value(y, loss, training)
        else:
            mantissa, exponent = (np.asarray(cotangent), np.zeros(len(x), np.int64)) if rows is None else rows
            aligned, top = _align(mantissa, exponent, number)
            own = part.net.gradients(h, cotangent=aligned, training=training)
            value = _projection(aligned, training)
        _check_piece(tally, part, own, h.astype(np.float64), value, f"step {number}", max_entries, rng)
        for name in part.net.parameters():
            _accumulate(sums, whole, part, own, name, top, number, chain_rtol)
        mantissa, exponent = own.scaled_input
        rows = np.asarray(mantissa), np.asarray(exponent, np.int64) + top
    for name, (total, top) in sums.items():
        full, full_e = _one_exponent(*whole.scaled(name))
        _same(
            total, np.ldexp(full, np.clip(full_e - top, -4000, 4000)), f"{name} (sum over steps)", chain_rtol
        )
    return tally


def _align(mantissa: Array, exponent: Array, number: int) -> tuple[Array, int]:
    """Rows on one exponent, the largest magnitude in [1/2, 1); rows too far below vanish as in any sum with
    the largest."""
    peaks = np.abs(mantissa).max(axis=1)
    if not np.all(np.isfinite(peaks)):
        raise GradientCheckError(f"step {number}: the incoming gradient is not finite")
    if not peaks.any():
        raise GradientCheckError(
            f"step {number}: the incoming gradient is exactly zero, so nothing below it can "
            "be checked: choose an "
            f"input, a cotangent or a seed for which the network is not dead"
        )
    heights = np.where(peaks > 0, np.frexp(peaks)[1].astype(np.int64) + exponent, np.iinfo(np.int32).min)
    top = int(heights.max())
    return np.ldexp(mantissa, np.clip(exponent - top, -4000, 4000)[:, None]).astype(mantissa.dtype), top


def _projection(aligned: Array, training: bool) -> Callable[[Network, Array], float]:
    weights = aligned.astype(np.float64)
    return lambda net, h: float(np.sum(weights * net.forward(h, training=training)))


def _loss_value(y: Any, loss: Any, training: bool) -> Callable[[Network, Array], float]:
    target = np.asarray(y)
    target = target.astype(np.float64) if target.dtype.kind == "f" else target
    return lambda net, h: float(net.loss(h, target, loss=loss, training=training))


def _check_piece(
    tally: Tally,
    part: Piece,
    own: Any,
    h: Array,
    value: Callable[[Network, Array], float],
    where: str,
    limit: int,
    rng: np.random.Generator,
) -> None:
    held = part.twin.parameters()
    for name, base in held.items():

        def at(moved: Array, name: str = name) -> float:
            part.twin.load_parameters({**held, name: moved})
            return value(part.twin, h)

        check_array(tally, np.asarray(own[name], np.float64), base, at, f"{where}, {name}", limit, rng)
        part.twin.load_parameters(held)
    mantissa, exponent = own.scaled_input
    claimed = np.ldexp(np.asarray(mantissa, np.float64), np.asarray(exponent)[:, None])
    check_array(tally, claimed, h, lambda moved: value(part.twin, moved), f"{where}, input", limit, rng)


def _accumulate(
    sums: dict[str, tuple[Array, int]],
    whole: Any,
    part: Piece,
    own: Any,
    name: str,
    top: int,
    number: int,
    rtol: float,
) -> None:
    """Compare a piece's own parameter gradient with the whole network's, or add it to the sum of a shared
    one."""
    mine, mine_e = _one_exponent(*own.scaled(name))
    mine_e += top
    if part.at is not None:
        mantissa, exponent = whole.scaled(name)
        full, full_e = _one_exponent(mantissa[part.at], np.asarray(exponent)[part.at])
        where = f"step {number}, {name}: whole network against its pieces"
        _same(mine[0], np.ldexp(full, np.clip(full_e - mine_e, -4000, 4000)), where, rtol)
        return
    total, total_e = sums.get(name, (np.zeros_like(mine), mine_e))
    best = max(e for array, e in ((total, total_e), (mine, mine_e)) if array.any() or array is mine)
    sums[name] = np.ldexp(total, max(total_e - best, -4000)) + np.ldexp(mine, max(mine_e - best, -4000)), best


def _one_exponent(mantissa: Any, exponent: Any) -> tuple[Array, int]:
    """Bring an array with an exponent for each leading index onto the largest exponent in use."""
    m, e = np.asarray(mantissa, np.float64), np.asarray(exponent, np.int64)
    e = e.reshape(e.shape + (1,) * (m.ndim - e.ndim))
    used = np.broadcast_to(e, m.shape)[m != 0]
    top = int(used.max()) if used.size else 0
    return np.ldexp(m, np.clip(e - top, -4000, 0)), top


def _same(got: Array, expected: Array, where: str, rtol: float) -> None:
    size = float(np.linalg.norm(expected))
    gap = float(np.linalg.norm(got - expected))
    if not gap <= rtol * size:
        at = np.unravel_index(int(np.abs(got - expected).argmax()), got.shape)
        raise GradientCheckError(
            f"{where}{list(map(int, at))}: {got[at]:.17g} against {expected[at]:.17g}; "
            "relative difference by norm "
            f"{gap / size if size else np.inf:.3g}, tolerance {rtol:.3g}"
        )
