"""Devices to train on, and the processes that train one model together."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.validation import short_repr

__all__ = ["choose_device", "joined_processes", "synchronized_batch_norm", "to_device"]

_training_number = itertools.count()


def choose_device(name: str) -> torch.device:
    """Return the device with this name; "auto" is a GPU if there is one.

    Raises
    ------
    InputError
        If the name is unknown or torch does not find the device.
    """
    found = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        name = next(kind for kind, count in found.items() if count)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in found or not isinstance(name, str):
        raise InputError(
            f"device must be 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'; got {short_repr(name)}", parameter="device"
        )
    if (device.index or 0) >= found[device.type]:
        known = ", ".join(f"{count} {kind}" for kind, count in found.items() if count)
        raise InputError(f"device {name!r} does not exist: torch finds {known}; use device='auto'", parameter="device")
    return device


@contextmanager
def joined_processes(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, inside the block.

    The group is initialized from the environment variables of torchrun, unless the caller has already initialized one,
    and ends with the block, so that no later call waits for other processes.

    Yields
    ------
    torch.device
        The device of this process: for "cuda", the GPU with the number of the process on this machine.

    Raises
    ------
    InputError
        If there are more processes than GPUs, or torch was built without `torch.distributed`.
    """
    if rank_and_size()[1] > 1:
        yield _own_gpu(device)
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield device
        return
    if not distributed.is_available():
        raise InputError("torch was built without torch.distributed: start the script without torchrun")
    device = _own_gpu(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    store, rank, size = _rendezvous()
    # Each training has its own keys in the store, which outlives the group.
    prefixed = distributed.PrefixStore(f"kalmanssl-{next(_training_number)}", store)
    device_id = device if backend == "nccl" else None
    distributed.init_process_group(backend, store=prefixed, rank=rank, world_size=size, device_id=device_id)
    try:
        yield device
    except BaseException:
        # The other processes may be waiting for this one. NCCL would wait for them here in turn; torchrun ends all.
        if backend != "nccl":
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def _own_gpu(device: torch.device) -> torch.device:
    """Return the GPU with the number of this process, unless the device is another one or has a number."""
    if device.type != "cuda" or device.index is not None:
        return device
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise InputError(
            f"process {local} has no GPU of its own, since there are only {count}: start fewer processes "
            "(torchrun --nproc-per-node), or use device='cpu'",
            parameter="device",
        )
    return torch.device("cuda", local)


@functools.cache
def _rendezvous() -> tuple[Any, int, int]:
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://"))


@contextmanager
def synchronized_batch_norm(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Compute the statistics of batch normalization over the batches of all GPUs, inside the block."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    if rank_and_size()[1] > 1 and device.type == "cuda":
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, nn.SyncBatchNorm):
                    # The new module has the parameters and buffers of the old one, not copies.
                    setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
                    replaced.append((parent, name, child))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch (a tensor, or tuples, lists and dictionaries of tensors) on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [to_device(value, device) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch
