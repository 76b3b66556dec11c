"""Kernels of the readouts for one bin, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. The innermost loops run over
rows in memory, which compilers turn into vector instructions without changing the order of sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["combine_kernel", "context_kernel", "likelihood_kernel", "network_kernel"]


@njit(nogil=True, error_model="numpy")
def _layer(x, weight, bias, result, rectify):  # type: ignore[no-untyped-def]
    """Write ``x @ weight + bias`` to `result`; with `rectify` only positive inputs count (ReLU)."""
    for j in range(len(result)):  # an assignment of the whole array takes a second to compile
        result[j] = bias[j]
    for k in range(len(x)):
        value, row = x[k], weight[k]
        if value > 0 or (value < 0 and not rectify):
            for j in range(len(result)):
                result[j] += value * row[j]


def _networks(  # type: ignore[no-untyped-def]
    features, center, scale, inputs, weights, biases, borders, hidden, logits, share, mass
):
    """Write the histograms of an ensemble of perceptrons with two hidden layers, averaged, to `mass`.

    All arrays are float32, except the first three, which are float64, and `borders`.

    Parameters
    ----------
    features, center, scale : (features,)
        Latents, and by what they are standardized.
    inputs : (networks, features)
        One for the features that a network receives, else zero.
    weights, biases : tuples of (networks, inputs, outputs) and (networks, outputs)
        Of the three layers.
    borders : (histograms + 1,) int
        Where each histogram begins in the outputs.
    hidden : (2, units), logits : (cells,)
        Memory for intermediate results.
    share : float
        Fraction of the mass from the networks; the rest is distributed over all cells of a histogram.
    mass : (cells,)
    """
    first_weight, second_weight, third_weight = weights
    x, given = np.empty((2, len(features)), dtype=np.float32)
    for k in range(len(features)):
        x[k] = np.float32((features[k] - center[k]) / scale[k])
    mass[:] = 0.0
    for network in range(len(inputs)):
        for k in range(len(x)):
            given[k] = x[k] * inputs[network, k]
        _layer(given, first_weight[network], biases[0][network], hidden[0], False)
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
    for group in range(len(borders) - 1):
        uniform = np.float32((1 - share) / (borders[group + 1] - borders[group]))
        for cell in range(borders[group], borders[group + 1]):
            mass[cell] = np.float32(share) * mass[cell] + uniform


def _combine(network, neighbor, share):  # type: ignore[no-untyped-def]
    """Replace the distribution of the networks by the geometric mean with that of the neighbors, (cells,) float32.

    `share` is the weight of the neighbors.
    """
    total = np.float32(0.0)
    if share == 0.5:
        for cell in range(len(network)):
            network[cell] = np.sqrt(network[cell] * neighbor[cell])
    else:
        for cell in range(len(network)):
            network[cell] = np.exp((1 - share) * np.log(network[cell]) + share * np.log(neighbor[cell]))
    for cell in range(len(network)):
        total += network[cell]
    for cell in range(len(network)):
        network[cell] /= total


def _context(features, decay, sums, weights, has_missing, is_missing, is_start):  # type: ignore[no-untyped-def]
    """Write exponential averages to the rows of `features` after the first, as `OnlineContext.step`.

    Parameters
    ----------
    features : (1 + time scales, features)
        The first row has the latents of a bin.
    decay : (time scales,)
    sums, weights, has_missing : (time scales, features), (time scales,) and () bool
        The state of `OnlineContext`.
    is_missing, is_start : bool
    """
    present = 0.0 if is_missing else 1.0
    if is_start:
        has_missing[()] = False
    for k in range(len(decay)):
        fraction = 1 - decay[k]
        if is_start:
            weights[k] = decay[k] * present
        weight = fraction * present + weights[k]
        weights[k] = decay[k] * weight
        for j in range(features.shape[1]):
            if is_start:
                sums[k, j] = decay[k] * features[0, j]
            average = fraction * features[0, j] + sums[k, j]
            sums[k, j] = decay[k] * average
            features[k + 1, j] = average
        if has_missing[()] or is_missing:
            for j in range(features.shape[1]):
                features[k + 1, j] /= max(weight, 1e-300)
    if is_missing:
        has_missing[()] = True


def _likelihood(mass, log_occupancy, power, likelihood):  # type: ignore[no-untyped-def]
    """Write ``(mass / occupancy) ** power``, at most 1, to `likelihood`; arrays are (cells,) float32."""
    largest = np.float32(-np.inf)
    for cell in range(len(mass)):
        ratio = np.log(max(mass[cell], np.float32(1e-12))) - log_occupancy[cell]
        likelihood[cell] = ratio
        largest = max(largest, ratio)
    for cell in range(len(mass)):
        likelihood[cell] = np.exp(np.float32(power) * (likelihood[cell] - largest))


network_kernel = cached_njit(_networks)
likelihood_kernel = cached_njit(_likelihood)
combine_kernel = cached_njit(_combine)
context_kernel = cached_njit(_context)
