"""Layer: depth, in stages. Training that starts shallow and grows.

Knows networks, how they grow, and `fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_size, shown
from ._depth_grow import find_repeat, grow
from ._rng import RngLike, seed_of
from .errors import ArgumentError
from .network import Network

if TYPE_CHECKING:
    from .history import History

__all__ = ["Progressive", "progressive"]


@dataclass(frozen=True, repr=False, eq=False)
class Progressive:
    """What training by growth gave: the deep network, and the history of each stage.

    Attributes:
        network: after the last stage.
        depths: steps of the growing Repeat at each stage.
        histories: one History a stage.
    """

    network: Network
    depths: tuple[int, ...]
    histories: tuple[History, ...]

    @property
    def loss(self) -> NDArray[np.float64]:
        """Loss of every training step, all stages one after the other."""
        return np.concatenate([np.asarray(history.loss) for history in self.histories])

    @property
    def stage(self) -> NDArray[np.int64]:
        """Which stage each training step belongs to."""
        return np.repeat(np.arange(len(self.depths)), [len(history.loss) for history in self.histories])

    def to_dict(self) -> dict[str, Any]:
        """Return depths, losses and stages as plain Python values."""
        return {"depths": list(self.depths), "loss": self.loss.tolist(), "stage": self.stage.tolist()}

    def __repr__(self) -> str:
        """One line: the depths and the loss at both ends."""
        depths = " -> ".join(f"{depth:,}" for depth in self.depths)
        return f"<Progressive {depths} steps: loss {self.loss[0]:.6g} -> {self.loss[-1]:.6g}>"


def progressive(
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    *,
    to: int | Sequence[int],
    at: str | None = None,
    noise: float = 0.0,
    epochs: int | Sequence[int] = 1,
    rng: RngLike = None,
    **fit: Any,
) -> Progressive:
    """Train a shallow network, grow it, train on, until it is deep. The network that came in stays as it is.

    Args:
        net: the shallow network, as for `grow`.
        x, y: training data, as for `Network.fit`.
        to: steps of the Repeat at the end, reached by doubling; or those of each stage in turn.
        at, noise: as for `grow`.
        epochs: passes over the data in each stage, the same for all or one number each. The first stage
            trains the network as it came.
        rng: seed of the order of samples; each stage derives its own.
        fit: what else `Network.fit` takes: optimizer, clip, batch_size, validation, ... The optimizer starts
            anew in each stage.

    Raises:
        ArgumentError: depths that do not grow, or as many epochs as there are not stages; as for `grow`.
        Others as for `Network.fit`.

    Source: Hinton, Osindero, Teh 2006 grow by layers too; by identity steps, as in Chen et al. 2016.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.mlp(2, 8, in_features=4, out_features=2, activation="relu", rng=0)
        >>> x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
        >>> vg.depth.progressive(net, x, x[:, :2], to=16, rng=0).depths
        (2, 4, 8, 16)
    """
    _, repeat = find_repeat(net, at)
    depths = _stages(repeat.n, to)
    passes = _epochs(epochs, depths)
    seed = seed_of(rng)
    current, histories = net.copy(), []
    for stage, (depth, count) in enumerate(zip(depths, passes, strict=True)):
        current = grow(current, depth, at=at, noise=noise)
        order = np.random.SeedSequence([seed, stage])
        histories.append(current.fit(x, y, epochs=count, rng=order, **fit))
    return Progressive(current, depths, tuple(histories))


def _stages(start: int, to: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(to, Sequence) and not isinstance(to, (str, bytes)):
        wanted = [as_size(depth, f"to[{i}]") for i, depth in enumerate(to)]
    else:
        last, wanted = as_size(to, "to"), []
        depth = 2 * start
        while depth < last:
            wanted.append(depth)
            depth *= 2
        wanted.append(last)
    depths = [start, *wanted] if wanted[:1] != [start] else wanted
    if any(b <= a for a, b in pairwise(depths)):
        raise ArgumentError(
            f"to: expected depths that grow from the {start} steps that there are, got {shown(to)}"
        )
    return tuple(depths)


def _epochs(epochs: int | Sequence[int], depths: Sequence[int]) -> list[int]:
    if isinstance(epochs, Sequence) and not isinstance(epochs, (str, bytes)):
        if len(epochs) != len(depths):
            raise ArgumentError(
                f"epochs: expected one number, or {len(depths)} for the stages {tuple(depths)}, "
                f"got {len(epochs)}"
            )
        return [as_size(count, f"epochs[{i}]") for i, count in enumerate(epochs)]
    return [as_size(epochs, "epochs")] * len(depths)
