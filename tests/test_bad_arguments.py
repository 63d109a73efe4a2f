"""Test layer: bad arguments. Unknown names, absurd sizes, networks that make no sense or would not fit."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from refusals import LABELS, network, refused, samples
from vgcore import _memory
from vgcore._memory import available_memory, format_bytes, parse_bytes

# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vg.mlp(2, 2, activation="tahn"), ["activation 'tahn'", "'tanh'", "vg.activations.names()"]),
        (lambda: vg.Activation("rellu"), ["activation 'rellu'", "'relu'"]),
        (
            lambda: vg.Dense(2, init="he_norml"),
            ["initializer 'he_norml'", "'he_normal'", "vg.initializers.names()"],
        ),
        (lambda: vg.mlp(3, 4, norm="batch_nrm"), ["norm 'batch_nrm'", "'batch'", "vg.norms.names()"]),
        (lambda: vg.Dense(2, bias_init="zeroes"), ["initializer 'zeroes'", "'zeros'"]),
        (
            lambda: network().loss(samples(), LABELS, "crossentropi"),
            ["loss 'crossentropi'", "'cross_entropy'"],
        ),
        (lambda: vg.activations.derivative("sigmod", [0.0]), ["'sigmoid'"]),
        (lambda: vg.activations.describe("qqqq"), ["expected one of", "vg.activations.names()"]),
        (lambda: vg.losses.describe("mes"), ["'mse'", "vg.losses.names()"]),
        (lambda: network().load_parameters({"hiden.weight": 0}), ["'hidden.weight'", "parameter_shapes()"]),
        (
            lambda: network().gradients(samples(), LABELS, "cross_entropy")["hidden.wight"],
            ["'hidden.weight'"],
        ),
        (lambda: network().gradients(samples(), LABELS, "cross_entropy").scaled("x"), ["list(gradients)"]),
    ],
)
def test_unknown_names_suggest_the_nearest(call: Callable[[], Any], words: list[str]) -> None:
    with refused(vg.UnknownNameError, "unknown", *words):
        call()


@pytest.mark.parametrize("module", [vg.activations, vg.initializers, vg.losses])
def test_unknown_attributes_are_attribute_errors(module: Any) -> None:
    assert not hasattr(module, "no_such_thing")
    with pytest.raises(AttributeError, match=r"unknown .* 'no_such_thing'.* vg\.\w+\.names\(\)"):
        module.no_such_thing  # noqa: B018


# --- sizes, options and other arguments --------------------------------------------------------------------

ARGUMENTS: list[tuple[Callable[[], Any], list[str]]] = [
    (lambda: vg.mlp(0, 4), ["depth", "at least 1", "got 0"]),
    (lambda: vg.mlp(-3, 4), ["depth", "got -3"]),
    (lambda: vg.mlp(3, 0), ["width", "at least 1", "got 0"]),
    (lambda: vg.mlp(3, 2**31), ["width", "at most 2,147,483,647"]),
    (lambda: vg.mlp(10**30, 4), ["depth", "at most"]),
    (lambda: vg.mlp(3.0, 4), ["depth", "integer", "3.0 (float)", "depth=3"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(3, 4.5), ["width", "integer", "4.5 (float)"]),  # type: ignore[arg-type]
    (lambda: vg.mlp("3", 4), ["depth", "integer", "'3' (str)"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(True, 4), ["depth", "integer", "True (bool)"]),
    (lambda: vg.mlp(3, 4, in_features=0), ["in_features", "got 0"]),
    (lambda: vg.mlp(3, 4, out_features=-1), ["out_features", "got -1"]),
    (lambda: vg.mlp(3, 4, skip="residal"), ["skip", "'residual'", "'residal'", "did you mean"]),
    (lambda: vg.mlp(3, 4, bias="no"), ["bias", "True or False"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(3, 4, activation=np.tanh), ["activation", "'tanh'", "function"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(3, 4, activation=3), ["activation", "3 (int)"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(3, 4, init=3), ["init", "he_normal", "3 (int)"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(3, 4, init=vg.initializers.he_normal), ["init", "call the initializer first"]),
    (lambda: vg.mlp(3, 4, sigma_w2=-1.0), ["sigma_w2", "at least 0"]),
    (lambda: vg.mlp(3, 4, sigma_w2=float("nan")), ["sigma_w2", "finite"]),
    (lambda: vg.mlp(3, 4, sigma_w2=1.0, init="zeros"), ["sigma_w2", "init", "one of them"]),
    (lambda: vg.mlp(3, 4, sigma_b2=0.1, bias=False), ["sigma_b2=0.1", "bias=False"]),
    (lambda: vg.Dense(4, sigma_b2=0.1, bias_init="he_normal"), ["sigma_b2", "bias_init"]),
    (lambda: vg.mlp(3, 4, rng=-1), ["rng", "at least 0", "-1"]),
    (lambda: vg.mlp(3, 4, rng=1.5), ["rng", "SeedSequence", "1.5"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(3, 4, rng=True), ["rng", "True (bool)"]),
    (lambda: vg.mlp(3, 4, rng="0"), ["rng", "'0' (str)"]),  # type: ignore[arg-type]
    (lambda: vg.mlp(3, 4, rng=np.random.RandomState(0)), ["rng", "default_rng"]),  # type: ignore[arg-type]
    (lambda: vg.Network(4, []), ["layers", "at least one layer", "empty"]),
    (lambda: vg.Network(4, "relu"), ["layers", "list of layers"]),  # type: ignore[arg-type]
    (lambda: vg.Network(4, ["relu"]), ["layers[0]", "vg.Activation('relu')"]),  # type: ignore[list-item]
    (lambda: vg.Network(4, [vg.Dense(4), 3]), ["layers[1]", "vg.Dense(64)", "3 (int)"]),  # type: ignore[list-item]
    (lambda: vg.Network([vg.Dense(4)], 4), ["in_features", "integer"]),  # type: ignore[arg-type]
    (lambda: vg.Repeat([], 3), ["body", "at least one layer"]),
    (lambda: vg.Repeat(vg.Dense(4), 0), ["n", "at least 1", "got 0"]),
    (lambda: vg.Repeat(vg.Dense(4), 3, tied=1), ["tied", "True or False"]),  # type: ignore[arg-type]
    (lambda: vg.Residual(vg.Dense(4), scale=float("inf")), ["scale", "finite"]),
    (lambda: vg.Residual(vg.Dense(4), scale="1"), ["scale", "number", "'1' (str)"]),  # type: ignore[arg-type]
    (lambda: vg.Dense(4, name="a.b"), ["name", "'.'", "'a.b'"]),
    (lambda: vg.Dense(4, name=3), ["name", "text"]),  # type: ignore[arg-type]
    (lambda: vg.Activation("leaky_relu", slope=0.1), ["no parameter 'slope'", "negative_slope"]),
    (lambda: vg.Activation("tanh", alpha=1.0), ["no parameter 'alpha'", "it has none"]),
    (lambda: vg.Activation("leaky_relu", negative_slope="x"), ["negative_slope", "number"]),  # type: ignore[arg-type]
    (lambda: vg.losses.smooth_l1(beta=-1.0), ["smooth_l1", "beta", "-1"]),
    (lambda: vg.losses.cross_entropy(label_smoothing=2.0), ["cross_entropy", "label_smoothing", "2"]),
    (lambda: network().loss(samples(), LABELS), ["loss", "'cross_entropy'", "got None"]),
    (lambda: network().loss(samples(), LABELS, vg.losses.mse), ["loss", "call the loss first"]),  # type: ignore[arg-type]
    (lambda: network().loss(samples(), LABELS, 3), ["loss", "'mse'", "3 (int)"]),  # type: ignore[arg-type]
    (lambda: network().probe(samples()), ["expected a target", "loss=", "cotangent="]),
    (lambda: network().probe(samples(), LABELS, "mse", cotangent=1), ["y and cotangent"]),
    (lambda: network().probe(samples(), loss="mse", cotangent=1), ["leave loss= out"]),
    (lambda: network().probe(samples(), LABELS, "cross_entropy", stats="all"), ["stats", "'full'", "'all'"]),
    (lambda: network().probe(samples(), LABELS, "cross_entropy", lr=-1.0), ["lr", "at least 0"]),
    (lambda: network().step(samples(), LABELS, "cross_entropy", lr=float("nan")), ["lr", "finite"]),
    (lambda: network().step(samples(), LABELS, "cross_entropy", lr=None), ["lr", "number", "None"]),  # type: ignore[arg-type]
    (
        lambda: network().probe(samples(), LABELS, "cross_entropy", memory_budget="much"),
        ["memory_budget", "512MB"],
    ),
    (
        lambda: network().probe(samples(), LABELS, "cross_entropy", memory_budget=0),
        ["memory_budget", "at least 1"],
    ),
    (lambda: network().load_parameters([1]), ["parameters", "mapping"]),  # type: ignore[arg-type]
    (lambda: network().load_parameters({}), ["parameters", "got none for", "'input.weight'"]),
    (lambda: vg.set_num_threads(0), ["n", "at least 1"]),
    (lambda: vg.set_num_threads(2.0), ["n", "integer"]),  # type: ignore[arg-type]
    (lambda: vg.set_num_threads(10**9), ["n", "at most"]),
]


@pytest.mark.parametrize(("call", "words"), ARGUMENTS, ids=range(len(ARGUMENTS)))
def test_bad_arguments(call: Callable[[], Any], words: list[str]) -> None:
    with refused(vg.ArgumentError, *words):
        call()


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64", "bfloat16", None, 32, "f"])
def test_float_type_of_a_network(dtype: Any) -> None:
    if dtype == "f":
        assert vg.mlp(1, 2, dtype=dtype).dtype == np.float32
        return
    with refused(vg.DTypeError, "dtype: expected float32 or float64", 'use "float32" or "float64"'):
        vg.mlp(1, 2, dtype=dtype)


# --- structure ---------------------------------------------------------------------------------------------


def test_residual_of_another_width_says_where() -> None:
    body = vg.Repeat([vg.Dense(4), vg.Residual([vg.Dense(7), vg.Activation("relu")])], 3)
    with refused(vg.ShapeError, "layers[1].body[1]", "Residual", "expected 4, got 7", "Dense(4)"):
        vg.Network(2, [vg.Dense(4), body])


def test_repeat_of_another_width_says_where() -> None:
    with refused(vg.ShapeError, "layers[0]", "Repeat", "expected 4, got 7", "Dense(4)"):
        vg.Network(4, [vg.Repeat(vg.Dense(7), 2)])
    assert vg.Network(4, [vg.Repeat(vg.Dense(7), 1)]).out_features == 7


def test_two_parameters_of_one_name() -> None:
    with refused(vg.ArgumentError, "'0.weight'", "another name="):
        vg.Network(4, [vg.Repeat([vg.Dense(4, name=""), vg.Dense(4, name="")], 2)])


def test_containers_in_containers_end_somewhere() -> None:
    layer: vg.Layer = vg.Dense(4)
    with refused(vg.ArgumentError, "nested more than", "use Repeat"):
        for _ in range(10_000):
            layer = vg.Residual(layer)


@pytest.mark.parametrize(
    ("init", "error", "words"),
    [
        (np.zeros((3, 4), np.float32), vg.ShapeError, ["layers[0].body[0].init", "(5, 4, 4)", "(3, 4)"]),
        (np.zeros((4, 4, 4), np.float32), vg.ShapeError, ["(5, 4, 4)", "(4, 4, 4)"]),
        (np.zeros((4, 4)), vg.DTypeError, ["layers[0].body[0].init", "float64", 'astype("float32")']),
        (np.zeros((4, 4), int), vg.DTypeError, ["init", "int64"]),
        (np.full((4, 4), np.nan, np.float32), vg.NonFiniteError, ["init", "16 of 16"]),
    ],
)
def test_initial_arrays_that_do_not_fit(init: Any, error: type[Exception], words: list[str]) -> None:
    with refused(error, *words):
        vg.Network(4, [vg.Repeat([vg.Dense(4, init=init)], 5)])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda p: p.pop("output.bias"), vg.ArgumentError, ["'output.bias'", "net.parameters()"]),
        (
            lambda p: p.update({"input.weight": p["input.weight"].T}),
            vg.ShapeError,
            ["input.weight", "(5, 4)", ".T"],
        ),
        (lambda p: p.update({"input.bias": np.zeros(5)}), vg.DTypeError, ["input.bias", "float64"]),
        (lambda p: p.update({"extra": np.zeros(5)}), vg.UnknownNameError, ["'extra'"]),
    ],
)
def test_parameters_that_do_not_fit_change_nothing(
    change: Any, error: type[Exception], words: list[str]
) -> None:
    net = network()
    before = net.parameters()
    given = {name: value + 1 for name, value in net.parameters().items()}
    change(given)
    with refused(error, *words):
        net.load_parameters(given)
    after = net.parameters()
    assert all(np.array_equal(before[name], after[name]) for name in before)


# --- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: vg.mlp(10**6, 10**5),
        lambda: vg.mlp(1, 2**31 - 1),
        lambda: vg.mlp(2**31 - 1, 2**31 - 1, dtype="float64"),
        lambda: vg.Network(8, [vg.Repeat(vg.Repeat(vg.Dense(8), 2**31 - 1), 2**31 - 1)]),
    ],
)
def test_a_network_that_does_not_fit_is_refused_at_once(build: Callable[[], Any]) -> None:
    with refused(vg.MemoryBudgetError, "parameters in float", "iB", "available", "float32"):
        build()


def test_the_estimate_is_exact_in_the_message() -> None:
    # 10**6 (10**10 + 10**5) parameters of 4 bytes: 36380.2 TiB = 35.53 PiB, rounded up
    with refused(vg.MemoryBudgetError, "10,000,100,000,000,000 parameters", "35.6 PiB"):
        vg.mlp(10**6, 10**5)


def test_a_pass_that_does_not_fit_is_refused_before_it_starts() -> None:
    deep = vg.Network(2, [vg.Repeat(vg.Activation("tanh"), 2_000_000)])
    x = np.ones((1, 2), np.float32)
    with refused(vg.MemoryBudgetError, "2,000,000 units", "9.5 MiB are allowed", "memory_budget"):
        deep.probe(x, cotangent=x, memory_budget="10MB")


def test_a_budget_below_the_leanest_plan_is_refused() -> None:
    net = vg.mlp(depth=1000, width=64, rng=0)
    x = np.ones((64, 64), np.float32)
    with refused(vg.MemoryBudgetError, "memory_budget"):
        net.probe(x, cotangent=x, stats="norms", memory_budget=150_000)


@pytest.mark.parametrize("read", ["depth", "time"])
def test_a_forward_pass_that_does_not_fit_is_refused_before_it_starts(
    read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory, "available_memory", lambda: 10**9)
    if read == "depth":
        net, x = vg.Network(1, [vg.Dense(200_000), vg.Dense(1)], rng=0), np.zeros((100_000, 1), np.float32)
        y: Any = np.zeros((100_000, 1), np.float32)
        loss, words = (
            "mse",
            ["a batch of 100,000 through 2 units needs about 74.6 GiB, but 953.6 MiB are available"],
        )
    else:
        net = vg.rnn("rnn", 2, in_features=1, out_features=5_000, read="every", rng=0)
        x, y = np.zeros((10, 20_000, 1), np.float32), np.zeros((10, 20_000), int)
        loss, words = (
            "cross_entropy",
            ["a batch of 10 through 20,000 steps needs about 3.8 GiB, but 953.6 MiB are available"],
        )
    with refused(vg.MemoryBudgetError, *words, "take fewer samples at a time"):
        net.forward(x)
    with refused(vg.MemoryBudgetError, *words, "take fewer samples at a time"):
        net.loss(x, y, loss=loss)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of the process from /proc")
def test_a_limit_of_the_address_space_is_a_limit_of_the_memory() -> None:
    code = """
        import resource, numpy as np, vgcore as vg
        from vgcore._memory import available_memory
        resource.setrlimit(resource.RLIMIT_AS, (6 * 10**9, 6 * 10**9))
        assert available_memory() < 6 * 10**9
        x = np.zeros((1, 4), np.float32)
        net = vg.Network(4, [vg.Repeat(vg.Dense(4), 10**7, tied=True)], rng=0)
        try:
            net.probe(x, cotangent=x)
        except vg.MemoryBudgetError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True)
    assert "through 10,000,000 units needs about 8.9 GiB, but " in done.stdout
    assert "are available" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as on Linux")
