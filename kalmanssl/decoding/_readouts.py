"""Readouts: from latents to a predictive distribution of each behavioral dimension.

Each has `fit(mean, cov, behavior, rng)` and `predict(mean, cov)`, which returns one predictive per dimension. `cov`
holds the posterior covariances of the latents or is None. None of them knows about time: `kalmanssl.decoding` adds
what the passing of time does to their errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from kalmanssl.decoding._predictive import Predictive, ScalePredictive, wrap
from kalmanssl.errors import InputError

__all__ = ["Covariances", "LinearReadout", "Readout", "SklearnReadout", "embed_circular", "unembed_circular"]

_TABLE = np.concatenate([[0.0005, 0.001, 0.0025, 0.005], np.arange(0.01, 0.995, 0.01), [0.995, 0.9975, 0.999, 0.9995]])
_DEVIATES = np.linspace(-4, 4, 33)
_DRAWS = 8  # from the posterior, for how much it moves a regressor of scikit-learn
_KEPT = 5000  # training bins whose errors stand for those near them


@dataclass(frozen=True)
class Covariances:
    """Posterior covariances of the latents, each stored once.

    Attributes
    ----------
    table : (distinct, state, state)
    index : (time,)
        Which of `table` each bin has.
    """

    table: np.ndarray
    index: np.ndarray

    def __getitem__(self, rows: slice | np.ndarray) -> Covariances:
        return Covariances(self.table, self.index[rows])

    def used(self) -> Covariances:
        """The same with a table of only those that bins have."""
        kept, index = np.unique(self.index, return_inverse=True)
        return Covariances(self.table[kept], index)


class Readout(Protocol):
    """What `kalmanssl.decoding.PositionDecoder` asks of a readout."""

    def fit(self, mean: np.ndarray, cov: Covariances | None, behavior: np.ndarray, rng: np.random.Generator) -> Any:
        """Learn from latents (time, state), their covariances and behavior (time, dims)."""
        ...

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Predictive distributions, one for each dimension of the behavior."""
        ...

    def state(self) -> dict[str, Any]:
        """Arrays and plain values that `load` makes it again from."""
        ...

    def load(self, state: dict[str, Any]) -> Any:
        """Take over what `state` gave."""
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


def unembed_circular(
    columns: np.ndarray, cov: np.ndarray, periods: tuple[float | None, ...]
) -> tuple[np.ndarray, np.ndarray]:
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

    The behavior is Gaussian with mean `W h + c` and covariance `W P W' + S`, `S` the residual covariance of the fit
    (LDM paper, Sec. 3.3, with the residual that its reference leaves out). Circular columns are regressed as cosine
    and sine and their covariance is taken to first order.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behavior; None for a dimension on the line.
    """

    def __init__(self, periods: tuple[float | None, ...]) -> None:
        self.periods = periods

    def fit(
        self, mean: np.ndarray, cov: Covariances | None, behavior: np.ndarray, rng: np.random.Generator
    ) -> LinearReadout:
        """Fit weights, and as residual covariance what `W P W'` does not already explain."""
        target = embed_circular(behavior, self.periods)
        center, scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        ridge = RidgeCV(alphas=np.logspace(-3, 4, 15)).fit((mean - center) / scale, target)
        self.weight = ridge.coef_.reshape(target.shape[1], -1) / scale
        self.offset = np.atleast_1d(ridge.intercept_) - self.weight @ center
        error = target - mean @ self.weight.T - self.offset
        total = error.T @ error / max(len(mean) - mean.shape[1] - 1, 1)
        self.residual = total
        if cov is not None:
            # What the posterior explains is taken off, but never more than nine tenths of a residual variance.
            known = self._explained(cov).mean(axis=0)
            share = min(1.0, 0.9 * float(np.min(np.diag(total) / np.maximum(np.diag(known), 1e-300))))
            self.residual = _positive(total - share * known, np.diag(total))
        return self

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Gaussians with the analytic mean and variance."""
        columns = mean @ self.weight.T + self.offset
        covariance = np.broadcast_to(self.residual, (len(mean), *self.residual.shape))
        if cov is not None:
            covariance = covariance + self._explained(cov)
        values, variances = unembed_circular(columns, covariance, self.periods)
        table = np.stack([ndtr(_DEVIATES), _DEVIATES])
        return [
            ScalePredictive(values[:, dim], np.sqrt(np.maximum(variances[:, dim], 1e-18)), table, period)
            for dim, period in enumerate(self.periods)
        ]

    def _explained(self, cov: Covariances) -> np.ndarray:
        """`W P W'` of every bin, (time, columns, columns)."""
        weight = self.weight.astype(cov.table.dtype)
        used = cov.used()
        return (weight @ used.table @ weight.T)[used.index].astype(float)

    def state(self) -> dict[str, Any]:
        """Weights, offset and residual covariance."""
        return {"weight": self.weight, "offset": self.offset, "residual": self.residual}

    def load(self, state: dict[str, Any]) -> LinearReadout:
        """Take over what `state` gave."""
        self.weight, self.offset, self.residual = (
            np.asarray(state[name], dtype=float) for name in ("weight", "offset", "residual")
        )
        return self


