"""Tables of the results: scores next to the published ones, further measures, and assumptions of the theorem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pages import mean_and_sd
from results_store import Results, Row

from identifiability.experiment import Experiment
from identifiability.seeds import ITUNA_MISSING, agreement, from_text, ituna_agreement

__all__ = [
    "ASSUMPTIONS_TEXT", "COLUMNS", "INTRODUCTION", "MEASURES_TEXT", "assumption_table", "measure_table",
    "setting_names", "table",
]  # fmt: skip

COLUMNS = ("experiment", "setting", "score", "published", "verdict", "true from learned", "learned from true")
INTRODUCTION = (
    "Score: R² of the true latents predicted by an affine map of the learned ones, fitted on training videos and "
    "scored on new trajectories; mean ± standard deviation over seeds. In experiments where frames outside a bound are "
    "hidden or blurred, the score is that of the frames within the bound. The last two columns are the R² over all "
    "frames, in both directions. Published scores are on repeated trajectories."
)
TOLERANCE = 0.01
MEASURES = (
    "mean correlation",
    "encoder alone",
    "nonlinear gain",
    "predictor",
    "inside 95 %",
    "frequency error",
    "noise level r",
    "seeds agree",
    *(() if ITUNA_MISSING else ("seeds agree (ituna)",)),
)
MEASURES_TEXT = (
    "Mean correlation: of matched dimensions. For our models: R² of the encoder's latents without the filter; gain of "
    "a perceptron over the affine map; R² of the learned predictions from the true ones with the affine map of the "
    "latents (Corollary 1); share of latents inside the predicted 95 % intervals; largest error of a frequency "
    "(eigenvalues of A, radians per frame); correlation of inferred and true noise level. For several seeds: R² of the "
    "latents of one seed from those of another, by our measure and by PairwiseConsistency of ituna. " + ITUNA_MISSING
)
ASSUMPTIONS_TEXT = (
    "Verdicts of check_assumptions on our models and test videos (first seed): holds (+), doubtful (?), fails (-), "
    "with the effect size."
)
SIGNS = {"holds": "+", "doubtful": "?", "fails": "-"}


def table(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """Return the rows of the main table as text, see `COLUMNS`."""
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
            scores = [row[experiment.score] for row in good]
            lines.append(
                (
                    experiment.name,
                    name,
                    mean_and_sd(scores),
                    "" if published is None else f"{published:.3f}",
                    _verdict(float(np.mean(scores)), published, goal),
                    mean_and_sd([row["r2_true_from_learned"] for row in good]),
                    mean_and_sd([row["r2_learned_from_true"] for row in good]),
                )
            )
    return lines


def _verdict(score: float, published: float | None, goal: float | None) -> str:
    """Return how a score compares with the goal and the published score, or with fixed bounds without these."""
    words = []
    if goal is not None:
        words.append(f"reaches {goal:g}" if score >= goal else f"below {goal:g}")
    if published is not None:
        gap = score - published
        words.append("as published" if abs(gap) <= TOLERANCE else "above published" if gap > 0 else "below published")
    if not words:
        words.append("identified" if score >= 0.95 else "roughly" if score >= 0.8 else "not identified")
    return ", ".join(words)


def _measures(rows: list[Row]) -> dict[str, str]:
    """Return the further measures of the runs of one setting by their name, where there are any."""
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
    texts = {name: mean_and_sd(values) for name, values in found.items()}
    latents = [from_text(row["common"]) for row in rows if row.get("common")]
    if len(latents) > 1:
        texts["seeds agree"] = f"{agreement(latents):.3f}"
        if not ITUNA_MISSING:
            texts["seeds agree (ituna)"] = f"{ituna_agreement(latents):.3f}"
    return texts


def _settings(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, str, list[Row]]]:
    """Return experiment, setting and rows of the runs that did not fail, in the order of the experiments."""
    return [
        (experiment.name, name, rows)
        for experiment in experiments
        for name in setting_names(results, experiment)
        if (rows := results.good(experiment.name, name))
    ]


def setting_names(results: Results, experiment: Experiment) -> list[str]:
    """Return the settings that have results, models of the user last."""
    names = list(dict.fromkeys(s for e, s, _ in results.rows if e == experiment.name))
    order = [s.name for s in experiment.settings if s.name in names]
    return [*order, *(n for n in names if n not in order)]


def measure_table(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """Return the heading and the rows of the table of further measures, see `MEASURES_TEXT`."""
    lines: list[tuple[str, ...]] = [("experiment", "setting", *MEASURES)]
    for experiment, name, rows in _settings(results, experiments):
        texts = _measures(rows)
        if set(texts) - {"mean correlation"}:
            lines.append((experiment, name, *(texts.get(measure, "") for measure in MEASURES)))
    return lines


def assumption_table(results: Results, experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """Return the heading and the rows of the table of assumptions, see `ASSUMPTIONS_TEXT`."""
    checked = [
        (e, s, rows[0]["assumptions"]) for e, s, rows in _settings(results, experiments) if rows[0].get("assumptions")
    ]
    names = list(dict.fromkeys(name for _, _, found in checked for name in found))
    lines = [
        (e, s, *(f"{SIGNS[found[n]['verdict']]} {found[n]['value']:.2g}" if n in found else "" for n in names))
        for e, s, found in checked
    ]
    return [("experiment", "setting", *(name.replace("_", " ") for name in names)), *lines]
