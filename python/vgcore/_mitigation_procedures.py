"""Layer: cures, procedures. What helps and is no change of one network or of its training's settings.

Knows what each is called, what it does and which function does it. `vg.mitigations.describe` explains them; a
network cannot be given one.
"""

from __future__ import annotations

from typing import Final

from ._registry import Description

__all__ = ["PROCEDURES"]


def _procedure(
    name: str, function: str, formula: str, summary: str, changes: str, reference: str, *aliases: str
) -> Description:
    return Description(
        kind="procedure",
        name=name,
        aliases=aliases,
        formula=formula,
        summary=summary,
        reference=reference,
        params=(),
        extra={"function": function, "changes": changes},
    )


#: One entry each, as the cures have them.
PROCEDURES: Final = (
    _procedure(
        "chunker",
        "vg.chunker(...)",
        "level k + 1 reads x_t only where level k did not foretell it",
        "A hierarchy of recurrent levels: what was predicted is not passed up, so that a long lag is a short "
        "one above.",
        "a sequence into a shorter one for every level, each with a network of its own",
        "Schmidhuber 1992, Learning complex, extended sequences using the principle of history compression",
        "multi_level_hierarchy",
        "history_compression",
        "hierarchy",
    ),
    _procedure(
        "progressive_growth",
        "vg.depth.progressive(net, x, y, ...), vg.depth.grow(net, to)",
        "L_1 < L_2 < ... layers, each network going on from the one before",
        "Depth that comes while it trains: new layers start as the identity or nearly so.",
        "the number of layers between stages of one training, with the weights kept",
        "Chen, Goodfellow & Shlens 2016, arXiv:1511.05641; Chang et al. 2018, arXiv:1710.10348",
        "progressive",
        "progressive_growing",
        "grow",
    ),
    _procedure(
        "layer_removal",
        "vg.depth.removable(net, x, y), vg.depth.prune(net, x, y), net.without(steps)",
        "loss without step l - loss with it, measured for every l",
        "Layers that do nothing are found by measuring the network without each, and taken out.",
        "a trained network into a shallower one of nearly the same loss, with the weights kept",
        "Veit, Wilber & Belongie 2016, arXiv:1605.06431; Fan, Grave & Joulin 2020, arXiv:1909.11556",
        "remove_layers",
        "layer_pruning",
        "prune",
        "pruning",
    ),
    _procedure(
        "trainable_depth",
        "vg.depth.trainable_depth(build, x, y)",
        "bisection between a depth that trains and one that does not",
        "The deepest network that still trains, found by training some.",
        "nothing: it tells which depth to choose",
        "Schoenholz et al. 2017, arXiv:1611.01232",
        "depth_bisection",
        "bisection",
    ),
    _procedure(
        "shortest_truncation",
        "vg.depth.shortest_truncation(net, x, y), net.truncation_loss(x, y, k)",
        "the least k with max over parameters of |g_cut - g| / |g| <= tolerance",
        "How far back a gradient has to go, measured, before training is truncated there.",
        "nothing: it tells which k to give to the cure truncate",
        "Williams & Peng 1990, Neural Computation 2:490",
        "truncation_length",
    ),
    _procedure(
        "hardware",
        "vg.set_num_threads(n); on the command line: vgcore info",
        "steps a second = operations a second / operations a step",
        "Faster machines train deeper networks in the same time; the gradient itself stays as it is.",
        "the threads that a pass uses, all cores unless told; the result has the same bits for any number",
        "Schmidhuber 2015, arXiv:1404.7828; Ciresan et al. 2010, arXiv:1003.0358",
        "faster_hardware",
        "threads",
    ),
)
