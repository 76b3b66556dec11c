"""Affine recursions over time, the sequential part of the filter and the smoother.

    vectors    x[t] = M[t] x[t-1] + u[t]               means of the smoother, derivatives of means
    matrices   X[t] = M[t] X[t-1] M[t]' + D[t]         covariances of the smoother, derivatives of covariances

Both also run backward in time. Time is the first axis, sequences the second. A stack of matrices (entries, batch|1, n,
n) is shared by all sequences if its batch axis is 1, and its last entry serves all later steps. On a CPU with numba the
loops are compiled, elsewhere they run in torch, or with `parallel` as a scan (`_parallel_scan.py`). Only `AffineScan`
and `CovarianceRecursion` have derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from kalmanssl.kalman._linalg import outer_sum, per_step, sum_to, symmetrize
from kalmanssl.kalman.backends._parallel_scan import affine_in_parallel, covariances_in_parallel
from kalmanssl.kalman.kernels import has_compiler, run_blocks

__all__ = [
    "AffineScan",
    "CovarianceRecursion",
    "affine_scan",
    "as_flat_array",
    "covariance_recursion",
    "has_converged",
    "has_kernels_for",
    "pad_rows",
    "run_over_sequences",
]

# Sequences that a thread processes together; a matrix is then loaded once for all of them.
_BLOCK = 16
# Rows are padded to a multiple of this many bytes, the width of a SIMD vector.
_VECTOR = 32


class AffineScan(torch.autograd.Function):
    """`affine_scan` with derivatives; with `reverse`, the last step has no matrix."""

    @staticmethod
    def forward(ctx: Any, offsets: Tensor, matrices: Tensor, reverse: bool, parallel: bool) -> Tensor:
        x = affine_scan(offsets, matrices, reverse=reverse, parallel=parallel)
        ctx.save_for_backward(x, matrices)
        ctx.reverse, ctx.parallel = reverse, parallel
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, matrices = ctx.saved_tensors
        entries, models = matrices.shape[:2]
        # The adjoint runs in the other direction, in which each matrix belongs to the neighboring step.
        shifted = matrices
        if entries > 1:
            shifted = torch.cat([matrices[:1], matrices]) if ctx.reverse else matrices[1:]
        to_x = affine_scan(gradient, shifted.mT, reverse=not ctx.reverse, parallel=ctx.parallel)
        if not ctx.needs_input_grad[1]:
            return to_x, None, None, None
        left, right = (to_x[:-1], x[1:]) if ctx.reverse else (to_x[1:], x[:-1])
        unused = 1 if entries > 1 and not ctx.reverse else 0  # no matrix leads into the first step
        steps = entries - unused
        if models == 1:
            to_matrices = outer_sum(left, right, steps, 1)
        else:
            left, right = (p.unflatten(1, (models, -1)) for p in (left, right))
            to_matrices = sum_to(left.mT @ right, steps, models)
        return to_x, torch.cat([torch.zeros_like(matrices[:unused]), to_matrices]), None, None


class CovarianceRecursion(torch.autograd.Function):
    """`covariance_recursion` backward in time, with derivatives."""

    @staticmethod
    def forward(ctx: Any, offsets: Tensor, matrices: Tensor, parallel: bool) -> Tensor:
        X = covariance_recursion(offsets, matrices, reverse=True, parallel=parallel)
        ctx.save_for_backward(X, matrices)
        ctx.parallel = parallel
        return X

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        X, matrices = ctx.saved_tensors
        to_X = covariance_recursion(symmetrize(gradient), matrices.mT, parallel=ctx.parallel)
        return to_X, sum_to(2 * to_X[:-1] @ matrices @ X[1:], *matrices.shape[:2]), None


def has_kernels_for(like: Tensor) -> bool:
    """Whether the kernels support the device and the data type of a tensor, and numba is available."""
    return like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64) and has_compiler()


def affine_scan(
    offsets: Tensor, matrices: Tensor, *, reverse: bool = False, parallel: bool = False, overwrite: bool = False
) -> Tensor:
    """x[t] = M[t] x[t-1] + u[t] for u (time, batch, n), or x[t] = M[t] x[t+1] + u[t] with `reverse`.

    If the batch is a multiple of that of the matrices, that many consecutive sequences share one matrix. With
    `overwrite` the result may be in the memory of the offsets.
    """
    steps, batch, n = offsets.shape
    last = len(matrices) - 1
    if parallel:
        found_in_parallel = affine_in_parallel(offsets, matrices, reverse=reverse)
        if found_in_parallel is not None:
            return found_in_parallel
    if has_kernels_for(offsets):
        from kalmanssl.kalman.kernels import _recursion_kernels as recursion_kernels

        x, rows = pad_rows(offsets, copy=not overwrite), pad_rows(matrices.mT)
        size = (steps, batch, n, x.shape[-1])
        group = batch // matrices.shape[1]
        operations = 2 * steps * batch * n * n
        run_over_sequences(
            recursion_kernels.affine_scan,
            batch,
            operations,
            as_flat_array(x),
            as_flat_array(rows),
            last + 1,
            group,
            size,
            reverse,
        )
        return x[..., :n]
    M = per_step(matrices.mT, last + 1)
    u = offsets.unbind(0)
    order = range(steps - 1, -1, -1) if reverse else range(steps)
    found = [u[order[0]]]
    for t in order[1:]:
        matrix = M[min(t, last)]
        if matrix.ndim == 2:
            found.append(torch.addmm(u[t], found[-1], matrix))
        else:
            offset, before = (p.unflatten(0, (len(matrix), -1)) for p in (u[t], found[-1]))
            found.append(torch.baddbmm(offset, before, matrix).flatten(0, 1))
    return torch.stack(found[::-1] if reverse else found)


def covariance_recursion(offsets: Tensor, matrices: Tensor, *, reverse: bool = False, parallel: bool = False) -> Tensor:
    """X[0] = D[0], X[t+1] = M[t] X[t] M[t]' + D[t+1] for symmetric D (steps, batch, n, n); M has steps - 1 entries.

    With `reverse` the recursion starts at the last D, with X[t] = M[t] X[t+1] M[t]' + D[t].
    """
    steps, batch, n, _ = offsets.shape
    if parallel:
        found_in_parallel = covariances_in_parallel(offsets, matrices, reverse=reverse)
        if found_in_parallel is not None:
            return found_in_parallel
    if has_kernels_for(offsets):
        from kalmanssl.kalman.kernels import _recursion_kernels as recursion_kernels

        X = pad_rows(offsets, copy=True)
        X_, G = as_flat_array(X), as_flat_array(pad_rows(matrices))
        own, size = matrices.shape[1] > 1, (steps, batch, n, X.shape[-1])

        def work(begin: int, end: int) -> None:
            recursion_kernels.covariance_recursion(X_, G, own, size, reverse, (begin, end))

        run_blocks(work, batch, 4 * steps * batch * n**3)
        return X[..., :n]
    M, D = (per_step(stack, len(stack)) for stack in (matrices, offsets))
    order = range(steps - 1, -1, -1) if reverse else range(steps)
    found = [D[order[0]]]
    for i in order[1:]:
        matrix = M[i if reverse else i - 1]
        found.append(symmetrize(D[i] + matrix @ found[-1] @ matrix.mT))
    return torch.stack(found[::-1] if reverse else found).reshape(offsets.shape)


def run_over_sequences(kernel: Any, batch: int, operations: int, *arguments: Any) -> None:
    """Call a kernel for all sequences, in as many threads as torch uses; its last argument is a range of sequences."""

    def work(begin: int, end: int) -> None:
        kernel(*arguments, (begin * _BLOCK, min(end * _BLOCK, batch)))

    run_blocks(work, -(-batch // _BLOCK), operations)


def has_converged(before: Tensor, now: Tensor) -> bool:
    """Whether two successive covariances are equal up to rounding."""
    sd = now.diagonal(dim1=-2, dim2=-1).sqrt()
    tolerance = 32 * torch.finfo(now.dtype).eps
    return bool(((now - before).abs() <= tolerance * sd[..., :, None] * sd[..., None, :]).all())


def pad_rows(stack: Tensor, *, copy: bool = False) -> Tensor:
    """Make a stack (…, n) contiguous, with zeros at the end of its rows so that they consist of whole SIMD vectors."""
    missing = -stack.shape[-1] % (_VECTOR // stack.element_size())
    if missing:
        return pad(stack.detach(), (0, missing))
    stack = stack.detach()
    return stack.clone(memory_format=torch.contiguous_format) if copy else stack.contiguous()


def as_flat_array(stack: Tensor) -> Any:
    """A contiguous tensor as a flat numpy array that shares its memory."""
    return stack.reshape(-1).numpy()
