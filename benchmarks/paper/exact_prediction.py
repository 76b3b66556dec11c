"""The cosine between the gradients of two entropies when the latents are predicted by the true system."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
from identifiability.measures import Fitted
from results_store import Row
from torch import Tensor

from kalmanssl.distributions import GaussianConditional
from kalmanssl.entropy import KNNEntropy, StopGradientEntropy
from kalmanssl.models import SequenceModel
from paper.cosine_variants import BATCH, REPEATS

__all__ = ["EXACT", "exact_cosines"]

N_DRAWS = 100  # frames with new noise for the moments of the latents at a position
SHARE = 0.3  # of the steps of the training, for the predictor alone
FIRST = 20  # frame from which predicted means are compared; before, the phase may be uncertain

EXACT = {
    "predictor trained further": "cosine_further",
    "exact prediction": "cosine_exact",
    "exact prediction, mean gradients": "cosine_exact_mean",
    "exact prediction and density": "cosine_both_exact",
}
"""Names on the page of the cosines of `exact_cosines`."""


def exact_cosines(fitted: Fitted) -> Row:
    """Return the cosine of the two gradients with the exact prediction in place of ours, and what it is limited by.

    The motion has no noise, so that the past determines the position. The exact prediction is then the Gaussian with
    the mean and the covariance of the latents at that position, from frames with new noise; the exact density of all
    latents is the mixture of these Gaussians. Cosines are means over ten batches of training videos, or of the
    gradients averaged over these batches. `cosine_further` has our predictor after further training with latents that
    stay as they are. `prediction_error` is the squared difference of our predicted means from the exact ones from frame
    20 on, in units of the variance of the latents around the exact ones, `further_error` that after the further
    training.
    """
    if not fitted.model.trained:
        return {}
    model = fitted.model.model
    further = _train_predictor(fitted)
    weights = list(model.encoder.parameters())
    rng = np.random.default_rng(0)
    gradients: dict[str, list[Tensor]] = {}
    errors: dict[str, list[float]] = {"ours": [], "further": []}
    for videos, clean, variance in _batches(fitted, rng):
        exact = _exact(model, clean, variance, rng)
        latent = model.encoder(videos)
        flat = latent.flatten(0, 1)
        predictions = {"ours": model(videos).prediction.detach(), "further": further(videos).prediction.detach()}
        for name, prediction in predictions.items():
            errors[name].append(_error(prediction, exact))
        entropies = {name: StopGradientEntropy()(latent, one) for name, one in (predictions | {"exact": exact}).items()}
        entropies |= {"knn": KNNEntropy()(flat), "density": _mixture_entropy(flat, exact)}
        for name, entropy in entropies.items():
            parts = torch.autograd.grad(entropy, weights, retain_graph=True)
            gradients.setdefault(name, []).append(torch.cat([part.flatten() for part in parts]))
    stacked = {name: torch.stack(found) for name, found in gradients.items()}
    return {
        "cosine_exact": _cosine(stacked["exact"], stacked["knn"]),
        "cosine_exact_mean": _cosine(stacked["exact"].mean(0), stacked["knn"].mean(0)),
        "cosine_both_exact": _cosine(stacked["exact"], stacked["density"]),
        "cosine_further": _cosine(stacked["further"], stacked["knn"]),
        "prediction_error": float(np.mean(errors["ours"])),
        "further_error": float(np.mean(errors["further"])),
    }


def _batches(fitted: Fitted, rng: np.random.Generator) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """Yield batches of training videos, their frames without noise, and the variances of the noise of the frames."""
    train = fitted.train
    for _ in range(REPEATS):
        chosen = rng.choice(len(train.videos), min(BATCH, len(train.videos)), replace=False)
        yield torch.from_numpy(train.videos[chosen]), train.render(train.position[chosen]), train.noise_variance[chosen]


@torch.no_grad()
def _exact(
    model: SequenceModel, clean: np.ndarray, variance: np.ndarray, rng: np.random.Generator
) -> GaussianConditional:
    """Return the distribution of the latents of frames given their positions."""
    moments = []
    for frames, level in zip(clean, variance, strict=True):
        noise = rng.standard_normal((N_DRAWS, *frames.shape)) * np.sqrt(level)[:, None]
        latent = model.encoder(torch.from_numpy((frames + noise).astype(np.float32)))
        mean = latent.mean(0)
        away = latent - mean
        moments.append((mean, torch.einsum("ntk,ntl->tkl", away, away) / (N_DRAWS - 1)))
    means, covs = (torch.stack(part) for part in zip(*moments, strict=True))
    return GaussianConditional(means, covs)


def _mixture_entropy(latent: Tensor, components: GaussianConditional) -> Tensor:
    """Return the entropy of latents (samples, L) whose density is the mixture of these Gaussians, up to a constant."""
    each = GaussianConditional(components.mean.flatten(0, 1), components.cov.flatten(0, 1))
    return -torch.logsumexp(each.log_prob(latent[:, None]), 1).mean()


def _error(prediction: GaussianConditional, exact: GaussianConditional) -> float:
    """Return the mean squared difference of predicted means per dimension, whitened by the exact covariance."""
    away = (prediction.mean - exact.mean).unsqueeze(-1)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(exact.cov), away, upper=False)
    return float(white[:, FIRST:].square().mean())


def _train_predictor(fitted: Fitted) -> SequenceModel:
    """Return the model after further training of the predictor alone, with rates that fall to a twentieth."""
    model, plan, videos = deepcopy(fitted.model.model), fitted.model.plan, torch.from_numpy(fitted.train.videos)
    with torch.no_grad():
        latents = model.encoder(videos)
    rate, steps, rng = plan.learning_rate * plan.dynamics_lr_factor, round(SHARE * plan.steps), np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.predictor.parameters(), rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1.0 - 0.95 * step / steps)
        chosen = torch.from_numpy(rng.choice(len(videos), plan.batch))
        loss = -model.predictor(latents[chosen], videos[chosen]).log_prob(latents[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.predictor.after_step()
    return model


def _cosine(first: Tensor, second: Tensor) -> float:
    """Return the mean cosine of rows, or the cosine of two vectors."""
    return float(torch.cosine_similarity(first, second, dim=-1).mean())
