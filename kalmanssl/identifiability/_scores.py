"""Scores of learned latents against true latents, up to an affine map that is fitted on a separate part of the data."""

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
# A network of this size, on this many frames, fits nonlinear maps of low-dimensional latents in seconds.
_PROBE_WIDTHS, _PROBE_FRAMES, _PROBE_EPOCHS = (64, 64), 10_000, 80


@dataclass(frozen=True)
class AffineMap:
    """Affine map x -> weight x + offset.

    Attributes
    ----------
    weight : (dims_out, dims_in)
    offset : (dims_out,)
    """

    weight: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(cls, fit_from: np.ndarray, fit_to: np.ndarray) -> AffineMap:
        """Fit a map by ordinary least squares with an intercept; the minimum-norm solution if there are several.

        Parameters
        ----------
        fit_from, fit_to : (frames, dims) or (videos, frames, dims)

        Raises
        ------
        InputError
            If shapes do not match, values are not finite, or there are too few frames.
        """
        x, y = _pair("fit_from", fit_from, "fit_to", fit_to)
        if len(x) <= x.shape[1]:
            raise InputError(f"fit_from has {len(x)} frames: a map from {x.shape[1]} dimensions needs more")
        center, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        weight = np.linalg.lstsq((x - center) / scale, y - y.mean(0), rcond=None)[0].T / scale
        return cls(weight, y.mean(0) - weight @ center)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., dims_in) to (..., dims_out)."""
        return points @ self.weight.T + self.offset


def r_squared(expected: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the fraction of the variance of each dimension of `truth` that `expected` explains.

    Parameters
    ----------
    expected, truth : (frames, dims)

    Returns
    -------
    (dims,)
        1 - SS_res / SS_tot; 0 for a constant dimension.
    """
    total = ((truth - truth.mean(0)) ** 2).sum(0)
    varies = total > 1e-20 * (truth**2).sum(0)
    missed = ((truth - expected) ** 2).sum(0)
    return np.where(varies, 1 - missed / np.where(varies, total, 1.0), 0.0)


def affine_r2(fit_from: np.ndarray, fit_to: np.ndarray, score_from: np.ndarray, score_to: np.ndarray) -> float:
    """Compute the R² of `score_to` from an affine map of `score_from` that is fitted on separate data.

    Parameters
    ----------
    fit_from, fit_to : (frames, dims) or (videos, frames, dims)
        Data for the fit of the map by ordinary least squares with an intercept.
    score_from, score_to : (frames, dims) or (videos, frames, dims)
        Data for the score.

    Returns
    -------
    float
        Mean over the dimensions of `score_to` of 1 - SS_res / SS_tot; a constant dimension counts as 0.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or there are too few frames.
    """
    return float(affine_r2_by_dimension(fit_from, fit_to, score_from, score_to).mean())


def affine_r2_by_dimension(
    fit_from: np.ndarray, fit_to: np.ndarray, score_from: np.ndarray, score_to: np.ndarray
) -> np.ndarray:
    """Compute the R² of `affine_r2` for each dimension of `score_to`, (dims,)."""
    x, y = _pair("score_from", score_from, "score_to", score_to)
    affine = AffineMap.fit(fit_from, fit_to)
    if affine.weight.shape != (y.shape[1], x.shape[1]):
        raise InputError(
            f"score_from and score_to have {x.shape[1]} and {y.shape[1]} dimensions, fit_from and fit_to "
            f"{affine.weight.shape[1]} and {affine.weight.shape[0]}: they must be equal"
        )
    return r_squared(affine(x), y)


def mean_correlation(true: np.ndarray, learned: np.ndarray) -> float:
    """Compute the mean correlation coefficient of true and learned dimensions under the best one-to-one matching.

    Parameters
    ----------
    true, learned : (frames, dims) or (videos, frames, dims)

    Returns
    -------
    float
        Mean absolute correlation over the true dimensions; unmatched ones count as 0. It is 1 if each dimension is
        recovered up to scale and shift, and lower if dimensions are mixed. The theorem guarantees recovery up to an
        affine map, which `affine_r2` measures.
    """
    x, y = _pair("true", true, "learned", learned)
    standard = [(v - v.mean(0)) / np.maximum(v.std(0), 1e-300) for v in (x, y)]
    correlation = np.abs(standard[0].T @ standard[1]) / len(x)
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    return float(correlation[rows, columns].sum() / x.shape[1])


