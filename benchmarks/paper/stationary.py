"""Whether an objective still moves a random encoder when the prediction of its latents is optimal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from identifiability.experiments import EXPERIMENTS
from identifiability.matcher import Plan
from parallel import Logger
from results_store import Row
from torch import Tensor

from kalmanssl.datasets import dot_videos
from kalmanssl.models import MixtureDensity, SequenceModel, Terms

__all__ = ["N_PARTS", "STEPS", "gradients_at_optimal_prediction"]

STEPS = {"tiny": 20, "quick": 600, "full": 3000}
N_VIDEOS, BATCH, LEARNING_RATE = 400, 12, 6e-3
N_PARTS = 256  # batches of other videos, for the mean of the gradient without its noise


def gradients_at_optimal_prediction(preset: str, seed: int, logger: Logger | None) -> Row:
    """Train the predictor and a density on the sphere with a random encoder that stays as it is.

    Returns
    -------
    dict
        `stopgrad`, `density`, `knn`: of the gradient with respect to the encoder, the squared length of the mean as a
        share of the mean squared length, from batches of new videos; 0 if the gradient is only noise. `divergence`:
        mean log-density of the latents under the density minus that under the prediction, nats.
    """
    experiment, plan = EXPERIMENTS["sphere"], Plan(10, BATCH, 1e-3)
    videos, new = (
        torch.from_numpy(dot_videos(n_videos=n, split=split, random_state=seed, **experiment.data).videos)
        for n, split in ((N_VIDEOS, "train"), (4 * N_PARTS, "validation"))
    )
    matchers = {
        name: experiment.setting(name).make(3, plan, seed)
        for name in ("stop-gradient", "stop-gradient, separate density", "kNN")
    }
    plain, model, neighbors = (matcher.initial_model(videos.numpy()).train() for matcher in matchers.values())
    assert model.density is not None
    _train(model, model.density, videos, STEPS[preset], np.random.default_rng(seed))
    terms: dict[str, Callable[[Tensor], Terms]] = {"density": model.terms}
    for name, objective in (("stopgrad", plain.objective), ("knn", neighbors.objective)):
        terms[name] = _with_prediction(model, objective)
    weights = list(model.encoder.parameters())
    row: Row = {name: _share(term, weights, new.split(len(new) // N_PARTS)) for name, term in terms.items()}
    with torch.no_grad():
        output = model(new)
        latent, density = output.latent, model.density(output.latent)
        row["divergence"] = float((density.log_prob(latent) - output.prediction.log_prob(latent)).mean())
    return row


def _train(model: SequenceModel, density: MixtureDensity, videos: Tensor, steps: int, rng: np.random.Generator) -> None:
    """Fit predictor and density to the latents of the encoder."""
    optimizer = torch.optim.Adam([*model.predictor.parameters(), *density.parameters()])
    for step in range(steps):
        batch = videos[torch.from_numpy(rng.choice(len(videos), BATCH))]
        with torch.no_grad():
            latent = model.encoder(batch)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - 0.95 * step / steps)
        prediction = model.predictor(latent, batch)
        loss = -(prediction.log_prob(latent) + density(latent).log_prob(latent)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _with_prediction(model: SequenceModel, objective: Callable[..., Terms]) -> Callable[[Tensor], Terms]:
    def terms(videos: Tensor) -> Terms:
        output = model(videos)
        return objective(output.latent, output.prediction)

    return terms


def _share(terms: Callable[[Tensor], Terms], weights: Sequence[Tensor], parts: Sequence[Tensor]) -> float:
    """Return |mean gradient|² / mean |gradient|² over batches, without bias by the noise of the batches."""
    gradients = [torch.autograd.grad(terms(part).loss, weights) for part in parts]
    flat = torch.stack([torch.cat([g.flatten() for g in one]) for one in gradients])
    n, lengths = len(flat), float(flat.square().sum(1).mean())
    of_pairs = (float(flat.sum(0).square().sum()) - n * lengths) / (n * (n - 1))
    return of_pairs / lengths