def _positive(covariance: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """The nearest covariance with positive definite correlations; variances at least a thousandth of `variances`."""
    size = np.sqrt(np.maximum(np.diag(covariance), 1e-3 * variances))
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    return (vectors * np.maximum(values, 1e-6)) @ vectors.T * np.outer(size, size)


class SklearnReadout:
    """Any regressor of scikit-learn, with a residual noise learned on blocks it was not fitted on.

    The scale of the error at a bin is the mean error of those training bins, out of their block, that lie nearest in
    latent space; where there is a posterior covariance, the standard deviation of the estimate over draws from the
    posterior is added in quadrature. The shape of the error is that of all out-of-block errors over their scale.

    Parameters
    ----------
    regressor : object
        Has `fit(X, y)` and `predict(X)`; it is cloned, never changed.
    periods : tuple of float or None
        One per dimension of the behavior.
    """

    _blocks = 5

    def __init__(self, regressor: Any, periods: tuple[float | None, ...]) -> None:
        self.regressor = regressor
        self.periods = periods

    def fit(
        self, mean: np.ndarray, cov: Covariances | None, behavior: np.ndarray, rng: np.random.Generator
    ) -> SklearnReadout:
        """Fit the regressor, on all bins for the estimate and on all but a block for the errors."""
        self.seed = int(rng.integers(2**31))
        target = embed_circular(behavior, self.periods)
        self.model = self._fitted(mean, target)
        error, moved = np.empty(behavior.shape), np.zeros(behavior.shape)
        for block in np.array_split(np.arange(len(mean)), self._blocks):
            others = np.setdiff1d(np.arange(len(mean)), block)
            model = self._fitted(mean[others], target[others])
            guess = self._values(model, mean[block])
            error[block] = self._wrapped(behavior[block] - guess)
            if cov is not None:
                moved[block] = self._moved(model, guess, mean[block], cov[block])
        picked = np.unique(np.linspace(0, len(mean) - 1, _KEPT).astype(int))
        self.center, self.spread = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        self.size = np.abs(error[picked])
        self.floor = np.maximum(0.1 * np.median(self.size, axis=0), 1e-9)
        count = max(1, min(50, len(picked) // 10))
        self.neighbors = NearestNeighbors(n_neighbors=count).fit(self._standard(mean[picked]))
        # A bin must not vouch for itself: it is none of its own neighbors here.
        near = self.neighbors.kneighbors(return_distance=False)
        ratio = error[picked] / self._scale(near, moved[picked])
        self.tables = [np.stack([_TABLE, np.quantile(column, _TABLE)]) for column in ratio.T]
        return self

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Point estimates with the residual shape, scaled bin by bin."""
        values = self._values(self.model, mean)
        moved = np.zeros(values.shape) if cov is None else self._moved(self.model, values, mean, cov)
        near = self.neighbors.kneighbors(self._standard(mean), return_distance=False)
        scale = self._scale(near, moved)
        return [
            ScalePredictive(values[:, dim], scale[:, dim], self.tables[dim], period)
            for dim, period in enumerate(self.periods)
        ]

    def state(self) -> dict[str, Any]:
        """Refuse: nothing but pickle knows how to save an arbitrary regressor."""
        raise InputError(
            f"a decoder with {type(self.regressor).__name__} cannot be saved without pickle: use regressor "
            '"mlp" or "linear", or fit it again on the latents of the loaded model'
        )

    def load(self, state: dict[str, Any]) -> SklearnReadout:
        """Refuse, as `state` does."""
        raise InputError("a decoder with a regressor of scikit-learn cannot be loaded: fit it again")

    def _standard(self, mean: np.ndarray) -> np.ndarray:
        return (mean - self.center) / self.spread

    def _scale(self, near: np.ndarray, moved: np.ndarray) -> np.ndarray:
        return np.maximum(np.hypot(self.size[near].mean(axis=1), moved), self.floor)

    def _wrapped(self, difference: np.ndarray) -> np.ndarray:
        return np.stack(
            [wrap(column, period) for column, period in zip(difference.T, self.periods, strict=True)], axis=1
        )

    def _moved(self, model: Any, values: np.ndarray, mean: np.ndarray, cov: Covariances) -> np.ndarray:
        """Standard deviation of the estimate over draws from the latent posterior, (time, dims)."""
        rng = np.random.default_rng(self.seed)
        used = cov.used()
        root = _root(used.table)[used.index]
        total = np.zeros(values.shape)
        for _ in range(_DRAWS):
            draw = mean + np.einsum("tij,tj->ti", root, rng.standard_normal(mean.shape))
            total += self._wrapped(self._values(model, draw) - values) ** 2
        return np.sqrt(total / _DRAWS)

    def _fitted(self, mean: np.ndarray, target: np.ndarray) -> Any:
        model = clone(self.regressor)
        try:
            return model.fit(mean, target[:, 0] if target.shape[1] == 1 else target)
        except ValueError as error:
            if target.shape[1] > 1 and "1d array" in str(error):
                raise InputError(
                    f"{type(self.regressor).__name__} predicts one column and the behavior needs {target.shape[1]}: "
                    "wrap it in sklearn.multioutput.MultiOutputRegressor"
                ) from error
            raise

    def _values(self, model: Any, mean: np.ndarray) -> np.ndarray:
        columns = np.asarray(model.predict(mean), dtype=float).reshape(len(mean), -1)
        none = np.zeros((len(mean), columns.shape[1], columns.shape[1]))
        return unembed_circular(columns, none, self.periods)[0]


def _root(table: np.ndarray) -> np.ndarray:
    """Matrices (n, state, state) whose squares are the covariances, also where these are singular."""
    values, vectors = np.linalg.eigh(table.astype(float))
    return vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
