"""Layer: estimators. Networks as scikit-learn's classifier and regressor, for pipelines and searches.

Knows scikit-learn's conventions and how networks are built and trained; adds nothing to either. Imports
scikit-learn, and is itself imported when ``vg.sklearn`` is first used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_choice, as_flag, as_real, as_size
from ._fit import without_single
from ._loading import load
from .callbacks import EarlyStopping, as_callbacks
from .clipping import Clip, as_clips
from .errors import ArgumentError, missing_dependency
from .history import History
from .layers import Dense, Layer, as_layers
from .losses import Loss, as_loss
from .mitigations import as_cures
from .models import mlp
from .network import Network
from .normalisation import normalises_batches
from .optimizers import Optimizer, as_optimizer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data  # 1.6 brought the second
except ImportError:
    raise missing_dependency("scikit-learn>=1.6", "sklearn", "vg.sklearn") from None

__all__ = ["NetworkClassifier", "NetworkRegressor"]

#: What a pickle holds as bytes of vgcore's own files, which later versions read.
_AS_FILES: Final = {"network_": ".safetensors", "history_": ".npz"}


class _NetworkEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share; their arguments are explained there."""

    network_: Network
    history_: History
    n_iter_: int

    def __init__(
        self,
        depth: int = 2,
        width: int = 64,
        *,
        activation: Any = "relu",
        init: Any = None,
        norm: str | None = None,
        skip: str | None = None,
        layers: Sequence[Layer] | None = None,
        mitigation: Any = None,
        loss: str | Loss | None = None,
        optimizer: Any = "adam",
        learning_rate: float = 1e-3,
        clip: Any = None,
        epochs: int = 100,
        batch_size: int = 32,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        callbacks: Any = (),
        dtype: str = "float32",
        warm_start: bool = False,
        random_state: Any = None,
    ) -> None:
        """Keep the arguments as they are: scikit-learn checks them in `fit`."""
        self.depth = depth
        self.width = width
        self.activation = activation
        self.init = init
        self.norm = norm
        self.skip = skip
        self.layers = layers
        self.mitigation = mitigation
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.clip = clip
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.callbacks = callbacks
        self.dtype = dtype
        self.warm_start = warm_start
        self.random_state = random_state

    # --- training ------------------------------------------------------------------------------------------

    def _train(self, x: NDArray[Any], y: NDArray[Any], outputs: int, epochs: int, going_on: bool) -> Self:
        """Train for `epochs`, from new weights or going on from what there is."""
        if not going_on:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            self.network_, self.n_iter_ = self._cured(x, outputs, seed), 0
        share = self._held_out(len(x)) if as_flag(self.early_stopping, "early_stopping") else None
        rows = len(x) - round((share or 0.0) * len(x))
        size = min(as_size(self.batch_size, "batch_size"), len(x))
        if normalises_batches(self.network_.layers):
            size = without_single(rows, size)
        loss, optimizer, clip = as_loss(self._loss()), self._optimizer(), self._clip()
        recipe = {
            "rows": rows,
            "batch_size": size,
            "loss": repr(loss),
            "optimizer": repr(optimizer),
            "clip": [repr(part) for part in clip],
        }
        # What an optimizer remembers is of use where nothing but the data has changed.
        resumes = going_on and all(self.history_.meta.get(key) == value for key, value in recipe.items())
        observers = [*as_callbacks(self.callbacks)]
        if share is not None:
            observers.append(EarlyStopping(self.patience))
        # fit counts epochs from the beginning of the training that it resumes; one that begins anew takes
        # the samples in another order.
        before = len(self.history_.epochs["epoch"]) if resumes else 0
        self.history_ = self.network_.fit(
            x,
            y,
            epochs=before + epochs,
            batch_size=size,
            loss=loss,
            optimizer=optimizer,
            clip=clip,
            validation=share,
            callbacks=observers,
            rng=None if resumes else self.network_.seed + self.n_iter_,
            resume=self.history_ if resumes else None,
        )
        self.n_iter_ += len(self.history_.epochs["epoch"]) - before
        return self

    def _cured(self, x: NDArray[Any], outputs: int, seed: int) -> Network:
        """Return a new network with its cures, which are shown the data."""
        net = self._build(x.shape[1], outputs, seed)
        cures = as_cures(self.mitigation)
        return net.mitigate(*cures, x=x) if cures else net

    def _build(self, inputs: int, outputs: int, seed: int) -> Network:
        dtype = as_choice(self.dtype, "dtype", ("float32", "float64"))
        if self.layers is not None:
            hidden = as_layers(self.layers, "layers")
            return Network(inputs, [*hidden, Dense(outputs, name="output")], dtype=dtype, rng=seed)
        return mlp(
            self.depth, self.width, in_features=inputs, out_features=outputs, activation=self.activation,
            init=self.init, norm=self.norm, skip=self.skip, dtype=dtype, rng=seed,
        )  # fmt: skip

    def _held_out(self, samples: int) -> float | None:
        """Return the share of the samples that is held out."""
        share = as_real(self.validation_fraction, "validation_fraction", minimum=0.0)
        if not 0 < share < 1:
            raise ArgumentError(f"validation_fraction: expected a share between 0 and 1, got {share:g}")
        # A held-out set of nobody, or training data of nobody, cannot tell when to stop.
        return share if 1 <= round(share * samples) < samples else None

    def _clip(self) -> tuple[Clip, ...]:
        """Return the clips that were given, or those that a cure has set.

        Raises:
            ArgumentError: both.
        """
        given, cured = as_clips(self.clip), self.network_.training_defaults.get("clip", ())
        if given and cured:
            raise ArgumentError(
                f"clip: expected clips here or among the cures of mitigation, got {list(given)} here and "
                f"{list(cured)} there; leave one out"
            )
        return given or tuple(cured)

    def _optimizer(self) -> Any:
        """Return the optimizer: one that a cure has set stands before the estimator's own."""
        cured = self.network_.training_defaults.get("optimizer")
        if cured is not None:
            return cured
        if not isinstance(self.optimizer, str):
            return as_optimizer(self.optimizer)
        return Optimizer(self.optimizer, {"lr": as_real(self.learning_rate, "learning_rate", minimum=0.0)})

    def _loss(self) -> Any:
        raise NotImplementedError  # this class is a base: classifier and regressor have one each

    def _kind(self, going_on: bool) -> np.dtype[Any]:
        """Return the float type of the data.

        Raises:
            ArgumentError: another one than that of the network which is trained further.
        """
        kind = np.dtype(as_choice(self.dtype, "dtype", ("float32", "float64")))
        if going_on and kind != self.network_.dtype:
            raise ArgumentError(
                f'dtype: expected "{self.network_.dtype}", as the network has that is trained further, got '
                f'"{kind}"; start anew with warm_start=False'
            )
        return kind

    def _goes_on(self) -> bool:
        return as_flag(self.warm_start, "warm_start") and hasattr(self, "network_")

    def _outputs(self, x: ArrayLike) -> NDArray[Any]:
        """Return the network's output for `x`, checked."""
        check_is_fitted(self)
        checked = validate_data(self, x, reset=False, dtype=self.network_.dtype, order="C")
        return self.network_.predict(checked)

    # --- pickles -------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: network and history as the bytes of their files.

        Raises:
            MissingDependencyError: the package safetensors is not installed.
        """
        state = dict(super().__getstate__())
        with tempfile.TemporaryDirectory() as folder:
            for name, suffix in _AS_FILES.items():
                if name in state:
                    path = Path(folder, name + suffix)
                    state[name].save(path)
                    state[name] = path.read_bytes()
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Read the files again."""
        state = dict(state)
        with tempfile.TemporaryDirectory() as folder:
            for name, suffix in _AS_FILES.items():
                if name in state:
                    path = Path(folder, name + suffix)
                    path.write_bytes(state[name])
                    state[name] = load(path) if name == "network_" else History.load(path)
        super().__setstate__(state)


