"""Layer: catalogues. Recurrent cells: what there is, what each computes, and how their gates may start.

Knows no network. Equations, gate order and arithmetic live in the compiled module; names are resolved when
they are asked for, so ``vg.cells.lstm(peephole=True)`` works for every name in ``vg.cells.names()``.

Example:
    >>> import vgcore as vg
    >>> vg.cells.lstm(peephole=True)
    lstm(peephole=True)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import _core, activations
from ._checks import as_real, as_size, shown
from ._registry import Description, Registry
from .errors import ArgumentError

__all__ = ["Cell", "GateBias", "chrono", "describe", "forget_bias", "names", "uniform_gates"]

_registry = Registry("cell", "vg.cells.names()")

#: The longest lag that chrono initialisation may be asked for: beyond it ``T - 1`` is no exact float32.
_LONGEST_LAG = 2**24


#: Width of the state, and of the input, of the small layers that tell which parameters a cell has.
_SMALL, _SMALL_IN = 2, 3


@dataclass(frozen=True, repr=False)
class Cell:
    """A catalogue name with its parameters: what ``vg.cells.lstm(...)`` returns.

    `name` is canonical; `params` holds only what was given, the rest keeps its default.

    Raises:
        UnknownNameError: no such cell, or no such activation.
        ArgumentError: a parameter that the cell does not have, or one out of its range.

    Example:
        >>> import vgcore as vg
        >>> cell = vg.cells.rnn(activation="relu")
        >>> cell.name, cell.gates, cell.states
        ('rnn', ('h',), ('h',))
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Resolve the name and check the parameters."""
        entry = describe(self.name)
        put = object.__setattr__  # frozen: this is the one moment at which fields are set
        put(self, "name", entry.name)
        put(self, "params", _checked(entry, self.params))
        if self.params:  # the compiled module knows the ranges: what is wrong is said here, not by a network
            _small(self, True)

    def __hash__(self) -> int:
        """Hash by value, so that equal cells are one dictionary key."""
        return hash((self.name, tuple(sorted(self.params.items()))))

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.params.items())})"

    @property
    def gates(self) -> tuple[str, ...]:
        """Blocks of rows of the weights, in order: ``("i", "f", "g", "o")`` for lstm."""
        return tuple(describe(self.name).extra.get("gates", ())) or ("h",)

    @property
    def states(self) -> tuple[str, ...]:
        """What the cell hands from step to step: ``("h",)``, or ``("h", "c")``."""
        return tuple(describe(self.name).extra.get("states", ("h",)))

    @property
    def leaves(self) -> tuple[str, ...]:
        """Kinds of parameters: ``("weight_ih", "weight_hh", "bias_ih", "bias_hh")`` for lstm."""
        return tuple(self.leaf_shapes(_SMALL_IN, _SMALL))

    def leaf_shapes(self, in_features: int, hidden: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
        """Return the shape of each kind of parameter of one layer in one direction.

        Raises:
            ArgumentError: a `hidden` that this cell cannot have.

        Example:
            >>> import vgcore as vg
            >>> vg.cells.lstm().leaf_shapes(3, 8)["weight_ih"]
            (32, 3)
        """
        shapes = {}
        for leaf, (rows, *columns) in _small(self, bias).items():
            if rows * hidden % _SMALL:
                near = str(hidden + 1) if hidden == 1 else f"{hidden - 1} or {hidden + 1}"
                raise ArgumentError(
                    f"hidden_size: expected an even number for cell {self.name!r}, whose hidden_size / 2 "
                    f"units are complex numbers (real parts, then imaginary parts), got {hidden}; use {near}"
                )
            widths = (in_features if width == _SMALL_IN else hidden for width in columns)
            shapes[leaf] = (rows * hidden // _SMALL, *widths)
        return shapes

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the activations inside: its own choice, or those that its formula names."""
        entry = describe(self.name)
        every = entry.defaults | dict(self.params)
        if "activation" in every:
            return (str(every["activation"]),)
        words = dict.fromkeys(re.findall(r"[a-z_]+", entry.formula))
        return tuple(word for word in words if word in activations.names())

    def to_spec(self) -> dict[str, Any]:
        """Return what the compiled module takes: the name and every parameter."""
        params = describe(self.name).defaults | dict(self.params)
        numbers = {key: float(value) if isinstance(value, bool) else value for key, value in params.items()}
        return {"cell": self.name, "params": numbers}


