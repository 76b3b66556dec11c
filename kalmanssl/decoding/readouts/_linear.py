"""Linear readout: ridge regression with the analytic predictive interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from scipy.special import ndtr
from sklearn.linear_model import RidgeCV

from kalmanssl.data import Covariances
from kalmanssl.decoding.grids import Periods, Predictive, ScalePredictive, embed_circular, unembed_circular
from kalmanssl.decoding.readouts._base import FittedBins
from kalmanssl.utils.validation import as_numbers, check_condition, check_number, check_positive

__all__ = ["LinearReadout", "LinearReadoutSettings"]

_DEVIATES = np.linspace(-4, 4, 33)  # points of the table that represents a Gaussian


@dataclass(frozen=True)
class LinearReadoutSettings:
    """Settings of `LinearReadout`.

    Attributes
    ----------
    ridge_alphas : tuple of float
        Penalties of the ridge regression; the one with the lowest leave-one-out error is used. Latents are
        standardized.
    max_posterior_fraction : float
        Largest fraction of the residual variance that is attributed to the uncertainty of the latents, inside (0, 1).
        The rest is the residual noise of the readout.
    """

    ridge_alphas: tuple[float, ...] = tuple(np.logspace(-3, 4, 15).tolist())
    max_posterior_fraction: float = 0.9

    def __post_init__(self) -> None:
        alphas = as_numbers("ridge_alphas", self.ridge_alphas)
        object.__setattr__(self, "ridge_alphas", alphas)  # a saved state has a list
        for alpha in self.ridge_alphas:
            check_positive("ridge_alphas", alpha)
        name, fraction = "max_posterior_fraction", self.max_posterior_fraction
        check_number(name, fraction)
        check_condition(name, fraction, 0 < fraction < 1, "inside (0, 1)")


class LinearReadout:
    """Ridge regression on the posterior mean with the analytic interval.

    The behavior is Gaussian with mean `W h + c` and covariance `W P W' + S`, where `S` is the residual covariance of
    the fit (LDM paper, Sec. 3.3; its reference implementation leaves out `S`). Circular columns are regressed as
    cosine and sine, and their covariance is propagated to first order.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behavior; None for a dimension that is not circular.
    settings : LinearReadoutSettings, optional
    """

    def __init__(self, periods: Periods, settings: LinearReadoutSettings | None = None) -> None:
        self.periods = periods
        self.settings = settings or LinearReadoutSettings()

    def fit(self, bins: FittedBins, rng: np.random.Generator) -> Self:
        """Fit the regression, and the residual covariance that `W P W'` does not explain."""
        mean, cov = bins.mean, bins.cov
        target = embed_circular(bins.behavior, self.periods)
        center, scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        ridge = RidgeCV(alphas=np.array(self.settings.ridge_alphas)).fit((mean - center) / scale, target)
        self.weight = ridge.coef_.reshape(target.shape[1], -1) / scale
        self.offset = np.atleast_1d(ridge.intercept_) - self.weight @ center
        error = target - mean @ self.weight.T - self.offset
        total = error.T @ error / max(len(mean) - mean.shape[1] - 1, 1)
        self.residual = total
        if cov is not None:
            explained = self._propagated(cov).mean(axis=0)
            ratio = float(np.min(np.diag(total) / np.maximum(np.diag(explained), 1e-300)))
            share = min(1.0, self.settings.max_posterior_fraction * ratio)
            self.residual = _positive_definite(total - share * explained, np.diag(total))
        return self

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Return Gaussians with the analytic mean and variance."""
        columns = mean @ self.weight.T + self.offset
        covariance = np.broadcast_to(self.residual, (len(mean), *self.residual.shape))
        if cov is not None:
            covariance = covariance + self._propagated(cov)
        values, variances = unembed_circular(columns, covariance, self.periods)
        table = np.stack([ndtr(_DEVIATES), _DEVIATES])
        return [
            ScalePredictive(values[:, dim], np.sqrt(np.maximum(variances[:, dim], 1e-18)), table, period)
            for dim, period in enumerate(self.periods)
        ]

    def _propagated(self, cov: Covariances) -> np.ndarray:
        """Return `W P W'` of every bin, (time, columns, columns)."""
        weight = self.weight.astype(cov.table.dtype)
        used = cov.used()
        return (weight @ used.table @ weight.T)[used.index].astype(float)

    def to_state(self) -> dict[str, Any]:
        """Return the settings, weights, offset and residual covariance."""
        return {
            "periods": list(self.periods),
            "settings": asdict(self.settings),
            "weight": self.weight,
            "offset": self.offset,
            "residual": self.residual,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a fitted readout from what `to_state` returned."""
        readout = cls(tuple(state["periods"]), LinearReadoutSettings(**state["settings"]))
        readout.weight, readout.offset, readout.residual = (
            np.asarray(state[name], dtype=float) for name in ("weight", "offset", "residual")
        )
        return readout


def _positive_definite(covariance: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the nearest positive definite covariance, with variances of at least a thousandth of `variances`."""
    size = np.sqrt(np.maximum(np.diag(covariance), 1e-3 * variances))
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    return (vectors * np.maximum(values, 1e-6)) @ vectors.T * np.outer(size, size)
