"""Test layer: what the tests of bad input share: a small network, its data, a check of refusals; no test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from numpy.typing import NDArray

BATCH, WIDTH, CLASSES = 6, 4, 3


def network(dtype: str = "float32") -> vg.Network:
    return vg.mlp(
        depth=3, width=5, in_features=WIDTH, out_features=CLASSES, activation="tanh", dtype=dtype, rng=0
    )


def samples(dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(0).standard_normal((BATCH, WIDTH)).astype(dtype)


LABELS = np.array([0, 1, 2, 0, 1, 2])


@contextmanager
def refused(error: type[Exception], *words: str) -> Iterator[None]:
    """Expect `error`, with all of `words` in its message."""
    with pytest.raises(error) as info:
        yield
    message = str(info.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    assert "\n" not in message
