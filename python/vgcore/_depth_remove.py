"""Layer: depth, less of it. What each step does, measured by leaving it out, and networks without some steps.

Knows networks and how steps are cut out; nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _surgery
from ._checks import as_real
from ._fit import default_loss
from ._plot_lines import axes_of
from ._table import render, render_html, to_pandas
from .errors import ArgumentError
from .losses import Loss, as_loss
from .network import Network

__all__ = ["Pruned", "Removable", "prune", "removable", "remove"]

#: Rows of a printed result, at most.
_SHOWN = 10


@dataclass(frozen=True, repr=False, eq=False)
class Removable:
    """What each step of a network does, measured by leaving it out: one entry a step that can go.

    Attributes:
        step: numbers of the steps, (k,), nearest the input first.
        name: what they are called.
        loss: loss of the network without the step, (k,).
        output_change: ``|f_without(x) - f(x)| / |f(x)|``, Frobenius norms over all samples, (k,).
        full_loss: loss of the whole network.
        skipped: numbers of the steps that stand between two widths, so that they cannot go.
    """

    step: NDArray[np.int64]
    name: tuple[str, ...]
    loss: NDArray[np.float64]
    output_change: NDArray[np.float64]
    full_loss: float
    skipped: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Number of steps that were left out, one at a time."""
        return len(self.step)

    @property
    def loss_change(self) -> NDArray[np.float64]:
        """Loss without the step minus loss with it, (k,): what the step is good for."""
        return np.asarray(self.loss - self.full_loss)

    @property
    def order(self) -> NDArray[np.int64]:
        """Step numbers, the one that does least first; of equal loss changes, the smaller output change."""
        change = np.nan_to_num(self.loss_change, nan=np.inf, posinf=np.inf, neginf=-np.inf)
        return np.asarray(self.step[np.lexsort((self.step, self.output_change, change))])

    def idle(self, tolerance: float = 0.0) -> list[int]:
        """Return the steps whose removal changes the output by at most `tolerance`, relatively.

        0.0: not at all, to the bit.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> zero = vg.Residual(vg.Dense(4, init="zeros"))
            >>> net = vg.Network(4, [vg.Repeat(vg.Residual(vg.Dense(4)), 2), zero], rng=0)
            >>> x = np.ones((3, 4), np.float32)
            >>> vg.depth.removable(net, x, 2 * x).idle()
            [2]
        """
        limit = as_real(tolerance, "tolerance", minimum=0.0)
        return [int(s) for s in self.step[self.output_change <= limit]]

    @property
    def table(self) -> dict[str, list[Any]]:
        """Long format, one row per step and quantity: step, name, quantity, value."""
        columns: dict[str, list[Any]] = {"step": [], "name": [], "quantity": [], "value": []}
        quantities = {
            "loss": self.loss,
            "loss_change": self.loss_change,
            "output_change": self.output_change,
        }
        for quantity, values in quantities.items():
            columns["step"] += [int(s) for s in self.step]
            columns["name"] += self.name
            columns["quantity"] += [quantity] * len(self)
            columns["value"] += [float(v) for v in values]
        return columns

    def to_pandas(self) -> Any:
        """Return ``table`` as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_pandas(self.table, categories=("quantity",))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values."""
        return {
            "full_loss": self.full_loss,
            "skipped": list(self.skipped),
            "step": self.step.tolist(),
            "name": list(self.name),
            "loss": self.loss.tolist(),
            "output_change": self.output_change.tolist(),
        }

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the relative change of the output against the step that is left out; return the Axes.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        axes = axes_of(ax)
        axes.plot(self.step, self.output_change, **{"marker": ".", "linestyle": "none", **kwargs})
        if (self.output_change > 0).any():
            axes.set_yscale("log")
        axes.set_xlabel("step left out")
        axes.set_ylabel("relative change of the output")
        return axes

    def __repr__(self) -> str:
        """One line: how many steps, and what the least and the most of them do."""
        if not len(self):
            return "<Removable: no step keeps the width, so none can go>"
        low, high = float(self.output_change.min()), float(self.output_change.max())
        return (
            f"<Removable {len(self)} of {len(self) + len(self.skipped)} steps: output changes by "
            f"{low:.3g} to {high:.3g}, loss {self.full_loss:.6g}>"
        )

    def _rows(self) -> list[list[str]]:
        place = {int(s): i for i, s in enumerate(self.step)}
        rows = []
        for number in self.order[:_SHOWN]:
            i = place[int(number)]
            change = f"{self.output_change[i]:.3g}"
            rows.append([self.name[i], str(number), f"{self.loss_change[i]:+.3g}", change])
        return rows

    def __str__(self) -> str:
        """The steps that do least, as a table."""
        return f"{self!r}\n" + render(self._rows(), _HEADER)

    def _repr_html_(self) -> str:
        return render_html(self._rows(), _HEADER, repr(self))


_HEADER = ("left out", "step", "loss change", "output change")


