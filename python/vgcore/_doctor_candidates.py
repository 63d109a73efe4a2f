"""Layer: doctor, its candidates. Which cures are tried on a network, in which order, and which pairs of them.

Knows the catalogue of cures and what suits which illness; runs none of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from . import mitigations
from ._checks import shown
from ._doctor_cause import Cause
from ._mitigation_base import Draft
from ._mitigation_rewrite import named
from .errors import ArgumentError, VgcoreError
from .mitigations import Mitigation, as_cures

if TYPE_CHECKING:
    from .network import Network

__all__ = ["all_cures", "asked_for", "pairs_of", "why_not"]

#: How many of the best single cures are combined in pairs, and how many pairs are tried at most.
PAIRED: Final = 4
PAIRS: Final = 6

#: Which families to try first when a budget may end the trials early, by what is wrong; others come after.
_FIRST: Final[Mapping[str, tuple[str, ...]]] = {
    "dead units": ("bias", "norm", "activation", "start"),
    "saturating activation": ("activation", "block", "norm", "start"),
    "small weights": ("start", "norm", "block"),
    "large weights": ("start", "norm", "clip"),
    "growing sum": ("block", "norm", "start", "clip"),
    "depth": ("block", "norm", "start", "activation"),
    "closed gate": ("gate", "cell"),
    "small recurrent weights": ("start", "cell"),
    "large recurrent weights": ("start", "cell", "clip"),
}


def asked_for(candidates: Any) -> list[tuple[Mitigation, ...]]:
    """Return the candidates that were asked for; a text or an object alone is one of them.

    Raises:
        ArgumentError: something else.
        UnknownNameError: no such cure.
    """
    if isinstance(candidates, (str, Mitigation)):
        return [as_cures(candidates)]
    if not isinstance(candidates, Iterable):
        raise ArgumentError(
            f'candidates: expected cures such as ["rezero", "residual+orthogonal"], got {shown(candidates)}'
        )
    return [as_cures(value) for value in candidates]


def all_cures(net: Network, cause: Cause) -> list[tuple[Mitigation, ...]]:
    """Return every cure of the catalogue once: all of the families that suit the illness, then the others.

    The families of either kind take turns, so that whatever the budget has room for is of many families.
    """
    first = _FIRST.get(cause.name, ())
    suiting: dict[str, list[Mitigation]] = {group: [] for group in first}
    others: dict[str, list[Mitigation]] = {}
    for cure in mitigations.worth_trying(_draft(net, None)):
        (suiting if cure.group in suiting else others).setdefault(cure.group, []).append(cure)
    return [(cure,) for families in (suiting, others) for cure in _in_turns(families.values())]


def _in_turns(families: Iterable[Iterable[Mitigation]]) -> Iterator[Mitigation]:
    for turn in itertools.zip_longest(*families):
        yield from (cure for cure in turn if cure is not None)


def why_not(net: Network, cures: Iterable[Mitigation], x: Any) -> str:
    """Return why these cures do not apply to a network, as far as its description tells; "" where they do.

    That costs no trial: what cannot be tried is not left out for want of a budget.
    """
    cures = tuple(cures)
    draft = _draft(net, x)
    try:
        mitigations.check_together([*net.cures, *cures])
        for cure in cures:
            draft = cure.transform(draft)
    except VgcoreError as error:
        return str(error)
    return ""


def _draft(net: Network, x: Any) -> Draft:
    applied = net._applied
    return Draft(
        named(net.layers), net.in_features, net.dtype,
        training=applied.training, settled=applied.settled, x=x,
    )  # fmt: skip


def pairs_of(
    ranked: Iterable[Mitigation], promising: Callable[[Mitigation], bool]
) -> list[tuple[Mitigation, ...]]:
    """Return pairs of single cures that go together, the most promising first; `ranked`: the best first."""
    best: list[Mitigation] = []
    for cure in ranked:  # the best of each family: two of one exclude each other, or do the same
        # Two that did nothing are no promising pair, but one may have lacked just the other.
        if len(best) > 1 and not promising(cure):
            break
        if all(cure.group != other.group for other in best):
            best.append(cure)
    found = []
    for one, other in itertools.combinations(best[:PAIRED], 2):
        pair = mitigations.in_order((one, other))
        try:
            mitigations.check_together(pair)
        except ArgumentError:
            continue
        found.append(pair)
    return found[:PAIRS]
