"""Latent models: which latents are likely.

A latent model gives a *conditional* distribution of a latent given another latent (pairs) or given the past
(sequences, see `kalmanssl.predictors`). The objective (`kalmanssl.objective`) needs two things of a conditional, the
comparison with what knows no past (`SequenceModel.predictive_gain`) a third, and a new one is a class with these:

* ``log_prob(latent)``: log-density in nats, with every constant;
* ``detach()``: the same distribution, cut off from the graph (the stop-gradient);
* ``fitted(latent)``: the one distribution of this family that fits all samples best.

The Gaussian with any covariance stands here, `VonMisesFisher` and `Dirichlet` in files of their own, and the latent
models of pairs (`Plane`, `Sphere`, `Simplex`, `Categories`) in `kalmanssl.pair_latents`; all can be had from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kalmanssl.dirichlet import Dirichlet, OnSimplex
from kalmanssl.kalman.factorize import safe_cholesky
from kalmanssl.pair_latents import Categories, IsotropicGaussian, PairLatentModel, Plane, Simplex, Sphere
from kalmanssl.precision import widened
from kalmanssl.von_mises_fisher import OnSphere, VonMisesFisher

__all__ = [
    "Categories",
    "Conditional",
    "Dirichlet",
    "FamilyConditional",
    "GaussianConditional",
    "IsotropicGaussian",
    "OnSimplex",
    "OnSphere",
    "PairLatentModel",
    "Plane",
    "Simplex",
    "Sphere",
    "VonMisesFisher",
]


class Conditional(Protocol):
    """What the objective asks of a conditional distribution over latents."""

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` (..., dim), shape (...), nats."""

    def detach(self) -> Conditional:
        """Return the same distribution without gradients to its parameters."""


class FamilyConditional(Conditional, Protocol):
    """A conditional that is one of a family which can also be fitted to latents alone."""

    @classmethod
    def fitted(cls, latent: Tensor) -> Conditional:
        """Return the member of the family that fits the samples `latent` (samples, dim), whatever came before them."""


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
        factor = safe_cholesky(widened(self.cov), "cov")
        residual = (widened(latent) - widened(self.mean)).unsqueeze(-1)
        whitened = torch.linalg.solve_triangular(factor, residual, upper=False).squeeze(-1)
        half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * whitened.square().sum(-1) - half_log_det - 0.5 * latent.shape[-1] * math.log(2 * math.pi)

    def detach(self) -> GaussianConditional:
        """Return the same distribution without gradients to its parameters."""
        return GaussianConditional(self.mean.detach(), self.cov.detach())

    @classmethod
    def fitted(cls, latent: Tensor) -> GaussianConditional:
        """Return the Gaussian with the moments of the samples `latent` (samples, dim)."""
        latent = widened(latent)
        return cls(latent.mean(0), torch.cov(latent.T).reshape(2 * latent.shape[1:]))
