"""Compiled loops over time: covariances and means of one model that serves all sequences, and linear recursions.

Arrays are flat and hold matrices and vectors row by row, each row padded to `stride` numbers, a whole number of the
processor's vectors (`simd.py`). Whatever is in the padding stays there. Imported only where numba is installed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kalmanssl.kalman.compiled import compiled
from kalmanssl.kalman.simd import broadcast, fma, load, store, width

__all__ = ["advance", "congruences", "means", "means_adjoint", "riccati"]


@compiled
def _product(
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
    """`out` = `add` + `left` `right`, each from its place on; an `add_stride` of 0 adds the same row to all.

    Four rows and two vectors of each are summed up in registers at a time, which hides the latency of a sum. `out` may
    be `add`, but not `left`.
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
        x0, a0, o0 = x + i * left_stride, a + i * add_stride, o + i * stride
        for c in range(0, stride, w):
            s00 = load(add, a0 + c)
            s10 = s00 - s00
            m = r + c
            for j in range(0, inner - 1, 2):
                s00 = fma(broadcast(left, x0 + j), load(right, m), s00)
                s10 = fma(broadcast(left, x0 + j + 1), load(right, m + stride), s10)
                m += 2 * stride
            if inner % 2:
                s00 = fma(broadcast(left, x0 + inner - 1), load(right, m), s00)
            store(out, o0 + c, s00 + s10)


@compiled
def _transpose(out: Any, out_stride: int, matrix: Any, start: int, rows: int, columns: int, stride: int) -> None:
    for i in range(rows):
        for j in range(columns):
            out[j * out_stride + i] = matrix[start + i * stride + j]


@compiled
def _symmetric_part(out: Any, start: int, matrix: Any, n: int, stride: int) -> None:
    """The mean of a matrix and its transpose."""
    for i in range(n):
        out[start + i * stride + i] = matrix[i * stride + i]
        for j in range(i):
            mean = 0.5 * (matrix[i * stride + j] + matrix[j * stride + i])
            out[start + i * stride + j] = mean
            out[start + j * stride + i] = mean


