"""Kernels of the readouts for one bin, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. The innermost loops run over
rows in memory, which compilers turn into vector instructions without changing the order of sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["nearest_kernel", "network_kernel"]

_SLACK = np.float32(
    1e-5
)  # in a bound of squared distances of unit vectors; more than the rounding errors of single precision
_TWO = np.float32(2.0)
_ANY_ORDER = {"reassoc", "contract"}  # the order of a sum may change, so that it becomes vector instructions
_BLOCK = 2048  # reference bins that are handled at a time, so that their sums stay in the fastest cache


@njit(nogil=True, error_model="numpy")
def _layer(x, weight, bias, result, rectify):  # type: ignore[no-untyped-def]
    """Write ``x @ weight + bias`` to `result`; with `rectify` only positive inputs count (ReLU)."""
    result[:] = bias
    for k in range(len(x)):
        value, row = x[k], weight[k]
        if value > 0 or (value < 0 and not rectify):
            for j in range(len(result)):
                result[j] += value * row[j]


@njit(nogil=True, error_model="numpy")
def _products(query, heads, products):  # type: ignore[no-untyped-def]
    """Write the product of each vector's head with that of the query to `products`."""
    head_size, n_vectors = heads.shape
    whole = head_size - head_size % 4
    for first in range(0, n_vectors, _BLOCK):
        stop = min(first + _BLOCK, n_vectors)
        result = products[first:stop]
        result[:] = 0.0
        for k in range(0, whole, 4):
            a, b, c, d = query[k], query[k + 1], query[k + 2], query[k + 3]
            # Loops over rows of their own become vector instructions; with two indices they would not.
            w, x, y, z = (
                heads[k, first:stop],
                heads[k + 1, first:stop],
                heads[k + 2, first:stop],
                heads[k + 3, first:stop],
            )
            for j in range(len(result)):
                result[j] += a * w[j] + b * x[j] + c * y[j] + d * z[j]
        for k in range(whole, head_size):
            a, w = query[k], heads[k, first:stop]
            for j in range(len(result)):
                result[j] += a * w[j]


@njit(nogil=True, error_model="numpy", fastmath=_ANY_ORDER)
def _product(one, other):  # type: ignore[no-untyped-def]
    """Return the inner product of two vectors in single precision."""
    total = np.float32(0.0)
    for k in range(len(one)):
        total += one[k] * other[k]
    return total


@njit(nogil=True, error_model="numpy", fastmath=_ANY_ORDER)
def _distance(query, vector):  # type: ignore[no-untyped-def]
    """Return the squared distance of a vector from the query, less the squared length of the query."""
    total = 0.0
    for k in range(len(query)):
        total += vector[k] * (np.float64(vector[k]) - 2.0 * query[k])
    return total


@njit(nogil=True, error_model="numpy")
def _insert(value, j, distance, index):  # type: ignore[no-untyped-def]
    """Insert a vector into the list of the nearest ones, which is in the order of distance."""
    place = len(index) - 1
    while place > 0 and distance[place - 1] > value:
        distance[place], index[place] = distance[place - 1], index[place - 1]
        place -= 1
    distance[place], index[place] = value, j


def _nearest(query, head_sizes, heads, tail_lengths, reference, squares, products, index, distance):  # type: ignore[no-untyped-def]
    """Write the nearest reference vectors to `index` and their squared distance, less that of the query, to `distance`.

    All vectors are in coordinates whose first ones, the heads, have most of the length. The product of two vectors is
    at most that of their heads plus the product of the lengths of their tails. Only vectors for which this bound allows
    it are compared in more coordinates, so that the result is exact.

    Parameters
    ----------
    query : (features,) float32
    head_sizes : (int, int)
        Coordinates in which all vectors are compared, and in which those are compared that may be near.
    heads : (first head size, vectors) float32
    tail_lengths : (2, vectors) float32
        Length of the other coordinates for both sizes.
    reference : (vectors, features) float32
    squares : (vectors,) float32
        Squared lengths of the reference vectors.
    products : (vectors,) float32
        Memory for intermediate results.
    index, distance : (neighbors,)
    """
    n_vectors, count = len(reference), len(index)
    first_size, second_size = head_sizes
    first_tail = np.sqrt(_product(query[first_size:], query[first_size:]))
    second_tail = np.sqrt(_product(query[second_size:], query[second_size:]))
    middle = query[first_size:second_size]
    _products(query, heads, products)
    # The vectors that are nearest in the first coordinates give a bound of the largest distance.
    distance[:] = np.inf
    for j in range(n_vectors):
        estimate = squares[j] - _TWO * products[j]
        if estimate < distance[count - 1]:
            _insert(estimate, j, distance, index)
    bound = np.float32(-np.inf)
    for i in range(count):
        bound = max(bound, np.float32(_distance(query, reference[index[i]])) + _SLACK)
    distance[:] = np.inf
    for j in range(n_vectors):
        if squares[j] - _TWO * (products[j] + first_tail * tail_lengths[0, j]) > bound:
            continue
        product = products[j] + _product(middle, reference[j, first_size:second_size])
        if squares[j] - _TWO * (product + second_tail * tail_lengths[1, j]) > bound:
            continue
        exact = _distance(query, reference[j])
        if exact < distance[count - 1]:
            _insert(exact, j, distance, index)
            bound = min(bound, np.float32(distance[count - 1]) + _SLACK)


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
