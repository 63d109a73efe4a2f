"""Tests of docs/theory.md: its code prints what it says, and its tables name all that vg.theory has."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import vgcore as vg
from vgcore import theory
from vgcore.layers import Layer

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "theory.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|text)\n(.*?)```", PAGE, flags=re.S)


def test_the_code_prints_what_it_says() -> None:
    names: dict[str, object] = {}
    pairs = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))
    assert len(pairs) == 3
    for (kind, code), (other, printed) in pairs:
        assert (kind, other) == ("python", "text")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert out.getvalue() == printed


def test_every_function_is_named() -> None:
    functions = [name for name in theory.__all__ if name[0].islower()]
    rare = "chi_1 chi_q length_map depth_scale scalar_recurrence largest_slope lyapunov_spectrum weight_law"
    rare += " alive_probability relu_fourth_moment stochastic_depth_blocks"
    missing = [name for name in functions if name not in rare.split() and f"`{name}" not in PAGE]
    assert not missing, f"docs/theory.md does not name {missing}"


def test_the_layers_that_predict_knows_are_named_and_known() -> None:
    wide = [vg.Dense(8), vg.Activation("tanh")]
    known = [
        *wide, vg.Residual(wide), vg.Highway(wide), vg.Concat(wide), vg.Repeat(wide, 3), vg.Dropout(0.1),
        vg.BatchNorm(), vg.LayerNorm(), vg.RMSNorm(), vg.GroupNorm(2),
    ]  # fmt: skip
    for layer in known:
        assert theory.predict_layers([*wide, layer, *wide], 8, batch=32).steps > 1
    made = vg.Dense(8, parametrization="weight_norm")
    assert theory.predict_layers([made, vg.Activation("tanh"), *wide], 8).steps == 2
    sentence = re.search(r"It\s+knows Dense.*?refused", PAGE, flags=re.S)
    assert sentence is not None
    for name in {type(layer).__name__ for layer in known} | {"parametrization", "recurrent"}:
        assert name in sentence[0], f"docs/theory.md does not say that predict knows {name}"
    # There is no other kind of layer.
    kinds = {one for one in vars(vg).values() if isinstance(one, type) and issubclass(one, Layer)}
    named = {type(layer) for layer in known} | {vg.Recurrent}
    assert {one.__name__ for one in kinds - named} == {"Layer"}


def test_every_file_of_the_theory_has_its_place_on_the_map() -> None:
    # The package under test may be an installed one: the map lies beside the tests.
    root = Path(theory.__file__).parent
    page = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| `theory/`"))
    assert [path.name for path in root.glob("*.py") if f"`{path.name}`" not in row] == ["__init__.py"]


def test_the_page_names_nothing_that_is_not_there() -> None:
    called = set(re.findall(r"vg\.theory\.(\w+)", PAGE))
    assert called
    assert all(hasattr(theory, name) for name in called)
