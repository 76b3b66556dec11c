"""Kernel that finds the references with the largest inner products, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["largest_kernel", "nearest_kernel"]

_GROUP = 16  # references
_BLOCK = 2048  # references that are handled at a time, so that their sums stay in the fastest cache
_ROUNDING = np.float32(1e-5)  # by which a bound can be too small, relative to vectors of unit length


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _product(a, b):  # type: ignore[no-untyped-def]
    """Return the inner product of two vectors."""
    total = np.float32(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(nogil=True, error_model="numpy")
def _products(query, vectors, products):  # type: ignore[no-untyped-def]
    """Write the inner product of each vector, a column of `vectors`, with the query to `products`."""
    n_features, n_vectors = vectors.shape
    whole = n_features - n_features % 4
    for first in range(0, n_vectors, _BLOCK):
        stop = min(first + _BLOCK, n_vectors)
        result = products[first:stop]
        result[:] = 0.0
        for k in range(0, whole, 4):
            a, b, c, d = query[k], query[k + 1], query[k + 2], query[k + 3]
            # Loops over rows of their own become vector instructions; with two indices they would not.
            w, x, y, z = (
                vectors[k, first:stop],
                vectors[k + 1, first:stop],
                vectors[k + 2, first:stop],
                vectors[k + 3, first:stop],
            )
            for j in range(len(result)):
                result[j] += a * w[j] + b * x[j] + c * y[j] + d * z[j]
        for k in range(whole, n_features):
            a, w = query[k], vectors[k, first:stop]
            for j in range(len(result)):
                result[j] += a * w[j]


@njit(nogil=True, error_model="numpy")
def _order_statistic(values, number):  # type: ignore[no-untyped-def]
    """Return what would be at index `number` of the sorted values, which are reordered (Hoare's selection).

    The partition of numpy does the same, and takes four seconds to compile.
    """
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if number <= j:
            high = j
        elif number >= i:
            low = i
        else:
            break
    return values[number]


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
        smallest = _order_statistic(kept[:n].copy(), n - count)
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


@njit(nogil=True, error_model="numpy")
def _project(features, center, components, query):  # type: ignore[no-untyped-def]
    """Write the principal components of the direction of latents to `query`, as `NeighborReadout.project`."""
    centered = np.empty(len(center), dtype=np.float32)
    square = np.float32(0.0)
    for k in range(len(centered)):
        centered[k] = np.float32(features[k] - center[k])
        square += centered[k] * centered[k]
    length = max(np.sqrt(square), np.float32(1e-20))
    query[:] = 0.0
    for k in range(len(centered)):
        value, row = centered[k] / length, components[k]
        for j in range(len(query)):
            query[j] += value * row[j]


def _nearest(  # type: ignore[no-untyped-def]
    features, center, components, bounded, references, query, bound_query, bounds, near, products
):
    """Replace `near`, the neighbors of the last bin, by those of a bin; return one minus the mean product with them.

    Parameters
    ----------
    features, center : (features,) float64
    components : (features, components) float32
        Principal components of directions.
    bounded : (leading components + 1, references) float32
        Leading components of the references, and the norm of the others.
    references : (references, components) float32
    query : (1, components), bound_query : (leading components + 1,), bounds : (1, references), all float32
        Memory for intermediate results.
    near : (1, count) int
    products : (1, count) float32
    """
    _project(features, center, components, query[0])
    leading, square = len(bound_query) - 1, np.float32(0.0)
    for k in range(leading):
        bound_query[k] = query[0, k]
    for k in range(leading, query.shape[1]):
        square += query[0, k] * query[0, k]
    bound_query[leading] = np.sqrt(square)
    _products(bound_query, bounded, bounds[0])
    largest_kernel(bounds, query, references, near[0].copy(), near, products)
    total = 0.0
    for i in range(products.shape[1]):
        total += products[0, i]
    return 1.0 - total / products.shape[1]


nearest_kernel = cached_njit(_nearest)
