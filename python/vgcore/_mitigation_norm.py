"""Layer: cures, normalisation. Of activations, before or behind them, and of weights.

Knows layers as values. Each entry is one line of the catalogue in `mitigations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ._layer_values import changed
from ._mitigation_base import Draft, Entry, Order, Setting
from ._mitigation_rewrite import Place, nothing_to_change, rewrite
from ._mitigation_start import next_activations
from .layers import Activation, Dense, Layer, walk
from .normalisation import BatchNorm, GroupNorm, LayerNorm, Normalisation, RMSNorm
from .parametrizations import Parametrization

__all__ = ["ENTRIES"]

_POSITIONS = ("before", "after")


def _insert(draft: Draft, make: Callable[..., Normalisation], position: str, **options: Any) -> Draft:
    """Return the draft with a norm before or behind every activation."""
    found = 0

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal found
        if any(isinstance(layer, Normalisation) for layer in chain):
            raise nothing_to_change("its activations are normalised already")
        result: list[Layer] = []
        taken = {layer.name for layer in chain}
        owner = ""
        for layer in chain:
            if isinstance(layer, Dense):
                owner = layer.name or ""
            if not isinstance(layer, Activation):
                result.append(layer)
                continue
            found += 1
            name = _free(f"{owner}_norm".lstrip("_"), taken)
            norm = make(name=name, **options)
            result += [norm, layer] if position == "before" else [layer, norm]
        return result

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not found:
        raise nothing_to_change("it has no activation to normalise for; a recurrent cell's own are inside")
    return replace(draft, layers=layers)


def _free(name: str, taken: set[str | None]) -> str:
    """Return a name that no layer of the chain has, and take it."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}{number}"
    taken.add(free)
    return free


def _batch_norm(draft: Draft, position: str, online: bool, momentum: float | None) -> Draft:
    return _insert(draft, BatchNorm, position, online=online, momentum=momentum)


def _layer_norm(draft: Draft, position: str) -> Draft:
    return _insert(draft, LayerNorm, position)


def _rms_norm(draft: Draft, position: str) -> Draft:
    return _insert(draft, RMSNorm, position)


def _group_norm(draft: Draft, groups: int, position: str) -> Draft:
    for placed in walk(draft.layers, draft.in_features):
        if isinstance(placed.layer, Activation) and placed.in_features % groups:
            raise nothing_to_change(f"{groups} groups do not divide a layer of {placed.in_features} units")
        if isinstance(placed.layer, Activation) and placed.in_features == groups:
            raise nothing_to_change("groups of one unit have no variance: they would be 0 for ever")
    return _insert(draft, GroupNorm, position, groups=groups)


def _parametrized(draft: Draft, choose: Callable[[Activation | None], Parametrization | None]) -> Draft:
    """Return the draft with the weights of Dense layers made in another way."""
    following = next_activations(draft)
    renamed, derived = dict(draft.renamed), dict(draft.derived)
    found = 0

    def edit(chain: tuple[Layer, ...], place: Place) -> Sequence[Layer]:
        nonlocal found
        result: list[Layer] = []
        for index, layer in enumerate(chain):
            if isinstance(layer, Dense):
                if layer.parametrization is not None:
                    raise nothing_to_change("its weights are made from others already")
                path = place.name_of(layer, index)
                made = choose(following.get(f"{path}weight"))
                if made is not None:
                    found += 1
                    matrix, vector = made.leaves
                    source = draft.source(f"{path}weight")
                    renamed[f"{path}{matrix}"] = source
                    if made.name == "weight_norm":
                        # Lengths of the rows as they are: the weight starts as it was.
                        renamed[f"{path}{vector}"] = source
                        derived[f"{path}{vector}"] = (f"{path}{matrix}", _lengths)
                    layer = changed(layer, parametrization=made)
            result.append(layer)
        return result

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not found:
        raise nothing_to_change("it has no Dense layer with an activation behind it")
    return replace(draft, layers=layers, renamed=renamed, derived=derived)


def _lengths(weights: Any) -> Any:
    return np.sqrt(np.square(weights, dtype=np.float64).sum(axis=-1)).astype(weights.dtype)


def _weight_norm(draft: Draft) -> Draft:
    made = Parametrization("weight_norm")
    return _parametrized(draft, lambda following: made)


