"""Benches, networks of blocks in JAX. Knows no other library; imports jax when asked.

One compiled function with donated parameters; the blocks go through `lax.scan`, whose gradient JAX derives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Scan:
    """Gradient of a scan over stacked parameters, norms of each layer's gradient, update."""

    def __init__(
        self, jax: Any, kind: str, start: dict[str, Any], x: Any, y: Any, lr: float, unroll: int
    ) -> None:
        jnp, lax = jax.numpy, jax.lax
        self.jax = jax

        def find(p: dict[str, Any], ending: str) -> Any:
            return next(value for name, value in p.items() if name.endswith(ending))

        def block(h: Any, p: dict[str, Any]) -> tuple[Any, None]:
            if kind == "highway":
                t = jax.nn.sigmoid(h @ find(p, "gate.weight").T + find(p, "gate.bias"))
                new = jnp.maximum(h @ find(p, "transform.weight").T + find(p, "transform.bias"), 0)
                return h + t * (new - h), None
            z = h @ find(p, "dense.weight").T + find(p, "dense.bias")
            axis = 0 if kind == "batch_norm" else 1
            centred = z - z.mean(axis, keepdims=True)
            scale = lax.rsqrt((centred * centred).mean(axis, keepdims=True) + 1e-5)
            z = centred * scale * find(p, "norm.weight") + find(p, "norm.bias")
            return h + jnp.maximum(z, 0), None

        def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
            out, _ = lax.scan(block, x, p, unroll=unroll)
            return jnp.mean((out - y) ** 2)

        def step(p: dict[str, Any], x: Any, y: Any) -> tuple[Any, Any]:
            g = jax.grad(loss)(p, x, y)
            squares = {name: (v * v).sum((1, 2)) for name, v in g.items() if v.ndim == 3}
            return {name: p[name] - lr * g[name] for name in p}, squares

        self.compiled = jax.jit(step, donate_argnums=(0,))
        self.x, self.y = jax.device_put(x), jax.device_put(y)
        self.parameters = {name: jax.device_put(value.copy()) for name, value in start.items()}
        self.squares: dict[str, Any] = {}

    def step(self) -> None:
        """Take one step and wait for it."""
        self.parameters, self.squares = self.compiled(self.parameters, self.x, self.y)
        self.jax.block_until_ready((self.parameters, self.squares))

    def norms(self) -> dict[str, Any]:
        """Return the weight gradients' norms of the last step, (layers,) by the matrix's name."""
        import numpy as np

        return {name: np.sqrt(np.asarray(value)) for name, value in self.squares.items()}


def forms(
    kind: str, start: dict[str, Any], x: Any, y: Any, lr: float
) -> tuple[dict[str, Callable[[], Any]], str]:
    """Return name -> maker of each form, and, where there is none, why."""
    try:
        import jax
    except (ImportError, OSError) as error:
        return {}, f"cannot be imported ({type(error).__name__}: {str(error).splitlines()[0]})"
    return {
        f"scan, unroll={unroll}": lambda unroll=unroll: Scan(jax, kind, start, x, y, lr, unroll)
        for unroll in (1, 4)
    }, ""
