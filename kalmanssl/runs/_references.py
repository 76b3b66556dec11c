"""References for the scores of a decoder: what the occupancy alone, and a ridge regression, reach on the same bins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.decoding import quantile_crps
from kalmanssl.utils.circular import circular_mean, deviations, embed_circular, wrap

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["fit_references", "is_reference", "score_references"]

_MEMORY = 0.25  # seconds, time constant of the activity of the ridge regression
_PENALTIES = np.logspace(-4, 2, 7)  # of the mean variance of the features
_SHARE = 0.8  # of the fitted part, from its start; the penalty is chosen on the rest
_MOST_UNITS, _MOST_BINS, _LEAST_BINS = 1000, 200_000, 20
_BLOCK = 20_000  # bins in the memory at a time
_LEVELS = np.array([0.005, 0.01, 0.025, *np.linspace(0.05, 0.95, 37), 0.975, 0.99, 0.995])


def fit_references(training: Recording, name: str, period: float | None, runs: np.ndarray | None) -> dict[str, Any]:
    """Fit both references to the fitted part.

    Parameters
    ----------
    training : Recording
    name : str
        A behavior of numbers.
    period : float or None
        Its period.
    runs : (time,) bool or None
        In which bins the animal runs.

    Returns
    -------
    dict
        `occupancy`, with the center and the quantiles of each dimension on "all" bins and on "running" ones, and
        `ridge`, the weights of the regression; None if there are more than 1000 units or too few bins. For JSON.
    """
    truth = _columns(training.behavior[name])
    known = np.isfinite(truth).all(axis=1)
    occupancy = {"all": _occupancy(truth[known], period)}
    if runs is not None and (known & runs).any():
        occupancy["running"] = _occupancy(truth[known & runs], period)
    ridge = _fit_ridge(training, truth, known, period)
    return {"occupancy": occupancy, "ridge": ridge, "period": period, "levels": _LEVELS.tolist()}


def score_references(
    references: dict[str, Any] | None, recording: Recording, truth: np.ndarray, mask: np.ndarray, part: str
) -> dict[str, Any]:
    """Score both references on some bins of a recording.

    Parameters
    ----------
    references : dict or None
        From `fit_references`.
    recording : Recording
        With the units of the fit.
    truth : (time,) or (time, dims)
    mask : (time,) bool
        Bins with known behavior to score.
    part : {"all", "running", "rest"}
        Their occupancy is that of "running" or of "all" bins of the fitted part.

    Returns
    -------
    dict of dict
        "occupancy" with `median_error`, `mean_error`, `r2`, `crps` and `width` of the 95 % interval; "ridge" with the
        first three.
    """
    if not references or not mask.any():
        return {}
    values, period = _columns(truth)[mask], references["period"]
    known = references["occupancy"].get(part, references["occupancy"]["all"])
    center, table = np.array(known["center"]), np.array(known["quantiles"])
    if len(center) != values.shape[1]:  # of another behavior
        return {}
    near = center + wrap(values - center, period)
    crps = np.mean(
        [
            quantile_crps(np.broadcast_to(quantiles, (len(near), len(_LEVELS))), _LEVELS, column).mean()
            for quantiles, column in zip(table, near.T, strict=True)
        ]
    )
    width = float(np.mean(table[:, _LEVELS.searchsorted(0.975 - 1e-9)] - table[:, _LEVELS.searchsorted(0.025 - 1e-9)]))
    scores = {"occupancy": _errors(near - center, values, period) | {"crps": float(crps), "width": width}}
    ridge = references["ridge"]
    if ridge is not None and len(ridge["weights"]) == recording.n_units:
        predicted = _predict_ridge(ridge, recording, period)[mask]
        scores["ridge"] = _errors(wrap(predicted - values, period), values, period)
    return scores


def is_reference(value: Any) -> bool:
    """Return whether a value of a file has the form of `fit_references`."""
    try:
        shapes = [
            (np.array(o["center"], float).ndim, np.array(o["quantiles"], float).shape[1:])
            for o in value["occupancy"].values()
        ]
        ridge = value["ridge"]
        fits = ridge is None or np.array(ridge["weights"], float).ndim == np.array(ridge["scale"], float).ndim + 1 == 2
        has_levels = len(np.array(value["levels"], float)) == len(_LEVELS)
        return (
            has_levels
            and "all" in value["occupancy"]
            and "period" in value
            and fits
            and set(shapes) == {(1, (len(_LEVELS),))}
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return False


def _columns(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=float).reshape(len(values), -1)


def _occupancy(values: np.ndarray, period: float | None) -> dict[str, Any]:
    """Return the center (dims,) and the quantiles (dims, levels) of behavior (bins, dims)."""
    center = np.median(values, axis=0) if period is None else circular_mean(values, period)
    quantiles = center + np.quantile(wrap(values - center, period), _LEVELS, axis=0)
    return {"center": center.tolist(), "quantiles": quantiles.T.tolist()}


def _errors(error: np.ndarray, values: np.ndarray, period: float | None) -> dict[str, float]:
    """Return the scores of errors (bins, dims), with Euclidean distances as `score_decoding`."""
    distance = np.linalg.norm(error, axis=1)
    total = sum(float((deviations(column, period) ** 2).sum()) for column in values.T)
    r2 = 1 - float((error**2).sum()) / total if total > 0 else math.nan
    return {"median_error": float(np.median(distance)), "mean_error": float(distance.mean()), "r2": r2}


def _feature_blocks(recording: Recording, first: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the activity, averaged over its recent past with exponential weights, (bins, units), and the bins.

    Only so many bins are in the memory at a time. The average begins anew after a gap, and at the bin `first`.
    """
    from scipy.signal import lfilter

    keep = math.exp(-recording.bin_size / _MEMORY)
    for segment in recording.segments():
        start = max(segment.start, first)
        state = keep * recording.activity[start : start + 1].astype(float)
        for begin in range(start, segment.stop, _BLOCK):
            bins = slice(begin, min(begin + _BLOCK, segment.stop))
            features, state = lfilter([1 - keep], [1, -keep], recording.activity[bins].astype(float), axis=0, zi=state)
            yield bins, features


