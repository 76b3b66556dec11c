"""Memory layouts of the sequences for the compiled kernels (`_filter_kernels.py`).

Every array is flat. Its strides say how far apart two blocks of sequences are, and two time steps; a stride is 0 along
an axis on which nothing varies. The arrays are numpy's, whose overhead for small ones is a fraction of torch's. This
module imports numba.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kalmanssl.kalman.kernels._packing_kernels import pack_batch_vectorized

__all__ = ["BatchVectorized", "Packed", "StateVectorized", "vector_width"]

_VECTOR_BYTES = 32


def vector_width(dtype: np.dtype) -> int:
    """Numbers in a SIMD vector of the kernels."""
    return _VECTOR_BYTES // dtype.itemsize


class Packed(NamedTuple):
    """A flat array, with the distances from block to block and from time step to time step."""

    flat: np.ndarray
    strides: tuple[int, int]


class BatchVectorized:
    """Sequences last, (time|1, …, sequences); copies of the last sequence complete the last SIMD vector."""

    def __init__(self, batch: int, dtype: np.dtype) -> None:
        self.batch, self.dtype, self.width = batch, dtype, vector_width(dtype)
        self.blocks = -(-batch // self.width)
        self.vector_stride = self.blocks * self.width

    def vectors(self, state: int) -> int:
        """SIMD vectors in a row of a matrix with `state` columns."""
        return state

    def strides(self, steps: int, obs: int) -> tuple[int, int, int, int, int]:
        """Strides of the innovations along sequences, steps and channels, and of the status along its two axes."""
        return 1, obs * self.vector_stride, self.vector_stride, 1, self.vector_stride

    def pack(self, value: np.ndarray, *, of_state: bool) -> Packed:
        """Copy an array (batch|1, time|1, …) into this layout; `of_state` is True if its last axis is the state."""
        own = len(value) > 1
        size = value.size // len(value)
        out = np.empty(size * self.vector_stride, self.dtype)
        pack_batch_vectorized(value.ravel(), size, own, self.batch, out)
        return Packed(out, (self.width, len(out) // value.shape[1] if value.shape[1] > 1 else 0))

    def allocate(self, time: int, shape: tuple[int, ...], *, of_state: bool, totals: bool = False) -> Packed:
        """Allocate a result (batch, time, *shape); with `totals`, zeros in float64."""
        size = math.prod(shape) * self.vector_stride
        flat = np.zeros(time * size) if totals else np.empty(time * size, self.dtype)
        return Packed(flat, (self.width, size if time > 1 else 0))

    def unpack(self, flat: np.ndarray, time: int, shape: tuple[int, ...], *, of_state: bool) -> np.ndarray:
        """View a result as (batch, time, *shape)."""
        value = flat.reshape(time, *shape, self.vector_stride)[..., : self.batch]
        return value.transpose(value.ndim - 1, *range(value.ndim - 1))


class StateVectorized:
    """One sequence after the other; if the last axis is the state, zeros complete its last SIMD vector."""

    def __init__(self, batch: int, dtype: np.dtype) -> None:
        self.batch, self.dtype, self.width = batch, dtype, vector_width(dtype)
        self.blocks, self.vector_stride = batch, self.width

    def vectors(self, state: int) -> int:
        """SIMD vectors in a row of a matrix with `state` columns."""
        return -(-state // self.width)

    def strides(self, steps: int, obs: int) -> tuple[int, int, int, int, int]:
        """Strides of the innovations along sequences, steps and channels, and of the status along its two axes."""
        return steps * obs, obs, 1, 4, 1

    def _padded(self, shape: tuple[int, ...], of_state: bool) -> tuple[int, ...]:
        return (*shape[:-1], self.vectors(shape[-1]) * self.width) if of_state else shape

    def pack(self, value: np.ndarray, *, of_state: bool) -> Packed:
        """Copy an array (batch|1, time|1, …) into this layout; `of_state` is True if its last axis is the state."""
        batch, time, *shape = value.shape
        padded = self._padded(tuple(shape), of_state)
        out = np.zeros((batch, time, *padded), self.dtype) if of_state else np.empty(value.shape, self.dtype)
        out[..., : shape[-1]] = value
        size = math.prod(padded)
        return Packed(out.reshape(-1), (time * size if batch > 1 else 0, size if time > 1 else 0))

    def allocate(self, time: int, shape: tuple[int, ...], *, of_state: bool, totals: bool = False) -> Packed:
        """Allocate a result (batch, time, *shape); with `totals`, zeros in float64."""
        size = math.prod(self._padded(shape, of_state))
        flat = np.zeros(self.batch * time * size) if totals else np.empty(self.batch * time * size, self.dtype)
        return Packed(flat, (time * size, size if time > 1 else 0))

    def unpack(self, flat: np.ndarray, time: int, shape: tuple[int, ...], *, of_state: bool) -> np.ndarray:
        """View a result as (batch, time, *shape)."""
        return flat.reshape(self.batch, time, *self._padded(shape, of_state))[..., : shape[-1]]
