"""What was found, as a file, a figure and tables of times, ratios, memory and accuracy."""

from __future__ import annotations

import json
import math
from typing import Any

from kept import Row
from measure import machine_facts, versions
from rich.table import Table
from suite import screen

from .figure import SWEEPS, draw
from .folder import Folder
from .methods import METHODS
from .problems import NOISES, TASKS, Size

__all__ = ["accuracy_table", "cost_table", "summarize", "time_tables"]

NOISE_WORDS = {"varying": "noise that depends on the input", "constant": "constant noise"}
TASK_WORDS = {"forward": "forward", "gradients": "forward and gradients"}


def summarize(folder: Folder, rates: list[Row], sizes: list[Size]) -> None:
    """Write results.json and the figure, print the tables."""
    timed = [row for row in folder.rows.values() if "case" not in row]
    accuracy = [row for row in folder.rows.values() if "case" in row]
    core = max((one["core"] for one in rates if one["core"]), default=None)
    products = max(one["torch.mm"] for one in rates)
    for row in timed:
        if core and "gflops" in row:
            row["share_of_core"] = row["gflops"] * 1e9 / core
    machine = machine_facts(1) | {"flops_per_second": {"core": core, "torch.mm": products}}
    machine |= versions("numba", "jax", "jaxlib", "dynamax", "torch-kf", "filterpy")
    result = {"settings": folder.settings, "machine": machine, "results": timed, "accuracy": accuracy}
    files = [folder.path / "results.json", folder.path / "times.png"]
    files[0].write_text(json.dumps(result, indent=1) + "\n")
    drawn = draw(timed, files[1])

    console = screen()
    swept = {size for one in SWEEPS.values() for size in one}
    earlier = [size for size in dict.fromkeys(Size(*row["size"]) for row in timed) if size not in swept]
    sizes = list(dict.fromkeys([*sizes, *earlier]))
    for table in time_tables(timed, sizes):
        console.print(table)
    if core:
        console.print(f"this core: {core / 1e9:.0f} GFLOP/s at most, {products / 1e9:.0f} in torch.mm")
    if timed:
        console.print(cost_table(timed, sizes, core))
    for noise in NOISES:
        if any(row["noise"] == noise for row in accuracy):
            console.print(accuracy_table(accuracy, noise))
    console.print(", ".join(map(str, files if drawn else files[:1])), markup=False)


def time_tables(rows: list[dict[str, Any]], sizes: list[Size]) -> list[Table]:
    """A table for each noise and task: median CPU time of a call, and how many times ours in the same rounds.

    For several threads the ratio of wall times is there too.
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
    """Share of the core's rate that goes into necessary arithmetic, and memory that the call adds."""
    chosen = _chosen(rows, "varying", "gradients")
    table = _table("forward and gradients, noise that depends on the input: share of the core's rate, MB added", sizes)
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
    """Relative error of the log-likelihood and of the gradients; ! marks covariances that are not positive definite."""
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
    wanted = [row for row in rows if (row["noise"], row["task"]) == (noise, task)]
    return {(row["method"], Size(*row["size"])): row for row in wanted}


def _table(title: str, sizes: list[Size]) -> Table:
    table = Table(title=title, caption="batch, steps, states, channels; - skipped, the reason is in results.json")
    table.add_column("method")
    for size in sizes:
        table.add_column(str(size), justify="right")
    return table


def _time(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "cpu_s" not in row:
        return "-"
    if "times_ours" not in row:
        return f"{1000 * row['cpu_s']:.3g}"
    wall = f", wall {row['times_ours_wall']:.2g}" if row["threads"] > 1 else ""
    return f"{1000 * row['cpu_s']:.3g} ({row['times_ours']:.3g}{wall})"


def _errors(row: dict[str, Any]) -> str:
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
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.0e}"
