"""A path through latent space: what a fitted model makes of a recording, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["Latents"]


@dataclass(frozen=True)
class Latents:
    """Posterior over the latent state at every bin of a recording.

    `numpy.asarray(path)` is the posterior mean, so that a path can be passed to any estimator of scikit-learn;
    indexing with a slice, an index array or a boolean mask over time gives the path at those bins.

    Attributes
    ----------
    mean : (time, state)
        Posterior mean of the state; filtered (past and present data) or smoothed (all data).
    covs : (distinct, state, state), cov_index : (time,)
        Posterior covariances, each stored once: with constant noise they settle within seconds. `cov` has one per bin.
    time : (time,)
        Bin centers in the recording's clock, seconds.
    latent : (time, latent)
        Output of the encoder, which the filter takes as its observation.
    noise : (time, latent)
        Variance of the observation noise that the model assigned to each latent channel.
    log_likelihood : (time,)
        One-step predictive log-density of `latent`, nats.
    segment : (time,)
        Number of the contiguous stretch each bin belongs to; the filter restarts at each.
    smoothed : bool
        True if the posterior has seen the whole stretch, False if only the past and present.
    """

    mean: np.ndarray
    covs: np.ndarray
    cov_index: np.ndarray
    time: np.ndarray
    latent: np.ndarray
    noise: np.ndarray
    log_likelihood: np.ndarray
    segment: np.ndarray
    smoothed: bool = False

    @property
    def cov(self) -> np.ndarray:
        """Posterior covariance of every bin, (time, state, state); a copy, large for long paths."""
        return self.covs[self.cov_index]

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the posterior mean, (time, state)."""
        return self.mean.shape

    @property
    def dtype(self) -> np.dtype:
        """Data type of the posterior mean."""
        return self.mean.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.mean if dtype is None else self.mean.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __getitem__(self, index: slice | np.ndarray) -> Latents:
        per_bin = ("mean", "cov_index", "time", "latent", "noise", "log_likelihood", "segment")
        return replace(self, **{name: getattr(self, name)[index] for name in per_bin})
