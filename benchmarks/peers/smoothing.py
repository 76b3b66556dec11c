"""Smoothing of a signal in time, within each contiguous stretch of a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.ndimage import correlate1d

__all__ = ["causal_gaussian", "centered_gaussian", "sliding_sum"]


def sliding_sum(signal: np.ndarray, bins: int, stretches: Iterable[slice]) -> np.ndarray:
    """Sum over the present bin and the ``bins - 1`` before it; shorter at the start of a stretch."""
    return _per_stretch(signal, stretches, lambda part: _weighted_past(part, np.ones(bins)))


def causal_gaussian(signal: np.ndarray, sd_bins: float, stretches: Iterable[slice]) -> np.ndarray:
    """Weighted mean over the present and past bins, weights a half-Gaussian cut at four SD."""
    lags = np.arange(int(np.ceil(4 * sd_bins)) + 1)
    return _per_stretch(signal, stretches, lambda part: _normalized(part, np.exp(-0.5 * (lags / sd_bins) ** 2)))


def centered_gaussian(signal: np.ndarray, sd_bins: float, stretches: Iterable[slice]) -> np.ndarray:
    """Weighted mean over past and future bins, weights a Gaussian cut at four SD."""
    reach = int(np.ceil(4 * sd_bins))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd_bins) ** 2)

    def smooth(part: np.ndarray) -> np.ndarray:
        total = correlate1d(part, weights, axis=0, mode="constant")
        return total / correlate1d(np.ones(len(part)), weights, mode="constant")[:, None]

    return _per_stretch(signal, stretches, smooth)


def _per_stretch(
    signal: np.ndarray, stretches: Iterable[slice], smooth: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    parts = [smooth(np.asarray(signal[stretch], dtype=float)) for stretch in stretches]
    return np.concatenate(parts, axis=0)


def _weighted_past(part: np.ndarray, weights: np.ndarray) -> np.ndarray:
    padded = np.concatenate([np.zeros((len(weights) - 1, part.shape[1])), part], axis=0)
    # correlate1d centers its weights; with the past padded on, the sum that ends at bin t sits half a window before it
    center = len(weights) // 2
    summed = correlate1d(padded, weights[::-1], axis=0, mode="constant")
    return summed[center : center + len(part)]


def _normalized(part: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _weighted_past(part, weights) / _weighted_past(np.ones((len(part), 1)), weights)
