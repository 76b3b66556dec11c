"""Small matrices and vectors in scratch memory: the building blocks of the filter kernels.

All of it exists in two variants, chosen by the flag `over_batch`, a constant when the kernels are compiled:

* **batch-vectorized** (`over_batch` is True): a SIMD vector holds the same element of several sequences. It uses the
  full width of the processor for a state of any size.
* **state-vectorized** (`over_batch` is False): a SIMD vector holds neighboring columns of a matrix of one sequence. It
  suits few sequences and large states. In wide arrays (`_simd.py`) a vector has more columns, for larger states.

The variants differ only in what "element k" of a row is when it is multiplied with a SIMD vector. Batch-vectorized, it
is again a SIMD vector, with one element per sequence. State-vectorized, it is one number, copied to every position
(`element`).

Names in this module and in the filter kernels:

=============  =========================================================================================================
``w``          numbers in a SIMD vector (`width`)
``n``, ``m``   size of the state, number of channels
``nv``         SIMD vectors in a row with one entry per state: n batch-vectorized, n / w rounded up state-vectorized
``pv``         the same in scratch memory, rounded up to a multiple of 2
``pr``         rows of a matrix in scratch memory, n rounded up to a multiple of 4: products need no remainder loop
``vstride``    distance from one SIMD vector to the next in arrays outside of scratch memory, in numbers
``estride``    the same for arrays with one entry per channel: `vstride` batch-vectorized, 1 state-vectorized
``block``      sequences that are filtered together: w batch-vectorized, 1 state-vectorized
``at_X``       distances (block to block, step to step) in the array X; 0 along an axis on which X does not vary
``dims``       the tuple (n, nv, pr, pv, vstride)
``c``, ``i``   index of a SIMD vector in a row, index of a row
=============  =========================================================================================================
"""

from __future__ import annotations

import numpy as np

from kalmanssl.kalman.kernels._jit import inline_allocating_njit, inline_njit
from kalmanssl.kalman.kernels._simd import (
    CACHE_LINE,
    add_up,
    broadcast,
    choose_positive,
    filled,
    fma,
    like,
    load,
    store,
    store_first,
    width,
)

__all__ = [
    "add",
    "add_to_diagonal",
    "dot",
    "element",
    "flush",
    "four_rows_times",
    "matrix_product",
    "minimum",
    "offset",
    "padded_shape",
    "read",
    "scratch",
    "store_element",
    "subtract_four_products",
    "sum_positions",
    "symmetric_product",
    "symmetrize",
    "transpose",
    "transposed_times_vector",
    "write",
]


