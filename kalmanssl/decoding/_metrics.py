"""How good decoded behavior is: the error of the estimate, and whether the intervals keep their promise."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.decoding._calibration import blocks_of_time, calibration_curve
from kalmanssl.decoding._predictive import wrap
from kalmanssl.decoding._results import DecodedPosition
from kalmanssl.errors import InputError

__all__ = ["score_decoding"]

LEVELS = (0.5, 0.8, 0.95)


def score_decoding(decoded: DecodedPosition, truth: np.ndarray, mask: np.ndarray | None = None) -> dict[str, Any]:
    """Score decoded behavior against what happened.

    Parameters
    ----------
    decoded : DecodedPosition
    truth : (time,) or (time, dims)
        In the shape that the decoder was fitted on; bins with NaN are left out.
    mask : (time,) bool, optional
        Bins to score, such as `running_bins`.

    Returns
    -------
    dict
        `bins` scored, `median_error`, `mean_error` (absolute, in the unit of the behavior), `r2`, `crps` (mean),
        `coverage`, `coverage_error` and `width`, each a dict by level ("50", "80", "95"), and `calibration`, the
        curve of `kalmanssl.decoding.calibration_curve` as lists. `coverage_error` is one standard error over
        contiguous stretches of time, since neighboring bins err together.

        With several dimensions the dict holds these for all together and a list `dimensions` of the same dict
        for each: errors are then Euclidean distances, `r2` takes all dimensions' squared errors together, `crps`,
        `width` and `coverage` are means over dimensions (of marginal intervals, not of a joint region).
        On circular dimensions errors go the short way round and `r2` compares with the circular mean.

    Raises
    ------
    InputError
        If shapes differ or no bin is left.
    """
    truth = np.asarray(truth, dtype=float)
    columns = truth.reshape(len(truth), -1)
    error = decoded.error(truth).reshape(columns.shape)
    known = np.isfinite(columns).all(axis=1)
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (len(truth),):
            raise InputError(f"mask is {mask.dtype} of shape {mask.shape}: it must be bool of shape ({len(truth)},)")
        known &= mask
    if not known.any():
        raise InputError("no bin is left to score: truth is NaN, or mask False, everywhere")
    decoded, columns, error = decoded[known], columns[known], error[known]
    truth = truth[known]
    parts = {
        "pit": decoded.pit(truth).reshape(columns.shape),
        "crps": decoded.crps(truth).reshape(columns.shape),
    }
    width = {level: _width(decoded, level).reshape(columns.shape) for level in LEVELS}
    around = np.stack(
        [_deviation(column, period) for column, period in zip(columns.T, decoded.periods, strict=True)], axis=1
    )
    block = blocks_of_time(decoded.time)
    dimensions = [
        _scores(
            error[:, [d]],
            around[:, [d]],
            parts["pit"][:, [d]],
            parts["crps"][:, [d]],
            {level: w[:, [d]] for level, w in width.items()},
            block,
        )
        for d in range(columns.shape[1])
    ]
    if len(dimensions) == 1:
        return dimensions[0]
    together = _scores(error, around, parts["pit"], parts["crps"], width, block)
    return together | {"dimensions": dimensions}


def _width(decoded: DecodedPosition, level: float) -> np.ndarray:
    lower, upper = decoded.interval(level)
    return upper - lower


def _deviation(values: np.ndarray, period: float | None) -> np.ndarray:
    """Deviation from the mean, circular where there is a period."""
    if period is None:
        return values - values.mean()
    angle = 2 * np.pi * values / period
    mean = np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()) * period / (2 * np.pi)
    return wrap(values - mean, period)


def _scores(
    error: np.ndarray,
    around: np.ndarray,
    pit: np.ndarray,
    crps: np.ndarray,
    width: dict[float, np.ndarray],
    block: np.ndarray,
) -> dict[str, Any]:
    distance = np.linalg.norm(error, axis=1)
    total = float((around**2).sum())
    repeated = np.repeat(block, pit.shape[1])
    promised = calibration_curve(pit.ravel(), np.array(LEVELS), repeated)
    curve = calibration_curve(pit.ravel(), block=repeated)
    names = [f"{100 * level:g}" for level in LEVELS]
    return {
        "bins": len(error),
        "median_error": float(np.median(distance)),
        "mean_error": float(distance.mean()),
        "r2": 1 - float((error**2).sum()) / total if total > 0 else float("nan"),
        "crps": float(crps.mean()),
        "coverage": dict(zip(names, promised["empirical"].tolist(), strict=True)),
        "coverage_error": dict(zip(names, promised["error"].tolist(), strict=True)),
        "width": {name: float(width[level].mean()) for name, level in zip(names, LEVELS, strict=True)},
        "calibration": {key: values.tolist() for key, values in curve.items()},
    }
