"""One file and one line of the table make an activation: names, docs, help, study axes and property tests.

Copies the sources, adds an activation the way CONTRIBUTING.md says, builds the copy and looks for it in all
those places. Slow (a Rust build), so it runs only with VGCORE_SLOW=1; it needs Rust and pip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAME = "isru_example"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("VGCORE_SLOW") != "1", reason="builds the Rust core anew: set VGCORE_SLOW=1 to run it"
    ),
]

THE_FILE = """\
//! parts: the inverse square root unit, an example. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `x / sqrt(1 + x^2)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IsruExample;

impl Pointwise for IsruExample {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let r = V::c(1.0).div(x.fma(x, V::c(1.0)).sqrt());
        (x.mul(r), r.mul(r).mul(r))
    }
}

impl Activation for IsruExample {
    const INFO: Info = Info {
        name: "isru_example",
        aliases: &["example_of_isru"],
        formula: "x / sqrt(1 + x^2)",
        derivative: "1 / (1 + x^2)^(3/2)",
        summary: "Squashes to (-1, 1).",
        reference: "Carlile et al. 2017, arXiv 1710.09967",
        saturates: true,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }
}
"""
TABLE = "\ncatalogue! {\n"
THE_LINE = "    isru_example::IsruExample,\n"

# What a user of the copy sees; every line stands for one promise.
LOOK = """
import numpy as np, vgcore as vg
from hypothesis import find

name = "isru_example"
assert vg.__file__.startswith(SITE), vg.__file__
assert name in vg.activations.names()
assert "1 / (1 + x^2)^(3/2)" in str(vg.activations.describe("Example-of-ISRU"))
x = np.linspace(-9, 9, 101)
np.testing.assert_allclose(vg.activations.isru_example(x), x / np.sqrt(1 + x * x), rtol=1e-14)
try:
    vg.activations.describe("isru_exampel")
except vg.UnknownNameError as error:
    assert name in str(error)

study = vg.Study(depth=[3, 9], width=8, activation=[name, "tanh"])
result = study.run(np.ones((4, 8), np.float32), np.zeros(4, np.int64), progress=False)
assert name in result.summary()

find(vg.testing.activations(), lambda layer: layer.function == name)
net = vg.mlp(depth=9, width=4, activation=name, dtype="float64", rng=0)
assert vg.testing.check_gradients(net, np.ones((2, 4)), cotangent=np.ones((2, 4))).worst < 1e-6
print("seen")
"""


def run(*command: str, **env: str) -> str:
    done = subprocess.run(
        command,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sources with one more activation, and the folder its build is installed in."""
    if shutil.which("cargo") is None:
        pytest.skip("no cargo on PATH: install Rust to build the copy")
    source = tmp_path_factory.mktemp("copy")
    junk = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", ".hypothesis", ".*_cache")
    for name in ("src", "python", "tests", "benches", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=junk)
    for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"):
        shutil.copy(ROOT / name, source / name)
    folder = source / "src" / "parts" / "activation"
    (folder / f"{NAME}.rs").write_text(THE_FILE)
    table = (folder / "mod.rs").read_text()
    assert table.count(TABLE) == 1
    (folder / "mod.rs").write_text(table.replace(TABLE, TABLE + THE_LINE))
    site = source / "site"
    # The profile for development: whole-program optimisation would take as long again and shows nothing more.
    build = ("-m", "pip", "install", "--no-deps", "--target", str(site), "-C", "build-args=--profile=dev")
    # Compiled apart, so that cargo cannot take one tree's artefacts for the other's.
    run(sys.executable, *build, str(source), CARGO_TARGET_DIR=str(source / "target"))
    return source, site


def test_it_is_in_names_docs_study_and_strategies(copy: tuple[Path, Path]) -> None:
    _, site = copy
    assert run(sys.executable, "-c", f"SITE = {str(site)!r}\n{LOOK}", PYTHONPATH=str(site)).strip() == "seen"


@pytest.mark.parametrize("command", ["study", "probe"])
def test_the_command_line_offers_it(copy: tuple[Path, Path], command: str) -> None:
    _, site = copy
    assert NAME in run(sys.executable, "-m", "vgcore", command, "--help", PYTHONPATH=str(site))


def test_the_property_tests_take_it_up(copy: tuple[Path, Path]) -> None:
    """The suite's own tests, those that a catalogue's names are fed to, run for it and pass."""
    source, site = copy
    shown = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NAME, str(source / "tests"),
        PYTHONPATH=str(site), VGCORE_SLOW="0",
    )  # fmt: skip
    assert " passed" in shown, shown
