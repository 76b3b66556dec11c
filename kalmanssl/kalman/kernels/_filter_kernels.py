"""The filter of models whose covariances differ between sequences, and its adjoint, as one compiled loop each.

One piece of code serves two ways of filling the processor's vectors:

* **lanes**: a vector holds the same number of several sequences. Any small state fills the processor.
* **rows**: a vector holds neighboring columns of a matrix of one sequence. For few sequences or large states.

What differs is only what "the element (i, k)" of a matrix is, to be multiplied with a vector: in lanes a vector again,
in rows one number in every place (`_element`). Matrices are flat arrays of rows of `nc` vectors; in scratch memory they
are filled up so that products need no remainder loops.

Channels are absorbed one at a time, which needs no factorization: with h the row of C, g = P h, s = h'g + r, k = g / s,
the mean moves by k (y - h'm) and the covariance by -k g'. The adjoint runs through the same steps backward; with S and
λ the derivatives with respect to P and m after a channel, α = e / s, κ = k'λ and w that of the log-density:

    to r    k'S k - κ α + w (α² - 1/s) / 2 =: c - κ α            to y    κ - w α
    to h    P (α λ - 2 S k) + (w α - κ) m - w k                  (P, m after the channel)
    to m    v + w α h            with v = λ - κ h
    to P    S + h z' + z h'      with z = (α v + c h) / 2 - S k

References: Särkkä & Svensson, Bayesian Filtering and Smoothing (2nd ed., 2023), Section 6.3; sequential processing:
Anderson & Moore, Optimal Filtering (1979), Section 6.4. The adjoint is derived here and tested by finite differences.
"""

from __future__ import annotations

import numpy as np

from kalmanssl.kalman.kernels._jit import compiled, inlined
from kalmanssl.kalman.kernels._simd import (
    add_up,
    broadcast,
    choose_positive,
    filled,
    fma,
    load,
    store,
    store_first,
    width,
)

__all__ = ["backward_lanes", "backward_rows", "forward_lanes", "forward_rows"]

# Steps of the adjoint after which rounding is kept from adding up to asymmetry.
_SYMMETRIZE_EVERY = 8
# Steps over which derivatives are summed up in the precision of the kernel before they are added in float64.
_FLUSH_EVERY = 64


@inlined
def _at(place, block, t):
    """Where step t of a block begins."""
    return block * place[0] + t * place[1]


@inlined
def _element(lanes, array, start, unit, k):
    """Element k of what begins at `start`, as a vector."""
    if lanes:
        return load(array, start + k * unit)
    return broadcast(array, start + k)


@inlined
def _total(lanes, value):
    """What is left to sum of a product of vectors of the state."""
    if lanes:
        return value
    return add_up(value)


@inlined
def _smaller(a, b):
    """The smaller of two; NaN in b stays."""
    return choose_positive(b - a, a, b)


@inlined
def _put_element(lanes, array, index, value):
    if lanes:
        store(array, index, value)
    else:
        store_first(array, index, value)


@inlined
def _times_tile(lanes, out, X, Y, i, c, nc, n):
    """Rows i to i+3 and vectors c, c+1 of X Y; what is added to stays in registers."""
    w = width(X)
    zero = filled(X, 0.0)
    a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    row = nc * w
    start = i * row
    for k in range(n):
        y0, y1 = load(Y, k * row + c * w), load(Y, k * row + c * w + w)
        x = _element(lanes, X, start, w, k)
        a0, a1 = fma(x, y0, a0), fma(x, y1, a1)
        x = _element(lanes, X, start + row, w, k)
        b0, b1 = fma(x, y0, b0), fma(x, y1, b1)
        x = _element(lanes, X, start + 2 * row, w, k)
        c0, c1 = fma(x, y0, c0), fma(x, y1, c1)
        x = _element(lanes, X, start + 3 * row, w, k)
        d0, d1 = fma(x, y0, d0), fma(x, y1, d1)
    place = start + c * w
    store(out, place, a0)
    store(out, place + w, a1)
    store(out, place + row, b0)
    store(out, place + row + w, b1)
    store(out, place + 2 * row, c0)
    store(out, place + 2 * row + w, c1)
    store(out, place + 3 * row, d0)
    store(out, place + 3 * row + w, d1)


@inlined
def _times(lanes, out, X, Y, nr, nc, n):
    """The product X Y in scratch memory."""
    for i in range(0, nr, 4):
        for c in range(0, nc, 2):
            _times_tile(lanes, out, X, Y, i, c, nc, n)


