"""Tests of the public checkers: they catch what is wrong, say where, and never pass on nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from hypothesis import given, settings
from vgcore.testing import GradientCheckError, check_activation, check_gradients

W = np.array([[1.0, -2.0, 0.5], [0.3, 0.7, -1.1]])


def model(x: Any) -> Any:
    return np.tanh(x @ W.T)


def vjp(x: Any, v: Any) -> Any:
    return (v * (1 - np.tanh(x @ W.T) ** 2)) @ W


def test_right_gradients_pass_and_report_what_was_checked() -> None:
    report = check_gradients(model, np.ones((4, 3)) * 0.3, vjp=vjp)
    assert report.entries == report.resolved == 12
    assert report.worst < 1e-9


@pytest.mark.parametrize(
    "wrong", [lambda x, v: vjp(x, v) * 1.001, lambda x, v: -vjp(x, v), lambda x, v: vjp(x, v) + 1e-4]
)
def test_wrong_gradients_fail(wrong: Any) -> None:
    with pytest.raises(GradientCheckError, match=r"input\[.*relative error"):
        check_gradients(model, np.ones((4, 3)) * 0.3, vjp=wrong)


def test_one_wrong_entry_is_named() -> None:
    def wrong(x: Any, v: Any) -> Any:
        out = vjp(x, v)
        out[2, 1] *= 1.01
        return out

    with pytest.raises(GradientCheckError, match=r"input\[2, 1\]"):
        check_gradients(model, np.full((4, 3), 0.3), vjp=wrong)


def test_one_wrong_entry_among_thousands_is_found_by_the_random_direction() -> None:
    big = np.random.default_rng(0).normal(size=(40, 60)) / 8

    def wrong(x: Any, v: Any) -> Any:
        out = v @ big
        out[0, 7] += 0.1 * np.linalg.norm(out)
        return out

    with pytest.raises(GradientCheckError):
        check_gradients(lambda x: x @ big.T, np.zeros((3, 60)), vjp=wrong, max_entries=3)


def test_tiny_gradients_are_checked_as_sharply() -> None:
    """An absolute tolerance would pass zero here."""

    def tiny(x: Any) -> Any:
        return 1e-30 * np.sin(x)

    check_gradients(tiny, np.ones((2, 2)), vjp=lambda x, v: 1e-30 * v * np.cos(x))
    with pytest.raises(GradientCheckError, match="relative error 0"):
        check_gradients(tiny, np.ones((2, 2)), vjp=lambda x, v: 1e-30 * v * np.cos(x) * 1.01)
    with pytest.raises(GradientCheckError):
        check_gradients(tiny, np.ones((2, 2)), vjp=lambda x, v: np.zeros_like(x))


def test_nothing_to_check_is_an_error() -> None:
    with pytest.raises(GradientCheckError, match="exactly zero"):
        check_gradients(lambda x: x * 0, np.ones((2, 2)), vjp=lambda x, v: np.zeros_like(x))
    with pytest.raises(GradientCheckError, match="nan"):
        check_gradients(model, np.ones((2, 3)), vjp=lambda x, v: np.full_like(x, np.nan))
    rng = np.random.default_rng(0)
    with pytest.raises(GradientCheckError, match="noisy"):
        check_gradients(lambda x: x + rng.normal(size=x.shape), np.ones((2, 2)), vjp=lambda x, v: v)
    with pytest.raises(GradientCheckError, match="shape"):
        check_gradients(model, np.ones((2, 3)), vjp=lambda x, v: v)


def test_dead_networks_are_an_error() -> None:
    net = vg.mlp(3, 4, init="zeros", dtype="float64", rng=0)
    with pytest.raises(GradientCheckError, match="exactly zero"):
        check_gradients(net, np.ones((2, 4)), cotangent=np.ones((2, 4)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_deep_networks_are_checked_where_differences_of_the_whole_see_nothing(dtype: str) -> None:
    net = vg.mlp(120, 3, activation="sigmoid", init="glorot_normal", dtype=dtype, rng=0)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(dtype)
    assert net.probe(x, cotangent=np.ones((2, 3), dtype)).log10_grad_norm[0] < -50
    report = check_gradients(net, x, cotangent=np.ones((2, 3), dtype))
    assert report.entries == 120 * (9 + 3 + 6)
    assert report.resolved == report.entries


def test_a_network_with_wrong_gradients_fails() -> None:
    """A network whose reported gradient is wrong in one step out of fifty."""

    class Wrong(vg.Network):
        def gradients(self, *args: Any, **kw: Any) -> Any:
            found = super().gradients(*args, **kw)
            mantissa, exponent = found.scaled("0.0.weight")
            if len(mantissa) < 50:
                return found
            changed = mantissa.copy()
            changed[17, 1, 2] *= 1.01
            parts = {name: found.scaled(name) for name in found} | {"0.0.weight": (changed, exponent)}
            return vg.Gradients(parts, found.scaled_input, found.loss)

    body = [vg.Dense(3), vg.Activation("tanh")]
    net = Wrong(3, [vg.Repeat(body, 50)], dtype="float64", rng=0)
    with pytest.raises(GradientCheckError, match=r"step 17.*0\.0\.weight"):
        check_gradients(net, np.ones((2, 3)), cotangent=np.ones((2, 3)))


# --- activations ----------------------------------------------------------------------------------------


def test_textbook_derivative_of_tanh_loses_the_gradient() -> None:
    with pytest.raises(GradientCheckError, match="derivative at x = "):
        check_activation(np.tanh, lambda x: 1 - np.tanh(x) ** 2)
    with pytest.raises(GradientCheckError):
        check_activation(np.tanh, lambda x: 1 - np.tanh(x) ** 2, dtype="float32")


def test_a_derivative_from_exponentials_keeps_it() -> None:
    def slope(x: Any) -> Any:
        e = np.exp(-2 * np.abs(x))
        return 4 * e / (1 + e) ** 2

    assert check_activation(np.tanh, slope, increasing=True, max_slope=1.0).resolved > 300


def test_wrong_claims_are_caught() -> None:
    def dsin(x: Any) -> Any:
        return np.cos(x)

    with pytest.raises(GradientCheckError, match="increase"):
        check_activation(np.sin, dsin, low=-4, high=4, increasing=True)
    with pytest.raises(GradientCheckError, match=r"at most 0\.5"):
        check_activation(np.sin, dsin, low=-4, high=4, max_slope=0.5)
    with pytest.raises(GradientCheckError, match="derivative at x"):
        check_activation(np.sin, lambda x: np.cos(x) + 1e-3, low=-4, high=4)
    with pytest.raises(vg.ArgumentError):
        check_activation(np.sin, dsin, low=1, high=1)


def test_functions_that_take_no_complex_numbers_are_judged_by_differences() -> None:
    def real(x: Any) -> Any:
        if np.iscomplexobj(x):
            raise TypeError
        return np.arctan(x)

    assert check_activation(real, lambda x: 1 / (1 + x**2), rtol=1e-7).resolved > 300
    with pytest.raises(GradientCheckError):
        check_activation(real, lambda x: 1 / (1 + x**2) * 1.0001, rtol=1e-7)


def test_complex_steps_are_not_trusted_where_they_lie() -> None:
    """abs of a complex number is no analytic function: the step gives 0 and differences must take over."""

    def softsign(x: Any) -> Any:
        return x / (1 + np.abs(x))

    assert check_activation(softsign, lambda x: 1 / (1 + np.abs(x)) ** 2, rtol=1e-6).resolved > 200


# --- strategies -----------------------------------------------------------------------------------------


def test_strategies_draw_the_whole_catalogue() -> None:
    seen: dict[str, set[str]] = {"activation": set(), "initializer": set(), "loss": set(), "dtype": set()}

    @settings(max_examples=400, derandomize=True, database=None)
    @given(
        vg.testing.activations(),
        vg.testing.initializers(constant=True),
        vg.testing.losses(),
        vg.testing.dtypes(),
    )
    def draw(layer: Any, init: Any, loss: Any, dtype: str) -> None:
        for key, name in zip(seen, (layer.function, init.name, loss.name, dtype), strict=True):
            seen[key].add(name)

    draw()
    assert seen["activation"] == set(vg.activations.names())
    # Those that only fit some widths and activations are drawn where they are asked for by name.
    assert seen["initializer"] == set(vg.initializers.names()) - {"edge_of_chaos", "looks_linear"}
    assert seen["loss"] == set(vg.losses.names())
    assert seen["dtype"] == {"float32", "float64"}


def test_without_hypothesis_the_message_is_the_line_to_type() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\nimport vgcore as vg\n"
        "try: vg.testing.networks()\nexcept vg.MissingDependencyError as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "vgcore[testing]"' in out
