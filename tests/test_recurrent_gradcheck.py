"""Tests of the public gradient checker on networks along time: it passes what is right, finds what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import refused
from vgcore.gradients import Gradients
from vgcore.testing import GradientCheckError, check_gradients

BATCH, STEPS, IN, HIDDEN, OUT = 3, 5, 2, 4, 2


def network(cell: str = "lstm", **more: Any) -> vg.Network:
    options = {"in_features": IN, "out_features": OUT, "dtype": "float64", "rng": 0} | more
    return vg.rnn(cell, HIDDEN, **options)


def sequences(dtype: str = "float64") -> Any:
    return np.random.default_rng(0).standard_normal((BATCH, STEPS, IN)).astype(dtype)


def a_state(rows: int = 1) -> Any:
    return np.random.default_rng(1).standard_normal((rows, BATCH, HIDDEN))


@pytest.mark.parametrize("read", ["last", "every"])
@pytest.mark.parametrize("cell", vg.cells.names())
def test_every_cell(cell: str, read: str) -> None:
    net = network(cell, read=read)
    shape = (BATCH, OUT) if read == "last" else (BATCH, STEPS, OUT)
    v = np.random.default_rng(2).standard_normal(shape)
    rtol = 1e-5 if cell == "irnn" else None  # a kink may be near
    report = check_gradients(net, sequences(), cotangent=v, rtol=rtol)
    assert report.resolved > 60
    assert report.where != "nowhere"


@pytest.mark.parametrize(
    "more",
    [
        {"num_layers": 2},
        {"num_layers": 2, "residual": True},
        {"num_layers": 2, "bidirectional": True},
        {"state": "learned"},
        {"peephole": True},
        {"bias": False},
    ],
    ids=str,
)
def test_every_option(more: dict[str, Any]) -> None:
    net, y = network(read="every", **more), np.random.default_rng(3).integers(0, OUT, (BATCH, STEPS))
    lengths = np.array([STEPS, 2, 3])
    assert check_gradients(net, sequences(), y, loss="cross_entropy", lengths=lengths).resolved > 60
    rows = more.get("num_layers", 1) * (2 if more.get("bidirectional") else 1)
    state = a_state(rows), a_state(rows)
    if "state" not in more:  # a learned start has no gradient where a state is given
        assert check_gradients(net, sequences(), y, loss="cross_entropy", state=state).resolved > 60


def test_in_float32() -> None:
    net, v = network("gru", dtype="float32"), np.ones((BATCH, OUT), np.float32)
    assert check_gradients(net, sequences("float32"), cotangent=v).resolved > 60


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    net, v = network("gru"), np.ones((BATCH, OUT))
    right = vg.Network.gradients

    def wrong(self: vg.Network, *args: Any, **kwargs: Any) -> Gradients:
        g = right(self, *args, **kwargs)
        scaled = {name: g.scaled(name) for name in g}
        m, e = scaled["rnn.weight_hh_l0"]
        return Gradients(scaled | {"rnn.weight_hh_l0": (m * (1 + 1e-3), e)}, g.scaled_input)

    monkeypatch.setattr(vg.Network, "gradients", wrong)
    with pytest.raises(GradientCheckError, match=r"rnn\.weight_hh_l0"):
        check_gradients(net, sequences(), cotangent=v)


def test_sequences_are_for_networks_along_time() -> None:
    net, x = vg.mlp(2, IN, dtype="float64", rng=0), np.ones((1, IN))
    with refused(vg.ArgumentError, "lengths and state", "along depth"):
        check_gradients(net, x, cotangent=x, lengths=[1])
    with refused(vg.ArgumentError, "lengths and state", "a function"):
        check_gradients(np.sin, x, vjp=lambda x, v: v * np.cos(x), state=1)
