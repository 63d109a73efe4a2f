"""Layer: cures, rewriting. Walks chains of layers and keeps the names that weights are drawn by.

Knows layers as values and where blocks begin and end in a chain; knows no cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._layer_values import changed
from ._mitigation_base import DoesNotApply, Draft, Origin
from ._surgery import with_copies
from .initializers import FromArray, Initializer
from .layers import Activation, Context, Dense, Layer, Repeat, chain_specs, leading_activation, walk
from .recurrent import Recurrent

__all__ = [
    "Place",
    "Run",
    "edit_layers",
    "following",
    "join",
    "named",
    "nothing_to_change",
    "piece",
    "rewrite",
    "runs",
    "same_description",
    "same_start",
    "settle",
    "starts",
]


@dataclass(frozen=True)
class Place:
    """Where a chain of layers stands: its path, its input's width, what is around it, how often it runs."""

    path: tuple[str, ...]
    in_features: int
    inside: tuple[Layer, ...] = ()
    times: int = 1

    def name_of(self, layer: Layer, index: int) -> str:
        """Return what the names of a layer's parameters begin with: its path and a dot."""
        return "".join(f"{part}." for part in join(self.path, layer, index))

    def enter(self, layer: Layer, index: int, width: int) -> Place:
        """Return the place of the chain inside a container."""
        times = self.times * (layer.n if isinstance(layer, Repeat) else 1)
        return Place(join(self.path, layer, index), width, (*self.inside, layer), times)


def join(path: tuple[str, ...], layer: Layer, index: int) -> tuple[str, ...]:
    """Return the path of a layer at a position in a chain."""
    part = str(index) if layer.name is None else layer.name
    return (*path, part) if part else path


def named(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers with their positions written down as names, where parameters are drawn by them.

    Afterwards layers may be put between or around them without changing a parameter's name.
    """
    result = []
    for index, layer in enumerate(layers):
        if layer.body:
            layer = changed(layer, body=named(layer.body))
        # An Activation that learns has a parameter; the width does not matter for whether it has one.
        if layer.name is None and (layer.body or layer.own_parameters(1)):
            layer = changed(layer, name=str(index))
        result.append(layer)
    return tuple(result)


Edit = Callable[[tuple[Layer, ...], Place], Sequence[Layer]]


def rewrite(layers: Sequence[Layer], place: Place, edit: Edit) -> tuple[Layer, ...]:
    """Return the chain after `edit` has seen every chain of layers in it, the innermost first."""
    result = []
    width = place.in_features
    for index, layer in enumerate(layers):
        if layer.body:
            inner = place.enter(layer, index, width)
            layer = changed(layer, body=rewrite(layer.body, inner, edit))
        result.append(layer)
        width = layer.out_features(width)
    return tuple(edit(tuple(result), place))


def edit_layers(draft: Draft, edit: Callable[[Layer, str, int], Layer]) -> Draft:
    """Return the draft with `edit` done to every layer, which is told its path and its input's width."""

    def each(chain: tuple[Layer, ...], place: Place) -> list[Layer]:
        result, width = [], place.in_features
        for index, layer in enumerate(chain):
            result.append(edit(layer, ".".join(join(place.path, layer, index)), width))
            width = layer.out_features(width)
        return result

    return replace(draft, layers=rewrite(draft.layers, Place((), draft.in_features), each))


@dataclass(frozen=True)
class Run:
    """Layers ``chain[start:stop]``: a Dense with the activation and all else that follows it elementwise."""

    start: int
    stop: int
    layers: tuple[Layer, ...]
    in_features: int
    out_features: int

    @property
    def dense(self) -> Dense:
        """The Dense that it begins with."""
        first = self.layers[0]
        assert isinstance(first, Dense)
        return first

    @property
    def activated(self) -> bool:
        """Whether there is an activation in it: the last Dense of a network has none."""
        return _has_activation(self.layers)

    @property
    def square(self) -> bool:
        """Whether it keeps the width, so that a shortcut fits around it."""
        return self.in_features == self.out_features


def _has_activation(layers: Sequence[Layer]) -> bool:
    return any(isinstance(layer, Activation) or _has_activation(layer.body) for layer in layers)


def runs(chain: Sequence[Layer], in_features: int, *, blocks: bool = False) -> Iterator[Run]:
    """Yield every Dense of a chain with what follows it up to the next Dense or container.

    With `blocks` also every residual or highway block, as a run of one layer.
    """
    width, at = in_features, 0
    while at < len(chain):
        if blocks and chain[at].kind in ("residual", "highway"):
            after = chain[at].out_features(width)
            yield Run(at, at + 1, (chain[at],), width, after)
            width, at = after, at + 1
            continue
        if not isinstance(chain[at], Dense):
            width, at = chain[at].out_features(width), at + 1
            continue
        stop = at + 1
        while stop < len(chain) and not _begins(chain[stop]):
            stop += 1
        before = width
        for layer in chain[at:stop]:
            width = layer.out_features(width)
        yield Run(at, stop, tuple(chain[at:stop]), before, width)
        at = stop


def _begins(layer: Layer) -> bool:
    """Whether a layer is one of its own: mixes units, or holds others."""
    return bool(layer.body) or isinstance(layer, (Dense, Recurrent)) or layer.kind == "highway"


# --- how weights start --------------------------------------------------------------------------------------

#: Which parts of a layer's description say how a parameter starts, by the end of the parameter's name.
_SAYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "dense": {"weight": ("init",), "weight_v": ("init",), "weight_g": ("init",), "bias": ("bias_init",)},
    "recurrent": {
        "weight_ih": ("cell", "init"),
        "weight_hh": ("cell", "recurrent_init"),
        "bias_ih": ("cell", "bias_init", "gate_bias"),
        "bias_hh": ("cell", "bias_init", "gate_bias"),
    },
}


