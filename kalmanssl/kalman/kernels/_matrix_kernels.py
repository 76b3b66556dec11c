"""Products and factors of small matrices, for compiled loops.

Arrays are flat and contain matrices and vectors row by row. Each row is padded to `stride` numbers, a whole number of
SIMD vectors (`_simd.py`). What the padding contains does not affect the other columns.
"""

from __future__ import annotations

import math
from typing import Any

from kalmanssl.kalman.kernels._jit import cached_njit, inline_njit
from kalmanssl.kalman.kernels._simd import broadcast, fma, load, store, width

__all__ = ["add_noise", "inverse_factor", "product", "symmetric_part", "transpose"]


@inline_njit
def _product_row(
    out: Any, o: int, add: Any, a: int, left: Any, x: int, right: Any, r: int, inner: int, stride: int
) -> None:
    """One row of `product`."""
    w: Any = width(out)  # type: ignore[call-arg]
    for c in range(0, stride, w):
        s0 = load(add, a + c)
        s1 = s0 - s0
        m = r + c
        for j in range(0, inner - 1, 2):
            s0 = fma(broadcast(left, x + j), load(right, m), s0)
            s1 = fma(broadcast(left, x + j + 1), load(right, m + stride), s1)
            m += 2 * stride
        if inner % 2:
            s0 = fma(broadcast(left, x + inner - 1), load(right, m), s0)
        store(out, o + c, s0 + s1)


@cached_njit
def product(
    out: Any,
    o: int,
    add: Any,
    a: int,
    add_stride: int,
    left: Any,
    x: int,
    left_stride: int,
    right: Any,
    r: int,
    rows: int,
    inner: int,
    stride: int,
) -> None:
    """`out` = `add` + `left` `right`; the matrices begin at indices o, a, x and r of their arrays.

    An `add_stride` of 0 adds the same row to all rows. `out` may be `add`, but not `left`. Tiles of four rows and two
    SIMD vectors are accumulated in registers, which hides the latency of an addition.
    """
    w: Any = width(out)  # type: ignore[call-arg]
    whole, pairs = rows - rows % 4, stride - stride % (2 * w)
    for i in range(0, whole, 4):
        x0 = x + i * left_stride
        x1, x2, x3 = x0 + left_stride, x0 + 2 * left_stride, x0 + 3 * left_stride
        a0 = a + i * add_stride
        a1, a2, a3 = a0 + add_stride, a0 + 2 * add_stride, a0 + 3 * add_stride
        o0 = o + i * stride
        o1, o2, o3 = o0 + stride, o0 + 2 * stride, o0 + 3 * stride
        for c in range(0, pairs, 2 * w):
            s00, s01 = load(add, a0 + c), load(add, a0 + c + w)
            s10, s11 = load(add, a1 + c), load(add, a1 + c + w)
            s20, s21 = load(add, a2 + c), load(add, a2 + c + w)
            s30, s31 = load(add, a3 + c), load(add, a3 + c + w)
            m = r + c
            for j in range(inner):
                m0, m1 = load(right, m), load(right, m + w)
                v = broadcast(left, x0 + j)
                s00, s01 = fma(v, m0, s00), fma(v, m1, s01)
                v = broadcast(left, x1 + j)
                s10, s11 = fma(v, m0, s10), fma(v, m1, s11)
                v = broadcast(left, x2 + j)
                s20, s21 = fma(v, m0, s20), fma(v, m1, s21)
                v = broadcast(left, x3 + j)
                s30, s31 = fma(v, m0, s30), fma(v, m1, s31)
                m += stride
            store(out, o0 + c, s00)
            store(out, o0 + c + w, s01)
            store(out, o1 + c, s10)
            store(out, o1 + c + w, s11)
            store(out, o2 + c, s20)
            store(out, o2 + c + w, s21)
            store(out, o3 + c, s30)
            store(out, o3 + c + w, s31)
        for c in range(pairs, stride, w):
            s00, s10 = load(add, a0 + c), load(add, a1 + c)
            s20, s30 = load(add, a2 + c), load(add, a3 + c)
            m = r + c
            for j in range(inner):
                m0 = load(right, m)
                s00, s10 = fma(broadcast(left, x0 + j), m0, s00), fma(broadcast(left, x1 + j), m0, s10)
                s20, s30 = fma(broadcast(left, x2 + j), m0, s20), fma(broadcast(left, x3 + j), m0, s30)
                m += stride
            store(out, o0 + c, s00)
            store(out, o1 + c, s10)
            store(out, o2 + c, s20)
            store(out, o3 + c, s30)
    for i in range(whole, rows):
        _product_row(out, o + i * stride, add, a + i * add_stride, left, x + i * left_stride, right, r, inner, stride)


@cached_njit
def transpose(out: Any, out_stride: int, matrix: Any, start: int, rows: int, columns: int, stride: int) -> None:
    """Transpose a matrix (rows, columns)."""
    for i in range(rows):
        for j in range(columns):
            out[j * out_stride + i] = matrix[start + i * stride + j]


@cached_njit
def symmetric_part(out: Any, start: int, matrix: Any, n: int, stride: int) -> None:
    """The mean of a matrix and its transpose."""
    for i in range(n):
        out[start + i * stride + i] = matrix[i * stride + i]
        for j in range(i):
            mean = 0.5 * (matrix[i * stride + j] + matrix[j * stride + i])
            out[start + i * stride + j] = mean
            out[start + j * stride + i] = mean


@cached_njit
def add_noise(cov: Any, start: int, noise: Any, t: int, diagonal: bool, n: int, stride: int) -> None:
    """Add the noise of step `t`; `noise` has variances (steps, n) or covariances (steps, n, n), without padding."""
    if diagonal:
        for i in range(n):
            cov[start + i * stride + i] += noise[t * n + i]
    else:
        for i in range(n):
            for j in range(n):
                cov[start + i * stride + j] += noise[(t * n + i) * n + j]


@cached_njit
def inverse_factor(V: Any, v: int, cov: Any, f: int, U: Any, n: int, stride: int) -> bool:
    """Inverse V of the upper Cholesky factor U of a covariance; returns False if it is not positive definite."""
    for i in range(n):
        for j in range(i, n):
            U[i * stride + j] = cov[f + i * stride + j]
    for k in range(n):
        pivot = U[k * stride + k]
        if not 0.0 < pivot < math.inf:
            return False
        scale = 1 / math.sqrt(pivot)
        for j in range(k, n):
            U[k * stride + j] *= scale
        for i in range(k + 1, n):
            factor = U[k * stride + i]
            for j in range(i, n):
                U[i * stride + j] -= factor * U[k * stride + j]
    for i in range(n - 1, -1, -1):
        row = v + i * stride
        for j in range(stride):
            V[row + j] = 0.0
        V[row + i] = 1.0
        for k in range(i + 1, n):
            factor = U[i * stride + k]
            for j in range(k, n):
                V[row + j] -= factor * V[v + k * stride + j]
        scale = 1 / U[i * stride + i]
        for j in range(i, n):
            V[row + j] *= scale
    return True
