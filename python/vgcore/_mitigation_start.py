"""Layer: cures, activations and how weights start. Each entry is one line of the catalogue in `mitigations`.

Knows layers, initializers and what theory says of activations; knows no network that runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from . import activations
from ._contextual import adds_up
from ._layer_values import changed
from ._mitigation_base import DoesNotApply, Draft, Entry, Order, Setting
from ._mitigation_rewrite import Place, edit_layers, nothing_to_change, rewrite
from .cells import Cell
from .errors import ArgumentError
from .initializers import Initializer
from .layers import Activation, Dense, Layer, Repeat, walk
from .recurrent import Recurrent

__all__ = ["ENTRIES", "next_activations", "start_dense"]

Start = Callable[[Dense, int, Activation | None], Initializer | None]


def _next_activation(chain: Sequence[Layer], index: int, place: Place) -> Activation | None:
    """Return the activation that a layer's output comes to next, whatever norm lies between."""
    for layer in chain[index + 1 :]:
        if isinstance(layer, Activation):
            return layer
        if isinstance(layer, (Dense, Recurrent)):
            return None
        if layer.body:
            return _next_activation(layer.body, -1, place)
    if (
        place.inside
        and any(isinstance(outer, Repeat) and outer.n > 1 for outer in place.inside)
        and index >= 0
    ):
        return _next_activation(chain[:index], -1, Place((), 1))
    return None


def next_activations(draft: Draft) -> dict[str, Activation | None]:
    """Return, by the name of each Dense layer's weight, the activation that its output comes to next."""
    found: dict[str, Activation | None] = {}

    def look(chain: tuple[Layer, ...], place: Place) -> tuple[Layer, ...]:
        for index, layer in enumerate(chain):
            if isinstance(layer, Dense):
                found[_parameter(place, layer, index, "weight")] = _next_activation(chain, index, place)
        return chain

    rewrite(draft.layers, Place((), draft.in_features), look)
    return found


def start_dense(draft: Draft, choose: Start) -> Draft:
    """Return the draft with the weights of each Dense for which `choose` returns an initializer starting so.

    `choose` gets the layer, the width of its input and the activation that comes next.
    """
    fresh: set[str] = set()

    def edit(chain: tuple[Layer, ...], place: Place) -> list[Layer]:
        result: list[Layer] = []
        width = place.in_features
        for index, layer in enumerate(chain):
            if isinstance(layer, Dense):
                start = choose(layer, width, _next_activation(chain, index, place))
                if start is not None:
                    fresh.add(_parameter(place, layer, index, "weight"))
                    layer = changed(layer, init=start)
            result.append(layer)
            width = layer.out_features(width)
        return result

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not fresh:
        raise nothing_to_change("it has no Dense layer whose weights it could start")
    return replace(draft, layers=layers, fresh=draft.fresh | fresh)


def _parameter(place: Place, layer: Dense, index: int, leaf: str) -> str:
    """Return the name of a parameter of a Dense; "weight": of the matrix that its weight is made from."""
    matrix = next(iter(layer.own_parameters(1)))
    return place.name_of(layer, index) + (matrix if leaf == "weight" else leaf)


# --- activations --------------------------------------------------------------------------------------------


def _activation(draft: Draft, function: str, init: str | None) -> Draft:
    entry = activations.describe(function)
    seen = 0

    def swap(layer: Layer, path: str, width: int) -> Layer:
        nonlocal seen
        if isinstance(layer, Activation) and layer.function != entry.name:
            seen += 1
            return Activation(entry.name, name=layer.name)
        if isinstance(layer, Recurrent) and layer.unit.name in ("rnn", "irnn", "orthogonal_rnn"):
            if layer.unit.functions == (entry.name,):
                return layer
            seen += 1
            return changed(layer, cell=Cell(layer.unit.name, {"activation": entry.name}))
        return layer

    swapped = edit_layers(draft, swap)
    if not seen:
        raise nothing_to_change(f"it has no activation other than {entry.name}, or none that can be swapped")

    fits = str(entry.extra["fits"])
    start = Initializer(fits if init is None or init == "fits" else init)
    fresh: set[str] = set()

    def refit(chain: tuple[Layer, ...], place: Place) -> list[Layer]:
        result: list[Layer] = []
        for index, layer in enumerate(chain):
            if isinstance(layer, Dense) and _next_activation(chain, index, place) is not None:
                name = _parameter(place, layer, index, "weight")
                if init is not None or layer.init is None or name in draft.settled:
                    layer = changed(layer, init=start)
                    fresh.add(name)
            result.append(layer)
        return result

    layers = rewrite(swapped.layers, Place((), draft.in_features), refit)
    return replace(swapped, layers=layers, fresh=draft.fresh | fresh)


