"""Layer: command line. ``vgcore check`` and ``vgcore describe``: gradients checked, entries printed.

Knows the public checks and catalogues; computes nothing itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from . import (
    activations,
    cells,
    clipping,
    constraints,
    initializers,
    losses,
    mitigations,
    norms,
    optimizers,
    parametrizations,
    testing,
)
from ._cli_commands import _along_time, _extra, _images, _prepare, _print_json, _sequences
from ._registry import Description, fold
from ._study_cells import build
from ._table import render
from .errors import UnknownNameError, unknown_name
from .models import rnn

__all__ = ["check", "describe"]

#: Layers, time steps and samples of the network that is checked unless told: differences cost two passes an
#: entry, and along time they must still see the beginning.
DEPTH: Final = 10
LENGTH: Final = 12
SAMPLES: Final = 4
#: The grid that activations are checked on, off their kinks. Farther out differences are lost in rounding.
_LOW, _HIGH, _POINTS = -6.03, 6.01, 300
#: Largest error of an activation's slope, in either float type.
_RTOL: Final[Mapping[str, float]] = {"float32": 1e-4, "float64": 1e-6}
#: Options that describe a network; without any of them and without names the catalogues are checked.
_NETWORK: Final = ("depth", "activation", "init", "cell", "length", "task", "set", "mitigation")

_CATALOGUES: Final[Mapping[str, Any]] = {
    "activation": activations,
    "initializer": initializers,
    "cell": cells,
    "loss": losses,
    "norm": norms,
    "parametrization": parametrizations,
    "optimizer": optimizers,
    "clip": clipping,
    "constraint": constraints,
    "cure": mitigations,
}


# --- check --------------------------------------------------------------------------------------------------


def check(args: argparse.Namespace) -> int:
    """Run ``vgcore check``: 0 where all that was asked for is right, 1 where anything is wrong."""
    _prepare(args)
    found = [_outcome(what, run) for what, run in _checks(args)]
    passed = all(row["passed"] for row in found)
    if args.json:
        _print_json({"passed": passed, "dtype": args.dtype, "checks": found})
        return 0 if passed else 1
    header = ["checked", "result", "largest relative error", "tolerance", "entries"]
    print(render([_cells(row) for row in found], header))
    for row in found:
        if not row["passed"]:
            print(f"\n{row['what']}: {row['error']}")
    wrong = sum(not row["passed"] for row in found)
    print(f"\n{len(found)} checked against differences in {args.dtype}, {wrong or 'none'} wrong")
    return 0 if passed else 1


def _checks(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], testing.GradientCheck]]]:
    """Yield what is asked for, by name, with what runs its check; names are checked before anything runs."""
    network = any(getattr(args, name) not in (None, []) for name in _NETWORK)
    everything = not network and args.activations is None and args.cells is None
    functions = _names(activations, "all" if everything else args.activations)
    kinds = _names(cells, "all" if everything else args.cells)
    problem = _network(args) if network else None
    for name in functions:
        yield f"activation {name}", partial(_activation, name, args.dtype)
    for name in kinds:
        yield f"cell {name}", partial(_cell, name, args.dtype, args.seed)
    if problem is not None:
        yield problem


def _names(catalogue: Any, asked: Sequence[str] | str | None) -> list[str]:
    if asked is None:
        return []
    if "all" in (asked, *asked):
        return list(catalogue.names())
    return [catalogue.describe(name).name for name in asked]


def _activation(name: str, dtype: str) -> testing.GradientCheck:
    return testing.check_activation(
        getattr(activations, name), lambda x: activations.derivative(name, x),
        low=_LOW, high=_HIGH, points=_POINTS, dtype=dtype, rtol=_RTOL[dtype],
    )  # fmt: skip


def _cell(name: str, dtype: str, seed: int) -> testing.GradientCheck:
    net = rnn(name, 6, in_features=3, out_features=2, dtype=dtype, rng=seed)
    draw = np.random.default_rng(seed)
    x, cotangent = draw.normal(size=(3, 6, 3)), draw.normal(size=(3, 2))
    return testing.check_gradients(net, x, cotangent=cotangent, rng=seed)


def _network(args: argparse.Namespace) -> tuple[str, Callable[[], testing.GradientCheck]]:
    time = _along_time(args)
    args.batch = args.batch or SAMPLES
    if not time:
        args.depth = args.depth or DEPTH
    extra = _extra(args, "time" if time else "depth")
    x, y, loss, settings = _sequences(args, LENGTH) if time else _images(args)
    net = build(settings | {"dtype": args.dtype} | extra, args.seed, x)
    size = f"{x.shape[1]} time steps" if time else f"{args.depth:,} layers"
    what = f"network of {size}, {net.num_parameters:,} parameters"
    return what, lambda: testing.check_gradients(net, x, y, loss=loss, rng=args.seed)


def _outcome(what: str, run: Callable[[], testing.GradientCheck]) -> dict[str, Any]:
    try:
        done = run()
    except testing.GradientCheckError as error:
        return {"what": what, "passed": False, "error": str(error)}
    return {
        "what": what,
        "passed": True,
        "error": "",
        "largest_relative_error": done.worst,
        "where": done.where,
        "tolerance": done.rtol,
        "entries": done.entries,
        "resolved": done.resolved,
    }


def _cells(row: Mapping[str, Any]) -> list[str]:
    if not row["passed"]:
        return [row["what"], "wrong", "-", "-", "-"]
    numbers = f"{row['largest_relative_error']:.1e}", f"{row['tolerance']:.0e}", f"{row['entries']:,}"
    return [row["what"], "right", *numbers]


# --- describe -----------------------------------------------------------------------------------------------


def describe(args: argparse.Namespace) -> int:
    """Run ``vgcore describe``: every entry of that name; without a name, all names there are."""
    if args.name is None:
        listed = {kind: list(module.names()) for kind, module in _CATALOGUES.items()}
        listed["procedure"] = mitigations.procedures()
        if args.json:
            _print_json(listed)
        else:
            print("\n".join(f"{kind + ':':<17}{', '.join(names)}" for kind, names in listed.items()))
        return 0
    found = list(_entries(args.name))
    if not found:
        known = {name: None for module in _CATALOGUES.values() for name in _spellings(module)}
        known |= dict.fromkeys(mitigations.procedures())
        raise unknown_name("name", args.name, known, "vgcore describe")
    if args.json:
        _print_json({"entries": [{"kind": kind, **_plain(entry)} for kind, entry in found]})
    else:
        print("\n\n".join(f"{kind} {entry}" for kind, entry in found))
    return 0


def _entries(name: str) -> Iterator[tuple[str, Description]]:
    for kind, module in _CATALOGUES.items():
        try:
            entry = module.describe(name)
        except UnknownNameError:
            continue
        yield entry.kind if entry.kind == "procedure" else kind, entry


def _spellings(module: Any) -> Iterator[str]:
    for name in module.names():
        yield name
        yield from (alias for alias in module.describe(name).aliases if fold(alias) != fold(name))


def _plain(entry: Description) -> dict[str, Any]:
    return {
        "name": entry.name,
        "signature": entry.signature(),
        "summary": entry.summary,
        "formula": entry.formula,
        "derivative": entry.derivative,
        "parameters": [{"name": p.name, "default": p.default, "doc": p.doc} for p in entry.params],
        "aliases": list(entry.aliases),
        "reference": entry.reference,
        "about": dict(entry.extra),
    }
