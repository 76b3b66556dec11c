"""Models as in the published code, where those of the identifiability suite differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from identifiability.matcher import Matcher, Plan
from identifiability.networks import KalmanNetwork
from torch import Tensor

from kalmanssl.models import KalmanPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, NoiseContext

__all__ = ["PlainStart", "PublishedNoise"]

FIRST_SCALE = float(np.e)  # of both noise variances, as in the published code


class _PlainMatcher(Matcher):
    """A matcher whose encoder starts with the weights that PyTorch draws."""

    def initial_model(self, videos: np.ndarray) -> SequenceModel:
        """Return the model before any training."""
        return self.build(videos.shape[-1]).eval()


@dataclass(frozen=True)
class PlainStart(KalmanNetwork):
    """The same model, but its latents are not scaled to variance one before the training, as in the published code."""

    def __call__(self, dims: int, plan: Plan, seed: int) -> Matcher:
        """Return the model; it has its own number of dimensions instead of `dims`."""
        scaled = super().__call__(dims, plan, seed)
        return _PlainMatcher(
            self.builder(scaled, seed),
            plan,
            output=scaled.output,
            seed=seed,
            n_cosines=scaled.n_cosines,
            trained=scaled.trained,
        )

    def builder(self, scaled: Matcher, seed: int) -> Callable[[int], SequenceModel]:
        """Return the function that makes the model from the number of pixels."""
        return scaled.build


class _OneVariance(ConstantNoise):
    """The same variance for all channels."""

    def forward(self, context: NoiseContext | None = None) -> Tensor:
        """Return the variances (dim,)."""
        return self.floor + self.log_variance.mean().exp().expand(self.dim)


class _Relative(ConstantNoise):
    """Variances relative to that of another head."""

    def __init__(self, dim: int, other: _OneVariance) -> None:
        super().__init__(dim)
        self.other = (other,)  # a tuple, so that its weights are not registered a second time

    def forward(self, context: NoiseContext | None = None) -> Tensor:
        """Return the variances (dim,)."""
        return self.floor + (self.log_variance + self.other[0].log_variance.mean()).exp()


@dataclass(frozen=True)
class PublishedNoise(PlainStart):
    """Also the noise of the published code: R = e^s 1 and Q = e^s diag(e^a), from s = 1, and a fixed first state."""

    def builder(self, scaled: Matcher, seed: int) -> Callable[[int], SequenceModel]:
        """Return the function that makes the model from the number of pixels."""

        def build(pixels: int) -> SequenceModel:
            model = scaled.build(pixels)
            observation = _OneVariance(self.latent, initial_variance=FIRST_SCALE)
            predictor = KalmanPredictor(
                self.latent,
                self.state,
                observation,
                _Relative(self.state, observation),
                generator=torch.Generator().manual_seed(seed),
            )
            predictor.initial_mean.requires_grad_(False)
            predictor.log_initial_variance.requires_grad_(False)
            return SequenceModel(model.encoder, predictor, model.objective)

        return build
