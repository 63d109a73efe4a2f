"""Layer: model description. Layers that normalise: over the batch, over a sample, over groups of its units.

Knows layers and the catalogue of normalisations, not the compiled network. A normalisation that is added to
the catalogue gets a class here, which enters itself under its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from . import norms
from ._checks import as_flag, as_real, as_size, shown
from .errors import ArgumentError
from .layers import Context, Layer, check_name, replace_name

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "Normalisation", "RMSNorm", "as_norm", "normalises_batches"]


class Normalisation(Layer, ABC):
    """What the layers that normalise share: a gain ``weight`` and, unless there is none, a shift ``bias``."""

    kind: ClassVar[str] = ""
    entry: ClassVar[str] = ""
    """Its name in ``vg.norms.names()``."""
    shift: ClassVar[bool] = True
    by_name: ClassVar[dict[str, type[Normalisation]]] = {}
    affine: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Enter the class under its name in the catalogue."""
        super().__init_subclass__(**kwargs)
        if cls.entry:
            Normalisation.by_name[cls.entry] = cls

    @classmethod
    def default(cls, width: int) -> Normalisation:
        """Return the layer that the name alone means, for inputs of a width."""
        return cls()

    def own_parameters(self, in_features: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of gain and shift."""
        leaves = ("weight", "bias") if self.shift else ("weight",)
        return dict.fromkeys(leaves, (in_features,)) if self.affine else {}

    @abstractmethod
    def parameters(self) -> dict[str, float]:
        """Return its parameters as the catalogue has them; a negative number stands for None."""

    def check_width(self, context: Context) -> None:
        """Raise when inputs of that width cannot be normalised."""

    def to_spec(self, context: Context) -> dict[str, Any]:
        """Return the description that the compiled module takes."""
        self.check_width(context)
        return {"kind": "norm", "norm": self.entry, "params": self.parameters(), "affine": self.affine}

    def _check(self) -> None:
        put = object.__setattr__  # frozen: this is the one moment at which fields are set
        put(self, "affine", as_flag(self.affine, "affine"))
        check_name(self.name)


@dataclass(frozen=True)
class BatchNorm(Normalisation):
    """Batch normalisation: each unit by its mean and variance over the batch.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``. In training mean and (biased) variance are the
    batch's, and the gradient goes through them; a step then takes them into the running statistics,
    ``running = (1 - momentum) * running + momentum * new``, with the unbiased variance. In inference the
    running statistics are used. Around a Recurrent layer a sample's time steps count as samples.

    Parameters ``weight``, ``bias`` (features,); buffers ``running_mean``, ``running_var`` (features,) and
    ``num_batches`` (1,), which `Network.buffers` returns.

    Args:
        momentum: share of a new batch in the running statistics; None averages over all batches.
        eps: added to the variance, under the root.
        affine: whether gain and shift are learned.
        online: normalise by the running statistics in training too, and update them afterwards (as those of
            a mixture of what was known and the batch), so that a batch may be one sample. No gradient goes
            through the statistics then.
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: `momentum` outside [0, 1], a negative `eps`. In a pass: one sample in training, unless
            `online`.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.Network(4, [vg.Dense(8), vg.BatchNorm(), vg.Activation("relu")], rng=0)
        >>> sorted(net.parameters()), sorted(net.buffers())
        (['0.bias', '0.weight', '1.bias', '1.weight'], ['1.num_batches', '1.running_mean', '1.running_var'])

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """

    kind: ClassVar[str] = "batch_norm"
    entry: ClassVar[str] = "batch"
    momentum: float | None = field(default=0.1, kw_only=True)
    eps: float = field(default=1e-5, kw_only=True)
    affine: bool = field(default=True, kw_only=True)
    online: bool = field(default=False, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every argument."""
        self._check()
        put = object.__setattr__
        if self.momentum is not None:
            momentum = as_real(self.momentum, "momentum", minimum=0.0)
            if momentum > 1.0:
                raise ArgumentError(
                    f"momentum: expected a share from 0 to 1, or None to average over all batches, got "
                    f"{momentum:g} (Keras writes 1 - momentum)"
                )
            put(self, "momentum", momentum)
        put(self, "eps", as_real(self.eps, "eps", minimum=0.0))
        put(self, "online", as_flag(self.online, "online"))

    def parameters(self) -> dict[str, float]:
        """Return momentum, eps and online as numbers."""
        momentum = -1.0 if self.momentum is None else self.momentum
        return {"momentum": momentum, "eps": self.eps, "online": float(self.online)}


@dataclass(frozen=True)
class LayerNorm(Normalisation):
    """Layer normalisation: each sample by the mean and (biased) variance of its units.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, weight and bias (features,).

    Args:
        eps: added to the variance, under the root.
        affine: whether gain and shift are learned.
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: a negative `eps`.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.Network(3, [vg.LayerNorm(eps=0.0)], rng=0)
        >>> [round(float(v), 4) for v in net.forward(np.array([[1.0, 2.0, 3.0]], np.float32))[0]]
        [-1.2247, 0.0, 1.2247]

    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 3.
    """

    kind: ClassVar[str] = "layer_norm"
    entry: ClassVar[str] = "layer"
    eps: float = field(default=1e-5, kw_only=True)
    affine: bool = field(default=True, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every argument."""
        self._check()
        object.__setattr__(self, "eps", as_real(self.eps, "eps", minimum=0.0))

    def parameters(self) -> dict[str, float]:
        """Return eps."""
        return {"eps": self.eps}


@dataclass(frozen=True)
class RMSNorm(Normalisation):
    """RMS normalisation: each sample by the root mean square of its units; no mean is taken away.

    ``y = x / sqrt(mean(x^2) + eps) * weight``, weight (features,); there is no shift.

    Args:
        eps: added to the mean square, under the root; None takes the machine epsilon of the float type.
        affine: whether the gain is learned.
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: a negative `eps`.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.Network(2, [vg.RMSNorm()], rng=0)
        >>> [round(float(v), 4) for v in net.forward(np.array([[3.0, 4.0]], np.float32))[0]]
        [0.8485, 1.1314]

    Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
    """

    kind: ClassVar[str] = "rms_norm"
    entry: ClassVar[str] = "rms"
    shift: ClassVar[bool] = False
    eps: float | None = field(default=None, kw_only=True)
    affine: bool = field(default=True, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every argument."""
        self._check()
        if self.eps is not None:
            object.__setattr__(self, "eps", as_real(self.eps, "eps", minimum=0.0))

    def parameters(self) -> dict[str, float]:
        """Return eps."""
        return {"eps": -1.0 if self.eps is None else self.eps}


@dataclass(frozen=True)
class GroupNorm(Normalisation):
    """Group normalisation: each group of neighbouring units of a sample by its mean and (biased) variance.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, weight and bias (features,).

    Args:
        groups: how many groups; they divide the width, and each has at least two units.
        eps: added to the variance, under the root.
        affine: whether gain and shift are learned.
        name: its part of the parameters' names; None takes the position in the list, "" adds no part.

    Raises:
        ArgumentError: not a positive number of groups, a negative `eps`. In a network: groups that do not
            divide its input's width, or groups of one unit, which would be 0 for ever.

    Example:
        >>> import vgcore as vg
        >>> vg.Network(6, [vg.GroupNorm(3)], rng=0).parameter_shapes()
        {'0.weight': (6,), '0.bias': (6,)}

    Source: Wu & He 2018, arXiv:1803.08494, eqs. 1 to 7.
    """

    kind: ClassVar[str] = "group_norm"
    entry: ClassVar[str] = "group"
    groups: int
    eps: float = field(default=1e-5, kw_only=True)
    affine: bool = field(default=True, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check every argument."""
        self._check()
        object.__setattr__(self, "groups", as_size(self.groups, "groups"))
        object.__setattr__(self, "eps", as_real(self.eps, "eps", minimum=0.0))

    @classmethod
    def default(cls, width: int) -> GroupNorm:
        """Return 32 groups, the paper's choice, or the most of 16, 8, 4, 2, 1 with four units each or more.

        Less than four are too few: one unit less its mean is 0, and two are nearly +-1, whatever comes in.
        """
        suits = (groups for groups in (32, 16, 8, 4, 2) if width % groups == 0 and width // groups >= 4)
        return cls(next(suits, 1))

    def check_width(self, context: Context) -> None:
        """Raise ArgumentError when the groups do not divide the width, or have one unit each."""
        width = context.in_features
        if width == self.groups:
            advice = f"take {self.default(width).groups}" if width > 1 else "leave it out, or widen its input"
            raise ArgumentError(
                f"{context.where}: GroupNorm: expected groups of at least two of the {width} features, "
                f"got {self.groups} of one: a unit less its own mean is 0; {advice}"
            )
        if width % self.groups:
            near = max(g for g in range(1, min(self.groups, width) + 1) if width % g == 0)
            raise ArgumentError(
                f"{context.where}: GroupNorm: expected groups that divide its input's {width} features, got "
                f"{self.groups}; take {near}"
            )

    def parameters(self) -> dict[str, float]:
        """Return groups and eps."""
        return {"groups": float(self.groups), "eps": self.eps}


def normalises_batches(layers: Sequence[Layer]) -> bool:
    """Return whether one of the layers takes mean and variance of each batch in training.

    Example:
        >>> normalises_batches([BatchNorm()]), normalises_batches([BatchNorm(online=True)])
        (True, False)
    """
    for layer in layers:
        if isinstance(layer, BatchNorm) and not layer.online:
            return True
        if any(normalises_batches(inner) for _, inner in layer.branches()):
            return True
    return False


def as_norm(value: Any, width: int, name: str = "norm") -> Layer | None:
    """Return None, or a normalisation (a name from ``vg.norms.names()`` or a layer) as an unnamed layer.

    A name means the layer that suits inputs of `width`.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something else.

    Example:
        >>> as_norm("group", 24)
        GroupNorm(groups=4, eps=1e-05, affine=True, name=None)
    """
    if value is None:
        return None
    if isinstance(value, str):
        return Normalisation.by_name[norms.describe(value).name].default(width)
    if isinstance(value, Normalisation):
        return replace_name(value, None)
    listed = ", ".join(map(repr, norms.names()))
    raise ArgumentError(
        f"{name}: expected None, one of {listed}, or a layer such as vg.LayerNorm(), got {shown(value)}"
    )
