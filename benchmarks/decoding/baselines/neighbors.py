"""Nearest-neighbor decoding: the prediction is the set of behaviors in the most similar training bins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from decoding.predictions import SamplePrediction
from decoding.tasks import Data, Task

__all__ = ["Features", "NeighborDecoder", "nearest"]

CHUNK = 500
MAX_NEIGHBORS = 160


@dataclass(frozen=True)
class Features:
    """Features of every bin.

    Attributes
    ----------
    key : str
        Identifies them in the cache of the recording.
    make : callable
        `make(data, part)` returns them for "train" or "test", (time, features).
    """

    key: str
    make: Callable[[Data, str], np.ndarray]


def nearest(stored: np.ndarray, features: np.ndarray, count: int, metric: str) -> np.ndarray:
    """Return the indices of the nearest stored features, nearest first, (time, count) int32.

    Parameters
    ----------
    stored : (bins, features)
    features : (time, features)
    count : int
        Number of neighbors.
    metric : "cosine" or "euclidean"
        Features are not rescaled: the scale of latents says how well the activity determines them.
        Bins without any activity have no direction; their neighbors for "cosine" are random.
    """
    if metric == "cosine":
        stored, features = _unit(stored), _unit(features)
        offset = np.zeros(len(stored), dtype=np.float32)
    else:
        offset = 0.5 * (stored**2).sum(axis=1)
    found = np.empty((len(features), count), dtype=np.int32)
    for first in range(0, len(features), CHUNK):
        distance = offset - features[first : first + CHUNK] @ stored.T
        index = np.argpartition(distance, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distance, index, axis=1), axis=1, kind="stable")
        found[first : first + CHUNK] = np.take_along_axis(index, order, axis=1)
    if metric == "cosine":
        silent = np.flatnonzero(~features.any(axis=1))
        found[silent] = np.random.default_rng(0).integers(len(stored), size=(len(silent), count))
    return found


def _unit(features: np.ndarray) -> np.ndarray:
    """Return the features divided by their length; zeros stay zero."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(length > 0, length, 1.0)).astype(np.float32)


class NeighborDecoder:
    """k nearest neighbors; their behaviors are the predictive distribution.

    Settings: `neighbors`, and `metric` ("cosine" unless given).
    """

    def __init__(self, task: Task, features: Features) -> None:
        self.task, self.features = task, features

    def fit(self, rows: np.ndarray) -> None:
        """Store the bins."""
        self.rows = rows
        self.behavior = self.task.train[rows]

    def prepare(self, part: str, block: slice) -> Callable[[str], np.ndarray]:
        """Return a function of the metric that returns the nearest neighbors of the bins of a block."""
        data = self.task.data

        def neighbors(metric: str) -> np.ndarray:
            count = min(MAX_NEIGHBORS, len(self.rows))
            key = (
                self.features.key,
                metric,
                part,
                block.start,
                block.stop,
                self.rows[0],
                self.rows[-1],
                len(self.rows),
            )
            return data.cache.get(
                key,
                lambda: nearest(
                    self.features.make(data, "train")[self.rows],
                    self.features.make(data, part)[block],
                    count,
                    metric,
                ),
            )

        return neighbors

    def decode(self, prepared: Any, neighbors: int = 20, metric: str = "cosine") -> SamplePrediction:
        """Return the behaviors of the nearest training bins."""
        return SamplePrediction(self.behavior[prepared(metric)[:, :neighbors]], self.task.target.period)
