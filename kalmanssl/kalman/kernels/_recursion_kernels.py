"""Compiled loops over time: affine and covariance recursions, and the means of the filter with shared parameters.

Arrays as in `_matrix_kernels.py`. The last argument of each kernel is the range (first, last) of sequences to process.
Stacks of matrices may have fewer steps than the data; their last entry then serves all later steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.kalman.kernels._jit import cached_njit
from kalmanssl.kalman.kernels._matrix_kernels import product, symmetric_part, transpose

__all__ = ["affine_scan", "covariance_recursion", "means", "means_adjoint"]


@cached_njit
def affine_scan(
    x: Any, matrices: Any, distinct: int, group: int, size: tuple[int, int, int, int], reverse: bool, part: Any
) -> None:
    """x[t] += M[t] x[t-1] in place, or x[t] += M[t] x[t+1] with `reverse`.

    x : (steps, batch, stride)
    matrices : (distinct, batch / group, n, stride), the transposed M; `group` consecutive sequences share one
    size : steps, batch, n, stride
    """
    steps, batch, n, stride = size
    first, last = part
    for i in range(1, steps):
        t = steps - 1 - i if reverse else i
        before = t + 1 if reverse else t - 1
        s = first
        while s < last:
            M = (min(t, distinct - 1) * (batch // group) + s // group) * n * stride
            end = min((s // group + 1) * group, last)
            place = (t * batch + s) * stride
            product(
                x, place, x, place, stride, x, (before * batch + s) * stride, stride, matrices, M, end - s, n, stride
            )
            s = end


@cached_njit
def covariance_recursion(X: Any, G: Any, own: bool, size: tuple[int, int, int, int], reverse: bool, part: Any) -> None:
    """X[t+1] += G[t] X[t] G[t]' in place for t = 0, 1, …; with `reverse`, X[t] += G[t] X[t+1] G[t]', last t first.

    X : (steps, batch, n, stride), symmetrized at every step
    G : (steps - 1, batch if `own` else 1, n, stride)
    size : steps, batch, n, stride
    """
    steps, batch, n, stride = size
    first, last = part
    matrix, zero = n * stride, np.int64(0)
    half, transposed, zeros = np.empty(matrix, X.dtype), np.zeros(matrix, X.dtype), np.zeros(stride, X.dtype)
    for i in range(steps - 1):
        t = steps - 2 - i if reverse else i
        begin, end = (t + 1, t) if reverse else (t, t + 1)
        for s in range(first, last):
            g = (t * batch + s if own else t) * matrix
            there, here = (begin * batch + s) * matrix, (end * batch + s) * matrix
            transpose(transposed, stride, G, g, n, n, stride)
            product(half, zero, zeros, zero, zero, X, there, stride, transposed, zero, n, n, stride)
            product(X, here, X, here, stride, G, g, stride, half, zero, n, n, stride)
            symmetric_part(X, here, X[here : here + matrix], n, stride)


@cached_njit
def means(
    mp: Any,
    mf: Any,
    e: Any,
    alpha: Any,
    log_density: Any,
    b: Any,
    matrices: Any,
    log_det: Any,
    entries: tuple[int, int, int, int],
    size: tuple[int, int, int, int, int, int],
    own_b: bool,
    part: Any,
) -> None:
    """Predicted and filtered means, innovations and log-densities of the filter.

    mp, mf : (steps, batch, ns) predicted and filtered means; mp[0] contains m0
    e : (steps, batch, ms) contains y, and is replaced by the innovations;   alpha : (steps, batch, ms), F^-1 e
    log_density : (steps, batch), without its constant
    matrices : A', -C', K', V, V';   log_det : log det V per step
    entries : numbers of steps of A, C, K (and V), b
    size : steps, batch, n, m, and the strides ns, ms of rows with one entry per state, and per channel
    """
    A, minus_C, K, V, V_transposed = matrices
    steps, batch, n, m, ns, ms = size
    first, last = part
    count = last - first
    zero: Any = np.int64(0)  # a literal 0 has another type, for which `product` would be compiled again
    white, zeros = np.zeros(count * ms, e.dtype), np.zeros(ms, e.dtype)
    for t in range(steps):
        x, s = (t * batch + first) * ns, (t * batch + first) * ms
        k = min(t, entries[2] - 1)
        if t > 0:
            place, stride = (min(t, entries[3] - 1) * batch + first) * ns, ns
            if not own_b:
                place, stride = min(t, entries[3] - 1) * ns, zero
            a = min(t, entries[0] - 1) * n * ns
            product(mp, x, b, place, stride, mf, x - batch * ns, ns, A, a, count, n, ns)
        product(e, s, e, s, ms, mp, x, ns, minus_C, min(t, entries[1] - 1) * n * ms, count, n, ms)
        product(mf, x, mp, x, ns, e, s, ms, K, k * m * ns, count, m, ns)
        product(white, zero, zeros, zero, zero, e, s, ms, V, k * m * ms, count, m, ms)
        product(alpha, s, zeros, zero, zero, white, zero, ms, V_transposed, k * m * ms, count, m, ms)
        for i in range(count):
            total = white[0] - white[0]
            for j in range(m):
                total += white[i * ms + j] * white[i * ms + j]
            log_density[t * batch + first + i] = log_det[k] - 0.5 * total


@cached_njit
def means_adjoint(
    d_mp: Any,
    d_mf: Any,
    d_e: Any,
    matrices: Any,
    entries: tuple[int, int, int],
    size: tuple[int, int, int, int, int, int],
    given: tuple[bool, bool],
    part: Any,
) -> None:
    """Adjoint of `means`: total derivatives with respect to mp, mf and e.

    d_mp, d_mf, d_e : the incoming derivatives, which are replaced by the total ones
    given : whether there are incoming derivatives of mp and of mf; otherwise their arrays may contain anything
    matrices : A, -C, K;   entries : their numbers of steps;   size : as in `means`
    """
    A, minus_C, K = matrices
    steps, batch, n, m, ns, ms = size
    first, last = part
    count = last - first
    for i in range(steps):
        t = steps - 1 - i
        x, s = (t * batch + first) * ns, (t * batch + first) * ms
        if not given[1]:
            for j in range(x, x + count * ns):
                d_mf[j] = 0.0
        if i > 0:
            a = min(t + 1, entries[0] - 1) * n * ns
            product(d_mf, x, d_mf, x, ns, d_mp, x + batch * ns, ns, A, a, count, n, ns)
        product(d_e, s, d_e, s, ms, d_mf, x, ns, K, min(t, entries[2] - 1) * n * ms, count, n, ms)
        c = min(t, entries[1] - 1) * m * ns
        if given[0]:
            for j in range(x, x + count * ns):
                d_mp[j] += d_mf[j]
            product(d_mp, x, d_mp, x, ns, d_e, s, ms, minus_C, c, count, m, ns)
        else:
            product(d_mp, x, d_mf, x, ns, d_e, s, ms, minus_C, c, count, m, ns)
