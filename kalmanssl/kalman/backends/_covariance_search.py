"""Search for a matrix that is not a covariance, in compiled code or in torch."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from kalmanssl.kalman.kernels import has_compiler

__all__ = ["next_invalid_covariance"]


def next_invalid_covariance(cov: Tensor, begin: int, share: float) -> int:
    """Number of the first of the matrices (count, n, n), from `begin` on, that may not be a covariance; -1 if none is.

    A matrix is valid if it has no negative variance, differs from its transpose by no more than `share` times the
    largest variance, and has a Cholesky factor once `share` times the largest variance is added to its diagonal. That
    is the case if no eigenvalue is below minus this amount, up to the rounding of the factor.
    """
    n = cov.shape[-1]
    if cov.is_cpu and has_compiler():
        from kalmanssl.kalman.kernels import _check_kernels as kernels

        flat: np.ndarray = cov.numpy().reshape(-1)
        return int(kernels.first_invalid(flat, n, begin, share))
    cov = cov[begin:]
    variances = cov.diagonal(dim1=-2, dim2=-1)
    tolerance = share * variances.amax(-1)
    valid = variances.amin(-1) >= 0
    below, above = _off_diagonal(n, cov.device)
    if len(below):
        rows = cov.reshape(-1, n * n)
        valid &= (rows.index_select(1, below) - rows.index_select(1, above)).abs().amax(1) <= tolerance
    valid &= torch.linalg.cholesky_ex(cov + torch.diag_embed(tolerance[:, None].expand(-1, n)))[1] == 0
    found = (~valid).nonzero()
    return begin + int(found[0, 0]) if len(found) else -1


@cache
def _off_diagonal(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices in a flattened (n, n) matrix of the entries below the diagonal, and of their transposed entries."""
    row, column = torch.tril_indices(n, n, -1, device=device)
    return row * n + column, column * n + row
