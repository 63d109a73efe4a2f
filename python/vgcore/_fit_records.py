"""Layer: results, training. The plain arrays that a run of training leaves behind.

Knows nothing of networks; `history` turns these into what people read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Records", "Units", "Validation"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """What stands along the unit axis: one entry a unit, nearest the input first.

    Along depth a unit is a Dense with its Activation, a lone Activation, the end of a Residual and so on. A
    network with recurrent layers has one entry a parameter instead, because its steps share them: the norm is
    then that of the parameter's whole gradient.
    """

    #: What each is called: "hidden[3]", or the parameter's name along time.
    names: tuple[str, ...]
    #: The step of the network that each belongs to (the top-level layer or iteration), -1 along time.
    steps: Ints
    #: "dense", "activation", "residual", ... or "parameter" along time.
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self.names)


@dataclass(frozen=True)
class Validation:
    """What held-out data gave after one epoch."""

    epoch: int
    loss: float
    #: Accuracy for class labels, else the coefficient of determination.
    score: float


@dataclass(frozen=True)
class Records:
    """Everything measured in one call of `fit`, or in several that continue each other.

    Shapes: `steps` counts the updates, `recorded` of which were looked at closely; their gradient figures are
    those of the batch before its update and before any clipping.
    """

    #: Mean loss of each step's batch, before its update, (steps,).
    loss: Floats
    #: Share of the batch's labels that were right, (steps,); None without class labels.
    accuracy: Floats | None
    #: Learning rate of each step, the schedule applied, (steps,).
    lr: Floats
    #: Epoch of each step, from 0, (steps,).
    epoch: Ints
    #: Numbers of the steps that the figures below belong to, (k,).
    recorded: Ints
    #: log2 of the norm of dL/d(output of the unit), over the batch, (k, units); -inf for zero.
    log2_grad_norm: Floats
    #: Norm of a step's change of the unit's weights over the norm of the weights, (k, units); NaN without
    #: weights. None unless stats="full".
    update_ratio: Floats | None
    #: Outputs of the unit that were zero for the whole batch, (k, units). None unless stats="full".
    dead: Ints | None
    #: Weights of the unit that the update left as they were, to the bit, (k, units). None unless "full".
    unchanged: Ints | None
    #: The unit axis.
    units: Units
    #: One entry for each epoch behind which the held-out data was looked at.
    validation: tuple[Validation, ...] = ()
    #: Seconds that each epoch took, validation left out, (epochs,).
    seconds: Floats = field(default_factory=lambda: np.zeros(0))
    #: Why training ended before its time, as "step 12: the loss is nan"; None where it did not.
    stopped: str | None = None
    #: Where it came from: network, loss, optimizer, clip, batch_size, seed, ...
    meta: Mapping[str, Any] = field(default_factory=dict)
    #: What `fit(resume=)` takes: arrays by name, and plain values. None where nothing was trained.
    state: Mapping[str, Any] | None = None
    #: Weights of the unit that are exactly zero after the update, (k, units). None unless stats="full", and
    #: in files from before it was counted.
    zero_weights: Ints | None = None
