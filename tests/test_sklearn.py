"""Estimators: scikit-learn's own checks, and what those do not look at."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import vgcore as vg

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

Classifier, Regressor = vg.sklearn.NetworkClassifier, vg.sklearn.NetworkRegressor
SMALL: dict[str, Any] = {"depth": 1, "width": 16, "epochs": 8, "random_state": 0}


@parametrize_with_checks([Classifier(), Regressor(), Classifier(early_stopping=True)])
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def blobs(classes: int = 3, number: int = 150, seed: int = 0) -> tuple[Any, Any]:
    """Return points around `classes` centres that a straight line parts."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, number)
    centres = 3.0 * np.c_[np.cos(np.arange(classes)), np.sin(np.arange(classes)), np.arange(classes) % 2]
    return centres[y] + 0.3 * random.normal(size=(number, 3)), y


def plane(number: int = 150, outputs: int = 1) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=(number, 3))
    y = x @ random.normal(size=(3, outputs))
    return x, y[:, 0] if outputs == 1 else y


def weights(model: Any) -> bytes:
    return b"".join(array.tobytes() for array in model.network_.parameters().values())


def test_labels_of_any_kind_come_back() -> None:
    x, y = blobs()
    for labels in (np.array(["ox", "cat", "dog"])[y], np.array([-5, 7, 100])[y], y == 1):
        model = Classifier(**SMALL | {"epochs": 40}).fit(x, labels)
        assert model.predict(x).dtype == labels.dtype
        assert (model.classes_ == np.unique(labels)).all()
        assert model.score(x, labels) > 0.95


def test_probabilities_are_those_of_the_network() -> None:
    x, y = blobs()
    model = Classifier(**SMALL).fit(x, y)
    output = model.network_.forward(x.astype(np.float32)).astype(np.float64)
    wanted = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(x), wanted, rtol=1e-10)
    np.testing.assert_allclose(model.predict_log_proba(x), np.log(wanted), rtol=1e-6)
    assert (model.predict(x) == wanted.argmax(axis=1)).all()
    far = model.predict_log_proba(1e6 * x)
    assert np.isfinite(far).all()
    assert far.min() < -800  # whose exponential is 0 in any float


def test_one_class_alone_is_predicted() -> None:
    x, _ = blobs(number=30)
    model = Classifier(**SMALL).fit(x, np.full(30, "only"))
    assert set(model.predict(x)) == {"only"}
    assert (model.predict_proba(x) == 1.0).all()


