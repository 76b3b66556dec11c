"""Targets of the latents of a session from its behavior: the latents of other sessions at the same behavior."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from kalmanssl.errors import InputError

__all__ = ["behavior_targets"]


def behavior_targets(
    behavior: np.ndarray, fitted_behavior: np.ndarray, fitted_latents: np.ndarray, n_neighbors: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Find where the latents of fitted sessions were when their behavior was that of each bin of a new session.

    Parameters
    ----------
    behavior : (time, features)
        Of the session, NaN where it is unknown.
    fitted_behavior : (fitted time, features)
        Of the fitted sessions, NaN where it is unknown; the features of both have one scale.
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