# --- weights ------------------------------------------------------------------------------------------------


def _known(name: str) -> Initializer:
    return Initializer(name)


def _recurrent_start(draft: Draft, start: Callable[[Recurrent], Initializer | None]) -> Draft:
    fresh: set[str] = set()

    def edit(layer: Layer, path: str, width: int) -> Layer:
        if isinstance(layer, Recurrent) and "weight_hh" in layer.unit.leaves:
            begin = start(layer)
            if begin is not None:
                leaves = (leaf for leaf in layer.own_parameters(width) if leaf.startswith("weight_hh"))
                fresh.update(f"{path}.{leaf}" if path else leaf for leaf in leaves)
                return changed(layer, recurrent_init=begin)
        return layer

    cured = edit_layers(draft, edit)
    if not fresh:
        raise nothing_to_change("it has no recurrent layer with recurrent weights that could start so")
    return replace(cured, fresh=cured.fresh | fresh)


def _init(draft: Draft, name: str) -> Draft:
    begin = _known(name)
    if draft.axis == "time":
        return _recurrent_start(draft, lambda layer: begin)
    return start_dense(draft, lambda layer, width, following: begin)


def _zero_bias(draft: Draft) -> Draft:
    zeros, fresh = Initializer("zeros"), set[str]()

    def edit(layer: Layer, path: str, width: int) -> Layer:
        if isinstance(layer, Dense) and layer.bias:
            # Also where it starts at 0 already: biases that were loaded or trained start anew.
            fresh.add(f"{path}.bias" if path else "bias")
            return changed(layer, bias_init=zeros)
        return layer

    cured = edit_layers(draft, edit)
    if not fresh:
        raise nothing_to_change("it has no Dense layer with a bias")
    return replace(cured, fresh=cured.fresh | fresh)


def _weight_gain(following: Activation | None) -> float:
    """Return the gain at which weights before this activation keep a gradient's norm, if there is one."""
    if following is None:
        return 1.0
    found = _edge(following.function, tuple(sorted(following.params.items())), None)
    return float(found[0] ** 0.5) if found else 1.0


def _orthogonal(draft: Draft) -> Draft:
    if draft.axis == "time":
        return _recurrent_start(draft, lambda layer: Initializer("orthogonal"))

    def choose(layer: Dense, width: int, following: Activation | None) -> Initializer:
        gain = _weight_gain(following)
        return Initializer("orthogonal", {} if gain == 1.0 else {"gain": gain})

    return start_dense(draft, choose)


@functools.lru_cache(maxsize=512)
def _edge(
    function: str, params: tuple[tuple[str, float], ...], sigma_b2: float | None
) -> tuple[float, float] | None:
    """Return (sigma_w2, sigma_b2) at the edge of chaos; None where there is no such point."""
    from . import theory

    layer = Activation(function, **dict[str, Any](params))
    if sigma_b2 is not None:
        point = theory.critical(layer, sigma_b2)
        return point.sigma_w2, point.sigma_b2
    for variance in (0.0, 0.05):
        points = theory.critical_points(layer, variance)
        if points and any(point.stable for point in points):
            point = theory.critical(layer, variance)
            return point.sigma_w2, point.sigma_b2
        corner = theory.half_stable_points(layer)
        if corner:
            return corner[0].sigma_w2, corner[0].sigma_b2
    return None


def _edge_of_chaos(draft: Draft, sigma_b2: float | None) -> Draft:
    if draft.axis == "time":
        return _recurrent_start(draft, _edge_of_cell)
    fresh: set[str] = set()

    def edit(chain: tuple[Layer, ...], place: Place) -> list[Layer]:
        result: list[Layer] = []
        for index, layer in enumerate(chain):
            following = _next_activation(chain, index, place)
            if isinstance(layer, Dense) and following is not None:
                point = _edge(following.function, tuple(sorted(following.params.items())), sigma_b2)
                if point is None:
                    raise nothing_to_change(
                        f"{following.function} has no critical point: no weights keep the gradient's norm",
                    )
                if point[1] > 0.0 and not layer.bias:
                    raise nothing_to_change(
                        f"{following.function} needs biases of variance {point[1]:g}, but bias=False"
                    )
                fresh.update(_parameter(place, layer, index, leaf) for leaf in ("weight", "bias"))
                bias = (
                    Initializer("normal", {"std": point[1] ** 0.5})
                    if point[1] > 0.0
                    else Initializer("zeros")
                )
                start = Initializer("mean_field", {"sigma_w2": point[0]})
                layer = changed(layer, init=start, bias_init=bias if layer.bias else layer.bias_init)
            result.append(layer)
        return result

    layers = rewrite(draft.layers, Place((), draft.in_features), edit)
    if not fresh:
        raise nothing_to_change("it has no Dense layer with an activation behind it")
    return replace(draft, layers=layers, fresh=draft.fresh | fresh)


