"""Latency of the online decoder: the time from a bin of activity to its latents, its behavior and the interval.

A model with 64 states and a decoder with default readouts are fitted on simulated place cells, briefly, since accuracy
does not matter here. Bins of the later part are then given one after another without waiting, after a thousand others
in which the filter reaches its steady state. Times are wall microseconds for each bin, with everything that delays a
bin: garbage collection, and other programs on the machine. CPU times of the thread exclude the latter. A further run
waits 25 ms between two bins, as in a live recording. What a bin needs is then no longer in the caches of the processor,
above all if other programs run meanwhile.

On a machine that other programs use, run it with real-time priority (`chrt -f 10 kalmanssl bench decoding online`); the
results say whether it had it. Linux stops such processes for 50 ms in each second that they use completely, which is
then the longest time.
"""

from __future__ import annotations

import os
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from measure import machine_facts
from results_store import Results, Row
from suite import RESULTS, Quiet, cli_errors, print_table, screen
from thread_limits import limit_threads

from kalmanssl import KalmanSSL, PositionDecoder, Recording
from kalmanssl.datasets import place_cells
from kalmanssl.decoding import CalibrationSettings, EnsembleReadoutSettings, MLPReadoutSettings

__all__ = ["main"]

UNITS, STATES = 120, 64
BINS, QUICK_BINS = 100_000, 300
WARM_UP, QUICK_WARM_UP = 1000, 50
LIVE_BINS, QUICK_LIVE_BINS, LIVE_PAUSE = 400, 10, 0.025  # of the run that waits, and seconds between two bins
BEHAVIORS = {"none": (), "line": ("position",), "plane": ("position", "speed")}
GOALS_US = {"median": 300.0, "p99_9": 2000.0}  # on a line
QUANTILES = {"median": 0.5, "p99": 0.99, "p99_9": 0.999, "max": 1.0}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS / "decoding_online",
    bins: Annotated[int | None, typer.Option(min=10, help=f"Bins to time; by default {BINS}.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"A small model and {QUICK_BINS} bins, as a test.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        n_bins = bins or (QUICK_BINS if quick else BINS)
        settings = {"bins": n_bins, "quick": quick, "units": UNITS, "states": STATES}
        machine = machine_facts(1) | {"real_time_priority": _has_real_time_priority()}
        results = Results(out, settings, machine, ("behavior",), overwrite=True)
        limit_threads(1)
        train, test = _recording(quick)
        model = _fit_model(train, quick)
        for name, columns in BEHAVIORS.items():
            online = _online(model, train, columns, quick)
            times = _time_bins(online, test.activity, n_bins, QUICK_WARM_UP if quick else WARM_UP)
            live = _time_bins(online, test.activity, QUICK_LIVE_BINS if quick else LIVE_BINS, 0, LIVE_PAUSE)
            results.add(_row(name, online, *times, live[0]))
        lines = [("behavior", "cells", "median us", "99 %", "99.9 %", "max", "CPU 99.9 %", "live median", "live 99 %")]
        for row in results.rows.values():
            figures = [row[f"wall_{name}_us"] for name in QUANTILES]
            figures += [row[f"{name}_us"] for name in ("cpu_p99_9", "live_median", "live_p99")]
            lines.append((row["behavior"], str(row["cells"]), *(f"{value:.0f}" for value in figures)))
        if not quiet:
            print_table(lines)
        screen().print(str(results.path), markup=False)


def _has_real_time_priority() -> bool:
    """Return whether programs with ordinary priority cannot interrupt this process."""
    if not hasattr(os, "sched_getscheduler"):
        return False
    return os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)


def _recording(quick: bool) -> tuple[Recording, Recording]:
    """Return the part to fit on and the part to decode of a simulated recording."""
    whole = place_cells(n_units=UNITS, duration=100.0 if quick else 1100.0, random_state=0)
    whole = Recording.from_arrays(whole.activity[:, :UNITS], time=whole.time, behavior=whole.behavior)
    return whole.split(at=whole.time[0] + (80.0 if quick else 600.0))


def _fit_model(train: Recording, quick: bool) -> KalmanSSL:
    """Fit a model of the default size."""
    steps = 2 if quick else 25
    return KalmanSSL(
        state_dim=STATES, epochs=2, steps_per_epoch=steps, progress=False, device="cpu", random_state=0
    ).fit(train)


def _online(model: KalmanSSL, train: Recording, columns: tuple[str, ...], quick: bool) -> Any:
    """Return what takes one bin after another: the filter, or with behavior the decoder."""
    if not columns:
        return model.online()
    readout = EnsembleReadoutSettings(MLPReadoutSettings(n_steps=10 if quick else 100))
    calibration = CalibrationSettings(n_folds=1, first_fold_fraction=0.7, max_bins=400, noise_grid=(0.0, 1.0))
    decoder = PositionDecoder(readout_settings=readout, calibration_settings=calibration, random_state=0)
    behavior = np.stack([train.behavior[name] for name in columns], axis=1)
    return decoder.fit(model.transform(train), behavior).online(model)


def _time_bins(
    online: Any, activity: np.ndarray, n_bins: int, warm_up: int, pause: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return wall and CPU time of each bin, microseconds. The activity is repeated as often as needed."""
    for row in islice(cycle(activity), warm_up):
        online.step(row)
    wall, cpu = np.zeros((2, n_bins), dtype=np.int64)
    wall_clock, cpu_clock = time.perf_counter_ns, time.thread_time_ns
    for number, row in enumerate(islice(cycle(activity), n_bins)):
        if pause:
            time.sleep(pause)
        cpu_start, start = cpu_clock(), wall_clock()
        online.step(row)
        wall[number] = wall_clock() - start
        cpu[number] = cpu_clock() - cpu_start
    return wall / 1000, cpu / 1000


def _row(name: str, online: Any, wall: np.ndarray, cpu: np.ndarray, live: np.ndarray) -> Row:
    """Return the stored row of a behavior."""
    cells = [len(centers) for centers in getattr(online, "cells", [])]
    row: Row = {"behavior": name, "cells": int(np.prod(cells)) if cells else 0}
    for clock, times in (("wall", wall), ("cpu", cpu)):
        for quantile, level in QUANTILES.items():
            row[f"{clock}_{quantile}_us"] = round(float(np.quantile(times, level)), 1)
    row |= {f"live_{name}_us": round(float(np.quantile(live, QUANTILES[name])), 1) for name in ("median", "p99")}
    for quantile, goal in GOALS_US.items():
        row[f"goal_{quantile}_us"] = goal if name == "line" else None
    return row
