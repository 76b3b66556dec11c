"""Scores of decoded behavior: errors of the point estimate, and coverage and width of the intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kalmanssl.data import behavior_at
from kalmanssl.decoding.grids import group_dimensions
from kalmanssl.decoding.inputs import check_mask
from kalmanssl.decoding.labels import DecodedCategory, score_categories
from kalmanssl.decoding.results import LEVELS, DecodedPosition, by_level
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.blocks import blocks_of_time, mean_over_blocks
from kalmanssl.utils.circular import deviations

__all__ = ["calibration_curve", "check_decoded", "score_decoding"]


def score_decoding(
    decoded: DecodedPosition | DecodedCategory, truth: np.ndarray, mask: np.ndarray | None = None
) -> dict[str, Any]:
    """Score decoded behavior against the true behavior.

    Parameters
    ----------
    decoded : DecodedPosition or DecodedCategory
    truth : (time,) or (time, dims), or a Tsd, TsdFrame or IntervalSet of pynapple
        In the shape that the decoder was fitted on; bins with NaN, or with None or "" for labels, are left out.
    mask : (time,) bool, optional
        Bins to score, such as `running_bins`.

    Returns
    -------
    dict
        `bins` scored, `median_error`, `mean_error` (absolute, in the unit of the behavior), `r2` (NaN for a truth that
        is constant), `crps` (mean), `coverage`, `coverage_error` and `width`, each a dict by nominal level ("50", "80",
        "95"), and `calibration`, the curve of `kalmanssl.decoding.calibration_curve` as lists. `coverage_error` is one
        standard error over contiguous blocks of time, since the errors of neighboring bins are correlated.

        With several dimensions the dict holds the scores of all together, and a list `dimensions` of the same dict for
        each. For all together, errors are Euclidean distances, `r2` uses the squared errors of all dimensions, and
        `crps`, `width` and `coverage` are means over dimensions (of marginal intervals, not of a joint region).
        `regions` has the `coverage` and the mean `area` of the highest-density regions, one entry for each pair of
        dimensions that are decoded jointly.
        On circular dimensions errors go the short way around and `r2` compares with the circular mean.

        For labels the dict has `bins`, `labels`, `accuracy` (fraction of bins whose most probable label is right, with
        its standard error over blocks `accuracy_error`), `balanced_accuracy` (mean over true labels), `chance_level`
        (accuracy of the most frequent true label), `log_loss` (nats), `brier_score` (0 to 2), `coverage`,
        `coverage_error` and `set_size` (mean number of labels) of the prediction sets by nominal level, and
        `confusion`, a list with the counts of decoded labels for each true label.

    Raises
    ------
    InputError
        If shapes differ, no bin is left, or the truth has a label that the decoder was not fitted on.
    """
    check_decoded(decoded)
    if isinstance(decoded, DecodedCategory):
        return score_categories(decoded, behavior_at("truth", truth, decoded.time, True), mask)
    truth = behavior_at("truth", truth, decoded.time, any(decoded.periods))
    truth = as_floats("truth", truth)
    error = decoded.error(truth)
    columns = truth.reshape(len(truth), -1)
    error = error.reshape(columns.shape)
    known = np.isfinite(columns).all(axis=1)
    if mask is not None:
        known &= check_mask("mask", mask, len(truth))
    if not known.any():
        raise InputError("no bin is left to score: truth is NaN, or mask False, everywhere", parameter="truth")
    decoded, columns, truth = decoded[known], columns[known], truth[known]
    bins = _ScoredBins(
        error=error[known],
        deviation=np.stack(
            [deviations(column, period) for column, period in zip(columns.T, decoded.periods, strict=True)], axis=1
        ),
        pit=decoded.pit(truth).reshape(columns.shape),
        crps=decoded.crps(truth).reshape(columns.shape),
        width={level: _width(decoded, level).reshape(columns.shape) for level in LEVELS},
    )
    block = blocks_of_time(decoded.time)
    dimensions = [_scores(bins.dimension(d), block) for d in range(columns.shape[1])]
    if len(dimensions) == 1:
        return dimensions[0]
    scores = _scores(bins, block) | {"dimensions": dimensions}
    return scores | {"regions": _region_scores(decoded, columns)} if decoded.grids else scores


def check_decoded(decoded: Any) -> None:
    """Raise `InputError` unless an argument is decoded behavior."""
    if not isinstance(decoded, DecodedPosition | DecodedCategory):
        raise InputError(
            f"decoded must be what PositionDecoder.predict returned, got {type(decoded).__name__}", parameter="decoded"
        )


@dataclass(frozen=True)
class _ScoredBins:
    """What the scores are computed from, each (time, dims).

    `deviation` is the truth minus its mean, `pit` the predictive probability of lying below the truth, and `width` the
    width of the interval at each level.
    """

    error: np.ndarray
    deviation: np.ndarray
    pit: np.ndarray
    crps: np.ndarray
    width: dict[float, np.ndarray]

    def dimension(self, d: int) -> _ScoredBins:
        """Return the same of one dimension."""
        width = {level: values[:, [d]] for level, values in self.width.items()}
        return _ScoredBins(self.error[:, [d]], self.deviation[:, [d]], self.pit[:, [d]], self.crps[:, [d]], width)


def _region_scores(decoded: DecodedPosition, truth: np.ndarray) -> list[dict[str, dict[str, float]]]:
    """Return coverage and mean area of the highest-density regions of each group of dimensions."""
    scores = []
    for dims, group in zip(group_dimensions(truth.shape[1]), decoded.grids, strict=True):
        covered, area = group.coverage_and_area(LEVELS, truth[:, dims])
        scores.append({"coverage": by_level(covered.mean(axis=0)), "area": by_level(area.mean(axis=0))})
    return scores


def _width(decoded: DecodedPosition, level: float) -> np.ndarray:
    lower, upper = decoded.interval(level)
    return upper - lower


def _scores(bins: _ScoredBins, block: np.ndarray) -> dict[str, Any]:
    """Return the scores of all dimensions together."""
    distance = np.linalg.norm(bins.error, axis=1)
    total = float((bins.deviation**2).sum())
    repeated = np.repeat(block, bins.pit.shape[1])
    at_levels = calibration_curve(bins.pit.ravel(), np.array(LEVELS), repeated)
    curve = calibration_curve(bins.pit.ravel(), block=repeated)
    return {
        "bins": len(bins.error),
        "median_error": float(np.median(distance)),
        "mean_error": float(distance.mean()),
        "r2": 1 - float((bins.error**2).sum()) / total if total > 0 else float("nan"),
        "crps": float(bins.crps.mean()),
        "coverage": by_level(at_levels["empirical"]),
        "coverage_error": by_level(at_levels["error"]),
        "width": by_level(bins.width[level].mean() for level in LEVELS),
        "calibration": {key: values.tolist() for key, values in curve.items()},
    }


def calibration_curve(
    pit: np.ndarray, levels: np.ndarray | None = None, block: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute the fraction of truths inside the central interval of each nominal level, and its standard error.

    Parameters
    ----------
    pit : (time,)
        Predictive probability of lying below the truth; NaN is left out.
    levels : (levels,), optional
        Nominal central levels; 0.05 to 0.95 and 0.99 by default.
    block : (time,) int, optional
        Blocks of bins whose errors are correlated; the standard error is then over blocks instead of bins.

    Returns
    -------
    dict
        `nominal`, `empirical` and `error` (one standard error), each (levels,).
    """
    levels = np.append(np.linspace(0.05, 0.95, 19), 0.99) if levels is None else np.asarray(levels)
    known = np.isfinite(pit)
    inside = np.abs(2 * pit[known] - 1)[:, None] <= levels
    block = np.arange(known.sum()) if block is None else block[known]
    if len(inside) == 0:
        unknown = np.full(len(levels), np.nan)
        return {"nominal": levels, "empirical": unknown, "error": unknown.copy()}
    empirical, error = mean_over_blocks(inside.astype(float), block)
    return {"nominal": levels, "empirical": empirical, "error": error}
