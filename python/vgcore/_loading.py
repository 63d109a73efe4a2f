"""Layer: networks, read from files. Knows the network and the file format."""

from __future__ import annotations

import os

from . import _saving
from ._mitigation_base import Applied
from .network import Network

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> Network:
    """Return the network that ``net.save(path)`` saved: structure, parameters, seed and cures.

    Raises:
        FileNotFoundError: no such file.
        ArgumentError: not a saved network, or one of a newer version.
        MissingDependencyError: the package safetensors is not installed.

    Example:
        >>> import tempfile, pathlib, vgcore as vg
        >>> net = vg.mlp(depth=3, width=4, rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(pathlib.Path(folder, "net.safetensors"))
        ...     again = vg.load(pathlib.Path(folder, "net.safetensors"))
        >>> again
        Network(in_features=4, out_features=4, steps=3, parameters=60, dtype=float32, seed=0)
    """
    structure, layers, parameters = _saving.read(path)
    applied = Applied.from_dict(structure.get("applied", {}))
    return Network._restore(
        structure["in_features"],
        layers,
        structure["dtype"],
        structure["seed"],
        parameters,
        applied,
        bool(structure.get("touched", True)),
    )
