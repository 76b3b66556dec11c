"""Predictive distributions of one behavioral dimension, one per bin: what readouts give and calibration moulds.

Two shapes are enough. A `GridPredictive` is a histogram, free in form (two modes, one per end of the track); a
`ScalePredictive` is one residual shape moved and stretched from bin to bin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri

from kalmanssl.errors import InputError

__all__ = ["GridPredictive", "Predictive", "ScalePredictive", "quantile_crps", "wrap"]

_BLOCK = 4096  # bins handled at a time, so that memory does not grow with the recording
_SPREAD_STEP = 1.15  # spreads are rounded to powers of this, so that few kernels serve all bins


def wrap(difference: np.ndarray, period: float | None) -> np.ndarray:
    """Bring differences of a circular quantity to [-period/2, period/2); leave others (period None) alone."""
    if period is None:
        return difference
    return (difference + period / 2) % period - period / 2


@dataclass(frozen=True)
class GridPredictive:
    """Histogram with equal cells for every bin.

    Attributes
    ----------
    mass : (time, cells)
        Probability of each cell; rows add up to one.
    start : (time,)
        Left edge of the first cell. Circular grids are cut opposite the bulk of the mass, bin by bin.
    width : float
        Width of a cell, in the unit of the behavior.
    period : float or None
        Period of a circular dimension, equal to cells times `width`.
    """

    mass: np.ndarray
    start: np.ndarray
    width: float
    period: float | None = None

    @classmethod
    def circular(cls, mass: np.ndarray, period: float) -> GridPredictive:
        """Cut histograms over [0, period) open opposite their circular means."""
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
        """Probability of lying below `value` (time,), linear within a cell."""
        value = np.asarray(value, dtype=float)
        if self.period is not None:
            value = self.start + (value - self.start) % self.period
        cells = self.mass.shape[1]
        place = np.clip((value - self.start) / self.width, 0, cells)
        cell = np.minimum(place.astype(int), cells - 1)
        rows = np.arange(len(self.mass))
        below = np.cumsum(self.mass, axis=1)[rows, cell] - self.mass[rows, cell]
        return below + self.mass[rows, cell] * (place - cell)

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Quantiles (time, levels) at `levels`, of shape (levels,) or (time, levels)."""
        levels = np.broadcast_to(levels, (len(self), np.shape(levels)[-1]))
        found = np.empty(levels.shape)
        for first in range(0, len(self), _BLOCK):
            rows = slice(first, first + _BLOCK)
            found[rows] = self._invert(self.mass[rows], levels[rows])
        return self.start[:, None] + self.width * found

    @staticmethod
    def _invert(mass: np.ndarray, levels: np.ndarray) -> np.ndarray:
        # One search serves all rows: row i occupies the values from i to i + 1.
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
        """Mean of each bin's distribution (time,)."""
        return self.start + self.width * (self.mass @ (np.arange(self.mass.shape[1]) + 0.5))

    def shift(self, by: np.ndarray) -> GridPredictive:
        """Move each bin's distribution by `by` (time,)."""
        return replace(self, start=self.start + by)

    def spread(self, sd: np.ndarray) -> GridPredictive:
        """Blur each bin's distribution with a Gaussian of standard deviation `sd` (time,).

        `sd` is rounded to steps of 15 %.
        """
        step = np.full(len(self), -100)
        wide = sd > 0.05 * self.width
        step[wide] = np.round(np.log(sd[wide] / self.width) / np.log(_SPREAD_STEP)).astype(int)
        mass = self.mass.copy()
        for value in np.unique(step[wide]):
            rows = step == value
            mass[rows] = self.mass[rows] @ self._kernel(_SPREAD_STEP ** float(value)).astype(mass.dtype)
        return replace(self, mass=mass)

    def _kernel(self, sd: float) -> np.ndarray:
        """Matrix (cells, cells) that blurs by `sd` cells; what would leave the grid stays at its ends."""
        cells = self.mass.shape[1]
        offset = np.arange(cells)[None, :] - np.arange(cells)[:, None]
        if self.period is not None:
            # A standard deviation of one period is uniform already; four turns hold all of its mass.
            turns = cells * np.arange(-4, 5)[:, None, None]
            kernel = _cell_mass(offset + turns, min(sd, cells)).sum(axis=0)
        else:
            kernel = _cell_mass(offset, sd)
            kernel[:, 0] = ndtr((offset[:, 0] + 0.5) / sd)
            kernel[:, -1] = ndtr(-(offset[:, -1] - 0.5) / sd)
        return kernel / kernel.sum(axis=1, keepdims=True)


