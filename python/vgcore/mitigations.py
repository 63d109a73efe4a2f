"""Layer: catalogues. Cures for gradients that vanish or explode: what there is, what each changes.

Knows the tables of cures and how they are put together in order; what each does is in `_mitigation_*`. A cure
is a name with parameters: ``vg.mitigations.residual(scale=0.5)``, or as text ``"residual:scale=0.5"``.
``net.mitigate`` takes both.

Example:
    >>> import vgcore as vg
    >>> net = vg.mlp(depth=100, width=16, activation="sigmoid", rng=0)
    >>> net.mitigate("activation:tanh", "residual").cures
    (activation('tanh'), residual())
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from . import (
    _mitigation_depth,
    _mitigation_norm,
    _mitigation_skip,
    _mitigation_start,
    _mitigation_time,
    _mitigation_training,
)
from ._checks import shown
from ._mitigation_base import EXCLUSIVE, DoesNotApply, Draft, Entry
from ._mitigation_procedures import PROCEDURES
from ._mitigation_rewrite import nothing_to_change, same_description, settle
from ._registry import Description, Registry
from .errors import ArgumentError

if TYPE_CHECKING:
    from .network import Network
    from .theory import Prediction

__all__ = ["DoesNotApply", "Mitigation", "describe", "get", "names", "predict", "procedures"]

#: The catalogue: one line a family, one `Entry` a cure.
_TABLE: tuple[Entry, ...] = (
    *_mitigation_start.ENTRIES,
    *_mitigation_skip.ENTRIES,
    *_mitigation_norm.ENTRIES,
    *_mitigation_time.ENTRIES,
    *_mitigation_training.ENTRIES,
    *_mitigation_depth.ENTRIES,
)


class _Registry(Registry):
    """The names of the table above, and of procedures: as the other catalogues, but kept here."""

    @functools.cached_property
    def _entries(self) -> dict[str, Description]:
        cures = {entry.name: entry.description() for entry in _TABLE}
        return cures | {entry.name: entry for entry in PROCEDURES}


_registry = _Registry("mitigation", "vg.mitigations.names()")
#: What stands between cures in one text: a plus, but not that of an exponent such as 1e+06.
_BETWEEN: Final = r"(?<![0-9.][eE])\+|\+(?![0-9])"
_BY_NAME: Mapping[str, Entry] = {entry.name: entry for entry in _TABLE}


@dataclass(frozen=True, repr=False)
class Mitigation:
    """A cure with its parameters: what ``vg.mitigations.residual(...)`` returns.

    `name` is canonical; `params` holds only what was given, the rest keeps its default.

    Raises:
        UnknownNameError: no such cure.
        ArgumentError: a parameter that it does not have, or one out of its range.

    Example:
        >>> import vgcore as vg
        >>> cure = vg.mitigations.long_skip(every=8)
        >>> cure, cure.text
        (long_skip(8), 'long_skip:8')
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Resolve the name and check the parameters."""
        entry = _cure(self.name)
        checked = entry.check_params(self.params)
        check = _BY_NAME[entry.name].check
        if check is not None:
            check(**checked)
        object.__setattr__(self, "name", entry.name)
        object.__setattr__(
            self, "params", {p.name: checked[p.name] for p in entry.params if p.name in self.params}
        )

    def __hash__(self) -> int:
        """Hash by value."""
        return hash((self.name, tuple((key, repr(value)) for key, value in self.params.items())))

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"{self.name}({', '.join(self._shown(repr, '='))})"

    @property
    def text(self) -> str:
        """The cure as text, which `get` reads: for files and command lines."""
        return ":".join([self.name, *self._shown(_plain, "=")])

    def _shown(self, show: Callable[[Any], str], equals: str) -> list[str]:
        order = [p.name for p in describe(self.name).params]
        found = []
        for at, (key, value) in enumerate(self.params.items()):
            # Without a gap before it, a parameter needs no name.
            leading = order[at] == key and at == 0
            found.append(show(value) if leading else f"{key}{equals}{show(value)}")
        return found

    @property
    def entry(self) -> Entry:
        """The line of the catalogue."""
        return _BY_NAME[self.name]

    @property
    def group(self) -> str:
        """The family that it belongs to: "block", "norm", "optimizer" and so on."""
        return self.entry.group

    @property
    def of_training(self) -> bool:
        """Whether it changes the training and leaves the network as it is."""
        return self.entry.of_training

    @property
    def needs_data(self) -> bool:
        """Whether ``net.mitigate`` has to be given ``x`` for it.

        Example:
            >>> get("lsuv").needs_data, get("chrono").needs_data, get("chrono:100").needs_data
            (True, True, False)
        """
        needs = self.entry.needs_data
        return needs if isinstance(needs, bool) else self.params.get(needs) is None

    def transform(self, draft: Draft) -> Draft:
        """Return the cured description.

        Raises:
            DoesNotApply: the cure has nothing to change there, or does not fit.
        """
        values = describe(self.name).check_params(self.params)
        with self._named():
            cured = self.entry.apply(draft, **values)
        return cured if self.entry.refits else settle(draft, cured)

    def run(self, net: Any, x: Any) -> Any:
        """Return what the cure makes, on the data, of the network that it described; most leave it so.

        Raises:
            DoesNotApply: the network is of a kind that it cannot run on.
        """
        procedure = self.entry.procedure
        if procedure is None:
            return net
        with self._named():
            return procedure(net, x, **describe(self.name).check_params(self.params))

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Put the cure, with the parameters that it was given, in front of what it says of a network."""
        try:
            yield
        except DoesNotApply as error:
            raise DoesNotApply(f"{self!r} {error}") from error.__cause__


