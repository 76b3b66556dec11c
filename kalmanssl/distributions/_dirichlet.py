"""The Dirichlet distribution on the simplex of probabilities, as the conditional of a latent that is a softmax."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.precision import to_float32
from kalmanssl.utils.validation import check_positive

__all__ = ["Dirichlet", "OnSimplex", "check_probabilities", "log_of_probabilities"]


@dataclass(frozen=True)
class Dirichlet:
    """Dirichlet distribution over probabilities z of K parts, P(z) = Gamma(sum a) prod_i z_i^(a_i - 1) / Gamma(a_i).

    The density is by volume in any K - 1 of the coordinates, as everywhere: the flat one is Gamma(K). Its mode is at
    (a - 1) / (sum a - K) where all a > 1. Source: LDM paper, Eq. 50 (a = 1 + precision * z, so that the mode is z).

    Attributes
    ----------
    concentration : (..., K)
        a, all positive.
    """

    concentration: Tensor

    @property
    def mean(self) -> Tensor:
        """Expectation (..., K), which sums to one."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` (..., K), which must sum to one, shape (...), nats.

        Exact zeros count as the least number whose inverse still has a gradient, see `log_of_probabilities`.
        """
        a = to_float32(self.concentration)
        normalizer = a.sum(-1).lgamma() - a.lgamma().sum(-1)
        return normalizer + ((a - 1) * log_of_probabilities(to_float32(latent))).sum(-1)

    def detach(self) -> Dirichlet:
        """Return the same distribution without gradients to its parameters."""
        return Dirichlet(self.concentration.detach())


class OnSimplex(nn.Module):
    """Put latents on the simplex by a softmax: the end of an encoder whose latents are probabilities.

    Parameters
    ----------
    temperature : float
        What the outputs of the network are divided by first; low gives sharp probabilities.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, latent: Tensor) -> Tensor:
        """Softmax of `latent` (..., K) along the last axis."""
        return (latent / self.temperature).softmax(-1)


def log_of_probabilities(z: Tensor) -> Tensor:
    """Log of `z` with the values below the root of the least normal number raised to it (1e-19 in single precision).

    A softmax underflows to zero, where the log and its gradient would be infinite; the root leaves room for the
    products of the chain rule.
    """
    return z.clamp_min(torch.finfo(z.dtype).tiny ** 0.5).log()


def check_probabilities(z: Tensor, name: str = "z") -> None:
    """Raise InputError if a vector along the last axis of `z` is negative somewhere or does not sum to one."""
    tolerance = max(1e-4, 4 * torch.finfo(z.dtype).eps)
    z = to_float32(z.detach())
    bad = int((~((z.sum(-1) - 1).abs() <= tolerance) | (z < 0).any(-1)).sum())  # NaN counts as bad
    if bad:
        raise InputError(
            f"{name} has {bad} of {z[..., 0].numel()} rows that are no probabilities (not negative, with sum one): "
            "end the encoder by a softmax, kalmanssl.distributions.OnSimplex does"
        )
