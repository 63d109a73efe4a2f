"""Tests of weights that go to PyTorch's recurrent layers and back: names, shapes, order and bits, and its own
results where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import portable_data
from numpy.typing import NDArray

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
IN, HIDDEN = 3, 4


def torch_shapes(cell: str, layers: int, both: bool, bias: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a PyTorch layer's state_dict, in its order."""
    rows, shapes = GATES[cell] * HIDDEN, {}
    for layer in range(layers):
        width = IN if layer == 0 else HIDDEN * (1 + both)
        for end in (f"l{layer}", f"l{layer}_reverse")[: 1 + both]:
            shapes |= {f"weight_ih_{end}": (rows, width), f"weight_hh_{end}": (rows, HIDDEN)}
            if bias:
                shapes |= {f"bias_ih_{end}": (rows,), f"bias_hh_{end}": (rows,)}
    return shapes


def network(cell: str, layers: int, both: bool, bias: bool, dtype: str) -> vg.Network:
    return vg.rnn(
        cell,
        HIDDEN,
        in_features=IN,
        out_features=2,
        num_layers=layers,
        bidirectional=both,
        bias=bias,
        dtype=dtype,
        rng=0,
    )


def to_torch(net: vg.Network) -> dict[str, NDArray[Any]]:
    """The recurrent part of a network as a state_dict of arrays, as Recurrent's documentation says."""
    return {k.removeprefix("rnn."): v for k, v in net.parameters().items() if k.startswith("rnn.")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", list(GATES))
def test_a_state_dict_goes_there_and_back(cell: str, layers: int, both: bool, bias: bool, dtype: str) -> None:
    shapes = torch_shapes(cell, layers, both, bias)
    given = {
        name: portable_data(shape, seed, 0.5).astype(dtype)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    net = network(cell, layers, both, bias, dtype)
    assert {name: value.shape for name, value in to_torch(net).items()} == shapes
    assert list(to_torch(net)) == list(shapes)
    net.load_parameters(net.parameters() | {f"rnn.{name}": value for name, value in given.items()})
    for name, value in to_torch(net).items():
        assert value.dtype == dtype
        assert value.tobytes() == given[name].tobytes()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", list(GATES))
def test_pytorch_itself(cell: str, both: bool) -> None:
    torch = pytest.importorskip("torch")
    net = network(cell, 2, both, True, "float64")
    layer = getattr(torch.nn, cell.upper())(IN, HIDDEN, num_layers=2, bidirectional=both, batch_first=True)
    layer = layer.double()
    layer.load_state_dict({name: torch.tensor(value) for name, value in to_torch(net).items()})
    head = {key: torch.tensor(net.parameters()[f"output.{key}"]) for key in ("weight", "bias")}
    x = portable_data((2, 7, IN), 105, 1.0)
    _, after = layer(torch.tensor(x))
    h = after[0] if cell == "lstm" else after
    last = torch.cat([h[-2], h[-1]], -1) if both else h[-1]
    y = last @ head["weight"].T + head["bias"]
    np.testing.assert_allclose(net.forward(x), y.detach().numpy(), rtol=1e-12, atol=1e-14)
    v = portable_data(tuple(y.shape), 109, 1.0)
    (y * torch.tensor(v)).sum().backward()
    g = net.gradients(x, cotangent=v)
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(g[f"rnn.{name}"], parameter.grad.numpy(), rtol=1e-10, atol=1e-14)
    back = {f"rnn.{name}": value.numpy() for name, value in layer.state_dict().items()}
    assert all(value.tobytes() == net.parameters()[name].tobytes() for name, value in back.items())
