"""The filter as one compiled loop, for models whose covariances differ between sequences.

The channels are absorbed one at a time, which needs no factorization. With h the row of C, g = P h, s = h' g + r the
innovation variance and k = g / s the gain, the mean changes by k (y - h' m), and the covariance by -k g'. To read and
write large covariances less often, blocks of four channels have one product with P and one change of it: P h from
before the block becomes g by the subtraction of k (h' g) for the channels before this one in the block.

Names, besides those in `_tile_kernels.py`; the model is named as in `kalman_filter`:

==================  ====================================================================================================
``mf``, ``Pf``      filtered mean and covariance of every step
``K``               gain of every channel, (m, n) per step
``E``, ``V``        innovation of every channel, given the channels before it, and the inverse s of its variance
``status``          four numbers per sequence, see `forward_batch_vectorized`
``mean``, ``P``     mean and covariance at the current step and channel
``X``, ``Xt``       transition A of the current step, and its transpose
``H``               emission C of the current step; row ``h`` belongs to the current channel
``T``, ``g``        scratch: the product A P, and P h
``G``, ``gains``    g and k of the channels of a block, in its rows
==================  ====================================================================================================

References: Särkkä & Svensson, Bayesian Filtering and Smoothing (2nd ed., 2023), Section 6.3; sequential processing of
channels: Anderson & Moore, Optimal Filtering (1979), Section 6.4.
"""

from __future__ import annotations

import numpy as np

from kalmanssl.kalman.kernels._jit import cached_njit, inline_allocating_njit, inline_njit
from kalmanssl.kalman.kernels._simd import choose_positive, filled, fma, load, store, wide, width
from kalmanssl.kalman.kernels._tile_kernels import (
    add,
    add_to_diagonal,
    dot,
    element,
    four_rows_times,
    matrix_product,
    minimum,
    offset,
    padded_shape,
    read,
    scratch,
    store_element,
    subtract_four_products,
    sum_positions,
    symmetric_product,
    symmetrize,
    transpose,
    transposed_times_vector,
    write,
)

__all__ = ["forward_batch_vectorized", "forward_batch_wide", "forward_state_vectorized", "forward_wide"]

# Channels that have one product with the covariance and one change of it, in `forward_wide`.
_CHANNELS_IN_BLOCK = 4


@inline_njit
def _predict(over_batch, mean, P, T, Am, X, Xt, b, b_start, Q, Q_start, full_Q, dims):
    """Mean A m + b and covariance A P A' + Q of the next step; T and Am are scratch memory."""
    n, nv, pr, pv, vstride = dims
    w = width(P)
    matrix_product(over_batch, T, X, P, pr, pv, n)
    symmetric_product(over_batch, P, T, Xt, pr, pv, n)
    if full_Q:
        add(P, Q, Q_start, vstride, n, pv, nv)
    else:
        add_to_diagonal(over_batch, P, Q, Q_start, vstride, pv, n)
    transposed_times_vector(over_batch, Am, Xt, mean, 0, w, pv, nv, n)
    read(mean, b, b_start, vstride, 1, pv, nv)
    for c in range(nv):
        store(mean, c * w, load(mean, c * w) + load(Am, c * w))


@inline_njit
def _update_mean(over_batch, mean, gains, k, stride, G, g, H, h, value, r, nv):
    """Condition the mean on one channel with P h at `g` of `G`; its gain goes to `k` of `gains`.

    Returns the innovation, the variance of that, and the inverse of the variance. A negative r marks a missing channel.
    Its gain and the inverse are 0, so that it changes nothing.
    """
    w = width(G)
    one, zero = filled(G, 1.0), filled(G, 0.0)
    s, predicted = zero, zero
    for c in range(nv):
        hc = load(H, h + c * w)
        s = fma(hc, load(G, g + c * w), s)
        predicted = fma(hc, load(mean, c * w), predicted)
    s = sum_positions(over_batch, s) + choose_positive(r, r, one)
    inverse = choose_positive(r, one / s, zero)
    innovation = value - sum_positions(over_batch, predicted)
    for c in range(nv):
        gain = load(G, g + c * w) * inverse
        store(gains, k + c * stride, gain)
        store(mean, c * w, fma(gain, innovation, load(mean, c * w)))
    return innovation, s, inverse


