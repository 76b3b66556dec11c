"""Memory layouts of the sequences for the compiled kernels (`_filter_kernels.py`).

Every array is flat. Its strides say how far apart two blocks of sequences are, and two time steps; a stride is 0 along
an axis on which nothing varies. The arrays are numpy's, whose overhead for small ones is a fraction of torch's. Sizes
and strides are kept for the next call with the same shapes: for small problems, to compute them takes as long as the
kernels. This module imports numba.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from kalmanssl.kalman.kernels import _filter_adjoint_kernels as adjoint_kernels
from kalmanssl.kalman.kernels import _filter_kernels as filter_kernels
from kalmanssl.kalman.kernels import _packing_kernels as kernels
from kalmanssl.kalman.kernels._simd import VECTOR_BYTES, WIDE_VECTOR_BYTES

__all__ = [
    "BatchVectorized",
    "Layout",
    "Packed",
    "StateVectorized",
    "WideBatchVectorized",
    "WideStateVectorized",
    "vector_width",
]

Shape = tuple[int, ...]


def vector_width(dtype: np.dtype, size: int = VECTOR_BYTES) -> int:
    """Numbers in a SIMD vector of `size` bytes."""
    return size // dtype.itemsize


class Packed(NamedTuple):
    """Flat arrays, and the distances from block to block and from time step to time step in each."""

    flats: tuple[np.ndarray, ...]
    strides: tuple[tuple[int, int], ...]


class _Places(NamedTuple):
    """Lengths and strides of packed arrays, and the numbers of sequences, of rows of each, and of columns."""

    lengths: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int, int], ...]


class Layout(ABC):
    """How numbers of a data type are stored for a number of sequences, and the kernels of the filter for this layout.

    Arrays have batch and time axes first. `of_state` tells for each whether its last axis is the state.
    """

    blocks: int
    vector_stride: int
    vector_bytes = VECTOR_BYTES
    forward: Any
    backward: Any
    _pack: Any
    _collect: Any

    def __init__(self, batch: int, dtype: np.dtype) -> None:
        self.batch, self.dtype, self.width = batch, dtype, vector_width(dtype, self.vector_bytes)

    @abstractmethod
    def vectors(self, state: int) -> int:
        """SIMD vectors in a row of a matrix with `state` columns."""

    @abstractmethod
    def strides(self, steps: int, obs: int) -> tuple[int, int, int, int, int]:
        """Strides of the innovations along sequences, steps and channels, and of the status along its two axes."""

    @abstractmethod
    def unpack(self, flat: np.ndarray, time: int, shape: Shape, *, of_state: bool) -> np.ndarray:
        """View a result as (batch, time, *shape)."""

    @abstractmethod
    def _place(self, shape: Shape, of_state: bool) -> tuple[int, tuple[int, int]]:
        """Return length and strides of a packed array (batch|1, time|1, …)."""

    @lru_cache(maxsize=16)  # noqa: B019  there are few layouts
    def _places(self, shapes: tuple[Shape, ...], of_state: tuple[bool, ...]) -> _Places:
        found = [self._place(shape, state) for shape, state in zip(shapes, of_state, strict=True)]
        sizes = [(shape[0], math.prod(shape[1:-1]), shape[-1]) for shape in shapes]
        return _Places(tuple([length for length, _ in found]), tuple([strides for _, strides in found]), tuple(sizes))

    @lru_cache(maxsize=16)  # noqa: B019
    def axes(self, length: int, time: int, shape: Shape) -> tuple[Shape, Shape]:
        """Return shape and strides of the view of a result whose last axis is the state as (batch, time, *shape)."""
        like = self.unpack(np.empty(length, np.bool_), time, shape, of_state=True)
        return like.shape, like.strides

    def pack(self, values: list[np.ndarray], of_state: tuple[bool, ...]) -> Packed:
        """Copy arrays (batch|1, time|1, …) into this layout."""
        lengths, strides, sizes = self._places(tuple([value.shape for value in values]), of_state)
        flats = tuple([np.empty(length, self.dtype) for length in lengths])
        self._pack(tuple([value.ravel() for value in values]), sizes, self.batch, flats)
        return Packed(flats, strides)

    def allocate(self, shapes: tuple[Shape, ...], of_state: tuple[bool, ...]) -> Packed:
        """Allocate results (batch, time, …)."""
        lengths, strides, _ = self._places(shapes, of_state)
        return Packed(tuple([np.empty(length, self.dtype) for length in lengths]), strides)

    def allocate_totals(self, shapes: tuple[Shape, ...]) -> Packed:
        """Allocate zeros (batch, time, …, state) in float64."""
        lengths, strides, _ = self._places(shapes, (True,) * len(shapes))
        return Packed(tuple([np.zeros(length) for length in lengths]), strides)

    def collect(
        self, totals: tuple[np.ndarray, ...], shapes: tuple[Shape, ...], wanted: tuple[bool, ...], dtype: np.dtype
    ) -> list[np.ndarray | None]:
        """Return totals as (batch|1, time, …, state), summed over the batch if that has an axis of 1.

        Those that are not wanted are None.
        """
        sizes = self._places(shapes, (True,) * len(shapes)).sizes
        outs = [np.empty(shape if want else 0, dtype) for shape, want in zip(shapes, wanted, strict=True)]
        self._collect(totals, sizes, self.batch, tuple([out.ravel() for out in outs]))
        return [out if want else None for out, want in zip(outs, wanted, strict=True)]


class BatchVectorized(Layout):
    """Sequences last, (time|1, …, sequences); copies of the last sequence complete the last SIMD vector."""

    forward = staticmethod(filter_kernels.forward_batch_vectorized)
    backward = staticmethod(adjoint_kernels.backward_batch_vectorized)
    _pack = staticmethod(kernels.pack_batch_vectorized)
    _collect = staticmethod(kernels.collect_batch_vectorized)

    def __init__(self, batch: int, dtype: np.dtype) -> None:
        super().__init__(batch, dtype)
        self.blocks = -(-batch // self.width)
        self.vector_stride = self.blocks * self.width

    def vectors(self, state: int) -> int:
        """SIMD vectors in a row of a matrix with `state` columns."""
        return state

    def strides(self, steps: int, obs: int) -> tuple[int, int, int, int, int]:
        """Strides of the innovations along sequences, steps and channels, and of the status along its two axes."""
        return 1, obs * self.vector_stride, self.vector_stride, 1, self.vector_stride

    def unpack(self, flat: np.ndarray, time: int, shape: Shape, *, of_state: bool) -> np.ndarray:
        """View a result as (batch, time, *shape)."""
        value = flat.reshape(time, *shape, self.vector_stride)[..., : self.batch]
        return value.transpose(value.ndim - 1, *range(value.ndim - 1))

    def _place(self, shape: Shape, of_state: bool) -> tuple[int, tuple[int, int]]:
        step = math.prod(shape[2:]) * self.vector_stride
        return shape[1] * step, (self.width, step if shape[1] > 1 else 0)


class WideBatchVectorized(BatchVectorized):
    """`BatchVectorized` with wide SIMD vectors."""

    vector_bytes = WIDE_VECTOR_BYTES
    forward = staticmethod(filter_kernels.forward_batch_wide)
    backward = staticmethod(adjoint_kernels.backward_batch_wide)


class StateVectorized(Layout):
    """One sequence after the other; if the last axis is the state, zeros complete its last SIMD vector."""

    forward = staticmethod(filter_kernels.forward_state_vectorized)
    backward = staticmethod(adjoint_kernels.backward_state_vectorized)
    _pack = staticmethod(kernels.pack_state_vectorized)
    _collect = staticmethod(kernels.collect_state_vectorized)

    def __init__(self, batch: int, dtype: np.dtype) -> None:
        super().__init__(batch, dtype)
        self.blocks, self.vector_stride = batch, self.width

    def vectors(self, state: int) -> int:
        """SIMD vectors in a row of a matrix with `state` columns."""
        return -(-state // self.width)

    def strides(self, steps: int, obs: int) -> tuple[int, int, int, int, int]:
        """Strides of the innovations along sequences, steps and channels, and of the status along its two axes."""
        return steps * obs, obs, 1, 4, 1

    def unpack(self, flat: np.ndarray, time: int, shape: Shape, *, of_state: bool) -> np.ndarray:
        """View a result as (batch, time, *shape)."""
        return flat.reshape(self.batch, time, *self._padded(shape, of_state))[..., : shape[-1]]

    def _padded(self, shape: Shape, of_state: bool) -> Shape:
        return (*shape[:-1], self.vectors(shape[-1]) * self.width) if of_state else shape

    def _place(self, shape: Shape, of_state: bool) -> tuple[int, tuple[int, int]]:
        batch, time = shape[:2]
        step = math.prod(self._padded(shape[2:], of_state))
        return batch * time * step, (time * step if batch > 1 else 0, step if time > 1 else 0)


class WideStateVectorized(StateVectorized):
    """`StateVectorized` with wide SIMD vectors."""

    vector_bytes = WIDE_VECTOR_BYTES
    forward = staticmethod(filter_kernels.forward_wide)
    backward = staticmethod(adjoint_kernels.backward_wide)
