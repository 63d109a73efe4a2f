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
from ._speed import WORKLOAD, step_speed
from ._study_axes import axis_names
from ._study_cells import build, digest
from ._study_values import decode_value, label, read_value
from ._table import json_safe
from ._tasks import Source, Task, as_task
from .cli import ACTIVATIONS, CELLS, DEPTHS, DOCTOR_LENGTH, INITS, LENGTHS, TASK
from .errors import ArgumentError, unknown_name
from .study import Study

if TYPE_CHECKING:
    from .study import StudyResult

__all__ = ["doctor", "info", "probe", "study"]

#: Sequences that the doctor makes unless told, and half of the random samples: batches are drawn from them.
DOCTOR_SAMPLES = 256
#: Arguments of networks that --set refuses where a command has an option for them.
OWN = frozenset({*axis_names("depth"), *axis_names("time"), "seed", "seeds"})


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
    time = _along_time(args)
    extra = _extra(args, "time" if time else "depth")
    _check_files(args, "plot", "save")
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
    what = _in_words(settings, extra)
    if time:
        what += f", {flow.steps:,} steps of {args.task or TASK}"
    # The findings come first: whatever becomes of the files, a long pass was not for nothing.
    files = [file for file in (args.save, args.plot) if file]
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
        samples = "sequences" if time else "samples"
        print(f"{what}, {net.num_parameters:,} parameters, {len(x):,} {samples}{cost}\n")
        print(diagnosis, flush=True)
    if args.save:
        flow.save(args.save)
    if args.plot:
        low, high = diagnosis.ci
        unit = "time step" if time else "layer"
        rate = f"{diagnosis.decades_per_step:+.3g} decades per {unit} ({low:+.3g} to {high:+.3g})"
        start = "default init" if settings["init"] is None else label(settings["init"])
        title = f"{what}, {start}\n{diagnosis.verdict}, {rate}"
        flow.plot(title=title).figure.savefig(args.plot, dpi=150)
    if files and not args.json:
        print("\nwritten: " + ", ".join(files))
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Run ``vgcore doctor``."""
    _prepare(args)
    time = _along_time(args)
    extra = _extra(args, "time" if time else "depth")
    _check_files(args, "plot")
    if time:
        x, y, loss, settings = _sequences(args, DOCTOR_LENGTH, DOCTOR_SAMPLES)
    else:
        x, y, loss, settings = _images(args, 2 * DOCTOR_SAMPLES)
    net = build(settings | {"dtype": args.dtype} | extra, args.seed, x)
    found = net.doctor(
        x.astype(args.dtype), y, loss=loss, budget=args.budget, candidates=args.cures, steps=args.steps,
        pairs=not args.no_pairs, rng=args.seed, progress=not (args.quiet or args.json),
    )  # fmt: skip
    files = [args.plot] if args.plot else []
    if args.json:
        _print_json(found.to_dict() | {"num_parameters": net.num_parameters, "files": files})
    else:
        what = _in_words(settings, extra) + (f", {x.shape[1]:,} time steps" if time else "")
        print(f"{what}, {net.num_parameters:,} parameters, {len(x):,} samples\n")
        print(found, flush=True)
    if args.plot:
        found.plot().figure.savefig(args.plot, dpi=150, bbox_inches="tight")
    if files and not args.json:
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
    speeds = {dtype: step_speed(dtype, args.seconds) for dtype in peaks}
    if args.json:
        told = {
            dtype: speed.to_dict() | {"share_of_peak": speed.gflops / peaks[dtype]}
            for dtype, speed in speeds.items()
        }
        _print_json(found | {"peak_gflops": peaks, "training_step": told})
        return 0
    for name, value in found.items():
        print(f"{name:<14} {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    for dtype, value in peaks.items():
        print(
            f"{'peak ' + dtype:<14} {value:,.0f} GFLOP/s of fused multiply-adds, {threads} threads, measured"
        )
    for dtype, speed in speeds.items():
        reached = f"{speed.gflops:,.0f} GFLOP/s, {speed.gflops / peaks[dtype]:.0%} of the peak"
        print(f"{'step ' + dtype:<14} {reached}: {WORKLOAD}, {1e3 * speed.seconds:.3g} ms a step")
    return 0


def _set(args: argparse.Namespace) -> dict[str, list[Any]]:
    """Return what --set says, each argument once, and none that has an option of its own."""
    found: dict[str, list[Any]] = {}
    for name, values in args.set:
        kept = "width" if name == "hidden_size" else name
        if name in OWN and hasattr(args, kept):
            option = "cures" if name == "mitigation" else kept
            raise ArgumentError(f"--set {name}: it has an option of its own; give --{option} instead")
        if name in found:
            raise ArgumentError(f"--set {name}: given twice; leave one of them out")
        found[name] = values
    return found


def _extra(args: argparse.Namespace, along: str) -> dict[str, Any]:
    """Return further arguments of one network, from --cures and --set."""
    known = [name for name in axis_names(along) if name != "length"]
    extra: dict[str, Any] = {}
    if getattr(args, "mitigation", None) is not None:
        extra["mitigation"] = args.mitigation
    for name, values in _set(args).items():
        if name not in known:
            maker = "mlp" if along == "depth" else "rnn"
            raise unknown_name("argument of --set", name, known, f"help(vgcore.{maker})")
        if len(values) != 1:
            raise ArgumentError(
                f"--set {name}: expected one value, got {len(values)}; vgcore study takes several"
            )
        extra[name] = read_value(name, values[0])
    return extra


def _in_words(settings: dict[str, Any], extra: dict[str, Any]) -> str:
    """Return what network these arguments make, those of --set among them."""
    if "cell" in settings:
        what = f"{label(settings['cell'])}, {settings['hidden_size']:,} units"
    else:
        what = f"{label(settings['activation'])} network, {settings['depth']:,} layers of "
        what += f"{settings['width']:,} units"
    return ", ".join([what, *(f"{name.replace('_', ' ')} {label(value)}" for name, value in extra.items())])


def _plan(args: argparse.Namespace) -> tuple[Study, dict[str, Any]]:
    """Return the study and what ``Study.run`` takes: the data, the loss.

    A task of a file comes with "sha256", the digests that its data had.
    """
    time = _along_time(args)
    names = ("cell", "length", "activation", "init", "seeds", "mitigation")
    given: dict[str, Any] = {name: getattr(args, name) for name in (*names, "depth")}
    given["hidden_size" if time else "width"] = args.width
    given = {name: value for name, value in given.items() if value is not None}
    given |= _set(args)
    if args.source is not None:
        named = [{"hidden_size": "width", "mitigation": "cures"}.get(name, name) for name in given]
        for name in [*named, *(n for n in ("task", "batch") if getattr(args, n) is not None)]:
            raise ArgumentError(f"--from describes the whole study; it does not go together with --{name}")
        return _from_file(args.source)
    if not time:
        if args.batch is not None:
            raise ArgumentError(
                "--batch: it is about the sequences of a task; give --task, --cell or --length"
            )
        axes: dict[str, Any] = {"depth": list(DEPTHS), "activation": list(ACTIVATIONS), "init": list(INITS)}
        if "sigma_w2" in given:  # which says how the weights start, as an initializer does
            del axes["init"]
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
    settings |= {"activation": read_value("activation", args.activation or "relu")}
    settings |= {"init": read_value("init", args.init)}
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
    settings = {
        "cell": read_value("cell", args.cell or "lstm"),
        "hidden_size": args.width,
        "length": length,
        "read": made.read,
    }
    settings |= {"in_features": made.features, "out_features": made.outputs}
    settings |= {"activation": args.activation, "init": read_value("init", args.init)}
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


def _check_files(args: argparse.Namespace, *options: str) -> None:
    """Fail before the work rather than after it where a file could not be written."""
    for option in options:
        path = getattr(args, option)
        if not path:
            continue
        if option == "plot":
            _require_matplotlib()
            _check_picture(path)
        folder = Path(path).parent
        if not folder.is_dir():
            raise FileNotFoundError(f"--{option}: No such file or directory: {str(folder)!r}; make it first")


def _check_picture(path: str) -> None:
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    suffix = Path(path).suffix.lstrip(".")
    if suffix not in known:
        raise ArgumentError(f"--plot: expected a file that ends in .png, .svg or .pdf, got {path!r}")


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(json_safe(value), allow_nan=False))
    sys.stdout.flush()
