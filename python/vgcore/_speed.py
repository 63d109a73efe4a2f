"""Layer: the machine. How fast a step of training is, beside the peak of the processor.

Knows one workload and how to time it; what a network is for it does not know.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from .layers import Dense, walk
from .models import mlp
from .network import Network
from .optimizers import SGD

__all__ = ["WORKLOAD", "Speed", "step_speed"]

_DEPTH, _WIDTH, _BATCH = 100, 256, 128
#: What is timed: small matrices, as networks of this kind have, too many to stay in a cache.
WORKLOAD: Final = f"SGD, {_DEPTH} relu layers of {_WIDTH} units, batch {_BATCH}"
#: Steps of one measurement: few enough that one of several is not disturbed, enough to hide its beginning.
_STEPS: Final = 4


@dataclass(frozen=True)
class Speed:
    """A training step: seconds that it took, and billions of operations a second of its matrix products."""

    seconds: float
    gflops: float

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, and what was timed, as plain values."""
        return {**asdict(self), "workload": WORKLOAD}


def step_speed(dtype: str, seconds: float) -> Speed:
    """Time training steps for about as many `seconds`, twice at least; the fastest counts.

    Example:
        >>> step_speed("float32", 0.01).gflops > 0
        True
    """
    net = mlp(_DEPTH, _WIDTH, in_features=_WIDTH, out_features=10, dtype=dtype, rng=0)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(_BATCH, _WIDTH)).astype(dtype)
    y = draw.integers(0, 10, _BATCH)
    best = np.inf
    start = time.perf_counter()
    for count in range(1_000_000):
        began = time.perf_counter()
        net.fit(x, y, batch_size=_BATCH, epochs=_STEPS, optimizer=SGD(1e-4), stats="none")
        now = time.perf_counter()
        if count:  # the first brings memory and threads up
            best = min(best, (now - began) / _STEPS)
        if count and now - start >= seconds:
            break
    return Speed(best, 1e-9 * _operations(net) / best)


def _operations(net: Network) -> float:
    """Return the operations of the products in a step: a multiplication and an addition count as two."""
    forward = first = 0
    for placed in walk(net.layers, net.in_features):
        if isinstance(placed.layer, Dense):
            size = placed.times * placed.in_features * placed.layer.features
            first = first or size
            forward += size
    # Forward, weight gradients, and the gradient of every layer's input but the data.
    return 2.0 * _BATCH * (3 * forward - first)
