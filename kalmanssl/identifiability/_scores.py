"""Scores of learned latents against true ones, each up to an affine map that is fitted on another part of the data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtr, ndtri

from kalmanssl.errors import InputError

__all__ = [
    "AffineMap",
    "PredictiveCalibration",
    "affine_r2",
    "affine_r2_by_dimension",
    "check_frames",
    "consistency",
    "match_frequencies",
    "mean_correlation",
    "mlp_gain",
    "predictive_calibration",
    "predictor_r2",
    "r_squared",
]

LEVELS = (0.5, 0.8, 0.95)
# A probe of two layers of this width, on this many frames, follows any fold of a low-dimensional latent in seconds.
_PROBE_WIDTHS, _PROBE_FRAMES, _PROBE_EPOCHS = (64, 64), 10_000, 80


@dataclass(frozen=True)
class AffineMap:
    """The map x -> weight x + offset.

    Attributes
    ----------
    weight : (to, from)
    offset : (to,)
    """

    weight: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(cls, fit_from: np.ndarray, fit_to: np.ndarray) -> AffineMap:
        """Ordinary least squares with an intercept; the smallest of several solutions.

        Parameters
        ----------
        fit_from, fit_to : (frames, dims) or (videos, frames, dims)
        """
        x, y = _pair("fit_from", fit_from, "fit_to", fit_to)
        if len(x) <= x.shape[1]:
            raise InputError(f"fit_from: {len(x)} frames cannot fix a map from {x.shape[1]} dimensions; give more")
        center, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        weight = np.linalg.lstsq((x - center) / scale, y - y.mean(0), rcond=None)[0].T / scale
        return cls(weight, y.mean(0) - weight @ center)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., from) to (..., to)."""
        return points @ self.weight.T + self.offset


