"""Figures, tables and numbers of each section of the report; the template has the text around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl import plotting
from kalmanssl.runs._labels import are_label_scores
from kalmanssl.runs._running import running_rule, speed_unit
from kalmanssl.runs._text import (
    PART_NAMES,
    axis_name,
    cell,
    figure_unit,
    median_error,
    number,
    percent,
    r_squared,
    scaled_unit,
    score_sentence,
    words,
)
from kalmanssl.runs._trust_scores import trust_rows, trust_sentence
from kalmanssl.runs.report._labels import label_rows, label_scores
from kalmanssl.runs.report._latents_3d import latents_3d
from kalmanssl.runs.report._tiles import reference_rows
from kalmanssl.runs.report._time_axis import drawn_time, label_segments, recorded_seconds
from kalmanssl.utils.labels import label_text
from kalmanssl.utils.segments import segment_slices

if TYPE_CHECKING:
    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.runs._run import Run

__all__ = [
    "calibration_rows", "conditional_rows", "decoded", "kind_of_activity", "latents", "noise",
    "score_rows", "scores",
]  # fmt: skip

_TOLERANCE = 0.02  # share of bins by which coverage may differ from its nominal level, beyond two standard errors


def decoded(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    """Draw the activity and, below it, each dimension of the decoded behavior."""
    a = evaluation.arrays
    labels = "probability" in a
    dims = 1 if labels else a["mean"].shape[1] if "mean" in a else 0
    axes = plotting.new_axes(9.2, 3.0 + 1.9 * dims, rows=(1.35, *[1] * dims))
    time = drawn_time(a["time"])
    like = median_error(evaluation.main[1])
    factor, unit = figure_unit(evaluation.main[1], run.behavior_unit)
    plotting.plot_raster(a["counts"], time, signal=kind_of_activity(run) == "signal", ax=axes[0])
    if labels:
        names = [label_text(label) for label in evaluation.part["labels"]]
        truth = a["truth"][:, 0] if "truth" in a else None
        plotting.plot_label_probabilities(time, a["probability"], names, truth, name=str(run.behavior), ax=axes[1])
    # Bins at rest that are chosen by the decoded velocity itself are always covered more often.
    rest = None if labels or evaluation.divided_by_itself else evaluation.scores.get("rest")
    # Intervals are calibrated for new data, and cover more of the time that the model was fitted on.
    miscovered = _miscoverage(rest) if rest is not None and not evaluation.part["fitted"] else ""
    hatched = miscovered == "narrow"
    for dim in range(0 if labels else dims):
        plotting.plot_decoded(
            time,
            factor * a["mean"][:, dim],
            factor * a["lower"][:, dim],
            factor * a["upper"][:, dim],
            factor * a["truth"][:, dim] if "truth" in a else None,
            where=a.get("runs"),
            level=run.require_decoder().level,
            name=f"{run.behavior}{f' {axis_name(dim)}' if dims > 1 else ''}",
            unit=unit,
            period=_times(factor, run.settings.period),
            hatched=hatched,
            usual=_usual(run, dim, factor),
            ax=axes[1 + dim],
        )
    for ax in axes[:-1]:
        ax.set_xlabel("")  # the axes share the time axis at the bottom
    for ax in axes[2:]:
        if (legend := ax.get_legend()) is not None:
            legend.remove()  # the lines are those of the first dimension
    plotting.label_time(axes[-1], time)
    label_segments(axes[-1], a["time"])
    return {
        "axes": axes[0],
        "dims": dims,
        "activity": {"spikes": "Spikes", "events": "Events"}.get(kind_of_activity(run), "Activity"),
        "units": a["counts"].shape[1],
        "seconds": recorded_seconds(a["time"]),
        "segments": len(segment_slices(a["time"])),
        "ordered": dims == 1 and "truth" in a and not labels,
        "labels": labels,
        "running": running_rule(run, like) if dims > 0 and "runs" in a else None,
        "rest": percent(rest["coverage"]["95"], rest["coverage_error"]["95"]) if miscovered and rest else None,
        "hatched": hatched,
    }


def kind_of_activity(run: Run) -> str:
    """Return "spikes", "events" or "signal"."""
    recording = run.metadata["recording"]  # runs of earlier versions only have the number of spikes
    return str(recording.get("activity", "signal" if recording["spikes"] is None else "spikes"))


def _miscoverage(scores: dict[str, Any]) -> str:
    """Return whether the 95 % interval is clearly too "narrow" or too "wide", else "".

    Clearly means by more than the tolerance and by more than two standard errors over blocks of time.
    """
    excess = scores["coverage"]["95"] - 0.95
    if abs(excess) <= max(2 * scores["coverage_error"]["95"], _TOLERANCE):
        return ""
    return "wide" if excess > 0 else "narrow"


def _usual(run: Run, dim: int, factor: float) -> tuple[float, float] | None:
    """Return `factor` times the range with the share of the fitted behavior that the interval has; None on a circle."""
    reference = run.metadata.get("reference")
    if not reference or reference["period"] is not None or dim >= len(reference["occupancy"]["all"]["quantiles"]):
        return None
    levels, level = np.array(reference["levels"]), run.require_decoder().level
    quantiles = np.array(reference["occupancy"]["all"]["quantiles"][dim])
    low, high = np.interp([(1 - level) / 2, (1 + level) / 2], levels, quantiles)
    return factor * float(low), factor * float(high)


def scores(run: Run, evaluation: Evaluation) -> dict[str, Any] | None:
    """Draw calibration and confusion, and tabulate the scores; None without scores."""
    rows = score_rows(evaluation.scores, run.behavior_unit)
    if not rows:
        return None
    name, main = evaluation.main
    like = median_error(main)
    common = {
        "rows": rows,
        "units": score_sentence(main, "", evaluation.divided_by_itself),  # the unit is said at the top
        "running": running_rule(run, like),
        "movement": movement_rule(run, smoothed=bool(evaluation.part["smoothed"])),
        "conditional": conditional_rows((evaluation.scores["all"] or {}).get("conditional"), run, like),
        "trust": trust_rows((evaluation.scores["all"] or {}).get("trust"), run.behavior_unit, like),
        "trust_sentence": trust_sentence((evaluation.scores["all"] or {}).get("trust")),
    }
    if are_label_scores(evaluation.scores["all"] or {}):
        return common | label_scores(evaluation)
    curves = {
        heading: evaluation.scores[part]["calibration"]
        for part, heading in PART_NAMES.items()
        if evaluation.scores.get(part) is not None
    }
    factor, unit = scaled_unit(like, run.behavior_unit)
    figure_factor, shown_unit = figure_unit(main, run.behavior_unit)
    a = evaluation.arrays
    dims = a["decoded"].shape[1] if "decoded" in a else 0
    confusion = [
        plotting.plot_decoded_against_tracked(
            figure_factor * a["decoded"][:, dim], figure_factor * a["tracked"][:, dim],
            name=f"{run.behavior}{f' {axis_name(dim)}' if dims > 1 else ''}", unit=shown_unit,
            period=_times(figure_factor, run.settings.period),
        )
        for dim in range(dims)
    ]  # fmt: skip
    return common | {
        "labels": False,
        "levels": calibration_rows(curves),
        "references": reference_rows(main, unit, factor),
        "referenced": PART_NAMES[name],
        "calibration": plotting.plot_calibration(curves, run.require_decoder().level),
        "confusion": confusion,
    }


def calibration_rows(curves: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the coverage of intervals by nominal level as a table of text; `curves` has a column for each heading."""
    rows = [["nominal level (%)", *(f"{heading} (%)" for heading in curves)]]
    for i, nominal in enumerate(next(iter(curves.values()))["nominal"]):
        if round(100 * nominal) % 10 == 0 or nominal >= 0.95:
            cells = [percent(curve["empirical"][i], curve["error"][i]) for curve in curves.values()]
            rows.append([f"{100 * nominal:g}", *cells])
    return rows


