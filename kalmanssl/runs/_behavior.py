"""What is in a recording: its kind of activity, and the name, the period and constant segments of the behavior."""

from __future__ import annotations

import dataclasses

import numpy as np

from kalmanssl.data import NWBSummary, Recording, count_laps, full_circle, lap_length
from kalmanssl.runs._settings import RunSettings
from kalmanssl.utils.measurement_units import is_angle
from kalmanssl.utils.segments import is_gap

__all__ = [
    "activity_kind",
    "behavior_name",
    "laps_sentence",
    "longest_constant",
    "period_of_angle",
    "with_behavior_name",
]

_READ_AS = "position"  # the name of the only spatial series of a recording
_ROWS = 4096  # bins that are handled at a time, so that memory does not grow with the recording
_GENERAL = ("SpatialSeries", "TimeSeries")


def activity_kind(recording: Recording) -> str:
    """Return "spikes", "events" (amplitudes of events, which are no whole numbers) or "signal"."""
    if recording.kind != "counts":
        return "signal"
    bins = range(0, len(recording), _ROWS)
    is_whole = recording.spike_times is not None or not any(np.any(recording.activity[i : i + _ROWS] % 1) for i in bins)
    return "spikes" if is_whole else "events"


def behavior_name(settings: RunSettings, summary: NWBSummary) -> str:
    """Return what the behavior is called: "position", or its name in the file if it was given or there are several."""
    taken = summary.taken("behavior")
    if len(taken) != 1:
        return _READ_AS
    *containers, name = taken[0].path.split("/")
    container = containers[-1] if containers else name
    if settings.behavior is not None:
        given = settings.behavior.strip("/").rsplit("/", 1)[-1]
        name = container if given in _GENERAL else given
    else:
        several = sum(found.role == "behavior" and found.use != "skipped" for found in summary.objects) > 1
        name = (container if name in _GENERAL else name) if several else _READ_AS
    # "Position" and "mazeSpatialSeries" are names of types of objects, "hand_position" is that of a behavior
    return _READ_AS if name.endswith((*_GENERAL, "Position")) or name == _READ_AS else name


def with_behavior_name(recording: Recording, name: str) -> Recording:
    """Return the recording with its only behavior under this name, if it was read as "position"."""
    if list(recording.behavior) != [_READ_AS] or name == _READ_AS:
        return recording
    units = {name: recording.behavior_unit[_READ_AS]} if _READ_AS in recording.behavior_unit else {}
    return dataclasses.replace(recording, behavior={name: recording.behavior[_READ_AS]}, behavior_unit=units)


def period_of_angle(settings: RunSettings, training: Recording, behavior: str | None) -> float | None:
    """Return the period of a behavior that covers a whole circle, or None if the settings have a period or deny one."""
    if behavior is None or settings.period is not None or settings.discrete or settings.end_zones is not None:
        return None
    return full_circle(training.behavior[behavior], training.behavior_unit.get(behavior, ""))


def laps_sentence(settings: RunSettings, training: Recording, behavior: str | None) -> str | None:
    """Say that a position starts again after each lap, if the settings neither have a period nor deny one."""
    if behavior is None or settings.period is not None or settings.discrete:
        return None
    values, steps = training.behavior[behavior], np.diff(training.time)
    if is_angle(training.behavior_unit.get(behavior, "")) or values.dtype == object:
        return None
    is_next = ~is_gap(steps, training.bin_size)
    length = lap_length(values, is_next)
    return None if length is None else lap_text(behavior, count_laps(values, is_next), length)


def lap_text(name: str, laps: int, length: float) -> str:
    """Say what a jump after each lap means for the decoder."""
    return (
        f"{name} jumps from one end to the other {laps} times, always in the same direction, and is decoded on a line; "
        f"where the end is also the start, as on a belt, --period with the length of a lap, about {length:.4g}, "
        "decodes it on a circle"
    )


def longest_constant(behavior: np.ndarray) -> tuple[float, int, int]:
    """Find the longest sequence of known bins in which a behavior (time,) or (time, dims) has one value.

    Returns
    -------
    share : float
        Its share of all known bins; 0 without any.
    first, last : int
        Index of its first and of its last bin.
    """
    columns = np.asarray(behavior, dtype=float).reshape(len(behavior), -1)
    known = np.flatnonzero(np.isfinite(columns).all(axis=1))
    if len(known) == 0:
        return 0.0, 0, 0
    changes = np.flatnonzero((np.diff(columns[known], axis=0) != 0).any(axis=1)) + 1
    borders = np.concatenate([[0], changes, [len(known)]])
    longest = int(np.diff(borders).argmax())
    first, last = int(borders[longest]), int(borders[longest + 1]) - 1
    return (last + 1 - first) / len(known), int(known[first]), int(known[last])
