"""Layer: model description. The values that a layer is built from, and layers with others of them.

Knows that layers are dataclasses with `from_fields`; no layer in particular.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from .layers import Layer

__all__ = ["changed", "values_of"]

L = TypeVar("L", bound="Layer")


def values_of(layer: Layer) -> dict[str, Any]:
    """Return the values of a layer's fields, from which ``from_fields`` builds it again.

    Example:
        >>> import vgcore as vg
        >>> values_of(vg.Dense(4))["features"]
        4
    """
    return {f.name: getattr(layer, f.name) for f in fields(layer)}  # type: ignore[arg-type]  # every layer is a dataclass


def changed(layer: L, **values: Any) -> L:
    """Return the layer with other values of some of its fields.

    Example:
        >>> import vgcore as vg
        >>> changed(vg.Dense(4, name="a"), features=8).features
        8
    """
    return cast("L", layer.from_fields({**values_of(layer), **values}))
