"""Cholesky factors of covariances, and products over stacks of matrices.

**Factors.** Rounding can make a covariance slightly indefinite. `safe_cholesky` symmetrizes it and tries to factorize.
Only if this fails does it check for NaN and then add jitter to the diagonal of the matrices that failed, ten times more
at each try. It warns about the amount that it added.

**Stacks.** A stack of matrices is (time|1, batch|1, n, m), time first, so that one step is contiguous in memory. An
axis of size 1 means "the same for all". Broadcasting would copy such an operand for every member of the batch; the
functions here compute one product instead, and sum over the axis in the backward pass. A stack may have fewer entries
than there are steps; its last entry then serves all later steps.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.kalman._tensor_checks import check_layout, read_array

__all__ = [
    "JitterWarning",
    "NotPositiveDefiniteError",
    "add_steps_",
    "affine",
    "cholesky_unchecked",
    "cholesky_with_jitter",
    "empty_steps",
    "inverse_transpose",
    "matmul",
    "matvec",
    "matvec_broadcast",
    "outer_sum",
    "per_step",
    "product_sum",
    "safe_cholesky",
    "sum_to",
    "symmetrize",
]

_FIRST_JITTER = {torch.float32: 1e-6, torch.float64: 1e-12}
_TRIES = 5


class NotPositiveDefiniteError(InputError):
    """A covariance is not positive definite, by more than rounding explains."""


class JitterWarning(RuntimeWarning):
    """A covariance was positive definite only after jitter was added to its diagonal."""


def symmetrize(matrix: Tensor) -> Tensor:
    """Mean of a matrix (..., n, n) and its transpose."""
    return (matrix + matrix.mT) * 0.5


def cholesky_unchecked(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Lower Cholesky factor (..., n, n) and its status (...), which is zero where the factorization succeeded.

    It never raises and never synchronizes with the device, so that a loop can check the status once, at its end. Only
    the lower triangle is read.
    """
    factor, status = torch.linalg.cholesky_ex(matrix)
    return factor, status


def safe_cholesky(matrix: Tensor, name: str) -> Tensor:
    """Lower Cholesky factor of a covariance, with jitter on its diagonal if rounding made it indefinite.

    Parameters
    ----------
    matrix : (..., n, n)
        Covariance; its symmetric part is factorized.
    name : str
        Name of the covariance, for messages.

    Returns
    -------
    (..., n, n)
        Lower factor.

    Raises
    ------
    InputError
        If it is not a tensor of square matrices, float32 or float64.
    NotPositiveDefiniteError
        If the matrix contains NaN or infinity, or if jitter of up to 1e-2 (float32) or 1e-8 (float64) of the mean
        variance does not make it positive definite.

    Warns
    -----
    JitterWarning
        If jitter was added, with the number of matrices and the largest amount.
    """
    if not isinstance(matrix, Tensor):
        raise InputError(f"{name}: expected a torch.Tensor, got {type(matrix).__name__}", parameter=name)
    check_layout(name, matrix)
    read_array(name, matrix)
    if matrix.dtype not in _FIRST_JITTER:
        raise InputError(f"{name}: expected float32 or float64, got {matrix.dtype}", parameter=name)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise InputError(f"{name}: expected (..., n, n), got {tuple(matrix.shape)}", parameter=name)
    return cholesky_with_jitter(matrix, name)[0]


