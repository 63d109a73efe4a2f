"""Layer: cures, shortcuts. Residual blocks of every kind, long skips, dense and U-shaped connections, highways.

Knows layers as values; what a block computes is in the layers themselves. Each entry is one line of the
catalogue in `mitigations`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import activations
from ._mitigation_base import Draft, Entry, Setting
from ._mitigation_rewrite import Place, Run, changed, nothing_to_change, piece, rewrite, runs
from .branches import Concat, Highway, Residual
from .initializers import Initializer
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
Renamed = dict[str, tuple[str, int]]


def _wrap(draft: Draft, what: str, size: int, projection: bool, wrap: Wrap) -> Draft:
    """Return the draft with `wrap` around every block of `size` layers with an activation.
    Wrappers get names of their own where blocks stand side by side: some have parameters, some draw.
    """
    if any(isinstance(layer, Residual) or layer.kind == "highway" for layer in _all(draft.layers)):
        raise nothing_to_change(what, "its blocks have a shortcut already; a cure that goes around several blocks comes after")
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
            renamed[f"{name}.{old}"] = (old, 0)
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


def _groups(
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

    return _wrap(draft, "rezero()", layers, False, wrap)


def _skipinit(draft: Draft, layers: int) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [_residual_of(block, _turned(block.body), scale=0.0, learned=True)]

    return _wrap(draft, "skipinit()", layers, False, wrap)


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
        for group in _groups(chain, place.in_features, every, False, blocks=True):
            found += 1
            body = [layer for run in group for layer in run.layers]
            result += [*chain[at : group[0].start], Residual(body, name="")]
            at = group[-1].stop
        return [*result, *chain[at:]]

    cured = rewrite(layers, Place((), draft.in_features), edit)
    if not found:
        raise nothing_to_change(what, f"it has no {every} layers of one width in a row")
    return replace(draft, layers=cured)


def _fixup(draft: Draft, layers: int) -> Draft:
    if layers < 2:
        raise nothing_to_change(
            "fixup()", "its branches have two layers or more, of which the last starts at 0; take layers=2"
        )

    def wrap(block: Block) -> list[Layer]:
        body = _fixup_starts(_turned(_written_out(block.body)), block.count)
        return [_residual_of(block, body, learned=True)]

    return _wrap(draft, "fixup()", layers, False, wrap)


def _written_out(body: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return the copies of a Repeat as layers of their own, named layer0, layer1, ..."""
    if len(body) != 1 or not isinstance(body[0], Repeat):
        return body
    result: list[Layer] = []
    for copy in range(body[0].n):
        for layer in body[0].body:
            own = bool(layer.own_parameters(1))
            part = f"layer{copy}{'_' if layer.name else ''}{layer.name or ''}"
            result.append(changed(layer, name=part) if own else layer)
    return tuple(result)


def _fixup_starts(body: tuple[Layer, ...], count: int) -> tuple[Layer, ...]:
    """Return a branch of m layers whose first m - 1 are scaled by L^(-1/(2m-2)), and the last is 0."""
    dense = [layer for layer in body if isinstance(layer, Dense)]
    functions = [layer.function for layer in body if isinstance(layer, Activation)]
    fits = str(activations.describe(functions[0]).extra["fits"])
    variance = (2.0 if fits.startswith("he") else 1.0) * float(count) ** (-1.0 / (len(dense) - 1))
    scaled = {"scale": variance, "mode": "fan_in", "distribution": "normal"}

    def start(layer: Layer) -> Layer:
        if not isinstance(layer, Dense):
            return layer
        last = layer is dense[-1]
        return changed(layer, init=Initializer("zeros") if last else Initializer("variance_scaling", scaled))

    return tuple(map(start, body))


def _highway(draft: Draft, bias: float, coupled: bool) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [Highway(block.body, transform_bias=bias, coupled=coupled, name=block.name)]

    return _wrap(draft, "highway()", 1, False, wrap)


def _dense_skip(draft: Draft, block: int) -> Draft:
    what = "dense_skip()"
    if block < 2:
        raise nothing_to_change(what, "a block of one layer has nothing to pass on; take block=2 or more")

    def wrap(found: Block) -> list[Layer]:
        pieces = list(runs(_written_out(found.body), found.in_features))
        narrow = f"{pieces[0].dense.name or ''}_narrow".lstrip("_")
        return [*(Concat(run.layers, name="") for run in pieces), Dense(found.out_features, name=narrow)]

    return _wrap(draft, what, block, False, wrap)


