"""Adaptive conformal inference: nominal levels that follow the errors on behavior that becomes known after the fit.

Every nominal level has several trackers with different step sizes. Each raises its level after a miss and lowers it
after a hit, so that in the long run the misses have the nominal frequency whatever the errors do (Gibbs & Candès 2021,
NeurIPS, "Adaptive conformal inference under distribution shift"). The levels of the trackers are averaged with
exponential weights that follow their recent pinball loss (Gibbs & Candès 2024, JMLR 25:162, "DtACI"). One tracker has
the step size zero: while the errors are exchangeable with those of the calibration, little changes.

Two things differ from the papers. A level is tracked as the factor by which a half-normal quantile is scaled, because
errors that are twice as large need central levels such as 0.9999, which equal steps in the level would not find. And
all rates are divided by the number of bins per independent error, because neighboring bins err together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import erf, ndtri

from kalmanssl.decoding.calibration._conformal_map import NOMINAL_LEVELS
from kalmanssl.decoding.movement import compile_function

__all__ = ["AdaptiveLevels"]

_STEP_SIZES = np.array([0.0, 0.005, 0.01, 0.02, 0.04, 0.08])  # of the log factor, per independent error
_HORIZON = 100  # independent errors over which the average is to be as good as the best tracker
_MAX_LOG_FACTOR = math.log(8.0)
_MAX_QUANTILE = 8.0  # of a half-normal distribution; its level is one in double precision

_TRACKED = NOMINAL_LEVELS[1:-1]
_BASE = ndtri((1 + _TRACKED) / 2)


def _learning_rates() -> np.ndarray:
    """Return the learning rate of the weights for each nominal level, equation (8) of Gibbs & Candès 2024."""
    miss = 1 - _TRACKED
    squared_loss = (1 - miss) ** 2 * miss**3 + miss**2 * (1 - miss) ** 3
    return np.sqrt(3 / _HORIZON * (math.log(len(_STEP_SIZES) * _HORIZON) + 2) / squared_loss)


_LEARNING_RATES = _learning_rates()


@dataclass
class AdaptiveLevels:
    """The levels to which the nominal levels of one conformal map are changed.

    Attributes
    ----------
    log_factor : (levels, trackers)
        Logarithm of the factor of the half-normal quantile.
    weight : (levels, trackers)
        Weight of each tracker; the sum over trackers is one.
    n_bins : int
        Bins that were learned from.
    """

    log_factor: np.ndarray
    weight: np.ndarray
    n_bins: int = 0

    @classmethod
    def identity(cls) -> Self:
        """Return levels that have learned from no bin."""
        shape = (len(_TRACKED), len(_STEP_SIZES))
        return cls(np.zeros(shape), np.full(shape, 1 / len(_STEP_SIZES)))

    def update(self, scores: np.ndarray, bins_per_error: float) -> np.ndarray:
        """Learn from one bin after another.

        Parameters
        ----------
        scores : (time,)
            Smallest nominal level, before adaptation, whose interval or region contains the truth.
        bins_per_error : float
            Number of bins per independent error.

        Returns
        -------
        (time, levels)
            Level of each entry of `NOMINAL_LEVELS` in every bin, before its own score was used.
        """
        scores = np.clip(np.asarray(scores, dtype=float), 0.0, 1.0)
        used = np.empty((len(scores), len(_TRACKED)))
        compile_function(_track)(
            scores,
            np.minimum(ndtri((1 + scores) / 2), _MAX_QUANTILE),
            _TRACKED,
            _BASE,
            _STEP_SIZES / bins_per_error,
            _LEARNING_RATES / bins_per_error,
            0.5 / (_HORIZON * bins_per_error),
            self.log_factor,
            self.weight,
            used,
        )
        self.n_bins += len(scores)
        return _with_ends(used)

    @property
    def levels(self) -> np.ndarray:
        """Level that replaces each entry of `NOMINAL_LEVELS`, increasing, (levels,)."""
        factor = np.exp((self.weight * self.log_factor).sum(axis=1))
        return _with_ends(erf(np.minimum(_BASE * factor, _MAX_QUANTILE) / math.sqrt(2))[None])[0]

    def adapt(self, calibrated_levels: np.ndarray) -> np.ndarray:
        """Return conformal maps (..., levels) whose nominal levels are replaced by `levels`."""
        maps = np.asarray(calibrated_levels, dtype=float)
        if self.n_bins == 0:
            return maps
        rows = [np.interp(self.levels, NOMINAL_LEVELS, row) for row in maps.reshape(-1, maps.shape[-1])]
        return np.reshape(rows, maps.shape)

    def to_state(self) -> dict[str, Any]:
        """Return everything from which `from_state` makes the levels again."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make levels from what `to_state` returned."""
        log_factor, weight = (np.array(state[name], dtype=float) for name in ("log_factor", "weight"))
        return cls(log_factor, weight, int(state["n_bins"]))


def _with_ends(levels: np.ndarray) -> np.ndarray:
    """Return levels (time, tracked levels) in increasing order, so that intervals are nested, with 0 and 1 added.

    Sorting does not increase the pinball loss (Chernozhukov, Fernández-Val & Galichon 2010, Econometrica 78:1093).
    """
    return np.pad(np.sort(levels, axis=1), ((0, 0), (1, 1)), constant_values=(0.0, 1.0))


def _track(score, quantile, nominal, base, steps, rates, share, log_factor, weight, used):  # type: ignore[no-untyped-def]
    """Update `log_factor` and `weight` with one bin after another; write the levels before each bin to `used`."""
    for time in range(len(score)):
        for level in range(len(nominal)):
            target = nominal[level]
            mean = 0.0
            for k in range(len(steps)):
                mean += weight[level, k] * log_factor[level, k]
            used[time, level] = math.erf(min(base[level] * math.exp(mean), _MAX_QUANTILE) / math.sqrt(2.0))
            total = 0.0
            for k in range(len(steps)):
                own = min(base[level] * math.exp(log_factor[level, k]), _MAX_QUANTILE)
                above = score[time] - math.erf(own / math.sqrt(2.0))
                loss = target * above if above > 0 else (target - 1) * above
                weight[level, k] *= math.exp(-rates[level] * loss)
                total += weight[level, k]
                miss = 1.0 if quantile[time] > own else 0.0
                moved = log_factor[level, k] + steps[k] * (miss - (1 - target))
                highest = min(_MAX_LOG_FACTOR, math.log(_MAX_QUANTILE / base[level]))
                log_factor[level, k] = min(max(moved, -_MAX_LOG_FACTOR), highest)
            for k in range(len(steps)):
                weight[level, k] = (1 - share) * weight[level, k] / total + share / len(steps)