def test_one_output_is_flat_and_several_are_not() -> None:
    x, y = plane()
    model = Regressor(**SMALL | {"epochs": 150}).fit(x, y)
    assert model.predict(x).shape == (150,)
    assert model.score(x, y) > 0.9
    x, y = plane(outputs=2)
    model = Regressor(**SMALL | {"epochs": 150}).fit(x, y)
    assert model.predict(x).shape == (150, 2)
    assert model.score(x, y) > 0.9
    assert Regressor(**SMALL).fit(x, y[:, :1]).predict(x).shape == (150, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arithmetic_is_of_the_type_asked_for(dtype: str) -> None:
    x, y = blobs()
    model = Classifier(**SMALL, dtype=dtype).fit(x, y)
    assert model.network_.dtype == np.dtype(dtype)


def test_the_same_seed_gives_the_same_bits() -> None:
    x, y = blobs()
    first, second = (Classifier(**SMALL).fit(x, y) for _ in range(2))
    assert weights(first) == weights(second)
    other = Classifier(**SMALL | {"random_state": 1}).fit(x, y)
    assert weights(first) != weights(other)
    state = np.random.RandomState(0)
    assert weights(Classifier(**SMALL | {"random_state": state}).fit(x, y)) != weights(
        Classifier(**SMALL | {"random_state": state}).fit(x, y)
    )


def test_networks_can_be_given_layer_by_layer() -> None:
    x, y = blobs()
    layers = [vg.Dense(8), vg.Activation("tanh"), vg.Repeat(vg.Residual([vg.Dense(8)]), 3)]
    model = Classifier(layers=layers, epochs=1, random_state=0).fit(x, y)
    assert model.network_.out_features == 3
    assert len(model.network_.layers) == 4


def test_the_arguments_of_the_network_arrive() -> None:
    x, y = blobs()
    model = Classifier(depth=4, width=8, activation="tanh", init="orthogonal", skip="residual", epochs=1)
    model.fit(x, y)
    assert model.network_.parameter_shapes()["output.weight"] == (3, 8)
    assert model.network_.num_steps == 6


def test_an_optimizer_may_be_an_object() -> None:
    x, y = blobs()
    model = Classifier(**SMALL, optimizer=vg.SGD(0.1, momentum=0.9)).fit(x, y)
    assert model.history_.meta["optimizer"] == "SGD(lr=0.1, momentum=0.9)"
    assert "adam" in str(Classifier(**SMALL).fit(x, y).history_.meta["optimizer"]).lower()
    np.testing.assert_array_equal(Classifier(**SMALL, learning_rate=0.02).fit(x, y).history_.lr, 0.02)


def test_early_stopping_holds_data_out_and_keeps_the_best() -> None:
    x, y = blobs(number=300)
    x = np.random.default_rng(0).normal(size=x.shape)  # nothing to be learned: held-out data say so soon
    model = Classifier(depth=2, width=64, epochs=200, learning_rate=0.01, early_stopping=True, patience=3)
    model.set_params(random_state=0).fit(x, y)
    assert model.n_iter_ < 200
    assert len(model.history_.validation) == model.n_iter_
    assert "no better validation_loss" in model.history_.stopped


def test_warm_start_goes_on() -> None:
    x, y = blobs()
    once = Classifier(**SMALL | {"epochs": 6}).fit(x, y)
    twice = Classifier(**SMALL | {"epochs": 3}, warm_start=True).fit(x, y).fit(x, y)
    assert twice.n_iter_ == 6
    # The optimizer's state and the order of the samples go on too.
    assert weights(once) == weights(twice)
    cold = Classifier(**SMALL | {"epochs": 3}).fit(x, y).fit(x, y)
    assert cold.n_iter_ == 3


def test_partial_fit_is_one_epoch() -> None:
    x, y = blobs()
    model = Classifier(**SMALL)
    model.partial_fit(x[y < 2], y[y < 2], classes=[0, 1, 2])
    for _ in range(30):
        model.partial_fit(x, y)
    assert model.n_iter_ == 31
    assert model.score(x, y) > 0.9
    with pytest.raises(ValueError, match=r"^y: expected labels among classes_, \[0 1 2\], got \[7\]"):
        model.partial_fit(x, np.full_like(y, 7))
    with pytest.raises(
        ValueError, match=r"^classes: expected those of the first call, \[0 1 2\], got \[0, 1\]"
    ):
        model.partial_fit(x, y, classes=[0, 1])
    x, y = plane(outputs=2)
    model = Regressor(**SMALL).partial_fit(x, y).partial_fit(x, y)
    with pytest.raises(ValueError, match=r"^y: expected 2 outputs as before, got 1"):
        model.partial_fit(x, y[:, 0])


def test_pickles_hold_files_of_vgcore_and_go_on_training() -> None:
    pytest.importorskip("safetensors")
    x, y = blobs()
    model = Classifier(**SMALL, warm_start=True).fit(x, y)
    state = model.__getstate__()
    assert b"vgcore_network" in state["network_"]  # safetensors, which names what it holds
    assert state["history_"].startswith(b"PK")  # npz is a zip
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict_proba(x) == model.predict_proba(x)).all()
    assert again.history_.loss.tobytes() == model.history_.loss.tobytes()
    assert weights(again.fit(x, y)) == weights(model.fit(x, y))
    assert Classifier(**SMALL).__getstate__()["epochs"] == 8  # not fitted: nothing to write


def test_running_statistics_are_pickled() -> None:
    pytest.importorskip("safetensors")
    x, y = blobs()
    model = Classifier(**SMALL, norm="batch").fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict_proba(x) == model.predict_proba(x)).all()
    assert set(again.network_.buffers()) == set(model.network_.buffers()) != set()


def test_batches_of_one_sample_are_joined_where_they_cannot_be_normalised() -> None:
    x, y = blobs(number=65)
    model = Classifier(**SMALL, norm="batch").fit(x, y)
    assert model.history_.meta["batch_size"] == 33
    assert Classifier(**SMALL, norm="layer").fit(x, y).history_.meta["batch_size"] == 32
    assert Regressor(**SMALL, norm="batch", batch_size=1).fit(x, y).history_.meta["batch_size"] == 3
    held = Classifier(**SMALL, norm="batch", early_stopping=True, validation_fraction=0.5).fit(x, y)
    assert held.history_.meta["batch_size"] == 32 + (held.history_.meta["rows"] == 33)


