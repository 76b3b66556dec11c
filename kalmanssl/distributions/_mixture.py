"""Mixtures of conditional distributions, for densities that need not have the shape of one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kalmanssl.distributions._base import Conditional
from kalmanssl.utils.precision import to_float32

__all__ = ["Mixture", "PrecisionGaussian"]


@dataclass(frozen=True)
class Mixture:
    """Mixture of K distributions of the same family.

    Attributes
    ----------
    log_weights : (..., K)
        Logarithms of the weights, which sum to one.
    components : Conditional
        Its parameters have K as the last axis before those of the latents.
    """

    log_weights: Tensor
    components: Conditional

    def log_prob(self, latent: Tensor) -> Tensor:
        """Compute the log-density (...) in nats of `latent` (..., dim)."""
        return torch.logsumexp(to_float32(self.log_weights) + self.components.log_prob(latent.unsqueeze(-2)), -1)

    def detach(self) -> Mixture:
        """Return the same distribution without gradients to its parameters."""
        return Mixture(self.log_weights.detach(), self.components.detach())


@dataclass(frozen=True)
class PrecisionGaussian:
    """Gaussian distribution in Euclidean space, by a factor of its precision matrix, which needs no decomposition.

    Attributes
    ----------
    mean : (..., dim)
    root : (..., dim, dim)
        Lower triangular matrix L with a positive diagonal; the precision matrix is Lᵀ L.
    """

    mean: Tensor
    root: Tensor

    def log_prob(self, latent: Tensor) -> Tensor:
        """Compute the log-density (...) in nats of `latent` (..., dim)."""
        root, residual = to_float32(self.root), to_float32(latent) - to_float32(self.mean)
        whitened = (root @ residual.unsqueeze(-1)).squeeze(-1)
        log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det - 0.5 * whitened.square().sum(-1) - 0.5 * latent.shape[-1] * math.log(2 * math.pi)

    def detach(self) -> PrecisionGaussian:
        """Return the same distribution without gradients to its parameters."""
        return PrecisionGaussian(self.mean.detach(), self.root.detach())
