"""Behavior that consists of labels in runs: checks of settings, known bins and arrays for figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.runs._settings import RunSettings

if TYPE_CHECKING:
    from kalmanssl.decoding import DecodedCategory

__all__ = [
    "are_label_scores", "check_label_settings", "consists_of_labels", "keep_known_labels", "label_arrays",
    "label_numbers", "seems_to_have_labels",
]  # fmt: skip

_FEW = 10  # distinct values of numbers that may be labels


def are_label_scores(scores: dict[str, Any]) -> bool:
    """Return whether scores are those of labels, which have an accuracy, and not of numbers, which have errors."""
    return "accuracy" in scores


def consists_of_labels(settings: RunSettings, behavior: np.ndarray) -> bool:
    """Return whether a behavior is decoded as labels: text or bools, or numbers if the settings say so."""
    return behavior.dtype == object or bool(settings.discrete)


def seems_to_have_labels(settings: RunSettings, behavior: np.ndarray | None) -> bool:
    """Return whether a behavior has so few numbers that they may be meant as labels, and the settings do not say so."""
    if behavior is None or settings.discrete is not None or behavior.dtype == object or behavior.ndim != 1:
        return False
    return 1 < len(np.unique(behavior[np.isfinite(behavior)])) <= _FEW


def check_label_settings(settings: RunSettings, name: str, behavior: np.ndarray) -> None:
    """Check the settings of a decoder of labels.

    Raises
    ------
    InputError
        If a setting does not apply to labels, or if the fitted part has less than two labels.
    """
    for setting in ("period", "end_zones", "min_speed"):
        if getattr(settings, setting) is not None:
            raise InputError(
                f"{setting} does not apply to {name!r}, which consists of labels: leave it out", parameter=setting
            )
    if settings.decoder not in (None, "ensemble", "mlp"):
        raise InputError(
            f"decoder must be ensemble or mlp for {name!r}, which consists of labels; got {settings.decoder!r}",
            parameter="decoder",
        )
    if behavior.ndim != 1:
        raise InputError(
            f"discrete needs a behavior of one dimension, and {name!r} has {behavior.shape[1]}: leave it out",
            parameter="discrete",
        )
    distinct = sorted({str(label) for label in behavior if not _is_unknown(label)})
    if len(distinct) < 2:
        has = f"only the label {distinct[0]!r}" if distinct else "no known label"
        raise InputError(
            f"behavior {name!r} has {has} in the fitted part: at least two labels are needed; fit a longer part, or "
            "give 'none'",
            parameter="behavior",
        )


def label_numbers(behavior: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the number of the label of each bin, (time,) float; NaN where it is unknown or not among `labels`."""
    number: dict[Any, int] = {label: index for index, label in enumerate(labels.tolist())}
    return np.array([np.nan if _is_unknown(label) else number.get(label, np.nan) for label in behavior], dtype=float)


def keep_known_labels(behavior: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the behavior without labels that the decoder was not fitted on, and the number of bins with such labels.

    These labels become None.
    """
    kept = np.array(behavior, dtype=object)
    dropped = np.isnan(label_numbers(behavior, labels))
    n_other = sum(not _is_unknown(label) for label in kept[dropped])
    kept[dropped] = None
    return kept, n_other


def label_arrays(decoded: DecodedCategory, excerpt: np.ndarray) -> dict[str, np.ndarray]:
    """Return the probability of each label in the bins of the excerpt, for figures."""
    return {"probability": decoded.mass[excerpt]}


def _is_unknown(label: Any) -> bool:
    return label is None or label != label
