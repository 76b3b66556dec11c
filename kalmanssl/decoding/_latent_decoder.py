"""Decoder for latents of one kind, filtered or smoothed: temporal context, readout, movement prior and calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Self

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding._continuation import Continuation
from kalmanssl.decoding._neighbor_choice import choose_neighbors
from kalmanssl.decoding.calibration import (
    Calibration,
    CalibrationSettings,
    RegionCalibration,
    Trust,
    TrustJudgment,
    agreement_of,
    calibrate,
)
from kalmanssl.decoding.grids import Grid, Periods, Predictive, group_dimensions, marginal_predictives, wrap_to_period
from kalmanssl.decoding.held_out import (
    Drift,
    DriftSettings,
    Fold,
    MovementSettings,
    Samples,
    improves_held_out,
    measure_movement,
    thin_bins,
)
from kalmanssl.decoding.inputs import DecoderInput
from kalmanssl.decoding.movement import MovementMixture, ReadoutMass
from kalmanssl.decoding.readouts import (
    BinMasses,
    EnsembleReadout,
    MLPReadout,
    NeighborVariant,
    Readout,
    TemporalContext,
    network_settings,
)
from kalmanssl.utils.progress import progress_part, report_progress
from kalmanssl.utils.segments import segment_starts

__all__ = ["LatentDecoder"]

_READOUTS, _CHOICES = 0.6, 0.9  # usual shares of the time of a calibration, when each step is over
_MAX_FIT_BINS = 200_000  # of a readout: networks are no better with more, and their time grows with them


@dataclass(frozen=True)
class DriftingReadout:
    """A readout of the behavior as it would be at the time `end`, seconds, and the drift from there."""

    readout: Readout
    drift: Drift
    end: float


@dataclass
class LatentDecoder:
    """Everything that decodes latents of one kind.

    Attributes
    ----------
    periods : tuple of float or None
    smooth : bool
        Whether the latents are smoothed ones, so that later bins are used.
    make_readout : callable
        Returns an unfitted readout.
    readout_settings, movement_settings, calibration_settings, drift_settings
    time_scales : tuple of float
        Time scales of the temporal context, seconds.
    readout : DriftingReadout
    uses_drift : bool
        Whether the drift of the code is corrected: if this reduces the error on held-out bins.
    grids : list of Grid
        One for each group of dimensions.
    occupancies : list of array, (*shape)
        Probability of each cell of the grids in the fitted bins, which is predicted where latents are missing.
    context : TemporalContext
    neighbor_variant : NeighborVariant
        How nearest neighbors are searched: what reduces the error on held-out bins.
    movements : list of MovementMixture
        Movement priors, one mixture for each group of dimensions.
    movement_scores : list of dict of float
        For each group of dimensions the CRPS of each kind of movement prior on held-out bins.
    calibrations : list of Calibration
        One for each dimension.
    regions : list of RegionCalibration
        One for each group of dimensions.
    trust : Trust
        The judgment of bins.
    """

    periods: Periods
    smooth: bool
    make_readout: Callable[[], Readout]
    readout_settings: Any
    movement_settings: MovementSettings
    calibration_settings: CalibrationSettings
    drift_settings: DriftSettings | None
    time_scales: tuple[float, ...]
    readout: DriftingReadout = field(init=False)
    uses_drift: bool = False
    grids: list[Grid] = field(init=False)
    occupancies: list[np.ndarray] = field(default_factory=list)
    context: TemporalContext = field(init=False)
    neighbor_variant: NeighborVariant = field(default_factory=NeighborVariant)
    movements: list[MovementMixture] = field(default_factory=list)
    movement_scores: list[dict[str, float]] = field(default_factory=list)
    calibrations: list[Calibration] = field(default_factory=list)
    regions: list[RegionCalibration] = field(default_factory=list)
    trust: Trust = field(default_factory=Trust.everywhere)

    def fit(self, samples: Samples, folds: list[Fold], timed: bool, rng: np.random.Generator) -> Self:
        """Fit the readout on all bins; choose the movement prior and familiarity, and calibrate, on the folds.

        Without folds every bin is decoded by itself and intervals are not calibrated.

        Parameters
        ----------
        samples : Samples
        folds : list of Fold
        timed : bool
            Whether the times of the bins are known.
        rng : Generator
            Of the readouts.
        """
        groups = group_dimensions(len(self.periods))
        self.movements = [MovementMixture.none()] * len(groups)
        self.movement_scores = [{} for _ in groups]
        self.calibrations = [Calibration.identity() for _ in self.periods]
        self.regions = [RegionCalibration.identity() for _ in groups]
        self.trust = Trust.everywhere()
        self.context = TemporalContext.of_bins(samples.time if timed else None, self.time_scales, not self.smooth)
        self.grids = network_settings(self.readout_settings).make_grids(samples.behavior[samples.usable], self.periods)
        self.occupancies = [
            measure_movement(samples, samples.usable, grid, dims, self.periods, "walk").occupancy[0]
            for grid, dims in zip(self.grids, groups, strict=True)
        ]
        if folds:
            with progress_part(0.0, 1 - 0.5 / (len(folds) + 1)):
                self._fit_to_held_out(folds, timed, rng)
        self.readout = self._fit_readout(samples, samples.usable, rng)
        self.movements = [self.movement_from(number, samples, samples.usable) for number in range(len(groups))]
        return self

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

    def _fit_to_held_out(self, folds: list[Fold], timed: bool, rng: np.random.Generator) -> None:
        """Choose drift, movement prior and familiarity, and calibrate, by the decoding of held-out bins."""
        self.uses_drift = timed and self._drift_improves(folds)
        readouts = []
        for number, fold in enumerate(folds, start=1):
            readouts.append(self._fit_readout(fold.samples, fold.train, rng))
            report_progress(_READOUTS * number / len(folds))
        masses, choices = choose_neighbors(self, folds, readouts, timed)
        report_progress(_CHOICES)
        self.movements = [choice.mixture for choice in choices]
        self.movement_scores = [
            {kind: float(score.sum()) for kind, score in choice.scores.items()} for choice in choices
        ]
        self.calibrations, self.regions, self.trust = calibrate(self, folds, masses)

    @property
    def uses_average(self) -> bool:
        """Whether a movement prior uses the average of the parts of the readout."""
        return any(mixture.uses_average for mixture in self.movements)

    def predict(self, given: DecoderInput) -> tuple[list[np.ndarray], list[Predictive], TrustJudgment]:
        """Return the posterior over each grid, the marginal of each dimension, and the judgment of each bin.

        Bins with latents that are not finite are missing: the movement prior alone predicts them, or without one the
        occupancy.
        """
        masses = self.bin_masses(self.readout, given, self.uses_average)
        posteriors = [
            mixture.posterior(mass, self.smooth) for mixture, mass in zip(self.movements, masses, strict=True)
        ]
        agreement = agreement_of([mass.mass for mass in masses], posteriors)
        judgment = self.trust.judge(masses[0].distance, agreement, masses[0].missing)  # all grids have the same
        return posteriors, marginal_predictives(self.grids, posteriors), judgment

    def decode_piece(
        self, given: DecoderInput, before: Continuation | None
    ) -> tuple[list[np.ndarray], list[Predictive], Continuation | None]:
        """Decode as `predict`, filtered latents from where the piece `before` ended; return the end of this one, too.

        Smoothed latents depend on later bins. Each piece of them is decoded by itself.
        """
        if self.smooth:
            return *self.predict(given)[:2], None
        continued = replace(given, earlier=None if before is None else before.mean)
        masses = self.bin_masses(self.readout, continued, self.uses_average)
        posteriors, beliefs = [], []
        earlier_beliefs = iter([] if before is None else before.beliefs)
        for mixture, mass in zip(self.movements, masses, strict=True):
            posterior, after = mixture.filtered(mass, list(islice(earlier_beliefs, len(mixture.components))))
            posteriors.append(posterior)
            beliefs += after
        end = Continuation.after(before, given, beliefs, self.context.n_bins)
        return posteriors, marginal_predictives(self.grids, posteriors), end

    def to_state(self) -> dict[str, Any]:
        """Return everything from which `restore` makes this decoder again."""
        return {
            "readout": self.readout.readout.to_state(),
            "drift": self.readout.drift.to_state(),
            "grids": [grid.to_state() for grid in self.grids],
            "occupancies": self.occupancies,
            **self.context.to_state(),
            "movements": [mixture.to_state() for mixture in self.movements],
            "movement_scores": self.movement_scores,
            "calibrations": [calibration.to_state() for calibration in self.calibrations],
            "regions": [region.to_state() for region in self.regions],
            "trust": self.trust.to_state(),
            "end": self.readout.end,
        }

    def restore(self, state: dict[str, Any], readout: type[Readout]) -> Self:
        """Restore what `to_state` returned."""
        drift = Drift.from_state(state["drift"])
        self.readout = DriftingReadout(readout.from_state(state["readout"]), drift, float(state["end"]))
        self.grids = [Grid.from_state(grid) for grid in state["grids"]]
        self.occupancies = [np.asarray(occupancy, dtype=float) for occupancy in state["occupancies"]]
        self.context = TemporalContext.from_state(state, not self.smooth)
        self.movements = [MovementMixture.from_state(mixture) for mixture in state["movements"]]
        self.movement_scores = list(state["movement_scores"])
        self.calibrations = [Calibration.from_state(calibration) for calibration in state["calibrations"]]
        self.regions = [RegionCalibration.from_state(region) for region in state["regions"]]
        stored = state.get("trust")  # absent from decoders that were saved before it existed
        self.trust = Trust.everywhere() if stored is None else Trust.from_state(stored)
        return self

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
        features, behavior, weight = self.readout_data(samples, train, drift)
        cov = None if samples.cov is None or self.context.is_used else samples.cov[kept]
        readout = self.make_readout()
        if isinstance(readout, EnsembleReadout):
            readout.variant = self.neighbor_variant
        if isinstance(readout, MLPReadout | EnsembleReadout):
            readout.fit(features, cov, behavior, rng, weight, self.grids, samples.mean.shape[1])
        else:
            readout.fit(features, cov, behavior, rng, weight)
        return DriftingReadout(readout, drift, float(samples.time[kept][-1]))

    def readout_data(
        self, samples: Samples, train: np.ndarray, drift: Drift, with_context: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the features, the behavior without drift and the weights of the bins that a readout is fitted to."""
        age, kept = samples.age(train), thin_bins(train, _MAX_FIT_BINS)
        features = self.context.append(samples.mean, samples.segment, kept) if with_context else samples.mean[kept]
        behavior, weight = samples.behavior[kept], samples.weight[kept] / samples.weight[kept].mean()
        if drift.rate != 0:
            behavior = wrap_to_period(behavior - drift.displacement(samples.mean[kept], age[kept]), self.periods)
        return features, behavior, weight

    def _inputs(self, given: DecoderInput, with_context: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return latents and their features, zero where latents are missing, and the bins in which they are."""
        mean, missing = given.mean, given.missing
        features = given.features(self.context.append) if with_context else mean
        if missing.any():
            mean, features = (np.where(missing[:, None], 0.0, values) for values in (mean, features))
        return mean, features, missing

    def bin_masses(
        self,
        fitted: DriftingReadout,
        given: DecoderInput,
        with_average: bool,
        networks: list[np.ndarray] | None = None,
    ) -> list[ReadoutMass]:
        """Return the distributions of a readout over the grids.

        The distance is that of `readout_mass`, 0 where latents are missing.

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
        with_context = networks is None or not ignores_context  # networks use it, too
        mean, features, missing = self._inputs(given, with_context)
        found = self.readout_mass(fitted.readout, features, given.cov, with_average, networks)
        found = found.transform(lambda masses: self.correct_drift(fitted, masses, mean, given.age))
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
        _, features, _ = self._inputs(given)
        return readout.network_masses(features, None if self.context.is_used else given.cov)

    def readout_mass(
        self,
        readout: Readout,
        features: np.ndarray,
        cov: Covariances | None,
        with_average: bool,
        networks: list[np.ndarray] | None = None,
    ) -> BinMasses:
        """Return the distributions of a readout over the grids without the drift since the fit, and the distance."""
        cov = None if self.context.is_used else cov
        if isinstance(readout, EnsembleReadout):
            return readout.predict_masses(features, cov, networks, with_average)
        if isinstance(readout, MLPReadout):
            return BinMasses(readout.predict_mass(features, cov))
        predictives = readout.predict(features, cov)
        masses = []
        for grid, dims in zip(self.grids, group_dimensions(len(self.periods)), strict=True):
            parts = [axis.discretize(predictives[dim]) for axis, dim in zip(grid.axes, dims, strict=True)]
            masses.append(parts[0] if len(parts) == 1 else parts[0][:, :, None] * parts[1][:, None, :])
        return BinMasses(masses)

    def correct_drift(
        self, fitted: DriftingReadout, masses: list[np.ndarray], mean: np.ndarray, age: np.ndarray
    ) -> list[np.ndarray]:
        """Return distributions over the grids, shifted by the drift during the time `age` since the end of the fit."""
        if fitted.drift.rate == 0:
            return masses
        moved = fitted.drift.displacement(mean, age)
        groups = group_dimensions(len(self.periods))
        return [grid.shift(mass, moved[:, dims]) for grid, mass, dims in zip(self.grids, masses, groups, strict=True)]
