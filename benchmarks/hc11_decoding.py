"""Decode position from hippocampal spikes: accuracy, calibration and cost of ours and of what others use.

All methods run on the same bins in the same process. Settings of the peers are chosen by cross-validation on blocks
of the training part; nothing is chosen on the test part. One seed of one method is kept as soon as it is done, so
that a run can be stopped and started again. The recording is the one session of hc-11 (Grosmark and Buzsaki 2016,
doi 10.1126/science.aad1935; DANDI:000044) or any other NWB file with spikes and position on a linear track.

    python benchmarks/hc11_decoding.py --data achilles_maze.nwb --out results/hc11 --seeds 3 --preset full
    python benchmarks/hc11_decoding.py --out results/quick --preset quick        # a minute, on a simulated rat
"""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from hc11_methods import FULL, QUICK, Data, Job, Outcome, jobs
from hc11_report import add_equal_coverage, by_method, draw, score_table
from kept import Lines, Row
from measure import machine_facts, peak_memory_mb, reset_peak_memory
from peers.predictive import Prediction
from suite import Quiet, asked, err_console, explained, progress_bar, screen

from kalmanssl.data import Recording, running_bins
from kalmanssl.datasets.place_cells import place_cells
from kalmanssl.errors import InputError

LEVELS = ("50", "80", "95")
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SIMULATED = {"n_units": 30, "duration": 240.0, "n_interneurons": 0}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class PresetName(StrEnum):
    """How much work is done."""

    full = "full"
    quick = "quick"


def load(data: Path | None, bin_size: float, split_at: float | None, zones: tuple[float, float] | None) -> Data:
    """Read (or simulate) the recording and cut it; zones and split default to those of the hc-11 session."""
    if data is None:
        rec = place_cells(**SIMULATED, bin_size=bin_size, random_state=0)
        split_at = split_at if split_at is not None else float(rec.time[int(0.6 * len(rec.time))])
        zones = zones or (0.1, 1.5)
    else:
        rec = Recording.from_nwb(data, bin_size=bin_size)
        split_at = 18960.0 if split_at is None else split_at
        zones = zones or (-0.15, 1.10)
    train, test = rec.split(at=split_at)
    masks = [running_bins(part.behavior["position"], end_zones=zones) for part in (train, test)]
    for part, mask in zip(("training", "test"), masks, strict=True):
        if not mask.any():
            raise InputError(
                f"the {part} part has no traversal between position < {zones[0]} and > {zones[1]}: set --end-zones"
            )
    return Data(train, test, *masks)


