"""Layer: catalogues. Optimizers: what there is, and objects that carry their parameters.

Knows the compiled module, but no network. Equations and defaults are PyTorch's where it has the optimizer.

Example:
    >>> import vgcore as vg
    >>> vg.SGD(0.05, momentum=0.9)
    SGD(lr=0.05, momentum=0.9)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from ._checks import as_real, shown
from ._part import Part
from ._registry import Description, Registry, fold
from .errors import ArgumentError

__all__ = [
    "LAMB",
    "LARS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "ScaleFree",
    "as_optimizer",
    "describe",
    "names",
]


@dataclass(frozen=True)
class Variant:
    """A name of its own for an optimizer with some of its parameters set."""

    of: str
    params: Mapping[str, Any]
    formula: str
    summary: str
    reference: str


#: Names that stand for a rule with parameters: the rule alone would be another optimizer.
VARIANTS: Final[Mapping[str, Variant]] = {
    "momentum": Variant(
        "sgd",
        {"momentum": 0.9},
        "v = 0.9 v + g, w -= lr v",
        "Along a decaying sum of past gradients.",
        "Polyak 1964",
    ),
    "nesterov": Variant(
        "sgd",
        {"momentum": 0.9, "nesterov": True},
        "v = 0.9 v + g, w -= lr (g + 0.9 v)",
        "Momentum that looks a step ahead.",
        "Nesterov 1983; Sutskever et al. 2013",
    ),
}


class _Registry(Registry):
    """The optimizers of the compiled module, and their variants, which have no line of their own there."""

    @functools.cached_property
    def _index(self) -> dict[str, str]:
        index = {fold(alias): entry.name for entry in self._entries.values() for alias in entry.aliases}
        return index | {fold(name): name for name in (*self._entries, *VARIANTS)}

    def describe(self, name: str) -> Description:
        """Return the entry for a name or an alias; of a variant with its own defaults."""
        variant = VARIANTS.get(self._index.get(fold(name), "")) if isinstance(name, str) else None
        if variant is None:
            return super().describe(name)
        entry = super().describe(variant.of)
        return replace(
            entry,
            name=self._index[fold(name)],
            aliases=(),
            formula=variant.formula,
            summary=variant.summary,
            reference=variant.reference,
            params=tuple(replace(p, default=variant.params.get(p.name, p.default)) for p in entry.params),
        )


_registry = _Registry("optimizer", "vg.optimizers.names()")


class Optimizer(Part):
    """A rule that turns gradients into steps: ``vg.SGD(0.1)``, or ``vg.optimizers.sgd(lr=0.1)`` by name.

    "momentum" and "nesterov" are sgd with a momentum of 0.9.
    """

    registry: ClassVar[Registry] = _registry

    def __post_init__(self) -> None:
        """Resolve the name, also that of a variant, and check the parameters."""
        variant = VARIANTS.get(self.describe().name)
        if variant is not None:
            object.__setattr__(self, "name", variant.of)
            object.__setattr__(self, "params", {**variant.params, **self.params})
        super().__post_init__()

    @property
    def lr(self) -> float:
        """Learning rate, before the schedule."""
        return float(self.params["lr"])

    def at(self, lr: float) -> Optimizer:
        """Return the same rule at another learning rate.

        Example:
            >>> import vgcore as vg
            >>> vg.Adam(0.01).at(0.1)
            adam(lr=0.1)
        """
        return Optimizer(self.name, {**self.params, "lr": lr})

    @property
    def memory(self) -> tuple[str, ...]:
        """What is remembered of each weight, at most: one array of the weights' size each."""
        return tuple(self.describe().extra["memory"])


class _WithBetas(Optimizer):
    """Takes what its two running means keep as one argument."""

    def _arguments(self, params: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in params.items() if key not in ("beta1", "beta2")}
        return {"lr": rest.pop("lr"), "betas": (params["beta1"], params["beta2"]), **rest}


