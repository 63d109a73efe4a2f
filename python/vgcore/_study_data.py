"""Layer: study, data. What the cells of a study run on, checked once, and the sizes that follow from it.

Knows arrays, tasks and losses; builds one network to try the data on, and nothing else of how cells run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._arrays import as_array, as_float_array
from ._rng import RngLike
from ._study_axes import is_along_time
from ._study_cells import build, digest
from ._tasks import Sequences, Source, as_task, sequences
from .errors import ArgumentError, DTypeError, LabelError, NonFiniteError, ShapeError, VgcoreError
from .initializers import FromArray
from .losses import Loss, as_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """Data that every cell can run on.

    `axes`: with the sizes that follow from the data filled in. `sets`: length -> (x, y, digest); the one set
    of a study along depth stands under None. `data`: what the result records of it.
    """

    axes: dict[str, list[Any]]
    sets: dict[int | None, tuple[NDArray[Any], NDArray[Any], str]]
    loss: Loss
    data: dict[str, Any]

    def of(self, args: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any], str]:
        """Return x, y and their digest for a cell of these arguments."""
        return self.sets[args["length"] if is_along_time(args) else None]


def prepare(
    axes: Mapping[str, list[Any]],
    x: Any,
    y: Any,
    loss: Any,
    task: str | Callable[[int], Any] | None,
    samples: int | None,
    rng: RngLike,
) -> Prepared:
    """Return what every cell runs on, or raise what every cell would raise.

    Raises:
        ShapeError, DTypeError, NonFiniteError, LabelError: x or y is wrong for every cell.
        ArgumentError: no data, two kinds of it, or lengths that it does not have.
        UnknownNameError: no such task or loss.
    """
    if (x is None and y is None) == (task is None):
        both = "not both" if task is not None else "got neither"
        raise ArgumentError(f"expected data, either x and y or task=, {both}")
    if task is None and samples is not None:
        raise ArgumentError("samples: it says how many a task makes; with x and y, cut the arrays")
    if is_along_time(axes):
        found = _along_time(axes, x, y, loss, task, samples, rng)
    elif task is not None:
        raise ArgumentError(
            "task: sequences are for recurrent networks; give the study cell= and length=, or give x and y"
        )
    else:
        found = _along_depth(axes, x, y, loss)
    _try(found)
    return found


def _along_depth(axes: Mapping[str, list[Any]], x: Any, y: Any, loss: Any) -> Prepared:
    x = as_float_array(x, name="x", shape=("batch", "features"))
    y = as_array(y, "y")
    filled = dict(axes)
    filled.setdefault("in_features", [int(x.shape[1])])
    if "out_features" not in filled:
        if y.ndim == 2:
            filled["out_features"] = [int(y.shape[1])]
        elif y.ndim == 1 and y.dtype.kind in "iu" and y.size:
            filled["out_features"] = [max(int(y.max()) + 1, 2)]
        else:
            raise ShapeError(
                f"y: expected class indices (batch,) or an array (batch, outputs), got {y.dtype} of "
                f"shape {y.shape}; "
                "one column is y.reshape(-1, 1)"
            )
    sha = digest(x, y)
    data = {"sha256": sha, "samples": len(x), "features": x.shape[1]}
    return Prepared(filled, {None: (x, y, sha)}, as_loss("cross_entropy" if loss is None else loss), data)


def _along_time(
    axes: Mapping[str, list[Any]],
    x: Any,
    y: Any,
    loss: Any,
    task: str | Callable[[int], Any] | None,
    samples: int | None,
    rng: RngLike,
) -> Prepared:
    wanted = axes.get("length")
    if task is None:
        made = sequences(x, y)
        if wanted not in (None, [made.length]):
            raise ArgumentError(
                f"length: x has {made.length:,} steps, got {wanted}; leave length out, or give task= "
                "(a name, or a function of the length that returns x and y)"
            )
        by_length = {made.length: made}
        source = None
    else:
        source = Source(as_task(task), samples, rng)
        by_length = {length: source.make(length) for length in source.lengths(wanted)}
    first = next(iter(by_length.values()))
    for made in by_length.values():
        if (made.features, made.read) != (first.features, first.read):
            raise ShapeError(
                f"task: expected the same kind of data at every length, got {_kind(first)} at length "
                f"{first.length} and {_kind(made)} at length {made.length}"
            )
    filled = dict(axes) | {"length": list(by_length)}
    filled.setdefault("in_features", [first.features])
    filled.setdefault("out_features", [max(made.outputs for made in by_length.values())])
    filled.setdefault("read", [first.read])
    sets: dict[int | None, tuple[NDArray[Any], NDArray[Any], str]] = {
        length: (made.x, made.y, digest(made.x, made.y)) for length, made in by_length.items()
    }
    data: dict[str, Any] = {} if source is None else source.to_spec()
    data |= {"samples": len(first.x), "features": first.features}
    data["sha256"] = {str(length): sha for length, (_, _, sha) in sets.items()}
    if loss is None:
        loss = "cross_entropy" if source is None else source.loss(first)
    return Prepared(filled, sets, as_loss(loss), data)


def _kind(made: Sequences) -> str:
    return f"{made.features} features, read {made.read!r}"


def _try(found: Prepared) -> None:
    """Raise what x, y and the loss would raise in every cell, before the first cell runs."""
    args = {name: values[0] for name, values in found.axes.items()}
    if is_along_time(args):
        args["length"] = min(found.axes["length"])
    else:
        args["depth"] = 1
    if isinstance(args.get("init"), FromArray):
        return  # its shape may belong to one depth
    x, y, _ = found.of(args)
    try:
        build(args, 0).loss(x, y, loss=found.loss)
    except (DTypeError, NonFiniteError, LabelError, ShapeError):
        raise
    except VgcoreError:
        return  # one cell's own matter; it is recorded there
