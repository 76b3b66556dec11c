"""Linear maps of the latents of a session into the space of the latents of other sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LatentMap", "fit_map"]

_LEAST = 1e-6  # smallest eigenvalue of a covariance, as a fraction of the largest


@dataclass(frozen=True)
class LatentMap:
    """The map ``matrix @ z + offset`` of latents z.

    Attributes
    ----------
    matrix : (latent, latent)
    offset : (latent,)
    """

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """Map latents (time, latent)."""
        return latents @ self.matrix.T + self.offset


def fit_map(latents: np.ndarray, bins: np.ndarray, targets: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> LatentMap:
    """Fit the map to targets that gives the latents the mean and the covariance of the fitted sessions.

    The map is ``C_r^{1/2} Q C^{-1/2}`` with the covariances of both and a rotation Q, which brings the whitened latents
    as close as possible to the whitened targets (the orthogonal Procrustes problem, Schönemann 1966, Psychometrika
    31:1). It is invertible, so the mapped latents keep all dimensions.

    Parameters
    ----------
    latents : (time, latent)
        Smoothed latents of the session.
    bins : (targets,) int
        Bins with a target.
    targets : (targets, latent)
        Where the latents of the fitted sessions are expected to be at these bins.
    mean, cov : (latent,), (latent, latent)
        Moments of the smoothed latents of the fitted sessions.

    Returns
    -------
    LatentMap
    """
    own_mean, own_cov = latents.mean(0), np.cov(latents.T)
    whitened = (latents[bins] - own_mean) @ _power(own_cov, -0.5)
    expected = (targets - mean) @ _power(cov, -0.5)
    left, _, right = np.linalg.svd(expected.T @ whitened)
    matrix = _power(cov, 0.5) @ left @ right @ _power(own_cov, -0.5)
    return LatentMap(matrix, mean - matrix @ own_mean)


def _power(cov: np.ndarray, exponent: float) -> np.ndarray:
    """Return a power of a covariance matrix; small eigenvalues are raised."""
    values, vectors = np.linalg.eigh(cov)
    values = np.maximum(values, _LEAST * values.max())
    return (vectors * values**exponent) @ vectors.T
