"""Cross-fitting: latents of bins that a model was not fitted on, for the calibration of a decoder.

The latents of bins that a model was fitted on are better than those of other bins, and a code that drifts differs more
the further away in time the fitted part is. A decoder that is calibrated on the bins of its own fit has intervals that
are too narrow on other bins. The calibration therefore uses copies of the model that were fitted on a part of the time
only: one on the first part and scored on what comes after it, one on the last part and scored on what came before. Both
directions are used because the drift is as uncertain backward in time as forward.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from sklearn.base import clone

from kalmanssl.data import Latents, Recording
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import gap_starts

__all__ = ["HeldOutFit", "LatentEstimator", "cross_fit", "rehearse"]


@dataclass(frozen=True)
class HeldOutFit:
    """Latents of all of the training time, from a model that was fitted on only a part of it.

    Outside that part they are latents of data that the model has not seen, as those of a test part are. Made by
    `kalmanssl.cross_fit`.

    Attributes
    ----------
    latents, smoothed : Latents
        Filtered and smoothed latents, over the same bins as the latents that the decoder is fitted on.
    fit_interval : (start, stop)
        Part of the time that the model was fitted on, seconds.
    """

    latents: Latents
    smoothed: Latents
    fit_interval: tuple[float, float]


class LatentEstimator(Protocol):
    """An estimator of latents with the conventions of scikit-learn, such as `kalmanssl.KalmanSSL`."""

    def set_params(self, **settings: Any) -> Self:
        """Change settings by name."""

    def fit(self, X: Recording) -> Self:
        """Fit to a recording."""

    def transform(self, X: Recording, smooth: bool = False) -> Latents:
        """Return the latents of a recording."""


def cross_fit(model: LatentEstimator, recording: Recording, share: float = 0.6) -> list[HeldOutFit]:
    """Fit copies of a model on the first and on the last part of its recording, for the calibration of a decoder.

    Each takes `share` times as long as the fit of the model itself.

    Parameters
    ----------
    model : LatentEstimator
        Its settings are used, its weights are not.
    recording : Recording
        The recording that the model was fitted on.
    share : float
        Fraction of the time that each copy is fitted on, inside (0, 1); gaps between segments do not count. The rest
        sets the longest lag at which the intervals are calibrated.

    Returns
    -------
    list of HeldOutFit
        For `PositionDecoder.fit`.

    Raises
    ------
    InputError
        If `share` is not inside (0, 1), or leaves too little to fit on.
    """
    if not 0 < share < 1:
        raise InputError(f"share must lie inside (0, 1), got {share}", parameter="share")
    start, stop = float(recording.time[0]), float(recording.time[-1])
    first_part = start, _time_at_share(recording.time, recording.bin_size, share)
    last_part = -_time_at_share(-recording.time[::-1], recording.bin_size, share), stop
    held_out_fits = []
    for first, last in (first_part, last_part):
        copy = clone(model).set_params(checkpoint_dir=None).fit(recording.restrict(first, last))
        filtered, smoothed = (copy.transform(recording, smooth=smooth) for smooth in (False, True))
        held_out_fits.append(HeldOutFit(filtered, smoothed, (first, last)))
    return held_out_fits


def _time_at_share(time: np.ndarray, bin_size: float, share: float) -> float:
    """Return the time before which there is a share of the time that is not in gaps."""
    gaps = gap_starts(time, bin_size)
    durations = time[gaps] - time[gaps - 1] - bin_size
    length = share * (time[-1] - time[0] - durations.sum())
    length_before_gap = time[gaps - 1] - time[0] - (np.cumsum(durations) - durations)
    return float(time[0] + length + durations[length_before_gap < length].sum())


def rehearse(model: LatentEstimator, recording: Recording, share: float = 0.6) -> list[HeldOutFit]:
    """Call `cross_fit`, which replaces this name; it will be removed in version 0.2."""
    warnings.warn("rehearse is now called cross_fit and will be removed in 0.2", FutureWarning, stacklevel=2)
    return cross_fit(model, recording, share)
