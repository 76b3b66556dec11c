"""What a decoder learns from behavior that becomes known after the fit: its calibrated levels follow the errors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kalmanssl.decoding._continuation import Continuation
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding.calibration import AdaptiveLevels, Calibration, RegionCalibration
from kalmanssl.decoding.grids import group_dimensions, likelier_mass_at
from kalmanssl.decoding.inputs import DecoderInput

__all__ = ["Adaptation"]


@dataclass
class Adaptation:
    """What a decoder of latents of one kind has learned from behavior that became known after the fit.

    Attributes
    ----------
    intervals : list of AdaptiveLevels
        One for each dimension; empty for labels.
    regions : list of AdaptiveLevels
        One for each group of dimensions, or one for prediction sets of labels.
    end : Continuation or None
        Where the last update ended.
    """

    intervals: list[AdaptiveLevels]
    regions: list[AdaptiveLevels]
    end: Continuation | None = field(default=None, repr=False)

    @classmethod
    def of(cls, decoder: LatentDecoder) -> Self:
        """Return the adaptation of a decoder that has learned nothing after the fit."""
        return cls(
            [AdaptiveLevels.identity() for _ in decoder.calibrations],
            [AdaptiveLevels.identity() for _ in decoder.regions],
        )

    def calibrations(self, fitted: list[Calibration]) -> list[Calibration]:
        """Return the calibrations of all dimensions with adapted levels."""
        return [
            replace(one, calibrated_levels=levels.adapt(one.calibrated_levels))
            for one, levels in zip(fitted, self.intervals, strict=True)
        ]

    def region_calibrations(self, fitted: list[RegionCalibration]) -> list[RegionCalibration]:
        """Return the calibrations of all regions, or of the prediction sets, with adapted levels."""
        return [
            replace(one, calibrated_levels=levels.adapt(one.calibrated_levels))
            for one, levels in zip(fitted, self.regions, strict=True)
        ]

    def learn(self, decoder: LatentDecoder, given: DecoderInput, behavior: np.ndarray) -> dict[str, list[np.ndarray]]:
        """Learn from the bins of a piece with known behavior (time, dims), one after another.

        Returns
        -------
        dict of list
            "intervals" and "regions": the level of each entry of `NOMINAL_LEVELS` that each of these bins was decoded
            with, before its own behavior was used, (bins, levels).
        """
        known = np.isfinite(behavior).all(axis=1) & ~given.missing
        before = self.end
        if before is not None and (
            given.time is None or not before.reaches(given.bin_time[0], decoder.context.bin_size)
        ):
            before = None
        used: dict[str, list[np.ndarray]] = {"intervals": [], "regions": []}
        posteriors, self.end = decoder.decode_piece(given, before)
        truth = behavior[known]
        marginals = decoder.marginals(posteriors)
        for dim, (one, predictive) in enumerate(zip(decoder.calibrations, marginals, strict=True)):
            score = one.score(predictive[known], given.time_since_fit[known], truth[:, dim])
            used["intervals"].append(self.intervals[dim].update(score, one.bins_per_error))
        groups = zip(decoder.grids, group_dimensions(truth.shape[1]), decoder.regions, posteriors, strict=True)
        for number, (grid, dims, region, mass) in enumerate(groups):
            cell = grid.cell(truth[:, dims])
            level = likelier_mass_at(mass[known].reshape(len(cell), grid.size), cell)
            used["regions"].append(self.regions[number].update(region.score(level), region.bins_per_error))
        if given.time is None:
            self.end = None
        return used

    def to_state(self) -> dict[str, Any]:
        """Return everything from which `from_state` makes the adaptation again."""
        return {
            "intervals": [levels.to_state() for levels in self.intervals],
            "regions": [levels.to_state() for levels in self.regions],
            "end": None if self.end is None else self.end.to_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make an adaptation from what `to_state` returned."""
        intervals, regions = (
            [AdaptiveLevels.from_state(one) for one in state[name]] for name in ("intervals", "regions")
        )
        end = state.get("end")  # absent from decoders that were saved before it was stored
        return cls(intervals, regions, None if end is None else Continuation.from_state(end))
