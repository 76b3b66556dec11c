"""Behavior of a session and of fitted sessions: where its latents should be, and how well a match agrees with it."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from kalmanssl.errors import InputError

__all__ = ["behavior_agreement", "behavior_targets"]

_N_NEIGHBORS = 20  # bins of the fitted sessions that are most similar, over which is averaged
_MAX_BINS = 4000  # of each session in the agreement


def behavior_targets(
    behavior: np.ndarray, fitted_behavior: np.ndarray, fitted_latents: np.ndarray, n_neighbors: int = _N_NEIGHBORS
) -> tuple[np.ndarray, np.ndarray]:
    """Find where the latents of fitted sessions were when their behavior was that of each bin of a new session.

    Parameters
    ----------
    behavior : (time, features)
        Behavior of the session, NaN where it is unknown.
    fitted_behavior : (fitted time, features)
        Behavior of the fitted sessions, NaN where it is unknown; the features of both have one scale.
    fitted_latents : (fitted time, latent)
    n_neighbors : int
        Bins of the fitted sessions with the most similar behavior, whose latents are averaged.

    Returns
    -------
    bins : (targets,) int
        Bins of the session with known behavior.
    targets : (targets, latent)

    Raises
    ------
    InputError
        If the behavior of fewer than two bins, or of no fitted bin, is known.
    """
    bins = np.flatnonzero(np.isfinite(behavior).all(axis=1))
    known = np.flatnonzero(np.isfinite(fitted_behavior).all(axis=1))
    if len(bins) < 2 or len(known) == 0:
        raise InputError("the behavior is known in too few bins to match sessions by it", parameter="y")
    count = min(n_neighbors, len(known))
    _, near = KDTree(fitted_behavior[known]).query(behavior[bins], count)
    latents = fitted_latents[known]
    return bins, latents[near.reshape(len(bins), count)].mean(axis=1)


def behavior_agreement(
    targets: np.ndarray,
    behavior: np.ndarray,
    fitted_latents: np.ndarray,
    fitted_behavior: np.ndarray,
) -> float:
    """Compute how well the behavior of a session is predicted by that of fitted sessions near its expected latents.

    The prediction is the mean behavior in the 20 bins of the fitted sessions with the most similar latents.

    Parameters
    ----------
    targets : (bins, latent)
        Where the latents of the fitted sessions are expected to be.
    behavior : (bins, features)
        Behavior of the session at these bins, NaN where it is unknown.
    fitted_latents : (fitted time, latent)
    fitted_behavior : (fitted time, features)
        Behavior of the fitted sessions, NaN where it is unknown.

    Returns
    -------
    float
        Share of the variance of the behavior that is predicted: 1 at best, about 0 for a match at random.

    Raises
    ------
    InputError
        As in `behavior_targets`.
    """
    bins, fitted_bins = (np.flatnonzero(np.isfinite(one).all(axis=1)) for one in (behavior, fitted_behavior))
    if len(bins) < 2 or len(fitted_bins) == 0:
        raise InputError("the behavior is known in too few bins to match sessions by it", parameter="y")
    bins, fitted_bins = (one[:: -(-len(one) // _MAX_BINS)] for one in (bins, fitted_bins))
    count = min(_N_NEIGHBORS, len(fitted_bins))
    _, near = KDTree(fitted_latents[fitted_bins]).query(targets[bins], count)
    predicted = fitted_behavior[fitted_bins][near.reshape(len(bins), count)].mean(axis=1)
    truth = behavior[bins]
    variance = ((truth - truth.mean(axis=0)) ** 2).sum()
    return 0.0 if variance == 0 else float(1 - ((truth - predicted) ** 2).sum() / variance)
