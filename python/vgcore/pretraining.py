"""Layer: cures, pretraining. Deep networks trained a layer at a time, from below, as stacked autoencoders.

Knows networks of Dense layers, `fit` and how inputs are corrupted; nothing of how a pass runs.

Each layer in turn is the encoder of a network of its own, with a Dense above that is to give back what came
in. Its gradient crosses two layers, whatever the depth of the whole. What it has learned becomes the layer's
start; `Network.fit` then trains the whole, which is called fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import as_float_array
from ._checks import as_choice, as_real, as_size, shown
from ._datasets_made import Draws, unit
from ._plot_lines import axes_of
from ._rng import RngLike, seed_of
from ._surgery import arrays_of, named
from ._table import render, render_html, to_pandas
from ._training import check_options
from .errors import ArgumentError
from .layers import Activation, Dense, Layer, Repeat, replace_name
from .network import Network
from .optimizers import Adam

if TYPE_CHECKING:
    from ._callback import EpochEnd
    from .history import History

__all__ = ["Pretraining", "Stage", "autoencoders", "greedy"]

#: Learning rate of Adam where nothing else is asked for.
RATE: Final = 0.003
_LOSSES = ("auto", "mse", "bce")
#: Why a training ends behind each epoch but the last.
_PAUSED = "corrupted anew"
_NAMES = {"mse": "mse", "bce": "bce_with_logits"}


@dataclass(frozen=True)
class _Map:
    """One Dense of a network, with what follows it at once, and where its parameters are."""

    name: str
    dense: Dense
    activation: Activation | None
    arrays: dict[str, str]
    """Leaf of the autoencoder -> name in the network."""
    copy: int | None
    """The row of a stack."""


@dataclass(frozen=True, repr=False, eq=False)
class Stage:
    """What pretraining one layer did.

    Attributes:
        name: of the layer: "input", "hidden[3]".
        in_features, out_features: its widths.
        loss: "mse" or "bce", by which its input was to be given back.
        before, after: that loss on the whole, uncorrupted input of the layer.
        history: of its training.
    """

    name: str
    in_features: int
    out_features: int
    loss: str
    before: float
    after: float
    history: History

    @property
    def curve(self) -> NDArray[np.float64]:
        """Loss of every training step, on the batch as it was given, corrupted or not."""
        return self.history.loss

    def __repr__(self) -> str:
        """One line."""
        return f"<Stage {self.name}: {self.loss} {self.before:.6g} -> {self.after:.6g}>"


@dataclass(frozen=True, repr=False, eq=False)
class Pretraining:
    """A network whose layers were pretrained, and what each of them learned.

    Attributes:
        network: ready for `Network.fit`.
        stages: one a layer, nearest the input first.
        corruption: share of each layer's input that was masked.
        seed: of decoders, corruption and order of samples.
    """

    network: Network
    stages: tuple[Stage, ...]
    corruption: float
    seed: int

    @property
    def table(self) -> dict[str, list[Any]]:
        """Long format, one row per training step: layer, name, step, loss."""
        columns: dict[str, list[Any]] = {"layer": [], "name": [], "step": [], "loss": []}
        for number, stage in enumerate(self.stages):
            curve = stage.curve
            columns["layer"] += [number] * len(curve)
            columns["name"] += [stage.name] * len(curve)
            columns["step"] += range(len(curve))
            columns["loss"] += curve.tolist()
        return columns

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table, categories=("name",))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the network as plain Python values."""
        keys = ("name", "in_features", "out_features", "loss", "before", "after")
        stages = [{key: getattr(s, key) for key in keys} | {"curve": s.curve.tolist()} for s in self.stages]
        return {"corruption": self.corruption, "seed": self.seed, "stages": stages}

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the reconstruction loss of each layer, relative to its start; return the Axes.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        axes = axes_of(ax)
        for stage in self.stages:
            axes.plot(stage.curve / stage.before, label=stage.name, **kwargs)
        axes.set_xlabel("training step")
        axes.set_ylabel("reconstruction loss / its start")
        axes.legend()
        return axes

    def _rows(self) -> list[list[str]]:
        return [
            [s.name, f"{s.in_features} -> {s.out_features}", s.loss, f"{s.before:.4g}", f"{s.after:.4g}"]
            for s in self.stages
        ]

    def __repr__(self) -> str:
        """One line: how many layers."""
        return f"<Pretraining {len(self.stages)} layers, corruption {self.corruption:g}, seed {self.seed}>"

    def __str__(self) -> str:
        """The line above, and the reconstruction loss of every layer before and after."""
        return f"{self!r}\n" + render(self._rows(), _HEADER)

    def _repr_html_(self) -> str:
        return render_html(self._rows(), _HEADER, repr(self))


