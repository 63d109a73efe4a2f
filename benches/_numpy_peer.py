"""Benches, NumPy's training step in its best honest forms. Knows no other library.

Every array is allocated before the clock starts and every operation writes into one (`out=`). The learning
rate is folded into the first gradient, which saves the pass that would scale each weight gradient. Nothing is
computed that a training step does not need: no gradient of the input. Two layouts of the weights, and two
ways to go over the layers, are offered; the bench takes the fastest for the shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class NumpyStep:
    """Dense + tanh, mean squared error, SGD: one object holds parameters and all buffers.

    `weight`: (layers, out, in), `bias`: (layers, out) or None; copied. `layout`: "out_in" or "in_out", how
    weights lie. `stacked`: derivatives, weight gradients, norms and updates of all layers in one call each,
    after the sweep over the layers; else layer by layer while they are in cache.
    """

    def __init__(
        self, weight: Array, bias: Array | None, x: Array, y: Array, lr: float, layout: str, stacked: bool
    ) -> None:
        layers, width, _ = weight.shape
        batch = len(x)
        self.out_in = layout == "out_in"
        self.stacked = stacked
        self.weight = np.ascontiguousarray(weight if self.out_in else weight.transpose(0, 2, 1)).copy()
        self.bias = None if bias is None else bias.copy()
        self.lr = np.float32(lr)
        self.target = y.copy()
        # Activations of layer i are at i + 1; the input is at 0.
        self.out = np.empty((layers + 1, batch, width), np.float32)
        self.out[0] = x
        kept = layers if stacked else 1
        self.delta = np.empty((kept, batch, width), np.float32)
        self.slope = np.empty((kept, batch, width), np.float32)
        self.gradient = np.empty((kept, width, width), np.float32)
        self.bias_gradient = np.empty((kept, width), np.float32)
        self.carry = np.empty((batch, width), np.float32)
        self.squares = np.empty(layers, np.float32)
        self.ones = np.ones(batch, np.float32)
        self.one = np.float32(1)
        self.scale = np.float32(2 * lr / y.size)
        # Views are made once: a transpose costs as much as a small product.
        stored = list(self.weight)
        turned = [w.T for w in stored]
        self.forward_weights = turned if self.out_in else stored
        self.backward_weights = stored if self.out_in else turned
        self.flat = [g.reshape(-1) for g in self.gradient]

    def _forward(self) -> None:
        out, bias = list(self.out), self.bias
        x = out[0]
        for i, weight in enumerate(self.forward_weights):
            y = out[i + 1]
            np.matmul(x, weight, out=y)
            if bias is not None:
                np.add(y, bias[i], out=y)
            np.tanh(y, out=y)
            x = y
        np.subtract(x, self.target, out=self.carry)
        np.multiply(self.carry, self.scale, out=self.carry)

    def norms(self) -> NDArray[np.float32]:
        """Return the weight gradients' norms of the last step, (layers,)."""
        return np.sqrt(self.squares) / self.lr

    def step(self) -> None:
        """Take one step."""
        self._forward()
        if self.stacked:
            self._backward_stacked()
        else:
            self._backward_by_layer()

    def _backward_by_layer(self) -> None:
        delta, slope, gradient, flat = self.delta[0], self.slope[0], self.gradient[0], self.flat[0]
        delta_turned, bias_gradient, carry, one = delta.T, self.bias_gradient[0], self.carry, self.one
        out, squares = list(self.out), self.squares
        for i in range(len(out) - 2, -1, -1):
            y = out[i + 1]
            np.multiply(y, y, out=slope)
            np.subtract(one, slope, out=slope)
            np.multiply(carry, slope, out=delta)
            if i:
                np.matmul(delta, self.backward_weights[i], out=carry)
            if self.out_in:
                np.matmul(delta_turned, out[i], out=gradient)
            else:
                np.matmul(out[i].T, delta, out=gradient)
            squares[i] = np.vdot(flat, flat)
            weight = self.weight[i]
            np.subtract(weight, gradient, out=weight)
            if self.bias is not None:
                np.matmul(self.ones, delta, out=bias_gradient)
                row = self.bias[i]
                np.subtract(row, bias_gradient, out=row)

    def _backward_stacked(self) -> None:
        deltas, slopes, carry = list(self.delta), list(self.slope), self.carry
        np.multiply(self.out[1:], self.out[1:], out=self.slope)
        np.subtract(self.one, self.slope, out=self.slope)
        for i in range(len(deltas) - 1, -1, -1):
            delta = deltas[i]
            np.multiply(carry, slopes[i], out=delta)
            if i:
                np.matmul(delta, self.backward_weights[i], out=carry)
        below = self.out[:-1]
        if self.out_in:
            np.matmul(self.delta.transpose(0, 2, 1), below, out=self.gradient)
        else:
            np.matmul(below.transpose(0, 2, 1), self.delta, out=self.gradient)
        np.vecdot(
            self.gradient.reshape(len(deltas), -1), self.gradient.reshape(len(deltas), -1), out=self.squares
        )
        np.subtract(self.weight, self.gradient, out=self.weight)
        if self.bias is not None:
            np.matmul(self.ones, self.delta, out=self.bias_gradient)
            np.subtract(self.bias, self.bias_gradient, out=self.bias)


def forms(weight: Array, bias: Array | None, x: Array, y: Array, lr: float) -> dict[str, Callable[[], Any]]:
    """Return name -> maker of each form; making one allocates its buffers."""

    def maker(layout: str, stacked: bool) -> Callable[[], NumpyStep]:
        return lambda: NumpyStep(weight, bias, x, y, lr, layout, stacked)

    return {
        f"weights {layout}, {'stacked' if stacked else 'layer by layer'}": maker(layout, stacked)
        for layout in ("out_in", "in_out")
        for stacked in (False, True)
    }
