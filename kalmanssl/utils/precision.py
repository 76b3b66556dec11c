"""Half precision: networks may use it, but densities and entropies are computed in single precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["is_half", "no_autocast", "to_float32"]


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
