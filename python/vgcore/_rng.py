"""Layer: seeds. Turns every form of `rng=` into one integer that reproduces the result.

Knows nothing of networks. The generator itself (Philox4x32-10, keyed by seed, tensor and layer) is in the
compiled module.

Two integers are kept apart:

- the *seed*, which results show: passing it back as ``rng=seed`` gives the same network again;
- the *key*, ``SeedSequence(seed).generate_state(1, uint64)[0]``: the 64 bits that the compiled module uses.
  Hashing makes neighbouring seeds (0, 1, 2, ...) unrelated.
"""

from __future__ import annotations

import operator
from typing import TypeAlias

import numpy as np

from ._checks import shown
from .errors import ArgumentError

RngLike: TypeAlias = (
    "int | np.integer | np.random.SeedSequence | np.random.Generator | np.random.BitGenerator | None"
)


def seed_of(rng: RngLike, name: str = "rng") -> int:
    """Return the seed, a non-negative int, that `rng` stands for.

    - ``None``: fresh entropy from the operating system (64 bits of it).
    - ``int``: itself; it must not be negative.
    - ``SeedSequence``: its entropy where that is the whole of it (so ``SeedSequence(5)`` and ``5`` agree),
      else 64 bits of its state (a spawned child); the sequence is not changed.
    - ``Generator`` or ``BitGenerator``: one draw of 63 bits; the generator advances.

    Raises:
        ArgumentError: anything else, or a negative int.

    Source: Scientific Python SPEC 7 (seeding pseudo-random number generation).

    Example:
        >>> import numpy as np
        >>> seed_of(7), seed_of(np.random.SeedSequence(7))
        (7, 7)
    """
    if rng is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(rng, np.random.SeedSequence):
        plain = not rng.spawn_key and rng.pool_size == 4
        if plain and isinstance(rng.entropy, (int, np.integer)):
            return int(rng.entropy)
        return int(rng.generate_state(1, np.uint64)[0])
    if isinstance(rng, np.random.BitGenerator):
        rng = np.random.Generator(rng)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    expected = "None, an integer, a numpy SeedSequence or a numpy Generator"
    if isinstance(rng, (bool, np.bool_)):
        raise ArgumentError(f"{name}: expected {expected}, got {shown(rng)}")
    if isinstance(rng, np.random.RandomState):
        raise ArgumentError(
            f"{name}: expected {expected}, got a legacy RandomState; use numpy.random.default_rng(seed)"
        )
    try:
        seed = operator.index(rng)
    except TypeError:
        raise ArgumentError(f"{name}: expected {expected}, got {shown(rng)}") from None
    if seed < 0:
        raise ArgumentError(f"{name}: expected a seed of at least 0, got {seed}")
    return seed


def key_of(seed: int) -> int:
    """Return the 64-bit key that the compiled module derives every weight from.

    Example:
        >>> key_of(0) == key_of(0), key_of(0) == key_of(1)
        (True, False)
    """
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
