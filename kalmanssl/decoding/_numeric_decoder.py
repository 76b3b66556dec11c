"""Decoder of numbers, such as a position, from latents of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.decoding._held_out_calibration import calibrate
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding._neighbor_choice import choose_neighbors
from kalmanssl.decoding.calibration import (
    Calibration,
    CalibrationSettings,
    RegionCalibration,
    Trust,
    agreement_of,
)
from kalmanssl.decoding.grids import Grid, group_dimensions, wrap_to_period
from kalmanssl.decoding.held_out import (
    Drift,
    DriftSettings,
    Fold,
    Samples,
    improves_held_out,
    measure_movement,
    thin_bins,
)
from kalmanssl.decoding.inputs import DecoderInput
from kalmanssl.decoding.movement import MovementMixture, ReadoutMass
from kalmanssl.decoding.online import OnlineNumbers
from kalmanssl.decoding.readouts import EnsembleReadout, FittedBins, NeighborVariant, Readout, network_settings
from kalmanssl.decoding.results import QUANTILE_LEVELS, DecodedPosition, GridPosterior, around_points
from kalmanssl.utils.progress import progress_part, report_progress
from kalmanssl.utils.segments import segment_starts

if TYPE_CHECKING:
    from kalmanssl.decoding._adaptation import Adaptation

__all__ = ["DriftingReadout", "NumericDecoder"]

_READOUTS, _CHOICES = 0.6, 0.9  # usual shares of the time of a calibration, when each step is over
_MAX_FIT_BINS = 200_000  # of a readout: networks are no better with more, and their time grows with them


@dataclass(frozen=True)
class DriftingReadout:
    """A readout of the behavior as it would be at the time `end`, seconds, and the drift from there."""

    readout: Readout
    drift: Drift
    end: float


@dataclass(kw_only=True)
class NumericDecoder(LatentDecoder):
    """Decoder of behavior that consists of numbers from latents of one kind.

    Attributes
    ----------
    readout_settings, calibration_settings, drift_settings
        As for `PositionDecoder`.
    drift : Drift
        Drift of the code, zero unless it is corrected.
    end : float
        Time of the last fitted bin, seconds, from which the drift is measured.
    uses_drift : bool
        Whether the drift of the code is corrected: if this reduces the error on held-out bins.
    occupancies : list of array, (*shape)
        Probability of each cell of the grids in the fitted bins, which is predicted where latents are missing.
    neighbor_variant : NeighborVariant
        How nearest neighbors are searched: what reduces the error on held-out bins.
    movements : list of MovementMixture
        Movement priors, one mixture for each group of dimensions.
    movement_scores : list of dict of float
        For each group of dimensions the CRPS of each kind of movement prior on held-out bins.
    trust : Trust
        The judgment of bins.
    """

    readout_settings: Any
    calibration_settings: CalibrationSettings
    drift_settings: DriftSettings | None
    drift: Drift = field(init=False)
    end: float = field(init=False)
    uses_drift: bool = field(init=False, default=False)
    occupancies: list[np.ndarray] = field(init=False, default_factory=list)
    neighbor_variant: NeighborVariant = field(init=False, default_factory=NeighborVariant)
    movements: list[MovementMixture] = field(init=False, default_factory=list)
    movement_scores: list[dict[str, float]] = field(init=False, default_factory=list)
    trust: Trust = field(init=False, default_factory=Trust.everywhere)

    def _fit(self, samples: Samples, folds: list[Fold], timed: bool, rng: np.random.Generator) -> None:
        groups = group_dimensions(len(self.periods))
        self.movements = [MovementMixture.none()] * len(groups)
        self.movement_scores = [{} for _ in groups]
        self.calibrations = [Calibration.identity() for _ in self.periods]
        self.regions = [RegionCalibration.identity() for _ in groups]
        self.trust = Trust.everywhere()
        self.grids = network_settings(self.readout_settings).make_grids(samples.behavior[samples.usable], self.periods)
        self.occupancies = [
            measure_movement(samples, samples.usable, grid, dims, self.periods, "walk").occupancy[0]
            for grid, dims in zip(self.grids, groups, strict=True)
        ]
        if folds:
            with progress_part(0.0, 1 - 0.5 / (len(folds) + 1)):
                self._fit_to_held_out(folds, timed, rng)
        fitted = self._fit_readout(samples, samples.usable, rng)
        self.readout, self.drift, self.end = fitted.readout, fitted.drift, fitted.end
        self.movements = [self.movement_from(number, samples, samples.usable) for number in range(len(groups))]

    def _fit_to_held_out(self, folds: list[Fold], timed: bool, rng: np.random.Generator) -> None:
        """Choose drift, movement prior and familiarity, and calibrate, by the decoding of held-out bins."""
        self.uses_drift = timed and self._drift_improves(folds)
        readouts = []
        for number, fold in enumerate(folds, start=1):
            readouts.append(self._fit_readout(fold.samples, fold.train, rng))
            report_progress(_READOUTS * number / len(folds))
        self.neighbor_variant, masses, choices = choose_neighbors(self, folds, readouts, timed)
        report_progress(_CHOICES)
        self.movements = [choice.mixture for choice in choices]
        self.movement_scores = [
            {kind: float(score.sum()) for kind, score in choice.scores.items()} for choice in choices
        ]
        self.calibrations, self.regions, self.trust = calibrate(self, folds, masses)

    def _drift_improves(self, folds: list[Fold]) -> bool:
        """Return whether the drift of the code in the fitted parts reduces the errors on held-out bins in movement."""
        blocks = [block for fold in folds for block in fold.moving_blocks()]
        return improves_held_out(blocks, self.periods, self.drift_settings)

    def _fit_readout(self, samples: Samples, train: np.ndarray, rng: np.random.Generator) -> DriftingReadout:
        """Fit a readout of the behavior as it would be at the last fitted bin of the session, and the drift."""
        kept = thin_bins(train, _MAX_FIT_BINS)
        drift = Drift.zero(samples.mean.shape[1], samples.behavior.shape[1])
        if self.uses_drift:
            mean, moving, session = samples.mean[kept], samples.moving[kept], samples.session[kept]
            behavior, time = samples.behavior[kept], samples.time[kept]
            drift = Drift.fit(mean, behavior, time, moving, self.periods, self.drift_settings, session)
        readout = self.make_readout()
        if isinstance(readout, EnsembleReadout):
            readout.variant = self.neighbor_variant
        readout.fit(self.fitted_bins(samples, train, drift), rng)
        return DriftingReadout(readout, drift, float(samples.time[kept][-1]))

    def fitted_bins(self, samples: Samples, train: np.ndarray, drift: Drift, with_context: bool = True) -> FittedBins:
        """Return what a readout is fitted to in the bins `train` (time,) bool, with the behavior without drift."""
        age, kept = samples.age(train), thin_bins(train, _MAX_FIT_BINS)
        behavior, weight = samples.behavior[kept], samples.weight[kept] / samples.weight[kept].mean()
        if drift.rate != 0:
            behavior = wrap_to_period(behavior - drift.displacement(samples.mean[kept], age[kept]), self.periods)
        return self._make_fitted_bins(samples, kept, behavior, weight, with_context)

    def movement_from(self, number: int, samples: Samples, train: np.ndarray) -> MovementMixture:
        """Return the chosen movement priors of a group of dimensions with the statistics of the bins `train`."""
        grid, dims = self.grids[number], group_dimensions(len(self.periods))[number]
        return self.movements[number].with_statistics(
            lambda kind: measure_movement(samples, train, grid, dims, self.periods, kind)
        )

    @property
    def movement_weights(self) -> list[dict[str, float]]:
        """The weight of each kind of movement prior that is used, for each group of dimensions."""
        return [mixture.weights for mixture in self.movements]

    @property
    def uses_familiarity(self) -> bool:
        """Whether latents unlike those of the fit have less weight."""
        return any(part.familiarity.is_used for mixture in self.movements for part in mixture.components)

    @property
    def uses_average(self) -> bool:
        """Whether a movement prior uses the average of the parts of the readout, and not only their product."""
        return any(mixture.uses_average for mixture in self.movements)

    def decode(self, given: DecoderInput, adaptation: Adaptation, level: float, flat: bool) -> DecodedPosition:
        """Return the decoded behavior."""
        masses = self._bin_masses_of_fit(given)
        posteriors = self._combine_over_time(masses)
        agreement = agreement_of([mass.mass for mass in masses], posteriors)
        table, points = [], []
        calibrations = adaptation.calibrations(self.calibrations)
        for calibration, predictive in zip(calibrations, self.marginals(posteriors), strict=True):
            table.append(calibration.apply(predictive, given.time_since_fit, QUANTILE_LEVELS).astype(np.float32))
            points.append(predictive.mean())
        estimate = wrap_to_period(np.stack(points, axis=1), self.periods)
        regions = adaptation.region_calibrations(self.regions)
        return DecodedPosition(
            time=given.bin_time,
            level=level,
            table=around_points(np.stack(table, 1), estimate, self.periods, level),
            levels=QUANTILE_LEVELS,
            points=estimate,
            periods=self.periods,
            flat=flat,
            grids=[GridPosterior(*parts) for parts in zip(self.grids, posteriors, regions, strict=True)],
            judgment=self.trust.judge(masses[0].distance, agreement, masses[0].missing),  # all grids have the same
        )

    def online_behavior(self, adaptation: Adaptation, level: float, end: float, flat: bool) -> OnlineNumbers:
        """Return what decodes one bin after another."""
        return OnlineNumbers(self, adaptation, level, end, flat)

    def posteriors(self, given: DecoderInput) -> list[np.ndarray]:
        """Return the posterior over each grid, (time, *shape)."""
        return self._combine_over_time(self._bin_masses_of_fit(given))

    def _bin_masses_of_fit(self, given: DecoderInput) -> list[ReadoutMass]:
        """Return the distributions of the readout that was fitted to all bins over each grid."""
        fitted = DriftingReadout(self.readout, self.drift, self.end)
        return self.bin_masses(fitted, given, self.uses_average)

    def _combine_over_time(self, masses: list[ReadoutMass]) -> list[np.ndarray]:
        return [mixture.posterior(mass, self.smooth) for mixture, mass in zip(self.movements, masses, strict=True)]

    def _filtered(
        self, given: DecoderInput, beliefs: Sequence[np.ndarray | None]
    ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        posteriors, after = [], []
        remaining = iter(beliefs)
        for mixture, mass in zip(self.movements, self._bin_masses_of_fit(given), strict=True):
            posterior, last = mixture.filtered(mass, list(islice(remaining, len(mixture.components))))
            posteriors.append(posterior)
            after += last
        return posteriors, after

    def bin_masses(
        self,
        fitted: DriftingReadout,
        given: DecoderInput,
        with_average: bool,
        networks: list[np.ndarray] | None = None,
    ) -> list[ReadoutMass]:
        """Return the distributions of a readout over the grids.

        The distance is that of `BinMasses`, 0 where latents are missing.

        Parameters
        ----------
        fitted : DriftingReadout
        given : DecoderInput
        with_average : bool
            Whether the averages of the parts of the readout are needed, too.
        networks : list of (time, *shape), optional
            From `network_masses` of the same bins, if they are known.
        """
        ignores_context = isinstance(fitted.readout, EnsembleReadout) and not fitted.readout.variant.uses_context
        mean, missing = given.zero_missing(given.mean), given.missing
        only_neighbors = networks is not None and ignores_context  # networks use the context
        features = mean if only_neighbors else self.features(given)
        found = self.readout_mass(fitted.readout, features, given.cov, with_average, networks)
        found = found.transform(lambda masses: self.correct_drift(fitted.drift, masses, mean, given.age))
        if found.distance is not None:
            found.distance[missing] = 0.0
        start = segment_starts(given.segment)
        result = []
        for occupancy, (product, average) in zip(self.occupancies, found.by_grid(), strict=True):
            for mass in (product, average):
                if mass is not None:
                    mass[missing] = occupancy
            result.append(ReadoutMass(product, start, missing, occupancy, found.distance, average))
        return result

    def network_masses(self, readout: EnsembleReadout, given: DecoderInput) -> list[np.ndarray]:
        """Return the distributions of the networks of a readout over the grids, as `bin_masses` uses them."""
        return readout.network_masses(self.features(given), self._used_cov(given.cov))

    def correct_drift(
        self, drift: Drift, masses: list[np.ndarray], mean: np.ndarray, age: np.ndarray
    ) -> list[np.ndarray]:
        """Return distributions over the grids, shifted by the drift during the time `age` since the end of the fit."""
        if drift.rate == 0:
            return masses
        moved = drift.displacement(mean, age)
        groups = group_dimensions(len(self.periods))
        return [grid.shift(mass, moved[:, dims]) for grid, mass, dims in zip(self.grids, masses, groups, strict=True)]

    def _own_state(self) -> dict[str, Any]:
        return {
            "drift": self.drift.to_state(),
            "grids": [grid.to_state() for grid in self.grids],
            "occupancies": self.occupancies,
            "movements": [mixture.to_state() for mixture in self.movements],
            "movement_scores": self.movement_scores,
            "calibrations": [calibration.to_state() for calibration in self.calibrations],
            "regions": [region.to_state() for region in self.regions],
            "trust": self.trust.to_state(),
            "end": self.end,
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        self.drift, self.end = Drift.from_state(state["drift"]), float(state["end"])
        self.grids = [Grid.from_state(grid) for grid in state["grids"]]
        self.occupancies = [np.asarray(occupancy, dtype=float) for occupancy in state["occupancies"]]
        self.movements = [MovementMixture.from_state(mixture) for mixture in state["movements"]]
        self.movement_scores = list(state["movement_scores"])
        self.calibrations = [Calibration.from_state(calibration) for calibration in state["calibrations"]]
        self.regions = [RegionCalibration.from_state(region) for region in state["regions"]]
        stored = state.get("trust")  # absent from decoders that were saved before it existed
        self.trust = Trust.everywhere() if stored is None else Trust.from_state(stored)
