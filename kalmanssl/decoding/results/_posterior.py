"""Posterior of the behavior over a grid, highest-density regions and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.decoding.calibration import RegionCalibration
from kalmanssl.decoding.grids import Grid, likelier_mass

if TYPE_CHECKING:
    import xarray

__all__ = ["GridPosterior", "Region"]

_ROWS = 2048  # bins that are handled at a time, so that memory does not grow with the recording


@dataclass(frozen=True)
class Region:
    """A region of the behavior for every bin.

    Attributes
    ----------
    inside : xarray.DataArray of bool
        Whether each cell is inside; dimensions and coordinates are those of `DecodedPosition.posterior`.
    area : (time,)
        Area of the region, or length in one dimension; unit of the behavior to the power of the number of dimensions.
    """

    inside: xarray.DataArray
    area: np.ndarray


@dataclass(frozen=True)
class GridPosterior:
    """Posterior of one or two dimensions of the behavior over a grid.

    Attributes
    ----------
    grid : Grid
    mass : (time, *shape)
        Probability of each cell.
    calibration : RegionCalibration
        For highest-density regions.
    """

    grid: Grid
    mass: np.ndarray
    calibration: RegionCalibration

    def __getitem__(self, index: slice | np.ndarray) -> GridPosterior:
        return replace(self, mass=self.mass[index])

    def to_xarray(self, time: np.ndarray, values: np.ndarray | None = None) -> xarray.DataArray:
        """Return the posterior, or other `values` (time, *shape), as a labeled array."""
        import xarray

        names = ("position",) if len(self.grid.axes) == 1 else ("x", "y")
        coordinates = {"time": ("time", time, {"units": "s"})} | {
            name: axis.centers for name, axis in zip(names, self.grid.axes, strict=True)
        }
        return xarray.DataArray(self.mass if values is None else values, coordinates, ("time", *names))

    def region(self, level: float, time: np.ndarray) -> Region:
        """Return the highest-density region of every bin at a nominal level."""
        inside = self.inside(level)
        return Region(self.to_xarray(time, inside), self.cell_area * inside.reshape(len(inside), -1).sum(axis=1))

    @property
    def cell_area(self) -> float:
        """Area of a cell, in the unit of the behavior to the power of the number of dimensions."""
        return float(np.prod([axis.width for axis in self.grid.axes]))

    def inside(self, level: float) -> np.ndarray:
        """Return which cells belong to the highest-density region at a nominal level, (time, *shape) bool."""
        mass = self.calibration.mass(level)
        flat = self.mass.reshape(len(self.mass), -1)
        inside = np.empty(flat.shape, dtype=bool)
        for first in range(0, len(flat), _ROWS):
            rows = flat[first : first + _ROWS]
            inside[first : first + _ROWS] = likelier_mass(rows) <= mass
        return inside.reshape(self.mass.shape)

    def coverage_and_area(self, levels: Sequence[float], truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return whether the highest-density region of each level contains the truth (time, dims), and its area.

        Returns
        -------
        covered : (time, levels) bool
        area : (time, levels)
        """
        masses = [self.calibration.mass(level) for level in levels]
        flat, cell = self.mass.reshape(len(self.mass), -1), self.grid.cell(truth)
        covered = np.empty((len(flat), len(levels)), dtype=bool)
        area = np.empty(covered.shape)
        for first in range(0, len(flat), _ROWS):
            rows = slice(first, first + _ROWS)
            likelier = likelier_mass(flat[rows])
            at_truth = np.take_along_axis(likelier, cell[rows, None], axis=1)[:, 0]
            for number, mass in enumerate(masses):
                covered[rows, number] = at_truth <= mass
                area[rows, number] = self.cell_area * np.count_nonzero(likelier <= mass, axis=1)
        return covered, area

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw cells, and uniformly within them, (n, time, dims)."""
        draws = np.empty((n, len(self.mass), len(self.grid.axes)))
        for first in range(0, len(self.mass), _ROWS):
            rows = slice(first, first + _ROWS)
            cumulative = np.cumsum(self.mass[rows].reshape(len(self.mass[rows]), -1), axis=1, dtype=float)
            cumulative /= cumulative[:, -1:] * (1 + 1e-12)
            # One search serves all bins: the cumulative probabilities of bin i are between i and i + 1.
            bins = np.arange(len(cumulative))
            level = rng.random((n, len(cumulative))) + bins
            cell = np.searchsorted((cumulative + bins[:, None]).ravel(), level.ravel()).reshape(level.shape)
            cell = np.clip(cell - bins * cumulative.shape[1], 0, cumulative.shape[1] - 1)
            for dim, (axis, index) in enumerate(
                zip(self.grid.axes, np.unravel_index(cell, self.grid.shape), strict=True)
            ):
                draws[:, rows, dim] = axis.start + axis.width * (index + rng.random(level.shape))
        return draws
