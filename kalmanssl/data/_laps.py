"""Position that starts again after each lap, as on a belt or in a virtual track."""

from __future__ import annotations

import numpy as np

from kalmanssl.errors import InputError

__all__ = ["count_laps", "lap_length"]

_JUMP = 0.8  # of the range of the position
_LEAST_JUMPS = 3


def count_laps(position: np.ndarray, is_next: np.ndarray | None = None) -> int:
    """Return how often a position jumps from one end of its range to the other, if always in the same direction.

    Tracking errors jump there and back, and count as none.

    Parameters
    ----------
    position : (time,) or (time, dims)
        NaN where it is unknown.
    is_next : (time - 1,) bool, optional
        Whether a sample follows the one before it without a gap; by default they all do.

    Returns
    -------
    int
        0 for fewer than three jumps, jumps in both directions, several dimensions, or labels.

    Raises
    ------
    InputError
        If `is_next` has another length than the steps between samples.
    """
    values = np.asarray(position)
    if values.dtype.kind not in "fiu" or values.shape[:1] != (values.size,):  # (time,) or (time, 1)
        return 0
    values = values.reshape(-1).astype(float)
    if not np.isfinite(values).any():
        return 0
    steps = np.diff(values)
    large = np.abs(steps) > _JUMP * (np.nanmax(values) - np.nanmin(values))  # False with NaN
    if is_next is not None:
        follows = np.asarray(is_next, dtype=bool)
        if follows.shape != steps.shape:
            raise InputError(
                f"is_next has shape {follows.shape}, {len(values)} samples have {len(steps)} steps", parameter="is_next"
            )
        large &= follows
    backward = int((large & (steps < 0)).sum())
    return int(large.sum()) if large.sum() >= _LEAST_JUMPS and backward in (0, large.sum()) else 0


def lap_length(position: np.ndarray, is_next: np.ndarray | None = None) -> float | None:
    """Return the range of a position that starts again after each lap; None for any other, see `count_laps`."""
    if count_laps(position, is_next) == 0:
        return None
    values = np.asarray(position, dtype=float)  # a difference of integers could exceed their range
    return float(np.nanmax(values) - np.nanmin(values))
