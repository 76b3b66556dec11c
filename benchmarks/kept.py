"""Runs of a suite: results that are kept as they come and resumed, and several processes that do the work."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kalmanssl.errors import InputError

__all__ = ["Results", "Row", "run_all"]

Row = dict[str, Any]
J = TypeVar("J")


class Results:
    """Rows of results by what identifies them, in `results.json` of a folder.

    Parameters
    ----------
    folder : Path
        New, empty, or begun with the same settings.
    settings : dict
        What all rows have in common, `preset` among it.
    machine : dict
        Facts about the machine, kept beside.
    key : sequence of str
        Entries of a row that identify it.
    beside : sequence of str
        Patterns of other files that the suite keeps in the folder.

    Raises
    ------
    InputError
        If the folder holds other files, results of other settings, or a file that is no set of results.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        machine: dict[str, Any],
        key: Sequence[str],
        beside: Sequence[str] = (),
    ) -> None:
        self.path, self.settings, self.machine, self.key = folder / "results.json", settings, machine, tuple(key)
        self.rows: dict[tuple[Any, ...], Row] = {}
        if self.path.exists():
            self._read()
        elif folder.exists() and any(not any(one.match(name) for name in beside) for one in folder.iterdir()):
            raise InputError(f"{folder} holds other files: give an empty or a new folder with --out")
        folder.mkdir(parents=True, exist_ok=True)

    def _read(self) -> None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            began, known = found["settings"], {self._key(row): row for row in found["results"]}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is no file of results ({error}): give another --out") from error
        if began != json.loads(json.dumps(self.settings)):
            raise InputError(
                f"{self.path} holds results of other settings (preset {began.get('preset')!r}, or the same with other "
                "data or training): give another --out"
            )
        self.rows = known

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.key)

    def lacks(self, *key: Any) -> bool:
        """Whether this is still to be run, because it is new or has failed."""
        return key not in self.rows or "failed" in self.rows[key]

    def add(self, row: Row) -> None:
        """Keep a row, in place of an earlier one of the same key, and write the file."""
        self.rows[self._key(row)] = _finite(row)
        whole = {"settings": self.settings, "machine": self.machine, "results": list(self.rows.values())}
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(whole) + "\n", encoding="utf-8")
        os.replace(beside, self.path)

    def of(self, *key: Any) -> list[Row]:
        """Rows whose key begins so, those that failed included."""
        return [row for known, row in self.rows.items() if known[: len(key)] == key]

    def good(self, *key: Any) -> list[Row]:
        """Rows whose key begins so, without those that failed."""
        return [row for row in self.of(*key) if "failed" not in row]


def run_all(
    work: Callable[[J, Callable[[Row], None]], Row],
    jobs: Sequence[J],
    results: Results,
    workers: int,
    *,
    console: Console,
    quiet: bool,
    found: Callable[[Row], str],
) -> None:
    """Do jobs, and keep each row as it comes.

    Parameters
    ----------
    work : callable
        Does a job and returns its row. It is told a function that takes its progress: rows with `step`, `steps` and
        perhaps `score`.
    jobs : sequence
    results : Results
    workers : int
        Processes.
    console : Console
        Where progress and a line for each row go.
    quiet : bool
        Neither of them.
    found : callable
        Says in a few words what a row that did not fail found.
    """
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    under_way: dict[str, TaskID] = {}

    def name(row: Row) -> str:
        return ", ".join(f"seed {row[part]}" if part == "seed" else str(row[part]) for part in results.key)

    def say(row: Row) -> None:
        if name(row) not in under_way:
            under_way[name(row)] = bar.add_task("", total=row["steps"])
        score = f": {row['score']:.3f}" if "score" in row else ""
        bar.update(under_way[name(row)], completed=row["step"], description=name(row) + score)

    with nullcontext() if quiet else bar:
        progress = bar.add_task("runs", total=len(jobs))
        for row in _in_processes(work, jobs, workers, say):
            results.add(row)
            bar.advance(progress)
            if name(row) in under_way:
                bar.remove_task(under_way.pop(name(row)))
            if not quiet:
                said = row["failed"] if "failed" in row else found(row)
                console.print(f"{name(row)}: {said}", markup=False, highlight=False)


def _in_processes(
    work: Callable[[J, Callable[[Row], None]], Row], jobs: Sequence[J], workers: int, say: Callable[[Row], None]
) -> Iterator[Row]:
    """Do jobs, in order in this process if there is one worker, else several at once with a thread each."""
    if workers == 1:
        yield from (work(job, say) for job in jobs)
        return
    # Threads of each process are limited from outside: its libraries read this when they are loaded.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        told = manager.Queue()
        waiting = {pool.submit(work, job, told.put) for job in jobs}
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                while not told.empty():
                    say(told.get())
                for one in finished:
                    yield one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _finite(value: Any) -> Any:
    """Make NaN and infinity null, which is all that JSON has for them."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
