"""Layer: cures, what a cure is. A name with parameters that turns one description of a network into another.

Knows layers as values; no cure in particular, and no network that runs. The catalogue is in `mitigations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, auto
from typing import Any, Final, NamedTuple

import numpy as np

from ._checks import as_choice, as_flag, as_real, as_size, shown
from ._registry import Description, Parameter
from .errors import ArgumentError
from .layers import Layer

__all__ = ["EXCLUSIVE", "Applied", "DoesNotApply", "Draft", "Entry", "Order", "Origin", "Setting"]


class DoesNotApply(ArgumentError):
    """A cure that would change nothing in this network, or cannot be fitted into it; the text says why.

    A cure raises it with what there is to say of it, without its own name: "does not apply ...".
    """


@dataclass(frozen=True)
class Setting(Parameter):
    """A parameter of a cure: a number unless `kind` says otherwise.

    `kind`: "real", "size" (a positive integer), "name" (text), "choice" (one of `choices`), "flag", or "text"
    for a word or a number as text. A default of None means that the cure finds the value; `may_be_none`: None
    is a value like others. Numbers lie from `least` to `most` and strictly between `above` and `below`.
    `otherwise`: why not out of this range.
    """

    kind: str = "real"
    choices: tuple[str, ...] = ()
    may_be_none: bool = False
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    otherwise: str = ""

    def check(self, value: Any, owner: str) -> Any:
        """Return `value` in this parameter's type, or raise ArgumentError naming `owner`."""
        where = f"{owner}: {self.name}"
        if value is None and (self.default is None or self.may_be_none):
            return None
        if self.kind == "size":
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # "long_skip:4" from a command line is a number like any other
            return self._ranged(as_size(value, where), where)
        if self.kind == "choice":
            return as_choice(value, where, self.choices)
        if self.kind == "name" and not isinstance(value, str):
            raise ArgumentError(f"{where}: expected a name such as {self.default!r}, got {shown(value)}")
        if self.kind == "name":
            return value
        if self.kind == "text":
            # "norm_type=1" comes as a number from a command line.
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise ArgumentError(f"{where}: expected text such as {self.default!r}, got {shown(value)}")
            return value if isinstance(value, str) else f"{value:g}"
        if self.kind == "flag":
            return as_flag(value, where)
        return self._ranged(as_real(value, where), where)

    def _ranged(self, value: Any, where: str) -> Any:
        """Return a number of the range; others are wrong for every network."""
        if self.least <= value <= self.most and self.above < value < self.below:
            return value
        words = (
            ("of at least", self.least),
            ("above", self.above),
            ("of at most", self.most),
            ("below", self.below),
        )
        ends = [f"{word} {end:g}" for word, end in words if math.isfinite(end)]
        number = "an integer" if self.kind == "size" else "a number"
        why = f"; {self.otherwise}" if self.otherwise else ""
        raise ArgumentError(f"{where}: expected {number} {' and '.join(ends)}, got {value:g}{why}")


class Origin(NamedTuple):
    """Where values come from: a name, and of its copies in a Repeat every `step`-th from `first` on."""

    name: str
    first: int = 0
    step: int = 1


@dataclass(frozen=True)
class Draft:
    """A network on its way through cures: its description, and what a training of it starts from.

    `layers` have the names that their parameters are drawn by, so that nothing that is put around or between
    them changes a weight. `training`: arguments of ``net.fit``. `renamed`: new name of a parameter -> the
    name it had, and which copies of a Repeat are its own. `derived`: parameters that are
    worked out from one there was, beside which new one, and how. `settled`: places whose initializer a cure
    wrote down to keep it, not the user.
    `fresh`: parameters that start anew whatever they were. `x`: the data, if there are any.
    """

    layers: tuple[Layer, ...]
    in_features: int
    dtype: np.dtype[Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, Origin] = field(default_factory=dict)
    derived: Mapping[str, tuple[str, Callable[[Any], Any]]] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    fresh: frozenset[str] = frozenset()
    x: Any = None

    @property
    def axis(self) -> str:
        """What a step is: "time" with a recurrent layer, else "depth"."""
        return "time" if any(layer.kind == "recurrent" for layer in self.layers) else "depth"

    def source(self, name: str) -> Origin:
        """Return the name that a parameter had before all cures, and which copies are its own."""
        return self.renamed.get(name, Origin(name))

    def moved(self, moves: Mapping[str, Origin]) -> Draft:
        """Return the draft that knows new names: each with the name so far and which copies are its own."""
        renamed, derived = dict(self.renamed), dict(self.derived)
        now = {origin: new for new, origin in moves.items()}
        for new, (old, first, step) in moves.items():
            name, start, stride = self.source(old)
            renamed[new] = Origin(name, start + stride * first, stride * step)
            if old in self.derived:
                beside, work = self.derived[old]
                derived[new] = (now.get(Origin(beside, first, step), beside), work)
        return replace(self, renamed=renamed, derived=derived)

    def with_training(self, **settings: Any) -> Draft:
        """Return the draft whose training starts from these settings too."""
        return replace(self, training={**self.training, **settings})


