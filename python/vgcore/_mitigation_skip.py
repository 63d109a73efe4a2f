"""Layer: cures, shortcuts. Residual blocks of every kind, long skips, dense and U-shaped connections, highways.

Knows layers as values; what a block computes is in the layers themselves. Each entry is one line of the
catalogue in `mitigations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ._mitigation_base import Draft, Entry, Setting
from ._mitigation_rewrite import Place, Run, changed, nothing_to_change, rewrite, runs
from .branches import Residual
from .layers import Activation, Dense, Layer, Repeat

__all__ = ["ENTRIES"]


@dataclass(frozen=True)
class Block:
    """Layers that get a shortcut: where they stand, how many such blocks there are, and a free name.

    `name` is what a wrapper with parameters of its own may be called; "" where the blocks' own names do.
    """

    body: tuple[Layer, ...]
    in_features: int
    out_features: int
    count: int
    name: str


Wrap = Callable[[Block], Sequence[Layer]]
Renamed = dict[str, str]


def _wrap(draft: Draft, what: str, size: int, projection: bool, wrap: Wrap, owns: bool = False) -> Draft:
    """Return the draft with `wrap` around every block of `size` layers with an activation.

    `owns`: the wrapper has a parameter of its own, so that it needs a name where blocks stand side by side.
    """
    if any(isinstance(layer, Residual) or layer.kind == "highway" for layer in _all(draft.layers)):
        raise nothing_to_change(what, "its blocks have a shortcut already")
    count = 0
    renamed: Renamed = {}

    def measure(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal count
        if _is_repeated(place):
            # A Repeat of one layer is cut into blocks of `size` iterations by `cut`.
            count += place.times if _activated(chain) and _square(chain, place) else 0
        elif not place.inside:
            count += sum(1 for _ in _groups(chain, place.in_features, size, projection))
        return chain

    layers = _cut(draft.layers, size, what)
    rewrite(layers, Place((), draft.in_features), measure)
    if count == 0:
        raise nothing_to_change(
            what,
            "it has no layer with an activation that is as wide as its input, to put a shortcut around"
            + ("" if projection else "; projection=True also takes those that change the width"),
        )

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        if _is_repeated(place):
            if not (_activated(chain) and _square(chain, place)):
                return chain
            return wrap(Block(chain, place.in_features, place.in_features, count, ""))
        if place.inside:
            return chain
        result: list[Layer] = []
        at = 0
        for number, group in enumerate(_groups(chain, place.in_features, size, projection)):
            result += chain[at : group[0].start]
            body = tuple(layer for run in group for layer in run.layers)
            name = ""
            if owns:
                body, name = _named_block(body, number, renamed)
            result += wrap(Block(body, group[0].in_features, group[-1].out_features, count, name))
            at = group[-1].stop
        return [*result, *chain[at:]]

    cured = rewrite(layers, Place((), draft.in_features), edit)
    return replace(draft, layers=cured, renamed={**draft.renamed, **renamed})


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
            renamed[f"{name}.{old}"] = old
    return body, name


def _cut(layers: Sequence[Layer], size: int, what: str) -> tuple[Layer, ...]:
    """Return the layers with every Repeat of single layers cut into blocks of `size` iterations."""
    if size == 1:
        return tuple(layers)
    result: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Repeat) and not layer.tied and _activated(layer.body):
            if layer.n % size:
                raise nothing_to_change(
                    what, f"blocks of {size} layers do not divide the {layer.n} of its Repeat; take another size"
                )
            # Copies are counted through both: each layer keeps the weights that it is drawn by.
            inner = Repeat(layer.body, size, name="")
            layer = changed(layer, body=(inner,), n=layer.n // size)
        result.append(layer)
    return tuple(result)


def _all(layers: Sequence[Layer]) -> list[Layer]:
    return [found for layer in layers for found in (layer, *_all(layer.body))]


def _is_repeated(place: Place) -> bool:
    """Whether a chain is the body of a Repeat at the top level."""
    return len(place.inside) == 1 and isinstance(place.inside[0], Repeat)


def _activated(chain: Sequence[Layer]) -> bool:
    inside = _all(chain)
    return any(isinstance(layer, Activation) for layer in inside) and any(
        isinstance(layer, Dense) for layer in inside
    )


def _square(chain: Sequence[Layer], place: Place) -> bool:
    width = place.in_features
    for layer in chain:
        width = layer.out_features(width)
    return width == place.in_features


def _groups(chain: Sequence[Layer], width: int, size: int, projection: bool) -> list[list[Run]]:
    """Return the blocks of a chain written layer by layer: `size` runs one after the other each."""
    found: list[list[Run]] = []
    pending: list[Run] = []
    for run in runs(chain, width):
        fits = run.activated and (run.square or projection)
        if not fits or (pending and pending[-1].stop != run.start):
            pending = []
        if fits:
            pending.append(run)
            if len(pending) == size:
                found.append(pending)
                pending = []
    return found


def _turned(body: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return a body with each activation (and norm) in front of its Dense instead of behind it."""
    if len(body) == 1 and isinstance(body[0], Repeat):
        return (changed(body[0], body=_turned(body[0].body)),)
    starts = [index for index, layer in enumerate(body) if isinstance(layer, Dense)]
    result: list[Layer] = []
    for at, start in enumerate(starts):
        stop = starts[at + 1] if at + 1 < len(starts) else len(body)
        result += [*body[start + 1 : stop], body[start]]
    return (*body[: starts[0]], *result) if starts else body


