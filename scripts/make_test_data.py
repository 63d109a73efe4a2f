"""Test-data tool: regenerates the reference files in tests/data; knows nothing of vgcore itself.

    python scripts/make_test_data.py activations     high-precision values and derivatives (needs mpmath)
    python scripts/make_test_data.py torch           PyTorch's own values and gradients (needs torch)
    python scripts/make_test_data.py norms           the same of its normalisations (needs torch)

Every number is written by a program that shares no code with the core, so that agreement means something.
Numbers outside the float64 range are kept as ("mantissa", exponent of ten) pairs of text and integer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
DIGITS = 300  # x - tanh(x) at 2^-140 loses 85 digits

# A grid of exact float32 numbers: every x below is the same number in float32, float64 and mpmath.
GRID = [0.0] + [
    s * v
    for v in (
        2.0**-140,
        2.0**-60,
        2.0**-20,
        0.0078125,
        0.1015625,
        0.25,
        0.5,
        0.75,
        1.0,
        1.1875,
        1.5,
        2.0,
        2.5,
        3.0,
        3.5,
        4.0,
        5.0,
        6.0,
        7.0,
        8.0,
        9.0,
        10.0,
        12.5,
        15.0,
        17.0,
        19.0,
        20.0,
        20.5,
        25.0,
        30.0,
        36.0,
        40.0,
        50.0,
        64.0,
        88.0,
        90.0,
        104.0,
        128.0,
        200.0,
        373.0,
        400.0,
        710.0,
        745.0,
        746.0,
        1000.0,
        4096.0,
    )
    for s in (1, -1)
]


def activation_formulas(
    mp: Any,
) -> dict[str, tuple[dict[str, float], Callable[[Any], Any], Callable[[Any], Any]]]:
    """name -> (parameters, value, derivative) in mpmath; derivatives written so that DIGITS suffice at any
    x."""
    m = mp.mpf
    alpha = m("1.6732632423543772848170429916717")
    scale = m("1.0507009873554804934193349852946")
    one, half, two = m(1), m(1) / 2, m(2)

    def sig(x: Any) -> Any:
        return one / (one + mp.exp(-x))

    def sech2(x: Any) -> Any:
        e = mp.exp(-two * abs(x))
        return 4 * e / (1 + e) ** 2

    def cdf(x: Any) -> Any:
        return mp.erfc(-x / mp.sqrt(2)) / 2

    def pdf(x: Any) -> Any:
        return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)

    def elu(a: Any, width: Any, s: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        return (
            lambda x: s * x if x > 0 else s * a * mp.expm1(x / width),
            lambda x: s * one if x > 0 else s * a / width * mp.exp(x / width),
        )

    def clip(x: Any, low: Any, high: Any) -> Any:
        return min(max(x, low), high)

    def box(low: Any, high: Any, slope: Any) -> Callable[[Any], Any]:
        return lambda x: slope if low < x < high else m(0)

    def softplus(beta: Any, threshold: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        return (
            lambda x: x if x * beta > threshold else mp.log1p(mp.exp(beta * x)) / beta,
            lambda x: one if x * beta > threshold else sig(beta * x),
        )

    def gelu_tanh_u(x: Any) -> tuple[Any, Any]:
        c, k = mp.sqrt(two / mp.pi), m(0.044715)
        return c * (x + k * x**3), c * (1 + 3 * k * x * x)

    def gelu_tanh_slope(x: Any) -> Any:
        u, du = gelu_tanh_u(x)
        return sig(2 * u) + 2 * x * du * sig(2 * u) * sig(-2 * u)

    def mish(x: Any) -> Any:
        return x * mp.tanh(mp.log1p(mp.exp(x)))

    def mish_slope(x: Any) -> Any:
        s = mp.log1p(mp.exp(x))
        return mp.tanh(s) + x * sig(x) * sech2(s)

    def silu(beta: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        return lambda x: x * sig(beta * x), lambda x: sig(beta * x) * (1 + beta * x * sig(-beta * x))

    def leaky(slope: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        return lambda x: x if x > 0 else m(slope) * x, lambda x: one if x > 0 else m(slope)

    def hardswish_slope(x: Any) -> Any:
        return one if x >= 3 else (m(0) if x <= -3 else x / 3 + half)

    c1, c2 = m(1.7159), two / 3
    return {
        "identity": ({}, lambda x: x, lambda x: one),
        "sigmoid": ({}, sig, lambda x: sig(x) * sig(-x)),
        "tanh": ({}, mp.tanh, sech2),
        "relu": ({}, lambda x: max(x, m(0)), lambda x: one if x > 0 else m(0)),
        "leaky_relu": ({"negative_slope": 0.01}, *leaky(0.01)),
        "prelu": ({"init": 0.25}, *leaky(0.25)),
        "elu": ({"alpha": 1.0}, *elu(one, one, one)),
        "elu:alpha=0.5": ({"alpha": 0.5}, *elu(half, one, one)),
        "selu": ({}, *elu(alpha, one, scale)),
        "celu": ({"alpha": 1.0}, *elu(one, one, one)),
        "celu:alpha=2": ({"alpha": 2.0}, *elu(two, two, one)),
        "silu": ({"beta": 1.0}, *silu(one)),
        "silu:beta=1.5": ({"beta": 1.5}, *silu(m(1.5))),
        "gelu": ({}, lambda x: x * cdf(x), lambda x: cdf(x) + x * pdf(x)),
        "gelu_tanh": ({}, lambda x: x * sig(2 * gelu_tanh_u(x)[0]), gelu_tanh_slope),
        "mish": ({}, mish, mish_slope),
        "softplus": ({"beta": 1.0, "threshold": 20.0}, *softplus(one, m(20))),
        "softplus:beta=2,threshold=5": ({"beta": 2.0, "threshold": 5.0}, *softplus(two, m(5))),
        "softsign": ({}, lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
        "erf": ({}, mp.erf, lambda x: two / mp.sqrt(mp.pi) * mp.exp(-x * x)),
        "arctan": ({}, mp.atan, lambda x: 1 / (1 + x * x)),
        "hardtanh": ({"min_val": -1.0, "max_val": 1.0}, lambda x: clip(x, -one, one), box(-1, 1, one)),
        "hardsigmoid": ({}, lambda x: clip(x / 6 + half, m(0), one), box(-3, 3, one / 6)),
        "hardswish": ({}, lambda x: x * clip(x / 6 + half, m(0), one), hardswish_slope),
        "relu6": ({}, lambda x: clip(x, m(0), m(6)), box(0, 6, one)),
        "logsigmoid": ({}, lambda x: -mp.log1p(mp.exp(-x)), lambda x: sig(-x)),
        "tanhshrink": ({}, lambda x: x - mp.tanh(x), lambda x: mp.tanh(x) ** 2),
        "lecun_tanh": ({}, lambda x: c1 * mp.tanh(c2 * x), lambda x: c1 * c2 * sech2(c2 * x)),
    }


def decimal_pair(mp: Any, value: Any) -> list[Any]:
    """(mantissa text with 22 digits, exponent of ten) of one number; exact zero is ["0", 0]."""
    if value == 0:
        return ["0", 0]
    exponent = int(mp.floor(mp.log10(abs(value))))
    return [mp.nstr(value / mp.mpf(10) ** exponent, 22, strip_zeros=True), exponent]


def write_activations() -> Path:
    """Tabulate every activation over the grid: the truth the core's derivatives are measured against."""
    import mpmath as mp

    cases = []
    with mp.workdps(DIGITS):
        for key, (params, value, slope) in activation_formulas(mp).items():
            points = []
            for x in GRID:
                arg = mp.mpf(x)
                points.append({"x": x, "y": decimal_pair(mp, value(arg)), "dy": decimal_pair(mp, slope(arg))})
            cases.append({"case": key, "name": key.split(":")[0], "params": params, "points": points})
    path = DATA / "activations_mpmath.json"
    about = (
        f"Values and derivatives of every activation, mpmath {mp.__version__}; y and dy are "
        "[mantissa, exponent of ten]; "
        "parameters given as Python floats are used exactly; at kinks the derivative is PyTorch's choice."
    )
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text('{"_about": ' + json.dumps(about) + ',\n"cases": [\n' + lines + "\n]}\n")
    return path


