"""The gains with which the smoother goes backward, of all steps at once."""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import inverse_transpose, safe_cholesky, symmetrize
from kalmanssl.kalman.backends._affine_recursions import as_flat_array, has_kernels_for, pad_rows
from kalmanssl.kalman.kernels import run_blocks

__all__ = ["smoother_gains"]

# Covariances that a thread takes at once.
_BLOCK = 64


def smoother_gains(cov: Tensor, A: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """Gains G and covariances D, (batch|1, steps, n, n), with x_t = … + G x_{t+1} + N(0, D) given the filtered `cov`.

    A (batch|1, steps|1, n, n) and Q, (batch|1, steps|1, n) or in full, lead from each step to the next. D is a sum of
    positive semi-definite terms, (I - G A) cov (I - G A)' + G Q G'. Compiled where no derivatives are asked for.
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
    """None if a covariance resists: the plain path tries to mend it."""
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
