"""Update of a fitted decoder with labels that come in later: its calibrated levels follow the errors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kalmanssl.data import Latents, behavior_at
from kalmanssl.decoding._adaptive import AdaptiveLevels
from kalmanssl.decoding._calibration import Calibration, RegionCalibration
from kalmanssl.decoding._circular import wrap_to_period
from kalmanssl.decoding._continuation import Continuation
from kalmanssl.decoding._grid import group_dimensions
from kalmanssl.decoding._held_out_mass import density_level
from kalmanssl.decoding._inputs import DecoderInput, check_behavior, check_latents, is_list_of_trials, join_trials
from kalmanssl.decoding._label_decoder import LabelDecoder
from kalmanssl.decoding._labels import as_labels, encode_labels, is_discrete
from kalmanssl.decoding._latent_decoder import LatentDecoder
from kalmanssl.decoding._posterior import likelier_mass
from kalmanssl.decoding._sessions import end_of_fit
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import segment_index

if TYPE_CHECKING:
    from kalmanssl.decoding._circular import Periods

__all__ = ["Adaptation", "UpdateMixin", "kind_of"]


@dataclass
class Adaptation:
    """What a decoder of latents of one kind has learned from labels after the fit.

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
    def of(cls, decoder: LatentDecoder | LabelDecoder) -> Self:
        """Return the adaptation of a decoder that has learned nothing after the fit."""
        if isinstance(decoder, LabelDecoder):
            return cls([], [AdaptiveLevels.identity()])
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

    def learn(
        self, decoder: LatentDecoder | LabelDecoder, given: DecoderInput, behavior: np.ndarray, lag: np.ndarray
    ) -> dict[str, list[np.ndarray]]:
        """Learn from the bins of a piece with known behavior (time, dims), one after another.

        Returns
        -------
        dict of list
            "intervals" and "regions": the level of each entry of `NOMINAL_LEVELS` that each of these bins was decoded
            with, before its own behavior was used, (bins, levels).
        """
        known = np.isfinite(behavior).all(axis=1) & np.isfinite(given.mean).all(axis=1)
        before = self.end
        if before is not None and (given.time is None or not before.reaches(given.bin_time[0], decoder.bin_size)):
            before = None
        piece = (given.mean, given.cov, given.segment)
        used: dict[str, list[np.ndarray]] = {"intervals": [], "regions": []}
        if isinstance(decoder, LabelDecoder):
            mass, self.end = decoder.decode_piece(*piece, given.bin_time, before)
            rows = np.flatnonzero(known)
            level = likelier_mass(mass[rows])[np.arange(len(rows)), behavior[rows, 0].astype(int)]
            used["regions"] = [self.regions[0].update(decoder.sets.score(level), decoder.sets.bins_per_error)]
        else:
            age = np.nan_to_num(lag)
            posteriors, marginals, self.end = decoder.decode_piece(*piece, given.bin_time, age, before)
            truth = behavior[known]
            for dim, (one, predictive) in enumerate(zip(decoder.calibrations, marginals, strict=True)):
                score = one.score(predictive[known], lag[known], truth[:, dim])
                used["intervals"].append(self.intervals[dim].update(score, one.bins_per_error))
            dims = group_dimensions(truth.shape[1])
            for number, (region, mass) in enumerate(zip(decoder.regions, posteriors, strict=True)):
                level = density_level(mass[known], decoder.grids[number], truth[:, dims[number]])
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


