"""Makes docs/images/gradient_norms.png, the picture at the top of README.md.

Knows vgcore as a user does: four networks of 1,000 layers on real images, one probe each, all norms on one
Axes. Run it as ``python scripts/make_readme_picture.py`` where ``pip install ".[study]"`` has been run.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import vgcore as vg
from matplotlib.figure import Figure

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "gradient_norms.png"
NETWORKS = {
    "ReLU, He": {"activation": "relu", "init": "he_normal"},
    "tanh, orthogonal": {"activation": "tanh", "init": "orthogonal"},
    r"tanh, uniform $\pm 1/\sqrt{n}$": {"activation": "tanh", "init": "standard"},
    "sigmoid, Glorot": {"activation": "sigmoid", "init": "glorot_normal"},
}
# Smallest numbers above zero, log10: below them nothing but 0.0 is left.
FLOAT32, FLOAT64 = -44.85, -323.31


def main() -> None:
    """Probe the networks and write the picture."""
    x, y = vg.datasets.digits()
    curves = {}
    for label, kind in NETWORKS.items():
        net = vg.mlp(depth=1000, width=64, in_features=64, out_features=10, rng=0, **kind)
        flow = net.probe(x, y, loss="cross_entropy", stats="norms")
        curves[label] = (np.arange(flow.steps), flow.log10_grad_norm)
        print(f"{label:<18} first layer 1e{flow.log10_grad_norm[0]:+.1f}")

    matplotlib.rcParams["font.size"] = 11
    figure = Figure(figsize=(9.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    title = "Gradients of 1,000 layers on 1,797 real images, one backward pass each"
    vg.plotting.plot_curves(curves, axes, formats=(), title=title)
    axes.set_yscale("linear")
    axes.set_yticks(
        range(-600, 1, 100), [f"$10^{{{tick}}}$" if tick else "1" for tick in range(-600, 1, 100)]
    )
    axes.set_ylim(-660, 30)
    axes.set_xlim(-10, 1011)
    axes.set_xlabel("layer, 0 = nearest the input")
    axes.axhspan(-660, FLOAT64, color="#B22222", alpha=0.10, linewidth=0)
    axes.axhspan(FLOAT64, FLOAT32, color="#E69F00", alpha=0.10, linewidth=0)
    note = {"fontsize": 10, "color": "#444444", "va": "top"}
    axes.text(5, FLOAT32 - 6, "float32 ends at 1.4e-45: below it frameworks print 0.0", ha="left", **note)
    axes.text(1000, FLOAT64 - 6, "float64 ends at 4.9e-324: below it, 0.0 there too", ha="right", **note)
    axes.legend(loc="lower right", fontsize=10, framealpha=1.0, handlelength=3.0)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, dpi=110, metadata={"Software": None})
    print(f"wrote {TARGET.name}, {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
