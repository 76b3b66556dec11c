"""The models of the paper, ready to be fitted to videos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from identifiability.matcher import BestOfStarts, Matcher, Plan
from kalmanssl.distributions import OnSphere
from kalmanssl.entropy import StopGradientEntropy, make_entropy
from kalmanssl.models import LDM, KalmanPredictor, MixtureDensity, RecurrentPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder, VarianceNetwork

__all__ = ["KalmanNetwork", "RecurrentNetwork"]

_STARTS_APART = 1000  # between the seeds of several starts, so that they are no other seeds of the benchmark


def _objective(entropy: str, samples: int, sphere_dim: int | None = None) -> LDM:
    """Return the objective with an entropy that uses at most `samples` latents; "kde" has a bandwidth of 1."""
    arguments: dict[str, dict[str, Any]] = {
        "knn": {"max_samples": samples, "sphere_dim": sphere_dim},
        "kde": {"bandwidth": 1.0, "max_samples": samples},
    }
    estimator = make_entropy(entropy, **arguments.get(entropy, {}))
    return LDM(estimator, mutual_information=not isinstance(estimator, StopGradientEntropy))


@dataclass(frozen=True)
class KalmanNetwork:
    """Perceptron and Kalman predictor; `transform` returns the filtered mean.

    Attributes
    ----------
    entropy : str
        A name for `kalmanssl.entropy.make_entropy`.
    latent, state : int
        Dimensions of the latents and of the state.
    input_noise : bool
        Whether the variance of the latents is a function of the frame.
    trained : bool
        False keeps the random initial weights.
    hidden : int
        Width of the encoder's hidden layer.
    samples : int
        Largest number of latents of a batch from which the entropy is estimated.
    """

    entropy: str
    latent: int = 2
    state: int = 2
    input_noise: bool = False
    trained: bool = True
    hidden: int = 100
    samples: int = 800

    def __call__(self, dims: int, plan: Plan, seed: int) -> Matcher:
        """Return the model; it has its own number of dimensions instead of `dims`."""

        def build(pixels: int) -> SequenceModel:
            noise = VarianceNetwork(pixels, self.latent) if self.input_noise else ConstantNoise(self.latent)
            predictor = KalmanPredictor(
                self.latent,
                self.state,
                noise,
                ConstantNoise(self.state),
                generator=torch.Generator().manual_seed(seed),
            )
            encoder = MLPEncoder(pixels, self.latent, (self.hidden,), random_state=seed)
            return SequenceModel(encoder, predictor, _objective(self.entropy, self.samples))

        n_cosines = 40 if self.trained and not self.input_noise else 0
        return Matcher(build, plan, output="filtered", seed=seed, n_cosines=n_cosines, trained=self.trained)


@dataclass(frozen=True)
class RecurrentNetwork:
    """Perceptron and recurrent predictor; `transform` returns the latents of the encoder.

    Attributes
    ----------
    entropy : str
        A name for `kalmanssl.entropy.make_entropy`.
    distribution, variance : str
        Predictive distribution, see `kalmanssl.models.RecurrentPredictor`; with "von_mises_fisher" the latents are on
        the sphere.
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    units : int
        Units of the recurrent layer.
    head : tuple of int
        Widths of the layers between it and the prediction.
    trained : bool
        False keeps the random initial weights.
    samples : int
        Largest number of latents of a batch from which the entropy is estimated.
    latent : int or None
        Dimensions of the latents; None takes those of the system.
    starts : int
        Number of initial weights, from which the best is chosen by the objective on held-out videos.
    start_steps : float
        Fraction of the steps of the training before this choice; below one, the best is then trained anew in full.
    density : bool
        Whether the stop-gradient entropy has a density of its own (`kalmanssl.models.MixtureDensity`).
    whiten : bool
        Whether the encoder reads whitened frames (`kalmanssl.networks.Whitening`).
    """

    entropy: str
    distribution: str = "gaussian"
    variance: str = "fixed"
    hidden: tuple[int, ...] = (200,)
    units: int = 10
    head: tuple[int, ...] = (20, 20)
    trained: bool = True
    samples: int = 640
    latent: int | None = None
    starts: int = 1
    density: bool = False
    whiten: bool = False
    start_steps: float = 1.0

    def __call__(self, dims: int, plan: Plan, seed: int) -> Matcher:
        """Return the model with this many latent dimensions, unless it has its own number."""
        if self.starts > 1:
            one = replace(self, starts=1)
            seeds = [seed + _STARTS_APART * number for number in range(self.starts)]
            return BestOfStarts([one(dims, plan, start) for start in seeds], self.start_steps)
        on_sphere = self.distribution == "von_mises_fisher"
        dims = self.latent or dims

        def build(pixels: int) -> SequenceModel:
            encoder: nn.Module = MLPEncoder(pixels, dims, self.hidden, random_state=seed)
            if on_sphere:
                encoder = nn.Sequential(encoder, OnSphere())
            predictor = RecurrentPredictor(
                dims,
                hidden=self.units,
                head=self.head,
                distribution=self.distribution,
                variance=self.variance,
                generator=torch.Generator().manual_seed(seed),
            )
            objective = _objective(self.entropy, self.samples, dims if on_sphere else None)
            return SequenceModel(encoder, predictor, objective, self._density(dims, seed))

        return Matcher(build, plan, seed=seed, trained=self.trained, whiten=self.whiten)

    def _density(self, dims: int, seed: int) -> MixtureDensity | None:
        """Return the density of the stop-gradient entropy, if it has one of its own."""
        if not self.density:
            return None
        generator = torch.Generator().manual_seed(seed)
        return MixtureDensity(dims, distribution=self.distribution, generator=generator)
