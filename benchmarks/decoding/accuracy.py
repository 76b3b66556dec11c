"""Accuracy, calibration and cost of decoding behavior, on every recording and beside other methods.

All methods run on the same bins in the same process. Settings of other methods are chosen by cross-validation on
blocks of the training part, by the continuous ranked probability score; nothing is chosen on the test part. Our model
and decoder have their default settings. Each row is stored as soon as it is finished, and a run that was stopped is
resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from measure import Stopwatch, machine_facts
from results_store import Results, Row
from suite import RESULTS, Quiet, cli_errors, err_console, matches, print_table, progress_bar, screen
from thread_limits import limit_threads

from decoding.methods import FULL, OURS, QUICK, Method, all_methods
from decoding.options import DataFolder, Threads, data_folder
from decoding.page import write_decoding_page
from decoding.recordings import ALL_RECORDINGS, RECORDINGS, SIMULATED, VARIATIONS, load, targets_of
from decoding.scores import score
from decoding.tables import representation, score_tables, summary
from decoding.tasks import Target, Task
from kalmanssl.errors import InputError

__all__ = ["main"]

DIGITS = 6  # of the stored scores


VARIATION_METHODS = [
    f"{OURS}, filter",
    f"{OURS}, smoother",
    "neighbors, ",
    "neighbors + movement prior",
    "ridge on lags",
]


class PresetName(StrEnum):
    """Amount of work."""

    full = "full"
    variations = "variations"
    quick = "quick"


def main(
    out: Annotated[Path | None, typer.Option(help="Folder of results and page; a stopped run is resumed.")] = None,
    data: DataFolder = None,
    preset: Annotated[
        PresetName,
        typer.Option(
            help="full: the recordings, hours; variations: the recordings with fewer units, less training time or "
            "another behavior, and simulated ones of other kinds, with the best methods; quick: small simulated ones, "
            "a minute."
        ),
    ] = PresetName.full,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of the methods that depend on one.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Only methods with this in name or group; repeatable.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="No methods with this in name or group; repeatable.")] = None,
    recordings: Annotated[
        list[str] | None, typer.Option("--recording", help="Only recordings with this in their name; repeatable.")
    ] = None,
    threads: Threads = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Run finished methods again: all, or those of --only.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    out = out or RESULTS / "decoding" / preset.value
    with cli_errors(out):
        folder = data_folder(data) if preset is not PresetName.quick else Path()
        sources = {"full": RECORDINGS, "variations": VARIATIONS, "quick": SIMULATED}[preset.value]
        names = [name for name in sources if matches(recordings, name)]
        if preset is PresetName.variations:
            only = only or VARIATION_METHODS
        methods = [
            method
            for method in all_methods(QUICK if preset is PresetName.quick else FULL)
            if matches(only, method.name, method.group) and not (skip and matches(skip, method.name, method.group))
        ]
        for given, found, what in ((only or skip, methods, "method"), (recordings, names, "recording")):
            if not found:
                raise InputError(f"{', '.join(given or ())}: no {what} is left", parameter="only")
        limit_threads(threads)
        settings = {"preset": preset.value, "threads": threads}
        results = Results(
            out, settings, machine_facts(threads), ("target", "fitted_on", "method", "seed"), ("page.html",),
            overwrite=overwrite,
        )  # fmt: skip
        for method in methods:
            if method.missing:
                err_console.print(f"skipped {method.name}: {method.missing}", markup=False, soft_wrap=True)
        _run_all(names, [method for method in methods if not method.missing], seeds, folder, results, quiet)
    _summarize(results)


def _run_all(
    names: Sequence[str], methods: Sequence[Method], seeds: int, folder: Path, results: Results, quiet: bool
) -> None:
    """Run what is pending, recording after recording, and store every row as soon as it is finished."""
    runs = [
        (name, target, fitted_on, method, seed)
        for name in names
        for fitted_on in ("all", "running")
        for seed in (None, *range(seeds))
        for target in targets_of(name)
        for method in methods
        if method.seeded == (seed is not None) and results.is_pending(target.name, fitted_on, method.name, seed)
    ]
    with progress_bar(quiet) as bar:
        progress = bar.add_task("", total=len(runs))
        for name, target, fitted_on, method, seed in runs:
            bar.update(progress, description=f"{target.name}: {method.name}" + f", seed {seed}" * (seed is not None))
            task = Task(load(name, folder), target, fitted_on)
            if _is_wanted(task, method):
                results.add(_row(task, method, seed))
            bar.advance(progress)


def _is_wanted(task: Task, method: Method) -> bool:
    """Return whether a method decodes the task; only on tracks with traversals are methods fitted on running bins."""
    return method.suits(task) and (task.fitted_on == "all" or task.data.has_traversals)


def _row(task: Task, method: Method, seed: int | None) -> Row:
    """Run a method; an error is stored as a failure."""
    row: Row = {
        "recording": task.data.name,
        "target": task.target.name,
        "unit": task.target.unit,
        "fitted_on": task.fitted_on,
        "method": method.name,
        "group": method.group,
        "look_ahead": method.look_ahead,
        "seed": seed,
    }
    try:
        with Stopwatch() as stopwatch:
            outcome = method.run(task, seed or 0)
    except Exception as error:  # one method on one recording must not end a run of hours
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        err_console.print(f"{task.target.name}: {method.name} failed: {message}", markup=False, soft_wrap=True)
        return row | {"failed": message}
    return row | _rounded(
        {
            **score(outcome.prediction, task),
            "chosen": outcome.chosen,
            "select_cpu_s": outcome.select_cpu_s,
            "fit_cpu_s": outcome.fit_cpu_s,
            "decode_cpu_s": outcome.decode_cpu_s,
            "total_cpu_s": stopwatch.cpu,
        }
    )


def _rounded(value: Any) -> Any:
    """Round all numbers to six digits."""
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _summarize(results: Results) -> None:
    """Sort the rows, write the page and print the tables."""
    order = [method.name for method in all_methods(QUICK)]
    targets: list[Target] = [target for name in ALL_RECORDINGS for target in targets_of(name)]
    names = [target.name for target in targets]
    results.rows = dict(
        sorted(
            results.rows.items(),
            key=lambda item: (names.index(item[0][0]), item[0][1], order.index(item[0][2]), item[0][3] or 0),
        )
    )
    results.write()
    rows = list(results.rows.values())
    for title, lines in score_tables(rows):
        screen().print(title, markup=False, style="bold")
        print_table(lines)
    print_table(summary(rows))
    print_table(representation(rows))
    page = results.path.with_name("page.html")
    write_decoding_page(results, page)
    screen().print(f"{results.path}, {page}", markup=False)
