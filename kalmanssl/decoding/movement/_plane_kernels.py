"""Kernels of the forward and the backward pass on a grid of two dimensions, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. Arrays are flat and float32.
In the transition and in the arrays that a bin is computed in, rows are padded with zeros to `stride` numbers, a whole
number of SIMD vectors, and the number of rows to `n_padded`, a multiple of four. The arrays over time are not padded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.kalman.kernels import cached_njit, inline_njit
from kalmanssl.kalman.kernels._simd import add_up, broadcast, filled, fma, load, store, store_first

__all__ = ["marginal_kernel", "plane_backward_kernel", "plane_forward_kernel"]


@inline_njit
def _one_vector(left: Any, a: int, row: int, n: int, right: Any, b: int, s: int, result: Any, r: int) -> None:
    """Write 4 rows and 8 columns of a product: `left[a]`, with `row` numbers in a row, n of them with `right[b]`."""
    zero: Any = filled(right, np.float32(0.0))  # type: ignore[call-arg]
    p, q, u, v = zero, zero, zero, zero
    for k in range(n):
        x = load(right, b + k * s)
        p = fma(broadcast(left, a + k), x, p)
        q = fma(broadcast(left, a + row + k), x, q)
        u = fma(broadcast(left, a + 2 * row + k), x, u)
        v = fma(broadcast(left, a + 3 * row + k), x, v)
    store(result, r, p)
    store(result, r + s, q)
    store(result, r + 2 * s, u)
    store(result, r + 3 * s, v)


@inline_njit
def _two_vectors(left: Any, a: int, row: int, n: int, right: Any, b: int, s: int, result: Any, r: int) -> None:
    """Write 4 rows and 16 columns of a product, as `_one_vector`."""
    zero: Any = filled(right, np.float32(0.0))  # type: ignore[call-arg]
    p0, q0, u0, v0, p1, q1, u1, v1 = zero, zero, zero, zero, zero, zero, zero, zero
    for k in range(n):
        x, y = load(right, b + k * s), load(right, b + k * s + 8)
        w = broadcast(left, a + k)
        p0, p1 = fma(w, x, p0), fma(w, y, p1)
        w = broadcast(left, a + row + k)
        q0, q1 = fma(w, x, q0), fma(w, y, q1)
        w = broadcast(left, a + 2 * row + k)
        u0, u1 = fma(w, x, u0), fma(w, y, u1)
        w = broadcast(left, a + 3 * row + k)
        v0, v1 = fma(w, x, v0), fma(w, y, v1)
    store(result, r, p0)
    store(result, r + 8, p1)
    store(result, r + s, q0)
    store(result, r + s + 8, q1)
    store(result, r + 2 * s, u0)
    store(result, r + 2 * s + 8, u1)
    store(result, r + 3 * s, v0)
    store(result, r + 3 * s + 8, v1)


@inline_njit
def _three_vectors(left: Any, a: int, row: int, n: int, right: Any, b: int, s: int, result: Any, r: int) -> None:
    """Write 4 rows and 24 columns of a product, as `_one_vector`."""
    zero: Any = filled(right, np.float32(0.0))  # type: ignore[call-arg]
    p0, q0, u0, v0, p1, q1, u1, v1 = zero, zero, zero, zero, zero, zero, zero, zero
    p2, q2, u2, v2 = zero, zero, zero, zero
    for k in range(n):
        x, y, z = load(right, b + k * s), load(right, b + k * s + 8), load(right, b + k * s + 16)
        w = broadcast(left, a + k)
        p0, p1, p2 = fma(w, x, p0), fma(w, y, p1), fma(w, z, p2)
        w = broadcast(left, a + row + k)
        q0, q1, q2 = fma(w, x, q0), fma(w, y, q1), fma(w, z, q2)
        w = broadcast(left, a + 2 * row + k)
        u0, u1, u2 = fma(w, x, u0), fma(w, y, u1), fma(w, z, u2)
        w = broadcast(left, a + 3 * row + k)
        v0, v1, v2 = fma(w, x, v0), fma(w, y, v1), fma(w, z, v2)
    store(result, r, p0)
    store(result, r + 8, p1)
    store(result, r + 16, p2)
    store(result, r + s, q0)
    store(result, r + s + 8, q1)
    store(result, r + s + 16, q2)
    store(result, r + 2 * s, u0)
    store(result, r + 2 * s + 8, u1)
    store(result, r + 2 * s + 16, u2)
    store(result, r + 3 * s, v0)
    store(result, r + 3 * s + 8, v1)
    store(result, r + 3 * s + 16, v2)


@inline_njit
def _multiply(left: Any, a: int, row: int, n: int, right: Any, b: int, s: int, result: Any, r: int) -> None:
    """Write the product of 4 rows of n numbers at `left[a]`, `row` apart, and a matrix (n, s) at `right[b]`."""
    c = 0
    while c < s:
        if s - c == 8:
            _one_vector(left, a, row, n, right, b + c, s, result, r + c)
            c += 8
        elif s - c == 16 or s - c == 32:
            _two_vectors(left, a, row, n, right, b + c, s, result, r + c)
            c += 16
        else:
            _three_vectors(left, a, row, n, right, b + c, s, result, r + c)
            c += 24


@inline_njit
def _move(values: Any, rows: Any, columns: Any, state: int, n: int, m: int, s: int, moved: Any, result: Any) -> None:
    """Write the product ``rows @ values @ columns`` of a motion state to `result`, (n_padded, s).

    values : (n, s);   rows : (states, n_padded, n);   columns : (states, m, s);   moved : (4, s), memory
    """
    padded = len(result) // s
    for i in range(0, padded, 4):
        _multiply(rows, (state * padded + i) * n, n, n, values, 0, s, moved, 0)
        _multiply(moved, 0, s, m, columns, state * m * s, s, result, i * s)


@inline_njit
def _read(values: Any, v: int, n: int, m: int, s: int, result: Any) -> None:
    """Copy values (n, m) at `values[v]` to `result` (n, s); what is read beyond the end of a row is of no account."""
    whole = m - m % 8
    for i in range(n):
        is_inside = i * m + s <= n * m
        for c in range(0, s if is_inside else whole, 8):
            store(result, i * s + c, load(values, v + i * m + c))  # type: ignore[call-arg]
        if not is_inside:
            for c in range(whole, m):
                result[i * s + c] = values[v + i * m + c]


@inline_njit
def _write(values: Any, v: int, scale: Any, n: int, m: int, s: int, result: Any, r: int) -> None:
    """Multiply values (n, s) at `values[v]` by a scale, and copy them to `result[r]` (n, m)."""
    whole = m - m % 8
    for i in range(n):
        is_inside = i * m + s <= n * m  # then what is written beyond the end of the row is replaced by later rows
        for c in range(0, s, 8):
            own = v + i * s + c
            value = scale * load(values, own)  # type: ignore[call-arg]
            store(values, own, value)
            if is_inside or c < whole:
                store(result, r + i * m + c, value)
        if not is_inside:
            for c in range(whole, m):
                result[r + i * m + c] = values[v + i * s + c]


@inline_njit
def _scale(values: Any, size: int) -> None:
    """Divide values (size,) by their sum."""
    total: Any = load(values, 0)  # type: ignore[call-arg]
    for c in range(8, size, 8):
        total = total + load(values, c)
    scale = filled(values, np.float32(1.0)) / add_up(total)
    for c in range(0, size, 8):
        store(values, c, scale * load(values, c))


@cached_njit
def plane_forward_kernel(  # type: ignore[no-untyped-def]
    likelihood, start, belief, prior, rows, columns, before, after, switching, jump, shape, stride, result
):
    """Write the filtered distribution of every bin (time, states, n, m) to `result`.

    likelihood : (time, n, m);   start : (time,) bool
    belief : (states, n_padded, stride), that of the bin before the first one, overwritten
    prior, before, after : (states, n_padded, stride);   switching : (states, states);   shape : (states, n, m)
    rows : (states, n_padded, n), from the second to the first cell;   columns : (states, m, stride)
    """
    states, n, m = shape
    s, cells = stride, n * m
    size = len(prior) // states
    mixed, arrived, scaled = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    moved, new = np.zeros(4 * s, np.float32), np.zeros(states * size, np.float32)
    staying, jumping = (np.float32(1.0) - jump) * after, jump * prior
    one: Any = filled(likelihood, np.float32(1.0))  # type: ignore[call-arg]
    for time in range(len(start)):
        _read(likelihood, time * cells, n, m, s, scaled)
        _scale(scaled, size)
        total = one - one
        for arriving in range(states):
            a = arriving * size
            if start[time]:
                for c in range(0, size, 8):
                    value = load(prior, a + c) * load(scaled, c)
                    store(new, a + c, value)
                    total = total + value
                continue
            for c in range(0, size, 8):
                value = broadcast(switching, arriving) * load(belief, c)
                for leaving in range(1, states):
                    share = broadcast(switching, leaving * states + arriving)
                    value = fma(share, load(belief, leaving * size + c), value)
                store(mixed, c, value * load(before, a + c))
            _move(mixed, rows, columns, arriving, n, m, s, moved, arrived)
            for c in range(0, size, 8):
                predicted = fma(load(staying, a + c), load(arrived, c), load(jumping, a + c))
                value = predicted * load(scaled, c)
                store(new, a + c, value)
                total = total + value
        scale = one / add_up(total)
        for state in range(states):
            _write(new, state * size, scale, n, m, s, result, (time * states + state) * cells)
        belief, new = new, belief


@cached_njit
def plane_backward_kernel(  # type: ignore[no-untyped-def]
    filtered, likelihood, start, message, prior, rows, columns, before, after, switching, jump, shape, stride
):
    """Replace the filtered distribution of every bin (time, states, n, m) by the smoothed one.

    message : (states, n_padded, stride), likelihood of the bins after the last one, replaced by that of those after the
        first one
    rows : (states, n_padded, n);   columns : (states, m, stride), from the second to the first cell
    other arguments : as in `plane_forward_kernel`
    """
    states, n, m = shape
    s, cells = stride, n * m
    size = len(prior) // states
    ahead, scaled, moved = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(4 * s, np.float32)
    one_state, arrived = np.zeros(size, np.float32), np.zeros(states * size, np.float32)
    stay, base, inside = np.full(1, np.float32(1.0) - jump), np.zeros(1, np.float32), np.zeros(size, np.float32)
    for i in range(n):
        inside[i * s : i * s + m] = 1.0
    one: Any = filled(likelihood, np.float32(1.0))  # type: ignore[call-arg]
    last = len(start) - 1
    for time in range(last, -1, -1):
        if time < last and start[time + 1]:
            for state in range(states):
                message[state * size : (state + 1) * size] = inside
        elif time < last:
            _read(likelihood, (time + 1) * cells, n, m, s, scaled)
            _scale(scaled, size)
            jumped = one - one
            for arriving in range(states):
                a = arriving * size
                for c in range(0, size, 8):
                    value = load(message, a + c) * load(scaled, c)
                    jumped = fma(load(prior, a + c), value, jumped)
                    store(ahead, c, load(after, a + c) * value)
                _move(ahead, rows, columns, arriving, n, m, s, moved, one_state)
                for c in range(0, size, 8):
                    store(arrived, a + c, broadcast(stay, 0) * load(before, a + c) * load(one_state, c))
            store_first(base, 0, add_up(jumped))
            base[0] *= jump
            total = one - one
            for leaving in range(states):
                for c in range(0, size, 8):
                    value = broadcast(base, 0)
                    for arriving in range(states):
                        share = broadcast(switching, leaving * states + arriving)
                        value = fma(share, load(arrived, arriving * size + c), value)
                    value = load(inside, c) * value
                    store(message, leaving * size + c, value)
                    total = total + value
            scale = one / add_up(total)
            for c in range(0, states * size, 8):
                store(message, c, scale * load(message, c))
        total = one - one
        for state in range(states):
            a = state * size
            _read(filtered, (time * states + state) * cells, n, m, s, one_state)
            for c in range(0, size, 8):
                value = load(one_state, c) * load(message, a + c)
                store(arrived, a + c, value)
                total = total + value
        scale = one / add_up(total)
        for state in range(states):
            _write(arrived, state * size, scale, n, m, s, filtered, (time * states + state) * cells)


@cached_njit
def marginal_kernel(mass, states, along_rows, along_columns):  # type: ignore[no-untyped-def]
    """Write the marginals of distributions (time, states, n, m) along rows (time, n) and along columns (time, m)."""
    n, m = along_rows.shape[1], along_columns.shape[1]
    s = m + (-m) % 8
    size = n * s
    own, total, column, one_row = (
        np.zeros(size, np.float32),
        np.zeros(size, np.float32),
        np.zeros(s, np.float32),
        np.zeros(1, np.float32),
    )
    inside = np.zeros(s, np.float32)
    inside[:m] = 1.0
    zero: Any = filled(mass, np.float32(0.0))  # type: ignore[call-arg]
    for time in range(len(along_rows)):
        total[:] = 0.0
        for state in range(states):
            _read(mass, (time * states + state) * n * m, n, m, s, own)
            for c in range(0, size, 8):
                store(total, c, load(total, c) + load(own, c))
        column[:] = 0.0
        for i in range(n):
            row = zero
            for c in range(0, s, 8):
                value = load(total, i * s + c) * load(inside, c)
                store(column, c, load(column, c) + value)
                row = row + value
            store_first(one_row, 0, add_up(row))
            along_rows[time, i] = one_row[0]
        along_columns[time] = column[:m]
