"""Calibration of predictive distributions on blocks of time that the readout was not fitted on.

A neural code drifts: the errors of a readout grow with the time since it was fitted, and intervals that are calibrated
on shuffled or adjacent bins are too narrow later. The errors are therefore taken from held-out blocks of time, each
with its lag. From them the calibration learns two things: Gaussian noise that grows with the lag, and a conformal map
of the central levels, one for narrow and one for wide predictions (Vovk, Gammerman & Shafer 2005; in the form of
Chernozhukov, Wüthrich & Zhu 2021, PNAS 118:e2107794118, "distributional conformal prediction").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kalmanssl.decoding.calibration._conformal_map import (
    NOMINAL_LEVELS,
    conformal_map,
    correlation_length,
    nominal_level,
)
from kalmanssl.decoding.calibration._errors import HeldOutErrors
from kalmanssl.decoding.calibration._noise import fit_noise, with_noise
from kalmanssl.decoding.calibration._settings import CalibrationSettings
from kalmanssl.decoding.grids import Predictive

__all__ = ["Calibration"]


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
        floor, rate = fit_noise(errors, longest, settings)
        noisy = [with_noise(fold, floor, rate) for fold in errors]
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


def _width(predictive: Predictive) -> np.ndarray:
    """Return the width of the central 80 % interval of each bin, (time,)."""
    low, high = predictive.quantiles(np.array([0.1, 0.9])).T
    return high - low
