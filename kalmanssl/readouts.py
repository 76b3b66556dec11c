"""Readouts: from latents to a predictive distribution of each behavioural dimension.

Each has `fit(mean, cov, behavior, rng)` and `predict(mean, cov)`, which returns one predictive per dimension. `cov` is
the posterior covariance of the latents or None. None of them knows about time: `kalmanssl.calibration` adds what the
passing of time does to their errors.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.linear_model import RidgeCV

from kalmanssl.errors import InputError
from kalmanssl.predictive import GridPredictive, ScalePredictive, wrap

__all__ = ["LinearReadout", "Predictive", "Readout", "SklearnReadout", "embed_circular"]

Predictive = GridPredictive | ScalePredictive
_TABLE = np.concatenate([[0.0005, 0.001, 0.0025, 0.005], np.arange(0.01, 0.995, 0.01), [0.995, 0.9975, 0.999, 0.9995]])
_NORMAL_TABLE_LEVELS = ndtr(np.linspace(-4, 4, 33))


class Readout(Protocol):
    """What `kalmanssl.decoding.PositionDecoder` asks of a readout."""

    def fit(self, mean: np.ndarray, cov: np.ndarray | None, behavior: np.ndarray, rng: np.random.Generator) -> Readout:
        """Learn from latents (time, state), their covariance and behaviour (time, dims)."""
        ...

    def predict(self, mean: np.ndarray, cov: np.ndarray | None) -> list[Predictive]:
        """Predictive distributions, one for each dimension of the behaviour."""
        ...


def embed_circular(behavior: np.ndarray, periods: tuple[float | None, ...]) -> np.ndarray:
    """Replace circular columns by their cosine and sine, (time, dims) to (time, columns)."""
    columns = []
    for values, period in zip(behavior.T, periods, strict=True):
        if period is None:
            columns.append(values)
        else:
            columns += [np.cos(2 * np.pi * values / period), np.sin(2 * np.pi * values / period)]
    return np.stack(columns, axis=1)


def _unembed(columns: np.ndarray, cov: np.ndarray, periods: tuple[float | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Undo `embed_circular` for means (time, columns) and covariances (time, columns, columns), to first order.

    Returns the values and their variances, both (time, dims).
    """
    values, variances, at = [], [], 0
    for period in periods:
        if period is None:
            values.append(columns[:, at])
            variances.append(cov[:, at, at])
            at += 1
            continue
        cosine, sine = columns[:, at], columns[:, at + 1]
        squared = np.maximum(cosine**2 + sine**2, 1e-12)
        gradient = np.stack([-sine, cosine], axis=1) / squared[:, None] * period / (2 * np.pi)
        values.append(np.arctan2(sine, cosine) * period / (2 * np.pi) % period)
        variances.append(np.einsum("ti,tij,tj->t", gradient, cov[:, at : at + 2, at : at + 2], gradient))
        at += 2
    return np.stack(values, axis=1), np.stack(variances, axis=1)


class LinearReadout:
    """Ridge regression on the posterior mean with the analytic interval.

    The behaviour is Gaussian with mean `W h + c` and covariance `W P W' + S`, `S` the residual covariance of the fit
    (LDM paper, Sec. 3.3, with the residual that its reference leaves out). Circular columns are regressed as cosine
    and sine and their covariance is taken to first order.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behaviour; None for a dimension on the line.
    """

    def __init__(self, periods: tuple[float | None, ...]) -> None:
        self.periods = periods

    def fit(
        self, mean: np.ndarray, cov: np.ndarray | None, behavior: np.ndarray, rng: np.random.Generator
    ) -> LinearReadout:
        """Fit weights, and as residual covariance what `W P W'` does not already explain."""
        target = embed_circular(behavior, self.periods)
        self.center, self.scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        ridge = RidgeCV(alphas=np.logspace(-3, 4, 15)).fit((mean - self.center) / self.scale, target)
        self.weight = np.atleast_2d(ridge.coef_) / self.scale
        self.offset = np.atleast_1d(ridge.intercept_) - self.weight @ self.center
        error = target - mean @ self.weight.T - self.offset
        total = error.T @ error / max(len(mean) - mean.shape[1] - 1, 1)
        self.residual = total
        if cov is not None:
            # What the posterior explains is taken off, but never more than nine tenths of a residual variance.
            known = np.einsum("oi,tij,pj->op", self.weight, cov, self.weight) / len(mean)
            share = min(1.0, 0.9 * float(np.min(np.diag(total) / np.maximum(np.diag(known), 1e-300))))
            rest = total - share * known
            size = np.sqrt(np.maximum(np.diag(rest), 1e-3 * np.diag(total)))
            values, vectors = np.linalg.eigh(rest / np.outer(size, size))
            self.residual = (vectors * np.maximum(values, 1e-6)) @ vectors.T * np.outer(size, size)
        return self

    def predict(self, mean: np.ndarray, cov: np.ndarray | None) -> list[Predictive]:
        """Gaussians with the analytic mean and variance."""
        columns = mean @ self.weight.T + self.offset
        covariance = np.broadcast_to(self.residual, (len(mean), *self.residual.shape))
        if cov is not None:
            covariance = covariance + np.einsum("oi,tij,pj->top", self.weight, cov, self.weight, optimize=True)
        values, variances = _unembed(columns, covariance, self.periods)
        table = np.stack([_NORMAL_TABLE_LEVELS, np.linspace(-4, 4, 33)])
        return [
            ScalePredictive(values[:, dim], np.sqrt(np.maximum(variances[:, dim], 1e-18)), table, period)
            for dim, period in enumerate(self.periods)
        ]


