"""Test layer: what the tests of vg.theory share (reference entries, activations by the entries' names)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import vgcore as vg
from helpers import DATA

#: Every activation of the catalogue, and some away from their defaults.
ACTIVATIONS: list[str | vg.Activation] = [
    *vg.activations.names(),
    vg.Activation("leaky_relu", negative_slope=0.3),
    vg.Activation("celu", alpha=0.5),
    vg.Activation("silu", beta=3.0),
    vg.Activation("hardtanh", min_val=-0.4, max_val=1.7),
    vg.Activation("softplus", beta=2.0),
]


def label(activation: str | vg.Activation) -> str:
    """A test's id for an activation."""
    return activation if isinstance(activation, str) else repr(activation)


@cache
def entries() -> dict[str, dict[str, Any]]:
    """All reference entries that theory answers, by id, from the three files that hold them."""
    found = {}
    for name in ("known_answers", "known_theory", "known_recurrent"):
        for entry in json.loads((DATA / f"{name}.json").read_text())["entries"]:
            found[entry["id"]] = entry
    return found


def ids(kind: str, start: str = "") -> list[str]:
    """Ids of one kind whose names begin so."""
    return [name for name, entry in entries().items() if entry["kind"] == kind and name.startswith(start)]


def named(name: str) -> str | vg.Activation:
    """The activation for a name as the entries write it."""
    if name.startswith("leaky_relu_"):
        return vg.Activation("leaky_relu", negative_slope=float(name.removeprefix("leaky_relu_")))
    return name