class UpdateMixin:
    """The method `update` of `PositionDecoder`."""

    calibrate: bool
    timed_: bool
    n_features_in_: int
    session_ends_: dict[str, float]
    decoders_: dict[str, LatentDecoder | LabelDecoder]
    labels_: np.ndarray | None
    periods_: Periods
    adaptations_: dict[str, Adaptation]

    def update(self, latents: Latents | np.ndarray, position: np.ndarray, time: np.ndarray | None = None) -> Self:
        """Adapt the levels of intervals, regions and prediction sets to behavior that became known after the fit.

        Later predictions use the adapted levels. The readout and the movement prior do not change. Each bin raises or
        lowers the level of every nominal level, so that in the long run intervals cover at their nominal level even if
        the errors change after the fit (Gibbs & Candès 2021, NeurIPS; step sizes are combined as in Gibbs & Candès
        2024, JMLR 25:162). Bins are learned from one after another. Several calls with consecutive pieces of filtered
        latents therefore give the same result as one call. Smoothed latents of a piece depend on its length, and so do
        the results. `fit` discards all updates.

        Parameters
        ----------
        latents : Latents or (time, features) array
            Latents of the same model after the fit, in order of time. Each bin may be given once. Filtered and smoothed
            latents have levels of their own.
        position : (time,) or (time, dims)
            Behavior as in `fit`; NaN, or None for labels, where it is unknown.
        time : (time,), optional
            Times of the bins of an array, seconds.

        Returns
        -------
        PositionDecoder
            This decoder.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the number of features, the length or the dimensions differ, if the behavior consists of other labels
            than that of the fit, or if the decoder was fitted with ``calibrate=False``.
        """
        self._learn(latents, position, time)
        return self

    def _learn(self, latents: Any, position: Any, time: Any) -> dict[str, list[np.ndarray]]:
        """Update, and return what `Adaptation.learn` returns."""
        if is_list_of_trials(latents) and len({one.session for one in latents}) > 1:
            raise InputError("latents has several sessions: update with one after another", parameter="latents")
        latents, position = join_trials(latents, position=position)
        kind, decoder, given = self._decoder_input(latents, time)
        if not self.calibrate:
            raise InputError(
                "calibrate=False leaves no calibrated levels to update: fit the decoder with calibrate=True",
                parameter="calibrate",
            )
        nearest = self.labels_ is not None or any(self.periods_)
        position = behavior_at("position", position, given.time, nearest)
        behavior = self._later_behavior(position, len(given.mean))
        adaptation = self.adaptations_.setdefault(kind, Adaptation.of(decoder))
        return adaptation.learn(decoder, given, behavior, self._lag(decoder, given))

    def _later_behavior(self, position: Any, n_bins: int) -> np.ndarray:
        """Return behavior of the kind of the fit as (time, dims); the number of the label for labels."""
        if self.labels_ is not None:
            position = as_labels("position", position)
            if len(position) != n_bins:
                raise InputError(
                    f"position has {len(position)} bins and latents {n_bins}: cut both to the same bins",
                    parameter="position",
                )
            return encode_labels("position", position, self.labels_)[:, None]
        if is_discrete(position, None):
            raise InputError(
                "position consists of labels, but the decoder was fitted on numbers: give the behavior of the fit",
                parameter="position",
            )
        behavior, _ = check_behavior(position, n_bins)
        if behavior.shape[1] != len(self.periods_):
            raise InputError(
                f"position has {behavior.shape[1]} dimensions, that of the fit has {len(self.periods_)}: "
                "give the behavior of the fit",
                parameter="position",
            )
        return wrap_to_period(behavior, self.periods_)

    def _decoder_input(self, latents: Any, time: Any) -> tuple[str, Any, DecoderInput]:
        """Return the kind of latents, the decoder of this kind, and its input."""
        check_is_fitted(self, "decoders_")
        mean, cov, known_time = check_latents(latents, time)
        if mean.shape[1] != self.n_features_in_:
            raise InputError(
                f"latents has {mean.shape[1]} features, the decoder was fitted on {self.n_features_in_}: "
                "use latents of the same model",
                parameter="latents",
            )
        kind = self._kind_of_decoder(latents)
        bin_time = np.arange(len(mean), dtype=float) if known_time is None else known_time
        segment = np.asarray(latents.segment) if isinstance(latents, Latents) else segment_index(bin_time)
        return (
            kind,
            self.decoders_[kind],
            DecoderInput(mean, cov, known_time, bin_time, segment, getattr(latents, "session", "")),
        )

    def _lag(self, decoder: LatentDecoder | LabelDecoder, given: DecoderInput) -> np.ndarray:
        """Return the time since the end of the fit, seconds; NaN where it is unknown."""
        if given.time is None or not self.timed_ or isinstance(decoder, LabelDecoder):
            return np.full(len(given.mean), np.nan)
        return given.time - end_of_fit(self.session_ends_, given.session)

    def _kind_of_decoder(self, latents: Latents | np.ndarray) -> str:
        """Return the key of the decoder of latents of the kind of `latents`; arrays are decoded as those of the fit."""
        kind = kind_of(latents)
        if kind in self.decoders_:
            return kind
        if kind == "array" or "array" in self.decoders_:
            return next(iter(self.decoders_))
        raise InputError(
            f"latents are {kind}, but the decoder was fitted on {', '.join(self.decoders_)} ones: give fit the "
            "smoothed latents, too, as smoothed=model.transform(recording, smooth=True)",
            parameter="latents",
        )


def kind_of(latents: Latents | np.ndarray) -> str:
    """Return "filtered" or "smoothed" for latents, and "array" for an array."""
    if not isinstance(latents, Latents):
        return "array"
    return "smoothed" if latents.smoothed else "filtered"
