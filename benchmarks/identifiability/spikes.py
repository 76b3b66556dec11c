"""Models for spike counts: smoothed counts for methods that expect continuous signals, and the library's estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from identifiability.experiment import Make
from identifiability.matcher import Model, Plan

__all__ = ["DefaultEstimator", "OnSmoothedCounts", "SmoothedCounts"]

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


class SmoothedCounts:
    """Another model on square roots of counts, averaged over the last five bins.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def fit(self, videos: np.ndarray) -> Self:
        """Fit the model to trials of spike counts (trials, bins, neurons)."""
        self.model.fit(_smooth(videos))
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return its latents."""
        return self.model.transform(_smooth(videos))


@dataclass(frozen=True)
class OnSmoothedCounts:
    """Makes a model on smoothed counts; `make` makes the model itself."""

    make: Any

    def __call__(self, dims: int, plan: Plan, seed: int) -> SmoothedCounts:
        """Return the model."""
        make: Make = self.make
        return SmoothedCounts(make(dims, plan, seed))


def _smooth(counts: np.ndarray) -> np.ndarray:
    summed = np.cumsum(np.sqrt(counts), axis=1, dtype=float)
    summed[:, WINDOW:] = summed[:, WINDOW:] - summed[:, :-WINDOW]
    return (summed / np.minimum(np.arange(1, counts.shape[1] + 1), WINDOW)[:, None]).astype(np.float32)
