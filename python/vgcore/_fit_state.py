"""Layer: training, resuming. What a training remembers besides the parameters, as a flat mapping, and back.

Knows records and what identifies a training: what stays the same through it, and where it had come to when it
was left; nothing of how it runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import shown
from ._fit_records import Records
from ._part import Part
from ._saving import fingerprint
from .errors import ArgumentError
from .history import History
from .layers import Layer
from .schedules import factors

__all__ = ["Later", "check_place", "check_state", "identity", "place_of", "restored", "snapshot"]

#: What is taken from a training's `meta` to tell it from others.
_SAME = ("loss", "batch_size", "rows", "shuffle", "dtype")
_TEXT = "config."
#: Digests: of the factors that the schedule gave, and of the parameters.
_PAST, _PARAMETERS = "schedule_past", "parameters"
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
        "clip": ", ".join(part.text for part in clips) or "none",
        "constraint": ", ".join(part.text for part in constraints) or "none",
        "truncate": str(truncate),
        **{key: str(meta[key]) for key in _SAME},
    }


def snapshot(
    state: Mapping[str, Any], seed: int, same: Mapping[str, str], place: Mapping[str, str]
) -> dict[str, Any]:
    """Return what `fit(resume=)` takes: arrays by name, counts, the seed, what the training was and is at.

    `place`: what `place_of` returns.
    """
    return {**state, "seed": seed, **{_TEXT + key: text for key, text in {**same, **place}.items()}}


def place_of(
    schedule: Callable[[int], float], steps: int, parameters: Mapping[str, NDArray[Any]]
) -> dict[str, str]:
    """Return where a training has come to after `steps` steps: the schedule's past, and the parameters.

    A schedule counts by the factors that it gave: one that is bound to more steps than the training had, or
    another function of the same name, has another past.
    """
    past, weights = hashlib.sha256(), hashlib.sha256()
    past.update(factors(schedule, 0, steps).tobytes())
    for name, value in parameters.items():
        weights.update(name.encode())
        weights.update(np.ascontiguousarray(value).data)
    return {
        "schedule": repr(schedule),
        _PAST: past.hexdigest()[:16],
        _PARAMETERS: weights.hexdigest()[:16],
    }


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


def check_state(state: Mapping[str, Any], same: Mapping[str, str], seed: int | None) -> None:
    """Raise ArgumentError where the training that is resumed was another one; `seed`: one that was given."""
    for key, now in same.items():
        was = state.get(_TEXT + key)
        if was is not None and str(was) != now:
            raise _another(key, str(was), now)
    if seed is not None and seed != int(state["seed"]):
        raise ArgumentError(
            f"resume: expected the seed of the training that is resumed, {int(state['seed'])}, got "
            f"rng={seed}: the order of samples goes on as it was; leave rng= out"
        )


def check_place(state: Mapping[str, Any], now: Mapping[str, str]) -> None:
    """Raise ArgumentError where the training is not where it was left; `now`: what `place_of` returns."""
    was = {key: str(state[_TEXT + key]) for key in now if _TEXT + key in state}
    if was.get(_PAST, now[_PAST]) != now[_PAST]:
        error = _another("schedule", was["schedule"], now["schedule"])
        hint = "a schedule without steps of its own is bound to the epochs of the call: give them, as in"
        raise ArgumentError(f"{error}; {hint} vg.schedules.cosine(steps)")
    if was.get(_PARAMETERS, now[_PARAMETERS]) != now[_PARAMETERS]:
        raise ArgumentError(
            "resume: expected the parameters that the training left, got others: resume with the network "
            "that was trained, or with what was saved of it then (vg.load, net.load_parameters); to train "
            "these, start a new fit"
        )


def _another(key: str, was: str, now: str) -> ArgumentError:
    return ArgumentError(
        f"resume: expected {key} as in the training that is resumed, {was}, got {now}; to go on otherwise, "
        "start a new fit: the network keeps its parameters"
    )
