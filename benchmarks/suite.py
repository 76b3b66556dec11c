"""What the commands of all suites share: options, errors as one line, progress bars and printed tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kalmanssl.errors import InputError

__all__ = [
    "RESULTS", "Out", "Quiet", "Seeds", "Workers", "cli_errors", "err_console", "make_app", "matches", "print_table",
    "progress_bar", "screen",
]  # fmt: skip

RESULTS = Path(__file__).resolve().parent / "results"

Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Number of seeds; by default that of the preset.")]
Workers = Annotated[int, typer.Option(min=1, help="Number of processes, each with one thread.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; a run that was stopped is resumed.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]

err_console = Console(stderr=True)


def make_app() -> typer.Typer:
    """Return an empty command, with plain tracebacks and without options for shell completion."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def matches(parts: Sequence[str] | None, *names: str) -> bool:
    """Return whether one of the names contains one of the parts, ignoring case; true if no parts are given."""
    return not parts or any(part.lower() in name.lower() for part in parts for name in names)


@contextmanager
def cli_errors(out: Path) -> Iterator[None]:
    """End the command with one line on standard error: code 2 for an `InputError`, 130 after Ctrl-C."""
    try:
        yield
    except InputError as error:
        err_console.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        text = f"stopped; finished rows are in {out}, and the same command continues from there"
        err_console.print(text, markup=False, soft_wrap=True)
        raise typer.Exit(130) from None


def progress_bar(quiet: bool) -> Progress:
    """Return a progress bar on standard error; a quiet one is not shown."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=err_console, disable=quiet)


def screen() -> Console:
    """Return the console for results; output into a pipe has no width of its own and is given 170 columns."""
    return Console() if Console().is_terminal else Console(width=170)


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print a table of text whose first line is its heading; nothing if there are no other lines."""
    if len(lines) > 1:
        table = Table(*lines[0])
        for line in lines[1:]:
            table.add_row(*line)
        screen().print(table)
