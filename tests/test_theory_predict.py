"""Tests of vg.theory.predict: the curve it expects, against what probes of real networks measure.

Means of squared norms are compared with the expected curve, means of logarithms with the typical one, each
within four standard errors and the O(1/width) that theory leaves out.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers_theory import ACTIVATIONS, entries, ids, label
from numpy.typing import NDArray
from vgcore import theory
from vgcore.theory.gaussian import as_phi
from vgcore.theory.prediction import _predict_time

FloatArray = NDArray[np.float64]


def measured(make: Any, seeds: int, batch: int = 1) -> tuple[FloatArray, FloatArray]:
    """log10_grad_norm and log10_delta_norm of `seeds` networks, each relative to its last step's gradient."""
    grads, deltas = [], []
    for seed in range(seeds):
        net, rng = make(seed), np.random.default_rng(1000 + seed)
        x = rng.normal(size=(batch, net.in_features))
        x *= np.sqrt(net.in_features) / np.linalg.norm(x, axis=1, keepdims=True)
        v = rng.normal(size=(batch, net.out_features))
        flow = net.probe(x.astype(net.dtype), cotangent=v.astype(net.dtype))
        top = flow.log10_grad_norm[-1]
        grads.append(np.concatenate([[flow.log10_input_grad_norm], flow.log10_grad_norm]) - top)
        deltas.append(flow.log10_delta_norm - top)
    return np.array(grads), np.array(deltas)


def assert_agrees(
    make: Any, seeds: int = 12, batch: int = 1, slack: float = 0.12, **kw: Any
) -> theory.Prediction:
    """Both curves at every step, slack growing with the distance from the output."""
    expected = theory.predict(make(0), **kw)
    grads, _ = measured(make, seeds, batch)
    typical, spread = grads.mean(axis=0), grads.std(axis=0, ddof=1) / math.sqrt(seeds)
    far = np.linspace(1.0, 0.0, grads.shape[1])
    allowed = 4 * spread + slack * far + 0.02
    input_typical = expected.log10_input_grad_norm + expected.log10_typical[0] - expected.log10_grad_norm[0]
    got = np.concatenate([[input_typical], expected.log10_typical])
    assert np.all(np.abs(typical - got)[1:] <= allowed[1:]), np.max(np.abs(typical - got) - allowed)
    assert np.all(np.abs(typical - got)[0] <= allowed[0] + 0.1)
    assert expected.steps == make(0).num_steps
    return expected


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_every_activation(activation: str | vg.Activation) -> None:
    """30 layers of width 128 with the initializer that fits, input and output layers of other widths."""

    def make(seed: int) -> vg.Network:
        return vg.mlp(
            30, 128, in_features=96, out_features=24, activation=activation, sigma_b2=0.05, rng=seed
        )

    expected = assert_agrees(make, seeds=10, slack=0.35)
    assert np.all(np.isfinite(expected.log10_sd))


@pytest.mark.parametrize("n", [64, 128, 256])
@pytest.mark.parametrize(
    ("activation", "w"), [("relu", 2.0), ("identity", 1.0), ("tanh", 1.5), ("sigmoid", 1.0)]
)
def test_several_widths(activation: str, w: float, n: int) -> None:
    """Typical norm and its spread between networks: the finite-width law, with a number at each width."""

    def make(seed: int) -> vg.Network:
        return vg.mlp(40, n, activation=activation, sigma_w2=w, rng=seed)

    expected, seeds = theory.predict(make(0)), 40
    grads, _ = measured(make, seeds)
    first, law = grads[:, 1], expected.log10_sd[0]
    assert abs(first.mean() - expected.log10_typical[0]) < 4 * law / math.sqrt(seeds) + 6.0 / n
    # Standard deviation of a sample standard deviation: law / sqrt(2 (n - 1)).
    assert abs(first.std(ddof=1) - law) < 4 * law / math.sqrt(2 * (seeds - 1)) + 4.0 / n
    half = math.log10(np.mean(10.0 ** (2 * first))) / 2  # mean of squares: what infinite width says
    assert abs(half - expected.log10_grad_norm[0]) < 5 * law / math.sqrt(seeds) + 6.0 / n