_HEADER = ("layer", "widths", "loss", "before", "after")


def greedy(
    net: Network,
    x: ArrayLike,
    *,
    epochs: int = 10,
    corruption: float = 0.0,
    loss: str = "auto",
    layers: Iterable[int] | None = None,
    rng: RngLike = None,
    **fit: Any,
) -> Network:
    """Return the network with its layers pretrained one by one, from below, as (denoising) autoencoders.

    Arguments and errors as for `autoencoders`, which also tells what each layer learned.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
        >>> net = vg.mlp(3, 6, out_features=2, activation="sigmoid", rng=0)
        >>> ready = vg.pretraining.greedy(net, x, epochs=2, rng=0)
        >>> history = ready.fit(x, x[:, :2], epochs=1, rng=0)  # fine-tuning
    """
    made = autoencoders(
        net, x, epochs=epochs, corruption=corruption, loss=loss, layers=layers, rng=rng, **fit
    )
    return made.network


def autoencoders(
    net: Network,
    x: ArrayLike,
    *,
    epochs: int = 10,
    corruption: float = 0.0,
    loss: str = "auto",
    layers: Iterable[int] | None = None,
    rng: RngLike = None,
    **fit: Any,
) -> Pretraining:
    """Pretrain each layer on what the pretrained layers below make of `x`; tell how well each gives it back.

    Layer l learns to encode ``h = phi(W c(x) + b)`` such that a decoder, ``V h + d``, gives back x, the
    output of layer l - 1. It starts from the network's own weights; c sets each entry to 0 with probability
    `corruption`, drawn anew in every epoch. The decoder is thrown away; W and b go into the network. The
    network that came in stays as it is.

    Args:
        net: Dense layers with activations one after the other, written out or under Repeat, as
            ``vg.mlp(...)`` without shortcuts and normalisation.
        x: (samples, in_features), without labels.
        epochs: passes over `x` for each layer.
        corruption: share of masked inputs; 0 are plain autoencoders.
        loss: "mse", "bce" (the decoder gives logits; inputs from 0 to 1), or "auto": bce for the layers whose
            input lies within 0 and 1, as behind sigmoid, else mse.
        layers: which Dense layers, 0 nearest the input; None takes all that have an activation.
        rng: seed of decoders, corruption and order of samples.
        fit: what else `Network.fit` takes: optimizer, batch_size, clip, ... What is not given is as
            ``net.training_defaults`` has it; without an optimizer there, Adam at a rate of 0.003.

    Raises:
        ArgumentError: layers of another kind below the last one that is pretrained, tied ones, `corruption`
            not in [0, 1), no such layer, an argument that `Network.fit` does not take or that makes no sense
            layer by layer, a layer whose training diverged.
        Others as for `Network.fit`.

    Source: Bengio, Lamblin, Popovici, Larochelle 2007, Greedy layer-wise training of deep networks, NIPS 19;
    Vincent, Larochelle, Bengio, Manzagol 2008, Extracting and composing robust features with denoising
    autoencoders, ICML.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
        >>> net = vg.mlp(3, 6, out_features=2, activation="sigmoid", rng=0)
        >>> made = vg.pretraining.autoencoders(net, x, epochs=20, optimizer=vg.SGD(0.5), rng=0)
        >>> [stage.name for stage in made.stages]
        ['hidden[0]', 'hidden[1]', 'hidden[2]']
        >>> all(stage.after < stage.before for stage in made.stages)
        True
    """
    masked = as_real(corruption, "corruption", minimum=0.0)
    if masked >= 1.0:
        raise ArgumentError(f"corruption: expected a share from 0 to below 1, got {masked:g}")
    kind, passes, seed = as_choice(loss, "loss", _LOSSES), as_size(epochs, "epochs"), seed_of(rng)
    check_options(fit, "autoencoders", "each layer is trained on its own here")
    # Plain gradient descent at its usual rate leaves saturating layers where they are.
    fit = {"optimizer": Adam(RATE), **net.training_defaults, **fit}
    maps, wanted = _chosen(net, layers)
    below = as_float_array(x, name="x", dtype=net.dtype, shape=("batch", net.in_features))
    arrays = arrays_of(net)
    stages: list[Stage] = []
    for number, entry in enumerate(maps[: max(wanted) + 1]):
        values = {
            leaf: arrays[name] if entry.copy is None else arrays[name][entry.copy]
            for leaf, name in entry.arrays.items()
        }
        if number in wanted:
            start = np.random.SeedSequence([seed, number])
            stage, values = _pretrained(entry, values, below, kind, passes, masked, start, fit)
            stages.append(stage)
            for leaf, name in entry.arrays.items():
                arrays[name][... if entry.copy is None else entry.copy] = values[leaf]
        below = _encoder(entry, below.shape[1], net.dtype, values).forward(below)
    ready = net.copy()
    ready.load_parameters(arrays)
    return Pretraining(ready, tuple(stages), masked, seed)


