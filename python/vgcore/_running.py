"""Layer: the network, as it runs. Forward, loss, probe, gradients and step; what goes in is checked first.

Knows arrays, losses and results; the arithmetic is in the compiled module. Every method is safe to call from
several Python threads at once, save that `step` and `load_parameters` change the parameters. Training over
many batches and cures are in `network`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._built import Built
from ._checks import as_choice, as_flag, as_real, as_size
from ._inputs import Inputs, StateLike
from ._memory import affordable, ensure_fits, free_budget, parse_bytes
from ._passes import TOUCHED, chosen_loss, input_moments
from ._planning import say
from ._rng import key_of
from .errors import ArgumentError
from .flow import GradientFlow
from .gradients import Gradients, Truncation, truncation
from .losses import Loss

__all__ = ["Running", "State"]

_STATS = ("norms", "full")
_MODES = ("probe", "gradients", "step", "loss")

#: A state as a pass returns it: {"h": (layers * directions, batch, hidden_size), "c": ...}.
State = dict[str, NDArray[Any]]


class Running(Built):
    """A compiled network with its passes: the part of `Network` that neither trains nor is cured."""

    __slots__ = ()

    @overload
    def forward(
        self,
        x: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        training: bool = False,
        return_state: Literal[False] = False,
    ) -> NDArray[Any]: ...
    @overload
    def forward(
        self,
        x: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        training: bool = False,
        return_state: Literal[True],
    ) -> tuple[NDArray[Any], State]: ...
    def forward(
        self,
        x: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        training: bool = False,
        return_state: bool = False,
    ) -> NDArray[Any] | tuple[NDArray[Any], State]:
        """Return the output for `x`: (batch, out_features), or (batch, time, out_features) for every step.

        Args:
            x: input, (batch, in_features), or (batch, time, in_features) along time.
            lengths: how many steps of each sample count, (batch,), from 1 to time. Behind a sample's end the
                state stays as it is and outputs are zero.
            mask: instead of `lengths`: which steps count, bool (batch, time), a run from step 0.
            state: where a Recurrent layer starts: {"h": array, "c": array} or (h, c) or h, each of shape
                (num_layers * directions, batch, hidden_size), layer by layer, forward before backward.
            training: run as in training: batch normalisation takes the batch's own statistics, dropout and
                stochastic depth draw from the network's seed. Else nothing is drawn or dropped.
            return_state: also return the state behind the last step, as a dict that `state` takes.

        Raises:
            ShapeError, DTypeError, NonFiniteError: `x`, `lengths`, `mask` or `state` is not such an array, or
                would be narrowed.
            ArgumentError: lengths out of range, a mask with gaps, a state of other parts than the cell's, any
                of them for a network along depth.
            MemoryBudgetError: the pass would not fit in memory.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> vg.mlp(depth=3, width=4, rng=0).forward(np.zeros((2, 4), np.float32)).shape
            (2, 4)
            >>> net = vg.rnn("lstm", 8, in_features=4, read="every", rng=0)
            >>> y, state = net.forward(np.zeros((2, 50, 4), np.float32), lengths=[50, 20], return_state=True)
            >>> y.shape, state["c"].shape
            ((2, 50, 8), (1, 2, 8))
        """
        if return_state:
            layer = self._door.one_recurrent("return_state")
        inputs = self._door.open(x, lengths, mask, state)
        self._budget(inputs, "loss", "none", None)
        noise = self._noise(training)
        if self.axis == "depth":
            output: NDArray[Any] = self._core.forward(inputs.x, training=noise)
            return output
        series = inputs.series
        y, after = self._core.forward(inputs.x, lengths=series.lengths, state=series.state, training=noise)
        return (y, dict(zip(layer.unit.states, after, strict=True))) if return_state else y

    def loss(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: str | Loss | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        training: bool = False,
    ) -> float:
        """Return the mean loss over the batch. `loss` is a name from ``vg.losses.names()`` or an object.

        With an output for every step it is the mean over all steps of all samples that count; `y` then has a
        time axis, (batch, time) for class labels. What it holds behind a sample's end does not matter.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError: `x` or `y` does not fit the network or the
                loss.
            ArgumentError: no loss given, or as for `forward`.
            UnknownNameError: no such loss.
            MemoryBudgetError: the pass would not fit in memory.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=3, width=4, init="zeros", rng=0)
            >>> net.loss(np.ones((2, 4), np.float32), np.ones((2, 4), np.float32), loss="mse")
            1.0
        """
        inputs = self._door.open(x, lengths, mask, state)
        chosen = chosen_loss(y, loss, None, needs_target=True)
        return float(self._run(inputs, y, chosen, None, mode="loss", training=training)["loss"])

    def probe(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | None = None,
        *,
        cotangent: ArrayLike | None = None,
        lr: float | None = None,
        stats: str = "full",
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        truncate: int | None = None,
        memory_budget: int | str | None = None,
        training: bool = True,
    ) -> GradientFlow:
        """Measure the gradient at every step, in one forward and one backward pass; nothing changes.

        Args:
            x: input, (batch, in_features), or (batch, time, in_features) along time.
            y: target, with `loss`: class labels (batch,) or probabilities for cross_entropy, else an array of
                the output's shape. For every step: (batch, time) or (batch, time, out_features).
            loss: a name from ``vg.losses.names()`` or an object such as ``vg.losses.smooth_l1(beta=0.5)``.
            cotangent: instead of `y` and `loss`: the gradient with respect to the output, of the output's
                shape.
            lr: also count the weights that an SGD step of this rate would leave unchanged to the bit.
            stats: "full", or "norms" for the norms alone.
            lengths, mask, state: which steps count, and where the state starts; see `forward`.
            truncate: cut the gradient (not the state) at steps k, 2k, ...: truncated backpropagation.
            memory_budget: most bytes that the pass may use beside parameters and given arrays: a number or
                text such as "512MB". The plan (keep, checkpoint, recompute) follows from it; it is said on
                stderr before the pass, or logged where somebody listens ("vgcore", INFO), and stays in
                ``flow.meta``; `memory_plan` tells it beforehand. The bits are the same.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError: an array does not fit.
            ArgumentError: neither or both of `y` and `cotangent`, no loss, a bad `lr`, `stats`, `truncate` or
                `memory_budget`; lengths, masks and states as for `forward`.
            UnknownNameError: no such loss.
            MemoryBudgetError: no plan fits; the message says the least that works.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=100, width=16, activation="tanh", rng=0)
            >>> x = np.ones((8, 16), np.float32)
            >>> net.probe(x, np.zeros((8, 16), np.float32), loss="mse").steps
            100
        """
        rate = None if lr is None else as_real(lr, "lr", minimum=0.0)
        inputs = self._door.open(x, lengths, mask, state, truncate)
        return self._flow(inputs, y, loss, cotangent, "probe", rate, stats, memory_budget, training)

    def gradients(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | None = None,
        *,
        cotangent: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        truncate: int | None = None,
        memory_budget: int | str | None = None,
        training: bool = True,
        inputs: bool = True,
    ) -> Gradients:
        """Return the gradient for every parameter and the input. Arguments and errors as for `probe`.

        ``inputs=False`` leaves the input's out, which saves a product a step along time. With `state`, those
        for its parts come along: ``state.h``, ``state.c``, of the shapes that went in.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=3, width=4, rng=0)
            >>> ones = np.ones((1, 4), np.float32)
            >>> net.gradients(ones, cotangent=ones)["hidden.weight"].shape
            (3, 4, 4)
        """
        self._needs_stored("gradients")
        opened = self._door.open(x, lengths, mask, state, truncate)
        chosen = chosen_loss(y, loss, cotangent, needs_target=False)
        wanted = as_flag(inputs, "inputs")
        raw = self._run(
            opened,
            y,
            chosen,
            cotangent,
            mode="gradients",
            memory_budget=memory_budget,
            wanted=wanted,
            training=training,
        )
        return Gradients(raw["gradients"], raw["input_gradient"] if wanted else None, raw["loss"])

    def step(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | None = None,
        *,
        lr: float,
        cotangent: ArrayLike | None = None,
        stats: str = "full",
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        truncate: int | None = None,
        memory_budget: int | str | None = None,
        training: bool = True,
    ) -> GradientFlow:
        """Take one SGD step, ``w -= lr * g``, and return what `probe` would have measured before it.

        Arguments and errors as for `probe`. A call that is refused has changed nothing; one that Ctrl-C ends
        may have updated the layers near the output.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=3, width=4, activation="tanh", rng=0)
            >>> x = y = np.ones((2, 4), np.float32)
            >>> before = net.step(x, y, loss="mse", lr=0.05).loss
            >>> net.loss(x, y, loss="mse") < before
            True
        """
        self._needs_stored("step")
        rate = as_real(lr, "lr", minimum=0.0)
        inputs = self._door.open(x, lengths, mask, state, truncate)
        return self._flow(inputs, y, loss, cotangent, "step", rate, stats, memory_budget, training)

    def truncation_loss(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | None = None,
        *,
        truncate: int,
        cotangent: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        memory_budget: int | str | None = None,
    ) -> dict[str, Truncation]:
        """Measure how much of each gradient truncated backpropagation loses, at the same parameters.

        For every parameter g (and part of a given state): ``difference = |g_cut - g| / |g|``, in Frobenius
        norms, and ``cosine = <g_cut, g> / (|g_cut| |g|)``, both free of the float range. 0 and 1 mean that
        nothing is lost, as from ``truncate >= time`` on. Other arguments and errors as for `probe`.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.rnn("gru", 8, in_features=2, rng=0)
            >>> x, v = np.ones((4, 60, 2), np.float32), np.ones((4, 8), np.float32)
            >>> net.truncation_loss(x, cotangent=v, truncate=60)["rnn.weight_hh_l0"].difference
            0.0
        """
        cut = as_size(truncate, "truncate")
        whole, part = (
            self.gradients(
                x,
                y,
                loss,
                cotangent=cotangent,
                lengths=lengths,
                mask=mask,
                state=state,
                truncate=at,
                memory_budget=memory_budget,
            )
            for at in (None, cut)
        )
        return truncation(whole, part)

    def lyapunov(
        self,
        x: ArrayLike,
        k: int = 1,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        state: StateLike = None,
        memory_budget: int | str | None = None,
    ) -> NDArray[np.float64]:
        """Return the leading `k` Lyapunov exponents of the steps that `x` goes through, (k,), nats per step.

        ``lambda_j = (1/T) sum_t ln R_jj(t)``, where R comes from a QR decomposition, after every step, of k
        gradients that are taken back together: any length, no float range. One above zero means that
        gradients explode along `x`; all below zero, that they vanish; ``-inf``, that a step lets no more than
        the others pass (what is left is within the rounding error of the float type). NaN comes last and only
        from steps whose own derivative is not finite. The steps are those of the first recurrent layer, or of
        a network along depth. For a batch the mean is returned.

        Args:
            x: as for `forward`.
            k: how many, at most the width of what is passed on from step to step.
            lengths, mask, state: which steps count, and where the state starts; see `forward`.
            memory_budget: most bytes beside parameters and given arrays: a number or text such as "512MB". A
                long sequence is gone through in windows, each from a checkpoint. The bits are the same.

        Raises:
            ShapeError, DTypeError, NonFiniteError: as for `forward`.
            ArgumentError: `k` is larger than that width, there are layers in front of the recurrent one, or
                it runs in two directions.
            MemoryBudgetError: no windows fit; the message says the least that works.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=500, width=16, activation="identity", init="orthogonal", rng=0)
            >>> bool(np.abs(net.lyapunov(np.ones((1, 16), np.float32), k=3)).max() < 1e-6)
            True

        Source: Benettin et al. 1980, Meccanica 15:9; Engelken, Wolf, Abbott 2020, arXiv:2006.02427.
        """
        count = as_size(k, "k")
        inputs = self._door.open(x, lengths, mask, state, None)
        budget = free_budget() if memory_budget is None else parse_bytes(memory_budget)
        ends, parts = inputs.series.lengths, inputs.series.state
        total = np.zeros(count)
        for i in range(inputs.batch):
            own = None if parts is None else [np.ascontiguousarray(part[:, i : i + 1]) for part in parts]
            sample = inputs.x[i : i + 1] if ends is None else inputs.x[i : i + 1, : ends[i]]
            total += self._core.lyapunov(sample, k=count, state=own, memory_budget=budget)
        return total / inputs.batch

    def memory_plan(
        self,
        batch: int,
        steps: int | None = None,
        memory_budget: int | str | None = None,
        *,
        mode: str = "probe",
        stats: str = "full",
    ) -> str:
        """Return, as text, what a pass would keep and recompute, and by which factor; nothing runs.

        The size "in all" takes in what no plan changes: the copy of the input, figures, gradients and what
        lies between layers. A budget of that size gives the same plan.

        Args:
            batch: number of samples.
            steps: length of the sequences; for a network along time only.
            memory_budget: as for `probe`; None takes what is fastest and fits.
            mode: "probe", "gradients", "step" or "loss".
            stats: as for `probe` and `step`; a million steps of figures may be most of what a pass needs.

        Raises:
            ArgumentError: sizes that are not positive, `steps` missing or not wanted, another mode or stats.
            MemoryBudgetError: no plan fits; the message says the least that works.

        Example:
            >>> import vgcore as vg
            >>> net = vg.rnn("lstm", 32, in_features=32, rng=0)
            >>> plan = net.memory_plan(1, 1_000_000, "256MB", stats="norms")
        """
        size, chosen = as_size(batch, "batch"), as_choice(mode, "mode", _MODES)
        if self.axis == "time" and steps is None:
            raise ArgumentError("steps: expected the length of the sequences, got None")
        if self.axis == "depth" and steps is not None:
            raise ArgumentError(f"steps: expected None for a network along depth, got {steps}")
        length = 1 if steps is None else as_size(steps, "steps")
        detail = as_choice(stats, "stats", _STATS) if chosen in ("probe", "step") else "none"
        given = None if memory_budget is None else parse_bytes(memory_budget)
        return self._core.plan(size, length, chosen, detail, given)[0]

    def _noise(self, training: bool) -> tuple[int, int] | None:
        """Return the seed and the step of what a pass in training draws; None for inference."""
        return (key_of(self._seed), 0) if as_flag(training, "training") else None

    # --- how a pass is prepared ----------------------------------------------------------------------------

    def _budget(
        self, inputs: Inputs, mode: str, stats: str, given: int | str | None, wanted: bool = True
    ) -> int | None:
        """Return the bytes that the pass may use, None for no limit; raise when it cannot fit."""
        batch, steps = inputs.batch, inputs.steps
        if given is not None:
            say(self._core.plan(batch, steps, mode, stats, parse_bytes(given), inputs=wanted)[0], self._said)
            return parse_bytes(given)
        units = self._core.num_units
        along = f"{steps:,} steps" if self._door.recurrent else f"{units:,} unit{'s' * (units != 1)}"
        what = f"a pass over a batch of {batch:,} through {along}"
        if mode != "loss":
            return affordable(what, partial(self._core.memory_estimate, batch, steps, mode, stats))
        ensure_fits(self._door.forward_bytes(batch, steps), what, "take fewer samples at a time")
        return None

    def _run(
        self,
        inputs: Inputs,
        y: ArrayLike | None,
        chosen: Loss | None,
        cotangent: ArrayLike | None,
        *,
        mode: str,
        lr: float | None = None,
        stats: str = "none",
        memory_budget: int | str | None = None,
        wanted: bool = True,
        training: bool = True,
    ) -> dict[str, Any]:
        target = spec = direction = None
        if chosen is not None:
            target, spec = self._door.read_target(chosen, y, inputs), chosen.to_spec()
        else:
            direction = self._door.read_cotangent(cotangent, inputs)
        budget = self._budget(inputs, mode, stats, memory_budget, wanted)
        series = inputs.series
        self._touched |= mode == "step"
        along: dict[str, Any] = {}
        if self._door.recurrent:
            along = {"lengths": series.lengths, "state": series.state, "truncate": series.truncate}
        return self._core.run(
            inputs.x, target, spec, direction, mode=mode, lr=lr, stats=stats, memory_budget=budget,
            inputs=wanted, training=self._noise(training), **along,
        )  # fmt: skip

    def _flow(
        self,
        inputs: Inputs,
        y: ArrayLike | None,
        loss: str | Loss | None,
        cotangent: ArrayLike | None,
        mode: str,
        lr: float | None,
        stats: str,
        memory_budget: int | str | None,
        training: bool,
    ) -> GradientFlow:
        detail = as_choice(stats, "stats", _STATS)
        chosen = chosen_loss(y, loss, cotangent, needs_target=False)
        touched = self._touched
        raw = self._run(
            inputs, y, chosen, cotangent, mode=mode, lr=lr, stats=detail,
            memory_budget=memory_budget, training=training,
        )  # fmt: skip
        meta = (
            self._meta
            | {
                "loss": None if chosen is None else repr(chosen),
                "batch": inputs.batch,
                "lr": lr,
            }
            | input_moments(inputs.x)
        )
        if touched:
            meta["weights"] = TOUCHED
        if memory_budget is not None:
            meta |= {key: raw[key] for key in ("plan", "recompute")}
            meta["memory_budget"] = parse_bytes(memory_budget)
        if inputs.series.truncate is not None:
            meta["truncate"] = inputs.series.truncate
        if inputs.series.lengths is not None:
            meta["shortest"] = int(inputs.series.lengths.min())
        return GradientFlow.from_raw(raw, meta)
