"""Tests of what goes into a recurrent network: sequences, lengths, masks, states, targets for every step, and
what is said when something is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from numpy.typing import NDArray
from refusals import refused

BATCH, STEPS, IN, HIDDEN, OUT = 4, 7, 3, 5, 2
LENGTHS = np.array([7, 3, 1, 5])


def network(cell: str = "lstm", read: str = "last", dtype: str = "float32", **more: Any) -> vg.Network:
    return vg.rnn(cell, HIDDEN, in_features=IN, out_features=OUT, read=read, dtype=dtype, rng=0, **more)


def sequences(dtype: str = "float32", steps: int = STEPS) -> NDArray[Any]:
    return np.random.default_rng(0).standard_normal((BATCH, steps, IN)).astype(dtype)


def a_state(rows: int = 1, dtype: str = "float32") -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    return {part: rng.standard_normal((rows, BATCH, HIDDEN)).astype(dtype) for part in ("h", "c")}


# --- what is right -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["last", "every"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "min_gru", "min_lstm", "antisymmetric_rnn"])
def test_shapes_of_the_output(cell: str, read: str) -> None:
    net, x = network(cell, read), sequences()
    expected = (BATCH, OUT) if read == "last" else (BATCH, STEPS, OUT)
    y, state = net.forward(x, return_state=True)
    assert y.shape == expected
    assert y.dtype == np.float32
    assert list(state) == (["h", "c"] if cell == "lstm" else ["h"])
    assert all(part.shape == (1, BATCH, HIDDEN) for part in state.values())
    np.testing.assert_array_equal(net.forward(x), y)


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (1, STEPS), (BATCH, 1)])
def test_one_sample_and_one_step(batch: int, steps: int) -> None:
    x = sequences()[:batch, :steps]
    for read in ("last", "every"):
        net = network(read=read)
        y = net.forward(x)
        assert y.shape == ((batch, OUT) if read == "last" else (batch, steps, OUT))
        v = np.ones(y.shape, np.float32)
        assert net.probe(x, cotangent=v).steps == steps
        assert net.gradients(x, cotangent=v).input.shape == x.shape


@pytest.mark.parametrize("read", ["last", "every"])
def test_lengths_are_what_a_mask_says(read: str) -> None:
    net, x = network(read=read), sequences()
    mask = np.arange(STEPS) < LENGTHS[:, None]
    y = net.forward(x, lengths=LENGTHS)
    for form in (
        LENGTHS.tolist(),
        LENGTHS.astype("uint8"),
        LENGTHS[::-1].copy()[::-1],
        LENGTHS.astype(">i4"),
    ):
        np.testing.assert_array_equal(net.forward(x, lengths=form), y)
    np.testing.assert_array_equal(net.forward(x, mask=mask), y)
    np.testing.assert_array_equal(net.forward(x, mask=mask.tolist()), y)


def test_each_sample_ends_where_its_length_says() -> None:
    x = sequences()
    last, every = network(), network(read="every", bidirectional=True)
    y, whole = last.forward(x, lengths=LENGTHS), every.forward(x, lengths=LENGTHS)
    _, state = last.forward(x, lengths=LENGTHS, return_state=True)
    for sample, length in enumerate(LENGTHS):
        alone = x[sample : sample + 1, :length]
        np.testing.assert_allclose(y[sample], last.forward(alone)[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(whole[sample, :length], every.forward(alone)[0], rtol=1e-5, atol=1e-6)
        _, own = last.forward(alone, return_state=True)
        np.testing.assert_allclose(state["c"][:, sample], own["c"][:, 0], rtol=1e-5, atol=1e-6)


def test_outputs_behind_the_end_are_zero_without_a_head() -> None:
    net = vg.rnn("gru", HIDDEN, in_features=IN, read="every", rng=0)
    y = net.forward(sequences(), lengths=LENGTHS)
    behind = np.arange(STEPS) >= LENGTHS[:, None]
    assert not y[behind].any()
    assert y[~behind].all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_sequence_in_two_parts(cell: str, layers: int) -> None:
    net, x = network(cell, "every", "float64", num_layers=layers), sequences("float64")
    whole, end = net.forward(x, return_state=True)
    first, state = net.forward(x[:, :3], return_state=True)
    second, after = net.forward(x[:, 3:], state=state, return_state=True)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    assert all(np.array_equal(after[part], end[part]) for part in end)


def test_forms_of_a_state() -> None:
    x, state = sequences(), a_state()
    net, gru = network(), network("gru")
    y = net.forward(x, state=state)
    np.testing.assert_array_equal(net.forward(x, state=(state["h"], state["c"])), y)
    np.testing.assert_array_equal(net.forward(x, state={"c": state["c"], "h": state["h"].tolist()}), y)
    assert not np.array_equal(net.forward(x), y)
    y = gru.forward(x, state=state["h"])
    np.testing.assert_array_equal(gru.forward(x, state={"h": state["h"]}), y)
    np.testing.assert_array_equal(gru.forward(x, state=(state["h"],)), y)
    zeros = {part: np.zeros_like(value) for part, value in state.items()}
    np.testing.assert_array_equal(net.forward(x, state=zeros), net.forward(x))


def test_a_state_that_is_given_comes_before_a_learned_one() -> None:
    net, x, state = network(dtype="float64", state="learned"), sequences("float64"), a_state(dtype="float64")
    v = np.ones((BATCH, OUT))
    assert net.gradients(x, cotangent=v)["rnn.h0"].any()
    given = net.gradients(x, cotangent=v, state=state)
    assert not given["rnn.h0"].any()
    assert given["state.h"].shape == given["state.c"].shape == (1, BATCH, HIDDEN)


def test_what_is_behind_the_end_of_a_target_does_not_matter() -> None:
    net, x = network(read="every", dtype="float64"), sequences("float64")
    behind = np.arange(STEPS) >= LENGTHS[:, None]
    labels = np.random.default_rng(2).integers(0, OUT, (BATCH, STEPS))
    expected = net.loss(x, labels, "cross_entropy", lengths=LENGTHS)
    assert net.loss(x, np.where(behind, -100, labels), "cross_entropy", lengths=LENGTHS) == expected
    real = np.random.default_rng(3).standard_normal((BATCH, STEPS, OUT))
    expected = net.loss(x, real, "mse", lengths=LENGTHS)
    assert net.loss(x, np.where(behind[..., None], np.nan, real), "mse", lengths=LENGTHS) == expected
    gap = (net.forward(x, lengths=LENGTHS) - real)[~behind]  # the mean is over the steps that count
    assert expected == pytest.approx(np.mean(gap**2), rel=1e-12)


def test_truncation() -> None:
    net, x = network("gru", dtype="float64"), sequences("float64")
    v = np.ones((BATCH, OUT))
    for cut in (STEPS, STEPS + 1, 10**6):
        # exactly: a cosine by rounded products is beside one as often as not
        assert {*net.truncation_loss(x, cotangent=v, truncate=cut).values()} == {(0.0, 1.0)}
    lost = net.truncation_loss(x, cotangent=v, truncate=2)
    assert lost["rnn.weight_hh_l0"].difference > 1e-3
    assert lost["rnn.weight_hh_l0"].cosine < 1.0
    assert lost["output.weight"] == (0.0, 1.0)
    assert net.probe(x, cotangent=v, truncate=2).meta["truncate"] == 2


def test_plans_are_text() -> None:
    net = network()
    assert net.memory_plan(8, 1000)
    assert net.memory_plan(8, 1000, "8MB", mode="gradients")
    assert vg.mlp(10, 4, rng=0).memory_plan(8)


def test_what_a_network_says_of_itself() -> None:
    assert network().axis == "time"
    assert vg.mlp(3, 4, rng=0).axis == "depth"
    assert network().probe(sequences(), cotangent=np.ones((BATCH, OUT), np.float32)).axis == "time"


# --- sequences that are none -------------------------------------------------------------------------------

X = sequences()
V = np.ones((BATCH, OUT), np.float32)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (X[0], ["x: expected shape (batch, time, 3), got (7, 3)", "x[None]"]),
        (X[:, :, :2], ["(batch, time, 3)", "got (4, 7, 2)"]),
        (X.swapaxes(1, 2), ["got (4, 3, 7)", "x.swapaxes(1, 2)"]),
        (X[:, 0, 0], ["got (4,)"]),
        (X[0, 0, 0], ["got ()", "3 axes"]),
        (
            X[:, None].swapaxes(1, 2).reshape(BATCH, STEPS, IN, 1),
            ["got (4, 7, 3, 1)", "x.reshape(*x.shape[:2], -1)"],
        ),
        (X[:, :0], ["x: expected at least one element", "(4, 0, 3)", "the axis time has length 0"]),
        (X[:0], ["(0, 7, 3)", "the axis batch has length 0"]),
    ],
)
def test_wrong_shape_of_x(x: Any, words: list[str]) -> None:
    with refused(vg.ShapeError, *words):
        network().forward(x)
    with refused(vg.ShapeError, *words):
        network().probe(x, cotangent=V)


def test_one_number_a_step() -> None:
    net = vg.rnn("gru", 4, in_features=1, rng=0)
    with refused(vg.ShapeError, "got (4, 7)", "x[:, :, None]"):
        net.forward(X[:, :, 0])
    with refused(vg.ShapeError, "got (7,)", "x[None, :, None]"):
        net.forward(X[0, :, 0])


def test_other_errors_of_x_say_where() -> None:
    x = X.copy()
    x[1, 2, 0] = np.nan
    with refused(vg.NonFiniteError, "x[1, 2, 0]", "1 NaN"):
        network().forward(x)
    with refused(vg.DTypeError, "x: expected float32, got float64"):
        network().forward(X.astype("float64"))
    with refused(vg.DTypeError, "int64"):
        network().forward(np.ones((BATCH, STEPS, IN), int))


# --- lengths and masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "error", "words"),
    [
        ([7, 3, 1], vg.ShapeError, ["lengths: expected shape (4,)", "4 samples of x", "got (3,)"]),
        ([[7, 3, 1, 5]], vg.ShapeError, ["got (1, 4)", "lengths.ravel()"]),
        (7, vg.ShapeError, ["got ()", "numpy.full(4, 7)"]),
        ([7] * STEPS, vg.ShapeError, ["got (7,)", "x.swapaxes(0, 1)"]),
        ([7, 0, 1, 5], vg.ArgumentError, ["expected 1 to 7", "got 0 at lengths[1]", "leave samples without"]),
        ([7, 3, 8, 9], vg.ArgumentError, ["got 8 at lengths[2]", "(2 of 4 out of range)", "pad x"]),
        ([7, 3, -1, 5], vg.ArgumentError, ["got -1 at lengths[2]"]),
        ([7.0, 3.0, 1.0, 5.0], vg.DTypeError, ["lengths: expected integers, got float64", '"int64"']),
        ([True, True, True, False], vg.DTypeError, ["got bool", "mask="]),
        (["7", "3", "1", "5"], vg.DTypeError, ["lengths: expected integers"]),
    ],
)
def test_bad_lengths(lengths: Any, error: type[Exception], words: list[str]) -> None:
    with refused(error, *words):
        network().forward(X, lengths=lengths)
    with refused(error, *words):
        network().probe(X, cotangent=V, lengths=lengths)


def masked(*rows: str) -> NDArray[np.bool_]:
    return np.array([[letter == "x" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (
            masked("xxxxxxx", "xx.x...", "x......", "xxxxx.."),
            vg.ArgumentError,
            [
                "mask",
                "without gaps",
                "False at step 2 and True at step 3 of sample 1 (1 of 4 samples)",
                "pad",
            ],
        ),
        (
            masked("xxxxxxx", "....xxx", "x......", "x.x.x.."),
            vg.ArgumentError,
            ["False at step 0 and True at step 4 of sample 1 (2 of 4 samples)"],
        ),
        (
            ~masked("xxxxxxx", "xxx....", "x......", "xxxxx.."),
            vg.ArgumentError,
            ["False at step 0 and True at step 3 of sample 1", "pass ~mask"],
        ),
        (
            masked("xxxxxxx", "xxx....", ".......", "xxxxx.."),
            vg.ArgumentError,
            ["at least one step", "none for sample 2; leave samples without steps out"],
        ),
        (masked("xxxxxxx", "xxx...."), vg.ShapeError, ["mask: expected shape (4, 7)", "got (2, 7)"]),
        (masked("xxxxxxx", "xxx....", "x......", "xxxxx..").T, vg.ShapeError, ["got (7, 4)", "mask.T"]),
        (np.ones((BATCH, STEPS)), vg.DTypeError, ["mask: expected bool, got float64", "mask != 0"]),
        (np.ones((BATCH, STEPS), int), vg.DTypeError, ["got int64"]),
    ],
)
def test_bad_masks(mask: Any, error: type[Exception], words: list[str]) -> None:
    with refused(error, *words):
        network().forward(X, mask=mask)
    with refused(error, *words):
        network().step(X, cotangent=V, lr=0.1, mask=mask)


def test_lengths_or_a_mask() -> None:
    with refused(vg.ArgumentError, "lengths and mask", "one of them"):
        network().forward(X, lengths=LENGTHS, mask=np.ones((BATCH, STEPS), bool))


# --- states ------------------------------------------------------------------------------------------------

H = a_state()["h"]


@pytest.mark.parametrize(
    ("cell", "state", "error", "words"),
    [
        ("gru", H[:, :3], vg.ShapeError, ["state['h']: expected shape (1, 4, 5), got (1, 3, 5)"]),
        ("gru", H[0], vg.ShapeError, ["got (4, 5)", "state['h'][None]"]),
        ("gru", H.swapaxes(0, 1), vg.ShapeError, ["got (4, 1, 5)", "state['h'].swapaxes(0, 1)"]),
        ("gru", H[:, :, :2], vg.ShapeError, ["expected shape (1, 4, 5), got (1, 4, 2)"]),
        ("gru", H.astype("float64"), vg.DTypeError, ["state['h']: expected float32, got float64"]),
        ("gru", H * np.nan, vg.NonFiniteError, ["state['h'][0, 0, 0]"]),
        ("gru", {"h": H, "c": H}, vg.UnknownNameError, ["state of cell 'gru'", "'c'"]),
        ("gru", (H, H), vg.ArgumentError, ["h alone", "got 2 parts"]),
        ("lstm", H, vg.ArgumentError, ["tuple (h, c)", "one ndarray", "state=None"]),
        ("lstm", (H,), vg.ArgumentError, ["tuple (h, c)", "got 1 parts"]),
        ("lstm", {"h": H}, vg.ArgumentError, ["none for 'c'"]),
        ("lstm", {"H": H, "c": H}, vg.UnknownNameError, ["'H'", "did you mean 'h'"]),
        ("lstm", (H, H[:, :, :4]), vg.ShapeError, ["state['c']: expected shape (1, 4, 5)"]),
    ],
)
def test_bad_states(cell: str, state: Any, error: type[Exception], words: list[str]) -> None:
    with refused(error, *words):
        network(cell).forward(X, state=state)
    with refused(error, *words):
        network(cell).gradients(X, cotangent=V, state=state)


def test_states_of_stacks_and_both_directions() -> None:
    net = network("gru", num_layers=2, bidirectional=True)
    with refused(vg.ShapeError, "state['h']: expected shape (4, 4, 5), got (1, 4, 5)"):
        net.forward(X, state=H)


# --- targets and cotangents for every step -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "loss", "error", "words"),
    [
        (np.zeros(BATCH, int), "cross_entropy", vg.ShapeError, ["class labels of shape (4, 7), got (4,)"]),
        (np.zeros((STEPS, BATCH), int), "cross_entropy", vg.ShapeError, ["got (7, 4)", "y.T"]),
        (np.zeros((BATCH, STEPS, 1), int), "cross_entropy", vg.ShapeError, ["got (4, 7, 1)", "y[..., 0]"]),
        (np.zeros((BATCH, STEPS)), "cross_entropy", vg.DTypeError, ["integer class labels", "int64"]),
        (
            np.full((BATCH, STEPS), 2),
            "cross_entropy",
            vg.LabelError,
            ["0..1", "got 2 at y[0, 0]", "28 of 28"],
        ),
        (np.full((BATCH, STEPS), -1), "cross_entropy", vg.LabelError, ["got -1 at y[0, 0]", "lengths="]),
        (np.ones((BATCH, STEPS, 2), "f4"), "cross_entropy", vg.ArgumentError, ["sum to 1", "row 0, 0"]),
        (np.ones((BATCH, 2), "f4"), "mse", vg.ShapeError, ["y: expected shape (4, 7, 2), got (4, 2)"]),
        (np.full((BATCH, STEPS, 2), 2, "f4"), "bce_with_logits", vg.ArgumentError, ["[0, 1]", "y[0, 0, 0]"]),
    ],
)
def test_bad_targets_for_every_step(y: Any, loss: str, error: type[Exception], words: list[str]) -> None:
    with refused(error, *words):
        network(read="every").loss(X, y, loss)


def test_bad_cotangents() -> None:
    with refused(vg.ShapeError, "cotangent: expected shape (4, 7, 2), got (4, 2)"):
        network(read="every").probe(X, cotangent=V)
    with refused(vg.ShapeError, "cotangent: expected shape (4, 2), got (4, 7, 2)"):
        network().probe(X, cotangent=np.ones((BATCH, STEPS, OUT), "f4"))
    one = network(read="every").gradients(X[:1], cotangent=np.ones((STEPS, OUT), "f4"))  # one sample's rows
    assert one.input.shape == (1, STEPS, IN)
