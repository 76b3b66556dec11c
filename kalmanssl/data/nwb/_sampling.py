"""Sampling of a series in an NWB file: rate, times and gaps, without reading its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data._binning import sampling_period
from kalmanssl.data.nwb._access import (
    find_dataset,
    location,
    number_attribute,
    read_array,
    read_number,
    require_dataset,
)
from kalmanssl.data.nwb._times import distinct_times, read_times
from kalmanssl.errors import InputError
from kalmanssl.utils.segments import is_gap

if TYPE_CHECKING:
    import h5py

__all__ = ["Sampling", "read_sampling"]

_MAX_TIMES = 20_000_000  # times of longer series are not read


@dataclass(frozen=True)
class Sampling:
    """Sampling of a series.

    Attributes
    ----------
    rate : float or None
        Hz.
    start, stop : float or None
        Times of the first and the last sample, seconds.
    gaps : int or None
        Number of steps of more than 1.5 sampling periods.
    gap_seconds : float or None
        Total length of these steps, seconds.
    """

    rate: float | None = None
    start: float | None = None
    stop: float | None = None
    gaps: int | None = None
    gap_seconds: float | None = None


def read_sampling(series: h5py.Group, extent: tuple[float, float] | None) -> tuple[Sampling, list[str]]:
    """Return the sampling of a series and notes on corrections; raise `InputError` if its times cannot be used."""
    data = require_dataset(series, "data")
    if not data.shape:
        raise InputError(f"series {location(series)} has no samples: its data has the shape {data.shape}")
    n = data.shape[0]
    start, timestamps = find_dataset(series, "starting_time"), find_dataset(series, "timestamps")
    if n > _MAX_TIMES and start is not None:
        first, rate = read_number(start), number_attribute(start, "rate", np.nan)
        if not rate > 0:
            raise InputError(f"series {location(series)} has rate {rate}; it must be positive")
        return Sampling(rate, first, first + (n - 1) / rate, 0, 0.0), []
    if n > _MAX_TIMES and timestamps is not None and timestamps.shape == (n,):
        first, last = (float(read_array(timestamps, i)) for i in (0, n - 1))
        mean_rate = (n - 1) / (last - first) if last > first else None
        return Sampling(mean_rate, first, last), ["too long to look for gaps"]
    times, notes = read_times(series, n, extent)
    rows, remarks = distinct_times(location(series), times)
    times = times[rows]
    if not len(times):
        return Sampling(), notes + remarks
    period = sampling_period(times)
    steps = np.diff(times)
    long = steps[is_gap(steps, period)]
    return Sampling(
        1 / period if period > 0 else None, float(times[0]), float(times[-1]), len(long), float(long.sum())
    ), notes + remarks
