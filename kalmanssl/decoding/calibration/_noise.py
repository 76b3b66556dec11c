"""Gaussian noise that grows with the lag since the fit, added to predictions whose errors are larger than they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from kalmanssl.decoding.calibration._errors import HeldOutErrors
from kalmanssl.decoding.calibration._settings import CalibrationSettings
from kalmanssl.decoding.grids import Predictive, quantile_crps, wrap
from kalmanssl.decoding.held_out import is_lower
from kalmanssl.utils.moments import MAD_TO_SD

__all__ = ["fit_noise", "with_noise"]

_CRPS_LEVELS = np.linspace(0.02, 0.98, 25)  # at which the CRPS is evaluated


def fit_noise(errors: Sequence[HeldOutErrors], longest: float, settings: CalibrationSettings) -> tuple[float, float]:
    """Return the floor and rate of the added noise that minimize the mean CRPS, by a grid search in two stages.

    Noise that grows with the lag is used only if it is better than the best constant noise in every fold, and constant
    noise only if it is better than none. Otherwise errors of a single event late in a fold would widen the intervals at
    all later times.
    """
    few = [fold.thin(max(1, settings.max_bins // len(errors))) for fold in errors]
    scale = max(_typical_sd(few), _typical_error(few))
    crps = cache(partial(_crps_by_block, few))  # many candidates are equal, above all without noise

    def lowest(rises: Sequence[float], refined_rises: Sequence[float]) -> tuple[tuple[float, float], np.ndarray]:
        """Return the best floor and rate, and their CRPS (folds, blocks)."""
        coarse = [(scale * base, scale * rise / longest) for rise in rises for base in settings.noise_grid]
        (floor, rate), _ = _lowest(coarse, crps)
        fine = [(floor * base, rate * rise) for rise in refined_rises for base in settings.refinement_grid]
        return _lowest([(floor, rate), *fine], crps)

    constant, constant_crps = lowest((0.0,), (1.0,))
    growing, growing_crps = lowest(settings.noise_grid, settings.refinement_grid)
    improves_all = bool((growing_crps.sum(axis=1) < constant_crps.sum(axis=1)).all())
    if improves_all and is_lower(growing_crps.sum(axis=0), constant_crps.sum(axis=0), settings.min_standard_errors):
        return growing
    crps_without = crps(0.0, 0.0).sum(axis=0)
    return constant if is_lower(constant_crps.sum(axis=0), crps_without, settings.min_standard_errors) else (0.0, 0.0)


def _typical_sd(errors: Sequence[HeldOutErrors]) -> float:
    """Return the median standard deviation of the predictions, from their interquartile ranges."""
    return float(np.median(np.concatenate([_interquartile_range(fold.predictive) for fold in errors]))) / 1.35


def _typical_error(errors: Sequence[HeldOutErrors]) -> float:
    """Return a robust standard deviation of the errors of the medians of the predictions."""
    parts = [
        wrap(fold.truth - fold.predictive.quantiles(np.array([0.5]))[:, 0], fold.predictive.period) for fold in errors
    ]
    return MAD_TO_SD * float(np.median(np.abs(np.concatenate(parts))))


def _lowest(
    candidates: Sequence[tuple[float, float]], crps: Callable[[float, float], np.ndarray]
) -> tuple[tuple[float, float], np.ndarray]:
    """Return the floor and rate with the lowest CRPS, and its parts (folds, blocks), which `crps` returns."""
    scores = [crps(*candidate) for candidate in candidates]
    best = int(np.argmin([float(values.sum()) for values in scores]))
    return candidates[best], scores[best]


def with_noise(fold: HeldOutErrors, floor: float, rate: float) -> Predictive:
    """Return the predictive of a fold with noise that grows with the lag."""
    return fold.predictive.add_gaussian_noise(np.hypot(floor, rate * fold.lag))


def _crps_by_block(errors: Sequence[HeldOutErrors], floor: float, rate: float) -> np.ndarray:
    """Return the total CRPS in each fold and block of time with added noise, (folds, blocks)."""
    total = np.zeros((len(errors), 1 + max(int(fold.block.max()) for fold in errors)))
    for row, fold in zip(total, errors, strict=True):
        quantiles = with_noise(fold, floor, rate).quantiles(_CRPS_LEVELS)
        middle = quantiles[:, len(_CRPS_LEVELS) // 2]
        truth = middle + wrap(fold.truth - middle, fold.predictive.period)
        row += np.bincount(fold.block, quantile_crps(quantiles, _CRPS_LEVELS, truth), minlength=len(row))
    return total


def _interquartile_range(predictive: Predictive) -> np.ndarray:
    low, high = predictive.quantiles(np.array([0.25, 0.75])).T
    return high - low
