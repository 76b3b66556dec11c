"""Compiled check of many covariances, as many at a time as a SIMD vector has numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.kalman.kernels._jit import cached_njit
from kalmanssl.kalman.kernels._simd import choose_positive, filled, fma, load, store, width

__all__ = ["all_finite", "first_invalid", "is_covariance"]


@cached_njit
def all_finite(values: Any) -> bool:
    """Whether all numbers of a flat array are finite; without a branch, so that the loop uses SIMD instructions."""
    wrong = np.int64(0)
    for i in range(len(values)):
        wrong |= np.int64(values[i] - values[i] != 0)
    return wrong == 0


@cached_njit
def _factorize(S: Any, n: int, added: Any) -> None:
    """Replace the upper triangles of matrices by the pivots and rows of their factors; `added` goes to the diagonals.

    S : (n, n, matrices)
    added : (matrices,)
    """
    w: Any = width(S)  # type: ignore[call-arg]
    zero, one, extra = filled(S, 0.0), filled(S, 1.0), load(added, 0)
    for i in range(n):
        store(S, i * (n + 1) * w, load(S, i * (n + 1) * w) + extra)
    for p in range(n):
        row = p * n * w
        inverse = one / load(S, row + p * w)
        for i in range(p + 1, n):
            factor, target = zero - load(S, row + i * w) * inverse, i * n * w
            for j in range(i, n):
                store(S, target + j * w, fma(factor, load(S, row + j * w), load(S, target + j * w)))


@cached_njit
def _largest_differences(S: Any, n: int, out: Any) -> None:
    """The largest difference of each of the matrices S (n, n, matrices) from its transpose."""
    w: Any = width(S)  # type: ignore[call-arg]
    zero = filled(S, 0.0)
    largest = zero
    for i in range(n):
        for j in range(i):
            d = load(S, (i * n + j) * w) - load(S, (j * n + i) * w)
            d = choose_positive(d, d, zero - d)
            largest = choose_positive(d - largest, d, largest)
    store(out, 0, largest)


@cached_njit
def first_invalid(cov: Any, n: int, begin: int, share: float) -> int:
    """Find the first matrix from `begin` on that may not be a covariance; -1 if there is none.

    A matrix is valid if it has no negative variance, differs from its transpose by no more than `share` times the
    largest variance, and has a Cholesky factor once `share` times the largest variance is added to its diagonal. That
    is the case if no eigenvalue is below minus this amount, up to the rounding of the factor.

    cov : (matrices, n, n), flat and finite
    """
    square, count = n * n, len(cov) // (n * n)
    w: Any = width(cov)  # type: ignore[call-arg]
    S, added, difference = np.empty(square * w, cov.dtype), np.empty(w, cov.dtype), np.empty(w, cov.dtype)
    negative = np.empty(w, np.bool_)
    for first in range(begin, count, w):
        for k in range(w):
            start = min(first + k, count - 1) * square
            low = high = cov[start]
            for i in range(n):
                variance = cov[start + i * (n + 1)]
                low, high = min(low, variance), max(high, variance)
            for i in range(square):
                S[i * w + k] = cov[start + i]
            negative[k], added[k] = low < 0, high * share
        _largest_differences(S, n, difference)
        for k in range(w):
            negative[k] = negative[k] or difference[k] > added[k]
            if added[k] == 0:  # valid only if all entries are 0; then any factor will do
                other = added[k]
                for i in range(square):
                    other = max(other, abs(S[i * w + k]))
                negative[k] = negative[k] or other * share > 0
                added[k] = 1
        _factorize(S, n, added)
        for k in range(min(w, count - first)):
            valid = not negative[k]
            for i in range(n):
                valid = valid and S[i * (n + 1) * w + k] > 0
            if not valid:
                return first + k
    return -1


@cached_njit
def is_covariance(cov: Any, start: int, n: int, share: float, scratch: Any) -> bool:
    """Whether the matrix (n, n) that begins at `start` of a flat array is valid as in `first_invalid`.

    scratch : (n, n), flat
    """
    high = cov[start]
    for i in range(n):
        variance = cov[start + i * (n + 1)]
        if variance < 0:
            return False
        high = max(high, variance)
    added = high * share
    for i in range(n):
        for j in range(n):
            if abs(cov[start + i * n + j] - cov[start + j * n + i]) > added:
                return False
            if added == 0 and abs(cov[start + i * n + j]) * share > 0:
                return False
            scratch[i * n + j] = cov[start + i * n + j]
        scratch[i * (n + 1)] += added if added > 0 else 1.0
    for k in range(n):
        pivot = scratch[k * (n + 1)]
        if not pivot > 0:
            return False
        for i in range(k + 1, n):
            factor = scratch[k * n + i] / pivot
            for j in range(i, n):
                scratch[i * n + j] -= factor * scratch[k * n + j]
    return True
