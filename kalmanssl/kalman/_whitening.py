"""Whitening of residuals by their predicted covariances."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from kalmanssl.kalman._linalg import safe_cholesky
from kalmanssl.kalman._validation import wrong_value

__all__ = ["whiten"]

Array = TypeVar("Array", np.ndarray, Tensor)

_CHUNK = 16_384  # residuals whose factors are gathered at once


def whiten(residual: Array, cov: Array, *, index: Any = None, mask: Any = None, name: str = "cov") -> Array:
    """Multiply residuals by the inverse Cholesky factors of their covariances.

    The results are uncorrelated with unit variance if the covariances are right. The sum of their squares is the
    squared Mahalanobis distance of the residual.

    Parameters
    ----------
    residual : (..., n)
        Observations minus their predicted means; numpy arrays or torch tensors. What is missing may hold NaN.
    cov : (..., n, n) or (distinct, n, n)
        Predicted covariances, broadcast to the residuals; or, with `index`, each distinct one once.
    index : (...) of int, optional
        Position in `cov` of the covariance of each residual.
    mask : (..., n) of bool, optional
        True where observed; broadcast to the residuals. Rows and columns of `cov` for missing channels are not used.
    name : str
        Name of the covariances in error messages.

    Returns
    -------
    (..., n)
        Whitened residuals in the type of `residual`, 0 where missing; float64 from numpy.

    Raises
    ------
    InputError
        If shapes do not fit.
    NotPositiveDefiniteError
        If a covariance is not positive definite (a subclass of `InputError`).

    Warns
    -----
    JitterWarning
        If jitter was added to a covariance that rounding had made indefinite.

    Examples
    --------
    >>> whiten(np.array([[2.0, 3.0]]), np.diag([4.0, 9.0]))
    array([[1., 1.]])
    """
    if isinstance(residual, Tensor):
        return _whiten(residual, cov, index, mask, name)
    residuals, covs = (torch.from_numpy(np.array(value, dtype=float)) for value in (residual, cov))
    index, mask = (None if value is None else torch.from_numpy(np.array(value)) for value in (index, mask))
    return _whiten(residuals, covs, index, mask, name).numpy()


def _whiten(residual: Tensor, cov: Tensor, index: Tensor | None, mask: Tensor | None, name: str) -> Tensor:
    """`whiten` of tensors."""
    size = residual.shape[-1]
    if cov.shape[-2:] != (size, size) or (index is not None and (cov.ndim != 3 or index.shape != residual.shape[:-1])):
        expected = f"(..., {size}, {size})" if index is None else f"(distinct, {size}, {size})"
        raise wrong_value(name, f"expected {expected} for residuals {tuple(residual.shape)}, got {tuple(cov.shape)}")
    if mask is not None:
        # A missing channel is made independent of the others, with a residual of 0.
        residual = torch.where(mask, residual, residual.new_zeros(()))
        pairs = mask[..., None] & mask[..., None, :]
        eye = torch.eye(size, dtype=cov.dtype, device=cov.device)
        cov, index = torch.where(pairs, cov if index is None else cov[index], eye), None
    factor = safe_cholesky(cov, name)
    if index is None:
        return _solve(factor, residual)
    if len(cov) == 1:
        return _solve(factor[0], residual)
    parts = [
        _solve(factor[which], some)
        for which, some in zip(index.flatten().split(_CHUNK), residual.flatten(0, -2).split(_CHUNK), strict=True)
    ]
    return torch.cat(parts).view_as(residual)


def _solve(factor: Tensor, residual: Tensor) -> Tensor:
    """Inverse of lower factors (n, n) or (..., n, n) times vectors (..., n)."""
    # One factor: all residuals are columns of one right-hand side.
    if factor.ndim == 2:
        return torch.linalg.solve_triangular(factor, residual.reshape(-1, len(factor)).mT, upper=False).mT.view(
            residual.shape
        )
    return torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
