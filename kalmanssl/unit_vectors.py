"""Vectors divided by their length, with a gradient of few passes over the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["unit_vectors"]

_SHORTEST = 1e-12  # vectors below this length are divided by it, so that one of zeros stays finite


class _UnitVectors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        z = u / _length(u)
        ctx.save_for_backward(u, z)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        u, z = ctx.saved_tensors
        # What of the gradient points along z would change the length alone.
        return torch.addcmul(grad, z, (grad * z).sum(-1, keepdim=True), value=-1) / _length(u)


def _length(u: Tensor) -> Tensor:
    return torch.linalg.vector_norm(u, dim=-1, keepdim=True).clamp_min(_SHORTEST)


def unit_vectors(u: Tensor) -> Tensor:
    """Return u / |u| along the last axis of `u` (..., dim), differentiable any number of times."""
    return _UnitVectors.apply(u)
