"""Recursive Bayesian estimation on a grid: the forward and the backward pass of the state-space decoder.

The hidden state is a cell of the grid and a motion state. One step of the movement prior is, for every motion state, ::

    p'(x', s') = v[s'](x') sum_x K[s'](x, x') u[s'](x) sum_s M(s, s') p(x, s)

with a separable kernel K and two positive functions u and v, plus a jump to the prior with a small probability. The
cost of a step is linear in the number of cells times the length of an axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from kalmanssl.kalman.kernels import cached_njit, has_compiler

__all__ = ["Transition", "backward", "forward", "forward_step"]


@dataclass(frozen=True)
class Transition:
    """One step of a movement prior.

    Attributes
    ----------
    prior : (states, rows, columns)
        Distribution at the start of a segment and after a jump.
    along_rows, along_columns : (states, rows, rows), (states, columns, columns)
        Kernels along the two axes, from the first to the second cell; grids of one dimension have a single column.
    before, after : (states, rows, columns)
        The functions u and v.
    switching : (states, states)
        Probability of each motion state given the one before.
    jump : float
        Probability of a jump.
    """

    prior: np.ndarray
    along_rows: np.ndarray
    along_columns: np.ndarray
    before: np.ndarray
    after: np.ndarray
    switching: np.ndarray
    jump: float


def forward(likelihood: np.ndarray, start: np.ndarray, transition: Transition) -> np.ndarray:
    """Return the filtered distribution of every bin, (time, states, rows, columns), float32.

    Parameters
    ----------
    likelihood : (time, rows, columns)
        Likelihood of each cell, up to a factor per bin; constant where a bin is missing.
    start : (time,) bool
        True at the first bin of each segment; the first bin of all must be one.
    transition : Transition
    """
    t = transition
    rows = np.ascontiguousarray(t.along_rows.swapaxes(1, 2))
    return _compile(_forward)(likelihood, start, t.prior, rows, t.along_columns, t.before, t.after, t.switching, t.jump)


def forward_step(belief: np.ndarray | None, likelihood: np.ndarray, transition: Transition) -> np.ndarray:
    """Return the filtered distribution (states, rows, columns) of one bin, float64, from that of the bin before.

    `belief` is None at the first bin of a segment; `likelihood` is (rows, columns).
    """
    t = transition
    if belief is None:
        predicted = t.prior
    else:
        mixed = np.tensordot(t.switching.T, belief, axes=1) * t.before
        moved = t.along_rows.swapaxes(1, 2) @ mixed @ t.along_columns
        predicted = (1 - t.jump) * t.after * moved + t.jump * t.prior
    posterior = predicted * likelihood
    return posterior / posterior.sum()


def backward(filtered: np.ndarray, likelihood: np.ndarray, start: np.ndarray, transition: Transition) -> np.ndarray:
    """Return the smoothed distribution of every bin, as `forward`, from the filtered ones."""
    t = transition
    columns = np.ascontiguousarray(t.along_columns.swapaxes(1, 2))
    return _compile(_backward)(
        filtered, likelihood, start, t.prior, t.along_rows, columns, t.before, t.after, t.switching, t.jump
    )


@cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function when it is first needed; without a compiler it runs as it is."""
    return cached_njit(function) if has_compiler() else function


def _forward(likelihood, start, prior, rows, columns, before, after, switching, jump):  # type: ignore[no-untyped-def]
    states = len(prior)
    result = np.empty((len(likelihood), *prior.shape), dtype=np.float32)
    belief = prior.copy()
    predicted = np.empty_like(prior)
    for time in range(len(likelihood)):
        if start[time]:
            predicted[:] = prior
        else:
            for arriving in range(states):
                mixed = switching[0, arriving] * belief[0]
                for leaving in range(1, states):
                    mixed += switching[leaving, arriving] * belief[leaving]
                mixed *= before[arriving]
                moved = rows[arriving] @ mixed
                if columns.shape[1] > 1:
                    moved = moved @ columns[arriving]
                predicted[arriving] = (1 - jump) * after[arriving] * moved + jump * prior[arriving]
        total = 0.0
        for state in range(states):
            belief[state] = predicted[state] * likelihood[time]
            total += belief[state].sum()
        belief /= total
        result[time] = belief
    return result


def _backward(filtered, likelihood, start, prior, rows, columns, before, after, switching, jump):  # type: ignore[no-untyped-def]
    states = len(prior)
    result = np.empty_like(filtered)
    result[-1] = filtered[-1]
    message = np.ones_like(prior)
    arrived = np.empty_like(prior)
    for time in range(len(likelihood) - 2, -1, -1):
        if start[time + 1]:
            message[:] = 1.0
        else:
            jumped = 0.0
            for state in range(states):
                ahead = message[state] * likelihood[time + 1]
                jumped += (prior[state] * ahead).sum()
                moved = rows[state] @ (after[state] * ahead)
                if columns.shape[1] > 1:
                    moved = moved @ columns[state]
                arrived[state] = before[state] * moved
            for leaving in range(states):
                message[leaving] = jump * jumped
                for arriving in range(states):
                    message[leaving] += (1 - jump) * switching[leaving, arriving] * arrived[arriving]
            message /= message.max()
        smoothed = filtered[time] * message
        result[time] = smoothed / smoothed.sum()
    return result
