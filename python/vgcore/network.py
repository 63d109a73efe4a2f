"""Layer: the network, as people use it. Brings together how it is built, run, trained and cured.

Knows the parts; how each of them works is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from numpy.typing import ArrayLike

from . import _surgery
from ._checks import as_real, as_size
from ._cured import Cured
from ._lsuv import unit_variance
from ._training import Training
from .errors import ArgumentError

__all__ = ["Network"]


class Network(Cured, Training):
    """A chain of layers, compiled once; its parameters are drawn from `rng`.

    Without a Recurrent layer the steps of a network are its layers, and its input is (batch, in_features).
    With one they are the steps in time, and its input is (batch, time, in_features); layers in front of the
    first Recurrent, and behind one with ``read="every"``, act on each step alone.

    Args:
        in_features: width of the input.
        layers: what the input goes through, in order.
        dtype: "float32" or "float64", of parameters and arithmetic. Norms are float64 either way.
        rng: None, an int, a SeedSequence or a Generator. ``rng=net.seed`` gives the same network again.
        stored: False keeps no parameters: every pass makes the initial values again from the generator, in
            both directions, with the same results. For `forward`, `loss` and `probe` of networks whose
            parameters would not fit; there is nothing to train, save or load then.

    Parameters are named by the path of their layers' names, joined by ".": ``0.weight`` (out, in), ``0.bias``
    (out,). Under a Repeat whose steps own their parameters they are stacked along a leading axis.

    Raises:
        ArgumentError: no layers, not layers, sizes that are not positive, two parameters of one name, a
            Recurrent inside another layer.
        ShapeError: a Residual or Repeat whose body changes the width, an initial array that does not fit, a
            Recurrent behind one that reads the last step alone.
        DTypeError: a `dtype` that is not float32 or float64.
        MemoryBudgetError: the parameters would not fit in memory; raised before anything is allocated.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> step = vg.Residual([vg.Activation("relu"), vg.Dense(64)])
        >>> net = vg.Network(64, [vg.Dense(64), vg.Repeat(step, 500), vg.Dense(10)], rng=0)
        >>> net.forward(np.ones((2, 64), np.float32)).shape
        (2, 10)
    """

    __slots__ = ()

    def lsuv(self, x: ArrayLike, *, tolerance: float = 0.1, max_iterations: int = 10) -> Self:
        """Return a network whose Dense layers start orthonormal and put out unit variance on `x`.

        Formula: every weight is drawn orthonormal, then layer by layer ``W /= sqrt(Var(W x + b))``, the
        variance over samples and units, until it is within `tolerance` of 1. With biases of zero one
        correction is enough. The data go through the depth once; steps that share their weights are fitted
        to the first of them. A weight that is all zeros stays so (the end of a Fixup branch), and so do
        biases, gates and normalisations. Of a parametrized weight the vector is scaled.

        Args:
            x: input, (batch, in_features): as many samples as make the variance certain, 100 or more.
            tolerance: largest distance of the variance from 1.
            max_iterations: corrections of one layer at most.

        Raises:
            ArgumentError: a network along time, or one built with ``stored=False``; a layer whose output does
                not vary.
            ShapeError, DTypeError, NonFiniteError: as for `forward`.

        Source: Mishkin, Matas 2015, All you need is a good init, arXiv:1511.06422, algorithm 1.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> x = np.random.default_rng(0).normal(size=(128, 32)).astype("float32")
            >>> net = vg.mlp(100, 32, activation="relu", init="glorot_normal", rng=0)
            >>> bool(0.3 < net.lsuv(x).forward(x).std() < 1.2), bool(net.forward(x).std() < 1e-6)
            (True, True)
        """
        self._needs_stored("lsuv")
        if self.axis == "time":
            raise ArgumentError(
                "lsuv: expected a network along depth, got one along time, whose steps share their weights; "
                "start those with recurrent_init='orthogonal'"
            )
        limit = as_real(tolerance, "tolerance", minimum=0.0)
        most = as_size(max_iterations, "max_iterations")
        twin = self.copy()
        twin.load_parameters(unit_variance(self, self._door.open(x).x, limit, most))
        return twin

    def without(self, steps: Iterable[int]) -> Self:
        """Return the network without some of its steps; all others keep their weights and names,
        and the network its cures.

        ``vg.depth.removable(net, x, y)`` measures what each step does. Steps are numbered as in a
        GradientFlow, 0 nearest the input; a Residual that goes leaves its shortcut.

        Raises:
            ArgumentError: no such step, a step between two widths, none left, or a network along time.

        Example:
            >>> import vgcore as vg
            >>> net = vg.mlp(10, 4, in_features=3, rng=0)
            >>> net.without([1, 5, 9]).parameter_shapes()["hidden.weight"]
            (7, 4, 4)
        """
        return _surgery.without(self, steps)
