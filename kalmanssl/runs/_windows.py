"""Windows of time of a run: the parts of a recording that are fitted, decoded or evaluated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.segments import in_intervals
from kalmanssl.utils.text import shorten, time_span
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["fitted_windows", "interval_notes", "part_of", "was_fitted"]


def part_of(
    recording: Recording, windows: list[list[float]], during: list[str], after: float | None = None
) -> Recording:
    """Return the bins in any of the windows, in any of the intervals, and from `after` on.

    Parameters
    ----------
    recording : Recording
    windows : list of [start, stop]
        Seconds, in the clock of the recording. Empty keeps all bins.
    during : list of str
        Names of epochs or tables of intervals. Empty keeps all bins.
    after : float, optional
        Seconds.

    Raises
    ------
    InputError
        If a name is unknown, `after` is not a number, or no bin is left.
    """
    half = 0.5 * recording.bin_size
    covers = f"the recording covers {time_span(recording.time[0] - half, recording.time[-1] + half)}"
    if after is not None:
        if math.isnan(after):
            raise InputError("after must be a time in seconds, got NaN", parameter="after")
        if after > recording.time[-1]:
            raise InputError(f"after={after:.10g} leaves nothing: {covers}", parameter="after")
        recording = recording.restrict(start=after)
    for name in during:
        if name not in recording.epochs:
            known = shorten(", ".join(sorted(recording.epochs))) or "none"
            raise InputError(
                f"during={short_repr(name)} is not a table of intervals or an epoch of the recording; it has: {known}",
                parameter="during",
            )
    if during:
        spans = np.concatenate([recording.epochs[name] for name in during])
        recording = _keep(recording, spans, f"during={', '.join(during):.80}", covers, "during")
    if windows:
        text = ", ".join(f"{start:.10g} to {stop:.10g} s" for start, stop in windows)
        recording = _keep(recording, np.array(windows), f"windows={shorten(text)}", covers, "windows")
    return recording


def interval_notes(recording: Recording, during: list[str]) -> list[str]:
    """Return what must be known of the intervals that `part_of` uses: that some have no bin, or overlap.

    Parameters
    ----------
    recording : Recording
    during : list of str
        Names of epochs or tables of intervals; others are ignored.

    Returns
    -------
    list of str
        A sentence for each name and problem, with the first such interval.
    """
    notes = []
    for name in during:
        spans = np.reshape(recording.epochs.get(name, []), (-1, 2))
        spans = spans[np.argsort(spans[:, 0], kind="stable")]
        first, last = np.searchsorted(recording.time, spans.T)
        overlaps = np.concatenate([[False], spans[1:, 0] < np.maximum.accumulate(spans[:, 1])[:-1]])[: len(spans)]
        for found, problem in (
            (first == last, "contain no bin of the recording and are not used"),
            (overlaps, "overlap earlier ones and are joined with them"),
        ):
            if found.any():
                example = time_span(*spans[np.flatnonzero(found)[0]])
                notes.append(f"{found.sum()} of {len(spans)} intervals of {name} {problem}: {example}")
    return notes


def _keep(recording: Recording, intervals: np.ndarray, given: str, covers: str, parameter: str) -> Recording:
    """Return the bins in the intervals (n, 2), which can overlap."""
    inside = in_intervals(intervals, recording.time)
    if not inside.any():
        raise InputError(f"{given} contains no bin of this part: {covers}", parameter=parameter)
    return recording[inside]


def fitted_windows(training: Recording) -> list[list[float]]:
    """Return the start and the stop of every segment of the fitted part, seconds."""
    half, time = 0.5 * training.bin_size, training.time
    return [[float(time[s.start] - half), float(time[s.stop - 1] + half)] for s in training.segments()]


def was_fitted(part: Recording, windows: list[list[float]]) -> bool:
    """Return whether a part of the fitted recording has bins in the windows that were fitted."""
    return bool(in_intervals(np.reshape(windows, (-1, 2)), part.time).any())
