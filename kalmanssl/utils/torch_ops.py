"""Operations on tensors and modules that torch does not have, or not with a gradient this cheap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["evaluating", "gram", "rows_not_finite", "seeded", "unit_vectors"]


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


def rows_not_finite(v: Tensor) -> int:
    """Count the rows of `v` (samples, D) with NaN or infinite entries, in one pass where there are none."""
    if v.detach().sum().isfinite():  # one number to look at; it may overflow, but never hides what is not finite
        return 0
    return int((~v.isfinite()).any(1).sum())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode inside the block, and each part of it back into its own after it."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def seeded(random_state: int | None) -> Iterator[None]:
    """Draw from a generator of that seed inside the block, and leave the global one as it was."""
    if random_state is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reset the generators of the accelerators.
        torch.default_generator.manual_seed(random_state)
        yield
