"""Calibration of the mass of highest-density regions and of prediction sets of labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kalmanssl.decoding.calibration._conformal_map import (
    NOMINAL_LEVELS,
    conformal_map,
    correlation_length,
    nominal_level,
)

__all__ = ["RegionCalibration"]


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
