"""Kernels of the readouts for one bin, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. The innermost loops run over
rows in memory, which compilers turn into vector instructions without changing the order of sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["nearest_kernel", "network_kernel"]

_BLOCK = 2048  # reference bins that are handled at a time, so that their sums stay in the fastest cache


@njit(nogil=True, error_model="numpy")
def _layer(x, weight, bias, result, rectify):  # type: ignore[no-untyped-def]
    """Write ``x @ weight + bias`` to `result`; with `rectify` only positive inputs count (ReLU)."""
    for j in range(len(result)):
        result[j] = bias[j]
    for k in range(len(x)):
        value = x[k]
        if value > 0 or (value < 0 and not rectify):
            for j in range(len(result)):
                result[j] += value * weight[k, j]


@njit(nogil=True, error_model="numpy")
def _distance(query, reference, squares, j):  # type: ignore[no-untyped-def]
    """Return the squared distance of a reference vector from the query, less the squared length of the query."""
    n_features = len(query)
    whole = n_features - n_features % 4
    a = b = c = d = 0.0
    for k in range(0, whole, 4):
        a += np.float64(query[k]) * reference[j, k]
        b += np.float64(query[k + 1]) * reference[j, k + 1]
        c += np.float64(query[k + 2]) * reference[j, k + 2]
        d += np.float64(query[k + 3]) * reference[j, k + 3]
    for k in range(whole, n_features):
        a += np.float64(query[k]) * reference[j, k]
    return squares[j] - 2.0 * ((a + b) + (c + d))


@njit(nogil=True, error_model="numpy")
def _insert(value, j, distance, index):  # type: ignore[no-untyped-def]
    """Insert a vector into the list of the nearest ones, which is in the order of distance."""
    place = len(index) - 1
    while place > 0 and distance[place - 1] > value:
        distance[place], index[place] = distance[place - 1], index[place - 1]
        place -= 1
    distance[place], index[place] = value, j


def _nearest(query, head_size, heads, tail_lengths, reference, squares, products, index, distance):  # type: ignore[no-untyped-def]
    """Write the nearest reference vectors to `index` and their squared distance, less that of the query, to `distance`.

    All vectors are in coordinates whose first ones, the heads, have most of the length. The product of two vectors is
    at most that of their heads plus the product of the lengths of their tails. Only vectors for which this bound allows
    it are compared completely, so that the result is exact.

    Parameters
    ----------
    query : (features,) float32
    head_size : int
    heads : (head_size, vectors) float32
    tail_lengths : (vectors,) float32
    reference : (vectors, features) float32
    squares : (vectors,)
        Squared lengths of the reference vectors.
    products : (vectors,) float32
        Memory for intermediate results.
    index, distance : (neighbors,)
    """
    n_vectors, n_features = reference.shape
    count = len(index)
    tail = np.float32(0.0)
    for k in range(head_size, n_features):
        tail += query[k] * query[k]
    tail = np.sqrt(tail)
    whole = head_size - head_size % 4
    for first in range(0, n_vectors, _BLOCK):
        stop = min(first + _BLOCK, n_vectors)
        for j in range(first, stop):
            products[j] = 0.0
        for k in range(0, whole, 4):
            a, b, c, d = query[k], query[k + 1], query[k + 2], query[k + 3]
            for j in range(first, stop):
                products[j] += a * heads[k, j] + b * heads[k + 1, j] + c * heads[k + 2, j] + d * heads[k + 3, j]
        for k in range(whole, head_size):
            a = query[k]
            for j in range(first, stop):
                products[j] += a * heads[k, j]
    # The vectors that are nearest in the first coordinates give a bound of the largest distance.
    for i in range(count):
        distance[i] = np.inf
    for j in range(n_vectors):
        estimate = squares[j] - 2.0 * products[j]
        if estimate < distance[count - 1]:
            _insert(estimate, j, distance, index)
    bound = -np.inf
    for i in range(count):
        bound = max(bound, _distance(query, reference, squares, index[i]))
    bound += 1e-5  # more than the rounding errors of single precision
    for i in range(count):
        distance[i] = np.inf
    for j in range(n_vectors):
        if squares[j] - 2.0 * (products[j] + tail * tail_lengths[j]) <= bound:
            exact = _distance(query, reference, squares, j)
            if exact < distance[count - 1]:
                _insert(exact, j, distance, index)
                bound = min(bound, distance[count - 1] + 1e-5)


def _networks(x, inputs, weights, biases, borders, hidden, logits, mass):  # type: ignore[no-untyped-def]
    """Write the histograms of an ensemble of perceptrons with two hidden layers, averaged, to `mass`; all float32.

    Parameters
    ----------
    x : (features,)
        Standardized latents.
    inputs : (networks, features)
        One for the features that a network receives, else zero.
    weights, biases : tuples of (networks, inputs, outputs) and (networks, outputs)
        Of the three layers.
    borders : (histograms + 1,) int
        Where each histogram begins in the outputs.
    hidden : (2, units), logits : (cells,)
        Memory for intermediate results.
    mass : (cells,)
    """
    first_weight, second_weight, third_weight = weights
    mass[:] = 0.0
    for network in range(len(inputs)):
        _layer(x * inputs[network], first_weight[network], biases[0][network], hidden[0], False)
        _layer(hidden[0], second_weight[network], biases[1][network], hidden[1], True)
        _layer(hidden[1], third_weight[network], biases[2][network], logits, True)
        for group in range(len(borders) - 1):
            first, stop = borders[group], borders[group + 1]
            largest = logits[first:stop].max()
            total = np.float32(0.0)
            for cell in range(first, stop):
                logits[cell] = np.exp(logits[cell] - largest)
                total += logits[cell]
            factor = np.float32(1.0) / (total * np.float32(len(inputs)))
            for cell in range(first, stop):
                mass[cell] += logits[cell] * factor


nearest_kernel = cached_njit(_nearest)
network_kernel = cached_njit(_networks)
