"""Statistics of prediction residuals as effect sizes: how far off, and how far chance alone would go.

Everything is computed from whitened residuals u (frames, dims), which under the theorem's assumptions are independent
standard normal. Each function returns a `Deviation`: a size that does not grow with the number of frames, the size that
chance reaches once in a thousand times if the assumption holds, and p-values beside them, which at 100 000 frames
reject whatever is not exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from scipy.special import chdtrc, ndtr

from kalmanssl.errors import InputError

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
    "whiten_by",
]

CHANCE = 1e-3
_BLOCK = 100  # frames that stay together when frames are split in halves
_CHUNK = 10_000
_MOMENT_FRAMES = 20_000  # that Mardia's skewness is computed from, at a cost of dims³ each
_PAIRS_UP_TO = 40  # dimensions beyond which only variances are followed, not correlations
_NORMAL_TAU4 = 30 / np.pi * np.arctan(np.sqrt(2)) - 9  # 0.1226


@dataclass(frozen=True)
class Deviation:
    """How large a deviation is.

    Attributes
    ----------
    size : float
    chance : float
        What chance alone would give at most, except once in a thousand times.
    where : str
        Where it is largest.
    numbers : dict
        Further numbers, p-values among them.
    """

    size: float
    chance: float = 0.0
    where: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


def whiten(residuals: np.ndarray) -> np.ndarray:
    """Center residuals (frames, dims) and scale them to unit covariance; directions without variance are left out."""
    centered = residuals - residuals.mean(0)
    values, vectors = np.linalg.eigh(centered.T @ centered / len(centered))
    kept = values > 1e-12 * values[-1]
    if values[-1] <= 0:
        raise InputError("residuals are all the same: the latents are constant, or predicted without any error")
    if kept.all():  # the symmetric root leaves dimensions where they were
        return centered @ (vectors / np.sqrt(values)) @ vectors.T
    return centered @ (vectors[:, kept] / np.sqrt(values[kept]))


def whiten_by(residuals: np.ndarray, covs: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Residuals (frames, dims) over the covariance that was predicted for each: covs (distinct, dims, dims) [index]."""
    try:
        factors = np.linalg.cholesky(covs)
    except np.linalg.LinAlgError as error:
        raise InputError("predicted_cov: a covariance is not positive definite") from error
    if len(factors) == 1:
        return np.linalg.solve(factors[0], residuals.T).T
    parts = [
        np.linalg.solve(factors[index[some]], residuals[some][..., None])[..., 0] for some in _chunks(len(residuals))
    ]
    return np.concatenate(parts)


