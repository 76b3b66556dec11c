"""Everything that is to be measured, and kept as it comes: times cell by cell, then accuracy method by method."""

from __future__ import annotations

from kept import Row
from suite import err_console, progress_bar

from kalmanssl.errors import InputError

from .folder import Folder, key_of
from .methods import METHODS, OURS
from .presets import PRESETS
from .problems import Cell
from .rounds import Crew, FailedError, row_of, time_cell

__all__ = ["core_rates", "measure_all"]

ACCURACY_LIMIT_S = 900.0


def measure_all(
    folder: Folder, todo: list[tuple[Cell, list[str]]], checked: list[str], preset: str, repeats: int, quiet: bool
) -> list[Row]:
    """Measure what is not done yet; return what the core could do before and after.

    Ours is timed beside whatever is, so that all ratios are of the same rounds.
    """
    with Crew(PRESETS[preset].limit_s) as crew:
        before = core_rates(crew)
        with progress_bar(quiet) as bar:
            task = bar.add_task("", total=len(todo) + len(checked))
            for cell, methods in todo:
                lacking = _lacking(folder, cell, methods)
                if lacking:

                    def say(what: str, cell: Cell = cell) -> None:
                        bar.update(task, description=f"{cell}: {what}")

                    rows = time_cell(crew, dict.fromkeys([OURS, *lacking]), cell, repeats, say)
                    folder.add(rows)
                    if not quiet:
                        err_console.print(f"{cell}: {_in_words(rows)}", markup=False, highlight=False)
                bar.advance(task)
            for name in checked:
                bar.update(task, description=f"accuracy: {name}")
                if METHODS[name].missing is None and folder.lacks((name, "ordinary", "varying")):
                    folder.add(_check(crew, name, preset))
                bar.advance(task)
        return [before, core_rates(crew)]


def core_rates(crew: Crew) -> Row:
    """What the core can do now, floating-point operations per second."""
    try:
        return crew.ask(OURS, do="rates")
    except FailedError as error:
        raise InputError(f"the benchmark's own process does not work: {error}") from None


def _lacking(folder: Folder, cell: Cell, methods: list[str]) -> list[str]:
    """Methods that are still to be timed; of those that cannot be, a row says why."""
    lacking = []
    for name in methods:
        row = row_of(name, cell)
        reason = METHODS[name].unfit(*cell)
        if METHODS[name].missing:
            folder.add([row | {"failed": METHODS[name].missing}])
        elif reason:
            folder.add([row | {"skipped": reason}])
        elif folder.lacks(key_of(row)):
            lacking.append(name)
    return lacking


def _in_words(rows: list[Row]) -> str:
    """CPU seconds of each method in a line."""
    return ", ".join(
        f"{row['method']} {1000 * row['cpu_s']:.3g} ms"
        if "cpu_s" in row
        else f"{row['method']} not ({row.get('skipped', row.get('failed'))})"
        for row in rows
    )


def _check(crew: Crew, method: str, preset: str) -> list[Row]:
    """Accuracy of a method; a row that says why if its process fails."""
    try:
        rows: list[Row] = crew.ask(method, do="check", preset=preset, limit_s=ACCURACY_LIMIT_S)["rows"]
    except FailedError as error:
        rows = [{"case": "ordinary", "noise": "varying", "failed": str(error)}]
    return [{"method": method} | row for row in rows]
