"""Linear independent component analysis as in Fig. 2: two slow Gaussian processes, and two photographs."""

from __future__ import annotations

import numpy as np
from parallel import Logger
from results_store import Row
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_sample_images
from sklearn.decomposition import PCA

from kalmanssl.datasets import ornstein_uhlenbeck, stationary_variance
from kalmanssl.ica import GaussianSources, GeneralizedGaussian, LinearICA

__all__ = ["STEPS", "photographs", "processes"]

STEPS = {"tiny": 5000, "quick": 50_000, "full": 50_000}
PULL, VOLATILITY = (2.0, 0.2), 0.3
SIDE = 200  # pixels of the photographs, as in the paper
MIXING = np.array([[1.0, 0.7], [0.7, 1.0]])
SHOWN = 400  # steps and values that are drawn


def processes(preset: str, seed: int, logger: Logger | None) -> Row:
    """Unmix two Ornstein-Uhlenbeck processes that were rotated by 45 degrees, given their variances.

    Returns
    -------
    dict
        `rotation_error`: largest difference of |W| from 0.7071; `correlation`: the smaller of the absolute correlations
        with the sources, also for the mixed signals and for principal components.
    """
    sources = ornstein_uhlenbeck(STEPS[preset], PULL, VOLATILITY, 0.1, random_state=seed)
    rotation = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2.0)
    mixed = sources @ rotation.T
    variances = tuple(float(v) for v in stationary_variance(PULL, VOLATILITY))
    ica = LinearICA(GaussianSources(variances), "rotation", tol=0.05, random_state=seed).fit(mixed)
    found = ica.transform(mixed)
    return {
        "rotation_error": float(np.abs(np.abs(ica.unmixing_) - np.sqrt(0.5)).max()),
        "correlation": _correlation(sources, found),
        "correlation_mixed": _correlation(sources, mixed),
        "correlation_pca": _correlation(sources, PCA(2).fit_transform(mixed)),
        "drawn": {"processes": np.concatenate([sources, mixed, found], 1)[:SHOWN].round(4).tolist()},
    }


def photographs(preset: str, seed: int, logger: Logger | None) -> Row:
    """Unmix two photographs of scikit-learn with a sub-Gaussian density, exp(-|z|^4) up to scale, as in the paper.

    The seed chooses the part of 200 x 200 pixels of each photograph.

    Returns
    -------
    dict
        `correlation`: the smaller of the absolute correlations with the sources, also for the mixed images and for
        principal components, and `source_kurtosis`: the larger excess kurtosis of the sources, negative if both are
        sub-Gaussian.
    """
    rng = np.random.default_rng(seed)
    sources = []
    for image in load_sample_images().images:
        top, left = (int(rng.integers(length - SIDE)) for length in image.shape[:2])
        sources.append(image[top : top + SIDE, left : left + SIDE].reshape(-1) / 255.0)
    true = np.stack(sources, 1)
    mixed = true @ MIXING.T
    ica = LinearICA(GeneralizedGaussian(4.0), tol=0.05, random_state=seed).fit(mixed)
    found = ica.transform(mixed)
    chosen = rng.permutation(len(true))[:SHOWN]
    standard = (true - true.mean(0)) / true.std(0)
    return {
        "correlation": _correlation(true, found),
        "correlation_mixed": _correlation(true, mixed),
        "correlation_pca": _correlation(true, PCA(2).fit_transform(mixed)),
        "source_correlation": float(abs(np.corrcoef(true.T)[0, 1])),
        "source_kurtosis": float(((standard**4).mean(0) - 3).max()),
        "drawn": {"values": np.concatenate([true, mixed, found], 1)[chosen].round(4).tolist()},
    }


def _correlation(sources: np.ndarray, found: np.ndarray) -> float:
    """Return the smaller absolute correlation of matched sources."""
    matrix = np.abs(np.corrcoef(sources.T, found.T)[:2, 2:])
    return float(matrix[linear_sum_assignment(-matrix)].min())
