"""A table of what was found beside what was published, and a page of figures like the paper's."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from identifiability.experiment import Experiment
from identifiability.results import Results

__all__ = ["COLUMNS", "table", "write_page"]

COLUMNS = ("experiment", "setting", "ours", "published", "verdict", "true from learned", "learned from true")
INTRODUCTION = (
    "R² of the true latents from an affine map of the learned ones, fitted on training videos and scored on new "
    "trajectories; mean ± standard deviation over seeds. Where frames outside a bound are hidden or blurred, ours is "
    "the R² of the frames within; the last columns are over all frames, in both directions. Published figures are on "
    "repeated trajectories."
)
CLOSE = 0.01


def table(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """Rows of the table as text, see `COLUMNS`."""
    lines: list[tuple[str, ...]] = []
    for experiment in experiments:
        names = list(dict.fromkeys(s for e, s, _ in results.rows if e == experiment.name))
        order = [s.name for s in experiment.settings if s.name in names]
        for name in [*order, *(n for n in names if n not in order)]:
            rows = results.of(experiment.name, name)
            good = [row for row in rows if "failed" not in row]
            if not good:
                lines.append((experiment.name, name, "-", "", f"failed: {rows[0]['failed']}", "", ""))
                continue
            goal = published = None
            if name in order:
                goal, published = experiment.setting(name).goal, experiment.setting(name).published
            ours = [row[experiment.score] for row in good]
            lines.append(
                (
                    experiment.name,
                    name,
                    _spread(ours),
                    "" if published is None else f"{published:.3f}",
                    _verdict(float(np.mean(ours)), published, goal) + _extras(good),
                    _spread([row["r2_true_from_learned"] for row in good]),
                    _spread([row["r2_learned_from_true"] for row in good]),
                )
            )
    return lines


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def _verdict(ours: float, published: float | None, goal: float | None) -> str:
    words = []
    if goal is not None:
        words.append(f"reaches {goal:g}" if ours >= goal else f"below {goal:g}")
    if published is not None:
        apart = ours - published
        words.append("as published" if abs(apart) <= CLOSE else "above published" if apart > 0 else "below published")
    if not words:
        words.append("identified" if ours >= 0.95 else "roughly" if ours >= 0.8 else "not identified")
    return ", ".join(words)


def _extras(rows: list[dict[str, Any]]) -> str:
    names = {"noise_correlation": "noise level r", "predictor_r2": "predictor R²"}
    found = [f"{said} {np.mean([row[name] for row in rows]):.2f}" for name, said in names.items() if name in rows[0]]
    return "".join(f"; {one}" for one in found)


def write_page(results: Results, experiments: Sequence[Experiment], path: Path) -> None:
    """Write the table and the figures as one page that needs no other file."""
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>"
        for line in table(results, experiments)
    )
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    figures = "".join(_section(results, experiment) for experiment in experiments)
    path.write_text(
        "<!doctype html><meta charset='utf-8'><title>Identifiability</title><style>body{font:15px sans-serif;"
        "max-width:70em;margin:2em auto;padding:0 1em}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid "
        "#ddd}table{border-collapse:collapse}img{max-width:100%}</style><h1>Are the true latents found?</h1>"
        f"<p>{INTRODUCTION}</p><p>Preset {html.escape(results.settings['preset'])}.</p>"
        f"<table><tr>{head}</tr>{cells}</table>{figures}",
        encoding="utf-8",
    )


def _section(results: Results, experiment: Experiment) -> str:
    rows = [row for (name, _, _), row in results.rows.items() if name == experiment.name and "failed" not in row]
    if not rows:
        return ""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [_bars, *(panel for entry, panel in PANELS.items() if any(row.get(entry) for row in rows))]
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, place in zip(panels, places, strict=True):
        panel(place, rows, experiment)
        for side in ("top", "right"):
            place.spines[side].set_visible(False)
    maps = [row for row in rows if row.get("map") and row["seed"] == 0]
    drawn = _image(figure) + (_image(_maps(maps)) if maps else "")
    return f"<h2>{html.escape(experiment.title)} ({html.escape(experiment.figure)})</h2>{drawn}"


def _image(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    return f"<img src='data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}'>"


def _bars(place: Any, rows: list[dict[str, Any]], experiment: Experiment) -> None:
    names = list(dict.fromkeys(row["setting"] for row in rows))[::-1]
    means = [np.mean([row[experiment.score] for row in rows if row["setting"] == name]) for name in names]
    place.barh(names, np.maximum(means, 0.0), color="#1b6ca8")
    for row in rows:
        place.plot(max(row[experiment.score], 0.0), row["setting"], "k.", markersize=3)
    place.set(xlim=(0, 1), xlabel="R²")
    place.tick_params(axis="y", labelsize=7)


def _curves(place: Any, rows: list[dict[str, Any]], experiment: Experiment) -> None:
    for row in rows:
        if row.get("curve") and row["seed"] == 0:
            place.plot(*np.transpose(row["curve"]), label=row["setting"])
    place.set(xlabel="step", ylabel="R² while learning", ylim=(0, 1))
    place.legend(frameon=False, fontsize=6, loc="lower right")


def _cosines(place: Any, rows: list[dict[str, Any]], experiment: Experiment) -> None:
    for row in rows:
        if row.get("cosine") and row["seed"] == 0:
            place.plot(*np.transpose(row["cosine"]), label=row["setting"])
    place.axhline(0, color="grey", linewidth=0.8)
    place.set(xlabel="step", ylabel="cosine of the two gradients")


def _levels(place: Any, rows: list[dict[str, Any]], experiment: Experiment) -> None:
    row = next(row for row in rows if row.get("noise_levels"))
    place.plot(*np.transpose(row["noise_levels"]), ".", markersize=2, alpha=0.4)
    place.set(xlabel="variance of the pixels", ylabel="inferred variance", title=row["setting"])


PANELS = {"curve": _curves, "cosine": _cosines, "noise_levels": _levels}


def _maps(rows: list[dict[str, Any]]) -> Figure:
    """Grids of positions as the encoder sees them, before (above) and after learning."""
    figure = Figure(figsize=(2.2 * len(rows), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
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
