"""Layer: command line. ``vgcore study``, ``vgcore probe`` and ``vgcore info``: arguments, exit codes, error
lines.

Knows how to read arguments and report failure in one line; what the commands do is in `_cli_commands`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from .errors import ArgumentError, UnknownNameError, VgcoreError

__all__ = ["build_parser", "main"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

DEPTHS: Final = (10, 100, 1000, 10_000)
ACTIVATIONS: Final = ("sigmoid", "tanh", "relu", "selu")
INITS: Final = ("glorot_normal", "he_normal", "orthogonal")

_EXIT_CODES: Final = """\
exit codes:
  0    done
  1    failed while running (a cell of a study failed, a file cannot be written, ...)
  2    the command line or one of its values makes no sense
  130  stopped with Ctrl-C
"""

_MAIN: Final = """\
Measure how gradients vanish or explode through very deep networks.

Norms are kept with their exponents, so that a gradient of 1e-6270 is a number here and not 0.
"""

_MAIN_EPILOG: Final = (
    """\
examples:
  vgcore study                                   the canonical study on 1,797 real images, table and pictures
  vgcore probe --depth 1000 --activation tanh    what happens in one network, and why
  vgcore info --json                             version, instruction path, threads, peak speed

Each command explains itself: vgcore study --help
"""
    + "\n"
    + _EXIT_CODES
)

_STUDY: Final = """\
Probe every combination of depth, activation, initializer and seed with one backward pass each, on
scikit-learn's digits (1,797 real images of 8 x 8 pixels, 10 classes, cross-entropy).

Without arguments: depths 10, 100, 1,000 and 10,000; sigmoid, tanh, relu, selu; glorot_normal, he_normal,
orthogonal; width 64; one seed.
"""

_STUDY_EPILOG: Final = (
    """\
what it writes into the directory of --out:
  summary.txt   the table that is printed
  table.csv     every quantity of every network, one row each
  study.json    the study itself: run it again with --from study.json
  cells.jsonl   finished networks; a run that was stopped goes on from here
  *.png, *.svg  gradient norm against layer, decades per layer, rate against depth

how to read the table:
  1e-627.3 vanishing    the gradient that reaches the first layer has norm 10^-627.3
  decades/layer         powers of ten gained (+) or lost (-) per layer on the way back
  0 in float32          counted back from the output, the layer from which on plain float32 gradients read
  zero

examples:
  vgcore study
  vgcore study --depth 50,500 --activation gelu,mish --init he_normal --seeds 0,1,2
  vgcore study --set bias=false --set dtype=float64 --out double
  vgcore study --from vgcore-study/study.json --out again
  vgcore study --json > study-result.json
"""
    + "\n"
    + _EXIT_CODES
)

_PROBE: Final = """\
Probe one network with one backward pass and say what its gradient does: verdict, rate with a 95 %
interval, how many layers float32, float16 and others carry it, and which signs of trouble show.
"""

_PROBE_EPILOG: Final = (
    """\
examples:
  vgcore probe --depth 1000 --activation sigmoid
  vgcore probe --depth 100000 --width 32 --activation tanh --init orthogonal --input random --batch 16
  vgcore probe --depth 300 --activation relu --plot flow.png --save flow.npz
  vgcore probe --depth 50 --set skip=residual --json
