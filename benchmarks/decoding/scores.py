"""Scores of predictive distributions on the test part: errors, CRPS, energy score, coverage and width."""

from __future__ import annotations

from typing import Any

import numpy as np

from decoding.predictions import Prediction, circular_mean, wrap
from decoding.tasks import Task

__all__ = ["CURVE", "LEVELS", "score"]

LEVELS = ("50", "80", "95")
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SCANNED = (0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.925, 0.97, 0.98, 0.995, 0.998)  # for the narrowest intervals
BLOCKS = 20  # of equal duration, for standard errors
ENERGY_BINS = 3000
ENERGY_SAMPLES = 50


def score(prediction: Prediction, task: Task) -> dict[str, Any]:
    """Score a prediction of the whole test part, in the unit of the target.

    Returns
    -------
    dict
        `all` and `running`: scores on all bins and on running bins; None if there are no running bins. `lag`: scores on
        all bins in three parts of equal duration, with the time since the end of the training part. Each has `bins`,
        `median_error` and `mean_error` (absolute, of the predictive median; Euclidean distance in 2-D), `r2` (of the
        predictive mean), `crps` (mean over dimensions), `coverage`, `coverage_error` (one standard error over blocks of
        time), `width` and `width_ratio` by nominal level. The ratio compares the width with that of the central
        interval of the same predictions whose coverage on these bins is nominal, found afterwards: above one, the
        interval is wider than needed, below one it covers too little. It is None if no level has this coverage. In 2-D
        also `r2_dimensions`, `energy` (None without a joint distribution) and `area`, the product of both widths. `all`
        and `running` have `calibration`, the coverage at more levels.
    """
    bins = _Bins(prediction, task)
    time = task.data.test.time
    third = np.minimum(3 * (time - time[0]) // (time[-1] - time[0]), 2)
    everything = np.isfinite(bins.truth).all(axis=1)
    running = everything & task.data.running_test
    start = task.data.train.time[-1]
    return {
        "all": bins.scores(everything),
        "running": bins.scores(running) if running.any() else None,
        "lag": [
            {"lag_s": float(np.mean(time[third == i]) - start), **bins.scores(everything & (third == i), brief=True)}
            for i in range(3)
            if (everything & (third == i)).any()
        ],
    }


class _Bins:
    """Errors, scores and intervals of every bin of the test part."""

    def __init__(self, prediction: Prediction, task: Task) -> None:
        self.prediction, self.task = prediction, task
        factor, period = task.target.factor, task.target.period
        self.truth = task.truth("test")
        self.error = factor * wrap(prediction.quantile(0.5) - self.truth, period)
        self.mean_error = factor * wrap(prediction.mean - self.truth, period)
        self.crps = factor * prediction.crps(self.truth)
        self.inside, self.width = {}, {}
        for level in sorted(CURVE + SCANNED):
            lower, upper = prediction.quantile((1 - level) / 2), prediction.quantile((1 + level) / 2)
            half = (upper - lower) / 2
            # rounding must not exclude a truth that equals an end of the interval
            distance = np.abs(wrap(self.truth - (lower + half), period))
            self.inside[level] = distance <= half + 1e-6 * np.abs(self.truth)
            self.width[level] = factor * np.minimum(2 * half, np.inf if period is None else period)
        test = task.data.test.time
        self.block = np.minimum(BLOCKS * (test - test[0]) // (test[-1] - test[0]), BLOCKS - 1).astype(int)

    def scores(self, mask: np.ndarray, brief: bool = False) -> dict[str, Any]:
        """Return the scores on the bins in `mask`; a brief one has no curve and no energy score."""
        distance = np.linalg.norm(self.error[mask], axis=1)
        levels = [float(name) / 100 for name in LEVELS]
        found = {
            "bins": int(mask.sum()),
            "median_error": float(np.median(distance)),
            "mean_error": float(np.mean(distance)),
            "r2": self._r2(mask, slice(None)),
            "crps": float(self.crps[mask].mean()),
            "coverage": {name: float(self.inside[p][mask].mean()) for name, p in zip(LEVELS, levels, strict=True)},
            "coverage_error": {name: self._standard_error(p, mask) for name, p in zip(LEVELS, levels, strict=True)},
            "width": {name: float(self.width[p][mask].mean()) for name, p in zip(LEVELS, levels, strict=True)},
            "width_ratio": self._width_ratio(mask),
        }
        two = self.truth.shape[1] > 1
        if two:
            found["r2_dimensions"] = [self._r2(mask, d) for d in range(self.truth.shape[1])]
            found["area"] = {
                name: float(self.width[p][mask].prod(axis=1).mean()) for name, p in zip(LEVELS, levels, strict=True)
            }
        if not brief:
            found["calibration"] = {f"{100 * p:g}": float(self.inside[p][mask].mean()) for p in CURVE}
            if two:
                found["energy"] = self._energy(mask)
        return found

    def _width_ratio(self, mask: np.ndarray) -> dict[str, float | None]:
        """Return the width of each interval over that of the level with exactly nominal coverage."""
        coverage = np.maximum.accumulate([inside[mask].mean() for inside in self.inside.values()])
        width = np.array([width[mask].mean() for width in self.width.values()])
        ratio: dict[str, float | None] = {}
        for name in LEVELS:
            nominal = float(name) / 100
            reached = coverage[0] <= nominal <= coverage[-1]
            narrowest = float(np.interp(nominal, coverage, width)) if reached else 0.0
            ratio[name] = float(self.width[nominal][mask].mean()) / narrowest if narrowest > 0 else None
        return ratio

    def _r2(self, mask: np.ndarray, dims: slice | int) -> float:
        """Return 1 minus squared error over squared deviation from the mean, or the mean direction on circles."""
        truth, period = self.truth[mask], self.task.target.period
        mean = truth.mean(axis=0) if period is None else circular_mean(truth, period)
        deviation = self.task.target.factor * wrap(truth - mean, period)
        total = (deviation[:, dims] ** 2).sum()
        return float(1 - (self.mean_error[mask][:, dims] ** 2).sum() / total) if total > 0 else float("nan")

    def _standard_error(self, level: float, mask: np.ndarray) -> float:
        """Return one standard error of the coverage over blocks of time (ratio estimator)."""
        inside = self.inside[level][mask].mean(axis=1)
        block = np.unique(self.block[mask], return_inverse=True)[1]
        excess = np.bincount(block, inside - inside.mean())
        count = len(excess)
        return float(np.sqrt((excess**2).sum() * count / max(count - 1, 1)) / len(inside))

    def _energy(self, mask: np.ndarray) -> float | None:
        """Return the energy score E|X - truth| - E|X - X'| / 2 from samples, on at most 3000 bins."""
        rows = np.flatnonzero(mask)
        rows = rows[np.linspace(0, len(rows) - 1, min(ENERGY_BINS, len(rows))).astype(int)]
        rng = np.random.default_rng(0)
        first = self.prediction.draw(ENERGY_SAMPLES, rng, rows)
        second = self.prediction.draw(ENERGY_SAMPLES, rng, rows)
        if first is None or second is None:
            return None
        to_truth = np.linalg.norm(first - self.truth[rows, None], axis=-1).mean()
        # independent draws: the mean over pairs has no bias
        between = np.mean(
            [np.linalg.norm(first - np.roll(second, shift, axis=1), axis=-1).mean() for shift in range(10)]
        )
        return float(self.task.target.factor * (to_truth - between / 2))
