"""Run the jobs of a suite in several processes and store each row as soon as it is finished."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import joblib
from results_store import Results, Row
from rich.progress import TaskID
from suite import err_console, progress_bar

__all__ = ["Logger", "run_all"]

J = TypeVar("J")
Logger = Callable[[Row], None]
"""Takes the progress of a job: a row with the entries of its key, `step`, `steps` and, where there is one, `score`."""


def run_all(
    work: Callable[[J, Logger], Row],
    jobs: Sequence[J],
    results: Results,
    workers: int,
    *,
    quiet: bool,
    describe: Callable[[Row], str],
) -> None:
    """Run all jobs and store their rows.

    Parameters
    ----------
    work : callable
        `work(job, logger)` runs a job and returns its row. It must be a function of a module, so that another process
        can import it.
    jobs : sequence
        Each with what `work` needs; they are pickled.
    results : Results
        Receives the rows.
    workers : int
        Number of processes, each with one thread; one worker is this process.
    quiet : bool
        Print neither progress nor a line for each row.
    describe : callable
        Returns a few words on the result of a row that did not fail.
    """
    bar = progress_bar(quiet)
    running: dict[str, TaskID] = {}
    finished: set[str] = set()

    def name(row: Row) -> str:
        return ", ".join(f"seed {row[part]}" if part == "seed" else str(row[part]) for part in results.key)

    def logger(row: Row) -> None:
        if name(row) in finished:
            return
        if name(row) not in running:
            running[name(row)] = bar.add_task("", total=row["steps"])
        score = f": {row['score']:.3f}" if "score" in row else ""
        bar.update(running[name(row)], completed=row["step"], description=name(row) + score)

    with bar, closing(_rows(work, jobs, workers, logger)) as rows:
        total = bar.add_task("runs", total=len(jobs))
        for row in rows:
            results.add(row)
            finished.add(name(row))
            bar.advance(total)
            if name(row) in running:
                bar.remove_task(running.pop(name(row)))
            if not quiet:
                text = row["failed"] if "failed" in row else describe(row)
                err_console.print(f"{name(row)}: {text}", markup=False, highlight=False)


def _rows(
    work: Callable[[J, Logger], Row], jobs: Sequence[J], workers: int, logger: Logger
) -> Generator[Row, None, None]:
    """Run the jobs in this process if there is one worker, otherwise in several; yield the rows as they finish."""
    if workers == 1:
        yield from (work(job, logger) for job in jobs)
        return
    settings = {"inner_max_num_threads": 1, "initializer": _start_worker, "initargs": (os.getpid(),)}
    with (
        tempfile.TemporaryDirectory() as folder,
        _read_progress(Path(folder), logger),
        joblib.parallel_config("loky", n_jobs=workers, **settings),
    ):
        calls = (joblib.delayed(_work_in_process)(work, job, Path(folder)) for job in jobs)
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=workers)(calls)


def _work_in_process(work: Callable[[J, Logger], Row], job: J, folder: Path) -> Row:
    """Run a job in a worker, which writes its progress to a file."""
    file = folder / f"{os.getpid()}.json"

    def logger(row: Row) -> None:
        temporary = file.with_suffix(".part")
        temporary.write_text(json.dumps(row), encoding="utf-8")
        os.replace(temporary, file)

    try:
        return work(job, logger)
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def _read_progress(folder: Path, logger: Logger) -> Iterator[None]:
    """Pass what the workers write to the logger, twice a second."""
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.5):
            for file in folder.glob("*.json"):
                try:
                    logger(json.loads(file.read_text(encoding="utf-8")))
                except FileNotFoundError:  # the job has just finished
                    continue

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent process, which ends its workers; end this worker if the parent has been killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
