"""Tests of cures as names, texts and calls: what they hold comes back as it was; what is wrong is said."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import vgcore as vg
from helpers_cures import X, Y, deep
from vgcore.mitigations import DoesNotApply, as_cures, as_text, get


@pytest.mark.parametrize("name", vg.mitigations.names())
def test_a_cure_survives_text_pickle_and_hashing(name: str) -> None:
    cure = get(name)
    assert get(cure.text) == cure
    assert pickle.loads(pickle.dumps(cure)) == cure
    assert hash(get(cure.text)) == hash(cure)


def test_parameters_by_place_name_and_text_are_one() -> None:
    made = vg.mitigations.long_skip(8)
    assert made == vg.mitigations.long_skip(every=8) == get("long_skip:8") == get("long_skip:every=8")
    assert repr(made) == "long_skip(8)"
    assert get(" residual : scale=0.5 ").params == {"scale": 0.5}
    assert get("residual:layers=2:scale=0.5") == get("residual:2:0.5")
    assert as_cures("residual+activation:relu") == as_cures(["residual", "activation:relu"])
    assert as_text(as_cures("residual+activation:relu")) == "residual+activation:relu"
    assert as_cures("none") == () == as_cures(None)


@pytest.mark.parametrize(
    "value", [0.123456789, 0.1, 1 / 3, 1e-10, 1e6, 123456789.0, 2.5e17, 1e300, 1.0, 1e16]
)
def test_numbers_come_back_from_text_as_they_were(value: float, tmp_path: Path) -> None:
    cures = (vg.mitigations.clip_norm(value), vg.mitigations.adam(lr=1e-3), get("residual"))
    assert as_cures(as_text(cures)) == cures
    assert get(cures[0].text).params["max_norm"] == value
    pytest.importorskip("safetensors")
    cured = deep().mitigate(*cures)
    cured.save(tmp_path / "net.safetensors")
    assert vg.load(tmp_path / "net.safetensors").cures == cured.cures


def test_the_plus_of_an_exponent_does_not_part_two_cures() -> None:
    assert as_cures("clip_norm:1e+06+residual") == as_cures(["clip_norm:1000000", "residual"])
    assert as_cures("clip_norm:1E+2") == as_cures("clip_norm:100")
    assert get("clip_norm:1e6").text == "clip_norm:1000000"
    result = vg.Study(mitigation=["clip_norm:1000000", "clip_norm:1e22"], depth=2, width=4).run(X, Y)
    assert not result.errors


@pytest.mark.parametrize("value", [1, 2, 2.0, "1", "inf", float("inf")])
def test_the_norm_of_a_clip_may_be_a_number(value: object) -> None:
    made = vg.mitigations.clip_norm(norm_type=value)
    assert made == get(f"clip_norm:norm_type={value}") == get(made.text)
    clip = deep().mitigate(made).training_defaults["clip"][0]
    order = float(str(value))
    assert clip == vg.clips.norm(norm_type="inf" if np.isinf(order) else f"{order:g}")


def test_a_wrong_choice_or_range_is_said_where_the_cure_is_made() -> None:
    with pytest.raises(vg.ArgumentError, match=r'norm_type to be one of "1", "2", "inf"; got "3"'):
        get("clip_norm:norm_type=3")
    with pytest.raises(vg.ArgumentError, match=r'band: expected scope to be one of "layer", "all"; got "al"'):
        get("norm_band:scope=al")
    with pytest.raises(vg.ArgumentError, match=r"norm_type: expected text such as '2', got True"):
        vg.mitigations.clip_norm(norm_type=True)
    with pytest.raises(vg.ArgumentError, match=r"lr"):
        get("adam:-1")
    with pytest.raises(vg.ArgumentError, match=r"momentum: expected a share from 0 to 1, or None"):
        get("batch_norm:momentum=1.5")


def test_running_statistics_may_be_the_mean_of_all_batches() -> None:
    for cure in ("batch_norm:momentum=none", vg.mitigations.batch_norm(momentum=None)):
        cured = deep().mitigate(cure)
        norms = [layer for layer in cured.layers if isinstance(layer, vg.BatchNorm)]
        assert norms
        assert all(norm.momentum is None for norm in norms)
        assert get(cured.cures[0].text) == cured.cures[0]
    assert deep().mitigate("batch_norm").layers[1].momentum == 0.1


def test_a_parameter_given_twice_is_refused_as_text_and_as_call() -> None:
    with pytest.raises(vg.ArgumentError, match=r"mitigation 'long_skip:4:every=8': every is given twice"):
        get("long_skip:4:every=8")
    with pytest.raises(vg.ArgumentError, match=r"long_skip: every is given twice"):
        vg.mitigations.long_skip(4, every=8)


def test_wrong_names_and_parameters_are_said() -> None:
    with pytest.raises(vg.UnknownNameError, match=r"unknown mitigation 'residul'; did you mean 'residual'\?"):
        get("residul")
    with pytest.raises(vg.ArgumentError, match=r"long_skip has 1 parameter: every; got 2 values"):
        get("long_skip:4:5")
    with pytest.raises(vg.ArgumentError, match=r"'long_skip': every: expected an integer"):
        get("long_skip:four")
    with pytest.raises(vg.ArgumentError, match=r"no parameter 'evry'; did you mean 'every'"):
        get("long_skip:evry=4")
    with pytest.raises(vg.ArgumentError, match=r"call the cure first"):
        get(vg.mitigations.residual)
    with pytest.raises(vg.ArgumentError, match=r'expected a name such as "residual"'):
        get(7)


@pytest.mark.parametrize(
    ("cure", "why"),
    [
        ("residual:layers=5", "blocks of 5 layers do not divide the 12"),
        ("dense_skip:100", "blocks of 100 layers do not divide the 12"),
        ("activation:tanh", "it has no activation other than tanh"),
        ("lstm", "it has no recurrent layer"),
        ("truncate:7", "it has no recurrent layer"),
        ("stochastic_depth:0.3", "it has no residual blocks to leave out"),
        ("group_norm:3", "3 groups do not divide a layer of 8 units"),
        ("zero_bias", "everything that it would set is so already"),
    ],
)
def test_what_does_not_apply_is_named_with_the_parameters_that_were_given(cure: str, why: str) -> None:
    with pytest.raises(DoesNotApply) as caught:
        deep().mitigate(cure)
    assert str(caught.value).startswith(f"{get(cure)!r} does not apply to this network: {why}")


def test_a_cure_that_needs_data_is_named_with_its_parameters() -> None:
    with pytest.raises(
        DoesNotApply, match=r"^lsuv\(0\.2\) scales each layer by what the data make of it: give "
    ):
        deep().mitigate("lsuv:0.2")
    with pytest.raises(
        DoesNotApply, match=r"^layerwise_pretraining\(3\) trains each layer on the data: give"
    ):
        deep().mitigate("layerwise_pretraining:3")
    text = r"^layerwise_pretraining\(3\) does not apply to this network: net: expected Dense layers with"
    with pytest.raises(DoesNotApply, match=text):
        deep(skip="residual").mitigate("layerwise_pretraining:3", x=X)
    with pytest.raises(
        DoesNotApply, match=r"^scale_free\(\) does not .* no weight decay, which a cure before"
    ):
        deep().mitigate("weight_decay", "scale_free")


@pytest.mark.parametrize(
    ("cure", "text"),
    [
        ("fewer_layers:2", "keep: expected a number above 0 and below 1, got 2"),
        ("stochastic_depth:1.5", "last: expected a number of at least 0 and of at most 1, got 1.5"),
        (
            "layerwise_pretraining:corruption=2",
            "corruption: expected a number of at least 0 and below 1, got 2",
        ),
        ("lsuv:-1", "tolerance: expected a number of at least 0, got -1"),
        ("edge_of_chaos:-1", "sigma_b2: expected a number of at least 0, got -1"),
        ("weight_decay:-1", "value: expected a number of at least 0, got -1"),
        (
            "long_skip:1",
            "every: expected an integer of at least 2, got 1; a skip over one layer is a residual",
        ),
        ("dense_skip:1", "block: expected an integer of at least 2, got 1; a block of one layer has nothing"),
        ("fixup:1", "layers: expected an integer of at least 2, got 1; of a branch's layers the last starts"),
    ],
)
def test_a_value_that_no_network_can_take_is_refused_before_there_is_one(cure: str, text: str) -> None:
    with pytest.raises(vg.ArgumentError) as caught:
        get(cure)
    assert not isinstance(caught.value, DoesNotApply)
    assert str(caught.value).startswith(f"mitigation {cure.split(':')[0]!r}: {text}")
