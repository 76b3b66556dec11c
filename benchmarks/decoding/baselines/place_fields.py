"""Tuning curves on a grid, for one-dimensional or circular behavior: Bayes in a sliding window, and a state space."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from decoding.baselines.grids import Grid
from decoding.baselines.smoothing import centered_gaussian, sliding_sum
from decoding.baselines.state_space import filter_grid, segment_starts, smooth_grid
from decoding.predictions import GridPrediction
from decoding.tasks import Task

__all__ = ["GridStateSpace", "PlaceFieldBayes", "PlaceFields", "moving_up"]

JUMP = 1e-3
TURN = 0.005  # probability of changing direction in one bin


def moving_up(behavior: np.ndarray, bin_size: float, segments: list[slice]) -> np.ndarray:
    """Return 1 where smoothed behavior (time,) increases and 0 elsewhere, (time,) int."""
    smooth = centered_gaussian(behavior[:, None], 0.25 / bin_size, segments)[:, 0]
    change = np.concatenate([np.gradient(smooth[s]) if s.stop - s.start > 1 else np.zeros(1) for s in segments])
    return (change > 0).astype(int)


class PlaceFields:
    """Expected counts per bin of every unit over a grid, for one or both directions of movement.

    Parameters
    ----------
    grid : Grid
    counts : (bins, units)
    behavior : (bins, 1)
    direction : (bins,) int
        Number of the direction.
    ways : int
        Number of directions.
    """

    def __init__(self, grid: Grid, counts: np.ndarray, behavior: np.ndarray, direction: np.ndarray, ways: int) -> None:
        self.grid, self.ways = grid, ways
        index = grid.cell(behavior) + direction * grid.size
        self.spikes = np.zeros((ways * grid.size, counts.shape[1]))
        np.add.at(self.spikes, index, counts)
        self.visits = np.bincount(index, minlength=ways * grid.size).astype(float)
        self.mean = np.maximum(counts.mean(axis=0), 1e-4)

    def rates(self, field_sd: float, prior_bins: float) -> np.ndarray:
        """Return smoothed counts divided by smoothed visits, (ways * cells, units).

        Parameters
        ----------
        field_sd : float
            Standard deviation of the smoothing Gaussian, as a fraction of the length of the grid.
        prior_bins : float
            Weight of a unit's mean count in each cell, in bins.
        """
        spikes = self._blur(self.spikes.T, field_sd).T
        visits = self._blur(self.visits[None], field_sd)[0]
        return (spikes + prior_bins * self.mean) / (visits + prior_bins)[:, None]

    def occupancy(self, field_sd: float) -> np.ndarray:
        """Return the smoothed share of time of each state, with a small floor, (ways * cells,)."""
        visits = self._blur(self.visits[None], field_sd)[0]
        return 0.99 * visits / visits.sum() + 0.01 / len(visits)

    def _blur(self, values: np.ndarray, field_sd: float) -> np.ndarray:
        shaped = values.reshape(-1, self.grid.size)
        return self.grid.blur(shaped, field_sd * self.grid.size).reshape(values.shape)


class PlaceFieldBayes:
    """Poisson tuning curves with the occupancy as prior, on counts in a causal sliding window.

    Zhang, Ginzburg, McNaughton and Sejnowski 1998, J. Neurophysiol. 79:1017, Eq. 36. Calcium events are counted
    whatever their amplitude.

    Settings: `window`, s; `field_sd` and `prior_bins` of `PlaceFields.rates`.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def _counts(self, part: str) -> np.ndarray:
        activity = self.task.data.part(part).activity
        return (activity > 0).astype(float) if self.task.data.events else activity

    def _directions(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the direction of movement of the bins, and the number of directions."""
        return np.zeros(len(rows), dtype=int), 1

    def fit(self, rows: np.ndarray) -> None:
        """Count spikes and visits of every cell."""
        behavior = self.task.train[rows]
        self.grid = Grid.around(behavior, self.task.target.period)
        self.fields = PlaceFields(self.grid, self._counts("train")[rows], behavior, *self._directions(rows))

    def prepare(self, part: str, block: slice) -> Any:
        """Return counts and segments of a block."""
        rec = self.task.data.part(part)
        starts = segment_starts(rec.time[block], rec.bin_size)
        return self._counts(part)[block], starts, rec.bin_size

    def decode(
        self, prepared: Any, window: float = 0.25, field_sd: float = 0.03, prior_bins: float = 3.0
    ) -> GridPrediction:
        """Return the posterior of every bin given the window that ends with it."""
        counts, starts, bin_size = prepared
        bins = max(round(window / bin_size), 1)
        edges = [*np.flatnonzero(starts), len(starts)]
        segments = [slice(a, b) for a, b in pairwise(edges)]
        seen = sliding_sum(np.ones((len(counts), 1)), bins, segments)
        rate = self.fields.rates(field_sd, prior_bins)
        log_posterior = log_likelihood(rate, sliding_sum(counts, bins, segments), seen)
        log_posterior += np.log(self.fields.occupancy(field_sd))
        mass = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
        return GridPrediction(self.grid.edges, mass / mass.sum(axis=1, keepdims=True), self.grid.period)


class GridStateSpace(PlaceFieldBayes):
    """Poisson tuning curves under a random walk on the grid, with both directions of movement on a line.

    Brown, Frank, Tang, Quirk and Wilson 1998, J. Neurosci. 18:7411; on a grid as Denovellis et al. 2021, eLife
    10:e64505.

    Settings: `walk`, the standard deviation of a step in one bin as a fraction of the length of the grid; `power` of
    the likelihood, below one for spikes that are not independent; `field_sd` and `prior_bins` of `PlaceFields.rates`.
    """

    def __init__(self, task: Task, smoother: bool) -> None:
        super().__init__(task)
        self.smoother = smoother

    def _directions(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        if not self.task.on_line:
            return super()._directions(rows)
        rec = self.task.data.train
        return moving_up(self.task.train[:, 0], rec.bin_size, rec.segments())[rows], 2

    def decode(  # type: ignore[override]
        self,
        prepared: Any,
        walk: float = 0.02,
        power: float = 0.3,
        field_sd: float = 0.03,
        prior_bins: float = 3.0,
    ) -> GridPrediction:
        """Return the filtered or smoothed posterior over the grid, summed over directions."""
        counts, starts, _ = prepared
        rate, ways = self.fields.rates(field_sd, prior_bins), self.fields.ways
        log = power * log_likelihood(rate, counts, 1.0)
        likelihood = np.exp(log - log.max(axis=1, keepdims=True))
        likelihood = np.maximum(likelihood, 1e-30).astype(np.float32)[:, :, None]
        turns = np.full((ways, ways), TURN) + (1 - ways * TURN) * np.eye(ways) if ways > 1 else np.eye(1)
        step = np.kron(turns, self.grid.steps(walk)[0])
        run = smooth_grid if self.smoother else filter_grid
        posterior = run(likelihood, starts, step, np.ones((1, 1)), self.fields.occupancy(field_sd)[:, None], JUMP)
        mass = posterior.reshape(len(counts), ways, -1).sum(axis=1)
        return GridPrediction(self.grid.edges, mass, self.grid.period)


def log_likelihood(rate: np.ndarray, counts: np.ndarray, bins: np.ndarray | float) -> np.ndarray:
    """Return the Poisson log-likelihood of counts in `bins` bins, up to a constant, (time, states)."""
    return counts @ np.log(rate).T - np.asarray(bins, dtype=float).reshape(-1, 1) * rate.sum(axis=1)
