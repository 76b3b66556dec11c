"""Models as in the published code, where those of the identifiability suite differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from identifiability.matcher import Matcher, Plan
from identifiability.networks import KalmanNetwork
from kalmanssl.models import SequenceModel

__all__ = ["PlainStart"]


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
            scaled.build, plan, output=scaled.output, seed=seed, n_cosines=scaled.n_cosines, trained=scaled.trained
        )
