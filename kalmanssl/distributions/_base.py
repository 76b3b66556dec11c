"""Latent models: which latents are likely.

A latent model gives a *conditional* distribution of a latent given another latent (pairs) or given the past
(sequences, see `kalmanssl.models`). The objective (`kalmanssl.models`) needs two things of a conditional, the
comparison with what knows no past (`SequenceModel.predictive_gain`) a third, and a new one is a class with these:

* ``log_prob(latent)``: log-density in nats, with every constant;
* ``detach()``: the same distribution, cut off from the graph (the stop-gradient);
* ``fitted(latent)``: the one distribution of this family that fits all samples best.

The Gaussian with any covariance stands here, `VonMisesFisher` and `Dirichlet` in files of their own, and the latent
models of pairs (`Euclidean`, `Sphere`, `Simplex`, `Categories`) in `kalmanssl.models`; all can be had from here.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Conditional", "FamilyConditional"]


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
