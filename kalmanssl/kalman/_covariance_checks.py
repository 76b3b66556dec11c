"""Checks of variances and covariances: symmetric and positive semi-definite up to rounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kalmanssl.kalman._tensor_checks import distinct_entries, wrong_value
from kalmanssl.kalman.backends import next_invalid_covariance

__all__ = ["check_covariance", "check_variances"]


def check_variances(name: str, variances: Tensor, advice: str = "") -> None:
    """Check that variances are 0 or more; `advice` is added to the message."""
    values = distinct_entries(variances.detach())
    # numpy on a CPU: the threads of torch keep spinning after the call and slow down the kernels that follow.
    smallest = float(values.numpy().min() if values.is_cpu else values.amin())
    if smallest < 0:
        raise wrong_value(name, f"a variance is negative (smallest {smallest:.3g}){advice}")


def check_covariance(name: str, cov: Tensor, *, computed: bool = False) -> None:
    """Check that covariances (..., n, n) are symmetric and positive semi-definite.

    Deviations by rounding are accepted: those of up to 1000 times the rounding error of the largest variance or, if the
    covariances were `computed` by a filter, which loses precision, of up to the square root of that error.
    """
    cov = distinct_entries(cov.detach())
    if 1 in cov.shape[-2:] and cov.shape[-1] != cov.shape[-2]:  # expanded along a row or a column
        size = max(cov.shape[-2:])
        cov = cov.expand(*cov.shape[:-2], size, size)
    n, eps = cov.shape[-1], torch.finfo(cov.dtype).eps
    share = eps**0.5 if computed else 1e3 * eps
    matrices = cov.reshape(-1, n, n)
    number = next_invalid_covariance(matrices, 0, share)
    while number >= 0:
        # The factor can fail by its own rounding, which the eigenvalues decide.
        _check_matrix(name, matrices[number].cpu().numpy(), share)
        number = next_invalid_covariance(matrices, number + 1, share)


def _check_matrix(name: str, matrix: np.ndarray, share: float) -> None:
    """Raise if a matrix is not symmetric and positive semi-definite, up to `share` times its largest variance."""
    smallest, largest = float(matrix.diagonal().min()), float(matrix.diagonal().max())
    asymmetry = float(np.abs(matrix - matrix.T).max())
    if asymmetry > share * abs(largest):
        raise wrong_value(
            name,
            f"a covariance is not symmetric (differs from its transpose by {asymmetry:.3g}); "
            "pass 0.5 * (M + M.mT), or M @ M.mT of a factor M",
        )
    if smallest < 0:
        raise wrong_value(name, f"a variance on the diagonal is negative (smallest {smallest:.3g})")
    scale = float(np.abs(matrix).max())
    if scale == 0:
        return
    lowest = float(np.linalg.eigvalsh(matrix.astype(float) / scale)[0])
    if lowest < -share * largest / scale:
        raise wrong_value(
            name,
            f"a covariance is not positive (smallest eigenvalue {lowest * scale:.3g}); "
            "pass M @ M.mT of a factor M if it is learned",
        )
