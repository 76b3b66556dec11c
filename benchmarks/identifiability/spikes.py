"""Models for spike counts: smoothed counts for methods that expect continuous signals, and the library's estimator."""

from __future__ import annotations

from typing import Self

import numpy as np

from identifiability.matcher import Plan
from identifiability.prepared import OnPrepared, Prepare

__all__ = ["DefaultEstimator", "OnSmoothedCounts"]

WINDOW = 5  # bins


class DefaultEstimator:
    """`kalmanssl.KalmanSSL` with its defaults, on spike counts; `transform` returns the filtered mean.

    Parameters
    ----------
    dims : int
        Not used: the estimator has its own number of dimensions.
    plan : Plan
        Only a plan for tests, of fewer than 100 steps, changes anything: it shortens the training.
    seed : int
    """

    def __init__(self, dims: int, plan: Plan, seed: int) -> None:
        self.plan, self.seed = plan, seed

    def fit(self, videos: np.ndarray) -> Self:
        """Fit to trials of spike counts (trials, bins, neurons)."""
        from kalmanssl import KalmanSSL

        short = {"epochs": 1, "noise_epochs": 0} if self.plan.steps < 100 else {}
        self.model = KalmanSSL(random_state=self.seed, progress=False, **short).fit(list(videos))
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the filtered state."""
        return np.stack([latents.mean for latents in self.model.transform(list(videos))])


class OnSmoothedCounts(OnPrepared):
    """Makes a model on square roots of counts, averaged over the last five bins."""

    def fit_preparation(self, videos: np.ndarray) -> Prepare:
        """Return the smoothing, which does not depend on the counts of the fit."""
        return _smooth


def _smooth(counts: np.ndarray) -> np.ndarray:
    summed = np.cumsum(np.sqrt(counts), axis=1, dtype=float)
    summed[:, WINDOW:] = summed[:, WINDOW:] - summed[:, :-WINDOW]
    return (summed / np.minimum(np.arange(1, counts.shape[1] + 1), WINDOW)[:, None]).astype(np.float32)
