"""Half precision: networks may use it, but densities and entropies are computed in single precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["is_half", "no_autocast", "to_float32"]


def is_half(x: Tensor) -> bool:
    """Tell whether `x` has numbers of 16 bits."""
    return x.dtype in (torch.float16, torch.bfloat16)


def to_float32(x: Tensor) -> Tensor:
    """Return `x` in single precision if it is in half precision, else as it is."""
    return x.float() if is_half(x) else x


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Switch off, for a block of code, what would compute in half precision on this device."""
    # Entering it costs more than asking, and a loss does it several times.
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()
