"""Development tasks, one command each: ``nox`` is the loop of a working day, ``nox -s ci`` everything.

Knows which tools to run; what they check is set in pyproject.toml and Cargo.toml.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["dev"]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "venv"

TOOLS = ("-c", ".ci/constraints.txt", "ruff", "mypy")


@nox.session
def dev(session: nox.Session) -> None:
    """Build the core into an environment of its own, in place, and run the tests: nox -- -x -k probe."""
    session.install("-q", "maturin>=1.14,<2")
    session.run("maturin", "develop", "--release", "--extras", "test", "--quiet")
    session.run("pytest", "-q", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Format and check Python and Rust; needs no build."""
    session.install("-q", *TOOLS, "numpy", "hypothesis")
    session.run("ruff", "format", ".")
    session.run("ruff", "check", "--fix", ".")
    session.run("mypy")
    session.run("cargo", "fmt", external=True)
    for features in ([], ["--no-default-features"]):
        session.run("cargo", "clippy", "--all-targets", *features, "--", "-D", "warnings", external=True)


@nox.session
def rust(session: nox.Session) -> None:
    """Run the tests of the core alone, without Python."""
    session.run("cargo", "test", "--no-default-features", *session.posargs, external=True)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the test that builds a copy of the core with one more activation."""
    session.install("-q", ".[test]")
    session.run("pytest", "-q", "tests/test_dummy_activation.py", env={"VGCORE_SLOW": "1"})


@nox.session
def readme(session: nox.Session) -> None:
    """Make README's pictures and outputs anew."""
    session.install("-q", ".[study]")
    session.run("python", "scripts/make_readme_picture.py")
    session.run("python", "scripts/make_time_picture.py")
    session.run("python", "scripts/make_readme_outputs.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against what else is installed: nox -s bench -- --help, nox -s bench -- recurrent --help."""
    session.install("-q", ".")
    which, *rest = session.posargs or ["peers"]
    script, rest = (which, rest) if which in ("peers", "recurrent") else ("peers", session.posargs)
    session.run("python", f"benches/{script}.py", *rest)


@nox.session(venv_backend="none")
def ci(session: nox.Session) -> None:
    """Run all checks as the repository does."""
    session.run("bash", ".ci/run", external=True)
