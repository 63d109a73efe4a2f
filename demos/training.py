"""Training that fails and training that works: cures on real data, each with its curve and its seed.

    python demos/training.py                       all of it, some minutes on two cores
    python demos/training.py --only rezero-1000    one, or several: --only lstm,gru,tanh-rnn
    python demos/training.py --quick               smaller and shorter: whether it runs; proves nothing

Writes a picture for each training, `table.md` and `results.json` into ./vgcore-demos (or --out). Test figures
are those of samples that neither trained the network nor decided when to stop: a third set, looked at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import vgcore as vg

SEED = 0
#: Accuracy on the validation set at which a training may stop; the goal, on the test set, is 0.9.
ENOUGH = 0.94
#: The best constant answer to the adding problem errs by the variance of a sum of two uniform numbers.
GUESS = 1 / 6


@dataclass(frozen=True)
class Data:
    """Samples for training, for deciding when to stop, and for the verdict."""

    train: tuple[Any, Any]
    stop: tuple[Any, Any]
    test: tuple[Any, Any]


@dataclass(frozen=True)
class Demo:
    """One training: what is built, how it is trained, what is expected of it."""

    name: str
    title: str
    data: str
    build: Callable[[int, bool], vg.Network]
    fit: dict[str, Any]
    """Optimizer, batch and clipping."""
    epochs: int
    expect: str
    """"learns": above 0.9, or an error below 0.01; "fails": does not; "shown": whatever comes."""
    before: Callable[[vg.Network, Data, int, int], vg.Network] | None = field(default=None)
    """What is done to the network before it is trained as a whole."""


# --- data --------------------------------------------------------------------------------------------


def split(x: Any, y: Any, shares: tuple[float, float] = (0.6, 0.2)) -> Data:
    """Return x and y in three parts, at random from a fixed seed."""
    order = np.random.default_rng(SEED).permutation(len(x))
    first, second = (int(len(x) * part) for part in (shares[0], sum(shares)))
    parts = [(x[rows], y[rows]) for rows in (order[:first], order[first:second], order[second:])]
    return Data(*parts)


def digits(quick: bool) -> Data:
    """Return the 1,797 digits, 8 x 8 pixels at once."""
    return split(*vg.datasets.digits())


def pixels(quick: bool) -> Data:
    """Return the same, one pixel after the other: 64 steps."""
    return split(*vg.datasets.digits_pixels())


def adding(quick: bool) -> Data:
    """Return the adding problem over 200 steps: three sets from three seeds."""
    steps, count = (40, 2_000) if quick else (200, 20_000)
    return Data(*(vg.datasets.adding(n, steps, rng=seed) for n, seed in ((count, 1), (1_000, 2), (2_000, 3))))


DATA = {"digits": digits, "pixels": pixels, "adding": adding}


# --- networks ----------------------------------------------------------------------------------------


def deep(depth: int, **options: Any) -> Callable[[int, bool], vg.Network]:
    """Return a maker of networks of `depth` steps of width 64 for the digits."""

    def build(seed: int, quick: bool) -> vg.Network:
        steps = max(2, depth // 10) if quick and depth > 20 else depth
        return vg.mlp(steps, 64, in_features=64, out_features=10, rng=seed, **options)

    return build


def highway(depth: int, transform_bias: float) -> Callable[[int, bool], vg.Network]:
    """Return a maker of highway networks, whose gates start nearly closed."""

    def build(seed: int, quick: bool) -> vg.Network:
        step = vg.Highway(activation="tanh", transform_bias=transform_bias, name="")
        steps = depth // 10 if quick else depth
        return vg.Network(64, [vg.Dense(64), vg.Repeat(step, steps, name="hidden"), vg.Dense(10)], rng=seed)

    return build


def recurrent(
    cell: str, hidden: int, features: int, outputs: int, **options: Any
) -> Callable[..., vg.Network]:
    """Return a maker of recurrent networks that answer at the end."""

    def build(seed: int, quick: bool) -> vg.Network:
        return vg.rnn(cell, hidden, in_features=features, out_features=outputs, rng=seed, **options)

    return build


def pretrained(net: vg.Network, data: Data, epochs: int, seed: int) -> vg.Network:
    """Return the network with its layers pretrained, one by one, without labels."""
    made = vg.pretraining.autoencoders(
        net, data.train[0], epochs=epochs, corruption=0.1, optimizer=vg.Adam(0.003), batch_size=32, rng=seed
    )
    print(made)
    return made.network


def momentum(lr: float) -> dict[str, Any]:
    """SGD with momentum, as `fit` takes it."""
    return {"optimizer": vg.SGD(lr, momentum=0.9), "batch_size": 32}


def adam(lr: float, batch: int = 32, clip: Any = None) -> dict[str, Any]:
    """Adam, as `fit` takes it."""
    return {"optimizer": vg.Adam(lr), "batch_size": batch, "clip": clip}


SIGMOID = {"activation": "sigmoid", "init": "glorot_normal"}
IRNN = {"activation": "relu", "recurrent_init": "identity", "bias_init": "zeros"}
ONE = vg.ClipNorm(1.0)
#: Epochs of the adding problem, the same for all: 313 steps each.
BUDGET = 10

DEMOS = [
    Demo(
        "sigmoid-50", "50 sigmoid layers", "digits",
        deep(50, **SIGMOID), momentum(0.1), 60, "fails",
    ),
    Demo(
        "relu-20", "20 relu layers, He", "digits",
        deep(20, init="he_normal"), momentum(0.003), 60, "learns",
    ),
    Demo(
        "rezero-1000", "1,000 layers, ReZero", "digits",
        deep(1000, skip="rezero"), adam(3e-4), 20, "learns",
    ),
    Demo(
        "pre-norm-500", "500 residual blocks, LayerNorm first", "digits",
        deep(500, skip="pre_activation", norm="layer"), momentum(0.001), 40, "learns",
    ),
    Demo(
        "highway-100", "100 highway layers", "digits",
        highway(100, -4.0), momentum(0.02), 60, "learns",
    ),
    Demo(
        "batch-norm-20", "20 relu layers, batch norm", "digits",
        deep(20, norm="batch"), momentum(0.01), 40, "learns",
    ),
    Demo(
        "batch-norm-100", "100 relu layers, batch norm", "digits",
        deep(100, norm="batch"), momentum(0.01), 40, "shown",
    ),
    Demo(
        "orthogonal-200", "200 tanh layers, orthogonal", "digits",
        deep(200, activation="tanh", init="orthogonal"), momentum(0.001), 40, "learns",
    ),
    Demo(
        "sigmoid-8", "8 sigmoid layers", "digits",
        deep(8, **SIGMOID), momentum(0.1), 60, "fails",
    ),
    Demo(
        "pretrained-8", "8 sigmoid layers, pretrained", "digits",
        deep(8, **SIGMOID), momentum(0.1), 60, "learns", before=pretrained,
    ),
    Demo(
        "tanh-rnn", "tanh rnn, as PyTorch starts it", "adding",
        recurrent("rnn", 64, 2, 1), adam(0.001, 64, ONE), BUDGET, "fails",
    ),
    Demo(
        "lstm", "lstm, gates by chrono", "adding",
        recurrent("lstm", 64, 2, 1, chrono=200), adam(0.005, 64, ONE), BUDGET, "learns",
    ),
    Demo(
        "gru", "gru", "adding",
        recurrent("gru", 64, 2, 1), adam(0.005, 64, ONE), BUDGET, "learns",
    ),
    Demo(
        "irnn", "relu rnn from the identity, clipped", "adding",
        recurrent("rnn", 64, 2, 1, **IRNN), adam(0.001, 64, ONE), BUDGET, "learns",
    ),
    Demo(
        "pixels", "lstm, a pixel a step, gates by chrono", "pixels",
        recurrent("lstm", 64, 1, 10, chrono=64), adam(0.005, 32, ONE), 60, "learns",
    ),
]  # fmt: skip


# --- running -----------------------------------------------------------------------------------------


def figure(net: vg.Network, samples: tuple[Any, Any], kind: str) -> float:
    """Return accuracy, or for the adding problem the mean squared error."""
    x, y = samples
    if kind == "adding":
        return float(
            np.mean([net.loss(x[i : i + 500], y[i : i + 500], "mse") for i in range(0, len(x), 500)])
        )
    return float(net.score(x, y))


def reached(demo: Demo, value: float) -> bool:
    """Whether a figure is what counts as learned."""
    return value < 0.01 if demo.data == "adding" else value > 0.9


def until_learned(demo: Demo) -> Callable[[Any], None]:
    """Return a callback that ends training when the validation set is well beyond the goal."""

    def look(end: Any) -> None:
        last = end.history.validation[-1]
        value = last.loss if demo.data == "adding" else last.score
        print(
            f"  epoch {end.epoch + 1:3d}: loss {end.history.loss[-1]:.4g}, validation {value:.4g}", flush=True
        )
        if value < 0.006 if demo.data == "adding" else value > ENOUGH:
            end.stop(f"learned: {value:.4g} on the validation set")

    return look


def run(demo: Demo, data: Data, quick: bool, out: Path, seed: int = SEED) -> dict[str, Any]:
    """Train one network; return and draw what happened."""
    net = demo.build(seed, quick)
    print(f"{demo.name}: {demo.title}\n  {net}", flush=True)
    start = time.perf_counter()
    if demo.before is not None:
        net = demo.before(net, data, 2 if quick else 15, seed)
    prepared = time.perf_counter() - start
    flow = net.probe(
        *(part[:128] for part in data.train), loss="mse" if demo.data == "adding" else "cross_entropy"
    )
    decades = float(flow.log10_grad_norm[0] - flow.log10_grad_norm[-1])
    print(
        f"  before training the gradient norm at the {'first step' if flow.axis == 'time' else 'input'} is ",
        end="",
    )
    print(f"10^{decades:.1f} of that at the output", flush=True)
    history = net.fit(
        *data.train, epochs=min(2, demo.epochs) if quick else demo.epochs, validation=data.stop,
        callbacks=[until_learned(demo)], rng=seed, **demo.fit,
    )  # fmt: skip
    value = figure(net, data.test, demo.data)
    result = {
        "name": demo.name,
        "title": demo.title,
        "data": demo.data,
        "seed": seed,
        "network": repr(net),
        "options": {key: repr(option) for key, option in demo.fit.items()},
        "decades_at_start": decades,
        "epochs": len(history.seconds),
        "steps": len(history.loss),
        "seconds": round(prepared + float(np.sum(history.seconds)), 1),
        "measure": "mean squared error" if demo.data == "adding" else "accuracy",
        "test": value,
        "expected": demo.expect,
        "reached": reached(demo, value),
        "stopped": history.stopped,
        "loss": [float(f"{v:.5g}") for v in history.loss[:: max(1, len(history.loss) // 500)]],
        "validation": [[v.epoch, v.loss, v.score] for v in history.validation],
    }
    draw(demo, history, result, out / f"{demo.name}.png")
    verdict = {"learns": result["reached"], "fails": not result["reached"]}.get(demo.expect, True)
    print(f"  test {result['measure']} {value:.4g} after {result['seconds']} s\n", flush=True)
    return result | {"as_expected": bool(verdict)}


def draw(demo: Demo, history: vg.History, result: dict[str, Any], path: Path) -> None:
    """Draw loss, validation and the gradient flow through training."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(15, 4.2), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    history.plot(left, title="loss")
    entries = history.validation
    error = demo.data == "adding"
    middle.plot([v.epoch + 1 for v in entries], [v.loss if error else v.score for v in entries], marker=".")
    middle.axhline(0.01 if error else 0.9, color="grey", linestyle=":")
    if error:
        middle.axhline(GUESS, color="grey", linewidth=0.8)
        middle.set_yscale("log")
    middle.set_xlabel("epoch")
    middle.xaxis.get_major_locator().set_params(integer=True)
    middle.set_title("validation: " + ("error (1/6 is guessing)" if error else "accuracy (0.1 is guessing)"))
    history.plot_flow(right)
    right.set_title("gradient norm, layer by layer" if history.units.steps.max() >= 0 else "gradient norm")
    canvas.suptitle(f"{demo.title}: test {result['measure']} {result['test']:.4g}, seed {result['seed']}")
    canvas.savefig(path, dpi=100)


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    head = ("training", "data", "gradient at the start", "test", "epochs", "seconds", "expected", "")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for r in results:
        unit = "error" if r["data"] == "adding" else "accuracy"
        mark = "as expected" if r["as_expected"] else "NOT as expected"
        start, test = f"10^{r['decades_at_start']:.1f}", f"{unit} {r['test']:.4g}"
        cells = [r["title"], r["data"], start, test, r["epochs"], r["seconds"], r["expected"], mark]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstrations; 1 when one did not come out as expected."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(demo.name for demo in DEMOS)}")
    parser.add_argument("--quick", action="store_true", help="small and short: whether it runs")
    parser.add_argument("--seed", type=int, default=SEED, help="of weights and order of samples")
    parser.add_argument("--out", type=Path, default=Path("vgcore-demos"), help="folder for what is written")
    given = parser.parse_args(arguments)
    wanted = given.only.split(",") if given.only else [demo.name for demo in DEMOS]
    unknown = set(wanted) - {demo.name for demo in DEMOS}
    if unknown:
        parser.error(f"--only: no demonstration named {', '.join(sorted(unknown))}")
    given.out.mkdir(parents=True, exist_ok=True)
    sets: dict[str, Data] = {}
    results = []
    for demo in (demo for demo in DEMOS if demo.name in wanted):
        if demo.data not in sets:
            sets[demo.data] = DATA[demo.data](given.quick)
        results.append(run(demo, sets[demo.data], given.quick, given.out, given.seed))
        (given.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (given.out / "table.md").write_text(table(results), encoding="utf-8")
    print(table(results))
    return 0 if given.quick or all(r["as_expected"] for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