class Order(IntEnum):
    """Where a cure stands in a pair of the doctor: what is inside a layer first, what goes around it last."""

    CELL = auto()
    ACTIVATION = auto()
    START = auto()
    BIAS = auto()
    GATE = auto()
    WEIGHT = auto()
    NORM = auto()
    BLOCK = auto()
    LONG = auto()
    DEPTH = auto()
    MEASURED = auto()
    PRETRAINING = auto()
    CONSTRAINT = auto()
    OPTIMIZER = auto()
    CLIP = auto()
    TRAINING = auto()
    TRUNCATION = auto()


def _by_default(draft: Draft) -> Iterable[Mapping[str, Any]]:
    return ({},)


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue: all that anybody knows of a cure.

    `apply` takes a draft and the parameters and returns the cured draft, or raises `DoesNotApply`. `changes`
    says in words what is different then. `procedure` takes the network that this describes, the data and the
    parameters, and returns what later cures start from. Two cures of one group in `EXCLUSIVE` are refused,
    and so are those named in `conflicts`, by name or group, with the reason; those in `undone_by` only where
    they come later (the reason says what they do then). `refits`: the cure gives weights a new start.
    `order`: its place in a pair. `of_training`: it changes the training and leaves the network as it is.
    `needs_data`: it wants ``net.mitigate(..., x=x)``; the name of a parameter: where that is not given.
    `tried_as`: the parameters at which the doctor tries it on a draft; none where it is not worth a trial.
    `check` raises ArgumentError where parameters that are right one by one are wrong for what they set.
    """

    name: str
    group: str
    formula: str
    summary: str
    changes: str
    reference: str
    apply: Callable[..., Draft]
    order: Order
    params: tuple[Setting, ...] = ()
    aliases: tuple[str, ...] = ()
    needs: str = ""
    conflicts: Mapping[str, str] = field(default_factory=dict)
    undone_by: Mapping[str, str] = field(default_factory=dict)
    procedure: Callable[..., Any] | None = None
    refits: bool = False
    of_training: bool = False
    needs_data: bool | str = False
    tried_as: Callable[[Draft], Iterable[Mapping[str, Any]]] = _by_default
    check: Callable[..., object] | None = None

    def description(self) -> Description:
        """Return what `vg.mitigations.describe` shows."""
        extra: dict[str, Any] = {"changes": self.changes}
        if self.needs:
            extra["needs"] = self.needs
        against = dict(self.conflicts)
        if self.group in EXCLUSIVE:
            against = {f"another {EXCLUSIVE[self.group][0]}": EXCLUSIVE[self.group][1]} | against
        if against:
            extra["not_with"] = "; ".join(f"{_title(other)} ({why})" for other, why in against.items())
        if self.undone_by:
            extra["not_before"] = "; ".join(f"{_title(key)} ({why})" for key, why in self.undone_by.items())
        return Description(
            kind="mitigation",
            name=self.name,
            aliases=self.aliases,
            formula=self.formula,
            summary=self.summary,
            reference=self.reference,
            params=self.params,
            extra=extra,
        )


#: Groups of which a network can have one: what they are, and why not two.
EXCLUSIVE: Final[dict[str, tuple[str, str]]] = {
    "activation": ("activation", "each sets every activation, so the second would undo the first"),
    "start": ("start of the weights", "each draws every weight anew, so the second would undo the first"),
    "block": ("shape of a block", "each decides what goes around a layer and its shortcut"),
    "norm": ("normalisation of activations", "the second takes away the scale that the first has set"),
    "weight": ("form of the weights", "each says how a weight is made of its parameters"),
    "cell": ("cell", "a recurrent layer has one cell"),
    "gate": ("start of the gates", "both set the biases of the same gates"),
    "optimizer": ("optimiser", "a training has one optimiser"),
}


def _title(other: str) -> str:
    return EXCLUSIVE[other][0] if other in EXCLUSIVE else other


@dataclass(frozen=True)
class Applied:
    """What a network remembers of its cures: which, and what later ones and its training must know."""

    cures: tuple[Any, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for a file; empty where no cure was applied."""
        parts: dict[str, Any] = {}
        for key, value in self.training.items():
            listed = value if isinstance(value, tuple) else (value,)
            parts[key] = [value] if isinstance(value, int) else [part.to_spec() for part in listed]
        found = {
            "cures": [cure.text for cure in self.cures],
            "training": parts,
            "settled": sorted(self.settled),
        }
        return {key: value for key, value in found.items() if value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Applied:
        """Return what `to_dict` wrote.

        Raises:
            UnknownNameError, ArgumentError: cures or parts of a training that this version does not have.
        """
        if not data:
            return cls()
        from .clipping import Clip
        from .constraints import Constraint
        from .mitigations import get
        from .optimizers import Optimizer

        made: Mapping[str, Callable[[str, Mapping[str, Any]], Any]] = {
            "optimizer": Optimizer,
            "clip": Clip,
            "constraint": Constraint,
        }
        training: dict[str, Any] = {}
        for key, listed in data.get("training", {}).items():
            if key not in made:
                training[key] = int(listed[0])
                continue
            named = ((spec["name"], {k: v for k, v in spec.items() if k != "name"}) for spec in listed)
            parts = tuple(made[key](name, params) for name, params in named)
            training[key] = parts[0] if key == "optimizer" else parts
        return cls(tuple(map(get, data.get("cures", ()))), training, frozenset(data.get("settled", ())))