def names(group: str | None = None) -> list[str]:
    """Return the canonical names of all cures, or of one group.

    Raises:
        ArgumentError: no such group.

    Example:
        >>> {"residual", "orthogonal", "lstm"} <= set(names())
        True
    """
    if group is None:
        return [entry.name for entry in _TABLE]
    known = list(dict.fromkeys(entry.group for entry in _TABLE))
    if group not in known:
        raise ArgumentError(f"group: expected one of {', '.join(map(repr, known))}, got {shown(group)}")
    return [entry.name for entry in _TABLE if entry.group == group]


def procedures() -> list[str]:
    """Return the names of what helps and is no change of one network: `describe` says which function does it.

    Example:
        >>> "chunker" in procedures(), describe("layer_removal").extra["function"]
        (True, 'vg.depth.removable(net, x, y), vg.depth.prune(net, x, y), net.without(steps)')
    """
    return [entry.name for entry in PROCEDURES]


def describe(name: str) -> Description:
    """Return formula, what it changes, parameters, what it does not go with, and reference of one cure.

    A procedure has the function that does it instead of parameters.

    Raises:
        UnknownNameError: no cure and no procedure has this name or alias.

    Example:
        >>> describe("rezero").extra["changes"]
        'each step becomes x + a f(x) with a learned number a that starts at 0'
    """
    return _registry.describe(name)


def get(value: Any) -> Mitigation:
    """Return `value`, a name, a text such as ``"long_skip:8"`` or a Mitigation, as a Mitigation.

    After the name come values of parameters, set off by colons, by place or as ``name=value``.

    Raises:
        UnknownNameError: no such cure.
        ArgumentError: something else, or parameters that the cure does not have.

    Example:
        >>> get("activation:selu"), get("residual:scale=0.5")
        (activation('selu'), residual(scale=0.5))
    """
    if isinstance(value, Mitigation):
        return value
    if isinstance(value, str):
        _cure(value.partition(":")[0].strip())
        return Mitigation(*_registry.parse(value))
    if callable(value):
        raise ArgumentError(
            f"mitigation: call the cure first, as in vg.mitigations.residual(); got {shown(value)}"
        )
    raise ArgumentError(
        f'mitigation: expected a name such as "residual", a text such as "activation:relu", or an object '
        f"such as vg.mitigations.residual(); got {shown(value)}"
    )


def as_cures(values: Any) -> tuple[Mitigation, ...]:
    """Return cures given as one text ("residual+orthogonal", "none"), one object or a sequence of either.

    Example:
        >>> as_cures("residual+orthogonal"), as_cures("none"), as_cures(["residual"])
        ((residual(), orthogonal()), (), (residual(),))
    """
    if values is None or values == "none":
        return ()
    if isinstance(values, str):
        return tuple(get(part) for part in re.split(_BETWEEN, values))
    if isinstance(values, Mitigation) or not isinstance(values, Iterable):
        return (get(values),)
    return tuple(get(value) for value in values)


def as_text(cures: Sequence[Mitigation]) -> str:
    """Return cures as one text, which `as_cures` reads: "none" for none."""
    return "+".join(cure.text for cure in cures) or "none"


def check_together(cures: Sequence[Mitigation]) -> None:
    """Raise ArgumentError where two cures do not go together, with the reason.

    Example:
        >>> check_together(as_cures("residual+highway"))
        Traceback (most recent call last):
        vgcore.errors.ArgumentError: residual() and highway() do not go together: a network has one shape of \
a block, and each decides what goes around a layer and its shortcut; leave one of them out
    """
    for at, later in enumerate(cures):
        for earlier in cures[:at]:
            why = _reason(earlier, later) or _reason(later, earlier)
            if why:
                raise ArgumentError(
                    f"{earlier!r} and {later!r} do not go together: {why}; leave one of them out"
                )
            by = earlier.entry.undone_by
            why = by.get(later.name) or by.get(later.group) or ""
            if why:
                raise ArgumentError(
                    f"{earlier!r} and {later!r} do not go together in this order: the second {why}; turn "
                    f"them around, or leave one of them out"
                )


