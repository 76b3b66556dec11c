"""CPU time of a training step: our losses next to the encoder and next to the same losses of other packages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from images.combinations import COMBINATIONS
from images.peer_losses import PEERS, Loss, PeerMissingError, peer_loss
from kalmanssl.images import ResNet18, SmallConvEncoder
from kalmanssl.models import PairModel

__all__ = [
    "TIMED", "alternate", "bare_objective", "cpu_step", "objective_step", "plain_nt_xent", "plain_vicreg", "run",
]  # fmt: skip

REPEATS = 20
BUDGET_S = 3.0  # no more repeats after this many seconds
ROUNDS = 100  # of two losses that alternate; each takes milliseconds
BATCH, DIM, SIDE = 256, 256, 32
RESNET_PAIRS = 8  # ResNet-18 is timed on few pairs; its cost is proportional to their number


def cpu_step(loss: Callable[[], Tensor], weights: Sequence[Tensor]) -> float:
    """Return the CPU seconds of a loss and its gradients: the shortest of several calls after one warm-up call."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) <= REPEATS and sum(taken) < BUDGET_S):
        taken.append(_step(loss, weights))
    return min(taken[1:])


def _step(loss: Callable[[], Tensor], weights: Sequence[Tensor]) -> float:
    """Return the CPU seconds of one call of a loss and its gradients."""
    start = time.process_time()
    torch.autograd.grad(loss(), weights, allow_unused=True)
    return time.process_time() - start


def alternate(ours: Loss, theirs: Loss, dim: int, batch: int) -> dict[str, float]:
    """Time two losses and their gradients alternately in one process, so that other load slows both equally.

    Returns
    -------
    dict
        `step_s` and `ours_s`, CPU seconds of their and our shortest call; `times_ours`, the median over the rounds of
        the ratio of the two.
    """
    pair = _pair(dim, batch)
    losses = (lambda: ours(*pair), lambda: theirs(*pair))
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            taken[which].append(_step(losses[which], pair))
    mine, other = (some[1:] for some in taken)  # without the warm-up round
    ratio = median(b / a for a, b in zip(mine, other, strict=True))
    return {"step_s": min(other), "ours_s": min(mine), "times_ours": ratio}


def objective_step(model: PairModel, dim: int, batch: int) -> float:
    """Return the CPU seconds of the objective on two outputs of a projector (batch, dim), with their gradients."""
    bare, pair = _without_networks(model, model.predictor), _pair(dim, batch)
    return cpu_step(lambda: bare.terms(pair).loss, pair)


def bare_objective(name: str, dim: int) -> Loss:
    """Return the loss of a combination as a function of both outputs of the projector, without a predictor network."""
    model = COMBINATIONS[name].make(dim=dim).build(nn.Identity(), dim, random_state=0)
    bare = _without_networks(model, None if model.predictor is None else nn.Identity())
    return lambda z, other: bare.terms((z, other)).loss


def _without_networks(model: PairModel, predictor: nn.Module | None) -> PairModel:
    """Return a model with the same objective and no backbone and projector."""
    return PairModel(
        nn.Identity(),
        nn.Identity(),
        model.latent_model,
        model.objective,
        predictor=predictor,
        prior=model.prior,
        momentum=model.momentum,
        pool_views=model.pool_views,
    )


def plain_nt_xent(z: Tensor, other: Tensor, temperature: float = 0.2) -> Tensor:
    """Return SimCLR's loss as written in its paper: a softmax over all other latents of both views."""
    both = functional.normalize(torch.cat([z, other]), dim=1)
    similarity = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
    return functional.cross_entropy(similarity, torch.arange(len(both), device=z.device).roll(len(z)))


def plain_vicreg(z: Tensor, other: Tensor) -> Tensor:
    """Return VICReg's loss as written in its paper, with coefficients 25, 25, 1."""
    loss = 25 * functional.mse_loss(z, other)
    for one in (z, other):
        cov = torch.cov(one.T)
        hinge = functional.relu(1 - (cov.diagonal() + 1e-4).sqrt()).mean()
        loss = loss + 25 * hinge + (cov - torch.diag(cov.diagonal())).square().sum() / one.shape[1]
    return loss


def _pair(dim: int, batch: int) -> tuple[Tensor, Tensor]:
    """Return two random batches (batch, dim) that require gradients."""
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(batch, dim, generator=generator).requires_grad_() for _ in range(2))
    return one, two


def _ours(name: str) -> dict[str, float]:
    """Time the loss of a combination."""
    pair, loss = _pair(DIM, BATCH), bare_objective(name, DIM)
    return {"step_s": cpu_step(lambda: loss(*pair), pair)}


def _with_ours(name: str, loss: Loss) -> dict[str, float]:
    """Time a loss alternately with ours; the name of ours is the part before the comma."""
    return alternate(bare_objective(name.partition(",")[0], DIM), loss, DIM, BATCH)


def _peer(name: str) -> dict[str, Any]:
    """Time the loss of a peer, or return why it cannot be imported."""
    try:
        return _with_ours(name, peer_loss(name))
    except PeerMissingError as error:
        return {"failed": str(error)}


def _encoder(network: nn.Module, pairs: int) -> dict[str, float]:
    """Time an encoder on both views of this many pairs, scaled to the batch size."""
    images = torch.randn(2 * pairs, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    taken = cpu_step(lambda: network(images).square().mean(), list(network.parameters()))
    return {"step_s": taken * BATCH / pairs}


PLAIN: dict[str, Loss] = {"SimCLR, plain": plain_nt_xent, "VICReg, plain": plain_vicreg}

TIMED: dict[str, Callable[[], dict[str, Any]]] = {
    "encoder, SmallConvEncoder": lambda: _encoder(SmallConvEncoder(3, SIDE, random_state=0), BATCH),
    "encoder, ResNet18": lambda: _encoder(ResNet18(3, random_state=0), RESNET_PAIRS),
    **{
        f"{name}{suffix}": partial(_ours, name + suffix)
        for name in ("Euclidean KDE", "Euclidean kNN", "sphere KDE", "sphere kNN")
        for suffix in ("", " + MI")
    },
    **{name: partial(_ours, name) for name in ("SimCLR", "VICReg", "SimSiam", "BYOL")},
    **{name: partial(_with_ours, name, loss) for name, loss in PLAIN.items()},
    **{name: partial(_peer, name) for name in PEERS},
}


def run(name: str) -> dict[str, Any]:
    """Time one of `TIMED` at batch 256, dimension 256, images of 32 pixels.

    Returns
    -------
    dict
        `part`, `combination`, `seed` and `step_s`, the CPU seconds of forward and backward; for the losses of others
        also the entries of `alternate`, or `failed` if the package is not installed.
    """
    return {"part": "timing", "combination": name, "seed": 0, **TIMED[name]()}
