"""Precision of computations: no half precision in densities and entropies, and float64 where the device has it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["finest_dtype", "has_float64", "is_half", "no_autocast", "to_float32"]


def has_float64(device: torch.device) -> bool:
    """Return whether the device computes in float64."""
    return device.type != "mps"


def finest_dtype(x: Tensor) -> torch.dtype:
    """Return float64, or the type of `x` if its device does not compute in float64."""
    return torch.float64 if has_float64(x.device) else x.dtype


def is_half(x: Tensor) -> bool:
    """Return whether `x` has a 16-bit floating-point type."""
    return x.dtype in (torch.float16, torch.bfloat16)


def to_float32(x: Tensor) -> Tensor:
    """Convert `x` to single precision if it is in half precision."""
    return x.float() if is_half(x) else x


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context manager that disables autocast on this device."""
    # Entering the context manager is slower than the check, and a loss does it several times.
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()
