"""Layer: command line. ``vgcore study``, ``probe`` and others: arguments, exit codes, error lines.

Knows how to read arguments and report failure in one line; what the commands do is in `_cli_commands` and
`_cli_check`, what the help says in `_cli_texts`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from ._cli_texts import (
    CHECK,
    CHECK_EPILOG,
    DOCTOR,
    DOCTOR_EPILOG,
    EXIT_CODES,
    MAIN,
    MAIN_EPILOG,
    PROBE,
    PROBE_EPILOG,
    STUDY,
    STUDY_EPILOG,
)
from ._registry import read_plain
from .errors import (
    ArgumentError,
    DTypeError,
    LabelError,
    ShapeError,
    UnknownNameError,
    VgcoreError,
    nearest,
)

__all__ = ["build_parser", "main"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
#: What says that a value makes no sense, before anything has run.
WRONG_USAGE: Final = (ArgumentError, UnknownNameError, DTypeError, ShapeError, LabelError)
#: How parameters of an activation, an initializer or a cell are given.
PARAMETERS: Final = "name:value for a parameter"

DEPTHS: Final = (10, 100, 1000, 10_000)
ACTIVATIONS: Final = ("sigmoid", "tanh", "relu", "selu")
INITS: Final = ("glorot_normal", "he_normal", "orthogonal")
CELLS: Final = ("rnn", "lstm", "gru")
LENGTHS: Final = (100, 1000)
TASK: Final = "adding"
#: Time steps that the doctor takes unless told: it trains every cure on them.
DOCTOR_LENGTH: Final = 100


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keep the layout of descriptions and examples; leave room for long options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; names of activations, cells, initializers and tasks come from their catalogues."""
    from . import _core, _tasks, activations, cells, initializers, mitigations

    parser = argparse.ArgumentParser(
        prog="vgcore", description=MAIN, epilog=MAIN_EPILOG, formatter_class=_Formatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"vgcore {_core.config()['version']}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    names = {"activation": activations.names(), "init": initializers.names()}
    names |= {"cell": cells.names(), "task": _tasks.task_names(), "cure": mitigations.names()}
    _add_study(commands, names)
    _add_probe(commands, names)
    _add_doctor(commands, names)
    _add_check(commands, names)
    _add_describe(commands)
    _add_info(commands)
    return parser


def _add_study(commands: Any, names: dict[str, list[str]]) -> None:
    parser = commands.add_parser(
        "study",
        help="a grid of networks: table, pictures, files",
        description=STUDY,
        epilog=STUDY_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    grid = parser.add_argument_group("the grid (several values separated by commas)")
    grid.add_argument(
        "--depth", type=_listed(_size), metavar="N,...", help="layers (default: 10,100,1000,10000)"
    )
    grid.add_argument(
        "--width", type=_listed(_size), metavar="N,...",
        help="units per layer, or of the recurrent state (default: 64)",
    )  # fmt: skip
    grid.add_argument(
        "--activation", type=_listed(str), metavar="NAME,...",
        help=f"default: {','.join(ACTIVATIONS)}; {PARAMETERS}, as leaky_relu:0.2; known: "
        + ", ".join(names["activation"]),
    )  # fmt: skip
    grid.add_argument(
        "--init", type=_listed(_name), metavar="NAME,...",
        help=f"default: {','.join(INITS)}; none: the one that fits the activation; {PARAMETERS}; known: "
        + ", ".join(names["init"]),
    )  # fmt: skip
    grid.add_argument(
        "--seeds", type=_listed(_seed), metavar="N,...", help="seeds, the same for all (default: 0)"
    )
    grid.add_argument(
        "--cures", dest="mitigation", type=_listed(str), metavar="NAME,...",
        help='what each network is cured with (mitigation): "none", a cure, a+b for both, name:value for a '
        f"parameter; known: {', '.join(names['cure'])}",
    )  # fmt: skip
    _add_set(grid, "another argument of vg.mlp (vg.rnn), values separated by commas; repeat for more")
    time = parser.add_argument_group("recurrent networks")
    time.add_argument(
        "--cell", type=_listed(str), metavar="NAME,...",
        help=f"default: {','.join(CELLS)}; known: {', '.join(names['cell'])}",
    )  # fmt: skip
    time.add_argument(
        "--length", type=_listed(_size), metavar="N,...",
        help="time steps (default: 100,1000; real data have their own)",
    )  # fmt: skip
    _add_task(time, names)
    time.add_argument("--batch", type=_size, metavar="N", help="sequences of the task (default: 32)")
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
        description=PROBE,
        epilog=PROBE_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_network(parser, names, 1000)
    _add_cures(parser, names)
    data = parser.add_argument_group("the data")
    _add_input(data)
    data.add_argument(
        "--batch", type=_size, metavar="N",
        help="samples (default: all 1,797 digits, 128 random ones, 32 sequences of a task)",
    )  # fmt: skip
    data.add_argument(
        "--lr", type=_rate, metavar="RATE",
        help="also count the weights that one SGD step of this rate would leave unchanged to the bit",
    )  # fmt: skip
    data.add_argument(
        "--memory-budget", metavar="SIZE",
        help='most memory for the pass, such as "512MB"; the plan that follows is printed first',
    )  # fmt: skip
    out = parser.add_argument_group("what to keep")
    out.add_argument(
        "--plot", metavar="FILE", help="draw the gradient norm against the layer (.png, .svg, .pdf)"
    )
    out.add_argument("--save", metavar="FILE", help="write everything measured (.npz or .json)")
    _add_common(parser)
    parser.set_defaults(run="probe")


def _add_network(parser: Any, names: dict[str, list[str]], length: int, depth: int = 100) -> None:
    """Add what describes one network; `length`, `depth`: time steps of a sequence and layers unless told."""
    net = parser.add_argument_group("the network")
    net.add_argument("--depth", type=_size, metavar="N", help=f"layers (default: {depth})")
    net.add_argument(
        "--width", type=_size, default=64, metavar="N",
        help="units per layer, or of the recurrent state (default: %(default)s)",
    )  # fmt: skip
    net.add_argument(
        "--activation", metavar="NAME",
        help=f"default: relu; {PARAMETERS}, as leaky_relu:0.2; known: {', '.join(names['activation'])}",
    )  # fmt: skip
    net.add_argument(
        "--init", type=_name, metavar="NAME",
        help=f"default: the one that fits the activation; {PARAMETERS}; known: {', '.join(names['init'])}",
    )  # fmt: skip
    net.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="default: %(default)s"
    )
    net.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="seed of the weights (default: %(default)s)"
    )
    _add_set(net, "another argument of vg.mlp (vg.rnn); repeat for more")
    time = parser.add_argument_group("a recurrent network")
    time.add_argument("--cell", metavar="NAME", help=f"default: lstm; known: {', '.join(names['cell'])}")
    time.add_argument(
        "--length", type=_size, metavar="N", help=f"time steps (default: {length}; real data have their own)"
    )
    _add_task(time, names)


