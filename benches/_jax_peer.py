"""Benches, JAX's training step in its best honest forms. Knows no other library; imports jax when asked.

One compiled function, its parameters donated so that the update happens in place; the layers go through
`lax.scan`, once as a plain loop and once eight layers unrolled at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Scan:
    """Backward written out, so that norms and update of a layer happen where its gradient is made."""

    def __init__(self, jax: Any, weight: Any, bias: Any, x: Any, y: Any, lr: float, unroll: int) -> None:
        jnp, lax = jax.numpy, jax.lax
        self.jax = jax
        biased = bias is not None
        scale = 2 / y.size

        def step(weights: Any, biases: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
            def forward(h: Any, layer: Any) -> tuple[Any, Any]:
                z = lax.dot_general(h, layer[0], (((1,), (1,)), ((), ())))
                out = jnp.tanh(z + layer[1]) if biased else jnp.tanh(z)
                return out, (h, out)

            def backward(carry: Any, layer: Any) -> tuple[Any, Any]:
                weight, bias, h, out = layer
                delta = carry * (1 - out * out)
                gradient = lax.dot_general(delta, h, (((0,), (0,)), ((), ())))
                square = jnp.vdot(gradient, gradient)
                new_bias = bias - lr * delta.sum(0) if biased else bias
                return delta @ weight, (weight - lr * gradient, new_bias, square)

            last, (below, outs) = lax.scan(forward, x, (weights, biases), unroll=unroll)
            top = scale * (last - y)
            _, result = lax.scan(backward, top, (weights, biases, below, outs), reverse=True, unroll=unroll)
            return result

        self.compiled = jax.jit(step, donate_argnums=(0, 1))
        self.x, self.y = jax.device_put(x), jax.device_put(y)
        self.weight = jax.device_put(weight.copy())
        self.bias = jax.device_put(bias.copy() if biased else weight[:, :0, 0].copy())
        self.squares: Any = None

    def step(self) -> None:
        """Take one step and wait for it."""
        self.weight, self.bias, self.squares = self.compiled(self.weight, self.bias, self.x, self.y)
        self.jax.block_until_ready((self.weight, self.bias, self.squares))

    def norms(self) -> Any:
        """Return the weight gradients' norms of the last step."""
        import numpy as np

        return np.sqrt(np.asarray(self.squares))


def forms(weight: Any, bias: Any, x: Any, y: Any, lr: float) -> tuple[dict[str, Callable[[], Any]], str]:
    """Return name -> maker of each form, and, where there is none, why."""
    try:
        import jax
    except (ImportError, OSError) as error:
        return {}, f"cannot be imported ({type(error).__name__}: {str(error).splitlines()[0]})"

    def maker(unroll: int) -> Callable[[], Scan]:
        return lambda: Scan(jax, weight, bias, x, y, lr, unroll)

    return {"lax.scan": maker(1), "lax.scan, unroll 8": maker(8)}, ""