def non_gaussian(u: np.ndarray) -> Deviation:
    """How far the shape of the residuals is from a normal one, in L-skewness and L-kurtosis.

    Their differences from the normal values are bounded, hardly moved by a few outliers, and the same in every unit:
    0.02 for a Student t with 14 degrees of freedom, 0.07 with 5, 0.11 for Laplace, -0.12 for uniform noise; L-skewness
    is about a sixth of the usual skewness. They are looked at in every dimension and, since a sum of independent
    sources looks nearly normal, along the axes in which the fourth moments are most unusual, found on one half of the
    frames and looked at on the other.

    Hosking, J. R. Stat. Soc. B 52 (1990) 105-124 (L-moments and their variance); Cardoso, ICASSP (1989) 2109-2112 (axes
    from fourth moments); Mardia, Biometrika 57 (1970) 519-530.
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
    """L-skewness and L-kurtosis of every column, from probability-weighted moments."""
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
    """Orthogonal axes (dims, dims) of the matrix of fourth moments E[|u|² u u']."""
    weight = np.minimum((u**2).sum(1), 9.0 * u.shape[1])  # a single outlier shall not choose
    return np.linalg.eigh((u * weight[:, None]).T @ u / len(u))[1]


def _mardia(u: np.ndarray) -> dict[str, float]:
    """Mardia's multivariate skewness and excess kurtosis of standardized residuals, and their p-values."""
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
    """By how much the covariance of the residuals changes with what was predicted, or after large residuals.

    Products u_i u_j are regressed on the predicted means, their squares and norm, and the mean square of the residual
    before, on one half of the frames, and the regression is judged on the other. The size is the standard deviation of
    the variance that was expected, as a share of its mean (for a pair of dimensions, that of their correlation), in the
    dimension where it is largest: 0.3 for a noise level that goes up and down by 15 %.

    Parameters
    ----------
    u : (frames, dims)
        Residuals whitened by one covariance for all.
    means : (frames, dims)
    follows : (frames,) bool
        Whether a frame follows the one before it in the same sequence.
    """
    spread = means.std(0)
    w = np.clip((means - means.mean(0)) / np.where(spread > 0, spread, 1.0), -3, 3)[:, spread > 1e-12 * spread.max()]
    level = np.minimum((u**2).mean(1), 5.0)
    before = np.concatenate([[level.mean()], level[:-1]])
    away = np.sqrt((w**2).sum(1))
    features = np.column_stack([np.ones(len(u)), w, w**2, away, np.where(follows, before, level.mean())])
    rows, columns = np.triu_indices(u.shape[1]) if u.shape[1] <= _PAIRS_UP_TO else (np.arange(u.shape[1]),) * 2
    sums = [_moments(features[half], u[half], rows, columns) for half in _halves(len(u))]
    explained, chance_square = np.zeros(len(rows)), np.zeros(len(rows))
    for (xx, xy, _, _, _), (xx_new, xy_new, y_new, yy_new, n) in (sums, sums[::-1]):
        weights = np.linalg.lstsq(xx / len(u), xy / len(u), rcond=1e-10)[0]
        mean_x, mean_y = xx_new[0] / n, y_new / n
        covariance = (weights * (xy_new / n - np.outer(mean_x, mean_y))).sum(0)
        variance = np.einsum("pr,pq,qr->r", weights, xx_new / n - np.outer(mean_x, mean_x), weights)
        together = np.sign(covariance) * covariance**2 / np.maximum(variance, 1e-300)
        # Averaged over the halves as squares, so that chance agreement on one half is undone by the other.
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
    """X'X, X'Y, sums of Y and of Y² for the products Y = u_i u_j, which are too many to be held at once."""
    xy, y_sum, yy = np.zeros((features.shape[1], len(rows))), np.zeros(len(rows)), np.zeros(len(rows))
    for some in _chunks(len(u)):
        y = u[some][:, rows] * u[some][:, columns]
        xy += features[some].T @ y
        y_sum += y.sum(0)
        yy += (y**2).sum(0)
    return features.T @ features, xy, y_sum, yy, len(u)


def autocorrelation(u: np.ndarray, place: np.ndarray, lags: int) -> Deviation:
    """Largest correlation of a residual with another of the same sequence, up to `lags` steps before.

    Parameters
    ----------
    u : (frames, dims)
    place : (frames,) int
        Of the frame in its sequence; frames of a sequence follow each other.
    lags : int

    Notes
    -----
    The p-value is that of the multivariate portmanteau statistic of Hosking, J. Am. Stat. Assoc. 75 (1980) 602-608.
    """
    standard = (u - u.mean(0)) / np.maximum(u.std(0), 1e-300)
    place = place - place.min()
    if lags < 1 or place.max() < 1:
        raise InputError(f"lags: {lags} lags in sequences of at most {place.max() + 1} steps leave nothing to compare")
    lags = min(lags, int(place.max()))
    dims = u.shape[1]
    best, statistic, degrees = Deviation(0.0, np.inf), 0.0, 0
    quantile = -NormalDist().inv_cdf(CHANCE / (2 * lags * dims**2))
    for lag in range(1, lags + 1):
        pairs = np.flatnonzero(place >= lag)
        correlation = standard[pairs].T @ standard[pairs - lag] / len(pairs)
        at = np.unravel_index(np.abs(correlation).argmax(), correlation.shape)
        size, chance = abs(float(correlation[at])), float(quantile / np.sqrt(len(pairs)))
        statistic += len(pairs) * float((correlation**2).sum())
        degrees += dims**2
        if size - chance > best.size - best.chance:
            best = Deviation(size, chance, f"lag {lag}, dimension {at[0]} after {at[1]}")
    return Deviation(best.size, best.chance, best.where, {"portmanteau_p_value": float(chdtrc(degrees, statistic))})


def mean_square(u: np.ndarray) -> Deviation:
    """How many times too large or too small the residuals are, in the direction where it is worst.

    Parameters
    ----------
    u : (frames, dims)
        Residuals whitened by the covariance that was predicted for them.

    Returns
    -------
    Deviation
        `size` is the logarithm of the ratio of the residuals' mean square to the predicted variance; `numbers` has
        `nis`, the normalized innovation squared over its degrees of freedom, expected to be 1, and its p-value.
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
    """Share of the latents' variance that is predicted, in the direction in which it is least.

    The smallest generalized eigenvalue of the covariance of the predicted means against that of the latents: the same
    under every affine map of the latents, 0 if the predicted means leave out a direction (LDM paper, Theorem 1,
    condition iii, in its global form: predicted means span the latent space).
    """
    cov_means, cov_latents = (np.atleast_2d(np.cov(v.T)) for v in (means, latents))
    values, vectors = np.linalg.eigh(cov_latents)
    kept = values > 1e-12 * values[-1]
    root = vectors[:, kept] / np.sqrt(values[kept])
    shares = np.maximum(np.linalg.eigvalsh(root.T @ cov_means @ root), 0.0)
    weights = shares / max(shares.sum(), 1e-300)
    entropy = -float((weights * np.log(np.maximum(weights, 1e-300))).sum())
    condition = float(shares[-1] / max(shares[0], 1e-16))
    return Deviation(float(shares[0]), 0.0, "", {"condition": condition, "effective_rank": float(np.exp(entropy))})


def rank_of_jacobians(jacobians: np.ndarray, latents: np.ndarray) -> Deviation:
    """Smallest singular value of the predictor's Jacobian, with latents scaled to unit covariance on both its sides.

    Then it is the same under every rotation, scaling and shift of the latents: how many standard deviations the
    prediction moves, in the direction in which it moves least, for one standard deviation of the past.

    Parameters
    ----------
    jacobians : (samples, dims, past, dims)
        Of the predicted mean by the past latents, at points of the data.
    latents : (frames, dims)

    Returns
    -------
    Deviation
        `size` is the 5th percentile over the samples, so that a single point does not decide.
    """
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(latents.T)))
    kept = values > 1e-12 * values[-1]
    root, inverse = vectors[:, kept] * np.sqrt(values[kept]), vectors[:, kept] / np.sqrt(values[kept])
    scaled = np.einsum("ir,nipj,jq->nrpq", inverse, jacobians, root, optimize=True)
    smallest = np.linalg.svd(scaled.reshape(*scaled.shape[:2], -1), compute_uv=False)[:, -1]
    numbers = {"least": float(smallest.min()), "median": float(np.median(smallest))}
    return Deviation(float(np.quantile(smallest, 0.05)), 0.0, "", numbers)


def smallest_ratio(values: np.ndarray, scale: np.ndarray) -> Deviation:
    """Smallest over largest eigenvalue of the covariance of `values` (frames, dims), each divided by its `scale`."""
    usable = np.where(scale > 0, scale, 1.0)
    eigenvalues = np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov((values / usable).T))), 0.0)
    return Deviation(float(eigenvalues[0] / max(eigenvalues[-1], 1e-300)))


def _halves(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the frames in blocks that alternate, so that both see the whole time."""
    block = min(_BLOCK, max(1, frames // 10))
    even = (np.arange(frames) // block) % 2 == 0
    return np.flatnonzero(even), np.flatnonzero(~even)


def _chunks(frames: int, size: int = _CHUNK) -> Iterator[slice]:
    for start in range(0, frames, size):
        yield slice(start, start + size)
