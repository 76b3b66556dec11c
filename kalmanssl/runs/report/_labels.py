"""Figures and tables of the report for behavior that consists of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kalmanssl import plotting
from kalmanssl.runs._text import cell, percent
from kalmanssl.utils.labels import label_text

if TYPE_CHECKING:
    from kalmanssl.runs._evaluation import Evaluation

__all__ = ["label_rows", "label_scores"]


def label_rows(scores: dict[str, Any], heading: str) -> list[list[str]]:
    """Return the scores as a table of text: a heading and one row per score."""
    rows = [
        ["", heading],
        ["accuracy (%)", percent(scores["accuracy"], scores["accuracy_error"])],
        ["accuracy, mean over labels (%)", f"{100 * scores['balanced_accuracy']:.1f}"],
        ["always the most frequent label (%)", f"{100 * scores['chance_level']:.1f}"],
        ["log loss (nats)", cell(scores["log_loss"])],
        ["Brier score", cell(scores["brier_score"])],
    ]
    for level, share in scores["coverage"].items():
        rows.append([f"inside the {level} % set (%)", percent(share, scores["coverage_error"][level])])
    for level, size in scores["set_size"].items():
        rows.append([f"labels in the {level} % set", cell(size)])
    return [*rows, ["bins", str(scores["bins"])]]


def label_scores(evaluation: Evaluation) -> dict[str, Any]:
    """Draw the confusion matrix, and tabulate coverage and size of the prediction sets."""
    scores = evaluation.scores["all"]
    names = [label_text(label) for label in scores["labels"]]
    levels = [["nominal level (%)", "inside the set (%)", "labels in the set"]]
    for level, share in scores["coverage"].items():
        levels.append([level, percent(share, scores["coverage_error"][level]), cell(scores["set_size"][level])])
    confusion = plotting.plot_confusion(list(zip(*scores["confusion"], strict=True)), names, rows="decoded label")
    confusion.set(xlabel="true label")
    if len(names) <= 20:
        confusion.set_yticks(range(len(names)), names)
    return {
        "labels": True,
        "levels": levels,
        "confusion": [confusion],
        "calibration": None,
        "references": None,
        "other_label_bins": evaluation.part.get("other_label_bins", 0),
    }
