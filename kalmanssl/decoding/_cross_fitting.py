"""Rehearsals: what a model that was fitted on a part of the time makes of the rest.

The latents of bins that a model was fitted on are better than those of bins that it was not, and a code that drifts is
the further away from the fitted part the longer ago that was. A decoder that is calibrated on the bins of its own fit
is too sure of itself on any others; so the calibration looks at models which had less to see. One is fitted on the
first part and scored on what comes after it, one on the last part and scored on what came before: how a code drifts is
as little known in one direction as in the other, and animals change most at the beginning.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

from sklearn.base import clone

from kalmanssl.data import Latents, Recording
from kalmanssl.decoding._decoder import HeldOutFit
from kalmanssl.errors import InputError

__all__ = ["cross_fit"]


class LatentEstimator(Protocol):
    """An estimator of latents with the conventions of scikit-learn, such as `kalmanssl.KalmanSSL`."""

    def set_params(self, **settings: Any) -> Self:
        """Change settings by name."""

    def fit(self, X: Recording) -> Self:
        """Fit the latents of a recording."""

    def transform(self, X: Recording, smooth: bool = False) -> Latents:
        """Return the latents of a recording."""


def cross_fit(model: LatentEstimator, recording: Recording, share: float = 0.6) -> list[HeldOutFit]:
    """Fit copies of a model on the first and on the last part of its recording, for the calibration of a decoder.

    Each takes as long as its share of the fit itself.

    Parameters
    ----------
    model : LatentEstimator
        Its settings are used, its weights are not.
    recording : Recording
        What it was fitted on.
    share : float
        Share of the time that each copy is fitted on, inside (0, 1). The rest is how far ahead intervals are tried.

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
        raise InputError(f"share must lie inside (0, 1), got {share}")
    start, stop = float(recording.time[0]), float(recording.time[-1])
    length = share * (stop - start)
    held_out_fits = []
    for first, last in ((start, start + length), (stop - length, stop)):
        copy = clone(model).set_params(checkpoint_dir=None).fit(recording.restrict(first, last))
        filtered, smoothed = (copy.transform(recording, smooth=smooth) for smooth in (False, True))
        held_out_fits.append(HeldOutFit(filtered, smoothed, (first, last)))
    return held_out_fits
