"""Models on videos, or trials of spike counts, that are transformed before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from identifiability.matcher import Model, Plan

__all__ = ["OnPrepared", "Prepare", "PreparedModel"]

Prepare = Callable[[np.ndarray], np.ndarray]
"""Transforms videos (videos, frames, pixels) into others (videos, frames, features)."""


class PreparedModel:
    """A model on transformed videos.

    Parameters
    ----------
    model : Model
    fit_preparation : callable
        Returns the transformation for the videos of the fit.
    """

    def __init__(self, model: Model, fit_preparation: Callable[[np.ndarray], Prepare]) -> None:
        self.model, self.fit_preparation = model, fit_preparation

    def fit(self, videos: np.ndarray) -> Self:
        """Fit the transformation and the model to videos (videos, frames, pixels)."""
        self.prepare = self.fit_preparation(videos)
        self.model.fit(self.prepare(videos))
        return self

    def transform(self, videos: np.ndarray) -> np.ndarray:
        """Return the latents of the model."""
        return self.model.transform(self.prepare(videos))


@dataclass(frozen=True)
class OnPrepared(ABC):
    """Makes a model on transformed videos; `make` makes the model itself."""

    make: Any

    @abstractmethod
    def fit_preparation(self, videos: np.ndarray) -> Prepare:
        """Return the transformation for the videos (videos, frames, pixels) of the fit."""

    def __call__(self, dims: int, plan: Plan, seed: int) -> PreparedModel:
        """Return the model."""
        return PreparedModel(self.make(dims, plan, seed), self.fit_preparation)
