"""The models of the paper, ready to be fitted to videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from identifiability.runner import Matcher, Plan
from kalmanssl.distributions import OnSphere
from kalmanssl.entropy import EntropyEstimator, StopGradientEntropy, make_entropy
from kalmanssl.models import LDM, KalmanPredictor, RecurrentPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder, VarianceNetwork

__all__ = ["KalmanNetwork", "RecurrentNetwork"]


def _objective(entropy: str | EntropyEstimator, samples: int) -> LDM:
    """Match by an entropy that uses at most so many latents of a batch; the kernel of "kde" has width one."""
    settings: dict[str, dict[str, Any]] = {
        "knn": {"max_samples": samples},
        "kde": {"bandwidth": 1.0, "max_samples": samples},
    }
    made = make_entropy(entropy, **settings.get(entropy, {})) if isinstance(entropy, str) else entropy
    return LDM(made, mutual_information=not isinstance(made, StopGradientEntropy))


@dataclass(frozen=True)
class KalmanNetwork:
    """Perceptron and Kalman predictor; `transform` returns the filter's mean.

    Attributes
    ----------
    entropy : str
        A name that `kalmanssl.entropy.make_entropy` knows.
    latent, state : int
        Dimensions of the latents, and of the state behind them.
    seen_noise : bool
        Whether the variance of the latents is a function of the frame.
    trained : bool
        False leaves the random weights it begins with.
    hidden : int
        Width of the encoder's hidden layer.
    samples : int
        Latents of a batch that an entropy is estimated from.
    """

    entropy: str
    latent: int = 2
    state: int = 2
    seen_noise: bool = False
    trained: bool = True
    hidden: int = 100
    samples: int = 800

    def __call__(self, dims: int, plan: Plan, seed: int) -> Matcher:
        """Make the model; the dimensions of the latents are its own."""

        def build(pixels: int) -> SequenceModel:
            seen = VarianceNetwork(pixels, self.latent) if self.seen_noise else ConstantNoise(self.latent)
            predictor = KalmanPredictor(
                self.latent,
                self.state,
                seen,
                ConstantNoise(self.state),
                generator=torch.Generator().manual_seed(seed),
            )
            encoder = MLPEncoder(pixels, self.latent, (self.hidden,), random_state=seed)
            return SequenceModel(encoder, predictor, _objective(self.entropy, self.samples))

        cosines = 40 if self.trained and not self.seen_noise else 0
        return Matcher(build, plan, read="filtered", seed=seed, cosines=cosines, trained=self.trained)


@dataclass(frozen=True)
class RecurrentNetwork:
    """Perceptron and recurrent predictor; `transform` returns the encoder's latents.

    Attributes
    ----------
    entropy : str or EntropyEstimator
    distribution, variance : str
        Of the prediction, see `kalmanssl.models.RecurrentPredictor`; "von_mises_fisher" puts the latents on the
        sphere.
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    units : int
        Of the recurrent layer.
    head : tuple of int
        Widths of the layers between it and the prediction.
    trained : bool
        False leaves the random weights it begins with.
    samples : int
        Latents of a batch that an entropy is estimated from.
    """

    entropy: str | EntropyEstimator
    distribution: str = "gaussian"
    variance: str = "fixed"
    hidden: tuple[int, ...] = (200,)
    units: int = 10
    head: tuple[int, ...] = (20, 20)
    trained: bool = True
    samples: int = 640

    def __call__(self, dims: int, plan: Plan, seed: int) -> Matcher:
        """Make the model for so many latent dimensions."""

        def build(pixels: int) -> SequenceModel:
            encoder: nn.Module = MLPEncoder(pixels, dims, self.hidden, random_state=seed)
            if self.distribution == "von_mises_fisher":
                encoder = nn.Sequential(encoder, OnSphere())
            predictor = RecurrentPredictor(
                dims,
                hidden=self.units,
                head=self.head,
                distribution=self.distribution,
                variance=self.variance,
                generator=torch.Generator().manual_seed(seed),
            )
            return SequenceModel(encoder, predictor, _objective(self.entropy, self.samples))

        return Matcher(build, plan, seed=seed, trained=self.trained)
