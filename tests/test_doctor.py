"""Tests of the doctor: sick networks are told their illness, and a cure that was seen to work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import vgcore as vg
from vgcore import mitigations
from vgcore._mitigation_base import Draft, Entry, Order, Setting
from vgcore.doctor import Trial, rank_key

RNG = np.random.default_rng(0)


def images(n: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Noisy copies of ten patterns: learnable in a few steps, and only by a network whose layers learn."""
    draw = np.random.default_rng(3)
    y = draw.integers(0, 10, n)
    x = draw.normal(size=(10, 16))[y] + 0.3 * draw.normal(size=(n, 16))
    return x.astype("float32"), y


def recall(n: int = 256, steps: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Say at the end which of two symbols the first step showed, the rest being noise."""
    draw = np.random.default_rng(4)
    y = draw.integers(0, 2, n)
    x = 0.1 * draw.normal(size=(n, steps, 3))
    x[:, 0] = 0.0
    x[np.arange(n), 0, y] = x[:, 0, 2] = 1.0
    return x.astype("float32"), y


def deep(depth: int, activation: str, **options: object) -> vg.Network:
    return vg.mlp(depth, 16, in_features=16, out_features=10, activation=activation, rng=0, **options)


def dying() -> vg.Network:
    held = vg.initializers.constant(value=-5.0)
    step = [vg.Dense(16, bias_init=held, name=""), vg.Activation("relu")]
    ends = vg.Dense(16, name="input"), vg.Dense(10, name="output")
    return vg.Network(
        16, [ends[0], vg.Activation("relu"), vg.Repeat(step, 10, name="hidden"), ends[1]], rng=0
    )


def exploding() -> vg.Network:
    start = vg.initializers.normal(std=0.6)
    return vg.rnn(
        "rnn", 16, in_features=3, out_features=2, activation="identity", recurrent_init=start, rng=0
    )


def forgetful() -> vg.Network:
    return vg.rnn("lstm", 16, in_features=3, out_features=2, forget_bias=-3.0, rng=0)


SICK = {
    "sigmoid 100": (lambda: deep(100, "sigmoid"), images, "vanishing: saturating activation", {}),
    "small weights": (lambda: deep(50, "relu", sigma_w2=0.2), images, "vanishing: small weights", {}),
    "dying relu": (dying, images, "dead: dead units", {}),
    "exploding rnn": (exploding, recall, "exploding: large recurrent weights", {}),
    "forgetful lstm": (forgetful, recall, "vanishing: closed gate", {"steps": 80}),
}


def trained(net: vg.Network, x: np.ndarray, y: np.ndarray) -> float:
    """Mean loss of the last quarter of a training on other batches than the doctor's."""
    history = net.fit(x, y, epochs=15, batch_size=32, rng=9)
    assert history.stopped is None
    return float(np.mean(history.loss[-history.loss.size // 4 :]))


@pytest.mark.parametrize("name", SICK)
def test_the_illness_is_named_and_the_first_cure_then_trains(name: str) -> None:
    make, data, illness, options = SICK[name]
    net, (x, y) = make(), data()
    before = {key: value.tobytes() for key, value in net.parameters().items()}
    found = net.doctor(x, y, **options)
    assert {key: value.tobytes() for key, value in net.parameters().items()} == before, (
        "the patient is untouched"
    )
    assert found.illness == illness
    assert not found.healthy
    assert found.recommended, found
    best = found.recommended[0]
    assert best is found.trials[0]
    reached = trained(found.best(), x, y)
    assert reached < 0.7 * found.chance, f"{best.name} reached {reached:.3g} of {found.chance:.3g}"
    assert best.learning > found.untouched.learning


def test_a_healthy_network_is_said_to_be_healthy() -> None:
    x, y = images()
    found = deep(6, "relu").doctor(x, y)
    assert found.healthy
    assert found.illness == "none"
    assert found.trials == ()
    assert "The network is healthy" in str(found)
    assert repr(found) == "<Prescription: healthy, 0 cures tried>"
    with pytest.raises(vg.ArgumentError, match=r"best: the network is healthy"):
        found.best()


def test_nothing_is_recommended_that_did_not_help() -> None:
    x, y = images()
    found = deep(100, "sigmoid").doctor(x, y, candidates=["init:glorot_uniform"], steps=5)
    assert [trial.name for trial in found.trials] == ["init:glorot_uniform"]
    assert found.recommended == ()
    assert "Nothing that was tried helped within 5 steps." in str(found)
    with pytest.raises(vg.ArgumentError, match=r"best: no cure that was tried helped"):
        found.best()


def test_the_same_twice_gives_the_same() -> None:
    x, y = images(64)
    options = {"candidates": ["activation:relu", "scaled_residual", "long_skip:10"], "steps": 6}
    a, b = (deep(40, "sigmoid").doctor(x, y, **options) for _ in range(2))
    assert [t.losses.tobytes() for t in a.trials] == [t.losses.tobytes() for t in b.trials]
    assert [t.name for t in a.trials] == [t.name for t in b.trials]


def test_the_settings_say_which_seed_is_whose() -> None:
    x, y = images(64)
    found = deep(30, "sigmoid").doctor(x, y, candidates=["rezero"], steps=2, rng=7)
    assert (found.settings["batch_seed"], found.settings["network_seed"]) == (7, 0)


def test_the_code_builds_what_was_tried() -> None:
    x, y = images(64)
    net = deep(40, "sigmoid")
    found = net.doctor(x, y, candidates=["activation:relu:init=he_uniform", "scaled_residual"], steps=5)
    assert len(found.trials) == 3, "two, and their pair"
    for trial in found.trials:
        built = eval(trial.code, {"net": net, "x": x})
        assert built.cures == trial.cures
        curve = built.probe(*_probed(found, x, y), loss="cross_entropy").log10_grad_norm
        assert curve.tobytes() == trial.curve.tobytes()


@pytest.mark.parametrize("n", [200, 300, 1000])
def test_the_code_builds_what_was_tried_where_cures_look_at_the_data(n: int) -> None:
    x, y = images(n)
    net = deep(10, "tanh")
    wanted = ["lsuv", "layerwise_pretraining:1"]
    found = net.doctor(x, y, candidates=wanted, steps=5, pairs=False, rates=(0.01,))
    assert len(found.trials) == 2
    for trial in found.trials:
        built = eval(trial.code, {"net": net, "x": x})
        again = built.copy().doctor(x, y, candidates=[], steps=5, rates=(0.01,)).untouched
        assert again.losses.tobytes() == trial.losses.tobytes() or trial.confirmed
        assert again.curve.tobytes() == trial.curve.tobytes()
    stride = n // 128
    assert found.trials[0].code.endswith(", x=x)" if stride == 1 else f", x=x[::{stride}])")
    if found.recommended:
        best = eval(found.recommended[0].code, {"net": net, "x": x})
        assert owned(found.best()) == owned(best)


def owned(net: vg.Network) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in net.parameters().items()}


def _probed(found: object, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x, y  # 64 samples: all of them are probed


def test_pairs_are_applied_inside_out() -> None:
    x, y = images(64)
    found = deep(40, "sigmoid").doctor(x, y, candidates=["scaled_residual", "activation:relu"], steps=5)
    assert any(trial.name == "activation:relu+scaled_residual" for trial in found.trials)


def test_a_cure_of_a_new_family_needs_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(draft: Draft, factor: float) -> Draft:
        assert draft.x is not None
        return draft.with_training(optimizer=vg.SGD(factor))

    entry = Entry(
        "own_steps", "own_family", "-", "-", "-", "-", scaled, Order.TRAINING,
        (Setting("factor", 1.0, "-"),), of_training=True, needs_data=True,
        tried_as=lambda draft: ({"factor": 0.02}, {"factor": 0.05}),
    )  # fmt: skip
    monkeypatch.setattr(mitigations, "_TABLE", (*mitigations._TABLE, entry))
    monkeypatch.setattr(mitigations, "_BY_NAME", {**mitigations._BY_NAME, entry.name: entry})
    monkeypatch.setattr(mitigations, "_registry", mitigations._Registry("mitigation", "-"))
    x, y = images(64)
    net = deep(30, "sigmoid")
    assert mitigations.get("own_steps").of_training
    tried = [cure.text for cure in mitigations.worth_trying(Draft(net.layers, 16, net.dtype))]
    assert tried[-2:] == ["own_steps:0.02", "own_steps:0.05"]
    found = net.doctor(x, y, candidates=["own_steps:0.02", "scaled_residual"], steps=5)
    codes = {trial.name: trial.code for trial in found.trials}
    assert codes["own_steps:0.02"] == "net.mitigate('own_steps:0.02', x=x)"
    assert "scaled_residual+own_steps:0.02" in codes


def test_the_budget_is_kept_and_what_was_left_out_is_said() -> None:
    x, y = images(64)
    net = deep(30, "sigmoid")
    found = net.doctor(x, y, steps=5, budget=5 * 3 * 4)
    assert len(found.trials) <= 3
    assert found.left_out
    assert "because the budget was spent" in str(found)
    assert net.doctor(x, y, steps=5, budget="60s", candidates=["residual"]).left_out == ()


@pytest.mark.parametrize("budget", ["soon", "-3s", 0, True, math.nan, [3]])
def test_a_budget_that_makes_no_sense_is_refused(budget: object) -> None:
    x, y = images(64)
    with pytest.raises(vg.ArgumentError, match="budget"):
        deep(5, "tanh").doctor(x, y, budget=budget)


def test_candidates_that_do_not_apply_are_listed_with_the_reason() -> None:
    x, y = images(64)
    found = deep(30, "sigmoid").doctor(
        x, y, candidates=["lstm", "residual+highway", "activation:relu"], steps=5
    )
    assert "it has no recurrent layer" in found.refused["lstm"]
    assert "do not go together" in found.refused["residual+highway"]
    assert [trial.name for trial in found.trials] == ["activation:relu"]
    with pytest.raises(vg.UnknownNameError):
        deep(5, "tanh").doctor(x, y, candidates=["residul"])


def test_a_first_that_was_not_trained_again_is_not_said_to_be() -> None:
    x, y = images(64)
    net, options = deep(30, "sigmoid"), {"candidates": ["scaled_residual"], "steps": 5}
    confirmed = net.doctor(x, y, **options)
    assert confirmed.trials[0].confirmed
    assert "The first was trained a second time" in " ".join(str(confirmed).split())
    hasty = net.doctor(x, y, budget=5 * 3 * 2, **options)
    assert not hasty.trials[0].confirmed
    assert "The first was not trained a second time" in " ".join(str(hasty).split())


def test_the_rules_of_the_ranking_are_told_alike_everywhere() -> None:
    told = [" ".join(str(vg.Network.doctor.__doc__).split()), " ".join(str(rank_key.__doc__).split())]
    for words in told:
        assert "1 % of what the best constant answer costs" in words
        assert "number of cures" in words


def test_one_candidate_need_not_be_in_a_list() -> None:
    x, y = images(64)
    for alone in ("rezero", vg.mitigations.rezero()):
        found = deep(30, "sigmoid").doctor(x, y, candidates=alone, steps=2)
        assert [trial.name for trial in found.trials] == ["rezero"]
    both = deep(30, "sigmoid").doctor(x, y, candidates="activation:relu+rezero", steps=2)
    assert [trial.name for trial in both.trials] == ["activation:relu+rezero"]


def test_lists_are_data_as_for_fit() -> None:
    x, y = images(8)
    found = deep(3, "tanh").doctor(x.tolist(), y.tolist(), candidates=["lsuv"], steps=2)
    same = deep(3, "tanh").doctor(x, y, candidates=["lsuv"], steps=2)
    assert [t.loss for t in found.trials] == [t.loss for t in same.trials]
    assert found.settings["loss"] == "cross_entropy()"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rates": 0.1}, vg.ArgumentError, r"rates: expected learning rates such as \(0.01, 0.1\), got 0.1"),
        ({"rates": ()}, vg.ArgumentError, r"rates: expected at least one learning rate, got none"),
        ({"candidates": 5}, vg.ArgumentError, r'candidates: expected cures such as \["rezero", .*got 5'),
        ({"y": -1}, vg.LabelError, r"y: .*-1"),
        ({"y": 10**9}, vg.LabelError, r"y: .*1000000000"),
        ({"x": np.nan}, vg.NonFiniteError, r"x: "),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said_first(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    x, y = images(64)
    given: dict[str, Any] = {"x": x, "y": y, "steps": 2} | change
    for name, array in (("x", x), ("y", y)):
        if name in change:  # a bad value far down
            array[50] = change[name]
            given[name] = array
    with pytest.raises(error, match=message):
        deep(4, "tanh").doctor(**given)


def test_equal_networks_are_tried_once() -> None:
    x, y = images(64)
    found = deep(30, "relu", sigma_w2=0.2).doctor(
        x, y, candidates=["init:he_normal", "init:kaiming_normal"], steps=5
    )
    assert [trial.name for trial in found.trials] == ["init:he_normal"]
    assert found.refused["init:kaiming_normal"] == "it makes the same network as 'init:he_normal'"


def _trial(**values: float) -> Trial:
    base = {
        "loss": 1.0,
        "learning": 0.5,
        "decades_per_step": -0.1,
        "seconds_per_step": 1.0,
        "first_loss": 1.0,
    }
    return Trial((), **(base | values))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (_trial(loss=1e9), _trial(loss=math.nan)),
        (_trial(loss=0.9, learning=0.0), _trial(loss=1.0)),
        (_trial(learning=0.6, decades_per_step=-9.0), _trial()),
        (_trial(decades_per_step=0.05, seconds_per_step=9.0), _trial()),
        (_trial(), _trial(seconds_per_step=2.0)),
        (_trial(loss=1.002, learning=0.6), _trial(loss=1.0)),  # less than 1 % is no difference
    ],
)
def test_the_rule_of_the_ranking(better: Trial, worse: Trial) -> None:
    base = _trial()
    assert rank_key(better, base, 0.01) < rank_key(worse, base, 0.01)


def test_the_result_as_table_dict_and_text() -> None:
    x, y = images(64)
    found = deep(30, "sigmoid").doctor(x, y, candidates=["activation:relu", "scaled_residual"], steps=5)
    table = found.table
    assert table["cures"][0] == "none"
    assert {len(column) for column in table.values()} == {1 + len(found.trials)}
    predicted = dict(zip(table["cures"], table["predicted_decades"], strict=True))
    measured = dict(zip(table["cures"], table["decades_per_step"], strict=True))
    assert abs(predicted["none"] - measured["none"]) < 0.05
    as_dict = found.to_dict()
    assert as_dict["illness"] == found.illness
    assert as_dict["trials"][1]["code"].startswith("net.mitigate(")
    text = str(found)
    assert "illness: vanishing: saturating activation" in text
    assert "decades/layer" in text
    assert max(map(len, text.splitlines())) < 130
    assert "<table>" in found._repr_html_()
    frame = pytest.importorskip("pandas") and found.to_pandas()
    assert list(frame["cures"]) == table["cures"]


@pytest.mark.parametrize("kind", ["loss", "curves", "training"])
def test_the_result_as_a_picture(kind: str) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    x, y = images(64)
    found = deep(30, "sigmoid").doctor(x, y, candidates=["activation:relu"], steps=5)
    axes = found.plot(kind)
    assert found.illness in axes.get_title()
    with pytest.raises(vg.ArgumentError, match="kind"):
        found.plot("pie")
