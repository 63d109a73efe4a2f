"""Reference layer of the tests: the whole program, forward and backward, slow and readable, in NumPy.

Networks are nested tuples; parameters a dict of arrays with the names vgcore gives them.  Arithmetic is
float64, or complex128 when an argument is complex (complex step: loss(theta + i h d).imag / h is the exact
derivative along d).  The backward pass keeps one exponent per row, so its range is unlimited.  Knows nothing
of vgcore.

    ("dense", features, bias)      ("activation", name, params)
    ("repeat", body, n, tied)      ("residual", body, scale[, {"learned", "gain", "shortcut", "survival"}])
    ("highway", body or None, (function, params, bias), coupled)
    ("concat", body)               ("dropout", p)
    ("norm", name, {"eps", "groups", "affine", "online"})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import oracle_norms
from numpy.typing import NDArray
from oracle_activations import activation
from oracle_branches import BRANCHES, Chain, Training, mask, meet, numbered, part, presence
from oracle_losses import loss_and_gradient

Array = NDArray[Any]
Layer = tuple[Any, ...]
#: Numbers of the kinds of units, by their operation; an activation behind a Dense is the Dense's.
KINDS = {"dense": 0, "activation": 1, "join": 2, "norm": 3, "gate": 4, "concat": 5, "drop": 6}


@dataclass(frozen=True)
class Op:
    """One line of the flat program; `unit` and `step` are the numbers its result has."""

    what: str  # one of KINDS, fork (branches begin) or next (one of them ends, another begins)
    unit: int
    step: int
    names: Mapping[str, str] = field(default_factory=dict)
    at: tuple[int, ...] = ()  # position in the stacked parameters, one number for each untied Repeat around
    function: str = ""
    params: Mapping[str, float] = field(default_factory=dict)
    last: bool = True  # its result is the unit's result (false for a Dense that an Activation follows)
    end: Mapping[str, Any] = field(default_factory=dict)  # what ends branches: its options
    path: str = ""
    times: int = 0  # how often the layer was applied before


def parameter_shapes(
    layers: Sequence[Layer] | Chain, width: int, prefix: str = "", stack: tuple[int, ...] = ()
) -> tuple[dict[str, tuple[int, ...]], int]:
    """Name -> shape of every parameter for `width` input features, and the number of output features."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in _chain(layers):
        path = f"{prefix}{name}"
        if layer[0] == "dense":
            shapes[f"{path}.weight"] = (*stack, layer[1], width)
            if layer[2]:
                shapes[f"{path}.bias"] = (*stack, layer[1])
            width = layer[1]
        elif layer[0] == "activation":
            if layer[1] == "prelu":
                shapes[f"{path}.slope"] = (*stack, 1)
        elif layer[0] == "norm":
            for leaf in oracle_norms.leaves(*layer[1:]):
                shapes[f"{path}.{leaf}"] = (*stack, width)
        elif layer[0] == "repeat":
            inner = stack if layer[3] else (*stack, layer[2])
            body, width = parameter_shapes(layer[1], width, f"{path}.", inner)
            shapes.update(body)
        elif layer[0] != "dropout":
            end, branches = BRANCHES[layer[0]](layer, width)
            out = width
            for begins, chain in branches:
                body, out = parameter_shapes(chain, width, f"{path}.{begins}", stack)
                shapes.update(body)
            if end.get("learned"):
                shapes[f"{path}.scale"] = (*stack, 1)
            width = out + (width if layer[0] == "concat" else 0)
    return shapes, width


def _chain(layers: Sequence[Layer] | Chain) -> Chain:
    named = all(isinstance(entry[0], str) and isinstance(entry[1], tuple) for entry in layers)
    return list(layers) if named else numbered(layers)  # type: ignore[arg-type]  # asked one line above