def _edge_of_cell(layer: Recurrent) -> Initializer | None:
    if layer.unit.name != "rnn":
        return None
    point = _edge(layer.unit.functions[0], (), 0.0)
    return None if point is None else Initializer("mean_field", {"sigma_w2": point[0]})


def _looks_linear(draft: Draft) -> Draft:
    bent = [layer.function for layer in _activations(draft.layers) if not adds_up(layer)]
    if bent:
        raise nothing_to_change(
            f"a pair of {bent[0]} units of opposite signs does not add up to a straight line"
        )
    # Which sides of a weight are mirrored follows from what stands around it.
    return start_dense(draft, lambda layer, width, following: Initializer("looks_linear"))


def _activations(layers: Sequence[Layer]) -> list[Activation]:
    found: list[Activation] = []
    for layer in layers:
        if isinstance(layer, Activation):
            found.append(layer)
        found += _activations(layer.body)
    return found


def _delta(draft: Draft) -> Draft:
    if draft.axis == "time":
        return _recurrent_start(
            draft,
            lambda layer: Initializer("identity") if len(layer.unit.gates) == 1 else None,
        )

    def choose(layer: Dense, width: int, following: Activation | None) -> Initializer | None:
        return Initializer("identity") if layer.features == width else None

    return start_dense(draft, choose)


def _pretraining(draft: Draft, **how: Any) -> Draft:
    if draft.axis == "time":
        raise nothing_to_change("it pretrains layer by layer; for sequences there is vg.chunker")
    if draft.x is None:
        raise DoesNotApply("trains each layer on the data: give them, net.mitigate(..., x=x)")
    return draft


def _pretrained(net: Any, x: Any, epochs: int, corruption: float, lr: float | None) -> Any:
    from .optimizers import Adam
    from .pretraining import greedy

    fit = {} if lr is None else {"optimizer": net.training_defaults.get("optimizer", Adam()).at(lr)}
    try:
        return greedy(net, x, epochs=epochs, corruption=corruption, rng=net.seed, **fit)
    except ArgumentError as error:
        raise nothing_to_change(str(error)) from error


def _lsuv(draft: Draft, tolerance: float) -> Draft:
    if draft.axis == "time":
        raise nothing_to_change("it scales layers one after the other; a recurrent layer has one set")
    if draft.x is None:
        raise DoesNotApply("scales each layer by what the data make of it: give them, net.mitigate(..., x=x)")
    return _orthogonal(draft)


def _scaled_on(net: Any, x: Any, tolerance: float) -> Any:
    return net.lsuv(x, tolerance=tolerance)


def _worth_trying(draft: Draft) -> list[dict[str, Any]]:
    # Where weights were given a start of their own, it suits the activation that was there.
    given = any(
        isinstance(p.layer, Dense) and p.layer.init is not None for p in walk(draft.layers, draft.in_features)
    )
    fits = {"init": "fits"} if given else {}
    return [{"function": function, **fits} for function in ("relu", "selu", "tanh", "gelu")]


