"""Point estimate and calibrated interval of one dimension of the behavior for one bin."""

from __future__ import annotations

import math

import numpy as np

from kalmanssl.decoding._calibration import Calibration
from kalmanssl.decoding._grid import Axis
from kalmanssl.decoding._predictive import SD_STEP, GridPredictive
from kalmanssl.decoding._results import QUANTILE_LEVELS, quantile_weights

__all__ = ["OnlineInterval"]


class OnlineInterval:
    """Point estimate and calibrated interval from the posterior of one bin, as in `DecodedPosition`.

    Parameters
    ----------
    axis : Axis
        Cells of the posterior.
    calibration : Calibration
    level : float
        Nominal level of the interval.
    """

    def __init__(self, axis: Axis, calibration: Calibration, level: float) -> None:
        self._cells, self._calibration = _Cells(axis), calibration
        ends = [quantile_weights(QUANTILE_LEVELS, q) for q in ((1 - level) / 2, (1 + level) / 2)]
        self._levels = np.concatenate([QUANTILE_LEVELS[right - 1 : right + 1] for right, _ in ends])
        self._weights = [weight for _, weight in ends]

    def __call__(self, mass: np.ndarray, lag: float) -> tuple[float, float, float]:
        """Return the estimate and both ends of the interval.

        Parameters
        ----------
        mass : (cells,)
            Posterior of this dimension.
        lag : float
            Seconds since the end of the fit; NaN if it is unknown.
        """
        predictive = self._cells.predictive(mass)
        # The calibration only uses methods of the predictive that `_OneBinPredictive` has.
        found = self._calibration.apply(predictive, np.array([lag]), self._levels).astype(np.float32)[0].tolist()  # type: ignore[arg-type]
        first, second = self._weights
        lower = (1 - first) * found[0] + first * found[1]
        upper = (1 - second) * found[2] + second * found[3]
        mean = predictive.mean()
        return mean if self._cells.axis.period is None else mean % self._cells.axis.period, lower, upper


class _Cells:
    """An axis with what its predictives share: angles of circular cells, and kernels of noise."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        angle = 2 * np.pi * (np.arange(axis.n_cells) + 0.5) / axis.n_cells
        self._sin, self._cos = np.sin(angle), np.cos(angle)
        self.places = np.arange(axis.n_cells) + 0.5
        self._kernels: dict[int, np.ndarray] = {}

    def predictive(self, mass: np.ndarray) -> _OneBinPredictive:
        """Return a histogram (cells,) as a predictive."""
        if self.axis.period is None:
            return _OneBinPredictive(self, mass, self.axis.start)
        width = self.axis.width
        mean = float(np.arctan2(mass @ self._sin, mass @ self._cos)) * self.axis.period / (2 * np.pi)
        shift = round(mean / width) - self.axis.n_cells // 2
        return _OneBinPredictive(self, np.concatenate([mass, mass])[shift % len(mass) :][: len(mass)], shift * width)

    def with_noise(self, mass: np.ndarray, sd: float) -> np.ndarray:
        """Return a histogram (cells,) with Gaussian noise, as `GridPredictive.add_gaussian_noise`."""
        width, cells = self.axis.width, self.axis.n_cells
        if sd <= 0.05 * width:
            return mass
        step = round(math.log(sd / width) / math.log(SD_STEP))
        if step not in self._kernels:  # there are few, since the noise does not grow beyond the longest lag
            each = GridPredictive(np.eye(cells), np.zeros(cells), width, self.axis.period)
            kernel = each.add_gaussian_noise(np.full(cells, width * SD_STEP**step)).mass
            self._kernels[step] = kernel.astype(mass.dtype)
        return np.asarray(mass @ self._kernels[step])


class _OneBinPredictive:
    """`GridPredictive` for one bin, with the methods that the calibration uses.

    Attributes
    ----------
    period : float or None
    """

    def __init__(self, cells: _Cells, mass: np.ndarray, start: float) -> None:
        self._cells, self._mass, self._start = cells, mass, start
        self.period = cells.axis.period
        self._cumulative: np.ndarray | None = None

    def __len__(self) -> int:
        return 1

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Return the quantiles (1, levels) at levels of shape (levels,) or (1, levels)."""
        levels = levels.reshape(-1)
        if self._cumulative is None:
            self._cumulative = np.add.accumulate(self._mass, dtype=float)
            self._cumulative /= self._cumulative[-1]
        cell = np.minimum(self._cumulative.searchsorted(levels), len(self._mass) - 1)
        inside = self._mass[cell]
        left = (self._cumulative[cell] - levels) / np.maximum(inside, 1e-300)
        left[inside <= 0] = 0.0
        return (self._start + self._cells.axis.width * (cell + 1 - np.minimum(np.maximum(left, 0.0), 1.0)))[None]

    def add_gaussian_noise(self, sd: np.ndarray) -> _OneBinPredictive:
        """Convolve with a Gaussian of standard deviation `sd` (1,)."""
        mass = self._cells.with_noise(self._mass, float(sd[0]))
        return self if mass is self._mass else _OneBinPredictive(self._cells, mass, self._start)

    def mean(self) -> float:
        """Return the mean."""
        return self._start + self._cells.axis.width * float(self._mass @ self._cells.places)
