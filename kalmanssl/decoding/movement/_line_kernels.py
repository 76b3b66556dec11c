"""Kernels of the forward and the backward pass on a grid of one dimension, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. Arrays are flat and float32.
Each row of cells is padded with zeros to `stride` numbers, a whole number of blocks of two SIMD vectors, and so are the
rows of the kernels of the movement prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.kalman.kernels import cached_njit, inline_njit
from kalmanssl.kalman.kernels._simd import add_up, broadcast, filled, fma, load, store, store_first

__all__ = ["line_backward_kernel", "line_forward_kernel"]


@inline_njit
def _move(values: Any, v: int, kernel: Any, matrix: int, band: Any, state: int, result: Any, r: int, s: int) -> None:
    """Write the product of a row at `values[v]` with a kernel (s, s) at `kernel[matrix]` to `result[r]`.

    band : (states, blocks, 2), the range of the rows of the kernel that matter for a block of columns, multiples of 4
    """
    for block in range(s // 16):
        c = block * 16
        zero: Any = filled(values, np.float32(0.0))  # type: ignore[call-arg]
        a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
        for k in range(band[state, block, 0], band[state, block, 1], 4):
            m = matrix + k * s + c
            x = broadcast(values, v + k)
            a0, a1 = fma(x, load(kernel, m), a0), fma(x, load(kernel, m + 8), a1)
            x = broadcast(values, v + k + 1)
            b0, b1 = fma(x, load(kernel, m + s), b0), fma(x, load(kernel, m + s + 8), b1)
            x = broadcast(values, v + k + 2)
            c0, c1 = fma(x, load(kernel, m + 2 * s), c0), fma(x, load(kernel, m + 2 * s + 8), c1)
            x = broadcast(values, v + k + 3)
            d0, d1 = fma(x, load(kernel, m + 3 * s), d0), fma(x, load(kernel, m + 3 * s + 8), d1)
        store(result, r + c, (a0 + b0) + (c0 + d0))
        store(result, r + c + 8, (a1 + b1) + (c1 + d1))


@inline_njit
def _scale_of(values: Any, v: int, s: int, one: Any) -> Any:
    """Return the inverse of the sum of a row at `values[v]`."""
    total: Any = load(values, v)  # type: ignore[call-arg]
    for c in range(8, s, 8):
        total = total + load(values, v + c)
    return one / add_up(total)


@cached_njit
def line_forward_kernel(  # type: ignore[no-untyped-def]
    likelihood, start, belief, prior, kernel, band, before, after, switching, jump, stride, result
):
    """Write the filtered distribution of every bin (time, states, stride) to `result`.

    likelihood : (time, stride);   start : (time,) bool
    belief : (states, stride), that of the bin before the first one
    prior, before, after : (states, stride);   kernel : (states, stride, stride);   switching : (states, states)
    """
    states, s = len(prior) // stride, stride
    size = states * s
    mixed, arrived, scaled = np.zeros(s, np.float32), np.zeros(s, np.float32), np.zeros(s, np.float32)
    staying, jumping = (np.float32(1.0) - jump) * after, jump * prior
    one: Any = filled(likelihood, np.float32(1.0))  # type: ignore[call-arg]
    for time in range(len(start)):
        x, new, old = time * s, time * size, (time - 1) * size
        last = result
        if time == 0:
            last, old = belief, 0
        scale = _scale_of(likelihood, x, s, one)
        for c in range(0, s, 8):
            store(scaled, c, scale * load(likelihood, x + c))
        total = one - one
        for arriving in range(states):
            a = arriving * s
            if start[time]:
                for c in range(0, s, 8):
                    value = load(prior, a + c) * load(scaled, c)
                    store(result, new + a + c, value)
                    total = total + value
                continue
            for c in range(0, s, 8):
                value = broadcast(switching, arriving) * load(last, old + c)
                for leaving in range(1, states):
                    share = broadcast(switching, leaving * states + arriving)
                    value = fma(share, load(last, old + leaving * s + c), value)
                store(mixed, c, value * load(before, a + c))
            _move(mixed, 0, kernel, a * s, band, arriving, arrived, 0, s)
            for c in range(0, s, 8):
                predicted = fma(load(staying, a + c), load(arrived, c), load(jumping, a + c))
                value = predicted * load(scaled, c)
                store(result, new + a + c, value)
                total = total + value
        scale = one / add_up(total)
        for c in range(new, new + size, 8):
            store(result, c, scale * load(result, c))


@cached_njit
def line_backward_kernel(  # type: ignore[no-untyped-def]
    filtered, likelihood, start, message, prior, kernel, band, before, after, switching, jump, stride, result
):
    """Write the smoothed distribution of every bin (time, states, stride) to `result`, from the filtered ones.

    message : (states, stride), likelihood of the bins after the last one, replaced by that of those after the first one
    kernel : (states, stride, stride), from the second to the first cell; other arguments as in `line_forward_kernel`
    """
    states, s = len(prior) // stride, stride
    size = states * s
    ahead, arrived, scaled = np.zeros(s, np.float32), np.zeros(size, np.float32), np.zeros(s, np.float32)
    stay, base = np.full(1, np.float32(1.0) - jump), np.zeros(1, np.float32)
    one: Any = filled(likelihood, np.float32(1.0))  # type: ignore[call-arg]
    last = len(start) - 1
    for time in range(last, -1, -1):
        x = (time + 1) * s
        if time < last and start[time + 1]:
            for c in range(0, size, 8):
                store(message, c, one)
        elif time < last:
            scale = _scale_of(likelihood, x, s, one)
            for c in range(0, s, 8):
                store(scaled, c, scale * load(likelihood, x + c))
            jumped = one - one
            for arriving in range(states):
                a = arriving * s
                for c in range(0, s, 8):
                    value = load(message, a + c) * load(scaled, c)
                    jumped = fma(load(prior, a + c), value, jumped)
                    store(ahead, c, load(after, a + c) * value)
                _move(ahead, 0, kernel, a * s, band, arriving, arrived, a, s)
                for c in range(a, a + s, 8):
                    store(arrived, c, broadcast(stay, 0) * load(before, c) * load(arrived, c))
            store_first(base, 0, add_up(jumped))
            base[0] *= jump
            total = one - one
            for leaving in range(states):
                for c in range(0, s, 8):
                    value = broadcast(base, 0)
                    for arriving in range(states):
                        share = broadcast(switching, leaving * states + arriving)
                        value = fma(share, load(arrived, arriving * s + c), value)
                    store(message, leaving * s + c, value)
                    total = total + value
            scale = one / add_up(total)
            for c in range(0, size, 8):
                store(message, c, scale * load(message, c))
        total, own = one - one, time * size
        for c in range(0, size, 8):
            value = load(filtered, own + c) * load(message, c)
            store(result, own + c, value)
            total = total + value
        scale = one / add_up(total)
        for c in range(own, own + size, 8):
            store(result, c, scale * load(result, c))
