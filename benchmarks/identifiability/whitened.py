"""Other models on whitened frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from identifiability.matcher import Model, Plan, encode, fit_whitening

__all__ = ["OnWhitened", "WhitenedFrames"]


class WhitenedFrames:
    """Another model on the whitened frames of videos.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def fit(self, videos: np.ndarray) -> Self:
        """Fit the whitening and the model to videos (videos, frames, pixels)."""
        self.whitening = fit_whitening(videos)
        self.model.fit(encode(self.whitening, videos))
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the latents of the model."""
        return self.model.transform(encode(self.whitening, videos))


@dataclass(frozen=True)
class OnWhitened:
    """Makes a model on whitened frames; `make` makes the model itself."""

    make: Any

    def __call__(self, dims: int, plan: Plan, seed: int) -> WhitenedFrames:
        """Return the model."""
        return WhitenedFrames(self.make(dims, plan, seed))
