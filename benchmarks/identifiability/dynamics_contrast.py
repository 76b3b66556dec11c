"""Dynamics contrastive learning: the next latent is told from others by its distance from a linear prediction.

Source: Laiz, Schmidt & Schneider 2025, ICLR, "Self-supervised contrastive learning performs non-linear system
identification" (arXiv 2410.14673). In this untuned form the scores are negative squared distances of unit variance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from identifiability.baselines import CPC, MakeBaseline
from identifiability.matcher import Plan

__all__ = ["CONTRASTS", "DynamicsContrast"]


class _LinearMaps(nn.Module):
    """A bank of affine maps; for each step the one that predicts the next latent best, relaxed, is used."""

    temperature = 1.0

    def __init__(self, dims: int, maps: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.eye(dims) + 0.1 * torch.randn(maps, dims, dims) / dims**0.5)
        self.b = nn.Parameter(torch.zeros(maps, dims))

    def forward(self, latent: Tensor) -> Tensor:
        """Predict (videos, frames - 1, dims) from latents (videos, frames, dims)."""
        candidates = torch.einsum("kij,nti->ntkj", self.A, latent[:, :-1]) + self.b
        if len(self.A) == 1:
            return candidates[:, :, 0]
        score = -0.5 * (candidates - latent[:, 1:, None]).square().sum(-1)
        weight = functional.gumbel_softmax(score, self.temperature) if self.training else score.softmax(-1)
        return (weight[..., None] * candidates).sum(2)


class DynamicsContrast(CPC):
    """CPC with one linear map of the last latent, or several between which the dynamics switch, as predictor.

    Parameters
    ----------
    dims, hidden, plan, seed
        As for all baselines.
    maps : int
        Number of linear maps.
    """

    def __init__(self, dims: int, hidden: tuple[int, ...], plan: Plan, seed: int, maps: int) -> None:
        super().__init__(dims, hidden, plan, seed)
        self.maps = maps

    def predictor(self) -> nn.Module:
        """Return the linear maps."""
        return _LinearMaps(self.dims, self.maps)


CONTRASTS: dict[str, MakeBaseline] = {
    "DCL, one linear map": lambda dims, hidden, plan, seed: DynamicsContrast(dims, hidden, plan, seed, maps=1),
    "DCL, switching linear maps": lambda dims, hidden, plan, seed: DynamicsContrast(dims, hidden, plan, seed, maps=8),
}
"""Baselines with linear dynamics by name."""