def score(prediction: Prediction, truth: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Scores on the bins in `mask`: errors of the median, widths and CRPS in cm, coverages as shares."""
    known = truth[mask]
    error = 100 * np.abs(prediction.median[mask] - known)
    covered, width = {}, {}
    for level in CURVE:
        lower, upper = (end[mask] for end in prediction.interval(level))
        covered[f"{100 * level:g}"] = float(np.mean((lower <= known) & (known <= upper)))
        width[f"{100 * level:g}"] = float(100 * np.mean(upper - lower))
    return {
        "median": float(np.median(error)),
        "mean": float(np.mean(error)),
        "r2": float(1 - np.mean(error**2) / np.var(100 * known)),
        "coverage": {level: covered[level] for level in LEVELS},
        "width": {level: width[level] for level in LEVELS},
        "crps": float(100 * np.mean(prediction.crps(truth)[mask])),
        "calibration": covered,
    }


def keep(outcome: Outcome, job: Job, seed: int | None, data: Data, folder: Path, peak_mb: float) -> Row:
    """Save the predictions on running test bins; return the row for the results."""
    name = "".join(c if c.isalnum() else "-" for c in outcome.method.lower())
    file = f"{name}-{seed or 0}.npz"
    mask = data.running_test
    lower, upper = outcome.prediction.interval(0.95)
    np.savez(
        folder / file,
        time=data.test.time[mask],
        truth=data.test.behavior["position"][mask],
        point=outcome.prediction.median[mask],
        lower_95=lower[mask],
        upper_95=upper[mask],
    )
    costs = {key: value for key, value in asdict(outcome).items() if key.endswith("_s")}
    return {
        "method": outcome.method,
        "look_ahead": job.rows[outcome.method],
        "seed": seed,
        **score(outcome.prediction, data.test.behavior["position"], mask),
        **costs,
        "peak_memory_mb": peak_mb,
        "chosen": outcome.chosen,
        "file": file,
    }


def open_folder(out: Path, settings: dict[str, Any], replaced: set[str]) -> Lines:
    """Make the folder or go on in it, without the rows of the methods in `replaced`."""
    lines = Lines(out)
    if lines.damaged:  # the last line of a run that was killed
        err_console.print(f"{lines.path.name}: a damaged line is left out and its method run again", markup=False)
    rows = [row for row in lines.rows if row["method"] not in replaced]
    if rows and lines.settings != settings:
        raise InputError(
            f"{out} holds results of other settings: give another --out, or --overwrite to replace them all"
        )
    (out / "predictions").mkdir(parents=True, exist_ok=True)
    lines.begin(settings, rows)
    return lines


def run_all(todo: list[tuple[Job, int | None]], data: Data, lines: Lines, quiet: bool) -> None:
    """Run what is not done yet; keep every row as soon as it is there."""
    done = {(row["method"], row["seed"]) for row in lines.rows}
    todo = [(job, seed) for job, seed in todo if any((name, seed) not in done for name in job.rows)]
    with progress_bar(quiet) as bar:
        task = bar.add_task("", total=len(todo))
        for job, seed in todo:
            label = next(iter(job.rows)) + ("" if seed is None else f", seed {seed}")
            bar.update(task, description=label)
            reset_peak_memory()
            outcomes = job.run(data, seed or 0)
            peak = peak_memory_mb()
            for outcome in outcomes:
                if (outcome.method, seed) not in done:
                    lines.add(keep(outcome, job, seed, data, lines.folder / "predictions", peak))
            bar.advance(task)


@app.command(help=__doc__)
def main(
    out: Annotated[Path, typer.Option(help="Folder for results, figure and predictions; a started run goes on there.")],
    data: Annotated[
        Path | None, typer.Option(help="NWB file; without it a simulated rat (--preset quick only).", exists=True)
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the methods that have one: 0, 1, ...")] = 3,
    preset: Annotated[PresetName, typer.Option(help="quick: a minute, says nothing about accuracy.")] = PresetName.full,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only methods whose name contains this; may be repeated.")
    ] = None,
    bin_size: Annotated[float, typer.Option(help="Width of a bin, s.")] = 0.025,
    split_at: Annotated[
        float | None, typer.Option(help="Training is before, testing after; the recording's clock, s.")
    ] = None,
    end_zones: Annotated[
        tuple[float, float] | None, typer.Option(help="Track ends: position below the first, above the second.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every method.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Run again what is done, all of it or what --only names.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    with explained(out):
        if data is None and preset is PresetName.full:
            raise InputError("--preset full needs --data FILE.nwb; without data there is only --preset quick")
        settings = {
            "data": data.name if data else {"place_cells": SIMULATED},
            "preset": preset.value,
            "bin_size": bin_size,
            "split_at": split_at,
            "end_zones": end_zones and list(end_zones),
            "threads": threads,
        }
        limit_threads(threads)
        halves = load(data, bin_size, split_at, end_zones)
        listed = [job for job in jobs(FULL if preset is PresetName.full else QUICK) if asked(only, *job.rows)]
        if not listed:
            raise InputError(f"--only {only}: no method has that in its name")
        lines = open_folder(out, settings, {name for job in listed for name in job.rows} if overwrite else set())
        skipped = {name: job.missing for job in listed if job.missing for name in job.rows}
        for name, reason in skipped.items():
            err_console.print(f"skipped {name}: {reason}", style="bold red", markup=False, soft_wrap=True)
        todo: list[tuple[Job, int | None]] = [
            (job, seed) for job in listed if not job.missing for seed in (range(seeds) if job.seeded else [None])
        ]
        run_all(todo, halves, lines, quiet)
    summarize(lines.rows, halves, out, settings | {"seeds": seeds}, skipped)


def limit_threads(threads: int) -> None:
    """Give every method the same number of threads, in torch and in the linear algebra under numpy."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def summarize(rows: list[Row], data: Data, out: Path, settings: dict[str, Any], skipped: dict[str, str]) -> None:
    """Write results.json and decoding.png and print the table."""
    order = {name: i for i, name in enumerate(name for job in jobs(QUICK) for name in job.rows)}
    rows.sort(key=lambda row: (order[row["method"]], row["seed"] or 0))
    add_equal_coverage(rows, out / "predictions")
    facts = {
        "train": {"bins": len(data.train.time), "running": int(data.running_train.sum())},
        "test": {"bins": len(data.test.time), "running": int(data.running_test.sum())},
        "units": data.train.n_units,
        "notes": list(data.train.notes),
    }
    result = {
        "settings": settings,
        "recording": facts,
        "machine": machine_facts(settings["threads"]),
        "skipped": skipped,
        "results": rows,
    }
    temporary = out / "results.json.part"
    temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    temporary.replace(out / "results.json")
    draw(rows, out / "predictions", out / "decoding.png")
    screen().print(score_table(rows))
    screen().print(f"{out / 'results.json'}, {out / 'decoding.png'}: {len(by_method(rows))} methods", markup=False)


if __name__ == "__main__":
    app()
