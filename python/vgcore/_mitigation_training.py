"""Layer: cures, training. Optimisers, clipping, constraints and truncation, which leave the network as it is.

Knows what ``net.fit`` takes, and the catalogues of its parts: one of theirs is a cure without a change here.
Each entry is one line of the catalogue in `mitigations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from . import clipping, constraints, optimizers
from ._mitigation_base import Draft, Entry, Order, Setting
from ._mitigation_rewrite import nothing_to_change
from ._registry import Description, Parameter
from .clipping import Clip
from .constraints import Constraint
from .optimizers import Optimizer
from .recurrent import Recurrent

__all__ = ["ENTRIES"]

#: What parts of the training are called as cures, where their own name would not say enough.
_NAMES: Final[Mapping[str, str]] = {
    "value": "clip_value",
    "norm": "clip_norm",
    "layer": "clip_layer",
    "band": "norm_band",
    "sign": "sign_gradient",
    "spectral": "spectral_constraint",
    "orthogonal": "orthogonal_constraint",
    "max_norm": "max_norm_constraint",
}
#: What the literature calls them by, beside the names of the parts.
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {"norm": ("gradient_clipping", "clip_grad_norm")}
#: Clips that multiply whole layers, or all of them, by a number.
_SCALING: Final = ("clip_norm", "clip_layer", "norm_band", "unit_norm")
#: What a clip or a constraint does not go with, whatever its parameters.
_AGAINST: Final[Mapping[str, Mapping[str, str]]] = {
    "orthogonal_constraint": dict.fromkeys(
        ("spectral_constraint", "max_norm_constraint"),
        "orthogonal weights have the singular values and lengths that their gain says, so another limit of "
        "them does nothing or is undone",
    ),
}


def _settings(entry: Description) -> tuple[Setting, ...]:
    return tuple(map(_setting, entry.params))


def _setting(parameter: Parameter) -> Setting:
    kind = "flag" if isinstance(parameter.default, bool) else "real"
    if isinstance(parameter.default, str):
        kind = "text"
    return Setting(parameter.name, parameter.default, parameter.doc, kind=kind)


def _check(part: Callable[[str, Mapping[str, Any]], Any], name: str) -> Callable[..., object]:
    """Return what refuses values that the compiled module does not take for this part."""
    return lambda **values: part(name, values)


def _given(entry: Description, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the defaults: what a person would have written."""
    return {key: value for key, value in values.items() if value != entry.defaults[key]}


# --- optimisers ---------------------------------------------------------------------------------------------


def _optimizer(name: str, fixed: Mapping[str, Any]) -> Callable[..., Draft]:
    def apply(draft: Draft, **values: Any) -> Draft:
        params = {**fixed, **_given(optimizers.describe(name), values)}
        earlier = draft.training.get("optimizer")
        decay = float(earlier.params.get("weight_decay", 0.0)) if earlier is not None else 0.0
        if decay > 0.0 and "weight_decay" not in params:
            if "weight_decay" not in optimizers.describe(name).defaults:
                raise nothing_to_change(
                    f"the optimizer {name} has no weight decay, which a cure before it has set"
                )
            params["weight_decay"] = decay  # what an earlier cure has set stays
        return draft.with_training(optimizer=Optimizer(name, params))

    return apply


def _weight_decay(draft: Draft, value: float) -> Draft:
    now = draft.training.get("optimizer") or optimizers.as_optimizer("sgd")
    if "weight_decay" not in now.params:
        raise nothing_to_change(f"the optimizer {now.name} has no weight decay")
    return draft.with_training(optimizer=Optimizer(now.name, {**now.params, "weight_decay": value}))


def _tried_as(name: str) -> Callable[[Draft], Iterable[Mapping[str, Any]]]:
    # What every trial is trained with unless a cure says otherwise is no trial of its own.
    tried: tuple[Mapping[str, Any], ...] = () if name == "sgd" else ({},)
    return lambda draft: tried


