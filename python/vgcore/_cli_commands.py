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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core, datasets
from ._study_cells import digest
from ._table import json_safe
from .errors import ArgumentError
from .study import Study

if TYPE_CHECKING:
    from .study import StudyResult

__all__ = ["info", "probe", "study"]


def study(args: argparse.Namespace) -> int:
    """Run ``vgcore study``."""
    _prepare(args)
    plan, loss, expected = _plan(args)
    x, y = datasets.digits()
    if expected is not None and digest(x, y) != expected:
        raise ArgumentError(
            f"--from: {args.source} describes a study of other data than the digits; run it from Python with "
            "that data: "
            "vgcore.Study.load(file).run(x, y)"
        )
    if not args.no_plots:
        _require_matplotlib()
    target = Path(args.out)
    target.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        (target / "cells.jsonl").unlink(missing_ok=True)
    start = time.perf_counter()
    result = plan.run(x, y, loss=loss, storage=target, progress=not (args.quiet or args.json))
    seconds = time.perf_counter() - start
    files = result.save(target)
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
    from .models import mlp

    _prepare(args)
    extra = {}
    for name, values in args.set:
        if len(values) != 1:
            raise ArgumentError(
                f"--set {name}: expected one value, got {len(values)}; vgcore study takes several"
            )
        extra[name] = values[0]
    _known(extra)
    if args.plot:
        _require_matplotlib()
        _check_picture(args.plot)
    if args.save and Path(args.save).suffix not in (".json", ".npz"):
        raise ArgumentError(f"--save: expected a file that ends in .npz or .json, got {args.save!r}")
    x, y = _data(args)
    x = x.astype(args.dtype)
    settings = {
        "in_features": x.shape[1],
        "out_features": 10,
        "activation": args.activation,
        "init": args.init,
    }
    net = mlp(args.depth, args.width, **(settings | {"dtype": args.dtype} | extra), rng=args.seed)
    options = {} if args.lr is None else {"lr": args.lr}
    flow = net.probe(x, y, loss="cross_entropy", **options)
    diagnosis = flow.diagnose()
    files = []
    if args.save:
        flow.save(args.save)
        files.append(args.save)
    if args.plot:
        title = (
            f"{args.activation}, {args.init or 'default init'}, depth {args.depth:,}, width {args.width:,}"
        )
        low, high = diagnosis.ci
        rate = f"{diagnosis.decades_per_step:+.3g} decades per layer ({low:+.3g} to {high:+.3g})"
        title += f"\n{diagnosis.verdict}, {rate}"
        flow.plot(title=title).figure.savefig(args.plot, dpi=150)
        files.append(args.plot)
    if args.json:
        report: dict[str, Any] = {
            "diagnosis": diagnosis.to_dict(),
            "loss": flow.loss,
            "steps": flow.steps,
            "batch": len(x),
        }
        report |= {"num_parameters": net.num_parameters, "log10_grad_norm": flow.log10_grad_norm}
        _print_json(report | {"files": files})
    else:
        loss = "" if flow.loss is None else f", loss {flow.loss:.4g}"
        print(
            f"{args.activation} network, {args.depth:,} layers of {args.width:,} units, "
            f"{net.num_parameters:,} parameters, {len(x):,} samples{loss}\n"
        )
        print(diagnosis)
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


def _plan(args: argparse.Namespace) -> tuple[Study, Any, str | None]:
    """Return the study, its loss, and the digest of the data it needs (None: whatever there is)."""
    from .cli import ACTIVATIONS, DEPTHS, INITS

    given: dict[str, Any] = {
        name: getattr(args, name) for name in ("depth", "width", "activation", "init", "seeds")
    }
    given = {name: value for name, value in given.items() if value is not None}
    for name, values in args.set:
        if name in given:
            raise ArgumentError(f"--set {name}: given twice")
        given[name] = values
    if args.source is not None:
        if given:
            raise ArgumentError(
                f"--from describes the whole study; it does not go together with --{next(iter(given))}"
            )
        spec = _read_spec(args.source)
        data = spec.get("data")
        expected = data.get("sha256") if isinstance(data, dict) else None
        return Study.from_spec(spec), spec.get("loss", "cross_entropy"), expected
    axes: dict[str, Any] = {"depth": list(DEPTHS), "activation": list(ACTIVATIONS), "init": list(INITS)}
    return Study(**(axes | given)), "cross_entropy", None


def _read_spec(path: str) -> dict[str, Any]:
    try:
        spec = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"--from: {path} is not JSON ({error})") from error
    if not isinstance(spec, dict):
        raise ArgumentError(f"--from: {path} is not a study.json")
    return spec


def _known(extra: dict[str, Any]) -> None:
    from .errors import unknown_name
    from .study import axis_names

    for name in extra:
        if name not in axis_names():
            raise unknown_name("argument of --set", name, axis_names(), "help(vgcore.mlp)")


def _data(args: argparse.Namespace) -> tuple[Any, Any]:
    if args.input == "digits":
        x, y = datasets.digits()
        if args.batch is not None and args.batch > len(x):
            raise ArgumentError(
                f"--batch: the digits have {len(x):,} images, got {args.batch:,}; --input random has any "
                "number"
            )
        return x[: args.batch], y[: args.batch]
    rng = np.random.default_rng(args.seed)
    batch = args.batch or 128
    return rng.standard_normal((batch, 64), dtype=np.float32), rng.integers(0, 10, batch)


def _figures(result: StudyResult, target: Path) -> list[Path]:
    """Draw curves at every depth, the heat map and the rates, each as PNG and SVG."""
    if all(entry["status"] != "ok" for entry in result.cells):
        return []
    pictures: list[tuple[str, str, dict[str, Any]]] = [("heatmap", "heatmap", {}), ("rate", "rate", {})]
    done = {entry["cell"]["depth"] for entry in result.cells if entry["status"] == "ok"}
    pictures += [(f"curves-{depth}", "curves", {"depth": depth}) for depth in sorted(done)]
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
