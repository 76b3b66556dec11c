"""Running bins: traversals of a track, or speed above a threshold.

An animal often rests at the ends of a track for most of a session, where its position is easy to decode. Scores are
therefore reported separately for running bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kalmanssl.data._laps import lap_length
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.segments import is_gap, segment_slices
from kalmanssl.utils.validation import check_condition, check_not_negative, check_number, check_positive

__all__ = ["running_bins", "running_threshold", "speed", "traversals"]

_WIDEST_KERNEL = 1e6  # samples; the smoothing kernel has eight times as many


def traversals(position: np.ndarray, lower_end: float, upper_end: float) -> np.ndarray:
    """Number the traversals between the two end zones of a linear track.

    A traversal lasts from the last sample in one end zone to the first sample in the other, both excluded. An excursion
    that returns to the same zone is not a traversal.

    Parameters
    ----------
    position : (time,)
        Position along the track, NaN where it was not tracked. NaN bins do not start or end a traversal and are
        outside.
    lower_end, upper_end : float
        The end zones are `position < lower_end` and `position > upper_end`, in the unit of `position`.

    Returns
    -------
    (time,) int
        0, 1, 2, ... inside the traversals, in order of time; -1 outside.

    Raises
    ------
    InputError
        If `position` is not one-dimensional, not numbers or infinite, or the zones overlap.
    """
    position = _track(position)
    for name, end in (("lower_end", lower_end), ("upper_end", upper_end)):
        check_number(name, end)
    if not lower_end < upper_end:
        message = f"lower_end={lower_end} must be below upper_end={upper_end}: the end zones overlap"
        raise InputError(message, parameter="end_zones")
    with np.errstate(invalid="ignore"):
        zone = (position > upper_end).astype(int) - (position < lower_end).astype(int)
    number = np.full(len(position), -1)
    in_zone = np.flatnonzero(zone)
    crossed = np.flatnonzero(np.diff(zone[in_zone]))
    for index, (left, entered) in enumerate(zip(in_zone[crossed], in_zone[crossed + 1], strict=True)):
        number[left + 1 : entered] = index
    number[np.isnan(position)] = -1
    return number


def speed(position: np.ndarray, time: np.ndarray, smoothing: float = 0.25, period: float | None = None) -> np.ndarray:
    """Compute the speed of a smoothed trajectory, separately in each segment of time without gaps.

    Parameters
    ----------
    position : (time,) or (time, dims)
        NaN where it was not tracked. These samples are interpolated linearly for the derivative and are NaN in the
        result.
    time : (time,)
        Increasing, seconds.
    smoothing : float
        Standard deviation of the Gaussian smoothing kernel, seconds; 0 for no smoothing.
    period : float, optional
        Period of a circular position, such as 2 pi for angles in radians. A position that starts again after each
        lap, as on a belt, has no speed where it jumps back, also without a period.

    Returns
    -------
    (time,)
        Units of `position` per second, NaN where `position` is, and in segments with fewer than two known samples.

    Raises
    ------
    InputError
        If the lengths differ, time does not increase or has NaN, the position is infinite or known at fewer than two
        samples, or `smoothing` is longer than the recording.
    """
    columns = _positions(position)
    time = _times(time, len(columns))
    check_not_negative("smoothing", smoothing)
    if period is not None:
        check_positive("period", period)
    sd = smoothing / np.median(np.diff(time))
    longest = max(1.0, time[-1] - time[0])
    if smoothing > longest or sd > _WIDEST_KERNEL:
        raise InputError(
            f"smoothing={smoothing:g} s is too long for {len(time)} samples in {time[-1] - time[0]:.4g} s: give less",
            parameter="smoothing",
        )
    known = np.isfinite(columns).all(axis=1)
    if known.sum() < 2:
        message = f"position is known at {known.sum()} samples: at least 2 are needed"
        raise InputError(message, parameter="position")
    if period is None:
        steps = np.diff(time)
        period = lap_length(columns, ~is_gap(steps, float(np.median(steps))))
    found = np.full(len(time), np.nan)
    for segment in segment_slices(time):
        if known[segment].sum() >= 2:
            found[segment] = _segment_speed(columns[segment], known[segment], time[segment], sd, period)
    return np.where(known, found, np.nan)


def _segment_speed(
    columns: np.ndarray, known: np.ndarray, time: np.ndarray, sd: float, period: float | None
) -> np.ndarray:
    """Return the speed in one segment, (time,), with unknown samples interpolated; `sd` is in samples."""
    tracked = columns[known] if period is None else np.unwrap(columns[known], axis=0, period=period)
    filled = np.stack([np.interp(time, time[known], column) for column in tracked.T], axis=1)
    if sd > 0:
        filled = gaussian_filter1d(filled, sd, axis=0, mode="nearest")
    return np.linalg.norm(np.gradient(filled, time, axis=0), axis=1)


def running_threshold(
    behavior: np.ndarray, time: np.ndarray, period: float | None = None, smoothing: float = 0.25
) -> float:
    """Compute the speed that separates movement from rest.

    The logarithm of the speed is divided in two groups with the smallest variance within the groups (Otsu 1979, IEEE
    Trans. Syst. Man Cybern. 9:62). Speeds below 4 % of the 99th percentile are first set to this value: differences
    between them are tracking noise, which a logarithm would enlarge.

    Parameters
    ----------
    behavior : (time,) or (time, dims)
        A position or an angle, not a velocity; NaN where it is unknown.
    time : (time,)
        Increasing, seconds.
    period : float, optional
        Period of a circular behavior, such as 2 pi for angles in radians.
    smoothing : float
        Standard deviation of the Gaussian smoothing kernel for the speed, seconds.

    Returns
    -------
    float
        In units of `behavior` per second: the geometric mean of the fastest bin at rest and the slowest in movement.
        Infinite if the behavior does not move.

    Raises
    ------
    InputError
        As `speed`.
    """
    found = speed(behavior, time, smoothing, period)
    found = found[np.isfinite(found)]
    top = np.quantile(found, 0.99) if len(found) else 0.0
    if top == 0:
        return float("inf")
    ordered = np.sort(np.log(np.maximum(found, 0.04 * top)))
    below = np.arange(1, len(ordered))
    above = len(ordered) - below
    sums = np.cumsum(ordered)
    between = below * above * ((sums[-1] - sums[:-1]) / above - sums[:-1] / below) ** 2
    cut = int(between.argmax())
    return float(np.exp((ordered[cut] + ordered[cut + 1]) / 2))


def running_bins(
    position: np.ndarray,
    time: np.ndarray | None = None,
    *,
    end_zones: tuple[float, float] | None = None,
    min_speed: float | None = None,
    period: float | None = None,
) -> np.ndarray:
    """Find the bins in which the animal runs.

    Parameters
    ----------
    position : (time,) or (time, dims)
        Position; `end_zones` requires one dimension.
    time : (time,), optional
        Seconds; required for `min_speed`.
    end_zones : (float, float), optional
        Running bins are traversals from `position < end_zones[0]` to `position > end_zones[1]` or back.
    min_speed : float, optional
        Running bins are those with a higher `speed`, in units of position per second; `running_threshold` finds one.
    period : float, optional
        Period of a circular position; for `min_speed` only.

    Returns
    -------
    (time,) bool
        False where the position is unknown.

    Raises
    ------
    InputError
        If not exactly one of `end_zones` and `min_speed` is given, or one of them is not numbers; see also `speed` and
        `traversals`.
    """
    if (end_zones is None) == (min_speed is None):
        raise InputError("give exactly one of end_zones (a linear track) and min_speed (anything else)")
    if end_zones is not None:
        is_pair = isinstance(end_zones, list | tuple | np.ndarray) and len(end_zones) == 2
        check_condition("end_zones", end_zones, is_pair, "two positions")
        return traversals(position, *end_zones) >= 0
    if time is None:
        raise InputError("min_speed requires time: one value per bin, seconds", parameter="time")
    check_number("min_speed", min_speed)
    slowest = float(min_speed)  # type: ignore[arg-type]
    check_condition("min_speed", min_speed, slowest >= 0, "at least zero")
    return np.nan_to_num(speed(position, time, period=period), nan=-np.inf) > slowest


def _positions(position: Any) -> np.ndarray:
    """Return positions as floats (time, dims)."""
    values = as_floats("position", position)
    if values.ndim not in (1, 2) or values.shape[1:] == (0,):
        raise InputError(
            f"position must have shape (time,) or (time, dims), got {values.shape}: give one row per bin",
            parameter="position",
        )
    if np.isinf(values).any():
        raise InputError("position has infinite values; use NaN where it is unknown", parameter="position")
    return values.reshape(len(values), -1)


def _times(time: Any, samples: int) -> np.ndarray:
    """Return the times of samples, (time,), which must be finite and increase."""
    values = as_floats("time", time)
    if values.shape != (samples,) or samples < 2:
        count = len(values) if values.ndim == 1 else values.shape
        raise InputError(
            f"position has {samples} samples and time {count}: they must be equal and at least 2", parameter="time"
        )
    if not np.isfinite(values).all():
        raise InputError("time has NaN or infinite values: leave these samples out", parameter="time")
    if np.any(np.diff(values) <= 0):
        raise InputError("time must increase: sort the samples and remove duplicates", parameter="time")
    return values


def _track(position: Any) -> np.ndarray:
    """Return positions along a track, (time,)."""
    columns = _positions(position)
    if columns.shape[1] != 1:
        raise InputError(
            f"position has shape {columns.shape}, but end zones require one dimension (time,); use min_speed instead",
            parameter="end_zones",
        )
    return columns[:, 0]