def consistency(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> float:
    """Compute how well the latents of one run predict those of another by an affine map.

    Parameters
    ----------
    train, test : sequence of (frames, dims) or (videos, frames, dims)
        Latents of the same frames from each run, for example with different seeds.

    Returns
    -------
    float
        `affine_r2` averaged over all ordered pairs of runs.

    Raises
    ------
    InputError
        If there are fewer than two runs, or different numbers of them.
    """
    if len(train) != len(test) or len(train) < 2:
        raise InputError(
            f"train and test must hold latents of the same two or more runs, got {len(train)} and {len(test)}"
        )
    pairs = list(permutations(range(len(train)), 2))
    return float(np.mean([affine_r2(train[a], train[b], test[a], test[b]) for a, b in pairs]))


def predictor_r2(latent_map: AffineMap, true_means: np.ndarray, learned_means: np.ndarray) -> float:
    """Compute the R² of the learned predictions from the true ones, with the affine map of the latents.

    Source: LDM paper, Corollary 1: if z = B s + c, then the learned predicted mean is B m(past) + c with the same B, c.

    Parameters
    ----------
    latent_map : AffineMap
        Map from true to learned latents: ``AffineMap.fit(train_true, train_learned)``.
    true_means, learned_means : (frames, dims) or (videos, frames, dims)
        Mean m(s_<t) of the true latents given their past, and the predicted means of the model.
    """
    x, y = _pair("true_means", true_means, "learned_means", learned_means)
    return float(r_squared(latent_map(x), y).mean())


def match_frequencies(A: np.ndarray, angles: Sequence[float] | np.ndarray) -> dict[str, list[float]]:
    """Match the eigenvalues of a transition matrix to known frequencies.

    With many more eigenvalues than frequencies, some are close by chance; a modulus near 1 identifies persistent ones.

    Parameters
    ----------
    A : (state, state)
    angles : sequence of float
        True angles, radians per step, in [0, pi].

    Returns
    -------
    dict
        Lists with one entry per true angle: `angle` of the matched eigenvalue, its `error` (radians per step) and its
        `modulus`. The matching minimizes the sum of errors; NaN if the matrix has too few eigenvalues.
    """
    A, wanted = np.asarray(A, dtype=float), np.asarray(angles, dtype=float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not np.isfinite(A).all():
        raise InputError(f"A must be a finite square matrix, got shape {A.shape}", parameter="A")
    if wanted.ndim != 1 or not ((wanted >= 0) & (wanted <= np.pi)).all():
        raise InputError(f"angles must be between 0 and pi radians per step, got {angles!r}", parameter="angles")
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
    """Compute the gain in R² of a multilayer perceptron over the affine map: the remaining nonlinearity.

    The perceptron is trained on the residuals of the affine map, on at most 10 000 frames. A gain near zero (or below
    zero because of overfitting) means that it found no nonlinear relation.

    Parameters
    ----------
    fit_from, fit_to, score_from, score_to
        As for `affine_r2`.
    random_state : int
        Seed of the perceptron and of the subset of frames.
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
    with warnings.catch_warnings():  # the number of epochs is limited on purpose
        warnings.simplefilter("ignore")
        target = rest[some] / size
        probe.fit((x[some] - center) / scale, target[:, 0] if target.shape[1] == 1 else target)
    guess = probe.predict((u - center) / scale).reshape(len(u), -1) * size
    return float(r_squared(affine(u) + guess, v).mean() - base)


@dataclass(frozen=True)
class PredictiveCalibration:
    """Calibration of Gaussian predictive distributions.

    Attributes
    ----------
    coverage : dict
        Fraction of values within the central interval, for each nominal level in percent ("50", "80", "95").
    pit_deviation : float
        Largest difference between the distribution of the probability integral transform and the uniform distribution;
        0 for perfect calibration.
    pit : (frames, dims)
        Probability integral transform: predictive distribution function at each value.
    """

    coverage: dict[str, float]
    pit_deviation: float
    pit: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, with a histogram of `pit` in ten equal bins instead of its values."""
        histogram = np.histogram(self.pit, bins=10, range=(0, 1))[0] / self.pit.size
        return {
            "coverage": dict(self.coverage),
            "pit_deviation": self.pit_deviation,
            "pit_histogram": histogram.tolist(),
        }


def predictive_calibration(values: np.ndarray, means: np.ndarray, covs: np.ndarray) -> PredictiveCalibration:
    """Compare values with their Gaussian predictive distributions, separately for each dimension.

    Parameters
    ----------
    values, means : (frames, dims) or (videos, frames, dims)
    covs : (..., dims, dims)
        Predicted covariances, one for all frames or one per frame.
    """
    x, m = _pair("values", values, "means", means)
    covs = np.asarray(covs, dtype=float)
    dims = x.shape[1]
    if covs.shape[-2:] != (dims, dims):
        raise InputError(f"covs must be (..., {dims}, {dims}), got {covs.shape}", parameter="covs")
    variances = np.diagonal(covs, axis1=-2, axis2=-1)
    try:
        variances = np.broadcast_to(variances, np.shape(values)).reshape(x.shape)
    except ValueError as error:
        message = f"covs of shape {covs.shape} does not match values of shape {np.shape(values)}"
        raise InputError(message, parameter="covs") from error
    if not (np.isfinite(variances).all() and (variances > 0).all()):
        raise InputError("covs must have finite and positive variances", parameter="covs")
    standard = (x - m) / np.sqrt(variances)
    coverage = {f"{100 * level:g}": float((np.abs(standard) <= ndtri(0.5 + level / 2)).mean()) for level in LEVELS}
    pit = ndtr(standard)
    ordered = np.sort(pit.ravel())
    grid = np.arange(len(ordered) + 1) / len(ordered)
    deviation = max(np.abs(grid[1:] - ordered).max(), np.abs(grid[:-1] - ordered).max())
    return PredictiveCalibration(coverage, float(deviation), pit)


def _pair(name: str, values: Any, other_name: str, other: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check two arrays with the same frames and flatten both."""
    x, y = check_frames(name, values), check_frames(other_name, other)
    if np.shape(values)[:-1] != np.shape(other)[:-1]:
        raise InputError(
            f"{name} and {other_name} must have the same frames, got shapes {np.shape(values)} and {np.shape(other)}"
        )
    return x, y


def check_frames(name: str, values: Any) -> np.ndarray:
    """Check that values are finite and flatten them to (frames, dims) in float64."""
    array = np.asarray(values, dtype=float)
    if array.ndim not in (2, 3) or 0 in array.shape:
        message = f"{name} must be (frames, dims) or (videos, frames, dims), got {array.shape}"
        raise InputError(message, parameter=name)
    if len(array.reshape(-1, array.shape[-1])) < 2:
        raise InputError(f"{name} must have at least two frames, got shape {array.shape}", parameter=name)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        message = f"{name} has {count} of {array.size} values that are NaN or infinite: leave those frames out"
        raise InputError(message, parameter=name)
    return array.reshape(-1, array.shape[-1])
