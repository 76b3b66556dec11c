"""Kernels of the forward and the backward pass on a grid of two dimensions, compiled by numba.

This module imports numba, which takes long, so it is imported when it is first needed. All arrays of numbers are
float32. The innermost loops run over a row, which compilers turn into vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kalmanssl.kalman.kernels import cached_njit

__all__ = ["backward_kernel", "forward_kernel"]

_ONE = np.float32(1.0)


@njit(nogil=True, error_model="numpy")
def _scaled(likelihood, largest, result):  # type: ignore[no-untyped-def]
    """Write the likelihood (rows, columns) of a bin, divided by its maximum, to `result`."""
    n_rows, n_columns = likelihood.shape
    largest[:] = 0.0
    for i in range(n_rows):
        for j in range(n_columns):
            largest[j] = max(largest[j], likelihood[i, j])
    scale = 1.0 / largest.max()
    for i in range(n_rows):
        for j in range(n_columns):
            result[i, j] = likelihood[i, j] * scale


def _forward(  # type: ignore[no-untyped-def]
    likelihood, start, belief, prior, rows, columns, before, after, switching, jump
):
    states, n_rows, n_columns = prior.shape
    result = np.empty((len(likelihood), states, n_rows, n_columns), dtype=np.float32)
    mixed = np.empty((n_rows, n_columns), dtype=np.float32)
    arrived, scaled = np.empty_like(mixed), np.empty_like(mixed)
    total = np.empty(n_columns, dtype=np.float32)
    largest = np.empty(n_columns, dtype=likelihood.dtype)
    stay = _ONE - jump
    for time in range(len(likelihood)):
        _scaled(likelihood[time], largest, scaled)
        total[:] = 0.0
        new = result[time]
        for arriving in range(states):
            if start[time]:
                for i in range(n_rows):
                    for j in range(n_columns):
                        new[arriving, i, j] = prior[arriving, i, j] * scaled[i, j]
                        total[j] += new[arriving, i, j]
                continue
            for i in range(n_rows):
                share = switching[0, arriving]
                for j in range(n_columns):
                    mixed[i, j] = share * belief[0, i, j]
                for leaving in range(1, states):
                    share = switching[leaving, arriving]
                    for j in range(n_columns):
                        mixed[i, j] += share * belief[leaving, i, j]
                for j in range(n_columns):
                    mixed[i, j] *= before[arriving, i, j]
            arrived[:] = (rows[arriving] @ mixed) @ columns[arriving]
            for i in range(n_rows):
                for j in range(n_columns):
                    predicted = stay * after[arriving, i, j] * arrived[i, j] + jump * prior[arriving, i, j]
                    new[arriving, i, j] = predicted * scaled[i, j]
                    total[j] += new[arriving, i, j]
        scale = _ONE / total.sum()
        for state in range(states):
            for i in range(n_rows):
                for j in range(n_columns):
                    new[state, i, j] *= scale
        belief = new
    return result


def _backward(  # type: ignore[no-untyped-def]
    filtered, likelihood, start, message, prior, rows, columns, before, after, switching, jump
):
    states, n_rows, n_columns = prior.shape
    result, arrived = np.empty_like(filtered), np.empty_like(message)
    ahead = np.empty((n_rows, n_columns), dtype=np.float32)
    scaled = np.empty_like(ahead)
    total, jumped = np.empty((2, n_columns), dtype=np.float32)
    largest = np.empty(n_columns, dtype=likelihood.dtype)
    stay = _ONE - jump
    last = len(likelihood) - 1
    for time in range(last, -1, -1):
        if time < last and start[time + 1]:
            message[:] = 1.0
        elif time < last:
            _scaled(likelihood[time + 1], largest, scaled)
            jumped[:] = 0.0
            for state in range(states):
                for i in range(n_rows):
                    for j in range(n_columns):
                        value = message[state, i, j] * scaled[i, j]
                        jumped[j] += prior[state, i, j] * value
                        ahead[i, j] = after[state, i, j] * value
                arrived[state] = (rows[state] @ ahead) @ columns[state]
                for i in range(n_rows):
                    for j in range(n_columns):
                        arrived[state, i, j] *= before[state, i, j]
            base = jump * jumped.sum()
            total[:] = 0.0
            for leaving in range(states):
                for i in range(n_rows):
                    for j in range(n_columns):
                        message[leaving, i, j] = base
                    for arriving in range(states):
                        share = stay * switching[leaving, arriving]
                        for j in range(n_columns):
                            message[leaving, i, j] += share * arrived[arriving, i, j]
                    for j in range(n_columns):
                        total[j] = max(total[j], message[leaving, i, j])
            scale = _ONE / total.max()
            for leaving in range(states):
                for i in range(n_rows):
                    for j in range(n_columns):
                        message[leaving, i, j] *= scale
        total[:] = 0.0
        for state in range(states):
            for i in range(n_rows):
                for j in range(n_columns):
                    value = filtered[time, state, i, j] * message[state, i, j]
                    result[time, state, i, j] = value
                    total[j] += value
        scale = _ONE / total.sum()
        for state in range(states):
            for i in range(n_rows):
                for j in range(n_columns):
                    result[time, state, i, j] *= scale
    return result


forward_kernel = cached_njit(_forward)
backward_kernel = cached_njit(_backward)
