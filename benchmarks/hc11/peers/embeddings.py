"""Features for nearest-neighbor decoding: smoothed counts, their principal components, CEBRA's embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hc11.peers.smoothing import causal_gaussian, centered_gaussian

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["CebraTime", "PCAEmbedding", "Smoothed"]

Smoothing = Literal["causal", "centered"]


def _smooth(signal: np.ndarray, rec: Recording, kind: Smoothing | None, sd: float) -> np.ndarray:
    """Smooth a signal within the segments of a recording."""
    if kind is None:
        return signal
    smoother = causal_gaussian if kind == "causal" else centered_gaussian
    return smoother(signal, sd / rec.bin_size, rec.segments())


@dataclass
class Smoothed:
    """The recording's own channels, smoothed in time.

    Parameters
    ----------
    kind : {"causal", "centered"} or None
        Half-Gaussian over the past, Gaussian over past and future, or no smoothing.
    sd : float
        Standard deviation of the Gaussian, s.
    root : bool
        Take the square root first, which stabilizes the variance of counts.
    """

    kind: Smoothing | None = "causal"
    sd: float = 0.2
    root: bool = True

    def fit(self, train: Recording, running: np.ndarray) -> Smoothed:
        """Do nothing: there is nothing to fit."""
        return self

    def transform(self, rec: Recording) -> np.ndarray:
        """Return the features of every bin, (time, units)."""
        return _smooth(np.sqrt(rec.activity) if self.root else rec.activity, rec, self.kind, self.sd)


@dataclass
class PCAEmbedding:
    """Principal components of the smoothed square roots of the counts; parameters as for `Smoothed`."""

    kind: Smoothing = "causal"
    sd: float = 0.2
    dim: int = 8

    def fit(self, train: Recording, running: np.ndarray) -> PCAEmbedding:
        """Fit the components on the running bins."""
        features = Smoothed(self.kind, self.sd).transform(train)[running]
        self.mean_ = features.mean(axis=0)
        self.components_ = np.linalg.svd(features - self.mean_, full_matrices=False)[2][: self.dim]
        return self

    def transform(self, rec: Recording) -> np.ndarray:
        """Return the scores of every bin, (time, dim)."""
        return (Smoothed(self.kind, self.sd).transform(rec) - self.mean_) @ self.components_.T


@dataclass
class CebraTime:
    """CEBRA-Time, trained on the running bins without labels (Schneider, Lee and Mathis 2023, Nature 617).

    It needs the package `cebra`. Its receptive field of ten bins includes five later bins.

    Parameters
    ----------
    iterations, dim : int
        Training steps and dimensions of the embedding.
    random_state : int
        Seed of the weights and the batches.
    """

    iterations: int = 2000
    dim: int = 8
    random_state: int = 0

    def fit(self, train: Recording, running: np.ndarray) -> CebraTime:
        """Train on the running bins in order."""
        import cebra
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.model_ = cebra.CEBRA(
                model_architecture="offset10-model",
                batch_size=512,
                learning_rate=3e-4,
                temperature=1.0,
                output_dimension=self.dim,
                max_iterations=self.iterations,
                time_offsets=10,
                distance="cosine",
                conditional="time",
                device="cpu",
                verbose=False,
            ).fit(np.asarray(train.activity[running], dtype=np.float32))
        return self

    def transform(self, rec: Recording) -> np.ndarray:
        """Return the embedding of every bin, (time, dim)."""
        parts = [np.asarray(rec.activity[part], dtype=np.float32) for part in rec.segments()]
        return np.concatenate([self.model_.transform(part) for part in parts])