@inline_allocating_njit
def scratch(number, array):
    """Zeros with the data type and the SIMD vectors of an array, from the beginning of a line of the cache on."""
    memory = np.zeros(number + CACHE_LINE // array.itemsize, array.dtype)
    start = -memory.ctypes.data % CACHE_LINE // memory.itemsize
    return like(memory[start : start + number], array)


@inline_njit
def padded_shape(n, nv):
    """`pr` and `pv` of matrices in scratch memory."""
    return (n + 3) // 4 * 4, nv + nv % 2


@inline_njit
def offset(at, block, t):
    """Index at which step t of a block begins."""
    return block * at[0] + t * at[1]


@inline_njit
def element(over_batch, array, start, stride, k):
    """Element k of a row that begins at `start`, as a SIMD vector."""
    if over_batch:
        return load(array, start + k * stride)
    return broadcast(array, start + k)


@inline_njit
def store_element(over_batch, array, index, value):
    """Store an element, which is a SIMD vector batch-vectorized and one number state-vectorized."""
    if over_batch:
        store(array, index, value)
    else:
        store_first(array, index, value)


@inline_njit
def sum_positions(over_batch, value):
    """Finish a sum over the state: state-vectorized, its terms are spread over the positions of a SIMD vector."""
    if over_batch:
        return value
    return add_up(value)


@inline_njit
def minimum(a, b):
    """Elementwise minimum; the result is NaN where b is."""
    return choose_positive(b - a, a, b)


@inline_njit
def _product_tile(over_batch, out, first, X, Y, i, c, pv, n):
    """Rows i to i+3 and SIMD vectors c, c+1 of the product X Y, accumulated in registers.

    They go to rows `first` to `first` + 3 of `out`.
    """
    w = width(X)
    zero = filled(X, 0.0)
    a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    row = pv * w
    start = i * row
    for k in range(n):
        y0, y1 = load(Y, k * row + c * w), load(Y, k * row + c * w + w)
        x = element(over_batch, X, start, w, k)
        a0, a1 = fma(x, y0, a0), fma(x, y1, a1)
        x = element(over_batch, X, start + row, w, k)
        b0, b1 = fma(x, y0, b0), fma(x, y1, b1)
        x = element(over_batch, X, start + 2 * row, w, k)
        c0, c1 = fma(x, y0, c0), fma(x, y1, c1)
        x = element(over_batch, X, start + 3 * row, w, k)
        d0, d1 = fma(x, y0, d0), fma(x, y1, d1)
    place = first * row + c * w
    store(out, place, a0)
    store(out, place + w, a1)
    store(out, place + row, b0)
    store(out, place + row + w, b1)
    store(out, place + 2 * row, c0)
    store(out, place + 2 * row + w, c1)
    store(out, place + 3 * row, d0)
    store(out, place + 3 * row + w, d1)


@inline_njit
def matrix_product(over_batch, out, X, Y, pr, pv, n):
    """The product X Y of matrices in scratch memory."""
    for i in range(0, pr, 4):
        for c in range(0, pv, 2):
            _product_tile(over_batch, out, i, X, Y, i, c, pv, n)


@inline_njit
def four_rows_times(over_batch, out, X, i, Y, pv, n):
    """The product of rows i to i+3 of X with Y."""
    for c in range(0, pv, 2):
        _product_tile(over_batch, out, 0, X, Y, i, c, pv, n)


@inline_njit
def subtract_four_products(out, X, Y, pv, nv, n):
    """Subtract X' Y from a matrix, state-vectorized; X and Y have four rows."""
    w = width(X)
    row = pv * w
    zero = filled(X, 0.0)
    for c in range(nv):
        place = c * w
        y0, y1 = zero - load(Y, place), zero - load(Y, place + row)
        y2, y3 = zero - load(Y, place + 2 * row), zero - load(Y, place + 3 * row)
        for i in range(n):
            total = fma(broadcast(X, i), y0, load(out, place))
            total = fma(broadcast(X, row + i), y1, total)
            total = fma(broadcast(X, 2 * row + i), y2, total)
            store(out, place, fma(broadcast(X, 3 * row + i), y3, total))
            place += row


@inline_njit
def dot(over_batch, X, x, Y, y, nv):
    """The inner product of rows that begin at x in X and at y in Y, at every position of a SIMD vector."""
    w = width(X)
    total = filled(X, 0.0)
    for c in range(nv):
        total = fma(load(X, x + c * w), load(Y, y + c * w), total)
    return sum_positions(over_batch, total)


@inline_njit
def symmetric_product(over_batch, out, X, Y, pr, pv, n):
    """The product X Y, which is known to be symmetric up to rounding: batch-vectorized, only its lower half."""
    if over_batch:
        w = width(X)
        for i in range(0, pr, 4):
            for c in range(0, min(i + 4, pv), 2):
                _product_tile(over_batch, out, i, X, Y, i, c, pv, n)
        for i in range(n):
            for j in range(i):
                store(out, (j * pv + i) * w, load(out, (i * pv + j) * w))
    else:
        matrix_product(over_batch, out, X, Y, pr, pv, n)


@inline_njit
def symmetrize(over_batch, X, pv, n):
    """Replace X by its symmetric part, so that asymmetry from rounding does not accumulate over time."""
    w = width(X)
    row = pv * w
    half = filled(X, 0.5)
    for i in range(n):
        for j in range(i):
            if over_batch:
                below, above = i * row + j * w, j * row + i * w
                mean = half * (load(X, below) + load(X, above))
                store(X, below, mean)
                store(X, above, mean)
            else:
                number = (X[i * row + j] + X[j * row + i]) / 2
                X[i * row + j] = number
                X[j * row + i] = number


@inline_njit
def transposed_times_vector(over_batch, out, X, vector, start, stride, pv, nv, n):
    """The product X' v, where v has n elements and begins at `start`."""
    w = width(X)
    row = pv * w
    for c in range(0, nv, 2):
        zero = filled(X, 0.0)
        a0, a1, b0, b1 = zero, zero, zero, zero
        place = c * w
        for k in range(0, n - 1, 2):
            x = element(over_batch, vector, start, stride, k)
            a0, a1 = fma(x, load(X, place), a0), fma(x, load(X, place + w), a1)
            x = element(over_batch, vector, start, stride, k + 1)
            b0, b1 = fma(x, load(X, place + row), b0), fma(x, load(X, place + row + w), b1)
            place += 2 * row
        if n % 2:
            x = element(over_batch, vector, start, stride, n - 1)
            a0, a1 = fma(x, load(X, place), a0), fma(x, load(X, place + w), a1)
        store(out, c * w, a0 + b0)
        store(out, c * w + w, a1 + b1)


@inline_njit
def read(out, source, start, vstride, rows, pv, nv):
    """Copy a matrix into scratch memory."""
    w = width(out)
    for i in range(rows):
        for c in range(nv):
            store(out, (i * pv + c) * w, load(source, start + (i * nv + c) * vstride))


@inline_njit
def write(out, start, vstride, source, rows, pv, nv):
    """Copy a matrix out of scratch memory."""
    w = width(out)
    for i in range(rows):
        for c in range(nv):
            store(out, start + (i * nv + c) * vstride, load(source, (i * pv + c) * w))


@inline_njit
def add(out, source, start, vstride, rows, pv, nv):
    """Add a matrix from outside to one in scratch memory."""
    w = width(out)
    for i in range(rows):
        for c in range(nv):
            place = (i * pv + c) * w
            store(out, place, load(out, place) + load(source, start + (i * nv + c) * vstride))


@inline_njit
def transpose(over_batch, out, X, pv, n):
    """Transpose a matrix in scratch memory."""
    w = width(X)
    for i in range(n):
        for j in range(n):
            if over_batch:
                store(out, (j * pv + i) * w, load(X, (i * pv + j) * w))
            else:
                out[j * pv * w + i] = X[i * pv * w + j]


@inline_njit
def add_to_diagonal(over_batch, X, source, start, vstride, pv, n):
    """Add a vector from outside to the diagonal of a matrix in scratch memory."""
    w = width(X)
    for i in range(n):
        if over_batch:
            place = (i * pv + i) * w
            store(X, place, load(X, place) + load(source, start + i * vstride))
        else:
            X[i * pv * w + i] += source[start + i]


@inline_njit
def flush(total, start, vstride, part, rows, pv, nv):
    """Add a sum in scratch memory to a total in float64, and reset it to zero."""
    w = width(part)
    for i in range(rows):
        for c in range(nv):
            place = (i * pv + c) * w
            for x in range(w):
                total[start + (i * nv + c) * vstride + x] += part[place + x]
                part[place + x] = 0.0