@inline_njit
def _absorb_channel(over_batch, mean, P, G, gains, H, j, m, value, r, K, k, dims):
    """Condition the state on channel j; returns what `_update_mean` does."""
    n, nv, _, pv, vstride = dims
    w = width(P)
    zero = filled(P, 0.0)
    transposed_times_vector(over_batch, G, P, H, j * pv * w, w, pv, nv, n)
    innovation, s, inverse = _update_mean(over_batch, mean, K, k, vstride, G, 0, H, j * pv * w, value, r, nv)
    for i in range(n):
        x = zero - element(over_batch, G, 0, w, i)
        row = i * pv * w
        for c in range(nv):
            store(P, row + c * w, fma(x, load(K, k + c * vstride), load(P, row + c * w)))
    return innovation, s, inverse


@inline_njit
def _absorb_in_block(over_batch, mean, P, G, gains, H, j, m, value, r, K, k, dims):
    """`_absorb_channel` for channel j of blocks of four, state-vectorized; P is that before the block until its end.

    The last block is completed by rows of zeros in `H`, whose P h is 0.
    """
    n, nv, _, pv, vstride = dims
    w = width(P)
    row = pv * w
    place = j % _CHANNELS_IN_BLOCK * row
    if place == 0:
        four_rows_times(over_batch, G, H, j, P, pv, n)
    for earlier in range(0, place, row):
        x = filled(P, 0.0) - dot(over_batch, H, j * row, G, earlier, nv)
        for c in range(nv):
            store(G, place + c * w, fma(x, load(gains, earlier + c * w), load(G, place + c * w)))
    innovation, s, inverse = _update_mean(over_batch, mean, gains, place, w, G, place, H, j * row, value, r, nv)
    for c in range(nv):
        store(K, k + c * vstride, load(gains, place + c * w))
    if j % _CHANNELS_IN_BLOCK == _CHANNELS_IN_BLOCK - 1 or j == m - 1:
        subtract_four_products(P, G, gains, pv, nv, n)
    return innovation, s, inverse


@inline_njit
def _extreme_variances(over_batch, P, pv, n):
    """The smallest and the largest variance on the diagonal of P."""
    w = width(P)
    low = high = element(over_batch, P, 0, w, 0)
    for i in range(1, n):
        x = element(over_batch, P, i * pv * w, w, i)
        low, high = minimum(low, x), choose_positive(high - x, high, x)
    return low, high


