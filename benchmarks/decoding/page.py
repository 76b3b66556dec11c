"""The page of the results: comparison, tables of scores, and figures of CRPS, calibration and lag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from pages import Section, write_page
from results_store import Results, Row

from decoding.methods import OURS
from decoding.tables import by_method, median, representation, score_tables, summary, targets_in

__all__ = ["write_decoding_page"]

INTRODUCTION = (
    "Behavior decoded from neural activity, on the part of each recording after the training part. Absolute errors are "
    "those of the predictive median (Euclidean distance in 2-D, the short way around on circles), R² that of the "
    "predictive mean. CRPS is the mean over dimensions; the energy score is its joint counterpart in 2-D. Coverage "
    "is in percent with one standard error over blocks of time; area is the product of both widths. The columns "
    "'/ narrowest' and '80' compare the widths of the 95 and 80 % intervals with those of the central intervals of the "
    "same predictions whose coverage on the test part is exactly nominal, found afterwards (a diagnostic): above one, "
    "intervals are wider than needed, below one they cover too little. Values are medians over seeds. Settings of "
    "other methods were chosen by cross-validation in the training part; ours are the defaults."
)
COMPARISON = (
    "CRPS of our filter divided by that of the best causal baseline, and of our smoother divided by that of the best "
    "baseline of all; below one, ours is better. The best baseline is chosen by its test score, which favors it. On "
    "running bins of a track, baselines that were fitted on running bins alone count too."
)
REPRESENTATION = (
    "CRPS of nearest neighbors on the means of our filtered latents and on causally smoothed square-root counts, with "
    "the same code and choice of settings. A ratio below one means that the latents have kept what the counts say."
)
LAG = "Coverage of the 95 % interval and CRPS against the time since the end of the training part."


def write_decoding_page(results: Results, path: Path) -> None:
    """Write the page."""
    rows = list(results.rows.values())
    tables = dict(score_tables(rows))
    sections = [
        Section(text=(INTRODUCTION, f"Preset {results.settings['preset']}.")),
        Section("Ours beside the best baseline", (COMPARISON,), summary(rows)),
    ]
    compared = representation(rows)
    if len(compared) > 1:
        sections.append(Section("Representation", (REPRESENTATION,), compared))
    for target in targets_in(rows):
        titles = [title for title in tables if title.startswith(f"{target} (")]
        of_target = [row for row in rows if row["target"] == target]
        failed = [f"{row['method']} failed: {row['failed']}" for row in of_target if "failed" in row]
        if failed and not titles:
            sections.append(Section(target, failed))
        for number, title in enumerate(titles):
            figures = (_figure(of_target),) if number == len(titles) - 1 else ()
            text = (*failed, LAG) if figures else ()
            sections.append(Section(title, text, tables[title], figures))
    write_page(path, "Decoding of behavior", sections)


def _figure(rows: list[Row]) -> Figure:
    """Draw the CRPS of all methods, calibration curves, and coverage and CRPS by lag."""
    grouped = by_method(row for row in rows if row["fitted_on"] == "all")
    colors = {name: colormaps["tab20"](i % 20) for i, name in enumerate(grouped)}
    figure = Figure(figsize=(15, 3.8), layout="constrained")
    panels = figure.subplots(1, 4, width_ratios=(1.4, 1, 1, 1))
    names = list(grouped)[::-1]
    panels[0].barh(names, [median(grouped[name], "all", "crps") for name in names], color=[colors[n] for n in names])
    panels[0].set(xlabel=f"CRPS, {rows[0]['unit']} (hatched: uses later bins)")
    for bar, name in zip(panels[0].patches, names, strict=True):
        bar.set_hatch("" if grouped[name][0]["look_ahead"] == "no" else "///")
    _draw_calibration(panels[1], grouped, colors)
    _draw_lag(panels[2], grouped, colors, "coverage")
    _draw_lag(panels[3], grouped, colors, "crps")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
    return figure


def _style(name: str, runs: list[Row]) -> dict[str, Any]:
    """Return the line style of a method: ours thick, dashed if it uses later bins."""
    dashed = "-" if runs[0]["look_ahead"] == "no" else "--"
    return {"linewidth": 2.5 if name.startswith(OURS) else 1.0, "linestyle": dashed}


def _draw_calibration(axes: Any, grouped: dict[str, list[Row]], colors: dict[str, Any]) -> None:
    """Draw the coverage of intervals against their nominal level."""
    axes.plot([0, 100], [0, 100], color="0.6", linestyle=":")
    for name, runs in grouped.items():
        levels = [float(level) for level in runs[0]["all"]["calibration"]]
        found = np.median([list(run["all"]["calibration"].values()) for run in runs], axis=0)
        axes.plot(levels, 100 * found, color=colors[name], **_style(name, runs))
    axes.set(xlabel="nominal level, %", ylabel="coverage, %")


def _draw_lag(axes: Any, grouped: dict[str, list[Row]], colors: dict[str, Any], entry: str) -> None:
    """Draw a score against the time since the end of the training part."""
    for name, runs in grouped.items():
        lag = [part["lag_s"] / 60 for part in runs[0]["lag"]]
        if entry == "coverage":
            values = np.median([[100 * part["coverage"]["95"] for part in run["lag"]] for run in runs], axis=0)
        else:
            values = np.median([[part["crps"] for part in run["lag"]] for run in runs], axis=0)
        axes.plot(lag, values, marker=".", color=colors[name], **_style(name, runs))
    if entry == "coverage":
        axes.axhline(95, color="0.6", linestyle=":")
    axes.set(xlabel="lag, min", ylabel="coverage of 95 %" if entry == "coverage" else "CRPS")