STACKS: dict[str, list[vg.Layer]] = {
    "pre-activation": [vg.Repeat(vg.Residual([vg.Activation("relu"), vg.Dense(64)], scale=0.3), 60)],
    "two layers": [
        vg.Dense(64),
        vg.Repeat(vg.Residual([vg.Dense(64), vg.Activation("tanh"), vg.Dense(64)], scale=0.3), 40),
        vg.Activation("tanh"),
        vg.Dense(10),
    ],
    "orthogonal": [
        vg.Repeat(
            [
                vg.Dense(96, init="orthogonal"),
                vg.Activation("tanh"),
                vg.Dense(64, init="orthogonal"),
                vg.Activation("relu"),
            ],
            20,
        )
    ],
    "activation first": [vg.Repeat([vg.Activation("gelu"), vg.Dense(64, sigma_w2=1.8, sigma_b2=0.1)], 20)],
    "bias mean": [
        vg.Repeat(
            [
                vg.Dense(64, init="he_normal", bias_init=vg.initializers.constant(value=0.5)),
                vg.Activation("relu"),
            ],
            15,
        )
    ],
    "uniform": [
        vg.Repeat([vg.Dense(64, init="standard", bias_init="standard"), vg.Activation("softsign")], 15)
    ],
    "nested": [
        vg.Repeat([vg.Repeat([vg.Dense(64), vg.Activation("tanh")], 3), vg.Dense(64)], 6),
        vg.Dense(5),
    ],
    "truncated": [
        vg.Repeat([vg.Dense(64, init=vg.initializers.variance_scaling(scale=1.5)), vg.Activation("elu")], 15)
    ],
    "fan-out": [
        vg.Repeat(
            [
                vg.Dense(128, init=vg.initializers.he_normal(mode="fan_out")),
                vg.Activation("relu"),
                vg.Dense(64, init=vg.initializers.he_normal(mode="fan_out")),
                vg.Activation("relu"),
            ],
            10,
        )
    ],
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks(name: str) -> None:
    assert_agrees(lambda seed: vg.Network(64, STACKS[name], rng=seed), seeds=12, slack=0.25)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_residual_networks(activation: str) -> None:
    """x + phi(W x): for ReLU and sigmoid the branch has a mean, and gradient flows along the signal too."""

    def make(seed: int) -> vg.Network:
        return vg.mlp(40, 96, activation=activation, skip="residual", rng=seed)

    expected = assert_agrees(make, seeds=12, slack=0.3)
    assert bool(expected.notes) == (activation != "tanh")
    if activation == "relu":  # three decades above the infinite-width curve, and predicted
        assert expected.log10_finite[0] - expected.log10_grad_norm[0] > 1.5


def test_residual_network_with_a_narrow_head() -> None:
    """The gradient along the signal starts as a share 1/8 at a head of 8 units, not 1/96."""
    layers = [vg.Repeat(vg.Residual([vg.Dense(96), vg.Activation("relu")]), 40), vg.Dense(8)]
    expected = assert_agrees(lambda seed: vg.Network(96, layers, rng=seed), seeds=24, slack=0.1)
    assert expected.log10_finite[0] - expected.log10_grad_norm[0] > 1.5


@pytest.mark.parametrize("form", ["relu", "tanh", "softplus"])
def test_residual_lengths_are_those_of_the_recursion(form: str) -> None:
    net = vg.mlp(30, 64, activation=form, sigma_w2=1.5, sigma_b2=0.1, skip="residual", rng=0)
    flow = theory.residual(form, 30, 1.5, 0.1)
    got = theory.predict(net)
    np.testing.assert_allclose(got.q, 1.5 * flow.q[:-1] + 0.1, rtol=1e-10)
    np.testing.assert_allclose(got.log10_grad_norm, flow.log10_grad_norm[1:], atol=1e-10)
    x = np.random.default_rng(0).normal(size=(64, 64))  # and of a real network, at its own width
    x /= np.sqrt(np.mean(x**2))
    wide = vg.mlp(30, 512, activation=form, sigma_w2=1.5, sigma_b2=0.1, skip="residual", rng=0)
    y = wide.forward(np.tile(x[:4], (1, 8)).astype(np.float32))
    assert np.mean(y**2) == pytest.approx(flow.q[-1], rel=0.25)


SPREADS: dict[str, tuple[int, list[vg.Layer]]] = {
    "saturating": (64, [vg.Repeat([vg.Dense(64, sigma_w2=3.0), vg.Activation("hardtanh")], 40)]),
    "residual": (32, [vg.Repeat(vg.Residual([vg.Dense(32, sigma_w2=1.0)], scale=0.5), 40)]),
    "branch that ends in tanh": (
        64,
        [vg.Repeat(vg.Residual([vg.Dense(64, sigma_w2=1.0), vg.Activation("tanh")], scale=0.5), 30)],
    ),
}


@pytest.mark.parametrize("name", SPREADS)
def test_spread_between_networks(name: str) -> None:
    """Mean and standard deviation of the logarithm over 400 networks, with what each source adds."""
    width, layers = SPREADS[name]
    seeds = 400
    expected = theory.predict(vg.Network(width, layers, rng=0))
    grads, _ = measured(lambda seed: vg.Network(width, layers, rng=seed), seeds)
    first, law = grads[:, 1], float(expected.log10_sd[0])
    assert first.std(ddof=1) == pytest.approx(law, rel=4 / math.sqrt(2 * seeds) + 1 / width)
    assert abs(first.mean() - expected.log10_typical[0]) < 4 * law / math.sqrt(seeds) + 1 / width


def test_orthogonal_linear_networks_are_exact() -> None:
    layers = [vg.Repeat([vg.Dense(16, bias=False, init="orthogonal")], 1000)]
    got = theory.predict(vg.Network(16, layers, rng=0))
    for array in (got.log10_grad_norm, got.log10_finite, got.log10_typical, got.log10_sd):
        np.testing.assert_allclose(array, 0.0, atol=1e-9)


def test_delta_norms() -> None:
    def make(seed: int) -> vg.Network:
        return vg.mlp(20, 128, activation="tanh", sigma_w2=1.5, rng=seed)

    expected = theory.predict(make(0))
    grads, deltas = measured(make, 12)
    gap = (deltas - grads[:, 1:]).mean(axis=0)
    np.testing.assert_allclose(gap, expected.log10_delta_norm - expected.log10_grad_norm, atol=0.03)


def test_the_parallel_mode_is_in_the_finite_curve() -> None:
    """Softplus: the same recursion as two_mode, layer by layer."""
    for activation, w in (("softplus", 2.0), ("gelu", 2.0), ("tanh", 1.0)):
        net = vg.Network(
            200, [vg.Repeat([vg.Activation(activation), vg.Dense(200, bias=False, sigma_w2=w)], 40)], rng=0
        )
        got, two = theory.predict(net), theory.two_mode(activation, 200, 41, w)
        np.testing.assert_allclose(got.log10_finite, two.log10_grad_norm[1:], atol=2e-3)
        np.testing.assert_allclose(
            got.log10_grad_norm, theory.trajectory(activation, 41, w).log10_grad_norm[1:], atol=1e-12
        )


def test_depth_and_cost() -> None:
    """A million layers: exact in log space, in seconds; sums of as many equal terms."""
    net = vg.mlp(1_000_000, 2, activation="sigmoid", sigma_w2=1.0, rng=0)
    got = theory.predict(net)
    rate = theory.mean_field("sigmoid", 1.0).decades_per_layer
    middle = got.log10_grad_norm[200_000] - got.log10_grad_norm[800_000]
    assert middle == pytest.approx(600_000 * rate, rel=1e-9)
    critical = theory.predict(vg.mlp(20_000, 2, activation="tanh", sigma_w2=1.0, rng=0))
    reference = theory.trajectory("tanh", 20_001, 1.0)
    assert critical.log10_grad_norm[0] == pytest.approx(
        reference.log10_ratio - math.log10(theory.chi_1("tanh", 1.0, 1.0)) / 2, abs=1e-9
    )


def test_anchored() -> None:
    net = vg.mlp(10, 32, activation="tanh", rng=0)
    x = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    flow = net.probe(x, cotangent=np.full((4, 32), 1e-30, np.float32))
    expected = theory.predict(net, mean_square=float(np.mean(x**2))).anchored(flow)
    assert expected.log10_grad_norm[-1] == flow.log10_grad_norm[-1]
    assert expected.log10_typical[-1] == flow.log10_grad_norm[-1]
    assert expected.anchor == flow.log10_grad_norm[-1]
    assert abs(expected.log10_typical[0] - flow.log10_grad_norm[0]) < 1
    with pytest.raises(vg.ArgumentError, match="expected one of 10 steps, got 3"):
        theory.predict(net).anchored(vg.mlp(3, 32, rng=0).probe(x, cotangent=x))
    with pytest.raises(vg.ArgumentError, match="nothing to start from"):
        expected.anchored(net.probe(x, cotangent=np.zeros((4, 32), np.float32)))
    with pytest.raises(vg.ArgumentError, match="expected a GradientFlow"):
        expected.anchored([1.0])  # type: ignore[arg-type]


def test_what_is_returned() -> None:
    got = theory.predict(vg.mlp(5, 8, activation="relu", rng=0))
    for array in (got.log10_grad_norm, got.log10_typical, got.log10_finite, got.log10_sd, got.q):
        assert array.shape == (5,)
        assert not array.flags.writeable
    assert got.axis == "depth"
    assert "Prediction(depth, steps=5" in repr(got)
    table = got.table
    assert set(table) == {"step", "unit", "quantity", "value"}
    assert len(table["value"]) == 6 * 5
    assert got.to_pandas().groupby("quantity", observed=True).size().to_dict()["log10_sd"] == 5
    assert json.loads(json.dumps(got.to_dict()))["log10_typical"] == list(got.log10_typical)
    assert "along depth" in got._repr_html_()
    dead = theory.predict(vg.mlp(5, 8, activation="relu", init="zeros", rng=0))
    assert dead.log10_grad_norm[0] == -math.inf


def test_a_picture_beside_a_flow() -> None:
    pytest.importorskip("matplotlib")
    net = vg.mlp(30, 32, activation="tanh", rng=0)
    x = np.ones((4, 32), np.float32)
    flow = net.probe(x, cotangent=x)
    axes = flow.plot()
    before = len(axes.lines)
    drawn = theory.predict(net).anchored(flow).plot(axes)
    assert drawn is axes
    typical, wide = axes.lines[before:]
    assert typical.get_ydata()[-1] == wide.get_ydata()[-1] == flow.log10_grad_norm[-1]
    long = theory.predict_layers([vg.Repeat([vg.Dense(4), vg.Activation("tanh")], 300_000)], 4).plot()
    assert len(long.lines[0].get_xdata()) < 10_000


# --- recurrent, by description: what a network with one recurrent layer compiles to ------------------------


def recurrent_spec(**change: Any) -> dict[str, Any]:
    plain = {
        "kind": "recurrent",
        "cell": "rnn",
        "params": {"activation": "tanh"},
        "hidden": 200,
        "num_layers": 1,
    }
    rest = {"bidirectional": False, "bias": False, "read": "last", "init": None, "recurrent_init": None}
    return {**plain, **rest, "bias_init": None, **change}


@pytest.mark.parametrize("name", ids("recurrent", "rnn_step"))
def test_time_steps(name: str) -> None:
    s, x = entries()[name]["setting"], entries()[name]["expected"]
    spec = recurrent_spec(
        params={"activation": s["activation"]},
        init={"name": "normal", "params": {"mean": 0.0, "std": math.sqrt(s["input_variance"] / 7)}},
        recurrent_init={"name": "mean_field", "params": {"sigma_w2": s["sigma_w2"]}},
    )
    from vgcore.theory.chain import State

    got = _predict_time([spec], State(1.0, 0.0, 7, True), 60)
    rates = -np.diff(got.log10_grad_norm)
    assert rates[40] == pytest.approx(x["log10_norm_per_step"], rel=1e-6)
    assert got.q[-1] == pytest.approx(x["q_star"], rel=1e-8)
    assert got.axis == "time"
    every = _predict_time([{**spec, "read": "every"}], State(1.0, 0.0, 7, True), 60)
    assert np.all(every.log10_grad_norm >= got.log10_grad_norm)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"activation": "relu"},
        {"recurrent_init": vg.initializers.mean_field(sigma_w2=4.0)},
        {"recurrent_init": vg.initializers.mean_field(sigma_w2=1.0), "read": "every"},
    ],
)
def test_recurrent_networks(arguments: dict[str, Any]) -> None:
    """dL/dh_t of real recurrences of 128 units, whose weights are the same at every step."""
    steps, runs, read = 40, [], arguments.get("read", "last")
    for seed in range(8):
        net = vg.rnn("rnn", hidden_size=128, in_features=16, out_features=4, rng=seed, **arguments)
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(8, steps, 16)).astype(np.float32)
        v = rng.normal(size=(8, steps, 4) if read == "every" else (8, 4)).astype(np.float32)
        measured_norm = net.probe(x, cotangent=v).log10_grad_norm
        runs.append(measured_norm - measured_norm[-1])
    got = theory.predict(net, steps=steps)
    assert got.axis == "time"
    far = np.arange(steps)[::-1]
    error = np.std(runs, axis=0, ddof=1) / math.sqrt(len(runs))
    assert np.all(np.abs(np.mean(runs, axis=0) - got.log10_grad_norm) <= 4 * error + 0.02 + 0.012 * far)
    with pytest.raises(vg.ArgumentError, match="number of time steps"):
        theory.predict(net)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "lstm"}, "cannot predict cell 'lstm'"),
        ({"num_layers": 2}, "one layer in one direction"),
        ({"recurrent_init": {"name": "identity", "params": {}}}, "recurrent_init: theory cannot predict"),
    ],
)
def test_recurrent_refusals(change: dict[str, Any], message: str) -> None:
    from vgcore.theory.chain import State

    with pytest.raises(vg.ArgumentError, match=message):
        _predict_time([recurrent_spec(**change)], State(1.0, 0.0, 7, True), 10)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: vg.mlp(3, 4, init="identity", rng=0),
            r"layers\[0\].body\[0\].init: theory cannot predict weights",
        ),
        (lambda: vg.mlp(3, 4, init="ones", rng=0), "weights of mean 1"),
        (lambda: vg.mlp(3, 4, init=np.eye(4, dtype=np.float32), rng=0), "explicit arrays"),
        (lambda: vg.Network(4, [vg.Residual([vg.Activation("tanh")])], rng=0), "Residual without a Dense"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(vg.ArgumentError, match=message):
        theory.predict(make())


def test_layers_alone() -> None:
    """A description gives what the network of it gives, and needs no memory for weights."""
    layers = [vg.Dense(8), vg.Activation("tanh"), vg.Repeat([vg.Dense(8), vg.Activation("tanh")], 5)]
    got = theory.predict_layers(layers, 4, mean_square=0.5)
    expected = theory.predict(vg.Network(4, layers, rng=0), mean_square=0.5)
    np.testing.assert_array_equal(got.log10_typical, expected.log10_typical)
    huge = theory.predict_layers([vg.Repeat([vg.Dense(10**6), vg.Activation("tanh")], 100)], 10**6)
    assert huge.log10_typical[0] == pytest.approx(huge.log10_grad_norm[0], abs=1e-4)


def test_refused_arguments() -> None:
    net = vg.mlp(3, 4, rng=0)
    with pytest.raises(vg.ArgumentError, match=r"net: expected a vg\.Network"):
        theory.predict([1.0])  # type: ignore[arg-type]
    with pytest.raises(vg.ArgumentError, match="steps: expected None"):
        theory.predict(net, steps=5)
    with pytest.raises(vg.ArgumentError, match="mean_square: expected at least"):
        theory.predict(net, mean_square=1.0, mean=2.0)


def test_a_layer_that_theory_does_not_know() -> None:
    from vgcore.theory.chain import Chain, State

    with pytest.raises(vg.ArgumentError, match="cannot predict a layer of kind 'attention'"):
        Chain({}).apply({"kind": "attention"}, State(1.0, 0.0, 4, True), "layers[0]")


def test_tied_weights_are_noted() -> None:
    net = vg.Network(8, [vg.Repeat([vg.Dense(8), vg.Activation("tanh")], 5, tied=True)], rng=0)
    assert "tied weights" in theory.predict(net).notes[0]


def test_every_initializer_has_a_law_or_is_refused() -> None:
    """The sample variance of 60,000 entries agrees with the law; only identity-like starts are refused."""
    for name in vg.initializers.names():
        try:
            law = theory.weight_law(name, 300, 200)
        except vg.ArgumentError:
            assert name in {"identity", "delta", "looks_linear"}, name
            continue
        sample = np.asarray(getattr(vg.initializers, name)().sample((300, 200), dtype="float64", rng=0))
        error = 6 * math.sqrt(2.0 / sample.size) * (1 + 3 * (name == "sparse"))
        assert np.mean((sample - law.mean) ** 2) == pytest.approx(law.variance, rel=error, abs=1e-12), name
        assert np.abs(sample).max() <= law.bound * (1 + 1e-12)
        assert as_phi("relu").homogeneous
