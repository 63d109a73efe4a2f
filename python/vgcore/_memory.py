"""Layer: memory arithmetic. Sizes in words, what this machine has free, the refusal when it is too little.

Knows nothing of networks: callers bring the estimate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from ._checks import as_size, shown
from .errors import ArgumentError, MemoryBudgetError

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]  # not on every system

#: Below this it is not worth asking the system how much memory is free.
NEGLIGIBLE = 64 * 2**20

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _UNITS |= {_letter: 1000**_power, _letter + "b": 1000**_power, _letter + "ib": 1024**_power}
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)\s*")


def parse_bytes(value: int | str, name: str = "memory_budget") -> int:
    """Return a number of bytes given as an int or as text such as "512MB" or "1.5GiB".

    Raises:
        ArgumentError: not a positive size, or a unit that is not B, kB to EB or KiB to EiB.

    Example:
        >>> parse_bytes("1.5GiB"), parse_bytes("2kB")
        (1610612736, 2000)
    """
    if not isinstance(value, str):
        return as_size(value, name, maximum=2**63 - 1)
    match = _SIZE.fullmatch(value)
    scale = _UNITS.get(match[2].lower()) if match else None
    if match is None or scale is None:
        raise ArgumentError(
            f'{name}: expected bytes, such as 500_000_000, "512MB" or "1.5GiB", got {shown(value)}'
        )
    # Not a float: its range ends before text does, and its digits before sizes do.
    return as_size(int(Decimal(match[1]) * scale), name, maximum=2**63 - 1)


def format_bytes(count: int, *, up: bool = False) -> str:
    """Return a number of bytes in words, with the binary unit that fits, rounded down, or up.

    What is needed is rounded up, so that the figure works as a budget; what there is, down.

    Example:
        >>> format_bytes(1610612736), format_bytes(1610612737, up=True)
        ('1.5 GiB', '1.6 GiB')
    """
    if count < 1024:
        return f"{count} B"
    for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"), start=1):
        if count < 1024 ** (power + 1) or unit == "EiB":
            # Integer arithmetic: an absurd request may exceed the range of a float.
            scale = 1024**power
            tenths = (count * 10 + (scale - 1 if up else 0)) // scale
            # No comma below the largest unit: `parse_bytes` reads what stands here.
            whole = f"{tenths // 10:,}" if tenths > 20_000 else f"{tenths // 10}"
            return f"{whole}.{tenths % 10} {unit}"
    raise AssertionError("unreachable")


def available_memory() -> int | None:
    """Return the bytes that this process could still use without swapping, or None where that is unknown.

    Linux: ``MemAvailable`` of /proc/meminfo, or what the control group or the limit of the address space
    (``ulimit -v``) still allows if that is less. Elsewhere: the physical memory.
    """
    free = _meminfo_available()
    if free is None:
        try:
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):
            return None
    allowed = (_control_group_available(), _address_space_available())
    return min([free, *(left for left in allowed if left is not None)])


def free_budget(most: int = 4 * 2**30) -> int:
    """Return the budget of a call that was given none: `most`, or a large part of what is free."""
    free = available_memory()
    return most if free is None else min(most, int(0.9 * free))


def affordable(what: str, estimate: Callable[..., int]) -> int | None:
    """Return the budget of a pass that was given none: None where its fastest plan fits in what is free.

    ``estimate()`` is what that plan needs, ``estimate(least=True)`` what the leanest does.

    Raises:
        MemoryBudgetError: not even that one fits.
    """
    needed = estimate()
    if needed < NEGLIGIBLE:
        return None
    free = available_memory()
    if free is None or needed <= free:
        return None
    least = estimate(least=True)
    ensure_fits(least, what, "take fewer steps or samples, or probe a part")
    return max(least, int(0.9 * free))


def ensure_fits(needed: int, what: str, advice: str, budget: int | None = None) -> None:
    """Raise MemoryBudgetError when `needed` bytes exceed `budget` (default: what this machine has free)."""
    if budget is None and needed < NEGLIGIBLE:
        return
    limit = available_memory() if budget is None else budget
    if limit is None or needed <= limit:
        return
    source = "are available" if budget is None else "are allowed by memory_budget"
    raise MemoryBudgetError(
        f"{what} needs about {format_bytes(needed, up=True)}, but {format_bytes(limit)} {source}; {advice}"
    )


def _meminfo_available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _address_space_available() -> int | None:
    """Return what the limit of the address space leaves: beyond it nothing is given out, free or not."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))


def _control_group_available() -> int | None:
    root = Path("/sys/fs/cgroup")
    try:
        limit = int((root / "memory.max").read_text("ascii"))  # "max" (no limit) raises ValueError
        used = int((root / "memory.current").read_text("ascii"))
        lines = (root / "memory.stat").read_text("ascii").splitlines()
        # File cache that is not in use is given back on demand.
        cache = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError):
        return None
    return max(0, limit - used + cache)
