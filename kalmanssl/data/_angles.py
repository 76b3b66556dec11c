"""Behavior that is an angle of a whole circle, recognized by its unit and its range."""

from __future__ import annotations

import numpy as np

from kalmanssl.utils.measurement_units import LARGEST_ANGLE, UNKNOWN_UNIT, long_unit

__all__ = ["full_circle"]


def full_circle(values: np.ndarray, unit: str) -> float | None:
    """Return the period of an angle that covers a whole circle, 2 pi or 360, or None for any other behavior.

    Without a unit, the values must also jump from one end of their range to the other at least three times.

    Parameters
    ----------
    values : (time,) or (time, dims)
    unit : str
        "radians" and "degrees" and their abbreviations are angles; "rad/s" is not.
    """
    name = long_unit(unit)
    periods = [circle for angle, circle in LARGEST_ANGLE.items() if name in (angle, UNKNOWN_UNIT)]
    angle = np.asarray(values)
    if angle.ndim != 1 or angle.dtype.kind not in "fiu" or not np.isfinite(angle).any():
        return None
    angle = angle[np.isfinite(angle)].astype(float)
    for period in periods:
        jumps = int((np.abs(np.diff(angle)) > 0.8 * period).sum())
        if 0.95 * period < np.ptp(angle) <= 1.001 * period and (name != UNKNOWN_UNIT or jumps >= 3):
            return float(period)
    return None
