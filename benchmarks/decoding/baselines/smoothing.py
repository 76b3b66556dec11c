"""Smoothing of a signal in time, within each contiguous segment of a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
from scipy.ndimage import correlate1d

__all__ = ["causal_gaussian", "centered_gaussian", "lagged_sums", "sliding_sum"]


def sliding_sum(signal: np.ndarray, bins: int, segments: Iterable[slice]) -> np.ndarray:
    """Return the sum over each bin and the `bins - 1` bins before it; fewer at the start of a segment."""
    return _per_segment(signal, segments, lambda part: _weighted_past(part, np.ones(bins)))


def causal_gaussian(signal: np.ndarray, sd_bins: float, segments: Iterable[slice]) -> np.ndarray:
    """Return the mean over present and past bins with the weights of a half-Gaussian, cut at four SD."""
    lags = np.arange(int(np.ceil(4 * sd_bins)) + 1)
    return _per_segment(signal, segments, lambda part: _normalized(part, np.exp(-0.5 * (lags / sd_bins) ** 2)))


def centered_gaussian(signal: np.ndarray, sd_bins: float, segments: Iterable[slice]) -> np.ndarray:
    """Return the mean over past and future bins with the weights of a Gaussian, cut at four SD."""
    reach = int(np.ceil(4 * sd_bins))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd_bins) ** 2)

    def smooth(part: np.ndarray) -> np.ndarray:
        total = correlate1d(part, weights, axis=0, mode="constant")
        return total / correlate1d(np.ones(len(part)), weights, mode="constant")[:, None]

    return _per_segment(signal, segments, smooth)


def _per_segment(
    signal: np.ndarray, segments: Iterable[slice], smooth: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    parts = [smooth(np.asarray(signal[segment], dtype=float)) for segment in segments]
    return np.concatenate(parts, axis=0)


def _weighted_past(part: np.ndarray, weights: np.ndarray) -> np.ndarray:
    padded = np.concatenate([np.zeros((len(weights) - 1, part.shape[1])), part], axis=0)
    # correlate1d centers its weights; with the past padded on, the sum that ends at bin t is half a window earlier
    center = len(weights) // 2
    summed = correlate1d(padded, weights[::-1], axis=0, mode="constant")
    return summed[center : center + len(part)]


def _normalized(part: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _weighted_past(part, weights) / _weighted_past(np.ones((len(part), 1)), weights)


def lagged_sums(signal: np.ndarray, bins: int, count: int, shift: int, segments: Iterable[slice]) -> np.ndarray:
    """Return sums over `count` successive windows of `bins` bins, (time, count * channels) float32.

    The first window ends with the bin that is `shift` bins later, each further one where the one before it begins. Bins
    outside the segment count as zero.
    """

    def windows(part: np.ndarray) -> np.ndarray:
        total = np.concatenate([np.zeros((1, part.shape[1])), np.cumsum(part, axis=0)])
        now = np.arange(len(part))
        edges = [total[np.clip(now + 1 + shift - i * bins, 0, len(part))] for i in range(count + 1)]
        return np.concatenate([later - earlier for later, earlier in pairwise(edges)], axis=1).astype(np.float32)

    return _per_segment(signal, segments, windows)
