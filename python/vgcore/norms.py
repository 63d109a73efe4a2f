"""Layer: catalogues. Normalisations: what there is and what each computes.

Knows no layer. The equations live in the compiled module; ``vg.BatchNorm``, ``vg.LayerNorm``, ``vg.RMSNorm``
and ``vg.GroupNorm`` are the layers, ``vg.mlp(norm="layer")`` puts one into every step.

Example:
    >>> import vgcore as vg
    >>> vg.norms.names()
    ['batch', 'layer', 'rms', 'group']
"""

from __future__ import annotations

from ._registry import Description, Registry

__all__ = ["describe", "names"]

_registry = Registry("norm", "vg.norms.names()")


def names() -> list[str]:
    """Return the canonical names of all normalisations.

    Example:
        >>> "layer" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return equation, parameters and reference of one normalisation; ``print`` shows them.

    Raises:
        UnknownNameError: no normalisation has this name or alias.

    Example:
        >>> describe("LayerNorm").name
        'layer'
    """
    return _registry.describe(name)
