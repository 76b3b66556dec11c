"""The bins that the report shows in detail."""

from __future__ import annotations

import numpy as np

from kalmanssl.data import Recording

__all__ = ["excerpt_bins"]

_LEAST = 0.8  # of the largest amount of running or activity in an excerpt
_SECONDS = 40.0
_RECORDED = 0.5  # share of the time of an excerpt with gaps that is recorded, at least


def excerpt_bins(recording: Recording, interest: np.ndarray) -> slice:
    """Return the bins of the excerpt that is nearest to the middle, of those with most of the interest (time,).

    The one with the highest sum is often an exception, such as an artifact or a detour, and would not represent the
    rest. An excerpt has gaps only if these are short, as between trials; otherwise it lies within one segment. If all
    segments are shorter, it is one with at least about the median of their sums: long ones are exceptions too.
    """
    starts, stops = _windows(recording)
    are_long = len(starts) > 0
    if not are_long:
        starts, stops = _windows_within_segments(recording)
        are_long = bool((stops - starts).max() >= round(_SECONDS / recording.bin_size))
    total = np.concatenate([[0.0], np.cumsum(interest, dtype=float)])
    found = total[stops] - total[starts]
    enough = np.flatnonzero(found >= _LEAST * (found.max() if are_long else np.median(found)))
    middle = (starts[enough] + stops[enough]) / 2
    chosen = enough[np.abs(middle - len(recording) / 2).argmin()]
    return slice(int(starts[chosen]), int(stops[chosen]))


def _windows(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and stops of all windows of the length of an excerpt in which enough time is recorded."""
    time, bin_size = recording.time, recording.bin_size
    last = time + _SECONDS - 1.5 * bin_size  # centers of the last bins
    starts = np.flatnonzero(last <= time[-1] + 0.5 * bin_size)
    stops = np.searchsorted(time, last[starts] + bin_size, side="left")
    is_full = (stops - starts) * bin_size >= _RECORDED * _SECONDS
    return starts[is_full], stops[is_full]


def _windows_within_segments(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and stops of all windows without a gap, as long as the segment allows."""
    count = max(2, round(_SECONDS / recording.bin_size))
    starts, stops = [], []
    for segment in recording.segments():
        size = min(count, segment.stop - segment.start)
        starts.append(np.arange(segment.start, segment.stop - size + 1))
        stops.append(starts[-1] + size)
    return np.concatenate(starts), np.concatenate(stops)
