"""Summary of the results: the figure, and tables of times, ratios, memory and accuracy."""

from __future__ import annotations

import math
from typing import Any

from measure import versions
from results_store import Results, Row
from rich.table import Table
from suite import screen

from filter.figure import SWEEPS, draw
from filter.methods import METHODS
from filter.problems import NOISES, TASKS, Size

__all__ = ["accuracy_table", "cost_table", "summarize", "time_tables"]

NOISE_WORDS = {"varying": "varying noise", "constant": "constant noise"}
TASK_WORDS = {"forward": "forward", "gradients": "forward and gradients"}


def summarize(results: Results, rates: list[Row], sizes: list[Size]) -> None:
    """Complete results.json, draw the figure and print the tables."""
    timed = [row for row in results.rows.values() if "case" not in row]
    accuracy = [row for row in results.rows.values() if "case" in row]
    core = max((one["core"] for one in rates if one["core"]), default=None)
    products = max(one["torch.mm"] for one in rates)
    for row in timed:
        if core and "gflops" in row:
            row["share_of_core"] = row["gflops"] * 1e9 / core
    results.machine |= {"flops_per_second": {"core": core, "torch.mm": products}}
    results.machine |= versions("numba", "jax", "jaxlib", "dynamax", "torch-kf", "filterpy")
    results.write()
    files = [results.path, results.path.with_name("times.png")]
    drawn = draw(timed, files[1])

    console = screen()
    swept = {size for one in SWEEPS.values() for size in one}
    earlier = [size for size in dict.fromkeys(Size(*row["size"]) for row in timed) if size not in swept]
    sizes = list(dict.fromkeys([*sizes, *earlier]))
    for table in time_tables(timed, sizes):
        console.print(table)
    if core:
        console.print(f"this core: at most {core / 1e9:.0f} GFLOP/s, {products / 1e9:.0f} in torch.mm")
    if timed:
        console.print(cost_table(timed, sizes, core))
    for noise in NOISES:
        if any(row["noise"] == noise for row in accuracy):
            console.print(accuracy_table(accuracy, noise))
    console.print(", ".join(map(str, files if drawn else files[:1])), markup=False)


def time_tables(rows: list[dict[str, Any]], sizes: list[Size]) -> list[Table]:
    """Return a table for each noise and task: median CPU time of a call, and its ratio to ours in the same rounds.

    With several threads the ratio of wall times is given, too.
    """
    tables = []
    for noise in NOISES:
        for task in TASKS:
            chosen = _chosen(rows, noise, task)
            if not any("cpu_s" in row for row in chosen.values()):
                continue
            table = _table(f"{TASK_WORDS[task]}, {NOISE_WORDS[noise]}: CPU ms (times ours)", sizes)
            for method in METHODS:
                cells = [_time(chosen.get((method, size))) for size in sizes]
                if any(cells):
                    table.add_row(method, *cells)
            tables.append(table)
    return tables


def cost_table(rows: list[dict[str, Any]], sizes: list[Size], core: float | None) -> Table:
    """Return a table of the rate of necessary operations relative to the core's, and of the memory that a call adds."""
    chosen = _chosen(rows, "varying", "gradients")
    table = _table("forward and gradients, varying noise: share of the core's rate, MB added", sizes)
    for method in METHODS:
        cells = []
        for size in sizes:
            row = chosen.get((method, size), {})
            share = f"{100 * row['gflops'] * 1e9 / core:.2g} %" if core and "gflops" in row else ""
            cells.append(f"{share}  {row['added_memory_mb']:.0f}" if "added_memory_mb" in row else "")
        if any(cells):
            table.add_row(method, *cells)
    return table


def accuracy_table(rows: list[dict[str, Any]], noise: str) -> Table:
    """Return a table of relative errors; ! marks covariances that are not positive definite."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    table = Table(title=f"relative error of log-likelihood / gradients, {NOISE_WORDS[noise]}; ! not positive definite")
    table.add_column("method", no_wrap=True)
    for case in cases:
        table.add_column(case, justify="right")
    known = {(row["method"], row["case"]): row for row in rows if row["noise"] == noise}
    for method in dict.fromkeys(row["method"] for row in rows):
        table.add_row(method, *(_errors(known.get((method, case), {})) for case in cases))
    return table


def _chosen(rows: list[dict[str, Any]], noise: str, task: str) -> dict[tuple[str, Size], dict[str, Any]]:
    """Return the rows of a noise and task by method and size."""
    wanted = [row for row in rows if (row["noise"], row["task"]) == (noise, task)]
    return {(row["method"], Size(*row["size"])): row for row in wanted}


def _table(title: str, sizes: list[Size]) -> Table:
    """Return an empty table with a column for each size."""
    table = Table(title=title, caption="batch, steps, states, channels; -: skipped, results.json has the reason")
    table.add_column("method")
    for size in sizes:
        table.add_column(str(size), justify="right")
    return table


def _time(row: dict[str, Any] | None) -> str:
    """Return the time of a row as text."""
    if row is None:
        return ""
    if "cpu_s" not in row:
        return "-"
    if "times_ours" not in row:
        return f"{1000 * row['cpu_s']:.3g}"
    wall = f", wall {row['times_ours_wall']:.2g}" if row["threads"] > 1 else ""
    return f"{1000 * row['cpu_s']:.3g} ({row['times_ours']:.3g}{wall})"


def _errors(row: dict[str, Any]) -> str:
    """Return the errors of a row as text."""
    if "failed" in row:
        return "fails"
    if "log_likelihood_error" not in row:
        return "-" if row else ""
    texts = [_number(row["log_likelihood_error"])]
    if "gradient_error" in row:
        texts.append(_number(row["gradient_error"]))
    return ("not finite" if set(texts) == {"not finite"} else " / ".join(texts)) + (
        "" if row["positive_definite"] else " !"
    )


def _number(value: float | None) -> str:
    """Return a number as text."""
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.0e}"
