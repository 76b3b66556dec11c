"""Readout by nearest neighbors: the histogram of the behavior in the fitted bins with the most similar latents."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from kalmanssl.decoding.grids import Grid, Periods, group_dimensions
from kalmanssl.decoding.readouts._nearest import NearestSearch
from kalmanssl.kalman.kernels import has_compiler
from kalmanssl.utils.moments import row_slices
from kalmanssl.utils.validation import check_condition, check_integer, check_number, check_positive

__all__ = ["NeighborReadout", "NeighborReadoutSettings"]

_ROWS = 4096  # bins whose histograms are made at a time, to limit the memory of two-dimensional ones


@dataclass(frozen=True)
class NeighborReadoutSettings:
    """Settings of `NeighborReadout`.

    Attributes
    ----------
    n_neighbors : int
        Neighbors of each bin; at most all reference bins.
    max_reference_bins : int
        Fitted bins among which neighbors are searched. From more bins as many are drawn, in proportion to their weight
        and evenly spaced.
    max_components : int
        Principal components of the latents that are compared.
    smoothing, smoothing_joint : float
        Standard deviation of the Gaussian that smooths the histograms, in cells: of dimensions that have their own
        histogram, and of two that share one.
    uniform_fraction : float
        Fraction of the predictive mass that is distributed over all cells, above 0 and below 1.
    """

    n_neighbors: int = 30
    max_reference_bins: int = 8000
    max_components: int = 64
    smoothing: float = 1.5
    smoothing_joint: float = 1.0
    uniform_fraction: float = 1e-3

    def __post_init__(self) -> None:
        check_integer("n_neighbors", self.n_neighbors, 1)
        check_integer("max_reference_bins", self.max_reference_bins, 1)
        check_integer("max_components", self.max_components, 1)
        for name in ("smoothing", "smoothing_joint"):
            check_positive(name, getattr(self, name))
            check_condition(name, getattr(self, name), getattr(self, name) <= 1e4, "at most 1e4 cells")
        fraction = self.uniform_fraction
        check_number("uniform_fraction", fraction)
        check_condition("uniform_fraction", fraction, 0 < fraction < 1, "inside (0, 1)")

    def broaden(self) -> NeighborReadoutSettings:
        """Return settings with three times the neighbors and joint histograms that are twice as smooth."""
        return replace(self, n_neighbors=3 * self.n_neighbors, smoothing_joint=2 * self.smoothing_joint)


class NeighborReadout:
    """Histogram of the behavior in the nearest fitted bins, by the angle between centered latents.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behavior; None for a dimension that is not circular.
    settings : NeighborReadoutSettings, optional
    """

    def __init__(self, periods: Periods, settings: NeighborReadoutSettings | None = None) -> None:
        self.periods = periods
        self.settings = settings or NeighborReadoutSettings()

    def fit(self, mean: np.ndarray, behavior: np.ndarray, weight: np.ndarray | None, grids: list[Grid]) -> Self:
        """Keep the reference bins.

        Parameters
        ----------
        mean : (time, features)
        behavior : (time, dims)
        weight : (time,), optional
            The votes of the bins are proportional to it; equal by default.
        grids : list of Grid
            The grids of the groups of dimensions.
        """
        self.grids = grids
        self.center = mean.mean(axis=0)
        weight = np.ones(len(mean)) if weight is None else weight
        picked, self.votes = _draw_evenly(weight, self.settings.max_reference_bins)
        directions = self._directions(mean[picked])
        self.components = _principal_components(directions, self.settings.max_components)
        self.search = NearestSearch(directions @ self.components)
        self.cells = [
            grid.cell(behavior[picked][:, dims])
            for grid, dims in zip(grids, group_dimensions(len(self.periods)), strict=True)
        ]
        return self

    def with_settings(self, settings: NeighborReadoutSettings) -> Self:
        """Return a readout with the same reference bins and another number of neighbors or other smoothing."""
        changed = copy.copy(self)
        changed.settings = settings
        return changed

    @property
    def n_neighbors(self) -> int:
        """Neighbors of each bin: those of the settings, or all reference bins."""
        return min(self.settings.n_neighbors, len(self.search.references))

    @property
    def n_features(self) -> int:
        """Features of the latents that are compared; those that follow are ignored."""
        return len(self.center)

    def predict_mass(self, mean: np.ndarray) -> list[np.ndarray]:
        """Return the histogram over the grid of each group of dimensions, (time, *shape), float32."""
        return self.predict_mass_and_distance(mean)[0]

    def predict_mass_and_distance(self, mean: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the histograms, and how far the latents of each bin are from those of its neighbors.

        Returns
        -------
        masses : list of (time, *shape)
            As from `predict_mass`.
        distance : (time,)
            One minus the mean cosine of the angles to the neighbors.
        """
        near, cosine = self.search.largest(self.project(mean), self.n_neighbors)
        masses = [np.empty((len(near), *grid.shape), dtype=np.float32) for grid in self.grids]
        for first in range(0, len(near), _ROWS):
            rows = slice(first, first + _ROWS)
            for mass, part in zip(masses, self._histograms(near[rows]), strict=True):
                mass[rows] = part
        return masses, 1.0 - cosine.mean(axis=1, dtype=float)

    def _histograms(self, near: np.ndarray) -> list[np.ndarray]:
        """Return the histograms of the behavior in the neighbors (time, neighbors) of each bin."""
        masses = []
        for grid, cells in zip(self.grids, self.cells, strict=True):
            if len(grid.axes) > 1 and has_compiler():
                masses.append(self._joint_histograms(near, grid, cells))
                continue
            row, votes = np.repeat(np.arange(len(near)), near.shape[1]), self.votes[near.ravel()]
            flat = np.bincount(row * grid.size + cells[near.ravel()], votes, minlength=len(near) * grid.size)
            masses.append(self._smooth(flat.astype(np.float32).reshape(len(near), *grid.shape), grid))
        return masses

    def _joint_histograms(self, near: np.ndarray, grid: Grid, cells: np.ndarray) -> np.ndarray:
        """Return the same over a grid of two axes, most of whose cells are far from all neighbors."""
        from kalmanssl.decoding.readouts._histogram_kernel import histograms_kernel

        mass = np.empty((len(near), *grid.shape), dtype=np.float32)
        votes, share = np.ascontiguousarray(self.votes, dtype=float), 1 - self.settings.uniform_fraction
        histograms_kernel(near, votes, np.ascontiguousarray(cells), *self.smoothing_matrices(grid), share, mass)
        return mass

    def smoothing_matrices(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Return for rows and columns how the mass of a cell is distributed; a grid of one axis is a single row."""
        smoothing = self._smoothing(grid)
        found = [
            np.ascontiguousarray(Grid((axis,)).smooth(np.eye(axis.n_cells), smoothing), dtype=np.float32)
            for axis in grid.axes
        ]
        return (np.ones((1, 1), dtype=np.float32), found[0]) if len(found) == 1 else (found[0], found[1])

    def _smoothing(self, grid: Grid) -> float:
        return self.settings.smoothing if len(grid.axes) == 1 else self.settings.smoothing_joint

    def _smooth(self, mass: np.ndarray, grid: Grid) -> np.ndarray:
        """Smooth and normalize histograms (time, *shape), and distribute a part over all cells."""
        uniform = self.settings.uniform_fraction
        mass = grid.smooth(mass, self._smoothing(grid))
        mass /= mass.reshape(len(mass), grid.size).sum(axis=1).reshape(-1, *[1] * len(grid.axes))
        return (1 - uniform) * mass + uniform / grid.size

    def project(self, mean: np.ndarray) -> np.ndarray:
        """Return the principal components (time, components) of the directions of latents (time, features), float32."""
        projected = np.empty((len(mean), self.components.shape[1]), dtype=np.float32)
        for rows in row_slices(len(mean)):
            projected[rows] = self._directions(mean[rows]) @ self.components
        return projected

    def _directions(self, mean: np.ndarray) -> np.ndarray:
        """Return centered latents divided by their length, (time, features), float32."""
        centered = (mean[:, : self.n_features] - self.center).astype(np.float32)
        return centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-20)

    def to_state(self) -> dict[str, Any]:
        """Return the settings, grids and reference bins."""
        return {
            "periods": list(self.periods),
            "settings": asdict(self.settings),
            "grids": [grid.to_state() for grid in self.grids],
            "center": self.center,
            "components": self.components,
            "reference": self.search.references,
            "votes": self.votes,
            "cells": self.cells,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a fitted readout from what `to_state` returned."""
        readout = cls(tuple(state["periods"]), NeighborReadoutSettings(**state["settings"]))
        readout.grids = [Grid.from_state(grid) for grid in state["grids"]]
        readout.center, readout.votes = (np.asarray(state[name], dtype=float) for name in ("center", "votes"))
        readout.search = NearestSearch(np.asarray(state["reference"], dtype=np.float32))
        # Absent from readouts that were saved before latents were projected.
        components = state.get("components", np.eye(readout.search.references.shape[1]))
        readout.components = np.asarray(components, dtype=np.float32)
        readout.cells = [np.asarray(cells, dtype=int) for cells in state["cells"]]
        return readout


def _draw_evenly(weight: np.ndarray, max_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw at most `max_count` indices in proportion to their weight, evenly spaced, and return each with its votes."""
    if len(weight) <= max_count:
        return np.arange(len(weight)), weight.astype(float)
    total = np.cumsum(weight)
    drawn = np.searchsorted(total, (np.arange(max_count) + 0.5) / max_count * total[-1])
    picked, times = np.unique(drawn, return_counts=True)
    return picked, times.astype(float)


def _principal_components(directions: np.ndarray, max_count: int) -> np.ndarray:
    """Return the principal components of unit vectors (bins, features) as columns, (features, components), float32.

    The first component has the largest variance.
    """
    _, vectors = np.linalg.eigh(directions.T @ directions)
    return np.ascontiguousarray(vectors[:, ::-1][:, :max_count], dtype=np.float32)