@dataclass(frozen=True, repr=False)
class GateBias:
    """How the biases of a cell's gates start: what `forget_bias`, `chrono` and `uniform_gates` return."""

    kind: str
    value: float | None = None

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        inside = "" if self.value is None else f"{self.value:g}" if self.kind == "forget" else f"{self.value}"
        return f"{_HELPERS[self.kind]}({inside})"

    def to_spec(self) -> dict[str, Any]:
        """Return what the compiled module takes."""
        key = {"forget": "value", "chrono": "T"}.get(self.kind)
        return {"kind": self.kind} if key is None else {"kind": self.kind, key: self.value}


def forget_bias(value: float = 1.0) -> GateBias:
    """Let the gate that keeps the state start at `value` before its sigmoid; the state then lives longer.

    With all else small, a step keeps the share ``sigmoid(value)``: half of the state is left after
    ``ln 2 / -ln sigmoid(value)`` steps (1: about 2, 3: about 14, 5: about 103). The two biases, which add,
    get the value once. For lstm and min_lstm it is the forget gate; for gru and min_gru the update gate, with
    the sign that keeps.

    Raises:
        ArgumentError: not a finite number.

    Source: Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015.

    Example:
        >>> import vgcore as vg
        >>> vg.Recurrent("lstm", 8, gate_bias=vg.cells.forget_bias(3.0)).gate_bias
        forget_bias(3)
    """
    return GateBias("forget", as_real(value, "forget_bias"))


def chrono(T: int) -> GateBias:
    """Let each unit forget at a rate of its own, for lags up to `T` steps: b_f = ln U(1, T - 1), b_i = -b_f.

    A unit with forget bias ln(u) keeps the share u / (1 + u) a step: its memory is about u + 1 steps long,
    and the lengths are spread evenly from 2 to `T`.

    Args:
        T: the longest lag that should be remembered, in steps; more than 2.

    Raises:
        ArgumentError: not an integer of at least 3.

    Source: Tallec & Ollivier 2018, "Can recurrent neural networks warp time?".

    Example:
        >>> import vgcore as vg
        >>> vg.Recurrent("lstm", 8, gate_bias=vg.cells.chrono(1000)).gate_bias
        chrono(1000)
    """
    if isinstance(T, (int, np.integer)) and not isinstance(T, bool) and T <= 2:
        raise ArgumentError(
            f"chrono: expected T of at least 3, got {T}: biases are ln of numbers drawn between 1 and T - 1, "
            f"and there are none; T is the longest lag in steps, such as the length of the sequences"
        )
    return GateBias("chrono", as_size(T, "chrono: T", minimum=3, maximum=_LONGEST_LAG))


def uniform_gates() -> GateBias:
    """Let forget gates start at values spread evenly over (0, 1): b_f = logit U(1/H, 1 - 1/H), b_i = -b_f.

    Some units then remember for long and some for short, whatever the task's lags are; H is `hidden_size`.

    Source: Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, "Improving the gating mechanism of recurrent neural
    networks" (uniform gate initialisation).

    Example:
        >>> import vgcore as vg
        >>> vg.Recurrent("gru", 8, gate_bias=vg.cells.uniform_gates()).gate_bias
        uniform_gates()
    """
    return GateBias("uniform")


def names() -> list[str]:
    """Return the canonical names of all cells.

    Example:
        >>> "lstm" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return equations, gates, parameters and reference of one cell; ``print`` shows them.

    Raises:
        UnknownNameError: no cell has this name or alias.

    Example:
        >>> describe("lstm").extra["gates"]
        ['i', 'f', 'g', 'o']
    """
    return _registry.describe(name)


