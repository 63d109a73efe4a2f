"""Layer: training, schedules. Factors of the learning rate, step by step, as values that can be called.

Knows numbers alone. Any function of a step's number, from 0, will do instead.

Example:
    >>> import vgcore as vg
    >>> half = vg.schedules.step(100, 0.5)
    >>> half(0), half(250)
    (1.0, 0.25)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import as_real, as_size, shown
from .errors import ArgumentError

__all__ = ["constant", "cosine", "exponential", "factors", "step", "warmup"]


@dataclass(frozen=True)
class constant:
    """The same `factor` in all steps.

    Example:
        >>> constant()(7)
        1.0
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        """Check the argument."""
        object.__setattr__(self, "factor", as_real(self.factor, "factor", minimum=0.0))

    def __call__(self, step: int) -> float:
        """Return the factor."""
        return self.factor


@dataclass(frozen=True)
class step:
    """``gamma ** (step // size)``: a staircase. Source: torch.optim.lr_scheduler.StepLR.

    Example:
        >>> step(10)(25)
        0.010000000000000002
    """

    size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        object.__setattr__(self, "size", as_size(self.size, "size"))
        object.__setattr__(self, "gamma", as_real(self.gamma, "gamma", minimum=0.0))

    def __call__(self, step: int) -> float:
        """Return the factor."""
        return float(self.gamma ** (step // self.size))


@dataclass(frozen=True)
class exponential:
    """``gamma ** step``. Source: torch.optim.lr_scheduler.ExponentialLR.

    Example:
        >>> exponential(0.5)(3)
        0.125
    """

    gamma: float

    def __post_init__(self) -> None:
        """Check the argument."""
        object.__setattr__(self, "gamma", as_real(self.gamma, "gamma", minimum=0.0))

    def __call__(self, step: int) -> float:
        """Return the factor."""
        return float(self.gamma**step)


@dataclass(frozen=True)
class cosine:
    """``floor + (1 - floor) (1 + cos(pi step / steps)) / 2``, and `floor` from `steps` on.

    `steps` of None means all steps of the training. Source: Loshchilov, Hutter 2017, arXiv:1608.03983.

    Example:
        >>> cosine(100, floor=0.1)(100)
        0.1
    """

    steps: int | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.steps is not None:
            object.__setattr__(self, "steps", as_size(self.steps, "steps"))
        object.__setattr__(self, "floor", as_real(self.floor, "floor", minimum=0.0))

    def for_total(self, total: int) -> cosine:
        """Return the schedule of a training of `total` steps."""
        return self if self.steps is not None else replace(self, steps=total)

    def __call__(self, step: int) -> float:
        """Return the factor."""
        if self.steps is None:
            raise ArgumentError(
                "cosine: expected steps, which only fit knows for itself; write cosine(steps)"
            )
        share = min(step / self.steps, 1.0)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class warmup:
    """``(step + 1) / steps`` for the first `steps`, then what `then` says, counted from there.

    Source: Goyal et al. 2017, arXiv:1706.02677.

    Example:
        >>> rise = warmup(4, then=step(10, 0.5))
        >>> [rise(i) for i in (0, 3, 4, 14)]
        [0.25, 1.0, 1.0, 0.5]
    """

    steps: int
    then: Callable[[int], float] = constant()

    def __post_init__(self) -> None:
        """Check the arguments."""
        object.__setattr__(self, "steps", as_size(self.steps, "steps"))
        object.__setattr__(self, "then", as_schedule(self.then, "then"))

    def for_total(self, total: int) -> warmup:
        """Return the schedule of a training of `total` steps."""
        return replace(self, then=bound(self.then, max(total - self.steps, 1)))

    def __call__(self, step: int) -> float:
        """Return the factor."""
        return (step + 1) / self.steps if step < self.steps else float(self.then(step - self.steps))


def as_schedule(value: Any, name: str = "schedule") -> Callable[[int], float]:
    """Return `value`, a function of a step's number, or the constant schedule for None.

    Raises:
        ArgumentError: something that cannot be called.
    """
    if value is None:
        return constant()
    if isinstance(value, type) or not callable(value):
        raise ArgumentError(
            f"{name}: expected a function of the step's number, such as vg.schedules.cosine(), got "
            f"{shown(value)}"
        )
    return value  # type: ignore[no-any-return]  # reason: what it returns is checked where it is called


def bound(schedule: Callable[[int], float], total: int) -> Callable[[int], float]:
    """Return the schedule of a training of `total` steps, where it wants to know how many there are."""
    bind = getattr(schedule, "for_total", None)
    return schedule if bind is None else bind(total)


def factors(schedule: Callable[[int], float], first: int, count: int) -> NDArray[np.float64]:
    """Return the factors of steps first, first + 1, ..., (count,).

    Raises:
        ArgumentError: a factor that is negative or no finite number.

    Example:
        >>> factors(exponential(0.5), 1, 3)
        array([0.5  , 0.25 , 0.125])
    """
    found = np.empty(count)
    for i in range(count):
        found[i] = as_real(schedule(first + i), f"schedule({first + i})", minimum=0.0)
    return found