@compiled
def advance(
    x: Any, matrices: Any, distinct: int, group: int, size: tuple[int, int, int, int], reverse: bool, part: Any
) -> None:
    """x[t] += M[t] x[t-1], or x[t+1] with `reverse`, in place; the last matrix serves all later steps.

    x (steps, batch, stride);   matrices (distinct, batch / group, n, stride), transposed; `group` sequences share one
    size (steps, batch, n, stride);   part (first, last) sequence
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
            _product(
                x, place, x, place, stride, x, (before * batch + s) * stride, stride, matrices, M, end - s, n, stride
            )
            s = end


@compiled
def congruences(X: Any, G: Any, own: bool, size: tuple[int, int, int, int], reverse: bool, part: Any) -> None:
    """X[t+1] += G[t] X[t] G[t]' in place for t = 0, 1, …; with `reverse` X[t] += G[t] X[t+1] G[t]', from the end on.

    X (steps, batch, n, stride), made symmetric;   G (steps - 1, batch if `own` else 1, n, stride)
    size (steps, batch, n, stride);   part (first, last) sequence
    """
    steps, batch, n, stride = size
    first, last = part
    matrix = n * stride
    half, transposed, zeros = np.empty(matrix, X.dtype), np.zeros(matrix, X.dtype), np.zeros(stride, X.dtype)
    for i in range(steps - 1):
        t = steps - 2 - i if reverse else i
        begin, end = (t + 1, t) if reverse else (t, t + 1)
        for s in range(first, last):
            g = (t * batch + s if own else t) * matrix
            there, here = (begin * batch + s) * matrix, (end * batch + s) * matrix
            _transpose(transposed, stride, G, g, n, n, stride)
            _product(half, 0, zeros, 0, 0, X, there, stride, transposed, 0, n, n, stride)
            _product(X, here, X, here, stride, G, g, stride, half, 0, n, n, stride)
            _symmetric_part(X, here, X[here : here + matrix], n, stride)


@compiled
def means(
    mp: Any,
    mf: Any,
    e: Any,
    alpha: Any,
    log_density: Any,
    b: Any,
    matrices: Any,
    log_det: Any,
    known: tuple[int, int, int, int],
    size: tuple[int, int, int, int, int, int],
    own_b: bool,
    part: Any,
) -> None:
    """Means of the filter for the sequences from part[0] to part[1]; e holds y and is overwritten, mp begins with m0.

    mp, mf (steps, batch, ns);   e, alpha = F^-1 e (steps, batch, ms);   log_density (steps, batch)
    matrices : A', -C', K', V, V';   known : how many steps there are of A, C, K and V, b;   log_det of V's diagonal
    size : steps, batch, n, m, and the strides ns, ms of state and observation
    """
    A, minus_C, K, V, V_transposed = matrices
    steps, batch, n, m, ns, ms = size
    first, last = part
    count = last - first
    white, zeros = np.zeros(count * ms, e.dtype), np.zeros(ms, e.dtype)
    for t in range(steps):
        x, s = (t * batch + first) * ns, (t * batch + first) * ms
        k = min(t, known[2] - 1)
        if t > 0:
            place, stride = (min(t, known[3] - 1) * batch + first) * ns, ns
            if not own_b:
                place, stride = min(t, known[3] - 1) * ns, 0
            a = min(t, known[0] - 1) * n * ns
            _product(mp, x, b, place, stride, mf, x - batch * ns, ns, A, a, count, n, ns)
        _product(e, s, e, s, ms, mp, x, ns, minus_C, min(t, known[1] - 1) * n * ms, count, n, ms)
        _product(mf, x, mp, x, ns, e, s, ms, K, k * m * ns, count, m, ns)
        _product(white, 0, zeros, 0, 0, e, s, ms, V, k * m * ms, count, m, ms)
        _product(alpha, s, zeros, 0, 0, white, 0, ms, V_transposed, k * m * ms, count, m, ms)
        for i in range(count):
            total = white[0] - white[0]
            for j in range(m):
                total += white[i * ms + j] * white[i * ms + j]
            log_density[t * batch + first + i] = log_det[k] - 0.5 * total


@compiled
def means_adjoint(
    to_mp: Any,
    to_mf: Any,
    to_e: Any,
    matrices: Any,
    known: tuple[int, int, int],
    size: tuple[int, int, int, int, int, int],
    given: tuple[bool, bool],
    part: Any,
) -> None:
    """Derivatives of means; what comes from outside is overwritten: `given` says if that of mp, of mf is not zero.

    matrices : A, -C, K;   known : how many steps of them there are;   otherwise as in `means`
    """
    A, minus_C, K = matrices
    steps, batch, n, m, ns, ms = size
    first, last = part
    count = last - first
    for i in range(steps):
        t = steps - 1 - i
        x, s = (t * batch + first) * ns, (t * batch + first) * ms
        if not given[1]:
            to_mf[x : x + count * ns] = 0
        if i > 0:
            a = min(t + 1, known[0] - 1) * n * ns
            _product(to_mf, x, to_mf, x, ns, to_mp, x + batch * ns, ns, A, a, count, n, ns)
        _product(to_e, s, to_e, s, ms, to_mf, x, ns, K, min(t, known[2] - 1) * n * ms, count, n, ms)
        c = min(t, known[1] - 1) * m * ns
        if given[0]:
            for j in range(x, x + count * ns):
                to_mp[j] += to_mf[j]
            _product(to_mp, x, to_mp, x, ns, to_e, s, ms, minus_C, c, count, m, ns)
        else:
            _product(to_mp, x, to_mf, x, ns, to_e, s, ms, minus_C, c, count, m, ns)


@compiled
def _add_noise(cov: Any, start: int, noise: Any, t: int, diagonal: bool, n: int, stride: int) -> None:
    if diagonal:
        for i in range(n):
            cov[start + i * stride + i] += noise[t * n + i]
    else:
        for i in range(n):
            for j in range(n):
                cov[start + i * stride + j] += noise[(t * n + i) * n + j]


@compiled
def _inverse_factor(V: Any, v: int, cov: Any, f: int, U: Any, n: int, stride: int) -> bool:
    """Inverse V of the upper Cholesky factor U of a covariance; False if it is not positive definite."""
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


@compiled
def _has_settled(cov: Any, before: int, now: int, n: int, stride: int, tolerance: float) -> bool:
    for i in range(n):
        for j in range(i + 1):
            sizes = math.sqrt(cov[now + i * stride + i] * cov[now + j * stride + j])
            if not abs(cov[now + i * stride + j] - cov[before + i * stride + j]) <= tolerance * sizes:
                return False
    return True


@compiled
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
    """Covariances of steps `first`, ..., `first` + `count` - 1, or until they settle where `tolerance` is above 0.

    start : the filtered covariance before `first`, or the first predicted one, (n, stride)
    model : A, A', -C, C', Q, R;   periods : how many steps of A, C, Q, R there are, 1 or all
    size : n, m, and their strides;   out : predicted and filtered covariance, gain K, innovation covariance F, V
    Returns the number of steps done; less than 0 if a covariance is not positive definite.
    """
    A, A_transposed, minus_C, C_transposed, Q, R = model
    Pp, Pf, K, F, V = out
    n, m, ns, ms = size
    number = Pp.dtype
    zeros, eye = np.zeros(max(ns, ms), number), np.zeros(n * ns, number)
    for i in range(n):
        eye[i * ns + i] = 1.0
    one, two, keep_transposed = np.zeros(n * ns, number), np.zeros(n * ns, number), np.zeros(n * ns, number)
    keep, N, NV, KR = np.zeros(n * ns, number), np.zeros(n * ms, number), np.zeros(n * ms, number), K[:0]
    KR = np.zeros(n * ms, number)
    square, U, V_transposed = np.zeros(m * ms, number), np.zeros(m * ms, number), np.zeros(m * ms, number)
    K_transposed, C = np.zeros(m * ns, number), np.zeros(m * ns, number)
    for i in range(count):
        t = first + i
        a, c = min(t, periods[0] - 1) * n * ns, min(t, periods[1] - 1)
        q, r = min(t, periods[2] - 1), min(t, periods[3] - 1)
        p, k, f = i * n * ns, i * n * ms, i * m * ms
        if t == 0:
            Pp[p : p + n * ns] = start
        else:
            if i == 0:
                _product(one, 0, zeros, 0, 0, A, a, ns, start, 0, n, n, ns)
            else:
                _product(one, 0, zeros, 0, 0, A, a, ns, Pf, p - n * ns, n, n, ns)
            _product(two, 0, zeros, 0, 0, one, 0, ns, A_transposed, a, n, n, ns)
            _symmetric_part(Pp, p, two, n, ns)
            _add_noise(Pp, p, Q, q, diagonal[0], n, ns)
        if i == 0 or periods[1] > 1:
            for j in range(m * ns):
                C[j] = -minus_C[c * m * ns + j]
        _product(N, 0, zeros, 0, 0, Pp, p, ns, C_transposed, c * n * ms, n, n, ms)
        _product(square, 0, zeros, 0, 0, C, 0, ns, N, 0, m, n, ms)
        _symmetric_part(F, f, square, m, ms)
        _add_noise(F, f, R, r, diagonal[1], m, ms)
        if not _inverse_factor(V, f, F, f, U, m, ms):
            return -1
        _transpose(V_transposed, ms, V, f, m, m, ms)
        _product(NV, 0, zeros, 0, 0, N, 0, ms, V, f, n, m, ms)
        _product(K, k, zeros, 0, 0, NV, 0, ms, V_transposed, 0, n, m, ms)
        _product(keep, 0, eye, 0, ns, K, k, ms, minus_C, c * m * ns, n, m, ns)
        _transpose(keep_transposed, ns, keep, 0, n, n, ns)
        _product(one, 0, zeros, 0, 0, keep, 0, ns, Pp, p, n, n, ns)
        _product(two, 0, zeros, 0, 0, one, 0, ns, keep_transposed, 0, n, n, ns)
        if diagonal[1]:
            for i_ in range(n):
                for j in range(m):
                    KR[i_ * ms + j] = K[k + i_ * ms + j] * R[r * m + j]
        else:
            for i_ in range(n):
                for j in range(m):
                    total = 0.0
                    for l_ in range(m):
                        total += K[k + i_ * ms + l_] * R[(r * m + l_) * m + j]
                    KR[i_ * ms + j] = total
        _transpose(K_transposed, ns, K, k, n, m, ms)
        _product(one, 0, two, 0, ns, KR, 0, ms, K_transposed, 0, n, m, ns)
        _symmetric_part(Pf, p, one, n, ns)
        if tolerance > 0 and i > 0 and _has_settled(Pp, p - n * ns, p, n, ns, tolerance):
            return i + 1
    return count
