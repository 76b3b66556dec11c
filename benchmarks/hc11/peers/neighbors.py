"""Nearest-neighbor decoding: the prediction is the set of positions of the most similar training bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hc11.peers.predictive import SamplePrediction

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["NeighborDecoder"]


@dataclass
class NeighborDecoder:
    """k nearest neighbors among the running bins of the training part.

    Parameters
    ----------
    embedding : object with ``fit(train, running)`` and ``transform(recording)``
        Features of every bin.
    neighbors : int
        Number of neighbors; their positions are the predictive distribution.
    metric : str
        Distance between features, a name of scikit-learn.
    """

    embedding: Any
    neighbors: int = 20
    metric: str = "cosine"

    def fit(self, train: Recording, running: np.ndarray) -> NeighborDecoder:
        """Fit the embedding, and store features and positions of the running bins."""
        from sklearn.neighbors import NearestNeighbors

        self.embedding.fit(train, running)
        features = self.embedding.transform(train)[running]
        self.position_ = train.behavior["position"][running]
        self.index_ = NearestNeighbors(n_neighbors=self.neighbors, metric=self.metric).fit(features)
        return self

    def predict(self, test: Recording) -> SamplePrediction:
        """Return the positions of the nearest training bins, for every bin."""
        nearest = self.index_.kneighbors(self.embedding.transform(test), return_distance=False)
        return SamplePrediction(self.position_[nearest])
