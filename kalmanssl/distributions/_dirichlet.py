"""The Dirichlet distribution on the simplex, for latents that are probability vectors."""

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
    """Dirichlet distribution of probability vectors z (K), P(z) = Gamma(sum a) prod_i z_i^(a_i - 1) / Gamma(a_i).

    The density is with respect to the volume in any K - 1 of the coordinates; that of the uniform distribution is
    Gamma(K). If all a > 1, the mode is (a - 1) / (sum a - K). Source: LDM paper, Eq. 50, with a = 1 + precision * z, so
    that the mode is z.

    Attributes
    ----------
    concentration : (..., K)
        a, all positive.
    """

    concentration: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean (..., K); it sums to one."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    def log_prob(self, latent: Tensor) -> Tensor:
        """Compute the log-density (...) in nats of probability vectors `latent` (..., K).

        Very small probabilities, also exact zeros, are replaced as in `log_of_probabilities`.
        """
        a = to_float32(self.concentration)
        normalizer = a.sum(-1).lgamma() - a.lgamma().sum(-1)
        return normalizer + ((a - 1) * log_of_probabilities(to_float32(latent))).sum(-1)

    def detach(self) -> Dirichlet:
        """Return the same distribution without gradients to its parameters."""
        return Dirichlet(self.concentration.detach())


class OnSimplex(nn.Module):
    """Softmax, as the last layer of an encoder whose latents are probability vectors.

    Parameters
    ----------
    temperature : float
        The inputs are divided by it before the softmax. A low temperature gives probabilities close to 0 and 1.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, latent: Tensor) -> Tensor:
        """Apply the softmax to `latent` (..., K) along the last axis."""
        return (latent / self.temperature).softmax(-1)


def log_of_probabilities(z: Tensor) -> Tensor:
    """Compute the logarithm of probabilities, with a lower limit on them (1e-19 in single precision).

    A softmax can underflow to zero, where the logarithm and its gradient would be infinite. The limit is the square
    root of the smallest normal number, so that products of gradients in backpropagation remain finite.
    """
    return z.clamp_min(torch.finfo(z.dtype).tiny ** 0.5).log()


def check_probabilities(z: Tensor, name: str = "z") -> None:
    """Raise InputError if a vector along the last axis of `z` has a negative entry or does not sum to one."""
    tolerance = max(1e-4, 4 * torch.finfo(z.dtype).eps)
    z = to_float32(z.detach())
    bad = int((~((z.sum(-1) - 1).abs() <= tolerance) | (z < 0).any(-1)).sum())  # also NaN
    if bad:
        raise InputError(
            f"{name} has {bad} of {z[..., 0].numel()} rows that are not probabilities (non-negative, with sum one): "
            "end the encoder with a softmax, for example kalmanssl.distributions.OnSimplex",
            parameter=name,
        )
