"""Linear maps of the latents of a session into the space of the latents of other sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kalmanssl.alignment._matching import SessionMatch

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


def fit_map(latents: np.ndarray, match: SessionMatch, candidate: int = 0) -> LatentMap:
    """Fit the map to the targets of a match that gives the latents the mean and the covariance of the fitted sessions.

    The map is ``C_r^{1/2} Q C^{-1/2}`` with the covariances of both and a rotation Q, which brings the whitened latents
    as close as possible to the whitened targets (the orthogonal Procrustes problem, Schönemann 1966, Psychometrika
    31:1). It is invertible, so the mapped latents keep all dimensions.

    Parameters
    ----------
    latents : (time, latent)
        Smoothed latents of the session.
    match : SessionMatch
    candidate : int
        Number of the candidate.

    Returns
    -------
    LatentMap
    """
    reference, targets = match.reference, match.targets[candidate]
    mean, cov = latents.mean(0), np.cov(latents.T)
    whitened = (latents[match.bins] - mean) @ _power(cov, -0.5)
    expected = (targets - reference.mean) @ _power(reference.cov, -0.5)
    left, _, right = np.linalg.svd(expected.T @ whitened)
    matrix = _power(reference.cov, 0.5) @ left @ right @ _power(cov, -0.5)
    return LatentMap(matrix, reference.mean - matrix @ mean)


def _power(cov: np.ndarray, exponent: float) -> np.ndarray:
    """Return a power of a covariance matrix; small eigenvalues are raised."""
    values, vectors = np.linalg.eigh(cov)
    values = np.maximum(values, _LEAST * values.max())
    return (vectors * values**exponent) @ vectors.T