def write_torch() -> Path:
    """Ask PyTorch again for each case of torch_golden.json and replace its numbers."""
    try:
        import torch
    except ImportError:
        sys.exit("this part needs PyTorch: pip install torch")
    from torch.nn import functional as F

    path = DATA / "torch_golden.json"
    golden = json.loads(path.read_text())
    sys.path.insert(0, str(DATA.parent))
    from helpers import portable_data

    functions: dict[str, Callable[[Any], Any]] = {
        "act_relu": F.relu,
        "act_leaky_relu_001": lambda x: F.leaky_relu(x, 0.01),
        "act_selu": F.selu,
        "act_celu_a2": lambda x: F.celu(x, 2.0),
        "act_sigmoid": torch.sigmoid,
        "act_tanh": torch.tanh,
        "act_silu": F.silu,
        "act_gelu": F.gelu,
        "act_gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "act_mish": F.mish,
        "act_softplus": F.softplus,
        "act_softplus_b2_t5": lambda x: F.softplus(x, 2.0, 5.0),
        "act_hardsigmoid": F.hardsigmoid,
        "act_hardswish": F.hardswish,
        "act_tanhshrink": F.tanhshrink,
    }

    def tensor(shape: tuple[int, ...], seed: int, scale: float) -> Any:
        return torch.from_numpy(portable_data(shape, seed, scale)).requires_grad_()

    for case in golden["cases"]:
        name = case["case"]
        if name in functions:
            x = torch.tensor(case["x"], dtype=torch.float64, requires_grad=True)
            y = functions[name](x)
            y.sum().backward()
            case["y"], case["dy"] = y.tolist(), x.grad.tolist()
        elif name.startswith(("cross_entropy", "smooth_l1")):
            x = tensor((4, 3), 105, 1.0) if name.startswith("cross") else tensor((6,), 105, 3.0)
            if name.startswith("cross"):
                target = torch.tensor([0, 2, 1, 2])
                loss = F.cross_entropy(x, target, label_smoothing=0.1 if "ls0.1" in name else 0.0)
            else:
                loss = F.smooth_l1_loss(x, torch.zeros_like(x))
            loss.backward()
            case["loss"], case["grad"] = loss.item(), x.grad.flatten().tolist()
        elif name.startswith("deep_mlp"):
            function = functions["act_" + name.rsplit("_", 1)[1]]
            n, depth = case["n"], case["L"]
            h, pre = tensor((n,), 105, 1.0), []
            for layer in range(depth):
                pre.append(tensor((n, n), layer, case["scale"]) @ h)
                pre[-1].retain_grad()
                h = function(pre[-1])
            (h * tensor((n,), 109, 1.0)).sum().backward()
            case["log10_norm_dL_dpre"] = [torch.log10(p.grad.norm()).item() for p in pre]
        elif "hidden" in case:
            (long_gru if name == "long_gru" else recurrent)(torch, tensor, case)
    lines = ",\n".join(json.dumps(case) for case in golden["cases"])
    path.write_text('{"_about": ' + json.dumps(golden["_about"]) + ',\n"cases": [\n' + lines + "\n]}\n")
    return path


