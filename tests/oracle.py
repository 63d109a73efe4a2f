"""Reference layer of the tests: the whole program, forward and backward, slow and readable, in NumPy.

Networks are nested tuples; parameters a dict of arrays with the names vgcore gives them.  Arithmetic is
float64, or complex128 when an argument is complex (complex step: loss(theta + i h d).imag / h is the exact
derivative along d).  The backward pass keeps one exponent per row, so its range is unlimited.  Knows nothing
of vgcore.

    ("dense", features, bias)      ("activation", name, params)
    ("repeat", body, n, tied)      ("residual", body, scale)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracle_activations import activation
from oracle_losses import loss_and_gradient

Array = NDArray[Any]
Layer = tuple[Any, ...]
DENSE, LONE, JOIN = 0, 1, 2


@dataclass(frozen=True)
class Op:
    """One line of the flat program; `unit` and `step` are the numbers its result has."""

    what: str  # dense | activation | fork | join
    unit: int
    step: int
    names: Mapping[str, str] = field(default_factory=dict)
    at: tuple[int, ...] = ()  # position in the stacked parameters, one number for each untied Repeat around
    function: str = ""
    params: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    last: bool = True  # its result is the unit's result (false for a Dense that an Activation follows)


def parameter_shapes(
    layers: Sequence[Layer], width: int, prefix: str = "", stack: tuple[int, ...] = ()
) -> tuple[dict[str, tuple[int, ...]], int]:
    """Name -> shape of every parameter for `width` input features, and the number of output features."""
    shapes: dict[str, tuple[int, ...]] = {}
    for position, layer in enumerate(layers):
        path = f"{prefix}{position}"
        if layer[0] == "dense":
            shapes[f"{path}.weight"] = (*stack, layer[1], width)
            if layer[2]:
                shapes[f"{path}.bias"] = (*stack, layer[1])
            width = layer[1]
        elif layer[0] == "activation":
            if layer[1] == "prelu":
                shapes[f"{path}.slope"] = (*stack, 1)
        else:
            untied = layer[0] == "repeat" and not layer[3]
            body, width = parameter_shapes(
                layer[1], width, f"{path}.", (*stack, layer[2]) if untied else stack
            )
            shapes.update(body)
    return shapes, width


def compile_program(layers: Sequence[Layer]) -> list[Op]:
    """The flat program.

    A unit is a Dense with a directly following Activation, a lone Activation, or a Residual's end; a step is
    a top-level unit, a top-level Residual, or one iteration of a top-level Repeat.
    """
    program: list[Op] = []
    unit = step = -1

    def lower(body: Sequence[Layer], prefix: str, at: tuple[int, ...], top: bool) -> None:
        nonlocal unit, step
        for position, layer in enumerate(body):
            path, what = f"{prefix}{position}", layer[0]
            follows = position > 0 and body[position - 1][0] == "dense" and what == "activation"
            if what == "repeat":
                for iteration in range(layer[2]):
                    step += top
                    lower(layer[1], f"{path}.", at if layer[3] else (*at, iteration), False)
                continue
            step += top and not follows
            if what == "dense":
                unit += 1
                names = {"weight": f"{path}.weight"} | ({"bias": f"{path}.bias"} if layer[2] else {})
                last = position + 1 == len(body) or body[position + 1][0] != "activation"
                program.append(Op("dense", unit, step, names, at, last=last))
            elif what == "activation":
                unit += not follows
                names = {"slope": f"{path}.slope"} if layer[1] == "prelu" else {}
                program.append(Op("activation", unit, step, names, at, layer[1], layer[2]))
            else:
                program.append(Op("fork", unit, step))
                lower(layer[1], f"{path}.", at, False)
                unit += 1
                program.append(Op("join", unit, step, scale=layer[2]))

    lower(layers, "", (), True)
    return program


def _use(parameters: Mapping[str, Array], op: Op, leaf: str) -> Array:
    return np.asarray(parameters[op.names[leaf]][op.at])


def _functions(parameters: Mapping[str, Array], op: Op) -> tuple[Any, Any]:
    params = dict(op.params)
    if "slope" in op.names:
        params["init"] = _use(parameters, op, "slope")[0]
    return activation(op.function, params)


def forward(program: Sequence[Op], parameters: Mapping[str, Array], x: Array) -> tuple[Array, list[Array]]:
    """The output, and the input of every operation (a join's entry is the branch it adds)."""
    inputs: list[Array] = []
    skips: list[Array] = []
    for op in program:
        inputs.append(x)
        if op.what == "dense":
            x = x @ _use(parameters, op, "weight").T
            if "bias" in op.names:
                x = x + _use(parameters, op, "bias")
        elif op.what == "activation":
            if np.iscomplexobj(parameters.get(op.names.get("slope", ""), 0.0)):
                x = x.astype(complex)
            x = _functions(parameters, op)[0](x)
        elif op.what == "fork":
            skips.append(x)
        else:
            x = skips.pop() + op.scale * x
    return x, inputs


@dataclass
class Scaled:
    """Rows m[b] * 2**e[b]; the largest |m| of a row lies in [1/2, 1) unless the row is zero."""

    m: Array
    e: NDArray[np.int64]

    @classmethod
    def of(cls, m: Array, e: NDArray[np.int64] | int = 0) -> Scaled:
        rows = np.broadcast_to(np.asarray(e, np.int64), m.shape[:1])
        shift = np.frexp(np.abs(m).max(axis=1))[1].astype(np.int64)
        return cls(np.ldexp(m, -shift[:, None]), np.where(np.any(m != 0, axis=1), rows + shift, rows))

    def __add__(self, other: Scaled) -> Scaled:
        zero = [np.all(s.m == 0, axis=1) for s in (self, other)]
        top = np.maximum(np.where(zero[0], other.e, self.e), np.where(zero[1], self.e, other.e))
        parts = [np.ldexp(s.m, np.maximum(s.e - top, -4000)[:, None]) for s in (self, other)]
        return Scaled.of(parts[0] + parts[1], top)

    def sum_rows(self, product: Any) -> tuple[Array, int]:
        """product(m aligned to the largest exponent), that exponent: for sums over rows."""
        used = np.any(self.m != 0, axis=1)
        top = int(self.e[used].max()) if used.any() else 0
        return product(np.ldexp(self.m, np.clip(self.e - top, -4000, 0)[:, None])), top

    def log2_norm(self) -> float:
        """log2 of the Frobenius norm, at any exponent."""
        aligned, top = self.sum_rows(lambda m: m)
        norm = float(np.sqrt(np.sum(aligned * aligned)))
        return -np.inf if norm == 0 else float(np.log2(norm) + top)


@dataclass
class Gradients:
    """What one backward pass gives: mantissas and exponents of gradients, log2 norms per unit, step
    numbers."""

    output: Array
    loss: float | None
    parameters: dict[str, tuple[Array, NDArray[np.int64]]]
    input: Scaled
    grad: NDArray[np.float64]
    delta: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    step: NDArray[np.int64]
    kind: NDArray[np.int64]

    def array(self, name: str) -> Array:
        """The gradient of one parameter as a plain array (under- and overflow as they must)."""
        mantissa, exponent = self.parameters[name]
        tail = (1,) * (mantissa.ndim - exponent.ndim)
        return np.asarray(np.ldexp(mantissa, np.clip(exponent, -4000, 4000).reshape(exponent.shape + tail)))

    def per_step(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry of the last unit of each step that has one."""
        out = np.full(int(self.step[-1]) + 1, np.nan)
        for step, value in zip(self.step, values, strict=True):
            if not np.isnan(value):
                out[step] = value
        return out


def _norm2(mantissa: Array, exponent: int) -> float:
    top = float(np.abs(mantissa).max(initial=0.0))
    return (
        -np.inf
        if top == 0
        else float(np.log2(np.sqrt(np.sum((mantissa / top) ** 2))) + np.log2(top) + exponent)
    )


class _Collector:
    """Sums parameter gradients with one exponent per stacked copy."""

    def __init__(self, parameters: Mapping[str, Array], program: Sequence[Op]) -> None:
        self.m = {name: np.zeros(np.shape(value)) for name, value in parameters.items()}
        self.e: dict[str, NDArray[np.int64]] = {}
        for op in program:
            for name in op.names.values():
                self.e.setdefault(name, np.zeros(self.m[name].shape[: len(op.at)], np.int64))

    def add(self, name: str, at: tuple[int, ...], mantissa: Array, exponent: int) -> None:
        old, old_e = self.m[name][at], int(self.e[name][at])
        if not np.any(old):
            old_e = exponent
        top = max(old_e, exponent)
        total = np.ldexp(old, max(old_e - top, -4000)) + np.ldexp(mantissa, max(exponent - top, -4000))
        shift = int(np.frexp(np.abs(total).max())[1])
        self.m[name][at], self.e[name][at] = np.ldexp(total, -shift), top + shift


def gradients(
    layers: Sequence[Layer],
    parameters: Mapping[str, Array],
    x: Array,
    *,
    cotangent: Array | None = None,
    target: Array | None = None,
    loss: Mapping[str, Any] | None = None,
) -> Gradients:
    """Forward and backward through the network; either a cotangent or a loss with its target."""
    program = compile_program(layers)
    output, inputs = forward(program, parameters, np.asarray(x, np.float64))
    value = None
    if cotangent is None:
        value, cotangent = loss_and_gradient(loss or {}, output, target)
    units = program[-1].unit + 1
    grad, delta, weight, bias = (np.full(units, np.nan) for _ in range(4))
    kind, steps = np.zeros(units, np.int64), np.zeros(units, np.int64)
    collector = _Collector(parameters, program)
    g = Scaled.of(np.asarray(cotangent, np.float64))
    skips: list[Scaled] = []
    for op, h in zip(reversed(program), reversed(inputs), strict=True):
        if op.what == "fork":
            g = g + skips.pop()
            continue
        if op.last:
            grad[op.unit], steps[op.unit] = g.log2_norm(), op.step
            kind[op.unit] = {"dense": DENSE, "activation": LONE, "join": JOIN}[op.what]
        if op.what == "join":
            skips.append(g)
            g = Scaled.of(g.m * op.scale, g.e)
        elif op.what == "activation":
            if "slope" in op.names:
                m, e = g.sum_rows(lambda m, h=h: np.sum(m * np.where(h <= 0, h, 0.0)).reshape(1))
                collector.add(op.names["slope"], op.at, m, e)
            g = Scaled.of(g.m * _functions(parameters, op)[1](h), g.e)
            delta[op.unit] = g.log2_norm()
        else:
            kind[op.unit], delta[op.unit] = DENSE, g.log2_norm()
            m, e = g.sum_rows(lambda m, h=h: m.T @ h)
            collector.add(op.names["weight"], op.at, m, e)
            weight[op.unit] = _norm2(m, e)
            if "bias" in op.names:
                m, e = g.sum_rows(lambda m: m.sum(axis=0))
                collector.add(op.names["bias"], op.at, m, e)
                bias[op.unit] = _norm2(m, e)
            g = Scaled.of(g.m @ _use(parameters, op, "weight"), g.e)
    found = {name: (collector.m[name], collector.e[name]) for name in collector.e}
    return Gradients(output, value, found, g, grad, delta, weight, bias, steps, kind)


def directional_derivative(
    layers: Sequence[Layer],
    parameters: Mapping[str, Array],
    x: Array,
    directions: Mapping[str, Array],
    *,
    x_direction: Array | None = None,
    cotangent: Array | None = None,
    target: Array | None = None,
    loss: Mapping[str, Any] | None = None,
    h: float = 1e-60,
) -> float:
    """d loss(theta + t d) / dt at 0 by a complex step: one forward pass, no formula of a derivative, no
    cancellation."""
    moved = {name: value + 1j * h * directions.get(name, 0.0) for name, value in parameters.items()}
    start = np.asarray(x, complex)
    if x_direction is not None:
        start = start + 1j * h * x_direction
    output, _ = forward(compile_program(layers), moved, start)
    if cotangent is not None:
        return float(np.sum(output.imag * cotangent) / h)
    value, _ = loss_and_gradient(loss or {}, output, target, gradient=False)
    return float(np.imag(value) / h)
