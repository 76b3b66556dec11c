"""Functions that run commands of the command line in tests, and arguments of a small fit."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from kalmanssl.cli import app

ZONES = ("--end-zones", "0.15", "1.45")
SMALL = ("--latent-dim", "4", "--state-dim", "8", "--decoder", "linear")
UNTIL = 3780.0


def invoke(*arguments):
    """Run a command in this process and return its exit code and output."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def fails(*arguments, code=2):
    """Run a command that must fail, check that it prints one line on standard error only, and return that line."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("note:", "Recording("))]
    errors = [line for line in lines if line.startswith("error: ")]
    assert lines[-1:] == errors, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return errors[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder, by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def fails_after_training(*arguments, code=2):
    """Run a fit that must fail after training has started, and return the last line on standard error."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last
