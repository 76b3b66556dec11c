"""Accuracy, calibration and cost of decoding position from hippocampal spikes.

All methods run on the same bins in the same process. Settings of the peers are chosen by cross-validation on blocks of
the training part; nothing is chosen on the test part. Each row is stored as soon as it is finished, and a run that was
stopped is resumed.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from measure import machine_facts, peak_memory_mb, reset_peak_memory
from results_store import Results, Row
from suite import Quiet, cli_errors, err_console, matches, progress_bar, screen

from hc11.methods import FULL, QUICK, Job, Outcome, all_jobs
from hc11.recording import SIMULATED, Data, limit_threads, load, score
from hc11.report import add_equal_coverage, by_method, draw, score_table
from kalmanssl.errors import InputError

__all__ = ["main"]


class PresetName(StrEnum):
    """Amount of work."""

    full = "full"
    quick = "quick"


def main(
    out: Annotated[Path, typer.Option(help="Folder of results, figure and predictions; a stopped run is resumed.")],
    data: Annotated[
        Path | None, typer.Option(help="NWB file; by default a simulated recording (--preset quick).", exists=True)
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of the methods that depend on one.")] = 3,
    preset: Annotated[PresetName, typer.Option(help="quick: a test of a minute.")] = PresetName.full,
    only: Annotated[list[str] | None, typer.Option(help="Only methods with this in their name; repeatable.")] = None,
    bin_size: Annotated[float, typer.Option(help="Width of a bin, s.")] = 0.025,
    split_at: Annotated[
        float | None, typer.Option(help="Training is before, testing after this time of the recording, s.")
    ] = None,
    end_zones: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Ends of the track: position below the first, above the second."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every method.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Run finished methods again: all, or those of --only.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        if data is None and preset is PresetName.full:
            raise InputError("--preset full needs --data FILE.nwb; without data use --preset quick", parameter="data")
        jobs = [job for job in all_jobs(FULL if preset is PresetName.full else QUICK) if matches(only, *job.rows)]
        if not jobs:
            raise InputError(f"--only {', '.join(only or ())}: no method has this in its name", parameter="only")
        limit_threads(threads)
        recording = load(data, bin_size, split_at, end_zones)
        settings = {
            "data": data.name if data else {"place_cells": SIMULATED},
            "preset": preset.value,
            "bin_size": bin_size,
            "split_at": split_at,
            "end_zones": end_zones and list(end_zones),
            "threads": threads,
        }
        results = Results(
            out, settings, machine_facts(threads), ("method", "seed"), ("predictions",), overwrite=overwrite
        )
        missing = {name: job.missing for job in jobs if job.missing for name in job.rows}
        for name, reason in missing.items():
            err_console.print(f"skipped {name}: {reason}", style="bold red", markup=False, soft_wrap=True)
        results.extra = {"recording": _facts(recording), "skipped": missing}
        _run_all([job for job in jobs if not job.missing], seeds, recording, results, quiet)
    _summarize(results)


def _facts(data: Data) -> dict[str, Any]:
    """Return the numbers of bins and units of the recording."""
    return {
        "train": {"bins": len(data.train.time), "running": int(data.running_train.sum())},
        "test": {"bins": len(data.test.time), "running": int(data.running_test.sum())},
        "units": data.train.n_units,
        "notes": list(data.train.notes),
    }


def _run_all(jobs: list[Job], seeds: int, data: Data, results: Results, quiet: bool) -> None:
    """Run the pending jobs, and store every row as soon as it is finished."""
    (results.path.parent / "predictions").mkdir(exist_ok=True)
    runs = [(job, seed) for job in jobs for seed in (range(seeds) if job.seeded else [None])]
    pending = [(job, seed) for job, seed in runs if any(results.is_pending(name, seed) for name in job.rows)]
    with progress_bar(quiet) as bar:
        task = bar.add_task("", total=len(pending))
        for job, seed in pending:
            label = next(iter(job.rows)) + ("" if seed is None else f", seed {seed}")
            bar.update(task, description=label)
            reset_peak_memory()
            outcomes = job.run(data, seed or 0)
            peak = peak_memory_mb()
            for outcome in outcomes:
                if results.is_pending(outcome.method, seed):
                    file = _save_prediction(outcome, seed, data, results.path.parent / "predictions")
                    results.add(_row(outcome, job, seed, data) | {"peak_memory_mb": peak, "file": file})
            bar.advance(task)


def _row(outcome: Outcome, job: Job, seed: int | None, data: Data) -> Row:
    """Return the scores and costs of an outcome."""
    return {
        "method": outcome.method,
        "look_ahead": job.rows[outcome.method],
        "seed": seed,
        **score(outcome.prediction, data.test.behavior["position"], data.running_test),
        **{key: value for key, value in asdict(outcome).items() if key.endswith("_s")},
        "chosen": outcome.chosen,
    }


def _save_prediction(outcome: Outcome, seed: int | None, data: Data, folder: Path) -> str:
    """Save the prediction on the running bins of the test part; return the name of the file."""
    name = "".join(c if c.isalnum() else "-" for c in outcome.method.lower())
    file, mask = f"{name}-{seed or 0}.npz", data.running_test
    lower, upper = outcome.prediction.interval(0.95)
    np.savez(
        folder / file,
        time=data.test.time[mask],
        truth=data.test.behavior["position"][mask],
        point=outcome.prediction.median[mask],
        lower_95=lower[mask],
        upper_95=upper[mask],
    )
    return file


def _summarize(results: Results) -> None:
    """Complete results.json, draw decoding.png and print the table."""
    names = [name for job in all_jobs(QUICK) for name in job.rows]
    results.rows = dict(sorted(results.rows.items(), key=lambda item: (names.index(item[0][0]), item[0][1] or 0)))
    rows, folder = list(results.rows.values()), results.path.parent
    add_equal_coverage(rows, folder / "predictions")
    results.write()
    files = [results.path]
    if draw(rows, folder / "predictions", folder / "decoding.png"):
        files.append(folder / "decoding.png")
    else:
        err_console.print(f"no figure: some predictions are not in {folder / 'predictions'}", markup=False)
    screen().print(score_table(rows))
    screen().print(f"{', '.join(map(str, files))}: {len(by_method(rows))} methods", markup=False)
