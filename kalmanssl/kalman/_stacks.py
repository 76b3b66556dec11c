"""Products over stacks of matrices (time|1, batch|1, n, m) that keep shared axes shared.

An axis of 1 means "the same for all". Broadcasting would copy such an operand for every member; these fold it into one
product instead, forward, and sum over it, backward. Time comes first here: a step is then one piece of memory. A
stack may hold fewer steps than there are: its last entry stands for all that follow, as that of a constant does.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["add_later_", "affine", "apply", "empty_steps", "multiply", "outer", "per_step", "product_sum", "reduce_to"]


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
    """A stack of matrices (steps or fewer, batch|1, n, m) times vectors (steps, batch|1, m)."""
    known, batch = matrix.shape[:2]
    if 1 < known < len(vector):
        last = known - 1
        return torch.cat([apply(matrix[:last], vector[:last]), apply(matrix[last:], vector[last:])])
    if batch == 1:
        return vector @ (matrix[0, 0] if known == 1 else matrix[:, 0]).mT
    if known == 1:
        return (vector.transpose(0, 1) @ matrix[0].mT).transpose(0, 1)
    return (matrix @ vector[..., None])[..., 0]


def add_later_(rows: Tensor, offset: Tensor) -> Tensor:
    """Add offsets (steps or fewer, batch|1, n) to rows (steps, batch, n)."""
    known = min(len(offset), len(rows))
    rows[:known].add_(offset[:known])
    rows[known:].add_(offset[-1])
    return rows


def outer(left: Tensor, right: Tensor, steps: int, batch: int) -> Tensor:
    """Products of vectors (time, batch, n), (time, batch, m), summed over the axes that shall be 1.

    Where there shall be fewer steps than there are, those at the end are summed as well.
    """
    if 1 < steps < len(left):
        last = steps - 1
        head, tail = outer(left[:last], right[:last], last, batch), outer(left[last:], right[last:], 1, batch)
        return torch.cat([head, tail])
    if batch == 1 and steps == 1:
        return (left.flatten(0, 1).mT @ right.flatten(0, 1))[None, None]
    if batch == 1:
        return (left.mT @ right)[:, None]
    if steps == 1:
        return (left.transpose(0, 1).mT @ right.transpose(0, 1))[None]
    return left[..., :, None] * right[..., None, :]


def product_sum(left: Tensor, right: Tensor, time: int, batch: int) -> Tensor:
    """Sum of left' right over the axes that shall be 1."""
    if batch == 1 and time == 1:
        return (left.flatten(0, -2).mT @ right.flatten(0, -2))[None, None]
    return reduce_to(left.mT @ right, time, batch)


def reduce_to(stack: Tensor, steps: int, batch: int) -> Tensor:
    """Sum over the axes that shall be 1, and over the steps that are too many, all at the end."""
    if batch == 1 and stack.shape[1] != 1:
        stack = stack.sum(1, keepdim=True)
    if steps != len(stack):
        last = steps - 1
        tail = stack[last:].sum(0, keepdim=True)
        stack = torch.cat([stack[:last], tail]) if last else tail
    return stack
