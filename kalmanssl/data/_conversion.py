"""Conversion of what is accepted as a recording."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.data._pynapple import is_pynapple
from kalmanssl.data._recording import Recording
from kalmanssl.errors import InputError

__all__ = ["as_recording"]


def as_recording(name: str, value: Any, bin_size: float | None = None) -> Recording:
    """Return a recording, or an object of pynapple with activity as a recording.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : Recording, TsGroup, Ts, TsdFrame or Tsd
    bin_size : float, optional
        Width of a bin for spike times, seconds; 0.025 if it is None or NaN. Time series keep theirs.

    Raises
    ------
    InputError
        If it is anything else, or cannot be converted.
    """
    if isinstance(value, Recording):
        return value
    if is_pynapple(value):
        known = bin_size is not None and np.isfinite(bin_size) and is_pynapple(value, "Ts", "TsGroup")
        return Recording.from_pynapple(value, bin_size if known else None)
    raise InputError(
        f"{name} must be a Recording, got {type(value).__name__}: use Recording.from_arrays", parameter=name
    )
