"""The bins that the report shows in detail."""

from __future__ import annotations

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.utils.segments import segment_slices

__all__ = ["MIN_RECORDED", "excerpt_bins"]

MIN_RECORDED = 0.5  # share of the time of an excerpt that is recorded if it has all bins of this time, at least
_LEAST = 0.8  # of the largest amount of running, activity or changes in an excerpt
_SECONDS = 40.0


def excerpt_bins(recording: Recording, interest: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Return the bins (bins,) int of the excerpt that is nearest to the middle, of those with most of the interest.

    The one with the highest sum is often an exception, such as an artifact or a detour, and would not represent the
    rest. An excerpt has gaps only if these are short, as between trials; otherwise it consists of whole segments with
    as many bins together.

    Parameters
    ----------
    recording : Recording
    interest : (time,)
        Not negative, such as whether the animal runs.
    labels : (time,), optional
        Numbers of labels, NaN where they are unknown. Their changes are then the interest, so that the excerpt does not
        have a single label; where labels are known in short pieces that are far apart, it consists of such pieces.
    """
    everywhere = np.arange(len(recording))
    if labels is not None:
        known = np.flatnonzero(np.isfinite(labels))
        for bins, find in ((everywhere, _windows), (everywhere, _whole_segments), (known, _whole_segments)):
            starts, stops = find(recording.time[bins], recording.bin_size)
            changes = _changes_within(labels[bins], starts, stops)
            if changes.max(initial=0) > 0:
                return bins[_most_typical(starts, stops, changes, len(bins))]
    starts, stops = _windows(recording.time, recording.bin_size)
    if len(starts) == 0:
        starts, stops = _whole_segments(recording.time, recording.bin_size)
    total = np.concatenate([[0.0], np.cumsum(interest, dtype=float)])
    return everywhere[_most_typical(starts, stops, total[stops] - total[starts], len(recording))]


def _most_typical(starts: np.ndarray, stops: np.ndarray, amount: np.ndarray, count: int) -> slice:
    """Return the window that is nearest to the middle of `count` bins, of those with nearly the largest amount."""
    enough = np.flatnonzero(amount >= _LEAST * amount.max())
    chosen = enough[np.abs((starts[enough] + stops[enough]) / 2 - count / 2).argmin()]
    return slice(int(starts[chosen]), int(stops[chosen]))


def _changes_within(labels: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return the number of changes of the label between known bins of each window."""
    known = np.flatnonzero(np.isfinite(labels))
    changed = np.flatnonzero(np.diff(labels[known]) != 0)
    before, after = np.zeros((2, len(labels) + 1), dtype=int)
    before[known[changed] + 1] = 1  # the last bin before a change
    after[known[changed + 1] + 1] = 1  # the first bin after it
    return np.maximum(np.cumsum(after)[stops] - np.cumsum(before)[starts], 0)


def _windows(time: np.ndarray, bin_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and stops of all windows of the length of an excerpt in which enough time is recorded."""
    if len(time) == 0:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    last = time + _SECONDS - 1.5 * bin_size  # centers of the last bins
    starts = np.flatnonzero(last <= time[-1] + 0.5 * bin_size)
    stops = np.searchsorted(time, last[starts] + bin_size, side="left")
    is_full = (stops - starts) * bin_size >= MIN_RECORDED * _SECONDS
    return starts[is_full], stops[is_full]


def _whole_segments(time: np.ndarray, bin_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and stops of all windows of consecutive segments that together are at most an excerpt long.

    A longer segment is a window by itself, up to the length of an excerpt.
    """
    borders = [segment.start for segment in segment_slices(time, bin_size)] + [len(time)]
    most = max(2, round(_SECONDS / bin_size))
    starts = np.array(borders[:-1])
    ends = np.array(borders[1:])
    n_inside = np.searchsorted(ends, starts + most, side="right")  # segments that end inside, and those before
    return starts, np.maximum(np.append(0, ends)[n_inside], np.minimum(ends, starts + most))
