"""Layer: command line. What the commands do, once their arguments are read.

Knows the public API of the package and where output goes: results on standard output, progress and errors on
standard
error. Pictures are drawn without a display.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core, datasets
from ._planning import unsaid
from ._study_axes import axis_names
from ._study_cells import build, decode_value, digest
from ._table import json_safe
from ._tasks import Source, Task, as_task
from .cli import ACTIVATIONS, CELLS, DEPTHS, DOCTOR_LENGTH, INITS, LENGTHS, TASK
from .errors import ArgumentError
from .study import Study

if TYPE_CHECKING:
    from .study import StudyResult

__all__ = ["doctor", "info", "probe", "study"]

#: Sequences that the doctor makes unless told, and half of the random samples: batches are drawn from them.
DOCTOR_SAMPLES = 256


def study(args: argparse.Namespace) -> int:
    """Run ``vgcore study``."""
    _prepare(args)
    plan, data = _plan(args)
    expected = data.pop("sha256", None)
    if not args.no_plots:
        _require_matplotlib()
    target = Path(args.out)
    target.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        (target / "cells.jsonl").unlink(missing_ok=True)
    start = time.perf_counter()
    result = plan.run(**data, storage=target, progress=not (args.quiet or args.json))
    seconds = time.perf_counter() - start
    files = result.save(target)
    if expected is not None and result.spec["data"]["sha256"] != expected:
        print(
            f"vgcore study: note: {args.source} was made with other data of the same task: by another "
            "version of vgcore, of Python (text) or of a package",
            file=sys.stderr,
        )
    if not args.json:
        print(result.summary(), flush=True)  # before the pictures: they take a moment
    if not args.no_plots:
        files += _figures(result, target)
    if args.json:
        _print_json(
            result.to_dict() | {"seconds": seconds, "reused": result.reused, "files": [str(f) for f in files]}
        )
    else:
        again = f", {result.reused} of them already there" if result.reused else ""
        print(f"\n{len(result)} networks in {seconds:.1f} s{again}. Results in {target}{os.sep}:")
        print("  " + "  ".join(file.name for file in files))
    return 1 if result.errors else 0


def probe(args: argparse.Namespace) -> int:
    """Run ``vgcore probe``."""
    _prepare(args)
    extra = _extra(args)
    time = _along_time(args)
    _known(extra, "time" if time else "depth")
    if args.plot:
        _require_matplotlib()
        _check_picture(args.plot)
    if args.save and Path(args.save).suffix not in (".json", ".npz"):
        raise ArgumentError(f"--save: expected a file that ends in .npz or .json, got {args.save!r}")
    x, y, loss, settings = _sequences(args) if time else _images(args)
    net = build(settings | {"dtype": args.dtype} | extra, args.seed, x)
    options: dict[str, Any] = {} if args.lr is None else {"lr": args.lr}
    if args.memory_budget is not None:
        options["memory_budget"] = args.memory_budget
    with unsaid() if args.quiet else nullcontext():
        flow = net.probe(x.astype(args.dtype), y, loss=loss, **options)
    diagnosis = flow.diagnose()
    if time:
        what = f"{settings['cell']}, {args.width:,} units, {flow.steps:,} steps of {args.task or TASK}"
        samples = "sequences"
    else:
        what = f"{settings['activation']} network, {settings['depth']:,} layers of {args.width:,} units"
        samples = "samples"
    files = []
    if args.save:
        flow.save(args.save)
        files.append(args.save)
    if args.plot:
        if time:
            title, unit = what, "time step"
        else:
            title = f"{settings['activation']}, {args.init or 'default init'}, depth {settings['depth']:,}, "
            title, unit = title + f"width {args.width:,}", "layer"
        low, high = diagnosis.ci
        rate = f"{diagnosis.decades_per_step:+.3g} decades per {unit} ({low:+.3g} to {high:+.3g})"
        title += f"\n{diagnosis.verdict}, {rate}"
        flow.plot(title=title).figure.savefig(args.plot, dpi=150)
        files.append(args.plot)
    if args.json:
        report: dict[str, Any] = {
            "diagnosis": diagnosis.to_dict(),
            "loss": flow.loss,
            "axis": flow.axis,
            "steps": flow.steps,
            "batch": len(x),
        }
        report |= {"num_parameters": net.num_parameters, "log10_grad_norm": flow.log10_grad_norm}
        _print_json(report | {"files": files})
    else:
        cost = "" if flow.loss is None else f", loss {flow.loss:.4g}"
        print(f"{what}, {net.num_parameters:,} parameters, {len(x):,} {samples}{cost}\n")
        print(diagnosis)
        if files:
            print("\nwritten: " + ", ".join(files))
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Run ``vgcore doctor``."""
    _prepare(args)
    extra = _extra(args)
    time = _along_time(args)
    _known(extra, "time" if time else "depth")
    if args.plot:
        _require_matplotlib()
        _check_picture(args.plot)
    if time:
        x, y, loss, settings = _sequences(args, DOCTOR_LENGTH, DOCTOR_SAMPLES)
    else:
        x, y, loss, settings = _images(args, 2 * DOCTOR_SAMPLES)
    net = build(settings | {"dtype": args.dtype} | extra, args.seed, x)
    found = net.doctor(
        x.astype(args.dtype), y, loss=loss, budget=args.budget, candidates=args.cures, steps=args.steps,
        pairs=not args.no_pairs, rng=args.seed, progress=not (args.quiet or args.json),
    )  # fmt: skip
    files = []
    if args.plot:
        found.plot().figure.savefig(args.plot, dpi=150, bbox_inches="tight")
        files.append(args.plot)
    if args.json:
        _print_json(found.to_dict() | {"num_parameters": net.num_parameters, "files": files})
        return 0
    what = f"{settings['cell']}, {args.width:,} units" if time else f"{settings['activation']} network"
    size = f"{x.shape[1]:,} time steps" if time else f"{settings['depth']:,} layers of {args.width:,} units"
    print(f"{what}, {size}, {net.num_parameters:,} parameters, {len(x):,} samples\n")
    print(found)
    if files:
        print("\nwritten: " + ", ".join(files))
    return 0


