"""Which bins of a run count as running: by end zones, a speed of the settings, or one found from the fitted part."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data import Recording, running_bins, running_threshold
from kalmanssl.errors import InputError
from kalmanssl.runs._labels import consists_of_labels
from kalmanssl.runs._text import append_unit, is_velocity, number, scaled_unit, with_unit

if TYPE_CHECKING:
    from kalmanssl.runs._run import Run
    from kalmanssl.runs._settings import RunSettings

__all__ = ["divided_by_itself", "position_of", "running_rule", "running_speed", "speed_unit", "where_running"]


def running_speed(settings: RunSettings, training: Recording, behavior: str | None) -> float | None:
    """Return the speed that separates running from rest in the fitted part, if the settings do not define running.

    None if there is no behavior, if it never moves, or if it consists of labels.
    """
    if behavior is None or consists_of_labels(settings, training.behavior[behavior]):
        return None
    if settings.end_zones is not None or settings.min_speed is not None:
        return None
    found = running_threshold(position_of(training, behavior), training.time, settings.period)
    return found if math.isfinite(found) else None


def where_running(
    settings: RunSettings, recording: Recording, behavior: str | None, threshold: float | None = None
) -> np.ndarray | None:
    """Return in which bins the animal runs, (time,) bool, or None if this is not defined.

    `threshold`, a speed, is used if the settings have neither `end_zones` nor `min_speed`.
    """
    position = recording.behavior.get(behavior) if behavior else None
    min_speed = threshold if settings.min_speed is None else settings.min_speed
    if position is None or (settings.end_zones is None and min_speed is None):
        return None
    if settings.end_zones is not None:
        low, high = settings.end_zones
        if settings.min_speed is not None:
            raise InputError(
                "min_speed cannot be combined with end_zones: give end_zones for a linear track, min_speed otherwise",
                parameter="min_speed",
            )
        return running_bins(position, end_zones=(low, high))
    return running_bins(
        position_of(recording, str(behavior)), recording.time, min_speed=min_speed, period=settings.period
    )


def running_rule(run: Run, like: float | None = None) -> str | None:
    """Say in words which bins count as running; None if this is not defined.

    Positions and speeds are in the unit in which a position of `like` is easy to read, or that of the files.
    """
    s, unit = run.settings, run.behavior_unit
    factor, shown = scaled_unit(like, unit)
    if s.end_zones is not None:
        low, high = (f"{factor * end:g}" for end in s.end_zones)
        return f"from one end of the track to the other, between {low} and {high} {shown}".rstrip()
    found = run.metadata.get("running_speed") if s.min_speed is None else s.min_speed
    if found is None:
        return None
    how = ", found from the speeds of the fitted part" if s.min_speed is None else " (--min-speed)"
    if like is None:
        return f"speed above {with_unit(found, speed_unit(unit))}{how}"
    return f"speed above {append_unit(number(factor * found), speed_unit(shown))}{how}"


def position_of(recording: Recording, behavior: str) -> np.ndarray:
    """Return the behavior whose speed tells movement from rest: itself, or its sum over time if it is a velocity."""
    values = np.asarray(recording.behavior[behavior])
    if not is_velocity(recording.behavior_unit.get(behavior, "")) or values.dtype == object:
        return values
    return np.where(np.isnan(values), np.nan, np.nancumsum(values, axis=0) * recording.bin_size)


def divided_by_itself(run: Run) -> bool:
    """Return whether the running bins are those with large values of the decoded behavior, a velocity."""
    return is_velocity(run.behavior_unit) and run.settings.end_zones is None


def speed_unit(unit: str) -> str:
    """Return the unit of the speed of a behavior with this unit; that of a velocity is its own."""
    return f"{unit}/s" if unit and not is_velocity(unit) else unit
