"""Grids over behavior with Gaussian steps: a line, a circle or a rectangle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

__all__ = ["Grid"]

LINE, CIRCLE, RECTANGLE = 100, 120, 48  # cells along each dimension


@dataclass(frozen=True)
class Grid:
    """A regular grid.

    Attributes
    ----------
    edges : tuple of (cells + 1,)
        Edges of the cells of each dimension.
    period : float or None
        Period of a circular behavior.
    """

    edges: tuple[np.ndarray, ...]
    period: float | None = None

    @classmethod
    def around(cls, behavior: np.ndarray, period: float | None) -> Grid:
        """Return a grid that covers the behavior (time, dims), one or two dimensions, with a margin of 2 %."""
        if period is not None:
            return cls((np.linspace(0, period, CIRCLE + 1),), period)
        cells = LINE if behavior.shape[1] == 1 else RECTANGLE
        low, high = behavior.min(axis=0), behavior.max(axis=0)
        margin = 0.02 * (high - low)
        return cls(tuple(np.linspace(a, b, cells + 1) for a, b in zip(low - margin, high + margin, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells of each dimension."""
        return tuple(len(edges) - 1 for edges in self.edges)

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    def cell(self, behavior: np.ndarray) -> np.ndarray:
        """Return the number of the cell of each value, (..., dims) to (...,)."""
        index = []
        for dim, edges in enumerate(self.edges):
            position = (behavior[..., dim] - edges[0]) / (edges[1] - edges[0])
            cells = len(edges) - 1
            whole = np.floor(position).astype(int)
            index.append(whole % cells if self.period is not None else np.clip(whole, 0, cells - 1))
        return np.ravel_multi_index(tuple(index), self.shape)

    def blur(self, values: np.ndarray, sd: float) -> np.ndarray:
        """Smooth the last axes of values (..., cells) with a Gaussian of `sd` cells."""
        shaped = values.reshape(-1, *self.shape)
        mode = "wrap" if self.period is not None else "reflect"
        for axis in range(len(self.shape)):
            shaped = gaussian_filter1d(shaped, sd, axis=axis + 1, mode=mode)
        return shaped.reshape(values.shape)

    def occupancy(self, behavior: np.ndarray, sd: float = 1.5, floor: float = 0.05) -> np.ndarray:
        """Return the smoothed share of time in each cell, mixed with a uniform floor, (cells,)."""
        visits = np.bincount(self.cell(behavior), minlength=self.size).astype(float)
        visits = self.blur(visits, sd)
        return (1 - floor) * visits / visits.sum() + floor / self.size

    def steps(self, fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the transition matrices of a Gaussian step along both dimensions.

        Parameters
        ----------
        fraction : float
            Standard deviation as a fraction of the length of the grid.

        Returns
        -------
        ((x, x), (y, y))
            Rows are origins and sum to one. The walk wraps on circles and is reflected at ends. The second matrix is
            [[1]] for one dimension.
        """
        matrices = [_step(cells, fraction * cells, self.period is not None) for cells in self.shape]
        return matrices[0], (matrices[1] if len(matrices) > 1 else np.ones((1, 1)))


def _step(cells: int, sd: float, circular: bool) -> np.ndarray:
    """Return the transition matrix of a Gaussian step of `sd` cells, from the middle of a cell."""
    origin, goal = np.arange(cells)[:, None], np.arange(cells)

    def mass(distance: np.ndarray) -> np.ndarray:
        return ndtr((distance + 0.5) / sd) - ndtr((distance - 0.5) / sd)

    turns = range(-3, 4)
    if circular:
        matrix = sum(mass(goal + turn * cells - origin) for turn in turns)
    else:
        images = [goal + 2 * turn * cells for turn in turns] + [2 * turn * cells - 1 - goal for turn in turns]
        matrix = sum(mass(image - origin) for image in images)
    return matrix / matrix.sum(axis=1, keepdims=True)
