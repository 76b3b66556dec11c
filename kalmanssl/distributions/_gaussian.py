"""The Gaussian distribution with a full covariance matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kalmanssl.kalman import safe_cholesky
from kalmanssl.utils.precision import to_float32

__all__ = ["GaussianConditional"]


@dataclass(frozen=True)
class GaussianConditional:
    """Gaussian distribution N(mean, cov) in Euclidean space.

    Source: LDM paper, Eq. 15 (predictor) and Eq. 39 (pairs). The density includes the constant that the paper omits.

    Attributes
    ----------
    mean : (..., dim)
    cov : (..., dim, dim)
        Broadcastable against `mean`.
    """

    mean: Tensor
    cov: Tensor

    def log_prob(self, latent: Tensor) -> Tensor:
        """Compute the log-density (...) in nats of `latent` (..., dim)."""
        factor = safe_cholesky(to_float32(self.cov), "cov")
        residual = (to_float32(latent) - to_float32(self.mean)).unsqueeze(-1)
        whitened = torch.linalg.solve_triangular(factor, residual, upper=False).squeeze(-1)
        half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * whitened.square().sum(-1) - half_log_det - 0.5 * latent.shape[-1] * math.log(2 * math.pi)

    def detach(self) -> GaussianConditional:
        """Return the same distribution without gradients to its parameters."""
        return GaussianConditional(self.mean.detach(), self.cov.detach())

    @classmethod
    def fitted(cls, latent: Tensor) -> GaussianConditional:
        """Return the Gaussian with the mean and covariance of samples `latent` (samples, dim)."""
        latent = to_float32(latent)
        return cls(latent.mean(0), torch.cov(latent.T).reshape(2 * latent.shape[1:]))
