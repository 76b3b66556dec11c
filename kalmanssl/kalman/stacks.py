"""Products over stacks of matrices (time|1, batch|1, n, m) that keep shared axes shared.

An axis of 1 means "the same for all". Broadcasting would copy such an operand for every member; these fold it into one
product instead, forwards, and sum over it, backwards. Time comes first here: a step is then one piece of memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["affine", "apply", "empty_steps", "multiply", "outer", "per_step", "product_sum", "reduce_to"]


def per_step(stack: Tensor, steps: int) -> list[Tensor]:
    """One tensor a step; the batch axis is dropped where it is 1, since products without one are cheaper."""
    stack = stack[:, 0] if stack.shape[1] == 1 else stack
    return [stack[0]] * steps if stack.shape[0] == 1 else list(stack.unbind(0))


def empty_steps(like: Tensor, steps: int, batch: int, *shape: int) -> tuple[Tensor, list[Tensor]]:
    """A stack to be filled, and its steps as `per_step` gives them."""
    stack = torch.empty(steps, batch, *shape, dtype=like.dtype, device=like.device)
    return stack, list((stack[:, 0] if batch == 1 else stack).unbind(0))


def affine(offset: Tensor, vector: Tensor, matrix: Tensor, sign: int = 1) -> Tensor:
    """Offset (batch, m) + sign · vector (batch, n) times matrix (n, m) or (batch, n, m)."""
    if matrix.ndim == 2:
        return torch.addmm(offset, vector, matrix, alpha=sign)
    return torch.baddbmm(offset[:, None], vector[:, None], matrix, alpha=sign)[:, 0]


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """Matrix products of two stacks."""
    if right.shape[:2] == (1, 1):
        return left @ right[0, 0]
    if left.shape[:2] == (1, 1):
        return left[0, 0] @ right
    return left @ right


def apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """A stack of matrices (time|1, batch|1, n, m) times vectors (time, batch, m)."""
    if matrix.shape[1] == 1:
        return vector @ (matrix[0, 0] if matrix.shape[0] == 1 else matrix[:, 0]).mT
    if matrix.shape[0] == 1:
        return (vector.transpose(0, 1) @ matrix[0].mT).transpose(0, 1)
    return (matrix @ vector[..., None])[..., 0]


def outer(left: Tensor, right: Tensor, time: int, batch: int) -> Tensor:
    """Products of vectors (time, batch, n), (time, batch, m), summed over the axes that shall be 1."""
    if batch == 1 and time == 1:
        return (left.flatten(0, 1).mT @ right.flatten(0, 1))[None, None]
    if batch == 1:
        return (left.mT @ right)[:, None]
    if time == 1:
        return (left.transpose(0, 1).mT @ right.transpose(0, 1))[None]
    return left[..., :, None] * right[..., None, :]


def product_sum(left: Tensor, right: Tensor, time: int, batch: int) -> Tensor:
    """Sum of left' right over the axes that shall be 1."""
    if batch == 1 and time == 1:
        return (left.flatten(0, -2).mT @ right.flatten(0, -2))[None, None]
    return reduce_to(left.mT @ right, time, batch)


def reduce_to(stack: Tensor, time: int, batch: int) -> Tensor:
    """Sum over the axes that shall be 1."""
    if time == 1 and stack.shape[0] != 1:
        stack = stack.sum(0, keepdim=True)
    if batch == 1 and stack.shape[1] != 1:
        stack = stack.sum(1, keepdim=True)
    return stack
