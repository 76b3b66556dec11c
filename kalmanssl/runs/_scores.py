"""Scores of decoded behavior: all bins, running and rest, beside references, under conditions, and by trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Recording, speed
from kalmanssl.runs._evaluated_bins import EvaluatedBins
from kalmanssl.runs._labels import are_label_scores
from kalmanssl.runs._references import score_references
from kalmanssl.runs._running import position_of
from kalmanssl.runs._text import ERROR_NAMES, PART_NAMES, axis_name, number, percent, with_unit
from kalmanssl.runs._trust_scores import trust_scores
from kalmanssl.utils.json_values import without_nan

if TYPE_CHECKING:
    from kalmanssl.decoding import DecodedCategory, DecodedPosition
    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.runs._run import Run

__all__ = ["main_scores", "score_bins"]


def score_bins(
    run: Run,
    recording: Recording,
    decoded: DecodedPosition | DecodedCategory | None,
    bins: EvaluatedBins,
    smooth: bool,
) -> dict[str, Any]:
    """Return the scores of all bins, of the running ones and of those at rest, as in `kalmanssl.runs.Evaluation`."""
    from kalmanssl.decoding import DecodedPosition, score_decoding

    scores: dict[str, Any] = {"running": None, "rest": None, "all": None}
    truth = bins.truth
    if decoded is None or truth is None or not bins.known.any():
        return scores
    for name, mask in bins.parts.items():
        scores[name] = score_decoding(decoded, truth, mask=mask)
        if isinstance(decoded, DecodedPosition):
            references = score_references(run.metadata.get("reference"), recording, truth, mask, name)
            scores[name]["references"] = without_nan(references)
    scores["all"]["conditional"] = _conditional(run, recording, decoded, truth)
    if isinstance(decoded, DecodedPosition):
        threshold = float(run.latent_decoder(smooth).trust.threshold)
        scores["all"]["trust"] = trust_scores(decoded, truth, bins.runs, threshold)
    return scores


def _conditional(
    run: Run, recording: Recording, decoded: DecodedPosition | DecodedCategory, truth: np.ndarray
) -> dict[str, Any]:
    """Return the coverage of intervals or sets by speed, behavior and lag since the end of the fitted part."""
    from kalmanssl.decoding import DecodedCategory, conditional_coverage

    labels = isinstance(decoded, DecodedCategory)
    conditions: dict[str, np.ndarray] = {}
    if len(truth) > 1 and not labels:
        conditions["speed"] = speed(
            position_of(recording, str(run.behavior)), recording.time, period=run.settings.period
        )
    for dim, column in enumerate(truth.reshape(len(truth), -1).T):
        conditions[str(run.behavior) if truth.ndim == 1 else f"{run.behavior}, {axis_name(dim)}"] = column
    lag = recording.time - run.metadata["recording"]["fitted_until_s"]
    if (lag > 0).all():
        conditions["lag"] = lag
    return without_nan(conditional_coverage(decoded, truth, conditions))


def main_scores(evaluation: Evaluation, unit: str | None = None) -> list[tuple[str, str]]:
    """Return names and values of the main scores, errors with the unit of the behavior if it is given, and alarms."""
    name, scores = evaluation.main
    rows = []
    if scores is not None and are_label_scores(scores):
        rows.append(("accuracy", f"{percent(scores['accuracy'], scores['accuracy_error'])} %"))
    elif scores is not None:
        error = scores[evaluation.main_error]
        shown = f"{number(error)} (in the unit of the recording)" if unit is None else with_unit(error, unit)
        rows.append((f"{ERROR_NAMES[evaluation.main_error]}, {PART_NAMES[name]}", shown))
        share = percent(scores["coverage"]["95"], scores["coverage_error"]["95"])
        rows.append(("inside the 95 % interval", f"{share} %"))
    if evaluation.alarms:
        rows.append(("alarms", ", ".join(alarm.name.replace("_", " ") for alarm in evaluation.alarms)))
    return rows
