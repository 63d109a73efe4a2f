"""Benches, PyTorch's training step in its best honest forms. Knows no other library; loads it when asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Manual:
    """The loop written out under no_grad, every operation into a buffer made beforehand.

    `addmm` fuses the bias, `tanh_backward` the derivative; the rate is folded into the first gradient.
    """

    def __init__(self, torch: Any, weight: Any, bias: Any, x: Any, y: Any, lr: float) -> None:
        self.torch = torch
        self.weight = torch.from_numpy(weight.copy())
        self.bias = None if bias is None else torch.from_numpy(bias.copy())
        self.target = torch.from_numpy(y.copy())
        self.lr = lr
        layers, batch, width = len(weight), *x.shape
        self.out = [torch.from_numpy(x.copy())] + [torch.empty(batch, width) for _ in range(layers)]
        self.gradient = torch.empty(layers, width, width)
        self.gradients = list(self.gradient)
        self.bias_gradient = torch.empty(layers, width)
        self.bias_gradients = list(self.bias_gradient)
        self.delta, self.carry = torch.empty(batch, width), torch.empty(batch, width)
        self.delta_turned = self.delta.t()
        self.weights = list(self.weight)
        self.turned = [w.t() for w in self.weights]
        self.biases = None if self.bias is None else list(self.bias)
        self.scale = 2 * lr / y.size
        self.found: list[Any] = []

    def step(self) -> None:
        """Take one step."""
        torch, out = self.torch, self.out
        with torch.inference_mode():
            for i, turned in enumerate(self.turned):
                if self.biases is None:
                    torch.mm(out[i], turned, out=out[i + 1])
                else:
                    torch.addmm(self.biases[i], out[i], turned, out=out[i + 1])
                torch.tanh_(out[i + 1])
            torch.sub(out[-1], self.target, out=self.carry).mul_(self.scale)
            backward = torch.ops.aten.tanh_backward.grad_input
            for i in range(len(self.weights) - 1, -1, -1):
                backward(self.carry, out[i + 1], grad_input=self.delta)
                if i:
                    torch.mm(self.delta, self.weights[i], out=self.carry)
                torch.mm(self.delta_turned, out[i], out=self.gradients[i])
                if self.biases is not None:
                    torch.sum(self.delta, 0, out=self.bias_gradients[i])
            self.found = torch._foreach_norm(self.gradients)
            torch._foreach_sub_(self.weights, self.gradients)
            if self.biases is not None:
                torch._foreach_sub_(self.biases, self.bias_gradients)

    def norms(self) -> Any:
        """Return the weight gradients' norms of the last step."""
        return self.torch.stack(self.found).numpy() / self.lr


class Autograd:
    """What users write: Linear and tanh, backward(), foreach norms and a foreach update."""

    def __init__(self, torch: Any, weight: Any, bias: Any, x: Any, y: Any, lr: float) -> None:
        self.torch, self.lr = torch, lr
        self.x, self.y = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
        self.weights = [torch.from_numpy(w.copy()).requires_grad_() for w in weight]
        self.biases = [] if bias is None else [torch.from_numpy(b.copy()).requires_grad_() for b in bias]
        self.found: list[Any] = []

    def step(self) -> None:
        """Take one step."""
        torch = self.torch
        h = self.x
        for i, weight in enumerate(self.weights):
            h = torch.tanh(torch.nn.functional.linear(h, weight, self.biases[i] if self.biases else None))
        parameters = self.weights + self.biases
        gradients = torch.autograd.grad(torch.nn.functional.mse_loss(h, self.y), parameters)
        with torch.no_grad():
            self.found = torch._foreach_norm(list(gradients[: len(self.weights)]))
            torch._foreach_add_(parameters, gradients, alpha=-self.lr)

    def norms(self) -> Any:
        """Return the weight gradients' norms of the last step."""
        return self.torch.stack(self.found).numpy()


def forms(
    threads: int, weight: Any, bias: Any, x: Any, y: Any, lr: float
) -> tuple[dict[str, Callable[[], Any]], str]:
    """Return name -> maker of each form, and, where there is none, why."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {}, f"cannot be imported ({type(error).__name__}: {str(error).splitlines()[0]})"
    torch.set_num_threads(threads)
    arrays = tuple(None if a is None else np.ascontiguousarray(a) for a in (weight, bias, x, y))
    return {
        "manual loop": lambda: Manual(torch, *arrays, lr),
        "autograd": lambda: Autograd(torch, *arrays, lr),
    }, ""
