"""Layer: the network. Cuts steps out of a network and puts copies into it; what stays keeps its values.

Knows layers, names and arrays; not why somebody wants another depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._checks import as_size, shown
from ._layer_values import values_of
from .errors import ArgumentError
from .initializers import FromArray
from .layers import Layer, Repeat, replace_name, walk

if TYPE_CHECKING:
    from .network import Network

__all__ = [
    "Step",
    "arrays_of",
    "checked_steps",
    "cut",
    "extended",
    "named",
    "steps_of",
    "unrolled",
    "with_copies",
    "without",
]

N = TypeVar("N", bound="Network")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Step:
    """One step of a network along depth: which layers it is, and how wide it is at both ends."""

    number: int
    """Its place along the axis, as in a GradientFlow."""
    name: str
    """What it is called: "input", or "hidden[3]" for an iteration of a Repeat."""
    kind: str
    """The kind of layer; of an iteration, that of the first layer in the body."""
    first: int
    """Index of its first layer in ``net.layers``."""
    layers: int
    """How many layers it takes: two for a Dense with its Activation."""
    copy: int | None
    """The iteration of its Repeat; None outside of one."""
    in_features: int
    out_features: int

    @property
    def square(self) -> bool:
        """Whether the network still fits together without it."""
        return self.in_features == self.out_features


def steps_of(net: Network) -> list[Step]:
    """Return the steps of a network along depth, nearest the input first.

    Raises:
        ArgumentError: a network along time, whose steps are its input's.

    Example:
        >>> from vgcore.models import mlp
        >>> [step.name for step in steps_of(mlp(2, 4, in_features=3, out_features=2, rng=0))]
        ['input', 'hidden[0]', 'hidden[1]', 'output']
    """
    if net.axis != "depth":
        raise ArgumentError(
            "net: expected a network along depth, whose steps are layers; got one along time, whose steps "
            "are its input's: leave steps out of the sequences instead"
        )
    found: list[Step] = []
    width = net.in_features
    for first, count in _groups(net):
        members = net.layers[first : first + count]
        layer, label = members[0], _part(members[0], first)
        out = width
        for member in members:
            out = member.out_features(out)
        if isinstance(layer, Repeat):
            inner = layer.body[0].kind
            for copy in range(layer.n):
                wide = width if copy == 0 else out
                name = f"{label}[{copy}]" if layer.n > 1 else label
                found.append(Step(len(found), name, inner, first, count, copy, wide, out))
        else:
            found.append(Step(len(found), label, layer.kind, first, count, None, width, out))
        width = out
    return found


def arrays_of(net: Network) -> Arrays:
    """Return every array that a network holds: parameters, and running statistics where it has some."""
    return {**net.parameters(), **net.buffers()}


def named(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with names that say their places, so that names outlive a change of places."""
    return [replace_name(layer, _part(layer, i)) for i, layer in enumerate(layers)]


def without(net: N, removed: Iterable[int]) -> N:
    """Return the network without some of its steps; the others keep their values and their names.

    Raises:
        ArgumentError: no such step, a step between two widths, or nothing would be left.
    """
    steps = steps_of(net)
    gone = checked_steps(removed, steps)
    layers, arrays = named(net.layers), arrays_of(net)
    owners = _owners(layers, net.in_features)
    kept: list[Layer] = []
    result: Arrays = {}
    for first, count in _groups(net):
        mine = [step for step in steps if step.first == first]
        stay = [step.copy or 0 for step in mine if step.number not in gone]
        if not stay:
            continue
        layer = layers[first]
        rows: list[int] | None = None
        if isinstance(layer, Repeat) and len(stay) < layer.n:
            rows = None if layer.tied else stay
            layer = with_copies(layer, stay)
        kept += [layer, *layers[first + 1 : first + count]]
        for name, value in arrays.items():
            if first <= _owner(name, owners) < first + count:
                result[name] = value if rows is None else np.ascontiguousarray(value[rows])
    return type(net)._restore(
        net.in_features, kept, net.dtype.name, net.seed, result, net._applied, net._touched
    )


def extended(net: N, index: int, n: int) -> tuple[N, Arrays]:
    """Return the network with `n` copies in the Repeat at `index`, and the arrays that are this Repeat's.

    Old copies keep their values; new ones, behind them, start as those of a network built so.
    """
    layers = named(net.layers)
    old = layers[index]
    assert isinstance(old, Repeat), "only a Repeat grows"
    rows = [*range(old.n), *[old.n - 1] * (n - old.n)]
    layers[index] = with_copies(old, rows)
    grown = type(net)(net.in_features, layers, dtype=net.dtype, rng=net.seed)
    grown._applied = net._applied
    before, after = arrays_of(net), arrays_of(grown)
    owners = _owners(layers, net.in_features)
    mine: Arrays = {}
    for name, value in before.items():
        if _owner(name, owners) == index and not old.tied:
            after[name][: old.n] = value
            mine[name] = after[name]
        else:
            after[name] = value
    grown.load_parameters(after)
    return grown, mine


