"""A page of figures like the paper's, with all tables."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pages
from kept import Results, Row
from matplotlib.figure import Figure

from identifiability.experiment import Experiment
from identifiability.tables import ASSUMED, COLUMNS, INTRODUCTION, MEASURED, assumptions, measured, setting_names, table

__all__ = ["write_page"]


def write_page(results: Results, experiments: Sequence[Experiment], path: Path) -> None:
    """Write the tables and the figures as one page that needs no other file."""
    pages.write(
        path,
        "Identifiability",
        f"<h1>Are the true latents found?</h1><p>{INTRODUCTION}</p>",
        f"<p>Preset {html.escape(results.settings['preset'])}.</p>",
        pages.table([COLUMNS, *table(results, experiments)]),
        *(_section(results, experiment) for experiment in experiments),
        f"<h2>What else was measured</h2><p>{MEASURED}</p>{pages.table(measured(results, experiments))}",
        f"<h2>Which assumptions hold</h2><p>{ASSUMED}</p>{pages.table(assumptions(results, experiments))}",
    )


def _section(results: Results, experiment: Experiment) -> str:
    rows = [row for name in setting_names(results, experiment) for row in results.good(experiment.name, name)]
    if not rows:
        return ""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = [_bars, *(panel for entry, panel in PANELS.items() if any(row.get(entry) for row in rows))]
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, place in zip(panels, places, strict=True):
        panel(place, rows, experiment)
        for side in ("top", "right"):
            place.spines[side].set_visible(False)
    maps = [row for row in rows if row.get("map") and row["seed"] == 0]
    drawn = pages.picture(figure) + (pages.picture(_maps(maps)) if maps else "")
    return f"<h2>{html.escape(experiment.title)} ({html.escape(experiment.figure)})</h2>{drawn}"


def _bars(place: Any, rows: list[Row], experiment: Experiment) -> None:
    names = list(dict.fromkeys(row["setting"] for row in rows))[::-1]
    means = [np.mean([row[experiment.score] for row in rows if row["setting"] == name]) for name in names]
    place.barh(names, np.maximum(means, 0.0), color="#1b6ca8")
    for row in rows:
        place.plot(max(row[experiment.score], 0.0), row["setting"], "k.", markersize=3)
    place.set(xlim=(0, 1), xlabel="R²")
    place.tick_params(axis="y", labelsize=7)


def _curves(place: Any, rows: list[Row], experiment: Experiment) -> None:
    for row in rows:
        if row.get("curve") and row["seed"] == 0:
            place.plot(*np.transpose(row["curve"]), label=row["setting"])
    place.set(xlabel="step", ylabel="R² of validation videos", ylim=(0, 1))
    place.legend(frameon=False, fontsize=6, loc="lower right")


def _cosines(place: Any, rows: list[Row], experiment: Experiment) -> None:
    for row in rows:
        if row.get("cosine") and row["seed"] == 0:
            place.plot(*np.transpose(row["cosine"]), label=row["setting"])
    place.axhline(0, color="gray", linewidth=0.8)
    place.set(xlabel="step", ylabel="cosine of the two gradients")


def _levels(place: Any, rows: list[Row], experiment: Experiment) -> None:
    row = next(row for row in rows if row.get("noise_levels"))
    place.plot(*np.transpose(row["noise_levels"]), ".", markersize=2, alpha=0.4)
    place.set(xlabel="variance of the pixels", ylabel="inferred variance", title=row["setting"])


PANELS = {"curve": _curves, "cosine": _cosines, "noise_levels": _levels}


def _maps(rows: list[Row]) -> Figure:
    """Grids of positions as the encoder sees them, before (above) and after learning."""
    figure = Figure(figsize=(2.2 * len(rows), 4.6), layout="constrained")
    for place, (when, row) in zip(
        figure.subplots(2, len(rows), squeeze=False).flat,
        [(when, row) for when in ("before", "after") for row in rows],
        strict=True,
    ):
        grid = np.asarray(row["map"][when])
        for lines in (grid, grid.swapaxes(0, 1)):
            place.plot(lines[..., 0].T, lines[..., 1].T, color="#1b6ca8", linewidth=0.6)
        place.set(aspect="equal", xticks=[], yticks=[])
        place.set_title(f"{row['setting']}, {when}", fontsize=6)
    return figure