@inlined
def _times_symmetric(lanes, out, X, Y, nr, nc, n):
    """The product X Y in scratch memory, known to be symmetric up to rounding."""
    if lanes:
        w = width(X)
        for i in range(0, nr, 4):
            for c in range(0, min(i + 4, nc), 2):
                _times_tile(lanes, out, X, Y, i, c, nc, n)
        for i in range(n):
            for j in range(i):
                store(out, (j * nc + i) * w, load(out, (i * nc + j) * w))
    else:
        _times(lanes, out, X, Y, nr, nc, n)


@inlined
def _symmetrize(lanes, X, nc, n):
    """The symmetric part of a matrix in scratch memory: rounding must not add up to asymmetry over time."""
    w = width(X)
    row = nc * w
    half = filled(X, 0.5)
    for i in range(n):
        for j in range(i):
            if lanes:
                here, there = i * row + j * w, j * row + i * w
                mean = half * (load(X, here) + load(X, there))
                store(X, here, mean)
                store(X, there, mean)
            else:
                number = (X[i * row + j] + X[j * row + i]) / 2
                X[i * row + j] = number
                X[j * row + i] = number


@inlined
def _times_vector(lanes, out, X, vector, start, unit, nc, cg, n):
    """The product X' v in scratch memory, v being any vector of n elements that begins at `start`."""
    w = width(X)
    row = nc * w
    for c in range(0, cg, 2):
        zero = filled(X, 0.0)
        a0, a1, b0, b1 = zero, zero, zero, zero
        place = c * w
        for k in range(0, n - 1, 2):
            x = _element(lanes, vector, start, unit, k)
            a0, a1 = fma(x, load(X, place), a0), fma(x, load(X, place + w), a1)
            x = _element(lanes, vector, start, unit, k + 1)
            b0, b1 = fma(x, load(X, place + row), b0), fma(x, load(X, place + row + w), b1)
            place += 2 * row
        if n % 2:
            x = _element(lanes, vector, start, unit, n - 1)
            a0, a1 = fma(x, load(X, place), a0), fma(x, load(X, place + w), a1)
        store(out, c * w, a0 + b0)
        store(out, c * w + w, a1 + b1)


@inlined
def _fetch(out, source, start, unit, rows, nc, cg):
    """Copy a matrix into scratch memory."""
    w = width(out)
    for i in range(rows):
        for c in range(cg):
            store(out, (i * nc + c) * w, load(source, start + (i * cg + c) * unit))


@inlined
def _keep(out, start, unit, source, rows, nc, cg):
    """Copy a matrix out of scratch memory."""
    w = width(out)
    for i in range(rows):
        for c in range(cg):
            store(out, start + (i * cg + c) * unit, load(source, (i * nc + c) * w))


@inlined
def _add(out, source, start, unit, rows, nc, cg):
    """Add a matrix to one in scratch memory."""
    w = width(out)
    for i in range(rows):
        for c in range(cg):
            place = (i * nc + c) * w
            store(out, place, load(out, place) + load(source, start + (i * cg + c) * unit))


@inlined
def _transpose(lanes, out, X, nc, n):
    w = width(X)
    for i in range(n):
        for j in range(n):
            if lanes:
                store(out, (j * nc + i) * w, load(X, (i * nc + j) * w))
            else:
                out[j * nc * w + i] = X[i * nc * w + j]


@inlined
def _add_to_diagonal(lanes, X, source, start, unit, nc, n):
    w = width(X)
    for i in range(n):
        if lanes:
            place = (i * nc + i) * w
            store(X, place, load(X, place) + load(source, start + i * unit))
        else:
            X[i * nc * w + i] += source[start + i]


@inlined
def _flush(total, start, unit, part, rows, nc, cg):
    """Add what was summed up in scratch memory to a total in float64, and begin again."""
    w = width(part)
    for i in range(rows):
        for c in range(cg):
            place = (i * nc + c) * w
            for x in range(w):
                total[start + (i * cg + c) * unit + x] += part[place + x]
                part[place + x] = 0.0


@inlined
def _scratch_shape(n, cg):
    """Rows and vectors a row of matrices in scratch memory."""
    nc = cg + cg % 2
    return (n + 3) // 4 * 4, nc


@inlined
def _add_products(lanes, total, S, P, product, lam, mean, start, unit, nr, nc, cg, n):
    """Add 2 S P + λ m' to a matrix in scratch memory."""
    w = width(S)
    two = filled(S, 2.0)
    _times(lanes, product, S, P, nr, nc, n)
    for i in range(n):
        x = _element(lanes, lam, 0, w, i)
        for c in range(cg):
            place = (i * nc + c) * w
            part = fma(x, load(mean, start + c * unit), load(total, place))
            store(total, place, fma(two, load(product, place), part))


