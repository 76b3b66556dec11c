"""Copies into the layouts of the filter and out of them, and log-densities from the results of the filter.

For small problems, operations on whole arrays in numpy take longer than the filter itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kalmanssl.kalman.kernels._check_kernels import all_finite
from kalmanssl.kalman.kernels._jit import cached_njit

__all__ = [
    "collect_batch_vectorized",
    "collect_state_vectorized",
    "finish",
    "pack_batch_vectorized",
    "pack_state_vectorized",
]


@cached_njit
def pack_batch_vectorized(sources: Any, sizes: Any, batch: int, outs: Any) -> None:
    """Copy arrays to `outs` with sequences last; copies of the last sequence complete the last SIMD vector.

    sources : (batch|1, rows, columns), flat
    sizes : these three numbers for each
    outs : (rows, columns, sequences), flat
    """
    for i in range(len(sources)):
        source, out = sources[i], outs[i]
        own, rows, columns = sizes[i]
        size = rows * columns
        stride = len(out) // size
        for k in range(size):
            if own > 1:
                for s in range(batch):
                    out[k * stride + s] = source[s * size + k]
                for s in range(batch, stride):
                    out[k * stride + s] = source[(batch - 1) * size + k]
            else:
                for s in range(stride):
                    out[k * stride + s] = source[k]


@cached_njit
def pack_state_vectorized(sources: Any, sizes: Any, batch: int, outs: Any) -> None:
    """Copy arrays to `outs`, with zeros at the end of rows that are longer there.

    sources : (batch|1, rows, columns), flat
    sizes : these three numbers for each
    outs : (batch|1, rows, width), flat
    """
    for i in range(len(sources)):
        source, out = sources[i], outs[i]
        own, rows, columns = sizes[i]
        width = len(out) // (own * rows)
        for row in range(own * rows):
            for k in range(columns):
                out[row * width + k] = source[row * columns + k]
            for k in range(columns, width):
                out[row * width + k] = 0.0


@cached_njit
def collect_batch_vectorized(totals: Any, sizes: Any, batch: int, outs: Any) -> None:
    """Copy totals of every sequence to `outs`, summed over the sequences where the batch axis of `outs` is 1.

    totals : (rows, columns, sequences), flat
    sizes : the batch axis of `outs`, rows, and columns of each
    outs : (batch|1, rows, columns), flat; those of length 0 are left out
    """
    for i in range(len(totals)):
        total, out = totals[i], outs[i]
        own, size = sizes[i][0], sizes[i][1] * sizes[i][2]
        stride = len(total) // size
        for k in range(len(out) // own):
            if own > 1:
                for s in range(batch):
                    out[s * size + k] = total[k * stride + s]
            else:
                value = 0.0
                for s in range(batch):
                    value += total[k * stride + s]
                out[k] = value


@cached_njit
def collect_state_vectorized(totals: Any, sizes: Any, batch: int, outs: Any) -> None:
    """`collect_batch_vectorized` for totals (batch, rows, width)."""
    for i in range(len(totals)):
        total, out = totals[i], outs[i]
        own, rows, columns = sizes[i]
        width = len(total) // (batch * rows)
        for row in range(len(out) // columns):
            for k in range(columns):
                value = 0.0
                for s in range(1 if own > 1 else batch):
                    value += total[(s * rows + row) * width + k]
                out[row * columns + k] = value


@cached_njit
def finish(
    mean: Any,
    innovation: Any,
    inverse: Any,
    status: Any,
    strides: Any,
    size: Any,
    constant: float,
    outs: Any,
) -> tuple[float, float, float, float, bool]:
    """Compute the parts of the log-densities, the worst status of all sequences, and whether all results are finite.

    mean, innovation, inverse, status : results of the forward kernels, flat
    strides : of `innovation` and `inverse` from one sequence, step and channel to the next; of `status` from one
        sequence and number to the next
    size : batch, steps, m
    outs : `quadratic` (batch, steps), minus half the sum of e² / s over the channels, minus `constant`; `product`
        (batch, steps), the root of the product of 1 / s over the channels; the smallest variance of each sequence

    The log-density is the sum of `quadratic` and the logarithm of `product`. Numbers of the status that are NaN count
    as minus infinity.
    """
    batch, steps, m = size
    to_sequence, to_step, to_channel, of_status, to_number = strides
    quadratic, product, smallest = outs
    total, factor = np.empty(batch), np.empty(batch)
    every = 4 if innovation.itemsize == 4 else 1  # channels whose product does not overflow
    too_large = np.int64(0)
    for t in range(steps):
        for s in range(batch):
            total[s], factor[s] = -2 * constant, 1.0
        for j in range(m):
            place = t * to_step + j * to_channel
            for s in range(batch):
                e, v = np.float64(innovation[place + s * to_sequence]), np.float64(inverse[place + s * to_sequence])
                total[s] -= e * e * v
                factor[s] *= v if v > 0 else 1.0  # it is 0 for a missing channel
            if j % every == every - 1:
                for s in range(batch):
                    if not 1e-150 < factor[s] < 1e150:
                        total[s] += math.log(factor[s])
                        factor[s] = 1.0
        for s in range(batch):
            too_large |= np.int64(not abs(total[s]) < 1e38)  # in float32, too
            quadratic[s, t], product[s, t] = 0.5 * total[s], math.sqrt(factor[s])
    finite = too_large == 0
    worst = np.full(4, np.inf)
    for s in range(batch):
        smallest[s] = status[s * of_status]
        for number in range(4):
            value = np.float64(status[s * of_status + number * to_number])
            worst[number] = -np.inf if np.isnan(value) else min(worst[number], value)
    return worst[0], worst[1], worst[2], worst[3], finite and all_finite(mean)