def _cell_mass(offset: np.ndarray, sd: float) -> np.ndarray:
    return ndtr((offset + 0.5) / sd) - ndtr((offset - 0.5) / sd)


@dataclass(frozen=True)
class ScalePredictive:
    """One residual shape, moved and stretched: `value = center + scale * residual`, plus a Gaussian spread.

    Attributes
    ----------
    center, scale : (time,)
        Point estimate, and the size of the error expected there.
    table : (2, points)
        Levels of probability (increasing, inside (0, 1)) and the quantiles of the residual at them; Gaussian tails
        are put on beyond.
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
        """Probability of lying below `value` (time,)."""
        residual = wrap(np.asarray(value, dtype=float) - self.center, self.period) / self.scale
        return ndtr(_interpolate(residual, self.table[1], ndtri(self.table[0])))

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Quantiles (time, levels) at `levels`, of shape (levels,) or (time, levels)."""
        with np.errstate(divide="ignore"):
            deviate = np.clip(ndtri(levels), -8, 8)
        residual = self.scale[:, None] * _interpolate(deviate, ndtri(self.table[0]), self.table[1])
        if self.period is not None:
            residual = np.clip(residual, -self.period / 2, self.period / 2)
        return self.center[:, None] + residual

    def mean(self) -> np.ndarray:
        """Mean of each bin's distribution (time,)."""
        edges = np.concatenate([[0.0], (self.table[0, 1:] + self.table[0, :-1]) / 2, [1.0]])
        return self.center + self.scale * (self.table[1] @ np.diff(edges))

    def shift(self, by: np.ndarray) -> ScalePredictive:
        """Move each bin's distribution by `by` (time,)."""
        return replace(self, center=self.center + by)

    def spread(self, sd: np.ndarray) -> ScalePredictive:
        """Widen each bin's distribution, in its shape, as independent noise of standard deviation `sd` would."""
        unit = np.interp(ndtr(1.0), *self.table) - np.interp(ndtr(-1.0), *self.table)
        return replace(self, scale=np.sqrt(self.scale**2 + (2 * sd / max(unit, 1e-12)) ** 2))


Predictive = GridPredictive | ScalePredictive


def _interpolate(x: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Piecewise linear through (xs, ys), going on beyond both ends with the slope of the tail."""
    tail = max(1, len(xs) // 20)
    low = (ys[tail] - ys[0]) / max(xs[tail] - xs[0], 1e-12)
    high = (ys[-1] - ys[-1 - tail]) / max(xs[-1] - xs[-1 - tail], 1e-12)
    y = np.interp(x, xs, ys)
    return y + low * np.minimum(x - xs[0], 0) + high * np.maximum(x - xs[-1], 0)


def quantile_crps(quantiles: np.ndarray, levels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of distributions given by their quantiles.

    Twice the integral of the pinball loss over the level, with the quantile function linear between `levels` and
    constant beyond (Gneiting & Raftery 2007, JASA 102:359, Eqs. 20 and 35 ff.).

    Parameters
    ----------
    quantiles : (time, levels)
        Not decreasing along the last axis.
    levels : (levels,)
        Increasing, inside [0, 1].
    truth : (time,)

    Returns
    -------
    (time,)
        In the unit of `truth`.
    """
    if quantiles.shape != (len(truth), len(levels)):
        raise InputError(
            f"quantiles {quantiles.shape} must have a row for each of {len(truth)} bins "
            f"and a column for each of {len(levels)} levels"
        )
    levels = np.concatenate([[0.0], levels, [1.0]])
    quantiles = np.concatenate([quantiles[:, :1], quantiles, quantiles[:, -1:]], axis=1)
    # The pinball loss at level p is (q - y) * (1[y < q] - p). Both factors are piecewise linear in p; the piece that
    # holds the truth is cut there.
    width = np.diff(levels)
    left, right = quantiles[:, :-1] - truth[:, None], quantiles[:, 1:] - truth[:, None]
    p, r = levels[:-1], levels[1:]
    weighted = width * (left * (2 * p + r) + right * (p + 2 * r)) / 6  # integral of (q - y) p
    rise = right - left
    inside = (left < 0) & (right > 0)
    above = np.where(left >= 0, (left + right) / 2, 0.0)
    above = np.where(inside, right**2 / (2 * np.where(inside, rise, 1.0)), above)
    return 2 * np.sum(width * above - weighted, axis=1)
