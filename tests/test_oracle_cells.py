"""Tests of the recurrent oracle itself, before anything is measured against it; vgcore is not imported.

Its forward pass is held to PyTorch and to 50-digit arithmetic, its hand-written backward pass to PyTorch, to
complex steps through its own forward pass, and to 50-digit differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle_time
import pytest
from helpers import assert_close
from helpers_time import GOLDEN, LOG10_2, golden_case, long_gru
from oracle_cells import CELLS, jacobians, sigmoid, tanh
from oracle_time import (
    Recurrent,
    directional_derivative,
    forward,
    jacobian_norms,
    plain,
    random_parameters,
    recurrent_gradients,
)

CASES: list[tuple[str, dict[str, Any]]] = [
    *((cell, {}) for cell in CELLS),
    ("rnn", {"activation": "gelu"}),
    ("lstm", {"peephole": True}),
    ("antisymmetric_rnn", {"epsilon": 0.3, "gamma": 0.2}),
]
FORMS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "residual stack, every step, learned start": {
        "layers": 2, "residual": True, "read": "every", "learned": True, "lengths": [4, 1, 3],
    },
    "bidirectional stack, no bias": {
        "layers": 2, "bidirectional": True, "bias": False, "lengths": [4, 2, 3],
    },
    "residual stack, last step": {"layers": 3, "residual": True, "learned": True, "lengths": [2, 4, 3]},
    "bidirectional, every step": {"layers": 2, "bidirectional": True, "read": "every"},
}  # fmt: skip


def relative_gap(got: Any, expected: Any) -> float:
    return float(np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected))


def problem(cell: str, options: dict[str, Any], form: dict[str, Any], seed: int) -> tuple[Any, ...]:
    """A layer, parameters, input, state, lengths and cotangent."""
    rng = np.random.default_rng(seed)
    lengths = form.get("lengths")
    layer = Recurrent(cell, 4, options, **{key: value for key, value in form.items() if key != "lengths"})
    x = rng.normal(size=(3, 4, 3))
    shape = (len(layer.tracks), 3, 4)
    state = None if layer.learned else tuple(rng.normal(size=shape) for _ in CELLS[cell].states)
    parameters = random_parameters(layer, 3, rng)
    v = rng.normal(size=forward(layer, parameters, x, state, lengths).output.shape)
    return layer, parameters, x, state, lengths, v


# --- PyTorch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_against_pytorch(name: str) -> None:
    case = golden_case(name)
    run = recurrent_gradients(case.layer, case.parameters, case.x, case.cotangent, state=case.state)
    expected = case.expected
    assert_close(run.trace.output, expected["output"], 1e-12, "output")
    assert_close(np.sum(run.trace.output * case.cotangent), expected["loss"], 1e-12, "loss")
    assert_close(run.plain_input(), expected["grad_x"], 1e-12, "grad_x")
    for which, letter in enumerate(CELLS[case.layer.cell].states):
        assert_close(run.trace.states[which], expected[f"{letter}_n"], 1e-12, f"{letter}_n")
        start = np.stack([plain(track[which]) for track in run.starts])
        assert_close(start, expected[f"grad_{letter}0"], 1e-12, f"grad_{letter}0")
    assert set(expected["grad_params"]) == set(case.parameters)
    for key, value in expected["grad_params"].items():
        assert_close(run.plain(key), value, 1e-12, key)


def test_long_gru_against_pytorch() -> None:
    layer, parameters, x, v, back = long_gru()
    hidden = recurrent_gradients(layer, parameters, x, v).hidden[0] * LOG10_2
    assert_close(hidden[[-1 - k for k in back]], list(back.values()), 1e-12, "log10 |dL/dh|")


# --- complex steps --------------------------------------------------------------------------------------


NAMED = pytest.mark.parametrize(
    ("cell", "options"), CASES, ids=lambda e: e if isinstance(e, str) else "-".join(map(str, e.values()))
)


@NAMED
def test_backward_equals_complex_step_entry_by_entry(cell: str, options: dict[str, Any]) -> None:
    layer, parameters, x, state, _, v = problem(cell, options, {}, 1)
    run = recurrent_gradients(layer, parameters, x, v, state=state)
    starts = [np.stack([plain(track[k]) for track in run.starts]) for k in range(len(state))]
    checked = [(value, run.plain(name), name) for name, value in parameters.items()]
    checked += [(x, run.plain_input(), "x")]
    checked += [(part, start, k) for k, (part, start) in enumerate(zip(state, starts, strict=True))]
    for value, gradient, what in checked:
        found = np.empty(value.shape)
        for position in np.ndindex(value.shape):
            unit = np.zeros(value.shape)
            unit[position] = 1.0
            found[position] = directional_derivative(
                layer, parameters, x, {what: unit} if isinstance(what, str) else {}, v, state=state,
                x_direction=unit if what == "x" else 0.0,
                state_direction=[unit if k == what else 0.0 for k in range(len(state))],
            )  # fmt: skip
        assert relative_gap(gradient, found) < 1e-13, what


@pytest.mark.parametrize("form", FORMS)
@NAMED
def test_backward_equals_complex_steps_along_directions(
    cell: str, options: dict[str, Any], form: str
) -> None:
    """Every parameter, input and initial state at once; rounding is relative to the terms of the sum."""
    layer, parameters, x, state, lengths, v = problem(cell, options, FORMS[form], 1)
    run = recurrent_gradients(layer, parameters, x, v, state=state, lengths=lengths)
    rng = np.random.default_rng(2)
    for _ in range(5):
        directions = {name: rng.normal(size=value.shape) for name, value in parameters.items()}
        along_x = rng.normal(size=x.shape)
        along = None if state is None else [rng.normal(size=part.shape) for part in state]
        step = directional_derivative(
            layer, parameters, x, directions, v, x_direction=along_x, state=state, state_direction=along,
            lengths=lengths,
        )  # fmt: skip
        terms = [run.plain(name) * directions[name] for name in parameters] + [run.plain_input() * along_x]
        for k, part in enumerate(along or []):
            terms.append(np.stack([plain(track[k]) for track in run.starts]) * part)
        flat = np.concatenate([part.ravel() for part in terms])
        assert abs(step - flat.sum()) < 1e-13 * np.sqrt(np.sum(flat**2))


@NAMED
def test_state_gradients_and_jacobians_equal_complex_steps(cell: str, options: dict[str, Any]) -> None:
    """dL/dh_t, dL/dc_t: the steps after t run alone from the state at t; the Jacobian: one step from each
    entry."""
    layer, parameters, x, state, _, v = problem(cell, options, {}, 3)
    run = recurrent_gradients(layer, parameters, x, v, state=state)
    for t in range(x.shape[1] - 1):
        middle = forward(layer, parameters, x[:, : t + 1], state).states
        rest = recurrent_gradients(layer, parameters, x[:, t + 1 :], v, state=middle)
        expected = [plain(part) for part in rest.starts[0]]
        if cell == "lstm":  # c_t acts through h_t too
            kept, w = run.trace.tracks[0].kept[t], run.trace.tracks[0].weights
            p_o = np.split(w["peephole"], 3)[2] if "peephole" in w else 0.0
            c = kept["new_c"] + 1e-60j
            gate = sigmoid(kept["pre"][3] + p_o * (c - kept["new_c"]))
            expected[1] = expected[1] + expected[0] * (gate * tanh(c)).imag / 1e-60
        for which, part in enumerate(expected):
            assert relative_gap(plain(run.states[0][t][which]), part) < 1e-14
            assert 2.0 ** run.states[0][t][which].log2_norm() == pytest.approx(
                np.linalg.norm(part), rel=1e-13
            )
    track = run.trace.tracks[0]
    entry, hidden = CELLS[cell], layer.hidden
    kept = track.kept[2]
    start = forward(layer, parameters, x[:, :2], state).states
    matrix = jacobians(cell, track.weights, kept, layer.given)
    for column in range(hidden * len(start)):
        moved = [part[0].astype(complex) for part in start]
        moved[column // hidden][:, column % hidden] += 1e-60j
        new, _ = entry.forward(track.weights, x[:, 2].astype(complex), tuple(moved), layer.given)
        slope = np.concatenate(new, axis=1).imag / 1e-60
        np.testing.assert_allclose(matrix[:, :, column], slope, rtol=1e-12, atol=1e-15)
    expected = np.sqrt(np.mean(np.sum(matrix**2, axis=(1, 2))) / matrix.shape[1])
    assert 2.0 ** jacobian_norms(layer, run.trace)[0, 2] == pytest.approx(expected, rel=1e-13)


# --- sums over steps, lengths, truncation ---------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_contributions_of_steps_add_up(cell: str) -> None:
    """Truncated to one step, the gradient at each step is that step's own; a norm cannot exceed the sum of
    norms."""
    layer, parameters, x, state, _, v = problem(cell, {}, {}, 4)
    run = recurrent_gradients(layer, parameters, x, v, state=state)
    for leaf in ("weight_ih", "weight_hh"):
        if f"{leaf}_l0" in parameters:
            steps = 2.0 ** run.contribution(leaf)[0]
            assert steps.shape == (x.shape[1],)
            whole = np.linalg.norm(run.plain(f"{leaf}_l0"))
            assert whole <= steps.sum() * (1 + 1e-14)
    pre = [plain(rows) for rows in run.pre[0]]
    total = sum(rows.T @ x[:, t] for t, rows in enumerate(pre))
    assert relative_gap(run.plain("weight_ih_l0"), total) < 1e-14
    for t, rows in enumerate(pre):
        size = np.linalg.norm(rows.T @ x[:, t])
        assert 2.0 ** run.contribution("weight_ih")[0, t] == pytest.approx(size, rel=1e-13)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_length_is_a_shorter_sample(cell: str, bidirectional: bool) -> None:
    form = {"layers": 2, "bidirectional": bidirectional, "read": "every", "lengths": [2, 4, 3]}
    layer, parameters, x, state, lengths, v = problem(cell, {}, form, 5)
    for truncate in (None, 1, 2, 3):
        run = recurrent_gradients(layer, parameters, x, v, state=state, lengths=lengths, truncate=truncate)
        for row, n in enumerate(lengths):
            one = slice(row, row + 1)
            alone = recurrent_gradients(
                layer, parameters, x[one, :n], v[one, :n], state=tuple(s[:, one] for s in state),
                truncate=truncate,
            )  # fmt: skip
            assert relative_gap(run.trace.output[row, :n], alone.trace.output[0]) < 1e-13
            assert not run.trace.output[row, n:].any()
            assert relative_gap(run.plain_input()[row, :n], alone.plain_input()[0]) < 1e-13
            assert not run.plain_input()[row, n:].any()
            for part, own in zip(run.trace.states, alone.trace.states, strict=True):
                assert relative_gap(part[:, one], own) < 1e-13


def test_truncation_is_the_gradient_of_pieces_with_the_state_carried_on() -> None:
    """Own pieces of k steps, each from the last state of the one before, held constant: gradients add up."""
    layer, parameters, x, _, _, _ = problem("lstm", {}, {"read": "every"}, 6)
    rng = np.random.default_rng(7)
    x, v = rng.normal(size=(3, 7, 3)), rng.normal(size=(3, 7, 4))
    for k in (1, 2, 3, 6, 7, 9):
        run = recurrent_gradients(layer, parameters, x, v, truncate=k)
        total = {name: np.zeros(value.shape) for name, value in parameters.items()}
        state, inputs = None, []
        for start in range(0, 7, k):
            piece = slice(start, start + k)
            one = recurrent_gradients(layer, parameters, x[:, piece], v[:, piece], state=state)
            state = one.trace.states
            inputs.append(one.plain_input())
            for name in total:
                total[name] += one.plain(name)
        np.testing.assert_array_equal(run.plain_input(), np.concatenate(inputs, axis=1))
        for name, value in total.items():
            assert relative_gap(run.plain(name), value) < 1e-14, name
    whole = recurrent_gradients(layer, parameters, x, v)
    for name in parameters:
        np.testing.assert_array_equal(run.plain(name), whole.plain(name))


def test_no_gradient_is_too_small_for_the_exponents() -> None:
    """A minGRU that keeps next to nothing: sigmoid(-20)^500 is about 1e-4343, and exact."""
    layer = Recurrent("min_gru", 2)
    bias = np.array([20.0, 20.0, 0.3, -0.2])
    parameters = {"weight_ih_l0": np.zeros((4, 1)), "bias_ih_l0": bias}
    run = recurrent_gradients(layer, parameters, np.zeros((1, 500, 1)), np.array([[3.0, 4.0]]))
    rate = np.log2(np.exp(-20.0) / (1 + np.exp(-20.0)))
    np.testing.assert_allclose(run.hidden[0], np.log2(5.0) + rate * np.arange(499, -1, -1), rtol=1e-14)
    assert run.start[0] == pytest.approx(np.log2(5.0) + 500 * rate, rel=1e-14)
    assert run.start[0] * LOG10_2 < -4300


# --- 50 digits ------------------------------------------------------------------------------------------


def mp_lstm(mp: Any, w: dict[str, Any], x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """LSTM with peepholes, one entry after the other."""

    def logistic(value: Any) -> Any:
        return 1 / (1 + mp.exp(-value))

    width = len(h)
    pre = []
    for row in range(4 * width):
        total = w["bias_ih"][row] + w["bias_hh"][row]
        total += mp.fsum(a * b for a, b in zip(w["weight_ih"][row], x, strict=True))
        pre.append(total + mp.fsum(a * b for a, b in zip(w["weight_hh"][row], h, strict=True)))
    new_h, new_c = [], []
    for j in range(width):
        p_i, p_f, p_o = (w["peephole"][part * width + j] for part in range(3))
        i, f = logistic(pre[j] + p_i * c[j]), logistic(pre[width + j] + p_f * c[j])
        new_c.append(f * c[j] + i * mp.tanh(pre[2 * width + j]))
        new_h.append(logistic(pre[3 * width + j] + p_o * new_c[j]) * mp.tanh(new_c[j]))
    return new_h, new_c


def mp_gru(mp: Any, w: dict[str, Any], x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """GRU, one entry after the other."""
    width = len(h)

    def row(matrix: str, bias: str, number: int, vector: Any) -> Any:
        return w[bias][number] + mp.fsum(a * b for a, b in zip(w[matrix][number], vector, strict=True))

    new = []
    for j in range(width):
        from_x = [row("weight_ih", "bias_ih", gate * width + j, x) for gate in range(3)]
        from_h = [row("weight_hh", "bias_hh", gate * width + j, h) for gate in range(3)]
        r, z = (1 / (1 + mp.exp(-from_x[gate] - from_h[gate])) for gate in range(2))
        new.append((1 - z) * mp.tanh(from_x[2] + r * from_h[2]) + z * h[j])
    return new, c


@pytest.mark.parametrize(("cell", "options"), [("lstm", {"peephole": True}), ("gru", {})])
def test_against_50_digits(cell: str, options: dict[str, Any]) -> None:
    """Value and every derivative of a tiny network; differences of step 1e-20 leave 40 digits of 60."""
    mp = pytest.importorskip("mpmath")
    one_step = {"lstm": mp_lstm, "gru": mp_gru}[cell]
    rng = np.random.default_rng(8)
    layer = Recurrent(cell, 2, options)
    x, v = rng.normal(size=(1, 3, 2)), rng.normal(size=(1, 2))
    parameters = random_parameters(layer, 2, rng)
    run = recurrent_gradients(layer, parameters, x, v)

    def value(weights: dict[str, Any], inputs: Any) -> Any:
        h, c = [mp.mpf(0)] * 2, [mp.mpf(0)] * 2
        for t in range(3):
            h, c = one_step(mp, weights, inputs[t], h, c)
        return mp.fsum(mp.mpf(float(a)) * b for a, b in zip(v[0], h, strict=True))

    def exact(array: Any) -> Any:
        return np.vectorize(lambda a: mp.mpf(float(a)), otypes=[object])(array)

    def gradient(array: Any, function: Callable[[Any], Any]) -> Any:
        found = np.empty(array.shape)
        step = mp.mpf(10) ** -20
        for position in np.ndindex(array.shape):
            sides = []
            for sign in (1, -1):
                moved = exact(array)
                moved[position] += sign * step
                sides.append(function(moved))
            found[position] = float((sides[0] - sides[1]) / (2 * step))
        return found

    with mp.workdps(60):
        weights = {name.removesuffix("_l0"): exact(array) for name, array in parameters.items()}
        inputs = exact(x[0])
        assert float(value(weights, inputs)) == pytest.approx(float(np.sum(run.trace.output * v)), rel=1e-14)
        assert_close(run.plain_input()[0], gradient(x[0], lambda a: value(weights, a)), 1e-13, "x")
        for name, array in parameters.items():
            leaf = name.removesuffix("_l0")
            expected = gradient(array, lambda a, leaf=leaf: value(weights | {leaf: a}, inputs))
            assert_close(run.plain(name), expected, 1e-12, name)


def test_head_on_top_of_a_recurrent_layer() -> None:
    """Dense head and loss, all valid rows in one mean, against complex steps through both."""
    layer = Recurrent("gru", 3, read="every", layers=2)
    rng = np.random.default_rng(9)
    parameters, head = random_parameters(layer, 2, rng), [("dense", 4, True)]
    above = {"0.weight": rng.normal(size=(4, 3)), "0.bias": rng.normal(size=4)}
    x, lengths = rng.normal(size=(3, 5, 2)), [5, 2, 3]
    labels, loss = rng.integers(0, 4, (3, 5)), {"name": "cross_entropy"}
    run, top = oracle_time.network_gradients(
        layer, parameters, head, above, x, target=labels, loss=loss, lengths=lengths
    )
    directions = {name: rng.normal(size=value.shape) for name, value in parameters.items()}
    moved = {name: value + 1e-60j * directions[name] for name, value in parameters.items()}
    trace = forward(layer, moved, x.astype(complex), None, lengths)
    rows = trace.output[trace.valid] @ above["0.weight"].T + above["0.bias"]
    target = labels[trace.valid]
    value = np.mean(np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(rows)), target])
    assert top.loss == pytest.approx(value.real, rel=1e-14)
    terms = np.concatenate([(run.plain(name) * directions[name]).ravel() for name in parameters])
    assert abs(value.imag / 1e-60 - terms.sum()) < 1e-13 * np.sqrt(np.sum(terms**2))
