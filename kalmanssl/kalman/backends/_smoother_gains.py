"""The gains of the smoother, for all steps at once."""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import inverse_transpose, safe_cholesky, symmetrize
from kalmanssl.kalman.backends._affine_recursions import as_flat_array, has_kernels_for, pad_rows
from kalmanssl.kalman.kernels import run_blocks

__all__ = ["smoother_gains"]

# Covariances that a thread processes together.
_BLOCK = 64


def smoother_gains(cov: Tensor, A: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """Gains G and covariances D (batch|1, steps, n, n) of the smoother, with x_t = … + G x_{t+1} + N(0, D).

    `cov` is the filtered covariance of step t. A (batch|1, steps|1, n, n) and Q, (batch|1, steps|1, n) or full, lead to
    step t + 1. D is the sum of positive semi-definite terms (I - G A) cov (I - G A)' + G Q G'. The computation is
    compiled if no derivatives are needed.
    """
    recorded = torch.is_grad_enabled() and any(p.requires_grad for p in (cov, A, Q))
    if has_kernels_for(cov) and cov.numel() and not recorded:
        found = _compiled(cov, A, Q)
        if found is not None:
            return found
    full = torch.diag_embed(Q) if Q.ndim == 3 else Q
    predicted_cov = symmetrize(A @ cov @ A.mT) + full
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    V = inverse_transpose(safe_cholesky(predicted_cov, "predicted covariance A P A' + Q"), eye)
    gain = cov @ A.mT @ V @ V.mT
    keep = eye - gain @ A
    return gain, symmetrize(keep @ cov @ keep.mT + gain @ full @ gain.mT)


def _compiled(cov: Tensor, A: Tensor, Q: Tensor) -> tuple[Tensor, Tensor] | None:
    """Run the kernel; returns None if a covariance is not positive definite, which torch then handles with jitter."""
    from kalmanssl.kalman.kernels import _covariance_kernels as covariance_kernels

    batch, steps = torch.broadcast_shapes(*(p.shape[:2] for p in (cov, A, Q)))
    n = cov.shape[-1]
    rows = pad_rows(cov.expand(batch, steps, n, n))
    G, D = torch.empty_like(rows), torch.empty_like(rows)
    arrays = (
        as_flat_array(rows),
        as_flat_array(pad_rows(A)),
        as_flat_array(pad_rows(A.mT)),
        as_flat_array(Q.detach().contiguous()),
        (as_flat_array(G), as_flat_array(D)),
    )
    strides = [length for p in (A, Q) for length in (p.shape[1] * (len(p) > 1), int(p.shape[1] > 1))]
    places, size = (steps, *strides), (n, rows.shape[-1])
    succeeded = []

    def work(begin: int, end: int) -> None:
        part = (begin * _BLOCK, min(end * _BLOCK, batch * steps))
        succeeded.append(covariance_kernels.smoother_gains(*arrays, places, size, Q.ndim == 3, part))

    run_blocks(work, -(-batch * steps // _BLOCK), 8 * batch * steps * n**3)
    return (G[..., :n], D[..., :n]) if all(succeeded) else None
