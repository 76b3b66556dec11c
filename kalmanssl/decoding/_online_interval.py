"""Point estimate and calibrated interval of one dimension of the behavior for one bin."""

from __future__ import annotations

import numpy as np

from kalmanssl.decoding._calibration import Calibration
from kalmanssl.decoding._grid import Axis
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
        self._axis, self._calibration = axis, calibration
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
        predictive = self._axis.predictive(mass[None])
        (found,) = self._calibration.apply(predictive, np.array([lag]), self._levels).astype(np.float32)
        first, second = self._weights
        lower = (1 - first) * found[0] + first * found[1]
        upper = (1 - second) * found[2] + second * found[3]
        mean = float(predictive.mean()[0])
        return mean if self._axis.period is None else mean % self._axis.period, float(lower), float(upper)
