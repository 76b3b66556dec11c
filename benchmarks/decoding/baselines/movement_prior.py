"""Nearest neighbors with a movement prior: a random walk with jumps on a grid of behavior.

The likelihood of a cell is the share of neighbors in it divided by its share of the training time, to a power below one
because neighboring bins are not independent (Bissiri, Holmes and Walker 2016, JRSS-B 78:1103). The filter is
discriminative: Burkhart, Brandman, Franco, Hochberg and Harrison 2020, Neural Computation 32:969. With a wide walk,
power one and no division the decoder is plain nearest neighbors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from decoding.baselines.grids import Grid
from decoding.baselines.neighbors import Features, NeighborDecoder
from decoding.baselines.state_space import filter_grid, segment_starts, smooth_grid
from decoding.predictions import GridPrediction
from decoding.tasks import Task

__all__ = ["MovementPrior"]

UNIFORM = 1e-3  # share of the likelihood that does not come from neighbors


class MovementPrior(NeighborDecoder):
    """Nearest neighbors, a random walk and jumps.

    Settings: `neighbors`; `walk`, the standard deviation of a step in one bin as a fraction of the range of the
    behavior (of the period for angles); `power` of the likelihood; `divide`, the power of the share of training time by
    which the votes are divided; `jump`, the probability in one bin of a jump to a cell drawn from the training time.
    """

    def __init__(self, task: Task, features: Features, smoother: bool) -> None:
        super().__init__(task, features)
        self.smoother = smoother
        self._votes: tuple[Any, np.ndarray] | None = None

    def fit(self, rows: np.ndarray) -> None:
        """Store the bins, and compute the occupancy of the grid."""
        super().fit(rows)
        self.grid = Grid.around(self.behavior, self.task.target.period)
        self.cells = self.grid.cell(self.behavior)
        self.occupancy = self.grid.occupancy(self.behavior)

    def prepare(self, part: str, block: slice) -> Any:
        """Return the neighbors of the bins of a block, and where its segments start."""
        rec = self.task.data.part(part)
        return super().prepare(part, block), segment_starts(rec.time[block], rec.bin_size)

    def decode(
        self,
        prepared: Any,
        neighbors: int = 40,
        walk: float = 0.03,
        power: float = 0.15,
        divide: float = 1.0,
        jump: float = 1e-3,
        metric: str = "cosine",
    ) -> GridPrediction:
        """Return the filtered or smoothed posterior."""
        find, starts = prepared
        share = self._share(find, neighbors, metric)
        likelihood = (share / (self.occupancy**divide).astype(np.float32)) ** np.float32(power)
        likelihood /= likelihood.max(axis=1, keepdims=True)
        shape = self.grid.shape if len(self.grid.shape) == 2 else (*self.grid.shape, 1)
        run = smooth_grid if self.smoother else filter_grid
        posterior = run(
            likelihood.reshape(-1, *shape), starts, *self.grid.steps(walk), self.occupancy.reshape(shape), jump
        )
        return GridPrediction(self.grid.edges, posterior.reshape(-1, *self.grid.shape), self.task.target.period)

    def _share(self, find: Any, neighbors: int, metric: str) -> np.ndarray:
        """Return the smoothed share of neighbors in each cell, (time, cells) float32."""
        key = (id(find), neighbors, metric)
        if self._votes is None or self._votes[0] != key:
            voted = self.cells[find(metric)[:, :neighbors]]
            share = np.empty((len(voted), self.grid.size), dtype=np.float32)
            for first in range(0, len(voted), 1000):
                share[first : first + 1000] = self._vote(voted[first : first + 1000])
            self._votes = key, share
        return self._votes[1]

    def _vote(self, voted: np.ndarray) -> np.ndarray:
        """Return the share of neighbors of one chunk."""
        size = self.grid.size
        flat = (np.arange(len(voted))[:, None] * size + voted).ravel()
        votes = np.bincount(flat, minlength=len(voted) * size).reshape(len(voted), size).astype(np.float32)
        return (1 - UNIFORM) * self.grid.blur(votes, 1.0) / voted.shape[1] + UNIFORM / size
