"""Kernels of the training of networks, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. All numbers are float32.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["activate_kernel", "activation_gradient_kernel", "histogram_gradient_kernel"]


def _activate(values, bias, random, threshold, scale):  # type: ignore[no-untyped-def]
    """Add biases, and replace values (networks, rows, units) by those of rectified units, and drop some of the units.

    bias : (networks, units)
    random : one byte for each value; a unit is dropped where it is below `threshold`
    scale : factor of the units that are kept
    """
    networks, rows, units = values.shape
    for network in range(networks):
        for row in range(rows):
            first = (network * rows + row) * units
            for unit in range(units):
                value = (values[network, row, unit] + bias[network, unit]) * scale
                kept = (value > 0.0) & (random[first + unit] >= threshold)
                values[network, row, unit] = value if kept else np.float32(0.0)


def _activation_gradient(gradient, values, scale, to_bias):  # type: ignore[no-untyped-def]
    """Replace the gradient (networks, rows, units) of the results of `_activate`, `values`, by that of its input.

    to_bias : (networks, units), replaced by the gradient of the biases
    """
    networks, rows, units = values.shape
    for network in range(networks):
        for unit in range(units):
            to_bias[network, unit] = 0.0
        for row in range(rows):
            for unit in range(units):
                active = values[network, row, unit] > 0.0
                change = gradient[network, row, unit] * scale if active else np.float32(0.0)
                gradient[network, row, unit] = change
                to_bias[network, unit] += change


@njit(nogil=True, error_model="numpy")
def _ranked_slopes(mass, at, circular, slope):  # type: ignore[no-untyped-def]
    """Write the derivatives of the ranked probability score of one histogram (cells,) with respect to its mass.

    Returns their mean, weighted by the mass. The score is as in `_histogram_loss.py`.
    """
    n_cells = len(mass)
    cut = np.int64(0)
    if circular:  # a circle starts opposite the truth
        cut = np.int64(np.floor(at)) - n_cells // 2
        at -= np.float32(cut)
        cut %= n_cells
    total, below, weighted = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for step in range(n_cells):
        cell = step + cut
        if cell >= n_cells:
            cell -= n_cells
        middle = below + np.float32(0.5) * mass[cell]
        below += mass[cell]
        excess = middle - min(max(np.float32(step + 1) - at, np.float32(0.0)), np.float32(1.0))
        slope[cell] = excess
        total += excess
        weighted += excess * middle
    scale = np.float32(40.0 / n_cells)
    for step in range(n_cells):
        cell = step + cut
        if cell >= n_cells:
            cell -= n_cells
        excess = slope[cell]
        slope[cell] = scale * (total - np.float32(0.5) * excess)
        total -= excess
    return scale * weighted


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _total(values):  # type: ignore[no-untyped-def]
    """Return the sum of a vector."""
    total = np.float32(0.0)
    for i in range(len(values)):
        total += values[i]
    return total


def _histogram_gradient(mass, place, circular, ranked, log_weight, share, gradient):  # type: ignore[no-untyped-def]
    """Write the gradient of `histogram_loss` with respect to the logits (histograms, cells) to `gradient`.

    mass : (histograms, rows, columns); those over one dimension have a single row
    place : (histograms, dims)
    circular : (dims,) bool
    ranked : whether the ranked probability score is used
    log_weight : weight of the log-score
    share : of each histogram in the loss
    """
    n, n_rows, n_columns = mass.shape
    joint = place.shape[1] == 2
    along_rows, along_columns = np.zeros(n_rows, np.float32), np.zeros(n_columns, np.float32)
    row_slope, column_slope = np.zeros(n_rows, np.float32), np.zeros(n_columns, np.float32)
    for k in range(n):
        mean = log_weight
        if ranked and joint:
            for j in range(n_columns):
                along_columns[j] = 0.0
            for i in range(n_rows):
                for j in range(n_columns):
                    along_columns[j] += mass[k, i, j]
                along_rows[i] = _total(mass[k, i])
            first = _ranked_slopes(along_rows, place[k, 0], circular[0], row_slope)
            mean -= first + _ranked_slopes(along_columns, place[k, 1], circular[1], column_slope)
        elif ranked:
            mean -= _ranked_slopes(mass[k, 0], place[k, 0], circular[0], column_slope)
        for i in range(n_rows):
            offset = mean + row_slope[i]
            for j in range(n_columns):
                gradient[k, i * n_columns + j] = share * mass[k, i, j] * (offset + column_slope[j])
        cell = np.int64(place[k, 0])
        if joint:
            cell = cell * n_columns + np.int64(place[k, 1])
        gradient[k, cell] -= share * log_weight


activate_kernel = cached_njit(_activate)
activation_gradient_kernel = cached_njit(_activation_gradient)
histogram_gradient_kernel = cached_njit(_histogram_gradient)
