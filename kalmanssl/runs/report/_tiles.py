"""The main scores of the report, each with what it compares with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kalmanssl.runs._labels import are_label_scores
from kalmanssl.runs._text import ERROR_NAMES, PART_NAMES, cell, median_error, percent, r_squared, with_unit

if TYPE_CHECKING:
    from kalmanssl.runs._evaluation import Evaluation
    from kalmanssl.runs._run import Run

__all__ = ["REFERENCES", "Tile", "reference_line", "reference_rows", "tiles"]

REFERENCES = {"ridge": "ridge regression", "occupancy": "occupancy alone"}


@dataclass(frozen=True)
class Tile:
    """One of the main scores.

    Attributes
    ----------
    number : str
        The score, with its unit.
    label : str
        What it is.
    reference : str
        What it compares with; can be empty.
    """

    number: str
    label: str
    reference: str = ""


def tiles(run: Run, evaluation: Evaluation) -> list[Tile]:
    """Return the main scores; empty without scores."""
    name, scores = evaluation.main
    if scores is None:
        return []
    if are_label_scores(scores):
        return _label_tiles(scores)
    unit, references, error = run.behavior_unit, scores.get("references") or {}, evaluation.main_error

    def in_unit(value: float | None) -> str:
        return with_unit(value, unit, like=median_error(scores))

    def compared(key: str) -> str:
        found = [(label, references[one].get(key)) for one, label in REFERENCES.items() if one in references]
        return "; ".join(f"{label}: {in_unit(value)}" for label, value in found if value is not None)

    ridge = references.get("ridge", {}).get("r2")
    rest = evaluation.scores.get("rest") if name == "running" else None
    at_rest = [] if rest is None else [_coverage_tile(rest, "95", "inside the 95 % interval, bins at rest")]
    return [
        Tile(in_unit(scores[error]), f"{ERROR_NAMES[error]}, {PART_NAMES[name]}", compared(error)),
        Tile(
            r_squared(scores["r2"]),
            "R²",
            "a constant: 0" + ("" if ridge is None else f"; ridge regression: {r_squared(ridge)}"),
        ),
        Tile(in_unit(scores["crps"]), "CRPS", compared("crps")),
        Tile(in_unit(scores["width"]["95"]), "mean width of the 95 % interval", compared("width")),
        *(
            _coverage_tile(scores, level, f"inside the {level} % interval")
            for level in ("95", "80")
            if level in scores["coverage"]
        ),
        *at_rest,
    ]


def _label_tiles(scores: dict[str, Any]) -> list[Tile]:
    """Return the main scores of labels."""
    count = len(scores["labels"])
    return [
        Tile(
            f"{percent(scores['accuracy'], scores['accuracy_error'])} %",
            "accuracy: the most probable label is right",
            f"always the most frequent label: {100 * scores['chance_level']:.1f} %; ± is one standard error",
        ),
        Tile(
            f"{100 * scores['balanced_accuracy']:.1f} %", "accuracy, mean over labels", f"chance: {100 / count:.3g} %"
        ),
        _coverage_tile(scores, "95", "inside the 95 % prediction set"),
        Tile(cell(scores["set_size"]["95"]), "mean number of labels in the 95 % set", f"of {count}"),
    ]


def _coverage_tile(scores: dict[str, Any], level: str, label: str) -> Tile:
    share = percent(scores["coverage"][level], scores["coverage_error"][level])
    explained = "; ± is one standard error" if "±" in share else ""
    return Tile(f"{share} %", label, f"nominal: {level} %{explained}")


def reference_rows(scores: dict[str, Any] | None, unit: str, scale: float) -> list[list[str]]:
    """Return the scores of the decoder beside those of the references as a table of text; empty without references.

    Parameters
    ----------
    scores : dict or None
        Scores of one part, as in `kalmanssl.runs.Evaluation`.
    unit : str
        Unit of the numbers in the table.
    scale : float
        Factor of lengths for this unit.
    """
    references = (scores or {}).get("references") or {}
    if not references or scores is None:
        return []
    names = [name for name in REFERENCES if name in references]
    columns = [scores | {"width": scores["width"]["95"]}, *(references[name] for name in names)]
    rows = [["", "decoder", *(REFERENCES[name] for name in names)]]
    labels = ERROR_NAMES | {"crps": "CRPS", "width": "width of 95 %"}
    in_unit = f" ({unit})" if unit else ""
    for key, label in labels.items():
        values = [None if column.get(key) is None else scale * column[key] for column in columns]
        rows.append([label + in_unit, *map(cell, values)])
    return [*rows, ["R²", *(r_squared(column.get("r2")) for column in columns)]]


def reference_line(evaluation: Evaluation, unit: str) -> str:
    """Return one line of text about the errors of the references; empty without references."""
    (name, scores), error = evaluation.main, evaluation.main_error
    references = (scores or {}).get("references") or {}
    if not references or scores is None:
        return ""
    like = scores["median_error"]
    found = [
        f"{with_unit(references[one][error], unit, like)} with {'the ' if one == 'occupancy' else 'a '}{label}"
        for one, label in REFERENCES.items()
        if one in references
    ]
    return f"{ERROR_NAMES[error]} for comparison, {PART_NAMES[name]}: {', '.join(found)}"