def _unet(draft: Draft, levels: int, join: str) -> Draft:
    what = f"unet({levels})"
    renamed: Renamed = {}
    found, count = 0, 2 * levels + 1

    def fold(parts: list[list[Layer]], width: int) -> list[Layer]:
        """Return parts 0 .. 2n as a U: part n at its bottom, parts n - k and n + k at one height."""
        bottom = len(parts) // 2
        inner = parts[bottom]
        for level in range(1, bottom + 1):
            across: list[Layer] = [Residual(inner, name="")]
            if join == "concat":
                across = [Concat(inner, name=""), Dense(width, name=f"merge{level}")]
            inner = [*parts[bottom - level], *across, *parts[bottom + level]]
        return inner

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal found
        if place.inside:
            return chain
        result: list[Layer] = []
        width, at = place.in_features, 0
        square = [run for run in runs(chain, place.in_features, blocks=True) if run.activated and run.square]
        while at < len(chain):
            layer = chain[at]
            if isinstance(layer, Repeat) and not layer.tied and _activated(layer.body) and layer.n >= count:
                result += fold(_pieces(layer, count, renamed), width)
                found += 1
            elif square and square[0].start == at and len(square) >= count and _adjoining(square):
                groups = [square[a:b] for a, b in _shares(len(square), count)]
                result += fold([[one for run in group for one in run.layers] for group in groups], width)
                found, at = found + 1, square[-1].stop
                continue
            else:
                result.append(layer)
            width, at = layer.out_features(width), at + 1
        return result

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not found:
        raise nothing_to_change(what, f"it has no {count} layers of one width in a row")
    return replace(draft, layers=layers, renamed={**draft.renamed, **renamed})


def _adjoining(found: Sequence[Run]) -> bool:
    return all(a.stop == b.start for a, b in itertools.pairwise(found))


def _shares(total: int, count: int) -> list[tuple[int, int]]:
    """Return `count` ranges that cover `total`; what does not divide goes to the one in the middle."""
    each, middle = total // count, count // 2
    sizes = [each + (total - each * count if index == middle else 0) for index in range(count)]
    ends = list(itertools.accumulate(sizes))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _pieces(repeat: Repeat, count: int, renamed: Renamed) -> list[list[Layer]]:
    result: list[list[Layer]] = []
    for index, (first, stop) in enumerate(_shares(repeat.n, count)):
        cut, moved = piece(repeat, first, stop - first, f"{repeat.name or 'part'}{index}")
        renamed.update(moved)
        result.append([cut])
    return result


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
        "rezero",
        "block",
        "x -> x + a f(x), a = 0 at the start",
        "Blocks that start as the identity and let their branch in as fast as it helps.",
        "each step becomes x + a f(x) with a learned number a that starts at 0",
        "Bachlechner et al. 2021, arXiv:2003.04887",
        _rezero,
        (_LAYERS,),
    ),
    Entry(
        "skipinit",
        "block",
        "x -> x + a W phi(x), a = 0 at the start",
        "ReZero around pre-activation blocks: what batch normalisation does for a residual network, in one number.",
        "each step becomes x + a [activation, Dense](x) with a learned number a that starts at 0",
        "De & Smith 2020, arXiv:2002.10444",
        _skipinit,
        (_LAYERS,),
    ),
    Entry(
        "fixup",
        "block",
        "x -> x + a W_m phi(... W_1 phi(x)), W_m = 0, others scaled by L^(-1/(2m-2))",
        "Starts that keep a residual network's updates of one size at any depth, without normalisation.",
        "each m steps become one branch, the last of its weights at 0, with a learned factor a that starts at 1",
        "Zhang, Dauphin & Ma 2019, arXiv:1901.09321",
        _fixup,
        (Setting("layers", 2, "m, how many layers a branch has", kind="size"),),
        conflicts={
            "norm": "it is made to do without, and a norm takes away the scales that it sets",
            "start": "it says itself how its weights start",
        },
    ),
    Entry(
        "highway",
        "block",
        "x -> t h(x) + (1 - t) x, t = sigmoid(W_t x + b)",
        "A gate decides, unit by unit, how much goes through the layer and how much past it.",
        "each step becomes the transform of a highway layer, with a gate of its own",
        "Srivastava, Greff & Schmidhuber 2015, arXiv:1505.00387",
        _highway,
        (
            Setting("bias", -1.0, "b at the start; below 0 most goes past"),
            Setting("coupled", True, "whether the carry gate is 1 - t", kind="flag"),
        ),
    ),
    Entry(
        "dense_skip",
        "long",
        "x -> [x, f(x)]",
        "Every layer of a block sees the outputs of all before it.",
        "in blocks of some steps each adds its output beside its input; a Dense at the end narrows them again",
        "Huang et al. 2017, arXiv:1608.06993",
        _dense_skip,
        (Setting("block", 4, "how many layers a block has", kind="size"),),
        aliases=("dense", "densenet", "dense_connectivity"),
        conflicts={"block": "its layers are wider than they put out, so no shortcut fits around them"},
    ),
    Entry(
        "unet",
        "long",
        "x -> up(x + inner(x)), x = down(...)",
        "Shortcuts from the first layers to the last, from the second to the last but one, and so on.",
        "the steps are folded into a U of so many levels, with a shortcut across each",
        "Ronneberger, Fischer & Brox 2015, arXiv:1505.04597",
        _unet,
        (
            Setting("levels", 3, "how many shortcuts there are, one inside the other", kind="size"),
            Setting("join", "add", "how a shortcut comes back: add or concat", kind="choice", choices=("add", "concat")),
        ),
        aliases=("u_shaped",),
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
