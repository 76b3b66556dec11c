"""Recursive Bayesian estimation on a grid: the forward and the backward pass of the state-space decoder.

The hidden state is a cell of the grid and a motion state. One step of the movement prior is, for every motion state, ::

    p'(x', s') = v[s'](x') sum_x K[s'](x, x') u[s'](x) sum_s M(s, s') p(x, s)

with a separable kernel K and two positive functions u and v, plus a jump to the prior with a small probability. The
cost of a step is linear in the number of cells times the length of an axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from kalmanssl.kalman.kernels import cached_njit, has_compiler

__all__ = ["ForwardStep", "Transition", "backward", "compile_function", "forward", "forward_step"]

_BLOCK = 16  # cells that the compiled passes handle at a time on a grid of one dimension
_ROW_BLOCK, _VECTOR = 4, 8  # rows, and cells of a row, that they handle at a time on a grid of two dimensions
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

    @cached_property
    def forward_kernels(self) -> _LineKernels | _PlaneKernels:
        """The compiled forward pass."""
        return _kernels_of(self, transposed=False)

    @cached_property
    def backward_kernels(self) -> _LineKernels | _PlaneKernels:
        """The compiled backward pass."""
        return _kernels_of(self, transposed=True)


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
    return transition.forward_kernels.forward(likelihood, start, before)


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
        self._kernels = transition.forward_kernels if has_compiler() else None
        self._start = {False: np.array([False]), True: np.array([True])}

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
        if self._kernels is None:
            return forward_step(None if is_start else belief, likelihood, self._transition).astype(np.float32)
        return self._kernels.forward(likelihood[None], self._start[is_start], belief)[0]


def backward(
    filtered: np.ndarray,
    likelihood: np.ndarray,
    start: np.ndarray,
    transition: Transition,
    message: np.ndarray | None = None,
    overwrite: bool = False,
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
    overwrite : bool
        Whether the filtered distributions may be replaced by the smoothed ones, which saves memory and time.
    """
    message = np.ones(transition.prior.shape, dtype=np.float32) if message is None else message
    if not has_compiler():
        return _backward(filtered, likelihood, start, transition, message)
    filtered = filtered if overwrite else filtered.copy()
    return transition.backward_kernels.backward(filtered, likelihood, start, message)


def _kernels_of(transition: Transition, transposed: bool) -> _LineKernels | _PlaneKernels:
    """Return the compiled passes for a grid of one or two dimensions.

    Kernels of the movement prior lead from the second to the first cell with `transposed`, for the backward pass.
    """
    is_line = transition.prior.shape[2] == 1 or transition.prior.shape[1] == 1
    return _LineKernels(transition, transposed) if is_line else _PlaneKernels(transition, transposed)


