"""Times of the samples of a series in an NWB file: timestamps, or a starting time and a rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data.nwb._access import check_size, find_dataset, location, number_attribute, read_number, read_numbers
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["distinct_times", "read_times"]


def read_times(group: h5py.Group, n: int, extent: tuple[float, float] | None) -> tuple[np.ndarray, list[str]]:
    """Return the times (samples,) of the `n` samples of a series, seconds, and notes on corrections.

    `extent` is the time range of spikes and epochs, seconds. It is used to detect sampling periods stored as rates.
    """
    name = location(group)
    notes: list[str] = []
    timestamps, start = find_dataset(group, "timestamps"), find_dataset(group, "starting_time")
    if timestamps is not None:
        times = read_numbers(timestamps).astype(float)
    elif start is not None:
        rate = number_attribute(start, "rate", np.nan)
        check_size(name, 16.0 * n)
        times, notes = _regular_times(name, read_number(start), rate, n, extent)
    else:
        raise InputError(f"series {name} has neither timestamps nor a starting time; select another series")
    if len(times) != n:
        raise InputError(f"series {name} has {n} samples but {len(times)} timestamps; the file is damaged")
    return times, notes


def distinct_times(name: str, times: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the samples with a time after that of the previous sample, and notes on the others.

    Samples with a NaN time or the time of the previous sample are left out. A time that decreases is an error.
    """
    timed = np.flatnonzero(np.isfinite(times))
    steps = np.diff(times[timed])
    if (steps < 0).any():
        i = int(timed[np.argmax(steps < 0)])
        later = timed[int(np.argmax(steps < 0)) + 1]
        raise InputError(
            f"series {name}: time does not increase at sample {later} ({times[i]:.10g} s, "
            f"then {times[later]:.10g} s); sort or repair the series"
        )
    notes = []
    if len(timed) < len(times):
        notes.append(f"series {name}: {len(times) - len(timed)} samples have no time and are ignored")
    if (steps == 0).any():
        first = np.concatenate([[True], steps > 0])
        timed = timed[first]
        notes.append(
            f"series {name}: {int((~first).sum())} samples have the same time as the previous one and are ignored"
        )
    return timed, notes


def _regular_times(
    name: str, start: float, rate: float, n: int, extent: tuple[float, float] | None
) -> tuple[np.ndarray, list[str]]:
    if not (np.isfinite(start) and 0 < rate < np.inf):
        raise InputError(
            f"series {name} has starting_time {start} and rate {rate}; both must be finite and rate positive"
        )
    if rate < 1 and extent is not None:
        low, high = extent
        session = high - low
        written, corrected = start + n / rate, start + n * rate
        # As a rate, the series would last much longer than the session; as a period, it fits (with some tolerance).
        if written > high + session and corrected <= high + 0.1 * session + 1.0:
            note = (
                f"series {name}: rate {rate:g} is a sampling period and was read as {1 / rate:.4g} Hz "
                f"(as a rate, the series would last {n / rate / 3600:.3g} h in a session of {session / 3600:.3g} h)"
            )
            return start + rate * np.arange(n), [note]
    return start + np.arange(n) / rate, []
