"""The printed tables, and what the measurements say about the choice between loops and scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from results_store import Results, Row

from gpu.filters import DYNAMAX, DYNAMAX_SCAN, LOOP, ON_CPU, SCAN
from kalmanssl.kalman.backends import MIN_STEPS_OF_SCAN, MOST_NUMBERS_OF_SCAN

__all__ = ["crossover_notes", "tables"]

METHODS = (SCAN, LOOP, ON_CPU, DYNAMAX, DYNAMAX_SCAN)
Lines = list[tuple[str, ...]]


def tables(results: Results) -> Iterator[tuple[str, Lines]]:
    """Yield titles and lines of text, the heading first."""
    yield "Filter, wall milliseconds per call (smoother and filter in float32)", _filters(results)
    yield "Loops and scans with gradients, wall milliseconds per call", _crossover(results)
    yield "Training", _training(results)
    yield "Image encoder", _encoders(results)


def _filters(results: Results) -> Lines:
    lines: Lines = [
        ("batch, steps, states, channels", "noise", "task", *METHODS, "peak MB, scan", "loop", "error of scan")
    ]
    for (size, noise, task), rows in _by_problem([*results.of("filter"), *results.of("dynamax")]).items():
        peaks = (_number(rows.get(name, {}).get("peak_mb"), 0) for name in (SCAN, LOOP))
        error = rows.get(SCAN, {}).get("error")
        times = (_time(rows.get(name)) for name in METHODS)
        lines.append((size, noise, task, *times, *peaks, "" if error is None else f"{error:.0e}"))
    return lines


def _crossover(results: Results) -> Lines:
    lines: Lines = [("batch, steps, states, channels", "noise", SCAN, LOOP, "loop / scan", "peak MB, scan", "loop")]
    for (size, noise, _), rows in _by_problem(results.of("crossover")).items():
        scan, loop = rows.get(SCAN, {}), rows.get(LOOP, {})
        ratio = loop["wall_s"] / scan["wall_s"] if "wall_s" in scan and "wall_s" in loop else None
        peaks = (_number(row.get("peak_mb"), 0) for row in (scan, loop))
        lines.append((size, noise, _time(scan), _time(loop), _number(ratio, 2), *peaks))
    return lines


def _training(results: Results) -> Lines:
    lines: Lines = [("model", "on", "batch", "step, ms", "whole short fit, s", "peak MB")]
    for row in results.of("training"):
        step, fit, peak = _time(row), _number(row.get("fit_s"), 1), _number(row.get("peak_mb"), 0)
        lines.append((row["name"], row["on"], str(row.get("batch", "")), step, fit, peak))
    return lines


def _encoders(results: Results) -> Lines:
    lines: Lines = [("work", "on", "precision", "images", "ms", "images per second", "peak MB")]
    for row in results.of("encoder"):
        rate, peak = _number(row.get("images_per_s"), 0), _number(row.get("peak_mb"), 0)
        lines.append((row["name"], row["on"], row["task"], str(row.get("images", "")), _time(row), rate, peak))
    return lines


def crossover_notes(results: Results) -> list[str]:
    """Return from where on scans are faster, next to the constants by which "auto" chooses."""
    few: list[int] = []
    many: list[int] = []
    for (_, noise, _), rows in _by_problem(results.good("crossover")).items():
        if noise != "varying" or set(rows) != {SCAN, LOOP}:
            continue
        batch, steps, states, _ = rows[SCAN]["size"]
        if rows[SCAN]["wall_s"] < rows[LOOP]["wall_s"]:
            few.append(steps)
            many.append(batch * states**2)
    if not few:
        return []
    return [
        f"Scans were faster from {min(few)} steps on (MIN_STEPS_OF_SCAN is {MIN_STEPS_OF_SCAN}) and up to {max(many)} "
        f"covariance entries per step, of those measured (MOST_NUMBERS_OF_SCAN is {MOST_NUMBERS_OF_SCAN})."
    ]


def _by_problem(rows: Sequence[Row]) -> dict[tuple[str, str, str], dict[str, Row]]:
    """Return rows by problem (size, noise, task) and method."""
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        size = ", ".join(map(str, row["size"]))
        found.setdefault((size, row["noise"], row["task"]), {})[row["name"]] = row
    return found


def _time(row: Row | None) -> str:
    """Return milliseconds, or why there are none."""
    if not row:
        return ""
    return row["failed"] if "failed" in row else f"{1e3 * row['wall_s']:.4g}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
