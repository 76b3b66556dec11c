"""Time of the state-space decoder for one minute of bins of 25 ms, on a line and in two dimensions, on one thread.

Measured are the steps after the readout: the likelihood of each cell, the forward pass, for the smoother also the
backward pass, and the sum over motion states. The movement prior "states" has motion states at rest and in movement,
and on a line one for each direction. The "mixture" is the mean of three posteriors: with this prior, with a random walk
in one state, and of every bin by itself. Times are CPU milliseconds, the shortest of several runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from measure import Stopwatch, machine_facts
from results_store import Results, Row
from suite import RESULTS, Quiet, cli_errors, print_table, screen
from thread_limits import limit_threads

from kalmanssl.decoding.grids import Grid
from kalmanssl.decoding.movement import (
    Familiarity,
    Movement,
    MovementComponent,
    MovementMixture,
    MovementStatistics,
    ReadoutMass,
)

__all__ = ["main"]

BINS = 2400
GOAL_MS = {"line": {False: 50.0, True: 50.0}, "plane": {False: 150.0, True: None}}  # by whether latents are smoothed
GRIDS = {"line": (100,), "plane": (50, 50)}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS / "decoding_speed",
    repeats: Annotated[int, typer.Option(min=1, help="Runs; the shortest counts.")] = 5,
    bins: Annotated[int, typer.Option(min=10, help="Bins to decode; the default is one minute.")] = BINS,
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        results = Results(
            out, {"bins": bins, "repeats": repeats}, machine_facts(1), ("grid", "prior", "smooth"), overwrite=True
        )
        limit_threads(1)
        for grid in GRIDS:
            for row in _measure(grid, bins, repeats):
                results.add(row)
        lines = [("grid", "cells", "movement prior", "pass", "CPU ms", "goal")]
        for row in results.rows.values():
            name = "smoother" if row["smooth"] else "filter"
            cells, time = str(row["cells"]), f"{row['cpu_ms']:.1f}"
            goal = f"{row['goal_ms']:g}" if row["goal_ms"] else ""
            lines.append((row["grid"], cells, row["prior"], name, time, goal))
        if not quiet:
            print_table(lines)
        screen().print(str(results.path), markup=False)


def _measure(name: str, bins: int, repeats: int) -> Iterator[Row]:
    """Decode distributions of a readout on a simulated walk, after one run that compiles."""
    shape = GRIDS[name]
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(20_000, len(shape))) * np.repeat(rng.random(40) < 0.5, 500)[:, None], axis=0)
    behavior = 25 * (1 + np.sin(walk / 25))
    moved = np.diff(behavior, axis=0, prepend=behavior[:1])
    state = (np.abs(moved).sum(axis=1) > 0.05).astype(int)
    if len(shape) == 1:
        state += state * (moved[:, 0] > 0)
    one_state = np.zeros_like(state)
    grid = Grid.from_behavior(behavior, (None,) * len(shape), shape, 0.02)
    follows = np.arange(len(behavior)) > 0
    components = [MovementComponent("none", "product", 0.2, None, Familiarity())]
    for kind, own in (("walk", one_state), ("states", state)):
        statistics = MovementStatistics.from_behavior(grid, behavior, moved, own, follows, np.ones(len(behavior)))
        movement = Movement(statistics, width_factor=4.0, power=0.2, jump=1e-2)
        components.append(MovementComponent(kind, "product", 0.4, movement, Familiarity()))
    priors = {"states": MovementMixture((components[-1],)), "mixture": MovementMixture(tuple(components))}
    missing = np.zeros(bins, dtype=bool)
    given = ReadoutMass(_readout_mass(grid, behavior[:bins], rng), np.arange(bins) == 0, missing)
    for prior, mixture in priors.items():
        for smooth in (False, True):
            times = []
            for _ in range(repeats + 1):
                with Stopwatch() as stopwatch:
                    mixture.posterior(given, smooth)
                times.append(stopwatch.cpu)
            row = {"grid": name, "cells": grid.size, "prior": prior, "smooth": smooth, "goal_ms": GOAL_MS[name][smooth]}
            yield row | {"cpu_ms": round(1000 * min(times[1:]), 2)}


def _readout_mass(grid: Grid, behavior: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return distributions around the behavior with errors, as a readout gives them, (time, *shape) float32."""
    mass = np.ones((len(behavior), 1, 1), dtype=np.float32)
    for number, axis in enumerate(grid.axes):
        center = behavior[:, number] + 4 * axis.width * rng.normal(size=len(behavior))
        bump = np.exp(-((axis.centers - center[:, None]) ** 2) / (2 * (4 * axis.width) ** 2))
        mass = mass * (bump[:, :, None] if number == 0 else bump[:, None, :])
    mass = mass.reshape(len(behavior), *grid.shape).astype(np.float32)
    return mass / mass.reshape(len(mass), -1).sum(axis=1).reshape(-1, *[1] * len(grid.axes))
