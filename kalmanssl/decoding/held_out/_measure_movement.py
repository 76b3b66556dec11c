"""Measurement of the movement statistics of the tracked behavior, for each kind of movement prior."""

from __future__ import annotations

import numpy as np

from kalmanssl.decoding.grids import Grid, Periods, difference
from kalmanssl.decoding.held_out._folds import Samples
from kalmanssl.decoding.movement import MovementStatistics

__all__ = ["measure_movement"]

_REACH = 10  # bins before and after a bin, over which its direction of movement is found


def measure_movement(
    samples: Samples, train: np.ndarray, grid: Grid, dims: tuple[int, ...], periods: Periods, kind: str
) -> MovementStatistics:
    """Measure the movement of fitted bins for a kind of movement prior.

    Parameters
    ----------
    samples : Samples
    train : (time,) bool
        The fitted bins.
    grid : Grid
        Grid of the dimensions `dims`.
    dims : tuple of int
        Dimensions of the behavior that are decoded together.
    periods : tuple of float or None
        One per dimension of the behavior.
    kind : str
        "walk" or "states", as in `MovementSettings`.
    """
    behavior = samples.behavior[:, dims]
    step = np.zeros_like(behavior)
    step[1:] = difference(behavior[1:], behavior[:-1], tuple(periods[dim] for dim in dims))
    follows = samples.follows(train)
    step[~follows] = 0.0
    state = np.zeros(len(behavior), dtype=int)
    if kind == "states":
        state = samples.moving.astype(int)
        if len(dims) == 1:
            state += samples.moving & (_smooth_steps(step[:, 0], samples.segment) > 0)
    picked = np.flatnonzero(train)
    return MovementStatistics.from_behavior(
        grid, behavior[picked], step[picked], state[picked], follows[picked], samples.weight[picked]
    )


def _smooth_steps(step: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Return the displacement over ten bins before and after each bin within its segment, (time,)."""
    total = np.concatenate([[0.0], np.cumsum(step)])
    index = np.arange(len(step))
    first, stop = (np.searchsorted(segment, segment, side=side) for side in ("left", "right"))
    return total[np.minimum(index + _REACH + 1, stop)] - total[np.maximum(index - _REACH, first)]
