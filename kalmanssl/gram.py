"""Products of a matrix with its own transpose, whose gradient needs one product instead of two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["gram"]


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return v @ v.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return (grad + grad.T) @ v


def gram(v: Tensor) -> Tensor:
    """Inner products of the rows of `v` (samples, D), (samples, samples), differentiable any number of times."""
    return _Gram.apply(v)
