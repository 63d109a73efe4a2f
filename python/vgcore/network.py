"""Layer: the network. Holds a compiled network and checks everything that goes in before it runs.

Knows layers, arrays, losses and results; the arithmetic is in the compiled module. Every method is safe to
call from several Python threads at once, save that `step` and `load_parameters` change the parameters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, _saving, _summary
from ._arrays import as_float_array
from ._checks import as_choice, as_dtype, as_real, as_size, shown
from ._memory import NEGLIGIBLE, available_memory, ensure_fits, parse_bytes
from ._passes import chosen_loss, provenance, sizes, with_zeros
from ._rng import RngLike, key_of, seed_of
from .errors import ArgumentError, unknown_name
from .flow import GradientFlow
from .gradients import Gradients
from .layers import Context, Layer, as_layers, chain_specs
from .losses import Loss, as_loss

__all__ = ["Network", "load"]

#: Bytes that one layer's entry in the flat program takes, roughly; parameters come on top.
_ENTRY_BYTES = 128
#: Bytes of figures that a pass returns for each unit, by `stats`.
_FIGURE_BYTES = {"none": 16, "norms": 96, "full": 1024}
_STATS = ("norms", "full")


class Network:
    """A chain of layers, compiled once; its parameters are drawn from `rng`.

    Args:
        in_features: width of the input.
        layers: what the input goes through, in order.
        dtype: "float32" or "float64", of parameters and arithmetic. Norms are float64 either way.
        rng: None, an int, a SeedSequence or a Generator. ``rng=net.seed`` gives the same network again.

    Parameters are named by the path of their layers' names, joined by ".": ``0.weight`` (out, in), ``0.bias``
    (out,). Under a Repeat whose steps own their parameters they are stacked along a leading axis.

    Raises:
        ArgumentError: no layers, not layers, sizes that are not positive, two parameters of one name.
        ShapeError: a Residual or Repeat whose body changes the width, an initial array that does not fit.
        DTypeError: a `dtype` that is not float32 or float64.
        MemoryBudgetError: the parameters would not fit in memory; raised before anything is allocated.

    Example:
        >>> import numpy as np, vgcore as vg
        >>> step = vg.Residual([vg.Activation("relu"), vg.Dense(64)])
        >>> net = vg.Network(64, [vg.Dense(64), vg.Repeat(step, 500), vg.Dense(10)], rng=0)
        >>> net.forward(np.ones((2, 64), np.float32)).shape
        (2, 10)
    """

    __slots__ = ("_core", "_dtype", "_in_features", "_layers", "_meta", "_seed")

    def __init__(
        self,
        in_features: int,
        layers: Layer | Sequence[Layer],
        *,
        dtype: Any = "float32",
        rng: RngLike = None,
    ) -> None:
        """Check, estimate, compile and initialise."""
        self._in_features = as_size(in_features, "in_features")
        self._layers = as_layers(layers, "layers")
        self._dtype = as_dtype(dtype)
        self._seed = seed_of(rng)
        self._compile(chain_specs(self._layers, Context(self._in_features, self._dtype)))

    def _compile(self, specs: list[dict[str, Any]]) -> None:
        count, entries = sizes(self._layers, self._in_features)
        what = f"a network of {count:,} parameters in {self._dtype}"
        advice = "make it narrower or less deep, share parameters (Repeat(..., tied=True)) or use float32"
        ensure_fits(count * self._dtype.itemsize + entries * _ENTRY_BYTES, what, advice)
        self._core = _core.Network(specs, self._in_features, self._dtype.name, key_of(self._seed))
        #: What every result records of this network, worked out once.
        self._meta = {"network": repr(self), "dtype": self._dtype.name, "seed": self._seed} | provenance(
            self._layers
        )

    @classmethod
    def _restore(
        cls, in_features: int, layers: Sequence[Layer], dtype: str, seed: int, parameters: Mapping[str, Any]
    ) -> Network:
        """Build a network whose parameters are given, without drawing them first."""
        self = cls.__new__(cls)
        self._in_features, self._layers = in_features, as_layers(layers, "layers")
        self._dtype, self._seed = as_dtype(dtype), seed
        specs = chain_specs(self._layers, Context(in_features, self._dtype))
        self._compile([with_zeros(spec) for spec in specs])
        self.load_parameters(parameters)
        return self

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self._in_features

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self._core.out_features

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that the network was built from."""
        return self._layers

    @property
    def dtype(self) -> np.dtype[Any]:
        """Float type of parameters and arithmetic."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed of the initial parameters: ``rng=net.seed`` draws the same ones."""
        return self._seed

    @property
    def num_parameters(self) -> int:
        """Number of scalar parameters."""
        return self._core.num_parameters

    @property
    def num_steps(self) -> int:
        """Number of steps, which is the length of a GradientFlow's arrays."""
        return self._core.num_steps

    def summary(self) -> str:
        """Return a table of the layers, their widths and parameters, as text; a Repeat's body appears once.

        Example:
            >>> import vgcore as vg
            >>> print(vg.mlp(depth=1000, width=4, rng=0).summary())  # doctest: +ELLIPSIS
            Network(in_features=4, out_features=4, steps=1,000, parameters=20,000, dtype=float32, seed=0)
            ...
        """
        return _summary.text(
            repr(self), self._layers, self._in_features, self.num_parameters, self._dtype.itemsize
        )

    def __repr__(self) -> str:
        """Show sizes, float type and seed."""
        widths = f"in_features={self.in_features}, out_features={self.out_features}"
        sizes = f"steps={self.num_steps:,}, parameters={self.num_parameters:,}"
        return f"Network({widths}, {sizes}, dtype={self._dtype.name}, seed={self._seed})"

    def _repr_html_(self) -> str:
        return _summary.table_html(
            repr(self), self._layers, self._in_features, self.num_parameters, self._dtype.itemsize
        )

    # --- parameters ----------------------------------------------------------------------------------------

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name, without copying any.

        Example:
            >>> import vgcore as vg
            >>> vg.mlp(depth=7, width=4, rng=0).parameter_shapes()
            {'hidden.weight': (7, 4, 4), 'hidden.bias': (7, 4)}
        """
        return {name: tuple(shape) for name, shape in self._core.parameters()}

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Return a copy of every parameter by name, nearest the input first.

        Example:
            >>> import vgcore as vg
            >>> sorted(vg.mlp(depth=7, width=4, rng=0).parameters())
            ['hidden.bias', 'hidden.weight']
        """
        return {name: self._core.get(name) for name in self.parameter_shapes()}

    def load_parameters(self, parameters: Mapping[str, ArrayLike]) -> None:
        """Replace every parameter. All are checked before any is changed. NaN and infinity are let through.

        Raises:
            UnknownNameError: a name that the network does not have.
            ArgumentError: not a mapping, or a parameter is missing.
            ShapeError, DTypeError: an array that does not fit, or that would be narrowed.

        Example:
            >>> import vgcore as vg
            >>> a, b = vg.mlp(depth=7, width=4, rng=0), vg.mlp(depth=7, width=4, rng=1)
            >>> b.load_parameters(a.parameters())
            >>> bool((a.parameters()["hidden.weight"] == b.parameters()["hidden.weight"]).all())
            True
        """
        if not isinstance(parameters, Mapping):
            raise ArgumentError(f"parameters: expected a mapping of name to array, got {shown(parameters)}")
        shapes = self.parameter_shapes()
        for name in parameters:
            if name not in shapes:
                raise unknown_name("parameter", name, shapes, "net.parameter_shapes()")
        missing = [name for name in shapes if name not in parameters]
        if missing:
            listed = ", ".join(map(repr, missing[:6])) + (", ..." if len(missing) > 6 else "")
            raise ArgumentError(
                f"parameters: expected all {len(shapes)} of the network's, got none for {listed}; "
                f"start from net.parameters() to change a few"
            )
        arrays = {
            name: as_float_array(parameters[name], name=name, dtype=self._dtype, shape=shape, finite=False)
            for name, shape in shapes.items()
        }
        for name, array in arrays.items():
            self._core.set(name, array)

    def copy(self) -> Network:
        """Return an independent network with the same parameters.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=7, width=4, rng=0)
            >>> twin = net.copy()
            >>> x = np.ones((1, 4), np.float32)
            >>> bool((twin.forward(x) == net.forward(x)).all())
            True
        """
        twin = Network.__new__(Network)
        twin._in_features, twin._layers = self._in_features, self._layers
        twin._dtype, twin._seed, twin._meta = self._dtype, self._seed, self._meta
        twin._core = self._core.clone()
        return twin

    def __copy__(self) -> Network:
        """Copy the parameters too: two networks never share any."""
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        """Return an independent network."""
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a process pool send the network to its workers."""
        state = (self._in_features, self._layers, self._dtype.name, self._seed, self.parameters())
        return Network._restore, state

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save structure and parameters as a safetensors file, which ``vg.load(path)`` reads; no pickle.

        Raises:
            MissingDependencyError: the package safetensors is not installed.
        """
        version = str(_core.config()["version"])
        kind = self._dtype.name
        _saving.write(path, self.parameters(), self._layers, self._in_features, kind, self._seed, version)

    # --- what it does --------------------------------------------------------------------------------------

    def forward(self, x: ArrayLike) -> NDArray[Any]:
        """Return the output, (batch, out_features), for `x`, (batch, in_features).

        Raises:
            ShapeError, DTypeError, NonFiniteError: `x` is not a finite float array of that shape, or would be
                narrowed.
            MemoryBudgetError: the pass would not fit in memory.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> vg.mlp(depth=3, width=4, rng=0).forward(np.zeros((2, 4), np.float32)).shape
            (2, 4)
        """
        array = self._input(x)
        self._budget(len(array), "loss", "none", None)
        return self._core.forward(array)

    def loss(self, x: ArrayLike, y: ArrayLike, loss: str | Loss | None = None) -> float:
        """Return the mean loss over the batch. `loss` is a name from ``vg.losses.names()`` or an object.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError: `x` or `y` does not fit the network or the
                loss.
            ArgumentError: no loss given.
            UnknownNameError: no such loss.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=3, width=4, init="zeros", rng=0)
            >>> net.loss(np.ones((2, 4), np.float32), np.ones((2, 4), np.float32), loss="mse")
            1.0
        """
        return float(self._run(x, y, loss, None, mode="loss")["loss"])

    def probe(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | None = None,
        *,
        cotangent: ArrayLike | None = None,
        lr: float | None = None,
        stats: str = "full",
        memory_budget: int | str | None = None,
    ) -> GradientFlow:
        """Measure the gradient at every step, in one forward and one backward pass; nothing changes.

        Args:
            x: input, (batch, in_features).
            y: target, with `loss`: class labels (batch,) or probabilities for cross_entropy, else an array of
                the output's shape.
            loss: a name from ``vg.losses.names()`` or an object such as ``vg.losses.smooth_l1(beta=0.5)``.
            cotangent: instead of `y` and `loss`: the gradient with respect to the output, of the output's
                shape.
            lr: also count the weights that an SGD step of this rate would leave unchanged to the bit.
            stats: "full", or "norms" for the norms alone.
            memory_budget: most bytes that the pass may use: a number or text such as "512MB". The plan (keep,
                checkpoint, recompute) follows from it; results are the same to the bit.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError: an array does not fit.
            ArgumentError: neither or both of `y` and `cotangent`, no loss, a bad `lr`, `stats` or
                `memory_budget`.
            UnknownNameError: no such loss.
            MemoryBudgetError: no plan fits.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=100, width=16, activation="tanh", rng=0)
            >>> x = np.ones((8, 16), np.float32)
            >>> net.probe(x, np.zeros((8, 16), np.float32), loss="mse").steps
            100
        """
        return self._flow(
            x, y, loss, cotangent, mode="probe", lr=lr, stats=stats, memory_budget=memory_budget
        )

    def gradients(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | None = None,
        *,
        cotangent: ArrayLike | None = None,
        memory_budget: int | str | None = None,
    ) -> Gradients:
        """Return the gradient for every parameter and the input. Arguments and errors as for `probe`.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=3, width=4, rng=0)
            >>> ones = np.ones((1, 4), np.float32)
            >>> net.gradients(ones, cotangent=ones)["hidden.weight"].shape
            (3, 4, 4)
        """
        raw = self._run(x, y, loss, cotangent, mode="gradients", memory_budget=memory_budget)
        return Gradients(raw["gradients"], raw["input_gradient"], raw["loss"])

    def step(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        loss: str | Loss | None = None,
        *,
        lr: float,
        cotangent: ArrayLike | None = None,
        stats: str = "full",
        memory_budget: int | str | None = None,
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
        return self._flow(
            x, y, loss, cotangent, mode="step", lr=as_real(lr, "lr"), stats=stats, memory_budget=memory_budget
        )

    # --- how a pass is prepared ----------------------------------------------------------------------------

    def _input(self, x: ArrayLike) -> NDArray[Any]:
        return as_float_array(x, name="x", dtype=self._dtype, shape=("batch", self._in_features))

    def _budget(self, batch: int, mode: str, stats: str, given: int | str | None) -> int | None:
        """Return the bytes that the pass may use, None for no limit; raise when it cannot fit."""
        budget = None if given is None else parse_bytes(given)
        units = self._core.num_units
        what = f"a pass over a batch of {batch:,} through {units:,} units"
        # Figures per unit come first: the estimate below itself walks over a plan as long as the network.
        ensure_fits(
            units * _FIGURE_BYTES[stats], what, "make the network less deep, or probe a part of it", budget
        )
        if budget is not None or mode == "loss":
            return budget
        needed = self._core.memory_estimate(batch, mode)
        if needed < NEGLIGIBLE:
            return None
        free = available_memory()
        # The fastest plan does not fit: let the compiled module find one that does, or say that none does.
        return None if free is None or needed <= free else int(0.9 * free)

    def _run(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        loss: str | Loss | None,
        cotangent: ArrayLike | None,
        *,
        mode: str,
        lr: float | None = None,
        stats: str = "none",
        memory_budget: int | str | None = None,
    ) -> dict[str, Any]:
        chosen = chosen_loss(y, loss, cotangent, needs_target=mode == "loss")
        array = self._input(x)
        batch = len(array)
        target = direction = None
        if chosen is not None:
            target = chosen.check_target(y, batch, self.out_features, self._dtype)
        else:
            direction = self._cotangent(cotangent, batch)
        budget = self._budget(batch, mode, stats, memory_budget)
        spec = None if chosen is None else chosen.to_spec()
        return self._core.run(
            array, target, spec, direction, mode=mode, lr=lr, stats=stats, memory_budget=budget
        )

    def _cotangent(self, cotangent: Any, batch: int) -> NDArray[Any]:
        name, width = "cotangent", self.out_features
        direction = as_float_array(cotangent, name=name, dtype=self._dtype)
        if direction.shape == (width,) and batch == 1:
            direction = direction.reshape(1, width)
        return as_float_array(direction, name=name, dtype=self._dtype, shape=(batch, width))

    def _flow(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        loss: str | Loss | None,
        cotangent: ArrayLike | None,
        *,
        mode: str,
        lr: float | None,
        stats: str,
        memory_budget: int | str | None,
    ) -> GradientFlow:
        rate = None if lr is None else as_real(lr, "lr", minimum=0.0)
        detail = as_choice(stats, "stats", _STATS)
        raw = self._run(x, y, loss, cotangent, mode=mode, lr=rate, stats=detail, memory_budget=memory_budget)
        meta = self._meta | {
            "loss": None if loss is None else repr(as_loss(loss)),
            "batch": int(raw["batch"]),
            "lr": rate,
        }
        return GradientFlow.from_raw(raw, meta)


def load(path: str | os.PathLike[str]) -> Network:
    """Return the network that ``net.save(path)`` saved: structure, parameters and seed.

    Raises:
        FileNotFoundError: no such file.
        ArgumentError: not a saved network, or one of a newer version.
        MissingDependencyError: the package safetensors is not installed.

    Example:
        >>> import tempfile, pathlib, vgcore as vg
        >>> net = vg.mlp(depth=3, width=4, rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(pathlib.Path(folder, "net.safetensors"))
        ...     again = vg.load(pathlib.Path(folder, "net.safetensors"))
        >>> again
        Network(in_features=4, out_features=4, steps=3, parameters=60, dtype=float32, seed=0)
    """
    structure, layers, parameters = _saving.read(path)
    return Network._restore(
        structure["in_features"], layers, structure["dtype"], structure["seed"], parameters
    )
