"""Binning of event times and interpolation of behavior. All times are numpy arrays in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kalmanssl.utils.memory import UNCHECKED_MEMORY, check_memory

__all__ = [
    "BIN_SIZE", "BinnedEvents", "bin_memory", "count_events", "find_tick", "interpolate", "sampling_period", "snap_up",
    "spread_ticks",
]  # fmt: skip

BIN_SIZE = 0.025  # seconds, if no other is given
# Ticks below this fraction of a bin change counts by less than this fraction and are ignored.
_SMALLEST_TICK = 0.01
# Behavior is interpolated over gaps of at most this many sampling periods.
_MAX_INTERPOLATED_PERIODS = 4.0
_BYTES_PER_COUNT = 8  # of a bin and a unit: counts, and a copy of them when windows are joined
_BYTES_PER_BIN = 40  # edges, centers, and a column of counts


def find_tick(times: np.ndarray, bin_size: float) -> float | None:
    """Find the clock tick to which event times were rounded, if it is coarse enough to affect the bins.

    Parameters
    ----------
    times : (events,)
        Event times of all units, seconds, in any order.
    bin_size : float
        Width of a bin, seconds.

    Returns
    -------
    float or None
        Distance between ticks, seconds; None if the times are not on a grid or the grid is finer than a hundredth of a
        bin.
    """
    distinct = np.unique(np.round(times, 9))
    if len(distinct) < 20:
        return None
    steps = np.diff(distinct)
    smallest = steps.min()
    if smallest < _SMALLEST_TICK * bin_size:
        return None
    near = steps[steps < 50 * smallest]
    ticks = np.round(near / smallest)
    tick = near.sum() / ticks.sum()
    on_grid = bool(np.all(np.abs(near - ticks * tick) < 0.01 * tick))
    return float(tick) if on_grid else None


def spread_ticks(times: np.ndarray, tick: float, rng: np.random.Generator) -> np.ndarray:
    """Add uniform noise of half a tick in both directions to times (events,), seconds; return them sorted."""
    return np.sort(times + rng.uniform(-0.5 * tick, 0.5 * tick, len(times)))


def snap_up(start: float, tick: float, on_tick: float) -> float:
    """Return the first time at or after `start` that is halfway between two ticks, given one time on a tick; seconds.

    A time that was rounded to a tick was within half a tick of it, so bins should end halfway between two ticks.
    """
    return on_tick + tick * (np.ceil((start - on_tick) / tick - 0.5 - 1e-6) + 0.5)


def bin_memory(windows: Sequence[tuple[float, float]], bin_size: float, n_units: int) -> float:
    """Return the memory that the counts of `count_events` take, bytes; zero if it is small."""
    with np.errstate(over="ignore"):
        n_bins = float(np.float64(sum(stop - start for start, stop in windows)) / bin_size)
    needed = n_bins * (_BYTES_PER_COUNT * n_units + _BYTES_PER_BIN)
    return needed if needed > UNCHECKED_MEMORY else 0.0


class BinnedEvents(NamedTuple):
    """Events of units in bins.

    Attributes
    ----------
    counts : (time, units) float32
    time : (time,)
        Bin centers, seconds.
    kept : tuple of (events,)
        For each unit, the events inside the bins, seconds.
    """

    counts: np.ndarray
    time: np.ndarray
    kept: tuple[np.ndarray, ...]


def count_events(times: Sequence[np.ndarray], windows: Sequence[tuple[float, float]], bin_size: float) -> BinnedEvents:
    """Count the events of each unit in consecutive bins from the start of each window.

    Parameters
    ----------
    times : sequence of (events,)
        Sorted event times of each unit, seconds.
    windows : sequence of (start, stop)
        Increasing windows that do not overlap, seconds. A remainder shorter than a bin at the end is discarded.
    bin_size : float
        Width of a bin, seconds.

    Returns
    -------
    BinnedEvents

    Raises
    ------
    InputError
        If the counts do not fit into the memory.
    """
    check_memory(
        bin_memory(windows, bin_size, len(times)),
        f"counting events with bin_size={bin_size:g}",
        "choose larger bins or less time",
        "bin_size",
    )
    counts, centers = [], []
    kept: list[list[np.ndarray]] = [[] for _ in times]
    for start, stop in windows:
        n_bins = int(np.floor((stop - start) / bin_size + 1e-6))
        if n_bins < 1:
            continue
        edges = start + bin_size * np.arange(n_bins + 1)
        block = np.zeros((n_bins, len(times)), dtype=np.float32)
        for unit, events in enumerate(times):
            inside = events[np.searchsorted(events, edges[0]) : np.searchsorted(events, edges[-1])]
            index = np.searchsorted(edges, inside, side="right") - 1
            block[:, unit] = np.bincount(index, minlength=n_bins)
            kept[unit].append(inside)
        counts.append(block)
        centers.append(start + bin_size * (np.arange(n_bins) + 0.5))
    if not counts:
        return BinnedEvents(np.zeros((0, len(times)), np.float32), np.zeros(0), tuple(np.zeros(0) for _ in times))
    return BinnedEvents(np.concatenate(counts), np.concatenate(centers), tuple(np.concatenate(parts) for parts in kept))


def sampling_period(times: np.ndarray) -> float:
    """Return the mean step between samples (samples,) without gaps, seconds; times may be rounded."""
    steps = np.diff(times)
    return float(np.mean(steps[steps <= 3 * np.median(steps)])) if len(steps) else 0.0


def interpolate(
    times: np.ndarray, values: np.ndarray, at: np.ndarray, period: float, nearest: bool = False
) -> np.ndarray:
    """Interpolate a sampled series at other times; NaN where it was not tracked.

    Interpolation is linear between tracked samples that are at most four sampling periods apart. Times within half a
    period of a tracked sample at the border of a gap take the value of that sample.

    Parameters
    ----------
    times : (samples,)
        Increasing sample times, seconds.
    values : (samples,) or (samples, dims)
        Samples; a sample is tracked if all of its dimensions are finite.
    at : (time,)
        Times to evaluate at, seconds.
    period : float
        Sampling period, seconds.
    nearest : bool
        Take the nearest sample instead of interpolating, for angles, which jump at the period.

    Returns
    -------
    (time,) or (time, dims) float64
    """
    tracked = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    result = np.full((len(at), *values.shape[1:]), np.nan)
    t, v = times[tracked], np.asarray(values[tracked], dtype=float)
    if len(t) == 0:
        return result
    right = np.clip(np.searchsorted(t, at), 0, len(t) - 1)
    left = np.clip(right - 1, 0, None)
    span = t[right] - t[left]
    to_left, to_right = at - t[left], t[right] - at
    closest = np.where(np.abs(to_left) < np.abs(to_right), left, right)
    near_sample = np.abs(at - t[closest]) <= 0.5 * period * (1 + 1e-6) + 1e-9
    result[near_sample] = v[closest[near_sample]]
    between = (to_left >= 0) & (to_right >= 0) & (span > 0) & (span <= _MAX_INTERPOLATED_PERIODS * period + 1e-9)
    if nearest:
        result[between] = v[closest[between]]
    else:
        weight = (to_left[between] / span[between]).reshape(-1, *([1] * (v.ndim - 1)))
        result[between] = (1 - weight) * v[left[between]] + weight * v[right[between]]
    return result
