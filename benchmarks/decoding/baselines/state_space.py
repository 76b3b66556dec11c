"""Forward filter and forward-backward smoother on a grid, with separable steps and jumps."""

from __future__ import annotations

import numba
import numpy as np

from kalmanssl.utils.segments import gap_starts

__all__ = ["filter_grid", "segment_starts", "smooth_grid"]


def segment_starts(time: np.ndarray, bin_size: float) -> np.ndarray:
    """Return which bins begin a segment of time without gaps, (time,) bool."""
    starts = np.zeros(len(time), dtype=bool)
    starts[[0, *gap_starts(time, bin_size)]] = True
    return starts


@numba.njit(cache=True)
def filter_grid(
    likelihood: np.ndarray,
    starts: np.ndarray,
    step_x: np.ndarray,
    step_y: np.ndarray,
    prior: np.ndarray,
    jump: float,
) -> np.ndarray:
    """Compute the probability of each cell given the bins up to the present one.

    Parameters
    ----------
    likelihood : (time, x, y) float32
        Up to a factor for each bin.
    starts : (time,) bool
        Bins at which the probability starts from the prior.
    step_x, step_y : (x, x), (y, y)
        Transition matrices; rows are origins.
    prior : (x, y)
    jump : float
        Probability of a jump to a cell drawn from the prior, in one bin.

    Returns
    -------
    (time, x, y) float32
    """
    posterior = np.empty(likelihood.shape, dtype=np.float32)
    from_x = np.ascontiguousarray(step_x.T)
    now = prior.copy()
    for t in range(len(likelihood)):
        predicted = prior if starts[t] else (1 - jump) * (from_x @ (now @ step_y)) + jump * prior
        now = predicted * likelihood[t]
        now /= now.sum()
        posterior[t] = now
    return posterior


@numba.njit(cache=True)
def smooth_grid(
    likelihood: np.ndarray,
    starts: np.ndarray,
    step_x: np.ndarray,
    step_y: np.ndarray,
    prior: np.ndarray,
    jump: float,
) -> np.ndarray:
    """Compute the probability of each cell given all bins of the segment; parameters as for `filter_grid`."""
    posterior = filter_grid(likelihood, starts, step_x, step_y, prior, jump)
    from_y = np.ascontiguousarray(step_y.T)
    later = np.ones(prior.shape)
    for t in range(len(likelihood) - 2, -1, -1):
        if starts[t + 1]:
            later = np.ones(prior.shape)
        else:
            here = likelihood[t + 1] * later
            later = (1 - jump) * (step_x @ (here @ from_y)) + jump * (prior * here).sum()
            later /= later.sum()
        both = posterior[t] * later
        posterior[t] = both / both.sum()
    return posterior
