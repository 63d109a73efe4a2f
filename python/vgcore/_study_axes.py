"""Layer: study, axes. Which arguments a study can vary, and what is wrong with the values it was given.

Knows the arguments of ``vg.mlp`` and ``vg.rnn``, read from their signatures, so that a new one is an axis at
once, and cures; nothing of how cells run.
"""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from . import models, norms
from ._checks import as_size
from ._rng import RngLike, seed_of
from ._study_cells import build
from ._study_values import encode_value, label, read_value
from .errors import ArgumentError, MemoryBudgetError, VgcoreError, unknown_name
from .initializers import FromArray, as_initializer
from .layers import Activation, replace_name
from .normalisation import Normalisation

__all__ = ["axis_names", "checked_axes", "checked_seeds", "encoded", "is_along_time"]

#: Arguments that are numbers of units, layers or steps, without which there is no network.
SIZES: Final = ("depth", "width", "length", "hidden_size", "num_layers")
#: What is no argument of the network itself.
APART: Final = ("length", "mitigation")
#: Units of a layer, unless given.
DEFAULT_WIDTH: Final = 64


def axis_names(along: str = "depth") -> list[str]:
    """Return what a study can vary: arguments of ``vg.mlp``, along "time" of ``vg.rnn``; cures."""
    if along == "depth":
        return [*(name for name in inspect.signature(models.mlp).parameters if name != "rng"), "mitigation"]
    names = [name for name in inspect.signature(models.rnn).parameters if name != "rng"]
    # Cells, their size, then the length: the order of the grid and of the summary.
    return [*names[:2], "length", *names[2:], "mitigation"]


def is_along_time(axes: Mapping[str, Any]) -> bool:
    """Whether these are axes of recurrent networks."""
    return "cell" in axes


def checked_axes(axes: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the axes in the order of the grid, every value checked as far as it can be without data.

    Raises:
        UnknownNameError: an argument, cell, activation or initializer that does not exist.
        ArgumentError: no depth and no cell, both, an empty axis, a value that no network of the grid takes or
            that cannot be stored.
        DTypeError, ShapeError: a float type or a normalisation that no network of the grid takes.
    """
    time = is_along_time(axes)
    known = axis_names("time" if time else "depth")
    for name in axes:
        if name not in known:
            if name == "depth":
                raise ArgumentError(
                    "depth: a study with cell= varies the length of sequences, not the depth; give length=, "
                    "or num_layers= for stacked layers"
                )
            if name == "length" or name in (set() if "depth" in axes else set(axis_names("time"))):
                raise ArgumentError(f'{name}: it needs cell=, for instance cell=["rnn", "lstm", "gru"]')
            raise unknown_name("study axis", name, known, f"help(vgcore.{'rnn' if time else 'mlp'})")
    if not time and "depth" not in axes:
        raise ArgumentError(
            "depth: expected one depth or a list of depths, got none; for instance depth=[10, 100, 1000], "
            'or for recurrent networks cell=["lstm", "gru"] and length=[100, 1000]'
        )
    width = {"hidden_size" if time else "width": DEFAULT_WIDTH}
    given = width | dict(axes)
    found = {name: _axis(name, given[name]) for name in known if name in given}
    for name, values in found.items():
        for value in values:
            _refuse_hopeless(name, value, found)
    return found


def checked_seeds(seeds: int | Iterable[int], rng: RngLike) -> list[int]:
    """Return the seeds as given, or as many drawn from `rng`.

    Raises:
        ArgumentError: none, a bad one, or the same twice.
    """
    if rng is not None:
        number = as_size(seeds or 1, "seeds")
        sequence = np.random.SeedSequence(seed_of(rng))
        return [int(seed) for seed in sequence.generate_state(number, np.uint64)]
    listed = [seeds] if isinstance(seeds, (int, np.integer)) else list(seeds)
    if not listed:
        raise ArgumentError("seeds: expected at least one seed, got none")
    found = [seed_of(seed, "seeds") for seed in listed]
    if len(set(found)) < len(found):
        raise ArgumentError(f"seeds: expected different seeds, got {found}")
    return found


def encoded(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as strict JSON can hold them."""
    return {name: encode_value(name, value) for name, value in args.items()}


def _axis(name: str, values: Any) -> list[Any]:
    if isinstance(values, (list, tuple, range)) or (isinstance(values, np.ndarray) and values.ndim == 1):
        listed = list(values)
    else:
        listed = [values]
    if not listed:
        raise ArgumentError(f"{name}: expected at least one value, got an empty axis")
    checked = [_check(name, value) for value in listed]
    seen = [json.dumps(encode_value(name, value), sort_keys=True) for value in checked]
    for i, text in enumerate(seen):
        if text in seen[:i]:
            raise ArgumentError(
                f"{name}: {label(checked[i])!r} is given twice (two names of one thing count as the same)"
            )
    return checked


def _refuse_hopeless(name: str, value: Any, axes: Mapping[str, list[Any]]) -> None:
    """Raise what every cell with this value would raise: a mistake should not cost a night's run.

    Networks are built, without data, for each size, activation and cell of the grid until one takes the value
    along with all that holds for every cell. Where only some refuse it, that is those cells' own matter.
    """
    if name in APART or isinstance(value, FromArray):
        return
    fixed: dict[str, Any] = {
        other: values[0]
        for other, values in axes.items()
        if len(values) == 1 and other not in APART and not isinstance(values[0], FromArray)
    }
    # Nothing runs, so nothing is stored; along time the width of the input is the data's to say.
    fixed |= {"in_features": fixed.get("in_features", 1)} if is_along_time(axes) else {"stored": False}
    varied = {
        other: sorted(axes[other]) if other in SIZES else axes[other]
        for other in (*SIZES, "activation", "cell")
        if other in axes and other not in (name, "length")
    }
    first: VgcoreError | None = None
    for values in itertools.product(*varied.values()):
        try:
            build(fixed | dict(zip(varied, values, strict=True)) | {name: value}, 0)
        except MemoryBudgetError:
            return
        except VgcoreError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise first


def _check(name: str, value: Any) -> Any:
    """Return a value under its canonical name, or raise what is wrong with it whatever the others are."""
    value = read_value(name, value)
    if name in SIZES:
        return as_size(value, name)
    if name == "mitigation":
        from .mitigations import as_cures, as_text, check_together

        cures = as_cures(value)
        check_together(cures)
        return as_text(cures)
    if name == "cell":
        from .cells import as_cell

        cell = as_cell(value)
        return cell if cell.params else cell.name
    if name == "activation" and value is not None:
        found = Activation(value) if isinstance(value, str) else value
        return found.function if isinstance(found, Activation) and not found.params else found
    if name in ("init", "recurrent_init", "bias_init") and value is not None:
        start = as_initializer(value)
        return start if isinstance(start, FromArray) or start.params else start.name
    if name == "norm" and isinstance(value, str):
        return norms.describe(value).name
    if isinstance(value, Normalisation):
        plain = replace_name(value, None)
        return value.entry if encode_value(name, plain) == value.entry else plain
    return value.item() if isinstance(value, np.generic) else value