def movement_rule(run: Run, smoothed: bool) -> str:
    """Say in words how the decoder combines bins over time, as it was chosen on held-out bins."""
    decoder = run.latent_decoder(smoothed)
    kinds = list(dict.fromkeys(kind for weights in decoder.movement_weights for kind in weights))
    unfamiliar = " Latents unlike those of the fit have less weight." if decoder.uses_familiarity else ""
    if kinds == ["none"]:
        prior = "a prior for movement" if run.labels is None else "a prior for changes of the label"
        return f"Every bin is decoded by itself, since {prior} did not reduce the error on held-out bins.{unfamiliar}"
    names = {
        "walk": "a random walk",
        "states": "random walks at rest and in movement",
        "chain": "a Markov chain of the labels",
        "none": "every bin by itself",
    }
    passes = "from all bins of a segment" if decoder.smooth else "from the bin and those before it"
    if any(len(weights) > 1 for weights in decoder.movement_weights):
        how = "The posteriors of several movement priors are averaged, with weights that were chosen on held-out bins"
    else:
        how = "The movement prior was chosen on held-out bins"
    priors = ", ".join(names[kind] for kind in kinds)
    return f"{how} ({priors}); each bin is decoded {passes}.{unfamiliar}"


def conditional_rows(conditional: dict[str, Any] | None, run: Run, like: float | None = None) -> list[list[str]]:
    """Return the coverage by condition as a table of text; empty if there is none.

    Parameters
    ----------
    conditional : dict or None
        From `kalmanssl.decoding.conditional_coverage`.
    run : Run
    like : float, optional
        Lengths are in the unit in which this one, in the unit of the files, is easy to read.
    """
    if not conditional:
        return []
    factor, shown = scaled_unit(like, run.behavior_unit)
    units = {"speed": (factor, speed_unit(shown)), "lag": (1.0, "s")}
    names = {"lag": "time since the fit"}
    sets = "set_size" in (conditional["worst"] or {})
    last = "labels in the 95 % set" if sets else f"width of 95 %{f' ({shown})' if shown else ''}"
    rows = [["bins with", "inside 80 % (%)", "inside 95 % (%)", last]]
    for name, groups in conditional.items():
        for group in groups if name != "worst" else []:
            named = "label" in group
            label = (
                f"{words(name)} {label_text(group['label'])}"
                if named
                else _range(names.get(name, words(name)), group, groups, *units.get(name, (factor, shown)))
            )
            cells = [percent(group["coverage"][level], group["coverage_error"][level]) for level in ("80", "95")]
            size = group["set_size"]["95"] if sets else _times(factor, group["width"]["95"])
            rows.append([label, *cells, cell(size)])
    return rows


