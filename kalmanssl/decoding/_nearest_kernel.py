"""Kernel that finds the largest entries of each row, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed.
"""

from __future__ import annotations

import numpy as np

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["largest_kernel"]

_GROUP = 32  # columns


@cached_njit
def largest_kernel(values, count, found):  # type: ignore[no-untyped-def]
    """Write the columns of the `count` largest entries of each row of `values` to `found`, in any order.

    The maxima of groups of columns bound the smallest entry that is found: at least `count` entries are not below the
    maximum of rank `count`. Few entries are above this bound, and only these are compared.
    """
    n_rows, n_columns = values.shape
    n_groups = n_columns // _GROUP
    maxima = np.empty(n_groups, dtype=values.dtype)
    candidate = np.empty(n_columns, dtype=np.int64)
    kept = np.empty(n_columns, dtype=values.dtype)
    for row in range(n_rows):
        bound = values.dtype.type(-np.inf)
        if n_groups >= count:
            for group in range(n_groups):
                highest = values[row, group * _GROUP]
                for column in range(group * _GROUP + 1, (group + 1) * _GROUP):
                    highest = max(highest, values[row, column])
                maxima[group] = highest
            bound = np.partition(maxima, n_groups - count)[n_groups - count]
        n = 0
        for group in range(n_groups + 1):
            if group < n_groups and n_groups >= count and maxima[group] < bound:
                continue
            for column in range(group * _GROUP, min((group + 1) * _GROUP, n_columns)):
                if values[row, column] >= bound:
                    candidate[n] = column
                    kept[n] = values[row, column]
                    n += 1
        least = np.partition(kept[:n], n - count)[n - count]
        position = 0
        for i in range(n):
            if kept[i] > least:
                found[row, position] = candidate[i]
                position += 1
        for i in range(n):
            if position < count and kept[i] == least:
                found[row, position] = candidate[i]
                position += 1