class NetworkClassifier(ClassifierMixin, _NetworkEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A network that sorts samples into classes, as a scikit-learn estimator.

    Features should be of similar size, about 1: put ``StandardScaler`` in front of it.

    Args:
        depth, width, activation, init, norm, skip: of the network; see ``vg.mlp``.
        layers: hidden layers instead of those six; a Dense with one output a class comes behind them.
        mitigation: cures of that network, as `net.mitigate` takes them: "activation:tanh+rezero", a list, or
            objects of ``vg.mitigations``. An optimizer among them stands in place of `optimizer`.
        loss: "cross_entropy" if not given.
        optimizer: a name from ``vg.optimizers.names()``, or an object such as ``vg.SGD(0.05, momentum=0.9)``,
            which brings its own learning rate.
        learning_rate: of an optimizer given by its name.
        clip: as for ``net.fit``, such as ``vg.ClipNorm(1.0)``.
        epochs: passes over the data, at most; `partial_fit` makes one.
        batch_size: samples a step; with batch normalisation the next number, where this one would leave a
            last batch of one sample.
        early_stopping: hold out `validation_fraction` of the data, stop when its loss has not improved for
            `patience` epochs, and keep the weights of the best one.
        validation_fraction: share of the data held out then.
        patience: epochs without improvement that are borne then.
        callbacks: as for ``net.fit``; see ``vg.callbacks``.
        dtype: "float32" or "float64", of weights and arithmetic; that of a network which is trained further
            stays.
        warm_start: let `fit` go on from the weights that there are instead of starting anew; also from what
            the optimizer remembers, unless an argument of the training or the number of samples changed.
        random_state: None, an int or a RandomState. An int gives the same bits on every machine.

    Attributes:
        classes_: the labels, sorted.
        network_: the trained ``vg.Network``: ``network_.probe(...)`` tells how its gradients flow.
        history_: the ``vg.History`` of the training that went on until now.
        n_iter_: epochs trained, all calls together.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    A pickle holds the network and the history as vgcore's own files (for which it needs safetensors), so
    that later versions read it. There is no ``sample_weight``: the core weighs all samples alike.

    Example:
        >>> import vgcore as vg
        >>> x, y = vg.datasets.digits()
        >>> model = vg.sklearn.NetworkClassifier(depth=2, epochs=5, random_state=0).fit(x[:1200], y[:1200])
        >>> bool(model.score(x[1200:], y[1200:]) > 0.8)
        True
    """

    def _loss(self) -> Any:
        return "cross_entropy" if self.loss is None else self.loss

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on `X`, (samples, features), and labels `y`, (samples,); return the estimator.

        Raises:
            ValueError: arrays that do not fit, labels that are none, arguments out of range.
        """
        going_on = self._goes_on()
        x, labels = self._checked(X, y, reset=not going_on)
        if not going_on:
            self.classes_ = np.unique(labels)
        return self._train(
            x, self._codes(labels), len(self.classes_), as_size(self.epochs, "epochs"), going_on
        )

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Train for one epoch on `X` and `y`, going on from what there is; return the estimator.

        The optimizer remembers what it did as long as the number of samples stays the same.

        `classes`: all labels that will ever come, in the first call; those of `y` if not given.

        Raises:
            ValueError: as for `fit`, or a label that is not among the classes.
        """
        going_on = hasattr(self, "network_")
        x, labels = self._checked(X, y, reset=not going_on)
        if not going_on:
            self.classes_ = np.unique(labels if classes is None else np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}, got {classes}")
        return self._train(x, self._codes(labels), len(self.classes_), 1, going_on)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of every class for each sample, (samples, classes), in `classes_` order."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the natural logarithms of the probabilities, which stay finite where those are 0."""
        output = self._outputs(X).astype(np.float64)
        output -= output.max(axis=1, keepdims=True)
        logs: NDArray[np.float64] = output - np.log(np.exp(output).sum(axis=1, keepdims=True))
        return logs

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest class of each sample, (samples,)."""
        best = self._outputs(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _checked(self, x: ArrayLike, y: ArrayLike, *, reset: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        checked, labels = validate_data(self, x, y, reset=reset, dtype=self._kind(not reset), order="C")
        check_classification_targets(labels)
        return checked, labels

    def _codes(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return each label's place among the classes."""
        known = np.isin(labels, self.classes_)
        if not known.all():
            strange = np.unique(labels[~known])
            raise ValueError(f"y: expected labels among classes_, {self.classes_}, got {strange}")
        return np.searchsorted(self.classes_, labels).astype(np.int64)


class NetworkRegressor(RegressorMixin, _NetworkEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A network that predicts numbers, one or several a sample, as a scikit-learn estimator.

    Arguments and attributes are those of `NetworkClassifier`, without ``classes_``; `loss` is "mse" if not
    given. Features and targets should be of similar size, about 1: put ``StandardScaler`` in front of it, and
    ``TransformedTargetRegressor`` around it.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> model = vg.sklearn.NetworkRegressor(depth=1, width=32, random_state=0).fit(x, x[:, 0] * x[:, 1])
        >>> bool(model.score(x, x[:, 0] * x[:, 1]) > 0.5)
        True
    """

    def _loss(self) -> Any:
        return "mse" if self.loss is None else self.loss

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on `X`, (samples, features), and `y`, (samples,) or (samples, outputs).

        Raises:
            ValueError: arrays that do not fit, arguments out of range.
        """
        return self._fit(X, y, as_size(self.epochs, "epochs"), self._goes_on())

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train for one epoch on `X` and `y`, going on from what there is; return the estimator.

        Raises:
            ValueError: as for `fit`.
        """
        return self._fit(X, y, 1, hasattr(self, "network_"))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the prediction for each sample, (samples,) or (samples, outputs), as `fit` was given."""
        output = self._outputs(X).astype(np.float64)
        return output[:, 0] if self._flat else output

    def _fit(self, x: ArrayLike, y: ArrayLike, epochs: int, going_on: bool) -> Self:
        dtype = self._kind(going_on)
        checked, targets = validate_data(
            self, x, y, reset=not going_on, dtype=dtype, order="C", multi_output=True, y_numeric=True
        )
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        if not going_on:
            self._flat = targets.ndim == 1
        elif outputs != self.network_.out_features:
            raise ValueError(f"y: expected {self.network_.out_features} outputs as before, got {outputs}")
        targets = np.ascontiguousarray(targets.reshape(len(checked), outputs), dtype=dtype)
        return self._train(checked, targets, outputs, epochs, going_on)

    def __sklearn_tags__(self) -> Any:
        """Say that several outputs are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
