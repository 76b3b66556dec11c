"""Compiled search for the k-th nearest neighbor. Importing this module imports numba, which takes long."""

from __future__ import annotations

import numpy as np

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["kth_neighbor_rows"]

_BLOCK = 64  # distances that are compared with the k-th smallest at once


@cached_njit
def kth_neighbor_rows(columns, k, start, stop, index):  # type: ignore[no-untyped-def]
    """Write the index of the k-th nearest neighbor of samples start to stop - 1 into `index` (samples,) int64.

    `columns` (dim, samples) are contiguous. Distances are computed from differences, so they have no cancellation. The
    loops over samples are vectorized by the compiler.
    """
    dim, n_samples = columns.shape
    squared = np.empty(n_samples, columns.dtype)
    smallest = np.empty(k, columns.dtype)
    nearest = np.empty(k, np.int64)
    for i in range(start, stop):
        squared[:] = 0
        for d in range(dim):
            column, value = columns[d], columns[d, i]
            for j in range(n_samples):
                difference = column[j] - value
                squared[j] += difference * difference
        squared[i] = np.inf
        smallest[:] = np.inf
        nearest[:] = 0
        largest = smallest[k - 1]
        for first in range(0, n_samples, _BLOCK):
            last = min(first + _BLOCK, n_samples)
            n_smaller = 0
            for j in range(first, last):
                n_smaller += squared[j] < largest
            if n_smaller == 0:
                continue
            for j in range(first, last):
                if squared[j] < largest:
                    place = k - 1
                    while place > 0 and smallest[place - 1] > squared[j]:
                        smallest[place], nearest[place] = smallest[place - 1], nearest[place - 1]
                        place -= 1
                    smallest[place], nearest[place] = squared[j], j
                    largest = smallest[k - 1]
        index[i] = nearest[k - 1]
