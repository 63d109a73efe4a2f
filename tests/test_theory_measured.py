"""Tests of predictions from weights as they are: scaled on data, loaded or trained, and which are fresh."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import refused

RNG = np.random.default_rng(0)
X = RNG.normal(size=(128, 64)).astype("float32")
V = RNG.normal(size=(128, 64)).astype("float32")


def scaled(net: vg.Network, factor: float) -> vg.Network:
    twin = net.copy()
    twin.load_parameters({name: np.float32(factor) * value for name, value in net.parameters().items()})
    return twin


def measured(net: vg.Network) -> float:
    return float(net.probe(X, cotangent=V).decades_per_step)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_theory_beside_lsuv_is_of_the_weights_that_lsuv_made(activation: str) -> None:
    net = vg.mlp(60, 64, activation=activation, init="glorot_normal", rng=0)
    for cured in (net.mitigate("lsuv", x=X), net.lsuv(X)):
        curve, why = vg.mitigations.predict(cured, X)
        assert why == ""
        assert abs(curve.decades_per_step - measured(cured)) < 0.01
        assert curve.notes[0].startswith("weights were loaded, scaled or trained since they were drawn")
    found = net.doctor(X, np.arange(128) % 64, candidates=["lsuv"], steps=2, pairs=False)
    trial = found.trials[0]
    assert abs(trial.predicted - trial.decades_per_step) < 0.01


def test_loaded_weights_count_as_they_are() -> None:
    net = vg.mlp(10, 64, activation="tanh", rng=0)
    large = scaled(net, 5.0)
    assert vg.theory.predict(net).decades_per_step < 0.0 < vg.theory.predict(large).decades_per_step
    assert abs(vg.theory.predict(large).decades_per_step - measured(large)) < 0.05
    again = scaled(net, 1.0)
    fresh, same = (vg.theory.predict(n).decades_per_step for n in (net, again))
    assert fresh != same
    assert abs(fresh - same) < 0.002


@pytest.mark.parametrize(
    "cure",
    [
        *(
            "residual",
            "highway",
            "highway:coupled=false",
            "rezero",
            "batch_norm",
            "layer_norm",
            "weight_norm",
        ),
        *("weight_standardized", "dense_skip:2", "unet:2", "long_skip:3", "residual:layers=2"),
    ],
)
def test_every_layer_has_its_weights_looked_at(cure: str) -> None:
    """Reloaded weights are those of the law up to chance; twice as large ones are not."""
    net = vg.mlp(12, 64, activation="tanh", rng=0).mitigate(cure)
    fresh = vg.theory.predict(net)
    same = vg.theory.predict(scaled(net, 1.0))
    assert abs(fresh.decades_per_step - same.decades_per_step) < 0.01
    if cure == "rezero":
        values = {
            name: np.ones_like(v) if name.endswith("scale") else v for name, v in net.parameters().items()
        }
        open_, shut = net.copy(), fresh
        open_.load_parameters(values)
        plain = vg.mlp(12, 64, activation="tanh", rng=0).mitigate("residual")
        assert shut.decades_per_step == 0.0
        got, want = (vg.theory.predict(n).decades_per_step for n in (open_, plain))
        assert abs(got - want) < 0.01


def test_copies_of_a_repeat_each_have_their_own_law() -> None:
    net = vg.mlp(20, 64, activation="identity", init="orthogonal", bias=False, rng=0)
    weights = net.parameters()["hidden.weight"]
    factors = np.linspace(0.5, 1.5, 20).astype("float32")
    net.load_parameters({"hidden.weight": weights * factors[:, None, None]})
    curve, flow = vg.theory.predict(net).anchored(net.probe(X, cotangent=V)), net.probe(X, cotangent=V)
    # Orthogonal and linear: theory is exact, and finite width adds nothing.
    np.testing.assert_allclose(curve.log10_typical, flow.log10_grad_norm, atol=1e-4)


def test_along_time_too() -> None:
    net = vg.rnn("rnn", 64, in_features=3, bias=False, rng=0)
    x = RNG.normal(size=(64, 30, 3)).astype("float32")
    known = {"mean_square": 1.0, "steps": 30}
    assert abs(vg.theory.predict(net, **known).decades_per_step - _along(net, x)) < 0.02
    twice = scaled(net, 2.0)
    assert abs(vg.theory.predict(twice, **known).decades_per_step - _along(twice, x)) < 0.03


def _along(net: vg.Network, x: Any) -> float:
    flow = net.probe(x, cotangent=np.ones((64, 64), np.float32))
    return float(flow.log10_grad_norm[0] - flow.log10_grad_norm[-1]) / (flow.steps - 1)


def test_weights_that_theory_cannot_take_are_refused() -> None:
    net = vg.mlp(4, 8, rng=0)
    values = net.parameters()
    values["hidden.weight"][2, 1, 1] = np.nan
    net.load_parameters(values)
    with refused(vg.ArgumentError, "hidden.weight", "no finite numbers", "copy 2"):
        vg.theory.predict(net)
    net.load_parameters({name: np.full_like(value, 0.1) for name, value in values.items()})
    with refused(vg.ArgumentError, "weights of mean 0.1"):
        vg.theory.predict(net)


def test_what_counts_as_drawn(tmp_path: Path) -> None:
    net = vg.mlp(4, 64, skip="residual", rng=0)
    kept = [net, net.copy(), pickle.loads(pickle.dumps(net)), net.without([1]), net.mitigate("layer_norm")]
    kept.append(vg.depth.stochastic(net))
    assert not any(one.touched for one in kept)
    stepped, trained = net.copy(), net.copy()
    stepped.step(X, X, loss="mse", lr=0.1)
    trained.fit(X, X, loss="mse")
    loaded = scaled(net, 1.0)
    changed = [stepped, trained, loaded, trained.copy(), pickle.loads(pickle.dumps(trained))]
    changed += [trained.without([1]), trained.mitigate("layer_norm"), net.lsuv(X)]
    assert all(one.touched for one in changed)
    twin = net.copy()
    with pytest.raises(vg.VgcoreError):
        twin.step(X, X[:, :3], loss="mse", lr=0.1)
    with pytest.raises(vg.VgcoreError):
        twin.fit(X, X[:, :3], loss="mse")
    assert not twin.touched
    pytest.importorskip("safetensors")
    for number, one in enumerate((net, trained)):
        one.save(tmp_path / f"{number}.safetensors")
        assert vg.load(tmp_path / f"{number}.safetensors").touched == one.touched


def test_a_flow_that_was_measured_with_other_weights_asks_for_the_network() -> None:
    pytest.importorskip("matplotlib")
    net = vg.mlp(20, 64, activation="tanh", rng=0)
    large = scaled(net, 5.0)
    flow = large.probe(X, cotangent=V)
    with refused(vg.ArgumentError, "loaded, scaled or trained", "flow.plot(theory=net)"):
        flow.plot(theory=True)
    drawn = {line.get_label(): line.get_ydata() for line in flow.plot(theory=large).lines}
    want = vg.theory.predict(large, **{k: flow.meta[k] for k in ("mean_square", "mean", "batch")})
    np.testing.assert_allclose(drawn["theory, typical"], want.anchored(flow).log10_typical)
    first = net.copy().step(X, V, loss="mse", lr=0.1)  # measured before the step
    assert len(first.plot(theory=True).lines) == len(first.plot().lines) + 2
