"""Grids over behavior: the cells on which likelihoods, movement priors and posteriors are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kalmanssl.decoding.grids._circular import Periods
from kalmanssl.decoding.grids._predictive import GridPredictive, Predictive

__all__ = ["Axis", "Grid", "group_dimensions", "marginal_predictives"]


def group_dimensions(n_dims: int) -> list[tuple[int, ...]]:
    """Group the dimensions of a behavior into pairs and, if their number is odd, a last single one.

    The dimensions of a group are decoded jointly. Different groups are decoded independently of each other.
    """
    return [tuple(range(first, min(first + 2, n_dims))) for first in range(0, n_dims, 2)]


@dataclass(frozen=True)
class Axis:
    """Cells of equal width along one dimension of the behavior.

    Attributes
    ----------
    start, width : float
        Left edge of the first cell, and width of a cell, in the unit of the behavior.
    n_cells : int
    period : float or None
        Period of a circular dimension, equal to `n_cells` times `width`; `start` is then 0.
    nominal : bool
        Whether the cells are labels without an order; the behavior is then the number of the label.
    """

    start: float
    width: float
    n_cells: int
    period: float | None = None
    nominal: bool = False

    @classmethod
    def from_behavior(cls, values: np.ndarray, period: float | None, n_cells: int, margin: float) -> Self:
        """Make an axis that covers values (time,) and a margin, a fraction of their range, at both ends."""
        if period is not None:
            return cls(0.0, period / n_cells, n_cells, period)
        low, high = float(values.min()), float(values.max())
        extra = margin * (high - low)
        return cls(low - extra, (high - low + 2 * extra) / n_cells, n_cells)

    @classmethod
    def of_labels(cls, n_labels: int) -> Self:
        """Make an axis with one cell for each label."""
        return cls(-0.5, 1.0, n_labels, nominal=True)

    @property
    def centers(self) -> np.ndarray:
        """Centers of the cells, (cells,)."""
        return self.start + self.width * (np.arange(self.n_cells) + 0.5)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return values in cells from the left edge of the first cell; those beyond the ends are at the ends.

        Places are below the number of cells in single precision, too.
        """
        place = (values - self.start) / self.width
        if self.period is not None:
            place = place % self.n_cells
        return np.clip(place, 0, self.n_cells * (1 - 1e-6))

    def coarsen(self, factor: int) -> Axis:
        """Return an axis whose cells are `factor` times as wide; the number of cells must be a multiple of it."""
        return replace(self, width=self.width * factor, n_cells=self.n_cells // factor)

    def interpolation(self, factor: int) -> np.ndarray:
        """Return the matrix (coarse cells, cells) of the linear interpolation of values at the centers of coarse cells.

        Beyond the outermost centers, values are constant.
        """
        coarse = self.n_cells // factor
        at = (np.arange(self.n_cells) + 0.5) / factor - 0.5
        lower = np.floor(at).astype(int)
        pair = np.stack([lower, lower + 1])
        pair = np.clip(pair, 0, coarse - 1) if self.period is None else pair % coarse
        matrix = np.zeros((coarse, self.n_cells))
        np.add.at(matrix, (pair, np.arange(self.n_cells)), np.stack([1 - (at - lower), at - lower]))
        return matrix

    def predictive(self, mass: np.ndarray) -> GridPredictive:
        """Return histograms (time, cells) as a predictive."""
        if self.period is not None:
            return GridPredictive.circular(mass, self.period)
        return GridPredictive(mass, np.full(len(mass), self.start), self.width)

    def discretize(self, predictive: Predictive) -> np.ndarray:
        """Return the probability of each cell under a predictive, (time, cells); end cells take the tails."""
        edges = self.start + self.width * np.arange(self.n_cells + 1)
        below = np.stack([predictive.cdf(np.full(len(predictive), edge)) for edge in edges], axis=1)
        if self.period is None:
            below[:, 0], below[:, -1] = 0.0, 1.0
            mass = np.diff(below, axis=1)
        else:  # the distribution function jumps by one where the interval around the center of a bin ends
            mass = np.diff(below, axis=1) % 1.0
        return mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Grid:
    """A grid over one or two dimensions of the behavior.

    Attributes
    ----------
    axes : tuple of Axis
    """

    axes: tuple[Axis, ...]

    @classmethod
    def from_behavior(cls, behavior: np.ndarray, periods: Periods, n_cells: Sequence[int], margin: float) -> Self:
        """Make a grid with `n_cells` cells along each dimension of a behavior (time, dims)."""
        return cls(
            tuple(
                Axis.from_behavior(column, period, cells, margin)
                for column, period, cells in zip(behavior.T, periods, n_cells, strict=True)
            )
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(axis.n_cells for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    def place(self, behavior: np.ndarray) -> np.ndarray:
        """Return a behavior (time, dims) in cells from the first edge of each axis, (time, dims)."""
        return np.stack([axis.place(column) for axis, column in zip(self.axes, behavior.T, strict=True)], axis=1)

    def cell(self, behavior: np.ndarray) -> np.ndarray:
        """Return the index of the cell of each bin of a behavior (time, dims) in the flattened grid, (time,)."""
        return np.ravel_multi_index(tuple(self.place(behavior).astype(int).T), self.shape)

    def coarsen(self, factor: int) -> Grid:
        """Return a grid whose cells are `factor` times as wide; the number of cells must be a multiple of it."""
        return Grid(tuple(axis.coarsen(factor) for axis in self.axes))

    def coarsening(self, max_cells: int) -> int:
        """Return the smallest factor that divides all axes and leaves at most `max_cells` cells along each, or 1."""
        for factor in range(1, max(self.shape) + 1):
            if all(n % factor == 0 and n // factor <= max_cells for n in self.shape):
                return factor
        return 1

    def marginal(self, mass: np.ndarray, axis: int) -> np.ndarray:
        """Sum mass (time, *shape) over all axes but one."""
        others = tuple(1 + other for other in range(len(self.axes)) if other != axis)
        return mass.sum(axis=others) if others else mass

    def histogram(self, behavior: np.ndarray, weight: np.ndarray, smoothing: float) -> np.ndarray:
        """Return the weighted histogram of a behavior (time, dims), smoothed by `smoothing` cells; its sum is one."""
        counts = np.bincount(self.cell(behavior), weights=weight, minlength=self.size).reshape(self.shape)
        counts = self.smooth(counts[None], smoothing)[0]
        return counts / counts.sum()

    def smooth(self, mass: np.ndarray, smoothing: float) -> np.ndarray:
        """Smooth mass (time, *shape) with a Gaussian of `smoothing` cells, across the ends of circles."""
        for number, axis in enumerate(self.axes):
            mode = "nearest" if axis.period is None else "wrap"
            mass = gaussian_filter1d(mass, smoothing, axis=1 + number, mode=mode)
        return mass

    def shift(self, mass: np.ndarray, by: np.ndarray) -> np.ndarray:
        """Shift the distribution (time, *shape) of each bin by `by` (time, dims), in the unit of the behavior.

        What would leave the grid is lost, and the rest is normalized. Shifts are linear within a cell.
        """
        for number, axis in enumerate(self.axes):
            cells = by[:, number] / axis.width
            whole = np.floor(cells).astype(int)
            share = (cells - whole).reshape(-1, *[1] * len(self.axes))
            mass = (1 - share) * _roll(mass, whole, number, axis) + share * _roll(mass, whole + 1, number, axis)
        total = mass.reshape(len(mass), self.size).sum(axis=1)
        return mass / np.maximum(total, 1e-30).reshape(-1, *[1] * len(self.axes))

    def to_state(self) -> list[dict[str, Any]]:
        """Return plain values from which `from_state` makes the grid again."""
        return [dict(vars(axis)) for axis in self.axes]

    @classmethod
    def from_state(cls, state: list[dict[str, Any]]) -> Self:
        """Make a grid from what `to_state` returned."""
        return cls(tuple(Axis(**axis) for axis in state))


def marginal_predictives(grids: Sequence[Grid], masses: Sequence[np.ndarray]) -> list[Predictive]:
    """Return the marginal of each dimension from the distributions (time, *shape) over each grid."""
    return [
        axis.predictive(grid.marginal(mass, number))
        for grid, mass in zip(grids, masses, strict=True)
        for number, axis in enumerate(grid.axes)
    ]


def _roll(mass: np.ndarray, by: np.ndarray, number: int, axis: Axis) -> np.ndarray:
    """Shift mass (time, *shape) along an axis by whole cells (time,), around a circle or out of the grid."""
    source = np.arange(axis.n_cells) - by[:, None]
    inside = (source >= 0) & (source < axis.n_cells)
    shape = [len(mass)] + [1] * (mass.ndim - 1)
    shape[1 + number] = axis.n_cells
    if axis.period is not None:
        source, inside = source % axis.n_cells, np.ones_like(inside)
    index = np.clip(source, 0, axis.n_cells - 1).reshape(shape)
    return np.take_along_axis(mass, index, axis=1 + number) * inside.reshape(shape)
