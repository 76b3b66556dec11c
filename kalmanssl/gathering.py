"""The batch of all processes: what an entropy is estimated from when several devices train together."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

__all__ = ["gathered", "rank_and_size"]


def rank_and_size() -> tuple[int, int]:
    """Return the number of this process among those that train together, and how many there are; (0, 1) if alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gathered(v: Tensor) -> Tensor:
    """Rows of all processes, one process after the other, with gradients; `v` itself in a process that is alone.

    The gradient that comes back to the rows of a process is the sum of those that all processes have for them. Averaged
    over the processes, as data-parallel training does with the gradients of the weights, it is that of the one function
    of all rows which every process evaluates.

    Parameters
    ----------
    v : (samples, D)
        As many rows in every process.
    """
    if rank_and_size()[1] == 1:
        return v
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(v))
