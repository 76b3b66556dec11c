"""Folds for cross-validation: contiguous blocks of time, with the time around each block left out of the training."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import gap_starts

__all__ = ["Fold", "folds_of_time"]

Fold = tuple[Recording, Recording]
"""Training part and held-out part of a recording."""

_MAX_SHIFT = 0.25  # a border is moved to the next gap if it is at most this fraction of a fold away


def folds_of_time(recording: Recording, n_folds: int, purge: float) -> list[Fold]:
    """Divide a recording into contiguous blocks of about as many bins, and hold out each of them once.

    Blocks begin and end at gaps if there are gaps near the borders, so that trials are not cut.

    Parameters
    ----------
    recording : Recording
    n_folds : int
    purge : float
        Time before and after the held-out block that the training part does not have, seconds.

    Returns
    -------
    list of (training part, held-out part)
        Recordings without behavior, epochs and spike times.

    Raises
    ------
    InputError
        If a training part has no bins.
    """
    only_activity = replace(recording, behavior={}, behavior_unit={}, spike_times=None)
    half = 0.5 * recording.bin_size
    folds = []
    for first, last in pairwise(_borders(recording, n_folds)):
        start, stop = recording.time[first] - half, recording.time[last - 1] + half
        outside = np.array([[-np.inf, start - purge], [stop + purge, np.inf]])
        if not (recording.time < start - purge).any() and not (recording.time >= stop + purge).any():
            raise InputError(
                f"the recording of {recording.duration:g} s is too short for {n_folds} folds with a purge of "
                f"{purge:g} s: use a shorter purge or a longer recording",
                parameter="purge",
            )
        parts = (
            replace(only_activity, epochs={"part": interval}).restrict(epoch="part")
            for interval in (outside, np.array([[start, stop]]))
        )
        training, held_out = (replace(part, epochs={}) for part in parts)
        folds.append((training, held_out))
    return folds


def _borders(recording: Recording, n_folds: int) -> list[int]:
    """Return the indices of the first bins of the folds, and the number of bins."""
    n_bins = len(recording)
    if n_bins < 2 * n_folds:
        raise InputError(f"{n_bins} bins are too few for {n_folds} folds", parameter="n_folds")
    gaps = gap_starts(recording.time, recording.bin_size)
    borders = [0]
    for border in np.round(np.arange(1, n_folds) * n_bins / n_folds).astype(int):
        near = gaps[np.abs(gaps - border) <= _MAX_SHIFT * n_bins / n_folds]
        borders.append(int(near[np.argmin(np.abs(near - border))]) if len(near) else int(border))
    return [*borders, n_bins]
