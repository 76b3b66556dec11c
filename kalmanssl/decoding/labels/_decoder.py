"""Decoder of labels from latents of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding.calibration import RegionCalibration
from kalmanssl.decoding.grids import Axis, Grid, Predictive, likelier_mass_at
from kalmanssl.decoding.held_out import Fold, HeldOutMass, Samples, fold_weights, scored_sessions
from kalmanssl.decoding.inputs import DecoderInput
from kalmanssl.decoding.labels._categories import DecodedCategory
from kalmanssl.decoding.labels._chain import LabelChain, LabelStatistics, choose_chain
from kalmanssl.decoding.movement import ReadoutMass, filtered_mass, posterior_mass
from kalmanssl.decoding.online import OnlineLabels
from kalmanssl.decoding.readouts import ClassifierReadout, MLPReadout
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import segment_starts

if TYPE_CHECKING:
    from kalmanssl.decoding._adaptation import Adaptation

__all__ = ["LabelDecoder"]


@dataclass(kw_only=True)
class LabelDecoder(LatentDecoder):
    """Decoder of behavior that consists of labels from latents of one kind: Markov chain and prediction sets.

    Attributes
    ----------
    labels : (labels,)
    chain : LabelChain
    kind : str
        Kind of movement prior, "none" or "chain".
    kind_scores : dict of float
        Mean Brier score of each kind on held-out bins; empty without calibration.
    """

    labels: np.ndarray
    chain: LabelChain = field(init=False)
    kind: str = field(init=False, default="none")
    kind_scores: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.grids = [Grid((Axis.of_labels(len(self.labels)),))]
        self.regions = [RegionCalibration.identity()]

    def _fit(self, samples: Samples, folds: list[Fold], timed: bool, rng: np.random.Generator) -> None:
        self.chain = LabelChain(self._statistics(samples, samples.usable), 1.0, 1.0, 1.0)
        if folds:
            folds = self._complete_folds(folds)
            held_out = [self._held_out_mass(fold, rng) for fold in folds]
            statistics = [self._statistics(fold.samples, fold.train) for fold in folds]
            settings = self.movement_settings_for(timed)
            self.kind, chosen, self.kind_scores = choose_chain(statistics, held_out, self.smooth, settings)
            self._calibrate(folds, held_out, [replace(chosen, statistics=part) for part in statistics])
            self.chain = replace(chosen, statistics=self.chain.statistics)
        self.readout = self._fit_readout(samples, samples.usable, rng)

    @property
    def movement_weights(self) -> list[dict[str, float]]:
        """The weight of the chosen kind, which is one."""
        return [{self.kind: 1.0}]

    @property
    def uses_familiarity(self) -> bool:
        """False: labels do not use the distance of the latents to those of the fit."""
        return False

    @property
    def uses_average(self) -> bool:
        """False: readouts of labels have one part."""
        return False

    def decode(self, given: DecoderInput, adaptation: Adaptation, level: float, flat: bool) -> DecodedCategory:
        """Return the probability of each label."""
        (mass,), (sets,) = self.posteriors(given), adaptation.region_calibrations(self.regions)
        return DecodedCategory(given.bin_time, self.labels, mass, level, sets)

    def online_behavior(self, adaptation: Adaptation, level: float, end: float, flat: bool) -> OnlineLabels:
        """Return what decodes one bin after another."""
        return OnlineLabels(self, adaptation, level)

    def posteriors(self, given: DecoderInput) -> list[np.ndarray]:
        """Return the probability of each label, one array (time, labels)."""
        return [posterior_mass(self.chain, self._bin_mass(self.readout, given), self.smooth)]

    def _filtered(
        self, given: DecoderInput, beliefs: Sequence[np.ndarray | None]
    ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        belief = beliefs[0] if beliefs else None
        posterior, last = filtered_mass(self.chain, self._bin_mass(self.readout, given), belief)
        return [posterior], [last]

    def marginals(self, posteriors: list[np.ndarray]) -> list[Predictive]:
        """Return no distribution, as labels have no order."""
        return []

    def _own_state(self) -> dict[str, Any]:
        choice = {"kind": self.kind, "scores": self.kind_scores}
        return {"chain": self.chain.to_state(), "choices": [choice], "sets": self.regions[0].to_state()}

    def _restore_own(self, state: dict[str, Any]) -> None:
        self.chain = LabelChain.from_state(state["chain"])
        (choice,) = state["choices"]
        self.kind, self.kind_scores = choice["kind"], dict(choice["scores"])
        self.regions = [RegionCalibration.from_state(state["sets"])]

    def _complete_folds(self, folds: list[Fold]) -> list[Fold]:
        """Return the folds whose training part has all labels; the others could not decode the missing ones."""
        missing = [np.setdiff1d(np.arange(len(self.labels)), fold.samples.behavior[fold.train, 0]) for fold in folds]
        complete = [fold for fold, labels in zip(folds, missing, strict=True) if len(labels) == 0]
        if not complete:
            label = self.labels.tolist()[int(missing[-1][0])]
            raise InputError(
                f"position has the label {label!r} in no training part of the held-out folds: leave it out, or "
                "decode without calibration (calibrate=False)",
                parameter="position",
            )
        return complete

    def _statistics(self, samples: Samples, train: np.ndarray) -> LabelStatistics:
        follows = samples.follows(train)
        codes = samples.behavior[train, 0].astype(int)
        return LabelStatistics.from_codes(codes, follows[train], len(self.labels))

    def _fit_readout(
        self, samples: Samples, train: np.ndarray, rng: np.random.Generator
    ) -> MLPReadout | ClassifierReadout:
        readout: MLPReadout | ClassifierReadout = self.make_readout()
        return readout.fit(self._make_fitted_bins(samples, train, samples.behavior[train], None), rng)

    def _bin_mass(self, readout: MLPReadout | ClassifierReadout, given: DecoderInput) -> ReadoutMass:
        """Return the probability of each label (time, labels) from a readout."""
        (mass,) = self.readout_mass(readout, self.features(given), given.cov).product
        return ReadoutMass(mass, segment_starts(given.segment), given.missing)

    def _held_out_mass(self, fold: Fold, rng: np.random.Generator) -> HeldOutMass:
        s, used = fold.samples, fold.scored_bins
        mass = self._bin_mass(self._fit_readout(s, fold.train, rng), fold.test_input)
        return HeldOutMass(mass, fold.scored, s.behavior[used], s.weight[used], s.block[used])

    def _calibrate(self, folds: list[Fold], held_out: list[HeldOutMass], chains: list[LabelChain]) -> None:
        """Learn the mass that prediction sets must have in order to cover at their nominal level."""
        levels, blocks = [], []
        for fold, part, chain in zip(folds, held_out, chains, strict=True):
            posterior = posterior_mass(chain, part.readout, self.smooth)[part.scored]
            levels.append(likelier_mass_at(posterior, part.truth[:, 0].astype(int)))
            blocks.append(fold.samples.block[fold.scored_bins])
        weight = np.repeat(fold_weights(folds), [len(block) for block in blocks])
        self.regions = [
            RegionCalibration.fit(np.concatenate(levels), np.concatenate(blocks), scored_sessions(folds), weight)
        ]
