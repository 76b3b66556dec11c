"""Decoder of labels from latents of one kind: temporal context, readout, Markov chain and prediction sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kalmanssl.data import Covariances
from kalmanssl.decoding._continuation import Continuation
from kalmanssl.decoding.calibration import RegionCalibration
from kalmanssl.decoding.grids import Axis, Grid, likelier_mass_at
from kalmanssl.decoding.held_out import (
    Fold,
    HeldOutMass,
    MovementSettings,
    Samples,
    fold_weights,
    scored_sessions,
)
from kalmanssl.decoding.inputs import DecoderInput
from kalmanssl.decoding.labels._chain import LabelChain, LabelStatistics, choose_chain
from kalmanssl.decoding.movement import ReadoutMass, filtered_mass, posterior_mass
from kalmanssl.decoding.readouts import ClassifierReadout, MLPReadout, TemporalContext
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import segment_starts

__all__ = ["LabelDecoder"]


@dataclass
class LabelDecoder:
    """Everything that decodes labels from latents of one kind.

    Attributes
    ----------
    labels : (labels,)
    smooth : bool
        Whether the latents are smoothed ones, so that later bins are used.
    make_readout : callable
        Returns an unfitted readout.
    movement_settings : MovementSettings
    time_scales : tuple of float
        Time scales of the temporal context, seconds.
    readout : MLPReadout or ClassifierReadout
    chain : LabelChain
    choices : list of dict
        One dict: the kind of movement prior and the scores of all kinds.
    sets : RegionCalibration
        Probability mass of prediction sets by nominal level.
    context : TemporalContext
    """

    labels: np.ndarray
    smooth: bool
    make_readout: Callable[[], MLPReadout | ClassifierReadout]
    movement_settings: MovementSettings
    time_scales: tuple[float, ...]
    readout: MLPReadout | ClassifierReadout = field(init=False)
    chain: LabelChain = field(init=False)
    choices: list[dict[str, Any]] = field(default_factory=lambda: [{"kind": "none", "scores": {}}])
    sets: RegionCalibration = field(default_factory=RegionCalibration.identity)
    context: TemporalContext = field(init=False)

    def fit(self, samples: Samples, folds: list[Fold], timed: bool, rng: np.random.Generator) -> Self:
        """Choose the chain on the folds, calibrate on them, and fit the readout on all bins.

        Without folds every bin is decoded by itself and prediction sets are not calibrated.

        Parameters
        ----------
        samples : Samples
        folds : list of Fold
        timed : bool
            Whether the times of the bins are known.
        rng : Generator
            Of the readouts.

        Raises
        ------
        InputError
            If no fold has all labels in its training part.
        """
        self.context = TemporalContext.of_bins(samples.time if timed else None, self.time_scales, not self.smooth)
        self.chain = LabelChain(self._statistics(samples, samples.usable), 1.0, 1.0, 1.0)
        if folds:
            folds = self._complete_folds(folds)
            held_out = [self._held_out_mass(fold, rng) for fold in folds]
            statistics = [self._statistics(fold.samples, fold.train) for fold in folds]
            settings = self.movement_settings if timed else replace(self.movement_settings, kinds=("none",))
            kind, chosen, scores = choose_chain(statistics, held_out, self.smooth, settings)
            self.choices = [{"kind": kind, "scores": scores}]
            self._calibrate(folds, held_out, [replace(chosen, statistics=part) for part in statistics])
            self.chain = replace(chosen, statistics=self.chain.statistics)
        self.readout = self._fit_readout(samples, samples.usable, rng)
        return self

    @property
    def movement_weights(self) -> list[dict[str, float]]:
        """The weight of the chosen kind, as that of `LatentDecoder`."""
        return [{choice["kind"]: 1.0} for choice in self.choices]

    @property
    def uses_familiarity(self) -> bool:
        """False, as labels do not use the distance of the latents to those of the fit; see `LatentDecoder`."""
        return False

    def predict(self, given: DecoderInput) -> np.ndarray:
        """Return the probability of each label, (time, labels).

        Bins with latents that are not finite are predicted from the bins around them.
        """
        return posterior_mass(self.chain, self._readout_mass(self.readout, given), self.smooth)

    def decode_piece(self, given: DecoderInput, before: Continuation | None) -> tuple[np.ndarray, Continuation | None]:
        """Decode as `predict`, filtered latents from where the piece `before` ended; return the end of this one, too.

        Smoothed latents depend on later bins. Each piece of them is decoded by itself.
        """
        if self.smooth:
            return self.predict(given), None
        earlier, belief = (None, None) if before is None else (before.mean, before.beliefs[0])
        mass = self._readout_mass(self.readout, replace(given, earlier=earlier))
        posterior, belief = filtered_mass(self.chain, mass, belief)
        return posterior, Continuation.after(before, given, [belief], self.context.n_bins)

    def to_state(self) -> dict[str, Any]:
        """Return everything from which `restore` makes this decoder again."""
        return {
            "readout": self.readout.to_state(),
            "chain": self.chain.to_state(),
            "choices": self.choices,
            "sets": self.sets.to_state(),
            **self.context.to_state(),
        }

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned."""
        self.readout = MLPReadout.from_state(state["readout"])
        self.chain = LabelChain.from_state(state["chain"])
        self.choices = list(state["choices"])
        self.sets = RegionCalibration.from_state(state["sets"])
        self.context = TemporalContext.from_state(state, not self.smooth)
        return self

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
        features = self.context.append(samples.mean, samples.segment)[train]
        readout = self.make_readout()
        if isinstance(readout, ClassifierReadout):
            return readout.fit(features, samples.behavior[train, 0].astype(int), len(self.labels))
        cov = None if samples.cov is None or self.context.is_used else samples.cov[train]
        grids = [Grid((Axis.of_labels(len(self.labels)),))]
        return readout.fit(features, cov, samples.behavior[train], rng, None, grids, samples.mean.shape[1])

    def _readout_mass(self, readout: MLPReadout | ClassifierReadout, given: DecoderInput) -> ReadoutMass:
        """Return the probability of each label (time, labels) from a readout."""
        missing, features = given.missing, given.features(self.context.append)
        if missing.any():
            features = np.where(missing[:, None], 0.0, features)
        return ReadoutMass(self.feature_mass(readout, features, given.cov), segment_starts(given.segment), missing)

    def feature_mass(
        self, readout: MLPReadout | ClassifierReadout, features: np.ndarray, cov: Covariances | None
    ) -> np.ndarray:
        """Return the probability of each label from a readout for latents with their temporal context."""
        if isinstance(readout, ClassifierReadout):
            return readout.predict_mass(features)
        return readout.predict_mass(features, None if self.context.is_used else cov)[0]

    def _held_out_mass(self, fold: Fold, rng: np.random.Generator) -> HeldOutMass:
        s, used = fold.samples, fold.scored_bins
        mass = self._readout_mass(self._fit_readout(s, fold.train, rng), fold.test_input)
        return HeldOutMass(mass, fold.scored, s.behavior[used], s.weight[used], s.block[used])

    def _calibrate(self, folds: list[Fold], held_out: list[HeldOutMass], chains: list[LabelChain]) -> None:
        """Learn the mass that prediction sets must have in order to cover at their nominal level."""
        levels, blocks = [], []
        for fold, part, chain in zip(folds, held_out, chains, strict=True):
            posterior = posterior_mass(chain, part.readout, self.smooth)[part.scored]
            levels.append(likelier_mass_at(posterior, part.truth[:, 0].astype(int)))
            blocks.append(fold.samples.block[fold.scored_bins])
        weight = np.repeat(fold_weights(folds), [len(block) for block in blocks])
        self.sets = RegionCalibration.fit(
            np.concatenate(levels), np.concatenate(blocks), scored_sessions(folds), weight
        )
