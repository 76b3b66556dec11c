"""The one place where a matrix is factorized, with a written policy for those that resist.

A covariance that is positive definite on paper can miss it by rounding. `safe_cholesky` symmetrizes, tries
without help, looks for NaN, and only then adds jitter to the diagonal of the members that failed, growing
tenfold, and says how much it took.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

__all__ = [
    "JitterWarning",
    "NotPositiveDefiniteError",
    "cholesky_unchecked",
    "cholesky_with_jitter",
    "inverse_transpose",
    "safe_cholesky",
    "symmetrize",
]

_FIRST_JITTER = {torch.float32: 1e-6, torch.float64: 1e-12}
_TRIES = 5


class NotPositiveDefiniteError(ValueError):
    """A covariance is not positive definite, beyond what rounding explains."""


class JitterWarning(RuntimeWarning):
    """A covariance was positive definite only after a little was added to its diagonal."""


def symmetrize(matrix: Tensor) -> Tensor:
    """Mean of a matrix (..., n, n) and its transpose."""
    return (matrix + matrix.mT) * 0.5


def cholesky_unchecked(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Lower Cholesky factor (..., n, n) and its status (...), zero where it succeeded; never waits, never raises.

    Only the lower triangle is read. For loops that look at the status once, at their end.
    """
    factor, status = torch.linalg.cholesky_ex(matrix)
    return factor, status


def safe_cholesky(matrix: Tensor, name: str) -> Tensor:
    """Lower Cholesky factor of a covariance that rounding may have spoiled.

    Parameters
    ----------
    matrix : (..., n, n)
        Covariance; its symmetric part is factorized.
    name : str
        What it is, for messages.

    Returns
    -------
    (..., n, n)
        Lower factor.

    Raises
    ------
    NotPositiveDefiniteError
        If it holds NaN or infinity, or if jitter of up to 1e-2 (float32) or 1e-8 (float64) of the mean variance
        does not make it positive definite.

    Warns
    -----
    JitterWarning
        If jitter was added, with the number of matrices and the largest amount.
    """
    return cholesky_with_jitter(matrix, name)[0]


def cholesky_with_jitter(matrix: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """`safe_cholesky`, and what was added to the diagonal of each matrix (...)."""
    matrix = symmetrize(matrix)
    factor, status = cholesky_unchecked(matrix)
    if not bool(status.any()) and bool(torch.isfinite(factor.detach()).all()):
        return factor, torch.zeros_like(status, dtype=matrix.dtype)
    broken = ~torch.isfinite(matrix).all(-1).all(-1)
    if bool(broken.any()):
        raise NotPositiveDefiniteError(
            f"{name}: {int(broken.sum())} of {broken.numel()} matrices hold NaN or infinity; "
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
    smallest = float(torch.linalg.eigvalsh(matrix.detach()).min())
    raise NotPositiveDefiniteError(
        f"{name}: {int(failed.sum())} of {failed.numel()} matrices are not positive definite "
        f"(smallest eigenvalue {smallest:.3g}); check Q, R and P0, or use float64"
    )


def inverse_transpose(factor: Tensor, eye: Tensor, out: Tensor | None = None) -> Tensor:
    """Transpose V of the inverse of a lower factor L (..., n, n) of M, so that V V' = M^-1; `eye` is (n, n)."""
    # In this form the layout that Cholesky leaves behind needs no copy.
    return torch.linalg.solve_triangular(factor.mT, eye.expand_as(factor), upper=True, left=False, out=out)
