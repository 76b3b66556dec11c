"""What the suites share: options and ends of their commands, jobs done by several processes, and where they print."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from kept import Results, Row
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from kalmanssl.errors import InputError

__all__ = [
    "RESULTS", "Out", "Quiet", "Seeds", "Workers", "asked", "err_console", "explained", "print_table",
    "progress_bar", "run_all", "screen",
]  # fmt: skip

RESULTS = Path(__file__).resolve().parent / "results"
J = TypeVar("J")

Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="How many; as the preset has if not.")]
Workers = Annotated[int, typer.Option(min=1, help="Runs at once, a core each.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; a started run goes on there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]

err_console = Console(stderr=True)


def asked(parts: Sequence[str] | None, *names: str) -> bool:
    """Whether one of the names has one of the parts in it, whatever its case; without parts all are asked for."""
    return not parts or any(part.lower() in name.lower() for part in parts for name in names)


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """Say in a line why the work inside ends: exit 2 if it was asked for what cannot be done, 130 after Ctrl-C."""
    try:
        yield
    except InputError as error:
        err_console.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err_console.print(f"stopped; what is done is in {out}, the same command goes on from there", markup=False)
        raise typer.Exit(130) from None


def progress_bar(quiet: bool) -> Progress:
    """A bar for work that is counted; one that is quiet is told the same and not shown."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=err_console, disable=quiet)


def run_all(
    work: Callable[[J, Callable[[Row], None]], Row],
    jobs: Sequence[J],
    results: Results,
    workers: int,
    *,
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
    quiet : bool
        Neither progress nor a line for each row.
    found : callable
        Says in a few words what a row that did not fail found.
    """
    bar = progress_bar(quiet)
    under_way: dict[str, TaskID] = {}

    def name(row: Row) -> str:
        return ", ".join(f"seed {row[part]}" if part == "seed" else str(row[part]) for part in results.key)

    def say(row: Row) -> None:
        if name(row) not in under_way:
            under_way[name(row)] = bar.add_task("", total=row["steps"])
        score = f": {row['score']:.3f}" if "score" in row else ""
        bar.update(under_way[name(row)], completed=row["step"], description=name(row) + score)

    with bar:
        progress = bar.add_task("runs", total=len(jobs))
        for row in _in_processes(work, jobs, workers, say):
            results.add(row)
            bar.advance(progress)
            if name(row) in under_way:
                bar.remove_task(under_way.pop(name(row)))
            if not quiet:
                said = row["failed"] if "failed" in row else found(row)
                err_console.print(f"{name(row)}: {said}", markup=False, highlight=False)


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
    others = set(multiprocessing.active_children())
    with ExitStack() as ends:
        with _deaf_to_ctrl_c():  # as the processes begun here are: they are ended from here
            manager = ends.enter_context(context.Manager())
            others |= set(multiprocessing.active_children())
            pool = ends.enter_context(ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent))
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
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """Let a worker end when the process that wants its rows has been killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def screen() -> Console:
    """Where results are printed; a pipe has no width of its own and gets room for a whole row."""
    return Console() if Console().is_terminal else Console(width=170)


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print a table of text whose first line is its heading, unless that is all of it."""
    if len(lines) > 1:
        shown = Table(*lines[0])
        for line in lines[1:]:
            shown.add_row(*line)
        screen().print(shown)