@inlined
def _forward(lanes, first, last, sizes, inputs, places, outputs, to):
    """Filter blocks first, …, last - 1: `inputs` are found at `places`, `outputs` go to `to`; see `fused.py`."""
    steps, n, m, cg, unit, full_Q = sizes
    y, R, A, b, Q, C, m0, P0 = inputs
    mf, Pf, K, E, V, W = outputs
    at_y, at_R, at_A, at_b, at_Q, at_C, at_m0, at_P0 = (
        places[0],
        places[1],
        places[2],
        places[3],
        places[4],
        places[5],
        places[6],
        places[7],
    )
    to_mf, to_Pf, to_K, to_E, to_V, to_W = to[0], to[1], to[2], to[3], to[4], to[5]
    nr, nc = _scratch_shape(n, cg)
    w = width(y)
    ue = unit if lanes else 1
    P, T, X, Xt = (
        np.zeros(nr * nc * w, y.dtype),
        np.zeros(nr * nc * w, y.dtype),
        np.zeros(nr * nc * w, y.dtype),
        np.zeros(nr * nc * w, y.dtype),
    )
    H = np.zeros(m * nc * w, y.dtype)
    mean, g, offset = np.zeros(nc * w, y.dtype), np.zeros(nc * w, y.dtype), np.zeros(nc * w, y.dtype)
    one, zero = filled(y, 1.0), filled(y, 0.0)
    for block in range(first, last):
        least_variance, variance_share, least_spread, noise_share = filled(y, np.inf), one, filled(y, np.inf), one
        _fetch(P, P0, _at(at_P0, block, 0), unit, n, nc, cg)
        _fetch(mean, m0, _at(at_m0, block, 0), unit, 1, nc, cg)
        for t in range(steps):
            if t == 0 or at_C[1] > 0:
                _fetch(H, C, _at(at_C, block, t), unit, m, nc, cg)
            if t == 1 or (t > 1 and at_A[1] > 0):
                _fetch(X, A, _at(at_A, block, t), unit, n, nc, cg)
                _transpose(lanes, Xt, X, nc, n)
            if t > 0:
                _times(lanes, T, X, P, nr, nc, n)
                _times_symmetric(lanes, P, T, Xt, nr, nc, n)
                start = _at(at_Q, block, t)
                if full_Q:
                    _add(P, Q, start, unit, n, nc, cg)
                else:
                    _add_to_diagonal(lanes, P, Q, start, unit, nc, n)
                _times_vector(lanes, offset, Xt, mean, 0, w, nc, cg, n)
                _fetch(mean, b, _at(at_b, block, t), unit, 1, nc, cg)
                for c in range(cg):
                    store(mean, c * w, load(mean, c * w) + load(offset, c * w))
            for j in range(m):
                h = j * nc * w
                _times_vector(lanes, g, P, H, h, w, nc, cg, n)
                spread, seen = zero, zero
                for c in range(cg):
                    hc = load(H, h + c * w)
                    spread = fma(hc, load(g, c * w), spread)
                    seen = fma(hc, load(mean, c * w), seen)
                r = _element(lanes, R, _at(at_R, block, t), ue, j)
                value = _element(lanes, y, _at(at_y, block, t), ue, j)
                # A negative r marks a missing channel: its gain is 0, and nothing comes of it.
                spread = _total(lanes, spread) + choose_positive(r, r, one)
                inverse = choose_positive(r, one / spread, zero)
                least_spread = _smaller(least_spread, spread)
                noise_share = _smaller(noise_share, choose_positive(r, r * inverse, one))
                error = value - _total(lanes, seen)
                _put_element(lanes, E, _at(to_E, block, t) + j * ue, error)
                _put_element(lanes, V, _at(to_V, block, t) + j * ue, inverse)
                place = _at(to_K, block, t) + j * cg * unit
                for c in range(cg):
                    gain = load(g, c * w) * inverse
                    store(K, place + c * unit, gain)
                    store(mean, c * w, fma(gain, error, load(mean, c * w)))
                for i in range(n):
                    x = zero - _element(lanes, g, 0, w, i)
                    row = i * nc * w
                    for c in range(cg):
                        store(P, row + c * w, fma(x, load(K, place + c * unit), load(P, row + c * w)))
            _symmetrize(lanes, P, nc, n)
            low = high = _element(lanes, P, 0, w, 0)
            for i in range(1, n):
                x = _element(lanes, P, i * nc * w, w, i)
                low, high = _smaller(low, x), choose_positive(high - x, high, x)
            least_variance = _smaller(least_variance, low)
            variance_share = _smaller(variance_share, low / high)
            _keep(mf, _at(to_mf, block, t), unit, mean, 1, nc, cg)
            _keep(Pf, _at(to_Pf, block, t), unit, P, n, nc, cg)
        _put_element(lanes, W, _at(to_W, block, 0), least_variance)
        _put_element(lanes, W, _at(to_W, block, 0) + ue, variance_share)
        _put_element(lanes, W, _at(to_W, block, 0) + 2 * ue, least_spread)
        _put_element(lanes, W, _at(to_W, block, 0) + 3 * ue, noise_share)


