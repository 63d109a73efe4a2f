"""Layer: cures, reduced depth. Fewer layers, and layers that are there only now and then.

Knows layers as values. Each entry is one line of the catalogue in `mitigations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ._mitigation_base import Draft, Entry, Setting
from ._mitigation_rewrite import Place, changed, nothing_to_change, rewrite, runs
from .layers import Layer, Repeat

__all__ = ["ENTRIES"]


def _fewer_layers(draft: Draft, keep: float) -> Draft:
    what = f"fewer_layers({keep:g})"
    if not 0.0 < keep < 1.0:
        raise nothing_to_change(what, "the share to keep lies between 0 and 1")
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
                layer = changed(layer, n=n)
            cut.append(layer)
        # Of layers written one by one those that keep the width can go; the first ones stay.
        square = [run for run in runs(cut, place.in_features) if run.square and run.activated]
        gone = square[max(1, round(keep * len(square))) :]
        dropped += len(gone)
        away = {index for run in gone for index in range(run.start, run.stop)}
        return [layer for index, layer in enumerate(cut) if index not in away]

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not dropped:
        raise nothing_to_change(what, "it has no layers in a row that could be left out")
    return replace(draft, layers=layers)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "fewer_layers",
        "depth",
        "L -> keep * L",
        "Less depth: a gradient that loses a factor at every layer loses fewer of them.",
        "the first of every row of equal layers stay, with their weights; the rest goes",
        "Hochreiter 1991; Glorot & Bengio 2010",
        _fewer_layers,
        (Setting("keep", 0.5, "share of the layers that stays, between 0 and 1"),),
        aliases=("truncate_depth", "reduced_depth"),
    ),
)
