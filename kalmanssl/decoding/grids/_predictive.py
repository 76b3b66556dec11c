"""Predictive distributions of one dimension of the behavior, one for every bin.

Readouts return them and the calibration changes them. There are two kinds: a `GridPredictive` is a histogram of any
shape (with two modes, for example), a `ScalePredictive` is one residual shape that is shifted and scaled in every bin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri

from kalmanssl.decoding.grids._circular import wrap

__all__ = ["MIN_SD", "SD_STEP", "GridPredictive", "Predictive", "ScalePredictive"]

# Numerical resolution, not settings: results do not depend on these beyond rounding.
_ROWS = 4096  # bins that are handled at a time, so that memory does not grow with the recording
MIN_SD = 0.05  # cells; noise of at most this standard deviation is left out
SD_STEP = 1.15  # standard deviations of noise are rounded to powers of this, so that a few kernels serve all bins


@dataclass(frozen=True)
class GridPredictive:
    """Histogram with cells of equal width for every bin.

    Attributes
    ----------
    mass : (time, cells)
        Probability of each cell; every row sums to one.
    start : (time,)
        Left edge of the first cell. The histogram of a circular dimension starts opposite its circular mean.
    width : float
        Width of a cell, in the unit of the behavior.
    period : float or None
        Period of a circular dimension, equal to the number of cells times `width`.
    """

    mass: np.ndarray
    start: np.ndarray
    width: float
    period: float | None = None

    @classmethod
    def circular(cls, mass: np.ndarray, period: float) -> GridPredictive:
        """Make the predictive of a circular dimension from histograms (time, cells) over [0, period)."""
        cells = mass.shape[1]
        width = period / cells
        angle = 2 * np.pi * (np.arange(cells) + 0.5) / cells
        mean = np.arctan2(mass @ np.sin(angle), mass @ np.cos(angle)) * period / (2 * np.pi)
        shift = np.round(mean / width).astype(int) - cells // 2
        mass = np.take_along_axis(mass, (shift[:, None] + np.arange(cells)) % cells, axis=1)
        return cls(mass, shift * width, width, period)

    def __len__(self) -> int:
        return len(self.mass)

    def __getitem__(self, index: slice | np.ndarray) -> GridPredictive:
        return replace(self, mass=self.mass[index], start=self.start[index])

    def cdf(self, value: np.ndarray) -> np.ndarray:
        """Return the probability of lying below `value` (time,); linear within a cell."""
        value = np.asarray(value, dtype=float)
        if self.period is not None:
            value = self.start + (value - self.start) % self.period
        cells = self.mass.shape[1]
        place = np.clip((value - self.start) / self.width, 0, cells)
        cell = np.minimum(place.astype(int), cells - 1)
        rows = np.arange(len(self.mass))
        below = np.cumsum(self.mass, axis=1)[rows, cell] - self.mass[rows, cell]
        # In single precision, sums of probabilities can exceed one.
        return np.clip(below + self.mass[rows, cell] * (place - cell), 0.0, 1.0)

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Return the quantiles (time, levels) at `levels`, of shape (levels,) or (time, levels)."""
        levels = np.broadcast_to(levels, (len(self), np.shape(levels)[-1]))
        found = np.empty(levels.shape)
        for first in range(0, len(self), _ROWS):
            rows = slice(first, first + _ROWS)
            found[rows] = self._invert(self.mass[rows], levels[rows])
        return self.start[:, None] + self.width * found

    @staticmethod
    def _invert(mass: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Return quantiles (time, levels) in cells from the left edge."""
        # One search serves all rows: the cumulative probabilities of row i occupy the values from i to i + 1.
        time, cells = mass.shape
        cumulative = np.cumsum(mass, axis=1, dtype=float)
        cumulative = np.minimum(cumulative / cumulative[:, -1:], 1.0)
        row = np.arange(time)[:, None]
        cell = np.searchsorted((cumulative + row).ravel(), (levels + row).ravel())
        cell = np.clip(cell.reshape(levels.shape) - row * cells, 0, cells - 1)
        upper = np.take_along_axis(cumulative, cell, axis=1)
        inside = np.take_along_axis(mass, cell, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(inside > 0, (upper - levels) / inside, 0.0)
        return cell + 1 - np.clip(left, 0, 1)

    def mean(self) -> np.ndarray:
        """Return the mean of the distribution of each bin, (time,)."""
        return self.start + self.width * (self.mass @ (np.arange(self.mass.shape[1]) + 0.5))

    def add_gaussian_noise(self, sd: np.ndarray) -> GridPredictive:
        """Convolve the distribution of each bin with a Gaussian of standard deviation `sd` (time,).

        `sd` is rounded to steps of 15 %.
        """
        step = np.full(len(self), -100)
        wide = sd > MIN_SD * self.width
        step[wide] = np.round(np.log(sd[wide] / self.width) / np.log(SD_STEP)).astype(int)
        mass = self.mass.copy()
        for value in np.unique(step[wide]):
            rows = step == value
            mass[rows] = self.mass[rows] @ self._kernel(SD_STEP ** float(value)).astype(mass.dtype)
        return replace(self, mass=mass)

    def _kernel(self, sd: float) -> np.ndarray:
        """Return the (cells, cells) matrix that convolves with a Gaussian of `sd` cells; end cells take the rest."""
        cells = self.mass.shape[1]
        distance = np.arange(1 - cells, cells)  # an entry depends on the distance between its cells alone
        place = cells - 1 + np.arange(cells)[None, :] - np.arange(cells)[:, None]
        if self.period is not None:
            # A standard deviation of one period is uniform already; four periods to either side hold all of its mass.
            periods = cells * np.arange(-4, 5)[:, None]
            kernel = _cell_mass(distance + periods, min(sd, cells)).sum(axis=0)[place]
        else:
            kernel = _cell_mass(distance, sd)[place]
            kernel[:, 0] = ndtr((0.5 - np.arange(cells)) / sd)
            kernel[:, -1] = kernel[::-1, 0]
        return kernel / kernel.sum(axis=1, keepdims=True)


def _cell_mass(offset: np.ndarray, sd: float) -> np.ndarray:
    """Return the mass of a Gaussian of `sd` cells in the cells at `offset` from its mean."""
    return ndtr((offset + 0.5) / sd) - ndtr((offset - 0.5) / sd)


@dataclass(frozen=True)
class ScalePredictive:
    """Residual distribution of one shape, shifted and scaled in every bin: `value = center + scale * residual`.

    Attributes
    ----------
    center, scale : (time,)
        Point estimate, and the size of the error expected there.
    table : (2, points)
        Levels of probability (increasing, inside (0, 1)) and the quantiles of the residual at them; the tails beyond
        them are Gaussian.
    period : float or None
        Period of a circular dimension.
    """

    center: np.ndarray
    scale: np.ndarray
    table: np.ndarray
    period: float | None = None

    def __len__(self) -> int:
        return len(self.center)

    def __getitem__(self, index: slice | np.ndarray) -> ScalePredictive:
        return replace(self, center=self.center[index], scale=self.scale[index])

    def cdf(self, value: np.ndarray) -> np.ndarray:
        """Return the probability of lying below `value` (time,)."""
        residual = wrap(np.asarray(value, dtype=float) - self.center, self.period) / self.scale
        return ndtr(_interpolate(residual, self.table[1], ndtri(self.table[0])))

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Return the quantiles (time, levels) at `levels`, of shape (levels,) or (time, levels)."""
        with np.errstate(divide="ignore"):
            deviate = np.clip(ndtri(levels), -8, 8)
        residual = self.scale[:, None] * _interpolate(deviate, ndtri(self.table[0]), self.table[1])
        if self.period is not None:
            residual = np.clip(residual, -self.period / 2, self.period / 2)
        return self.center[:, None] + residual

    def mean(self) -> np.ndarray:
        """Return the mean of the distribution of each bin, (time,)."""
        edges = np.concatenate([[0.0], (self.table[0, 1:] + self.table[0, :-1]) / 2, [1.0]])
        return self.center + self.scale * (self.table[1] @ np.diff(edges))

    def add_gaussian_noise(self, sd: np.ndarray) -> ScalePredictive:
        """Widen the distribution of each bin as independent noise of standard deviation `sd` (time,) would.

        The shape stays the same; the half width between the levels of one standard deviation grows in quadrature.
        """
        unit = np.interp(ndtr(1.0), *self.table) - np.interp(ndtr(-1.0), *self.table)
        return replace(self, scale=np.sqrt(self.scale**2 + (2 * sd / max(unit, 1e-12)) ** 2))


Predictive = GridPredictive | ScalePredictive
"""Predictive distributions of one dimension of the behavior, one for each bin."""


def _interpolate(x: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Interpolate linearly through (xs, ys), and extrapolate with the slope of the last twentieth of the points."""
    tail = max(1, len(xs) // 20)
    low = (ys[tail] - ys[0]) / max(xs[tail] - xs[0], 1e-12)
    high = (ys[-1] - ys[-1 - tail]) / max(xs[-1] - xs[-1 - tail], 1e-12)
    y = np.interp(x, xs, ys)
    return y + low * np.minimum(x - xs[0], 0) + high * np.maximum(x - xs[-1], 0)
