"""Conditional distributions: the distribution of a latent given another latent (pairs) or given the past (sequences).

How to add one. Write a frozen dataclass whose fields are the parameters, each with the shape (..., dim) of the latents
or broadcastable to it, with three methods:

    >>> import torch
    >>> from dataclasses import dataclass
    >>> from torch import Tensor
    >>> @dataclass(frozen=True)
    ... class Laplace:
    ...     mean: Tensor  # (..., dim)
    ...     scale: Tensor
    ...
    ...     def log_prob(self, latent):  # (..., dim) -> (...), nats, including all constants
    ...         return (-(latent - self.mean).abs() / self.scale - (2 * self.scale).log()).sum(-1)
    ...
    ...     def detach(self):  # without gradients to the parameters, for the stop-gradient entropy
    ...         return Laplace(self.mean.detach(), self.scale.detach())
    ...
    ...     @classmethod
    ...     def fitted(cls, latent):  # (samples, dim), maximum likelihood, for `SequenceModel.predictive_gain`
    ...         mean = latent.median(0).values
    ...         return cls(mean, (latent - mean).abs().mean(0))
    >>> Laplace.fitted(torch.tensor([[0.0], [3.0], [6.0]])).log_prob(torch.tensor([3.0])).exp()  # 1 / (2 · scale)
    tensor(0.2500)

`fitted` is needed for sequences only. Predictors (`kalmanssl.models.Predictor`) and latent models of pairs
(`kalmanssl.models.PairLatentModel`) return such objects. No registration is needed.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Conditional", "FamilyConditional"]


class Conditional(Protocol):
    """Interface of a conditional distribution of latents, as the objective needs it."""

    def log_prob(self, latent: Tensor) -> Tensor:
        """Compute the log-density (...) in nats of `latent` (..., dim)."""

    def detach(self) -> Conditional:
        """Return the same distribution without gradients to its parameters."""


class FamilyConditional(Conditional, Protocol):
    """A conditional distribution whose family can also be fitted to latents without conditions."""

    @classmethod
    def fitted(cls, latent: Tensor) -> Conditional:
        """Fit the marginal distribution of samples `latent` (samples, dim) within this family."""