def compile_program(layers: Sequence[Layer]) -> list[Op]:
    """The flat program.

    A unit is a Dense with a directly following Activation, a lone Activation, or where branches end; a step
    is a top-level layer with what is in it, or one iteration of a top-level Repeat.
    """
    program: list[Op] = []
    unit = step = -1

    def lower(chain: Chain, prefix: str, at: tuple[int, ...], times: int, top: bool) -> None:
        nonlocal unit, step
        for position, (name, layer) in enumerate(chain):
            path, what = f"{prefix}{name}", layer[0]
            fuses = position > 0 and chain[position - 1][1][0] in ("dense", "norm")
            follows = fuses and what == "activation"
            if what == "repeat":
                for iteration in range(layer[2]):
                    step += top
                    inner = at if layer[3] else (*at, iteration)
                    lower(numbered(layer[1]), f"{path}.", inner, times * layer[2] + iteration, False)
                continue
            step += top and not follows
            if what == "dense":
                unit += 1
                names = {"weight": f"{path}.weight"} | ({"bias": f"{path}.bias"} if layer[2] else {})
                last = position + 1 == len(chain) or chain[position + 1][1][0] != "activation"
                program.append(Op("dense", unit, step, names, at, last=last))
            elif what == "norm":
                unit += 1
                names = {leaf: f"{path}.{leaf}" for leaf in oracle_norms.leaves(*layer[1:])}
                last = position + 1 == len(chain) or chain[position + 1][1][0] != "activation"
                program.append(Op("norm", unit, step, names, at, layer[1], layer[2], last))
            elif what == "activation":
                unit += not follows
                names = {"slope": f"{path}.slope"} if layer[1] == "prelu" else {}
                program.append(Op("activation", unit, step, names, at, layer[1], layer[2]))
            elif what == "dropout":
                unit += 1
                program.append(Op("drop", unit, step, end={"p": layer[1]}, path=path, times=times))
            else:
                end, branches = BRANCHES[what](layer, 0)
                program.append(Op("fork", unit, step))
                for number, (begins, inner) in enumerate(branches):
                    if number:
                        program.append(Op("next", unit, step))
                    lower(inner, f"{path}.{begins}", at, times, False)
                unit += 1
                names = {"scale": f"{path}.scale"} if end.get("learned") else {}
                program.append(Op(end["what"], unit, step, names, at, end=end, path=path, times=times))

    lower(numbered(layers), "", (), 0, True)
    return program


def _use(parameters: Mapping[str, Array], op: Op, leaf: str) -> Array:
    return np.asarray(parameters[op.names[leaf]][op.at])


def _functions(parameters: Mapping[str, Array], op: Op) -> tuple[Any, Any]:
    params = dict(op.params)
    if "slope" in op.names:
        params["init"] = _use(parameters, op, "slope")[0]
    return activation(op.function, params)


def forward(
    program: Sequence[Op], parameters: Mapping[str, Array], x: Array, training: Training | None = None
) -> tuple[Array, list[Any]]:
    """The output, and the input of every operation; where branches end, the list of what they end with."""
    inputs: list[Any] = []
    frames: list[
        list[Array]
    ] = []  # what went into the branches, and what has come out of those that are done
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
        elif op.what == "norm":
            x = oracle_norms.apply(op.function, op.params, x, training is not None)[0]
            x = x * (_use(parameters, op, "weight") if "weight" in op.names else 1.0)
            x = x + (_use(parameters, op, "bias") if "bias" in op.names else 0.0)
        elif op.what == "drop":
            x = x * mask(op.end["p"], training, op.path, op.times, x.shape)
        elif op.what == "fork":
            frames.append([x])
        elif op.what == "next":
            frames[-1].append(x)
            x = frames[-1][0]
        else:
            ends = [*frames.pop()[1:], x]
            inputs[-1] = ends
            x = meet(op.end, ends, *_strength(parameters, op, training))
    return x, inputs


