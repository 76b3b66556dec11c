"""How sequences lie in memory for the compiled kernels (`_filter_kernels.py`).

Every array is flat. `place` says how far its beginning moves from block to block and from step to step; 0 where nothing
varies along that axis. Arrays come from numpy, whose overhead is a fraction of torch's where they are small.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Lanes", "Packed", "Rows", "vector_width"]

_VECTOR_BYTES = 32


def vector_width(dtype: np.dtype) -> int:
    """How many numbers make a vector in the kernels."""
    return _VECTOR_BYTES // dtype.itemsize


class Packed(NamedTuple):
    """A flat array with the steps from one block and from one time step to the next."""

    flat: np.ndarray
    place: tuple[int, int]


class Lanes:
    """Sequences innermost: (time|1, …, sequences), filled up to whole vectors with copies of the last one."""

    def __init__(self, batch: int, dtype: np.dtype) -> None:
        self.batch, self.dtype, self.width = batch, dtype, vector_width(dtype)
        self.blocks = -(-batch // self.width)
        self.unit = self.blocks * self.width

    def vectors(self, state: int) -> int:
        """Vectors in a row of a matrix with that many columns."""
        return state

    def pack(self, value: np.ndarray, *, of_state: bool) -> Packed:
        """Copy of an array (batch|1, time|1, …)."""
        out = np.empty((*value.shape[1:], self.unit), self.dtype)
        if len(value) == 1:
            out[...] = value[0, ..., None]
        else:
            out[..., : self.batch] = value.transpose(*range(1, value.ndim), 0)
            out[..., self.batch :] = value[-1, ..., None]
        return Packed(out.reshape(-1), (self.width, out[0].size if value.shape[1] > 1 else 0))

    def room(self, time: int, shape: tuple[int, ...], *, of_state: bool, totals: bool = False) -> Packed:
        """Memory for a result (batch, time, *shape); zeros in float64 for totals."""
        size = math.prod(shape) * self.unit
        flat = np.zeros(time * size) if totals else np.empty(time * size, self.dtype)
        return Packed(flat, (self.width, size if time > 1 else 0))

    def unpack(self, flat: np.ndarray, time: int, shape: tuple[int, ...], *, of_state: bool) -> np.ndarray:
        """View of a result as (batch, time, *shape)."""
        value = flat.reshape(time, *shape, self.unit)[..., : self.batch]
        return value.transpose(value.ndim - 1, *range(value.ndim - 1))


class Rows:
    """One sequence after the other; what has the state as last axis is filled up to whole vectors with zeros."""

    def __init__(self, batch: int, dtype: np.dtype) -> None:
        self.batch, self.dtype, self.width = batch, dtype, vector_width(dtype)
        self.blocks, self.unit = batch, self.width

    def vectors(self, state: int) -> int:
        """Vectors in a row of a matrix with that many columns."""
        return -(-state // self.width)

    def _inner(self, shape: tuple[int, ...], of_state: bool) -> tuple[int, ...]:
        return (*shape[:-1], self.vectors(shape[-1]) * self.width) if of_state else shape

    def pack(self, value: np.ndarray, *, of_state: bool) -> Packed:
        """Copy of an array (batch|1, time|1, …)."""
        batch, time, *shape = value.shape
        inner = self._inner(tuple(shape), of_state)
        out = np.zeros((batch, time, *inner), self.dtype) if of_state else np.empty(value.shape, self.dtype)
        out[..., : shape[-1]] = value
        size = math.prod(inner)
        return Packed(out.reshape(-1), (time * size if batch > 1 else 0, size if time > 1 else 0))

    def room(self, time: int, shape: tuple[int, ...], *, of_state: bool, totals: bool = False) -> Packed:
        """Memory for a result (batch, time, *shape); zeros in float64 for totals."""
        size = math.prod(self._inner(shape, of_state))
        flat = np.zeros(self.batch * time * size) if totals else np.empty(self.batch * time * size, self.dtype)
        return Packed(flat, (time * size, size if time > 1 else 0))

    def unpack(self, flat: np.ndarray, time: int, shape: tuple[int, ...], *, of_state: bool) -> np.ndarray:
        """View of a result as (batch, time, *shape)."""
        return flat.reshape(self.batch, time, *self._inner(shape, of_state))[..., : shape[-1]]
