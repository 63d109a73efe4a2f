"""Test layer: catalogues. Every entry of the compiled tables is described, callable, found by every name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import _core
from vgcore._registry import Registry, fold

MODULES: dict[str, Any] = {
    "activation": vg.activations,
    "clip": vg.clips,
    "constraint": vg.constraints,
    "initializer": vg.initializers,
    "loss": vg.losses,
    "optimizer": vg.optimizers,
    "parametrization": vg.parametrizations,
}
ENTRIES = [(kind, name) for kind, module in MODULES.items() for name in module.names()]


@pytest.mark.parametrize("kind", MODULES)
def test_names_are_the_compiled_table(kind: str) -> None:
    module = MODULES[kind]
    assert module.names() == [entry["name"] for entry in _core.catalogue(kind)]
    assert set(module.names()) <= set(dir(module))
    assert len(set(module.names())) == len(module.names())


@pytest.mark.parametrize("kind", MODULES)
def test_no_spelling_means_two_things(kind: str) -> None:
    seen: dict[str, str] = {}
    for entry in _core.catalogue(kind):
        for spelling in {fold(s) for s in [entry["name"], *entry["aliases"]]}:
            assert seen.setdefault(spelling, entry["name"]) == entry["name"], spelling


@pytest.mark.parametrize("kind", MODULES)
def test_no_entry_hides_a_function_of_the_module(kind: str) -> None:
    assert not set(MODULES[kind].__all__) & set(MODULES[kind].names())


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_is_described(kind: str, name: str) -> None:
    entry = MODULES[kind].describe(name)
    text = str(entry)
    assert entry.kind == kind
    assert entry.formula
    assert entry.summary
    assert entry.reference
    for part in (entry.formula, entry.summary, entry.reference, *entry.aliases):
        assert part in text
    for parameter in entry.params:
        assert parameter.doc, parameter.name
        assert f"{parameter.name} (default {parameter.default!r})" in text
    if kind == "activation":
        assert entry.derivative
        assert entry.derivative in text
        assert entry.extra["fits"] in vg.initializers.names()
        assert math.isfinite(entry.extra["gain"])


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_spelling_is_found(kind: str, name: str) -> None:
    module = MODULES[kind]
    entry = module.describe(name)
    for spelling in (name, *entry.aliases):
        for variant in (
            spelling,
            spelling.upper(),
            spelling.replace("_", "-"),
            spelling.title().replace("_", ""),
        ):
            assert module.describe(variant).name == name, variant
            assert getattr(module, spelling) is not None


@pytest.mark.parametrize("name", vg.activations.names())
def test_every_activation_is_a_function(name: str) -> None:
    x = np.linspace(-3, 3, 13)
    function = getattr(vg.activations, name)
    assert np.array_equal(function(x), vg.activations.value(name, x))
    assert vg.activations.describe(name).formula in function.__doc__
    for dtype in (np.float32, np.float64):
        y, d = function(x.astype(dtype)), vg.activations.derivative(name, x.astype(dtype))
        assert y.dtype == d.dtype == dtype
        assert y.shape == d.shape == x.shape


@pytest.mark.parametrize("name", vg.activations.names())
def test_scaled_derivative_is_the_derivative(name: str) -> None:
    x = np.linspace(-4, 4, 41).reshape(1, 41)
    mantissa, exponent = vg.activations.scaled_derivative(name, x)
    assert exponent.dtype == np.int64
    assert exponent.shape == x.shape
    np.testing.assert_allclose(np.ldexp(mantissa, exponent), vg.activations.derivative(name, x), rtol=1e-13)


def test_activations_take_any_shape_and_let_nan_through() -> None:
    assert vg.activations.tanh(0.5).shape == ()
    assert vg.activations.tanh(np.float32(0.5)).dtype == np.float32
    assert vg.activations.tanh(np.empty((0, 3))).shape == (0, 3)
    assert vg.activations.tanh(np.zeros((2, 3, 4), ">f4")).shape == (2, 3, 4)
    y = vg.activations.relu(np.array([np.nan, np.inf, -np.inf]))
    assert np.isnan(y[0])
    assert np.array_equal(y[1:], [np.inf, 0.0])
    with pytest.raises(vg.DTypeError, match="int64"):
        vg.activations.tanh([1, 2])


def test_parameters_reach_the_function() -> None:
    x = np.array([-2.0, 2.0])
    assert np.array_equal(vg.activations.leaky_relu(x, negative_slope=0.5), [-1.0, 2.0])
    assert np.array_equal(vg.activations.derivative("lrelu", x, negative_slope=0.5), [0.5, 1.0])


@pytest.mark.parametrize("name", vg.initializers.names())
def test_every_initializer_draws(name: str) -> None:
    initializer = getattr(vg.initializers, name)()
    assert initializer == vg.initializers.Initializer(name)
    assert repr(initializer) == f"{name}()"
    a, b = initializer.sample((6, 4), rng=3), initializer.sample((6, 4), rng=3)
    assert a.shape == (6, 4)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    stack = initializer.sample((3, 6, 4), rng=3)
    assert stack.shape == (3, 6, 4)
    assert np.array_equal(stack[0], a)
    assert initializer.sample((6, 4), dtype="float64").dtype == np.float64


def test_layers_of_a_stack_differ() -> None:
    a, b = vg.initializers.normal(std=2.0).sample((2, 64, 64), rng=0)
    assert not np.array_equal(a, b)
    assert abs(a.std() - 2.0) < 0.1
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05


def test_initializers_compare_and_hash_by_value() -> None:
    make = vg.initializers.he_normal
    assert make(mode="fan_out") == make(mode="fan_out") != make()
    assert len({make(), make(), vg.initializers.kaiming_normal(), make(mode="fan_out")}) == 2
    assert repr(make(mode="fan_out")) == "he_normal(mode='fan_out')"
    array = vg.initializers.from_array(np.eye(2))
    assert array == vg.initializers.from_array(np.eye(2))
    assert array != vg.initializers.from_array(np.ones((2, 2)))
    assert hash(array) == hash(vg.initializers.from_array(np.eye(2)))
    with pytest.raises(ValueError, match="read-only"):
        array.array[0, 0] = 3.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vg.initializers.he_normal(mode="fan_inn"), "fan_in"),
        (lambda: vg.initializers.he_normal(mode=3), "mode"),
        (lambda: vg.initializers.normal(std=-1.0), "std"),
        (lambda: vg.initializers.normal(sdt=1.0), "did you mean 'std'"),
        (lambda: vg.initializers.zeros(value=1.0), "it has none"),
        (lambda: vg.initializers.constant(value=float("nan")), "finite"),
        (lambda: vg.initializers.constant(value=True), "number"),
    ],
)
def test_wrong_parameters_are_said_where_they_are_given(call: Any, words: str) -> None:
    with pytest.raises(vg.ArgumentError, match=words):
        call()


@pytest.mark.parametrize("shape", [(3,), (), (2, 2, 2, 2), [2, 2], 4])
def test_shapes_of_a_draw(shape: Any) -> None:
    with pytest.raises(vg.ShapeError, match=r"\(out, in\) or \(n, out, in\)"):
        vg.initializers.normal().sample(shape)
    with pytest.raises(vg.ArgumentError, match=r"shape\[1\]: expected an integer of at least 1"):
        vg.initializers.normal().sample((2, 0))


def test_losses_compare_and_evaluate() -> None:
    assert vg.losses.smooth_l1(beta=0.5) == vg.losses.Loss("huber", {"beta": 0.5})
    assert repr(vg.losses.smooth_l1(beta=0.5)) == "smooth_l1(beta=0.5)"
    assert len({vg.losses.mse(), vg.losses.Loss("mse")}) == 1
    z, y = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([1, 0])
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    one_hot = np.eye(2)[y]
    loss = vg.losses.cross_entropy()
    assert math.isclose(loss.value(z, y), -np.log(softmax[[0, 1], y]).mean(), rel_tol=1e-14)
    assert math.isclose(loss.value(z, one_hot), loss.value(z, y), rel_tol=1e-14)
    np.testing.assert_allclose(loss.gradient(z, y), (softmax - one_hot) / 2, rtol=1e-13)
    with pytest.raises(vg.LabelError):
        loss.value(z, np.array([0, 2]))


@pytest.mark.parametrize("name", vg.losses.names())
def test_loss_gradients_are_derivatives(name: str) -> None:
    rng = np.random.default_rng(0)
    loss = getattr(vg.losses, name)()
    z, y = rng.standard_normal((3, 4)), rng.dirichlet(np.ones(4), 3)
    direction, h = rng.standard_normal((3, 4)), 1e-6
    slope = (loss.value(z + h * direction, y) - loss.value(z - h * direction, y)) / (2 * h)
    assert math.isclose(slope, float((loss.gradient(z, y) * direction).sum()), rel_tol=1e-7)


def test_a_new_entry_appears_without_a_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _core.catalogue("activation")
    dummy = {**table[0], "name": "dummy_act", "aliases": ["dummy"], "params": [{"name": "a", "default": 2.0}]}
    monkeypatch.setattr(_core, "catalogue", lambda kind: [*table, dummy])
    registry = Registry("activation", "vg.activations.names()")
    assert "dummy_act" in registry.names()
    assert registry.describe("Dummy-Act").defaults == {"a": 2.0}
    assert registry.describe("dummy").signature() == "dummy_act(a=2.0)"
    assert "dummy" in registry
    assert "other" not in registry
    with pytest.raises(vg.UnknownNameError, match="'dummy_act'"):
        registry.describe("dumy")


def test_private_attributes_are_not_looked_up() -> None:
    for module in MODULES.values():
        assert not hasattr(module, "__wrapped__")
        assert not hasattr(module, "_nothing")


def test_config_says_what_a_report_needs() -> None:
    config = vg.config()
    assert config["version"] == vg.__version__
    assert config["numpy"] == np.__version__
    assert config["isa"] in config["isa_available"]
    before = vg.get_num_threads()
    try:
        vg.set_num_threads(1)
        assert vg.get_num_threads() == vg.config()["num_threads"] == 1
    finally:
        vg.set_num_threads(before)
