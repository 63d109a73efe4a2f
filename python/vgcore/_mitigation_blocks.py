"""Layer: cures, blocks. Finds the steps that a shortcut fits around, and puts wrappers around them.

Knows layers as values and how blocks are named; knows no cure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._layer_values import changed
from ._mitigation_base import Draft, Origin
from ._mitigation_rewrite import Place, Run, join, nothing_to_change, rewrite, runs
from ._surgery import cut
from .branches import Residual
from .layers import Activation, Dense, Layer, Repeat

__all__ = [
    "Block",
    "Renamed",
    "activated",
    "adjoining",
    "cut_repeats",
    "groups",
    "is_repeated",
    "residual_of",
    "shares",
    "turned",
    "wrap_blocks",
    "written_out",
]


Renamed = dict[str, Origin]


@dataclass(frozen=True)
class Block:
    """Layers that get a shortcut: where they stand, how many such blocks there are, and a free name.

    `name` is what a wrapper with parameters of its own may be called; "" where the blocks' own names do.
    `path` is where the body stands; what renames parameters in it writes them into `moves`.
    """

    body: tuple[Layer, ...]
    in_features: int
    out_features: int
    count: int
    name: str
    path: tuple[str, ...] = ()
    moves: Renamed = field(default_factory=dict)


Wrap = Callable[[Block], Sequence[Layer]]


def wrap_blocks(draft: Draft, size: int, wrap: Wrap, projection: bool | None = None) -> Draft:
    """Return the draft with `wrap` around every block of `size` layers with an activation.

    `projection`: also around those that change the width; None where the cure has no such parameter. Wrappers
    get names of their own where blocks stand side by side: some have parameters, some draw.
    """
    if any(isinstance(layer, Residual) or layer.kind == "highway" for layer in every(draft.layers)):
        raise nothing_to_change(
            "its blocks have a shortcut already; a cure that goes around several blocks comes after"
        )
    count = 0
    wider: list[list[Run]] = []
    renamed: Renamed = {}

    def measure(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal count
        if is_repeated(place):
            # A Repeat of one layer is cut into blocks of `size` iterations by `cut`.
            count += place.times if activated(chain) and square(chain, place) else 0
        elif not place.inside:
            count += sum(1 for _ in groups(chain, place.in_features, size, bool(projection)))
            wider.extend(groups(chain, place.in_features, size, True))
        return chain

    layers = cut_repeats(draft.layers, size)
    rewrite(layers, Place((), draft.in_features), measure)
    if count == 0:
        hint = projection is False and wider
        raise nothing_to_change(
            "it has no layer with an activation that is as wide as its input, to put a shortcut around"
            + (" (a recurrent layer has its own: residual=True)" if draft.axis == "time" else "")
            + ("; projection=True also takes those that change the width" if hint else ""),
        )

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        if is_repeated(place):
            if not (activated(chain) and square(chain, place)):
                return chain
            return wrap(Block(chain, place.in_features, place.in_features, count, "", place.path, renamed))
        if place.inside:
            return chain
        result: list[Layer] = []
        at = 0
        for number, group in enumerate(groups(chain, place.in_features, size, bool(projection))):
            result += chain[at : group[0].start]
            body = tuple(layer for run in group for layer in run.layers)
            body, name = _named_block(body, number, renamed)
            result += wrap(Block(body, group[0].in_features, group[-1].out_features, count, name))
            at = group[-1].stop
        return [*result, *chain[at:]]

    cured = rewrite(layers, Place((), draft.in_features), edit)
    return replace(draft.moved(renamed), layers=cured)


def _named_block(body: tuple[Layer, ...], number: int, renamed: Renamed) -> tuple[tuple[Layer, ...], str]:
    """Return the body of a block whose wrapper needs a name, and that name.

    With one Dense inside the wrapper takes its name over, so that the weight is still drawn by the same one.
    """
    owners = [layer for layer in body if layer.own_parameters(1)]
    if len(owners) == 1 and owners[0].name:
        only = owners[0]
        return tuple(changed(layer, name="") if layer is only else layer for layer in body), str(only.name)
    name = f"block{number}"
    for layer in owners:
        for leaf in layer.own_parameters(1):
            old = f"{layer.name}.{leaf}" if layer.name else leaf
            renamed[f"{name}.{old}"] = Origin(old)
    return body, name


def cut_repeats(layers: Sequence[Layer], size: int) -> tuple[Layer, ...]:
    """Return the layers with every Repeat of single layers cut into blocks of `size` iterations."""
    if size == 1:
        return tuple(layers)
    result: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Repeat) and activated(layer.body):
            if layer.n % size:
                raise nothing_to_change(
                    f"blocks of {size} layers do not divide the {layer.n} of its Repeat; take another size",
                )
            # Copies are counted through both: each layer keeps the weights that it is drawn by.
            rows = np.arange(layer.n).reshape(-1, size)
            body = layer.body if layer.tied else tuple(cut(one, layer.n, rows, 1) for one in layer.body)
            inner = Repeat(body, size, tied=layer.tied, name="")
            layer = changed(layer, body=(inner,), n=layer.n // size)
        result.append(layer)
    return tuple(result)


def every(layers: Sequence[Layer]) -> list[Layer]:
    return [found for layer in layers for found in (layer, *every(layer.body))]


def is_repeated(place: Place) -> bool:
    """Whether a chain is the body of a Repeat at the top level."""
    return len(place.inside) == 1 and isinstance(place.inside[0], Repeat)


def activated(chain: Sequence[Layer]) -> bool:
    inside = every(chain)
    return any(isinstance(layer, Activation) for layer in inside) and any(
        isinstance(layer, Dense) for layer in inside
    )


def square(chain: Sequence[Layer], place: Place) -> bool:
    width = place.in_features
    for layer in chain:
        width = layer.out_features(width)
    return width == place.in_features


def groups(
    chain: Sequence[Layer], width: int, size: int, projection: bool, blocks: bool = False
) -> list[list[Run]]:
    """Return the blocks of a chain written layer by layer: `size` runs one after the other each."""
    found: list[list[Run]] = []
    pending: list[Run] = []
    for run in runs(chain, width, blocks=blocks):
        fits = run.activated and (run.square or projection)
        if not fits or (pending and pending[-1].stop != run.start):
            pending = []
        if fits:
            pending.append(run)
            if len(pending) == size:
                found.append(pending)
                pending = []
    return found


def turned(body: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return a body with each activation (and norm) in front of its Dense instead of behind it."""
    if len(body) == 1 and isinstance(body[0], Repeat):
        return (changed(body[0], body=turned(body[0].body)),)
    starts = [index for index, layer in enumerate(body) if isinstance(layer, Dense)]
    result: list[Layer] = []
    for at, start in enumerate(starts):
        stop = starts[at + 1] if at + 1 < len(starts) else len(body)
        result += [*body[start + 1 : stop], body[start]]
    return (*body[: starts[0]], *result) if starts else body


