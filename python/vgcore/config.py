"""Layer: configuration. Threads, versions and the instruction path in use.

Knows nothing of networks. There is no other global state: seeds and types are arguments.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from . import _core
from ._checks import as_size

__all__ = ["config", "get_num_threads", "set_num_threads"]

#: More threads than any machine this runs on has; a larger number is a slip.
_MAX_THREADS = 1024


def set_num_threads(n: int) -> None:
    """Set how many threads the compiled module uses from now on; results do not depend on it.

    The environment variable ``VGCORE_NUM_THREADS`` sets the number at start.

    Raises:
        ArgumentError: not an integer of at least 1.

    Example:
        >>> import vgcore as vg
        >>> before = vg.get_num_threads()
        >>> vg.set_num_threads(1)
        >>> vg.get_num_threads()
        1
        >>> vg.set_num_threads(before)
    """
    _core.set_num_threads(as_size(n, "n", maximum=_MAX_THREADS))


def get_num_threads() -> int:
    """Return how many threads the compiled module uses.

    Example:
        >>> import vgcore as vg
        >>> vg.get_num_threads() >= 1
        True
    """
    return _core.get_num_threads()


def config() -> dict[str, Any]:
    """Return versions, instruction path and threads: what a bug report or a result's provenance needs.

    Keys: ``version``, ``isa`` (path in use: "avx512", "avx2" or "scalar"; ``VGCORE_ISA`` forces one that the
    processor has), ``isa_available``, ``num_threads``, ``numpy``, ``python``, ``platform``.

    Example:
        >>> import vgcore as vg
        >>> sorted(vg.config())
        ['isa', 'isa_available', 'num_threads', 'numpy', 'platform', 'python', 'version']
    """
    return {
        **_core.config(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}".strip(),
    }
