"""Behavior that is an angle, recognized by its unit and its range."""

from __future__ import annotations

import numpy as np

__all__ = ["full_circle", "is_angle"]

_ANGLES = ("rad", "radian", "radians", "deg", "degree", "degrees")  # units, in lower case


def is_angle(unit: str) -> bool:
    """Return whether a unit of measurement is one of angles, which are not interpolated."""
    return unit.strip().lower() in _ANGLES


def full_circle(values: np.ndarray, unit: str) -> float | None:
    """Return the period of an angle that covers a whole circle, 2 pi or 360, or None for any other behavior.

    Without a unit, the values must also jump from one end of their range to the other at least three times.

    Parameters
    ----------
    values : (time,) or (time, dims)
    unit : str
        "radians" and "degrees" and their abbreviations are angles; "rad/s" is not.
    """
    known = "" if unit.lower() in ("unknown", "n/a", "na", "n.a.") else unit.lower()
    kind = known[:3] if is_angle(known) else known
    periods = {"rad": (2 * np.pi,), "deg": (360.0,), "": (2 * np.pi, 360.0)}.get(kind, ())
    angle = np.asarray(values)
    if angle.ndim != 1 or angle.dtype.kind not in "fiu" or not np.isfinite(angle).any():
        return None
    angle = angle[np.isfinite(angle)].astype(float)
    for period in periods:
        jumps = int((np.abs(np.diff(angle)) > 0.8 * period).sum())
        if 0.95 * period < np.ptp(angle) <= 1.001 * period and (known or jumps >= 3):
            return float(period)
    return None
