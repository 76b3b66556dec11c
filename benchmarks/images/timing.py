"""What a step costs: the losses beside the encoder that they train, and beside plain forms of the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from images.combinations import combination
from kalmanssl.image_encoders import ResNet18, SmallConvEncoder
from kalmanssl.pair_model import PairModel

__all__ = ["TIMED", "cpu_step", "objective_step", "plain_nt_xent", "plain_vicreg", "run"]

REPEATS = 20
ENOUGH = 3.0  # seconds after which there are no more repeats
BATCH, DIM, SIDE = 256, 256, 32
FEW = 8  # pairs on which ResNet-18 is timed; its cost is in proportion


def cpu_step(loss: Callable[[], Tensor], weights: Sequence[Tensor]) -> float:
    """CPU seconds of a loss and its gradients: the fastest of several, or few slow ones, after one that warms up."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) <= REPEATS and sum(taken) < ENOUGH):
        began = time.process_time()
        torch.autograd.grad(loss(), weights, allow_unused=True)
        taken.append(time.process_time() - began)
    return min(taken[1:])


def objective_step(model: PairModel, dim: int, batch: int) -> float:
    """CPU seconds of the objective on outputs of a projector (batch, dim), twice, with gradients for these."""
    bare = PairModel(
        nn.Identity(),
        nn.Identity(),
        model.latent_model,
        model.objective,
        predictor=model.predictor,
        prior=model.prior,
        momentum=model.momentum,
        pool_views=model.pool_views,
    )
    pair = _pair(dim, batch)
    return cpu_step(lambda: bare.terms(pair).loss, pair)


def plain_nt_xent(z: Tensor, other: Tensor, temperature: float = 0.2) -> Tensor:
    """SimCLR's loss as its paper states it: a softmax over all other latents of both views."""
    both = functional.normalize(torch.cat([z, other]), dim=1)
    similarity = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
    return functional.cross_entropy(similarity, torch.arange(len(both), device=z.device).roll(len(z)))


def plain_vicreg(z: Tensor, other: Tensor) -> Tensor:
    """VICReg's loss as its paper states it, coefficients 25, 25, 1."""
    loss = 25 * functional.mse_loss(z, other)
    for one in (z, other):
        cov = torch.cov(one.T)
        spread = functional.relu(1 - (cov.diagonal() + 1e-4).sqrt()).mean()
        loss = loss + 25 * spread + (cov - torch.diag(cov.diagonal())).square().sum() / one.shape[1]
    return loss


def _pair(dim: int, batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(batch, dim, generator=generator).requires_grad_() for _ in range(2))
    return one, two


def _ours(name: str) -> float:
    model = combination(name).make(dim=DIM).build(nn.Identity(), DIM, random_state=0)
    return objective_step(model, DIM, BATCH)


def _plain(loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    pair = _pair(DIM, BATCH)
    return cpu_step(lambda: loss(*pair), pair)


def _encoder(network: nn.Module, pairs: int) -> float:
    pictures = torch.randn(2 * pairs, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    taken = cpu_step(lambda: network(pictures).square().mean(), list(network.parameters()))
    return taken * BATCH / pairs


TIMED: dict[str, Callable[[], float]] = {
    "encoder, SmallConvEncoder": lambda: _encoder(SmallConvEncoder(3, SIDE, random_state=0), BATCH),
    "encoder, ResNet18": lambda: _encoder(ResNet18(3, random_state=0), FEW),
    **{
        f"{name}{informed}": partial(_ours, name + informed)
        for name in ("plane KDE", "plane kNN", "sphere KDE", "sphere kNN")
        for informed in ("", " + MI")
    },
    "SimCLR": partial(_ours, "SimCLR"),
    "SimCLR, plain": partial(_plain, plain_nt_xent),
    "VICReg": partial(_ours, "VICReg"),
    "VICReg, plain": partial(_plain, plain_vicreg),
}


def run(name: str) -> dict[str, Any]:
    """Time one of `TIMED` at batch 256, dimension 256, images of 32 pixels: CPU seconds of forward and backward."""
    return {"part": "timing", "combination": name, "seed": 0, "step_s": TIMED[name]()}
