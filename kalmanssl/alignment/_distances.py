"""Distance between two distributions of latents, and agreement of two paired sets of points."""

from __future__ import annotations

import numpy as np

__all__ = ["DIFFERENT", "agreement", "sliced_wasserstein"]

DIFFERENT = 0.5  # agreement below which a candidate is another solution


def sliced_wasserstein(a: np.ndarray, b: np.ndarray, n_directions: int = 200) -> float:
    """Compute the sliced Wasserstein distance of second order between two samples, in standard deviations of `a`.

    It is the root of the mean, over random directions, of the squared difference between quantiles, divided by the
    mean variance of `a` along these directions (Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51:22).

    Parameters
    ----------
    a, b : (samples, dim)
        The numbers of samples can differ.
    n_directions : int
        Random directions, the same in every call.

    Returns
    -------
    float
        0 for the same distribution; 1 is a distance of one standard deviation.
    """
    directions = np.random.default_rng(0).standard_normal((a.shape[1], n_directions))
    directions /= np.linalg.norm(directions, axis=0)
    levels = (np.arange(200) + 0.5) / 200
    first, second = (np.quantile(x @ directions, levels, axis=0) for x in (a, b))
    return float(np.sqrt(np.square(first - second).mean() / np.var(a @ directions, axis=0).mean()))


def agreement(a: np.ndarray, b: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return 1 minus the mean squared distance of paired points, relative to the sum of their variances.

    It is 1 if they are the same, and near 0 if they are unrelated.

    Parameters
    ----------
    a, b : (points, dims)
    weight : (points,), optional
        Equal by default.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        return np.average(values, axis=0, weights=weight)

    total = sum(float(mean(np.square(points - mean(points))).sum()) for points in (a, b))
    return float(1 - mean(np.square(a - b)).sum() / total) if total > 0 else 1.0
