"""Makes docs/images/gradients_in_time.png, the picture of recurrent networks in README.md.

Knows vgcore as a user does: LSTM, GRU and a plain recurrent network on the adding problem at 1,000 steps, one
probe each, the gradient at every step on one Axes. Run it as ``python scripts/make_time_picture.py``
where ``pip install ".[plot]"`` has been run.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import vgcore as vg
from matplotlib.figure import Figure

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "gradients_in_time.png"
STEPS, HIDDEN, BATCH = 1000, 128, 32
NETWORKS = {
    "LSTM, chrono start (T = 1,000)": {"cell": "lstm", "chrono": STEPS},
    "GRU": {"cell": "gru"},
    "LSTM": {"cell": "lstm"},
    "plain rnn (tanh)": {"cell": "rnn"},
}
# Smallest number of float32 above zero, log10: below it nothing but 0.0 is left.
FLOAT32 = -44.85


def main() -> None:
    """Probe the networks and write the picture."""
    x, y = vg.datasets.adding(BATCH, STEPS, rng=0)
    curves = {}
    for label, kind in NETWORKS.items():
        net = vg.rnn(hidden_size=HIDDEN, in_features=2, out_features=1, rng=0, **kind)
        flow = net.probe(x, y, loss="mse", stats="norms")
        curves[label] = (np.arange(flow.steps), flow.log10_grad_norm)
        print(f"{label:<32} step 0: 1e{flow.log10_grad_norm[0]:+.1f}")

    matplotlib.rcParams["font.size"] = 11
    figure = Figure(figsize=(9.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    title = "Gradients through 1,000 time steps of the adding problem, one backward pass each"
    vg.plotting.plot_curves(curves, axes, formats=(), title=title)
    lowest = min(float(curve.min()) for _, curve in curves.values())
    bottom = 50 * np.floor(lowest / 50) - 10
    axes.set_yscale("linear")
    ticks = range(int(np.ceil(bottom / 50)) * 50, 1, 50)
    axes.set_yticks(list(ticks), [f"$10^{{{tick}}}$" if tick else "1" for tick in ticks])
    axes.set_ylim(bottom, 15)
    axes.set_xlim(-10, STEPS + 10)
    axes.set_xlabel("time step t; the loss reads the last one")
    axes.set_ylabel(r"$\|\partial L / \partial h_t\|$")
    axes.axhspan(bottom, FLOAT32, color="#E69F00", alpha=0.10, linewidth=0)
    note = {"fontsize": 10, "color": "#444444", "va": "top"}
    axes.text(5, FLOAT32 - 2, "float32 ends at 1.4e-45: below it frameworks print 0.0", ha="left", **note)
    axes.legend(loc="lower right", fontsize=10, framealpha=1.0, handlelength=3.0)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, dpi=110, metadata={"Software": None})
    print(f"wrote {TARGET.name}, {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
