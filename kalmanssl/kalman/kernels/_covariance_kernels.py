"""Compiled loops over the covariances of the filter and the smoother; arrays as in `_matrix_kernels.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kalmanssl.kalman.kernels._jit import cached_njit
from kalmanssl.kalman.kernels._matrix_kernels import add_noise, inverse_factor, product, symmetric_part, transpose

__all__ = ["riccati", "smoother_gains"]


@cached_njit
def _has_converged(cov: Any, before: int, now: int, n: int, stride: int, tolerance: float) -> bool:
    """Whether no entry changed by more than `tolerance` times the standard deviations of its row and column."""
    for i in range(n):
        for j in range(i + 1):
            scale = math.sqrt(cov[now + i * stride + i] * cov[now + j * stride + j])
            if not abs(cov[now + i * stride + j] - cov[before + i * stride + j]) <= tolerance * scale:
                return False
    return True


@cached_njit
def _times_noise(out: Any, K: Any, k: int, R: Any, r: int, diagonal: bool, n: int, m: int, stride: int) -> None:
    """The product K R with the noise of step `r`."""
    for row in range(n):
        for j in range(m):
            if diagonal:
                out[row * stride + j] = K[k + row * stride + j] * R[r * m + j]
            else:
                total = 0.0
                for column in range(m):
                    total += K[k + row * stride + column] * R[(r * m + column) * m + j]
                out[row * stride + j] = total


@cached_njit
def _joseph_update(Pf: Any, p: int, Pp: Any, keep: Any, K: Any, k: int, KR: Any, scratch: Any, size: Any) -> None:
    """Filtered covariance keep Pp keep' + K R K' with keep = I - K C, a sum of positive semi-definite terms."""
    one, two, keep_transposed, K_transposed, zeros = scratch
    n, m, ns, ms = size
    zero = np.int64(0)
    transpose(keep_transposed, ns, keep, zero, n, n, ns)
    product(one, zero, zeros, zero, zero, keep, zero, ns, Pp, p, n, n, ns)
    product(two, zero, zeros, zero, zero, one, zero, ns, keep_transposed, zero, n, n, ns)
    transpose(K_transposed, ns, K, k, n, m, ms)
    product(one, zero, two, zero, ns, KR, zero, ms, K_transposed, zero, n, m, ns)
    symmetric_part(Pf, p, one, n, ns)


@cached_njit
def riccati(
    first: int,
    count: int,
    start: Any,
    model: Any,
    periods: tuple[int, int, int, int],
    size: tuple[int, int, int, int],
    diagonal: tuple[bool, bool],
    tolerance: float,
    out: Any,
) -> int:
    """Riccati recursion for steps `first`, …, `first` + `count` - 1; with `tolerance` > 0 it stops at convergence.

    start : (n, stride), the filtered covariance before step `first`; if that is 0, the first predicted covariance
    model : A, A', -C, C', Q, R
    periods : numbers of steps of A, C, Q, R, each 1 or all
    size : n, m, and the strides of rows with one entry per state, and per channel
    diagonal : whether Q and R are variances
    out : predicted covariance Pp, filtered covariance Pf, gain K, innovation covariance F, and V with V V' = F^-1

    Returns the number of steps computed, or -1 if an innovation covariance is not positive definite.
    """
    A, A_transposed, minus_C, C_transposed, Q, R = model
    Pp, Pf, K, F, V = out
    n, m, ns, ms = size
    number, zero = Pp.dtype, np.int64(0)  # a literal 0 has another type, for which `product` would be compiled again
    zeros, eye = np.zeros(max(ns, ms), number), np.zeros(n * ns, number)
    for i in range(n):
        eye[i * ns + i] = 1.0
    one, two, keep = np.zeros(n * ns, number), np.zeros(n * ns, number), np.zeros(n * ns, number)
    scratch = (one, two, np.zeros(n * ns, number), np.zeros(m * ns, number), zeros)
    N, NV, KR = np.zeros(n * ms, number), np.zeros(n * ms, number), np.zeros(n * ms, number)
    square, U, V_transposed = np.zeros(m * ms, number), np.zeros(m * ms, number), np.zeros(m * ms, number)
    C = np.zeros(m * ns, number)
    for i in range(count):
        t = first + i
        a, c = min(t, periods[0] - 1) * n * ns, min(t, periods[1] - 1)
        q, r = min(t, periods[2] - 1), min(t, periods[3] - 1)
        p, k, f = i * n * ns, i * n * ms, i * m * ms
        if t == 0:
            for j in range(n * ns):
                Pp[j] = start[j]
        else:
            if i == 0:
                product(one, zero, zeros, zero, zero, A, a, ns, start, zero, n, n, ns)
            else:
                product(one, zero, zeros, zero, zero, A, a, ns, Pf, p - n * ns, n, n, ns)
            product(two, zero, zeros, zero, zero, one, zero, ns, A_transposed, a, n, n, ns)
            symmetric_part(Pp, p, two, n, ns)
            add_noise(Pp, p, Q, q, diagonal[0], n, ns)
        if i == 0 or periods[1] > 1:
            for j in range(m * ns):
                C[j] = -minus_C[c * m * ns + j]
        product(N, zero, zeros, zero, zero, Pp, p, ns, C_transposed, c * n * ms, n, n, ms)
        product(square, zero, zeros, zero, zero, C, zero, ns, N, zero, m, n, ms)
        symmetric_part(F, f, square, m, ms)
        add_noise(F, f, R, r, diagonal[1], m, ms)
        if not inverse_factor(V, f, F, f, U, m, ms):
            return -1
        transpose(V_transposed, ms, V, f, m, m, ms)
        product(NV, zero, zeros, zero, zero, N, zero, ms, V, f, n, m, ms)
        product(K, k, zeros, zero, zero, NV, zero, ms, V_transposed, zero, n, m, ms)
        product(keep, zero, eye, zero, ns, K, k, ms, minus_C, c * m * ns, n, m, ns)
        _times_noise(KR, K, k, R, r, diagonal[1], n, m, ms)
        _joseph_update(Pf, p, Pp, keep, K, k, KR, scratch, size)
        if tolerance > 0 and i > 0 and _has_converged(Pp, p - n * ns, p, n, ns, tolerance):
            return i + 1
    return count


@cached_njit
def smoother_gains(
    Pf: Any,
    A: Any,
    A_transposed: Any,
    Q: Any,
    out: Any,
    strides: tuple[int, int, int, int, int],
    size: tuple[int, int],
    diagonal: bool,
    part: Any,
) -> bool:
    """Gain G of the smoother and D = (I - G A) Pf (I - G A)' + G Q G' for a range of filtered covariances.

    Pf : (batch, steps, n, stride);   A, Q : (batch|1, steps|1, …)
    out : G and D, shaped like Pf
    strides : steps of Pf, then the distances to the next sequence and the next step for A and for Q, 0 if shared
    size : n, stride
    part : first and last covariance of the range, counted over sequences and steps

    Returns False if a predicted covariance is not positive definite.
    """
    n, stride = size
    steps, A_sequence, A_step, Q_sequence, Q_step = strides
    G, D = out
    matrix, number, zero = n * stride, Pf.dtype, np.int64(0)
    zeros, minus_eye = np.zeros(stride, number), np.zeros(matrix, number)
    for i in range(n):
        minus_eye[i * stride + i] = -1.0
    one, two, three = np.zeros(matrix, number), np.zeros(matrix, number), np.zeros(matrix, number)
    Pp, keep = np.zeros(matrix, number), np.zeros(matrix, number)
    V, U = np.zeros(matrix, number), np.zeros(matrix, number)
    for k in range(part[0], part[1]):
        s, t = k // steps, k % steps
        a, q, p = (s * A_sequence + t * A_step) * matrix, s * Q_sequence + t * Q_step, k * matrix
        product(one, zero, zeros, zero, zero, A, a, stride, Pf, p, n, n, stride)
        product(two, zero, zeros, zero, zero, one, zero, stride, A_transposed, a, n, n, stride)
        symmetric_part(Pp, zero, two, n, stride)
        add_noise(Pp, zero, Q, q, diagonal, n, stride)
        if not inverse_factor(V, zero, Pp, zero, U, n, stride):
            return False
        transpose(two, stride, one, zero, n, n, stride)
        transpose(three, stride, V, zero, n, n, stride)
        product(one, zero, zeros, zero, zero, two, zero, stride, V, zero, n, n, stride)
        product(G, p, zeros, zero, zero, one, zero, stride, three, zero, n, n, stride)
        # This is -(I - G A); its sign cancels.
        product(keep, zero, minus_eye, zero, stride, G, p, stride, A, a, n, n, stride)
        transpose(two, stride, keep, zero, n, n, stride)
        product(one, zero, zeros, zero, zero, keep, zero, stride, Pf, p, n, n, stride)
        product(three, zero, zeros, zero, zero, one, zero, stride, two, zero, n, n, stride)
        for i in range(matrix):
            two[i] = 0.0
        add_noise(two, zero, Q, q, diagonal, n, stride)
        product(one, zero, zeros, zero, zero, G, p, stride, two, zero, n, n, stride)
        transpose(two, stride, G, p, n, n, stride)
        product(three, zero, three, zero, stride, one, zero, stride, two, zero, n, n, stride)
        symmetric_part(D, p, three, n, stride)
    return True
