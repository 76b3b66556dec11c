"""The adjoint of the filter as one compiled loop: the derivatives of `_filter_kernels.py`.

It goes through the same steps backward. Let S and λ be the derivatives of the loss with respect to P and m after a
channel, w that with respect to the log-density, e the innovation, s its variance, k the gain, α = e / s and κ = k' λ.
Then the derivatives before the channel are::

    r    k' S k - κ α + w (α² - 1/s) / 2 =: c_r - κ α
    y    κ - w α
    h    P (α λ - 2 S k) + (w α - κ) m - w k                with P and m after the channel
    m    v + w α h                                          with v = λ - κ h
    P    S + h z' + z h'                                    with z = (α v + c_r h) / 2 - S k

The derivation is our own; the tests compare it with finite differences.

Names, besides those in `_tile_kernels.py` and `_filter_kernels.py`:

=======================  ===============================================================================================
``g_ll, g_mf, g_Pf``     derivatives that autograd passes in, for the log-density and the filtered moments
``d_X``                  derivative with respect to X: the results
``S``, ``lam``           derivatives with respect to P and the mean at the current step and channel
``Sk``                   S k
``kappa``, ``kSk``       k' λ and k' S k
``weight``               w, the derivative with respect to the log-density of the current step
``z``, ``u``             scratch vectors: z of the formulas, and α λ - 2 S k
``sum_X``                derivative with respect to X, summed over a few steps in the precision of the kernel
=======================  ===============================================================================================
"""

from __future__ import annotations

from kalmanssl.kalman.kernels._jit import cached_njit, inline_allocating_njit, inline_njit
from kalmanssl.kalman.kernels._simd import choose_positive, filled, fma, load, store, wide, width
from kalmanssl.kalman.kernels._tile_kernels import (
    add,
    element,
    flush,
    matrix_product,
    offset,
    padded_shape,
    read,
    scratch,
    store_element,
    sum_positions,
    symmetric_product,
    symmetrize,
    transpose,
    transposed_times_vector,
    write,
)

__all__ = ["backward_batch_vectorized", "backward_batch_wide", "backward_state_vectorized", "backward_wide"]

# Steps after which S is symmetrized, so that asymmetry from rounding does not accumulate.
_SYMMETRIZE_EVERY = 8
# Steps over which derivatives are summed in the precision of the kernel before they are added in float64.
_FLUSH_EVERY = 64


@inline_njit
def _gain_products(over_batch, Sk, S, lam, K, k, dims):
    """S k into `Sk`, and the sums k' λ and k' S k."""
    n, nv, _, pv, vstride = dims
    w = width(S)
    transposed_times_vector(over_batch, Sk, S, K, k, vstride, pv, nv, n)
    kappa, kSk = filled(S, 0.0), filled(S, 0.0)
    for c in range(nv):
        kc = load(K, k + c * vstride)
        kappa = fma(kc, load(lam, c * w), kappa)
        kSk = fma(kc, load(Sk, c * w), kSk)
    return sum_positions(over_batch, kappa), sum_positions(over_batch, kSk)


@inline_njit
def _add_to_C(over_batch, sum_C, h, P, mean, z, u, lam, Sk, K, k, innovation, inverse, weight, kappa, dims):
    """Add the derivative with respect to h to `sum_C`, and turn P and the mean into those before the channel."""
    n, nv, _, pv, vstride = dims
    w = width(P)
    zero, one, two = filled(P, 0.0), filled(P, 1.0), filled(P, 2.0)
    alpha = innovation * inverse
    for c in range(nv):
        store(u, c * w, fma(alpha, load(lam, c * w), zero - two * load(Sk, c * w)))
    transposed_times_vector(over_batch, z, P, u, 0, w, pv, nv, n)
    for c in range(nv):
        kc, mc = load(K, k + c * vstride), load(mean, c * w)
        part = fma(weight * alpha - kappa, mc, load(z, c * w)) - weight * kc
        store(sum_C, h + c * w, load(sum_C, h + c * w) + part)
        store(mean, c * w, mc - kc * innovation)
    s = choose_positive(zero - inverse, zero, one / inverse)  # 0 if the channel is missing
    for i in range(n):
        x = s * element(over_batch, K, k, vstride, i)
        row = i * pv * w
        for c in range(nv):
            store(P, row + c * w, fma(x, load(K, k + c * vstride), load(P, row + c * w)))


@inline_njit
def _propagate_channel(over_batch, S, lam, z, Sk, H, h, alpha, weight, kappa, c_r, dims):
    """Turn S and λ after a channel into those before it."""
    n, nv, _, pv, _ = dims
    w = width(S)
    half = filled(S, 0.5)
    for c in range(nv):
        hc = load(H, h + c * w)
        v = load(lam, c * w) - kappa * hc
        store(z, c * w, half * fma(alpha, v, c_r * hc) - load(Sk, c * w))
        store(lam, c * w, fma(weight * alpha, hc, v))
    for i in range(n):
        z_i, h_i = element(over_batch, z, 0, w, i), element(over_batch, H, h, w, i)
        row = i * pv * w
        for c in range(nv):
            part = fma(z_i, load(H, h + c * w), load(S, row + c * w))
            store(S, row + c * w, fma(h_i, load(z, c * w), part))