@inline_allocating_njit
def _forward(over_batch, absorb, in_block, first, last, sizes, inputs, in_strides, outputs, out_strides):
    """Filter blocks first, …, last - 1, where `absorb` works on blocks of `in_block` channels."""
    steps, n, m, nv, vstride, full_Q = sizes
    y, R, A, b, Q, C, m0, P0 = inputs
    mf, Pf, K, E, V, status = outputs
    at_y, at_R, at_A, at_b, at_Q, at_C, at_m0, at_P0 = in_strides
    at_mf, at_Pf, at_K, at_E, at_V, at_status = out_strides
    pr, pv = padded_shape(n, nv)
    dims = (n, nv, pr, pv, vstride)
    w = width(y)
    estride = vstride if over_batch else 1
    size, row = pr * pv * w, pv * w
    P, T, X, Xt, mean = scratch(size, y), scratch(size, y), scratch(size, y), scratch(size, y), scratch(row, y)
    H, G, gains = scratch((m + in_block - 1) * row, y), scratch(in_block * row, y), scratch(in_block * row, y)
    one, infinity = filled(y, 1.0), filled(y, np.inf)
    for block in range(first, last):
        min_variance, variance_ratio, min_s, noise_ratio = infinity, one, infinity, one
        read(P, P0, offset(at_P0, block, 0), vstride, n, pv, nv)
        read(mean, m0, offset(at_m0, block, 0), vstride, 1, pv, nv)
        for t in range(steps):
            if t == 0 or at_C[1] > 0:
                read(H, C, offset(at_C, block, t), vstride, m, pv, nv)
            if t == 1 or (t > 1 and at_A[1] > 0):
                read(X, A, offset(at_A, block, t), vstride, n, pv, nv)
                transpose(over_batch, Xt, X, pv, n)
            if t > 0:
                b_start, Q_start = offset(at_b, block, t), offset(at_Q, block, t)
                _predict(over_batch, mean, P, T, G, X, Xt, b, b_start, Q, Q_start, full_Q, dims)
            for j in range(m):
                r = element(over_batch, R, offset(at_R, block, t), estride, j)
                value = element(over_batch, y, offset(at_y, block, t), estride, j)
                k = offset(at_K, block, t) + j * nv * vstride
                innovation, s, inverse = absorb(over_batch, mean, P, G, gains, H, j, m, value, r, K, k, dims)
                min_s = minimum(min_s, s)
                noise_ratio = minimum(noise_ratio, choose_positive(r, r * inverse, one))
                store_element(over_batch, E, offset(at_E, block, t) + j * estride, innovation)
                store_element(over_batch, V, offset(at_V, block, t) + j * estride, inverse)
            symmetrize(over_batch, P, pv, n)
            low, high = _extreme_variances(over_batch, P, pv, n)
            min_variance, variance_ratio = minimum(min_variance, low), minimum(variance_ratio, low / high)
            write(mf, offset(at_mf, block, t), vstride, mean, 1, pv, nv)
            write(Pf, offset(at_Pf, block, t), vstride, P, n, pv, nv)
        start = offset(at_status, block, 0)
        store_element(over_batch, status, start, min_variance)
        store_element(over_batch, status, start + estride, variance_ratio)
        store_element(over_batch, status, start + 2 * estride, min_s)
        store_element(over_batch, status, start + 3 * estride, noise_ratio)


@cached_njit
def forward_batch_vectorized(first, last, sizes, inputs, in_strides, outputs, out_strides):
    """Filter blocks first, …, last - 1, each of several sequences.

    sizes : steps, n, m, nv, vstride, and whether Q is full
    inputs, in_strides : y, R (negative where a channel is missing), A, b, Q, C, m0, P0, and the `at_X` of each
    outputs, out_strides : mf, Pf, K, E, V, status, and the `at_X` of each

    status : smallest variance of the state, smallest ratio of two of its variances at one step, smallest innovation
        variance, smallest ratio of the noise variance to it
    """
    _forward(True, _absorb_channel, 1, first, last, sizes, inputs, in_strides, outputs, out_strides)


@cached_njit
def forward_batch_wide(first, last, sizes, inputs, in_strides, outputs, out_strides):
    """`forward_batch_vectorized` with wide SIMD vectors."""
    inputs, outputs = wide(inputs), wide(outputs)
    _forward(True, _absorb_channel, 1, first, last, sizes, inputs, in_strides, outputs, out_strides)


@cached_njit
def forward_state_vectorized(first, last, sizes, inputs, in_strides, outputs, out_strides):
    """`forward_batch_vectorized` with blocks of one sequence."""
    _forward(False, _absorb_channel, 1, first, last, sizes, inputs, in_strides, outputs, out_strides)


@cached_njit
def forward_wide(first, last, sizes, inputs, in_strides, outputs, out_strides):
    """`forward_state_vectorized` for large states, with wide SIMD vectors and blocks of channels."""
    inputs, outputs = wide(inputs), wide(outputs)
    _forward(False, _absorb_in_block, _CHANNELS_IN_BLOCK, first, last, sizes, inputs, in_strides, outputs, out_strides)