def residual_of(block: Block, body: Sequence[Layer] | None = None, **options: Any) -> Residual:
    if block.in_features != block.out_features:
        # A learned map of the shortcut, without a bias (He et al. 2016, eq. 2).
        options["shortcut"] = Dense(block.out_features, bias=False, name="shortcut")
    return Residual(block.body if body is None else tuple(body), name=block.name, **options)


def written_out(block: Block, why: str) -> tuple[Layer, ...]:
    """Return the copies of a block's Repeat, which `cut_repeats` made, as layers layer0, layer1, ...

    `why`: what keeps these layers from sharing their weights.
    """
    only = block.body[0]
    if len(block.body) != 1 or not isinstance(only, Repeat):
        return block.body
    if only.tied:
        raise nothing_to_change(f"the layers of its Repeat share their weights (tied=True), and {why}")
    result: list[Layer] = []
    for copy in range(only.n):
        for index, layer in enumerate(only.body):
            leaves = layer.own_parameters(1)
            if leaves:
                part = f"layer{copy}{'_' if layer.name else ''}{layer.name or ''}"
                old = join(block.path, layer, index)
                for leaf in leaves:
                    # Of all copies, counted through the blocks, each block's `copy`-th.
                    moved = ".".join((*block.path, part, leaf))
                    block.moves[moved] = Origin(".".join((*old, leaf)), copy, only.n)
                layer = changed(cut(layer, only.n, copy, 2, axis=1), name=part)
            result.append(layer)
    return tuple(result)


def adjoining(found: Sequence[Run]) -> bool:
    return all(a.stop == b.start for a, b in itertools.pairwise(found))


def shares(total: int, count: int) -> list[tuple[int, int]]:
    """Return `count` ranges that cover `total`; what does not divide goes to the one in the middle."""
    each, middle = total // count, count // 2
    sizes = [each + (total - each * count if index == middle else 0) for index in range(count)]
    ends = list(itertools.accumulate(sizes))
    return list(zip([0, *ends[:-1]], ends, strict=True))
