"""Place-field decoders on a grid of positions: Bayes in a sliding window, and the grid state space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from peers.predictive import GridPrediction
from peers.smoothing import sliding_sum

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["GridStateSpace", "PlaceFieldBayes", "PlaceFields", "run_direction"]


def run_direction(position: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Direction of every running bin, 0 down the position axis and 1 up, by the ends of its run; -1 at rest."""
    direction = np.full(len(position), -1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], running.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        direction[start:stop] = position[stop - 1] > position[start]
    return direction


@dataclass(frozen=True)
class PlaceFields:
    """Expected spike counts per bin of every unit over a grid of positions, for one or both running directions.

    Attributes
    ----------
    edges : (cells + 1,)
        Edges of the grid, in the unit of the position.
    rate : (directions * cells, units)
        Expected count in one bin, direction after direction.
    occupancy : (directions * cells,)
        Share of the running time spent there, smoothed as the fields are.
    """

    edges: np.ndarray
    rate: np.ndarray
    occupancy: np.ndarray

    @classmethod
    def estimate(
        cls,
        counts: np.ndarray,
        position: np.ndarray,
        direction: np.ndarray,
        *,
        cell: float,
        field_sd: float,
        prior_bins: float,
    ) -> PlaceFields:
        """Smoothed spike counts over smoothed occupancy, drawn to each unit's mean count by `prior_bins` bins.

        Parameters
        ----------
        counts : (bins, units)
        position, direction : (bins,)
            Position, and direction numbered from 0.
        cell, field_sd : float
            Width of a cell and of the smoothing Gaussian, in the unit of the position.
        prior_bins : float
            Weight of the unit's mean count, as a number of bins in each cell.
        """
        cells = max(int(np.ceil((position.max() - position.min()) / cell)), 2)
        edges = np.linspace(position.min(), position.max(), cells + 1)
        index = np.clip(np.digitize(position, edges) - 1, 0, cells - 1)
        rates, occupancies = [], []
        for way in range(direction.max() + 1):
            here = direction == way
            spikes = np.zeros((cells, counts.shape[1]))
            np.add.at(spikes, index[here], counts[here])
            visits = np.bincount(index[here], minlength=cells).astype(float)
            spikes = gaussian_filter1d(spikes, field_sd / cell, axis=0, mode="nearest")
            visits = gaussian_filter1d(visits, field_sd / cell, mode="nearest")
            mean = np.maximum(counts.mean(axis=0), 1e-4)
            rates.append((spikes + prior_bins * mean) / (visits + prior_bins)[:, None])
            occupancies.append(visits + 1e-6)
        occupancy = np.concatenate(occupancies)
        return cls(edges, np.concatenate(rates), occupancy / occupancy.sum())

    def log_likelihood(self, counts: np.ndarray, bins: np.ndarray | float = 1.0) -> np.ndarray:
        """Poisson log-likelihood of counts summed over `bins` bins, up to a constant, (time, directions * cells)."""
        expected = self.rate.sum(axis=1)
        return counts @ np.log(self.rate).T - np.asarray(bins, dtype=float).reshape(-1, 1) * expected


@dataclass
class PlaceFieldBayes:
    """Poisson place fields with the occupancy as prior, on counts in a causal sliding window.

    Zhang, Ginzburg, McNaughton and Sejnowski (1998), J. Neurophysiol. 79, Eq. 36.

    Parameters
    ----------
    window : float
        Length of the window that ends with the present bin, s; one bin or more.
    field_sd, cell : float
        Smoothing of the fields and width of the grid's cells, in the unit of the position.
    prior_bins : float
        Weight of a unit's mean count in every cell, bins.
    """

    window: float = 0.25
    field_sd: float = 0.05
    prior_bins: float = 1.0
    cell: float = 0.02

    def fit(self, train: Recording, running: np.ndarray) -> PlaceFieldBayes:
        """Estimate the fields on the running bins of `train`."""
        self.fields_ = PlaceFields.estimate(
            train.activity[running],
            train.behavior["position"][running],
            np.zeros(int(running.sum()), dtype=int),
            cell=self.cell,
            field_sd=self.field_sd,
            prior_bins=self.prior_bins,
        )
        return self

    def predict(self, test: Recording) -> GridPrediction:
        """Posterior at every bin from the window that ends with it."""
        bins = max(round(self.window / test.bin_size), 1)
        stretches = test.segments()
        counts = sliding_sum(test.activity, bins, stretches)
        seen = sliding_sum(np.ones((len(counts), 1)), bins, stretches)
        log_posterior = self.fields_.log_likelihood(counts, seen) + np.log(self.fields_.occupancy)
        mass = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
        return GridPrediction(self.fields_.edges, mass / mass.sum(axis=1, keepdims=True))


