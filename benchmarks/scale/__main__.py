"""Time and memory of reading, fitting, calibrating and decoding against the numbers of bins, units and sessions.

Simulated place cells are written as NWB files. Each size has its own process, with one thread unless --threads is
given. Every phase has its CPU seconds, wall seconds and peak resident memory, which includes the interpreter, its
libraries and what earlier phases keep. The simulation is not part of the figures. Sizes with several sessions are
fitted with shared dynamics. Some sizes are also run as by the command line, from the file to the report.

    kalmanssl bench scale --preset quick --out quick
    kalmanssl bench scale          # everything, an hour and a half
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

if not __package__:  # run as a folder: the package and the shared modules are in its parent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import machine_facts
from results_store import Results, Row
from suite import RESULTS, Quiet, cli_errors, err_console, make_app, print_table

from scale.figure import draw
from scale.phases import busy, command, in_new_process, library, sessions, simulate
from scale.sizes import GOALS, PRESETS, Size

app = make_app()
PresetName = StrEnum("PresetName", list(PRESETS))  # type: ignore[misc]
FULL = PresetName("full")
KEY = ("way", "hours", "units", "sessions")
LIBRARY, COMMAND = "library", "command line"


@app.command(help=__doc__)
def main(
    preset: Annotated[PresetName, typer.Option(help="quick: short recordings, a minute.")] = FULL,
    sizes: Annotated[
        list[str] | None,
        typer.Option(help="Only sizes hours,units[,sessions]; repeatable. New sizes are added to the results."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every process.")] = 1,
    neighbors: Annotated[int, typer.Option(min=0, help="Processes that keep a core busy at the same time.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS / "scale",
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    chosen = PRESETS[preset.value]
    with cli_errors(out):
        wanted = [Size.read(text) for text in sizes] if sizes else list(chosen.sizes)
        settings = {"preset": preset.value, "model": chosen.model, "threads": threads, "neighbors": neighbors}
        results = Results(out, settings, machine_facts(threads), KEY, ("*.png",))
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the new processes
        for size in wanted:
            ways = [LIBRARY] + ([COMMAND] if size in chosen.commands else [])
            pending = [way for way in ways if results.is_pending(way, *size)]
            if not pending:
                continue
            with tempfile.TemporaryDirectory() as folder:
                paths = in_new_process(simulate, size, Path(folder))
                for way in pending:
                    with busy(neighbors):
                        row = _measure(way, size, paths, chosen.model, Path(folder))
                    results.add(row)
                    if not quiet:
                        err_console.print(_line(row), markup=False, highlight=False, soft_wrap=True)
    rows = [row for row in results.rows.values() if "failed" not in row]
    draw(rows, out / "scale.png")
    print_table([HEADING, *(_cells(row) for row in rows)])


def _measure(way: str, size: Size, paths: list[Path], model: dict[str, Any], folder: Path) -> Row:
    """Measure one size in a new process, and return its row with the sums over the phases."""
    settings = {"random_state": 0, "progress": False, **model}
    work: Callable[..., Row]
    if way == COMMAND:
        work, arguments = command, (paths[0], settings, folder)
    elif size.sessions > 1:
        work, arguments = sessions, (paths, settings)
    else:
        work, arguments = library, (paths[0], settings)
    row: Row = {"way": way, **size._asdict()}
    try:
        row |= in_new_process(work, *arguments)
    except Exception as error:  # out of memory, for example: the other sizes are measured nevertheless
        return row | {"failed": f"{type(error).__name__}: {error}"}
    phases = row["phases"].values()
    sums = {name: sum(phase[name] for phase in phases) for name in ("cpu_s", "wall_s")}
    return row | sums | {"peak_mb": max(phase["peak_mb"] for phase in phases)}


def _line(row: Row) -> str:
    """Return the costs of the phases of a row as text."""
    name = f"{row['hours']:g} h, {row['units']} units, {row['sessions']} sessions, {row['way']}"
    if "failed" in row:
        return f"{name}: {row['failed']}"
    phases = (f"{name} {p['cpu_s']:.1f} s {p['peak_mb'] / 1000:.2f} GB" for name, p in row["phases"].items())
    return f"{name}: {', '.join(phases)}"


HEADING = ("hours", "units", "sessions", "way", "bins", "CPU s", "wall s", "CPU s per 100,000 bins", "peak GB", "goal")


def _cells(row: Row) -> tuple[str, ...]:
    """Return the entries of a row of the printed table."""
    goal = GOALS.get(Size(row["hours"], row["units"], row["sessions"]))
    met = "" if goal is None else "met" if row["wall_s"] <= goal[0] and row["peak_mb"] <= goal[1] else "missed"
    return (
        f"{row['hours']:g}", str(row["units"]), str(row["sessions"]), row["way"], f"{row['bins']:,}",
        f"{row['cpu_s']:.1f}", f"{row['wall_s']:.1f}", f"{1e5 * row['cpu_s'] / row['bins']:.1f}",
        f"{row['peak_mb'] / 1000:.2f}", met,
    )  # fmt: skip


if __name__ == "__main__":
    app()
