"""Collective operations of processes that train one model together; without other processes they do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function

__all__ = ["all_gather", "average", "average_gradients", "broadcast", "rank_and_size"]


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes that train together; (0, 1) for a single process."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def all_gather(v: Tensor) -> Tensor:
    """Concatenate the rows of all processes in the order of their ranks, with gradients.

    The gradient that returns to the rows of one process is the sum of the gradients that all processes have for them.
    After averaging over the processes, as data-parallel training does with the gradients of the weights, it is the
    gradient of the one function of all rows that every process evaluates.

    Parameters
    ----------
    v : (samples, D)
        The number of rows must be the same in every process.

    Returns
    -------
    Tensor
        (processes * samples, D); `v` itself if there is a single process.
    """
    return v if rank_and_size()[1] == 1 else _AllGather.apply(v)


class _AllGather(Function):
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


def average(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Average numbers over all processes, which must have the same names in the same order."""
    size = rank_and_size()[1]
    if size == 1 or not values:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return dict(zip(values, (total / size).tolist(), strict=True))


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Average the gradients of the parameters over all processes.

    A parameter without a gradient in some of the processes counts as zero there; without a gradient in any process, it
    keeps none.
    """
    size = rank_and_size()[1]
    if size == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return
    used = torch.tensor([p.grad is not None for p in trained], dtype=torch.float32, device=trained[0].device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    _apply_flat([*gradients, used], distributed.all_reduce)
    for parameter, gradient, count in zip(trained, gradients, used.tolist(), strict=True):
        parameter.grad = gradient.div_(size) if count else None


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors of all processes by those of the first process."""
    if rank_and_size()[1] > 1:
        # As bytes, because not every backend transfers every dtype.
        _apply_flat([t for t in tensors if t.numel()], lambda flat: distributed.broadcast(flat.view(torch.uint8), 0))


def _apply_flat(tensors: Sequence[Tensor], collective: Callable[[Tensor], object]) -> None:
    """Apply a collective operation in place, with one call for all tensors of a dtype."""
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        chosen = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.reshape(-1) for t in chosen])
        collective(flat)
        for tensor, values in zip(chosen, flat.split([t.numel() for t in chosen]), strict=True):
            tensor.copy_(values.view(tensor.shape))