@inlined
def _backward(lanes, first, last, sizes, needs, inputs, places, per_step, to, totals, into):
    """The adjoint of `_forward`; `per_step` derivatives go to `to`, `totals` in float64 are added up at `into`."""
    steps, n, m, cg, unit, full_Q = sizes
    with_mf, with_Pf, need_A, need_C = needs
    mf, Pf, K, E, V, A, C, g_ll, g_mf, g_Pf = inputs
    to_y, to_R = per_step
    to_A, to_b, to_Q, to_C, to_m0, to_P0 = totals
    at_mf, at_Pf, at_K, at_E, at_V, at_A, at_C, at_g_ll, at_g_mf, at_g_Pf = (
        places[0],
        places[1],
        places[2],
        places[3],
        places[4],
        places[5],
        places[6],
        places[7],
        places[8],
        places[9],
    )
    at_step = to[0]
    into_A, into_b, into_Q, into_C, into_m0, into_P0 = into[0], into[1], into[2], into[3], into[4], into[5]
    nr, nc = _scratch_shape(n, cg)
    w = width(E)
    ue = unit if lanes else 1
    size = nr * nc * w
    S, T, X, Xt, P, product = (
        np.zeros(size, E.dtype),
        np.zeros(size, E.dtype),
        np.zeros(size, E.dtype),
        np.zeros(size, E.dtype),
        np.zeros(size, E.dtype),
        np.zeros(size, E.dtype),
    )
    sum_A, sum_Q = np.zeros(size, E.dtype), np.zeros(size if full_Q else nc * w, E.dtype)
    H, sum_C = np.zeros(m * nc * w, E.dtype), np.zeros(m * nc * w, E.dtype)
    sum_b, lam, sk, z, u, mean = (
        np.zeros(nc * w, E.dtype),
        np.zeros(nc * w, E.dtype),
        np.zeros(nc * w, E.dtype),
        np.zeros(nc * w, E.dtype),
        np.zeros(nc * w, E.dtype),
        np.zeros(nc * w, E.dtype),
    )
    zero, half, two = filled(E, 0.0), filled(E, 0.5), filled(E, 2.0)
    one = filled(E, 1.0)
    for block in range(first, last):
        S[:] = 0.0
        lam[:] = 0.0
        for t in range(steps - 1, -1, -1):
            if t == steps - 1 or at_C[1] > 0:
                _fetch(H, C, _at(at_C, block, t), unit, m, nc, cg)
            if t == steps - 1 or at_A[1] > 0:
                _fetch(X, A, _at(at_A, block, t), unit, n, nc, cg)
                _transpose(lanes, Xt, X, nc, n)
            if with_mf:
                _add(lam, g_mf, _at(at_g_mf, block, t), unit, 1, nc, cg)
            if with_Pf:
                _add(S, g_Pf, _at(at_g_Pf, block, t), unit, n, nc, cg)
            if need_C:
                _fetch(mean, mf, _at(at_mf, block, t), unit, 1, nc, cg)
                if t == steps - 1 or not need_A:
                    _fetch(P, Pf, _at(at_Pf, block, t), unit, n, nc, cg)
            weight = _element(lanes, g_ll, _at(at_g_ll, block, t), ue, 0)
            for j in range(m - 1, -1, -1):
                h = j * nc * w
                k = _at(at_K, block, t) + j * cg * unit
                _times_vector(lanes, sk, S, K, k, unit, nc, cg, n)
                kl, ksk = zero, zero
                for c in range(cg):
                    kc = load(K, k + c * unit)
                    kl = fma(kc, load(lam, c * w), kl)
                    ksk = fma(kc, load(sk, c * w), ksk)
                kl, ksk = _total(lanes, kl), _total(lanes, ksk)
                error = _element(lanes, E, _at(at_E, block, t), ue, j)
                inverse = _element(lanes, V, _at(at_V, block, t), ue, j)
                alpha = error * inverse
                c_r = fma(half * weight, fma(alpha, alpha, zero - inverse), ksk)
                place = _at(at_step, block, t) + j * ue
                _put_element(lanes, to_y, place, kl - weight * alpha)
                _put_element(lanes, to_R, place, c_r - kl * alpha)
                if need_C:
                    for c in range(cg):
                        store(u, c * w, fma(alpha, load(lam, c * w), zero - two * load(sk, c * w)))
                    _times_vector(lanes, z, P, u, 0, w, nc, cg, n)
                    for c in range(cg):
                        kc, mc = load(K, k + c * unit), load(mean, c * w)
                        part = fma(weight * alpha - kl, mc, load(z, c * w)) - weight * kc
                        store(sum_C, h + c * w, load(sum_C, h + c * w) + part)
                        store(mean, c * w, mc - kc * error)
                    variance = choose_positive(zero - inverse, zero, one / inverse)
                    for i in range(n):
                        x = variance * _element(lanes, K, k, unit, i)
                        row = i * nc * w
                        for c in range(cg):
                            store(P, row + c * w, fma(x, load(K, k + c * unit), load(P, row + c * w)))
                for c in range(cg):
                    hc = load(H, h + c * w)
                    v = load(lam, c * w) - kl * hc
                    store(z, c * w, half * fma(alpha, v, c_r * hc) - load(sk, c * w))
                    store(lam, c * w, fma(weight * alpha, hc, v))
                for i in range(n):
                    x, x_h = _element(lanes, z, 0, w, i), _element(lanes, H, h, w, i)
                    row = i * nc * w
                    for c in range(cg):
                        part = fma(x, load(H, h + c * w), load(S, row + c * w))
                        store(S, row + c * w, fma(x_h, load(z, c * w), part))
            if need_C and (at_C[1] > 0 or t % _FLUSH_EVERY == 0):
                _flush(to_C, _at(into_C, block, t), unit, sum_C, m, nc, cg)
            if t == 0:
                _flush(to_m0, _at(into_m0, block, 0), unit, lam, 1, nc, cg)
                _flush(to_P0, _at(into_P0, block, 0), unit, S, n, nc, cg)
                continue
            for c in range(cg):
                store(sum_b, c * w, load(sum_b, c * w) + load(lam, c * w))
            if full_Q:
                _add(sum_Q, S, 0, w, n, nc, nc)
            else:
                for i in range(n):
                    if lanes:
                        store(sum_Q, i * w, load(sum_Q, i * w) + load(S, (i * nc + i) * w))
                    else:
                        sum_Q[i] += S[i * nc * w + i]
            _times(lanes, T, S, X, nr, nc, n)
            _times_symmetric(lanes, S, Xt, T, nr, nc, n)
            if t % _SYMMETRIZE_EVERY == 0:
                _symmetrize(lanes, S, nc, n)
            if need_A:
                _fetch(P, Pf, _at(at_Pf, block, t - 1), unit, n, nc, cg)
                _add_products(
                    lanes,
                    sum_A,
                    T,
                    P,
                    product,
                    lam,
                    mf,
                    _at(at_mf, block, t - 1),
                    unit,
                    nr,
                    nc,
                    cg,
                    n,
                )
            _times_vector(lanes, u, X, lam, 0, w, nc, cg, n)
            _keep(lam, 0, w, u, 1, nc, cg)
            end = t == 1 or t % _FLUSH_EVERY == 0
            if need_A and (end or into_A[1] > 0):
                _flush(to_A, _at(into_A, block, t), unit, sum_A, n, nc, cg)
            if end or into_b[1] > 0:
                _flush(to_b, _at(into_b, block, t), unit, sum_b, 1, nc, cg)
            if end or into_Q[1] > 0:
                _flush(to_Q, _at(into_Q, block, t), unit, sum_Q, n if full_Q else 1, nc, cg)


@compiled
def forward_lanes(first, last, sizes, inputs, places, outputs, to):
    """`_forward` with vectors of sequences."""
    _forward(True, first, last, sizes, inputs, places, outputs, to)


@compiled
def forward_rows(first, last, sizes, inputs, places, outputs, to):
    """`_forward` with vectors of columns."""
    _forward(False, first, last, sizes, inputs, places, outputs, to)


@compiled
def backward_lanes(first, last, sizes, needs, inputs, places, per_step, to, totals, into):
    """`_backward` with vectors of sequences."""
    _backward(True, first, last, sizes, needs, inputs, places, per_step, to, totals, into)


@compiled
def backward_rows(first, last, sizes, needs, inputs, places, per_step, to, totals, into):
    """`_backward` with vectors of columns."""
    _backward(False, first, last, sizes, needs, inputs, places, per_step, to, totals, into)
