"""Make tests/data/torch_training.json: trajectories of optimizers, and clipped gradients, by PyTorch.

Shares no code with vgcore. Run with an interpreter that has PyTorch and NumPy:

    python scripts/make_training_data.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

TESTS = Path(__file__).resolve().parent.parent / "tests"
ABOUT = (
    "PyTorch CPU float64 reference values. P(shape, seed, scale) as in helpers.portable_data. 'optimizers': "
    "five steps from w = P((4,), 0, 1) down sum 0.5 a (w - 1)^2 with a = [1, 10, 100, 0.1]; 'params' are "
    "PyTorch's arguments. 'clips': what torch.nn.utils make of gradients P((3,), 1, 3) and P((2, 2), 2, 3)."
)
CURVES = (1.0, 10.0, 100.0, 0.1)
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.01}),
    "sgd_momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "sgd_nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    "sgd_decay": ("SGD", {"lr": 0.01, "weight_decay": 0.3}),
    "adagrad": ("Adagrad", {"lr": 0.1}),
    "adagrad_decay": ("Adagrad", {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.05}),
    "rmsprop": ("RMSprop", {"lr": 0.02}),
    "rmsprop_momentum": ("RMSprop", {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.1}),
    "rmsprop_centered": ("RMSprop", {"lr": 0.02, "alpha": 0.9, "centered": True, "momentum": 0.5}),
    "adam": ("Adam", {"lr": 0.1}),
    "adam_amsgrad": ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.01}),
    "adam_betas": ("Adam", {"lr": 0.05, "betas": [0.8, 0.9], "eps": 1e-3}),
    "adamw": ("AdamW", {"lr": 0.1, "weight_decay": 0.2}),
    "adamw_amsgrad": ("AdamW", {"lr": 0.1, "weight_decay": 0.2, "amsgrad": True, "betas": [0.5, 0.6]}),
}


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(TESTS))
    from helpers import portable_data

    def tensor(shape: tuple[int, ...], seed: int, scale: float) -> Any:
        return torch.from_numpy(portable_data(shape, seed, scale))

    a = torch.tensor(CURVES, dtype=torch.float64)
    optimizers: dict[str, Any] = {}
    for name, (kind, params) in OPTIMIZERS.items():
        w = tensor((4,), 0, 1.0).requires_grad_()
        rule = getattr(torch.optim, kind)([w], **params)
        trajectory = []
        for _ in range(5):
            rule.zero_grad()
            (0.5 * a * (w - 1) ** 2).sum().backward()
            rule.step()
            trajectory.append(w.detach().tolist())
        optimizers[name] = {"kind": kind, "params": params, "trajectory": trajectory}

    clips: dict[str, Any] = {}
    for limit, norm in ((0.5, 2.0), (0.5, 1.0), (0.5, float("inf")), (100.0, 2.0)):
        g = [torch.zeros(3, dtype=torch.float64), torch.zeros((2, 2), dtype=torch.float64)]
        for t, seed in zip(g, (1, 2), strict=True):
            t.requires_grad_()
            t.grad = tensor(tuple(t.shape), seed, 3.0)
        total = torch.nn.utils.clip_grad_norm_(g, limit, norm_type=norm)
        found = [t.grad.flatten().tolist() for t in g if t.grad is not None]
        clips[f"norm_{norm}_{limit}"] = {
            "max_norm": limit,
            "norm_type": str(norm),
            "total": float(total),
            "g": found,
        }
    g = [torch.zeros(3, dtype=torch.float64), torch.zeros((2, 2), dtype=torch.float64)]
    for t, seed in zip(g, (1, 2), strict=True):
        t.requires_grad_()
        t.grad = tensor(tuple(t.shape), seed, 3.0)
    torch.nn.utils.clip_grad_value_(g, 0.7)
    clips["value"] = {"value": 0.7, "g": [t.grad.flatten().tolist() for t in g if t.grad is not None]}

    path = TESTS / "data" / "torch_training.json"
    about = f"{ABOUT} PyTorch {torch.__version__}."
    text = json.dumps({"_about": about, "optimizers": optimizers, "clips": clips}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
