"""Tests of the borders between layers: what each source file may name, how long it may be, how it begins.

Reads the sources as text; runs nothing of them. The map these tests guard is in ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUST, PACKAGE = ROOT / "src", ROOT / "python" / "vgcore"

# From the top down: each may name itself and what is to its right. `error` is one file beside the folders.
ORDER = ("py", "engine", "parts", "error", "kernels", "num")
# Foreign function interfaces, vectors and memory live here, each unsafe block with its reason.
MAY_BE_UNSAFE = {"kernels", "num"}
MOST_LINES = 500
# Optional packages: imported where they are used, so that NumPy alone is enough to import vgcore.
OPTIONAL = {
    "hypothesis",
    "matplotlib",
    "mlxtend",
    "pandas",
    "pyarrow",
    "pyts",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorboard",
    "tensorboardX",
    "torch",
    "tqdm",
    "wandb",
}

RUST_FILES = sorted(RUST.rglob("*.rs"))
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
OTHER_FILES = sorted(
    path
    for folder in ("tests", "scripts", "benches", "demos")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".rs", ".py"}
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def layer_of(path: Path) -> str:
    """Return the folder under src, or the file's own name for the files beside the folders."""
    return path.relative_to(RUST).parts[0].removesuffix(".rs")


def code_of(path: Path) -> str:
    """Return a Rust file without its comments."""
    return re.sub(r"//.*", "", path.read_text(encoding="utf-8"))


def test_the_sources_are_here() -> None:
    assert {layer_of(path) for path in RUST_FILES} == {*ORDER, "lib"}
    assert len(PYTHON_FILES) > 10


@pytest.mark.parametrize("path", RUST_FILES, ids=name_of)
def test_a_layer_names_only_those_below_it(path: Path) -> None:
    layer, code = layer_of(path), code_of(path)
    if layer == "lib":
        return
    named = set(re.findall(r"\bcrate::(\w+)", code))
    for group in re.findall(r"\bcrate::\{([^}]*)", code):
        named |= set(re.findall(r"(?:^|,)\s*(\w+)", group))
    allowed = set(ORDER[ORDER.index(layer) :])
    assert named <= allowed, f"{name_of(path)} names {sorted(named - allowed)}, which are above {layer}"
    # `super` may not climb out of the layer either: a file at depth d is d modules below the crate.s root.
    # An inline module (tests) adds one.
    depth = len(path.relative_to(RUST).with_suffix("").parts) - (path.stem == "mod")
    climbs = [hops.count("super") for hops in re.findall(r"(?:\bsuper::)+", code)]
    inline = len(re.findall(r"^\s*mod \w+ \{", code, flags=re.M)) > 0
    assert max(climbs, default=0) <= depth - 1 + inline, f"{name_of(path)} climbs out of {layer} with super::"


@pytest.mark.parametrize("path", RUST_FILES, ids=name_of)
def test_only_the_seam_knows_python(path: Path) -> None:
    if layer_of(path) != "py":
        assert "pyo3" not in code_of(path), f"{name_of(path)} names pyo3; only src/py may"


@pytest.mark.parametrize("path", RUST_FILES, ids=name_of)
def test_unsafe_code_is_in_the_lowest_layers_alone(path: Path) -> None:
    if layer_of(path) not in MAY_BE_UNSAFE:
        assert not re.search(r"\bunsafe\b", code_of(path)), f"{name_of(path)} uses unsafe"


@pytest.mark.parametrize(
    "path", [*RUST_FILES, *PYTHON_FILES, *OTHER_FILES, PACKAGE / "_core.pyi"], ids=name_of
)
def test_no_file_is_too_long_to_read(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines, more than {MOST_LINES}: split it"


@pytest.mark.parametrize("path", RUST_FILES, ids=name_of)
def test_a_rust_file_begins_with_its_layer_and_purpose(path: Path) -> None:
    layer, first = layer_of(path), path.read_text(encoding="utf-8").split("\n", 1)[0]
    start = "//! " if layer in {"lib", "error"} else f"//! {layer}: "
    assert first.startswith(start), f"{name_of(path)} begins {first!r}; expected {start!r} and its purpose"
    assert len(first) > len(start) + 10


def test_one_file_reads_the_fields_of_a_layer() -> None:
    copies = [
        name_of(p)
        for p in PYTHON_FILES
        if "getattr(layer, f.name) for f in fields(layer)}" in p.read_text("utf-8")
    ]
    assert copies == ["python/vgcore/_layer_values.py"]


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_a_python_file_begins_with_its_layer_and_purpose(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    start = '"""vgcore: ' if path == PACKAGE / "__init__.py" else '"""Layer: '
    assert text.startswith(start), f"{name_of(path)} begins {text[:40]!r}; expected {start!r} and its purpose"


@pytest.mark.parametrize("path", [p for p in OTHER_FILES if p.suffix == ".py"], ids=name_of)
def test_tests_and_scripts_say_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{name_of(path)} has no docstring"


def module_level(nodes: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements that run on import: not those of functions, nor those for type checkers."""
    found: list[ast.stmt] = []
    for node in nodes:
        if isinstance(node, ast.If):
            checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            found += module_level(node.orelse if checking else [*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            inner = [*node.body, *(s for h in node.handlers for s in h.body), *node.orelse, *node.finalbody]
            found += module_level(inner)
        elif isinstance(node, (ast.With, ast.For, ast.While, ast.ClassDef)):
            found += module_level(node.body)
        else:
            found.append(node)
    return found


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """Return (modules of the package, top-level names of others) that a file imports when it is imported."""
    modules = {p.stem for p in PYTHON_FILES}
    inside: set[str] = set()
    outside: set[str] = set()
    for node in module_level(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):  # from . import a, b: modules, or names of __init__
            inside |= {
                alias.name if alias.name in {*modules, "_core"} else "__init__" for alias in node.names
            }
    return inside - {"_core"}, outside


def test_python_modules_do_not_import_in_circles() -> None:
    graph = {path.stem: imports_of(path)[0] for path in PYTHON_FILES}
    assert graph["_running"] | graph["_built"] > {"layers", "flow"}, "the reader of imports sees too little"
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")
    assert order.index("errors") < order.index("layers") < order.index("network")


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_optional_packages_are_imported_where_they_are_used(path: Path) -> None:
    # Both are themselves loaded on first use: _strategies by testing.py, sklearn by vg.sklearn.
    allowed = {"_strategies": {"hypothesis"}, "sklearn": {"sklearn"}}.get(path.stem, set())
    assert imports_of(path)[1] & OPTIONAL <= allowed, (
        f"{name_of(path)} imports an optional package at its top"
    )


def test_importing_vgcore_loads_numpy_alone() -> None:
    code = f"import sys, vgcore; print(sorted({OPTIONAL!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
