"""Layer: catalogues. Names, aliases, descriptions and parameters of the parts that the compiled module lists.

Knows the shape of a catalogue entry and nothing of any one part: an entry added to a table in the core
appears here without a change.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _core
from ._checks import as_flag, as_real, shown
from .errors import ArgumentError, UnknownNameError, nearest, unknown_name

__all__ = ["Description", "Parameter", "Registry"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a catalogue entry: its name, its value when left out, and what it does."""

    name: str
    default: Any
    doc: str = ""

    def check(self, value: Any, owner: str) -> Any:
        """Return `value` in the type of the default, or raise ArgumentError naming `owner`."""
        where = f"{owner}: {self.name}"
        if isinstance(self.default, bool):
            return as_flag(value, where)
        if isinstance(self.default, str):
            if isinstance(value, str):
                return value
            raise ArgumentError(f"{where}: expected text such as {self.default!r}, got {shown(value)}")
        if self.default is None and (value is None or isinstance(value, str)):
            return value
        return as_real(value, where)


@dataclass(frozen=True)
class Description:
    """What a catalogue knows of one name; ``print`` shows it in full.

    `extra` holds what only this kind of part has (an activation's gain and largest slope, for instance).

    Example:
        >>> import vgcore as vg
        >>> entry = vg.activations.describe("tanh")
        >>> entry.name, [p.name for p in entry.params]
        ('tanh', [])
    """

    kind: str
    name: str
    aliases: tuple[str, ...]
    formula: str
    summary: str
    reference: str
    params: tuple[Parameter, ...]
    derivative: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_entry(cls, kind: str, entry: Mapping[str, Any]) -> Description:
        """Read one entry of ``_core.catalogue(kind)``."""
        own = {"name", "aliases", "formula", "summary", "reference", "params", "derivative"}
        params = (Parameter(p["name"], p["default"], p.get("doc", "")) for p in entry.get("params", ()))
        return cls(
            kind=kind,
            name=entry["name"],
            aliases=tuple(entry.get("aliases", ())),
            formula=entry.get("formula", ""),
            summary=entry.get("summary", ""),
            reference=entry.get("reference", ""),
            params=tuple(params),
            derivative=entry.get("derivative"),
            extra={key: value for key, value in entry.items() if key not in own},
        )

    @property
    def defaults(self) -> dict[str, Any]:
        """The value of every parameter that is left out."""
        return {p.name: p.default for p in self.params}

    def check_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter, given ones checked and the rest at their defaults.

        Raises:
            ArgumentError: a parameter that this part does not have, or a value of the wrong type.
        """
        known = {p.name: p for p in self.params}
        owner = f"{self.kind} {self.name!r}"
        for name in params:
            if name not in known:
                guess = nearest(name, known)
                has = f"it has {', '.join(known)}" if known else "it has none"
                hint = f"did you mean {guess!r}? {has}" if guess else has
                raise ArgumentError(f"{owner}: no parameter {name!r}; {hint}")
        return {
            name: p.check(params[name], owner) if name in params else p.default for name, p in known.items()
        }

    def signature(self) -> str:
        """Return the call as it is written: ``leaky_relu(negative_slope=0.01)``."""
        return f"{self.name}({', '.join(f'{p.name}={p.default!r}' for p in self.params)})"

    def __str__(self) -> str:
        """Formula, derivative, parameters, aliases and reference, one per line."""
        rows = [("formula", self.formula), ("derivative", self.derivative or "")]
        rows += [
            ("parameter", f"{p.name} (default {p.default!r}): {p.doc}".rstrip(": ")) for p in self.params
        ]
        rows += [(key.replace("_", " "), _listed(value)) for key, value in self.extra.items()]
        rows += [("aliases", ", ".join(self.aliases)), ("reference", self.reference)]
        body = "\n".join(f"  {key + ':':<12} {value}" for key, value in rows if value != "")
        return f"{self.signature()}: {self.summary}".rstrip(": ") + f"\n{body}"


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


class Registry:
    """The names of one kind of part, read from the compiled module the first time they are asked for.

    Names are matched without regard to case, ``-``, ``_`` and spaces, over canonical names and aliases.
    """

    def __init__(self, kind: str, look: str) -> None:
        """Hold the catalogue `kind`; `look` is the call that lists its names, for messages."""
        self.kind = kind
        self.look = look

    def __iter__(self) -> Iterator[str]:
        """Canonical names, in the catalogue's order."""
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether `name` is a name or an alias."""
        return isinstance(name, str) and fold(name) in self._index

    def names(self) -> list[str]:
        """Return the canonical names."""
        return list(self._entries)

    def describe(self, name: str) -> Description:
        """Return the entry for a name or an alias.

        Raises:
            UnknownNameError: nothing is called that; the nearest name is suggested.
        """
        if isinstance(name, str):
            canonical = self._index.get(fold(name))
            if canonical is not None:
                return self._entries[canonical]
        raise self.unknown(name)

    def parse(self, text: str, order: Callable[[str], list[str]] | None = None) -> tuple[str, dict[str, Any]]:
        """Return the canonical name and the parameters that a text such as "leaky_relu:0.2" holds.

        After the name come values of parameters, set off by colons, by place or as ``name=value``. `order`
        gives the parameters of a name by place, where they are not the catalogue's own.

        Raises:
            UnknownNameError: nothing is called that.
            ArgumentError: more values than parameters, or one given twice.
        """
        given, *rest = (part.strip() for part in text.split(":"))
        entry = self.describe(given)
        names = [p.name for p in entry.params] if order is None else order(entry.name)
        params: dict[str, Any] = {}
        for at, part in enumerate(rest):
            key, equals, value = part.partition("=")
            if not equals:
                if at >= len(names):
                    raise ArgumentError(
                        f"{self.kind} {text!r}: {entry.name} has {len(names)} "
                        f"parameter{'s' * (len(names) != 1)}{': ' + ', '.join(names) if names else ''}; got "
                        f"{len(rest)} values"
                    )
                key, value = names[at], part
            key = key.strip()
            if key in params:
                raise ArgumentError(f"{self.kind} {text!r}: {key} is given twice")
            params[key] = read_plain(value.strip())
        return entry.name, params

    def unknown(self, name: object) -> UnknownNameError:
        """Return the error for a name that is not here."""
        spellings = [*self._entries, *(a for e in self._entries.values() for a in e.aliases)]
        guess = nearest(name, spellings) if isinstance(name, str) else None
        if guess is not None:  # an alias may be what is spelled most alike; suggest the name it stands for
            guess = self._index[fold(guess)]
            return UnknownNameError(
                f"unknown {self.kind} {name!r}; did you mean {guess!r}? {self.look} lists all of them"
            )
        return unknown_name(self.kind, name, self._entries, self.look)

    @functools.cached_property
    def _entries(self) -> dict[str, Description]:
        return {e["name"]: Description.from_entry(self.kind, e) for e in _core.catalogue(self.kind)}

    @functools.cached_property
    def _index(self) -> dict[str, str]:
        index = {fold(alias): e.name for e in self._entries.values() for alias in e.aliases}
        return index | {fold(name): name for name in self._entries}


def read_plain(text: str) -> Any:
    """Return what a text stands for: true, false, null (none) and numbers as in JSON, in any case, else text.

    Example:
        >>> read_plain("0.2"), read_plain("None"), read_plain("he_normal")
        (0.2, None, 'he_normal')
    """
    lowered = text.lower()
    try:
        return json.loads({"none": "null"}.get(lowered, lowered))
    except ValueError:
        return text


def fold(name: str) -> str:
    """Return `name` without case and separators, as names are compared.

    Example:
        >>> fold("HeNormal") == fold("he_normal") == fold("he-normal")
        True
    """
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")
