"""Benches, PyTorch's recurrent networks: the fused layer, and the loop over cells that shows every step.

Knows no other library; loads torch when asked. Arrays are (time, batch, features): PyTorch's own order, which
costs it no copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

STATES = {"rnn": 1, "gru": 1, "lstm": 2}


class Fused:
    """nn.LSTM, nn.GRU or nn.RNN and backward(): all weight gradients, and no way to see a step."""

    def __init__(self, torch: Any, cell: str, weights: dict[str, Any], x: Any, y: Any) -> None:
        self.torch = torch
        hidden = weights["weight_hh"].shape[1]
        kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
        self.layer = kind(x.shape[2], hidden)
        with torch.no_grad():
            for name, value in weights.items():
                getattr(self.layer, f"{name}_l0").copy_(torch.from_numpy(value))
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.found: Any = ()

    def step(self) -> None:
        """Forward and backward once."""
        out, _ = self.layer(self.x)
        loss = self.torch.nn.functional.mse_loss(out[-1], self.y)
        self.found = self.torch.autograd.grad(loss, list(self.layer.parameters()))

    def gradients(self) -> dict[str, Any]:
        """Return the weight gradients of the last call by PyTorch's names."""
        names = [name.removesuffix("_l0") for name, _ in self.layer.named_parameters()]
        return {name: value.numpy() for name, value in zip(names, self.found, strict=True)}

    def norms(self) -> dict[str, Any]:
        """Return nothing: the fused layer keeps its steps to itself."""
        return {}


class Loop:
    """A Python loop over steps; dL/dh_t (and dL/dc_t) from autograd, their norms in one foreach call.

    ``whole=True`` multiplies the inputs of all steps with W_ih at once, before the loop, and writes the cell
    out; else each step is nn.LSTMCell's, nn.GRUCell's or nn.RNNCell's own kernel.
    """

    def __init__(self, torch: Any, cell: str, weights: dict[str, Any], x: Any, y: Any, whole: bool) -> None:
        self.torch, self.cell, self.whole = torch, cell, whole
        self.weights = {n: torch.from_numpy(w.copy()).requires_grad_() for n, w in weights.items()}
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.found: Any = ()
        self.h_norms: Any = None
        self.c_norms: Any = None

    def step(self) -> None:
        """Forward and backward once, with all norms."""
        torch, w = self.torch, self.weights
        states = self._written_out() if self.whole else self._kernels()
        loss = torch.nn.functional.mse_loss(states[0][-1], self.y)
        every = [state for kind in states for state in kind]
        gradients = torch.autograd.grad(loss, [*w.values(), *every])
        self.found = gradients[: len(w)]
        steps = len(self.x)
        self.h_norms = torch.stack(torch._foreach_norm(gradients[len(w) : len(w) + steps]))
        if len(states) == 2:
            self.c_norms = torch.stack(torch._foreach_norm(gradients[len(w) + steps :]))

    def _kernels(self) -> list[list[Any]]:
        torch, w = self.torch, self.weights
        arguments = [w[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        h = c = torch.zeros(self.x.shape[1], w["weight_hh"].shape[1])
        hs, cs = [], []
        one = {"rnn": torch.rnn_tanh_cell, "gru": torch.gru_cell}.get(self.cell)
        for x in self.x.unbind(0):
            if one is None:
                h, c = torch.lstm_cell(x, (h, c), *arguments)
                cs.append(c)
            else:
                h = one(x, h, *arguments)
            hs.append(h)
        return [hs, cs] if cs else [hs]

    def _written_out(self) -> list[list[Any]]:
        torch, w = self.torch, self.weights
        h = c = torch.zeros(self.x.shape[1], w["weight_hh"].shape[1])
        hs, cs = [], []
        both = w["bias_ih"] if self.cell == "gru" else w["bias_ih"] + w["bias_hh"]
        projected = torch.nn.functional.linear(self.x, w["weight_ih"], both)
        turned = w["weight_hh"].t()
        for p in projected.unbind(0):
            if self.cell == "gru":
                q = torch.addmm(w["bias_hh"], h, turned)
                (pr, pz, pn), (qr, qz, qn) = p.chunk(3, 1), q.chunk(3, 1)
                z = torch.sigmoid(pz + qz)
                n = torch.tanh(torch.addcmul(pn, torch.sigmoid(pr + qr), qn))
                h = torch.lerp(n, h, z)
            else:
                a = torch.addmm(p, h, turned)
                if self.cell == "rnn":
                    h = torch.tanh(a)
                else:
                    i, f, g, o = a.chunk(4, 1)
                    c = torch.addcmul(torch.sigmoid(f) * c, torch.sigmoid(i), torch.tanh(g))
                    h = torch.sigmoid(o) * torch.tanh(c)
                    cs.append(c)
            hs.append(h)
        return [hs, cs] if cs else [hs]

    def gradients(self) -> dict[str, Any]:
        """Return the weight gradients of the last call by PyTorch's names."""
        return {name: value.numpy() for name, value in zip(self.weights, self.found, strict=True)}

    def norms(self) -> dict[str, Any]:
        """Return the norms of dL/dh_t, and of dL/dc_t where there is a c, of the last call."""
        found = {"h": self.h_norms.numpy()}
        return found | ({} if self.c_norms is None else {"c": self.c_norms.numpy()})


def forms(
    threads: int, cell: str, weights: dict[str, Any], x: Any, y: Any
) -> tuple[dict[str, dict[str, Callable[[], Any]]], str]:
    """Return contestant -> form -> maker, and, where there is none, why. ``x``: (time, batch, features)."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {}, f"cannot be imported ({type(error).__name__}: {str(error).splitlines()[0]})"
    torch.set_num_threads(threads)
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    module = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}[cell]
    return {
        "torch fused": {f"nn.{module}": lambda: Fused(torch, cell, weights, x, y)},
        "torch loop": {
            f"nn.{module}Cell": lambda: Loop(torch, cell, weights, x, y, whole=False),
            "written out": lambda: Loop(torch, cell, weights, x, y, whole=True),
        },
    }, ""
