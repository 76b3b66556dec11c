"""Readout that wraps a regressor of scikit-learn and adds residual noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn, Self

import numpy as np
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors

from kalmanssl.data import Covariances
from kalmanssl.decoding.grids import Periods, Predictive, ScalePredictive, difference, embed_circular, unembed_circular
from kalmanssl.decoding.readouts._base import FittedBins
from kalmanssl.errors import InputError
from kalmanssl.utils.moments import evenly_spaced
from kalmanssl.utils.validation import check_fraction, check_integer

__all__ = ["SklearnReadout", "SklearnReadoutSettings"]

# Levels of the table that represents the residual distribution.
_LEVELS = np.concatenate([[0.0005, 0.001, 0.0025, 0.005], np.arange(0.01, 0.995, 0.01), [0.995, 0.9975, 0.999, 0.9995]])


@dataclass(frozen=True)
class SklearnReadoutSettings:
    """Settings of `SklearnReadout`.

    Attributes
    ----------
    n_folds : int
        Contiguous blocks for the cross-validation from which the errors are learned.
    n_neighbors : int
        Training bins whose mean error gives the scale of the error at a bin; at most a tenth of the training bins.
    max_reference_bins : int
        Training bins, evenly spaced, whose errors are kept for this.
    min_scale_fraction : float
        Smallest scale of the error, as a fraction of the median absolute error.
    n_posterior_draws : int
        Draws from the latent posterior, by which the error that comes from uncertain latents is estimated.
    """

    n_folds: int = 5
    n_neighbors: int = 50
    max_reference_bins: int = 5000
    min_scale_fraction: float = 0.1
    n_posterior_draws: int = 8

    def __post_init__(self) -> None:
        check_integer("n_folds", self.n_folds, 2)
        check_integer("n_neighbors", self.n_neighbors, 1)
        check_integer("max_reference_bins", self.max_reference_bins, 2)
        check_integer("n_posterior_draws", self.n_posterior_draws, 1)
        check_fraction("min_scale_fraction", self.min_scale_fraction)


class SklearnReadout:
    """Any regressor of scikit-learn, with a residual distribution learned by cross-validation over blocks of time.

    The scale of the error at a bin is the mean cross-validated error of the training bins that are nearest in latent
    space. If there is a posterior covariance, the standard deviation of the estimate over draws from the posterior is
    added in quadrature. The shape of the error is the distribution of all cross-validated errors divided by their
    scale.

    Parameters
    ----------
    regressor : object
        Has `fit(X, y)` and `predict(X)`; it is cloned, never changed.
    periods : tuple of float or None
        One per dimension of the behavior.
    settings : SklearnReadoutSettings, optional
    """

    def __init__(self, regressor: Any, periods: Periods, settings: SklearnReadoutSettings | None = None) -> None:
        self.regressor = regressor
        self.periods = periods
        self.settings = settings or SklearnReadoutSettings()

    def fit(self, bins: FittedBins, rng: np.random.Generator) -> Self:
        """Fit the regressor to all bins, and learn its errors by cross-validation."""
        s, mean = self.settings, bins.mean
        self.seed = int(rng.integers(2**31))
        target = embed_circular(bins.behavior, self.periods)
        self.model = self._fit_regressor(mean, target)
        error, posterior_sd = self._cross_validate(bins, target)
        picked = evenly_spaced(len(mean), s.max_reference_bins)
        self.center, self.latent_sd = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        self.size = np.abs(error[picked])
        self.floor = np.maximum(s.min_scale_fraction * np.median(self.size, axis=0), 1e-9)
        count = max(1, min(s.n_neighbors, len(picked) // 10))
        self.neighbors = NearestNeighbors(n_neighbors=count).fit(self._standardize(mean[picked]))
        # Without an argument a bin is not among its own neighbors, so its own error does not set its scale.
        near = self.neighbors.kneighbors(return_distance=False)
        ratio = error[picked] / self._scale(near, posterior_sd[picked])
        self.tables = [np.stack([_LEVELS, np.quantile(column, _LEVELS)]) for column in ratio.T]
        return self

    def _cross_validate(self, bins: FittedBins, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the error of every bin, and the posterior standard deviation of its estimate, both (time, dims)."""
        mean, cov, behavior = bins.mean, bins.cov, bins.behavior
        error, posterior_sd = np.empty(behavior.shape), np.zeros(behavior.shape)
        for block in np.array_split(np.arange(len(mean)), self.settings.n_folds):
            others = np.setdiff1d(np.arange(len(mean)), block)
            model = self._fit_regressor(mean[others], target[others])
            estimate = self._estimate(model, mean[block])
            error[block] = difference(behavior[block], estimate, self.periods)
            if cov is not None:
                posterior_sd[block] = self._posterior_sd(model, estimate, mean[block], cov[block])
        return error, posterior_sd

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Return point estimates with the residual shape, scaled in every bin."""
        values = self._estimate(self.model, mean)
        posterior_sd = np.zeros(values.shape) if cov is None else self._posterior_sd(self.model, values, mean, cov)
        near = self.neighbors.kneighbors(self._standardize(mean), return_distance=False)
        scale = self._scale(near, posterior_sd)
        return [
            ScalePredictive(values[:, dim], scale[:, dim], self.tables[dim], period)
            for dim, period in enumerate(self.periods)
        ]

    def to_state(self) -> NoReturn:
        """Raise `InputError`: an arbitrary regressor can only be saved with pickle, which kalmanssl does not use."""
        raise InputError(
            f"a decoder with {type(self.regressor).__name__} cannot be saved without pickle: use regressor "
            '"ensemble" or "linear", or fit it again on the latents of the loaded model',
            parameter="regressor",
        )

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NoReturn:
        """Raise `InputError`, as `to_state` does."""
        raise InputError("a decoder with a regressor of scikit-learn cannot be loaded: fit it again")

    def _standardize(self, mean: np.ndarray) -> np.ndarray:
        return (mean - self.center) / self.latent_sd

    def _scale(self, near: np.ndarray, posterior_sd: np.ndarray) -> np.ndarray:
        """Return the scale of the error (time, dims) from the errors of the neighbors and the posterior."""
        return np.maximum(np.hypot(self.size[near].mean(axis=1), posterior_sd), self.floor)

    def _posterior_sd(self, model: Any, values: np.ndarray, mean: np.ndarray, cov: Covariances) -> np.ndarray:
        """Return the standard deviation of the estimate over draws from the latent posterior, (time, dims)."""
        rng = np.random.default_rng(self.seed)
        used = cov.used()
        root = used.square_roots()[used.index]
        total = np.zeros(values.shape)
        for _ in range(self.settings.n_posterior_draws):
            draw = mean + np.einsum("tij,tj->ti", root, rng.standard_normal(mean.shape))
            total += difference(self._estimate(model, draw), values, self.periods) ** 2
        return np.sqrt(total / self.settings.n_posterior_draws)

    def _fit_regressor(self, mean: np.ndarray, target: np.ndarray) -> Any:
        model = clone(self.regressor)
        try:
            return model.fit(mean, target[:, 0] if target.shape[1] == 1 else target)
        except ValueError as error:
            if target.shape[1] > 1 and "1d array" in str(error):
                raise InputError(
                    f"{type(self.regressor).__name__} predicts one column and the behavior needs {target.shape[1]}: "
                    "wrap it in sklearn.multioutput.MultiOutputRegressor",
                    parameter="regressor",
                ) from error
            raise

    def _estimate(self, model: Any, mean: np.ndarray) -> np.ndarray:
        """Return the point estimates of a regressor, (time, dims)."""
        columns = np.asarray(model.predict(mean), dtype=float).reshape(len(mean), -1)
        no_covariance = np.zeros((len(mean), columns.shape[1], columns.shape[1]))
        return unembed_circular(columns, no_covariance, self.periods)[0]
