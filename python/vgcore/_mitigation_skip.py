"""Layer: cures, shortcuts. Residual blocks of every kind, long, dense and U-shaped ones, highways.

Knows layers as values; what a block computes is in the layers themselves. Each entry is one line of the
catalogue in `mitigations`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from . import activations
from ._layer_values import changed
from ._mitigation_base import Draft, Entry, Order, Setting
from ._mitigation_blocks import (
    Block,
    Renamed,
    activated,
    adjoining,
    cut_repeats,
    groups,
    is_repeated,
    residual_of,
    shares,
    turned,
    wrap_blocks,
    written_out,
)
from ._mitigation_rewrite import Place, nothing_to_change, piece, rewrite, runs
from ._skips import deepnorm_constants, fixup_factor, scaled_init
from .branches import Concat, Highway, Residual
from .initializers import FromArray, Initializer
from .layers import Activation, Dense, Layer, Repeat
from .normalisation import LayerNorm

__all__ = ["ENTRIES"]


def _residual(draft: Draft, layers: int, scale: float, shortcut: float, projection: bool) -> Draft:
    options = _factors(scale, shortcut)
    return wrap_blocks(draft, layers, lambda block: [residual_of(block, **options)], projection)


def _factors(scale: float, shortcut: float) -> dict[str, Any]:
    """Return the factors of branch and shortcut that are none of 1."""
    return {key: value for key, value in (("scale", scale), ("shortcut", shortcut)) if value != 1.0}


def _pre_activation(draft: Draft, layers: int, scale: float, shortcut: float, projection: bool) -> Draft:
    options = _factors(scale, shortcut)

    def wrap(block: Block) -> list[Layer]:
        return [residual_of(block, turned(block.body), **options)]

    return wrap_blocks(draft, layers, wrap, projection)


def _rezero(draft: Draft, layers: int, projection: bool) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [residual_of(block, scale=0.0, learned=True)]

    return wrap_blocks(draft, layers, wrap, projection)


def _skipinit(draft: Draft, layers: int, projection: bool) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [residual_of(block, turned(block.body), scale=0.0, learned=True)]

    return wrap_blocks(draft, layers, wrap, projection)


def _scaled(draft: Draft, layers: int, projection: bool) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [residual_of(block, scale=1.0 / math.sqrt(block.count))]

    return wrap_blocks(draft, layers, wrap, projection)


def _long_skip(draft: Draft, every: int) -> Draft:
    layers = cut_repeats(draft.layers, every)
    found = 0

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal found
        if is_repeated(place) and len(chain) == 1 and isinstance(chain[0], Repeat):
            found += 1
            return [Residual(chain, name="")]
        if place.inside:
            return chain
        result: list[Layer] = []
        at = 0
        for group in groups(chain, place.in_features, every, False, blocks=True):
            found += 1
            body = [layer for run in group for layer in run.layers]
            result += [*chain[at : group[0].start], Residual(body, name="")]
            at = group[-1].stop
        return [*result, *chain[at:]]

    cured = rewrite(layers, Place((), draft.in_features), edit)
    if not found:
        raise nothing_to_change(f"it has no {every} layers of one width in a row")
    return replace(draft, layers=cured)


def _fixup(draft: Draft, layers: int) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        apart = written_out(block, "the last of a branch starts at 0, the others do not")
        body = _fixup_starts(turned(apart), block.count)
        return [residual_of(block, body, learned=True)]

    return wrap_blocks(draft, layers, wrap)


def _fixup_starts(body: tuple[Layer, ...], count: int) -> tuple[Layer, ...]:
    """Return a branch of m layers whose first m - 1 are scaled by L^(-1/(2m-2)), and the last is 0."""
    dense = [layer for layer in body if isinstance(layer, Dense)]
    functions = [layer.function for layer in body if isinstance(layer, Activation)]
    fits = Initializer(str(activations.describe(functions[0]).extra["fits"]))
    lower, upper = scaled_init(fits, fixup_factor(count, len(dense))), Initializer("zeros")

    def start(layer: Layer) -> Layer:
        return (
            changed(layer, init=upper if layer is dense[-1] else lower) if isinstance(layer, Dense) else layer
        )

    return tuple(map(start, body))


def _deepnorm(draft: Draft, layers: int) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        alpha, beta = deepnorm_constants(block.count / 2)
        norm = f"{block.name}_norm" if block.name else "norm"
        return [residual_of(block, _smaller(block.body, beta), shortcut=alpha), LayerNorm(name=norm)]

    return wrap_blocks(draft, layers, wrap)


def _smaller(body: Sequence[Layer], factor: float) -> tuple[Layer, ...]:
    """Return layers whose weights start `factor` times as large as what fits, or as what was given."""
    result: list[Layer] = []
    for index, layer in enumerate(body):
        if layer.body:
            layer = changed(layer, body=_smaller(layer.body, factor))
        elif isinstance(layer, Dense):
            behind = body[index + 1] if index + 1 < len(body) else None
            function = behind.function if isinstance(behind, Activation) else "identity"
            start = layer.init or Initializer(str(activations.describe(function).extra["fits"]))
            layer = changed(layer, init=scaled_init(start, factor))  # type: ignore[arg-type]  # Dense has resolved it
        result.append(layer)
    return tuple(result)


def _highway(draft: Draft, bias: float, coupled: bool) -> Draft:
    def wrap(block: Block) -> list[Layer]:
        return [Highway(block.body, transform_bias=bias, coupled=coupled, name=block.name)]

    return wrap_blocks(draft, 1, wrap)


def _dense_skip(draft: Draft, block: int) -> Draft:

    def wrap(found: Block) -> list[Layer]:
        apart = written_out(found, "each layer of a dense block has a wider input")
        pieces = list(runs(apart, found.in_features))
        if any(isinstance(run.dense.init, FromArray) for run in pieces[1:]):
            raise nothing_to_change(
                "its weights were given as arrays, and the layers of a dense block have wider inputs"
            )
        narrow = f"{pieces[0].dense.name or ''}_narrow".lstrip("_")
        return [*(Concat(run.layers, name="") for run in pieces), Dense(found.out_features, name=narrow)]

    return wrap_blocks(draft, block, wrap)


def _unet(draft: Draft, levels: int, join: str) -> Draft:
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
            if isinstance(layer, Repeat) and activated(layer.body) and layer.n >= count:
                if layer.tied:
                    raise nothing_to_change(
                        "the layers of its Repeat share their weights (tied=True), "
                        "and each part of a U has its own",
                    )
                result += fold(_pieces(layer, count, renamed), width)
                found += 1
            elif square and square[0].start == at and len(square) >= count and adjoining(square):
                parts = [square[a:b] for a, b in shares(len(square), count)]
                result += fold([[one for run in part for one in run.layers] for part in parts], width)
                found, at = found + 1, square[-1].stop
                continue
            else:
                result.append(layer)
            width, at = layer.out_features(width), at + 1
        return result

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not found:
        raise nothing_to_change(f"it has no {count} layers of one width in a row")
    return replace(draft.moved(renamed), layers=layers)


def _pieces(repeat: Repeat, count: int, renamed: Renamed) -> list[list[Layer]]:
    result: list[list[Layer]] = []
    for index, (first, stop) in enumerate(shares(repeat.n, count)):
        cut, moved = piece(repeat, first, stop - first, f"{repeat.name or 'part'}{index}")
        renamed.update(moved)
        result.append([cut])
    return result


_LAYERS = Setting("layers", 1, "how many layers a block has", kind="size")
_FACTORS = (
    Setting("scale", 1.0, "s, what the branch is multiplied by"),
    Setting("shortcut", 1.0, "c, what the shortcut is multiplied by"),
)
_PROJECTION = Setting(
    "projection", False, "also around layers that change the width, with weights", kind="flag"
)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "residual",
        "block",
        "x -> c x + s f(x)",
        "An identity shortcut around every step: the gradient has a way back that no layer multiplies.",
        "each step [Dense, activation] becomes x + f(x)",
        "He et al. 2016, arXiv:1512.03385; Yang & Schoenholz 2017, arXiv:1712.08969",
        _residual,
        Order.BLOCK,
        (_LAYERS, *_FACTORS, _PROJECTION),
        aliases=("skip", "post_activation", "resnet"),
    ),
    Entry(
        "pre_activation",
        "block",
        "x -> c x + s W phi(x)",
        "Residual blocks with the activation first: the sum of branches meets no activation on its way.",
        "each step [Dense, activation] becomes x + [activation, Dense](x)",
        "He et al. 2016, arXiv:1603.05027",
        _pre_activation,
        Order.BLOCK,
        (_LAYERS, *_FACTORS, _PROJECTION),
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
        Order.BLOCK,
        (_LAYERS, _PROJECTION),
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
        Order.BLOCK,
        (_LAYERS, _PROJECTION),
    ),
    Entry(
        "skipinit",
        "block",
        "x -> x + a W phi(x), a = 0 at the start",
        "ReZero around pre-activation blocks: in one number what batch normalisation does for them.",
        "each step becomes x + a [activation, Dense](x) with a learned number a that starts at 0",
        "De & Smith 2020, arXiv:2002.10444",
        _skipinit,
        Order.BLOCK,
        (_LAYERS, _PROJECTION),
    ),
    Entry(
        "fixup",
        "block",
        "x -> x + a W_m phi(... W_1 phi(x)), W_m = 0, others scaled by L^(-1/(2m-2))",
        "Starts that keep a residual network's updates of one size at any depth, without normalisation.",
        "each m steps become one branch, its last weights at 0, with a learned factor a that starts at 1",
        "Zhang, Dauphin & Ma 2019, arXiv:1901.09321",
        _fixup,
        Order.BLOCK,
        (
            Setting(
                "layers",
                2,
                "m, how many layers a branch has",
                kind="size",
                least=2,
                otherwise="of a branch's layers the last starts at 0, the others do not",
            ),
        ),
        conflicts={
            "norm": "it is made to do without, and a norm takes away the scales that it sets",
            "start": "it says itself how its weights start",
        },
    ),
    Entry(
        "deepnorm",
        "block",
        "x -> LayerNorm(a x + f(x)), a = (2N)^(1/4), weights of f smaller by (8N)^(-1/4), 2N blocks",
        "Post-norm blocks whose shortcut outweighs the branch as depth grows, so that updates stay bounded.",
        "each step becomes a residual block with a heavier shortcut and a LayerNorm behind it",
        "Wang et al. 2022, arXiv:2203.00555",
        _deepnorm,
        Order.BLOCK,
        (_LAYERS,),
        conflicts={
            "norm": "it brings a norm of its own",
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
        Order.BLOCK,
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
        "in blocks each step adds its output beside its input; a Dense at the end narrows them again",
        "Huang et al. 2017, arXiv:1608.06993",
        _dense_skip,
        Order.LONG,
        (
            Setting(
                "block",
                4,
                "how many layers a block has",
                kind="size",
                least=2,
                otherwise="a block of one layer has nothing to pass on",
            ),
        ),
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
        Order.LONG,
        (
            Setting("levels", 3, "how many shortcuts there are, one inside the other", kind="size"),
            Setting(
                "join",
                "add",
                "how a shortcut comes back: add or concat",
                kind="choice",
                choices=("add", "concat"),
            ),
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
        Order.LONG,
        (
            Setting(
                "every", 4, "k", kind="size", least=2, otherwise="a skip over one layer is a residual block"
            ),
        ),
        aliases=("long_skips",),
    ),
)
