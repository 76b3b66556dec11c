"""Tables of what was found: beside what was published, what else was measured, and which assumptions hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from kept import Results, Row
from pages import spread

from identifiability.experiment import Experiment
from kalmanssl.identifiability import consistency

__all__ = ["ASSUMED", "COLUMNS", "INTRODUCTION", "MEASURED", "assumptions", "measured", "setting_names", "table"]

COLUMNS = ("experiment", "setting", "ours", "published", "verdict", "true from learned", "learned from true")
INTRODUCTION = (
    "R² of the true latents from an affine map of the learned ones, fitted on training videos and scored on new "
    "trajectories; mean ± standard deviation over seeds. Where frames outside a bound are hidden or blurred, ours is "
    "the R² of the frames within; the last columns are over all frames, in both directions. Published figures are on "
    "repeated trajectories."
)
CLOSE = 0.01
MORE = (
    "mean correlation",
    "encoder alone",
    "nonlinear gain",
    "predictor",
    "inside 95 %",
    "frequency error",
    "noise level r",
    "seeds agree",
)
MEASURED = (
    "Mean correlation coefficient of matched dimensions. Of our models: R² of the encoder's latents without the "
    "filter; what a perceptron gains over the affine map; R² of the learned predictions from the true ones by the "
    "affine map of the latents (Corollary 1); share of latents inside the predicted 95 % intervals; largest error of a "
    "frequency (eigenvalues of A, radians per frame); correlation of inferred and true noise level. For several "
    "seeds: R² of the latents of one from those of another."
)
ASSUMED = (
    "What check_assumptions says of our models on test videos (first seed): holds (+), doubtful (?), fails (-), with "
    "the effect size."
)
SIGNS = {"holds": "+", "doubtful": "?", "fails": "-"}


def table(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """Rows of the table as text, see `COLUMNS`."""
    lines: list[tuple[str, ...]] = []
    for experiment in experiments:
        known = {setting.name: setting for setting in experiment.settings}
        for name in setting_names(results, experiment):
            good = results.good(experiment.name, name)
            if not good:
                reason = results.of(experiment.name, name)[0]["failed"]
                lines.append((experiment.name, name, "-", "", f"failed: {reason}", "", ""))
                continue
            goal, published = (known[name].goal, known[name].published) if name in known else (None, None)
            ours = [row[experiment.score] for row in good]
            lines.append(
                (
                    experiment.name,
                    name,
                    spread(ours),
                    "" if published is None else f"{published:.3f}",
                    _verdict(float(np.mean(ours)), published, goal),
                    spread([row["r2_true_from_learned"] for row in good]),
                    spread([row["r2_learned_from_true"] for row in good]),
                )
            )
    return lines


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


def _more(rows: list[Row]) -> dict[str, str]:
    """Further figures of the runs of one setting, by what they are; only those that were measured."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float | None) -> None:
        if value is not None:
            found.setdefault(name, []).append(value)

    for row in rows:
        note("mean correlation", row.get("mean_correlation"))
        note("noise level r", row.get("noise_correlation"))
        recovery = row.get("recovery")
        if recovery is None:
            continue
        note("encoder alone", recovery["r2_true_from_learned"])
        note("nonlinear gain", recovery["mlp_gain"])
        note("predictor", recovery["predictor_r2_same_map"])
        if recovery["calibration"] is not None:
            note("inside 95 %", recovery["calibration"]["coverage"]["95"])
        if recovery["frequencies"] is not None:
            errors = [one for one in recovery["frequencies"]["error"] if one is not None]
            note("frequency error", max(errors, default=None))
    words = {name: spread(values) for name, values in found.items()}
    latents = [np.asarray(row["common"]) for row in rows if row.get("common")]
    if len(latents) > 1:
        words["seeds agree"] = f"{consistency([z[::2] for z in latents], [z[1::2] for z in latents]):.3f}"
    return words


def _settings(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, str, list[Row]]]:
    """Experiment, setting and rows of what did not fail, in the order of the catalog."""
    return [
        (experiment.name, name, rows)
        for experiment in experiments
        for name in setting_names(results, experiment)
        if (rows := results.good(experiment.name, name))
    ]


def setting_names(results: Results, experiment: Experiment) -> list[str]:
    """Settings that were run, those of the catalog first."""
    names = list(dict.fromkeys(s for e, s, _ in results.rows if e == experiment.name))
    order = [s.name for s in experiment.settings if s.name in names]
    return [*order, *(n for n in names if n not in order)]


def measured(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """What else was measured, a heading and rows of text; see `MEASURED`."""
    lines: list[tuple[str, ...]] = [("experiment", "setting", *MORE)]
    for experiment, name, rows in _settings(results, experiments):
        more = _more(rows)
        if set(more) - {"mean correlation"}:
            lines.append((experiment, name, *(more.get(one, "") for one in MORE)))
    return lines


def assumptions(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """Which assumptions hold for our models, a heading and rows of text; see `ASSUMED`."""
    checked = [
        (e, s, rows[0]["assumptions"]) for e, s, rows in _settings(results, experiments) if rows[0].get("assumptions")
    ]
    names = list(dict.fromkeys(name for _, _, found in checked for name in found))
    lines = [
        (e, s, *(f"{SIGNS[found[n]['verdict']]} {found[n]['value']:.2g}" if n in found else "" for n in names))
        for e, s, found in checked
    ]
    return [("experiment", "setting", *(name.replace("_", " ") for name in names)), *lines]
