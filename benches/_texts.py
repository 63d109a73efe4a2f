"""Benches, how figures are written: times, tables, what they depend on. Knows no workload."""

from __future__ import annotations

from typing import Any


def milliseconds(seconds: float) -> str:
    """Return a time in ms with three digits."""
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine_text(machine: dict[str, Any], peak: float) -> str:
    """Return what the figures depend on as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = "/".join(f"{x:.1f}" for x in machine["load_average"])
    return (
        f"{machine['cpu']}, {machine['cpus']} processors, {machine['threads']} threads each; "
        f"{machine['system']}; "
        f"vgcore on {machine['isa']}, OpenBLAS kernels {machine['openblas_kernels'] or 'unknown'}; "
        f"{versions}; "
        f"measured float32 peak {peak:.0f} GFLOP/s; load average at the start {load}."
    )
