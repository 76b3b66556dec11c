"""Kernels of built-in encoders for one step, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. Weights are stored by inputs:
the innermost loops run over outputs, which compilers turn into vector instructions without changing the order of sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["encoder_kernel"]


@njit(nogil=True, error_model="numpy")
def _add_product(x, weight, result):  # type: ignore[no-untyped-def]
    """Add ``x @ weight`` to `result`, two inputs at a time so that results are loaded and stored less often."""
    whole = len(x) - len(x) % 2
    for k in range(0, whole, 2):
        a, b, first, second = x[k], x[k + 1], weight[k], weight[k + 1]
        for j in range(len(result)):
            result[j] += a * first[j] + b * second[j]
    for k in range(whole, len(x)):
        a, first = x[k], weight[k]
        for j in range(len(result)):
            result[j] += a * first[j]


def _encode(  # type: ignore[no-untyped-def]
    features, recent, normalization, layers, rectified, residual, scratch, values, latent
):
    """Write the normalized input of a step to `values`, and the output of an encoder to `latent`; all float64.

    Parameters
    ----------
    features : (features,)
    recent : (steps, features)
        Normalized inputs of the steps before, the latest first.
    normalization : tuple
        Whether to take the square root, whether to divide by the norm, and what to add to the norm.
    layers : tuple of pairs of (inputs, outputs) and (outputs,)
        Weights and biases of linear layers.
    rectified : tuple of bool
        Whether a layer is followed by a ReLU.
    residual : tuple of (inputs, outputs), (inputs,), (1,) and (outputs,)
        Weights of the linear part of the encoder, its center, the inverse scale of the inputs of the network, and the
        gains of its outputs; without a linear part the weights are empty.
    scratch : tuple of (inputs,), (inputs,), and two of (units,)
        Memory for intermediate results.
    """
    n = len(features)
    square_root, unit_norm, offset = normalization
    square = 0.0
    for j in range(n):
        values[j] = np.sqrt(features[j]) if square_root else features[j]
        square += values[j] * values[j]
    if unit_norm:
        length = np.sqrt(square) + offset
        for j in range(n):
            values[j] /= length
    linear, center, inverse_scale, gain = residual
    centered, inputs, before, after = scratch
    for j in range(len(inputs)):
        value = values[j] if j < n else recent[j // n - 1, j % n]
        if len(linear):
            centered[j] = value - center[j]
            value = centered[j] * inverse_scale[0]
        inputs[j] = value
    x = inputs
    for number in range(len(layers)):
        weight, bias = layers[number]
        result = after[: len(bias)] if number % 2 else before[: len(bias)]
        for j in range(len(bias)):  # an assignment of the whole array takes a second to compile
            result[j] = bias[j]
        _add_product(x, weight, result)
        if rectified[number]:
            for j in range(len(result)):
                result[j] = max(result[j], 0.0)
        x = result
    for j in range(len(latent)):
        latent[j] = gain[j] * x[j] if len(linear) else x[j]
    if len(linear):
        _add_product(centered, linear, latent)


encoder_kernel = cached_njit(_encode)
