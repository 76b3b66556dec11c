"""Conditional coverage: how often intervals contain the truth at each speed, place or lag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kalmanssl.decoding._blocks import blocks_of_time
from kalmanssl.decoding._inputs import check_mask
from kalmanssl.decoding._metrics import LEVELS, calibration_curve
from kalmanssl.decoding._results import DecodedPosition
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_integer

__all__ = ["conditional_coverage"]


def conditional_coverage(
    decoded: DecodedPosition,
    truth: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    mask: np.ndarray | None = None,
    n_groups: int = 4,
) -> dict[str, Any]:
    """Compute coverage and width of the intervals in groups of bins with similar values of a condition.

    Intervals can cover at their nominal level on average and still fail in one place or at one speed.

    Parameters
    ----------
    decoded : DecodedPosition
    truth : (time,) or (time, dims)
    conditions : mapping of name to (time,)
        Values of each condition, such as speed, position or the lag since the fit; bins with NaN are left out.
    mask : (time,) bool, optional
        Bins to score.
    n_groups : int
        Groups with equal numbers of bins per condition; fewer if many bins have the same value.

    Returns
    -------
    dict
        For each condition a list of dicts with the range of its values, `low` and `high`; the number of `bins`;
        `coverage`, `coverage_error` (one standard error over blocks of time) and `width` by nominal level, as in
        `score_decoding`, averaged over dimensions. The entry "worst" is the group whose coverage at 95 % is farthest
        from nominal, with its `condition`.

    Raises
    ------
    InputError
        If lengths differ or no bin is left.
    """
    check_integer("n_groups", n_groups, 1)
    columns = np.asarray(truth, dtype=float).reshape(len(truth), -1)
    known = np.isfinite(columns).all(axis=1)
    if mask is not None:
        known &= check_mask("mask", mask, len(columns))
    if not known.any():
        raise InputError("no bin is left to score: truth is NaN, or mask False, everywhere", parameter="truth")
    pit = decoded.pit(truth).reshape(columns.shape)
    widths = {}
    for level in LEVELS:
        lower, upper = decoded.interval(level)
        widths[f"{100 * level:g}"] = (upper - lower).reshape(columns.shape).mean(axis=1)
    block = blocks_of_time(decoded.time)
    result: dict[str, Any] = {}
    worst: dict[str, Any] | None = None
    for name, values in conditions.items():
        values = np.asarray(values, dtype=float)
        if values.shape != (len(columns),):
            raise InputError(
                f"condition {name!r} has shape {values.shape}: give one value for each of {len(columns)} bins",
                parameter="conditions",
            )
        used = known & np.isfinite(values)
        if not used.any():
            continue
        edges = np.unique(np.quantile(values[used], np.linspace(0, 1, n_groups + 1)))
        group = np.searchsorted(edges[1:-1], values, side="left")
        result[name] = []
        for number in np.unique(group[used]):
            rows = used & (group == number)
            scores = _coverage(pit[rows], {level: width[rows] for level, width in widths.items()}, block[rows])
            entry = {"low": float(values[rows].min()), "high": float(values[rows].max()), **scores}
            result[name].append(entry)
            if worst is None or abs(entry["coverage"]["95"] - 0.95) > abs(worst["coverage"]["95"] - 0.95):
                worst = {"condition": name, **entry}
    return result | {"worst": worst}


def _coverage(pit: np.ndarray, widths: dict[str, np.ndarray], block: np.ndarray) -> dict[str, Any]:
    """Return coverage, its standard error and the mean width of bins, by nominal level."""
    curve = calibration_curve(pit.ravel(), np.array(LEVELS), np.repeat(block, pit.shape[1]))
    return {
        "bins": len(pit),
        "coverage": dict(zip(widths, curve["empirical"].tolist(), strict=True)),
        "coverage_error": dict(zip(widths, curve["error"].tolist(), strict=True)),
        "width": {level: float(width.mean()) for level, width in widths.items()},
    }