def recurrent(torch: Any, tensor: Callable[..., Any], case: dict[str, Any]) -> None:
    """Output, last states, loss and every gradient of torch.nn.RNN, LSTM or GRU in one case."""
    kind = {"rnn_tanh": "RNN", "gru": "GRU"}.get(case["case"], "LSTM")
    sizes = (case["input_size"], case["hidden"], case["layers"])
    net = getattr(torch.nn, kind)(*sizes, bidirectional=case["bidirectional"]).double()

    def asked(what: str) -> Any:
        return tensor(tuple(case[what]["shape"]), case[what]["seed"], case[what]["scale"])

    with torch.no_grad():
        for name, entry in case["params"].items():
            getattr(net, name).copy_(tensor(tuple(entry["shape"]), entry["seed"], entry["scale"]))
    x, h0 = asked("x"), asked("h0")
    c0 = asked("c0") if "c0" in case else None
    y, last = net(x, h0 if c0 is None else (h0, c0))
    h_n, c_n = (last, None) if c0 is None else last
    loss = (y * tensor(tuple(y.shape), 109, 1.0)).sum()
    loss.backward()
    case["output"], case["h_n"], case["loss"] = y.flatten().tolist(), h_n.flatten().tolist(), loss.item()
    case["grad_x"], case["grad_h0"] = x.grad.flatten().tolist(), h0.grad.flatten().tolist()
    case["grad_params"] = {name: p.grad.flatten().tolist() for name, p in net.named_parameters()}
    if c0 is not None:
        case["c_n"], case["grad_c0"] = c_n.flatten().tolist(), c0.grad.flatten().tolist()