def _add_cures(parser: Any, names: dict[str, list[str]]) -> None:
    """Add what one network is cured with; the doctor's option of that name says what it tries."""
    cures = parser.add_argument_group("cures")
    cures.add_argument(
        "--cures", dest="mitigation", type=_together, metavar="NAME",
        help="what the network is cured with (mitigation): a cure, a+b for several in that order, name:value "
        f"for a parameter; known: {', '.join(names['cure'])}",
    )  # fmt: skip


def _add_input(data: Any) -> None:
    data.add_argument(
        "--input", choices=("digits", "random"),
        help="digits (the default): real images (needs scikit-learn); random: standard normal noise, random "
        "classes",
    )  # fmt: skip


def _add_doctor(commands: Any, names: dict[str, list[str]]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="one network: its illness, cures tried on it and ranked",
        description=DOCTOR,
        epilog=DOCTOR_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_network(parser, names, DOCTOR_LENGTH)
    data = parser.add_argument_group("the data")
    _add_input(data)
    data.add_argument(
        "--batch", type=_size, metavar="N",
        help="samples (default: all 1,797 digits, 512 random ones, 256 sequences of a task)",
    )  # fmt: skip
    trials = parser.add_argument_group("the trials")
    trials.add_argument(
        "--cures", type=_listed(str), metavar="NAME,...",
        help="cures to try instead of all; a+b for both together, name:value for a parameter; known: "
        + ", ".join(names["cure"]),
    )  # fmt: skip
    trials.add_argument(
        "--steps", type=_size, default=40, metavar="N",
        help="training steps of each cure at each learning rate (default: %(default)s)",
    )  # fmt: skip
    trials.add_argument(
        "--budget", default="60s", metavar="TIME", help="no trial begins later (default: %(default)s)"
    )
    trials.add_argument("--no-pairs", action="store_true", help="do not try the best cures in pairs")
    out = parser.add_argument_group("what to keep")
    out.add_argument("--plot", metavar="FILE", help="draw the losses reached (.png, .svg, .pdf)")
    _add_common(parser)
    parser.set_defaults(run="doctor")


def _add_check(commands: Any, names: dict[str, list[str]]) -> None:
    parser = commands.add_parser(
        "check",
        help="gradients against differences: activations, cells, a network",
        description=CHECK,
        epilog=CHECK_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parts = parser.add_argument_group("parts of the catalogue")
    for option, kind in (("--activations", "activation"), ("--cells", "cell")):
        parts.add_argument(
            option, type=_listed(str), metavar="NAME,...", help=f'"all", or of: {", ".join(names[kind])}'
        )
    _add_network(parser, names, 12, depth=10)
    _add_cures(parser, names)
    data = parser.add_argument_group("the data")
    _add_input(data)
    data.add_argument("--batch", type=_size, metavar="N", help="samples (default: 4)")
    _add_common(parser)
    parser.set_defaults(run="check", dtype="float64")


def _add_describe(commands: Any) -> None:
    parser = commands.add_parser(
        "describe",
        help="formula, parameters and source of anything in a catalogue",
        description="Print what the catalogues know of a name: an activation, initializer, cell, loss,\n"
        "norm, parametrization, optimizer, clip, constraint or cure. Without a name, print all names.",
        epilog="examples:\n  vgcore describe rezero\n  vgcore describe orthogonal    an initializer, a "
        "constraint and a cure\n  vgcore describe --json\n\n" + EXIT_CODES,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a name or an alias")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run="describe")


def _add_task(group: Any, names: dict[str, list[str]]) -> None:
    group.add_argument(
        "--task", metavar="NAME",
        help=f"what the sequences are (default: {TASK}); known: {', '.join(names['task'])}",
    )  # fmt: skip


def _add_info(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="version, instruction path, threads, peak speed and what training reaches",
        description="Print version, the instruction path in use, threads, this machine's measured peak, and\n"
        "how much of it a step of training reaches.",
        epilog="examples:\n  vgcore info\n  vgcore info --seconds 0 --json     without measuring\n\n"
        + EXIT_CODES,
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


def _together(text: str) -> str:
    if "," in text:
        raise argparse.ArgumentTypeError(
            f'expected the cures of one network, joined by "+" in the order in which they apply, got {text!r}'
        )
    return text


def _assignment(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name.strip().replace("-", "_"), [read_plain(part.strip()) for part in values.split(",")]


def _name(text: str) -> str | None:
    """Return a name; none stands for the default, as in Python."""
    return None if text.lower() in ("none", "null") else text


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
        args, unknown = parser.parse_known_args(argv)
    except SystemExit as stop:  # argparse has printed help, the version or an error
        return stop.code if isinstance(stop.code, int) else USAGE
    if unknown:
        return _fail(args.run, _unknown(unknown[0], _options(parser, args.command)), USAGE)
    from . import _cli_check, _cli_commands

    module = _cli_check if args.run in _cli_check.__all__ else _cli_commands
    command: Callable[[argparse.Namespace], int] = getattr(module, args.run)
    try:
        return command(args)
    except WRONG_USAGE as error:
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


def _options(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Return the long options of a command."""
    (commands,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    options = (option for action in commands[command]._actions for option in action.option_strings)
    return [option for option in options if option.startswith("--")]


def _unknown(text: str, known: Sequence[str]) -> UnknownNameError:
    """Return the error for what argparse could make nothing of."""
    if not text.startswith("-"):
        return UnknownNameError(f"unexpected argument {text!r}; every value follows an option")
    guess = nearest(text.partition("=")[0], known)
    return UnknownNameError(f"unknown option {text!r}" + (f"; did you mean {guess!r}?" if guess else ""))


def _fail(command: str, error: BaseException, code: int) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    hint = f" (see vgcore {command} --help)" if code == USAGE else ""
    print(f"vgcore {command}: error: {text}{hint}", file=sys.stderr)
    return code
