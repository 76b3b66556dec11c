"""Paired comparisons of scores over blocks of time, for choices on held-out time."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["bootstrap_weights", "is_lower", "probability_of_lowest"]

_DRAWS = 1000


def is_lower(new: np.ndarray, old: np.ndarray, min_standard_errors: float) -> bool:
    """Test whether the total of `new` is below that of `old` by some standard errors of the difference.

    Parameters
    ----------
    new, old : (blocks,)
        What each block of time contributes to the score. Blocks that contribute nothing to both are left out.
    min_standard_errors : float
        The standard error is that of the sum of independent differences.
    """
    gain = (old - new)[(old != 0) | (new != 0)]
    if len(gain) == 0:
        return False
    error = math.sqrt(len(gain) / max(len(gain) - 1, 1) * float(((gain - gain.mean()) ** 2).sum()))
    return bool(gain.sum() > max(min_standard_errors * error, 1e-6 * old.sum()))


def probability_of_lowest(scores: np.ndarray) -> np.ndarray:
    """Return the probability that each of several candidates has the lowest total score, by the Bayesian bootstrap.

    The same scores give the same probabilities.

    Parameters
    ----------
    scores : (candidates, blocks)
        What each block of time contributes to the score of a candidate.
    """
    weight = bootstrap_weights(scores.shape[1], _DRAWS)
    return np.bincount((weight @ scores.T).argmin(axis=1), minlength=len(scores)) / _DRAWS


def bootstrap_weights(n_blocks: int, n_draws: int) -> np.ndarray:
    """Return random weights of blocks of time, (draws, blocks), always the same (Rubin 1981, Ann. Statist. 9:130)."""
    return np.random.default_rng(0).exponential(size=(n_draws, n_blocks))