@dataclass
class _Moments:
    """Sums of features and targets (columns,), and of their products, over bins."""

    count: int
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> _Moments:
        return cls(len(rows), rows.sum(axis=0), rows.T @ rows)

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    def about(self, mean: np.ndarray) -> np.ndarray:
        """Return the mean products of deviations from a mean, (columns, columns)."""
        across = np.outer(self.total, mean)
        return (self.products - across - across.T) / self.count + np.outer(mean, mean)


def _fit_ridge(
    training: Recording, truth: np.ndarray, known: np.ndarray, period: float | None
) -> dict[str, Any] | None:
    """Fit the regression to the last known bins; the penalty is chosen on the last fifth of them."""
    used = np.flatnonzero(known)[-_MOST_BINS:]
    if training.n_units > _MOST_UNITS or len(used) < _LEAST_BINS:
        return None
    n_units, border = training.n_units, used[int(_SHARE * len(used))]
    targets = embed_circular(truth, (period,) * truth.shape[1])
    if period is not None:  # files have all cosines before all sines
        targets = np.concatenate([targets[:, ::2], targets[:, 1::2]], axis=1)
    origin = training.activity[used[: 10 * _LEAST_BINS]].mean(axis=0, dtype=float)  # against cancellation
    nothing = _Moments.of(np.zeros((0, n_units + targets.shape[1])))
    first, last = nothing, nothing
    for bins, features in _feature_blocks(training, int(used[0])):
        rows = np.concatenate([features - origin, targets[bins]], axis=1)
        number = np.arange(bins.start, bins.stop)
        first += _Moments.of(rows[known[bins] & (number < border)])
        last += _Moments.of(rows[known[bins] & (number >= border)])
    whole = first + last
    mean = whole.total / whole.count
    scale = np.sqrt(np.maximum(np.diag(whole.about(mean)), 1e-18))
    scale[n_units:] = 1.0
    fitted, scored, both = (one.about(mean) / scale / scale[:, None] for one in (first, last, whole))
    weights = [_solve(fitted, n_units, penalty) for penalty in _PENALTIES]
    penalty = float(_PENALTIES[int(np.argmin([_squared_error(scored, n_units, w) for w in weights]))])
    return {
        "weights": [[float(f"{w:.6g}") for w in row] for row in _solve(both, n_units, penalty).tolist()],
        "offset": mean[n_units:].tolist(),
        "mean": (origin + mean[:n_units]).tolist(),
        "scale": scale[:n_units].tolist(),
        "penalty": penalty,
    }


def _solve(moments: np.ndarray, n_units: int, penalty: float) -> np.ndarray:
    """Return the weights (units, targets) of a ridge regression from the moments of features and targets."""
    gram, cross = moments[:n_units, :n_units], moments[:n_units, n_units:]
    return np.linalg.solve(gram + penalty * np.eye(n_units), cross)


def _squared_error(moments: np.ndarray, n_units: int, weights: np.ndarray) -> float:
    """Return the mean squared error of weights from the moments of features and targets."""
    gram, cross, targets = moments[:n_units, :n_units], moments[:n_units, n_units:], moments[n_units:, n_units:]
    return float(np.trace(targets) - 2 * (weights * cross).sum() + (weights * (gram @ weights)).sum())


def _predict_ridge(ridge: dict[str, Any], recording: Recording, period: float | None) -> np.ndarray:
    """Return the behavior (time, dims) that the regression predicts."""
    weights, offset = np.array(ridge["weights"]), np.array(ridge["offset"])
    y = np.empty((len(recording), len(offset)))
    for bins, features in _feature_blocks(recording):
        y[bins] = (features - np.array(ridge["mean"])) / np.array(ridge["scale"]) @ weights + offset
    if period is None:
        return y
    cosine, sine = np.split(y, 2, axis=1)
    return np.arctan2(sine, cosine) * period / (2 * np.pi)
