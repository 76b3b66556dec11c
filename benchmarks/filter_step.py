"""Time of one online step of the Kalman filter, `kalmanssl.kalman.kalman_step`, with all checks of its arguments.

One sequence is filtered step by step, with arrays of NumPy or with tensors. Times are microseconds of a step, on one
thread: CPU times exclude other programs on the machine, and wall times include them and garbage collection. Constant
noise is diagonal, varying noise has new variances at each step.

    kalmanssl bench filter_step
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from filter.problems import NOISES, Size, make_problem
from measure import machine_facts
from results_store import Results, Row
from suite import RESULTS, Quiet, cli_errors, make_app, print_table

from kalmanssl.kalman import kalman_step

app = make_app()
SIZES = ((4, 2), (8, 4), (16, 8), (32, 16), (64, 32))  # states, channels
STEPS, WARM_UP = 10_000, 500
GOAL_US, SMALL = 50.0, 8  # median CPU time of a step, for at most so many states


@app.command(help=__doc__)
def main(
    steps: Annotated[int, typer.Option(min=10, help="Steps to time.")] = STEPS,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS / "filter_step",
    quiet: Quiet = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        key = ("states", "channels", "noise", "arguments")
        results = Results(out, {"steps": steps, "dtype": "float32"}, machine_facts(1), key, overwrite=True)
        torch.set_num_threads(1)
        for states, channels in SIZES:
            for noise in NOISES:
                for arguments in ("arrays", "tensors"):
                    results.add(_measure(states, channels, noise, arguments, steps))
    lines = [("states", "channels", "noise", "arguments", "CPU median us", "wall median us", "wall 99 % us", "goal")]
    for row in results.rows.values():
        figures = (f"{row[name]:.1f}" for name in ("cpu_median_us", "wall_median_us", "wall_p99_us"))
        goal = "" if row["goal_us"] is None else f"{row['goal_us']:g}"
        lines.append((str(row["states"]), str(row["channels"]), row["noise"], row["arguments"], *figures, goal))
    if not quiet:
        print_table(lines)


def _measure(states: int, channels: int, noise: str, arguments: str, steps: int) -> Row:
    """Filter a sequence and return the row with the times of its steps."""
    problem = make_problem(Size(1, steps + WARM_UP, states, channels), noise)
    convert: Callable[[np.ndarray], Any] = np.asarray if arguments == "arrays" else torch.from_numpy
    y, A, Q, C, R = (v.astype(np.float32) for v in (problem.y, problem.A, problem.Q, problem.C, problem.R))
    y, R = y[0], (R[0] if noise == "varying" else np.broadcast_to(R, (len(problem.y[0]), channels)).copy())
    mean, cov = np.zeros(states, np.float32), np.eye(states, dtype=np.float32)
    mean, cov = convert(mean), convert(cov)
    given = {"A": convert(A), "Q": convert(Q), "C": convert(C)}
    seen, variances = [convert(row) for row in y], [convert(row) for row in R]
    wall, cpu = np.zeros((2, len(seen)), dtype=np.int64)
    for number, (row, variance) in enumerate(zip(seen, variances, strict=True)):
        cpu_start, start = time.thread_time_ns(), time.perf_counter_ns()
        out = kalman_step(row, mean, cov, **given, R=variance, first=number == 0)
        wall[number] = time.perf_counter_ns() - start
        cpu[number] = time.thread_time_ns() - cpu_start
        mean, cov = out.filtered_mean, out.filtered_cov
    wall, cpu = wall[WARM_UP:] / 1000, cpu[WARM_UP:] / 1000
    return {
        "states": states,
        "channels": channels,
        "noise": noise,
        "arguments": arguments,
        "cpu_median_us": round(float(np.median(cpu)), 1),
        "wall_median_us": round(float(np.median(wall)), 1),
        "wall_p99_us": round(float(np.quantile(wall, 0.99)), 1),
        "goal_us": GOAL_US if states <= SMALL else None,
    }


if __name__ == "__main__":
    app()
