"""Place-field decoders on a grid of positions: Bayes in a sliding window, and a state-space model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from hc11.peers.predictive import GridPrediction
from hc11.peers.smoothing import sliding_sum

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["GridStateSpace", "PlaceFieldBayes", "PlaceFields", "run_direction"]


def run_direction(position: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Return the direction of every running bin, 1 toward larger positions and 0 otherwise; -1 at rest."""
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
        Fraction of the running time, smoothed like the fields.
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
        """Divide smoothed spike counts by smoothed occupancy, with a prior at each unit's mean count.

        Parameters
        ----------
        counts : (bins, units)
        position, direction : (bins,)
            Position, and number of the direction.
        cell, field_sd : float
            Width of a cell and of the smoothing Gaussian, in the unit of the position.
        prior_bins : float
            Weight of the prior, as a number of bins in each cell.
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
        """Return the Poisson log-likelihood of counts in `bins` bins, up to a constant, (time, directions * cells)."""
        expected = self.rate.sum(axis=1)
        return counts @ np.log(self.rate).T - np.asarray(bins, dtype=float).reshape(-1, 1) * expected


@dataclass
class PlaceFieldBayes:
    """Poisson place fields with the occupancy as prior, on counts in a causal sliding window.

    Zhang, Ginzburg, McNaughton and Sejnowski (1998), J. Neurophysiol. 79, Eq. 36.

    Parameters
    ----------
    window : float
        Length of the window that ends with the present bin, s; at least one bin.
    field_sd, cell : float
        Smoothing of the fields and width of the grid's cells, in the unit of the position.
    prior_bins : float
        Weight of a unit's mean count in every cell, in bins.
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
        """Return the posterior at every bin given the window that ends with it."""
        bins = max(round(self.window / test.bin_size), 1)
        segments = test.segments()
        counts = sliding_sum(test.activity, bins, segments)
        seen = sliding_sum(np.ones((len(counts), 1)), bins, segments)
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
        Separate fields for each running direction; the walk then also switches between directions.
    smooth : bool
        Condition on all bins instead of past and present ones.
    walk_sd : float
        Standard deviation of the step in one bin, in the unit of the position.
    temper : float
        Power of the likelihood; values below one account for spikes that are not independent.
    switch_probability : float
        Probability of changing direction in one bin.
    field_sd, prior_bins, cell : float
        As for `PlaceFieldBayes`.
    """

    direction: bool = True
    smooth: bool = False
    walk_sd: float = 0.03
    temper: float = 1.0
    switch_probability: float = 0.005
    field_sd: float = 0.05
    prior_bins: float = 1.0
    cell: float = 0.02

    def fit(self, train: Recording, running: np.ndarray) -> GridStateSpace:
        """Estimate the fields on the running bins of `train`."""
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
        switches = (
            (1 - self.switch_probability) * np.eye(ways) + self.switch_probability * (1 - np.eye(ways))
            if ways > 1
            else np.eye(1)
        )
        self.transition_ = np.kron(switches, step)
        return self

    def predict(self, test: Recording) -> GridPrediction:
        """Return the posterior over the grid at every bin, summed over directions; each segment is separate."""
        log_likelihood = self.temper * self.fields_.log_likelihood(test.activity)
        likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        posterior = np.concatenate([self._posterior(likelihood[segment]) for segment in test.segments()])
        cells = len(self.fields_.edges) - 1
        return GridPrediction(self.fields_.edges, posterior.reshape(len(posterior), -1, cells).sum(axis=1))

    def _posterior(self, likelihood: np.ndarray) -> np.ndarray:
        """Return the filtered or smoothed probabilities of one segment."""
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