def _reason(one: Mitigation, other: Mitigation) -> str:
    if one.group == other.group and one.group in EXCLUSIVE:
        what, why = EXCLUSIVE[one.group]
        return f"a network has one {what}, and {why}"
    if one == other:
        return "they are the same"
    conflicts = one.entry.conflicts
    return conflicts.get(other.name) or conflicts.get(other.group) or ""


@dataclass(frozen=True)
class Idle:
    """A cure that left a description as it was: it did something only if one of `fresh` starts anew by it."""

    cure: Mitigation
    fresh: frozenset[str]

    def error(self) -> DoesNotApply:
        """Return the error to raise when none does."""
        return DoesNotApply(
            f"{self.cure!r} {nothing_to_change('everything that it would set is so already')}"
        )


def stretches(cures: Sequence[Mitigation]) -> list[tuple[Mitigation, ...]]:
    """Return cures cut behind each that runs on a built network: those after it start from what it made.

    Example:
        >>> stretches(as_cures("residual+lsuv+adam"))
        [(residual(), lsuv()), (adam(),)]
    """
    found: list[tuple[Mitigation, ...]] = [()]
    for at, cure in enumerate(cures):
        found[-1] = (*found[-1], cure)
        if cure.entry.procedure is not None and at + 1 < len(cures):
            found.append(())
    return found


def compose(draft: Draft, cures: Sequence[Mitigation]) -> tuple[Draft, tuple[Idle, ...]]:
    """Return the draft after all cures, in order, and those that left it as it was.

    Raises:
        DoesNotApply: one that has nothing to change.
    """
    idle = []
    for cure in cures:
        cured = cure.transform(draft)
        if cure.entry.procedure is None and same_description(draft, cured):
            idle.append(Idle(cure, cured.fresh - draft.fresh))
        draft = cured
    return draft, tuple(idle)


def in_order(cures: Iterable[Mitigation]) -> tuple[Mitigation, ...]:
    """Return cures as they are best applied: what is inside a layer first, what goes around it last.

    Example:
        >>> in_order(as_cures("adam+residual+activation:relu"))
        (activation('relu'), residual(), adam())
    """
    return tuple(sorted(cures, key=lambda cure: cure.entry.order))


def worth_trying(draft: Draft) -> list[Mitigation]:
    """Return every cure of the catalogue with the parameters at which it is worth a trial on this draft."""
    return [Mitigation(entry.name, params) for entry in _TABLE for params in entry.tried_as(draft)]


def predict(net: Network, x: Any = None) -> tuple[Prediction | None, str]:
    """Return the gradient curve that theory expects of a network, or None and why there is none.

    Weights that LSUV, a file or a training made are taken by the variances that they have, as
    ``vg.theory.predict`` takes them; ``curve.notes`` says so.

    `x` gives the mean square and the mean of the input and, along time, the number of steps.

    Raises:
        ShapeError, DTypeError, NonFiniteError: `x` is no input of this network.

    Example:
        >>> import vgcore as vg
        >>> net = vg.mlp(depth=100, width=64, activation="sigmoid", rng=0)
        >>> curve, why = predict(net.mitigate("rezero"))
        >>> curve.decades_per_step, why
        (0.0, '')
    """
    from . import theory

    known: dict[str, Any] = {}
    if x is not None:
        data = net._door.open(x).x
        known = {
            "mean_square": float((data.astype("float64") ** 2).mean()),
            "mean": float(data.mean(dtype="float64")),
        }
        if net.axis == "time":
            known["steps"] = int(data.shape[1])
    elif net.axis == "time":
        return None, "theory needs the number of time steps, so the data: give x"
    try:
        return theory.predict(net, **known), ""
    except ArgumentError as error:
        return None, str(error)


def _cure(name: str) -> Description:
    """Return the entry of a cure that can be applied.

    Raises:
        UnknownNameError: no cure has this name or alias.
        ArgumentError: a procedure, which is no change of one network; the text names its function.
    """
    entry = describe(name)
    if entry.kind == "procedure":
        raise ArgumentError(
            f"mitigation: expected a change of a network or of its training, got {entry.name!r}, which is a "
            f"procedure of its own: {entry.extra['function']}"
        )
    return entry


def _plain(value: Any) -> str:
    """Return a value as text that reads back as it was, without the plus that stands between cures."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return (str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)).replace("+", "")
    return str(value)


def __getattr__(name: str) -> Callable[..., Mitigation]:
    """Return the maker of one cure: ``vg.mitigations.activation("selu")``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = _cure(name)

    def make(*values: Any, **params: Any) -> Mitigation:
        order = [p.name for p in entry.params]
        if len(values) > len(order):
            raise ArgumentError(f"{entry.name}: expected at most {len(order)} values, got {len(values)}")
        by_place = dict(zip(order, values, strict=False))
        for key in by_place:
            if key in params:
                raise ArgumentError(f"{entry.name}: {key} is given twice")
        return Mitigation(entry.name, {**by_place, **params})

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the functions of this module and every cure."""
    return sorted([*__all__, *names()])
