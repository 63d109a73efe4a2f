"""Reference layer of the tests: one time step of every recurrent cell, forward and backward, slow and
readable, in NumPy.

A cell maps (its weights, an input row x, its states) to its new states; its backward pass takes dL/d(new
states) and gives what flows on.  Forward takes float64 and complex128 alike (every formula is analytic), so a
complex step judges the hand-written backward pass.  Knows nothing of vgcore; equations and gate orders are
PyTorch's, or the papers' where PyTorch has no such cell.

Weights `w` are a dict: weight_ih (G*H, in), weight_hh (G*H, H), bias_ih, bias_hh (G*H), peephole (3H),
lru (3H/2); what a cell does not have is absent.  `o` are the cell's options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracle_activations import activation

Array = NDArray[Any]
Weights = Mapping[str, Array]
Options = Mapping[str, Any]
States = tuple[Array, ...]  # (h,) or (h, c), each (batch, H)
Kept = dict[str, Array]  # what a step keeps for its backward pass

sigmoid, sigmoid_slope = activation("sigmoid")
tanh, tanh_slope = activation("tanh")


@dataclass(frozen=True)
class Back:
    """What the backward pass of one step gives."""

    pre: Array  # dL/d(pre-activations), (batch, G*H); for lru dL/d(weight_ih x)
    x: Array
    states: States
    weights: dict[str, Array]  # this step's contribution, summed over the batch
    cell: Array | None = None  # dL/dc' of an lstm by every path: also the one through h' of the same step


@dataclass(frozen=True)
class Cell:
    """One entry of the table: names of the gates and leaves, and the two passes of a step."""

    gates: tuple[str, ...]
    forward: Callable[[Weights, Array, States, Options], tuple[States, Kept]]
    backward: Callable[[Weights, Kept, States, Options], Back]
    leaves: tuple[str, ...] = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    states: tuple[str, ...] = ("h",)
    options: Mapping[str, Any] = field(default_factory=dict)


def linear(w: Weights, which: str, rows: Array) -> Array:
    """rows W^T + b of "ih" or "hh"; what is absent adds nothing."""
    return rows @ w[f"weight_{which}"].T + w.get(f"bias_{which}", 0.0)


def parts(rows: Array, count: int) -> list[Array]:
    return np.split(rows, count, axis=1)


def affine_weights(w: Weights, x: Array, pre_x: Array, h: Array, pre_h: Array) -> dict[str, Array]:
    """Contributions to the weights and biases of `linear(ih, x)` and `linear(hh, h)`."""
    found = {
        "weight_ih": pre_x.T @ x,
        "weight_hh": pre_h.T @ h,
        "bias_ih": pre_x.sum(axis=0),
        "bias_hh": pre_h.sum(axis=0),
    }
    return {name: value for name, value in found.items() if name in w}


# --- rnn: h' = act(W_ih x + b_ih + W_hh h + b_hh) -------------------------------------------------------


def rnn_forward(w: Weights, x: Array, states: States, o: Options) -> tuple[States, Kept]:
    (h,) = states
    pre = linear(w, "ih", x) + linear(w, "hh", h)
    new = activation(o["activation"], o.get("activation_params"))[0](pre)
    return (new,), {"x": x, "h": h, "pre": pre, "gates": new[None]}


def rnn_backward(w: Weights, k: Kept, d: States, o: Options) -> Back:
    pre = d[0] * activation(o["activation"], o.get("activation_params"))[1](k["pre"])
    weights = affine_weights(w, k["x"], pre, k["h"], pre)
    return Back(pre, pre @ w["weight_ih"], (pre @ w["weight_hh"],), weights)


# --- lstm: gates i, f, g, o; c' = f c + i g, h' = o tanh(c') --------------------------------------------


def lstm_forward(w: Weights, x: Array, states: States, o: Options) -> tuple[States, Kept]:
    h, c = states
    a_i, a_f, a_g, a_o = parts(linear(w, "ih", x) + linear(w, "hh", h), 4)
    if "peephole" in w:
        p_i, p_f, p_o = np.split(w["peephole"], 3)
        a_i, a_f = a_i + p_i * c, a_f + p_f * c
    new_c = sigmoid(a_f) * c + sigmoid(a_i) * tanh(a_g)
    if "peephole" in w:
        a_o = a_o + p_o * new_c
    new_h = sigmoid(a_o) * tanh(new_c)
    gates = np.stack([sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)])
    kept = {"x": x, "h": h, "c": c, "pre": np.stack([a_i, a_f, a_g, a_o]), "new_c": new_c, "gates": gates}
    return (new_h, new_c), kept


def lstm_backward(w: Weights, k: Kept, d: States, o: Options) -> Back:
    d_h, d_c = d
    a_i, a_f, a_g, a_o = k["pre"]
    i, f, g, out = k["gates"]
    pre_o = d_h * tanh(k["new_c"]) * sigmoid_slope(a_o)
    d_c = d_c + d_h * out * tanh_slope(k["new_c"])
    if "peephole" in w:
        p_i, p_f, p_o = np.split(w["peephole"], 3)
        d_c = d_c + pre_o * p_o
    pre_i, pre_f = d_c * g * sigmoid_slope(a_i), d_c * k["c"] * sigmoid_slope(a_f)
    pre_g, back_c = d_c * i * tanh_slope(a_g), d_c * f
    pre = np.concatenate([pre_i, pre_f, pre_g, pre_o], axis=1)
    weights = affine_weights(w, k["x"], pre, k["h"], pre)
    if "peephole" in w:
        back_c = back_c + pre_i * p_i + pre_f * p_f
        seen = [pre_i * k["c"], pre_f * k["c"], pre_o * k["new_c"]]
        weights["peephole"] = np.concatenate(seen, axis=1).sum(axis=0)
    return Back(pre, pre @ w["weight_ih"], (pre @ w["weight_hh"], back_c), weights, d_c)


# --- gru: gates r, z, n; the reset gate acts after the matrix product; h' = (1-z) n + z h ---------------


def gru_forward(w: Weights, x: Array, states: States, o: Options) -> tuple[States, Kept]:
    (h,) = states
    (x_r, x_z, x_n), (h_r, h_z, h_n) = parts(linear(w, "ih", x), 3), parts(linear(w, "hh", h), 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = tanh(x_n + r * h_n)
    pre = np.stack([x_r + h_r, x_z + h_z, x_n + r * h_n])
    return ((1 - z) * n + z * h,), {"x": x, "h": h, "pre": pre, "h_n": h_n, "gates": np.stack([r, z, n])}


def gru_backward(w: Weights, k: Kept, d: States, o: Options) -> Back:
    (d_h,), (a_r, a_z, a_n), (r, z, n) = d, k["pre"], k["gates"]
    # 1 - z as sigmoid(-a) and n - h as it is: nothing cancels that the forward pass did not cancel
    pre_n = d_h * sigmoid(-a_z) * tanh_slope(a_n)
    pre_z = d_h * (k["h"] - n) * sigmoid_slope(a_z)
    pre_r = pre_n * k["h_n"] * sigmoid_slope(a_r)
    pre_x = np.concatenate([pre_r, pre_z, pre_n], axis=1)
    pre_h = np.concatenate([pre_r, pre_z, pre_n * r], axis=1)
    weights = affine_weights(w, k["x"], pre_x, k["h"], pre_h)
    return Back(pre_x, pre_x @ w["weight_ih"], (pre_h @ w["weight_hh"] + d_h * z,), weights)


# --- antisymmetric rnn: h' = h + eps tanh(W_ih x + b_ih + (W - W^T - gamma 1) h + b_hh) -----------------


def antisymmetric_matrix(w: Weights, o: Options) -> Array:
    return w["weight_hh"] - w["weight_hh"].T - o["gamma"] * np.eye(len(w["weight_hh"]))


def antisymmetric_forward(w: Weights, x: Array, states: States, o: Options) -> tuple[States, Kept]:
    (h,) = states
    pre = linear(w, "ih", x) + h @ antisymmetric_matrix(w, o).T + w.get("bias_hh", 0.0)
    return (h + o["epsilon"] * tanh(pre),), {"x": x, "h": h, "pre": pre, "gates": tanh(pre)[None]}


def antisymmetric_backward(w: Weights, k: Kept, d: States, o: Options) -> Back:
    pre = o["epsilon"] * d[0] * tanh_slope(k["pre"])
    weights = affine_weights(w, k["x"], pre, k["h"], pre)
    weights["weight_hh"] = weights["weight_hh"] - weights["weight_hh"].T
    return Back(pre, pre @ w["weight_ih"], (d[0] + pre @ antisymmetric_matrix(w, o),), weights)


# --- minGRU: gates z, n from x alone; h' = (1-z) h + z n ------------------------------------------------


def min_gru_forward(w: Weights, x: Array, states: States, o: Options) -> tuple[States, Kept]:
    (h,) = states
    a_z, n = parts(linear(w, "ih", x), 2)
    new = (1 - sigmoid(a_z)) * h + sigmoid(a_z) * n
    return (new,), {"x": x, "h": h, "pre": np.stack([a_z, n]), "gates": np.stack([sigmoid(a_z), n])}


def min_gru_backward(w: Weights, k: Kept, d: States, o: Options) -> Back:
    (a_z, n), h = k["pre"], k["h"]
    pre = np.concatenate([d[0] * (n - h) * sigmoid_slope(a_z), d[0] * sigmoid(a_z)], axis=1)
    weights = {"weight_ih": pre.T @ k["x"], "bias_ih": pre.sum(axis=0)}
    kept = {name: value for name, value in weights.items() if name in w}
    return Back(pre, pre @ w["weight_ih"], (d[0] * sigmoid(-a_z),), kept)


# --- minLSTM: gates f, i, n from x alone; h' = (f h + i n)/(f + i) --------------------------------------


def min_lstm_forward(w: Weights, x: Array, states: States, o: Options) -> tuple[States, Kept]:
    (h,) = states
    a_f, a_i, n = parts(linear(w, "ih", x), 3)
    f, i = sigmoid(a_f), sigmoid(a_i)
    new = f / (f + i) * h + i / (f + i) * n
    return (new,), {"x": x, "h": h, "pre": np.stack([a_f, a_i, n]), "gates": np.stack([f, i, n])}


def min_lstm_backward(w: Weights, k: Kept, d: States, o: Options) -> Back:
    (a_f, a_i, n), (f, i, _), h = k["pre"], k["gates"], k["h"]
    # f' = f/(f+i): df'/df = i/(f+i)^2, df'/di = -f/(f+i)^2, and i' = 1 - f'
    share = d[0] * (h - n) / (f + i) ** 2
    pre_f, pre_i = share * i * sigmoid_slope(a_f), -share * f * sigmoid_slope(a_i)
    pre = np.concatenate([pre_f, pre_i, d[0] * i / (f + i)], axis=1)
    weights = {"weight_ih": pre.T @ k["x"], "bias_ih": pre.sum(axis=0)}
    kept = {name: value for name, value in weights.items() if name in w}
    return Back(pre, pre @ w["weight_ih"], (d[0] * f / (f + i),), kept)


# --- lru: s' = lambda s + exp(gamma_log) B x, lambda = exp(-exp(nu) + i exp(theta)); h = [Re s; Im s] ---


def lru_pieces(w: Weights) -> tuple[Array, Array, Array, Array, Array]:
    """Real and imaginary part of lambda, gamma, exp(nu) and exp(theta): real numbers throughout, so that the
    imaginary unit of a complex step stays apart from that of lambda."""
    nu, theta, gamma = (np.exp(part) for part in np.split(w["lru"], 3))
    size = np.exp(-nu)
    return size * np.cos(theta), size * np.sin(theta), gamma, nu, theta


def lru_forward(w: Weights, x: Array, states: States, o: Options) -> tuple[States, Kept]:
    (h,) = states
    re, im, gamma, _, _ = lru_pieces(w)
    (s_re, s_im), (u_re, u_im) = parts(h, 2), parts(x @ w["weight_ih"].T, 2)
    new = np.concatenate([re * s_re - im * s_im + gamma * u_re, im * s_re + re * s_im + gamma * u_im], axis=1)
    return (new,), {"x": x, "h": h, "u": np.concatenate([u_re, u_im], axis=1)}


def lru_backward(w: Weights, k: Kept, d: States, o: Options) -> Back:
    re, im, gamma, nu, theta = lru_pieces(w)
    (d_re, d_im), (s_re, s_im), (u_re, u_im) = parts(d[0], 2), parts(k["h"], 2), parts(k["u"], 2)
    # d lambda/d nu = -exp(nu) lambda, d lambda/d theta = i exp(theta) lambda
    turned_re, turned_im = re * s_re - im * s_im, im * s_re + re * s_im
    d_nu = -nu * (d_re * turned_re + d_im * turned_im)
    d_theta = theta * (d_im * turned_re - d_re * turned_im)
    d_gamma = gamma * (d_re * u_re + d_im * u_im)
    pre = np.concatenate([d_re * gamma, d_im * gamma], axis=1)
    back = np.concatenate([re * d_re + im * d_im, re * d_im - im * d_re], axis=1)
    leaf = np.concatenate([d_nu, d_theta, d_gamma], axis=1).sum(axis=0)
    return Back(pre, pre @ w["weight_ih"], (back,), {"weight_ih": pre.T @ k["x"], "lru": leaf})


# --- the table ------------------------------------------------------------------------------------------

INPUT_ONLY = ("weight_ih", "bias_ih")
CELLS: dict[str, Cell] = {
    "rnn": Cell(("h",), rnn_forward, rnn_backward, options={"activation": "tanh"}),
    "lstm": Cell(("i", "f", "g", "o"), lstm_forward, lstm_backward, states=("h", "c")),
    "gru": Cell(("r", "z", "n"), gru_forward, gru_backward),
    "irnn": Cell(("h",), rnn_forward, rnn_backward, options={"activation": "relu"}),
    "orthogonal_rnn": Cell(("h",), rnn_forward, rnn_backward, options={"activation": "tanh"}),
    "antisymmetric_rnn": Cell(
        ("h",), antisymmetric_forward, antisymmetric_backward, options={"epsilon": 0.01, "gamma": 0.01}
    ),
    "min_gru": Cell(("z", "n"), min_gru_forward, min_gru_backward, INPUT_ONLY),
    "min_lstm": Cell(("f", "i", "n"), min_lstm_forward, min_lstm_backward, INPUT_ONLY),
    "lru": Cell(("s",), lru_forward, lru_backward, ("weight_ih", "lru")),
}


def leaf_shapes(cell: str, inputs: int, hidden: int, bias: bool, o: Options) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of one direction of one layer."""
    entry = CELLS[cell]
    rows = len(entry.gates) * hidden
    shapes = {
        "weight_ih": (rows, inputs),
        "weight_hh": (rows, hidden),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
        "lru": (hidden // 2 * 3,),
    }
    found = {leaf: shapes[leaf] for leaf in entry.leaves if bias or not leaf.startswith("bias")}
    return found | ({"peephole": (3 * hidden,)} if o.get("peephole") else {})


def jacobians(cell: str, w: Weights, kept: Kept, o: Options) -> Array:
    """d(new states)/d(states) of every sample, (batch, S, S), S the size of all states: one backward pass a
    row."""
    batch, hidden = kept["h"].shape
    count = len(CELLS[cell].states)
    rows = []
    for position in range(count * hidden):
        seed = np.zeros((batch, count * hidden))
        seed[:, position] = 1.0
        back = CELLS[cell].backward(w, kept, tuple(parts(seed, count)), o)
        rows.append(np.concatenate(back.states, axis=1))
    return np.stack(rows, axis=1)
