"""Time of the commands with the default threads and with one thread, alone and beside processes that keep cores busy.

A simulated recording is fitted, decoded, evaluated and reported by the command line, and a benchmark suite is run with
two worker processes. Each command is a new process, so that its figures include the start of Python and all imports.
CPU seconds are those of all threads: threads that spin while they wait show up there. Each row says how many others
waited for a core when it began.

    kalmanssl bench threads --quick --out quick
    kalmanssl bench threads
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from measure import Stopwatch, machine_facts
from results_store import Results, Row
from scale.phases import busy, in_new_process, simulate, split_time
from scale.sizes import Size
from suite import RESULTS, Quiet, cli_errors, err_console, make_app, print_table
from thread_limits import thread_environment

from kalmanssl.data import Recording
from kalmanssl.errors import InputError

app = make_app()
SIZES = {True: Size(0.03, 10), False: Size(0.25, 100)}  # by --quick
SMALL = ("--latent-dim", "3", "--state-dim", "4", "--epochs", "1", "--decoder", "linear")
SUITE = ("--preset", "tiny", "--experiments", "square", "--experiments", "sphere", "--workers", "2", "--quiet")


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="A short recording and a small model, as a test.")] = False,
    neighbors: Annotated[int, typer.Option(min=1, help="Processes that keep a core busy at the same time.")] = 4,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS / "threads",
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    size = SIZES[quick]
    with cli_errors(out):
        settings = {"hours": size.hours, "units": size.units, "quick": quick, "cores": os.cpu_count()}
        results = Results(out, settings, machine_facts(os.cpu_count() or 1), ("threads", "neighbors", "command"))
        with tempfile.TemporaryDirectory() as folder:
            (recording,) = in_new_process(simulate, size, Path(folder))
            until = split_time(Recording.from_nwb(recording))
            for threads in ("default", "1"):
                for count in (0, neighbors):
                    run = Path(folder) / f"run_{threads}_{count}"
                    for command, arguments in _commands(recording, run, until, SMALL if quick else ()).items():
                        # Later commands need the run of the fit.
                        if results.is_pending(threads, count, command) or not run.exists():
                            results.add(_measure(command, arguments, threads, count))
                    if not quiet:
                        err_console.print(f"{threads} threads, {count} neighbors: done", markup=False, highlight=False)
        lines = [("threads", "neighbors", "command", "CPU s", "wall s", "waiting before")]
        for row in results.rows.values():
            figures = (f"{row[name]:.1f}" for name in ("cpu_s", "wall_s", "load"))
            lines.append((row["threads"], str(row["neighbors"]), row["command"], *figures))
    print_table(lines)


def _commands(recording: Path, run: Path, until: float, more: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the arguments of each command by its name."""
    return {
        "fit": ("fit", str(recording), "--out", str(run), "--until", str(until), "--behavior", "position", *more),
        "decode": ("decode", str(run), str(recording), "--out", str(run.with_suffix(".csv"))),
        "evaluate": ("evaluate", str(run), str(recording), "--after", str(until)),
        "report": ("report", str(run)),
        "bench identifiability": ("bench", "identifiability", *SUITE, "--out", str(run.with_suffix(".suite"))),
    }


def _measure(command: str, arguments: tuple[str, ...], threads: str, neighbors: int) -> Row:
    """Run a command in a new process and return its row."""
    environment = thread_environment(None)
    if threads != "default":
        environment["OMP_NUM_THREADS"] = threads
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with busy(neighbors), Stopwatch() as stopwatch:
        done = subprocess.run(
            [sys.executable, "-m", "kalmanssl", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise InputError(f"kalmanssl {command} failed: {done.stderr.strip().splitlines()[-1]}")
    row: Row = {"threads": threads, "neighbors": neighbors, "command": command}
    return row | {"cpu_s": stopwatch.cpu, "wall_s": stopwatch.wall, "load": load}


if __name__ == "__main__":
    app()
