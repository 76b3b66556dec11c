"""Time axis of the excerpt: where most of the time is not recorded, gaps are drawn short, so that bins are visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.plotting import label_time, time_origin
from kalmanssl.runs._excerpt import MIN_RECORDED
from kalmanssl.utils.segments import segment_index, segment_slices, segment_starts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["drawn_time", "has_short_gaps", "label_segments", "recorded_seconds"]

_GAP = 0.012  # width of a gap that is drawn short, as a share of the recorded time
_MOST_TICKS = 9


def recorded_seconds(time: np.ndarray) -> float:
    """Return the recorded time of bins at increasing times (time,), in seconds."""
    return len(time) * _bin_size(time)


def has_short_gaps(time: np.ndarray) -> bool:
    """Return whether gaps are drawn short because less than half of the time (time,) is recorded."""
    return recorded_seconds(time) < MIN_RECORDED * (time[-1] - time[0])


def drawn_time(time: np.ndarray) -> np.ndarray:
    """Return where bins are drawn on the time axis, (time,) increasing: at their time, unless gaps are drawn short."""
    if not has_short_gaps(time):
        return time
    starts = np.flatnonzero(segment_starts(segment_index(time)))[1:]
    left_out = np.zeros(len(time))
    width = max(_GAP * recorded_seconds(time), 3 * _bin_size(time))
    left_out[starts] = np.maximum(time[starts] - time[starts - 1] - width, 0.0)
    return time - np.cumsum(left_out)


def label_segments(ax: Axes, time: np.ndarray) -> None:
    """Label a time axis with short gaps: the ticks are where segments begin, and have the time of the recording."""
    if not has_short_gaps(time):
        return
    drawn, first = drawn_time(time), [segment.start for segment in segment_slices(time)]
    shown = first[:: -(-len(first) // _MOST_TICKS)]
    origin = time_origin(time)
    label_time(ax, time)
    ax.set_xlabel(f"{ax.get_xlabel()} at which a segment begins; gaps are drawn short")
    ax.set_xticks(drawn[shown], [f"{time[start] - origin:.1f}" for start in shown])


def _bin_size(time: np.ndarray) -> float:
    return float(np.median(np.diff(time))) if len(time) > 1 else 0.0