def as_cell(value: Any, name: str = "cell") -> Cell:
    """Return `value` (a name or a Cell) as a Cell.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something that is neither.

    Example:
        >>> as_cell("gru")
        gru()
    """
    if isinstance(value, Cell):
        return value
    if isinstance(value, str):
        return Cell(value)
    if callable(value):
        raise ArgumentError(f"{name}: call the cell first, as in vg.cells.lstm(); got {shown(value)}")
    raise ArgumentError(
        f'{name}: expected a name such as "lstm", or a cell such as vg.cells.lstm(peephole=True); '
        f"got {shown(value)}"
    )


def as_gate_bias(value: Any, cell: Cell, bias: bool) -> GateBias | None:
    """Return `value` if it says how the gates of `cell` may start, or raise ArgumentError.

    Example:
        >>> as_gate_bias(forget_bias(1.0), Cell("lstm"), bias=True)
        forget_bias(1)
    """
    if value is None:
        return None
    if not isinstance(value, GateBias):
        hint = f"; write vg.cells.forget_bias({value:g})" if _is_number(value) else ""
        raise ArgumentError(
            f"gate_bias: expected None, vg.cells.forget_bias(value), vg.cells.chrono(T) or "
            f"vg.cells.uniform_gates(), got {shown(value)}{hint}"
        )
    if not is_gated(cell):
        gated = ", ".join(name for name in names() if is_gated(Cell(name)))
        raise ArgumentError(
            f"gate_bias: expected a cell with gates ({gated}), got {value!r} for cell {cell.name!r}, which "
            f"has none; leave it out, or take another cell"
        )
    if not bias:
        raise ArgumentError(f"gate_bias: {value!r} is about biases, but bias=False; leave one of them out")
    return value


def is_gated(cell: Cell) -> bool:
    """Whether a cell has gates, so that biases of gates mean something.

    Example:
        >>> is_gated(Cell("gru")), is_gated(Cell("rnn"))
        (True, False)
    """
    return describe(cell.name).extra.get("keep") is not None


_HELPERS = {"forget": "forget_bias", "chrono": "chrono", "uniform": "uniform_gates"}


@functools.lru_cache(maxsize=256)
def _small(cell: Cell, bias: bool) -> dict[str, tuple[int, ...]]:
    """Shapes by leaf of a small layer of this cell, as the compiled module makes it.

    A leaf's rows grow with the width of the state, and so do its columns, unless they are the input's.
    """
    rest = {"num_layers": 1, "bidirectional": False, "residual": False, "bias": bias, "read": "last"}
    rest |= {"state": "zeros", "init": None, "recurrent_init": None, "bias_init": None, "gate_bias": None}
    spec = {"kind": "recurrent", "name": "", **cell.to_spec(), "hidden": _SMALL, **rest}
    small = _core.Network([spec], _SMALL_IN, "float32", 0)
    return {name.removesuffix("_l0"): tuple(shape) for name, shape in small.parameters()}


def _checked(entry: Description, params: Mapping[str, Any]) -> dict[str, Any]:
    # A switch is a number in the catalogue (0 or 1) and True or False here.
    given = dict(params)
    switched = "peephole" in entry.defaults and "peephole" in given
    switch = given.pop("peephole") if switched else None
    checked = entry.check_params(given)
    result = {key: checked[key] for key in given}
    if "activation" in result:
        result["activation"] = activations.describe(result["activation"]).name
    if switched:
        if switch not in (0, 1):
            raise ArgumentError(f"cell {entry.name!r}: peephole: expected True or False, got {shown(switch)}")
        result["peephole"] = bool(switch)
    return {key: result[key] for key in params}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def __getattr__(name: str) -> Callable[..., Cell]:
    """Return the maker of one cell: ``vg.cells.lstm(peephole=True)``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)

    def make(**params: Any) -> Cell:
        return Cell(entry.name, params)

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the functions of this module and every cell."""
    return sorted([*__all__, *names()])
