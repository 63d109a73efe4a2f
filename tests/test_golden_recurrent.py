"""Tests of recurrent layers against PyTorch 2.13 in float64: outputs, last states, loss, every gradient, and
the norms of a long chain, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import assert_close, torch_golden
from helpers_time import GOLDEN, Golden, golden_case, long_gru
from networks_time import as_state, vg_network
from oracle_cells import CELLS

RTOL = 1e-12


def plain(scaled: tuple[Any, Any]) -> Any:
    """Mantissas and exponents of leading axes as plain numbers."""
    m, e = np.asarray(scaled[0]), np.asarray(scaled[1])
    return np.ldexp(m, e.reshape(e.shape + (1,) * (m.ndim - e.ndim)))


def network(case: Golden) -> vg.Network:
    return vg_network(case.layer, case.x.shape[2], case.parameters)


def test_every_recurrent_case_is_covered() -> None:
    assert {name for name, case in torch_golden().items() if "hidden" in case} == {*GOLDEN, "long_gru"}


@pytest.mark.parametrize("form", ["dict", "tuple"])
@pytest.mark.parametrize("name", GOLDEN)
def test_output_and_last_state(name: str, form: str) -> None:
    case = golden_case(name)
    state = as_state(case.layer, case.state)
    if form == "tuple":
        state = case.state if len(case.state) > 1 else case.state[0]
    y, last = network(case).forward(case.x, state=state, return_state=True)
    assert y.dtype == np.float64
    assert_close(y, case.expected["output"], RTOL, "output")
    assert list(last) == list(CELLS[case.layer.cell].states)
    for letter, value in last.items():
        assert_close(value, case.expected[f"{letter}_n"], RTOL, f"{letter}_n")
    assert_close(np.sum(y * case.cotangent), case.expected["loss"], RTOL, "loss")


@pytest.mark.parametrize("name", GOLDEN)
def test_gradients(name: str) -> None:
    case = golden_case(name)
    found = network(case).gradients(case.x, cotangent=case.cotangent, state=as_state(case.layer, case.state))
    assert_close(plain(found.scaled_input), case.expected["grad_x"], RTOL, "grad_x")
    assert_close(found.input, case.expected["grad_x"], RTOL, "grad_x")
    for letter in CELLS[case.layer.cell].states:
        assert_close(found[f"state.{letter}"], case.expected[f"grad_{letter}0"], RTOL, f"grad_{letter}0")
    for key, value in case.expected["grad_params"].items():
        assert_close(found[f"rnn.{key}"], value, RTOL, key)
    states = {f"state.{letter}" for letter in CELLS[case.layer.cell].states}
    assert set(found) - states == {f"rnn.{key}" for key in case.parameters}


@pytest.mark.parametrize("name", GOLDEN)
def test_names_shapes_and_order_are_those_of_pytorch(name: str) -> None:
    """The golden cases list parameters as PyTorch's state_dict does."""
    case = golden_case(name)
    shapes = network(case).parameter_shapes()
    assert list(shapes) == [f"rnn.{key}" for key in case.parameters]
    assert list(shapes.values()) == [value.shape for value in case.parameters.values()]


@pytest.mark.parametrize("name", GOLDEN)
def test_weights_go_in_and_out_unchanged(name: str) -> None:
    case = golden_case(name)
    for key, value in network(case).parameters().items():
        assert value.tobytes() == case.parameters[key.removeprefix("rnn.")].tobytes()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_last_step_is_read_as_pytorch_reads_it(name: str) -> None:
    """read="last" is the last step's output forwards and the first step's backwards."""
    case = golden_case(name)
    layer = replace(case.layer, read="last")
    net = vg_network(layer, case.x.shape[2], case.parameters)
    expected, hidden = case.expected["output"], layer.hidden
    wanted = expected[:, -1].copy()
    wanted[:, hidden:] = expected[:, 0, hidden:]
    assert_close(net.forward(case.x, state=as_state(layer, case.state)), wanted, RTOL, "last")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_long_gru(dtype: str) -> None:
    """log10 |dL/dh| 0 to 199 steps back from the end, down to 1e-28."""
    layer, parameters, x, v, back = long_gru()
    net = vg_network(layer, x.shape[2], parameters, dtype)
    flow = net.probe(x.astype(dtype), cotangent=v.astype(dtype))
    assert flow.axis == "time"
    assert flow.log10_grad_norm.shape == (x.shape[1],)
    norms = flow.log10_grad_norm[[-1 - steps for steps in back]]
    if dtype == "float64":
        assert_close(norms, list(back.values()), RTOL, "log10 |dL/dh|")
    else:
        np.testing.assert_allclose(norms, list(back.values()), rtol=0, atol=1e-4)
