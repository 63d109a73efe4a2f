"""Tests of normalisation layers: PyTorch's numbers, finite differences, running statistics, laws, bits and
refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracle_norms
import pytest
import vgcore as vg
from helpers import DATA, assert_close, portable_data
from networks_norms import EVERY, KINDS, deep, draw, known_answers_of_norms
from vgcore.layers import Layer
from vgcore.normalisation import Normalisation

GOLDEN = {case["case"]: case for case in json.loads((DATA / "torch_norms.json").read_text())["cases"]}
LAYERS: dict[str, Normalisation] = {
    "batchnorm1d_train": vg.BatchNorm(),
    "batchnorm1d_cumulative": vg.BatchNorm(momentum=None),
    "layernorm": vg.LayerNorm(),
    "rmsnorm_eps1e-6": vg.RMSNorm(eps=1e-6),
    "rmsnorm_default": vg.RMSNorm(),
    "groupnorm_3": vg.GroupNorm(3),
}


# --- PyTorch ------------------------------------------------------------------------------------------------


def test_every_golden_case_is_covered() -> None:
    assert set(GOLDEN) == set(LAYERS)


@pytest.mark.parametrize("case", sorted(LAYERS))
def test_against_pytorch(case: str) -> None:
    golden, layer = GOLDEN[case], LAYERS[case]
    shape = tuple(golden["x_shape"])
    net = vg.Network(shape[1], [layer], dtype="float64", rng=0)
    start = {"weight": 1 + portable_data((shape[1],), 201, 0.5), "bias": portable_data((shape[1],), 202, 0.5)}
    net.load_parameters({f"0.{leaf}": start[leaf] for leaf in golden["grad_params"]})
    x, v = portable_data(shape, 105, 1.0), portable_data(shape, 109, 1.0)
    assert_close(net.forward(x, training=True).ravel(), golden["y"], 1e-12, "y")
    g = net.gradients(x, cotangent=v)
    mantissa, exponent = g.scaled_input
    got = np.ldexp(mantissa, np.asarray(exponent)[:, None]).ravel()
    # entries of one sum share the rounding of its terms
    assert np.abs(got - golden["grad_x"]).max() <= 1e-12 * np.abs(golden["grad_x"]).max()
    assert_close(got[np.abs(got) > 1e-2], np.array(golden["grad_x"])[np.abs(got) > 1e-2], 1e-12, "grad x")
    for leaf, expected in golden["grad_params"].items():
        assert_close(g[f"0.{leaf}"], expected, 1e-12, leaf)
    if "running_mean" in golden:
        assert all(not a.any() for name, a in net.buffers().items() if "var" not in name), (
            "a measurement changed it"
        )
        net.step(x, cotangent=v, lr=0.0)
        for leaf in ("running_mean", "running_var"):
            assert_close(net.buffers()[f"0.{leaf}"], golden[leaf], 1e-12, leaf)
        assert net.buffers()["0.num_batches"] == [1.0]


def test_the_convention_of_the_running_variance() -> None:
    entry = known_answers_of_norms()["batchnorm_convention"]
    s, expected = entry["setting"], entry["expected"]
    net = vg.Network(1, [vg.BatchNorm(eps=s["eps"], momentum=s["momentum"])], dtype="float64", rng=0)
    x = np.array(s["x"], np.float64)[:, None]
    y = net.forward(x, training=True).ravel()
    assert_close(y[[0, 1, 3]], np.array(expected["output"])[[0, 1, 3]], entry["tolerance"]["abs"], "output")
    assert abs(y[2]) < 1e-15
    net.step(x, cotangent=x, lr=0.0)
    for leaf in ("running_mean", "running_var"):
        assert_close(net.buffers()[f"0.{leaf}"], [expected[leaf]], entry["tolerance"]["abs"], leaf)


# --- gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batch", "layer", "rms", "group"])
@pytest.mark.parametrize("shape", [(2, 2), (3, 6), (9, 16), (40, 34)])
def test_against_the_oracle(kind: str, shape: tuple[int, int]) -> None:
    groups = 2 if kind == "group" and shape[1] > 2 else 1
    layer = vg.GroupNorm(groups) if kind == "group" else KINDS[kind]
    net = vg.Network(shape[1], [layer], dtype="float64", rng=0)
    leaves = {name: draw(a.shape, i + 3) for i, (name, a) in enumerate(net.parameters().items())}
    net.load_parameters(leaves)
    x, v = draw(shape, 1), draw(shape, 2)
    gain = leaves["0.weight"]
    hat, _ = oracle_norms.normalise(kind, x, groups=groups)
    expected = hat * gain + leaves.get("0.bias", 0.0)
    assert np.abs(net.forward(x, training=True) - expected).max() < 1e-13 * np.abs(expected).max()
    g = net.gradients(x, cotangent=v)
    back = oracle_norms.backward(kind, v * gain, x, groups=groups)
    mantissa, exponent = g.scaled_input
    got = np.ldexp(mantissa, np.asarray(exponent)[:, None])
    assert (
        np.abs(got - back).max()
        <= 1e-12 * np.abs(v * gain).max() * np.abs(oracle_norms.normalise(kind, x, groups=groups)[1]).max()
    )
    assert np.abs(g["0.weight"] - (v * hat).sum(axis=0)).max() <= 1e-12 * np.abs(v).sum()
    if "0.bias" in leaves:
        assert np.abs(g["0.bias"] - v.sum(axis=0)).max() <= 1e-13 * np.abs(v).sum()


@EVERY
@pytest.mark.parametrize("tied", [False, True])
def test_against_finite_differences(kind: str, tied: bool) -> None:
    net = deep(KINDS[kind], tied=tied)
    x, v = draw((5, 8), 1), draw((5, 3), 2)
    start, g = net.parameters(), net.gradients(x, cotangent=v)
    assert set(g) == set(start)
    for i, (name, value) in enumerate(start.items()):
        direction = draw(value.shape, 10 + i)
        found = []
        for h in (1e-5, -1e-5):
            net.load_parameters(start | {name: value + h * direction})
            found.append(float((net.forward(x, training=True) * v).sum()))
        exact, terms = float((g[name] * direction).sum()), np.abs(g[name] * direction).sum()
        # a shift in front of batch normalisation has a gradient of zero: all there is is rounding
        assert abs((found[0] - found[1]) / 2e-5 - exact) <= 1e-6 * terms + 1e-8, name


# --- running statistics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_statistics(online: bool, momentum: float | None, dtype: str) -> None:
    net = vg.Network(3, [vg.BatchNorm(momentum=momentum, online=online)], dtype=dtype, rng=0)
    mean, var = np.zeros(3), np.ones(3)
    for step in range(4):
        x = draw((6, 3), step) * [1.0, 5.0, 0.1] + [0.0, 3.0, -1.0]
        net.step(x.astype(dtype), cotangent=draw((6, 3), 9, dtype), lr=0.0)
        m = momentum if momentum is not None else 1.0 / (step + 1 + online)
        mean, var = oracle_norms.running_after(mean, var, x.astype(dtype).astype(np.float64), m, online)
    rtol = 1e-12 if dtype == "float64" else 1e-5
    assert_close(net.buffers()["0.running_mean"], mean, rtol, "mean")
    assert_close(net.buffers()["0.running_var"], var, rtol, "variance")
    assert net.buffers()["0.num_batches"] == [4.0]
    x = draw((1, 3), 77)
    expected = (x - mean) / np.sqrt(var + 1e-5)
    assert_close(net.forward(x.astype(dtype)), expected, 1e-11 if dtype == "float64" else 1e-4, "inference")


def test_shared_steps_update_their_statistics_in_turn() -> None:
    """As the same module called twice in PyTorch would."""
    net = vg.Network(2, [vg.Repeat([vg.BatchNorm()], 2, tied=True)], dtype="float64", rng=0)
    x = draw((7, 2)) * 3
    net.step(x, cotangent=x, lr=0.0)
    mean, var = oracle_norms.running_after(np.zeros(2), np.ones(2), x, 0.1, False)
    hat, _ = oracle_norms.normalise("batch", x)
    mean, var = oracle_norms.running_after(mean, var, hat, 0.1, False)
    assert net.buffers()["0.0.num_batches"] == [2.0]
    assert_close(net.buffers()["0.0.running_var"], var, 1e-12, "variance")
    assert np.abs(net.buffers()["0.0.running_mean"] - mean).max() < 1e-15 * 10


def test_measuring_and_inferring_change_no_statistics() -> None:
    net = deep(KINDS["batch"])
    x, v = draw((5, 8)), draw((5, 3))
    before = {name: a.tobytes() for name, a in net.buffers().items()}
    net.probe(x, cotangent=v)
    net.gradients(x, cotangent=v)
    net.forward(x, training=True)
    net.loss(x, v, loss="mse")
    net.step(x, cotangent=v, lr=0.1, training=False)
    assert before == {name: a.tobytes() for name, a in net.buffers().items()}


def test_one_sample_online() -> None:
    net = deep(vg.BatchNorm(online=True), dtype="float32")
    for step in range(5):
        flow = net.step(draw((1, 8), step, "float32"), cotangent=draw((1, 3), step, "float32"), lr=0.01)
        assert np.isfinite(flow.log10_grad_norm).all()
    assert (net.buffers()["1.3.running_var"] < 1).any()


def test_statistics_travel_with_the_network(tmp_path: Path) -> None:
    net = deep(KINDS["batch"])
    net.step(draw((5, 8)), cotangent=draw((5, 3)), lr=0.1)
    net.save(tmp_path / "net.safetensors")
    again = vg.load(tmp_path / "net.safetensors")
    for other in (net.copy(), again, pickled(net)):
        for name, a in (net.parameters() | net.buffers()).items():
            assert (other.parameters() | other.buffers())[name].tobytes() == a.tobytes(), name
    fresh = deep(KINDS["batch"])
    fresh.load_parameters(net.parameters())
    assert not fresh.buffers()["0.running_mean"].any(), "buffers are not demanded, nor touched then"
    fresh.load_parameters(net.parameters() | net.buffers())
    x = draw((4, 8), 3)
    assert fresh.forward(x).tobytes() == net.forward(x).tobytes()


def pickled(net: vg.Network) -> vg.Network:
    import pickle

    again: vg.Network = pickle.loads(pickle.dumps(net))
    return again


def test_parameters_and_buffers_are_apart() -> None:
    net = vg.Network(6, [vg.BatchNorm(), vg.GroupNorm(3), vg.RMSNorm(), vg.LayerNorm(affine=False)], rng=0)
    assert net.parameter_shapes() == {
        "0.weight": (6,), "0.bias": (6,), "1.weight": (6,), "1.bias": (6,), "2.weight": (6,),
    }  # fmt: skip
    assert set(net.buffers()) == {"0.running_mean", "0.running_var", "0.num_batches"}
    assert net.num_parameters == 30
    deeper = vg.Network(6, [vg.Repeat([vg.BatchNorm(name="norm")], 4, name="hidden")], rng=0)
    assert deeper.buffers()["hidden.norm.running_mean"].shape == (4, 6)
    assert deeper.buffers()["hidden.norm.num_batches"].shape == (4, 1)


# --- figures and words --------------------------------------------------------------------------------------


def test_units_and_steps() -> None:
    net = vg.Network(
        6, [vg.Dense(6), vg.BatchNorm(), vg.Activation("relu"), vg.LayerNorm(), vg.Dense(2)], rng=0
    )
    x, v = draw((8, 6), 1, "float32"), draw((8, 2), 2, "float32")
    flow, g = net.probe(x, cotangent=v), net.gradients(x, cotangent=v)
    assert list(flow.raw["kind"]) == [0, 3, 3, 0]
    assert flow.steps == 4
    assert {"norm", "dense"} == set(flow.to_pandas()["kind"]) if "kind" in flow.table else True
    norms = np.exp2(np.asarray(flow.raw["weight_grad_log2_norm"]))
    shifts = np.exp2(np.asarray(flow.raw["bias_grad_log2_norm"]))
    for unit, name in ((0, "0"), (1, "1"), (2, "3"), (3, "4")):
        assert abs(norms[unit] - np.linalg.norm(g[f"{name}.weight"])) <= 1e-5 * norms[unit]
        if unit:  # the shift in front of batch normalisation has none
            assert abs(shifts[unit] - np.linalg.norm(g[f"{name}.bias"])) <= 1e-5 * shifts[unit]
    assert abs(np.asarray(flow.raw["pre_mean"])[1]) < 1e-6
    assert abs(np.asarray(flow.raw["pre_var"])[1] - 1) < 1e-3


@EVERY
def test_faint_slopes_behind_a_norm(kind: str) -> None:
    """A saturated activation's slopes keep their digits where floats would lose them."""
    net = vg.Network(4, [KINDS[kind], vg.Activation("tanh")], dtype="float32", rng=0)
    gain = {"0.weight": np.full(4, 90, np.float32)}
    net.load_parameters(net.parameters() | gain)
    x, v = draw((3, 4), 5, "float32") * 2 + np.float32(5), np.ones((3, 4), np.float32)
    whole = vg.Network(4, net.layers, dtype="float64", rng=0)
    whole.load_parameters({name: a.astype(np.float64) for name, a in net.parameters().items()})
    a, b = (n.probe(x.astype(n.dtype), cotangent=v.astype(n.dtype)).log10_delta_norm[0] for n in (net, whole))
    assert abs(a - b) <= 1e-3 * max(1, abs(b))


