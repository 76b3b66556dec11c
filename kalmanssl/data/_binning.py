"""Arithmetic between event times and bins: where bins lie, what they count, what behavior was there.

Plain numpy on times in seconds; knows nothing of files or recordings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["count_events", "find_tick", "interpolate", "sampling_period", "snap_up", "spread_ticks"]

# A tick below this share of the bin changes the count of a bin by less than the share and may be ignored.
_SMALLEST_TICK = 0.01
# Behavior is bridged linearly over at most this many sampling periods.
_LONGEST_BRIDGE = 4.0


def find_tick(times: np.ndarray, bin_size: float) -> float | None:
    """Find the clock tick that event times were rounded to, if it is coarse enough to disturb the bins.

    Parameters
    ----------
    times : (events,)
        Event times of all units together, seconds, in any order.
    bin_size : float
        Width of a bin, seconds.

    Returns
    -------
    float or None
        Distance between the ticks in seconds, or None if the times lie on no grid or on one finer than a
        hundredth of a bin.
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
    """Spread times uniformly over half a tick to either side, (events,) -> sorted (events,), seconds."""
    return np.sort(times + rng.uniform(-0.5 * tick, 0.5 * tick, len(times)))


def snap_up(start: float, tick: float, on_tick: float) -> float:
    """First time at or after `start` that lies halfway between two ticks, given one time on a tick; seconds.

    A time rounded to a tick stands for half a tick to either side, so that bins should end halfway between
    two.
    """
    return on_tick + tick * (np.ceil((start - on_tick) / tick - 0.5 - 1e-6) + 0.5)


def count_events(
    times: Sequence[np.ndarray], windows: Sequence[tuple[float, float]], bin_size: float
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Count the events of every unit in bins laid into each window from its start.

    Parameters
    ----------
    times : sequence of (events,)
        Sorted event times of each unit, seconds.
    windows : sequence of (start, stop)
        Increasing windows that do not overlap, seconds. A rest shorter than a bin at the end of one is left
        out.
    bin_size : float
        Width of a bin, seconds.

    Returns
    -------
    counts : (time, units) float32
    time : (time,)
        Bin centers, seconds.
    kept : tuple of (events,)
        For each unit the events that lie in a bin.
    """
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
        return np.zeros((0, len(times)), np.float32), np.zeros(0), tuple(np.zeros(0) for _ in times)
    spikes = tuple(np.concatenate(parts) for parts in kept)
    return np.concatenate(counts), np.concatenate(centers), spikes


def sampling_period(times: np.ndarray) -> float:
    """Mean step between samples, gaps left out, seconds: (samples,) -> float; times may be rounded."""
    steps = np.diff(times)
    return float(np.mean(steps[steps <= 3 * np.median(steps)])) if len(steps) else 0.0


def interpolate(
    times: np.ndarray, values: np.ndarray, at: np.ndarray, period: float, nearest: bool = False
) -> np.ndarray:
    """Evaluate a sampled series at other times; NaN where it was not tracked.

    Linear between two tracked samples that are at most four sampling periods apart. A time within half a
    period of a tracked sample at the border of a gap takes that sample.

    Parameters
    ----------
    times : (samples,)
        Increasing sample times, seconds.
    values : (samples,) or (samples, dims)
        Samples; one is tracked if all of its dimensions are finite.
    at : (time,)
        Times to evaluate at, seconds.
    period : float
        Sampling period, seconds.
    nearest : bool
        Take the nearer sample instead of the line between two: for angles, which jump where they wrap.

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
    touches = np.abs(at - t[closest]) <= 0.5 * period * (1 + 1e-6) + 1e-9
    result[touches] = v[closest[touches]]
    bridged = (to_left >= 0) & (to_right >= 0) & (span > 0) & (span <= _LONGEST_BRIDGE * period + 1e-9)
    if nearest:
        result[bridged] = v[closest[bridged]]
    else:
        weight = (to_left[bridged] / span[bridged]).reshape(-1, *([1] * (v.ndim - 1)))
        result[bridged] = (1 - weight) * v[left[bridged]] + weight * v[right[bridged]]
    return result