def _range(name: str, group: dict[str, Any], groups: list[dict[str, Any]], factor: float, shown: str) -> str:
    """Say which values a group has, in the unit `shown`; those near zero relative to the largest of all are zero."""
    largest = max(abs(one[end]) for one in groups for end in ("low", "high"))
    low, high = (number(factor * v if abs(v) >= 1e-3 * largest else 0.0) for v in (group["low"], group["high"]))
    return f"{name} {low} to {high}{'' if shown.startswith('°') else ' '}{shown}".rstrip()


def score_rows(scores: dict[str, Any], unit: str) -> list[list[str]]:
    """Return the scores as a table of text: a heading and one row per score; empty if there are none.

    Parameters
    ----------
    scores : dict
        "running", "rest" and "all", as in `kalmanssl.runs.Evaluation`.
    unit : str
        Unit of the behavior. Lengths are in a unit in which the first median error is easy to read.
    """
    parts = {heading: scores[name] for name, heading in PART_NAMES.items() if scores.get(name) is not None}
    if not parts:
        return []
    first = next(iter(parts.values()))
    if are_label_scores(first):
        return label_rows(first, "all bins")
    factor, shown = scaled_unit(first["median_error"], unit)
    in_unit = f" ({shown})" if shown else ""
    rows = [["", *parts]]
    for key, label in (("median_error", "median error"), ("mean_error", "mean error"), ("crps", "CRPS")):
        rows.append([label + in_unit, *(cell(_times(factor, p[key])) for p in parts.values())])
    rows.append(["R²", *(r_squared(p["r2"]) for p in parts.values())])
    for level in first["coverage"]:
        cells = [percent(p["coverage"][level], p["coverage_error"][level]) for p in parts.values()]
        rows.append([f"inside the {level} % interval (%)", *cells])
    for level in first["width"]:
        cells = [cell(_times(factor, p["width"][level])) for p in parts.values()]
        rows.append([f"width of the {level} % interval{in_unit}", *cells])
    rows.append(["bins", *(str(p["bins"]) for p in parts.values())])
    return rows


def latents(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    """Draw the latents along their first principal axes."""
    a = evaluation.arrays
    values, color = a["latents"], a["color"]
    colored_by, unit, period = "time", "s", None
    if "truth" in a:
        dims = a["truth"].shape[1]
        colored_by = f"{words(run.behavior)}{f' {axis_name(0)}' if dims > 1 else ''}"
        factor, unit = figure_unit(evaluation.main[1], run.behavior_unit)
        color, period = factor * color, _times(factor, run.settings.period)
    explained = a.get("variance_explained")
    pairs = [(0, 1), (0, 2)][: values.shape[1] - 1]
    views = [
        (
            plotting.plot_latents(
                values,
                color,
                dims=pair,
                name=colored_by,
                unit=unit,
                period=period,
                labels=evaluation.part.get("labels"),
                explained=explained,
                ax=plotting.new_axes(4.8, 3.8)[0],
            ),
            pair,
        )
        for pair in pairs
    ]
    bins = "moving bins" if evaluation.main[0] == "running" else "bins"
    labels = [plotting.latent_axis_label(dim, explained).replace(" of variance", "") for dim in range(3)]
    return {
        "views": views,
        "count": len(values),
        "bins": bins,
        "colored_by": colored_by,
        "in_3d": latents_3d(values, color, labels, period),
    }


def noise(evaluation: Evaluation) -> dict[str, Any]:
    """Draw the log-likelihood over time, and above it the observation noise if it varies."""
    a = evaluation.arrays
    sd = np.sqrt(a["noise"])
    constant = bool(np.ptp(sd, axis=0).max() <= 1e-6 * sd.max())
    axes = plotting.new_axes(9.2, 2.5 if constant else 4.2, rows=(1,) if constant else (1, 1))
    if not constant:
        plotting.plot_noise(drawn_time(a["time"]), a["noise"], ax=axes[0])
        axes[0].set_xlabel("")
    plotting.plot_log_likelihood(drawn_time(a["time"]), a["log_likelihood"], ax=axes[-1])
    label_segments(axes[-1], a["time"])
    return {
        "axes": axes[0],
        "constant": constant,
        "of_latents": [number(v) for v in np.quantile(sd.mean(axis=0), [0.1, 0.5, 0.9])],
        "over_time": [number(v) for v in np.quantile(np.median(sd, axis=1), [0.1, 0.5, 0.9])],
    }


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value