def _pretrained(
    entry: _Map,
    values: dict[str, NDArray[Any]],
    x: NDArray[Any],
    kind: str,
    epochs: int,
    corruption: float,
    seed: np.random.SeedSequence,
    fit: dict[str, Any],
) -> tuple[Stage, dict[str, NDArray[Any]]]:
    """Train one layer to encode x; return what happened and its new parameters."""
    if kind == "auto":
        kind = "bce" if x.min() >= 0.0 and x.max() <= 1.0 else "mse"
    width, name = x.shape[1], _NAMES[kind]
    net = Network(width, [*_layers(entry), Dense(width, name="decoder")], dtype=x.dtype, rng=seed)
    net.load_parameters(net.parameters() | values)
    before = net.loss(x, x, name)
    options: dict[str, Any] = {"epochs": epochs, "loss": name, "rng": seed, **fit}
    if corruption == 0.0:
        history = net.fit(x, x, **options)
    else:
        masks = Draws(seed)
        history = net.fit(_corrupted(x, corruption, masks), x, callbacks=_pause, **options)
        while history.stopped == _PAUSED:
            given = _corrupted(x, corruption, masks)
            history = net.fit(given, x, callbacks=_pause, resume=history, **options)
    after = net.parameters()
    if history.stopped is not None or not all(np.isfinite(array).all() for array in after.values()):
        how = history.stopped or f"step {history.steps - 1}: weights that are no finite numbers"
        raise ArgumentError(
            f"optimizer: expected one by which every layer can be pretrained, but the training of layer "
            f"{entry.name} diverged at {how}; take a smaller learning rate, or clip="
        )
    stage = Stage(entry.name, width, entry.dense.features, kind, before, net.loss(x, x, name), history)
    return stage, {leaf: after[leaf] for leaf in values}


def _pause(end: EpochEnd) -> None:
    """End each epoch but the last, so that the next can be corrupted anew."""
    if end.epoch + 1 < end.epochs:
        end.stop(_PAUSED)


def _corrupted(x: NDArray[Any], share: float, masks: Draws) -> NDArray[Any]:
    result = x.copy()
    for rows, words in masks.blocks(*x.shape):
        result[rows][unit(words) < share] = 0.0
    return result


