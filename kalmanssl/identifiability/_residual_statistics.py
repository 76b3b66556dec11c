"""Statistics of prediction residuals, as effect sizes with their level under chance.

The statistics use whitened residuals u (frames, dims), which are independent and standard normal under the assumptions
of the theorem. Each function returns a `Deviation`: an effect size that does not grow with the number of frames, the
size that chance exceeds with probability 0.001 if the assumption holds, and p-values. With 100 000 frames, p-values
reject any model that is not exact, so the verdicts are based on effect sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from scipy.special import chdtrc, ndtr

from kalmanssl.errors import InputError
from kalmanssl.identifiability._covariance import covariance, principal_axes

__all__ = [
    "Deviation",
    "autocorrelation",
    "changing_covariance",
    "mean_square",
    "non_gaussian",
    "rank_of_jacobians",
    "rank_of_means",
    "smallest_ratio",
    "whiten",
]

CHANCE = 1e-3
_BLOCK = 100  # frames per block when frames are split into halves
_CHUNK = 10_000
_MOMENT_FRAMES = 20_000  # maximum number of frames for Mardia's skewness, which costs dims³ per frame
_MAX_DIMS_FOR_PAIRS = 40  # with more dimensions, only variances are regressed, not correlations
_NORMAL_TAU4 = 30 / np.pi * np.arctan(np.sqrt(2)) - 9  # 0.1226


@dataclass(frozen=True)
class Deviation:
    """Deviation from an assumption.

    Attributes
    ----------
    size : float
        Effect size.
    chance : float
        Size that chance exceeds with probability 0.001 if the assumption holds.
    where : str
        Dimension or lag where the deviation is largest.
    numbers : dict
        Further statistics, including p-values.
    """

    size: float
    chance: float = 0.0
    where: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


def whiten(residuals: np.ndarray) -> np.ndarray:
    """Center residuals (frames, dims) and scale them to unit covariance; drop directions without variance."""
    centered = residuals - residuals.mean(0)
    variances, axes = principal_axes(centered.T @ centered / len(centered))
    if len(variances) == 0:
        raise InputError("residuals are all equal: the latents are constant or are predicted without error")
    white = centered @ (axes / np.sqrt(variances))
    return white @ axes.T if len(variances) == len(axes) else white  # the symmetric root keeps dims interpretable


def non_gaussian(u: np.ndarray) -> Deviation:
    """Measure how non-Gaussian residuals are, by their L-skewness and L-kurtosis.

    The differences of these ratios from their Gaussian values are bounded, robust against outliers, and do not depend
    on the scale. For L-kurtosis they are 0.02 for a Student t with 14 degrees of freedom, 0.07 with 5, 0.11 for Laplace
    and -0.12 for uniform noise. L-skewness is about a sixth of the usual skewness. Both are computed in every
    dimension, and along the axes with the most unusual fourth moments, because sums of independent sources look nearly
    Gaussian. The axes are found on one half of the frames and tested on the other.

    Sources: Hosking, J. R. Stat. Soc. B 52 (1990) 105-124 (L-moments and their variance); Cardoso, ICASSP (1989)
    2109-2112 (axes from fourth moments); Mardia, Biometrika 57 (1970) 519-530.
    """
    dims = u.shape[1]
    first, second = _halves(len(u))
    axes = _unusual_axes(u[first])
    tests = 4 * dims
    quantile = -NormalDist().inv_cdf(CHANCE / (2 * tests))
    best = Deviation(0.0, np.inf)
    for values, axis in ((u, "dimension"), (u[second] @ axes, "axis of largest fourth moment")):
        skew, kurt = _l_ratios(values)
        for size, variance, kind in ((skew, 0.1866, "L-skewness"), (kurt - _NORMAL_TAU4, 0.0883, "L-kurtosis")):
            at = int(np.abs(size).argmax())
            chance = float(quantile * np.sqrt(variance / len(values)))
            found = Deviation(abs(float(size[at])), chance, f"{kind}, {axis} {at}")
            if found.size - found.chance > best.size - best.chance:
                best = found
    standard = (u - u.mean(0)) / u.std(0)
    numbers = {
        "largest_skewness": float(np.abs((standard**3).mean(0)).max()),
        "largest_excess_kurtosis": float(np.abs((standard**4).mean(0) - 3).max()),
    } | _mardia(whiten(u))
    return Deviation(best.size, best.chance, best.where, numbers)


def _l_ratios(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return L-skewness and L-kurtosis of every column, from probability-weighted moments."""
    n = len(values)
    ordered = np.sort(values, axis=0)
    rank = np.arange(n, dtype=float)
    weight, moments = np.ones(n), []
    for order in range(4):
        moments.append(weight @ ordered / n)
        weight = weight * np.maximum(rank - order, 0) / (n - 1 - order)
    b0, b1, b2, b3 = moments
    scale = np.maximum(2 * b1 - b0, 1e-300)
    return (6 * b2 - 6 * b1 + b0) / scale, (20 * b3 - 30 * b2 + 12 * b1 - b0) / scale


