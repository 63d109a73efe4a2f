"""Benches, JAX's recurrent networks: one compiled function over `lax.scan`, with the norms of every step.

Knows no other library; imports jax when asked. Arrays are (time, batch, features), the order scan wants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UNROLL = (1, 4)


class Scan:
    """Gradients by jax.grad; a zero that is added to each state shows what arrives there.

    The gradient with respect to the zero added to h_t is dL/dh_t. The inputs of all steps are multiplied with
    W_ih at once, before the scan. ``late=True`` differentiates with respect to both products of each step
    instead of the weights, and makes the weights' gradients of all steps in one product after the scan.
    """

    def __init__(
        self, jax: Any, cell: str, weights: dict[str, Any], x: Any, y: Any, unroll: int, late: bool
    ) -> None:
        jnp, lax, nn = jax.numpy, jax.lax, jax.nn
        steps, batch, hidden = len(x), x.shape[1], weights["weight_hh"].shape[1]
        self.jax, self.states = jax, 2 if cell == "lstm" else 1

        def advance(weight_hh: Any, bias_hh: Any, carry: Any, step: Any) -> Any:
            p, zeros = step[:2]
            h = carry[0]
            q = h @ weight_hh.T
            if late and cell == "gru":
                q = q + step[2]
            if cell == "gru":
                (pr, pz, pn), (qr, qz, qn) = jnp.split(p, 3, 1), jnp.split(q + bias_hh, 3, 1)
                z = nn.sigmoid(pz + qz)
                n = jnp.tanh(pn + nn.sigmoid(pr + qr) * qn)
                return ((1 - z) * n + z * h + zeros[0],)
            if cell == "rnn":
                return (jnp.tanh(p + q) + zeros[0],)
            i, f, g, o = jnp.split(p + q, 4, 1)
            c = nn.sigmoid(f) * carry[1] + nn.sigmoid(i) * jnp.tanh(g) + zeros[1]
            return (nn.sigmoid(o) * jnp.tanh(c) + zeros[0], c)

        def last_state(w: Any, p: Any, *zeros: Any) -> tuple[Any, Any]:
            start = tuple(jnp.zeros((batch, hidden), x.dtype) for _ in range(self.states))

            def body(carry: Any, step: Any) -> tuple[Any, Any]:
                return advance(w["weight_hh"], w["bias_hh"], carry, step), carry[0] if late else None

            last, before = lax.scan(body, start, (p, *zeros), unroll=unroll)
            return last[0], before

        def project(w: Any, x: Any) -> Any:
            return x @ w["weight_ih"].T + (w["bias_ih"] if cell == "gru" else w["bias_ih"] + w["bias_hh"])

        def norms(arriving: Any) -> Any:
            return tuple(jnp.sqrt(jnp.sum(a * a, axis=(1, 2))) for a in arriving)

        def run(w: Any, zeros: Any, x: Any, y: Any) -> tuple[Any, Any]:
            def loss(w: Any, zeros: Any) -> Any:
                return jnp.mean((last_state(w, project(w, x), zeros)[0] - y) ** 2)

            gradients, arriving = jax.grad(loss, argnums=(0, 1))(w, zeros)
            return gradients, norms(arriving)

        def run_late(w: Any, zeros: Any, x: Any, y: Any) -> tuple[Any, Any]:
            def loss(p: Any, zeros: Any, *more: Any) -> tuple[Any, Any]:
                last, before = last_state(w, p, zeros, *more)
                return jnp.mean((last - y) ** 2), before

            p = project(w, x)
            more = (jnp.zeros_like(p),) if cell == "gru" else ()
            (delta, arriving, *others), before = jax.grad(loss, tuple(range(2 + len(more))), has_aux=True)(
                p, zeros, *more
            )
            inner = others[0] if others else delta
            both = (((0, 1), (0, 1)), ((), ()))
            gradients = {
                "weight_ih": lax.dot_general(delta, x, both),
                "weight_hh": lax.dot_general(inner, before, both),
                "bias_ih": delta.sum((0, 1)),
                "bias_hh": inner.sum((0, 1)),
            }
            return gradients, norms(arriving)

        self.compiled = jax.jit(run_late if late else run)
        self.arguments = jax.device_put(
            (weights, (jnp.zeros((steps, batch, hidden), x.dtype),) * self.states, x, y)
        )
        self.found: Any = None

    def step(self) -> None:
        """Forward and backward once, with all norms, and wait for it."""
        self.found = self.jax.block_until_ready(self.compiled(*self.arguments))

    def gradients(self) -> dict[str, Any]:
        """Return the weight gradients of the last call by PyTorch's names."""
        return dict(self.found[0])

    def norms(self) -> dict[str, Any]:
        """Return the norms of dL/dh_t, and of dL/dc_t where there is a c, of the last call."""
        return dict(zip("hc", self.found[1], strict=False))


def forms(
    cell: str, weights: dict[str, Any], x: Any, y: Any
) -> tuple[dict[str, dict[str, Callable[[], Any]]], str]:
    """Return contestant -> form -> maker, and, where there is none, why. ``x``: (time, batch, features)."""
    try:
        import jax
    except (ImportError, OSError) as error:
        return {}, f"cannot be imported ({type(error).__name__}: {str(error).splitlines()[0]})"

    def maker(unroll: int, late: bool) -> Callable[[], Scan]:
        return lambda: Scan(jax, cell, weights, x, y, unroll, late)

    found = {}
    for late in (False, True):
        for unroll in UNROLL:
            name = "lax.scan" + (", weights after it" if late else "")
            found[name + (f", unroll {unroll}" if unroll > 1 else "")] = maker(unroll, late)
    return {"jax scan": found}, ""
