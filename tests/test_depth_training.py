"""Tests of depth and training: networks that grow while they train, and the depth at which training ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore._depth_search import baseline, judged
from vgcore._mitigation_base import Applied

RNG = np.random.default_rng(0)
X = RNG.normal(size=(128, 8)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def relu(depth: int) -> vg.Network:
    return vg.mlp(depth, 8, in_features=8, out_features=2, activation="relu", rng=0)


def sick(depth: int) -> vg.Network:
    return vg.mlp(depth, 8, in_features=8, out_features=2, activation="sigmoid", init="glorot_normal", rng=0)


# --- growth ----------------------------------------------------------------------------------------------


def test_growing_while_training_is_fit_and_grow_in_turns() -> None:
    options: dict[str, Any] = {"optimizer": vg.SGD(0.05, momentum=0.9), "batch_size": 16}
    made = vg.depth.progressive(relu(2), X, LABELS, to=12, epochs=3, rng=7, **options)
    assert made.depths == (2, 4, 8, 12)
    net = relu(2)
    for stage, depth in enumerate((2, 4, 8, 12)):
        net = vg.depth.grow(net, depth)
        history = net.fit(X, LABELS, epochs=3, rng=np.random.SeedSequence([7, stage]), **options)
        assert made.histories[stage].loss.tobytes() == history.loss.tobytes()
    assert all(v.tobytes() == made.network.parameters()[n].tobytes() for n, v in net.parameters().items())
    assert made.loss.shape == made.stage.shape == (4 * 3 * 8,)
    assert made.loss[-8:].mean() < made.loss[:8].mean()
    assert "2 -> 4 -> 8 -> 12 steps" in repr(made)
    assert made.to_dict()["depths"] == [2, 4, 8, 12]


def test_the_loss_goes_on_where_it_was_when_steps_are_put_in() -> None:
    net = relu(2)
    net.fit(X, LABELS, epochs=5, optimizer=vg.SGD(0.05), rng=0)
    before = net.loss(X, LABELS, "cross_entropy")
    assert vg.depth.grow(net, 50).loss(X, LABELS, "cross_entropy") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"to": [4, 3]},
            r"to: expected depths that grow from the 2 steps that there are, got \[4, 3\] \(list\)",
        ),
        ({"to": [4, 4]}, r"to: expected depths that grow from the 2 steps"),
        ({"to": 8, "epochs": [1, 2]}, r"epochs: expected one number, or 3 for the stages \(2, 4, 8\), got 2"),
        ({"to": 0}, r"to: expected an integer of at least 1, got 0"),
    ],
)
def test_stages_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(vg.ArgumentError, match=message):
        vg.depth.progressive(relu(2), X, LABELS, **options)


def test_stages_may_be_given_one_by_one() -> None:
    made = vg.depth.progressive(relu(2), X, LABELS, to=[2, 3, 5], epochs=[1, 1, 2], rng=0, batch_size=64)
    assert made.depths == (2, 3, 5)
    assert [len(h.loss) for h in made.histories] == [2, 2, 4]


# --- bisection -------------------------------------------------------------------------------------------


def test_the_depth_at_which_sigmoid_stops_training_is_found_and_every_trial_is_shown() -> None:
    options: dict[str, Any] = {"optimizer": vg.SGD(0.5, momentum=0.9), "batch_size": 16, "epochs": 15}
    found = vg.depth.trainable_depth(sick, X, LABELS, 1, 64, resolution=1.5, rng=0, **options)
    assert found.depth is not None
    assert found.fails_from is not None
    assert 1 <= found.depth < found.fails_from <= 1.5 * found.depth + 1
    verdicts = {trial.depth: trial.trains for trial in found.trials}
    assert verdicts[found.depth]
    assert not verdicts[found.fails_from]
    assert len(found.trials) <= 2 + np.ceil(np.log2(np.log(64) / np.log(1.5)))
    assert found.baseline == pytest.approx(np.log(2), rel=0.01)
    for trial in found.trials:
        net = sick(trial.depth)
        history = net.fit(X, LABELS, rng=0, **options)
        assert trial.loss.tobytes() == history.loss.tobytes()
        assert trial.final == np.asarray(history.loss)[-12:].mean()
    assert f"{found.depth} trains, {found.fails_from} does not" in repr(found)
    assert str(found).count("\n") == len(found.trials) + 2
    assert len(found.table["loss"]) == 120 * len(found.trials)
    assert len(found.to_dict()["trials"]) == len(found.trials)
    pytest.importorskip("matplotlib")
    assert len(found.plot().lines) == len(found.trials) + 1


def test_both_ends_are_told_when_there_is_no_border_between_them() -> None:
    options: dict[str, Any] = {"optimizer": vg.SGD(0.1, momentum=0.9), "epochs": 6, "batch_size": 16}
    easy = vg.depth.trainable_depth(relu, X, LABELS, 1, 3, **options)
    assert (easy.depth, easy.fails_from, len(easy.trials)) == (3, None, 2)
    assert "at least 3" in repr(easy)
    hard = vg.depth.trainable_depth(sick, X, LABELS, 60, 80, **options)
    assert (hard.depth, hard.fails_from, len(hard.trials)) == (None, 60, 1)
    assert "not even depth 60 trains" in repr(hard)


def test_verdicts_and_baselines_are_what_they_say() -> None:
    assert baseline([0, 0, 0, 1], vg.losses.cross_entropy()) == pytest.approx(
        -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    )
    assert baseline(np.array([[0.0, 1.0], [2.0, 1.0]]), vg.losses.mse()) == 0.5
    shares = np.array([[1.0, 0.0], [0.25, 0.75]])
    assert baseline(shares, vg.losses.cross_entropy()) == pytest.approx(
        -(0.625 * np.log(0.625) + 0.375 * np.log(0.375))
    )
    falls = np.linspace(1.0, 0.0, 100)
    assert judged(3, falls, 1.0, 0.1).trains
    assert judged(3, falls, 1.0, 0.1).final == pytest.approx(falls[-10:].mean())
    assert not judged(3, np.full(100, 0.95), 1.0, 0.1).trains
    broken = falls.copy()
    broken[40] = np.nan
    assert judged(3, broken, 1.0, 0.1).why == "the loss is nan at step 40"
    assert not judged(3, broken, 1.0, 0.1).trains


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: vg.depth.trainable_depth(relu, X, LABELS, 4, 4),
            r"low, high: expected low below high, got 4 and 4",
        ),
        (
            lambda: vg.depth.trainable_depth(relu, X, LABELS, 1, 4, gain=1.0),
            r"gain: expected a share from 0 to",
        ),
        (
            lambda: vg.depth.trainable_depth(relu(2), X, LABELS),
            r"build: expected a function of the depth, got",
        ),  # type: ignore[arg-type]
        (
            lambda: vg.depth.trainable_depth(lambda d: d, X, LABELS),
            r"build: expected a vg.Network for depth 1",
        ),  # type: ignore[arg-type,return-value]
        (
            lambda: vg.depth.trainable_depth(relu, X, X, loss="smooth_l1"),
            r"loss: expected cross_entropy, mse or bce_with_logits without parameters, whose baselines",
        ),
    ],
)
def test_refusals_say_what_to_do(call: Any, message: str) -> None:
    with pytest.raises(vg.ArgumentError, match=message):
        call()


@pytest.mark.parametrize("loss", ["cross_entropy", vg.losses.cross_entropy()])
def test_shares_of_classes_have_the_border_that_labels_have(loss: Any) -> None:
    options: dict[str, Any] = {"optimizer": vg.SGD(0.1, momentum=0.9), "epochs": 6, "batch_size": 16}
    one_hot = np.eye(2, dtype=np.float32)[LABELS]
    labels = vg.depth.trainable_depth(relu, X, LABELS, 1, 3, loss=loss, **options)
    shares = vg.depth.trainable_depth(relu, X, one_hot, 1, 3, loss=loss, **options)
    assert shares.baseline == pytest.approx(labels.baseline, rel=1e-12)
    assert (shares.depth, shares.fails_from) == (labels.depth, labels.fails_from) == (3, None)


def test_targets_that_do_not_fit_the_loss_are_refused_as_fit_refuses_them() -> None:
    with pytest.raises(vg.DTypeError, match=r"y: expected float32, got int64"):
        vg.depth.trainable_depth(relu, X, LABELS, 1, 3, loss="mse")
    with pytest.raises(vg.DTypeError, match=r"y: expected integer class labels, got bool"):
        vg.depth.trainable_depth(relu, X, LABELS.astype(bool), 1, 3)
    with pytest.raises(vg.DTypeError, match=r"y: expected integer class labels, got bool"):
        vg.depth.removable(relu(3), X, LABELS.astype(bool))


# --- cures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda net: vg.depth.remove(net, [2]),
        lambda net: net.without([2]),
        lambda net: vg.depth.prune(net, X, LABELS, tolerance=0.5).network,
        lambda net: vg.depth.grow(net, 9),
        vg.depth.stochastic,
        lambda net: vg.depth.stochastic(net, rule="uniform"),
    ],
)
def test_a_network_of_another_depth_keeps_its_cures(change: Any) -> None:
    cured = relu(6).mitigate("rezero", "adam:0.02")
    changed = change(cured)
    assert changed.cures == cured.cures
    assert changed.training_defaults == cured.training_defaults
    assert changed.fit(X, LABELS, rng=0).meta["optimizer"] == "adam(lr=0.02)"


def test_every_stage_of_growth_is_trained_as_the_cures_say() -> None:
    made = vg.depth.progressive(relu(2).mitigate("adam:0.02"), X, LABELS, to=8, rng=0, batch_size=64)
    assert [history.meta["optimizer"] for history in made.histories] == 3 * ["adam(lr=0.02)"]


def test_a_start_that_a_cure_has_written_down_is_known_under_its_new_name() -> None:
    net = vg.mlp(3, 8, skip="residual", rng=0)
    net._applied = Applied(settled=frozenset({"hidden.weight", "input.weight"}))
    flat = vg.depth.stochastic(net)
    assert {f"hidden{i}.weight" for i in range(3)} | {"input.weight"} <= flat._applied.settled
