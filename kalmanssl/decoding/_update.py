"""Update of a fitted decoder with behavior that becomes known after the fit."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from kalmanssl.data import Latents, behavior_at
from kalmanssl.decoding._adaptation import Adaptation
from kalmanssl.decoding._fitted import FittedDecoder
from kalmanssl.decoding.grids import wrap_to_period
from kalmanssl.decoding.inputs import check_behavior, check_same_bins, is_list_of_latents, join_trials
from kalmanssl.decoding.labels import encode_labels, is_discrete
from kalmanssl.errors import InputError
from kalmanssl.utils.labels import label_column

__all__ = ["UpdateMixin"]


class UpdateMixin(FittedDecoder):
    """The method `update` of `PositionDecoder`."""

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
        if is_list_of_latents(latents) and len({one.session for one in latents}) > 1:
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
        return adaptation.learn(decoder, given, behavior)

    def _later_behavior(self, position: Any, n_bins: int) -> np.ndarray:
        """Return behavior of the kind of the fit as (time, dims); the number of the label for labels."""
        if self.labels_ is not None:
            check_same_bins(label_column("position", position), n_bins)
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