def r_squared(expected: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share of the variance of each dimension of `truth` that `expected` explains.

    Parameters
    ----------
    expected, truth : (frames, dims)

    Returns
    -------
    (dims,)
        1 - SS_res / SS_tot; 0 for a dimension that is constant, since nothing of it is recovered.
    """
    total = ((truth - truth.mean(0)) ** 2).sum(0)
    varies = total > 1e-20 * (truth**2).sum(0)
    missed = ((truth - expected) ** 2).sum(0)
    return np.where(varies, 1 - missed / np.where(varies, total, 1.0), 0.0)


def affine_r2(fit_from: np.ndarray, fit_to: np.ndarray, score_from: np.ndarray, score_to: np.ndarray) -> float:
    """How much of `score_to` the best affine map of `score_from` explains, the map being fitted on another part.

    Parameters
    ----------
    fit_from, fit_to : (frames, dims) or (videos, frames, dims)
        What the map is fitted on, by ordinary least squares with an intercept.
    score_from, score_to : as above
        What it is scored on.

    Returns
    -------
    float
        Mean over the dimensions of `score_to` of 1 - SS_res / SS_tot; a constant dimension counts as 0.

    Raises
    ------
    InputError
        If shapes do not fit, values are not finite, or frames are too few.
    """
    return float(affine_r2_by_dimension(fit_from, fit_to, score_from, score_to).mean())


def affine_r2_by_dimension(
    fit_from: np.ndarray, fit_to: np.ndarray, score_from: np.ndarray, score_to: np.ndarray
) -> np.ndarray:
    """As `affine_r2`, for every dimension of `score_to`: (dims,)."""
    x, y = _pair("score_from", score_from, "score_to", score_to)
    affine = AffineMap.fit(fit_from, fit_to)
    if affine.weight.shape != (y.shape[1], x.shape[1]):
        raise InputError(
            f"the map was fitted from {affine.weight.shape[1]} to {affine.weight.shape[0]} dimensions, "
            f"but is scored from {x.shape[1]} to {y.shape[1]}: give the same dimensions in both parts"
        )
    return r_squared(affine(x), y)


def mean_correlation(true: np.ndarray, learned: np.ndarray) -> float:
    """Mean correlation coefficient: every true dimension with a learned one of its own, matched to fit best.

    Parameters
    ----------
    true, learned : (frames, dims) or (videos, frames, dims)

    Returns
    -------
    float
        Mean of the absolute correlations over the true dimensions; those without a partner count as 0. One after an
        affine map of every single dimension, less after one that mixes them: `affine_r2` is what the theorem promises.
    """
    x, y = _pair("true", true, "learned", learned)
    standard = [(v - v.mean(0)) / np.maximum(v.std(0), 1e-300) for v in (x, y)]
    correlation = np.abs(standard[0].T @ standard[1]) / len(x)
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    return float(correlation[rows, columns].sum() / x.shape[1])


def consistency(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> float:
    """How well the latents of one run give those of another, by an affine map.

    Parameters
    ----------
    train, test : sequence of (frames, dims) or (videos, frames, dims)
        Latents of the same frames by every run, such as fits from several seeds.

    Returns
    -------
    float
        `affine_r2` averaged over all ordered pairs of runs.
    """
    if len(train) != len(test) or len(train) < 2:
        raise InputError(
            f"train, test: expected the latents of the same two or more runs, got {len(train)}, {len(test)}"
        )
    pairs = list(permutations(range(len(train)), 2))
    return float(np.mean([affine_r2(train[a], train[b], test[a], test[b]) for a, b in pairs]))


def predictor_r2(latent_map: AffineMap, true_means: np.ndarray, learned_means: np.ndarray) -> float:
    """How much of the learned predictions the true step map explains, through an affine map that was found before.

    Source: LDM paper, Corollary 1: if z = B s + c, then the learned predicted mean is B m(past) + c with the same B, c.

    Parameters
    ----------
    latent_map : AffineMap
        From true to learned latents: ``AffineMap.fit(train_true, train_learned)``.
    true_means, learned_means : (frames, dims) or (videos, frames, dims)
        m(s_<t), the mean of the true latents given their past, and what the model predicts.
    """
    x, y = _pair("true_means", true_means, "learned_means", learned_means)
    return float(r_squared(latent_map(x), y).mean())


def match_frequencies(A: np.ndarray, angles: Sequence[float] | np.ndarray) -> dict[str, list[float]]:
    """Find the eigenvalues of a transition matrix that turn as the true system does.

    With many more eigenvalues than frequencies some will be near by chance; their moduli tell those that last.

    Parameters
    ----------
    A : (state, state)
    angles : sequence of float
        True angles, radians per step, in [0, pi].

    Returns
    -------
    dict
        For each true angle `angle` of the eigenvalue matched to it, its `error` (radians per step; their sum is the
        smallest possible) and its `modulus`; NaN where the matrix has too few.
    """
    A, wanted = np.asarray(A, dtype=float), np.asarray(angles, dtype=float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not np.isfinite(A).all():
        raise InputError(f"A: expected a finite square matrix, got shape {A.shape}")
    if wanted.ndim != 1 or not ((wanted >= 0) & (wanted <= np.pi)).all():
        raise InputError(f"angles: expected radians per step between 0 and pi, got {angles!r}")
    values = np.linalg.eigvals(A)
    values = values[values.imag >= 0]
    distance = np.abs(wanted[:, None] - np.abs(np.angle(values)))
    rows, columns = linear_sum_assignment(distance)
    found = np.full((3, len(wanted)), np.nan)
    found[0, rows], found[1, rows] = np.abs(np.angle(values))[columns], distance[rows, columns]
    found[2, rows] = np.abs(values)[columns]
    return dict(zip(("angle", "error", "modulus"), found.tolist(), strict=True))


def mlp_gain(
    fit_from: np.ndarray, fit_to: np.ndarray, score_from: np.ndarray, score_to: np.ndarray, *, random_state: int = 0
) -> float:
    """R² that a perceptron gains over the affine map: what is left of a nonlinearity between the two.

    Parameters as for `affine_r2`; the perceptron learns what the affine map leaves over, on at most 10 000 frames.
    A gain near zero (or below, by its overfitting) says that nothing was left that it could find.
    """
    from sklearn.neural_network import MLPRegressor

    affine = AffineMap.fit(fit_from, fit_to)
    (x, y), (u, v) = (
        _pair("fit_from", fit_from, "fit_to", fit_to),
        _pair("score_from", score_from, "score_to", score_to),
    )
    base = affine_r2_by_dimension(fit_from, fit_to, score_from, score_to).mean()
    center, scale = x.mean(0), np.maximum(x.std(0), 1e-12)
    rest = y - affine(x)
    size = np.maximum(rest.std(0), 1e-12)
    some = np.random.default_rng(random_state).permutation(len(x))[:_PROBE_FRAMES]
    probe = MLPRegressor(
        hidden_layer_sizes=_PROBE_WIDTHS,
        max_iter=_PROBE_EPOCHS,
        early_stopping=True,
        n_iter_no_change=8,
        random_state=random_state,
    )
    with warnings.catch_warnings():  # the epochs are limited on purpose
        warnings.simplefilter("ignore")
        target = rest[some] / size
        probe.fit((x[some] - center) / scale, target[:, 0] if target.shape[1] == 1 else target)
    guess = probe.predict((u - center) / scale).reshape(len(u), -1) * size
    return float(r_squared(affine(u) + guess, v).mean() - base)


@dataclass(frozen=True)
class PredictiveCalibration:
    """Whether Gaussian predictive distributions keep what they promise.

    Attributes
    ----------
    coverage : dict
        By level in percent ("50", "80", "95"): share of values within the central interval of that probability.
    pit_deviation : float
        Largest difference between the distribution of the probability integral transforms and the uniform one,
        0 for perfect calibration.
    pit : (frames, dims)
        Predictive distribution function at each value.
    """

    coverage: dict[str, float]
    pit_deviation: float
    pit: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Numbers as JSON types, with the histogram of `pit` in ten equal bins in place of its values."""
        histogram = np.histogram(self.pit, bins=10, range=(0, 1))[0] / self.pit.size
        return {
            "coverage": dict(self.coverage),
            "pit_deviation": self.pit_deviation,
            "pit_histogram": histogram.tolist(),
        }


def predictive_calibration(values: np.ndarray, means: np.ndarray, covs: np.ndarray) -> PredictiveCalibration:
    """Compare values with the Gaussian distributions that were predicted for them, dimension by dimension.

    Parameters
    ----------
    values, means : (frames, dims) or (videos, frames, dims)
    covs : (..., dims, dims)
        Predicted covariances, one for all or one per frame.
    """
    x, m = _pair("values", values, "means", means)
    covs = np.asarray(covs, dtype=float)
    dims = x.shape[1]
    if covs.shape[-2:] != (dims, dims):
        raise InputError(f"covs: expected (..., {dims}, {dims}), got {covs.shape}")
    variances = np.diagonal(covs, axis1=-2, axis2=-1)
    try:
        variances = np.broadcast_to(variances, np.shape(values)).reshape(x.shape)
    except ValueError as error:
        raise InputError(f"covs: {covs.shape} does not fit values of shape {np.shape(values)}") from error
    if not (np.isfinite(variances).all() and (variances > 0).all()):
        raise InputError("covs: variances must be finite and positive")
    standard = (x - m) / np.sqrt(variances)
    coverage = {f"{100 * level:g}": float((np.abs(standard) <= ndtri(0.5 + level / 2)).mean()) for level in LEVELS}
    pit = ndtr(standard)
    ordered = np.sort(pit.ravel())
    grid = np.arange(len(ordered) + 1) / len(ordered)
    deviation = max(np.abs(grid[1:] - ordered).max(), np.abs(grid[:-1] - ordered).max())
    return PredictiveCalibration(coverage, float(deviation), pit)


def _pair(name: str, values: Any, other_name: str, other: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = check_frames(name, values), check_frames(other_name, other)
    if np.shape(values)[:-1] != np.shape(other)[:-1]:
        raise InputError(
            f"{name}, {other_name}: expected the same frames, got shapes {np.shape(values)}, {np.shape(other)}"
        )
    return x, y


def check_frames(name: str, values: Any) -> np.ndarray:
    """Flatten to (frames, dims) of finite float64."""
    array = np.asarray(values, dtype=float)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(f"{name}: expected (frames, dims) or (videos, frames, dims), got {array.shape}")
    if len(array.reshape(-1, array.shape[-1])) < 2:
        raise InputError(f"{name}: expected two frames or more, got shape {array.shape}")
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(f"{name}: {count} of {array.size} values are NaN or infinite; leave those frames out")
    return array.reshape(-1, array.shape[-1])
