"""Kernels of the histograms of the behavior in the nearest reference bins, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["histogram_kernel", "histograms_kernel"]


@njit(nogil=True, error_model="numpy")
def _write_histogram(near, votes, cells, along_rows, along_columns, share, sums, mass):  # type: ignore[no-untyped-def]
    """Write a histogram as `_histogram`; `sums` (columns,) is memory."""
    n_rows, n_columns = mass.shape
    mass[:] = 0.0
    for neighbor in near:
        row, column = divmod(cells[neighbor], n_columns)
        values, vote = along_columns[column], np.float32(votes[neighbor])
        for i in range(n_rows):
            factor, result = vote * along_rows[row, i], mass[i]
            if factor == 0.0:
                continue
            for j in range(n_columns):
                result[j] += factor * values[j]
    sums[:] = 0.0
    for i in range(n_rows):
        for j in range(n_columns):
            sums[j] += mass[i, j]
    factor, uniform = np.float32(share) / sums.sum(), np.float32((1 - share) / mass.size)
    for i in range(n_rows):
        for j in range(n_columns):
            mass[i, j] = factor * mass[i, j] + uniform


def _histogram(near, votes, cells, along_rows, along_columns, share, mass):  # type: ignore[no-untyped-def]
    """Write the smoothed histogram of the behavior in the nearest reference bins to `mass`, (rows, columns) float32.

    Parameters
    ----------
    near : (neighbors,) int
    votes, cells : (references,) float and int
        Weight of each reference bin, and the number of its cell.
    along_rows, along_columns : (rows, rows) and (columns, columns) float32
        How the mass of each cell is distributed along each axis.
    share : float
        Fraction of the mass from the neighbors; the rest is distributed over all cells.
    mass : (rows, columns)
    """
    sums = np.empty(mass.shape[1], np.float32)
    _write_histogram(near, votes, cells, along_rows, along_columns, share, sums, mass)


def _histograms(near, votes, cells, along_rows, along_columns, share, mass):  # type: ignore[no-untyped-def]
    """Write the histograms of many bins (time, rows, columns), from their neighbors (time, neighbors)."""
    sums = np.empty(mass.shape[2], np.float32)
    for time in range(len(near)):
        _write_histogram(near[time], votes, cells, along_rows, along_columns, share, sums, mass[time])


histogram_kernel = cached_njit(_histogram)
histograms_kernel = cached_njit(_histograms)
