"""Confidence of tracked points, which the extension ndx-pose stores beside their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data.nwb._access import find_dataset, location, read_numbers
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["confident_samples", "without_doubtful"]

_LEAST = 0.6  # of samples that are used; the default of DeepLabCut (pcutoff)


def confident_samples(series: h5py.Group, n: int) -> np.ndarray:
    """Return which of the `n` samples of a series have no confidence or at least 0.6, (n,) bool.

    Raises
    ------
    InputError
        If the file has another number of confidences than samples.
    """
    data = find_dataset(series, "confidence")
    if data is None:
        return np.ones(n, dtype=bool)
    confidence = read_numbers(data)
    if len(confidence) != n:
        raise InputError(
            f"series {location(series)} has {n} samples but {len(confidence)} values of confidence; repair the file"
        )
    return ~(confidence < _LEAST)  # True with NaN, as for points that were set by hand


def without_doubtful(series: h5py.Group, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the values (samples, ...) of a series with NaN where the confidence is low, and a note on these."""
    n = len(values) if values.ndim else 0
    confident = confident_samples(series, n)
    if confident.all():
        return values, []
    doubtful = int((~confident).sum())
    note = f"series {location(series)}: {doubtful} of {n} samples have a confidence below {_LEAST:g} and are unknown"
    return np.where(confident.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan), [note]
