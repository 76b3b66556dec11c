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

__all__ = ["ForwardStep", "Transition", "backward", "compile_function", "forward", "forward_step"]

_NEGLIGIBLE = 1e-11  # entries of a kernel below this fraction of the largest are left out; jumps are more probable


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


def forward(
    likelihood: np.ndarray, start: np.ndarray, transition: Transition, belief: np.ndarray | None = None
) -> np.ndarray:
    """Return the filtered distribution of every bin, (time, states, rows, columns), float32.

    Parameters
    ----------
    likelihood : (time, rows, columns)
        Likelihood of each cell, up to a factor per bin; constant where a bin is missing.
    start : (time,) bool
        True at the first bin of each segment; the first bin of all must be one, unless `belief` is given.
    transition : Transition
    belief : (states, rows, columns), optional
        Filtered distribution of the bin before the first one.
    """
    before = transition.prior if belief is None else belief
    if not has_compiler():
        return _forward(likelihood, start, before, transition)
    from kalmanssl.decoding.movement._state_space_kernels import forward_kernel

    given = _KernelArguments.of(transition)
    found = forward_kernel(given.on_axes(likelihood), start, given.on_axes(before), *given.arguments)
    return found.reshape(len(likelihood), *transition.prior.shape)


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


class ForwardStep:
    """One step of `forward`, prepared so that a call takes microseconds.

    Parameters
    ----------
    transition : Transition
    """

    def __init__(self, transition: Transition) -> None:
        self._transition = transition
        self._given = _KernelArguments.of(transition) if has_compiler() else None
        self._start = {False: np.array([False]), True: np.array([True])}
        self._kernel: Any = None
        if self._given is not None:
            from kalmanssl.decoding.movement._state_space_kernels import forward_kernel

            self._kernel = forward_kernel

    def __call__(self, belief: np.ndarray, likelihood: np.ndarray, is_start: bool) -> np.ndarray:
        """Return the filtered distribution of one bin.

        Parameters
        ----------
        belief : (states, rows, columns) float32
            That of the bin before; not used at the first bin of a segment.
        likelihood : (rows, columns)
            Likelihood of each cell, up to a factor.
        is_start : bool
            Whether the bin is the first one of a segment.

        Returns
        -------
        (states, rows, columns) float32
        """
        if self._given is None:
            return forward_step(None if is_start else belief, likelihood, self._transition).astype(np.float32)
        shape = self._given.shape
        found = self._kernel(
            likelihood.reshape(1, *shape), self._start[is_start], belief.reshape(-1, *shape), *self._given.arguments
        )
        return np.asarray(found.reshape(belief.shape))


def backward(
    filtered: np.ndarray,
    likelihood: np.ndarray,
    start: np.ndarray,
    transition: Transition,
    message: np.ndarray | None = None,
) -> np.ndarray:
    """Return the smoothed distribution of every bin, as `forward`, from the filtered ones.

    Parameters
    ----------
    filtered : (time, states, rows, columns)
        From `forward`.
    likelihood, start, transition
        As for `forward`.
    message : (states, rows, columns) float32, optional
        Likelihood of all bins after the last one given the state in it, up to a factor. It is replaced by that of the
        bins after the first one, so that long recordings can be smoothed in pieces, from the last to the first.
    """
    message = np.ones(transition.prior.shape, dtype=np.float32) if message is None else message
    if not has_compiler():
        return _backward(filtered, likelihood, start, transition, message)
    from kalmanssl.decoding.movement._state_space_kernels import backward_kernel

    given = _KernelArguments.of(transition, transposed=True)
    on_axes = given.on_axes(likelihood)
    flat = filtered.reshape(*filtered.shape[:2], *on_axes.shape[1:])
    there = message.reshape(len(message), *given.shape)
    return backward_kernel(flat, on_axes, start, there, *given.arguments).reshape(filtered.shape)


@dataclass(frozen=True)
class _KernelArguments:
    """Arrays of a transition as the kernels take them; a single axis is along the columns, where loops are fast."""

    shape: tuple[int, int]
    arguments: tuple[Any, ...]

    @classmethod
    def of(cls, t: Transition, transposed: bool = False) -> _KernelArguments:
        """Prepare a transition; with `transposed` kernels lead from the second to the first cell."""
        along = (t.along_rows, t.along_columns)
        if t.prior.shape[2] == 1:
            along = (t.along_columns, t.along_rows)
        rows, columns = (kernel.swapaxes(1, 2) if transposed else kernel for kernel in along)
        shape = (rows.shape[1], columns.shape[1])
        grids = [_to_float32(part.reshape(len(part), *shape)) for part in (t.prior, t.before, t.after)]
        arguments = (
            grids[0],
            _to_float32(rows.swapaxes(1, 2)),
            _to_float32(columns),
            _band(columns),
            *grids[1:],
            _to_float32(t.switching),
            np.float32(t.jump),
        )
        return cls(shape, arguments)

    def on_axes(self, values: np.ndarray) -> np.ndarray:
        """Return values (…, rows, columns) over the axes of the kernels, float32 so that one signature is compiled."""
        return _to_float32(values).reshape(len(values), *self.shape)


def _to_float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)


def _band(kernel: np.ndarray) -> np.ndarray:
    """Return for each row of kernels (states, rows, cells) the range of its entries that matter, (states, rows, 2)."""
    matters = kernel > _NEGLIGIBLE * kernel.max(axis=(1, 2), keepdims=True)
    low = matters.argmax(axis=2)
    high = matters.shape[2] - matters[:, :, ::-1].argmax(axis=2)
    return np.stack([low, high], axis=2)


@cache
def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled by numba, or unchanged if numba is not installed."""
    return cached_njit(function) if has_compiler() else function


def _forward(likelihood: np.ndarray, start: np.ndarray, belief: np.ndarray, t: Transition) -> np.ndarray:
    """Filter without a compiler."""
    result = np.empty((len(likelihood), *t.prior.shape), dtype=np.float32)
    for time, now in enumerate(likelihood):
        belief = forward_step(None if start[time] else belief, now, t)
        result[time] = belief
    return result


def _backward(
    filtered: np.ndarray, likelihood: np.ndarray, start: np.ndarray, t: Transition, message: np.ndarray
) -> np.ndarray:
    """Smooth without a compiler."""
    result = np.empty_like(filtered)
    now = message.astype(float)
    columns = t.along_columns.swapaxes(1, 2)
    last = len(likelihood) - 1
    for time in range(last, -1, -1):
        if time < last and start[time + 1]:
            now = np.ones_like(t.prior)
        elif time < last:
            ahead = now * likelihood[time + 1]
            arrived = t.before * (t.along_rows @ (t.after * ahead) @ columns)
            now = t.jump * (t.prior * ahead).sum() + (1 - t.jump) * np.tensordot(t.switching, arrived, axes=1)
            now /= now.max()
        smoothed = filtered[time] * now
        result[time] = smoothed / smoothed.sum()
    message[...] = now
    return result
