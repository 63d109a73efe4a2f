"""Benches, networks of blocks in PyTorch. Knows no other library; loads it when asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Autograd:
    """What users write: functional layers, backward(), foreach norms and a foreach update."""

    def __init__(self, torch: Any, kind: str, start: dict[str, Any], x: Any, y: Any, lr: float) -> None:
        self.torch, self.lr, self.kind = torch, lr, kind
        self.x, self.y = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
        self.names = list(start)
        self.layers = len(next(iter(start.values())))
        self.parameters = [
            torch.from_numpy(np.ascontiguousarray(row)).requires_grad_()
            for name in self.names
            for row in start[name]
        ]
        width = x.shape[1]
        self.running = [(torch.zeros(width), torch.ones(width)) for _ in range(self.layers)]
        self.matrices = [i for i, p in enumerate(self.parameters) if p.ndim == 2]
        self.found: Any = None

    def part(self, ending: str) -> list[Any]:
        """Return a parameter, layer by layer."""
        at = next(i for i, name in enumerate(self.names) if name.endswith(ending)) * self.layers
        return self.parameters[at : at + self.layers]

    def normed(self) -> Any:
        """Return ``x + relu(norm(dense(x)))``, block after block."""
        f, h = self.torch.nn.functional, self.x
        parts = [self.part(e) for e in ("dense.weight", "dense.bias", "norm.weight", "norm.bias")]
        for i, (weight, bias, scale, shift) in enumerate(zip(*parts, strict=True)):
            z = f.linear(h, weight, bias)
            if self.kind == "batch_norm":
                z = f.batch_norm(z, *self.running[i], scale, shift, training=True)
            else:
                z = f.layer_norm(z, z.shape[1:], scale, shift)
            h = h + f.relu(z)
        return h

    def gated(self) -> Any:
        """Return ``t relu(dense(x)) + (1 - t) x``, layer after layer."""
        torch, h = self.torch, self.x
        f = torch.nn.functional
        ends = ("transform.weight", "transform.bias", "gate.weight", "gate.bias")
        for weight, bias, gate, gate_bias in zip(*(self.part(e) for e in ends), strict=True):
            t = torch.sigmoid(f.linear(h, gate, gate_bias))
            h = torch.lerp(h, f.relu(f.linear(h, weight, bias)), t)
        return h

    def step(self) -> None:
        """Take one step."""
        torch = self.torch
        out = self.gated() if self.kind == "highway" else self.normed()
        gradients = torch.autograd.grad(torch.nn.functional.mse_loss(out, self.y), self.parameters)
        with torch.no_grad():
            self.found = torch._foreach_norm([gradients[i] for i in self.matrices])
            torch._foreach_add_(self.parameters, gradients, alpha=-self.lr)

    def norms(self) -> dict[str, Any]:
        """Return the weight gradients' norms of the last step, (layers,) by the matrix's name."""
        values = self.torch.stack(self.found).numpy()
        names = [
            name for name in self.names if name.endswith(("dense.weight", "transform.weight", "gate.weight"))
        ]
        return {name: values[i * self.layers : (i + 1) * self.layers] for i, name in enumerate(names)}


def forms(
    kind: str, threads: int, start: dict[str, Any], x: Any, y: Any, lr: float
) -> tuple[dict[str, Callable[[], Any]], str]:
    """Return name -> maker of each form, and, where there is none, why."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {}, f"cannot be imported ({type(error).__name__}: {str(error).splitlines()[0]})"
    torch.set_num_threads(threads)
    return {"autograd": lambda: Autograd(torch, kind, start, x, y, lr)}, ""
