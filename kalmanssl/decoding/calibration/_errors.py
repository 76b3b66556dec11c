"""Predictions on held-out blocks of time with the truth, from which a calibration is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kalmanssl.decoding.grids import Predictive
from kalmanssl.utils.moments import evenly_spaced

__all__ = ["HeldOutErrors"]


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
        picked = evenly_spaced(len(self.truth), max_bins)
        return HeldOutErrors(self.predictive[picked], self.truth[picked], self.lag[picked], self.block[picked])
