"""Windows of time: intersections, unions, and restriction to the time with known samples."""

from __future__ import annotations

import numpy as np

__all__ = ["intersect", "merge", "subtract", "tracked_windows"]


def intersect(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the windows of time that are in a window of both lists, which are increasing and do not overlap."""
    both = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, stop = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < stop:
            both.append((start, stop))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return both


def merge(windows: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge windows that overlap or touch, so that bins continue from one to the next."""
    joined: list[tuple[float, float]] = []
    for start, stop in sorted(windows):
        if joined and start <= joined[-1][1] + 1e-9:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def subtract(windows: list[tuple[float, float]], others: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the windows of time that are in none of the others; both lists are increasing and do not overlap."""
    borders = [-np.inf, *(time for other in others for time in other), np.inf]
    return intersect(windows, list(zip(borders[::2], borders[1::2], strict=True)))


def tracked_windows(
    allowed: list[tuple[float, float]], known: np.ndarray, half_period: float
) -> list[tuple[float, float]]:
    """Restrict each allowed window to the time between the first and the last known time in it."""
    windows = []
    for start, stop in allowed:
        inside = known[np.searchsorted(known, start) : np.searchsorted(known, stop, side="right")]
        if len(inside):
            windows.append((max(start, inside[0] - half_period), min(stop, inside[-1] + half_period)))
    return windows
