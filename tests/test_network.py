"""Test layer: networks. Structure, names, seeds, parameters, and what the different passes agree on."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from networks import BATCH, LAYERS, data, same
from vgcore._rng import key_of, seed_of
from vgcore.layers import Layer

# --- structure and names -----------------------------------------------------------------------------------


def test_names_and_shapes_of_an_mlp() -> None:
    net = vg.mlp(depth=7, width=4, in_features=3, out_features=2, activation="prelu", rng=0)
    assert net.parameter_shapes() == {
        "input.weight": (4, 3),
        "input.bias": (4,),
        "1.slope": (1,),
        "hidden.weight": (7, 4, 4),
        "hidden.bias": (7, 4),
        "hidden.1.slope": (7, 1),
        "output.weight": (2, 4),
        "output.bias": (2,),
    }
    assert net.num_parameters == sum(math.prod(shape) for shape in net.parameter_shapes().values())
    assert (net.in_features, net.out_features, net.num_steps) == (3, 2, 9)
    for name, array in net.parameters().items():
        assert array.shape == net.parameter_shapes()[name]
        assert array.dtype == net.dtype == np.float32


def test_an_mlp_without_ends_is_its_steps() -> None:
    net = vg.mlp(depth=7, width=4, bias=False, rng=0)
    assert net.parameter_shapes() == {"hidden.weight": (7, 4, 4)}
    assert net.num_steps == 7


@pytest.mark.parametrize("skip", [None, "residual"])
def test_skip_keeps_the_names(skip: str | None) -> None:
    net = vg.mlp(depth=7, width=4, skip=skip, rng=0)
    assert list(net.parameter_shapes()) == ["hidden.weight", "hidden.bias"]
    x = data(4, "float32")
    w, b = net.parameters()["hidden.weight"], net.parameters()["hidden.bias"]
    y = x.astype("float64")
    for layer in range(7):
        branch = np.maximum(y @ w[layer].T + b[layer], 0)
        y = y + branch if skip else branch
    np.testing.assert_allclose(net.forward(x), y, rtol=1e-5, atol=1e-5)


def test_names_of_layers_by_position_name_and_nothing() -> None:
    net = vg.Network(
        3,
        [
            vg.Dense(3),
            vg.Repeat([vg.Residual([vg.Dense(3, name="")], name="skip"), vg.Dense(3)], 2, tied=True),
            vg.Repeat(vg.Repeat(vg.Dense(3, bias=False), 4, name="in"), 2, name="out"),
        ],
        rng=0,
    )
    assert net.parameter_shapes() == {
        "0.weight": (3, 3),
        "0.bias": (3,),
        "1.skip.weight": (3, 3),
        "1.skip.bias": (3,),
        "1.1.weight": (3, 3),
        "1.1.bias": (3,),
        "out.in.0.weight": (2, 4, 3, 3),
    }


def test_estimated_names_and_sizes_are_the_compiled_ones() -> None:
    from vgcore.layers import walk

    inner: list[Layer] = [
        vg.Dense(5),
        vg.Activation("prelu"),
        vg.Residual([vg.Activation("tanh"), vg.Dense(5)]),
    ]
    net = vg.Network(
        3, [vg.Dense(5), vg.Repeat(inner, 4), vg.Repeat(inner, 2, tied=True), vg.Dense(2)], rng=0
    )
    expected = {name: shape for placed in walk(net.layers, 3) for name, shape in placed.parameters().items()}
    assert net.parameter_shapes() == expected


def test_structure_counts_the_steps_of_a_flow() -> None:
    layers = [
        vg.Dense(4),
        vg.Activation("tanh"),
        vg.Activation("relu"),
        vg.Repeat([vg.Dense(4), vg.Activation("tanh"), vg.Residual(vg.Dense(4))], 3),
        vg.Residual([vg.Dense(4), vg.Activation("tanh"), vg.Dense(4)]),
        vg.Dense(2),
    ]
    net = vg.Network(4, layers, rng=0)
    x = data(4, "float32")
    flow = net.probe(x, cotangent=np.ones((BATCH, 2), np.float32))
    assert sum(part["steps"] for part in flow.meta["structure"]) == flow.steps == net.num_steps == 7
    assert flow.meta["activations"] == ["tanh", "relu"]
    json.dumps(flow.meta)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", "he_normal"),
        ("gelu", None),
        ("selu", "lecun_normal"),
        ("tanh", "glorot_normal"),
        ("sigmoid", "glorot_normal"),
    ],
)
def test_default_initializer_fits_the_activation_that_follows(activation: str, expected: str | None) -> None:
    expected = expected or vg.activations.describe(activation).extra["fits"]
    default = vg.mlp(depth=2, width=16, activation=activation, rng=3)
    assert same(default, vg.mlp(depth=2, width=16, activation=activation, init=expected, rng=3))


def test_default_initializer_looks_through_containers() -> None:
    before = vg.Residual([vg.Activation("relu"), vg.Dense(8)])  # the next step's relu takes its result
    net = vg.Network(8, [vg.Repeat(before, 3), vg.Dense(8)], rng=0)
    explicit = vg.Residual([vg.Activation("relu"), vg.Dense(8, init="he_normal")])
    assert same(net, vg.Network(8, [vg.Repeat(explicit, 3), vg.Dense(8, init="glorot_normal")], rng=0))


# --- initial values and seeds ------------------------------------------------------------------------------


def test_mean_field_shorthand() -> None:
    net = vg.mlp(depth=20, width=100, sigma_w2=2.5, sigma_b2=0.3, activation="tanh", rng=0)
    p = net.parameters()
    assert abs(p["hidden.weight"].var() * 100 / 2.5 - 1) < 0.02
    assert abs(p["hidden.bias"].var() / 0.3 - 1) < 0.15
    assert same(
        net,
        vg.mlp(
            20, 100, init=vg.initializers.mean_field(sigma_w2=2.5), sigma_b2=0.3, activation="tanh", rng=0
        ),
    )
    assert not vg.mlp(depth=2, width=4, sigma_w2=1.0, sigma_b2=0.0, rng=0).parameters()["hidden.bias"].any()


@pytest.mark.parametrize("stacked", [False, True])
def test_explicit_arrays(stacked: bool) -> None:
    w = data(4 * 4, "float32", batch=3).reshape(3, 4, 4)
    net = vg.mlp(depth=3, width=4, out_features=2, init=w if stacked else w[0], rng=0)
    expected = w if stacked else np.broadcast_to(w[0], w.shape)
    assert np.array_equal(net.parameters()["hidden.weight"], expected)
    bias = np.arange(4.0)
    dense = vg.Dense(4, init=w[1], bias_init=bias.tolist())
    tied = vg.Network(4, [vg.Repeat(dense, 3, tied=True)])
    assert np.array_equal(tied.parameters()["0.0.weight"], w[1])
    assert np.array_equal(tied.parameters()["0.0.bias"], bias)


def test_explicit_arrays_are_copied() -> None:
    w = np.eye(4, dtype=np.float32)
    dense = vg.Dense(4, init=w)
    w[:] = 7
    assert np.array_equal(vg.Network(4, [dense]).parameters()["0.weight"], np.eye(4))


def test_a_layer_is_the_same_whatever_the_depth_and_the_ends() -> None:
    short = vg.mlp(depth=3, width=8, rng=5).parameters()["hidden.weight"]
    long = vg.mlp(depth=300, width=8, in_features=2, out_features=2, rng=5).parameters()["hidden.weight"]
    assert np.array_equal(short, long[:3])
    assert not np.array_equal(long[0], long[1])


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, 2**200])
def test_the_seed_shown_reproduces(seed: int) -> None:
    net = vg.mlp(depth=2, width=4, rng=seed)
    assert net.seed == seed
    assert same(net, vg.mlp(depth=2, width=4, rng=net.seed))
    assert same(net, vg.mlp(depth=2, width=4, rng=np.random.SeedSequence(seed)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: np.random.default_rng(3),
        lambda: np.random.PCG64(3),
        lambda: np.random.SeedSequence(3).spawn(2)[1],
        lambda: np.random.SeedSequence([1, 2, 3]),
        lambda: np.random.SeedSequence(),
        lambda: np.int32(7),
    ],
)
def test_every_form_of_rng_leaves_a_seed_that_reproduces(make: Any) -> None:
    net = vg.mlp(depth=2, width=4, rng=make())
    assert isinstance(net.seed, int)
    assert same(net, vg.mlp(depth=2, width=4, rng=net.seed))


def test_rng_as_spec_7_says() -> None:
    assert seed_of(None) != seed_of(None)
    generator = np.random.default_rng(3)
    assert seed_of(generator) != seed_of(generator)  # it advances
    assert seed_of(np.random.default_rng(3)) == seed_of(np.random.default_rng(3))
    children = np.random.SeedSequence(3).spawn(2)
    assert len({seed_of(3), *map(seed_of, children)}) == 3
    assert seed_of(children[0]) == seed_of(children[0])  # looking does not change it
    assert 0 <= key_of(2**300) < 2**64
    assert key_of(0) != key_of(1)


# --- parameters in and out ---------------------------------------------------------------------------------


def test_parameters_are_copies_and_load_back() -> None:
    a, b = vg.mlp(depth=3, width=4, rng=0), vg.mlp(depth=3, width=4, rng=1)
    taken = a.parameters()
    taken["hidden.weight"][:] = 0
    assert a.parameters()["hidden.weight"].any()
    b.load_parameters(a.parameters())
    assert same(a, b)
    swapped = {name: np.asfortranarray(v.astype(">f4")) for name, v in a.parameters().items()}
    b.load_parameters(swapped)
    assert same(a, b)


def test_loading_into_float64_widens() -> None:
    a, b = vg.mlp(depth=3, width=4, rng=0), vg.mlp(depth=3, width=4, dtype="float64", rng=1)
    b.load_parameters(a.parameters())
    assert np.array_equal(a.parameters()["hidden.weight"], b.parameters()["hidden.weight"])


def test_copies_are_independent() -> None:
    net = vg.mlp(depth=3, width=4, rng=0)
    twins = [net.copy(), copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    x = data(4, "float32")
    for twin in twins:
        assert same(net, twin)
        assert (twin.seed, twin.layers, twin.dtype, repr(twin)) == (
            net.seed,
            net.layers,
            net.dtype,
            repr(net),
        )
        assert np.array_equal(twin.forward(x), net.forward(x))
        assert twin.probe(x, cotangent=x).meta == net.probe(x, cotangent=x).meta
        twin.step(x, x, "mse", lr=0.1)
        assert not same(net, twin)


# --- what passes agree on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_agree_with_the_probe_and_with_differences(dtype: str) -> None:
    net = vg.Network(3, LAYERS, dtype=dtype, rng=0)
    x, y = data(3, dtype), data(2, dtype)
    g = net.gradients(x, y, "mse")
    flow = net.probe(x, y, "mse")
    assert g.loss == flow.loss == net.loss(x, y, "mse")
    assert list(g) == list(net.parameter_shapes())
    assert np.array_equal(g.input, np.ldexp(g.scaled_input[0], g.scaled_input[1][:, None]))
    total = 0.5 * np.log2(np.sum(np.exp2(2 * g.input_log2_norm())))
    np.testing.assert_allclose(total, flow.log10_input_grad_norm * np.log2(10), rtol=1e-5, atol=1e-5)
    if dtype == "float64":
        direction = {
            name: np.random.default_rng(2).standard_normal(v.shape) for name, v in net.parameters().items()
        }
        start, h = net.parameters(), 1e-6
        values = []
        for sign in (1, -1):
            net.load_parameters({name: start[name] + sign * h * direction[name] for name in start})
            values.append(net.loss(x, y, "mse"))
        slope = (values[0] - values[1]) / (2 * h)
        expected = sum(float((g[name] * direction[name]).sum()) for name in g)
        assert math.isclose(slope, expected, rel_tol=1e-6)


def test_a_step_is_sgd() -> None:
    net = vg.Network(3, LAYERS, dtype="float64", rng=0)
    x, y = data(3), data(2)
    before, g = net.parameters(), net.gradients(x, y, "mse")
    probed = net.probe(x, y, "mse", lr=0.1)
    flow = net.step(x, y, "mse", lr=0.1)
    for name, value in net.parameters().items():
        np.testing.assert_allclose(value, before[name] - 0.1 * g[name], rtol=1e-13, atol=1e-15, err_msg=name)
    assert flow.lr == probed.lr == 0.1
    assert flow.loss == probed.loss
    assert np.array_equal(flow.log10_grad_norm, probed.log10_grad_norm)


def test_gradients_beyond_the_range_of_floats() -> None:
    net = vg.mlp(depth=2000, width=8, activation="sigmoid", init="glorot_normal", rng=0)
    x = data(8, "float32")
    g = net.gradients(x, cotangent=x)
    flow = net.probe(x, cotangent=x)
    norms = g.log2_norm("hidden.weight")
    assert isinstance(norms, np.ndarray)
    assert norms[0] < -3000
    assert not g["hidden.weight"][0].any()
    assert g["hidden.weight"][-1].any()
    np.testing.assert_allclose(norms, flow.log10_weight_grad_norm * np.log2(10), rtol=1e-6)
    mantissa, exponent = g.scaled("hidden.weight")
    assert mantissa.shape == (2000, 8, 8)
    assert exponent.shape == (2000,)
    exact = 0.5 * np.log2((mantissa[0].astype(float) ** 2).sum()) + exponent[0]
    assert math.isclose(norms[0], exact, rel_tol=1e-12)


def test_gradients_are_a_read_only_mapping() -> None:
    net = vg.mlp(depth=2, width=4, rng=0)
    x = data(4, "float32")
    g = net.gradients(x, cotangent=x)
    assert g.loss is None
    assert set(g.keys()) == {"hidden.weight", "hidden.bias"}
    assert len(g) == 2
    assert g.get("nothing") is None
    assert "nothing" not in g
    assert "hidden.weight: (2, 4, 4)" in repr(g)
    with pytest.raises(ValueError, match="read-only"):
        g.scaled("hidden.weight")[0][0] = 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.0], -np.inf),
        ([np.nan, 1.0], np.nan),
        ([np.inf, 1.0], np.inf),
        ([3 * 2.0**-1000, 4 * 2.0**-1000], 7 + np.log2(5) - 1000),
        ([3 * 2.0**1000, 4 * 2.0**1000], 7 + np.log2(5) + 1000),
        ([5e-324, 0.0], 7 - 1074),
    ],
)
def test_norms_of_extreme_mantissas(values: list[float], expected: float) -> None:
    m = np.array(values)
    g = vg.Gradients({"a": (m, np.array(7, np.int64))}, (m[None], np.array([0], np.int64)))
    np.testing.assert_allclose(g.log2_norm("a"), expected, rtol=1e-15)


def test_a_cotangent_is_what_a_loss_sends_down() -> None:
    net = vg.mlp(depth=4, width=4, activation="tanh", dtype="float64", rng=0)
    x, y = data(4), data(4)
    v = vg.losses.mse().gradient(net.forward(x), y)
    a, b = net.gradients(x, y, "mse"), net.gradients(x, cotangent=v)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-12, atol=1e-18)


def test_budgets_change_no_bit() -> None:
    net = vg.mlp(depth=300, width=16, activation="tanh", rng=0)
    x = data(16, "float32", batch=64)
    free = net.probe(x, cotangent=x)
    tight = net.probe(x, cotangent=x, memory_budget="800kB")
    assert np.array_equal(free.log10_grad_norm, tight.log10_grad_norm)
    assert np.array_equal(free.log10_weight_grad_norm, tight.log10_weight_grad_norm)
    assert tight.raw["plan"] != free.raw["plan"]


def test_norms_alone_are_the_same_norms() -> None:
    net = vg.mlp(depth=30, width=16, activation="tanh", rng=0)
    x = data(16, "float32")
    full, norms = net.probe(x, cotangent=x), net.probe(x, cotangent=x, stats="norms")
    assert np.array_equal(full.log10_grad_norm, norms.log10_grad_norm)
    assert full.has_statistics
    assert not norms.has_statistics


# --- how it looks ------------------------------------------------------------------------------------------


def test_repr_and_summary_are_short() -> None:
    net = vg.mlp(depth=100_000, width=4, in_features=2, out_features=3, rng=0)
    assert repr(net).startswith(
        "Network(in_features=2, out_features=3, steps=100,002, parameters=2,000,027, dtype="
    )
    text = net.summary()
    assert len(text.splitlines()) < 15
    assert "Repeat 100,000 x" in text
    assert "2,000,000" not in net.summary().splitlines()[0]
    assert "2,000,027 parameters, 7.6 MiB" in text
    html = net._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") == 8
    assert "Repeat 100,000 x" in html


def test_long_lists_are_cut() -> None:
    net = vg.Network(2, [vg.Dense(2) for _ in range(500)], rng=0)
    assert "440 more layers" in net.summary()


def test_layers_are_values() -> None:
    assert vg.Dense(4, init="he_normal") == vg.Dense(4, init="HeNormal")
    assert vg.Repeat([vg.Dense(4)], 3) == vg.Repeat(vg.Dense(4), 3)
    assert len({vg.Activation("swish"), vg.Activation("silu"), vg.Activation("silu", beta=2.0)}) == 2
    layers = (vg.Dense(4), vg.Activation("tanh"), vg.Repeat(vg.Dense(4), 3), vg.Residual(vg.Dense(4)))
    for layer in layers:
        assert hash(layer) == hash(copy.deepcopy(layer))
        with pytest.raises((AttributeError, TypeError)):
            layer.name = "x"  # type: ignore[misc]
    assert repr(vg.Activation("leaky_relu", negative_slope=0.2, name="a")) == (
        "Activation('leaky_relu', negative_slope=0.2, name='a')"
    )


def test_import_is_light() -> None:
    heavy = ["matplotlib", "sklearn", "hypothesis", "tqdm", "pandas", "vgcore.study", "vgcore.plotting"]
    code = f"import sys, vgcore; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_everything_that_is_promised_exists() -> None:
    for name in vg.__all__:
        if name == "testing":
            pytest.importorskip("hypothesis")
        if name == "plotting":
            pytest.importorskip("matplotlib")
        assert getattr(vg, name) is not None
    assert set(vg.__all__) <= set(dir(vg))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vg.nothing  # noqa: B018
