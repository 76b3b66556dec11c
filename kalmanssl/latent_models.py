"""Latent models: which latents are likely.

A latent model gives a *conditional* distribution of a latent given another latent (pairs) or given the past
(sequences, see `kalmanssl.predictors`). The objective (`kalmanssl.objective`) needs two things of a conditional,
and a new one is a class with these two methods:

* ``log_prob(latent)``: log-density in nats, with every constant;
* ``detach()``: the same distribution, cut off from the graph (the stop-gradient).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kalmanssl.kalman.factorize import safe_cholesky

__all__ = ["Conditional", "GaussianConditional"]


class Conditional(Protocol):
    """What the objective asks of a conditional distribution over latents."""

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` (..., dim), shape (...), nats."""

    def detach(self) -> Conditional:
        """Return the same distribution without gradients to its parameters."""


@dataclass(frozen=True)
class GaussianConditional:
    """Gaussian on the plane, N(mean, cov).

    Source: LDM paper, Eq. 15 (predictor) and Eq. 39 (pairs), with the constant that the paper drops.

    Attributes
    ----------
    mean : (..., dim)
    cov : (..., dim, dim), broadcastable against `mean`
    """

    mean: Tensor
    cov: Tensor

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` (..., dim), shape (...), nats."""
        factor = safe_cholesky(self.cov, "cov")
        residual = (latent - self.mean).unsqueeze(-1)
        whitened = torch.linalg.solve_triangular(factor, residual, upper=False).squeeze(-1)
        half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * whitened.square().sum(-1) - half_log_det - 0.5 * latent.shape[-1] * math.log(2 * math.pi)

    def detach(self) -> GaussianConditional:
        """Return the same distribution without gradients to its parameters."""
        return GaussianConditional(self.mean.detach(), self.cov.detach())
