"""Segments of time without gaps, the definition of a gap that all modules use, and times inside intervals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["break_at_gaps", "gap_starts", "in_intervals", "is_gap", "segment_index", "segment_slices", "segment_starts"]

_MAX_STEP = 1.5  # steps longer than this many times the expected step are gaps


def gap_starts(time: np.ndarray, step: float | None = None) -> np.ndarray:
    """Find the first bin after each gap.

    Parameters
    ----------
    time : (time,)
        Increasing, seconds.
    step : float, optional
        Expected difference between consecutive times, seconds; by default the median difference.

    Returns
    -------
    (gaps,) int
        Indices into `time`, increasing. A gap is a difference of more than 1.5 expected steps.
    """
    steps = np.diff(np.asarray(time, dtype=float))
    if len(steps) == 0:
        return np.zeros(0, dtype=int)
    return np.flatnonzero(is_gap(steps, float(np.median(steps)) if step is None else step)) + 1


def break_at_gaps(time: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return times and values (time,) or (time, dims) with NaN at each gap in time, which interrupts a line."""
    gaps = gap_starts(time)
    broken = (np.insert(np.asarray(one, dtype=float), gaps, np.nan, axis=0) for one in values)
    return np.insert(np.asarray(time, dtype=float), gaps, np.asarray(time)[gaps]), *broken


def is_gap(elapsed: Any, step: float) -> Any:
    """Return whether there is a gap between bins that are `elapsed` seconds apart, one number or several."""
    return elapsed > _MAX_STEP * step


def segment_slices(time: np.ndarray, step: float | None = None) -> list[slice]:
    """Return the segments between gaps, in order, as slices into the time axis. Parameters as in `gap_starts`."""
    borders = [0, *gap_starts(time, step).tolist(), len(time)]
    return [slice(start, stop) for start, stop in pairwise(borders)]


def segment_index(time: np.ndarray) -> np.ndarray:
    """Return the index of the segment of each bin, (time,) int, from 0; a gap is one of `gap_starts`."""
    index = np.zeros(len(time), dtype=int)
    index[gap_starts(time)] = 1
    return np.cumsum(index)


def segment_starts(segment: np.ndarray) -> np.ndarray:
    """Return which bins are the first of a segment, (time,) bool, from the number of the segment of each bin."""
    start = np.ones(len(segment), dtype=bool)
    start[1:] = np.diff(segment) != 0
    return start


def in_intervals(intervals: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return whether each time (time,) is in any interval ``start <= time < stop``, (time,) bool.

    The intervals (n, 2) can be in any order and overlap.
    """
    if len(intervals) == 0:
        return np.zeros(len(time), dtype=bool)
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    begun = np.searchsorted(intervals[:, 0], time, side="right")  # intervals that began; one of them must last
    latest_stop = np.concatenate([[-np.inf], np.maximum.accumulate(intervals[:, 1])])
    return np.asarray(time < latest_stop[begun])
