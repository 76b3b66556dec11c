"""Figure of time and memory against the numbers of hours, units and sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["curves", "draw"]

AXES = ("hours", "units", "sessions")
QUANTITIES = {"cpu_s": "CPU seconds", "peak_mb": "peak memory, MB"}


def curves(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return for each axis the rows of the longest series in which nothing else differs, sorted along it.

    One session is not among several ones, which are fitted in another way and not decoded.
    """
    found = {}
    for axis in AXES:
        series: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in rows:
            if row["way"] == "library" and (axis != "sessions" or row["sessions"] > 1):
                series.setdefault(tuple(row[other] for other in AXES if other != axis), []).append(row)
        longest = max(series.values(), key=len, default=[])
        found[axis] = sorted(longest, key=lambda row: row[axis])
    return found


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the time and the memory of the whole fit along each axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 3, sharex="col", sharey="row")
    for column, (axis, series) in enumerate(curves(rows).items()):
        for line, (quantity, label) in enumerate(QUANTITIES.items()):
            axes = grid[line, column]
            axes.plot([row[axis] for row in series], [row[quantity] for row in series], "o-", color="#1b6ca8")
            axes.set(xscale="log", yscale="log")
            axes.set_xticks([row[axis] for row in series], [f"{row[axis]:g}" for row in series])
            axes.minorticks_off()
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.3)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            if column == 0:
                axes.set_ylabel(label)
            if line == 1:
                axes.set_xlabel(axis)
            elif series:
                fixed = [f"{series[0][other]:g} {other}" for other in AXES if other != axis]
                axes.set_title(", ".join(fixed))
    figure.savefig(path, dpi=150)
