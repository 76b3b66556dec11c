"""Table and figure of the decoding benchmark, from its rows and the saved predictions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from results_store import Row
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hc11.methods import OURS

__all__ = ["add_equal_coverage", "by_method", "draw", "scaled_width", "score_table"]


def scaled_width(lower: np.ndarray, point: np.ndarray, upper: np.ndarray, truth: np.ndarray, coverage: float) -> float:
    """Return the mean width of the intervals after all are scaled by the factor that gives the coverage `coverage`.

    Intervals are scaled around their points. The result is infinite if intervals that must grow have no width.
    """
    half = np.where(truth >= point, upper - point, point - lower)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.nan_to_num(np.abs(truth - point) / half, nan=0.0, posinf=np.inf)
    factor = np.sort(needed)[max(int(np.ceil(coverage * len(needed))), 1) - 1]
    return float(factor * np.mean(upper - lower)) if np.isfinite(factor) else float("inf")


def add_equal_coverage(rows: Iterable[Row], predictions: Path) -> None:
    """Add to every row the width of its 95 % interval at the coverage of our filter, or smoother if it looks ahead.

    Rows whose prediction is not saved stay as they are.
    """
    rows = [row for row in rows if (predictions / row["file"]).is_file()]
    ours = {
        smooth: [row["coverage"]["95"] for row in rows if row["method"] == f"{OURS}, {kind}"]
        for smooth, kind in ((False, "filter"), (True, "smoother"))
    }
    for row in rows:
        coverages = ours[row["look_ahead"] != "no"]
        row["width_at_our_coverage"] = None
        if not coverages:
            continue
        with np.load(predictions / row["file"]) as saved:
            width = 100 * scaled_width(
                saved["lower_95"], saved["point"], saved["upper_95"], saved["truth"], float(np.median(coverages))
            )
        row["width_at_our_coverage"] = width if np.isfinite(width) else None


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of every method, one per seed, in the order of their first appearance."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["method"], []).append(row)
    return grouped


def _median(rows: list[Row], *keys: str) -> float:
    """Return the median over seeds of an entry of the rows; missing values are NaN."""
    values = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value[key]
        values.append(np.nan if value is None else value)
    return float(np.median(values))


def score_table(rows: Iterable[Row]) -> Table:
    """Return a table of medians over seeds with one line for each method, in centimeters and seconds."""
    table = Table(title="position on running bins of the test part; cm, medians over seeds", box=SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    scores = ("ahead", "median / mean", "R²", "cover 50 80 95", "width 95", "at our cover", "CRPS")
    for heading in (*scores, "fit CPU s", "decode", "minute ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for method, runs in by_method(rows).items():
        equal = _median(runs, "width_at_our_coverage")
        table.add_row(
            method,
            runs[0]["look_ahead"],
            f"{_median(runs, 'median'):.1f} / {_median(runs, 'mean'):.1f}",
            f"{_median(runs, 'r2'):.2f}",
            " ".join(f"{100 * _median(runs, 'coverage', level):.0f}" for level in ("50", "80", "95")),
            f"{_median(runs, 'width', '95'):.0f}",
            f"{equal:.0f}" if np.isfinite(equal) else "–",
            f"{_median(runs, 'crps'):.1f}",
            f"{_median(runs, 'fit_cpu_s'):.2f}",
            f"{_median(runs, 'decode_cpu_s'):.2f}",
            f"{1e3 * _median(runs, 'minute_wall_s'):.0f}",
            style="bold" if method.startswith(OURS) else None,
        )
    return table


def draw(rows: Iterable[Row], predictions: Path, file: Path) -> bool:
    """Draw error against coverage, calibration curves and decoded traversals; False if a prediction is not saved."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grouped = by_method(rows)
    if not all((predictions / row["file"]).is_file() for runs in grouped.values() for row in runs):
        return False
    figure = Figure(figsize=(15, 8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.2, 1))
    colors = {method: colormaps["tab20"](i % 20) for i, method in enumerate(grouped)}
    scatter = figure.add_subplot(grid[0, 0])
    _scatter(scatter, grouped, colors)
    figure.legend(
        *scatter.get_legend_handles_labels(), loc="outside right upper", fontsize=7, title="hollow: uses later bins"
    )
    _calibration(figure.add_subplot(grid[0, 1]), grouped, colors)
    _traversals(figure.add_subplot(grid[1, :]), grouped, predictions, colors)
    figure.savefig(file, dpi=130)
    return True


def _marker(method: str) -> dict[str, Any]:
    """Return the marker of a method."""
    ours = method.startswith(OURS)
    return {"marker": "*" if ours else "o", "markersize": 14 if ours else 6, "zorder": 3 if ours else 2}


def _scatter(axes: Any, grouped: dict[str, list[Row]], colors: dict[str, Any]) -> None:
    """Draw median error against coverage."""
    axes.axvspan(93, 97, color="0.9", zorder=0)
    for method, runs in grouped.items():
        hollow = {} if runs[0]["look_ahead"] == "no" else {"markerfacecolor": "white"}
        x = [100 * run["coverage"]["95"] for run in runs]
        y = [run["median"] for run in runs]
        axes.plot(x, y, linestyle="", color=colors[method], label=method, **_marker(method), **hollow)
    axes.set(xlabel="coverage of the 95 % interval, %", ylabel="median error, cm", title="error and calibration")


def _calibration(axes: Any, grouped: dict[str, list[Row]], colors: dict[str, Any]) -> None:
    """Draw the coverage of intervals against their nominal level."""
    axes.plot([0, 100], [0, 100], color="0.6", linestyle=":")
    for method, runs in grouped.items():
        levels = [float(level) for level in runs[0]["calibration"]]
        found = np.median([list(run["calibration"].values()) for run in runs], axis=0)
        width = 2.5 if method.startswith(OURS) else 1.0
        dashed = "-" if runs[0]["look_ahead"] == "no" else "--"
        axes.plot(levels, 100 * found, color=colors[method], linewidth=width, linestyle=dashed)
    axes.set(xlabel="nominal level, %", ylabel="coverage, %", title="central intervals (dashed: uses later bins)")


def _traversals(
    axes: Any, grouped: dict[str, list[Row]], predictions: Path, colors: dict[str, Any], count: int = 3
) -> None:
    """Draw the first decoded traversals of our method."""
    shown = [method for method in grouped if method.startswith(OURS)] or list(grouped)[:1]
    for i, method in enumerate(shown):
        with np.load(predictions / grouped[method][0]["file"]) as saved:
            time, truth = saved["time"], 100 * saved["truth"]
            point, lower, upper = (100 * saved[name] for name in ("point", "lower_95", "upper_95"))
        cuts = np.flatnonzero(np.diff(time) > 2 * np.median(np.diff(time))) + 1
        start = 0.0
        for number, run in enumerate(np.split(np.arange(len(time)), cuts)[:count]):
            x = time[run] - time[run[0]] + start
            start = x[-1] + 0.5
            axes.fill_between(x, lower[run], upper[run], color=colors[method], alpha=0.2, linewidth=0)
            axes.plot(x, point[run], color=colors[method], label=method if number == 0 else None)
            if i == 0:
                axes.plot(x, truth[run], color="black", label="position" if number == 0 else None)
    axes.set(
        xlabel="time, s (without the time between traversals)", ylabel="cm", title="first traversals of the test part"
    )
    axes.legend(fontsize=8)