def _starts_worth_trying(draft: Draft) -> list[dict[str, Any]]:
    found = ("glorot_uniform",) if draft.axis == "time" else ("he_normal", "glorot_normal")
    return [{"name": name} for name in found]


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "activation",
        "activation",
        "phi -> another phi, sigma_w2 -> what fits it",
        "Another activation, whose slope does not shrink the gradient at every layer.",
        "every activation; weights take the start that fits it, unless one was given",
        "Nair & Hinton 2010; Glorot, Bordes & Bengio 2011; Klambauer et al. 2017, arXiv:1706.02515",
        _activation,
        Order.ACTIVATION,
        (
            Setting("function", "relu", "a name from vg.activations.names()", kind="name"),
            Setting(
                "init", None, 'start of the weights, also where one was given; "fits": what fits', kind="name"
            ),
        ),
        refits=True,
        tried_as=_worth_trying,
    ),
    Entry(
        "init",
        "start",
        "W ~ the initializer",
        "Another start of every weight (of a recurrent network: of its recurrent weights).",
        "the weights' initializer; biases stay",
        "Glorot & Bengio 2010; He et al. 2015, arXiv:1502.01852",
        _init,
        Order.START,
        (Setting("name", "he_normal", "a name from vg.initializers.names()", kind="name"),),
        refits=True,
        tried_as=_starts_worth_trying,
    ),
    Entry(
        "orthogonal",
        "start",
        "W^T W = g^2 I, g^2 = 1 / E phi'(h)^2 where the edge of chaos says so, else 1",
        "Rotations: all directions of a gradient keep their length, not only the mean of them.",
        "every weight starts orthogonal; of a recurrent network weight_hh, gate by gate",
        "Saxe, McClelland & Ganguli 2014, arXiv:1312.6120; Pennington et al. 2017, arXiv:1711.04735",
        _orthogonal,
        Order.START,
        aliases=("dynamical_isometry",),
        refits=True,
    ),
    Entry(
        "edge_of_chaos",
        "start",
        "sigma_w2 E phi'(h)^2 = 1 at the length that the layer keeps",
        "Weights and biases of the variance at which a wide network keeps the gradient's norm.",
        "weights N(0, sigma_w2 / fan_in), biases N(0, sigma_b2), solved by vg.theory.critical",
        "Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232",
        _edge_of_chaos,
        Order.START,
        (
            Setting(
                "sigma_b2",
                None,
                "variance of the biases; None takes the least that has a stable point",
                least=0.0,
            ),
        ),
        aliases=("critical", "mean_field"),
        refits=True,
    ),
    Entry(
        "looks_linear",
        "start",
        "W = [[A, -A], [-A, A]], A orthogonal",
        "Mirrored pairs of units, which add up to a linear network at the start.",
        "every weight; widths between layers should be even",
        "Balduzzi et al. 2017, arXiv:1702.08591, section 4",
        _looks_linear,
        Order.START,
        needs="an activation with phi(z) - phi(-z) = c z, such as relu or gelu",
        refits=True,
    ),
    Entry(
        "delta",
        "start",
        "W = I",
        "Layers that start by passing everything on.",
        "weights of layers as wide as their input (of a plain recurrent layer: weight_hh)",
        "Xiao et al. 2018, arXiv:1806.05393 (delta-orthogonal); Le, Jaitly & Hinton 2015, arXiv:1504.00941",
        _delta,
        Order.START,
        aliases=("identity_start", "delta_orthogonal"),
        refits=True,
    ),
    Entry(
        "lsuv",
        "start",
        "W orthogonal, then W / std(h) layer by layer until |var(h) - 1| < tolerance",
        "Weights scaled until the data themselves give every layer unit variance.",
        "every weight starts orthogonal and is scaled on the data given as x",
        "Mishkin & Matas 2016, arXiv:1511.06422",
        _lsuv,
        Order.MEASURED,
        (Setting("tolerance", 0.1, "how far from 1 the variance may be", least=0.0),),
        needs="data: net.mitigate(..., x=x)",
        needs_data=True,
        conflicts={"weight": "it scales the weights that their parametrisation makes"},
        procedure=_scaled_on,
        refits=True,
    ),
    Entry(
        "layerwise_pretraining",
        "pretraining",
        "h_l = phi(W_l h_(l-1) + b_l), W_l trained to give h_(l-1) back",
        "Layers that learn one by one what their input looks like, before any gradient comes down to them.",
        "every weight and bias in front of an activation is trained on x, without labels, by the optimizer "
        "that cures before it have set, else by Adam; then fit",
        "Hinton, Osindero & Teh 2006; Bengio et al. 2007; Vincent et al. 2008",
        _pretraining,
        Order.PRETRAINING,
        (
            Setting("epochs", 10, "passes over the data for each layer", kind="size"),
            Setting("corruption", 0.0, "share of each input that is masked", least=0.0, below=1.0),
            Setting(
                "lr",
                None,
                "learning rate of the optimizer that cures before it have set, else of Adam; "
                "None: that optimizer's own, else 0.003",
                least=0.0,
            ),
        ),
        aliases=("pretraining", "greedy", "stacked_autoencoders"),
        needs="data: net.mitigate(..., x=x); Dense layers with activations, without shortcuts or norms",
        needs_data=True,
        conflicts={
            "block": "it pretrains plain layers",
            "long": "it pretrains plain layers",
            "norm": "it pretrains plain layers",
        },
        undone_by={
            "start": "draws anew the weights that were trained",
            "activation": "draws anew the weights that were trained, for another activation",
            "zero_bias": "takes away the biases that were trained",
        },
        procedure=_pretrained,
    ),
    Entry(
        "zero_bias",
        "bias",
        "b = 0",
        "Biases back at zero: units that a large negative bias holds off get their slope back.",
        "the start of every Dense layer's bias",
        "He et al. 2015, arXiv:1502.01852; Lu et al. 2019, arXiv:1903.06733 (dying relu)",
        _zero_bias,
        Order.BIAS,
        conflicts={"edge_of_chaos": "it draws biases of its own"},
        refits=True,
    ),
)