@inline_njit
def _add_noise_and_offset(over_batch, sum_b, sum_Q, S, lam, full_Q, dims):
    """Add λ to the sum for b, and S to that for Q."""
    n, nv, _, pv, _ = dims
    w = width(S)
    for c in range(nv):
        store(sum_b, c * w, load(sum_b, c * w) + load(lam, c * w))
    if full_Q:
        add(sum_Q, S, 0, w, n, pv, pv)
    else:
        for i in range(n):
            if over_batch:
                store(sum_Q, i * w, load(sum_Q, i * w) + load(S, (i * pv + i) * w))
            else:
                sum_Q[i] += S[i * pv * w + i]


@inline_njit
def _propagate_transition(over_batch, S, SX, X, Xt, t, dims):
    """Replace S by X' S X, which leads to the step before; S X stays in `SX`."""
    n, _, pr, pv, _ = dims
    matrix_product(over_batch, SX, S, X, pr, pv, n)
    symmetric_product(over_batch, S, Xt, SX, pr, pv, n)
    if t % _SYMMETRIZE_EVERY == 0:
        symmetrize(over_batch, S, pv, n)


@inline_njit
def _add_to_A(over_batch, sum_A, SX, P, product, lam, mf, start, dims):
    """Add 2 S X P + λ m' to the sum for A, with P and m (at `start`) filtered one step before."""
    n, nv, pr, pv, vstride = dims
    w = width(P)
    two = filled(P, 2.0)
    matrix_product(over_batch, product, SX, P, pr, pv, n)
    for i in range(n):
        x = element(over_batch, lam, 0, w, i)
        for c in range(nv):
            place = (i * pv + c) * w
            part = fma(x, load(mf, start + c * vstride), load(sum_A, place))
            store(sum_A, place, fma(two, load(product, place), part))


@inline_njit
def _update_adjoint(
    over_batch, S, lam, P, mean, H, sum_C, need_C, vectors, K, k_start, E, V, d_y, d_R, place, weight, m, dims
):
    """The adjoint of the update by all channels of a step; `place` is where its first channel is in E, V, d_y, d_R."""
    _, nv, _, pv, vstride = dims
    Sk, z, u = vectors
    w = width(S)
    zero, half = filled(S, 0.0), filled(S, 0.5)
    estride = vstride if over_batch else 1
    for j in range(m - 1, -1, -1):
        h, k = j * pv * w, k_start + j * nv * vstride
        innovation = element(over_batch, E, place, estride, j)
        inverse = element(over_batch, V, place, estride, j)
        alpha = innovation * inverse
        kappa, kSk = _gain_products(over_batch, Sk, S, lam, K, k, dims)
        c_r = fma(half * weight, fma(alpha, alpha, zero - inverse), kSk)
        store_element(over_batch, d_y, place + j * estride, kappa - weight * alpha)
        store_element(over_batch, d_R, place + j * estride, c_r - kappa * alpha)
        if need_C:
            _add_to_C(over_batch, sum_C, h, P, mean, z, u, lam, Sk, K, k, innovation, inverse, weight, kappa, dims)
        _propagate_channel(over_batch, S, lam, z, Sk, H, h, alpha, weight, kappa, c_r, dims)


@inline_njit
def _flush_sums(totals, total_strides, sums, need_A, full_Q, block, t, dims):
    """Add the sums for A, b and Q to their totals if those vary over time, and every few steps otherwise."""
    n, nv, _, pv, vstride = dims
    d_A, d_b, d_Q, _, _, _ = totals
    at_d_A, at_d_b, at_d_Q, _, _, _ = total_strides
    sum_A, sum_b, sum_Q = sums
    due = t == 1 or t % _FLUSH_EVERY == 0
    if need_A and (due or at_d_A[1] > 0):
        flush(d_A, offset(at_d_A, block, t), vstride, sum_A, n, pv, nv)
    if due or at_d_b[1] > 0:
        flush(d_b, offset(at_d_b, block, t), vstride, sum_b, 1, pv, nv)
    if due or at_d_Q[1] > 0:
        flush(d_Q, offset(at_d_Q, block, t), vstride, sum_Q, n if full_Q else 1, pv, nv)


@inline_allocating_njit
def _scratch_memory(size, row, m, full_Q, array):
    """Zeros for six matrices, five vectors, the rows of C and their sum, and the sums for A, b and Q."""
    S, SX, X = scratch(size, array), scratch(size, array), scratch(size, array)
    Xt, P, product = scratch(size, array), scratch(size, array), scratch(size, array)
    lam, mean = scratch(row, array), scratch(row, array)
    Sk, z, u = scratch(row, array), scratch(row, array), scratch(row, array)
    H, sum_C = scratch(m * row, array), scratch(m * row, array)
    sums = scratch(size, array), scratch(row, array), scratch(size if full_Q else row, array)
    return (S, SX, X, Xt, P, product), (lam, mean), (Sk, z, u), (H, sum_C), sums


