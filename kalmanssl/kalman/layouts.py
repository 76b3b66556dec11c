"""How sequences lie in memory for the compiled kernels (`kernels.py`).

Every array is flat. `place` gives, for a parameter, how far its beginning moves from block to block and from step to
step; 0 where nothing varies along that axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Lanes", "Packed", "Rows", "vector_width"]

_VECTOR_BYTES = 32


def vector_width(dtype: torch.dtype) -> int:
    """How many numbers make a vector in the kernels."""
    return _VECTOR_BYTES // dtype.itemsize


@dataclass(frozen=True)
class Packed:
    """A flat tensor with the steps from one block and one time step to the next."""

    flat: Tensor
    place: tuple[int, int]


def _memory(size: int, dtype: torch.dtype, total: torch.dtype | None) -> Tensor:
    if total is not None:
        return torch.zeros(size, dtype=total)
    # numpy asks for large pages, which torch does not; with small ones the system's work on them takes a good share.
    return torch.from_numpy(np.empty(size, np.float32 if dtype == torch.float32 else np.float64))


class Lanes:
    """Sequences innermost: (time|1, …, sequences), filled up to whole vectors with copies of the last one."""

    def __init__(self, batch: int, dtype: torch.dtype) -> None:
        self.batch, self.dtype, self.width = batch, dtype, vector_width(dtype)
        self.blocks = math.ceil(batch / self.width)
        self.unit = self.blocks * self.width

    def vectors(self, state: int) -> int:
        """Vectors in a row of a matrix with that many columns."""
        return state

    def pack(self, value: Tensor, *, of_state: bool) -> Packed:
        """Lay out a tensor (batch|1, time|1, …)."""
        moved = value.movedim(0, -1).expand(*value.shape[1:], self.batch)
        flat = torch.empty(*value.shape[1:], self.unit, dtype=self.dtype, device=value.device)
        flat[..., : self.batch] = moved
        flat[..., self.batch :] = moved[..., -1:]
        return Packed(flat.flatten(), (self.width, flat.stride(0) if value.shape[1] > 1 else 0))

    def room(self, time: int, shape: tuple[int, ...], *, of_state: bool, dtype: torch.dtype | None = None) -> Packed:
        """Memory for a result (batch, time, *shape); zeros in float64 for what is added up."""
        flat = _memory(time * math.prod(shape) * self.unit, self.dtype, dtype)
        return Packed(flat, (self.width, math.prod(shape) * self.unit if time > 1 else 0))

    def unpack(self, packed: Packed, time: int, shape: tuple[int, ...], *, of_state: bool) -> Tensor:
        """View of a result as (batch, time, *shape)."""
        return packed.flat.view(time, *shape, self.unit).movedim(-1, 0)[: self.batch]


class Rows:
    """One sequence after the other; what has the state as last axis is filled up to whole vectors with zeros."""

    def __init__(self, batch: int, dtype: torch.dtype) -> None:
        self.batch, self.dtype, self.width = batch, dtype, vector_width(dtype)
        self.blocks, self.unit = batch, self.width

    def vectors(self, state: int) -> int:
        """Vectors in a row of a matrix with that many columns."""
        return math.ceil(state / self.width)

    def _inner(self, shape: tuple[int, ...], of_state: bool) -> tuple[int, ...]:
        return (*shape[:-1], self.vectors(shape[-1]) * self.width) if of_state else shape

    def pack(self, value: Tensor, *, of_state: bool) -> Packed:
        """Lay out a tensor (batch|1, time|1, …)."""
        batch, time, *shape = value.shape
        inner = self._inner(tuple(shape), of_state)
        if inner == tuple(shape):
            flat = value.to(self.dtype).contiguous()
        else:
            flat = torch.zeros(batch, time, *inner, dtype=self.dtype, device=value.device)
            flat[..., : shape[-1]] = value
        size = math.prod(inner)
        return Packed(flat.flatten(), (time * size if batch > 1 else 0, size if time > 1 else 0))

    def room(self, time: int, shape: tuple[int, ...], *, of_state: bool, dtype: torch.dtype | None = None) -> Packed:
        """Memory for a result (batch, time, *shape); zeros in float64 for what is added up."""
        size = math.prod(self._inner(shape, of_state))
        flat = _memory(self.batch * time * size, self.dtype, dtype)
        return Packed(flat, (time * size, size if time > 1 else 0))

    def unpack(self, packed: Packed, time: int, shape: tuple[int, ...], *, of_state: bool) -> Tensor:
        """View of a result as (batch, time, *shape)."""
        return packed.flat.view(self.batch, time, *self._inner(shape, of_state))[..., : shape[-1]]