def _layers(entry: _Map) -> list[Layer]:
    dense = Dense(entry.dense.features, bias=entry.dense.bias, name="encoder")
    return [dense] if entry.activation is None else [dense, replace_name(entry.activation, "activation")]


def _encoder(entry: _Map, width: int, dtype: Any, values: dict[str, NDArray[Any]]) -> Network:
    net = Network(width, _layers(entry), dtype=dtype, rng=0)
    net.load_parameters(values)
    return net


def _chosen(net: Network, layers: Iterable[int] | None) -> tuple[list[_Map], set[int]]:
    """Return the network's Dense layers, and the numbers of those that are to be pretrained."""
    if net.axis != "depth":
        raise ArgumentError(
            "net: expected a network along depth, got one along time; vg.chunker is for those"
        )
    found: list[_Map] = []
    stop: str | None = None
    for item in _maps(net):
        if isinstance(item, str):
            stop = item
            break
        found.append(item)
    refused = (
        f"net: expected Dense layers with activations one after the other, got {stop} behind {len(found)} of "
        f"them; shortcuts and normalisation need no pretraining"
    )
    if layers is None:
        wanted = {number for number, entry in enumerate(found) if entry.activation is not None}
        if stop is not None:
            raise ArgumentError(refused)
        if not wanted:
            raise ArgumentError("net: expected a Dense with an Activation, got none: nothing to pretrain")
        return found, wanted
    if isinstance(layers, (str, bytes)) or not isinstance(layers, Iterable):
        raise ArgumentError(f"layers: expected a list of numbers such as [0, 1], got {shown(layers)}")
    wanted = {as_size(number, "layers", minimum=0) for number in layers}
    if not wanted:
        raise ArgumentError("layers: expected at least one layer, got none")
    if max(wanted) >= len(found):
        if stop is not None:
            raise ArgumentError(refused)
        raise ArgumentError(f"layers: expected numbers from 0 to {len(found) - 1}, got {max(wanted)}")
    return found, wanted


def _maps(net: Network) -> Iterator[_Map | str]:
    """Yield the Dense layers in forward order; text that names it for a layer of another kind."""
    pending: tuple[str, Dense, tuple[str, ...], int | None] | None = None
    for label, layer, path, copy in _in_order(net):
        if isinstance(layer, Activation) and pending is not None:
            yield _mapped(*pending, layer, path)
            pending = None
            continue
        if pending is not None:
            yield _mapped(*pending)
            pending = None
        if not isinstance(layer, Dense) or set(layer.own_parameters(1)) - {"weight", "bias"}:
            yield f"{layer.describe()} ({label})"
            return
        pending = (label, layer, path, copy)
    if pending is not None:
        yield _mapped(*pending)


def _in_order(net: Network) -> Iterator[tuple[str, Layer, tuple[str, ...], int | None]]:
    """Yield name, layer, path and copy of every layer as it runs; a Repeat is written out."""
    for layer in named(net.layers):
        own = str(layer.name)
        if not isinstance(layer, Repeat) or layer.tied:
            yield own, layer, ((own,) if own else ()), None
            continue
        parts = [inner.name if inner.name is not None else str(i) for i, inner in enumerate(layer.body)]
        dense = sum(isinstance(inner, Dense) for inner in layer.body)
        for copy in range(layer.n):
            for inner, part in zip(layer.body, parts, strict=True):
                label = f"{own}[{copy}]" + (f".{part}" if dense > 1 and part else "")
                yield label, inner, tuple(filter(None, (own, part))), copy


def _mapped(
    name: str,
    dense: Dense,
    path: tuple[str, ...],
    copy: int | None,
    activation: Activation | None = None,
    behind: tuple[str, ...] = (),
) -> _Map:
    arrays = {f"encoder.{leaf}": ".".join((*path, leaf)) for leaf in dense.own_parameters(1)}
    if activation is not None:
        arrays |= {f"activation.{leaf}": ".".join((*behind, leaf)) for leaf in activation.own_parameters(1)}
    return _Map(name, dense, activation, arrays, copy)