@dataclass(frozen=True, repr=False, eq=False)
class Pruned:
    """A network without the steps that did nothing, and what that was measured on.

    Attributes:
        network: the smaller network.
        removed: numbers of the steps that went, in the old network.
        loss_before, loss_after: on the samples that were given.
        measured: what each step does alone.
    """

    network: Network
    removed: tuple[int, ...]
    loss_before: float
    loss_after: float
    measured: Removable = field()

    def __repr__(self) -> str:
        """One line: how many steps went, and the loss before and after."""
        kept = self.network.num_steps
        return (
            f"<Pruned {len(self.removed)} of {kept + len(self.removed)} steps: loss "
            f"{self.loss_before:.6g} -> {self.loss_after:.6g}>"
        )


def removable(
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    loss: str | Loss | None = None,
    *,
    steps: Iterable[int] | None = None,
) -> Removable:
    """Measure what each step does, by leaving it out: one forward pass a step; the network stays as it is.

    A step without which the rest still fits (its output is as wide as its input) is replaced by the identity:
    a Residual loses its branch, a Dense with its activation goes altogether.

    Args:
        net: a network along depth.
        x, y: samples, as for `Network.loss`.
        loss: None takes cross_entropy for class labels, else mse.
        steps: which ones; None takes all that can go.

    Raises:
        ArgumentError: a network along time or without parameters, or steps that cannot go.
        ShapeError, DTypeError, NonFiniteError, LabelError: as for `Network.loss`.

    Source: Veit, Wilber, Belongie 2016, arXiv:1605.06431, section 4.1.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> net = vg.mlp(20, 8, skip="residual", activation="tanh", rng=0)
        >>> x = np.ones((4, 8), np.float32)
        >>> len(vg.depth.removable(net, x, 2 * x))
        20
    """
    chosen = default_loss(y) if loss is None else as_loss(loss)
    all_steps = _surgery.steps_of(net)
    square = [step.number for step in all_steps if step.square and len(all_steps) > 1]
    wanted = square if steps is None else sorted(_surgery.checked_steps(steps, all_steps))
    whole = net.forward(x).astype(np.float64)
    size = float(np.linalg.norm(whole))
    losses, changes = np.empty(len(wanted)), np.empty(len(wanted))
    for i, number in enumerate(wanted):
        smaller = _surgery.without(net, [number])
        losses[i] = smaller.loss(x, y, chosen)
        gap = float(np.linalg.norm(smaller.forward(x) - whole))
        changes[i] = gap / size if size else (np.inf if gap else 0.0)
    return Removable(
        np.asarray(wanted, np.int64),
        tuple(all_steps[number].name for number in wanted),
        losses,
        changes,
        net.loss(x, y, chosen),
        tuple(step.number for step in all_steps if not step.square),
    )


def remove(net: Network, steps: Iterable[int]) -> Network:
    """Return a network without the given steps; all others keep their weights and names, and the network its
    cures.

    Numbers are those of a GradientFlow, 0 nearest the input. Removing Residual steps leaves their shortcuts.

    Raises:
        ArgumentError: no such step, a step between two widths, none left, or a network along time.

    Example:
        >>> import vgcore as vg
        >>> net = vg.mlp(10, 4, in_features=3, rng=0)
        >>> vg.depth.remove(net, [1, 5, 9]).parameter_shapes()["hidden.weight"]
        (7, 4, 4)
    """
    return _surgery.without(net, steps)


def prune(
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    loss: str | Loss | None = None,
    *,
    tolerance: float = 0.01,
) -> Pruned:
    """Remove as many steps as the loss allows: those that do least, first, and measured together.

    Steps are ordered by what their removal alone costs. The largest number of them is sought, by bisection,
    whose joint removal keeps the loss within ``(1 + tolerance)`` times what it was; the network returned has
    been measured to keep it.

    Args:
        net, x, y, loss: as for `removable`.
        tolerance: how much the loss may rise, as a share of itself.

    Raises:
        ArgumentError: as for `removable`, or a loss that is not finite.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> step = vg.Residual([vg.Activation("relu"), vg.Dense(8, init="zeros")])
        >>> net = vg.Network(8, [vg.Dense(8), vg.Repeat(step, 50), vg.Dense(3)], rng=0)
        >>> x, labels = np.ones((4, 8), np.float32), np.array([0, 1, 2, 0])
        >>> pruned = vg.depth.prune(net, x, labels)
        >>> len(pruned.removed) >= 50, pruned.loss_after <= 1.01 * pruned.loss_before
        (True, True)
    """
    limit = as_real(tolerance, "tolerance", minimum=0.0)
    chosen = default_loss(y) if loss is None else as_loss(loss)
    measured = removable(net, x, y, chosen)
    before = measured.full_loss
    if not np.isfinite(before):
        raise ArgumentError(f"net: expected a network with a finite loss on x and y, got {before}")
    order = [int(step) for step in measured.order]
    fewest, most = 0, min(len(order), net.num_steps - 1)
    best, after = net.copy(), before
    while fewest < most:
        middle = (fewest + most + 1) // 2
        smaller = _surgery.without(net, order[:middle])
        value = smaller.loss(x, y, chosen)
        if value <= before * (1.0 + limit):
            fewest, best, after = middle, smaller, value
        else:
            most = middle - 1
    return Pruned(best, tuple(sorted(order[:fewest])), before, after, measured)
