"""Layer: training, resuming. What a training remembers besides the parameters, as a flat mapping, and back.

Knows records and what identifies a training; nothing of how it runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ._checks import shown
from ._fit_records import Records
from ._part import Part
from ._saving import fingerprint
from .errors import ArgumentError
from .history import History
from .layers import Layer

__all__ = ["Later", "check_state", "identity", "restored", "snapshot"]

#: What is taken from a training's `meta` to tell it from others.
_SAME = ("loss", "batch_size", "rows", "shuffle", "dtype")
_TEXT = "config."
#: It says where weights come from, and they come with the network.
_SEED = re.compile(r", seed=\d+")


def identity(
    meta: Mapping[str, Any],
    layers: Sequence[Layer],
    optimizer: Part,
    clips: Iterable[Part],
    constraints: Iterable[Part],
    truncate: int | None,
) -> dict[str, str]:
    """Return what makes a training the one it is, as text: with another of these its steps were others."""
    return {
        "network": f"{_SEED.sub('', meta['network'])} with layers {fingerprint(layers)}",
        "optimizer": optimizer.text,
        "clip": ", ".join(part.text for part in clips),
        "constraint": ", ".join(part.text for part in constraints),
        "truncate": str(truncate),
        **{key: str(meta[key]) for key in _SAME},
    }


def snapshot(state: Mapping[str, Any], seed: int, same: Mapping[str, str]) -> dict[str, Any]:
    """Return what `fit(resume=)` takes: arrays by name, counts, the seed and what the training was."""
    return {**state, "seed": seed, **{_TEXT + key: text for key, text in same.items()}}


class Later(Mapping[str, Any]):
    """A snapshot taken when somebody looks; empty where the training has gone on since.

    An optimizer's memory can be twice the network's: neither Ctrl-C nor every epoch shall wait for a copy.
    """

    def __init__(self, take: Callable[[], dict[str, Any]], there: Callable[[], bool]) -> None:
        """Hold how it is taken, and whether the training is still where it was."""
        self._take: Callable[[], dict[str, Any]] | None = take
        self._there = there
        self._found: dict[str, Any] = {}

    def _all(self) -> dict[str, Any]:
        if self._take is not None:
            self._found, self._take = self._take() if self._there() else {}, None
        return self._found

    def __getitem__(self, key: str) -> Any:
        """Return one entry."""
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._all())

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a plain dict."""
        return dict, (self._all(),)


def restored(resume: Any) -> tuple[Mapping[str, Any] | None, Records | None]:
    """Return (state, earlier records) of what was given as `resume`: None, a History or its state.

    Raises:
        ArgumentError: something else, or a history that trained nothing.
    """
    if resume is None:
        return None, None
    if isinstance(resume, History):
        if resume.state is None:
            raise ArgumentError(
                "resume: expected a history with a state, got one without: nothing was trained, or a "
                "callback kept it and did not look at history.state before the training went on"
            )
        return resume.state, resume.records
    if isinstance(resume, Mapping):
        missing = [key for key in ("step", "epoch", "position", "seed") if key not in resume]
        if missing:
            listed = ", ".join(map(repr, missing))
            raise ArgumentError(f"resume: expected the state of a history, got a mapping without {listed}")
        return resume, None
    raise ArgumentError(f"resume: expected a History or its state, got {shown(resume)}")


def check_state(state: Mapping[str, Any], same: Mapping[str, str]) -> None:
    """Raise ArgumentError where the training that is resumed was another one."""
    for key, now in same.items():
        was = state.get(_TEXT + key)
        if was is not None and str(was) != now:
            raise ArgumentError(
                f"resume: expected {key} as in the training that is resumed, {was}, got {now}; to go on "
                f"otherwise, start a new fit: the network keeps its parameters"
            )