def test_mlp_and_the_catalogue() -> None:
    assert vg.norms.names() == ["batch", "layer", "rms", "group"]
    for name in vg.norms.names():
        entry = vg.norms.describe(name)
        assert "" not in (entry.formula, entry.reference, entry.summary)
        for position, order in (("pre", ["norm", "activation"]), ("post", ["activation", "norm"])):
            net = vg.mlp(3, 8, norm=name, norm_position=position, rng=0)
            kinds = [k if k == "activation" else "norm" for k in (i.kind for i in net.layers[0].body[1:])]
            assert kinds == order
            assert net.parameter_shapes()["hidden.norm.weight"] == (3, 8)
    assert vg.norms.describe("RMSNorm").defaults == {"eps": None}
    same = vg.mlp(3, 8, rng=0).parameters()["hidden.weight"]
    assert np.array_equal(vg.mlp(3, 8, norm="batch", rng=0).parameters()["hidden.weight"], same)
    assert "hidden.norm" in vg.mlp(3, 8, norm=vg.BatchNorm(online=True), rng=0).summary()
    assert vg.mlp(3, 48, norm="group").layers[0].body[1] == vg.GroupNorm(8, name="norm")


@pytest.mark.parametrize(
    ("width", "groups"),
    [(1024, 32), (128, 32), (64, 16), (48, 8), (32, 8), (16, 4), (8, 2), (7, 1), (4, 1), (2, 1)],
)
def test_groups_by_name_have_units_enough_to_let_a_gradient_through(width: int, groups: int) -> None:
    """The paper's 32, or less: groups of one unit are 0 for ever, and those of two nearly +-1."""
    assert vg.GroupNorm.default(width).groups == groups
    if 4 <= width <= 128:
        net = vg.mlp(4, width, norm="group", activation="tanh", dtype="float64", rng=0)
        x = draw((5, width))
        assert np.unique(net.forward(x)).size > 10
        assert (net.probe(x, cotangent=draw((5, width), 1)).log10_grad_norm > -3).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vg.BatchNorm(momentum=1.5), vg.ArgumentError, "share from 0 to 1, or None"),
        (lambda: vg.BatchNorm(eps=-1.0), vg.ArgumentError, "eps"),
        (lambda: vg.LayerNorm(affine=2), vg.ArgumentError, "affine"),
        (lambda: vg.GroupNorm(0), vg.ArgumentError, "groups"),
        (lambda: vg.Network(6, [vg.Repeat([vg.GroupNorm(4)], 2)]), vg.ArgumentError,
         r"layers\[0\].body\[0\]: GroupNorm: expected groups that divide .* 6 features, got 4; take 3"),
        (lambda: vg.Network(8, [vg.Repeat([vg.GroupNorm(8)], 2)]), vg.ArgumentError,
         r"layers\[0\].body\[0\]: GroupNorm: expected groups of at least two of the 8 features, "
         "got 8 of one: a unit less its own mean is 0; take 2"),
        (lambda: vg.mlp(2, 1, norm="group"), vg.ArgumentError, "got 1 of one: .*; leave it out"),
        (lambda: vg.mlp(3, 8, norm="bacth"), vg.UnknownNameError, "did you mean 'batch'"),
        (lambda: vg.mlp(3, 8, norm=3), vg.ArgumentError, "norm: expected None, one of 'batch'"),
        (lambda: vg.mlp(3, 8, norm="layer", norm_position="behind"), vg.ArgumentError, "norm_position"),
    ],
)  # fmt: skip
def test_refusals(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_one_sample_in_training_is_refused() -> None:
    net = vg.mlp(3, 8, norm="batch", rng=0)
    x = draw((1, 8), 0, "float32")
    words = r'"hidden.norm" takes the variance .* at least 2 samples, .*online=True.*training=False'
    for call in (
        lambda: net.probe(x, cotangent=x),
        lambda: net.step(x, cotangent=x, lr=0.1),
        lambda: net.forward(x, training=True),
    ):
        with pytest.raises(vg.ArgumentError, match=words):
            call()
    assert net.forward(x).shape == (1, 8)
    assert np.isfinite(net.probe(x, cotangent=x, training=False).log10_grad_norm).all()


def test_around_a_recurrent_layer() -> None:
    layers: list[Layer] = [
        vg.BatchNorm(),
        vg.Recurrent("gru", 5, read="every"),
        vg.LayerNorm(),
        vg.Dense(4),
        vg.BatchNorm(),
    ]
    net = vg.Network(3, layers, dtype="float64", rng=0)
    x, v = draw((2, 6, 3), 1), draw((2, 6, 4), 2)
    start, g = net.parameters(), net.gradients(x, cotangent=v)
    for name in ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"):
        direction, found = draw(start[name].shape, 3), []
        for h in (1e-5, -1e-5):
            net.load_parameters(start | {name: start[name] + h * direction})
            found.append(float((net.forward(x, training=True) * v).sum()))
        assert (
            abs((found[0] - found[1]) / 2e-5 - (g[name] * direction).sum())
            <= 1e-7 * np.abs(g[name]).sum() + 1e-8
        ), name
    net.load_parameters(start)
    net.step(x, cotangent=v, lr=0.1)
    mean, var = oracle_norms.running_after(np.zeros(3), np.ones(3), x.reshape(-1, 3), 0.1, False)
    assert_close(net.buffers()["0.running_mean"], mean, 1e-12, "mean")
    assert_close(net.buffers()["0.running_var"], var, 1e-12, "variance")
    with pytest.raises(vg.ArgumentError, match=r"sequences of one length.*LayerNorm"):
        net.probe(x, cotangent=v, lengths=[6, 3])
    net.forward(x, lengths=[6, 3])
