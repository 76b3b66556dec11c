"""Scores of decoded labels: accuracy, quality of the probabilities, and coverage and size of the prediction sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.decoding.inputs import check_mask
from kalmanssl.decoding.labels._categories import DecodedCategory
from kalmanssl.decoding.labels._chain import brier_score
from kalmanssl.decoding.labels._labels import encode_labels
from kalmanssl.decoding.results import LEVELS, by_level
from kalmanssl.errors import InputError
from kalmanssl.utils.blocks import blocks_of_time, mean_over_blocks

__all__ = ["score_categories"]


def score_categories(decoded: DecodedCategory, truth: Any, mask: np.ndarray | None) -> dict[str, Any]:
    """Score decoded labels against the true labels; see `score_decoding`."""
    codes = encode_labels("truth", truth, decoded.labels)
    if len(codes) != len(decoded):
        raise InputError(
            f"truth has {len(codes)} bins, the decoded behavior {len(decoded)}: give one label for each",
            parameter="truth",
        )
    known = np.isfinite(codes)
    if mask is not None:
        known &= check_mask("mask", mask, len(codes))
    if not known.any():
        raise InputError("no bin is left to score: truth is missing, or mask False, everywhere", parameter="truth")
    decoded, codes = decoded[known], codes[known].astype(int)
    block = blocks_of_time(decoded.time)
    n_labels = len(decoded.labels)
    confusion = np.zeros((n_labels, n_labels), dtype=int)
    np.add.at(confusion, (codes, decoded.mass.argmax(axis=1)), 1)
    count = confusion.sum(axis=1)
    right = decoded.mass.argmax(axis=1) == codes
    rows = np.arange(len(codes))
    accuracy, accuracy_error = mean_over_blocks(right[:, None].astype(float), block)
    sets = [decoded.region(level) for level in LEVELS]
    covered = np.stack([part.inside.values[rows, codes] for part in sets], axis=1).astype(float)
    coverage, coverage_error = mean_over_blocks(covered, block)
    return {
        "bins": len(codes),
        "labels": decoded.labels.tolist(),
        "accuracy": float(accuracy[0]),
        "accuracy_error": float(accuracy_error[0]),
        "balanced_accuracy": float((confusion.diagonal()[count > 0] / count[count > 0]).mean()),
        "chance_level": float(count.max() / count.sum()),
        "log_loss": float(-np.log(np.maximum(decoded.mass[rows, codes].astype(float), 1e-12)).mean()),
        "brier_score": float(brier_score(decoded.mass, codes).mean()),
        "coverage": by_level(coverage),
        "coverage_error": by_level(coverage_error),
        "set_size": by_level(part.size.mean() for part in sets),
        "confusion": confusion.tolist(),
    }
