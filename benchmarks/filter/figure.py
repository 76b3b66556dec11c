"""Figure of the time against the numbers of sequences, steps and states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filter.methods import OURS
from filter.problems import Size

__all__ = ["SWEEPS", "SWEPT", "draw"]

SWEPT = (OURS, "careful loop", "dynamax")
BASE = Size(8, 100, 8, 4)
SWEEPS: dict[str, list[Size]] = {
    "sequences": [BASE._replace(batch=batch) for batch in (1, 8, 64, 512)],
    "steps": [BASE._replace(steps=steps) for steps in (100, 1000, 10000)],
    "states": [BASE._replace(states=states, channels=max(1, states // 2)) for states in (2, 4, 8, 16, 32)],
}
COLORS = dict(zip(SWEPT, ("#1b6ca8", "#e08214", "#4d9221"), strict=True))


def draw(rows: list[dict[str, Any]], path: Path) -> bool:
    """Draw the CPU seconds of filter and gradients with varying noise; False if there are no times of the sweep."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = {
        (row["method"], tuple(row["size"])): row["cpu_s"]
        for row in rows
        if "cpu_s" in row and (row["noise"], row["task"]) == ("varying", "gradients")
    }
    swept = {size for sizes in SWEEPS.values() for size in sizes}
    if not any(size in swept for _, size in known):
        return False
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (axis, sizes) in zip(figure.subplots(1, 3, sharey=True), SWEEPS.items(), strict=True):
        axis_index = {"sequences": 0, "steps": 1, "states": 2}[axis]
        for method in SWEPT:
            points = [(size[axis_index], known[method, size]) for size in sizes if (method, size) in known]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", clip_on=False, color=COLORS[method], label=method)
        fixed = [f"{value} {name}" for name, value in zip(SWEEPS, BASE, strict=False) if name != axis]
        label = "states (twice the number of channels)" if axis == "states" else axis
        axes.set(xscale="log", yscale="log", xlabel=label, title=", ".join(fixed))
        axes.set_xticks([size[axis_index] for size in sizes], [f"{size[axis_index]:,}" for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if axis == "sequences":
            axes.set_ylabel("CPU seconds, forward and gradients")
            if axes.get_lines():
                axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    return True