class _LineKernels:
    """The passes on a grid of one dimension, whose cells are padded with zeros to whole blocks of SIMD vectors."""

    def __init__(self, t: Transition, transposed: bool) -> None:
        kernel = t.along_columns if t.prior.shape[2] > 1 else t.along_rows
        kernel = kernel.swapaxes(1, 2) if transposed else kernel
        self.shape, self.n_cells = t.prior.shape, kernel.shape[1]
        self.stride = -(-self.n_cells // _BLOCK) * _BLOCK
        extra = self.stride - self.n_cells
        padded = np.pad(kernel, ((0, 0), (0, extra), (0, extra)))
        grids = [self._padded(part).ravel() for part in (t.prior, t.before, t.after)]
        self._arguments = (
            grids[0],
            _to_float32(padded).ravel(),
            _blocks(padded),
            *grids[1:],
            _to_float32(t.switching).ravel(),
            np.float32(t.jump),
            self.stride,
        )

    def forward(self, likelihood: np.ndarray, start: np.ndarray, belief: np.ndarray) -> np.ndarray:
        """Return the filtered distributions, as `forward`."""
        from kalmanssl.decoding.movement._line_kernels import line_forward_kernel

        result = np.empty((len(start), self.shape[0], self.stride), dtype=np.float32)
        given = (self._padded(part).ravel() for part in (likelihood, belief))
        line_forward_kernel(next(given), start, next(given), *self._arguments, result.ravel())
        return self._unpadded(result)

    def backward(
        self, filtered: np.ndarray, likelihood: np.ndarray, start: np.ndarray, message: np.ndarray
    ) -> np.ndarray:
        """Return the smoothed distributions, and replace the message, as `backward`."""
        from kalmanssl.decoding.movement._line_kernels import line_backward_kernel

        result = np.empty((len(start), self.shape[0], self.stride), dtype=np.float32)
        after = self._padded(message).copy()
        given = self._padded(filtered).ravel(), self._padded(likelihood).ravel()
        line_backward_kernel(*given, start, after.ravel(), *self._arguments, result.ravel())
        message[...] = self._unpadded(after[None])[0]
        return self._unpadded(result)

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Return values (…, rows, columns) as an array (…, stride)."""
        flat = _to_float32(values).reshape(*values.shape[:-2], self.n_cells)
        extra = self.stride - self.n_cells
        return np.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, extra)]) if extra else flat

    def _unpadded(self, values: np.ndarray) -> np.ndarray:
        """Return an array (time, states, stride) over the axes of the grid."""
        return values[..., : self.n_cells].reshape(len(values), *self.shape)


class _PlaneKernels:
    """The passes on a grid of two dimensions, whose rows are padded with zeros to whole SIMD vectors."""

    def __init__(self, t: Transition, transposed: bool) -> None:
        rows, columns = (kernel.swapaxes(1, 2) if transposed else kernel for kernel in (t.along_rows, t.along_columns))
        self.shape = t.prior.shape
        self.extra_rows, self.extra_columns = -self.shape[1] % _ROW_BLOCK, -self.shape[2] % _VECTOR
        self._arguments = (
            self._padded(t.prior),
            _to_float32(np.pad(rows.swapaxes(1, 2), ((0, 0), (0, self.extra_rows), (0, 0)))).ravel(),
            _to_float32(np.pad(columns, ((0, 0), (0, 0), (0, self.extra_columns)))).ravel(),
            self._padded(t.before),
            self._padded(t.after),
            _to_float32(t.switching).ravel(),
            np.float32(t.jump),
            self.shape,
            self.shape[2] + self.extra_columns,
        )

    def forward(self, likelihood: np.ndarray, start: np.ndarray, belief: np.ndarray) -> np.ndarray:
        """Return the filtered distributions, as `forward`."""
        from kalmanssl.decoding.movement._plane_kernels import plane_forward_kernel

        result = np.empty((len(start), *self.shape), dtype=np.float32)
        given = _to_float32(likelihood).ravel(), start, self._padded(belief)
        plane_forward_kernel(*given, *self._arguments, result.ravel())
        return result

    def backward(
        self, filtered: np.ndarray, likelihood: np.ndarray, start: np.ndarray, message: np.ndarray
    ) -> np.ndarray:
        """Replace the filtered distributions by the smoothed ones, and the message, as `backward`."""
        from kalmanssl.decoding.movement._plane_kernels import plane_backward_kernel

        result, after = _to_float32(filtered), self._padded(message)
        plane_backward_kernel(result.ravel(), _to_float32(likelihood).ravel(), start, after, *self._arguments)
        padded = after.reshape(self.shape[0], self.shape[1] + self.extra_rows, -1)
        message[...] = padded[:, : self.shape[1], : self.shape[2]]
        return result

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Return a flat copy of values (states, rows, columns), float32."""
        states, n_rows, n_columns = self.shape
        padded = np.zeros((states, n_rows + self.extra_rows, n_columns + self.extra_columns), dtype=np.float32)
        padded[:, :n_rows, :n_columns] = values
        return padded.ravel()


def _to_float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)


def _blocks(kernel: np.ndarray) -> np.ndarray:
    """Return the range of the rows of kernels (states, cells, cells) that matter for a block of columns.

    Returns
    -------
    (states, blocks, 2) int
        Multiples of four.
    """
    matters = kernel > _NEGLIGIBLE * kernel.max(axis=(1, 2), keepdims=True)
    matters = matters.reshape(*kernel.shape[:2], -1, _BLOCK).any(axis=3)
    low = matters.argmax(axis=1)
    high = matters.shape[1] - matters[:, ::-1].argmax(axis=1)
    return np.stack([low // 4 * 4, -(-high // 4) * 4], axis=2)


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
