"""Filter, training steps and image encoder on a GPU, in eight minutes at most; also on a CPU.

The filter by loops over time, by scans, and by dynamax where jax has the GPU, with and without gradients; the number of
steps from which scans are faster; a training step of KalmanSSL on as many cells and bins as hc-11 has, and of the
models of the suite identifiability, also on the CPU; images per second of ResNet-18 in float32, TF32 and bfloat16. All
rows have their peak memory. Each part has a share of the time; what does not fit is run by the next call with the same
--out.

    benchmarks/gpu_check.sh
    kalmanssl bench gpu --device cpu --quick --out quick
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

if not __package__:  # run as a folder: the package and the shared modules are in its parent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from results_store import Results, Row
from suite import RESULTS, Quiet, cli_errors, err_console, make_app, print_table, screen

from gpu.encoders import run_encoder, works_of
from gpu.filters import (
    CROSSOVER,
    QUICK_SIZES,
    SIZES,
    FilterCell,
    crossover_cells,
    dynamax_cells,
    dynamax_missing,
    filter_cells,
    run_filter_cell,
)
from gpu.tables import crossover_notes, tables
from gpu.timing import Clock, device_facts, warm_up
from gpu.training import MODELS, run_training
from kalmanssl.training import choose_device


class Part(StrEnum):
    """Parts of the suite."""

    filter = "filter"
    dynamax = "dynamax"
    crossover = "crossover"
    training = "training"
    encoder = "encoder"


SHARES = {Part.filter: 0.3, Part.training: 0.24, Part.encoder: 0.12, Part.crossover: 0.12, Part.dynamax: 0.22}
"""Share of the time of each part, in the order in which they run; a part that ends early leaves the rest to others."""

KEY = ("part", "name", "on", "size", "noise", "task")


class Job(NamedTuple):
    """What is measured: the entries that identify its row, and the function that returns the others."""

    row: Row
    work: Callable[[Clock], Row]


app = make_app()


@app.command(help=__doc__)
def main(
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cuda, cuda:1 or cpu.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes and few steps, seconds on a CPU.")] = False,
    minutes: Annotated[float, typer.Option(min=0.05, help="Time for everything, without imports.")] = 7.0,
    parts: Annotated[list[Part] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS / "gpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure finished rows again.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        chosen = choose_device(device)
        facts = device_facts(chosen)
        settings = {"preset": "quick" if quick else "full", "device": facts.get("device_name", facts["processor"])}
        results = Results(out, settings, facts, KEY, overwrite=overwrite)
        warm_up(chosen)
        clock, wanted = Clock(60 * minutes, scale=0.1 if quick else 1.0), parts or list(SHARES)
        for part in (one for one in SHARES if one in wanted):
            clock.begin_part(60 * minutes * SHARES[part] / sum(SHARES[one] for one in wanted))
            for job in _jobs(part, chosen, quick=quick):
                if results.is_pending(*results.key_of(job.row)):
                    results.add(_run(job, clock))
                    if not quiet:
                        err_console.print(_line(results.rows[results.key_of(job.row)]), markup=False, soft_wrap=True)
    for title, lines in tables(results):
        if len(lines) > 1:
            screen().print(title, style="bold")
            print_table(lines)
    for note in crossover_notes(results):
        screen().print(note, markup=False, highlight=False)
    screen().print(f"results: {results.path}", markup=False, highlight=False, soft_wrap=True)


def _jobs(part: Part, device: torch.device, *, quick: bool) -> Iterator[Job]:
    """Yield what a part measures."""
    places = [device] if device.type == "cpu" else [device, torch.device("cpu")]
    if part in (Part.filter, Part.crossover, Part.dynamax):
        for cell in _filter_cells(part, device, quick=quick):
            method, size, noise, task = cell
            row: Row = {"name": method, "on": device.type, "size": list(size), "noise": noise, "task": task}
            yield Job({"part": part.value, **row}, partial(run_filter_cell, cell, device))
    elif part == Part.training:
        for name in MODELS:
            for place in places:
                work = partial(run_training, name, place, quick=quick)
                yield Job({"part": part.value, "name": name, "on": place.type}, lambda clock, work=work: work())
    else:
        for place in places:
            for work_name, precision in works_of(place):
                row = {"part": part.value, "name": work_name, "on": place.type, "task": precision}
                yield Job(row, partial(run_encoder, work_name, precision, place, quick=quick))


def _filter_cells(part: Part, device: torch.device, *, quick: bool) -> Iterator[FilterCell]:
    if part == Part.crossover:
        return crossover_cells(QUICK_SIZES if quick else CROSSOVER)
    sizes = QUICK_SIZES if quick else SIZES
    if part == Part.filter:
        return filter_cells(sizes, with_cpu=device.type != "cpu")
    missing = dynamax_missing(device)
    if missing is None:
        return dynamax_cells(sizes)
    err_console.print(f"skipped dynamax: {missing}", style="bold red", markup=False)
    return iter(())


def _run(job: Job, clock: Clock) -> Row:
    """Measure; a row that failed, or that there was no time for, is run again by the next call."""
    if clock.left <= 0:
        return job.row | {"failed": "no time left"}
    try:
        return job.row | job.work(clock)
    except Exception as error:  # out of memory, for example: the other rows are measured nevertheless
        return job.row | {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def _line(row: Row) -> str:
    """Return a row as text for the progress."""
    where = ", ".join(str(row[name]) for name in KEY if row.get(name) is not None)
    return f"{where}: {row['failed'] if 'failed' in row else format(row['wall_s'] * 1e3, '.4g') + ' ms'}"


if __name__ == "__main__":
    app()