def starts(draft: Draft) -> dict[str, dict[str, Any]]:
    """Return how every parameter starts, by its full name: what the compiled module is told of it."""
    specs = chain_specs(draft.layers, Context(draft.in_features, draft.dtype))
    return dict(_starts(draft.layers, specs, (), draft.in_features))


def _starts(
    layers: Sequence[Layer], specs: Sequence[Mapping[str, Any]], path: tuple[str, ...], width: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, (layer, spec) in enumerate(zip(layers, specs, strict=True)):
        here = join(path, layer, index)
        says = _SAYS.get(layer.kind, {})
        for leaf in layer.own_parameters(width):
            keys = next((says[key] for key in says if leaf == key or leaf.startswith(f"{key}_l")), None)
            told = {key: spec[key] for key in keys} if keys else {"kind": layer.kind, "leaf": leaf}
            yield ".".join((*here, leaf)), told
        for prefix, inner in layer.branches():
            yield from _starts(inner, spec[prefix[0] if prefix else "body"], (*here, *prefix), width)
        width = layer.out_features(width)


def same_start(a: Any, b: Any) -> bool:
    """Whether two descriptions of a start are equal, arrays in them to the bit."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_start(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_start, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def same_description(a: Draft, b: Draft) -> bool:
    """Whether two drafts are one network with one training, however their starts are written down."""
    if a.training != b.training:
        return False
    specs = (chain_specs(draft.layers, Context(draft.in_features, draft.dtype)) for draft in (a, b))
    return same_start(*specs)


def settle(before: Draft, after: Draft) -> Draft:
    """Return `after` with each Dense starting as it did in `before`, where that was left to what follows it.

    Without an initializer of its own a Dense takes what fits the activation right behind it. A layer put
    between the two would change that, and with it the weights that are to be compared.
    """
    old, new = starts(before), starts(after)
    settled = set(after.settled)

    def keep(layer: Layer, path: str, width: int) -> Layer:
        if not isinstance(layer, Dense) or layer.init is not None:
            return layer
        leaf = next(iter(layer.own_parameters(width)))
        name = f"{path}.{leaf}" if path else leaf
        was = old.get(_before(name, before, after))
        if was is None or "init" not in was or name not in new or same_start(was, new[name]):
            return layer
        settled.add(name)
        return changed(layer, init=_initializer(was["init"]))

    kept = edit_layers(after, keep)
    return replace(kept, settled=frozenset(settled))


def _before(name: str, before: Draft, after: Draft) -> str:
    """Return the name that a parameter had just before a cure: renamings are kept from the first on."""
    origin = after.source(name).name
    return next((new for new, old in before.renamed.items() if old.name == origin), origin)


def piece(repeat: Repeat, first: int, count: int, name: str) -> tuple[Repeat, dict[str, Origin]]:
    """Return some of a Repeat's copies as a Repeat of another name, and where its parameters come from."""
    cut: Repeat = changed(with_copies(repeat, range(first, first + count)), name=name)
    old = repeat.name or ""
    moved = {}
    for placed in walk([repeat], 1):
        for parameter in placed.parameters():
            rest = parameter.removeprefix(f"{old}.") if old else parameter
            moved[f"{name}.{rest}"] = Origin(parameter, first)
    return cut, moved


def _initializer(spec: Mapping[str, Any]) -> Initializer | FromArray:
    if "array" in spec:
        return FromArray(spec["array"])
    return Initializer(spec["name"], {k: v for k, v in spec["params"].items() if v is not None})


def following(chain: Sequence[Layer], index: int) -> Activation | None:
    """Return the activation right behind a layer of a chain, if there is one."""
    return leading_activation(chain[index + 1]) if index + 1 < len(chain) else None


def nothing_to_change(why: str) -> DoesNotApply:
    """Return the error of a cure that finds nothing to do; its name is put in front where it is applied."""
    return DoesNotApply(f"does not apply to this network: {why}")
