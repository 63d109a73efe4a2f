"""Layer: training, resuming. What a training remembers besides the parameters, as a flat mapping, and back.

Knows records and what identifies a training; nothing of how it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ._checks import shown
from ._fit_records import Records
from .errors import ArgumentError
from .history import History

__all__ = ["Later", "check_state", "restored", "snapshot"]

#: A training with another of these is another training: its steps would not be the same.
_SAME = ("loss", "optimizer", "clip", "constraint", "batch_size", "rows", "shuffle", "dtype")
_TEXT = "config."


def snapshot(state: Mapping[str, Any], seed: int, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `fit(resume=)` takes: arrays by name, counts, the seed and what the training was."""
    return {**state, "seed": seed, **{_TEXT + key: _text(meta[key]) for key in _SAME}}


class Later(Mapping[str, Any]):
    """A snapshot taken when somebody looks: of a training that has ended, whose state changes no more.

    An optimizer's memory can be twice the network's; Ctrl-C shall not wait for a copy of it.
    """

    def __init__(self, take: Callable[[], dict[str, Any]]) -> None:
        """Hold how it is taken."""
        self._take: Callable[[], dict[str, Any]] | None = take
        self._found: dict[str, Any] = {}

    def _all(self) -> dict[str, Any]:
        if self._take is not None:
            self._found, self._take = self._take(), None
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
            raise ArgumentError("resume: expected a history with a state, got one that trained nothing")
        return resume.state, resume.records
    if isinstance(resume, Mapping):
        missing = [key for key in ("step", "epoch", "position", "seed") if key not in resume]
        if missing:
            listed = ", ".join(map(repr, missing))
            raise ArgumentError(f"resume: expected the state of a history, got a mapping without {listed}")
        return resume, None
    raise ArgumentError(f"resume: expected a History or its state, got {shown(resume)}")


def check_state(state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Raise ArgumentError where the training that is resumed was another one."""
    for key in _SAME:
        was, now = state.get(_TEXT + key), _text(meta[key])
        if was is not None and str(was) != now:
            raise ArgumentError(
                f"resume: expected {key} as in the training that is resumed, {was}, got {now}; to go on "
                f"otherwise, start a new fit: the network keeps its parameters"
            )


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
