"""Layer: memory plans. What a pass with a memory budget says on stderr before it runs, once for each plan.

Knows how the compiled module describes a plan; it makes none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Takes the plans where somebody listens ("vgcore", INFO), instead of stderr.
_LOG = logging.getLogger("vgcore")
_QUIET: ContextVar[bool] = ContextVar("vgcore_plans_unsaid", default=False)


@contextmanager
def unsaid() -> Iterator[None]:
    """Let passes in this block say nothing of their plans.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net, x = vg.mlp(depth=3, width=4, rng=0), np.ones((1, 4), np.float32)
        >>> with unsaid():
        ...     flow = net.probe(x, cotangent=x, memory_budget="1MB")
    """
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def say(plan: str, said: set[str]) -> None:
    """Say `plan` unless it is among those `said`: a loop of steps says its plan once."""
    if plan in said or _QUIET.get():
        return
    said.add(plan)
    if _LOG.isEnabledFor(logging.INFO):
        _LOG.info("plan: %s", plan)
    else:
        print(f"vgcore plan: {plan}", file=sys.stderr)