def cholesky_with_jitter(matrix: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """`safe_cholesky`, and the jitter (...) that was added to the diagonal of each matrix."""
    matrix = symmetrize(matrix)
    factor, status = cholesky_unchecked(matrix)
    if not bool(status.any()) and bool(torch.isfinite(factor.detach()).all()):
        return factor, torch.zeros_like(status, dtype=matrix.dtype)
    not_finite = ~torch.isfinite(matrix).all(-1).all(-1)
    if bool(not_finite.any()):
        raise NotPositiveDefiniteError(
            f"{name}: {int(not_finite.sum())} of {not_finite.numel()} matrices contain NaN or infinity; "
            "check that the parameters are finite and that A does not let the state grow without bound"
        )
    variance = matrix.detach().diagonal(dim1=-2, dim2=-1).abs().mean(-1)
    variance = variance.clamp_min(torch.finfo(matrix.dtype).tiny / torch.finfo(matrix.dtype).eps)
    jitter = torch.where(status > 0, _FIRST_JITTER[matrix.dtype] * variance, torch.zeros_like(variance))
    for _ in range(_TRIES):
        factor, status = cholesky_unchecked(matrix + torch.diag_embed(jitter[..., None].expand(matrix.shape[:-1])))
        failed = status > 0
        if not bool(failed.any()):
            warnings.warn(
                f"{name}: {int((jitter > 0).sum())} of {jitter.numel()} matrices were positive definite only after "
                f"up to {float(jitter.max()):.2g} was added to their diagonal",
                JitterWarning,
                stacklevel=3,
            )
            return factor, jitter
        jitter = torch.where(failed, 10 * jitter, jitter)
    smallest = _smallest_eigenvalue(matrix.detach()[failed])
    raise NotPositiveDefiniteError(
        f"{name}: {int(failed.sum())} of {failed.numel()} matrices are not positive definite "
        f"(smallest eigenvalue {smallest:.3g}); check Q, R and P0, or use float64"
    )


def _smallest_eigenvalue(matrices: Tensor) -> float:
    """Smallest eigenvalue of symmetric matrices (count, n, n), computed at scale 1 so that it does not overflow."""
    scale = matrices.abs().amax((-2, -1)).clamp_min(torch.finfo(matrices.dtype).tiny)
    return float((torch.linalg.eigvalsh(matrices / scale[:, None, None])[:, 0] * scale).min())


def inverse_transpose(factor: Tensor, eye: Tensor, out: Tensor | None = None) -> Tensor:
    """Transpose V of the inverse of a lower factor L (..., n, n) of M, so that V V' = M^-1; `eye` is (n, n)."""
    # Cholesky returns column-major matrices; this form uses them without a copy.
    return torch.linalg.solve_triangular(factor.mT, eye.expand_as(factor), upper=True, left=False, out=out)


def per_step(stack: Tensor, steps: int) -> list[Tensor]:
    """Split a stack into one tensor per step, without the batch axis if it is 1: such products are faster."""
    stack = stack[:, 0] if stack.shape[1] == 1 else stack
    return [stack[0]] * steps if stack.shape[0] == 1 else list(stack.unbind(0))


def empty_steps(like: Tensor, steps: int, batch: int, *shape: int) -> tuple[Tensor, list[Tensor]]:
    """Allocate a stack, and return it with its views per step, as from `per_step`."""
    stack = torch.empty(steps, batch, *shape, dtype=like.dtype, device=like.device)
    return stack, list((stack[:, 0] if batch == 1 else stack).unbind(0))


def affine(offset: Tensor, vector: Tensor, matrix: Tensor, sign: int = 1) -> Tensor:
    """Offset (batch, m) + sign · vector (batch, n) times matrix (n, m) or (batch, n, m)."""
    if matrix.ndim == 2:
        return torch.addmm(offset, vector, matrix, alpha=sign)
    return torch.baddbmm(offset[:, None], vector[:, None], matrix, alpha=sign)[:, 0]


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """Matrix products of two stacks."""
    if right.shape[:2] == (1, 1):
        return left @ right[0, 0]
    if left.shape[:2] == (1, 1):
        return left[0, 0] @ right
    return left @ right


def matvec_broadcast(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrices (..., n, m) times vectors (..., m), with broadcasting."""
    return (matrix @ vector[..., None])[..., 0]


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """A stack of matrices (steps or fewer, batch|1, n, m) times vectors (steps, batch|1, m).

    Time and batch may be in the other order if the stack has one entry or as many as there are steps.
    """
    entries, batch = matrix.shape[:2]
    if 1 < entries < len(vector):
        last = entries - 1
        product = matvec(matrix[last:], vector)
        product[:last] = matvec(matrix[:last], vector[:last])
        return product
    if batch == 1:
        return vector @ (matrix[0, 0] if entries == 1 else matrix[:, 0]).mT
    if entries == 1:
        return (vector.transpose(0, 1) @ matrix[0].mT).transpose(0, 1)
    return matvec_broadcast(matrix, vector)


def add_steps_(total: Tensor, offset: Tensor) -> Tensor:
    """Add offsets (steps or fewer, batch|1, n) to `total` (steps, batch, n) in place."""
    entries = min(len(offset), len(total))
    total[:entries].add_(offset[:entries])
    total[entries:].add_(offset[-1])
    return total


def outer_sum(left: Tensor, right: Tensor, steps: int, batch: int) -> Tensor:
    """Outer products of vectors (time, batch, n) and (time, batch, m), summed to (steps, batch, n, m).

    An axis is summed if its requested size is 1. If 1 < `steps` < time, the last entry is the sum over all later steps.
    """
    if 1 < steps < len(left):
        last = steps - 1
        head, tail = outer_sum(left[:last], right[:last], last, batch), outer_sum(left[last:], right[last:], 1, batch)
        return torch.cat([head, tail])
    if batch == 1 and steps == 1:
        return (left.flatten(0, 1).mT @ right.flatten(0, 1))[None, None]
    if batch == 1:
        return (left.mT @ right)[:, None]
    if steps == 1:
        return (left.transpose(0, 1).mT @ right.transpose(0, 1))[None]
    return left[..., :, None] * right[..., None, :]


def product_sum(left: Tensor, right: Tensor, steps: int, batch: int) -> Tensor:
    """Matrix products left' right of two stacks, summed as by `sum_to`."""
    if batch == 1 and steps == 1:
        return (left.flatten(0, -2).mT @ right.flatten(0, -2))[None, None]
    return sum_to(left.mT @ right, steps, batch)


def sum_to(stack: Tensor, steps: int, batch: int) -> Tensor:
    """Sum a stack over time and batch to the requested number of steps and sequences.

    The batch axis is summed if `batch` is 1. If there are more than `steps` entries, the last one returned is the sum
    of all that are left.
    """
    if batch == 1 and stack.shape[1] != 1:
        stack = stack.sum(1, keepdim=True)
    if steps != len(stack):
        last = steps - 1
        tail = stack[last:].sum(0, keepdim=True)
        stack = torch.cat([stack[:last], tail]) if last else tail
    return stack