@pytest.mark.parametrize(
    ("work", "limit"),
    [
        # A result of 149 GiB; a budget that allows it does not make it fit.
        ("vg.Network(1, [vg.Dense(200_000)]).forward(np.zeros((200_000, 1), 'f4'))", 6 * 2**30),
        # Lists of 10,000,000 units, the first ones and those that come after the forward pass.
        ("deep(10**7).probe(z, cotangent=z, memory_budget='1TB')", 2**30),
        ("deep(10**6).probe(z, cotangent=z, memory_budget='1TB')", 800 * 2**20),
    ],
)
def test_memory_that_the_system_refuses_is_an_error_not_an_abort(work: str, limit: int) -> None:
    code = f"""
import resource, sys
import numpy as np, vgcore as vg
# What is refused beforehand has tests of its own; here the system is the first to say no.
for name, module in sys.modules.items():
    if name.startswith("vgcore.") and hasattr(module, "available_memory"):
        module.available_memory = lambda: 10**15
z = np.zeros((1, 4), "f4")
def deep(n):
    return vg.Network(4, [vg.Repeat(vg.Dense(4), n, tied=True)])
vg.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
try:
    {work}
except vg.MemoryBudgetError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert re.match(r"(the system refused \d[^;]* for|.* needs about) .*; lower ", run.stdout), run.stdout


def test_memory_errors_are_memory_errors() -> None:
    assert issubclass(vg.MemoryBudgetError, MemoryError)
    free = available_memory()
    assert free is None or free > 2**20


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("512MB", 512 * 10**6),
        ("1.5GiB", 3 * 2**29),
        (" 2 kB ", 2000),
        ("3k", 3000),
        (7, 7),
        ("1TiB", 2**40),
    ],
)
def test_budgets_as_text(text: int | str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "MB", "1.2.3MB", "-1MB", "1XB", "1e3", 0, -5, 1.5, None, True, "0"])
def test_budgets_that_are_none(text: Any) -> None:
    with refused(vg.ArgumentError, "memory_budget"):
        parse_bytes(text)


def test_sizes_beyond_a_float_are_refused_like_others() -> None:
    with refused(vg.ArgumentError, "memory_budget: expected an integer of at most", "got about 1e40"):
        parse_bytes("1" + "0" * 400 + "MB")
    with refused(vg.ArgumentError, "depth: expected an integer of at most 2,147,483,647, got about 1e5000"):
        vg.mlp(10**5000, 4)
    with refused(vg.ArgumentError, "depth: expected an integer of at least 1, got about -1e30"):
        vg.mlp(-(10**30), 4)
    with refused(vg.ArgumentError, "skip", "got about 1e5000 (int)"):
        vg.mlp(3, 4, skip=10**5000)  # type: ignore[arg-type]
    assert parse_bytes("0.1MB") == 100_000


def test_sizes_beyond_a_float_are_shown() -> None:
    assert format_bytes(10**400).endswith("EiB")
    assert format_bytes(1023) == "1023 B"
    assert format_bytes(1024) == "1.0 KiB"


# --- classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (vg.ShapeError, ValueError),
        (vg.DTypeError, TypeError),
        (vg.NonFiniteError, ValueError),
        (vg.LabelError, ValueError),
        (vg.UnknownNameError, ValueError),
        (vg.ArgumentError, ValueError),
        (vg.MemoryBudgetError, MemoryError),
        (vg.BusyError, RuntimeError),
        (vg.MissingDependencyError, ImportError),
    ],
)
def test_errors_are_what_people_catch(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, vg.VgcoreError)
    assert issubclass(error, builtin)


def test_the_compiled_module_raises_the_same_classes() -> None:
    from vgcore import _core

    with refused(vg.UnknownNameError, "nothing"):
        _core.catalogue("nothing")
    with refused(vg.DTypeError, "float16"):
        _core.gradient_stats(np.zeros(3, np.float16))
    spec = [
        {"kind": "dense", "name": "0", "features": 0, "bias": False, "init": {"name": "zeros", "params": {}}}
    ]
    with refused(vg.ArgumentError, "at least 1 feature"):
        _core.Network(spec, 3, "float32", 0)
