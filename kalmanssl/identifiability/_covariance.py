"""Covariance matrices and their principal axes."""

from __future__ import annotations

import numpy as np

__all__ = ["covariance", "principal_axes"]


def covariance(samples: np.ndarray) -> np.ndarray:
    """Compute the covariance (dims, dims) of samples (frames, dims)."""
    return np.atleast_2d(np.cov(samples.T))


def principal_axes(cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return variances (axes,) in ascending order and principal axes (dims, axes), without axes of zero variance."""
    variances, axes = np.linalg.eigh(cov)
    kept = variances > 1e-12 * variances[-1]
    return variances[kept], axes[:, kept]