def _strength(parameters: Mapping[str, Array], op: Op, training: Training | None) -> tuple[Any, float]:
    """A branch's factor, and whether it is there."""
    scale = _use(parameters, op, "scale")[0] if "scale" in op.names else op.end.get("scale", 1.0)
    return scale, presence(op.end, training, op.path, op.times)


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
    training: Training | None = None,
) -> Gradients:
    """Forward and backward through the network; either a cotangent or a loss with its target."""
    program = compile_program(layers)
    output, inputs = forward(program, parameters, np.asarray(x, np.float64), training)
    value = None
    if cotangent is None:
        value, cotangent = loss_and_gradient(loss or {}, output, target)
    units = program[-1].unit + 1
    grad, delta, weight, bias = (np.full(units, np.nan) for _ in range(4))
    kind, steps = np.zeros(units, np.int64), np.zeros(units, np.int64)
    collector = _Collector(parameters, program)
    g = Scaled.of(np.asarray(cotangent, np.float64))
    frames: list[list[Scaled]] = []  # gradients of branches to come, and of those that are done, added up
    for op, h in zip(reversed(program), reversed(inputs), strict=True):
        if op.what in ("fork", "next"):
            *rest, done = frames.pop()
            done = done + g
            if op.what == "fork":
                g = done
            else:
                g = rest.pop()
                frames.append([*rest, done])
            continue
        if op.last:
            grad[op.unit], steps[op.unit] = g.log2_norm(), op.step
            kind[op.unit] = KINDS[op.what]
        if op.what in ("join", "gate", "concat"):
            scale, there = _strength(parameters, op, training)
            if "scale" in op.names:
                product = h[1] * there
                m, e = g.sum_rows(lambda m, product=product: np.sum(m * product).reshape(1))
                collector.add(op.names["scale"], op.at, m, e)
            *rest, last = part(op.end, h, scale, there, g)
            frames.append([*rest, Scaled.of(np.zeros((len(last.m), 1)))])
            g = last
        elif op.what == "drop":
            g = Scaled.of(g.m * mask(op.end["p"], training, op.path, op.times, h.shape), g.e)
        elif op.what == "activation":
            if "slope" in op.names:
                m, e = g.sum_rows(lambda m, h=h: np.sum(m * np.where(h <= 0, h, 0.0)).reshape(1))
                collector.add(op.names["slope"], op.at, m, e)
            g = Scaled.of(g.m * _functions(parameters, op)[1](h), g.e)
            delta[op.unit] = g.log2_norm()
        elif op.what == "norm":
            kind[op.unit], delta[op.unit] = KINDS["norm"], g.log2_norm()
            hat, _ = oracle_norms.apply(op.function, op.params, h, training is not None)
            if "weight" in op.names:
                m, e = g.sum_rows(lambda m, hat=hat: np.sum(m * hat, axis=0))
                collector.add(op.names["weight"], op.at, m, e)
                weight[op.unit] = _norm2(m, e)
            if "bias" in op.names:
                m, e = g.sum_rows(lambda m: m.sum(axis=0))
                collector.add(op.names["bias"], op.at, m, e)
                bias[op.unit] = _norm2(m, e)
            gain = _use(parameters, op, "weight") if "weight" in op.names else 1.0
            if op.function == "batch":  # rows see each other: one exponent
                aligned, top = g.sum_rows(lambda m: m)
                g = Scaled(aligned, np.full(len(aligned), top))
            g = Scaled.of(oracle_norms.back(op.function, op.params, g.m * gain, h, training is not None), g.e)
        else:
            kind[op.unit], delta[op.unit] = KINDS["dense"], g.log2_norm()
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
    training: Training | None = None,
    h: float = 1e-60,
) -> float:
    """d loss(theta + t d) / dt at 0 by a complex step: one forward pass, no formula of a derivative, no
    cancellation."""
    moved = {name: value + 1j * h * directions.get(name, 0.0) for name, value in parameters.items()}
    start = np.asarray(x, complex)
    if x_direction is not None:
        start = start + 1j * h * x_direction
    output, _ = forward(compile_program(layers), moved, start, training)
    if cotangent is not None:
        return float(np.sum(output.imag * cotangent) / h)
    value, _ = loss_and_gradient(loss or {}, output, target, gradient=False)
    return float(np.imag(value) / h)
