"""Tests of the examples in docstrings: every one runs and prints what it shows."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import vgcore

# __main__ would run the command line.
MODULES = [
    "vgcore",
    *(m.name for m in pkgutil.walk_packages(vgcore.__path__, "vgcore.") if not m.name.endswith("__main__")),
]


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [case for name in MODULES for case in finder.find(importlib.import_module(name))]
    return sorted((case for case in found if case.examples), key=lambda case: case.name)


CASES = examples()


def test_there_are_examples() -> None:
    assert len(CASES) > 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_example_prints_what_it_shows(case: doctest.DocTest) -> None:
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed, _ = runner.run(case, out=printed.append)
    assert not failed, "".join(printed)


def test_what_users_import_has_an_example() -> None:
    """Errors and sub-modules aside: whoever looks up a public name finds a line to copy."""
    named = [getattr(vgcore, name) for name in vgcore.__all__ if not name.startswith("__")]
    shown = {case.name for case in CASES}
    lacking = [
        f"{thing.__module__}.{thing.__qualname__}"
        for thing in named
        if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception))
    ]
    # A class shows it in its own docstring or in a method's; base classes and results lead to their makers.
    results = {"vgcore.layers.Layer", "vgcore.diagnosis.Diagnosis", "vgcore.stats.Stats"}
    results |= {"vgcore._study_result.StudyResult"}
    missing = [
        n for n in lacking if n not in results and not any(s == n or s.startswith(n + ".") for s in shown)
    ]
    assert not missing, f"no example in the docstrings of {missing}"