def long_gru(torch: Any, tensor: Callable[..., Any], case: dict[str, Any]) -> None:
    """log10 |dL/dh| of torch.nn.GRUCell, step by step backwards from the end."""
    width, cell = case["hidden"], torch.nn.GRUCell(case["input_size"], case["hidden"]).double()
    with torch.no_grad():
        for seed, parameter in enumerate(cell.parameters()):
            parameter.copy_(tensor(tuple(parameter.shape), seed, 0.5))
    x, h = tensor(tuple(case["x"]["shape"]), 105, 1.0), torch.zeros(1, width).double()
    states = []
    for t in range(case["T"]):
        h = cell(x[t : t + 1], h)
        h.retain_grad()
        states.append(h)
    (h * tensor((1, width), 109, 1.0)).sum().backward()
    back = case["log10_norm_dL_dh_at_steps_back"]
    for steps in back:
        back[steps] = torch.log10(states[-1 - int(steps)].grad.norm()).item()


def write_norms() -> Path:
    """Values, gradients and running statistics of PyTorch's normalisations in training."""
    import torch

    sys.path.insert(0, str(DATA.parent))
    from helpers import portable_data

    def data(shape: tuple[int, ...], seed: int, scale: float) -> Any:
        return torch.tensor(portable_data(tuple(shape), seed, scale))

    layers: dict[str, tuple[tuple[int, ...], Any]] = {
        "batchnorm1d_train": ((6, 3), torch.nn.BatchNorm1d(3)),
        "batchnorm1d_cumulative": ((5, 4), torch.nn.BatchNorm1d(4, momentum=None)),
        "layernorm": ((4, 6), torch.nn.LayerNorm(6)),
        "rmsnorm_eps1e-6": ((4, 5), torch.nn.RMSNorm(5, eps=1e-6)),
        "rmsnorm_default": ((4, 7), torch.nn.RMSNorm(7)),
        "groupnorm_3": ((4, 6), torch.nn.GroupNorm(3, 6)),
    }
    cases = []
    for name, (shape, layer) in layers.items():
        layer = layer.double()
        with torch.no_grad():
            for j, (leaf, p) in enumerate(layer.named_parameters()):
                p.copy_(data(p.shape, 201 + j, 0.5) + (leaf == "weight"))
        x = data(shape, 105, 1.0).requires_grad_()
        y = layer(x)
        (y * data(shape, 109, 1.0)).sum().backward()
        case: dict[str, Any] = {"case": name, "x_shape": shape}
        case |= {"y": y.flatten().tolist(), "grad_x": x.grad.flatten().tolist()}
        case["grad_params"] = {leaf: p.grad.tolist() for leaf, p in layer.named_parameters()}
        case |= {leaf: b.tolist() for leaf, b in layer.named_buffers() if leaf.startswith("running")}
        cases.append(case)
    about = f"PyTorch {torch.__version__} CPU float64: normalisation in training, one pass. "
    about += "x = P(shape, 105, 1), weight = 1 + P(shape, 201, 0.5), bias = P(shape, 202, 0.5), "
    about += "loss = sum(y * P(shape, 109, 1))."
    path = DATA / "torch_norms.json"
    path.write_text(json.dumps({"_about": about, "cases": cases}, indent=1) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Regenerate the reference files in tests/data.")
    parser.add_argument("what", choices=["activations", "torch", "norms"])
    choice = parser.parse_args().what
    print({"activations": write_activations, "torch": write_torch, "norms": write_norms}[choice]())


if __name__ == "__main__":
    main()