def _residual_of(block: Block, body: Sequence[Layer] | None = None, **options: Any) -> Residual:
    if block.in_features != block.out_features:
        # A learned map of the shortcut, without a bias (He et al. 2016, eq. 2).
        options["shortcut"] = Dense(block.out_features, bias=False, name="shortcut")
    return Residual(block.body if body is None else tuple(body), name=block.name, **options)


# --- the entries ---------------------------------------------------------------------------------------------


def _residual(draft: Draft, layers: int, scale: float, shortcut: float, projection: bool) -> Draft:
    options: dict[str, Any] = {} if scale == 1.0 else {"scale": scale}
    if shortcut != 1.0:
        options["shortcut"] = shortcut
    return _wrap(draft, "residual()", layers, projection, lambda block: [_residual_of(block, **options)])


def _pre_activation(draft: Draft, layers: int) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [_residual_of(block, _turned(block.body))]

    return _wrap(draft, "pre_activation()", layers, False, wrap)


def _rezero(draft: Draft, layers: int) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [_residual_of(block, scale=0.0, learned=True)]

    return _wrap(draft, "rezero()", layers, False, wrap, owns=True)


def _skipinit(draft: Draft, layers: int) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [_residual_of(block, _turned(block.body), scale=0.0, learned=True)]

    return _wrap(draft, "skipinit()", layers, False, wrap, owns=True)


def _scaled(draft: Draft, layers: int) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [_residual_of(block, scale=1.0 / math.sqrt(block.count))]

    return _wrap(draft, "scaled_residual()", layers, False, wrap)


def _long_skip(draft: Draft, every: int) -> Draft:
    what = f"long_skip({every})"
    if every < 2:
        raise nothing_to_change(what, "a skip over one layer is a residual block; take every=2 or more")
    layers = _cut(draft.layers, every, what)
    found = 0

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal found
        if _is_repeated(place) and len(chain) == 1 and isinstance(chain[0], Repeat):
            found += 1
            return [Residual(chain, name="")]
        if place.inside:
            return chain
        result: list[Layer] = []
        at = 0
        for group in _groups(chain, place.in_features, every, False):
            found += 1
            body = [layer for run in group for layer in run.layers]
            result += [*chain[at : group[0].start], Residual(body, name="")]
            at = group[-1].stop
        return [*result, *chain[at:]]

    cured = rewrite(layers, Place((), draft.in_features), edit)
    if not found:
        raise nothing_to_change(what, f"it has no {every} layers of one width in a row")
    return replace(draft, layers=cured)


_LAYERS = Setting("layers", 1, "how many layers a block has", kind="size")

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "residual",
        "block",
        "x -> c x + s f(x)",
        "An identity shortcut around every step: the gradient has a way back that no layer multiplies.",
        "each step [Dense, activation] becomes x + f(x)",
        "He et al. 2016, arXiv:1512.03385; Yang & Schoenholz 2017, arXiv:1712.08969",
        _residual,
        (
            _LAYERS,
            Setting("scale", 1.0, "s, what the branch is multiplied by"),
            Setting("shortcut", 1.0, "c, what the shortcut is multiplied by"),
            Setting("projection", False, "also around layers that change the width, with weights", kind="flag"),
        ),
        aliases=("skip", "post_activation", "resnet"),
    ),
    Entry(
        "pre_activation",
        "block",
        "x -> x + W phi(x)",
        "Residual blocks with the activation first: the sum of branches meets no activation on its way.",
        "each step [Dense, activation] becomes x + [activation, Dense](x)",
        "He et al. 2016, arXiv:1603.05027",
        _pre_activation,
        (_LAYERS,),
        aliases=("preact",),
    ),
    Entry(
        "scaled_residual",
        "block",
        "x -> x + f(x) / sqrt(L)",
        "Branches that add up to one: with L blocks the gradient grows by at most a constant, whatever L.",
        "each step becomes x + f(x) / sqrt(number of blocks)",
        "Hanin & Rolnick 2018, arXiv:1803.01719; Yang & Schoenholz 2017, arXiv:1712.08969",
        _scaled,
        (_LAYERS,),
        aliases=("scaled",),
    ),
    Entry(
        "long_skip",
        "long",
        "x -> x + f_k(... f_1(x))",
        "A shortcut over every k layers.",
        "each k steps get one identity shortcut around all of them",
        "Srivastava et al. 2015, arXiv:1507.06228; He et al. 2016, arXiv:1512.03385",
        _long_skip,
        (Setting("every", 4, "k", kind="size"),),
        aliases=("long_skips",),
    ),
)
