"""Predictive distributions of behavior, one for each bin: as samples or on a grid, on lines, circles and in 2-D."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

__all__ = ["GridPrediction", "Prediction", "SamplePrediction", "circular_mean", "sample_crps", "wrap"]


def wrap(difference: np.ndarray, period: float | None) -> np.ndarray:
    """Return differences the short way around a circle; unchanged if there is no period."""
    if period is None:
        return difference
    return (difference + period / 2) % period - period / 2


def circular_mean(values: np.ndarray, period: float, weights: np.ndarray | None = None, axis: int = 0) -> np.ndarray:
    """Return the direction of the mean vector, in [0, period)."""
    angle = 2 * np.pi * values / period
    weights = np.ones_like(angle) if weights is None else weights
    sine, cosine = (weights * np.sin(angle)).sum(axis=axis), (weights * np.cos(angle)).sum(axis=axis)
    return (np.arctan2(sine, cosine) * period / (2 * np.pi)) % period


class Prediction(Protocol):
    """Predictive distributions, with arrays (time, dims) in the unit of the recording.

    On circles, quantiles are those of the distribution cut opposite to its mean direction.
    """

    @property
    def mean(self) -> np.ndarray:
        """Mean, or mean direction on circles."""
        ...

    def quantile(self, q: float) -> np.ndarray:
        """Return the marginal quantiles at probability `q`."""
        ...

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return the continuous ranked probability scores of the marginals."""
        ...

    def draw(self, count: int, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray | None:
        """Return joint samples of some bins, (rows, count, dims); None if there is no joint distribution."""
        ...


def sample_crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return E|X - truth| - E|X - X'| / 2 with X, X' drawn from sorted samples (time, count), (time,)."""
    count = samples.shape[1]
    weight = 2 * np.arange(1, count + 1) - count - 1
    distance = 2 * (samples @ weight) / count**2
    return np.abs(samples - truth[:, None]).mean(axis=1) - distance / 2


class SamplePrediction:
    """Equally likely values for every bin, for example those of the nearest neighbors.

    Parameters
    ----------
    samples : (time, count, dims)
    period : float, optional
        Period of a circular behavior.
    """

    def __init__(self, samples: np.ndarray, period: float | None = None) -> None:
        self.period = period
        if period is not None:
            center = circular_mean(samples, period, axis=1)[:, None]
            samples = center + wrap(samples - center, period)
        self.samples = samples

    @cached_property
    def _sorted(self) -> np.ndarray:
        return np.sort(self.samples, axis=1)

    @property
    def mean(self) -> np.ndarray:
        """Mean, or mean direction on circles."""
        if self.period is not None:
            return circular_mean(self.samples, self.period, axis=1)
        return self.samples.mean(axis=1)

    def quantile(self, q: float) -> np.ndarray:
        """Return the marginal quantiles at probability `q`."""
        position = q * (self.samples.shape[1] - 1)
        below = int(position)
        above = min(below + 1, self.samples.shape[1] - 1)
        return self._sorted[:, below] + (position - below) * (self._sorted[:, above] - self._sorted[:, below])

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return the continuous ranked probability scores of the marginals."""
        near = _near(truth, self.mean, self.period)
        return np.stack([sample_crps(self._sorted[..., d], near[:, d]) for d in range(truth.shape[1])], axis=1)

    def draw(self, count: int, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        """Return joint samples of some bins, (rows, count, dims)."""
        chosen = rng.integers(self.samples.shape[1], size=(len(rows), count))
        return np.take_along_axis(self.samples[rows], chosen[..., None], axis=1)


class GridPrediction:
    """Probabilities of the cells of a regular grid, with a uniform density inside each cell.

    Parameters
    ----------
    edges : sequence of (cells + 1,)
        Edges of the cells of each dimension.
    mass : (time, cells) or (time, cells of x, cells of y)
        Probability of each cell; the sum over cells is one.
    period : float, optional
        Period of a circular behavior; the grid is then one circle.
    """

    def __init__(self, edges: tuple[np.ndarray, ...], mass: np.ndarray, period: float | None = None) -> None:
        self.edges, self.mass, self.period = edges, mass, period

    @cached_property
    def _marginals(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return for each dimension the left end of the grid (time,), the width of a cell, and the masses."""
        found = []
        for dim, edges in enumerate(self.edges):
            others = tuple(1 + d for d in range(len(self.edges)) if d != dim)
            mass = self.mass.sum(axis=others, dtype=float)
            width = edges[1] - edges[0]
            left = np.full(len(mass), edges[0])
            if self.period is not None:  # cut the circle opposite to the mean direction
                cells = mass.shape[1]
                first = np.round((self.mean[:, dim] - edges[0]) / width - cells / 2).astype(int)
                mass = np.take_along_axis(mass, (first[:, None] + np.arange(cells)) % cells, axis=1)
                left = edges[0] + first * width
            found.append((left, width, mass / mass.sum(axis=1, keepdims=True)))
        return found

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean, or mean direction on circles."""
        centers = [(edges[:-1] + edges[1:]) / 2 for edges in self.edges]
        if self.period is not None:
            return circular_mean(centers[0], self.period, self.mass, axis=1)[:, None]
        return np.stack([mass @ c for (_, _, mass), c in zip(self._marginals, centers, strict=True)], axis=1)

    def quantile(self, q: float) -> np.ndarray:
        """Return the marginal quantiles at probability `q`."""
        columns = []
        for left, width, mass in self._marginals:
            above = np.cumsum(mass, axis=1)
            cell = np.minimum((above < q).sum(axis=1), mass.shape[1] - 1)
            row = np.arange(len(mass))
            inside = mass[row, cell]
            share = np.clip((q - (above[row, cell] - inside)) / np.maximum(inside, 1e-300), 0.0, 1.0)
            columns.append(left + (cell + share) * width)
        return np.stack(columns, axis=1)

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Return the integral of (F - step at the truth)², exact for these piecewise linear CDFs."""
        near = _near(truth, self.mean, self.period)
        return np.stack([_grid_crps(*self._marginals[d], near[:, d]) for d in range(truth.shape[1])], axis=1)

    def draw(self, count: int, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        """Return joint samples of some bins, (rows, count, dims)."""
        shape = self.mass.shape[1:]
        cumulative = np.cumsum(self.mass[rows].reshape(len(rows), -1), axis=1, dtype=float)
        level = rng.random((len(rows), count)) * cumulative[:, -1:]
        cell = np.stack([np.searchsorted(c, u) for c, u in zip(cumulative, level, strict=True)])
        index = np.unravel_index(np.minimum(cell, cumulative.shape[1] - 1), shape)
        columns = [
            edges[0] + (i + rng.random(i.shape)) * (edges[1] - edges[0])
            for edges, i in zip(self.edges, index, strict=True)
        ]
        return np.stack(columns, axis=-1)


def _near(truth: np.ndarray, center: np.ndarray, period: float | None) -> np.ndarray:
    """Return the truth within half a period of the center; unchanged if there is no period."""
    return truth if period is None else center + wrap(truth - center, period)


def _grid_crps(left: np.ndarray, width: float, mass: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS of histograms that begin at `left`, (time,)."""
    cells = mass.shape[1]
    right_cdf = np.cumsum(mass, axis=1)
    left_cdf = right_cdf - mass
    share = np.clip((truth - left)[:, None] / width - np.arange(cells), 0.0, 1.0)
    middle = left_cdf + share * mass
    below = share * (left_cdf**2 + left_cdf * middle + middle**2)
    a, b = 1 - middle, 1 - right_cdf
    above = (1 - share) * (a**2 + a * b + b**2)
    outside = np.maximum(left - truth, 0.0) + np.maximum(truth - left - cells * width, 0.0)
    return width * (below + above).sum(axis=1) / 3 + outside
