"""Tests of networks made shallower and deeper: what stays keeps its bits, and what is said is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import _surgery

X = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def residual(depth: int, *, end: str | None = None, rng: int = 0) -> vg.Network:
    branch: list[Any] = [vg.Activation("relu"), vg.Dense(8)] + ([vg.Activation(end)] if end else [])
    step = vg.Residual(branch, scale=0.3)
    layers = [vg.Dense(8), vg.Activation("tanh"), vg.Repeat(step, depth, name="hidden"), vg.Dense(3)]
    return vg.Network(8, layers, rng=rng)


def by_hand(net: vg.Network, gone: set[int]) -> np.ndarray:
    """The network of `residual` without some blocks, in NumPy, step by step."""
    p = {name: value.astype(np.float64) for name, value in net.parameters().items()}
    h = np.tanh(X @ p["0.weight"].T + p["0.bias"])
    for block in range(len(p["hidden.0.1.weight"])):
        if block + 1 not in gone:
            branch = np.maximum(h, 0) @ p["hidden.0.1.weight"][block].T + p["hidden.0.1.bias"][block]
            h = h + 0.3 * branch
    return h @ p["3.weight"].T + p["3.bias"]


# --- steps and removal -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net",
    [
        vg.mlp(5, 8, in_features=8, out_features=3, rng=0),
        residual(4),
        vg.Network(8, [vg.Activation("relu"), vg.Dense(8), vg.Activation("tanh"), vg.Activation("relu")]),
        vg.Network(8, [vg.Repeat(vg.Dense(8), 3, tied=True), vg.Activation("tanh"), vg.Dense(2)], rng=0),
        vg.Network(8, [vg.Dense(8, name="a"), vg.Repeat([vg.Residual(vg.Dense(8))], 1), vg.Dense(8)]),
    ],
    ids=lambda net: repr(net.layers)[:30],
)
def test_steps_are_those_of_a_flow(net: vg.Network) -> None:
    steps = _surgery.steps_of(net)
    assert [step.number for step in steps] == list(range(net.num_steps))
    assert steps[0].in_features == net.in_features
    assert steps[-1].out_features == net.out_features
    assert sum(s.layers for s in steps if not s.copy) == len(net.layers)


@pytest.mark.parametrize("gone", [{1}, {4}, {1, 3}, {1, 2, 3, 4}])
def test_a_network_without_steps_is_the_one_computed_by_hand(gone: set[int]) -> None:
    net = residual(4)
    smaller = net.without(gone)
    np.testing.assert_allclose(smaller.forward(X), by_hand(net, gone), rtol=1e-5)
    assert smaller.num_steps == net.num_steps - len(gone)
    kept = [i for i in range(4) if i + 1 not in gone]
    if kept:
        before, after = net.parameters(), smaller.parameters()
        assert after["hidden.0.1.weight"].tobytes() == before["hidden.0.1.weight"][kept].tobytes()
    assert (
        "3.weight" in smaller.parameters()
    )  # names say the old places, so that values can move between them


def test_nothing_removed_is_the_same_network_and_files_hold_smaller_ones(tmp_path: Any) -> None:
    net = residual(4)
    same = net.without([])
    assert same.forward(X).tobytes() == net.forward(X).tobytes()
    smaller = net.without([2])
    smaller.save(tmp_path / "net.safetensors")
    again = vg.load(tmp_path / "net.safetensors")
    assert again.forward(X).tobytes() == smaller.forward(X).tobytes()


def test_removing_in_two_goes_is_removing_at_once() -> None:
    net = residual(6)
    assert net.without([2, 5]).forward(X).tobytes() == net.without([5]).without([2]).forward(X).tobytes()


def test_stacked_initial_arrays_shrink_with_the_stack() -> None:
    stack = np.random.default_rng(1).normal(size=(5, 8, 8)).astype(np.float32)
    net = vg.mlp(5, 8, init=stack, rng=0)
    assert net.without([0, 3]).parameters()["hidden.weight"].tobytes() == stack[[1, 2, 4]].tobytes()
    tied = vg.Network(8, [vg.Repeat([vg.Dense(8), vg.Activation("tanh")], 5, tied=True)], rng=0)
    assert (
        tied.without([0, 1, 2]).parameters()["0.0.weight"].tobytes()
        == tied.parameters()["0.0.weight"].tobytes()
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: n.without([9]), r"steps: expected numbers from 0 to 5, got 9"),
        (
            lambda n: n.without([5]),
            r"steps: step 5 \(3\) turns 8 features into 3, so what follows needs it; only",
        ),
        (
            lambda n: n.without("12"),
            r"steps: expected a list of step numbers such as \[3, 4\], got '12' \(str\)",
        ),
        (lambda n: n.without([1.5]), r"steps: expected an integer, got 1.5 \(float\)"),
        (
            lambda n: vg.mlp(2, 4).without([0, 1]),
            r"steps: expected at least one step to stay, got all 2 of them",
        ),
        (lambda n: vg.rnn("gru", 4, in_features=2).without([0]), r"net: expected a network along depth"),
        (lambda n: vg.depth.grow(n, 2), r"to: expected at least 4, the steps that the Repeat has, got 2"),
        (lambda n: vg.depth.grow(n, 9, at="hiden"), r"unknown Repeat 'hiden'; did you mean 'hidden'\?"),
        (lambda n: vg.depth.grow(vg.Network(4, [vg.Dense(4)]), 2), r"expected a vg.Repeat whose steps own"),
        (
            lambda n: vg.depth.grow(residual(2, end="relu"), 4),
            r"noise: the branch ends in Activation\('relu'\), who",
        ),
        (
            lambda n: vg.depth.grow(residual(2, end="sigmoid"), 4),
            r"which is 0.5 at 0, so it cannot start at zero",
        ),
        (lambda n: vg.depth.shortest_truncation(n, X), r"net: expected a network along time, such as vg.rnn"),
        (lambda n: vg.depth.linear_survival(4, 1.5), r"last: expected a probability from 0 to 1, got 1.5"),
    ],
)
def test_refusals_say_what_to_do(call: Any, message: str) -> None:
    with pytest.raises(vg.VgcoreError, match=message):
        call(residual(4))


# --- what steps do ---------------------------------------------------------------------------------------


def test_what_a_step_does_is_what_its_removal_changes() -> None:
    net = residual(4)
    measured = vg.depth.removable(net, X, LABELS)
    assert measured.step.tolist() == [0, 1, 2, 3, 4]  # the first Dense keeps the width too; the last does not
    assert measured.skipped == (5,)
    whole = by_hand(net, set())
    for place, block in ((1, 1), (4, 4)):
        part = by_hand(net, {block})
        expected = np.linalg.norm(part - whole) / np.linalg.norm(whole)
        assert measured.output_change[place] == pytest.approx(expected, rel=1e-4)
        shifted = part - part.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        assert measured.loss[place] == pytest.approx(-log_p[np.arange(6), LABELS].mean(), rel=1e-5)
    assert measured.order.tolist() == measured.step[np.argsort(measured.loss)].tolist()
    assert set(measured.table["quantity"]) == {"loss", "loss_change", "output_change"}
    assert len(measured.table["value"]) == 15
    assert "5 of 6 steps" in repr(measured)
    assert "hidden[" in str(measured)
    assert measured._repr_html_().startswith("<table>")
    assert measured.to_dict()["skipped"] == [5]


def test_blocks_that_do_nothing_are_found_and_removed_and_no_others() -> None:
    net = residual(6)
    values = net.parameters()
    for idle in (1, 4):
        values["hidden.0.1.weight"][idle] = 0
        values["hidden.0.1.bias"][idle] = 0
    net.load_parameters(values)
    measured = vg.depth.removable(net, X, LABELS)
    assert measured.idle() == [2, 5]
    assert vg.depth.removable(net, X, LABELS, steps=[5, 1]).idle() == [5]
    pruned = vg.depth.prune(net, X, LABELS, tolerance=0.0)
    assert {2, 5} <= set(pruned.removed)  # others may go if the loss falls without them
    assert pruned.loss_after <= pruned.loss_before
    assert pruned.loss_after == pruned.network.loss(X, LABELS, "cross_entropy")
    assert net.without([2, 5]).forward(X).tobytes() == net.forward(X).tobytes()


# --- growth ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("body", ["residual", "two blocks", "relu", "identity", "linear"])
def test_a_grown_network_computes_the_same_to_the_bit(body: str, dtype: str) -> None:
    block = [vg.Activation("tanh"), vg.Dense(8), vg.Activation("relu"), vg.Dense(8, bias_init="ones")]
    step: list[Any] = {
        "residual": [vg.Residual(block, scale=0.5)],
        "two blocks": [vg.Residual([vg.Dense(8), vg.Activation("tanh")]), vg.Residual(vg.Dense(8))],
        "relu": [vg.Dense(8), vg.Activation("relu")],
        "identity": [vg.Dense(8), vg.Activation("identity")],
        "linear": [vg.Dense(8)],
    }[body]
    net = vg.Network(8, [vg.Dense(8), vg.Repeat(step, 3, name="hidden"), vg.Dense(3)], dtype=dtype, rng=1)
    x = X.astype(dtype)
    grown = vg.depth.grow(net, 40)
    assert grown.num_steps == 42
    assert grown.forward(x).tobytes() == net.forward(x).tobytes()
    old, new = net.parameters(), grown.parameters()
    for name, value in old.items():
        assert new[name][: len(value)].tobytes() == value.tobytes()
    flow = grown.probe(x, LABELS, loss="cross_entropy")
    assert np.isfinite(flow.log10_weight_grad_norm).all(), "a new step that cannot learn is no growth"
    again = vg.depth.grow(net, 40)
    assert all(
        a.tobytes() == b.tobytes() for a, b in zip(new.values(), again.parameters().values(), strict=True)
    )


def test_growth_learns_from_the_first_step_on() -> None:
    grown = vg.depth.grow(residual(2), 10)
    before = grown.parameters()["hidden.0.1.weight"]
    grown.step(X, LABELS, loss="cross_entropy", lr=0.1)
    moved = np.abs(grown.parameters()["hidden.0.1.weight"] - before).reshape(10, -1).max(axis=1)
    assert (moved > 0).all()


def test_a_plain_tanh_step_grows_near_the_identity_and_noise_is_what_it_says() -> None:
    net = vg.mlp(3, 8, activation="tanh", init="orthogonal", rng=0)
    x = 0.01 * X
    near = vg.depth.grow(net, 4).forward(x)
    np.testing.assert_allclose(near, net.forward(x), rtol=1e-2)
    assert near.tobytes() != net.forward(x).tobytes()
    drawn = vg.mlp(5, 8, activation="tanh", init="orthogonal", rng=0).parameters()["hidden.weight"][3:]
    noisy = vg.depth.grow(net, 5, noise=0.125).parameters()["hidden.weight"][3:]
    assert noisy.tobytes() == (np.float32(0.125) * drawn + np.eye(8, dtype=np.float32)).tobytes()
    relu = vg.depth.grow(residual(2, end="relu"), 4, noise=0.01)
    gap = np.abs(relu.forward(X) - residual(2, end="relu").forward(X)).max()
    assert 0 < gap < 0.1


def test_a_complete_list_of_names_does_not_go_on() -> None:
    with pytest.raises(
        vg.UnknownNameError, match=r"Repeat 0; expected one of hidden; \[layer.name for layer"
    ):
        vg.depth.grow(vg.mlp(3, 4, rng=0), 5, at=0)
    with pytest.raises(vg.UnknownNameError, match=r"activation 7; expected one of \w+(, \w+){5}, ...; "):
        vg.activations.describe(7)


def test_growth_then_removal_is_where_it_began() -> None:
    net = residual(3)
    grown = vg.depth.grow(net, 7)
    idle = vg.depth.removable(grown, X, LABELS).idle()
    assert idle == [4, 5, 6, 7]
    back = grown.without(idle)
    assert {n: v.tobytes() for n, v in back.parameters().items()} == {
        n: v.tobytes() for n, v in net.parameters().items()
    }


# --- stochastic depth, truncation ------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 4, 54, 110])
def test_expected_active_blocks_are_those_of_the_paper(blocks: int) -> None:
    """Huang et al. 2016, section 3: E = (3 L - 1) / 4 for p_L = 0.5; L = 54 keeps about 40 blocks."""
    chances = vg.depth.linear_survival(blocks)
    assert chances.sum() == pytest.approx((3 * blocks - 1) / 4, rel=1e-14)
    assert chances[-1] == 0.5
    assert np.allclose(np.diff(chances), -0.5 / blocks, rtol=1e-12)
    assert vg.depth.linear_survival(blocks, 1.0).tolist() == [1.0] * blocks


def rnn(scale: float, steps: int, read: str = "last") -> tuple[vg.Network, np.ndarray, np.ndarray]:
    layer = vg.Recurrent("rnn", 8, recurrent_init=scale * np.eye(8), read=read, name="rnn")
    net = vg.Network(2, [layer], dtype="float64", rng=0)
    x = np.random.default_rng(2).normal(size=(3, steps, 2))
    return net, x, np.ones((3, 8) if read == "last" else (3, steps, 8))


@pytest.mark.parametrize(
    ("read", "tolerance"), [("last", 0.3), ("last", 0.01), ("last", 1e-4), ("every", 0.3), ("every", 0.1)]
)
def test_the_shortest_truncation_is_that_of_trying_all(read: str, tolerance: float) -> None:
    net, x, cotangent = rnn(0.5, 40, read)
    found = vg.depth.shortest_truncation(net, x, cotangent=cotangent, tolerance=tolerance)
    losses = {
        cut: max(t.difference for t in net.truncation_loss(x, cotangent=cotangent, truncate=cut).values())
        for cut in range(1, 40)
    }
    assert found.tried == {cut: losses[cut] for cut in found.tried}
    assert found.truncate is not None
    assert found.difference == losses[found.truncate] <= tolerance
    if read == "last":
        assert found.truncate == min(cut for cut, lost in losses.items() if lost <= tolerance)
    else:  # losses do not fall evenly in k: the next shorter one fails, an even shorter one may not
        assert losses.get(found.truncate - 1, np.inf) > tolerance
    assert len(found.tried) <= 12
    assert f"truncate={found.truncate}" in repr(found)
    assert len(found.table["truncate"]) == len(found.tried)
    assert found.by_parameter == net.truncation_loss(x, cotangent=cotangent, truncate=found.truncate)


def test_a_gradient_that_needs_every_step_has_no_shorter_truncation() -> None:
    net, x, cotangent = rnn(1.0, 12)
    found = vg.depth.shortest_truncation(net, x * 1e-3, cotangent=cotangent, tolerance=1e-6)
    assert found.truncate is None
    assert found.difference == 0.0
    assert "none shorter keeps it" in repr(found)


@pytest.mark.parametrize("rule", ["linear", "uniform"])
def test_stochastic_depth_keeps_every_value_and_throws_its_coins_in_training_alone(rule: str) -> None:
    net = residual(6)
    thin = vg.depth.stochastic(net, 0.5, rule=rule)
    values = thin.parameters()
    if rule == "linear":
        chances = [layer.survival for layer in thin.layers if isinstance(layer, vg.Residual)]
        assert chances == vg.depth.linear_survival(6).tolist()
        stacked = np.stack([values[f"hidden{block}.1.weight"] for block in range(6)])
    else:
        chances, stacked = [0.5] * 6, values["hidden.0.1.weight"]
    assert stacked.tobytes() == net.parameters()["hidden.0.1.weight"].tobytes()
    assert thin.num_steps == net.num_steps
    expected = by_hand_scaled(net, chances)  # inference: each branch times its probability
    np.testing.assert_allclose(thin.forward(X), expected, rtol=1e-5)
    assert np.abs(thin.forward(X, training=True) - expected).max() > 1e-3
    again = vg.depth.stochastic(thin, 0.5, rule=rule)
    assert again.forward(X).tobytes() == thin.forward(X).tobytes()


def by_hand_scaled(net: vg.Network, chances: list[float]) -> np.ndarray:
    p = {name: value.astype(np.float64) for name, value in net.parameters().items()}
    h = np.tanh(X @ p["0.weight"].T + p["0.bias"])
    for block, chance in enumerate(chances):
        branch = np.maximum(h, 0) @ p["hidden.0.1.weight"][block].T + p["hidden.0.1.bias"][block]
        h = h + chance * 0.3 * branch
    return h @ p["3.weight"].T + p["3.bias"]


def test_a_repeat_is_written_out_with_the_rows_of_its_initial_arrays() -> None:
    stack = np.random.default_rng(3).normal(size=(3, 8, 8)).astype(np.float32)
    step = vg.Residual([vg.Activation("relu", name="act"), vg.Dense(8, init=stack, name="d")], name="r")
    net = vg.Network(8, [vg.Repeat([step, vg.Activation("tanh", name="t")], 3, name="h"), vg.Dense(2)], rng=0)
    thin = vg.depth.stochastic(net, 1.0)
    assert thin.forward(X).tobytes() == net.forward(X).tobytes()
    assert list(thin.parameters()) == [f"h{i}_r.d.{k}" for i in range(3) for k in ("weight", "bias")] + [
        "1.weight",
        "1.bias",
    ]
    assert thin.layers[2].body[1].init.array.tobytes() == stack[1].tobytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: vg.depth.stochastic(vg.mlp(3, 8)),
            r"net: expected Residual blocks that can be left out, got none",
        ),
        (lambda: vg.depth.stochastic(residual(2), 0.0), r"survival: expected 0 < survival <= 1, got 0"),
        (
            lambda: vg.depth.stochastic(residual(2), rule="no"),
            r"rule: expected 'linear' or 'uniform', got 'no'",
        ),
    ],
)
def test_stochastic_depth_says_what_it_needs(call: Any, message: str) -> None:
    with pytest.raises(vg.ArgumentError, match=message):
        call()


def test_a_learned_scale_of_zero_grows_exactly_whatever_the_branch() -> None:
    step = vg.Residual([vg.Dense(8), vg.Activation("sigmoid")], learned=True, scale=0.7)
    net = vg.Network(8, [vg.Repeat(step, 3, name="h"), vg.Dense(3)], rng=0)
    grown = vg.depth.grow(net, 9)
    assert grown.forward(X).tobytes() == net.forward(X).tobytes()
    assert grown.parameters()["h.0.scale"].ravel().tolist() == [np.float32(0.7)] * 3 + [0.0] * 6
    assert (np.abs(grown.gradients(X, LABELS, loss="cross_entropy")["h.0.scale"]) > 0).all()
    gained = vg.Network(8, [vg.Repeat(vg.Residual(vg.Dense(8), shortcut=0.9), 3)], rng=0)
    with pytest.raises(vg.ArgumentError, match=r"shortcut=0.9 \(float\) cannot start as the identity"):
        vg.depth.grow(gained, 4)
    with pytest.raises(vg.ArgumentError, match=r"a new step with Highway.* cannot start as the identity"):
        vg.depth.grow(vg.Network(8, [vg.Repeat(vg.Highway(), 3)], rng=0), 4)


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"skip": "pre_activation", "norm": "batch"}])
def test_running_statistics_go_with_their_steps(options: dict[str, Any]) -> None:
    net = vg.mlp(4, 8, in_features=8, out_features=3, rng=0, **options)
    net.fit(X, LABELS, epochs=3, batch_size=3, rng=0)
    smaller = net.without([2, 3])
    for before, after in ((net.buffers(), smaller.buffers()), (net.parameters(), smaller.parameters())):
        for name, value in before.items():
            kept = value[[0, 3]] if name.startswith("hidden") else value
            assert after[name].tobytes() == kept.tobytes()
    if "skip" in options:
        grown = vg.depth.grow(net, 9)
        assert grown.forward(X).tobytes() == net.forward(X).tobytes()
        assert vg.depth.stochastic(net, 1.0).forward(X).tobytes() == net.forward(X).tobytes()


@pytest.mark.parametrize("skip", ["pre_activation", "rezero", "skipinit", "fixup", "long:2"])
def test_every_block_that_ends_in_a_linear_map_or_a_learned_scale_grows_exactly(skip: str) -> None:
    net = vg.mlp(4, 8, in_features=8, out_features=3, skip=skip, rng=0)
    net.fit(X, LABELS, epochs=2, rng=0)
    grown = vg.depth.grow(net, 20)
    assert grown.forward(X).tobytes() == net.forward(X).tobytes()
    before = grown.parameters()
    grown.fit(X, LABELS, epochs=30, optimizer=vg.SGD(0.01), rng=0)
    moved = [np.abs(value - before[name]).max() > 0 for name, value in grown.parameters().items()]
    assert all(moved), "every kind of parameter learns, those of new steps with the others"


@pytest.mark.parametrize("skip", ["highway", "dense", "unet", "deepnorm", "scaled"])
def test_steps_are_counted_as_in_a_flow_whatever_the_blocks(skip: str) -> None:
    net = vg.mlp(4, 8, in_features=8, out_features=3, skip=skip, rng=0)
    steps = _surgery.steps_of(net)
    assert len(steps) == net.num_steps == net.probe(X, LABELS, loss="cross_entropy").steps
    assert sum(step.layers for step in steps if not step.copy) == len(net.layers)
    for step in (step.number for step in steps if step.square):
        assert net.without([step]).forward(X).shape == (6, 3)
