"""Which bins count as running: traversals of a track, or speed above a threshold.

Rest at the ends of a track is most of a session and trivial to decode, so scores are given for running bins apart.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kalmanssl.errors import InputError

__all__ = ["running_bins", "speed", "traversals"]


def traversals(position: np.ndarray, lower_end: float, upper_end: float) -> np.ndarray:
    """Number the passages between the two end zones of a linear track.

    A traversal runs from the last sample in one end zone to the first in the other, neither included; an excursion
    that returns to the zone it came from is none.

    Parameters
    ----------
    position : (time,)
        Position along the track; NaN where it was not tracked. A NaN neither starts nor ends a traversal and is
        in none itself.
    lower_end, upper_end : float
        The end zones are `position < lower_end` and `position > upper_end`, in the unit of `position`.

    Returns
    -------
    (time,) int
        0, 1, 2, ... inside the traversals in order of time, -1 outside.

    Raises
    ------
    InputError
        If `position` is not one-dimensional, or the zones overlap.
    """
    position = _track(position)
    if not lower_end < upper_end:
        raise InputError(f"lower_end={lower_end} must lie below upper_end={upper_end}: the end zones overlap")
    with np.errstate(invalid="ignore"):
        zone = (position > upper_end).astype(int) - (position < lower_end).astype(int)
    number = np.full(len(position), -1)
    in_zone = np.flatnonzero(zone)
    crossed = np.flatnonzero(np.diff(zone[in_zone]))
    for index, (left, entered) in enumerate(zip(in_zone[crossed], in_zone[crossed + 1], strict=True)):
        number[left + 1 : entered] = index
    number[np.isnan(position)] = -1
    return number


def speed(position: np.ndarray, time: np.ndarray, smoothing: float = 0.25) -> np.ndarray:
    """Speed of a smoothed trajectory.

    Parameters
    ----------
    position : (time,) or (time, dims)
        NaN where it was not tracked; gaps are bridged by straight lines for the derivative and NaN in the result.
    time : (time,)
        Increasing, seconds.
    smoothing : float
        Standard deviation of the Gaussian that the trajectory is smoothed with, seconds; 0 for none.

    Returns
    -------
    (time,)
        Units of `position` per second, NaN where `position` is.
    """
    position, time = np.asarray(position, dtype=float), np.asarray(time, dtype=float)
    if len(position) != len(time) or len(time) < 2:
        raise InputError(
            f"position has {len(position)} samples and time {len(time)}: speed needs as many, and at least 2"
        )
    if np.any(np.diff(time) <= 0):
        raise InputError("time must increase: sort the samples or drop the repeated ones")
    columns = position.reshape(len(position), -1)
    known = np.isfinite(columns).all(axis=1)
    if known.sum() < 2:
        raise InputError(f"position is known at {known.sum()} samples: speed needs at least 2")
    bridged = np.stack([np.interp(time, time[known], column[known]) for column in columns.T], axis=1)
    if smoothing > 0:
        bridged = gaussian_filter1d(bridged, smoothing / np.median(np.diff(time)), axis=0, mode="nearest")
    velocity = np.gradient(bridged, time, axis=0)
    return np.where(known, np.linalg.norm(velocity, axis=1), np.nan)


def running_bins(
    position: np.ndarray,
    time: np.ndarray | None = None,
    *,
    end_zones: tuple[float, float] | None = None,
    min_speed: float | None = None,
) -> np.ndarray:
    """Bins in which the animal runs.

    Parameters
    ----------
    position : (time,) or (time, dims)
        Position; `end_zones` needs a single dimension.
    time : (time,), optional
        Seconds; only needed with `min_speed`.
    end_zones : (float, float), optional
        Bins inside a traversal from `position < end_zones[0]` to `position > end_zones[1]` or back.
    min_speed : float, optional
        Bins where `speed` exceeds this, in units of position per second.

    Returns
    -------
    (time,) bool
        False where the position is unknown.

    Raises
    ------
    InputError
        If not exactly one of `end_zones` and `min_speed` is given.
    """
    if (end_zones is None) == (min_speed is None):
        raise InputError("give exactly one of end_zones (a linear track) and min_speed (anything else)")
    if end_zones is not None:
        return traversals(position, *end_zones) >= 0
    if time is None:
        raise InputError("min_speed needs time, in seconds, one value for each bin", parameter="time")
    return np.nan_to_num(speed(position, time), nan=-np.inf) > min_speed


def _track(position: np.ndarray) -> np.ndarray:
    position = np.asarray(position, dtype=float)
    if position.ndim == 2 and position.shape[1] == 1:
        return position[:, 0]
    if position.ndim != 1:
        raise InputError(
            f"position has shape {position.shape}: end zones are for one dimension (time,); use min_speed instead"
        )
    return position
