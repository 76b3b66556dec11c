"""Memory layouts of the sequences for the compiled kernels (`_filter_kernels.py`).

Every array is flat. Its strides say how far apart two blocks of sequences are, and two time steps; a stride is 0 along
an axis on which nothing varies. The arrays are numpy's, whose overhead for small ones is a fraction of torch's. Sizes
and strides can be kept for the next call with the same shapes: for small problems, to compute them takes as long as the
kernels. This module imports numba.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmanssl.kalman.kernels import _filter_adjoint_kernels as adjoint_kernels
from kalmanssl.kalman.kernels import _filter_kernels as filter_kernels
from kalmanssl.kalman.kernels import _packing_kernels as kernels
from kalmanssl.kalman.kernels._simd import CACHE_LINE, VECTOR_BYTES, WIDE_VECTOR_BYTES

__all__ = [
    "Axes",
    "BatchVectorized",
    "Layout",
    "Packed",
    "Places",
    "Shape",
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


class Places(NamedTuple):
    """Where packed arrays are stored.

    Attributes
    ----------
    strides : tuple
        Distances from block to block and from time step to time step in each.
    sizes : tuple
        Numbers of sequences, of rows of each, and of columns.
    memories : tuple
        For every block of memory its length, and the number, begin and end of each array in it.
    """

    strides: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int, int], ...]
    memories: tuple[tuple[int, tuple[tuple[int, int, int], ...]], ...]


def _divide(places: Places, memories: list[np.ndarray]) -> Packed:
    """Divide blocks of memory into arrays, each from the beginning of a line of the cache on."""
    flats: dict[int, np.ndarray] = {}
    for memory, (_, parts) in zip(memories, places.memories, strict=True):
        first = kernels.start_of_line(memory)
        for number, start, stop in parts:
            flats[number] = memory[first + start : first + stop]
    return Packed(tuple([flats[number] for number in range(len(flats))]), places.strides)


class Axes(NamedTuple):
    """Shape of a view, and its strides in bytes."""

    shape: Shape
    strides: Shape

    def view(self, flat: np.ndarray) -> np.ndarray:
        """View a flat array."""
        return np.ndarray(self.shape, flat.dtype, flat, 0, self.strides)


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
    def _unpack(self, flat: np.ndarray, time: int, shape: Shape, of_state: bool) -> np.ndarray:
        """View a result as (batch, time, *shape)."""

    def axes(self, time: int, shape: Shape, *, of_state: bool) -> Axes:
        """Return the axes of a result as (batch, time, *shape)."""
        length, _ = self._place((self.batch, time, *shape), of_state)
        view = self._unpack(np.empty(length, self.dtype), time, shape, of_state)
        return Axes(view.shape, view.strides)

    @abstractmethod
    def _place(self, shape: Shape, of_state: bool) -> tuple[int, tuple[int, int]]:
        """Return length and strides of a packed array (batch|1, time|1, …)."""

    def places(
        self, shapes: tuple[Shape, ...], of_state: tuple[bool, ...], together: tuple[tuple[int, ...], ...] | None = None
    ) -> Places:
        """Return where arrays (batch|1, time|1, …) are stored.

        `together` are the numbers of the arrays in each block of memory. It is freed when none of them is needed
        anymore. By default all of them share one.
        """
        lengths, strides = zip(*map(self._place, shapes, of_state), strict=True)
        line = CACHE_LINE // self.dtype.itemsize
        memories = []
        for numbers in together or (tuple(range(len(shapes))),):
            stops, parts = 0, []
            for number in numbers:
                start = -(-stops // line) * line
                stops = start + lengths[number]
                parts.append((number, start, stops))
            memories.append((stops + line, tuple(parts)))
        sizes = tuple([(shape[0], math.prod(shape[1:-1]), shape[-1]) for shape in shapes])
        return Places(strides, sizes, tuple(memories))

    def pack(self, values: Sequence[np.ndarray], places: Places) -> Packed:
        """Copy arrays (batch|1, time|1, …) into this layout."""
        packed = self.allocate(places)
        self._pack(tuple([value.ravel() for value in values]), places.sizes, self.batch, packed.flats)
        return packed

    def allocate(self, places: Places) -> Packed:
        """Allocate arrays."""
        return _divide(places, [np.empty(length, self.dtype) for length, _ in places.memories])

    def allocate_totals(self, places: Places) -> Packed:
        """Allocate zeros in float64."""
        return _divide(places, [np.zeros(length) for length, _ in places.memories])

    def collect(self, totals: tuple[np.ndarray, ...], places: Places, outs: Sequence[np.ndarray]) -> None:
        """Copy totals to `outs` (batch|1, time, …, state), summed over the batch if that has an axis of 1.

        Those that are empty are left out.
        """
        self._collect(totals, places.sizes, self.batch, tuple([out.ravel() for out in outs]))


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

    def _unpack(self, flat: np.ndarray, time: int, shape: Shape, of_state: bool) -> np.ndarray:
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

    def _unpack(self, flat: np.ndarray, time: int, shape: Shape, of_state: bool) -> np.ndarray:
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
