"""Tests of cures: that each changes what it says and nothing else, and that weights stay those they were."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import vgcore as vg
from helpers_cures import X, Y, along_time, deep, flat, owners, sequences, tied
from vgcore._layer_values import changed
from vgcore.constraints import as_constraints
from vgcore.mitigations import DoesNotApply, as_cures, get


def applied(net: vg.Network, name: str) -> vg.Network | None:
    """The cured network; None where the cure does not apply to this one."""
    x = X if net.axis == "depth" else sequences()
    try:
        return net.mitigate(name, x=x)
    except DoesNotApply:
        return None


def held() -> vg.Network:
    start = vg.initializers.constant(value=-1.0)
    step = [vg.Dense(8, bias_init=start, name=""), vg.Activation("elu")]
    return vg.Network(6, [vg.Dense(8), vg.Repeat(step, 4, name="hidden"), vg.Dense(3, name="output")], rng=0)


NETWORKS = {"deep": deep, "flat": flat, "relu": lambda: deep(activation="relu"), "time": along_time}
NETWORKS |= {"lstm": lambda: along_time("lstm"), "biased": held, "blocks": lambda: deep(skip="residual")}
NETWORKS |= {"tied": tied}
#: These start some weights anew, by their own rule or because their input is wider.
REDRAWN = ("fixup", "deepnorm", "dense_skip")


# --- the catalogue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", vg.mitigations.names())
def test_every_cure_describes_itself(name: str) -> None:
    entry = vg.mitigations.describe(name)
    assert entry.formula
    assert entry.summary.endswith(".")
    assert any(char.isdigit() for char in entry.reference), "a reference names a year"
    assert entry.extra["changes"]
    assert all(p.doc for p in entry.params)
    text = str(entry)
    assert "changes:" in text
    assert "reference:" in text


@pytest.mark.parametrize("name", vg.mitigations.names())
def test_every_cure_works_on_some_network_and_is_remembered(name: str) -> None:
    cured = {key: applied(make(), name) for key, make in NETWORKS.items()}
    done = {key: net for key, net in cured.items() if net is not None}
    assert done, f"{name} applies to none of {list(NETWORKS)}"
    for key, net in done.items():
        assert [cure.name for cure in net.cures] == [name]
        assert repr(net.cures[0]) in net.summary()
        x = X if net.axis == "depth" else sequences()
        out = net.forward(x)
        assert np.isfinite(out).all(), f"{name} on {key}"
        if not net.cures[0].of_training:
            flow = net.probe(x, cotangent=np.ones_like(out))
            assert flow.steps > 0


# --- weights stay paired ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", vg.mitigations.names())
def test_weights_that_a_cure_leaves_alone_are_the_same_to_the_bit(name: str) -> None:
    for key, make in NETWORKS.items():
        cured = applied(make(), name)
        if cured is None:
            continue
        before, after = owners(make()), owners(cured)
        kept = [n for n in before if after.get(n) == before[n]]
        assert set(before) & set(after)
        if cured.cures[0].of_training:
            assert after == before
        leaves = ("block", "long", "norm", "depth")
        if cured.cures[0].group in leaves and name not in (*REDRAWN, "fewer_layers"):
            missing = [
                n for n in before if n not in kept and n in after and not _restacked(cured, n, before[n])
            ]
            assert not missing, f"{name} on {key} changed {missing}"


def _restacked(net: vg.Network, name: str, before: bytes) -> bool:
    """Whether a parameter holds the same values under another shape, or some of them."""
    return net.parameters()[name].tobytes() in before


@pytest.mark.parametrize(
    "name", ["residual", "pre_activation", "scaled_residual", "rezero", "highway", "long_skip"]
)
def test_the_cured_network_is_drawn_alike_from_its_description(name: str) -> None:
    # Not only handed over: whoever builds these layers with this seed gets the same weights.
    for make in (deep, flat):
        cured = make().mitigate(name)
        again = vg.Network(6, cured.layers, rng=cured.seed)
        assert owners(again) == owners(cured)


def test_what_fits_an_activation_is_kept_when_something_comes_between() -> None:
    net = deep(activation="relu")
    cured = net.mitigate("pre_activation")
    assert owners(cured) == owners(net)


def test_a_long_skip_keeps_each_layer_its_weights() -> None:
    net = deep()
    cured = net.mitigate("long_skip:3")
    before, after = net.parameters()["hidden.weight"], cured.parameters()["hidden.weight"]
    assert before.shape == (12, 8, 8)
    assert after.shape == (4, 3, 8, 8)
    assert after.tobytes() == before.tobytes()


def test_what_was_learned_is_kept() -> None:
    net = deep()
    for _ in range(3):
        net.step(X, Y, loss="cross_entropy", lr=0.1)
    cured = net.mitigate("residual")
    assert owners(cured) == owners(net)
    fresh = net.mitigate("init:he_normal")
    assert owners(fresh)["hidden.weight"] == owners(deep(init="he_normal"))["hidden.weight"]
    assert owners(fresh)["hidden.bias"] == owners(net)["hidden.bias"]


def test_fewer_layers_keep_the_first() -> None:
    net = deep()
    cured = net.mitigate("fewer_layers:0.25")
    assert cured.parameters()["hidden.weight"].tobytes() == net.parameters()["hidden.weight"][:3].tobytes()
    short = flat().mitigate("fewer_layers:0.5")
    assert short.num_steps == 5  # 1 that widens, 3 of 6, 1 at the end
    assert short.parameters()["12.weight" if "12.weight" in short.parameters() else "14.weight"].shape[0] in (
        3,
        8,
    )


# --- what each does -----------------------------------------------------------------------------------------


def test_an_activation_brings_the_start_that_fits_it() -> None:
    cured = deep(activation="sigmoid").mitigate("activation:relu")
    want = deep(activation="relu")
    assert owners(cured) == owners(want)
    given = deep(activation="sigmoid", init="orthogonal")
    assert owners(given.mitigate("activation:relu"))["hidden.weight"] == owners(given)["hidden.weight"]
    forced = given.mitigate("activation:relu:fits")
    assert owners(forced)["hidden.weight"] == owners(want)["hidden.weight"]


def test_residual_is_the_network_that_mlp_makes() -> None:
    cured, want = deep().mitigate("residual"), deep(skip="residual")
    assert owners(cured) == owners(want)
    assert cured.forward(X).tobytes() == want.forward(X).tobytes()


def test_blocks_of_several_layers() -> None:
    cured = deep().mitigate("residual:layers=2")
    assert cured.parameters()["hidden.weight"].shape == (6, 2, 8, 8)
    assert cured.num_steps == 8
    with pytest.raises(DoesNotApply, match=r"blocks of 5 layers do not divide the 12"):
        deep().mitigate("residual:5")


def test_shortcuts_go_around_equal_widths_alone() -> None:
    cured = flat().mitigate("residual")
    kinds = [layer.kind for layer in cured.layers]
    assert kinds == ["dense", "activation", *6 * ["residual"], "dense"]
    narrow = vg.Network(6, [vg.Dense(5), vg.Activation("tanh"), vg.Dense(3)], rng=0)
    with pytest.raises(
        DoesNotApply, match=r"residual\(\) does not apply to this network: .* as wide as its input"
    ):
        narrow.mitigate("residual")


def test_projection_is_named_by_the_cure_that_has_it_where_it_would_help() -> None:
    narrowing = vg.Network(6, [vg.Dense(8), vg.Activation("relu"), vg.Dense(3)], rng=0)
    with pytest.raises(DoesNotApply, match=r"shortcut around; projection=True also takes those that change"):
        narrowing.mitigate("residual")
    for name in ("residual", "pre_activation", "scaled_residual", "rezero", "skipinit"):
        with pytest.raises(DoesNotApply, match=r"; projection=True also takes those that change the width$"):
            narrowing.mitigate(name)
        made = narrowing.mitigate(f"{name}:projection=true")
        assert any("shortcut" in parameter for parameter in made.parameter_shapes())
        assert np.isfinite(made.forward(X)).all()
    for name in ("highway", "fixup", "deepnorm"):
        with pytest.raises(DoesNotApply, match=r"to put a shortcut around$"):
            narrowing.mitigate(name)
    for name in ("residual", "rezero"):
        with pytest.raises(DoesNotApply, match=r"around \(a recurrent layer has its own: residual=True\)$"):
            along_time().mitigate(name)


def test_edge_of_chaos_is_where_theory_has_it() -> None:
    cured = deep(width=64, depth=100).mitigate("activation:erf", "edge_of_chaos")
    weights = cured.parameters()["hidden.weight"].astype(float)
    want = vg.theory.critical("erf").sigma_w2
    assert np.isclose(64 * weights.var(), want, rtol=0.01)
    corner = deep(width=64, depth=100, activation="gelu").mitigate("edge_of_chaos")
    biases = corner.parameters()["hidden.bias"].astype(float)
    assert np.isclose(biases.var(), vg.theory.half_stable_points("gelu")[0].sigma_b2, rtol=0.1)


def test_a_network_that_looks_linear_is_linear() -> None:
    cured = deep(activation="relu", dtype="float64").mitigate("looks_linear")
    assert np.allclose(
        cured.forward(-2.0 * X.astype(float)), -2.0 * cured.forward(X.astype(float)), rtol=1e-9
    )
    gelu = deep(activation="gelu", dtype="float64").mitigate("looks_linear")
    assert np.allclose(gelu.forward(3.0 * X.astype(float)), 3.0 * gelu.forward(X.astype(float)), rtol=1e-9)
    with pytest.raises(DoesNotApply, match=r"a pair of tanh units .* does not add up"):
        deep().mitigate("looks_linear")


def test_the_cure_and_the_initializer_agree_on_what_looks_linear() -> None:
    # Smooth at 0 and straight far out: a law that holds to 1e-7 holds for both, or for neither.
    phi = [vg.Activation(name) for name in vg.activations.names()]
    phi += [vg.Activation("softplus", beta=beta) for beta in (0.01, 100.0)]
    for one in phi:
        layers = [vg.Dense(8), one, vg.Dense(8), one, vg.Dense(2)]
        draw = [changed(layer, init="looks_linear") if layer.kind == "dense" else layer for layer in layers]
        try:
            vg.Network(8, draw, rng=0)
        except vg.ArgumentError:
            with pytest.raises(DoesNotApply, match=r"does not add up to a straight line"):
                vg.Network(8, layers, rng=0).mitigate("looks_linear")
        else:
            vg.Network(8, layers, rng=0).mitigate("looks_linear")


def test_a_pair_that_adds_up_to_seven_digits_looks_linear_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = vg.activations.value
    near = lambda name, z, **params: exact(name, z, **params) * (1.0 + 1e-8 * np.abs(z))  # noqa: E731
    monkeypatch.setattr(vg.activations, "value", near)
    vg.mlp(2, 8, activation="relu", init="looks_linear", rng=0)
    vg.mlp(2, 8, activation="relu", rng=0).mitigate("looks_linear")


def test_pretraining_points_to_what_there_is_for_sequences() -> None:
    with pytest.raises(DoesNotApply, match=r"for sequences there is vg\.chunker$"):
        along_time().mitigate("layerwise_pretraining", x=sequences())
    assert callable(vg.chunker)


def test_order_matters_and_is_shown() -> None:
    a = deep().mitigate("activation:relu", "edge_of_chaos")
    b = deep().mitigate("edge_of_chaos", "activation:relu")
    assert owners(a) != owners(b)
    assert "cures: activation('relu') -> edge_of_chaos()" in a.summary()
    assert "cures: edge_of_chaos() -> activation('relu')" in b.summary()
    step_by_step = deep().mitigate("activation:relu").mitigate("edge_of_chaos")
    assert step_by_step.cures == a.cures
    assert owners(step_by_step) == owners(a)


def test_a_cured_network_is_copied_pickled_and_left_alone() -> None:
    net = deep()
    cured = net.mitigate("residual")
    assert net.cures == ()
    assert cured.copy().cures == cured.cures
    assert pickle.loads(pickle.dumps(cured)).cures == cured.cures


def test_a_cured_network_is_saved_with_its_cures(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    cured = deep().mitigate("residual", "adam:0.01", "clip_norm:0.5", "max_norm_constraint")
    cured.save(tmp_path / "net.safetensors")
    again = vg.load(tmp_path / "net.safetensors")
    assert again.cures == cured.cures
    assert again.training_defaults == cured.training_defaults
    assert owners(again) == owners(cured)
    with pytest.raises(vg.ArgumentError, match="do not go together"):
        again.mitigate("rezero")
    timed = along_time().mitigate("truncate:3")
    timed.save(tmp_path / "time.safetensors")
    assert vg.load(tmp_path / "time.safetensors").training_defaults == {"truncate": 3}
    assert deep().mitigate("residual").without([3]).cures == as_cures("residual")


def test_recurrent_cures() -> None:
    net = along_time()
    assert net.mitigate("lstm").layers[0].unit.name == "lstm"
    gates = net.mitigate("lstm", "forget_bias:3")
    assert gates.layers[0].gate_bias == vg.cells.forget_bias(3.0)
    lagged = net.mitigate("gru", "chrono", x=sequences())
    assert lagged.layers[0].gate_bias == vg.cells.chrono(10)
    with pytest.raises(DoesNotApply, match=r"chrono\(\) needs the longest lag in steps"):
        net.mitigate("gru", "chrono")
    with pytest.raises(
        DoesNotApply, match=r"the cell 'rnn' has no gates; put a gated one in first: lstm, gru"
    ):
        net.mitigate("forget_bias")
    irnn = net.mitigate("irnn").parameters()
    assert np.array_equal(irnn["rnn.weight_hh_l0"], np.eye(8, dtype="float32"))
    q = net.mitigate("orthogonal").parameters()["rnn.weight_hh_l0"].astype(float)
    assert np.allclose(q @ q.T, np.eye(8), atol=1e-5)
    assert owners(net.mitigate("orthogonal"))["rnn.weight_ih_l0"] == owners(net)["rnn.weight_ih_l0"]


def test_norms_stand_where_they_are_asked_to_and_take_their_statistics_along() -> None:
    before = deep().mitigate("batch_norm").layers[3].body
    after = deep().mitigate("layer_norm:after").layers[3].body
    assert [layer.kind for layer in before] == ["dense", "batch_norm", "activation"]
    assert [layer.kind for layer in after] == ["dense", "activation", "layer_norm"]
    normed = deep().mitigate("batch_norm")
    normed.step(X, Y, loss="cross_entropy", lr=0.1)
    kept = normed.mitigate("residual")
    assert kept.forward(X).tobytes() != normed.forward(X).tobytes()
    assert [v.tobytes() for v in kept.buffers().values()] == [v.tobytes() for v in normed.buffers().values()]
    with pytest.raises(DoesNotApply, match=r"its activations are normalised already"):
        deep(norm="layer").mitigate("batch_norm")
    with pytest.raises(DoesNotApply, match=r"3 groups do not divide a layer of 8 units"):
        deep().mitigate("group_norm:3")


# --- training -----------------------------------------------------------------------------------------------


def test_cures_of_training_leave_the_network_and_are_what_fit_takes() -> None:
    cured = deep().mitigate("adam:0.01", "clip_norm:0.5", "clip_value:0.1", "max_norm_constraint")
    assert owners(cured) == owners(deep())
    assert cured.training_defaults == {
        "optimizer": vg.optimizers.adam(lr=0.01),
        "clip": (vg.clips.norm(max_norm=0.5), vg.clips.value(value=0.1)),
        "constraint": as_constraints("max_norm"),
    }
    by_hand = deep()
    constraint, clip = vg.MaxNormConstraint(), [vg.clips.norm(max_norm=0.5), vg.clips.value(value=0.1)]
    by_hand.fit(X, Y, epochs=2, optimizer=vg.Adam(0.01), clip=clip, constraint=constraint)
    cured.fit(X, Y, epochs=2)
    assert owners(cured) == owners(by_hand)
    other = deep().mitigate("adam:0.01")
    plain = deep()
    other.fit(X, Y, optimizer=vg.SGD(0.1))
    plain.fit(X, Y, optimizer=vg.SGD(0.1))
    assert owners(other) == owners(plain), "what is given counts"


def test_truncation_is_what_fit_takes() -> None:
    x, y = sequences(), np.array([0, 1, 0, 1])
    cured, by_hand = along_time().mitigate("truncate:3"), along_time()
    cured.fit(x, y)
    by_hand.fit(x, y, truncate=3)
    assert owners(cured) == owners(by_hand)
    with pytest.raises(DoesNotApply, match=r"truncate\(3\) .* no recurrent layer"):
        deep().mitigate("truncate:3")


def test_weight_decay_is_the_optimizers_in_either_order() -> None:
    one = deep().mitigate("weight_decay:0.01", "adam").training_defaults["optimizer"]
    other = deep().mitigate("adam", "weight_decay:0.01").training_defaults["optimizer"]
    assert one == other == vg.optimizers.adam(weight_decay=0.01)
    with pytest.raises(DoesNotApply, match=r"the optimizer scale_free has no weight decay"):
        deep().mitigate("scale_free", "weight_decay")
    with pytest.raises(DoesNotApply, match=r"the optimizer scale_free has no weight decay"):
        deep().mitigate("weight_decay", "scale_free")


def test_every_part_of_the_training_is_a_cure() -> None:
    cures = [get(name) for name in vg.mitigations.names() if get(name).of_training]
    made = [deep().mitigate(cure).training_defaults for cure in cures if cure.name != "truncate"]
    found = {type_ for defaults in made for type_ in defaults}
    assert found == {"optimizer", "clip", "constraint"}
    assert {d["optimizer"].name for d in made if "optimizer" in d} == set(vg.optimizers.names())
    assert {d["clip"][0].name for d in made if "clip" in d} == set(vg.clips.names())
    assert {d["constraint"][0].name for d in made if "constraint" in d} == set(vg.constraints.names())


# --- what does not go together ------------------------------------------------------------------------------


BLOCKS = ["residual", "pre_activation", "scaled_residual"]


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(BLOCKS, 2)))
def test_two_shapes_of_a_block_are_refused(one: str, other: str) -> None:
    with pytest.raises(vg.ArgumentError, match=r"do not go together: a network has one shape of a block"):
        deep().mitigate(one, other)
    with pytest.raises(vg.ArgumentError, match=r"do not go together"):
        deep().mitigate(one).mitigate(other)


def test_incompatible_pairs_give_their_reason() -> None:
    with pytest.raises(
        vg.ArgumentError, match=r"irnn\(\) and orthogonal\(\) do not go together: its recurrent"
    ):
        along_time().mitigate("irnn", "orthogonal")
    with pytest.raises(vg.ArgumentError, match=r"a network has one start of the weights"):
        deep().mitigate("orthogonal", "init:he_normal")
    with pytest.raises(vg.ArgumentError, match=r"only the direction of a layer's gradient counts"):
        deep().mitigate("clip_norm", "scale_free")
    with pytest.raises(vg.ArgumentError, match=r"a norm takes away the scales that it sets"):
        deep().mitigate("fixup", "batch_norm")
    with pytest.raises(vg.ArgumentError, match=r"a network has one normalisation of activations"):
        deep().mitigate("layer_norm", "batch_norm")
    with pytest.raises(vg.ArgumentError, match=r"they are the same"):
        deep().mitigate("zero_bias", "zero_bias")


def test_nothing_is_ignored_silently() -> None:
    with pytest.raises(
        DoesNotApply, match=r"lstm\(\) does not apply to this network: it has no recurrent layer"
    ):
        deep().mitigate("lstm")
    with pytest.raises(DoesNotApply, match=r"zero_bias\(\) .* everything that it would set is so already"):
        deep().mitigate("zero_bias")
    with pytest.raises(DoesNotApply, match=r"init\('glorot_normal'\) .* is so already"):
        deep().mitigate("residual", "init:glorot_normal")
    with pytest.raises(DoesNotApply, match=r"it has no activation other than tanh"):
        deep().mitigate("activation:tanh")
    net = deep()
    net.step(X, Y, loss="cross_entropy", lr=0.1)
    net.mitigate("zero_bias")  # its biases have moved: now there is something to do


# --- theory -------------------------------------------------------------------------------------------------


PREDICTED = [
    "none",
    "residual",
    "residual:shortcut=0.7",
    "activation:relu",
    "scaled_residual",
    "edge_of_chaos",
]
PREDICTED += ["pre_activation", "rezero", "fixup", "highway", "dense_skip", "unet", "long_skip"]
PREDICTED += ["layer_norm", "rms_norm", "batch_norm+residual", "layer_norm+pre_activation", "deepnorm"]
PREDICTED += ["weight_norm", "weight_standardized", "residual:layers=2:projection=true"]


@pytest.mark.parametrize("cures", PREDICTED)
def test_theory_says_beforehand_what_is_then_measured(cures: str) -> None:
    net = vg.mlp(depth=60, width=64, activation="tanh", sigma_w2=0.5, rng=0)
    if cures != "none":
        net = net.mitigate(*as_cures(cures))
    x = np.random.default_rng(0).normal(size=(8, 64)).astype("float32")
    curve, why = vg.mitigations.predict(net, x)
    assert why == ""
    flow = net.probe(x, cotangent=np.random.default_rng(1).normal(size=(8, 64)).astype("float32"))
    assert abs(curve.decades_per_step - flow.decades_per_step) < 0.02


def test_lists_are_data_as_for_fit() -> None:
    net = deep()
    of_array, of_list = (vg.mitigations.predict(net, x)[0] for x in (X, X.tolist()))
    assert of_array.log10_grad_norm.tobytes() == of_list.log10_grad_norm.tobytes()
    assert owners(net.mitigate("lsuv", x=X.tolist())) == owners(net.mitigate("lsuv", x=X))
    with pytest.raises(vg.ShapeError, match=r"x: expected shape \(batch, 6\), got \(16, 2\)"):
        vg.mitigations.predict(net, X[:, :2])
    with pytest.raises(vg.NonFiniteError, match=r"x: "):
        net.mitigate("lsuv", x=X + np.nan)


def test_what_theory_cannot_say_is_said() -> None:
    curve, why = vg.mitigations.predict(along_time("lstm"), sequences())
    assert curve is None
    assert "cannot predict cell 'lstm'" in why


@pytest.mark.parametrize("other", ["unet:2", "rezero", "residual:2", "long_skip:3", "highway"])
@pytest.mark.parametrize("make", [deep, flat])
def test_renaming_and_another_form_of_the_weights_go_together_in_either_order(
    make: object, other: str
) -> None:
    one, two = make().mitigate("weight_norm", other), make().mitigate(other, "weight_norm")
    assert one.forward(X).tobytes() == two.forward(X).tobytes()
    assert one.forward(X).tobytes() == make().mitigate(other).forward(X).tobytes(), (
        "the weights start as they were"
    )


def test_a_new_start_reaches_weights_in_another_form() -> None:
    for order in (("weight_norm", "orthogonal"), ("orthogonal", "weight_norm")):
        weights = deep().mitigate(*order).effective_weights()["hidden.weight"].astype(float)
        assert np.allclose(weights[3] @ weights[3].T, np.eye(8), atol=1e-5)


def test_standardised_weights_make_up_for_the_activation() -> None:
    cured = deep(width=64, activation="relu").mitigate("weight_standardized")
    weights = cured.effective_weights()["hidden.weight"].astype(float)
    assert np.allclose(weights.mean(axis=-1), 0.0, atol=1e-6)
    assert np.allclose((weights**2).sum(axis=-1), 2.0 / (1.0 - 1.0 / np.pi), rtol=1e-3)
