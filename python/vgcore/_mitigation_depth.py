"""Layer: cures, reduced depth. Fewer layers, and layers that are there only now and then.

Knows layers as values. Each entry is one line of the catalogue in `mitigations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ._depth_drop import linear_survival
from ._layer_values import changed
from ._mitigation_base import Draft, Entry, Order, Setting
from ._mitigation_rewrite import Place, nothing_to_change, rewrite, runs
from ._surgery import with_copies
from .branches import Residual
from .errors import ArgumentError
from .layers import Layer, Repeat, walk

__all__ = ["ENTRIES"]


def _fewer_layers(draft: Draft, keep: float) -> Draft:
    dropped = 0

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal dropped
        if place.inside:
            return chain
        cut: list[Layer] = []
        for layer in chain:
            if isinstance(layer, Repeat) and layer.n > 1:
                n = max(1, round(keep * layer.n))
                dropped += layer.n - n
                layer = with_copies(layer, range(n))
            cut.append(layer)
        # Of layers written one by one those that keep the width can go; the first ones stay.
        square = [run for run in runs(cut, place.in_features) if run.square and run.activated]
        gone = square[max(1, round(keep * len(square))) :]
        dropped += len(gone)
        away = {index for run in gone for index in range(run.start, run.stop)}
        return [layer for index, layer in enumerate(cut) if index not in away]

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not dropped:
        raise nothing_to_change("it has no layers in a row that could be left out")
    return replace(draft, layers=layers)


def _stochastic_depth(draft: Draft, last: float) -> Draft:
    return _left_out(draft, lambda count: linear_survival(count, last))


def _layer_drop(draft: Draft, p: float) -> Draft:
    return _left_out(draft, lambda count: np.full(count, 1.0 - p))


def _drops(p: float) -> None:
    if not 0.0 <= p < 1.0:
        raise ArgumentError(f"layer_drop: p: expected a probability from 0 to below 1, got {p:g}")


def _left_out(draft: Draft, survival_of: Callable[[int], NDArray[np.float64]]) -> Draft:
    """Return the draft whose residual blocks survive a batch with the probabilities that the rule gives."""
    blocks = [
        placed for placed in walk(draft.layers, draft.in_features) if isinstance(placed.layer, Residual)
    ]
    count = sum(placed.times for placed in blocks)
    if not count:
        raise nothing_to_change("it has no residual blocks to leave out; put a cure that makes them first")
    if len({placed.path for placed in blocks}) < len(blocks):
        raise nothing_to_change(
            "of its shortcuts some lie across others and have no name of their own, by which to draw"
        )
    survival = survival_of(count)
    done = 0

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal done
        result: list[Layer] = []
        for layer in chain:
            if isinstance(layer, Residual):
                # Copies of one Repeat have one probability: the mean of what they would have one by one.
                mine = survival[done : done + place.times]
                alike = mine.size == 0 or bool((mine == mine[0]).all())  # a mean of equals may be rounded
                layer = changed(layer, survival=float(mine[0] if alike else mine.mean()))
                done += place.times
            result.append(layer)
        return result

    return replace(draft, layers=rewrite(draft.layers, Place((), draft.in_features), edit))


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "fewer_layers",
        "depth",
        "L -> keep * L",
        "Less depth: a gradient that loses a factor at every layer loses fewer of them.",
        "the first of every row of equal layers stay, with their weights; the rest goes",
        "Hochreiter 1991; Glorot & Bengio 2010",
        _fewer_layers,
        Order.DEPTH,
        (Setting("keep", 0.5, "share of the layers that stays, between 0 and 1", above=0.0, below=1.0),),
        aliases=("truncate_depth", "reduced_depth"),
        tried_as=lambda draft: ({"keep": 0.1},),
    ),
    Entry(
        "stochastic_depth",
        "depth",
        "x -> x + b s f(x), b in {0, 1} drawn once a batch with P(b = 1) = p_l",
        "Blocks that are left out at random: while it trains, the network is shorter than it is.",
        "the survival of residual blocks, falling evenly from 1 to `last`; in a Repeat the mean of that",
        "Huang et al. 2016, arXiv:1603.09382",
        _stochastic_depth,
        Order.DEPTH,
        (Setting("last", 0.5, "probability that the last block is there", least=0.0, most=1.0),),
        needs="residual blocks, so after a cure that makes them",
        conflicts={"layer_drop": "both say how likely a block is there"},
    ),
    Entry(
        "layer_drop",
        "depth",
        "x -> x + b s f(x), b in {0, 1} drawn once a batch with P(b = 1) = 1 - p",
        "Blocks that are left out at random, all alike: layers learn to do without each other.",
        "the survival of every residual block",
        "Fan, Grave & Joulin 2020, arXiv:1909.11556; Huang et al. 2016, arXiv:1603.09382",
        _layer_drop,
        Order.DEPTH,
        (Setting("p", 0.2, "probability that a block is left out"),),
        aliases=("layer_dropping", "uniform_stochastic_depth"),
        needs="residual blocks, so after a cure that makes them",
        check=_drops,
    ),
)