def _unusual_axes(u: np.ndarray) -> np.ndarray:
    """Return the eigenvectors (dims, dims) of the matrix of fourth moments E[|u|² u u']."""
    weight = np.minimum((u**2).sum(1), 9.0 * u.shape[1])  # limits the influence of single outliers
    return np.linalg.eigh((u * weight[:, None]).T @ u / len(u))[1]


def _mardia(u: np.ndarray) -> dict[str, float]:
    """Compute Mardia's multivariate skewness and excess kurtosis of standardized residuals, and their p-values."""
    some = u[:: -(-len(u) // _MOMENT_FRAMES)]
    dims = u.shape[1]
    third = np.zeros((dims * dims, dims))
    for chunk in _chunks(len(some), max(100, _CHUNK * 100 // (dims * dims))):
        part = some[chunk]
        third += np.einsum("ni,nj->nij", part, part).reshape(len(part), -1).T @ part
    skewness = float((third**2).sum()) / len(some) ** 2
    kurtosis = float(((u**2).sum(1) ** 2).mean()) - dims * (dims + 2)
    standard = kurtosis / np.sqrt(8 * dims * (dims + 2) / len(u))
    return {
        "mardia_skewness": skewness,
        "mardia_skewness_p_value": float(chdtrc(dims * (dims + 1) * (dims + 2) / 6, len(some) * skewness / 6)),
        "mardia_excess_kurtosis": kurtosis,
        "mardia_kurtosis_p_value": float(2 * ndtr(-abs(standard))),
    }


def changing_covariance(u: np.ndarray, means: np.ndarray, follows: np.ndarray) -> Deviation:
    """Measure how much the covariance of the residuals changes with the predicted mean or the previous residual.

    Products u_i u_j are regressed on the predicted means, their squares and norm, and the mean square of the previous
    residual. The regression is fitted on one half of the frames and evaluated on the other. The effect size is the
    standard deviation of the expected variance divided by its mean (for a pair of dimensions, the standard deviation of
    their expected correlation), in the dimension where it is largest. A noise standard deviation that varies by 15 %
    gives 0.3.

    Parameters
    ----------
    u : (frames, dims)
        Residuals whitened by their overall covariance.
    means : (frames, dims)
        Predicted means.
    follows : (frames,) bool
        Whether a frame follows the previous one in the same sequence.
    """
    std = means.std(0)
    w = np.clip((means - means.mean(0)) / np.where(std > 0, std, 1.0), -3, 3)[:, std > 1e-12 * std.max()]
    level = np.minimum((u**2).mean(1), 5.0)
    previous = np.concatenate([[level.mean()], level[:-1]])
    norm = np.sqrt((w**2).sum(1))
    features = np.column_stack([np.ones(len(u)), w, w**2, norm, np.where(follows, previous, level.mean())])
    rows, columns = np.triu_indices(u.shape[1]) if u.shape[1] <= _MAX_DIMS_FOR_PAIRS else (np.arange(u.shape[1]),) * 2
    sums = [_moments(features[half], u[half], rows, columns) for half in _halves(len(u))]
    explained, chance_square = np.zeros(len(rows)), np.zeros(len(rows))
    for (xx, xy, _, _, _), (xx_new, xy_new, y_new, yy_new, n) in (sums, sums[::-1]):
        weights = np.linalg.lstsq(xx / len(u), xy / len(u), rcond=1e-10)[0]
        mean_x, mean_y = xx_new[0] / n, y_new / n
        shared = (weights * (xy_new / n - np.outer(mean_x, mean_y))).sum(0)
        variance = np.einsum("pr,pq,qr->r", weights, xx_new / n - np.outer(mean_x, mean_x), weights)
        together = np.sign(shared) * shared**2 / np.maximum(variance, 1e-300)
        # Squares with sign are averaged over the two halves, so that chance agreements cancel on average.
        explained += 0.5 * np.where(variance > 1e-14, together, 0.0)
        chance_square += 0.5 * (yy_new / n - mean_y**2) / n
    quantile = -NormalDist().inv_cdf(CHANCE / (2 * len(rows)))
    size, chance = np.sqrt(np.maximum(explained, 0)), quantile * np.sqrt(chance_square)
    at = int((size - chance).argmax())
    where = f"dimension {rows[at]}" if rows[at] == columns[at] else f"dimensions {rows[at]} and {columns[at]}"
    diagonal = size[rows == columns]
    return Deviation(float(size[at]), float(chance[at]), where, {"mean_over_dimensions": float(diagonal.mean())})


def _moments(
    features: np.ndarray, u: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Compute X'X, X'Y and the sums of Y and Y² for the products Y = u_i u_j, in chunks to limit memory."""
    xy, y_sum, yy = np.zeros((features.shape[1], len(rows))), np.zeros(len(rows)), np.zeros(len(rows))
    for some in _chunks(len(u)):
        y = u[some][:, rows] * u[some][:, columns]
        xy += features[some].T @ y
        y_sum += y.sum(0)
        yy += (y**2).sum(0)
    return features.T @ features, xy, y_sum, yy, len(u)


def autocorrelation(u: np.ndarray, step: np.ndarray, lags: int) -> Deviation:
    """Find the largest correlation between residuals of a sequence at lags of 1 to `lags` steps.

    Parameters
    ----------
    u : (frames, dims)
    step : (frames,) int
        Time step of each frame within its sequence.
    lags : int

    Notes
    -----
    The p-value is that of the multivariate portmanteau statistic of Hosking, J. Am. Stat. Assoc. 75 (1980) 602-608.
    """
    standard = (u - u.mean(0)) / np.maximum(u.std(0), 1e-300)
    step = step - step.min()
    if lags < 1 or step.max() < 1:
        message = f"lags={lags} with sequences of at most {step.max() + 1} steps leaves no pairs to compare"
        raise InputError(message, parameter="lags")
    lags = min(lags, int(step.max()))
    dims = u.shape[1]
    best, statistic, degrees = Deviation(0.0, np.inf), 0.0, 0
    quantile = -NormalDist().inv_cdf(CHANCE / (2 * lags * dims**2))
    for lag in range(1, lags + 1):
        pairs = np.flatnonzero(step >= lag)
        correlation = standard[pairs].T @ standard[pairs - lag] / len(pairs)
        at = np.unravel_index(np.abs(correlation).argmax(), correlation.shape)
        size, chance = abs(float(correlation[at])), float(quantile / np.sqrt(len(pairs)))
        statistic += len(pairs) * float((correlation**2).sum())
        degrees += dims**2
        if size - chance > best.size - best.chance:
            best = Deviation(size, chance, f"lag {lag}, dimension {at[0]} after {at[1]}")
    return Deviation(best.size, best.chance, best.where, {"portmanteau_p_value": float(chdtrc(degrees, statistic))})


def mean_square(u: np.ndarray) -> Deviation:
    """Compare the mean square of the residuals with the predicted variance, in the direction of the largest deviation.

    Parameters
    ----------
    u : (frames, dims)
        Residuals whitened by their predicted covariances.

    Returns
    -------
    Deviation
        `size` is the absolute logarithm of the ratio of the mean square to the predicted variance. `numbers` has `nis`,
        the normalized innovation squared divided by its degrees of freedom (expected value 1), and its p-value.
    """
    frames, dims = u.shape
    values = np.maximum(np.linalg.eigvalsh(u.T @ u / frames), 1e-300)
    chance = 2 * np.sqrt(dims / frames) - np.sqrt(2 / frames) * NormalDist().inv_cdf(CHANCE / 2)
    logs = np.log(values)
    at = int(np.abs(logs).argmax())
    nis = float((u**2).sum()) / u.size
    larger = float(chdtrc(u.size, nis * u.size))
    numbers = {"nis": nis, "nis_p_value": 2 * min(larger, 1 - larger), "worst_ratio": float(values[at])}
    return Deviation(abs(float(logs[at])), float(chance), "", numbers)


def rank_of_means(means: np.ndarray, latents: np.ndarray) -> Deviation:
    """Compute the smallest fraction, over directions, of the latent variance that is predicted.

    This is the smallest generalized eigenvalue of the covariance of the predicted means relative to that of the
    latents. It is invariant to affine maps of the latents, and 0 if the predicted means do not span the latent space
    (LDM paper, Theorem 1, condition iii, in its global form).
    """
    variances, axes = principal_axes(covariance(latents))
    inverse = axes / np.sqrt(variances)
    shares = np.maximum(np.linalg.eigvalsh(inverse.T @ covariance(means) @ inverse), 0.0)
    weights = shares / max(shares.sum(), 1e-300)
    entropy = -float((weights * np.log(np.maximum(weights, 1e-300))).sum())
    condition = float(shares[-1] / max(shares[0], 1e-16))
    return Deviation(float(shares[0]), 0.0, "", {"condition": condition, "effective_rank": float(np.exp(entropy))})


def rank_of_jacobians(jacobians: np.ndarray, latents: np.ndarray) -> Deviation:
    """Compute the smallest singular value of the Jacobian of the predictor, in units of latent standard deviations.

    Latents are scaled to unit covariance on both sides of the Jacobian, which makes the value invariant to affine maps
    of the latents: the change of the prediction, in standard deviations, in its least sensitive direction, per standard
    deviation of the past.

    Parameters
    ----------
    jacobians : (samples, dims, past, dims)
        Derivatives of the predicted mean with respect to the past latents, at points of the data.
    latents : (frames, dims)

    Returns
    -------
    Deviation
        `size` is the 5th percentile over the samples, which is robust to single points.
    """
    variances, axes = principal_axes(covariance(latents))
    root, inverse = axes * np.sqrt(variances), axes / np.sqrt(variances)
    scaled = np.einsum("ir,nipj,jq->nrpq", inverse, jacobians, root, optimize=True)
    smallest = np.linalg.svd(scaled.reshape(*scaled.shape[:2], -1), compute_uv=False)[:, -1]
    numbers = {"minimum": float(smallest.min()), "median": float(np.median(smallest))}
    return Deviation(float(np.quantile(smallest, 0.05)), 0.0, "", numbers)


def smallest_ratio(values: np.ndarray, scale: np.ndarray) -> Deviation:
    """Compute the smallest over the largest eigenvalue of the covariance of `values` (frames, dims) / `scale`."""
    usable = np.where(scale > 0, scale, 1.0)
    eigenvalues = np.maximum(np.linalg.eigvalsh(covariance(values / usable)), 0.0)
    return Deviation(float(eigenvalues[0] / max(eigenvalues[-1], 1e-300)))


def _halves(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Split frames into two halves of alternating blocks, so that both cover the whole time."""
    block = min(_BLOCK, max(1, frames // 10))
    even = (np.arange(frames) // block) % 2 == 0
    return np.flatnonzero(even), np.flatnonzero(~even)


def _chunks(frames: int, size: int = _CHUNK) -> Iterator[slice]:
    for start in range(0, frames, size):
        yield slice(start, start + size)
