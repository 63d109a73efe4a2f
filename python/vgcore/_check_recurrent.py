"""Layer: testing tools, networks along time. Compares the gradients of a recurrent network with differences.

Knows Network through its public face. Steps share their parameters, so a whole sequence is one function of
them; how the input's gradient reaches back is compared step by step, each step on a scale of its own, so that
an early one is not excused by a late one's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._check_network import check_array, plain
from ._gradcheck import Tally
from .network import Network

__all__ = ["check_recurrent"]

Array = NDArray[Any]
#: Steps of a sequence whose inputs are compared: the ends and some between.
_MOST_STEPS = 12


def check_recurrent(
    net: Network,
    x: Array,
    y: Any,
    loss: Any,
    cotangent: Array | None,
    *,
    lengths: Any,
    state: Any,
    rtol: float,
    max_entries: int,
    seed: int,
) -> Tally:
    """Check the gradients of `net` for its parameters, input and given state; raise at the first error."""
    rng, tally = np.random.default_rng(seed), Tally(rtol)
    start: dict[str, Array] | None = None
    if state is not None:
        inputs = net._door.open(x, state=state)  # in any form that a pass takes
        parts = net._door.one_recurrent("state").unit.states
        start = dict(zip(parts, inputs.series.state or (), strict=True))
    goal = {"y": y, "loss": loss} if cotangent is None else {"cotangent": cotangent}
    own = net.gradients(x, **goal, lengths=lengths, state=start, training=False)
    twin = Network(net.in_features, [plain(layer) for layer in net.layers], dtype="float64", rng=0)
    held = {name: value.astype(np.float64) for name, value in net.parameters().items()}
    twin.load_parameters(held)
    start = start and {part: value.astype(np.float64) for part, value in start.items()}
    wide = x.astype(np.float64)
    value = _value(twin, y, loss, cotangent, lengths)

    for name, base in held.items():

        def moved(array: Array, name: str = name) -> float:
            twin.load_parameters({**held, name: array})
            return value(wide, start)

        check_array(tally, _plain(*own.scaled(name)), base, moved, name, max_entries, rng)
        twin.load_parameters(held)
    for part, base in (start or {}).items():

        def other(array: Array, part: str = part) -> float:
            return value(wide, {**(start or {}), part: array})

        check_array(
            tally, _plain(*own.scaled(f"state.{part}")), base, other, f"state.{part}", max_entries, rng
        )
    claimed = _plain(*own.scaled_input)
    steps = np.unique(np.linspace(0, x.shape[1] - 1, min(_MOST_STEPS, x.shape[1])).astype(int))
    for step in steps:

        def at(array: Array, step: int = int(step)) -> float:
            inputs = wide.copy()
            inputs[:, step] = array
            return value(inputs, start)

        share = max(1, max_entries // len(steps))
        check_array(tally, claimed[:, step], wide[:, step], at, f"input, step {step}", share, rng)
    return tally


def _value(
    twin: Network, y: Any, loss: Any, cotangent: Array | None, lengths: Any
) -> Callable[[Array, Mapping[str, Array] | None], float]:
    if cotangent is not None:
        weights = cotangent.astype(np.float64)
        return lambda x, state: float(np.sum(weights * twin.forward(x, lengths=lengths, state=state)))
    target = np.asarray(y)
    target = target.astype(np.float64) if target.dtype.kind == "f" else target
    return lambda x, state: float(twin.loss(x, target, loss, lengths=lengths, state=state))


def _plain(mantissa: Any, exponent: Any) -> Array:
    """A scaled array as float64, whose range is float32's many times over."""
    values, powers = np.asarray(mantissa, np.float64), np.clip(np.asarray(exponent), -4000, 4000)
    return np.asarray(np.ldexp(values, powers.reshape(powers.shape + (1,) * (values.ndim - powers.ndim))))
