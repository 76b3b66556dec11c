"""Folds for cross-validation: contiguous blocks of time, with the time around each block left out of the training."""

from __future__ import annotations

from dataclasses import replace

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.selection._splitter import BlockedTimeSeriesSplit

__all__ = ["Fold", "folds_of_time"]

Fold = tuple[Recording, Recording]
"""Training part and held-out part of a recording."""


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
        If there are too few bins, or a training part has no bins.
    """
    only_activity = replace(recording, behavior={}, behavior_unit={}, epochs={}, spike_times=None)
    splitter = BlockedTimeSeriesSplit(n_folds, purge=purge / recording.bin_size)
    try:
        return [(only_activity[train], only_activity[test]) for train, test in splitter.split(only_activity)]
    except InputError as error:
        if error.parameter != "purge":
            raise
        raise InputError(
            f"the recording of {recording.duration:g} s is too short for {n_folds} folds with a purge of "
            f"{purge:g} s: use a shorter purge or a longer recording",
            parameter="purge",
        ) from None
