"""Copies into the layouts of the filter and out of them, and log-densities from the results of the filter.

For small problems, operations on whole arrays in numpy take longer than the filter itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kalmanssl.kalman.kernels._check_kernels import all_finite
from kalmanssl.kalman.kernels._jit import cached_njit, inline_njit
from kalmanssl.kalman.kernels._simd import CACHE_LINE

__all__ = [
    "collect_batch_vectorized",
    "collect_state_vectorized",
    "finish",
    "pack_batch_vectorized",
    "pack_state_vectorized",
    "start_of_line",
]

_LOG_2 = math.log(2.0)
_ROOT_OF_HALF = np.int64(0x3FE6A09E00000000)  # the bits of a float64 just below the root of 1/2


@cached_njit
def start_of_line(memory: Any) -> int:
    """Index in an array at which a line of the cache begins."""
    return -memory.ctypes.data % CACHE_LINE // memory.itemsize


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
                for s in range(batch):  # of unsigned indices, numba does not check whether they are negative
                    out[np.uintp(k * stride + s)] = source[np.uintp(s * size + k)]
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


@inline_njit
def _add_channel(total: Any, factor: Any, innovation: Any, inverse: Any, start: int, stride: int) -> None:
    """Subtract e² / s of a channel from totals, and multiply factors by 1 / s."""
    for i in range(len(total)):
        place = np.uintp(start + i * stride)  # of an unsigned index, numba does not check whether it is negative
        e, v = np.float64(innovation[place]), np.float64(inverse[place])
        total[i] -= e * e * v
        factor[i] *= v if v > 0 else 1.0  # it is 0 for a missing channel


@inline_njit
def _take_extreme_logarithms(total: Any, factor: Any) -> None:
    """Replace factors near the limits of float64 by 1, and add their logarithms to the totals."""
    extreme = np.int64(0)
    for i in range(len(factor)):
        extreme |= np.int64(not (factor[i] > 1e-150) & (factor[i] < 1e150))
    if extreme:
        for i in range(len(factor)):
            if not 1e-150 < factor[i] < 1e150:
                total[i] += math.log(factor[i])
                factor[i] = 1.0


@inline_njit
def _add_logarithms(total: Any, factor: Any) -> None:
    """Add the logarithms of factors, positive and normal numbers, to the totals; the factors are overwritten.

    `math.log` would call the function of C for every number, these are SIMD instructions. A factor is 2^e (1 + f) with
    1 + f between the root of 1/2 and that of 2, and log(1 + f) is a polynomial in f / (2 + f) that differs from it by
    less than the rounding error (Sun Microsystems, fdlibm 5.3, e_log.c).
    """
    bits = factor.view(np.int64)
    for i in range(len(factor)):
        exponent = (bits[i] - _ROOT_OF_HALF) >> 52
        bits[i] -= exponent << 52
        f = factor[i] - 1.0
        s = f / (2.0 + f)
        z = s * s
        series = 1.531383769920937332e-01 + z * 1.479819860511658591e-01
        series = 2.222219843214978396e-01 + z * (1.818357216161805012e-01 + z * series)
        series = 3.999999999940941908e-01 + z * (2.857142874366239149e-01 + z * series)
        series = z * (6.666666666666735130e-01 + z * series)
        half = 0.5 * f * f
        total[i] += exponent * _LOG_2 + (f - (half - s * (half + series)))


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
    """Compute log-densities, the worst status of all sequences, and whether all results are finite.

    mean, innovation, inverse, status : results of the forward kernels, flat
    strides : of `innovation` and `inverse` from one sequence, step and channel to the next; of `status` from one
        sequence and number to the next
    size : batch, steps, m
    outs : the log-densities (batch, steps), half the sum of log(1 / s) - e² / s over the channels, minus `constant`;
        the smallest variance of each sequence

    Numbers of the status that are NaN count as minus infinity. Loops are over the sequences of a step if these are
    neighbors, else over the steps of a sequence.
    """
    batch, steps, m = size
    to_sequence, to_step, to_channel, of_status, to_number = strides
    log_density, smallest = outs
    over_batch = to_sequence == 1
    rows, columns = (steps, batch) if over_batch else (batch, steps)
    to_row, to_column = (to_step, 1) if over_batch else (to_sequence, to_step)
    total, factor = np.empty(columns), np.empty(columns)
    every = 4 if innovation.itemsize == 4 else 1  # channels whose product does not overflow
    too_large = np.int64(0)
    for row in range(rows):
        total[:], factor[:] = -2 * constant, 1.0
        for j in range(m):
            start = row * to_row + j * to_channel
            if over_batch:  # the compiler needs to know the stride to use SIMD instructions
                _add_channel(total, factor, innovation, inverse, start, 1)
            else:
                _add_channel(total, factor, innovation, inverse, start, to_column)
            if j % every == every - 1 or j == m - 1:
                _take_extreme_logarithms(total, factor)
        _add_logarithms(total, factor)
        for i in range(columns):
            total[i] *= 0.5
            too_large |= np.int64(not abs(total[i]) < 1e38)  # in float32, too
        for i in range(columns):
            if over_batch:
                log_density[i, row] = total[i]
            else:
                log_density[row, i] = total[i]
    worst = np.full(4, np.inf)
    for s in range(batch):
        smallest[s] = status[s * of_status]
        for number in range(4):
            value = np.float64(status[s * of_status + number * to_number])
            worst[number] = -np.inf if np.isnan(value) else min(worst[number], value)
    return worst[0], worst[1], worst[2], worst[3], too_large == 0 and all_finite(mean)