"""
    + "\n"
    + _EXIT_CODES
)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keep the layout of descriptions and examples; leave room for long options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; names of activations and initializers come from the catalogues."""
    from . import _core, activations, initializers

    parser = argparse.ArgumentParser(
        prog="vgcore", description=_MAIN, epilog=_MAIN_EPILOG, formatter_class=_Formatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"vgcore {_core.config()['version']}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    names = {"activation": activations.names(), "init": initializers.names()}
    _add_study(commands, names)
    _add_probe(commands, names)
    _add_info(commands)
    return parser


def _add_study(commands: Any, names: dict[str, list[str]]) -> None:
    parser = commands.add_parser(
        "study",
        help="a grid of networks: table, pictures, files",
        description=_STUDY,
        epilog=_STUDY_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    grid = parser.add_argument_group("the grid (several values separated by commas)")
    grid.add_argument(
        "--depth", type=_listed(_size), metavar="N,...", help="layers (default: 10,100,1000,10000)"
    )
    grid.add_argument("--width", type=_listed(_size), metavar="N,...", help="units per layer (default: 64)")
    grid.add_argument(
        "--activation", type=_listed(str), metavar="NAME,...",
        help=f"default: {','.join(ACTIVATIONS)}; known: {', '.join(names['activation'])}",
    )  # fmt: skip
    grid.add_argument(
        "--init", type=_listed(str), metavar="NAME,...",
        help=f"default: {','.join(INITS)}; known: {', '.join(names['init'])}",
    )  # fmt: skip
    grid.add_argument(
        "--seeds", type=_listed(_seed), metavar="N,...", help="seeds, the same for all (default: 0)"
    )
    _add_set(grid, "another argument of vg.mlp, values separated by commas; repeat for more")
    source = parser.add_argument_group("where from, where to")
    source.add_argument(
        "--from", dest="source", metavar="FILE", help="run the study that this study.json describes"
    )
    source.add_argument(
        "--out", metavar="DIR", default="vgcore-study", help="directory for results (default: %(default)s)"
    )
    source.add_argument(
        "--fresh", action="store_true", help="run every network again, also those already in DIR"
    )
    source.add_argument("--no-plots", action="store_true", help="no pictures (matplotlib is then not needed)")
    _add_common(parser)
    parser.set_defaults(run="study")


def _add_probe(commands: Any, names: dict[str, list[str]]) -> None:
    parser = commands.add_parser(
        "probe",
        help="one network: verdict, reasons, picture",
        description=_PROBE,
        epilog=_PROBE_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    net = parser.add_argument_group("the network")
    net.add_argument("--depth", type=_size, default=100, metavar="N", help="layers (default: %(default)s)")
    net.add_argument(
        "--width", type=_size, default=64, metavar="N", help="units per layer (default: %(default)s)"
    )
    net.add_argument(
        "--activation", default="relu", metavar="NAME",
        help=f"default: %(default)s; known: {', '.join(names['activation'])}",
    )  # fmt: skip
    net.add_argument(
        "--init", metavar="NAME",
        help=f"default: the one that fits the activation; known: {', '.join(names['init'])}",
    )  # fmt: skip
    net.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="default: %(default)s"
    )
    net.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="seed of the weights (default: %(default)s)"
    )
    _add_set(net, "another argument of vg.mlp; repeat for more")
    data = parser.add_argument_group("the data")
    data.add_argument(
        "--input", choices=("digits", "random"), default="digits",
        help="digits: real images (needs scikit-learn); random: standard normal noise, random classes",
    )  # fmt: skip
    data.add_argument(
        "--batch", type=_size, metavar="N", help="samples (default: all 1,797 digits, 128 random ones)"
    )
    data.add_argument(
        "--lr", type=_rate, metavar="RATE",
        help="also count the weights that one SGD step of this rate would leave unchanged to the bit",
    )  # fmt: skip
    out = parser.add_argument_group("what to keep")
    out.add_argument(
        "--plot", metavar="FILE", help="draw the gradient norm against the layer (.png, .svg, .pdf)"
    )
    out.add_argument("--save", metavar="FILE", help="write everything measured (.npz or .json)")
    _add_common(parser)
    parser.set_defaults(run="probe")


def _add_info(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="version, instruction path, threads, peak speed",
        description="Print version, the instruction path in use, threads, and this machine's measured peak.",
        epilog="examples:\n  vgcore info\n  vgcore info --seconds 0 --json     without measuring\n\n"
        + _EXIT_CODES,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=0.5, metavar="S",
        help="how long to measure each float type; 0: not at all (default: %(default)s)",
    )  # fmt: skip
    _add_common(parser)
    parser.set_defaults(run="info")


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how")
    group.add_argument(
        "--threads", type=_size, metavar="N", help="threads (default: all; same bits for any number)"
    )
    group.add_argument(
        "--json", action="store_true", help="print one JSON object on standard output and nothing else"
    )
    group.add_argument("--quiet", "-q", action="store_true", help="no progress bar")


def _add_set(group: Any, text: str) -> None:
    group.add_argument(
        "--set", action="append", default=[], type=_assignment, metavar="NAME=VALUE", help=text
    )


def _size(text: str) -> int:
    try:
        value = int(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a seed of at least 0, got {value}")
    return value


def _positive(text: str, least: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number {least}, got {text!r}") from None


def _rate(text: str) -> float:
    value = _positive(text, "above 0")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _seconds(text: str) -> float:
    value = _positive(text, "of at least 0")
    if not 0 <= value <= 60:
        raise argparse.ArgumentTypeError(f"expected 0 to 60 seconds, got {text!r}")
    return value


def _listed(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def convert(text: str) -> list[Any]:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise argparse.ArgumentTypeError(f"expected values separated by commas, got {text!r}")
        return [kind(part) for part in parts]

    return convert


def _assignment(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name.strip().replace("-", "_"), [_value(part.strip()) for part in values.split(",")]


def _value(text: str) -> Any:
    """Read true, false, null and numbers as JSON does, in any case; all else is a name."""
    lowered = text.lower()
    try:
        return json.loads({"none": "null"}.get(lowered, lowered))
    except ValueError:
        return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped with
    Ctrl-C.

    Example:
        >>> main(["probe", "--depth", "5", "--input", "random", "--quiet"])  # doctest: +SKIP
        0
    """
    try:
        return _main(argv)
    except KeyboardInterrupt:
        print("vgcore: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (vgcore ... | head): not an error; keep Python from complaining while it shuts
        # down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _main(argv: Sequence[str] | None) -> int:
    try:
        parser = build_parser()
    except ImportError as error:
        print(f"vgcore: error: the installation is damaged: {error}", file=sys.stderr)
        return FAILED
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed help, the version or an error
        return stop.code if isinstance(stop.code, int) else USAGE
    from . import _cli_commands

    command: Callable[[argparse.Namespace], int] = getattr(_cli_commands, args.run)
    try:
        return command(args)
    except (ArgumentError, UnknownNameError) as error:
        return _fail(args.run, error, USAGE)
    except BrokenPipeError:
        raise
    except (VgcoreError, OSError, MemoryError) as error:
        return _fail(args.run, error, FAILED)
    except Exception as error:
        # A mistake in vgcore itself. One line all the same; the traceback is for whoever asks for it.
        if os.environ.get("VGCORE_TRACEBACK"):
            raise
        reason = f"internal error, {type(error).__name__}: {error}; VGCORE_TRACEBACK=1 shows where"
        return _fail(args.run, RuntimeError(reason), FAILED)


def _fail(command: str, error: BaseException, code: int) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    hint = f" (see vgcore {command} --help)" if code == USAGE else ""
    print(f"vgcore {command}: error: {text}{hint}", file=sys.stderr)
    return code
