"""Kernel that normalizes the activity of one bin, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed.
"""

from __future__ import annotations

import numpy as np

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["bin_kernel"]


def _take(activity, single, center, scale, bins, sequence, divisor, values, features):  # type: ignore[no-untyped-def]
    """Write the normalized activity of a bin to `values`, and the sum over the last bins to `features`.

    Parameters
    ----------
    activity : (units,) float64
    single : bool
        Whether the activity is stored in single precision.
    center, scale : (units,)
        By what the activity is standardized; empty if it is not.
    bins : (bins, units)
        Normalized activity of the last bins.
    sequence : int
        The row of `bins` that the bin will replace.
    divisor : float
        By which the sum is divided.
    values, features : (units,) float64

    Returns
    -------
    total, smallest : float
        Of the activity.
    """
    total, smallest = 0.0, np.inf
    for j in range(len(activity)):
        value = activity[j]
        total += value
        smallest = min(smallest, value)
        if single:
            value = np.float64(np.float32(value))
        if len(center):
            value = (value - center[j]) / scale[j]
        values[j] = np.float64(np.float32(value))
        added = 0.0
        for i in range(len(bins)):
            added += values[j] if i == sequence else bins[i, j]
        features[j] = added / divisor
    return total, smallest


bin_kernel = cached_njit(_take)
