"""The batch of all processes: what an entropy is estimated from when several devices train together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function

__all__ = ["all_gather", "rank_and_size"]


def rank_and_size() -> tuple[int, int]:
    """Return the number of this process among those that train together, and how many there are; (0, 1) if alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def all_gather(v: Tensor) -> Tensor:
    """Rows of all processes, one process after the other, with gradients; `v` itself in a process that is alone.

    The gradient that comes back to the rows of a process is the sum of those that all processes have for them. Averaged
    over the processes, as data-parallel training does with the gradients of the weights, it is that of the one function
    of all rows which every process evaluates.

    Parameters
    ----------
    v : (samples, D)
        As many rows in every process.
    """
    return v if rank_and_size()[1] == 1 else _Gathered.apply(v)


class _Gathered(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        parts = [torch.empty_like(v, memory_format=torch.contiguous_format) for _ in range(rank_and_size()[1])]
        distributed.all_gather(parts, v.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        rank, size = rank_and_size()
        return total.chunk(size)[rank]
