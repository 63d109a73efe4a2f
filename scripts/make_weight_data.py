"""Make tests/data/torch_weights.json: weight normalisation and standardisation, by PyTorch in float64.

Shares no code with vgcore. Run with an interpreter that has PyTorch and NumPy:

    python scripts/make_weight_data.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.parametrizations import weight_norm

TESTS = Path(__file__).resolve().parent.parent / "tests"
ABOUT = (
    "PyTorch CPU float64 reference values of parametrized linear layers. Row-major flattened; P(shape, seed, "
    "scale) as in helpers.portable_data; loss = sum(output * P(output.shape, 109, 1)). 'linear': Linear(3, "
    "2), weight P(.., 0, .5), bias P(.., 1, .5), x P((4, 3), 105, 1). 'chain_*': 4 x (Linear(5, 5), tanh), "
    "weights P(.., l, .8), biases P(.., 50 + l, .1), x P((6, 5), 105, 1); 'steps': SGD of 0.05, three times."
)
NAMES = ("weight_norm", "weight_standardized")


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(TESTS))
    from helpers import portable_data

    def tensor(shape: tuple[int, ...], seed: int, scale: float) -> Any:
        return torch.from_numpy(portable_data(shape, seed, scale))

    def linear(rows: int, cols: int, seeds: tuple[int, int], scales: tuple[float, float]) -> Any:
        made = torch.nn.Linear(cols, rows, dtype=torch.float64)
        with torch.no_grad():
            made.weight.copy_(tensor((rows, cols), seeds[0], scales[0]))
            made.bias.copy_(tensor((rows,), seeds[1], scales[1]))
        return made

    def flat(t: Any) -> list[float]:
        return t.detach().flatten().tolist()

    layer = weight_norm(linear(2, 3, (0, 1), (0.5, 0.5)), dim=0)
    x = tensor((4, 3), 105, 1.0).requires_grad_()
    y = layer(x)
    (y * tensor((4, 2), 109, 1.0)).sum().backward()
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    grads = {"grad_g": flat(g.grad), "grad_v": flat(v.grad), "grad_x": flat(x.grad)}
    cases: list[dict[str, Any]] = [{"case": "linear", "y": flat(y), **grads}]

    class Standardized(torch.nn.Module):
        """w = gain (v - mean) / ((std + eps) sqrt(fan_in)), std of the population."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.weight, self.bias = inner.weight, inner.bias
            self.gain = torch.nn.Parameter(torch.full((inner.weight.shape[0],), 1.25, dtype=torch.float64))

        def forward(self, h: Any) -> Any:
            centred = self.weight - self.weight.mean(1, keepdim=True)
            std = centred.square().mean(1, keepdim=True).sqrt()
            w = self.gain[:, None] * centred / ((std + 1e-3) * self.weight.shape[1] ** 0.5)
            return torch.nn.functional.linear(h, w, self.bias)

    for name in NAMES:
        wrap = Standardized if name == "weight_standardized" else weight_norm
        layers = [wrap(linear(5, 5, (k, 50 + k), (0.8, 0.1))) for k in range(4)]

        def parts(m: Any, name: str = name) -> tuple[Any, Any]:
            if name == "weight_norm":
                return m.parametrizations.weight.original1, m.parametrizations.weight.original0
            return m.weight, m.gain

        x = tensor((6, 5), 105, 1.0).requires_grad_()
        found: dict[str, Any] = {"case": f"chain_{name}"}
        for step in range(4):
            h = x
            for m in layers:
                h = torch.tanh(m(h))
            for p in [x, *(q for m in layers for q in (*parts(m), m.bias))]:
                p.grad = None
            (h * tensor((6, 5), 109, 1.0)).sum().backward()
            if step == 0:
                found["y"], found["grad_x"] = flat(h), flat(x.grad)
                for key, at in (("matrix", 0), ("vector", 1)):
                    found[f"grad_{key}"] = [flat(parts(m)[at].grad) for m in layers]
                found["grad_bias"] = [flat(m.bias.grad) for m in layers]
            if step == 3:
                for key, at in (("matrix", 0), ("vector", 1)):
                    found[f"steps_{key}"] = [flat(parts(m)[at]) for m in layers]
                found["steps_y"] = flat(h)
                break
            with torch.no_grad():
                for m in layers:
                    for p in (*parts(m), m.bias):
                        p -= 0.05 * p.grad
        cases.append(found)
    about = f"{ABOUT} PyTorch {torch.__version__}."
    lines = ",\n".join(json.dumps(case) for case in cases)
    (TESTS / "data" / "torch_weights.json").write_text(
        '{"_about": ' + json.dumps(about) + ',\n"cases": [\n' + lines + "\n]}\n"
    )


if __name__ == "__main__":
    main()