def _weight_standardized(draft: Draft, gain: float | None) -> Draft:
    def choose(following: Activation | None) -> Parametrization | None:
        if following is None:
            return None  # the last layer has no activation whose variance its weights should make up for
        return Parametrization("weight_standardized", {"gain": _gain(following) if gain is None else gain})

    return _parametrized(draft, choose)


def _gain(following: Activation) -> float:
    """Return 1 / std of phi(z), z standard normal: what makes up for the activation."""
    from . import theory

    m = theory.moments(following, 1.0)
    variance = m.square - m.value**2
    return 1.0 / math.sqrt(variance) if variance > 0.0 else 1.0


_POSITION = Setting(
    "position", "before", "of the activation: before or after", kind="choice", choices=_POSITIONS
)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "batch_norm",
        "norm",
        "(h - mean) / sqrt(var + eps) * w + b, mean and var of each unit over the batch",
        "Every unit keeps mean 0 and variance 1 over the batch, whatever its weights become.",
        "a BatchNorm beside every activation; inference uses running statistics",
        "Ioffe & Szegedy 2015, arXiv:1502.03167; Yang et al. 2019, arXiv:1902.08129 (it explodes in depth)",
        _batch_norm,
        Order.NORM,
        (
            _POSITION,
            Setting("online", False, "normalise by running statistics in training too", kind="flag"),
            Setting(
                "momentum",
                0.1,
                "share of a new batch in the running statistics; none: the mean of all batches",
                may_be_none=True,
            ),
        ),
        aliases=("batchnorm", "bn"),
        check=lambda momentum, **others: BatchNorm(momentum=momentum),
    ),
    Entry(
        "layer_norm",
        "norm",
        "(h - mean) / sqrt(var + eps) * w + b, mean and var of each sample over its units",
        "Every sample keeps mean 0 and variance 1 over its units.",
        "a LayerNorm beside every activation",
        "Ba, Kiros & Hinton 2016, arXiv:1607.06450",
        _layer_norm,
        Order.NORM,
        (_POSITION,),
        aliases=("layernorm", "ln"),
    ),
    Entry(
        "rms_norm",
        "norm",
        "h / sqrt(mean h^2 + eps) * w",
        "Every sample keeps its length; its mean may move.",
        "an RMSNorm beside every activation",
        "Zhang & Sennrich 2019, arXiv:1910.07467",
        _rms_norm,
        Order.NORM,
        (_POSITION,),
        aliases=("rmsnorm",),
    ),
    Entry(
        "group_norm",
        "norm",
        "(h - mean) / sqrt(var + eps) * w + b, mean and var of each sample over a group of units",
        "Layer normalisation group by group.",
        "a GroupNorm beside every activation",
        "Wu & He 2018, arXiv:1803.08494",
        _group_norm,
        Order.NORM,
        (Setting("groups", 4, "how many groups; they divide the width", kind="size"), _POSITION),
        aliases=("groupnorm",),
    ),
    Entry(
        "weight_norm",
        "weight",
        "w = g v / |v|, row by row",
        "Length and direction of a unit's weights learn apart.",
        "every Dense learns v and g instead of w; the weights start as they were",
        "Salimans & Kingma 2016, arXiv:1602.07868",
        _weight_norm,
        Order.WEIGHT,
        aliases=("weightnorm",),
    ),
    Entry(
        "weight_standardized",
        "weight",
        "w = gain (v - mean v) / (std v sqrt(fan_in)), row by row",
        "Rows of weights keep mean 0 and one length; the gain makes up for the activation.",
        "Dense layers in front of activations standardise their weights; the length becomes the gain",
        "Qiao et al. 2019, arXiv:1903.10520; Brock, De & Smith 2021, arXiv:2101.08692",
        _weight_standardized,
        Order.WEIGHT,
        (
            Setting(
                "gain",
                None,
                "length of a row; None: 1 / std of the activation of a normal number",
                above=0.0,
                otherwise="with weights of length 0 every unit puts out 0",
            ),
        ),
        aliases=("weight_standardization", "weight_standardisation"),
        conflicts={"start": "it takes away the size that a start gives the weights"},
    ),
)
