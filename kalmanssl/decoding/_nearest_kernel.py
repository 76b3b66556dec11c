"""Kernel that finds the references with the largest inner products, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["largest_kernel"]

_GROUP = 16  # references
_ROUNDING = np.float32(1e-5)  # by which a bound can be too small, relative to vectors of unit length


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _product(a, b):  # type: ignore[no-untyped-def]
    """Return the inner product of two vectors."""
    total = np.float32(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


def _largest(bounds, queries, references, preceding, found, products):  # type: ignore[no-untyped-def]
    """Write the references with the largest products with each query to `found`, and the products to `products`.

    Parameters
    ----------
    bounds : (queries, references) float32
        Upper bounds of the products of vectors of at most unit length.
    queries : (queries, features) float32
    references : (references, features) float32
    preceding : (count,) int
        Different references that may be near the first query. Further queries start from what was found before.
    found : (queries, count) int
    products : (queries, count) float32
    """
    n_references, count = len(references), len(preceding)
    candidate = np.empty(n_references + 1, dtype=np.int64)
    kept = np.empty(n_references, dtype=np.float32)
    near = preceding
    for row in range(len(queries)):
        query = queries[row]
        least = np.float32(np.inf)
        for i in range(count):
            least = min(least, _product(query, references[near[i]]))
        bound = bounds[row]
        lowest = least - _ROUNDING
        n = 0
        for first in range(0, n_references, _GROUP):
            group = bound[first : first + _GROUP]
            above = np.int32(0)  # as wide as the values, so that the loop becomes vector instructions
            for i in range(len(group)):
                above |= np.int32(group[i] >= lowest)
            if above != 0:
                for i in range(len(group)):  # without a branch, which would often be mispredicted
                    candidate[n] = first + i
                    n += group[i] >= lowest
        n_candidates, n = n, 0
        for i in range(n_candidates):
            product = _product(query, references[candidate[i]])
            if product >= least:
                candidate[n] = candidate[i]
                kept[n] = product
                n += 1
        smallest = np.partition(kept[:n], n - count)[n - count]
        position = 0
        for i in range(n):
            if kept[i] > smallest:
                found[row, position] = candidate[i]
                products[row, position] = kept[i]
                position += 1
        for i in range(n):
            if position < count and kept[i] == smallest:
                found[row, position] = candidate[i]
                products[row, position] = smallest
                position += 1
        near = found[row]


largest_kernel = cached_njit(_largest)
