"""Behavior in x and y on a track as the distance along it, in runs: the track is that of the fitted part."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Track, linearize_track
from kalmanssl.errors import InputError
from kalmanssl.runs._settings import RunSettings

if TYPE_CHECKING:
    from kalmanssl.data import Recording

__all__ = ["find_run_track", "track_of_run", "track_sentence"]


def find_run_track(settings: RunSettings, training: Recording) -> Track | None:
    """Return the track of the way points in the settings, or of the fitted part; None if none is asked for.

    Raises
    ------
    InputError
        If the behavior is not in x and y, or see `kalmanssl.data.linearize_track`.
    """
    if not settings.linearize and settings.waypoints is None:
        return None
    parameter = "waypoints" if settings.waypoints is not None else "linearize"
    name = next(iter(training.behavior), None)
    values = None if name is None else training.behavior[name]
    if values is None or values.dtype == object or values.ndim != 2 or values.shape[1] != 2:
        what = "there is no behavior" if values is None else f"{name!r} has another shape, {values.shape}"
        raise InputError(f"{parameter} is for a behavior in x and y, and {what}: leave it out", parameter=parameter)
    if settings.period is not None:
        raise InputError("period is that of the track for a behavior along a loop: leave it out", parameter="period")
    if settings.waypoints is not None:
        track = Track.from_csv(settings.waypoints)
        offset = track.project(values).offset
        if not (offset < track.length).any():  # NaN where the position is unknown
            raise InputError(
                f"waypoints {settings.waypoints} are farther from all positions than the track is long: check the unit",
                parameter="waypoints",
            )
        return track
    return linearize_track(values).track


def track_of_run(metadata: dict[str, Any]) -> Track | None:
    """Return the track in the metadata of a run, or None."""
    stored = metadata.get("track")
    return None if stored is None else Track(dict(stored["arms"]), stored["gap"])


def track_sentence(track: Track, recording: Recording, unit: str) -> str:
    """Say in words what the track is, and how far the positions are from it."""
    name = next(iter(recording.behavior))
    offset = track.project(recording.behavior[name]).offset
    known = offset[np.isfinite(offset)]
    arms = f"{len(track.arms)} arms ({', '.join(track.arms)})" if len(track.arms) > 1 else "one arm"
    kind = "a loop" if track.is_loop else arms
    unit = f" {unit}" if unit else ""
    median = float(np.median(known)) if len(known) else math.nan
    return (
        f"{name} is the distance along a track: {kind}, {track.length:.4g}{unit} long; half of the positions are "
        f"within {median:.3g}{unit} of it"
    )