class SklearnReadout:
    """Any regressor of scikit-learn, with a residual noise learned on blocks it was not fitted on.

    The size of the error at a bin is a regression of the absolute out-of-block error on what is known there: the
    point estimate moved by one posterior standard deviation along each of a few directions of the latents, and the
    mean error of the training bins that are nearest in the latents.

    Parameters
    ----------
    regressor : object
        Has `fit(X, y)` and `predict(X)`; it is cloned, never changed.
    periods : tuple of float or None
        One per dimension of the behaviour.
    blocks : int
        Number of contiguous blocks of the cross-validation that gives the errors.
    """

    def __init__(self, regressor: Any, periods: tuple[float | None, ...], blocks: int = 5) -> None:
        self.regressor = regressor
        self.periods = periods
        self.blocks = blocks

    def fit(
        self, mean: np.ndarray, cov: np.ndarray | None, behavior: np.ndarray, rng: np.random.Generator
    ) -> SklearnReadout:
        """Fit the regressor, on all bins for the estimate and on all but a block for the errors."""
        from sklearn.neighbors import NearestNeighbors

        target = embed_circular(behavior, self.periods)
        self.model = self._fitted(mean, target)
        error = np.empty(behavior.shape)
        for block in np.array_split(np.arange(len(mean)), min(self.blocks, len(mean))):
            others = np.setdiff1d(np.arange(len(mean)), block)
            guess = self._values(self._fitted(mean[others], target[others]), mean[block])
            for dim, period in enumerate(self.periods):
                error[block, dim] = wrap(behavior[block, dim] - guess[:, dim], period)
        self.center, self.spread = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        count = max(1, min(50, len(mean) // 10))
        self.neighbors = NearestNeighbors(n_neighbors=count).fit(self._scaled(mean))
        self.size = np.abs(error)
        self.floor = np.maximum(0.1 * np.median(self.size, axis=0), 1e-9)
        # A bin must not vouch for itself: its own error is taken out of the mean over its neighbours.
        near = self.neighbors.kneighbors(return_distance=False)
        scale = np.maximum(self.size[near].mean(axis=1), self.floor)
        self.tables = [
            np.stack([_TABLE, np.quantile(error[:, dim] / scale[:, dim], _TABLE)]) for dim in range(len(self.periods))
        ]
        return self

    def predict(self, mean: np.ndarray, cov: np.ndarray | None) -> list[Predictive]:
        """Point estimates with the residual shape, scaled by the errors of the nearest training bins."""
        values = self._values(self.model, mean)
        near = self.neighbors.kneighbors(self._scaled(mean), return_distance=False)
        scale = np.maximum(self.size[near].mean(axis=1), self.floor)
        return [
            ScalePredictive(values[:, dim], scale[:, dim], self.tables[dim], period)
            for dim, period in enumerate(self.periods)
        ]

    def _scaled(self, mean: np.ndarray) -> np.ndarray:
        return (mean - self.center) / self.spread

    def _fitted(self, mean: np.ndarray, target: np.ndarray) -> Any:
        model = clone(self.regressor)
        try:
            return model.fit(mean, target[:, 0] if target.shape[1] == 1 else target)
        except ValueError as error:
            if target.shape[1] > 1 and "1d array" in str(error):
                raise InputError(
                    f"{type(self.regressor).__name__} predicts one column and the behaviour needs {target.shape[1]}: "
                    "wrap it in sklearn.multioutput.MultiOutputRegressor"
                ) from error
            raise

    def _values(self, model: Any, mean: np.ndarray) -> np.ndarray:
        columns = np.asarray(model.predict(mean), dtype=float).reshape(len(mean), -1)
        none = np.zeros((len(mean), columns.shape[1], columns.shape[1]))
        return _unembed(columns, none, self.periods)[0]
