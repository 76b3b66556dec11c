"""Small pair models and data for the tests of pair models."""

import dataclasses

import pytest
import torch
from torch import nn

from kalmanssl.models import PairModel
from kalmanssl.recipes import Recipe, make_recipe
from kalmanssl.utils.torch_ops import seeded

N, FEATURES, DIM = 40, 7, 5


def views(seed: int = 0, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, FEATURES, generator=generator, dtype=torch.float64)
    return tuple(shared + 0.3 * torch.randn(n, FEATURES, generator=generator, dtype=torch.float64) for _ in range(2))


def build(recipe: Recipe) -> PairModel:
    with seeded(1):
        backbone = nn.Linear(FEATURES, 6)
    return recipe.build(backbone, 6, random_state=0).double()


def raw(model: PairModel, pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of the projector, both views in one batch as the model does it."""
    return model.projector(model.backbone(torch.cat(pair))).chunk(2)


def gradients(model: PairModel, loss: torch.Tensor) -> list[torch.Tensor]:
    learned = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, learned, allow_unused=True, materialize_grads=True)


def same_loss(model: PairModel, textbook: torch.Tensor, constant: float | None, scale: float = 1.0) -> None:
    """The model's loss is scale * textbook + constant (None: any), with that gradient."""
    mine = model.terms(views()).loss
    if constant is not None:
        assert mine.item() == pytest.approx(scale * textbook.item() + constant, rel=1e-10)
    for a, b in zip(gradients(model, mine), gradients(model, scale * textbook), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def small(name: str, **settings) -> Recipe:
    width = None if make_recipe(name).predictor is None else 8
    return dataclasses.replace(make_recipe(name, dim=DIM, **settings), hidden=(8, 8), predictor=width)
