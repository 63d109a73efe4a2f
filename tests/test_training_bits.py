"""Tests of the bits of trainings: resumed at any step, on any number of threads and instruction path, with
the update in the weight phase or behind it, they are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
import vgcore._progress_fit
from numpy.typing import NDArray

THREADS = (1, 2, 3, 7)
PATHS = vg.config()["isa_available"]
#: Changes nothing, but asks for a norm of all gradients: the update has to wait for the end of the pass.
WAITS = vg.ClipNorm(1e300, rule="pascanu")


def data(rows: int = 70) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(rows, 5)).astype(np.float32), rng.integers(0, 3, rows)


def network(dtype: str = "float32") -> vg.Network:
    step = vg.Residual([vg.Activation("prelu"), vg.Dense(9)], scale=0.5)
    layers = [
        vg.Dense(9),
        vg.Activation("tanh"),
        vg.Repeat(step, 4),
        vg.Repeat([vg.Dense(9), vg.Activation("tanh")], 3, tied=True),
        vg.BatchNorm(),
        vg.Residual([vg.LayerNorm(), vg.Dense(9)], learned=True, survival=0.6),
        vg.Highway(),
        vg.Dense(9, parametrization="weight_norm"),
        vg.Dropout(0.2),
        vg.Dense(3),
    ]
    return vg.Network(5, layers, dtype=dtype, rng=0)


def bits(net: vg.Network, history: vg.History | None = None) -> dict[str, Any]:
    found = {name: value.tobytes() for name, value in {**net.parameters(), **net.buffers()}.items()}
    if history is not None:
        arrays = {k: v for k, v in history.state.items() if isinstance(v, np.ndarray)}  # type: ignore[union-attr]
        found |= {f"state {k}": v.tobytes() for k, v in arrays.items()}
        found |= {"loss": history.loss.tobytes(), "norms": history.log2_grad_norm.tobytes()}
    return found


def optimizer(name: str) -> vg.optimizers.Optimizer:
    extra = {"sgd": {"momentum": 0.9}, "adam": {"amsgrad": True}, "rmsprop": {"centered": True}}
    return vg.optimizers.Optimizer(name, {"lr": 0.02, **extra.get(name, {})})


def fit(net: vg.Network, name: str, **options: Any) -> vg.History:
    x, y = data()
    return net.fit(x.astype(net.dtype), y, epochs=2, batch_size=16, optimizer=optimizer(name), **options)


@pytest.mark.parametrize("name", vg.optimizers.names())
def test_resumed_at_any_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgcore._progress_fit, "_PAUSE", 0.0)  # hears of every step
    options: dict[str, Any] = {
        "clip": [vg.AGC(0.5)],
        "constraint": vg.SpectralConstraint(2.0),
        "stats": "full",
    }
    whole = network()
    expected = bits(whole, fit(whole, name, **options))
    for at in range(1, 10):

        def stop(done: int, total: int, loss: float, at: int = at) -> None:
            if done == at:
                raise KeyboardInterrupt

        net = network()
        with pytest.raises(KeyboardInterrupt) as caught:
            fit(net, name, progress=stop, **options)
        history: vg.History = caught.value.history  # type: ignore[attr-defined]
        assert history.steps == at
        assert history.stopped == f"step {at}: interrupted"
        # Through a file and another network.
        twin = network()
        twin.load_parameters({**net.parameters(), **net.buffers()})
        resumed = fit(
            twin,
            name,
            resume=vg.History.from_dict(json.loads(json.dumps(_plain(history.to_dict())))),
            **options,
        )
        assert bits(twin, resumed) == expected, f"resumed at step {at}"
        assert resumed.stopped is None


def _plain(value: Any) -> Any:
    from vgcore._table import json_safe

    return json_safe(value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", vg.optimizers.names())
def test_the_two_ways_and_any_number_of_threads(name: str, dtype: str) -> None:
    before = vg.get_num_threads()
    try:
        found = []
        for threads in THREADS:
            vg.set_num_threads(threads)
            for clip in (None, WAITS):
                net = network(dtype)
                found.append(bits(net, fit(net, name, clip=clip, stats="full")))
    finally:
        vg.set_num_threads(before)
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("name", vg.optimizers.names())
def test_figures_do_not_depend_on_the_way(name: str) -> None:
    one, two = (fit(network(), name, clip=clip, stats="full") for clip in (None, WAITS))
    for of in ("update_ratio", "unchanged", "zero_weights", "dead", "log2_grad_norm"):
        a, b = getattr(one.records, of), getattr(two.records, of)
        assert a is not None
        assert a.tobytes() == b.tobytes(), of


def test_a_step_of_plain_sgd_is_net_step() -> None:
    x, y = data(16)
    step = [vg.Dense(9), vg.Activation("prelu"), vg.Dense(3)]
    one, two = (vg.Network(5, step, rng=0) for _ in range(2))
    one.fit(x, y, epochs=1, batch_size=16, optimizer=vg.SGD(0.3), shuffle=False)
    two.step(x, y, loss="cross_entropy", lr=0.3)
    assert bits(one) == bits(two)


@pytest.mark.parametrize("budget", [None, "2MB"])
def test_no_memory_plan_changes_a_bit(budget: str | None) -> None:
    x, y = data()
    deep = [vg.mlp(200, 16, in_features=5, out_features=3, activation="tanh", rng=0) for _ in range(2)]
    deep[0].fit(x, y, optimizer="adam")
    deep[1].fit(x, y, optimizer="adam", memory_budget=budget)
    assert bits(deep[0]) == bits(deep[1])


def sequences() -> tuple[vg.Network, dict[str, Any]]:
    rng = np.random.default_rng(5)
    net = vg.rnn("lstm", 8, in_features=3, out_features=2, read="every", rng=0)
    given = {
        "x": rng.normal(size=(20, 12, 3)).astype(np.float32),
        "y": rng.integers(0, 2, (20, 12)),
        "lengths": rng.integers(1, 13, 20),
    }
    return net, given


@pytest.mark.parametrize("name", vg.optimizers.names())
def test_along_time_with_lengths_and_truncation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgcore._progress_fit, "_PAUSE", 0.0)
    options: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 8,
        "truncate": 5,
        "stats": "full",
        "clip": vg.ClipNorm(0.5),
    }
    options["optimizer"] = optimizer(name)
    found = []
    before = vg.get_num_threads()
    try:
        for threads in THREADS:
            vg.set_num_threads(threads)
            net, given = sequences()
            found.append(bits(net, net.fit(**given, **options)))
    finally:
        vg.set_num_threads(before)

    def stop(done: int, total: int, loss: float) -> None:
        if done == 4:
            raise KeyboardInterrupt

    net, given = sequences()
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(**given, progress=stop, **options)
    found.append(bits(net, net.fit(**given, resume=caught.value.history, **options)))  # type: ignore[attr-defined]
    assert all(other == found[0] for other in found[1:])


CODE = """
import hashlib, sys
sys.path.insert(0, {tests!r})
import test_training_bits as t
import vgcore as vg
for name in vg.optimizers.names():
    for clip in (None, [vg.ClipValue(0.01), vg.AGC(0.1)], [vg.UnitNorm(), "sign"]):
        net = t.network()
        held = ["max_norm", "spectral", "orthogonal"]
        found = t.bits(net, t.fit(net, name, clip=clip, stats="full", constraint=held))
        print(name, hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest())
"""


def test_every_instruction_path_gives_the_same_bits() -> None:
    code = CODE.format(tests=str(Path(__file__).parent))
    found = {}
    for path in PATHS:
        environment = {**os.environ, "VGCORE_ISA": path}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        found[path] = done.stdout
    assert len(set(found.values())) == 1, found
    assert next(iter(found.values())).count("\n") == 3 * len(vg.optimizers.names())