class SGD(Optimizer):
    """Gradient descent: ``v <- momentum v + g; w <- w - lr v``, with ``g + weight_decay w`` for g.

    Without momentum and decay no gradient is too small or too large for the float range: the step is the one
    that a float without limits would take.

    Args:
        lr: learning rate.
        momentum: what is kept of the last step, 0 to 1.
        nesterov: step along ``g + momentum v`` instead of v.
        weight_decay: this much of the weight is added to its gradient.

    Raises:
        ArgumentError: a value out of range, or `nesterov` with a momentum of 0.

    Example:
        >>> import vgcore as vg
        >>> vg.SGD(0.1, momentum=0.9, nesterov=True).lr
        0.1

    Source: Polyak 1964; Nesterov 1983; torch.optim.SGD.
    """

    def __init__(
        self, lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        """Check the arguments."""
        params = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__("sgd", params)


class Adagrad(Optimizer):
    """Steps that shrink with what a weight has seen: ``sum <- sum + g^2; w <- w - lr g / (sqrt(sum) + eps)``.

    Args:
        lr: learning rate.
        lr_decay: the rate is divided by ``1 + (t - 1) lr_decay`` in step t.
        weight_decay: this much of the weight is added to its gradient.
        eps: added to the root.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.Adagrad(0.1)
        Adagrad(lr=0.1)

    Source: Duchi, Hazan, Singer 2011, JMLR 12:2121; torch.optim.Adagrad.
    """

    def __init__(
        self, lr: float = 0.01, lr_decay: float = 0.0, weight_decay: float = 0.0, eps: float = 1e-10
    ) -> None:
        """Check the arguments."""
        params = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        super().__init__("adagrad", params)


class RMSprop(Optimizer):
    """Gradients over their running root mean square.

    ``square <- alpha square + (1 - alpha) g^2; u = g / (sqrt(square) + eps); w <- w - lr u``; with momentum,
    ``buffer <- momentum buffer + u`` takes the place of u.

    Args:
        lr: learning rate.
        alpha: what the running mean of squares keeps.
        momentum: what is kept of the last step.
        weight_decay: this much of the weight is added to its gradient.
        eps: added to the root.
        centered: take the square of the running mean off first.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.RMSprop(0.001, momentum=0.9)
        RMSprop(lr=0.001, momentum=0.9)

    Source: Tieleman, Hinton 2012; Graves 2013, arXiv:1308.0850; torch.optim.RMSprop.
    """

    def __init__(
        self,
        lr: float = 0.01,
        alpha: float = 0.99,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        centered: bool = False,
    ) -> None:
        """Check the arguments."""
        params = {"lr": lr, "alpha": alpha, "momentum": momentum, "weight_decay": weight_decay, "eps": eps}
        super().__init__("rmsprop", params | {"centered": centered})


class Adam(_WithBetas):
    """Running mean of the gradient over that of its square, both corrected for their start at zero.

    ``m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2``;
    ``w <- w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)``.

    Args:
        lr: learning rate.
        betas: b1 and b2, what the running means keep.
        eps: added to the root, outside of it.
        weight_decay: this much of the weight is added to its gradient; `AdamW` keeps the two apart.
        amsgrad: divide by the largest mean of squares so far.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.Adam(1e-3)
        Adam()

    Source: Kingma, Ba 2015, arXiv:1412.6980; Reddi, Kale, Kumar 2018 (amsgrad); torch.optim.Adam.
    """

    def __init__(
        self,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        """Check the arguments."""
        params = {"lr": lr, **_betas(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__("adam", params)


class AdamW(_WithBetas):
    """Adam behind ``w <- (1 - lr weight_decay) w``: weights decay by themselves, not through the gradient.

    Args:
        lr: learning rate.
        betas: what the running means keep.
        eps: added to the root, outside of it.
        weight_decay: share of a weight, times `lr`, that is lost in a step.
        amsgrad: divide by the largest mean of squares so far.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.AdamW(weight_decay=0.1)
        AdamW(weight_decay=0.1)

    Source: Loshchilov, Hutter 2019, arXiv:1711.05101; torch.optim.AdamW.
    """

    def __init__(
        self,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
    ) -> None:
        """Check the arguments."""
        params = {"lr": lr, **_betas(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__("adamw", params)


class LARS(Optimizer):
    """Momentum with a rate for each layer, which makes its step a fixed share of its weights' norm.

    ``local = trust |w| / (|g| + weight_decay |w|)``;
    ``v <- momentum v + lr local (g + weight_decay w); w <- w - v``,
    for each layer's copy of each parameter; ``local = 1`` where a norm is zero. The ratio is taken with
    exponents of its own, so that it holds for gradients of any size.

    Args:
        lr: learning rate.
        momentum: what is kept of the last step.
        weight_decay: this much of the weight is added to its gradient.
        trust: share of a layer's norm that a step may be.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.LARS(trust=0.02)
        LARS(trust=0.02)

    Source: You, Gitman, Ginsburg 2017, arXiv:1708.03888.
    """

    def __init__(
        self, lr: float = 1.0, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 0.001
    ) -> None:
        """Check the arguments."""
        params = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__("lars", params)


class LAMB(_WithBetas):
    """Adam's direction r with a step for each layer of ``lr |w| / |r| r``.

    ``r = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w``, for each layer's copy of each
    parameter; the ratio of norms is 1 where one of them is zero.

    Args:
        lr: learning rate.
        betas: what the running means keep.
        eps: added to the root.
        weight_decay: this much of the weight is added to its direction.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.LAMB(0.01)
        LAMB(lr=0.01)

    Source: You et al. 2020, arXiv:1904.00962.
    """

    def __init__(
        self,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        """Check the arguments."""
        super().__init__("lamb", {"lr": lr, **_betas(betas), "eps": eps, "weight_decay": weight_decay})


class ScaleFree(Optimizer):
    """Only the direction of a layer's gradient counts: one of 1e-4000 moves its layer as one of 1 does.

    ``u = g / rms(g); m <- momentum m + (1 - momentum) u``;
    ``w <- w - lr max(rms(w), floor) m / (1 - momentum^t)``,
    rms over each layer's copy of each parameter. u is taken from mantissas and exponents, so nothing is
    flushed; a gradient that is exactly zero moves nothing.

    Args:
        lr: size of a step, as a share of the root mean square of the layer's weights.
        momentum: what the running mean of directions keeps.
        floor: weights count as at least this large, which lets biases leave zero.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> import vgcore as vg
        >>> vg.ScaleFree(0.02)
        ScaleFree(lr=0.02)

    Source: normalised gradients, Hazan, Levy, Shalev-Shwartz 2015, arXiv:1507.02030; steps relative to the
    weights, You et al. 2017, arXiv:1708.03888.
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, floor: float = 0.001) -> None:
        """Check the arguments."""
        super().__init__("scale_free", {"lr": lr, "momentum": momentum, "floor": floor})


def as_optimizer(value: Any, name: str = "optimizer") -> Optimizer:
    """Return `value` (a name, also "momentum" or "nesterov", or an Optimizer) as an Optimizer.

    Raises:
        UnknownNameError: a name that is in no catalogue.
        ArgumentError: something that is neither.

    Example:
        >>> as_optimizer("adam").lr
        0.001
    """
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, str):
        return Optimizer(value)
    if isinstance(value, type) and issubclass(value, Optimizer):
        raise ArgumentError(f"{name}: expected an object, got the class; write vg.{value.__name__}()")
    known = ", ".join(map(repr, names()))
    raise ArgumentError(
        f"{name}: expected one of {known}, or an object such as vg.SGD(0.01); got {shown(value)}"
    )


def names() -> list[str]:
    """Return the canonical names of all optimizers.

    Example:
        >>> "adam" in names()
        True
    """
    return _registry.names()


def describe(name: str) -> Description:
    """Return formula, parameters and reference of one optimizer; ``print`` shows them.

    Raises:
        UnknownNameError: no optimizer has this name or alias.

    Example:
        >>> describe("adamw").name, describe("momentum").defaults["momentum"]
        ('adamw', 0.9)
    """
    return _registry.describe(name)


def _betas(betas: Any) -> dict[str, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ArgumentError(f"betas: expected two numbers such as (0.9, 0.999), got {shown(betas)}")
    return {f"beta{i}": as_real(beta, f"betas[{i - 1}]") for i, beta in enumerate(betas, 1)}


def __getattr__(name: str) -> Callable[..., Optimizer]:
    """Return the maker of one optimizer by its catalogue name: ``vg.optimizers.sgd(lr=0.1)``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _registry:
        raise AttributeError(str(_registry.unknown(name)))
    entry = describe(name)

    def make(**params: Any) -> Optimizer:
        return Optimizer(entry.name, params)

    make.__name__ = make.__qualname__ = entry.name
    make.__doc__ = str(entry)
    return make


def __dir__() -> list[str]:
    """List the names of this module and every optimizer."""
    return sorted([*__all__, *names()])