@dataclass
class GridStateSpace:
    """Poisson place fields under a random walk on the grid: forward filter, or smoother.

    Brown, Frank, Tang, Quirk and Wilson (1998), J. Neurosci. 18; on a grid as Denovellis et al. (2021), eLife 10.

    Parameters
    ----------
    direction : bool
        Fields for each running direction; the walk then also changes direction now and then.
    smooth : bool
        Posterior given all bins instead of the past and present ones.
    walk_sd : float
        Standard deviation of the step in one bin, in the unit of the position.
    temper : float
        Power of the likelihood; below one it makes up for spikes that are not independent.
    turn : float
        Probability of changing direction in one bin.
    field_sd, prior_bins, cell : float
        As for `PlaceFieldBayes`.
    """

    direction: bool = True
    smooth: bool = False
    walk_sd: float = 0.03
    temper: float = 1.0
    turn: float = 0.005
    field_sd: float = 0.05
    prior_bins: float = 1.0
    cell: float = 0.02

    def fit(self, train: Recording, running: np.ndarray) -> GridStateSpace:
        """Estimate the fields on the running bins of `train`; the walk is given by the parameters."""
        position = train.behavior["position"]
        way = run_direction(position, running)[running] if self.direction else np.zeros(int(running.sum()), dtype=int)
        self.fields_ = PlaceFields.estimate(
            train.activity[running],
            position[running],
            way,
            cell=self.cell,
            field_sd=self.field_sd,
            prior_bins=self.prior_bins,
        )
        cells = len(self.fields_.edges) - 1
        centers = (self.fields_.edges[:-1] + self.fields_.edges[1:]) / 2
        step = np.exp(-0.5 * ((centers[:, None] - centers) / self.walk_sd) ** 2)
        step /= step.sum(axis=1, keepdims=True)
        ways = len(self.fields_.rate) // cells
        turns = (1 - self.turn) * np.eye(ways) + self.turn * (1 - np.eye(ways)) if ways > 1 else np.eye(1)
        self.transition_ = np.kron(turns, step)
        return self

    def predict(self, test: Recording) -> GridPrediction:
        """Posterior over the grid at every bin, summed over directions; each contiguous stretch starts afresh."""
        log_likelihood = self.temper * self.fields_.log_likelihood(test.activity)
        likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        posterior = np.concatenate([self._stretch(likelihood[stretch]) for stretch in test.segments()])
        cells = len(self.fields_.edges) - 1
        return GridPrediction(self.fields_.edges, posterior.reshape(len(posterior), -1, cells).sum(axis=1))

    def _stretch(self, likelihood: np.ndarray) -> np.ndarray:
        filtered = np.empty_like(likelihood)
        predicted = np.empty_like(likelihood)
        prior = self.fields_.occupancy
        for t, here in enumerate(likelihood):
            predicted[t] = prior
            posterior = prior * here
            filtered[t] = posterior / posterior.sum()
            prior = filtered[t] @ self.transition_
        if not self.smooth:
            return filtered
        smoothed = filtered.copy()
        for t in range(len(filtered) - 2, -1, -1):
            ratio = smoothed[t + 1] / np.maximum(predicted[t + 1], 1e-300)
            smoothed[t] = filtered[t] * (self.transition_ @ ratio)
            smoothed[t] /= smoothed[t].sum()
        return smoothed
