"""Layer: study. Many networks over a grid of constructor arguments and seeds, each probed once, resumable.

Knows the arguments of ``vg.mlp`` (read from its signature, so a new one is an axis at once) and how to run
cells; what a cell measures is in `_study_cells`, what comes out in `_study_result`.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, as_completed
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import _core
from ._arrays import as_array, as_float_array
from ._checks import as_size
from ._progress import Progress, ProgressLike
from ._rng import RngLike, seed_of
from ._study_cells import FORMAT, Cell, Store, decode_value, digest, encode_value, failure, label, run_cell
from ._study_result import StudyResult
from .errors import (
    ArgumentError,
    DTypeError,
    LabelError,
    NonFiniteError,
    ShapeError,
    VgcoreError,
    unknown_name,
)
from .initializers import FromArray, as_initializer
from .layers import Activation
from .losses import as_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Study", "StudyResult"]

SPEC_FORMAT: Final = "vgcore.Study"
SPEC_VERSION: Final = 1
DEFAULT_WIDTH: Final = 64


class Study:
    """A grid of networks: every combination of the given constructor arguments, each with every seed.

    Each keyword is an argument of ``vg.mlp``: a list (or tuple, range, one-dimensional array) makes it an
    axis, a single value holds for all cells. `depth` is required; `width` is 64 unless given; ``in_features``
    and ``out_features`` follow from the data unless given. The same seeds serve all cells, so that cells
    differ in their arguments and not in luck.

    Args:
        seeds: seeds of the networks, one or several; with `rng`, how many to draw.
        rng: where to draw seeds from: None for `seeds` as they are, else an int, a SeedSequence or a
            Generator.
        **axes: arguments of ``vg.mlp``.

    Raises:
        UnknownNameError: an argument, activation or initializer that does not exist.
        ArgumentError: an empty axis, a bad size or seed, or a value that cannot be written to a file.

    Example:
        >>> import vgcore as vg
        >>> study = vg.Study(depth=[10, 100], activation=["tanh", "relu"], init="he_normal", seeds=[0, 1])
        >>> len(study)
        8
        >>> x, y = vg.datasets.digits()
        >>> result = study.run(x, y, progress=False)
        >>> print(result.summary())  # doctest: +SKIP
    """

    def __init__(self, *, seeds: int | Iterable[int] = 0, rng: RngLike = None, **axes: Any) -> None:
        """Check every name and value, so that a long run cannot fail for a misspelt one."""
        known = axis_names()
        for name in axes:
            if name not in known:
                raise unknown_name("study axis", name, known, "help(vgcore.mlp)")
        if "depth" not in axes:
            raise ArgumentError(
                "depth: expected one depth or a list of depths, got none; for instance depth=[10, 100, 1000]"
            )
        axes.setdefault("width", DEFAULT_WIDTH)
        self.axes: dict[str, list[Any]] = {name: _axis(name, axes[name]) for name in known if name in axes}
        self.seeds: list[int] = _seeds(seeds, rng)

    def __len__(self) -> int:
        """Number of cells."""
        return math.prod(map(len, self.axes.values())) * len(self.seeds)

    def __repr__(self) -> str:
        """One line: the size of every axis."""
        sizes = " x ".join(f"{len(values)} {name}" for name, values in self.axes.items() if len(values) > 1)
        return f"<Study of {len(self)} cells: {sizes or 'one network'}, {len(self.seeds)} seeds>"

    def to_spec(self) -> dict[str, Any]:
        """Return axes and seeds as plain values that JSON can hold; ``from_spec`` reads them back."""
        axes = {name: [encode_value(name, value) for value in values] for name, values in self.axes.items()}
        return {"format": SPEC_FORMAT, "version": SPEC_VERSION, "axes": axes, "seeds": list(self.seeds)}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Study:
        """Return the study that ``to_spec`` described.

        Raises:
            ArgumentError: not such a description.
        """
        if (
            not isinstance(spec, Mapping)
            or spec.get("format") != SPEC_FORMAT
            or spec.get("version") != SPEC_VERSION
        ):
            raise ArgumentError(
                f'study: expected {{"format": "{SPEC_FORMAT}", "version": {SPEC_VERSION}, ...}}'
            )
        try:
            axes: dict[str, Any] = {
                name: [decode_value(name, value) for value in values] for name, values in spec["axes"].items()
            }
            return cls(seeds=list(spec["seeds"]), **axes)
        except (KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(
                f"study: the description is damaged ({type(error).__name__}: {error})"
            ) from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Study:
        """Return the study described by a ``study.json`` file.

        Raises:
            ArgumentError: the file is not one.
        """
        try:
            spec = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArgumentError(f'study: "{path}" is not JSON ({error})') from error
        return cls.from_spec(spec)

    def run(
        self,
        x: Any,
        y: Any,
        *,
        loss: Any = "cross_entropy",
        storage: str | PathLike[str] | None = None,
        executor: Executor | None = None,
        progress: ProgressLike = True,
    ) -> StudyResult:
        """Probe every cell on ``(x, y)`` and return the results, in the order of the grid whatever ran first.

        Args:
            x: inputs (batch, features), float32 or float64.
            y: targets as ``net.probe`` takes them for `loss`: class indices (batch,), or an array (batch,
                outputs).
            loss: name of the loss.
            storage: a directory or a ``.jsonl`` file. Finished cells are added to it as they finish, and
                cells found there (same arguments, seed, data, loss and version) are not run again; ones that
                failed are.
            executor: any ``concurrent.futures`` executor; None runs one cell after another, each on all
                threads.
            progress: True draws a bar with rate and time left on standard error; a function is called with
                ``(cells done, cells in all, cell)``, ``cell`` a dict of arguments, seed and status.

        A cell that fails is recorded with its message (``result.errors``) and does not stop the others.

        Raises:
            ShapeError, DTypeError, NonFiniteError, LabelError: x or y is wrong for every cell.
            ArgumentError: a bad `storage` or `progress`.
        """
        x = as_float_array(x, name="x", shape=("batch", "features"))
        y = as_array(y, "y")
        loss = as_loss(loss)
        given = self._given(x, y)
        _check_data(given, x, y, loss)
        sha = digest(x, y)
        cells = list(self._cells(given, sha, loss))
        store = Store(storage) if storage is not None else None
        stored = store.read() if store is not None else {}
        outcomes: dict[str, dict[str, Any]] = {
            cell.key: stored[cell.key] for cell in cells if cell.key in stored
        }
        todo = [cell for cell in cells if cell.key not in outcomes]
        with Progress(progress, len(todo), sum(cell.work for cell in todo), "layers") as bar:
            for cell, outcome in _run(todo, x, y, loss, executor):
                entry = {"key": cell.key, "args": _encoded(cell.args), "seed": cell.seed, **outcome}
                outcomes[cell.key] = entry
                if store is not None:
                    store.append(entry)
                bar.advance(cell.describe() | {"status": outcome["status"]}, cell.work)
        data = {"sha256": sha, "samples": len(x), "features": x.shape[1]}
        spec = self.to_spec() | {"loss": encode_value("loss", loss), "data": data, "vgcore": _version()}
        rows = [{"cell": cell.describe(), **outcomes[cell.key]} for cell in cells]
        return StudyResult(spec, rows, reused=len(cells) - len(todo))

    def _given(self, x: NDArray[Any], y: NDArray[Any]) -> dict[str, list[Any]]:
        """Return the axes with the sizes that follow from the data filled in."""
        axes = dict(self.axes)
        axes.setdefault("in_features", [int(x.shape[1])])
        if "out_features" not in axes:
            if y.ndim == 2:
                axes["out_features"] = [int(y.shape[1])]
            elif y.ndim == 1 and y.dtype.kind in "iu" and y.size:
                axes["out_features"] = [max(int(y.max()) + 1, 2)]
            else:
                raise ShapeError(
                    f"y: expected class indices (batch,) or an array (batch, outputs), got {y.dtype} of "
                    f"shape {y.shape}; "
                    "one column is y.reshape(-1, 1)"
                )
        return axes

    def _cells(self, axes: Mapping[str, list[Any]], data: str, loss: Any) -> Iterable[Cell]:
        version = _version()
        for values in itertools.product(*axes.values()):
            args = dict(zip(axes, values, strict=True))
            for seed in self.seeds:
                named = {"args": _encoded(args), "seed": seed, "loss": encode_value("loss", loss)}
                text = json.dumps([FORMAT, version, data, named], sort_keys=True)
                yield Cell(args, seed, hashlib.sha256(text.encode()).hexdigest()[:32])


def axis_names() -> list[str]:
    """Return the arguments of ``vg.mlp`` that a study can vary: all but the seed."""
    from .models import mlp

    return [name for name in inspect.signature(mlp).parameters if name != "rng"]


def _axis(name: str, values: Any) -> list[Any]:
    if isinstance(values, (list, tuple, range)) or (isinstance(values, np.ndarray) and values.ndim == 1):
        listed = list(values)
    else:
        listed = [values]
    if not listed:
        raise ArgumentError(f"{name}: expected at least one value, got an empty axis")
    checked = [_check(name, value) for value in listed]
    seen = [json.dumps(encode_value(name, value), sort_keys=True) for value in checked]
    for i, text in enumerate(seen):
        if text in seen[:i]:
            raise ArgumentError(
                f"{name}: {label(checked[i])!r} is given twice (two names of one thing count as the same)"
            )
    return checked


def _check(name: str, value: Any) -> Any:
    """Check early what can be checked early: a misspelt name should not cost a night's run."""
    if name in ("depth", "width"):
        return as_size(value, name)
    if name == "activation":
        found = Activation(value) if isinstance(value, str) else value
        return found.function if isinstance(found, Activation) and not found.params else found
    if name == "init" and value is not None:
        start = as_initializer(value)
        return start if isinstance(start, FromArray) or start.params else start.name
    return value.item() if isinstance(value, np.generic) else value