def info(args: argparse.Namespace) -> int:
    """Run ``vgcore info``."""
    _prepare(args)
    found: dict[str, Any] = dict(_core.config())
    found |= {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    threads = int(found["num_threads"])
    peaks = {
        dtype: _core.measure_peak(dtype, threads, args.seconds)
        for dtype in ("float32", "float64")
        if args.seconds > 0
    }
    if args.json:
        _print_json(found | {"peak_gflops": peaks})
        return 0
    for name, value in found.items():
        print(f"{name:<14} {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    for dtype, value in peaks.items():
        print(
            f"{'peak ' + dtype:<14} {value:,.0f} GFLOP/s of fused multiply-adds, {threads} threads, measured"
        )
    return 0


def _extra(args: argparse.Namespace) -> dict[str, Any]:
    """Return further arguments of one network, from --set."""
    extra = {}
    for name, values in args.set:
        if len(values) != 1:
            raise ArgumentError(
                f"--set {name}: expected one value, got {len(values)}; vgcore study takes several"
            )
        extra[name] = values[0]
    return extra


def _plan(args: argparse.Namespace) -> tuple[Study, dict[str, Any]]:
    """Return the study and what ``Study.run`` takes: the data, the loss.

    A task of a file comes with "sha256", the digests that its data had.
    """
    time = _along_time(args)
    names = ("cell", "length", "activation", "init", "seeds")
    given: dict[str, Any] = {name: getattr(args, name) for name in (*names, "depth")}
    given["hidden_size" if time else "width"] = args.width
    given = {name: value for name, value in given.items() if value is not None}
    for name, values in args.set:
        if name in given:
            raise ArgumentError(f"--set {name}: given twice")
        given[name] = values
    if args.source is not None:
        named = ["width" if name == "hidden_size" else name for name in given]
        for name in [*named, *(n for n in ("task", "batch") if getattr(args, n) is not None)]:
            raise ArgumentError(f"--from describes the whole study; it does not go together with --{name}")
        return _from_file(args.source)
    if not time:
        if args.batch is not None:
            raise ArgumentError(
                "--batch: it is about the sequences of a task; give --task, --cell or --length"
            )
        axes: dict[str, Any] = {"depth": list(DEPTHS), "activation": list(ACTIVATIONS), "init": list(INITS)}
        return Study(**(axes | given)), dict(zip("xy", datasets.digits(), strict=True))
    name = args.task or TASK
    task = as_task(name)
    axes = {"cell": list(CELLS)}
    if isinstance(task, Task) and task.steps is None:
        axes["length"] = list(LENGTHS)
    return Study(**(axes | given)), {"task": name, "samples": args.batch}


def _from_file(path: str) -> tuple[Study, dict[str, Any]]:
    spec = _read_spec(path)
    plan, loss = Study.from_spec(spec), decode_value("loss", spec.get("loss"))
    data: dict[str, Any] = dict(spec["data"]) if isinstance(spec.get("data"), dict) else {}
    if "task" in data:
        known = {name: data.get(key) for name, key in (("task", "task"), ("samples", "samples"))}
        return plan, known | {"data_rng": data.get("rng", 0), "loss": loss, "sha256": data.get("sha256")}
    expected = data.get("sha256")
    if "cell" not in plan.axes:
        x, y = datasets.digits()
        if expected is None or digest(x, y) == expected:
            return plan, {"x": x, "y": y, "loss": loss}
    raise ArgumentError(
        f"--from: {path} describes a study of other data than the digits; run it from Python with that data: "
        "vgcore.Study.load(file).run(x, y)"
    )


def _read_spec(path: str) -> dict[str, Any]:
    try:
        spec = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"--from: {path} is not JSON ({error})") from error
    if not isinstance(spec, dict):
        raise ArgumentError(f"--from: {path} is not a study.json")
    return spec


def _known(extra: dict[str, Any], along: str) -> None:
    from .errors import unknown_name

    known = [name for name in axis_names(along) if name != "length"]
    for name in extra:
        if name not in known:
            maker = "mlp" if along == "depth" else "rnn"
            raise unknown_name("argument of --set", name, known, f"help(vgcore.{maker})")


def _along_time(args: argparse.Namespace) -> bool:
    """Whether recurrent networks are asked for; what then makes no sense is refused."""
    asked = [name for name in ("cell", "length", "task") if getattr(args, name) is not None]
    for name, instead in (("depth", "--length, or --set num_layers=N"), ("input", "--task")):
        if asked and getattr(args, name, None) is not None:
            raise ArgumentError(
                f"--{name}: it is about networks without time, --{asked[0]} about recurrent ones; "
                f"give {instead} instead"
            )
    return bool(asked)


def _images(args: argparse.Namespace, samples: int = 128) -> tuple[Any, Any, str, dict[str, Any]]:
    """Return x, y, the loss and the arguments of the network."""
    if args.input in (None, "digits"):
        x, y = datasets.digits()
        if args.batch is not None and args.batch > len(x):
            raise ArgumentError(
                f"--batch: the digits have {len(x):,} images, got {args.batch:,}; --input random has any "
                "number"
            )
        x, y = x[: args.batch], y[: args.batch]
    else:
        rng = np.random.default_rng(args.seed)
        batch = args.batch or samples
        x, y = rng.standard_normal((batch, 64), dtype=np.float32), rng.integers(0, 10, batch)
    settings = {"depth": args.depth or 100, "width": args.width}
    settings |= {"in_features": x.shape[1], "out_features": 10}
    settings |= {"activation": args.activation or "relu", "init": args.init}
    return x, y, "cross_entropy", settings


def _sequences(
    args: argparse.Namespace, steps: int = LENGTHS[-1], samples: int | None = None
) -> tuple[Any, Any, str, dict[str, Any]]:
    """Return x, y, the loss and the arguments of the network."""
    task = as_task(args.task or TASK)
    length = args.length
    if isinstance(task, Task) and task.steps is None and length is None:
        length = steps
    source = Source(task, args.batch or samples, 0)
    (length,) = source.lengths(None if length is None else [length])
    made = source.make(length)
    settings = {"cell": args.cell or "lstm", "hidden_size": args.width, "length": length, "read": made.read}
    settings |= {"in_features": made.features, "out_features": made.outputs}
    settings |= {"activation": args.activation, "init": args.init}
    return made.x, made.y, source.loss(made), settings


def _figures(result: StudyResult, target: Path) -> list[Path]:
    """Draw curves at every depth or length, the heat map and the rates, each as PNG and SVG."""
    if all(entry["status"] != "ok" for entry in result.cells):
        return []
    pictures: list[tuple[str, str, dict[str, Any]]] = [("heatmap", "heatmap", {}), ("rate", "rate", {})]
    along = result.along
    done = {entry["cell"][along] for entry in result.cells if entry["status"] == "ok"}
    pictures += [(f"curves-{depth}", "curves", {along: depth}) for depth in sorted(done)]
    files = []
    for name, kind, where in pictures:
        figure = result.plot(kind, **where).figure
        for suffix in ("png", "svg"):
            files.append(target / f"{name}.{suffix}")
            # No date inside: the same study gives the same file.
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(files[-1], dpi=150, metadata=metadata)
    return files


def _prepare(args: argparse.Namespace) -> None:
    if args.threads is not None:
        _core.set_num_threads(args.threads)


def _require_matplotlib() -> None:
    """Fail before the work rather than after it; draw into files, whatever display there may be."""
    try:
        import matplotlib
    except ImportError:
        from .errors import missing_dependency

        raise missing_dependency("matplotlib", "study", "drawing") from None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "vgcore"


def _check_picture(path: str) -> None:
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    suffix = Path(path).suffix.lstrip(".")
    if suffix not in known:
        raise ArgumentError(f"--plot: expected a file that ends in .png, .svg or .pdf, got {path!r}")


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(json_safe(value), allow_nan=False))
    sys.stdout.flush()
