"""Ridge regression on lagged or smoothed counts (Wiener filter), with the distribution of its held-out errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from decoding.baselines.features import Smoothing, lagged_counts, smoothed_counts
from decoding.predictions import SamplePrediction, wrap
from decoding.tasks import Task

__all__ = ["RidgeDecoder", "embed", "lagged_ridge", "pca_ridge", "unembed"]

ERRORS = 200  # held-out errors that make the predictive distribution


class PointPrediction(SamplePrediction):
    """A point for every bin (time, dims), with the same errors (errors, dims) around all of them."""

    def __init__(self, point: np.ndarray, errors: np.ndarray, period: float | None) -> None:
        super().__init__(point[:, None] + errors, period)
        self.point = point


class RidgeDecoder:
    """Linear regression of the behavior, or of sine and cosine of an angle.

    The predictive distribution is the point plus the errors on held-out blocks; before `calibrate` it is the point
    alone. Setting: `penalty`, per bin, for standardized features.

    Parameters
    ----------
    task : Task
    features : callable
        `features(part)` returns (time, features) for "train" or "test".
    components : int, optional
        Number of principal components to regress on; by default the features themselves.
    """

    def __init__(self, task: Task, features: Callable[[str], np.ndarray], components: int | None = None) -> None:
        self.task, self.features, self.components = task, features, components
        self.errors = np.zeros((1, task.dims))
        self._weights: dict[float, np.ndarray] = {}

    def fit(self, rows: np.ndarray) -> None:
        """Compute the products of features and behavior."""
        x, y = self.features("train")[rows], embed(self.task.train[rows], self.task.target.period)
        self.mean, self.sd = x.mean(axis=0), x.std(axis=0) + 1e-6
        self.projection = None
        if self.components is not None:
            values, vectors = np.linalg.eigh(np.cov((x - self.mean).T.astype(float)))
            self.projection = (vectors[:, -self.components :] / np.sqrt(values[-self.components :])).astype(np.float32)
        z = self._standardize(x)
        self.y_mean = y.mean(axis=0)
        self.gram = (z.T @ z).astype(float) / len(z)
        self.cross = (z.T @ (y - self.y_mean)).astype(float) / len(z)

    def _standardize(self, x: np.ndarray) -> np.ndarray:
        if self.projection is None:
            return (x - self.mean) / self.sd
        return (x - self.mean) @ self.projection

    def prepare(self, part: str, block: slice) -> np.ndarray:
        """Return the standardized features of a block."""
        return self._standardize(self.features(part)[block])

    def decode(self, prepared: Any, penalty: float = 1e-2) -> PointPrediction:
        """Return the regression with the held-out errors around it."""
        if penalty not in self._weights:
            factor = cho_factor(self.gram + penalty * np.eye(len(self.gram)))
            self._weights[penalty] = cho_solve(factor, self.cross)
        point = prepared @ self._weights[penalty] + self.y_mean
        point = unembed(point, self.task.target.period)
        return PointPrediction(point, self.errors, self.task.target.period)

    def calibrate(self, held_out: list[tuple[PointPrediction, np.ndarray, np.ndarray]]) -> None:
        """Use the errors on held-out blocks as predictive distribution."""
        errors = np.concatenate([(truth - prediction.point)[mask] for prediction, truth, mask in held_out])
        errors = wrap(errors, self.task.target.period)
        self.errors = errors[np.random.default_rng(0).permutation(len(errors))[:ERRORS]]


def embed(behavior: np.ndarray, period: float | None) -> np.ndarray:
    """Return sine and cosine of an angle; other behavior is unchanged."""
    if period is None:
        return behavior
    angle = 2 * np.pi * behavior[:, 0] / period
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def unembed(values: np.ndarray, period: float | None) -> np.ndarray:
    """Return the angle of sine and cosine; other behavior is unchanged."""
    if period is None:
        return values
    return (np.arctan2(values[:, :1], values[:, 1:]) * period / (2 * np.pi)) % period


def lagged_ridge(task: Task, kind: Smoothing) -> RidgeDecoder:
    """Return ridge regression on counts of the last second, or of half a second before and after."""
    return RidgeDecoder(task, lambda part: lagged_counts(task.data, part, kind))


def pca_ridge(task: Task, kind: Smoothing, components: int = 16) -> RidgeDecoder:
    """Return ridge regression on principal components of smoothed square-root counts."""
    dims = min(components, task.data.train.n_units)
    return RidgeDecoder(task, lambda part: smoothed_counts(task.data, part, kind), dims)
