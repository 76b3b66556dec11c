"""Calibration of predictive distributions on blocks of time that the readout was not fitted on.

A neural code drifts: the errors of a readout grow with the time since it was fitted, and intervals that are calibrated
on shuffled or adjacent bins are too narrow later. The errors are therefore taken from held-out blocks of time, each
with its lag. From them the calibration learns two things: Gaussian noise that grows with the lag, and a conformal map
of the central levels, one for narrow and one for wide predictions (Vovk, Gammerman & Shafer 2005; in the form of
Chernozhukov, Wüthrich & Zhu 2021, PNAS 118:e2107794118, "distributional conformal prediction").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from kalmanssl.decoding.calibration._conformal_map import (
    NOMINAL_LEVELS,
    conformal_map,
    correlation_length,
    nominal_level,
)
from kalmanssl.decoding.grids import Predictive, quantile_crps, wrap
from kalmanssl.decoding.held_out import is_lower
from kalmanssl.utils.validation import (
    as_numbers,
    check_condition,
    check_integer,
    check_not_negative,
    check_number,
    check_positive,
)

__all__ = ["NOMINAL_LEVELS", "Calibration", "CalibrationSettings", "HeldOutErrors", "RegionCalibration"]

_CRPS_LEVELS = np.linspace(0.02, 0.98, 25)  # at which the CRPS is evaluated


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of the calibration.

    Attributes
    ----------
    min_blocks : int
        Blocks that the time is cut into at least (`kalmanssl.decoding.blocks_of_time`).
    n_folds : int
        Folds, each fitted on the bins before a border and scored on those after it. Not used with held-out fits.
    first_fold_fraction : float
        Fraction of the bins that the first fold is fitted on, inside (0, 1).
    noise_grid : tuple of float
        Candidates for the standard deviation of the added noise, at lag 0 and at the longest lag, in units of the
        typical standard deviation of the predictions or of their errors, whichever is larger.
    refinement_grid : tuple of float
        Factors by which both are varied around the best candidates.
    min_standard_errors : float
        Improvement of the CRPS that the noise must bring, in standard errors of the difference over blocks of time.
    max_bins : int
        Bins, evenly spaced, on which the candidates are compared.
    min_blocks_per_map : int
        Narrow and wide predictions have separate maps if each has errors in this many blocks of time.
    """

    min_blocks: int = 50
    n_folds: int = 4
    first_fold_fraction: float = 0.4
    noise_grid: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    refinement_grid: tuple[float, ...] = (0.7, 0.85, 1.0, 1.2, 1.4)
    min_standard_errors: float = 1.0
    max_bins: int = 4000
    min_blocks_per_map: int = 8

    def __post_init__(self) -> None:
        check_integer("min_blocks", self.min_blocks, 2)
        check_integer("n_folds", self.n_folds, 1)
        check_integer("min_blocks_per_map", self.min_blocks_per_map, 1)
        check_integer("max_bins", self.max_bins, 1)
        check_number("first_fold_fraction", self.first_fold_fraction)
        fraction = self.first_fold_fraction
        check_condition("first_fold_fraction", fraction, 0 < fraction < 1, "inside (0, 1)")
        check_not_negative("min_standard_errors", self.min_standard_errors)
        for name in ("noise_grid", "refinement_grid"):
            grid = as_numbers(name, getattr(self, name))
            object.__setattr__(self, name, grid)  # a saved state has a list
            check_condition(name, grid, all(0 <= value < math.inf for value in grid), "finite and not negative")
        for value in self.refinement_grid:
            check_positive("refinement_grid", value)


@dataclass
class HeldOutErrors:
    """Predictions of one dimension on blocks of time that the readout was not fitted on, with the truth.

    Attributes
    ----------
    predictive : Predictive
        For every scored bin.
    truth, lag : (bins,)
        The behavior; and the distance in time from the part that the readout was fitted on, seconds.
    block : (bins,) int
        Block of time of each bin; a block that several folds scored keeps its number.
    weight : (bins,), optional
        Weight of each bin in the border between narrow and wide predictions; equal by default.
    session : (bins,) int, optional
        Session of each bin, if whole sessions were left out of the fits.
    fold_weight : float
        Weight of these errors beside those of other folds in the conformal maps.
    """

    predictive: Predictive
    truth: np.ndarray
    lag: np.ndarray
    block: np.ndarray
    weight: np.ndarray | None = None
    session: np.ndarray | None = None
    fold_weight: float = 1.0

    def thin(self, max_bins: int) -> HeldOutErrors:
        """Return at most `max_bins` of the bins, evenly spaced."""
        if len(self.truth) <= max_bins:
            return self
        picked = np.linspace(0, len(self.truth) - 1, max_bins).astype(int)
        return HeldOutErrors(self.predictive[picked], self.truth[picked], self.lag[picked], self.block[picked])


