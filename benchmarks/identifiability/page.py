"""The page of the results: all tables, and figures like those of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pages import Section, write_page
from results_store import Results, Row

from identifiability.experiment import Experiment
from identifiability.tables import (
    ASSUMPTIONS_TEXT,
    COLUMNS,
    INTRODUCTION,
    MEASURES_TEXT,
    assumption_table,
    measure_table,
    setting_names,
    table,
)

__all__ = ["BLUE", "draw_map", "write_identifiability_page"]

BLUE = "#1b6ca8"


def write_identifiability_page(results: Results, experiments: Sequence[Experiment], path: Path) -> None:
    """Write the tables and the figures as one page."""
    preset = f"Preset {results.settings['preset']}."
    sections = [
        Section(text=(INTRODUCTION, preset), table=[COLUMNS, *table(results, experiments)]),
        *(section for experiment in experiments if (section := _section(results, experiment)) is not None),
        Section("Further measures", (MEASURES_TEXT,), measure_table(results, experiments)),
        Section("Assumptions of the theorem", (ASSUMPTIONS_TEXT,), assumption_table(results, experiments)),
    ]
    write_page(path, "Recovery of true latents", sections)


def _section(results: Results, experiment: Experiment) -> Section | None:
    """Return the figures of an experiment, if it has results."""
    rows = [row for name in setting_names(results, experiment) for row in results.good(experiment.name, name)]
    if not rows:
        return None
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = [_bars, *(panel for entry, panel in PANELS.items() if any(row.get(entry) for row in rows))]
    for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        panel(axes, rows, experiment)
        axes.spines[["top", "right"]].set_visible(False)
    with_maps = [row for row in rows if row.get("map") and row["seed"] == 0]
    figures = (figure, _maps(with_maps)) if with_maps else (figure,)
    return Section(f"{experiment.title} ({experiment.figure})", figures=figures)


def _bars(axes: Any, rows: list[Row], experiment: Experiment) -> None:
    """Draw the score of each setting, with a dot for each seed."""
    names = list(dict.fromkeys(row["setting"] for row in rows))[::-1]
    means = [np.mean([row[experiment.score] for row in rows if row["setting"] == name]) for name in names]
    axes.barh(names, np.maximum(means, 0.0), color=BLUE)
    for row in rows:
        axes.plot(max(row[experiment.score], 0.0), row["setting"], "k.", markersize=3)
    axes.set(xlim=(0, 1), xlabel="R²")
    axes.tick_params(axis="y", labelsize=7)


def _curves(axes: Any, rows: list[Row], experiment: Experiment) -> None:
    """Draw the scores on validation videos over the training."""
    for row in rows:
        if row.get("curve") and row["seed"] == 0:
            axes.plot(*np.transpose(row["curve"]), label=row["setting"])
    axes.set(xlabel="step", ylabel="R² of validation videos", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=6, loc="lower right")


def _cosines(axes: Any, rows: list[Row], experiment: Experiment) -> None:
    """Draw the cosine between the gradients of the two entropies over the training."""
    for row in rows:
        if row.get("cosine") and row["seed"] == 0:
            axes.plot(*np.transpose(row["cosine"]), label=row["setting"])
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set(xlabel="step", ylabel="cosine of the two gradients")


def _noise_levels(axes: Any, rows: list[Row], experiment: Experiment) -> None:
    """Draw inferred against true variance of the noise."""
    row = next(row for row in rows if row.get("noise_levels"))
    axes.plot(*np.transpose(row["noise_levels"]), ".", markersize=2, alpha=0.4)
    axes.set(xlabel="variance of the pixels", ylabel="inferred variance", title=row["setting"])


PANELS = {"curve": _curves, "cosine": _cosines, "noise_levels": _noise_levels}


def _maps(rows: list[Row]) -> Figure:
    """Draw the latents of a grid of positions, before (top) and after (bottom) training."""
    figure = Figure(figsize=(2.2 * len(rows), 4.6), layout="constrained")
    panels = [(when, row) for when in ("before", "after") for row in rows]
    for axes, (when, row) in zip(figure.subplots(2, len(rows), squeeze=False).flat, panels, strict=True):
        draw_map(axes, row["map"][when], f"{row['setting']}, {when}", 6)
    return figure


def draw_map(axes: Any, points: Any, title: str, font_size: int) -> None:
    """Draw a grid of positions that is mapped to latents, (rows, columns, 2), as its lines."""
    grid = np.asarray(points)
    for lines in (grid, grid.swapaxes(0, 1)):
        axes.plot(lines[..., 0].T, lines[..., 1].T, color=BLUE, linewidth=0.6)
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=font_size)
