"""Joining of selected bins to one recording without gaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kalmanssl.data._recording import Recording
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array

__all__ = ["join_bins"]


def join_bins(recording: Recording, keep: Any) -> Recording:
    """Return the bins where a mask is true, as if each followed the one before it without a gap.

    A model of the joined running bins of a track learns one continuous movement, in laps. `Recording.restrict` and
    `Recording.split` keep gaps instead, and each segment between gaps is then filtered by itself.

    Parameters
    ----------
    recording : Recording
    keep : (time,) bool
        For example ``kalmanssl.running_bins(recording.behavior["position"], recording.time)``.

    Returns
    -------
    Recording
        Time runs from the first kept bin on, in steps of the bin size; ``recording.time[keep]`` has the original times.
        It has no spike times and no epochs.

    Raises
    ------
    InputError
        If the mask has another length than the recording, or no bin is kept.
    """
    keep = as_array("keep", keep)
    if keep.dtype.kind not in "biuf" or not np.isin(keep, (0, 1)).all():
        raise InputError("keep must be a mask, true or false in each bin: give an array of bools", parameter="keep")
    keep = keep.astype(bool)
    if keep.shape != recording.time.shape:
        raise InputError(f"keep has shape {keep.shape}: {recording.time.shape} is needed", parameter="keep")
    count = int(keep.sum())
    if not count:
        raise InputError("keep is false in every bin: keep at least one", parameter="keep")
    return replace(
        recording,
        activity=recording.activity[keep],
        time=recording.time[keep][0] + recording.bin_size * np.arange(count),
        behavior={name: values[keep] for name, values in recording.behavior.items()},
        epochs={},
        spike_times=None,
        notes=(*recording.notes, f"{count} of {len(keep)} bins joined without gaps"),
    )
