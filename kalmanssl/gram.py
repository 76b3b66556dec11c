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
        # Transposed by a copy, which goes block by block: adding grad.T itself can be as slow as the product.
        return grad.T.clone(memory_format=torch.contiguous_format).add_(grad) @ v


def gram(v: Tensor) -> Tensor:
    """Inner products of the rows of `v` (samples, D), (samples, samples), differentiable any number of times."""
    return _Gram.apply(v)