def unrolled(net: N, wanted: Callable[[Repeat], bool]) -> N:
    """Return the network with the wanted Repeats written out: each copy becomes layers of its own.

    A body of one layer gives ``name0``, ``name1``, ...; the layers of a longer one add their own names.
    """
    layers, arrays = named(net.layers), arrays_of(net)
    owners = _owners(layers, net.in_features)
    flat: list[Layer] = []
    result: Arrays = {}
    settled = set(net._applied.settled)
    for index, layer in enumerate(layers):
        mine = {name: value for name, value in arrays.items() if _owner(name, owners) == index}
        if not (isinstance(layer, Repeat) and not layer.tied and wanted(layer)):
            flat.append(layer)
            result |= mine
            continue
        parts = [_part(inner, i) for i, inner in enumerate(layer.body)]
        for copy in range(layer.n):
            own = f"{layer.name}{copy}"
            names = [own if len(parts) == 1 or not part else f"{own}_{part}" for part in parts]
            flat += [
                replace_name(cut(inner, layer.n, copy, 1), name)
                for inner, name in zip(layer.body, names, strict=True)
            ]
            ends = {
                f"{layer.name}.{part}." if part else f"{layer.name}.": n
                for part, n in zip(parts, names, strict=True)
            }
            for name, value in mine.items():
                start = max((end for end in ends if name.startswith(end)), key=len)
                new = f"{ends[start]}.{name.removeprefix(start)}"
                result[new] = value[copy]
                if name in net._applied.settled:
                    settled.add(new)
    applied = replace(net._applied, settled=frozenset(settled))
    return type(net)._restore(net.in_features, flat, net.dtype.name, net.seed, result, applied, net._touched)


def _part(layer: Layer, index: int) -> str:
    return str(index) if layer.name is None else layer.name


def _groups(net: Network) -> list[tuple[int, int]]:
    """Return (index of the first layer, number of layers) of each entry that steps are counted by."""
    starts, layers = [], net.layers
    structure: Any = net._meta["structure"]
    entries = iter(structure)
    entry: Any = next(entries)
    for index, layer in enumerate(layers):
        if entry is not None and (_part(layer, index), layer.kind) == (entry["name"], entry["kind"]):
            starts.append(index)
            entry = next(entries, None)
    ends = [*starts[1:], len(layers)]
    return [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def _owners(layers: Sequence[Layer], in_features: int) -> dict[str, int]:
    """Return, by the path of every layer, the index of the top-level layer that it is or is inside of."""
    found: dict[str, int] = {}
    index = -1
    for placed in walk(layers, in_features):
        index += placed.level == 0
        found.setdefault(".".join(placed.path), index)
    return found


def _owner(name: str, owners: Mapping[str, int]) -> int:
    path = name
    while path:
        path = path.rpartition(".")[0]
        if path in owners:
            return owners[path]
    raise AssertionError(f"array {name!r} belongs to no layer")


def checked_steps(removed: Iterable[int], steps: Sequence[Step]) -> set[int]:
    if isinstance(removed, (str, bytes)) or not isinstance(removed, Iterable):
        raise ArgumentError(f"steps: expected a list of step numbers such as [3, 4], got {shown(removed)}")
    gone = {as_size(number, "steps", minimum=0) for number in removed}
    for number in sorted(gone):
        if number >= len(steps):
            raise ArgumentError(f"steps: expected numbers from 0 to {len(steps) - 1}, got {number}")
        step = steps[number]
        if not step.square:
            raise ArgumentError(
                f"steps: step {number} ({step.name}) turns {step.in_features} features into "
                f"{step.out_features}, so what follows needs it; only steps of one width can go"
            )
    if len(gone) == len(steps):
        raise ArgumentError(f"steps: expected at least one step to stay, got all {len(steps)} of them")
    return gone


def with_copies(layer: Repeat, rows: Sequence[int]) -> Repeat:
    """Return a Repeat of these copies of another one: initial arrays with an entry for each take those.

    Copies that share their parameters have nothing to choose from: there the number of rows counts alone.
    """
    body = layer.body
    if not layer.tied:
        body = tuple(cut(inner, layer.n, list(rows), 1) for inner in body)
    return Repeat(body, len(rows), tied=layer.tied, name=layer.name)


def cut(layer: Layer, n: int, rows: Any, level: int, axis: int = 0) -> Layer:
    """Return the layer with those rows of initial arrays that have one for each of `n` copies.

    Args:
        layer: inside `level` Repeats, of which the one at place `axis` from outside has `n` copies.
        rows: which; one for a number; in the shape of an array, copies of a Repeat inside a Repeat.
    """
    values = values_of(layer)
    changed = False
    for key, value in values.items():
        own_axes = 1 if key.endswith("bias_init") else 2
        if not isinstance(value, FromArray) or value.array.ndim != own_axes + level:
            continue
        if value.array.shape[axis] == n:
            array = np.ascontiguousarray(np.take(value.array, rows, axis=axis))
            array.flags.writeable = False
            values[key], changed = replace(value, array=array), True
    deeper = level + (isinstance(layer, Repeat) and not layer.tied)
    for key, value in values.items():
        if isinstance(value, tuple) and value and isinstance(value[0], Layer):  # a body, or a projection
            values[key] = tuple(cut(inner, n, rows, deeper, axis) for inner in value)
            changed = True
    return layer.from_fields(values) if changed else layer