@dataclass(frozen=True)
class Calibration:
    """The change to the predictive of one dimension that makes its intervals cover at their nominal level.

    Attributes
    ----------
    floor, rate : float
        Standard deviation of the added noise, `sqrt(floor**2 + (rate * lag)**2)`; unit of the behavior, and per second.
    lag, longest_lag : float
        Lag that is assumed where the time of a bin is not known, and longest lag of the held-out errors, seconds. The
        noise does not grow beyond the longest lag, since errors at longer lags were not measured.
    border : float
        Width of the central 80 % interval that separates narrow from wide predictions, which have maps of their own;
        infinite if there are too few errors for two maps.
    calibrated_levels : (2, levels)
        For narrow and for wide predictions: central level of the predictive with added noise that covers each nominal
        level of the map.
    effective : float
        Number of independent errors that the maps are estimated from.
    bins_per_error : float
        Number of consecutive bins per independent error, from the correlation of the errors within blocks of time.
    """

    floor: float
    rate: float
    lag: float
    longest_lag: float
    border: float
    calibrated_levels: np.ndarray
    effective: float
    bins_per_error: float = 1.0

    @classmethod
    def identity(cls) -> Calibration:
        """Return the calibration that changes nothing."""
        return cls(
            floor=0.0,
            rate=0.0,
            lag=0.0,
            longest_lag=0.0,
            border=np.inf,
            calibrated_levels=np.stack([NOMINAL_LEVELS, NOMINAL_LEVELS]),
            effective=np.inf,
        )

    @classmethod
    def fit(cls, errors: Sequence[HeldOutErrors], settings: CalibrationSettings | None = None) -> Calibration:
        """Fit to errors on held-out blocks of time of all folds together.

        Parameters
        ----------
        errors : sequence of HeldOutErrors
            One per fold.
        settings : CalibrationSettings, optional
        """
        settings = settings or CalibrationSettings()
        lag = np.concatenate([fold.lag for fold in errors])
        longest = max(float(lag.max()), 1e-9)
        floor, rate = _fit_noise(errors, longest, settings)
        noisy = [_with_noise(fold, floor, rate) for fold in errors]
        central = np.concatenate(
            [np.abs(2 * part.cdf(fold.truth) - 1) for part, fold in zip(noisy, errors, strict=True)]
        )
        block = np.concatenate([fold.block for fold in errors])
        sessions = [fold.session for fold in errors if fold.session is not None]
        session = np.concatenate(sessions) if len(sessions) == len(errors) else np.zeros(len(block), dtype=int)
        fold_weight = np.concatenate([np.full(len(fold.truth), fold.fold_weight) for fold in errors])
        levels, effective = conformal_map(central, block, session, fold_weight)
        bins_per_error = correlation_length(central, block)
        width = np.concatenate([_width(part) for part in noisy])
        weight = np.concatenate([np.ones(len(f.truth)) if f.weight is None else f.weight for f in errors])
        order = np.argsort(width)
        border = float(width[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)])
        groups = [width <= border, width > border]
        if min(len(np.unique(block[group])) for group in groups) < settings.min_blocks_per_map:
            border, maps = np.inf, [levels, levels]
        else:
            parts = [[values[group] for values in (central, block, session, fold_weight)] for group in groups]
            maps = [conformal_map(*part)[0] for part in parts]
        return cls(
            floor=floor,
            rate=rate,
            lag=float(lag.mean()),
            longest_lag=longest,
            border=border,
            calibrated_levels=np.stack(maps),
            effective=effective,
            bins_per_error=bins_per_error,
        )

    def apply(self, predictive: Predictive, lag: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Return calibrated quantiles (time, levels).

        Parameters
        ----------
        predictive : Predictive
            From the readout.
        lag : (time,)
            Time since the end of the part that the readout was fitted on, seconds; NaN where it is unknown. Negative
            lags count as zero.
        levels : (levels,)
            Inside (0, 1).
        """
        noisy, wide = self._noisy(predictive, lag)
        central = np.stack([np.interp(np.abs(2 * levels - 1), NOMINAL_LEVELS, map_) for map_ in self.calibrated_levels])
        return noisy.quantiles((1 + np.sign(levels - 0.5) * central[wide]) / 2)

    def score(self, predictive: Predictive, lag: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the smallest nominal level whose calibrated interval contains the truth (time,), (time,)."""
        noisy, wide = self._noisy(predictive, lag)
        central = np.abs(2 * noisy.cdf(truth) - 1)
        return np.where(wide == 1, *(nominal_level(central, map_) for map_ in self.calibrated_levels[::-1]))

    def _noisy(self, predictive: Predictive, lag: np.ndarray) -> tuple[Predictive, np.ndarray]:
        """Return the predictive with noise, and 1 for wide and 0 for narrow predictions, (time,)."""
        known_lag = np.where(np.isnan(lag), self.lag, np.clip(lag, 0, self.longest_lag))
        noisy = predictive.add_gaussian_noise(np.hypot(self.floor, self.rate * known_lag))
        return noisy, (_width(noisy) > self.border).astype(int)

    def to_state(self) -> dict[str, Any]:
        """Return the arguments that make this calibration again."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Calibration:
        """Make a calibration from what `to_state` returned."""
        return cls(**state | {"calibrated_levels": np.minimum(state["calibrated_levels"], 1.0)})


@dataclass(frozen=True)
class RegionCalibration:
    """The mass that a highest-density region must have in order to cover at its nominal level.

    Source: Izbicki, Shimizu & Stern 2022, JMLR 23:87 ("HPD-split").

    Attributes
    ----------
    calibrated_levels : (levels,)
        Mass for each nominal level of the map.
    bins_per_error : float
        Number of consecutive bins per independent error.
    """

    calibrated_levels: np.ndarray
    bins_per_error: float = 1.0

    @classmethod
    def identity(cls) -> RegionCalibration:
        """Return the calibration that changes nothing."""
        return cls(NOMINAL_LEVELS.copy())

    @classmethod
    def fit(
        cls,
        level: np.ndarray,
        block: np.ndarray,
        session: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> RegionCalibration:
        """Fit to held-out bins.

        Parameters
        ----------
        level : (bins,)
            Mass of all cells that are likelier than that of the truth (`kalmanssl.decoding.grids.likelier_mass_at`).
        block : (bins,) int
            Block of time of each bin.
        session : (bins,) int, optional
            Session of each bin, if whole sessions were left out of the fits.
        weight : (bins,), optional
            Weight of each bin, such as that of its fold; equal by default.
        """
        return cls(conformal_map(level, block, session, weight)[0], correlation_length(level, block))

    def mass(self, level: float) -> float:
        """Return the mass of the region with a nominal level."""
        return float(np.interp(level, NOMINAL_LEVELS, self.calibrated_levels))

    def score(self, level: np.ndarray) -> np.ndarray:
        """Return the smallest nominal level whose region contains the truth, from `level` as in `fit`."""
        return nominal_level(level, self.calibrated_levels)

    def to_state(self) -> dict[str, Any]:
        """Return the arguments that make this calibration again."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any] | np.ndarray) -> RegionCalibration:
        """Make a calibration from what `to_state` returned; earlier versions returned the levels alone."""
        return cls(**state) if isinstance(state, dict) else cls(np.asarray(state, dtype=float))


def _fit_noise(errors: Sequence[HeldOutErrors], longest: float, settings: CalibrationSettings) -> tuple[float, float]:
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
    return 1.4826 * float(np.median(np.abs(np.concatenate(parts))))


def _lowest(
    candidates: Sequence[tuple[float, float]], crps: Callable[[float, float], np.ndarray]
) -> tuple[tuple[float, float], np.ndarray]:
    """Return the floor and rate with the lowest CRPS, and its parts (folds, blocks), which `crps` returns."""
    scores = [crps(*candidate) for candidate in candidates]
    best = int(np.argmin([float(values.sum()) for values in scores]))
    return candidates[best], scores[best]


def _with_noise(fold: HeldOutErrors, floor: float, rate: float) -> Predictive:
    """Return the predictive of a fold with noise that grows with the lag."""
    return fold.predictive.add_gaussian_noise(np.hypot(floor, rate * fold.lag))


def _crps_by_block(errors: Sequence[HeldOutErrors], floor: float, rate: float) -> np.ndarray:
    """Return the total CRPS in each fold and block of time with added noise, (folds, blocks)."""
    total = np.zeros((len(errors), 1 + max(int(fold.block.max()) for fold in errors)))
    for row, fold in zip(total, errors, strict=True):
        quantiles = _with_noise(fold, floor, rate).quantiles(_CRPS_LEVELS)
        middle = quantiles[:, len(_CRPS_LEVELS) // 2]
        truth = middle + wrap(fold.truth - middle, fold.predictive.period)
        row += np.bincount(fold.block, quantile_crps(quantiles, _CRPS_LEVELS, truth), minlength=len(row))
    return total


def _width(predictive: Predictive) -> np.ndarray:
    """Return the width of the central 80 % interval of each bin, (time,)."""
    low, high = predictive.quantiles(np.array([0.1, 0.9])).T
    return high - low


def _interquartile_range(predictive: Predictive) -> np.ndarray:
    low, high = predictive.quantiles(np.array([0.25, 0.75])).T
    return high - low
