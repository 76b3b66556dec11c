"""Panels that several items of the paper draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from identifiability.page import BLUE, draw_map
from matplotlib.figure import Figure

from paper.item import Rows, values_of

__all__ = ["bars", "curves", "first_drawn", "map_panels", "panels"]

LINES = ("-", "--", ":")
INSIDE, BELOW = 3, 5  # labels that fit into a panel, and below it


def panels(count: int, width: float = 3.6, height: float = 3.1, rows: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure with panels in rows, without top and right borders."""
    figure = Figure(figsize=(width * count, height * rows), dpi=80, layout="constrained")
    axes = list(figure.subplots(rows, count, squeeze=False).flat)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def first_drawn(rows: Rows, part: str, name: str) -> Any:
    """Return what the first seed of a part has to draw under a name; None if there is nothing."""
    for row in rows.get(part, ()):
        if name in row.get("drawn", {}):
            return row["drawn"][name]
    return None


def bars(axes: Any, rows: Rows, entries: Sequence[tuple[str, str, str]], label: str) -> None:
    """Draw the mean of a figure as a bar for each (name, part, figure), with a dot for each seed."""
    found = [(name, values) for name, part, figure in entries if (values := values_of(rows, part, figure))]
    for place, (_, values) in enumerate(found[::-1]):
        axes.barh(place, np.mean(values), color=BLUE, alpha=0.7)
        axes.plot(values, [place] * len(values), "k.", markersize=4)
    axes.set_yticks(range(len(found)), [name for name, _ in found[::-1]], fontsize=7)
    axes.set_xlabel(label)


def curves(axes: Any, rows: Rows, parts: Sequence[str], name: str, x: str, y: str) -> None:
    """Draw a curve of [x, y] for each part, thin for every seed after the first."""
    for number, part in enumerate(parts):
        for place, row in enumerate(rows.get(part, ())):
            found = row.get("drawn", {}).get(name)
            if found:
                style = {"label": part.split(": ")[-1]} if place == 0 else {"linewidth": 0.5}
                axes.plot(*np.transpose(found), color=f"C{number % 10}", linestyle=LINES[number // 10], **style)
    axes.set(xlabel=x, ylabel=y)
    if axes.lines:
        place: dict[str, Any] = {}
        if len(parts) > BELOW:
            place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        elif len(parts) > INSIDE:
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
        axes.legend(frameon=False, fontsize=6, **place)


def map_panels(maps: Sequence[tuple[str, Any]]) -> Figure:
    """Draw grids of positions mapped to latents, one panel for each (title, grid)."""
    figure, axes = panels(len(maps), 2.4, 2.6)
    for ax, (title, points) in zip(axes, maps, strict=True):
        draw_map(ax, points, title, 8)
    return figure
