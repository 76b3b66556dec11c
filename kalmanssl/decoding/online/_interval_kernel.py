"""Kernel of the interval of one bin, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["interval_kernel"]


@njit(nogil=True, error_model="numpy")
def _quantile(level, cumulative, mass, start, width):  # type: ignore[no-untyped-def]
    """Return a quantile of a histogram, as `GridPredictive.quantiles`."""
    cell, last = 0, len(mass) - 1
    while cell < last and cumulative[cell] < level:
        cell += 1
    left = (cumulative[cell] - level) / mass[cell] if mass[cell] > 0 else 0.0
    return start + width * (cell + 1 - min(max(left, 0.0), 1.0))


@njit(nogil=True, error_model="numpy")
def _centered(mass, period, width, sin, cos, result):  # type: ignore[no-untyped-def]
    """Write a circular histogram from half a period before its mean to `result`; return its first edge."""
    cells = len(mass)
    across, along = 0.0, 0.0
    for i in range(cells):
        across += mass[i] * sin[i]
        along += mass[i] * cos[i]
    mean = math.atan2(across, along) * period / (2 * np.pi)
    shift = int(np.rint(mean / width)) - cells // 2
    for i in range(cells):
        result[i] = mass[(i + shift) % cells]
    return shift * width


def _interval(mass, noise, numbers, weights, arrays):  # type: ignore[no-untyped-def]
    """Return the mean of a histogram, and the ends of its calibrated interval.

    Parameters
    ----------
    mass : (cells,) float32
    noise : (cells, cells) float32
        Matrix that adds noise before the interval; empty without noise.
    numbers : tuple of float
        First edge, width of a cell, period (0 if not circular), and the width of the central 80 % interval that
        separates narrow from wide predictions.
    weights : tuple of float
        By which each end is interpolated between two quantiles.
    arrays : tuple of arrays
        Levels of the quantiles, (2, 4) for narrow and wide predictions; sine and cosine of the cells; memory for two
        histograms.
    """
    start, width, period, border = numbers
    levels, sin, cos, noisy, cumulative = arrays
    cells = len(mass)
    if period > 0:
        start = _centered(mass, period, width, sin, cos, noisy)
    else:
        for i in range(cells):  # an assignment of the whole array takes a second to compile
            noisy[i] = mass[i]
    mean = 0.0
    for i in range(cells):
        mean += noisy[i] * (i + 0.5)
    mean = start + width * mean
    if len(noise):
        for i in range(cells):
            cumulative[i], noisy[i] = noisy[i], 0.0
        for i in range(cells):
            for j in range(cells):
                noisy[j] += cumulative[i] * noise[i, j]
    total = 0.0
    for i in range(cells):
        total += noisy[i]
        cumulative[i] = total
    for i in range(cells):
        cumulative[i] /= total
    low = _quantile(0.1, cumulative, noisy, start, width)
    high = _quantile(0.9, cumulative, noisy, start, width)
    wide = 1 if high - low > border else 0
    first = np.float32(_quantile(levels[wide, 0], cumulative, noisy, start, width))
    second = np.float32(_quantile(levels[wide, 1], cumulative, noisy, start, width))
    third = np.float32(_quantile(levels[wide, 2], cumulative, noisy, start, width))
    fourth = np.float32(_quantile(levels[wide, 3], cumulative, noisy, start, width))
    lower = (1 - weights[0]) * first + weights[0] * second
    upper = (1 - weights[1]) * third + weights[1] * fourth
    return mean % period if period > 0 else mean, lower, upper


interval_kernel = cached_njit(_interval)