def test_no_callbacks_can_be_none() -> None:
    x, y = blobs()
    assert weights(Classifier(**SMALL, callbacks=None).fit(x, y)) == weights(Classifier(**SMALL).fit(x, y))


def test_a_network_that_is_trained_further_keeps_its_float_type() -> None:
    x, y = blobs()
    for model in (Classifier(**SMALL, warm_start=True), Regressor(**SMALL, warm_start=True)):
        model.fit(x, y).set_params(dtype="float64")
        for call in (model.fit, model.partial_fit):
            with pytest.raises(
                ValueError, match=r'dtype: expected "float32", as the network .* got "float64"; st'
            ):
                call(x, y)
        model.set_params(warm_start=False).fit(x, y)
        assert model.network_.dtype == np.float64


def test_searches_and_pipelines_take_them() -> None:
    x, y = blobs()
    pipeline = make_pipeline(StandardScaler(), Classifier(**SMALL | {"epochs": 60}))
    assert cross_val_score(pipeline, 100 * x, y, cv=3).min() > 0.9
    search = GridSearchCV(Classifier(**SMALL), {"depth": [1, 2], "activation": ["relu", "tanh"]}, cv=2)
    assert search.fit(x, y).best_score_ > 0.5


def test_what_makes_no_sense_is_refused() -> None:
    x, y = blobs()
    for name, value in {
        "depth": 0, "activation": "tahn", "epochs": 0, "batch_size": 0, "dtype": "float16", "warm_start": 1,
        "optimizer": "adma", "learning_rate": -1.0, "loss": "none",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=r"expected|did you mean"):
            Classifier(**SMALL | {name: value}).fit(x, y)
    with pytest.raises(ValueError, match="validation_fraction: expected a share between 0 and 1, got 1"):
        Classifier(**SMALL, early_stopping=True, validation_fraction=1.0).fit(x, y)
    with pytest.raises(TypeError, match="sample_weight"):
        Classifier(**SMALL).fit(x, y, sample_weight=np.ones(len(y)))
    with pytest.raises(NotFittedError):
        Classifier().predict(x)


def test_an_absent_scikit_learn_is_named() -> None:
    code = "import sys; sys.modules['sklearn'] = None\nimport vgcore as vg\nvg.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "vgcore[sklearn]"' in done.stderr
    assert "MissingDependencyError" in done.stderr


def test_cures_are_an_argument() -> None:
    x, y = blobs()
    sick = {"depth": 40, "width": 16, "activation": "sigmoid", "epochs": 10, "random_state": 0}
    plain = Classifier(**sick).fit(x, y)
    cured = Classifier(**sick, mitigation="activation:tanh+rezero").fit(x, y)
    assert plain.score(x, y) < 0.6
    assert cured.score(x, y) > 0.9
    assert [cure.name for cure in cured.network_.cures] == ["activation", "rezero"]
    assert cured.get_params()["mitigation"] == "activation:tanh+rezero"
    again = pickle.loads(pickle.dumps(cured))
    assert again.network_.cures == cured.network_.cures
    assert np.array_equal(again.predict(x), cured.predict(x))
    search = GridSearchCV(Classifier(**sick), {"mitigation": [None, ["activation:tanh", "rezero"]]}, cv=2)
    assert search.fit(x, y).best_params_ == {"mitigation": ["activation:tanh", "rezero"]}


def test_cures_of_training_and_cures_that_look_at_data() -> None:
    x, y = blobs()
    model = Classifier(**SMALL, mitigation=["lsuv", vg.mitigations.clip_norm(0.5), "momentum"]).fit(x, y)
    assert model.history_.meta["optimizer"].startswith("sgd(momentum=0.9")
    assert len(model.history_.meta["clip"]) == 1
    warm = Classifier(**SMALL, mitigation="adagrad", warm_start=True).fit(x, y).fit(x, y)
    assert warm.n_iter_ == 2 * SMALL["epochs"]
    assert warm.history_.meta["optimizer"].startswith("adagrad")
    with pytest.raises(ValueError, match="clip: expected clips here or among the cures of mitigation"):
        Classifier(**SMALL, mitigation="clip_norm", clip=vg.ClipNorm(1.0)).fit(x, y)
    with pytest.raises(ValueError, match="did you mean 'rezero'"):
        Classifier(**SMALL, mitigation="rezro").fit(x, y)
    targets = plane()
    assert Regressor(**SMALL, mitigation="layer_norm").fit(*targets).network_.cures
