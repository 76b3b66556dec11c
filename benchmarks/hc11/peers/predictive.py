"""Predictive distributions of one-dimensional position, one for each bin: on a grid, or as samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["GridPrediction", "Prediction", "SamplePrediction"]


class Prediction(Protocol):
    """Predictive distributions with points, central intervals and scores."""

    @property
    def mean(self) -> np.ndarray:
        """Mean of the distribution, (time,)."""
        ...

    @property
    def median(self) -> np.ndarray:
        """Median of the distribution, (time,)."""
        ...

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper bound of the central interval with probability `level`, (time,) each."""
        ...

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return the continuous ranked probability score, (time,), in the unit of the position."""
        ...


@dataclass(frozen=True)
class GridPrediction:
    """Probabilities of the cells of a grid, with a uniform density inside each cell.

    Attributes
    ----------
    edges : (cells + 1,)
        Edges of the cells, increasing, in the unit of the position.
    mass : (time, cells)
        Probability of each cell; rows sum to one.
    """

    edges: np.ndarray
    mass: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean of the distribution, (time,)."""
        return self.mass @ ((self.edges[:-1] + self.edges[1:]) / 2)

    @property
    def median(self) -> np.ndarray:
        """Median of the distribution, (time,)."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> np.ndarray:
        """Return the quantile of probability `q`, (time,)."""
        above = np.cumsum(self.mass, axis=1)
        cell = np.minimum((above < q).sum(axis=1), self.mass.shape[1] - 1)
        row = np.arange(len(self.mass))
        inside = self.mass[row, cell]
        missing = q - (above[row, cell] - inside)
        share = np.clip(missing / np.maximum(inside, 1e-300), 0.0, 1.0)
        return self.edges[cell] + share * np.diff(self.edges)[cell]

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper bound of the central interval, (time,) each."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return the integral of (F - step at the truth)², exact for this piecewise linear CDF, (time,)."""
        width = np.diff(self.edges)
        right = np.cumsum(self.mass, axis=1)
        left = right - self.mass
        share = np.clip((truth[:, None] - self.edges[:-1]) / width, 0.0, 1.0)
        middle = left + share * self.mass
        below = share * width * (left**2 + left * middle + middle**2) / 3
        a, b = 1 - middle, 1 - right
        above = (1 - share) * width * (a**2 + a * b + b**2) / 3
        outside = np.maximum(self.edges[0] - truth, 0.0) + np.maximum(truth - self.edges[-1], 0.0)
        return (below + above).sum(axis=1) + outside


@dataclass(frozen=True)
class SamplePrediction:
    """Equally likely positions for every bin, for example those of the nearest neighbors.

    Attributes
    ----------
    samples : (time, count)
        Positions, in any order.
    """

    samples: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean of the samples, (time,)."""
        return self.samples.mean(axis=1)

    @property
    def median(self) -> np.ndarray:
        """Median of the samples, (time,)."""
        return np.median(self.samples, axis=1)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper bound of the central interval, (time,) each."""
        lower, upper = np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2], axis=1)
        return lower, upper

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return E|X - truth| - E|X - X'| / 2 with X, X' drawn from the samples, (time,)."""
        ordered = np.sort(self.samples, axis=1)
        count = ordered.shape[1]
        weight = 2 * np.arange(1, count + 1) - count - 1
        distance = 2 * (ordered @ weight) / count**2
        return np.abs(ordered - truth[:, None]).mean(axis=1) - distance / 2