def _optimizers() -> Iterator[Entry]:
    against = dict.fromkeys(
        _SCALING, "only the direction of a layer's gradient counts, so scaling whole layers does nothing"
    )
    for name in optimizers.names():
        entry = optimizers.describe(name)
        yield Entry(
            name,
            "optimizer",
            entry.formula,
            entry.summary,
            "the optimizer that net.fit takes where none is given",
            entry.reference,
            _optimizer(name, {}),
            Order.OPTIMIZER,
            _settings(entry),
            aliases=entry.aliases,
            of_training=True,
            tried_as=_tried_as(name),
            check=_check(Optimizer, name),
            conflicts=against if name == "scale_free" else {},
        )
    sgd = optimizers.describe("sgd")
    settings = tuple(s for s in _settings(sgd) if s.name in ("lr", "weight_decay"))
    for name, variant in optimizers.VARIANTS.items():
        yield Entry(
            name,
            "optimizer",
            variant.formula,
            variant.summary,
            "the optimizer that net.fit takes where none is given",
            variant.reference,
            _optimizer(variant.of, variant.params),
            Order.OPTIMIZER,
            settings,
            of_training=True,
            check=_check(Optimizer, name),
        )
    yield Entry(
        "weight_decay",
        "training",
        "g + decay w, or as the optimizer has it",
        "Weights that shrink by themselves, so that they do not grow until gradients explode.",
        "the weight decay of the optimizer, SGD where there is none yet",
        "Krogh & Hertz 1991; Loshchilov & Hutter 2019, arXiv:1711.05101",
        _weight_decay,
        Order.TRAINING,
        (Setting("value", 1e-4, "the decay", least=0.0),),
        of_training=True,
    )


# --- clips and constraints ----------------------------------------------------------------------------------


def _part(kind: str, name: str) -> Callable[..., Draft]:
    def apply(draft: Draft, **values: Any) -> Draft:
        entry = (clipping if kind == "clip" else constraints).describe(name)
        params = _given(entry, values)
        part: Any = Clip(name, params) if kind == "clip" else Constraint(name, params)
        return draft.with_training(**{kind: (*draft.training.get(kind, ()), part)})

    return apply


def _undone(clip: str) -> dict[str, str]:
    """Return the clips after which this one has changed nothing."""
    found = {}
    if clip in _SCALING and clip != "unit_norm":
        found["unit_norm"] = "gives every layer the norm 1, whatever it was scaled to before"
    if clip != "sign_gradient":
        found["sign_gradient"] = "keeps the sign of each entry alone, which no clip changes"
    return found


def _parts() -> Iterator[Entry]:
    for kind, part, module, changes in (
        (
            "clip",
            Clip,
            clipping,
            "what net.fit does to gradients before each step, after the clips before it",
        ),
        ("constraint", Constraint, constraints, "what net.fit brings weights back to after each step"),
    ):
        for name in module.names():
            entry = module.describe(name)
            called = _NAMES.get(name, name)
            conflicts = dict(_AGAINST.get(called, {}))
            if kind == "constraint":
                conflicts["weight"] = "it holds the weights themselves, which are made from others here"
            yield Entry(
                called,
                kind,
                entry.formula,
                entry.summary,
                changes,
                entry.reference,
                _part(kind, name),
                Order.CLIP if kind == "clip" else Order.CONSTRAINT,
                _settings(entry),
                aliases=_ALIASES.get(name, ()),
                conflicts=conflicts,
                undone_by=_undone(called) if kind == "clip" else {},
                of_training=True,
                check=_check(part, name),
            )


def _truncate(draft: Draft, steps: int) -> Draft:
    if not any(isinstance(layer, Recurrent) for layer in draft.layers):
        raise nothing_to_change("it has no recurrent layer")
    return draft.with_training(truncate=steps)


ENTRIES: tuple[Entry, ...] = (
    *_optimizers(),
    *_parts(),
    Entry(
        "truncate",
        "truncation",
        "dh_(kn) / dh_(kn - 1) = 0 every k steps",
        "Gradients that go back k steps at most: they can neither explode nor reach further.",
        "net.fit cuts the gradient along time, not the state, every k steps",
        "Williams & Peng 1990; Tallec & Ollivier 2017, arXiv:1705.08209",
        _truncate,
        Order.TRUNCATION,
        (Setting("steps", 20, "k", kind="size"),),
        aliases=("truncated_bptt", "bptt", "tbptt", "truncated_backpropagation"),
        needs="a recurrent layer",
        of_training=True,
    ),
)