@inline_allocating_njit
def _backward(over_batch, first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides):
    """The adjoint of the filter for blocks first, …, last - 1."""
    steps, n, m, nv, vstride, full_Q = sizes
    with_mf, with_Pf, need_A, need_C = needs
    mf, Pf, K, E, V, A, C, g_ll, g_mf, g_Pf = inputs
    at_mf, at_Pf, at_K, _, _, at_A, at_C, at_g_ll, at_g_mf, at_g_Pf = in_strides
    d_y, d_R = outputs
    pr, pv = padded_shape(n, nv)
    dims = (n, nv, pr, pv, vstride)
    w = width(E)
    matrices, (lam, mean), vectors, (H, sum_C), sums = _scratch_memory(pr * pv * w, pv * w, m, full_Q, E)
    S, SX, X, Xt, P, product = matrices
    for block in range(first, last):
        S[:] = 0.0
        lam[:] = 0.0
        for t in range(steps - 1, -1, -1):
            if t == steps - 1 or at_C[1] > 0:
                read(H, C, offset(at_C, block, t), vstride, m, pv, nv)
            if t == steps - 1 or at_A[1] > 0:
                read(X, A, offset(at_A, block, t), vstride, n, pv, nv)
                transpose(over_batch, Xt, X, pv, n)
            if with_mf:
                add(lam, g_mf, offset(at_g_mf, block, t), vstride, 1, pv, nv)
            if with_Pf:
                add(S, g_Pf, offset(at_g_Pf, block, t), vstride, n, pv, nv)
            if need_C:
                read(mean, mf, offset(at_mf, block, t), vstride, 1, pv, nv)
            if need_C and (t == steps - 1 or not need_A):  # otherwise the step after this one has read P
                read(P, Pf, offset(at_Pf, block, t), vstride, n, pv, nv)
            weight = element(over_batch, g_ll, offset(at_g_ll, block, t), vstride, 0)
            k, e = offset(at_K, block, t), offset(at_channels, block, t)
            _update_adjoint(
                over_batch, S, lam, P, mean, H, sum_C, need_C, vectors, K, k, E, V, d_y, d_R, e, weight, m, dims
            )
            if need_C and (at_C[1] > 0 or t % _FLUSH_EVERY == 0):
                flush(totals[3], offset(total_strides[3], block, t), vstride, sum_C, m, pv, nv)
            if t > 0:
                _add_noise_and_offset(over_batch, sums[1], sums[2], S, lam, full_Q, dims)
                _propagate_transition(over_batch, S, SX, X, Xt, t, dims)
                if need_A:
                    read(P, Pf, offset(at_Pf, block, t - 1), vstride, n, pv, nv)
                    _add_to_A(over_batch, sums[0], SX, P, product, lam, mf, offset(at_mf, block, t - 1), dims)
                transposed_times_vector(over_batch, vectors[2], X, lam, 0, w, pv, nv, n)
                write(lam, 0, w, vectors[2], 1, pv, nv)
                _flush_sums(totals, total_strides, sums, need_A, full_Q, block, t, dims)
        flush(totals[4], offset(total_strides[4], block, 0), vstride, lam, 1, pv, nv)
        flush(totals[5], offset(total_strides[5], block, 0), vstride, S, n, pv, nv)


@cached_njit
def backward_batch_vectorized(
    first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides
):
    """Adjoint of `forward_batch_vectorized` for blocks first, …, last - 1.

    needs : whether g_mf and g_Pf are given, and whether d_A and d_C are wanted
    inputs, in_strides : mf, Pf, K, E, V, A, C, g_ll, g_mf, g_Pf, and the `at_X` of each
    outputs, at_channels : d_y, d_R of every step, and `at_X` of both, which is also that of E and V
    totals, total_strides : d_A, d_b, d_Q, d_C, d_m0, d_P0 in float64, to which is added, and the `at_X` of each
    """
    _backward(True, first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides)


@cached_njit
def backward_batch_wide(first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides):
    """`backward_batch_vectorized` with wide SIMD vectors."""
    inputs, outputs = wide(inputs), wide(outputs)
    _backward(True, first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides)


@cached_njit
def backward_state_vectorized(
    first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides
):
    """`backward_batch_vectorized` with blocks of one sequence."""
    _backward(False, first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides)


@cached_njit
def backward_wide(first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides):
    """Adjoint of `forward_wide`; its SIMD vectors are wide, but its channels are not in blocks."""
    inputs, outputs = wide(inputs), wide(outputs)
    _backward(False, first, last, sizes, needs, inputs, in_strides, outputs, at_channels, totals, total_strides)
