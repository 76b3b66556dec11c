"""Point estimate and calibrated interval of one dimension of the behavior for one bin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kalmanssl.decoding.calibration import NOMINAL_LEVELS, Calibration
from kalmanssl.decoding.grids import MIN_SD, SD_STEP, Axis, GridPredictive, turns_towards
from kalmanssl.decoding.results import QUANTILE_LEVELS, quantile_weights
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["OnlineInterval"]

_NO_NOISE = np.empty((0, 0), dtype=np.float32)


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
        self._axis, self._calibration = axis, calibration
        ends = [quantile_weights(QUANTILE_LEVELS, q) for q in ((1 - level) / 2, (1 + level) / 2)]
        self._levels = np.concatenate([QUANTILE_LEVELS[right - 1 : right + 1] for right, _ in ends])
        self._weights = (float(ends[0][1]), float(ends[1][1]))
        central = [np.interp(abs(2 * self._levels - 1), NOMINAL_LEVELS, map_) for map_ in calibration.calibrated_levels]
        calibrated = (1 + np.sign(self._levels - 0.5) * np.stack(central)) / 2
        angle = 2 * np.pi * (np.arange(axis.n_cells) + 0.5) / axis.n_cells
        start, period = (axis.start, 0.0) if axis.period is None else (0.0, float(axis.period))
        self._numbers = (float(start), float(axis.width), period, float(calibration.border))
        self._arrays = (calibrated, np.sin(angle), np.cos(angle), np.empty(axis.n_cells), np.empty(axis.n_cells))
        self._noises: dict[int, np.ndarray] = {}
        self._kernel: Any = None
        if has_compiler():
            from kalmanssl.decoding.online._interval_kernel import interval_kernel

            self._kernel = interval_kernel
            self(np.full(axis.n_cells, 1 / axis.n_cells, dtype=np.float32), math.nan)  # compiles now

    def __call__(self, mass: np.ndarray, lag: float) -> tuple[float, float, float]:
        """Return the estimate and both ends of the interval.

        Parameters
        ----------
        mass : (cells,)
            Posterior of this dimension.
        lag : float
            Seconds since the end of the fit; NaN if it is unknown.
        """
        if self._kernel is None:
            mean, lower, upper = self._without_compiler(mass, lag)
        else:
            mean, lower, upper = self._kernel(
                mass.astype(np.float32, copy=False), self._noise(lag), self._numbers, self._weights, self._arrays
            )
        if self._axis.period is None or math.isnan(mean):
            return mean, lower, upper
        turns = float(turns_towards(mean, lower, upper, self._axis.period))
        return mean, lower + turns, upper + turns

    def _without_compiler(self, mass: np.ndarray, lag: float) -> tuple[float, float, float]:
        predictive = self._axis.predictive(mass[None])
        found = self._calibration.apply(predictive, np.array([lag]), self._levels).astype(np.float32)[0].tolist()
        first, second = self._weights
        lower = (1 - first) * found[0] + first * found[1]
        upper = (1 - second) * found[2] + second * found[3]
        mean = float(predictive.mean()[0])
        return mean if self._axis.period is None else mean % self._axis.period, lower, upper

    def _noise(self, lag: float) -> np.ndarray:
        """Return the matrix (cells, cells) that adds the noise of the calibration; empty if that is left out.

        Matrices are those of `GridPredictive.add_gaussian_noise`.
        """
        calibration, width, cells = self._calibration, self._axis.width, self._axis.n_cells
        if calibration.floor == 0 and calibration.rate == 0:
            return _NO_NOISE
        known_lag = calibration.lag if math.isnan(lag) else min(max(lag, 0.0), calibration.longest_lag)
        sd = math.hypot(calibration.floor, calibration.rate * known_lag)
        if sd <= MIN_SD * width:
            return _NO_NOISE
        step = round(math.log(sd / width) / math.log(SD_STEP))
        if step not in self._noises:  # there are few, since the noise does not grow beyond the longest lag
            each = GridPredictive(np.eye(cells), np.zeros(cells), width, self._axis.period)
            kernel = each.add_gaussian_noise(np.full(cells, width * SD_STEP**step)).mass
            self._noises[step] = np.ascontiguousarray(kernel, dtype=np.float32)
        return self._noises[step]
