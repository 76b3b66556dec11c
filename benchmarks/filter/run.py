"""Measure everything that is pending: first times, problem by problem, then accuracies, method by method."""

from __future__ import annotations

from results_store import Results, Row
from suite import err_console, progress_bar

from filter.accuracy import first_case
from filter.methods import METHODS, OURS
from filter.presets import PRESETS
from filter.problems import Cell
from filter.processes import FailedError, Processes
from filter.timing import new_row, time_cell
from kalmanssl.errors import InputError

__all__ = ["core_rates", "measure_all"]

ACCURACY_LIMIT_S = 900.0


def measure_all(
    results: Results, cells: list[tuple[Cell, list[str]]], checked: list[str], preset: str, repeats: int, quiet: bool
) -> list[Row]:
    """Measure what is pending.

    Our filter is timed together with all others, so that all ratios are of the same rounds.

    Parameters
    ----------
    results : Results
    cells : list of (Cell, list of str)
        Problems and the methods to time on them.
    checked : list of str
        Methods whose accuracy is measured.
    preset : str
    repeats : int
        Number of rounds.
    quiet : bool

    Returns
    -------
    list of dict
        The rates of the core before and after, see `core_rates`.
    """
    with Processes(PRESETS[preset].limit_s) as processes:
        before = core_rates(processes)
        with progress_bar(quiet) as bar:
            task = bar.add_task("", total=len(cells) + len(checked))
            for cell, methods in cells:
                if pending := _pending(results, cell, methods):

                    def logger(text: str, cell: Cell = cell) -> None:
                        bar.update(task, description=f"{cell}: {text}")

                    rows = time_cell(processes, dict.fromkeys([OURS, *pending]), cell, repeats, logger)
                    _add(results, rows)
                    if not quiet:
                        err_console.print(f"{cell}: {_describe(rows)}", markup=False, highlight=False)
                bar.advance(task)
            for name in checked:
                bar.update(task, description=f"accuracy: {name}")
                first = {"method": name, **first_case(quick=preset == "quick")}
                if METHODS[name].missing is None and results.is_pending(*results.key_of(first)):
                    _add(results, _accuracy(processes, first, preset))
                bar.advance(task)
        return [before, core_rates(processes)]


def core_rates(processes: Processes) -> Row:
    """Return the floating-point operations per second of the core, see `filter.worker.Worker.rates`."""
    try:
        return processes.ask(OURS, do="rates")
    except FailedError as error:
        raise InputError(f"the process of the benchmark does not work: {error}") from None


def _add(results: Results, rows: list[Row]) -> None:
    """Store the rows that are pending; ours may have been timed again only for comparison."""
    for row in rows:
        if results.is_pending(*results.key_of(row)):
            results.add(row)


def _pending(results: Results, cell: Cell, methods: list[str]) -> list[str]:
    """Return the methods that are still to be timed; store a row for those that cannot be."""
    pending = []
    for name in methods:
        row = new_row(name, cell)
        reason = METHODS[name].unfit(*cell)
        if METHODS[name].missing:
            _add(results, [row | {"failed": METHODS[name].missing}])
        elif reason:
            _add(results, [row | {"skipped": reason}])
        elif results.is_pending(*results.key_of(row)):
            pending.append(name)
    return pending


def _describe(rows: list[Row]) -> str:
    """Return the CPU time of each method as text."""
    return ", ".join(
        f"{row['method']} {1000 * row['cpu_s']:.3g} ms"
        if "cpu_s" in row
        else f"{row['method']}: {row.get('skipped', row.get('failed'))}"
        for row in rows
    )


def _accuracy(processes: Processes, first: Row, preset: str) -> list[Row]:
    """Return the accuracies of a method; if its process fails, a row that says why."""
    try:
        rows = processes.ask(first["method"], do="check", preset=preset, limit_s=ACCURACY_LIMIT_S)["rows"]
    except FailedError as error:
        return [first | {"failed": str(error)}]
    return [{"method": first["method"]} | row for row in rows]