def _seeds(seeds: int | Iterable[int], rng: RngLike) -> list[int]:
    if rng is not None:
        number = as_size(seeds or 1, "seeds")
        sequence = np.random.SeedSequence(seed_of(rng))
        return [int(seed) for seed in sequence.generate_state(number, np.uint64)]
    listed = [seeds] if isinstance(seeds, (int, np.integer)) else list(seeds)
    if not listed:
        raise ArgumentError("seeds: expected at least one seed, got none")
    found = [seed_of(seed, "seeds") for seed in listed]
    if len(set(found)) < len(found):
        raise ArgumentError(f"seeds: expected different seeds, got {found}")
    return found


def _encoded(args: Mapping[str, Any]) -> dict[str, Any]:
    return {name: encode_value(name, value) for name, value in args.items()}


def _version() -> str:
    return str(_core.config()["version"])


def _check_data(axes: Mapping[str, list[Any]], x: Any, y: Any, loss: Any) -> None:
    """Raise what x, y and the loss would raise in every cell, before the first cell runs."""
    from .models import mlp

    args = {name: values[0] for name, values in axes.items()} | {"depth": 1}
    if isinstance(args.get("init"), FromArray):
        return  # its shape may belong to one depth
    try:
        mlp(**args, rng=0).loss(x, y, loss=loss)
    except (DTypeError, NonFiniteError, LabelError, ShapeError):
        raise
    except VgcoreError:
        return  # one cell's own matter; it is recorded there


def _run(
    cells: list[Cell], x: Any, y: Any, loss: Any, executor: Executor | None
) -> Iterable[tuple[Cell, dict[str, Any]]]:
    if executor is None:
        for cell in cells:
            yield cell, run_cell(cell.args, cell.seed, x, y, loss)
        return
    futures: dict[Future[dict[str, Any]], Cell] = {
        executor.submit(run_cell, cell.args, cell.seed, x, y, loss): cell for cell in cells
    }
    try:
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield futures[future], future.result() if error is None else failure(error)
    finally:
        for future in futures:
            future.cancel()
