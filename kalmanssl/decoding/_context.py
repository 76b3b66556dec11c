"""Temporal context of latents: their averages over the recent past, or around each bin.

A filter that forgets quickly leaves part of the information about slow behavior in the latents of earlier bins. A
readout that also receives averages of the latents over several time scales can use it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import fftconvolve, lfilter

__all__ = ["with_context"]

_ROUNDING = 1e-9  # sums of weights below this are only rounding errors


def with_context(
    mean: np.ndarray, segment: np.ndarray, bin_size: float, time_scales: Sequence[float], causal: bool
) -> np.ndarray:
    """Append averages of the latents over time, computed within each segment.

    Parameters
    ----------
    mean : (time, features)
        Bins in which a feature is not finite are missing: they have no weight in the averages.
    segment : (time,) int
        Number of the contiguous segment of each bin.
    bin_size : float
        Seconds.
    time_scales : sequence of float
        Time constants of exponential averages over the past and present if `causal`, else standard deviations of
        Gaussian averages around each bin. Seconds.
    causal : bool
        Whether to use no later bin.

    Returns
    -------
    (time, features * (1 + number of time scales))
    """
    if not len(time_scales):
        return mean
    average = _exponential_average if causal else _gaussian_average
    parts = [mean, *(np.empty_like(mean) for _ in time_scales)]
    present = np.isfinite(mean).all(axis=1, keepdims=True)
    values = np.where(present, mean, 0.0)
    borders = np.flatnonzero(np.diff(segment)) + 1
    for rows in np.split(np.arange(len(mean)), borders):
        for part, scale in zip(parts[1:], time_scales, strict=True):
            part[rows] = average(values[rows], scale / bin_size)
            if not present[rows].all():
                part[rows] /= np.maximum(average(present[rows].astype(float), scale / bin_size), _ROUNDING)
    return np.concatenate(parts, axis=1)


def _exponential_average(values: np.ndarray, time_constant: float) -> np.ndarray:
    """Average over the past with weights that decay with a time constant in bins; the start counts as constant."""
    if len(values) == 0:
        return values
    keep = np.exp(-1 / time_constant)
    return lfilter([1 - keep], [1, -keep], values, axis=0, zi=keep * values[:1])[0]


def _gaussian_average(values: np.ndarray, sd: float) -> np.ndarray:
    """Average with Gaussian weights of a standard deviation in bins; the ends count as constant beyond them."""
    if len(values) == 0:
        return values
    radius = int(np.ceil(4 * sd))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sd) ** 2)[:, None]
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    return fftconvolve(padded, weights / weights.sum(), mode="valid", axes=0)
