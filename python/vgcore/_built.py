"""Layer: the network, as it is built. Compiles layers, holds their parameters, tells, copies and saves them.

Knows layers and files; what a network does is in `network`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, _saving, _summary
from ._arrays import as_float_array
from ._checks import as_dtype, as_flag, as_size, shown
from ._inputs import Door
from ._memory import ensure_fits
from ._mitigation_base import Applied
from ._passes import provenance, sizes, with_zeros
from ._rng import RngLike, key_of, seed_of
from .errors import ArgumentError, unknown_name
from .layers import Context, Dense, Layer, as_layers, chain_specs, walk
from .recurrent import recurrent_layers

__all__ = ["Built"]

#: Bytes that one layer's entry in the flat program takes, roughly; parameters come on top.
_ENTRY_BYTES = 128


class Built:
    """A chain of layers, compiled, with its parameters: the part of `Network` that does not run."""

    __slots__ = (
        "_applied",
        "_core",
        "_door",
        "_dtype",
        "_in_features",
        "_layers",
        "_meta",
        "_said",
        "_seed",
        "_shapes",
        "_stored",
        "_touched",
    )

    def __init__(
        self,
        in_features: int,
        layers: Layer | Sequence[Layer],
        *,
        dtype: Any = "float32",
        rng: RngLike = None,
        stored: bool = True,
    ) -> None:
        """Check, estimate, compile and initialise."""
        self._describe(as_size(in_features, "in_features"), layers, dtype, seed_of(rng), stored)
        self._compile(chain_specs(self._layers, Context(self._in_features, self._dtype)))

    def _describe(self, in_features: int, layers: Any, dtype: Any, seed: int, stored: bool) -> None:
        self._in_features = in_features
        self._layers = as_layers(layers, "layers")
        self._dtype = as_dtype(dtype)
        self._seed = seed
        self._stored = as_flag(stored, "stored")
        self._shapes: dict[str, tuple[int, ...]] | None = None
        #: Whether parameters may be others than those that the seed draws.
        self._touched = False
        #: The cures that made this network, and what a training takes from them.
        self._applied = Applied()
        #: The memory plans that were said.
        self._said: set[str] = set()

    def _compile(self, specs: list[dict[str, Any]]) -> None:
        recurrent = recurrent_layers(self._layers)
        if recurrent and not self._stored:
            raise ArgumentError(
                "stored: expected True for a network with a Recurrent layer, got False: its steps share "
                "their parameters, so there is little to store; stored=False is for deep networks"
            )
        count, entries, widest = sizes(self._layers, self._in_features)
        what = f"a network of {count:,} parameters in {self._dtype}"
        advice = "make it narrower or less deep, share parameters (Repeat(..., tied=True)) or use float32"
        kept = count if self._stored else 0
        ensure_fits(kept * self._dtype.itemsize + entries * _ENTRY_BYTES, what, advice)
        options = {} if self._stored else {"stored": False}
        self._core = _core.Network(specs, self._in_features, self._dtype.name, key_of(self._seed), **options)
        #: Which arrays a pass takes, worked out once.
        self._door = Door(self._in_features, self._core.out_features, self._dtype, recurrent, widest)
        #: What every result records of this network, worked out once.
        self._meta = {"network": repr(self), "dtype": self._dtype.name, "seed": self._seed} | provenance(
            self._layers
        )
        self._meta["recipe"] = _saving.described(self._layers, self._in_features)

    @classmethod
    def _restore(
        cls,
        in_features: int,
        layers: Sequence[Layer],
        dtype: str,
        seed: int,
        parameters: Mapping[str, Any] | None,
        applied: Applied | None = None,
        touched: bool = True,
    ) -> Self:
        """Build a network whose parameters are given (without drawing them first), or are not stored.

        `touched`: whether the given ones may be others than those that a seed draws.
        """
        self = cls.__new__(cls)
        self._describe(in_features, layers, dtype, seed, parameters is not None)
        specs = chain_specs(self._layers, Context(in_features, self._dtype))
        self._compile(specs if parameters is None else [with_zeros(spec) for spec in specs])
        if parameters is not None:
            self.load_parameters(parameters)
            self._touched = touched
        if applied is not None:
            self._applied = applied
        return self

    def _needs_stored(self, what: str) -> None:
        if not self._stored:
            raise ArgumentError(
                f"{what}: expected a network that keeps its parameters, but this one was built with "
                f"stored=False, for forward, loss and probe alone; build it with stored=True"
            )

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def axis(self) -> str:
        """What a step is: "time" for a network with a Recurrent layer, else "depth"."""
        return self._door.axis

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
        """Number of steps, which is the length of a GradientFlow's arrays.

        A network along time has as many steps as its input: here only the layers are counted.
        """
        return self._core.num_steps

    @property
    def touched(self) -> bool:
        """Whether parameters may be others than those that the seed draws: loaded, scaled on data or trained.

        Example:
            >>> import vgcore as vg
            >>> net = vg.mlp(depth=3, width=4, rng=0)
            >>> twin = net.copy()
            >>> twin.load_parameters(net.parameters())
            >>> net.touched, twin.touched
            (False, True)
        """
        return self._touched

    def summary(self) -> str:
        """Return a table of the layers, their widths and parameters, as text; a Repeat's body appears once.

        Example:
            >>> import vgcore as vg
            >>> print(vg.mlp(depth=1000, width=4, rng=0).summary())  # doctest: +ELLIPSIS
            Network(in_features=4, out_features=4, steps=1,000, parameters=20,000, dtype=float32, seed=0)
            ...
        """
        return _summary.text(
            self._head(), self._layers, self._in_features, self.num_parameters, self._dtype.itemsize
        )

    def _head(self) -> str:
        """Return what stands above a summary: the network, and the cures that made it, in order."""
        cures = " -> ".join(map(repr, self._applied.cures))
        return f"{self!r}\ncures: {cures}" if cures else repr(self)

    def __repr__(self) -> str:
        """Show sizes, float type and seed."""
        widths = f"in_features={self.in_features}, out_features={self.out_features}"
        steps = "axis=time" if self.axis == "time" else f"steps={self.num_steps:,}"
        sizes = f"{steps}, parameters={self.num_parameters:,}"
        stored = "" if self._stored else ", stored=False"
        return f"Network({widths}, {sizes}, dtype={self._dtype.name}, seed={self._seed}{stored})"

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
        if self._shapes is None:
            self._shapes = {name: tuple(shape) for name, shape in self._core.parameters()}
        return dict(self._shapes)

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Return a copy of every parameter by name, nearest the input first.

        Example:
            >>> import vgcore as vg
            >>> sorted(vg.mlp(depth=7, width=4, rng=0).parameters())
            ['hidden.bias', 'hidden.weight']
        """
        self._needs_stored("parameters")
        return {name: self._core.get(name) for name in self.parameter_shapes()}

    def effective_weights(self) -> dict[str, NDArray[Any]]:
        """Return a copy of the weight that each Dense multiplies with, by name: ``<layer>.weight``.

        Without a parametrization that is the parameter itself; with one it is what the parameters make, in
        the formula that ``vg.parametrizations.describe(name)`` shows. Shapes as in `parameters`.

        Raises:
            ArgumentError: the network was built with ``stored=False``.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.Network(8, [vg.Dense(4, parametrization="weight_norm", name="a")], rng=0)
            >>> w, p = net.effective_weights()["a.weight"], net.parameters()
            >>> bool((w == p["a.weight_v"]).all())  # at the start; later g v / |v|
            True
        """
        self._needs_stored("effective_weights")
        made = set(self._core.derived())
        found = {}
        for placed in walk(self._layers, self._in_features):
            if isinstance(placed.layer, Dense):
                name = ".".join((*placed.path, "weight"))
                found[name] = self._core.get(f"{name}.effective" if f"{name}.effective" in made else name)
        return found

    def buffers(self) -> dict[str, NDArray[Any]]:
        """Return a copy of what no gradient changes, by name: running statistics of batch normalisation.

        Example:
            >>> import vgcore as vg
            >>> sorted(vg.mlp(depth=7, width=4, norm="batch", rng=0).buffers())
            ['hidden.norm.num_batches', 'hidden.norm.running_mean', 'hidden.norm.running_var']
        """
        self._needs_stored("buffers")
        return {name: self._core.get(name) for name, _ in self._core.buffers()}

    def load_parameters(self, parameters: Mapping[str, ArrayLike]) -> None:
        """Replace every parameter. All are checked before any is changed. NaN and infinity are let through.

        Buffers are taken over too where the mapping has them.

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
        self._needs_stored("load_parameters")
        shapes = self.parameter_shapes()
        buffers = {name: tuple(shape) for name, shape in self._core.buffers() if name in parameters}
        for name in parameters:
            if name not in shapes and name not in buffers:
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
            for name, shape in (shapes | buffers).items()
        }
        self._touched = True
        for name, array in arrays.items():
            self._core.set(name, array)

    def copy(self) -> Self:
        """Return an independent network with the same parameters.

        Example:
            >>> import numpy as np, vgcore as vg
            >>> net = vg.mlp(depth=7, width=4, rng=0)
            >>> twin = net.copy()
            >>> x = np.ones((1, 4), np.float32)
            >>> bool((twin.forward(x) == net.forward(x)).all())
            True
        """
        twin = type(self).__new__(type(self))
        for slot in Built.__slots__:
            setattr(twin, slot, getattr(self, slot))
        twin._core = self._core.clone()
        return twin

    def __copy__(self) -> Self:
        """Copy the parameters too: two networks never share any."""
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return an independent network."""
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a process pool send the network to its workers."""
        state = (self._in_features, self._layers, self._dtype.name, self._seed)
        kept = self.parameters() | self.buffers() if self._stored else None
        return type(self)._restore, (*state, kept, self._applied, self._touched)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save structure and parameters as a safetensors file, which ``vg.load(path)`` reads; no pickle.

        Raises:
            MissingDependencyError: the package safetensors is not installed.
            ArgumentError: the network was built with ``stored=False``.

        Example:
            >>> import pathlib, tempfile, vgcore as vg
            >>> net = vg.mlp(3, 4, rng=0)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = pathlib.Path(folder, "net.safetensors")
            ...     net.save(path)
            ...     vg.load(path).num_parameters
            60
        """
        self._needs_stored("save")
        version = str(_core.config()["version"])
        kind = self._dtype.name
        _saving.write(
            path,
            self.parameters() | self.buffers(),
            self._layers,
            self._in_features,
            kind,
            self._seed,
            version,
            self._applied.to_dict(),
            self._touched,
        )
