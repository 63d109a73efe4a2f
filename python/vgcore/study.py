"""Layer: study. Many networks over a grid of constructor arguments and seeds, each probed once, resumable.

Knows how to run cells; which arguments there are is in `_study_axes`, the data in `_study_data`, what a cell
measures in `_study_cells`, what comes out in `_study_result`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from os import PathLike
from pathlib import Path
from typing import Any, Final

from . import _core
from ._checks import shown
from ._progress import Progress, ProgressLike
from ._rng import RngLike
from ._study_axes import axis_names, checked_axes, checked_seeds, encoded, is_along_time
from ._study_cells import FORMAT, Cell, Store, failure, run_cell
from ._study_data import Prepared, prepare
from ._study_result import StudyResult
from ._study_values import decode_value, encode_value
from .errors import ArgumentError

__all__ = ["Study", "StudyResult", "axis_names"]

SPEC_FORMAT: Final = "vgcore.Study"
SPEC_VERSION: Final = 1


class Study:
    """A grid of networks: every combination of the given constructor arguments, each with every seed.

    Each keyword is an argument of ``vg.mlp``: a list (or tuple, range, one-dimensional array) makes it an
    axis, a single value holds for all cells. `depth` is required; `width` is 64 unless given; ``in_features``
    and ``out_features`` follow from the data unless given. The same seeds serve all cells, so that cells
    differ in their arguments and not in luck.

    An activation, initializer, cell or normalisation with parameters is an object or text, such as
    ``vg.Activation("leaky_relu", negative_slope=0.2)`` or ``"leaky_relu:0.2"``.

    With `cell` the networks are recurrent and each keyword is an argument of ``vg.rnn``, or `length`, the
    number of steps of the sequences that a task makes; ``hidden_size`` is 64 unless given, and ``read``
    follows from the data.

    `mitigation` is an axis too: "none", a cure, "a+b" or a list of cures for several at once, each applied by
    ``net.mitigate`` to the network that the other arguments describe.

    Args:
        seeds: seeds of the networks, one or several; with `rng`, how many to draw.
        rng: where to draw seeds from: None for `seeds` as they are, else an int, a SeedSequence or a
            Generator.
        **axes: arguments of ``vg.mlp``, or of ``vg.rnn`` and `length`; `mitigation`.

    Raises:
        UnknownNameError: an argument, cell, activation, initializer or cure that does not exist.
        ArgumentError: an empty axis, cures that do not go together, a bad seed, or a value that no
            network of the grid takes or that cannot be written to a file.
        DTypeError: a float type other than float32 and float64.

    Example:
        >>> import vgcore as vg
        >>> study = vg.Study(depth=[10, 100], activation=["tanh", "relu"], init="he_normal", seeds=[0, 1])
        >>> len(study)
        8
        >>> x, y = vg.datasets.digits()
        >>> result = study.run(x, y, progress=False)
        >>> print(result.summary())  # doctest: +SKIP
        >>> cures = ["none", "rezero", ["residual", "orthogonal"]]
        >>> len(vg.Study(depth=100, activation="sigmoid", mitigation=cures))
        3
        >>> along_time = vg.Study(cell=["rnn", "lstm", "gru"], length=[100, 1000, 10_000])
        >>> print(along_time.run(task="adding").summary())  # doctest: +SKIP
    """

    def __init__(self, *, seeds: int | Iterable[int] = 0, rng: RngLike = None, **axes: Any) -> None:
        """Check every name and value, so that a long run cannot fail for a misspelt one."""
        self.axes: dict[str, list[Any]] = checked_axes(axes)
        self.seeds: list[int] = checked_seeds(seeds, rng)

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
        x: Any = None,
        y: Any = None,
        *,
        task: str | Callable[[int], Any] | None = None,
        samples: int | None = None,
        data_rng: RngLike = 0,
        loss: Any = None,
        storage: str | PathLike[str] | None = None,
        executor: Executor | None = None,
        progress: ProgressLike = True,
    ) -> StudyResult:
        """Probe every cell on ``(x, y)`` and return the results, in the order of the grid whatever ran first.

        Args:
            x: inputs (batch, features), float32 or float64; of recurrent networks (batch, time, features).
            y: targets as ``net.probe`` takes them for `loss`: class indices (batch,), or an array (batch,
                outputs). Of recurrent networks also one for every step, (batch, time) or (batch, time,
                outputs).
            task: instead of x and y, for recurrent networks: "adding", "copy_memory", "temporal_order",
                "text", "digits_rows", "digits_pixels", "mnist_pixels", "pigcvp" (see ``vg.datasets``), or a
                function of the length that returns (x, y).
            samples: how many sequences a named task makes; None: 32.
            data_rng: where a named task's data comes from; every cell sees the same data.
            loss: name of the loss; None: the task's own, else "cross_entropy".
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
            ArgumentError: a bad `storage`, `executor` or `progress`, no data, or lengths that it has not.
            UnknownNameError: no such task or loss.
        """
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise ArgumentError(
                f"executor: expected None or an executor of concurrent.futures, such as "
                f"ThreadPoolExecutor(4), got {shown(executor)}"
            )
        prepared = prepare(self.axes, x, y, loss, task, samples, data_rng)
        cells = list(self._cells(prepared))
        store = Store(storage) if storage is not None else None
        stored = store.read() if store is not None else {}
        outcomes: dict[str, dict[str, Any]] = {
            cell.key: stored[cell.key] for cell in cells if cell.key in stored
        }
        todo = [cell for cell in cells if cell.key not in outcomes]
        unit = "steps" if is_along_time(self.axes) else "layers"
        with Progress(progress, len(todo), sum(cell.work for cell in todo), unit) as bar:
            for cell, outcome in _run(todo, prepared, executor):
                entry = {"key": cell.key, "args": encoded(cell.args), "seed": cell.seed, **outcome}
                outcomes[cell.key] = entry
                if store is not None:
                    store.append(entry)
                bar.advance(cell.describe() | {"status": outcome["status"]}, cell.work)
        spec = self.to_spec() | {"loss": encode_value("loss", prepared.loss), "data": prepared.data}
        spec["vgcore"] = _version()
        rows = [{"cell": cell.describe(), **outcomes[cell.key]} for cell in cells]
        return StudyResult(spec, rows, reused=len(cells) - len(todo))

    def _cells(self, prepared: Prepared) -> Iterator[Cell]:
        version, axes = _version(), prepared.axes
        for values in itertools.product(*axes.values()):
            args = dict(zip(axes, values, strict=True))
            data = prepared.of(args)[2]
            for seed in self.seeds:
                named = {"args": encoded(args), "seed": seed, "loss": encode_value("loss", prepared.loss)}
                text = json.dumps([FORMAT, version, data, named], sort_keys=True)
                yield Cell(args, seed, hashlib.sha256(text.encode()).hexdigest()[:32])


def _version() -> str:
    return str(_core.config()["version"])


def _run(
    cells: list[Cell], prepared: Prepared, executor: Executor | None
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    if executor is None:
        for cell in cells:
            yield cell, run_cell(cell.args, cell.seed, *prepared.of(cell.args)[:2], prepared.loss)
        return
    futures: dict[Future[dict[str, Any]], Cell] = {
        executor.submit(run_cell, cell.args, cell.seed, *prepared.of(cell.args)[:2], prepared.loss): cell
        for cell in cells
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
