"""Distributions of a readout on held-out bins, and their scores on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kalmanssl.decoding.grids import Axis, Grid
from kalmanssl.decoding.movement import Familiarity, ReadoutMass, compile_function
from kalmanssl.kalman.kernels import has_compiler
from kalmanssl.utils.moments import row_slices

__all__ = ["HeldOutMass", "grid_crps", "mean_by_block", "mean_crps"]


@dataclass(frozen=True)
class HeldOutMass:
    """Distributions of a readout on held-out bins, with the truth.

    Attributes
    ----------
    readout : ReadoutMass
        Over the grid; its occupancy is that of the bins that the readout was fitted on.
    scored : (time,) bool
    truth : (scored bins, dims)
    weight : (scored bins,)
    block : (scored bins,) int
        Block of time of each bin; one that several folds score has the same number.
    """

    readout: ReadoutMass
    scored: np.ndarray
    truth: np.ndarray
    weight: np.ndarray
    block: np.ndarray

    def temper(self, familiarity: Familiarity) -> HeldOutMass:
        """Return the products of the parts of the readout, those of unfamiliar bins closer to the occupancy."""
        return replace(self, readout=self.readout.temper(familiarity))

    def coarsen(self, grid: Grid, factor: int) -> HeldOutMass:
        """Return the distributions over a grid whose cells are `factor` times as wide as those of `grid`."""
        return replace(self, readout=self.readout.coarsen(grid, factor))


def grid_crps(mass: np.ndarray, axis: Axis, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS of histograms (time, cells) at `truth` (time,), in cells, for comparisons.

    The distribution function is taken at the center of each cell, and the step at the truth is averaged over its cell.
    The exact integral is larger by ``sum(mass**2) / 12 + t * (1 - t) * (1 - own)``, where t is the place of the truth
    in its cell and own the mass there. This is about 0.15 cells for all histograms, so that differences between them
    are nearly those of the exact score.
    """
    result = np.empty(len(mass))
    if has_compiler():
        score_histograms = compile_function(_score_histograms)
        score_histograms(np.ascontiguousarray(mass), axis.place(truth), axis.period is not None, result)
        return result
    for rows in row_slices(len(mass)):
        result[rows] = _piece_crps(mass[rows], axis, axis.place(truth[rows]))
    return result


def _score_histograms(mass: np.ndarray, at: np.ndarray, circular: bool, result: np.ndarray) -> None:
    """Write `grid_crps` for truths at places `at` (time,) on the axis; for numba."""
    n_cells = mass.shape[1]
    for row in range(len(mass)):
        place, cut = at[row], 0
        if circular:  # start opposite the truth
            cut = int(place) - n_cells // 2
            place -= cut
            cut %= n_cells
        below, total = 0.0, 0.0
        for step in range(n_cells):
            cell = step + cut
            if cell >= n_cells:
                cell -= n_cells
            excess = below + mass[row, cell] / 2 - min(max(step + 1 - place, 0.0), 1.0)
            below += mass[row, cell]
            total += excess * excess
        result[row] = total


def _piece_crps(mass: np.ndarray, axis: Axis, at: np.ndarray) -> np.ndarray:
    """Return the same without a compiler."""
    cells = np.arange(axis.n_cells)
    if axis.period is not None:
        cut = at.astype(int) - axis.n_cells // 2
        mass = np.take_along_axis(mass, (cells + cut[:, None]) % axis.n_cells, axis=1)
        at = at - cut
    below = np.cumsum(mass, axis=1) - mass / 2
    return ((below - np.clip(cells + 1 - at[:, None], 0, 1)) ** 2).sum(axis=1)


def mean_crps(marginals: Sequence[np.ndarray], grid: Grid, held_out: HeldOutMass) -> np.ndarray:
    """Return the CRPS of each scored bin, the mean over dimensions, in fractions of the length of an axis.

    `marginals` are those of the posterior along each axis of the grid in the scored bins, (scored bins, cells).
    """
    scores = [
        grid_crps(marginal, axis, held_out.truth[:, number]) / axis.n_cells
        for number, (marginal, axis) in enumerate(zip(marginals, grid.axes, strict=True))
    ]
    return np.asarray(np.mean(scores, axis=0))


def mean_by_block(values: Sequence[np.ndarray], held_out: Sequence[HeldOutMass]) -> np.ndarray:
    """Return what each block of time contributes to the weighted mean of values (scored bins, …), (blocks, …).

    There is one array of values for each fold.
    """
    block, weight = (np.concatenate([getattr(part, name) for part in held_out]) for name in ("block", "weight"))
    value = np.concatenate(values)
    flat = value.reshape(len(value), -1)
    sums = [np.bincount(block, weight * column) for column in flat.T]
    return np.stack(sums, axis=1).reshape(-1, *value.shape[1:]) / weight.sum()
