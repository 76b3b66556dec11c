"""Whitening of residuals by their predicted covariances."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from kalmanssl.kalman._linalg import safe_cholesky
from kalmanssl.kalman._tensor_checks import all_finite, check_layout, check_tensor, read_array, wrong_value
from kalmanssl.utils.arrays import as_array, as_floats

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
        If an argument has a wrong type or shape, or a residual that is not missing is not finite.
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
    residuals, covs = (torch.from_numpy(as_floats(n, value)) for n, value in (("residual", residual), (name, cov)))
    index, mask = (
        None if value is None else _from_numpy(n, value, kind)
        for n, value, kind in (("index", index, "iu"), ("mask", mask, "b"))
    )
    return _whiten(residuals, covs, index, mask, name).numpy()


def _from_numpy(name: str, values: Any, kinds: str) -> Tensor:
    """Convert an array-like whose data type is of one of the kinds, in the notation of numpy."""
    array = as_array(name, values)
    if array.dtype.kind not in kinds:
        raise wrong_value(name, f"expected {'bool' if kinds == 'b' else 'integers'}, got {array.dtype}")
    return torch.from_numpy(array.astype(bool if kinds == "b" else int))


def _whiten(residual: Tensor, cov: Tensor, index: Tensor | None, mask: Tensor | None, name: str) -> Tensor:
    """`whiten` of tensors."""
    residual = check_tensor("residual", residual, None)
    cov = check_tensor(name, cov, residual)
    if residual.ndim == 0:
        raise wrong_value("residual", "expected (..., n), got a single number")
    size = residual.shape[-1]
    if cov.shape[-2:] != (size, size) or (index is not None and (cov.ndim != 3 or index.shape != residual.shape[:-1])):
        expected = f"(..., {size}, {size})" if index is None else f"(distinct, {size}, {size})"
        raise wrong_value(name, f"expected {expected} for residuals {tuple(residual.shape)}, got {tuple(cov.shape)}")
    if index is not None:
        _check_index(index, len(cov))
    if mask is not None:
        _check_mask(mask, residual)
        # A missing channel is made independent of the others, with a residual of 0.
        residual = torch.where(mask, residual, residual.new_zeros(()))
        pairs = mask[..., None] & mask[..., None, :]
        eye = torch.eye(size, dtype=cov.dtype, device=cov.device)
        cov, index = torch.where(pairs, cov if index is None else cov[index], eye), None
    if not all_finite(residual):
        raise wrong_value("residual", "contains NaN or infinity; pass a mask that is False there if it is missing")
    if index is None:
        try:
            torch.broadcast_shapes(cov.shape[:-2], residual.shape[:-1])
        except RuntimeError:
            raise wrong_value(
                name, f"{tuple(cov.shape)} cannot be broadcast to residuals {tuple(residual.shape)}"
            ) from None
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


def _check_index(index: Tensor, count: int) -> None:
    """Check the positions of the covariances of the residuals among `count` distinct ones."""
    if not isinstance(index, Tensor) or index.dtype.is_floating_point or index.dtype.is_complex:
        got = index.dtype if isinstance(index, Tensor) else type(index).__name__
        raise wrong_value("index", f"expected integers, got {got}")
    if index.numel() and not (int(index.min()) >= 0 and int(index.max()) < count):
        raise wrong_value(
            "index", f"expected 0 to {count - 1} for {count} covariances, got {int(index.min())} to {int(index.max())}"
        )


def _check_mask(mask: Tensor, residual: Tensor) -> None:
    """Check that a mask is bool and can be broadcast to the residuals."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise wrong_value("mask", f"expected bool, True where observed, got {got}")
    check_layout("mask", mask)
    read_array("mask", mask)
    shape, whole = tuple(mask.shape), tuple(residual.shape)
    if not 0 < len(shape) <= len(whole) or any(m not in (1, r) for m, r in zip(shape[::-1], whole[::-1], strict=False)):
        raise wrong_value("mask", f"{shape} cannot be broadcast to residuals {whole}")


def _solve(factor: Tensor, residual: Tensor) -> Tensor:
    """Inverse of lower factors (n, n) or (..., n, n) times vectors (..., n)."""
    # One factor: all residuals are columns of one right-hand side.
    if factor.ndim == 2:
        return torch.linalg.solve_triangular(factor, residual.reshape(-1, len(factor)).mT, upper=False).mT.view(
            residual.shape
        )
    return torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
