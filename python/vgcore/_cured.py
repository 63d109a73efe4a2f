"""Layer: the network, as it is cured. `mitigate` puts cures together; `doctor` tries them.

Knows how a cured description becomes a network that keeps its weights; the cures are in `mitigations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from ._mitigation_base import Applied, Draft
from ._mitigation_rewrite import named, same_start, starts
from ._running import Running

if TYPE_CHECKING:
    from ._progress import ProgressLike
    from ._rng import RngLike
    from .doctor import Prescription
    from .losses import Loss
    from .mitigations import Mitigation
    from .network import Network

__all__ = ["Cured"]


class Cured(Running):
    """A network that runs and can be cured: the part of `Network` about cures."""

    __slots__ = ()

    @property
    def cures(self) -> tuple[Mitigation, ...]:
        """The cures that made this network, in the order in which they were applied.

        Example:
            >>> import vgcore as vg
            >>> vg.mlp(depth=20, width=8, rng=0).mitigate("residual", "orthogonal").cures
            (residual(), orthogonal())
        """
        return self._applied.cures

    @property
    def training_defaults(self) -> Mapping[str, Any]:
        """Arguments that ``net.fit`` takes where they are not given: what cures of training have set."""
        return MappingProxyType(dict(self._applied.training))

    def mitigate(self, *cures: Any, x: ArrayLike | None = None) -> Self:
        """Return the network with these cures applied, in this order; this one stays as it is.

        The new network has the same seed, and its parameters are this network's wherever a cure leaves them
        their shape and their start: a fresh network's layers start with the same weights to the bit, a
        trained one's keep what they have learned. All others are drawn from the seed. Cures that are about
        training leave the layers alone: ``training_defaults`` shows what they set, which ``net.fit`` takes.

        Args:
            *cures: names (``"residual"``), texts with parameters (``"activation:selu"``), or objects from
                ``vg.mitigations``. Order matters: ``"activation:relu", "edge_of_chaos"`` solves for relu, and
                ``"lsuv", "residual"`` scales layers before they have shortcuts. Each works on what those
                before it made, so that one call does what several would.
            x: data, for cures that look at them (lsuv) or at their length (chrono).

        Raises:
            UnknownNameError: no such cure.
            ArgumentError: a parameter that a cure does not have, or two cures that do not go together, with
                the reason; earlier ``net.cures`` count too.
            DoesNotApply: a cure that would change nothing in this network, with the reason; an ArgumentError.
            ShapeError, DTypeError, NonFiniteError: `x` is no input of this network.

        Example:
            >>> import vgcore as vg
            >>> net = vg.mlp(depth=100, width=16, activation="sigmoid", rng=0)
            >>> cured = net.mitigate("activation:relu", "pre_activation")
            >>> print(cured.summary())  # doctest: +ELLIPSIS
            Network(in_features=16, out_features=16, steps=100, parameters=27,200, dtype=float32, seed=0)
            cures: activation('relu') -> pre_activation()
            ...
        """
        from . import mitigations

        chosen = mitigations.as_cures(cures)
        data = None if x is None else self._door.open(x).x
        # A pair that is refused is refused before anything is trained.
        mitigations.check_together((*self._applied.cures, *chosen))
        net = self
        for stretch in mitigations.stretches(chosen):
            net = net._after(stretch, data)
        return net

    def _after(self, chosen: Sequence[Mitigation], data: Any) -> Self:
        """Return the network after cures of which only the last may run on it."""
        from . import mitigations

        applied = self._applied
        before = Draft(
            named(self._layers),
            self._in_features,
            self._dtype,
            training=applied.training,
            settled=applied.settled,
            x=data,
        )
        after, idle = mitigations.compose(before, chosen)
        net = type(self)(
            self._in_features, after.layers, dtype=self._dtype, rng=self._seed, stored=self._stored
        )
        if self._stored:
            self._hand_over(net, before, after)
        for cure in idle:
            if not self._stored or all(
                self._core.get(name).tobytes() == net._core.get(name).tobytes() for name in cure.fresh
            ):
                raise cure.error()
        net._applied = Applied((*applied.cures, *chosen), after.training, after.settled)
        return cast("Self", chosen[-1].run(net, data)) if chosen else net

    def doctor(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss | None = None,
        budget: float | int | str | None = None,
        candidates: Iterable[Any] | None = None,
        steps: int = 40,
        batch: int = 32,
        rates: Sequence[float] = (0.001, 0.01, 0.1),
        pairs: bool = True,
        rng: RngLike = 0,
        progress: ProgressLike = False,
    ) -> Prescription:
        """Diagnose this network, try cures on it, and rank them by what they did; this one stays as it is.

        The untouched network and every candidate start from the same weights where they share them, see the
        same batches, and are trained for `steps` steps at each of the learning rates, of which the best
        counts. Then the best single cures are tried in pairs. What comes first is trained again on other
        batches, and its worse loss counts, until the first has been, five times at most and while the budget
        lasts. Along time, where nothing has helped, the network and up to six of the cures are trained for 8,
        then 64 times as many steps with Adam, and rank before the others. Nothing is recommended that was not
        run. Cures that look at data are shown every k-th sample, 128 to 255 of them in all; ``code`` says
        which.

        The ranking (``vgcore.doctor.rank_key``): what diverged comes last; then by the loss reached, in units
        of 1 % of what the best constant answer costs; then by the share of layers that learn; then by how
        even the gradient is; then by the number of cures; then by the cost of a step. A cure helped when its
        loss is at least 5 % below the untouched network's and below that of the best constant answer.

        Args:
            x: inputs, as for `probe`; some of them make up each step's batch.
            y: targets, as for `probe`.
            loss: None takes cross_entropy for class labels, else mse.
            budget: ``"30s"`` or seconds as a float: no trial begins later; an int: training steps over all
                trials, which gives the same result on any machine. None: no limit.
            candidates: cures to try instead of the whole catalogue: names, texts, objects, lists of them, or
                "a+b" for both together; one alone need not be in a list.
            steps: training steps of each trial at each rate.
            batch: samples of each step.
            rates: learning rates.
            pairs: whether to try the best cures in pairs.
            rng: where the batches come from.
            progress: True draws a bar; a function is called with (done, in all, which).

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError: `x` or `y` does not fit the network.
            ArgumentError: a budget, rates or sizes that make no sense; a network that keeps no parameters.
            UnknownNameError: no such loss or cure.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> rng = np.random.default_rng(0)
            >>> x, y = rng.normal(size=(64, 8)).astype("float32"), rng.integers(0, 3, 64)
            >>> net = vg.mlp(depth=60, width=8, out_features=3, activation="sigmoid", rng=0)
            >>> found = net.doctor(x, y, candidates=["activation:tanh", "long_skip:6"], steps=5)
            >>> found.illness
            'vanishing: saturating activation'
        """
        self._needs_stored("doctor")
        from .doctor import doctor

        return doctor(
            cast("Network", self), x, y, loss=loss, budget=budget, candidates=candidates, steps=steps,
            batch=batch, rates=rates, pairs=pairs, rng=rng, progress=progress,
        )  # fmt: skip

    def _hand_over(self, net: Self, before: Draft, after: Draft) -> None:
        """Copy every parameter that the cures left as it was: its shape, and how it starts."""
        old, new = starts(before), starts(after)
        net._touched = self._touched
        shapes = self.parameter_shapes() | dict(self._core.buffers())
        wanted = [*net.parameter_shapes().items(), *net._core.buffers()]
        for name, shape in ((name, tuple(shape)) for name, shape in wanted):
            source, first, step = after.source(name)
            beside, work = after.derived.get(name, (name, None))
            if source not in shapes or {name, source, beside} & after.fresh:
                continue
            if work is not None:
                values = _fitted(work(self._core.get(source)), shape, first, step)
                if values is not None:
                    net._core.set(name, values)
                continue
            if name in new and source in old:
                whole = {
                    key: _told(spec, shapes[source], shape, first, step) for key, spec in old[source].items()
                }
                if not (same_start(old[source], new[name]) or same_start(whole, new[name])):
                    continue
            values = _fitted(self._core.get(source), shape, first, step)
            if values is not None:
                net._core.set(name, values)


def _told(spec: Any, whole: Sequence[int], shape: tuple[int, ...], first: int, step: int) -> Any:
    """Return how a parameter starts; an array with an entry for each copy is cut as the parameter itself."""
    if not isinstance(spec, Mapping) or "array" not in spec or spec["array"].shape != tuple(whole):
        return spec
    return {**spec, "array": _fitted(spec["array"], shape, first, step)}


def _fitted(values: Any, shape: tuple[int, ...], first: int, step: int) -> Any:
    """Return values of one parameter in another shape: stacked in another way, or some copies of a stack."""
    if values.shape == shape:
        return values
    if values.ndim < 2 or not shape or values.shape[-1] != shape[-1]:
        return None
    if values.size == int(np.prod(shape)):
        return values.reshape(shape)
    stop = first + step * (shape[0] - 1) + 1
    if values.ndim == len(shape) and values.shape[1:] == shape[1:] and values.shape[0] >= stop:
        return np.ascontiguousarray(values[first:stop:step])
    return None
