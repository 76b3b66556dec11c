"""Spike counts of 64 to 196 neurons, in bins of 25 ms, whose rates depend on the state of the Lorenz system."""

from dataclasses import replace
from typing import Any, Self

import numpy as np

from identifiability.experiment import Setting, baseline_settings
from identifiability.experiments import dimensions
from identifiability.matcher import Plan
from identifiability.spikes import DefaultEstimator, OnSmoothedCounts
from kalmanssl.datasets import dot_videos

DATA: dict[str, Any] = {"motion": "lorenz", "mixing": "neurons"}


class ParticleFilter:
    """Upper bound: the posterior mean given the counts so far, with the true system but without labels.

    A bootstrap particle filter (Gordon, Salmond & Smith 1993, IEE Proc. F 140:107) with systematic resampling.
    """

    particles = 500

    def __init__(self, dims: int, plan: Plan, seed: int) -> None:
        self.seed = seed

    def fit(self, videos: np.ndarray) -> Self:
        """Make the system with this number of neurons."""
        size = round(videos.shape[-1] ** 0.5)
        self.system = dot_videos(n_videos=self.particles, n_frames=1, size=size, random_state=self.seed, **DATA)
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the posterior mean of the latents given the counts so far."""
        rng = np.random.default_rng(0)
        sd = self.system.motion.process_variance**0.5
        mean = np.empty((*videos.shape[:2], self.system.motion.dims))
        for video, result in zip(videos, mean, strict=True):
            particle = self.system.position[:, 0]
            for t, counts in enumerate(video):
                if t > 0:
                    particle = self.system.step(particle) + sd * rng.standard_normal(particle.shape)
                expected = self.system.render(particle).astype(float)
                score = np.log(expected) @ counts - expected.sum(axis=1)
                weight = np.exp(score - score.max())
                weight /= weight.sum()
                result[t] = weight @ particle
                places = (rng.random() + np.arange(self.particles)) / self.particles
                chosen = np.searchsorted(np.cumsum(weight), places).clip(max=self.particles - 1)
                particle = particle[chosen]
        return mean


EXPERIMENT = replace(
    dimensions.EXPERIMENT,
    name="spikes",
    title="Spike counts of neurons that follow the Lorenz system",
    figure="not in the paper",
    data=DATA,
    settings=(
        *(
            Setting(f"KalmanSSL with its defaults, {size**2} neurons", DefaultEstimator, {"size": size})
            for size in (8, 10, 14)
        ),
        Setting("kNN, recurrent predictor", OnSmoothedCounts(dimensions.NETWORK)),
        *(
            Setting(f"particle filter that knows the system, {size**2} neurons", ParticleFilter, {"size": size})
            for size in (8, 10, 14)
        ),
        *baseline_settings((200,), wrap=OnSmoothedCounts),
    ),
)
