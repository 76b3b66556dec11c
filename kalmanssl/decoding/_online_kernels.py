"""Kernels of the readouts for one bin, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. The innermost loops run over
rows in memory, which compilers turn into vector instructions without changing the order of sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["network_kernel", "product_kernel"]

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


def _products(query, vectors, products):  # type: ignore[no-untyped-def]
    """Write the inner product of each vector, a column of `vectors`, with the query to `products`."""
    n_features, n_vectors = vectors.shape
    whole = n_features - n_features % 4
    for first in range(0, n_vectors, _BLOCK):
        stop = min(first + _BLOCK, n_vectors)
        result = products[first:stop]
        result[:] = 0.0
        for k in range(0, whole, 4):
            a, b, c, d = query[k], query[k + 1], query[k + 2], query[k + 3]
            # Loops over rows of their own become vector instructions; with two indices they would not.
            w, x, y, z = (
                vectors[k, first:stop],
                vectors[k + 1, first:stop],
                vectors[k + 2, first:stop],
                vectors[k + 3, first:stop],
            )
            for j in range(len(result)):
                result[j] += a * w[j] + b * x[j] + c * y[j] + d * z[j]
        for k in range(whole, n_features):
            a, w = query[k], vectors[k, first:stop]
            for j in range(len(result)):
                result[j] += a * w[j]


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


network_kernel = cached_njit(_networks)
product_kernel = cached_njit(_products)
