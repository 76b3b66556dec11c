"""Figures of the report about errors by time and place, the worst segments, and behavior on a map or on a circle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl import plotting
from kalmanssl.runs._text import figure_unit, median_error, scaled_unit, with_unit, words
from kalmanssl.runs.report._error_profile import WORST_SECONDS
from kalmanssl.utils.segments import break_at_gaps, gap_starts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.runs._run import Run

__all__ = ["errors", "place_view"]

_TURNS_SECONDS = 20.0


def errors(run: Run, evaluation: Evaluation) -> dict[str, Any] | None:
    """Draw the errors by time and by place, and the worst segments; None without them, as in older evaluations."""
    a = evaluation.arrays
    if "block_time" not in a:
        return None
    name, scores = evaluation.main
    unit = run.behavior_unit
    occupancy = ((scores or {}).get("references") or {}).get("occupancy", {}).get("median_error")
    factor, shown = scaled_unit(median_error(scores), unit)
    place_factor, place_unit = figure_unit(scores, unit)
    occupancy = None if occupancy is None else factor * occupancy
    has_rest = name == "running" and evaluation.scores.get("rest") is not None
    by_time = plotting.plot_error_by_time(
        a["block_time"], factor * a["block_error"], ("moving", "at rest") if has_rest else ("",), reference=occupancy,
        unit=shown, ax=plotting.new_axes(4.8, 3.2)[0],
    )  # fmt: skip
    by_place = None
    if "place" in a:
        by_place = plotting.plot_error_by_place(
            place_factor * a["place"], factor * a["place_error"], reference=occupancy, name=words(run.behavior),
            unit=place_unit, error_unit=shown, ax=plotting.new_axes(4.8, 3.2)[0],
        )  # fmt: skip
    elif "map_error" in a and np.isfinite(a["map_error"]).any():
        by_place = plotting.plot_error_map(
            place_factor * a["map_edges"], factor * a["map_error"], unit=place_unit, error_unit=shown,
            ax=plotting.new_axes(4.8, 3.8)[0],
        )  # fmt: skip
    return {
        "by_time": by_time,
        "by_place": by_place,
        "bins": "moving bins" if name == "running" else "bins",
        "worst": _worst(run, evaluation),
        "worst_seconds": WORST_SECONDS,
    }


def _worst(run: Run, evaluation: Evaluation) -> list[tuple[Axes, str]]:
    """Draw the segments with the largest errors, each with a sentence."""
    a, drawn = evaluation.arrays, []
    scores = evaluation.main[1]
    factor, unit = figure_unit(scores, run.behavior_unit)
    period = None if run.settings.period is None else factor * run.settings.period
    for number in range(len(a.get("worst_time", ()))):
        time = a["worst_time"][number]
        mean, lower, upper, truth = (
            factor * a[f"worst_{name}"][number] for name in ("mean", "lower", "upper", "truth")
        )
        error = with_unit(float(a["worst_error"][number]), run.behavior_unit, like=median_error(scores))
        sentence = f"{time[0]:.2f} to {time[-1]:.2f} s, mean error {error}"
        ax = plotting.new_axes(3.6, 2.6)[0]
        if mean.shape[1] == 2:
            plotting.plot_map(mean, truth, unit=unit, ax=ax)
        else:
            plotting.plot_decoded(
                time, mean[:, 0], lower[:, 0], upper[:, 0], truth[:, 0],
                level=run.require_decoder().level, name=words(run.behavior), unit=unit, period=period, ax=ax,
            )  # fmt: skip
        ax.locator_params(axis="x", nbins=4)
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()  # the figures are small, and the lines are those of the first figure
        drawn.append((ax, sentence))
    return drawn


def place_view(run: Run, evaluation: Evaluation) -> dict[str, Any] | None:
    """Draw a behavior of two dimensions on a map, or a circular one on a circle; None for other behavior."""
    a, level = evaluation.arrays, 0.0 if run.decoder is None else float(run.decoder.level)
    if "mean" not in a:
        return None
    factor, unit = figure_unit(evaluation.main[1], run.behavior_unit)
    mean, lower, upper = (factor * a[name] for name in ("mean", "lower", "upper"))
    truth = factor * a["truth"] if "truth" in a else None
    if len(a.get("moments", ())):
        moments = a["moments"]
        step = int(moments[1] - moments[0]) if len(moments) > 1 else 0
        shown = slice(max(0, int(moments[0]) - step), int(moments[-1]) + step + 1)
        time = a["time"][shown]
        moments = moments - shown.start
        moments = moments + np.searchsorted(gap_starts(time), moments, side="right")  # a row is added at each gap
        _, mean, true = break_at_gaps(time, mean[shown], mean[shown] if truth is None else truth[shown])
        ax = plotting.plot_map(
            mean, None if truth is None else true, regions=a["regions"],
            cells=(factor * a["region_x"], factor * a["region_y"]),
            moments=moments, level=level, unit=unit, ax=plotting.new_axes(5.6, 4.6)[0],
        )  # fmt: skip
        return {"axes": ax, "kind": "map", "start_s": float(time[0]), "stop_s": float(time[-1]), "level": 100 * level}
    if run.settings.period is None or a["mean"].shape[1] != 1:
        return None
    shown = slice(0, int(np.searchsorted(a["time"], a["time"][0] + _TURNS_SECONDS)))
    ax = plotting.plot_turns(
        a["time"][shown], mean[shown, 0], lower[shown, 0], upper[shown, 0],
        None if truth is None else truth[shown, 0], period=factor * run.settings.period, level=level,
        name=words(run.behavior), unit=unit, ax=plotting.new_axes(5.0, 4.8)[0],
    )  # fmt: skip
    time = a["time"][shown]
    return {"axes": ax, "kind": "circle", "start_s": float(time[0]), "stop_s": float(time[-1]), "level": 100 * level}
